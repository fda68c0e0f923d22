//! The header that begins every frame.
//!
//! ```text
//!  0      1               5               9                               17
//!  +------+---------------+---------------+-------------------------------+----------+------+
//!  | code | stream id     | metadata len  | data length                   | metadata | data |
//!  +------+---------------+---------------+-------------------------------+----------+------+
//! ```

use crate::{
    cursor::Cursor,
    error::{DecodeError, Problem},
};

/// Length of a header in bytes.
pub const HEADER_BYTES: usize = 17;
/// Most bytes of the metadata of one frame, either way.
pub const METADATA_BYTES_MAX: u32 = 1 << 20;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of a request its operation, of an answer its status.
    pub code: u8,
    /// Chosen by the client for each request, and given back with the answer.
    pub stream_id: u32,
    /// Length of the metadata behind the header, at most [`METADATA_BYTES_MAX`].
    pub metadata_bytes: u32,
    /// Length of the data behind the metadata, at most `i64::MAX`.
    pub data_bytes: u64,
}

impl Header {
    /// Its bytes.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.code;
        bytes[1..5].copy_from_slice(&self.stream_id.to_be_bytes());
        bytes[5..9].copy_from_slice(&self.metadata_bytes.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.data_bytes.to_be_bytes());
        bytes
    }

    /// Reads one.
    ///
    /// # Errors
    /// What the field `metadata length` or `data length` says is more than it may be: nobody knows then where the next
    /// frame begins, so the connection is of no more use.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let header = Self {
            code: cursor.u8("code")?,
            stream_id: cursor.u32("stream id")?,
            metadata_bytes: cursor.u32("metadata length")?,
            data_bytes: cursor.u64("data length")?,
        };
        let too_long = |field| {
            Err(DecodeError {
                field,
                problem: Problem::TooLong,
            })
        };
        match header {
            _ if header.metadata_bytes > METADATA_BYTES_MAX => too_long("metadata length"),
            // A signed number on the wire, which may not be negative.
            _ if header.data_bytes > i64::MAX as u64 => too_long("data length"),
            header => Ok(header),
        }
    }
}

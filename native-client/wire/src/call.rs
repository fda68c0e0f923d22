//! What every request and every answer of version 2 has beside its own fields: an envelope around them, in the same
//! metadata, with tags of its own.

use bytes::Bytes;

use crate::{
    DecodeError, EncodeError, Operation, Problem,
    message::fields,
    tagged::{self, Tagged},
};

/// Longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

fields! {
    /// The envelope of a request.
    pub struct Call {} since 2 {
        /// Names the request in the logs of both sides; at most [`REQUEST_ID_BYTES_MAX`] bytes of visible ASCII. The server
        /// makes one where there is none.
        0x4001 request_id: String,
        /// After so many milliseconds nobody waits for the answer any more; 0 is never.
        0x4002 deadline_ms: u32,
        /// By which it is done once, however often it is sent.
        0xC003 session: Option<Session>,
        /// The body, if it has one.
        0xC004 body: Option<Body>,
    }

    /// The envelope of an answer.
    pub struct Reply {} since 2 {
        /// Names the request.
        0x4001 request_id: String,
        /// The body, if it has one.
        0xC004 body: Option<Body>,
    }

    /// A place in a session of exactly-once requests.
    ///
    /// Source: RIFL (Lee et al., SOSP 2015).
    pub struct Session {} since 2 {
        /// The session, as the server has named it.
        1 id: Bytes,
        /// Which request of it this is, from 1.
        2 sequence: u64,
        /// The lowest one whose answer the client has not got: what the server keeps for lower ones may go.
        3 lowest: u64,
        /// It may have been sent before.
        4 again: bool,
    }

    /// A body. One that does not follow stands whole in the data of the same frame.
    pub struct Body {} since 2 {
        /// CRC-32C of each 64 KiB of the data of this frame; the last may be shorter.
        1 sums: Vec<u32>,
        /// CRC64-NVME of the whole body, where it does not follow.
        2 crc64: Option<u64>,
        /// It comes in chunks behind this frame.
        3 follows: bool,
        /// How many bytes will follow, if that is known.
        4 size: Option<u64>,
    }

    /// What stands before the data of a chunk.
    pub struct Chunk {} since 2 {
        /// CRC-32C of each 64 KiB of the data; the last may be shorter.
        1 sums: Vec<u32>,
    }

    /// Ends a body that followed.
    pub struct End {} since 2 {
        /// How many bytes it had.
        1 size: u64,
        /// Their CRC64-NVME.
        2 crc64: u64,
        /// It is not whole, and nothing of it may be kept, because of this.
        0x8003 failure: Option<Failure>,
    }

    /// Why something was not done: the metadata of an answer whose status is [`crate::v2::Status::Failed`].
    pub struct Failure {} since 2 {
        /// The number of an [`crate::ErrorCode`].
        1 code: u32,
        /// A sentence for people.
        2 message: String,
        /// The code that S3 has for it, in more detail.
        3 s3_code: String,
        /// When it may be tried again, in milliseconds from now; 0 where nobody knows.
        4 retry_after_ms: u32,
    }

    /// Says that the sender is about to leave: it answers the streams up to this frame's id, and no others.
    pub struct GoAway {} since 2 {
        /// What is wrong, where something is.
        1 failure: Option<Failure>,
    }
}

/// The metadata of a request: what is asked for, and its envelope.
///
/// # Errors
/// They are too long for a frame.
///
/// ```
/// use jay_wire::{Call, Tagged, call, object::GetObject};
/// let asked = GetObject { bucket: "photos".into(), key: "a".into(), ..GetObject::default() };
/// let envelope = Call { deadline_ms: 500, ..Call::default() };
/// let metadata = call::request(&asked, &envelope)?;
/// assert_eq!(GetObject::from_metadata(&metadata), Ok(asked));
/// assert_eq!(Call::from_metadata(&metadata), Ok(envelope));
/// # Ok::<_, jay_wire::EncodeError>(())
/// ```
pub fn request(asked: &impl Operation, envelope: &Call) -> Result<Vec<u8>, EncodeError> {
    both(asked, envelope)
}

/// The metadata of an answer: what is told, and its envelope.
///
/// # Errors
/// They are too long for a frame.
pub fn answer(told: &impl Tagged, envelope: &Reply) -> Result<Vec<u8>, EncodeError> {
    both(told, envelope)
}

fn both(inside: &impl Tagged, envelope: &impl Tagged) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::with_capacity(128);
    inside.write(&mut bytes);
    envelope.write(&mut bytes);
    tagged::fits(bytes)
}

impl Call {
    /// Reads the envelope of a request and holds it against its limits.
    ///
    /// # Errors
    /// A field has not its form, is too long, or must be understood and is unknown.
    pub fn parse_checked(metadata: &[u8]) -> Result<Self, DecodeError> {
        let this = Self::from_metadata(metadata)?;
        let problem = match &this.request_id {
            id if id.len() > REQUEST_ID_BYTES_MAX => Problem::TooLong,
            id if !id.bytes().all(|byte| byte.is_ascii_graphic()) => Problem::Invalid,
            _ => return Ok(this),
        };
        Err(DecodeError {
            field: "request_id",
            problem,
        })
    }
}

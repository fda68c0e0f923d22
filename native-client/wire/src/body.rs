//! The sums of bodies: how bytes are checked from the memory of who writes to that of who reads.

use crate::{
    DecodeError, Problem,
    call::{Body, Chunk},
};

/// Bytes that share one CRC-32C: as many as in the engine, so that its sums are those on the wire.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Most data of one frame of version 2, in bytes.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// CRC-32C of each block of `bytes`.
///
/// ```
/// assert_eq!(jay_wire::body::sums(b"123456789"), [0xe306_9283]);
/// assert_eq!(jay_wire::body::sums(&[0; 65_537]).len(), 2);
/// ```
pub fn sums(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(BLOCK_BYTES).map(crc32c).collect()
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    // 32 bits, as its name says.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC64-NVME of bytes.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// Holds the data of a frame against their sums.
///
/// # Errors
/// They are not those that were sent: `data`.
pub fn check(data: &[u8], sums: &[u32]) -> Result<(), DecodeError> {
    let mut blocks = data.chunks(BLOCK_BYTES);
    let same = blocks.len() == sums.len()
        && blocks.all({
            let mut sums = sums.iter();
            move |block| sums.next() == Some(&crc32c(block))
        });
    match same {
        true => Ok(()),
        false => Err(wrong("data")),
    }
}

fn wrong(field: &'static str) -> DecodeError {
    DecodeError {
        field,
        problem: Problem::Checksum,
    }
}

impl Body {
    /// The head of a body that stands whole in the data of its frame.
    pub fn whole(data: &[u8]) -> Self {
        Self {
            sums: sums(data),
            crc64: Some(crc64(data)),
            ..Self::default()
        }
    }

    /// The head of one that comes in chunks, of `size` bytes if that is known.
    pub fn following(size: Option<u64>) -> Self {
        Self {
            follows: true,
            size,
            ..Self::default()
        }
    }

    /// Holds the data of its frame against it.
    ///
    /// # Errors
    /// The data are not those that were sent, or there are some though the body follows.
    pub fn check(&self, data: &[u8]) -> Result<(), DecodeError> {
        check(data, &self.sums)?;
        match self.crc64 {
            Some(sum) if !self.follows && sum != crc64(data) => Err(wrong("crc64")),
            _ if self.follows && !data.is_empty() => Err(DecodeError {
                field: "follows",
                problem: Problem::Invalid,
            }),
            _ => Ok(()),
        }
    }
}

impl Chunk {
    /// What stands before these data.
    pub fn of(data: &[u8]) -> Self {
        Self { sums: sums(data) }
    }
}

/// CRC64-NVME of two bodies one behind the other, from those of each and the length of the second.
///
/// ```
/// use jay_wire::body::{combined_crc64, crc64};
/// assert_eq!(combined_crc64(crc64(b"1234"), crc64(b"56789"), 5), crc64(b"123456789"));
/// ```
pub fn combined_crc64(first: u64, second: u64, second_bytes: u64) -> u64 {
    crc_fast::checksum_combine(
        crc_fast::CrcAlgorithm::Crc64Nvme,
        first,
        second,
        second_bytes,
    )
}

/// CRC64-NVME of a body that comes bit by bit.
#[derive(Debug)]
pub struct Crc64(crc_fast::Digest);

impl Default for Crc64 {
    fn default() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme))
    }
}

impl Crc64 {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum of all so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

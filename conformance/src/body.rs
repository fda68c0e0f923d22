//! Bodies and their sums: the stream that a seed stands for, and what S3 computes of it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use md5::{Digest, Md5};
use serde::Deserialize;
use sha1::Sha1;
use sha2::Sha256;

/// Bytes of one block of a stream.
const BLOCK_BYTES: u64 = 32;

/// `size` bytes from `offset` of the stream of `seed`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Piece {
    /// Bytes.
    pub size: u64,
    /// Which stream.
    pub seed: u64,
    /// Bytes of the stream before it.
    #[serde(default)]
    pub offset: u64,
}

/// The bytes of pieces behind each other.
pub fn bytes(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        let (first, end) = (piece.offset, piece.offset + piece.size);
        let mut blocks = Vec::new();
        for counter in first / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
            let block = Sha256::new()
                .chain_update(piece.seed.to_be_bytes())
                .chain_update(counter.to_be_bytes());
            blocks.extend_from_slice(&block.finalize());
        }
        let skipped = (first % BLOCK_BYTES) as usize;
        bytes.extend_from_slice(&blocks[skipped..skipped + piece.size as usize]);
    }
    bytes
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// MD5 in hex: the ETag of a body stored in one request.
pub fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// MD5 in base64, as in Content-MD5.
pub fn md5_base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(Md5::digest(bytes))
}

/// The ETag of a body stored in parts.
///
/// Source: S3 user guide, "Checking object integrity", "Part-level checksums".
pub fn etag_of_parts(parts: &[Vec<u8>]) -> String {
    let sums: Vec<u8> = parts.iter().flat_map(Md5::digest).collect();
    format!("{}-{}", md5_hex(&sums), parts.len())
}

/// A checksum in base64; `None` for an unknown algorithm.
pub fn checksum(algorithm: &str, bytes: &[u8]) -> Option<String> {
    raw_checksum(algorithm, bytes).map(|value| BASE64_STANDARD.encode(value))
}

/// The composite checksum of parts: that of their checksums, and their number.
pub fn checksum_of_parts(algorithm: &str, parts: &[Vec<u8>]) -> Option<String> {
    let values: Option<Vec<Vec<u8>>> = parts
        .iter()
        .map(|part| raw_checksum(algorithm, part))
        .collect();
    Some(format!(
        "{}-{}",
        checksum(algorithm, &values?.concat())?,
        parts.len()
    ))
}

fn raw_checksum(algorithm: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let crc = |algorithm| crc_fast::checksum(algorithm, bytes);
    Some(match algorithm {
        "CRC32" => (crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc) as u32)
            .to_be_bytes()
            .to_vec(),
        "CRC32C" => (crc(crc_fast::CrcAlgorithm::Crc32Iscsi) as u32)
            .to_be_bytes()
            .to_vec(),
        "CRC64NVME" => crc(crc_fast::CrcAlgorithm::Crc64Nvme)
            .to_be_bytes()
            .to_vec(),
        "SHA1" => Sha1::digest(bytes).to_vec(),
        "SHA256" => Sha256::digest(bytes).to_vec(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_one_that_the_format_says() {
        // printf '%016x%016x' 1 0 | xxd -r -p | sha256sum, and with counter 1.
        let first = "783825822a6f9e62da2190e828e4c9d2576e5977e3a0b3620b092dfb9e9996fa";
        let two = bytes(&[Piece {
            size: 64,
            seed: 1,
            offset: 0,
        }]);
        assert_eq!(hex(&two[..32]), first);
        let inner = bytes(&[Piece {
            size: 40,
            seed: 1,
            offset: 20,
        }]);
        assert_eq!(inner, two[20..60]);
        let split = bytes(&[
            Piece {
                size: 20,
                seed: 1,
                offset: 0,
            },
            Piece {
                size: 44,
                seed: 1,
                offset: 20,
            },
        ]);
        assert_eq!(split, two);
        assert_eq!(
            bytes(&[Piece {
                size: 0,
                seed: 1,
                offset: 64
            }]),
            b""
        );
    }

    #[test]
    fn sums_are_those_of_the_check_string() {
        let sums = [
            ("CRC32", "y/Q5Jg=="),
            ("CRC32C", "4waSgw=="),
            ("CRC64NVME", "rosUhgp5mIg="),
            ("SHA1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
        ];
        for (algorithm, sum) in sums {
            assert_eq!(
                checksum(algorithm, b"123456789").as_deref(),
                Some(sum),
                "{algorithm}"
            );
        }
        assert_eq!(checksum("MD4", b""), None);
        assert_eq!(
            etag_of_parts(&[b"hello".to_vec()]),
            "62109206880d38a4010a98e11243924a-1"
        );
    }
}

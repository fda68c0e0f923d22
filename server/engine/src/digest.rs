//! The sums of a body: MD5 for the ETag, SHA-256, CRC64-NVME, and the one that the writer chose.

use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{
    error::{Error, ErrorKind, Result},
    types::{Checksum, ChecksumAlgorithm, ETag, PartOptions},
};

/// Sums under way. Each is optional, so that MD5 can be computed on a thread of its own, or not at all.
#[derive(Default)]
pub struct Digests {
    md5: Option<Md5>,
    others: Option<Others>,
}

struct Others {
    sha256: Option<Sha256>,
    crc64: crc_fast::Digest,
    chosen: Option<(ChecksumAlgorithm, Chosen)>,
}

enum Chosen {
    Crc(crc_fast::Digest),
    Sha1(Sha1),
    /// One that is computed anyhow.
    Shared,
}

impl Digests {
    /// All sums but MD5.
    pub fn without_md5(chosen: Option<ChecksumAlgorithm>) -> Self {
        let crc = |algorithm| Chosen::Crc(crc_fast::Digest::new(algorithm));
        let others = Others {
            sha256: Some(Sha256::new()),
            crc64: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme),
            chosen: chosen.map(|algorithm| {
                let state = match algorithm {
                    ChecksumAlgorithm::Crc32 => crc(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
                    ChecksumAlgorithm::Crc32c => crc(crc_fast::CrcAlgorithm::Crc32Iscsi),
                    ChecksumAlgorithm::Sha1 => Chosen::Sha1(Sha1::new()),
                    ChecksumAlgorithm::Crc64Nvme | ChecksumAlgorithm::Sha256 => Chosen::Shared,
                };
                (algorithm, state)
            }),
        };
        Self {
            md5: None,
            others: Some(others),
        }
    }

    /// The same without SHA-256, unless it was chosen.
    pub fn without_sha256(mut self) -> Self {
        if let Some(others) = &mut self.others
            && !matches!(others.chosen, Some((ChecksumAlgorithm::Sha256, _)))
        {
            others.sha256 = None;
        }
        self
    }

    /// MD5 alone.
    pub fn only_md5() -> Self {
        Self {
            md5: Some(Md5::new()),
            others: None,
        }
    }

    /// All sums of a body that is at hand.
    pub fn of(bytes: &[u8], chosen: Option<ChecksumAlgorithm>) -> Self {
        let mut all = Self::without_md5(chosen).with_md5_of(Self::only_md5());
        all.update(bytes);
        all
    }

    /// These sums and the MD5 of `other`, if it has one.
    pub fn with_md5_of(mut self, other: Self) -> Self {
        self.md5 = other.md5;
        self
    }

    /// Whether no sum is computed.
    pub fn is_empty(&self) -> bool {
        self.md5.is_none() && self.others.is_none()
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        let Some(others) = &mut self.others else {
            return;
        };
        if let Some(sha256) = &mut others.sha256 {
            sha256.update(bytes);
        }
        others.crc64.update(bytes);
        match &mut others.chosen {
            Some((_, Chosen::Crc(crc))) => crc.update(bytes),
            Some((_, Chosen::Sha1(sha1))) => sha1.update(bytes),
            Some((_, Chosen::Shared)) | None => {}
        }
    }

    /// The sums of the whole body.
    pub fn finish(self) -> Sums {
        let others = self.others.expect("finished with all sums but MD5");
        let sha256: Option<[u8; 32]> = others.sha256.map(|sha256| sha256.finalize().into());
        let crc64 = others.crc64.finalize();
        let chosen = others.chosen.map(|(algorithm, state)| {
            let value = match (state, algorithm, &sha256) {
                (Chosen::Crc(crc), ..) => (crc.finalize() as u32).to_be_bytes().to_vec(),
                (Chosen::Sha1(sha1), ..) => sha1.finalize().to_vec(),
                (Chosen::Shared, ChecksumAlgorithm::Sha256, Some(sha256)) => sha256.to_vec(),
                (Chosen::Shared, ..) => crc64.to_be_bytes().to_vec(),
            };
            Checksum { algorithm, value }
        });
        Sums {
            md5: self.md5.map(|md5| md5.finalize().into()),
            sha256,
            crc64,
            chosen,
        }
    }
}

/// The sums of a body.
pub struct Sums {
    /// MD5, unless it was left out.
    pub md5: Option<[u8; 16]>,
    /// SHA-256, unless it was left out.
    pub sha256: Option<[u8; 32]>,
    /// CRC64-NVME.
    pub crc64: u64,
    /// The one that the writer chose.
    pub chosen: Option<Checksum>,
}

impl Sums {
    /// The ETag of an object that was written at once: the MD5 in hex, or what stands for it.
    pub fn etag(&self) -> ETag {
        match &self.md5 {
            Some(md5) => ETag::of_md5(md5),
            None => ETag::of_crc64(self.crc64),
        }
    }

    /// MD5 and SHA-256, which no part is without: those of the object are made of them.
    pub fn of_part(&self) -> Result<([u8; 16], [u8; 32])> {
        self.md5.zip(self.sha256).ok_or_else(|| {
            let why = "A part of an upload has MD5 and SHA-256.";
            Error::new(ErrorKind::InternalError, why)
        })
    }

    /// Compares with everything that the writer said the sums would be.
    pub fn check(&self, options: &PartOptions, trailer: Option<&Checksum>) -> Result<()> {
        if options
            .content_sha256
            .is_some_and(|expected| self.sha256.is_none_or(|sha256| !same(&expected, &sha256)))
        {
            return Err(Error::new(
                ErrorKind::XAmzContentSHA256Mismatch,
                "The provided x-amz-content-sha256 does not match what was computed from the body.",
            ));
        }
        if options
            .content_md5
            .is_some_and(|expected| self.md5.is_none_or(|md5| !same(&expected, &md5)))
        {
            return Err(Error::new(
                ErrorKind::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            ));
        }
        for expected in options.checksum.iter().chain(trailer) {
            let computed = match (expected.algorithm, &self.sha256, &self.chosen) {
                (ChecksumAlgorithm::Crc64Nvme, ..) => self.crc64.to_be_bytes().to_vec(),
                (ChecksumAlgorithm::Sha256, Some(sha256), _) => sha256.to_vec(),
                (algorithm, _, Some(chosen)) if chosen.algorithm == algorithm => {
                    chosen.value.clone()
                }
                _ => return Err(wrong_checksum(expected.algorithm)),
            };
            if !same(&computed, &expected.value) {
                return Err(wrong_checksum(expected.algorithm));
            }
        }
        Ok(())
    }
}

/// The refusal of a checksum that is not that of the body.
pub(crate) fn wrong_checksum(algorithm: ChecksumAlgorithm) -> Error {
    Error::new(
        ErrorKind::BadDigest,
        format!(
            "The {} you specified did not match the calculated checksum.",
            algorithm.name()
        ),
    )
}

/// The CRC of two bodies one behind the other, from those of each and the length of the second.
pub fn combine(algorithm: ChecksumAlgorithm, first: u64, second: u64, second_bytes: u64) -> u64 {
    let algorithm = match algorithm {
        ChecksumAlgorithm::Crc32 => crc_fast::CrcAlgorithm::Crc32IsoHdlc,
        ChecksumAlgorithm::Crc32c => crc_fast::CrcAlgorithm::Crc32Iscsi,
        ChecksumAlgorithm::Crc64Nvme => crc_fast::CrcAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => {
            unreachable!("the checksum of a whole upload is a CRC, or composite")
        }
    };
    crc_fast::checksum_combine(algorithm, first, second, second_bytes)
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_made_up_for_by_crc64() {
        let left_out = |chosen| {
            let mut digests = Digests::without_md5(chosen).without_sha256();
            digests.update(b"123456789");
            digests.finish()
        };
        let sums = left_out(None);
        assert_eq!(sums.etag().as_str(), "crc64nvme-ae8b14860a799888");
        assert!(sums.sha256.is_none() && sums.md5.is_none());
        let crc64 = Checksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            value: sums.crc64.to_be_bytes().to_vec(),
        };
        sums.check(&PartOptions::default(), Some(&crc64)).unwrap();
        let options = |options: PartOptions| left_out(None).check(&options, None);
        for options_of in [
            PartOptions {
                content_md5: Some([0; 16]),
                ..PartOptions::default()
            },
            PartOptions {
                content_sha256: Some([0; 32]),
                ..PartOptions::default()
            },
        ] {
            assert!(options(options_of).is_err());
        }
        // One that was asked for is computed all the same.
        assert!(left_out(Some(ChecksumAlgorithm::Sha256)).sha256.is_some());
    }

    #[test]
    fn combined_crcs_are_those_of_the_whole() {
        let crc = |bytes: &[u8], algorithm| {
            let value = Digests::of(bytes, Some(algorithm)).finish().chosen;
            let value = value.unwrap().value;
            value
                .iter()
                .fold(0, |crc, byte| crc << 8 | u64::from(*byte))
        };
        for algorithm in [
            ChecksumAlgorithm::Crc32,
            ChecksumAlgorithm::Crc32c,
            ChecksumAlgorithm::Crc64Nvme,
        ] {
            for cut in 0..=9 {
                let (first, second) = b"123456789".split_at(cut);
                let (a, b) = (crc(first, algorithm), crc(second, algorithm));
                let whole = combine(algorithm, a, b, second.len() as u64);
                assert_eq!(
                    whole,
                    crc(b"123456789", algorithm),
                    "{algorithm:?} at {cut}"
                );
            }
        }
    }

    #[test]
    fn sums_of_the_check_string_are_the_published_ones() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let expected = [
            (ChecksumAlgorithm::Crc32, "cbf43926"),
            (ChecksumAlgorithm::Crc32c, "e3069283"),
            (ChecksumAlgorithm::Crc64Nvme, "ae8b14860a799888"),
            (
                ChecksumAlgorithm::Sha1,
                "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            ),
            (
                ChecksumAlgorithm::Sha256,
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
        ];
        for (algorithm, value) in expected {
            let sums = Digests::of(b"123456789", Some(algorithm)).finish();
            assert_eq!(
                hex(&sums.chosen.unwrap().value),
                value,
                "{}",
                algorithm.name()
            );
            assert_eq!(hex(&sums.md5.unwrap()), "25f9e794323b453885f5181f1b624d0b");
        }
    }
}

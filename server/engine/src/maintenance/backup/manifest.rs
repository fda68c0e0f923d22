//! The manifest of a backup: what it is of, and what it needs. Written last, so that what has one is whole.
//! FORMAT.md draws it.

use std::fmt;

use zeroize::Zeroizing;

use super::{BackupInfo, MANIFEST_SUFFIX};
use crate::{
    codec::{DecodeError, Reader, Writer, crc32c},
    meta::record::Checkpoint,
    types::Timestamp,
};

const MAGIC: &[u8; 8] = b"JAYBKUP\x01";
const VERSION: u16 = 1;
/// Longest file that rides along in a manifest, in bytes.
pub(super) const EXTRA_BYTES_MAX: usize = 64 << 10;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the backup is called; not in the file, which has this name.
    pub name: String,
    pub(super) store_id: [u8; 16],
    pub(super) created: Timestamp,
    /// The rows are those of this point of the log.
    pub(super) checkpoint: Checkpoint,
    /// Length of the file of rows.
    pub(super) snapshot_bytes: u64,
    pub(super) tally: Tally,
    pub(super) packs: Vec<PackCopy>,
    pub(super) extras: Vec<Extra>,
}

/// What a backup holds, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tally {
    pub objects: u64,
    pub object_bytes: u64,
    pub files: u64,
    pub file_bytes: u64,
    /// Bodies that are not in it, because they were damaged or could not be read.
    pub left_out: u64,
}

/// A file of the log in a backup: `bytes` from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackCopy {
    pub(super) number: u32,
    pub(super) epoch: u64,
    pub(super) bytes: u64,
    pub(super) crc32c: u32,
}

/// A small file of the store's directory that the engine knows nothing of.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Extra {
    pub(super) name: String,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extra({}, ..)", self.name)
    }
}

impl Manifest {
    /// What is told of the backup.
    pub(crate) fn info(&self) -> BackupInfo {
        BackupInfo {
            name: self.name.clone(),
            created: self.created,
            store_id: self.store_id,
            objects: self.tally.objects,
            object_bytes: self.tally.object_bytes,
            files: self.tally.files,
            file_bytes: self.tally.file_bytes,
            packs: self.packs.len() as u64,
            pack_bytes: self.packs.iter().map(|pack| pack.bytes).sum(),
            row_bytes: self.snapshot_bytes,
            left_out: self.tally.left_out,
        }
    }

    /// The files of the log that were written no more when the backup was made.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn sealed_packs(&self) -> impl Iterator<Item = u32> {
        let last = self.checkpoint.pack;
        let numbers = self.packs.iter().map(|pack| pack.number);
        numbers.filter(move |&number| number < last)
    }

    /// How many bodies are not in it.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn left_out(&self) -> u64 {
        self.tally.left_out
    }

    pub(super) fn file_name(&self) -> String {
        format!("{}{MANIFEST_SUFFIX}", self.name)
    }

    /// Bytes of everything that it counts: whoever adds some of them up stays below this.
    fn all_bytes(&self) -> Option<u64> {
        let Tally {
            object_bytes,
            file_bytes,
            ..
        } = self.tally;
        let packs = self.packs.iter().map(|pack| pack.bytes);
        let mut all = packs.chain([self.snapshot_bytes, object_bytes, file_bytes]);
        all.try_fold(0, u64::checked_add)
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let extras: usize = self.extras.iter().map(|extra| extra.bytes.len() + 64).sum();
        // Room for all: a vector that grows leaves copies of secrets behind.
        let mut w = Writer::with_capacity(512 + 24 * self.packs.len() + extras);
        w.raw(MAGIC).u16(VERSION).u16(0).raw(&self.store_id);
        w.u64(self.created.0).bytes16(&self.checkpoint.encode());
        w.u64(self.snapshot_bytes);
        w.u64(self.tally.objects).u64(self.tally.object_bytes);
        w.u64(self.tally.files).u64(self.tally.file_bytes);
        w.u64(self.tally.left_out).u32(self.packs.len() as u32);
        for pack in &self.packs {
            w.u32(pack.number).u64(pack.epoch);
            w.u64(pack.bytes).u32(pack.crc32c);
        }
        w.u16(self.extras.len() as u16);
        for extra in &self.extras {
            w.bytes16(extra.name.as_bytes());
            w.u32(extra.bytes.len() as u32).raw(&extra.bytes);
        }
        let mut bytes = Zeroizing::new(w.into_bytes());
        let sum = crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("manifest of a backup", bytes);
        if r.array("magic")? != *MAGIC {
            return Err(r.error("magic"));
        }
        if r.u16("version")? != VERSION || r.u16("flags")? != 0 {
            return Err(r.error("version"));
        }
        let summed = bytes.len().saturating_sub(4);
        if crc32c(&bytes[..summed]).to_le_bytes() != bytes[summed..] {
            return Err(r.error("crc32c"));
        }
        let manifest = Self {
            name: name.to_owned(),
            store_id: r.array("store id")?,
            created: Timestamp(r.u64("created")?),
            checkpoint: Checkpoint::decode(r.bytes16("checkpoint")?)?,
            snapshot_bytes: r.u64("snapshot bytes")?,
            tally: Tally {
                objects: r.u64("objects")?,
                object_bytes: r.u64("object bytes")?,
                files: r.u64("files")?,
                file_bytes: r.u64("file bytes")?,
                left_out: r.u64("left out")?,
            },
            packs: (0..r.u32("packs")?)
                .map(|_| PackCopy::decode(&mut r))
                .collect::<Result<_, _>>()?,
            extras: (0..r.u16("extras")?)
                .map(|_| Extra::decode(&mut r))
                .collect::<Result<_, _>>()?,
        };
        if manifest.all_bytes().is_none() {
            return Err(r.error("bytes of all together"));
        }
        r.u32("crc32c")?;
        r.finish()?;
        Ok(manifest)
    }
}

impl PackCopy {
    fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            number: r.u32("pack")?,
            epoch: r.u64("epoch")?,
            bytes: r.u64("bytes of the pack")?,
            crc32c: r.u32("crc32c of the pack")?,
        })
    }
}

impl Extra {
    fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let name = r.text16("name")?.to_owned();
        let is_plain = |name: &str| !name.is_empty() && !name.contains('/') && name != "..";
        if !is_plain(&name) {
            return Err(r.error("name"));
        }
        let n = r.u32("bytes of a file")? as usize;
        if n > EXTRA_BYTES_MAX {
            return Err(r.error("bytes of a file"));
        }
        let bytes = Zeroizing::new(r.take(n, "a file")?.to_vec());
        Ok(Self { name, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::key::BlobId;

    fn manifest() -> Manifest {
        Manifest {
            name: "001".into(),
            store_id: [7; 16],
            created: Timestamp(1_700_000_000_000),
            checkpoint: Checkpoint {
                applied_lsn: 9,
                pack: 2,
                offset: 8192,
                hash: [3; 16],
                incarnation: 4,
                lowest_uncommitted: BlobId::new(4, 0, 0, 0),
            },
            snapshot_bytes: 77,
            tally: Tally {
                objects: 1,
                object_bytes: 2,
                files: 3,
                file_bytes: 4,
                left_out: 5,
            },
            packs: vec![PackCopy {
                number: 2,
                epoch: 6,
                bytes: 8192,
                crc32c: 1,
            }],
            extras: vec![Extra {
                name: "credentials".into(),
                bytes: Zeroizing::new(b"a secret".to_vec()),
            }],
        }
    }

    #[test]
    fn a_manifest_reads_back_and_every_flipped_bit_and_truncation_is_refused() {
        let bytes = manifest().encode();
        assert_eq!(Manifest::decode("001", &bytes).unwrap(), manifest());
        for n in 0..bytes.len() {
            assert!(Manifest::decode("001", &bytes[..n]).is_err(), "{n}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[n] ^= 1 << bit;
                assert!(Manifest::decode("001", &flipped).is_err(), "{n} {bit}");
            }
        }
    }

    #[test]
    fn what_a_manifest_says_of_itself_holds_no_secret() {
        assert!(!format!("{:?}", manifest()).contains("secret"));
    }

    #[test]
    fn a_file_of_a_manifest_stays_where_it_is_put() {
        for name in ["", "..", "log/1", "/etc"] {
            let mut bad = manifest();
            bad.extras[0].name = name.into();
            assert!(Manifest::decode("001", &bad.encode()).is_err(), "{name}");
        }
    }

    /// The sizes are told and reckoned with as sums: they overflowed.
    #[test]
    fn the_sizes_of_a_manifest_together_are_a_number() {
        let most = manifest().all_bytes().expect("they are small");
        let cases: [fn(&mut Manifest) -> &mut u64; 4] = [
            |bad| &mut bad.packs[0].bytes,
            |bad| &mut bad.snapshot_bytes,
            |bad| &mut bad.tally.object_bytes,
            |bad| &mut bad.tally.file_bytes,
        ];
        for field in cases {
            let mut big = manifest();
            *field(&mut big) += u64::MAX - most;
            assert!(Manifest::decode("001", &big.encode()).is_ok());
            *field(&mut big) += 1;
            assert!(Manifest::decode("001", &big.encode()).is_err());
        }
    }
}

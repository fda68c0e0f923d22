//! What the store notes for itself: files and packs in use, how far the scrubber and the index are.

use super::VERSION;
use crate::{
    codec::{DecodeError, Reader, Writer},
    meta::key::BlobId,
    types::Timestamp,
};

/// A file in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRecord {
    /// How many objects have their body in it.
    pub references: u32,
    /// Bytes of the body.
    pub bytes: u64,
}

/// What of a pack is still needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackRecord {
    /// Sum of the lengths of records whose body is still somebody's.
    pub live_bytes: u64,
}

/// How far the scrubber is, so that a restart does not send it back to the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubRecord {
    /// The encoded key that the next pass begins at; empty for the first.
    pub next: Vec<u8>,
    /// What the round has seen so far.
    pub round: ScrubTally,
    /// What the last whole round saw; its `ended` is 0 before the first.
    pub last: ScrubTally,
}

/// What a round of the scrubber saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ScrubTally {
    pub began: Timestamp,
    pub ended: Timestamp,
    pub objects: u64,
    pub bytes: u64,
    pub damaged: u64,
    /// Bodies that the disk did not let us read.
    pub errors: u64,
}

/// What the index was made from, kept in the transaction that made it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Checkpoint {
    pub applied_lsn: u64,
    pub pack: u32,
    pub offset: u64,
    pub hash: [u8; 16],
    pub incarnation: u32,
    pub lowest_uncommitted: BlobId,
}

impl BlobRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u32(self.references).u64(self.bytes);
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            references: r.u32("references")?,
            bytes: r.u64("bytes")?,
        })
    }
}

impl PackRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.u64(self.live_bytes);
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            live_bytes: r.u64("live bytes")?,
        })
    }
}

impl ScrubRecord {
    pub(super) fn encode(&self, w: &mut Writer) {
        w.bytes16(&self.next);
        for tally in [&self.round, &self.last] {
            w.u64(tally.began.0).u64(tally.ended.0);
            w.u64(tally.objects)
                .u64(tally.bytes)
                .u64(tally.damaged)
                .u64(tally.errors);
        }
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        let next = r.bytes16("next")?.to_vec();
        let mut tally = || {
            Ok::<_, DecodeError>(ScrubTally {
                began: Timestamp(r.u64("began")?),
                ended: Timestamp(r.u64("ended")?),
                objects: r.u64("objects")?,
                bytes: r.u64("bytes")?,
                damaged: r.u64("damaged")?,
                errors: r.u64("errors")?,
            })
        };
        Ok(Self {
            next,
            round: tally()?,
            last: tally()?,
        })
    }
}

impl Checkpoint {
    /// Length of the record, in bytes.
    pub const BYTES: usize = 57;

    /// The bytes of the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(VERSION)
            .u64(self.applied_lsn)
            .u32(self.pack)
            .u64(self.offset)
            .raw(&self.hash);
        w.u32(self.incarnation)
            .raw(&self.lowest_uncommitted.0.to_be_bytes());
        w.into_bytes()
    }

    /// Reads the record back.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("checkpoint", bytes);
        if r.u8("version")? != VERSION {
            return Err(r.error("version"));
        }
        let checkpoint = Self {
            applied_lsn: r.u64("applied lsn")?,
            pack: r.u32("pack")?,
            offset: r.u64("offset")?,
            hash: r.array("hash")?,
            incarnation: r.u32("incarnation")?,
            lowest_uncommitted: BlobId(u128::from_be_bytes(r.array("lowest uncommitted")?)),
        };
        r.finish()?;
        Ok(checkpoint)
    }
}

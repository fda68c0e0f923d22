//! Where bodies are.

use std::ops::Range;

use crate::{
    codec::{DecodeError, Reader, Writer},
    meta::key::BlobId,
    types::UploadId,
};

/// Where a body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Nowhere: it has no bytes.
    Empty,
    /// Behind its own record (in the log only).
    Here,
    /// In a pack.
    Pack {
        /// The pack's number.
        pack: u32,
        /// Where the body begins, in bytes.
        offset: u32,
        /// Length of the whole record, in bytes.
        record_bytes: u32,
        /// CRC-32C of each 64 KiB block.
        sums: Vec<u32>,
    },
    /// In a file of its own.
    File(BlobId),
    /// In the parts of a multipart upload, one behind the other.
    Parts(PartSet),
}

/// Which parts make an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSet {
    /// The upload that the parts came by.
    pub id: UploadId,
    /// The parts in their order; neighbours of one size are one run.
    pub runs: Vec<PartRun>,
}

/// Parts with consecutive numbers and of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRun {
    /// Number of the first.
    pub first: u16,
    /// How many.
    pub count: u16,
    /// Bytes of each.
    pub part_bytes: u64,
}

impl PartSet {
    /// Puts the next part behind the others.
    pub fn push(&mut self, number: u16, part_bytes: u64) {
        match self.runs.last_mut() {
            Some(run) if run.part_bytes == part_bytes && run.first + run.count == number => {
                run.count += 1;
            }
            _ => self.runs.push(PartRun {
                first: number,
                count: 1,
                part_bytes,
            }),
        }
    }

    /// False when numbers or sums would not fit, so that nobody who computes with them has to ask.
    fn is_possible(&self) -> bool {
        let mut runs = self.runs.iter();
        runs.try_fold((0_u16, 0_u64), |(last, bytes), run| {
            let ends = run.first.checked_add(run.count)?;
            let more = run.part_bytes.checked_mul(run.count.into())?;
            match run.first > last && run.count > 0 {
                true => Some((ends - 1, bytes.checked_add(more)?)),
                false => None,
            }
        })
        .is_some()
    }

    /// How many parts there are.
    pub fn count(&self) -> u16 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// The part that holds byte `at`: its number and where it begins.
    pub fn part_at(&self, at: u64) -> Option<(u16, Range<u64>)> {
        let mut begin = 0;
        for run in &self.runs {
            let bytes = run.part_bytes * u64::from(run.count);
            if at < begin + bytes {
                let n = (at - begin) / run.part_bytes;
                let start = begin + n * run.part_bytes;
                return Some((run.first + n as u16, start..start + run.part_bytes));
            }
            begin += bytes;
        }
        None
    }

    /// Where the part in this place lies; the first is in place 1.
    pub fn range_of(&self, place: u16) -> Option<Range<u64>> {
        let mut begin = 0;
        let mut before = place.checked_sub(1)?;
        for run in &self.runs {
            if before < run.count {
                let start = begin + u64::from(before) * run.part_bytes;
                return Some(start..start + run.part_bytes);
            }
            before -= run.count;
            begin += run.part_bytes * u64::from(run.count);
        }
        None
    }
}

impl Location {
    pub(super) fn encode(&self, w: &mut Writer) {
        match self {
            Location::Empty => w.u8(0),
            Location::Here => w.u8(1),
            Location::Pack {
                pack,
                offset,
                record_bytes,
                sums,
            } => {
                w.u8(2).u32(*pack).u32(*offset).u32(*record_bytes);
                w.u16(u16::try_from(sums.len()).expect("inline bodies are small"));
                sums.iter().fold(w, |w, &sum| w.u32(sum))
            }
            Location::File(id) => w.u8(3).raw(&id.0.to_be_bytes()),
            Location::Parts(set) => {
                w.u8(4).raw(&set.id.0.to_be_bytes());
                w.u16(u16::try_from(set.runs.len()).expect("an upload has 10,000 parts at most"));
                set.runs.iter().fold(w, |w, run| {
                    w.u16(run.first).u16(run.count).u64(run.part_bytes)
                })
            }
        };
    }

    pub(super) fn decode(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match r.u8("location kind")? {
            0 => Location::Empty,
            1 => Location::Here,
            2 => {
                let (pack, offset) = (r.u32("pack")?, r.u32("offset")?);
                let record_bytes = r.u32("record bytes")?;
                let sums = (0..r.u16("block count")?)
                    .map(|_| r.u32("block sum"))
                    .collect::<Result<_, _>>()?;
                Location::Pack {
                    pack,
                    offset,
                    record_bytes,
                    sums,
                }
            }
            3 => Location::File(BlobId(u128::from_be_bytes(r.array("blob id")?))),
            4 => {
                let id = UploadId(u128::from_be_bytes(r.array("upload id")?));
                let runs = (0..r.u16("run count")?)
                    .map(|_| {
                        Ok(PartRun {
                            first: r.u16("first part")?,
                            count: r.u16("part count")?,
                            part_bytes: r.u64("part bytes")?,
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?;
                let set = PartSet { id, runs };
                if !set.is_possible() {
                    return Err(r.error("runs of parts"));
                }
                Location::Parts(set)
            }
            _ => return Err(r.error("location kind")),
        })
    }
}

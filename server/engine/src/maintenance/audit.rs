//! Holds all rows of an index against each other: every counter and reference against the rows it counts.
//!
//! Rot in the inner pages of the index hides rows without a trace in those that are left; here it shows. Takes
//! memory by buckets and log files, not by objects: references are compared as sums of hashes.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use crate::{
    error::{Error, ErrorKind, Result},
    meta::{
        above,
        key::{BucketId, Key, after_prefix, tag},
        local::{
            Local,
            index::{self, Index, LongRead},
        },
        record::{BucketStats, Location, PartSet, Record},
    },
    types::UploadId,
};

/// Findings that are told; more are only counted.
const TOLD_MAX: usize = 100;

/// Rows that are read together.
const ROWS: usize = 4096;

/// Encoded keys and records.
pub type RawRows = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads all rows of the index in the order that an [`Audit`] wants: without the checkpoint, the free list of part
/// sets first.
pub struct RowWalk {
    look: LongRead,
    next: Option<Vec<u8>>,
    is_free_list: bool,
}

impl RowWalk {
    /// Begins at the first row of a stable look.
    pub fn new(look: LongRead) -> Self {
        Self {
            look,
            next: Some(vec![tag::FREE_PART_SET]),
            is_free_list: true,
        }
    }

    /// The next rows, perhaps none; `None` behind the last ones.
    pub fn next_rows(&mut self, index: &Index) -> Result<Option<RawRows>> {
        let Some(from) = self.next.take() else {
            return Ok(None);
        };
        let free_list = after_prefix(&[tag::FREE_PART_SET]);
        let to = match self.is_free_list {
            true => free_list.clone(),
            // All others, without the free list once more.
            false if from < vec![tag::FREE_PART_SET] => Some(vec![tag::FREE_PART_SET]),
            false => None,
        };
        let range = |table: Option<&_>| index::range(table, &from, to.as_deref(), ROWS);
        let (rows, end) = index.long(&self.look, range)?;
        self.next = match end {
            Some(end) => Some(above(&end)),
            None if self.is_free_list => {
                self.is_free_list = false;
                Some(vec![tag::BUCKET])
            }
            None => to.and(free_list),
        };
        Ok(Some(rows))
    }
}

/// An audit of the index as it was at one moment, in steps.
pub struct AuditWalk {
    local: Arc<Local>,
    rows: RowWalk,
    stated: u64,
    audit: Audit,
}

impl AuditWalk {
    /// Begins with a stable look at the index. What waits for it in the overlay is left out on both sides.
    pub fn begin(local: &Arc<Local>) -> Result<Self> {
        let look = local.index().begin_long_read()?;
        let stated = local.index().long(&look, index::row_count)?;
        let stated = stated.saturating_sub(1);
        Ok(Self {
            local: local.clone(),
            rows: RowWalk::new(look),
            stated,
            audit: Audit::default(),
        })
    }

    /// How many rows there are, by the index's own count.
    pub fn stated(&self) -> u64 {
        self.stated
    }

    /// How many rows were taken.
    pub fn row_count(&self) -> u64 {
        self.audit.row_count
    }

    /// Takes the next rows; what does not agree, when all have been there.
    pub fn step(&mut self) -> Result<Option<Vec<String>>> {
        match self.rows.next_rows(self.local.index()) {
            Ok(Some(rows)) => self.audit.rows(&rows).map(|()| None),
            Ok(None) => Ok(Some(std::mem::take(&mut self.audit).finish(self.stated))),
            Err(error) if index::is_damage(&error) => Ok(Some(vec![error.to_string()])),
            Err(error) => Err(error),
        }
    }
}

/// Takes all rows, first those of [`Key::FreePartSet`], then the others in the order of their keys.
#[derive(Default)]
pub struct Audit {
    row_count: u64,
    buckets: BTreeMap<BucketId, Bucket>,
    /// Buckets of uploads that are not among the buckets.
    gone_buckets: BTreeSet<BucketId>,
    /// What lies in each log file by the rows, and what its own row says.
    packs: BTreeMap<u32, (u64, u64)>,
    free_part_sets: BTreeSet<UploadId>,
    /// The parts of one upload, being counted.
    parts: Option<(UploadId, u32)>,
    files: Balance,
    part_sets: Balance,
    part_counts: Balance,
    quarantine: Balance,
    findings: Vec<String>,
    finding_count: u64,
}

#[derive(Default)]
struct Bucket {
    has_row: bool,
    stated: Option<BucketStats>,
    seen: BucketStats,
}

/// Sums of what is used and of what is counted: equal when they are the same things as often.
#[derive(Default, PartialEq, Eq)]
struct Balance(u64);

impl Balance {
    fn used(&mut self, what: impl Hash) {
        self.0 = self.0.wrapping_add(mark(what));
    }

    fn counted(&mut self, what: impl Hash, times: u64) {
        self.0 = self.0.wrapping_sub(mark(what).wrapping_mul(times));
    }
}

fn mark(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

impl Audit {
    /// Takes the next rows.
    pub fn rows(&mut self, rows: &RawRows) -> Result<()> {
        let unreadable = |error: crate::codec::DecodeError| {
            Error::new(ErrorKind::InternalError, "A row cannot be read.").with_source(error)
        };
        for (key, row) in rows {
            let record = Record::decode(key[0], row).map_err(unreadable)?;
            self.row(&Key::decode(key).map_err(unreadable)?, &record);
        }
        Ok(())
    }

    fn row(&mut self, key: &Key, record: &Record) {
        self.row_count += 1;
        match (key, record) {
            (Key::FreePartSet(id), _) => drop(self.free_part_sets.insert(*id)),
            (Key::Bucket(_), Record::Bucket(bucket)) => {
                self.buckets.entry(bucket.id).or_default().has_row = true;
            }
            (Key::BucketStats(id), Record::BucketStats(stats)) => {
                self.buckets.entry(*id).or_default().stated = Some(*stats);
            }
            (Key::Object(bucket, name), Record::Object(object)) => {
                let bucket_entry = self.buckets.entry(*bucket).or_default();
                bucket_entry.seen.objects += 1;
                bucket_entry.seen.bytes += object.size;
                if object.quarantined.is_some() {
                    self.quarantine.used((bucket.0, name));
                }
                self.body(&object.location);
            }
            (Key::Quarantine(bucket, name), _) => self.quarantine.counted((bucket.0, name), 1),
            (Key::Upload(bucket, _, id), _) => {
                self.part_sets.used(id.0);
                if !self
                    .buckets
                    .get(bucket)
                    .is_some_and(|bucket| bucket.has_row)
                {
                    self.gone_buckets.insert(*bucket);
                }
            }
            (Key::FreeBucket(id), _) => drop(self.gone_buckets.remove(id)),
            (Key::Part(id, _), Record::Part(part)) => {
                self.part(*id);
                self.body(&part.location);
            }
            (Key::PartSet(id), Record::PartSet(set)) => {
                self.part_sets.counted(id.0, set.references.into());
                if set.parts > 0 {
                    self.part_counts.counted((id.0, set.parts), 1);
                }
            }
            (Key::Blob(id), Record::Blob(blob)) => {
                self.files.counted(id.0, blob.references.into());
            }
            (Key::Pack(number), Record::Pack(pack)) => {
                self.packs.entry(*number).or_default().1 = pack.live_bytes;
            }
            _ => {}
        }
    }

    fn body(&mut self, location: &Location) {
        match location {
            Location::Pack {
                pack, record_bytes, ..
            } => self.packs.entry(*pack).or_default().0 += u64::from(*record_bytes),
            Location::File(id) => self.files.used(id.0),
            Location::Parts(PartSet { id, .. }) => self.part_sets.used(id.0),
            Location::Empty | Location::Here => {}
        }
    }

    fn part(&mut self, id: UploadId) {
        match &mut self.parts {
            Some((open, count)) if *open == id => *count += 1,
            _ => {
                self.close_parts();
                self.parts = Some((id, 1));
            }
        }
    }

    fn close_parts(&mut self) {
        if let Some((id, count)) = self.parts.take()
            && !self.free_part_sets.contains(&id)
        {
            self.part_counts.used((id.0, count));
        }
    }

    fn finding(&mut self, what: String) {
        self.finding_count += 1;
        if self.findings.len() < TOLD_MAX {
            self.findings.push(what);
        }
    }

    /// What does not agree; nothing when all is well. By its own count the index has `stated` rows.
    pub fn finish(mut self, stated: u64) -> Vec<String> {
        self.close_parts();
        if self.row_count != stated {
            let seen = self.row_count;
            self.finding(format!(
                "{seen} rows can be found, the index counts {stated}"
            ));
        }
        for (id, bucket) in std::mem::take(&mut self.buckets) {
            match bucket.stated {
                _ if !bucket.has_row => self.finding(format!("bucket {} has no row", id.0)),
                Some(stated) if stated == bucket.seen => {}
                stated => self.finding(format!(
                    "bucket {} has {:?}, its counter says {stated:?}",
                    id.0, bucket.seen
                )),
            }
        }
        for id in std::mem::take(&mut self.gone_buckets) {
            self.finding(format!("uploads are in bucket {}, which has no row", id.0));
        }
        for (number, (seen, stated)) in std::mem::take(&mut self.packs) {
            if seen != stated {
                self.finding(format!(
                    "{seen} bytes of log file {number} are in use, its counter says {stated}"
                ));
            }
        }
        let balances = [
            (&self.files, "references to files"),
            (&self.part_sets, "references to the parts of uploads"),
            (&self.part_counts, "numbers of parts"),
            (&self.quarantine, "list of quarantined objects"),
        ];
        let broken = balances
            .into_iter()
            .filter(|(balance, _)| **balance != Balance::default());
        let broken: Vec<String> = broken
            .map(|(_, what)| format!("the {what} does not agree with the objects and parts"))
            .collect();
        broken.into_iter().for_each(|what| self.finding(what));
        let untold = self.finding_count - self.findings.len() as u64;
        if untold > 0 {
            self.findings.push(format!("and {untold} more"));
        }
        self.findings
    }
}

//! Metadata: rows under keys, changed by transactions that carry their preconditions as data.
//!
//! [`MetaStore`] is one of the two traits that separate the service from storage (the other is
//! [`crate::blob::BlobStore`]); [`local`] is the store behind it on one machine. Other stores join as
//! siblings. Absent on purpose: closures in transactions, and any way to change a row but a commit.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use bytes::Bytes;

use crate::{
    blob::InFlight,
    error::Result,
    meta::{
        key::{BucketId, Key, SessionKey},
        record::{Done, Location, PartRun, Record},
    },
    planted::{self, Bug},
    types::{ContentHeaders, ETag, Tags, UploadId},
};

pub mod key;
pub mod local;
pub mod record;

/// Bytes of a body that one CRC-32C covers.
pub const BLOCK_BYTES: usize = 64 * 1024;

/// One row to be put (or removed, when there is no record).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The row.
    pub key: Key,
    /// What it becomes.
    pub record: Option<Record>,
}

/// What a record needs besides the texts that are counted.
const RECORD_BYTES: usize = 256;

impl Transaction {
    /// These changes, whatever is there, without a body.
    pub fn of(changes: Vec<Change>) -> Self {
        Self {
            changes,
            ..Self::default()
        }
    }

    /// True when it puts rows, false when it only deletes.
    pub fn adds(&self) -> bool {
        self.changes.iter().any(|change| change.record.is_some())
    }

    /// About how many bytes of the log it needs.
    pub fn bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.bytes.len());
        body + self.changes.iter().map(Change::bytes).sum::<usize>()
    }
}

impl Change {
    fn bytes(&self) -> usize {
        let key = match &self.key {
            Key::Bucket(text)
            | Key::Object(_, text)
            | Key::Upload(_, text, _)
            | Key::AccountName(text)
            | Key::Token(text) => text.len(),
            _ => 0,
        };
        let texts = match &self.record {
            Some(Record::Object(object)) => {
                let runs = match &object.location {
                    Location::Parts(set) => set.runs.len() * size_of::<PartRun>(),
                    _ => 0,
                };
                described_bytes(&object.headers, &object.metadata, &object.tags) + runs
            }
            Some(Record::Bucket(bucket)) => match &bucket.policy {
                Some(policy) => policy.to_json().len(),
                None => 0,
            },
            Some(Record::Upload(upload)) => {
                described_bytes(&upload.headers, &upload.metadata, &upload.tags)
            }
            Some(Record::Token(token)) => {
                let lists = [&token.actions, &token.buckets, &token.prefixes];
                let texts = lists.into_iter().flatten().map(|text| 2 + text.len());
                texts.sum::<usize>() + token.sealed_secret.len() + token.secret_hash.len()
            }
            Some(Record::Outcome(outcome)) => match &outcome.done {
                Done::Refused(_, context) => context.len(),
                Done::Nothing | Done::Written(_) => 0,
            },
            _ => 0,
        };
        RECORD_BYTES + key + texts
    }

    /// Puts a row.
    pub fn put(key: Key, record: Record) -> Self {
        Self {
            key,
            record: Some(record),
        }
    }

    /// Removes a row.
    pub fn delete(key: Key) -> Self {
        Self { key, record: None }
    }
}

fn described_bytes(
    headers: &ContentHeaders,
    metadata: &BTreeMap<String, String>,
    tags: &Tags,
) -> usize {
    let metadata = metadata.iter().map(|(n, v)| n.len() + v.len());
    let tags = tags.iter().map(|tag| tag.key.len() + tag.value.len());
    headers.bytes() + metadata.sum::<usize>() + tags.sum::<usize>()
}

/// What must hold at the moment of the commit, decided by the committer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// There is such a row.
    Exists(Key),
    /// There is none.
    Absent(Key),
    /// The bucket of this name is still the one that was looked up.
    BucketIs(String, BucketId),
    /// The bucket has no objects.
    BucketEmpty(BucketId),
    /// There is an object with this entity tag.
    ETagIs(Key, ETag),
    /// There is no object, or one with another entity tag.
    ETagIsNot(Key, ETag),
    /// There is an object or part, and of this version.
    VersionIs(Key, u128),
    /// The row is exactly this one.
    Is(Key, Box<Record>),
    /// No part has come by the upload since its row was read.
    PartsAre(UploadId, u64),
    /// No request of this number was answered in the session, and its answer is not known to have arrived.
    Unanswered(SessionKey, u64),
    /// The bucket has at most `quota` bytes when the object under `key` gets `size`.
    Within {
        /// The bucket.
        bucket: BucketId,
        /// The row of the object.
        key: Key,
        /// Bytes that it will have.
        size: u64,
        /// Most bytes of the bucket.
        quota: u64,
    },
}

/// A small body that rides in the log with its record.
#[derive(Clone, Debug)]
pub struct Body {
    /// The bytes.
    pub bytes: Bytes,
    /// CRC-32C of each block.
    pub sums: Vec<u32>,
}

impl Body {
    /// A body with its sums.
    pub fn new(bytes: Bytes) -> Self {
        let sums = bytes
            .chunks(BLOCK_BYTES)
            .map(crate::codec::crc32c)
            .collect();
        Self { bytes, sums }
    }
}

/// What happens wholly or not at all.
#[derive(Debug, Default)]
pub struct Transaction {
    /// All must hold.
    pub requires: Vec<Precondition>,
    /// What is changed then.
    pub changes: Vec<Change>,
    /// The body of the change whose location is [`Location::Here`].
    pub body: Option<Body>,
    /// The file that a change points at; removed again when the transaction is refused.
    pub blob: Option<InFlight>,
    /// It keeps the store going, or takes rights away, so it is let through on a full disk, although it may
    /// add a little.
    pub upkeep: bool,
}

/// Why a transaction did not happen, or may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A precondition did not hold: its place in `requires`.
    #[error("precondition {0} does not hold")]
    Refused(usize),
    /// Nothing was written: the disk has no room, or too little for something that is added.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Nothing was written.
    #[error("{0}")]
    Failed(String),
    /// The store no longer writes; whether this transaction survives is unknown until the restart.
    #[error("the store has stopped writing until it is restarted: {0}")]
    Stopped(String),
}

/// Resolves when the transaction is durable, or refused by durable state.
pub type Commit = Pin<Box<dyn Future<Output = Result<(), CommitError>> + Send>>;

/// Bytes of rows after which a scan ends early, so that long rows do not add up.
pub const SCAN_BYTES: usize = 1 << 20;

/// Rows of a scan: encoded key and record, in byte order.
pub struct Rows {
    /// The rows.
    pub rows: Vec<(Vec<u8>, Record)>,
    /// Where the next scan goes on; `None` when there are no more.
    pub next: Option<Vec<u8>>,
}

/// The least key above this one.
pub fn above(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Rows to be looked at.
pub trait MetaReader: Send + Sync + 'static {
    /// The row under `key`.
    fn get(&self, key: &Key) -> Result<Option<Record>>;

    /// The first rows with encoded keys in `from..to`: at most `limit`, and fewer when they are long.
    fn scan(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows>;

    /// The file that holds an inline body, or `None` when the row has moved meanwhile: look it up again.
    fn open_inline(&self, location: &Location) -> Result<Option<InlineBody>>;

    /// Keeps the parts of an upload while the guard lives, even when no object is made of them any more.
    /// `None` when they are not kept any more: look the object up again.
    fn hold_parts(&self, id: UploadId) -> Result<Option<Box<dyn Hold>>>;
}

/// A store of rows.
pub trait MetaStore: MetaReader {
    /// Commits a transaction.
    fn commit(&self, transaction: Transaction) -> Commit;

    /// Why the store refuses to write until it is restarted, if it does. What it says is not there may then
    /// come back with the restart.
    fn stopped(&self) -> Option<String>;

    /// Changes whenever the store goes back in time or gives a part of its past up: what was remembered before is not
    /// to be relied upon.
    fn lineage(&self) -> u32;

    /// Why the store takes nothing that is added for now, if so: the disk is full. Deletes go on.
    fn full(&self) -> Option<String>;
}

/// What a reader keeps, by keeping this; see [`MetaReader::hold_parts`].
pub trait Hold: Send + Sync {}

/// A small body at rest.
pub struct InlineBody {
    file: std::sync::Arc<dyn crate::disk::DiskFile>,
    offset: u64,
    sums: Vec<u32>,
}

impl InlineBody {
    pub(crate) fn new(
        file: std::sync::Arc<dyn crate::disk::DiskFile>,
        offset: u64,
        sums: Vec<u32>,
    ) -> Self {
        Self { file, offset, sums }
    }

    /// Whether the file goes on for the `size` bytes of the body.
    pub fn check_length(&self, size: u64) -> std::io::Result<()> {
        match self.file.len()? >= self.offset + size {
            true => Ok(()),
            false => Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the log file ends before the body does",
            )),
        }
    }

    /// Reads `range` of a body of `size` bytes, every block that it touches checked.
    pub fn read(&self, size: u64, range: std::ops::Range<u64>) -> std::io::Result<Bytes> {
        let block = BLOCK_BYTES as u64;
        let start = range.start / block * block;
        let end = range.end.next_multiple_of(block).min(size);
        let mut bytes = vec![0; (end - start) as usize];
        self.file.read_at(&mut bytes, self.offset + start)?;
        let first = (start / block) as usize;
        for (i, chunk) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if planted::is(Bug::ReadUnchecked) {
                break;
            }
            if self.sums.get(first + i) != Some(&crate::codec::crc32c(chunk))
                && !(i > 0 && planted::is(Bug::CrcOfWrongRange))
            {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    format!(
                        "block {} of the body does not match its checksum",
                        first + i
                    ),
                ));
            }
        }
        Ok(Bytes::from(bytes).slice((range.start - start) as usize..(range.end - start) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::record::{TokenRecord, sample};

    /// The queue and a disk that is nearly full go by this.
    #[test]
    fn what_an_access_key_needs_is_counted() {
        let texts = |bytes| vec!["x".repeat(bytes); 100];
        let token = TokenRecord {
            sealed_secret: vec![7; 4096],
            buckets: texts(63),
            prefixes: texts(1024),
            ..sample::token()
        };
        let change = Change::put(Key::Token("id".into()), Record::Token(Box::new(token)));
        let record = change.record.as_ref().map(Record::encode);
        assert!(change.bytes() >= record.unwrap().len());
    }
}

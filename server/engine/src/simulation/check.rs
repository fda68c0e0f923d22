//! The oracle: holds a store against what the model says it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use bytes::Bytes;

use super::model::{Object, Row, State};
use crate::{
    blob::BlobStore,
    disk::simulated::SimulatedDisk,
    meta::{
        key::{BlobId, BucketId, Key, tag},
        local::{Local, packs::Packs},
        record::{BlobRecord, BucketStats, Location, ObjectRecord, Record},
    },
};

type Result<T = (), E = String> = std::result::Result<T, E>;

/// Everything a store says of itself.
pub(super) struct Found {
    rows: BTreeMap<Key, Record>,
}

impl Found {
    /// Reads all rows, `page` at a time.
    pub(super) fn scan(local: &Local, page: usize) -> Result<Self> {
        let mut rows = BTreeMap::new();
        let mut from = vec![tag::BUCKET];
        loop {
            let read = local
                .scan(&from, None, page)
                .map_err(|e| format!("a scan failed: {e}"))?;
            let more = read.len() == page;
            if let Some((last, _)) = read.last() {
                from.clone_from(last);
                from.push(0);
            }
            for (key, record) in read {
                let key = Key::decode(&key).map_err(|e| e.to_string())?;
                rows.insert(key, record);
            }
            if !more {
                return Ok(Self { rows });
            }
        }
    }

    /// Says how the buckets and objects differ from `state`, if they do.
    pub(super) fn differs_from(&self, state: &State) -> Option<String> {
        for (key, row) in state {
            match self.rows.get(key) {
                None => return Some(format!("{key:?} is missing")),
                Some(found) if !same(found, row) => {
                    return Some(format!("{key:?} is {found:?} instead of {row:?}"));
                }
                Some(_) => {}
            }
        }
        self.rows
            .keys()
            .filter(|key| matches!(key, Key::Bucket(_) | Key::Object(..)))
            .find(|key| !state.contains_key(key))
            .map(|key| format!("{key:?} should not be there"))
    }

    /// Holds every counter and reference against the objects.
    pub(super) fn check_counters(&self) -> Result {
        let mut expected = BTreeMap::new();
        for record in self.rows.values() {
            if let Record::Bucket(bucket) = record {
                let stats = Record::BucketStats(BucketStats::default());
                expected.insert(Key::BucketStats(bucket.id), stats);
            }
        }
        for (key, record) in &self.rows {
            if let (Key::Object(bucket, _), Record::Object(object)) = (key, record) {
                count(&mut expected, *bucket, object)?;
            }
        }
        for (key, record) in &self.rows {
            match (key, record) {
                (Key::Bucket(_) | Key::Object(..), _) => continue,
                _ if expected.get(key) == Some(record) => {}
                (Key::FreeBucket(_) | Key::FreePartSet(_), Record::Free) => {}
                (Key::Free(id), Record::Free) if !expected.contains_key(&Key::Blob(*id)) => {}
                (Key::Pack(_), Record::Pack(pack))
                    if pack.live_bytes == 0 && !expected.contains_key(key) => {}
                _ => {
                    return Err(format!(
                        "{key:?} is {record:?} instead of {:?}",
                        expected.get(key)
                    ));
                }
            }
        }
        match expected
            .into_iter()
            .find(|(key, _)| !self.rows.contains_key(key))
        {
            Some((key, record)) => Err(format!("{key:?} is missing instead of {record:?}")),
            None => Ok(()),
        }
    }

    /// Reads every body.
    pub(super) fn check_bodies(&self, local: &Local, state: &State) -> Result {
        for (key, row) in state {
            if let (Some(Record::Object(found)), Some(object)) = (self.rows.get(key), row.object())
            {
                check_body(local, key, found, object, 0..found.size)?;
            }
        }
        Ok(())
    }

    /// The files below `objects/` are exactly those of the objects.
    pub(super) fn check_files(&self, disk: &SimulatedDisk) -> Result {
        let expected: BTreeSet<String> = self.blobs().map(path).collect();
        let files = disk
            .live_files()
            .into_iter()
            .filter(|path| path.starts_with("objects/"));
        let files: BTreeSet<String> = files.collect();
        match files.symmetric_difference(&expected).next() {
            Some(path) => Err(format!("after a collection, {path} is leaked or missing")),
            None => Ok(()),
        }
    }

    /// After a whole pass of the collector: the files are those of the objects, no log file is without use.
    pub(super) fn check_tidiness(&self, local: &Local, disk: &SimulatedDisk) -> Result {
        self.check_files(disk)?;
        if let Some(key) = self.rows.keys().find(|key| is_free_list(key)) {
            return Err(format!("after a collection, {key:?} is still there"));
        }
        let numbers = Packs::numbers(disk).map_err(|e| e.to_string())?;
        let applied = local.applied().pack;
        for number in numbers.iter().filter(|&&number| number < applied) {
            if !matches!(self.rows.get(&Key::Pack(*number)), Some(Record::Pack(p)) if p.live_bytes > 0)
            {
                return Err(format!(
                    "after a collection, pack {number} of {numbers:?} is there without use: {:?}",
                    self.rows.get(&Key::Pack(*number))
                ));
            }
        }
        match self
            .rows
            .keys()
            .find(|k| matches!(k, Key::Pack(n) if !numbers.contains(n)))
        {
            Some(key) => Err(format!(
                "after a collection, {key:?} is there without its file"
            )),
            None => Ok(()),
        }
    }

    fn blobs(&self) -> impl Iterator<Item = BlobId> {
        self.rows.keys().filter_map(|key| match key {
            Key::Blob(id) => Some(*id),
            _ => None,
        })
    }
}

fn is_free_list(key: &Key) -> bool {
    matches!(key, Key::Free(_) | Key::FreePartSet(_) | Key::FreeBucket(_))
}

/// No file may ever go to quarantine but the damaged one.
pub(super) fn check_quarantine(disk: &SimulatedDisk, damaged: Option<&str>) -> Result {
    let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
    match disk
        .live_files()
        .into_iter()
        .find(|path| path.starts_with("quarantine/") && name(path) != damaged.and_then(name))
    {
        Some(path) => Err(format!(
            "{path}: a file nobody names was not known as uncommitted"
        )),
        None => Ok(()),
    }
}

/// Reads a part of a body through the store's own readers.
pub(super) fn check_body(
    local: &Local,
    key: &Key,
    found: &ObjectRecord,
    object: &Object,
    range: Range<u64>,
) -> Result {
    let bytes = read_body(local, found, range.clone()).map_err(|e| format!("{key:?}: {e}"))?;
    if bytes != object.body[range.start as usize..range.end as usize] {
        return Err(format!(
            "{key:?}: wrong bytes in {range:?} from {:?}",
            found.location
        ));
    }
    Ok(())
}

pub(super) fn read_body(local: &Local, found: &ObjectRecord, range: Range<u64>) -> Result<Bytes> {
    let told = |e: std::io::Error| format!("the body at {:?} cannot be read: {e}", found.location);
    match &found.location {
        Location::Empty => Ok(Bytes::new()),
        Location::Here => Err("an index row says that its body is here".into()),
        Location::Parts(_) => unreachable!("no traffic makes parts"),
        Location::Pack { .. } => match local.open_inline(&found.location) {
            Ok(Some(body)) => body.read(found.size, range).map_err(told),
            Ok(None) => Err(format!("the body at {:?} is gone", found.location)),
            Err(error) => Err(format!("the body at {:?}: {error}", found.location)),
        },
        Location::File(id) => {
            let reader = local.files.open(*id, found.size).map_err(told)?;
            reader.read(range).map_err(told)
        }
    }
}

/// True when the row is the one of the model, wherever an inline body lies by now.
pub(super) fn same(found: &Record, row: &Row) -> bool {
    match (found, row) {
        (Record::Bucket(found), Row::Bucket(bucket)) => found == bucket,
        (Record::Object(found), Row::Object(object)) => {
            let wanted = &object.record;
            match (&found.location, &wanted.location) {
                (Location::Pack { .. }, Location::Here) => {
                    let mut found = found.clone();
                    found.location = Location::Here;
                    *found == *wanted
                }
                _ => **found == *wanted,
            }
        }
        _ => false,
    }
}

fn count(expected: &mut BTreeMap<Key, Record>, bucket: BucketId, object: &ObjectRecord) -> Result {
    match expected.get_mut(&Key::BucketStats(bucket)) {
        Some(Record::BucketStats(stats)) => {
            stats.objects += 1;
            stats.bytes += object.size;
        }
        _ => return Err(format!("an object of {bucket:?}, which is not there")),
    }
    match &object.location {
        Location::Pack {
            pack, record_bytes, ..
        } => {
            let record = expected
                .entry(Key::Pack(*pack))
                .or_insert(Record::Pack(Default::default()));
            if let Record::Pack(pack) = record {
                pack.live_bytes += u64::from(*record_bytes);
            }
        }
        Location::File(id) => {
            let none = BlobRecord {
                references: 0,
                bytes: object.size,
            };
            let record = expected.entry(Key::Blob(*id)).or_insert(Record::Blob(none));
            if let Record::Blob(blob) = record {
                blob.references += 1;
            }
        }
        Location::Empty | Location::Here | Location::Parts(_) => {}
    }
    Ok(())
}

fn path(id: BlobId) -> String {
    format!("{}/{id}", crate::blob::files::shard_dir(id.shard()))
}

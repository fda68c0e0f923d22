//! The oracle: holds a store against what the model says it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use bytes::{Bytes, BytesMut};

use super::model::{self, Row, State};
use crate::{
    blob::BlobStore,
    disk::simulated::SimulatedDisk,
    meta::{
        key::{BlobId, Key, tag},
        local::{Local, packs::Packs},
        record::{BlobRecord, BucketStats, Location, PartSet, PartSetRecord, Record},
    },
    types::UploadId,
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
        let mut from = Some(vec![tag::BUCKET]);
        while let Some(start) = from.take() {
            let read = local
                .scan(&start, None, page)
                .map_err(|e| format!("a scan failed: {e}"))?;
            if read.rows.len() > page {
                return Err(format!("a scan of {page} rows found {}", read.rows.len()));
            }
            from = read.next;
            for (key, record) in read.rows {
                let key = Key::decode(&key).map_err(|e| e.to_string())?;
                rows.insert(key, record);
            }
        }
        Ok(Self { rows })
    }

    /// Leaves out the dead of `state`, and what follows from other rows.
    pub(super) fn living(mut self, state: &State, living: &State) -> Self {
        let is_dead = |key: &Key| state.rows.contains_key(key) && !living.rows.contains_key(key);
        self.rows
            .retain(|key, _| model::is_modelled(key) && !is_dead(key));
        self
    }

    /// Says how the rows of transactions differ from `state`, if they do.
    pub(super) fn differs_from(&self, state: &State) -> Option<String> {
        for (key, row) in &state.rows {
            match self.rows.get(key) {
                None => return Some(format!("{key:?} is missing")),
                Some(found) if !same(found, row) => {
                    return Some(format!("{key:?} is {found:?} instead of {row:?}"));
                }
                Some(_) => {}
            }
        }
        for (key, record) in &self.rows {
            if model::is_modelled(key) && !state.rows.contains_key(key) {
                return Some(format!("{key:?} should not be there"));
            }
            if let (Key::PartSet(id), Record::PartSet(set)) = (key, record)
                && state.changes(*id) != Some(set.changes)
            {
                let expected = state.changes(*id);
                return Some(format!(
                    "{key:?} is {set:?} instead of {expected:?} changes"
                ));
            }
        }
        None
    }

    /// Holds every counter and reference against the buckets, objects, uploads and parts.
    pub(super) fn check_counters(&self, state: &State) -> Result {
        let expected = self.derive(state)?;
        for (key, record) in &self.rows {
            let is_right = model::is_modelled(key)
                || *key == Key::Scrub
                || expected.get(key) == Some(record)
                || match (key, record) {
                    (Key::FreeBucket(id), Record::Free) => {
                        !expected.contains_key(&Key::BucketStats(*id))
                    }
                    (Key::FreePartSet(id), Record::Free) => {
                        !expected.contains_key(&Key::PartSet(*id))
                    }
                    (Key::Free(id), Record::Free) => !expected.contains_key(&Key::Blob(*id)),
                    (Key::Pack(_), Record::Pack(pack)) => {
                        pack.live_bytes == 0 && !expected.contains_key(key)
                    }
                    _ => false,
                };
            if !is_right {
                return Err(format!(
                    "{key:?} is {record:?} instead of {:?}",
                    expected.get(key)
                ));
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

    /// The rows that follow from those of transactions: counters, references, and what tells the collector of
    /// the dead.
    fn derive(&self, state: &State) -> Result<BTreeMap<Key, Record>> {
        let mut expected = BTreeMap::new();
        for record in self.rows.values() {
            if let Record::Bucket(bucket) = record {
                let stats = Record::BucketStats(BucketStats::default());
                expected.insert(Key::BucketStats(bucket.id), stats);
            }
        }
        // Those who need parts come before the parts.
        for (key, record) in &self.rows {
            match (key, record) {
                (Key::Object(bucket, _), Record::Object(object)) => {
                    match expected.get_mut(&Key::BucketStats(*bucket)) {
                        Some(Record::BucketStats(stats)) => {
                            stats.objects += 1;
                            stats.bytes += object.size;
                        }
                        _ => return Err(format!("{key:?} is there without its bucket")),
                    }
                }
                (Key::Upload(bucket, _, id), _) => {
                    refer(&mut expected, state, *id)?;
                    if !expected.contains_key(&Key::BucketStats(*bucket)) {
                        expected.insert(Key::FreeBucket(*bucket), Record::Free);
                    }
                }
                (Key::Part(id, _), _) => match expected.get_mut(&Key::PartSet(*id)) {
                    Some(Record::PartSet(set)) => set.parts += 1,
                    _ => drop(expected.insert(Key::FreePartSet(*id), Record::Free)),
                },
                _ => {}
            }
            if let Some((location, bytes)) = record.body() {
                retain(&mut expected, state, location, bytes)?;
            }
        }
        Ok(expected)
    }

    /// Reads every body, those of parts as the body that they make if they make one.
    pub(super) fn check_bodies(&self, local: &Local, state: &State) -> Result {
        let whole: BTreeSet<UploadId> = state.rows.values().filter_map(Row::made_of).collect();
        for (key, row) in &state.rows {
            if matches!(key, Key::Part(id, _) if whole.contains(id)) {
                continue;
            }
            if let (Some(found), Some((_, body))) = (self.rows.get(key), row.body()) {
                check_body(local, key, found, body, 0..body.len() as u64)?;
            }
        }
        Ok(())
    }

    /// The files below `objects/` are exactly those of objects and parts.
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

    /// After a whole pass of the collector: the files are those of objects and parts, no
    /// log file is without use, and nothing is left on the free lists. Dead rows are on them: so they are gone.
    pub(super) fn check_tidiness(&self, local: &Local, disk: &SimulatedDisk) -> Result {
        self.check_files(disk)?;
        if let Some(key) = self.rows.keys().find(|key| is_free_list(key)) {
            return Err(format!("after a collection, {key:?} is still there"));
        }
        let numbers = Packs::numbers(disk).map_err(|e| e.to_string())?;
        let needed = local.first_needed_pack();
        for number in numbers.iter().filter(|&&number| number < needed) {
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

/// No file may ever go to quarantine but damaged ones.
pub(super) fn check_quarantine(disk: &SimulatedDisk, damaged: &[String]) -> Result {
    let name = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let is_damaged = |path: &str| damaged.iter().any(|damaged| name(damaged) == name(path));
    match disk
        .live_files()
        .into_iter()
        .filter(|path| path != "quarantine/index.redb")
        .find(|path| path.starts_with("quarantine/") && !is_damaged(path))
    {
        Some(path) => Err(format!(
            "{path}: a file nobody names was not known as uncommitted"
        )),
        None => Ok(()),
    }
}

/// Reads a piece of a body through the store's own readers.
pub(super) fn check_body(
    local: &Local,
    key: &Key,
    found: &Record,
    body: &Bytes,
    range: Range<u64>,
) -> Result {
    let bytes = read_body(local, found, range.clone()).map_err(|e| format!("{key:?}: {e}"))?;
    if bytes != body[range.start as usize..range.end as usize] {
        return Err(format!("{key:?}: wrong bytes in {range:?} from {found:?}"));
    }
    Ok(())
}

pub(super) fn read_body(local: &Local, found: &Record, range: Range<u64>) -> Result<Bytes> {
    match found.body() {
        None => Err("a row without a body".into()),
        Some((Location::Parts(set), _)) => read_parts(local, set, range),
        Some((location, size)) => read_piece(local, location, size, range),
    }
}

pub(super) fn read_parts(local: &Local, set: &PartSet, range: Range<u64>) -> Result<Bytes> {
    let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
    let mut at = range.start;
    while at < range.end {
        let (number, whole) = set
            .part_at(at)
            .ok_or_else(|| format!("no part of {set:?} has byte {at}"))?;
        let key = Key::Part(set.id, number);
        let part = match local.get(&key) {
            Ok(Some(Record::Part(part))) => part,
            found => return Err(format!("{key:?} is {found:?}")),
        };
        if part.size != whole.end - whole.start {
            return Err(format!("{key:?} is {part:?}, but {set:?}"));
        }
        let end = range.end.min(whole.end);
        let piece = at - whole.start..end - whole.start;
        bytes.extend_from_slice(&read_piece(local, &part.location, part.size, piece)?);
        at = end;
    }
    Ok(bytes.freeze())
}

fn read_piece(local: &Local, location: &Location, size: u64, range: Range<u64>) -> Result<Bytes> {
    let told = |e: std::io::Error| format!("the body at {location:?} cannot be read: {e}");
    match location {
        Location::Empty => Ok(Bytes::new()),
        Location::Here => Err("an index row says that its body is here".into()),
        Location::Parts(_) => Err("a part is made of parts".into()),
        Location::Pack { .. } => match local.open_inline(location) {
            Ok(Some(body)) => body.read(size, range).map_err(told),
            Ok(None) => Err(format!("the body at {location:?} is gone")),
            Err(error) => Err(format!("the body at {location:?}: {error}")),
        },
        Location::File(id) => {
            let reader = local.files.open(*id, size).map_err(told)?;
            reader.read(range).map_err(told)
        }
    }
}

/// True when the row is the one of the model, wherever an inline body lies by now.
pub(super) fn same(found: &Record, row: &Row) -> bool {
    let is_inline = matches!(found.body(), Some((Location::Pack { .. }, _)))
        && matches!(row.body(), Some((Location::Here, _)));
    if is_inline {
        let mut found = found.clone();
        found
            .location_mut()
            .into_iter()
            .for_each(|location| *location = Location::Here);
        return same(&found, row);
    }
    match (found, row) {
        (Record::Bucket(found), Row::Bucket(bucket)) => found == bucket,
        (Record::Object(found), Row::Object(object)) => **found == object.record,
        (Record::Upload(found), Row::Upload(upload)) => **found == **upload,
        (Record::Part(found), Row::Part(part)) => **found == part.record,
        (Record::Session(found), Row::Session(session)) => found == session,
        (Record::Outcome(found), Row::Outcome(outcome)) => **found == **outcome,
        _ => false,
    }
}

/// Counts the references of one body.
fn retain(
    expected: &mut BTreeMap<Key, Record>,
    state: &State,
    location: &Location,
    bytes: u64,
) -> Result {
    match location {
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
                bytes,
            };
            let record = expected.entry(Key::Blob(*id)).or_insert(Record::Blob(none));
            if let Record::Blob(blob) = record {
                blob.references += 1;
            }
        }
        Location::Parts(set) => refer(expected, state, set.id)?,
        Location::Empty | Location::Here => {}
    }
    Ok(())
}

/// Counts one who needs the parts of an upload.
fn refer(expected: &mut BTreeMap<Key, Record>, state: &State, id: UploadId) -> Result {
    let changes = state
        .changes(id)
        .ok_or_else(|| format!("{id:?} is needed, but should not be"))?;
    let none = PartSetRecord {
        changes,
        ..PartSetRecord::default()
    };
    let record = expected
        .entry(Key::PartSet(id))
        .or_insert(Record::PartSet(none));
    if let Record::PartSet(set) = record {
        set.references += 1;
    }
    Ok(())
}

fn path(id: BlobId) -> String {
    format!("{}/{id}", crate::blob::files::shard_dir(id.shard()))
}

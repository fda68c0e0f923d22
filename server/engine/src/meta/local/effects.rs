//! What follows from a change: counters, the free list, references to files, live bytes of packs.
//!
//! One function derives it, at the commit and at replay alike, so none of it has to be in the log.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    error::{Error, ErrorKind, Result},
    meta::{
        Change, Precondition,
        key::{BlobId, BucketId, Key, SessionKey, tag},
        local::{
            Local,
            index::IndexRead,
            log::Position,
            overlay::{Generation, Lookup, Turn},
        },
        record::{
            BlobRecord, BucketStats, Location, ObjectRecord, OutcomeRecord, PackRecord,
            PartSetRecord, Record, SessionRecord,
        },
    },
    planted::{self, Bug},
    types::{SESSION_WINDOW, UploadId},
};

pub mod recount;

/// Rows that tell the collector what to remove.
const FREE_LISTS: [u8; 3] = [tag::FREE, tag::FREE_PART_SET, tag::FREE_BUCKET];

/// The rows as they will be after the batch that is being put together.
pub struct View<'a> {
    turn: Turn<'a>,
    index: IndexRead<'a>,
    local: &'a Local,
    staged: BTreeMap<Vec<u8>, Option<Record>>,
    seen: BTreeMap<Vec<u8>, Option<Record>>,
}

impl<'a> View<'a> {
    /// Looks at the overlay first and begins the read of the index afterwards.
    pub fn new(local: &'a Local) -> Result<Self> {
        let turn = local.overlay.take_turn();
        let index = local.index.read()?;
        let (staged, seen) = Default::default();
        Ok(Self {
            turn,
            index,
            local,
            staged,
            seen,
        })
    }

    fn get(&mut self, key: &Key) -> Result<Option<Record>> {
        let bytes = key.encode();
        if let Some(record) = self.staged.get(&bytes).or_else(|| self.seen.get(&bytes)) {
            return Ok(record.clone());
        }
        let record = match self.turn.get(&bytes) {
            Lookup::Put(row) => Some(decode(&bytes, &row)?),
            Lookup::Deleted => None,
            Lookup::Unknown => self
                .index
                .get(&bytes)?
                .map(|row| decode(&bytes, &row))
                .transpose()?,
        };
        self.seen.insert(bytes, record.clone());
        Ok(record)
    }

    fn put(&mut self, key: &Key, record: Option<Record>) {
        self.staged.insert(key.encode(), record);
    }

    /// The first precondition that does not hold.
    pub fn first_broken(&mut self, requires: &[Precondition]) -> Result<Option<usize>> {
        for (i, precondition) in requires.iter().enumerate() {
            if !self.holds(precondition)? {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    fn holds(&mut self, precondition: &Precondition) -> Result<bool> {
        Ok(match precondition {
            Precondition::Exists(key) => self.get(key)?.is_some(),
            Precondition::Absent(key) => self.get(key)?.is_none(),
            Precondition::BucketIs(name, id) => {
                matches!(self.get(&Key::Bucket(name.clone()))?, Some(Record::Bucket(b)) if b.id == *id)
            }
            Precondition::BucketEmpty(id) => self.stats(*id)?.objects == 0,
            Precondition::ETagIs(key, etag) => {
                self.object(key)?.is_some_and(|object| object.etag == *etag)
            }
            Precondition::ETagIsNot(key, etag) => {
                self.object(key)?.is_none_or(|object| object.etag != *etag)
            }
            Precondition::VersionIs(key, version) => {
                self.get(key)?.and_then(|row| row.version()) == Some(*version)
            }
            Precondition::Is(key, record) => match self.get(key)? {
                Some(row) if planted::is(Bug::RowUnchecked) => row.version() == record.version(),
                row => row.as_ref() == Some(record),
            },
            Precondition::Unanswered(session, sequence) => {
                let is_awaited = self.session(*session)?.lowest <= *sequence;
                let outcome = Key::Outcome(*session, *sequence);
                is_awaited && (self.get(&outcome)?.is_none() || planted::is(Bug::AnswerTwice))
            }
            Precondition::Within {
                bucket,
                key,
                size,
                quota,
            } => {
                let old = self.object(key)?.map_or(0, |object| object.size);
                let others = self.stats(*bucket)?.bytes.saturating_sub(old);
                others.saturating_add(*size) <= *quota
            }
            Precondition::PartsAre(id, changes) => self
                .part_set(*id)?
                .is_some_and(|parts| parts.changes == *changes || planted::is(Bug::PartsUnchecked)),
        })
    }

    /// A batch has records in this pack: from here on its row says what lives there. A pack without one is
    /// not known to be dead.
    pub fn use_pack(&mut self, pack: u32) -> Result<()> {
        if self.live_bytes(pack)?.is_none() {
            let record = Record::Pack(PackRecord { live_bytes: 0 });
            self.put(&Key::Pack(pack), Some(record));
        }
        Ok(())
    }

    /// Applies a change and everything that follows from it. Bodies have their places by now.
    pub fn apply(&mut self, change: Change) -> Result<()> {
        let old = self.get(&change.key)?;
        match (&change.key, &old, &change.record) {
            (Key::Object(bucket, key), _, _) => {
                let old = old.as_ref().and_then(as_object);
                let new = change.record.as_ref().and_then(as_object);
                self.count_objects(*bucket, old, new)?;
                self.list_quarantined(*bucket, key, old, new);
            }
            (Key::Part(id, _), _, new) => self.count_parts(*id, old.is_some(), new.is_some())?,
            (Key::Upload(_, _, id), None, Some(_)) => self.add_reference(*id)?,
            (Key::Upload(_, _, id), Some(_), None) => self.drop_reference(*id)?,
            (Key::Outcome(session, sequence), _, Some(Record::Outcome(new))) => {
                self.forget_answers(*session, *sequence, new)?;
            }
            (Key::Bucket(_), None, Some(Record::Bucket(new))) => {
                let stats = Record::BucketStats(BucketStats::default());
                self.put(&Key::BucketStats(new.id), Some(stats));
            }
            (Key::Bucket(_), Some(Record::Bucket(old)), None) => {
                self.put(&Key::BucketStats(old.id), None);
                // It may have open uploads, which go one after the other.
                if !planted::is(Bug::LeakUploads) {
                    self.put(&Key::FreeBucket(old.id), Some(Record::Free));
                }
            }
            _ => {}
        }
        let (before, after) = (old.as_ref(), change.record.as_ref());
        let (before, after) = (before.and_then(Record::body), after.and_then(Record::body));
        if before.map(|(location, _)| location) != after.map(|(location, _)| location) {
            // Retained first, so that a body never passes through zero references.
            after.map(|body| self.retain(body)).transpose()?;
            let is_leaked = planted::is(Bug::LeakReplacedPart)
                && matches!(change.key, Key::Part(..))
                && after.is_some();
            if !is_leaked {
                before.map(|body| self.release(body)).transpose()?;
            }
        }
        self.put(&change.key, change.record);
        Ok(())
    }

    /// Ends the look and makes the rows visible; the batch is durable up to `position`.
    pub fn publish(self, position: Position) {
        let frees = |(key, record): (&Vec<u8>, &Option<Record>)| {
            FREE_LISTS.contains(&key[0]) && record.is_some()
        };
        let is_wanted = self.staged.iter().any(frees);
        self.turn.publish(encode(self.staged), position);
        // Not before: the collector would look too early, and not again for a long time.
        if is_wanted {
            self.local.collection_wanted();
        }
    }

    /// The rows so far, for a deliberate bug.
    pub(crate) fn staged_rows(&self) -> Generation {
        encode(self.staged.clone())
    }

    fn object(&mut self, key: &Key) -> Result<Option<ObjectRecord>> {
        Ok(self
            .get(key)?
            .and_then(|record| as_object(&record).cloned()))
    }

    fn stats(&mut self, bucket: BucketId) -> Result<BucketStats> {
        match self.get(&Key::BucketStats(bucket))? {
            Some(Record::BucketStats(stats)) => Ok(stats),
            _ => Ok(BucketStats::default()),
        }
    }

    fn count_objects(
        &mut self,
        bucket: BucketId,
        old: Option<&ObjectRecord>,
        new: Option<&ObjectRecord>,
    ) -> Result<()> {
        let mut stats = self.stats(bucket)?;
        if let Some(new) = new {
            stats.objects += 1;
            stats.bytes += new.size;
        }
        if let Some(old) = old {
            stats.objects = self.less(stats.objects, 1);
            stats.bytes = self.less(stats.bytes, old.size);
        }
        self.put(&Key::BucketStats(bucket), Some(Record::BucketStats(stats)));
        Ok(())
    }

    /// The list of quarantined objects follows what their records say.
    fn list_quarantined(
        &mut self,
        bucket: BucketId,
        key: &str,
        old: Option<&ObjectRecord>,
        new: Option<&ObjectRecord>,
    ) {
        let is_in = |object: Option<&ObjectRecord>| object.is_some_and(|o| o.quarantined.is_some());
        if is_in(old) != is_in(new) {
            let record = is_in(new).then_some(Record::Quarantine);
            self.put(&Key::Quarantine(bucket, key.to_owned()), record);
        }
    }

    fn session(&mut self, id: SessionKey) -> Result<SessionRecord> {
        Ok(match self.get(&Key::Session(id))? {
            Some(Record::Session(session)) => session,
            _ => SessionRecord::default(),
        })
    }

    /// Something was answered in a session: the answers that its caller has got by now are kept no longer.
    fn forget_answers(
        &mut self,
        id: SessionKey,
        sequence: u64,
        outcome: &OutcomeRecord,
    ) -> Result<()> {
        let mut session = self.session(id)?;
        let mut lowest = outcome.lowest.min(sequence);
        if planted::is(Bug::ForgetUnread) {
            lowest += 1;
        }
        let from = session.lowest.max(lowest.saturating_sub(SESSION_WINDOW));
        for number in from..lowest {
            let answered = Key::Outcome(id, number);
            if self.get(&answered)?.is_some() {
                self.put(&answered, None);
            }
        }
        if !planted::is(Bug::LowestNotKept) {
            session.lowest = session.lowest.max(lowest);
        }
        session.used = session.used.max(outcome.at);
        self.put(&Key::Session(id), Some(Record::Session(session)));
        Ok(())
    }

    fn retain(&mut self, (location, bytes): (&Location, u64)) -> Result<()> {
        match location {
            Location::Pack {
                pack, record_bytes, ..
            } => {
                let live_bytes = self.live_bytes(*pack)?.unwrap_or(0) + u64::from(*record_bytes);
                let record = Record::Pack(PackRecord { live_bytes });
                self.put(&Key::Pack(*pack), Some(record));
            }
            Location::File(id) => {
                let references = self.references(*id)?.unwrap_or(0) + 1;
                let record = Record::Blob(BlobRecord { references, bytes });
                self.put(&Key::Blob(*id), Some(record));
            }
            // A lost row stays lost: counted anew, the parts would go with the first who gives them up.
            Location::Parts(set) if self.part_set(set.id)?.is_some() => {
                self.add_reference(set.id)?
            }
            Location::Parts(_) | Location::Empty | Location::Here => {}
        }
        Ok(())
    }

    fn release(&mut self, (location, bytes): (&Location, u64)) -> Result<()> {
        match location {
            Location::Pack {
                pack, record_bytes, ..
            } => {
                // A missing row (of a damaged index) stays missing: the collector then looks for itself.
                if let Some(live_bytes) = self.live_bytes(*pack)? {
                    let live_bytes = self.less(live_bytes, (*record_bytes).into());
                    let record = Record::Pack(PackRecord { live_bytes });
                    self.put(&Key::Pack(*pack), Some(record));
                }
            }
            Location::File(id) => match self.references(*id)? {
                // The row was lost: others may have their body in the file, which stays.
                None => {}
                Some(0 | 1) => {
                    if planted::is(Bug::FreeBeforeCommit) {
                        self.local.files.remove_now(*id);
                    }
                    self.put(&Key::Blob(*id), None);
                    self.put(&Key::Free(*id), Some(Record::Free));
                }
                Some(n) => {
                    let references = n - 1;
                    let record = Record::Blob(BlobRecord { references, bytes });
                    self.put(&Key::Blob(*id), Some(record));
                }
            },
            Location::Parts(set) => self.drop_reference(set.id)?,
            Location::Empty | Location::Here => {}
        }
        Ok(())
    }

    /// One more open upload or object needs the parts.
    fn add_reference(&mut self, id: UploadId) -> Result<()> {
        let mut parts = self.part_set(id)?.unwrap_or_default();
        if !(planted::is(Bug::ForgetSharer) && parts.references > 1) {
            parts.references += 1;
        }
        self.put(&Key::PartSet(id), Some(Record::PartSet(parts)));
        Ok(())
    }

    /// One less does; after the last one they go, one after the other.
    fn drop_reference(&mut self, id: UploadId) -> Result<()> {
        // A lost row: somebody may still need the parts.
        let Some(mut parts) = self.part_set(id)? else {
            return Ok(());
        };
        parts.references = parts.references.saturating_sub(1);
        if parts.references == 0 {
            self.put(&Key::PartSet(id), None);
            self.put(&Key::FreePartSet(id), Some(Record::Free));
        } else {
            self.put(&Key::PartSet(id), Some(Record::PartSet(parts)));
        }
        Ok(())
    }

    fn count_parts(&mut self, id: UploadId, was: bool, is: bool) -> Result<()> {
        // There is no such row while the collector removes the parts.
        if let Some(mut parts) = self.part_set(id)? {
            parts.parts = self.less(u64::from(parts.parts) + u64::from(is), was.into()) as u32;
            parts.changes += 1;
            self.put(&Key::PartSet(id), Some(Record::PartSet(parts)));
        }
        Ok(())
    }

    fn part_set(&mut self, id: UploadId) -> Result<Option<PartSetRecord>> {
        Ok(match self.get(&Key::PartSet(id))? {
            Some(Record::PartSet(parts)) => Some(parts),
            _ => None,
        })
    }

    fn live_bytes(&mut self, pack: u32) -> Result<Option<u64>> {
        Ok(match self.get(&Key::Pack(pack))? {
            Some(Record::Pack(record)) => Some(record.live_bytes),
            _ => None,
        })
    }

    fn references(&mut self, id: BlobId) -> Result<Option<u32>> {
        Ok(match self.get(&Key::Blob(id))? {
            Some(Record::Blob(record)) => Some(record.references),
            _ => None,
        })
    }

    /// Counters never run below zero: a lost cause is worth an alarm in tests, not a wrap in production.
    fn less(&self, from: u64, what: u64) -> u64 {
        debug_assert!(
            from >= what || self.local.owes_recount(),
            "a counter would fall below zero: {from} - {what}"
        );
        from.saturating_sub(what)
    }
}

/// Reads the record of a row.
pub fn decode(key: &[u8], row: &[u8]) -> Result<Record> {
    Record::decode(key[0], row).map_err(|error| {
        Error::new(
            ErrorKind::InternalError,
            "A row of the store cannot be read.",
        )
        .with_source(error)
    })
}

fn encode(staged: BTreeMap<Vec<u8>, Option<Record>>) -> Generation {
    staged
        .into_iter()
        .map(|(key, record)| (key, record.map(|record| Arc::from(record.encode()))))
        .collect()
}

fn as_object(record: &Record) -> Option<&ObjectRecord> {
    match record {
        Record::Object(object) => Some(object),
        _ => None,
    }
}

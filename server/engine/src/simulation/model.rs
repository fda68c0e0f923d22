//! What the store should hold: buckets, objects, uploads and parts in a map, changed by the same transactions.
//!
//! The collector's transactions come through here too, so that what is left of the dead is known exactly.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::check;
use crate::{
    meta::{
        Precondition, Transaction,
        key::{BucketId, Key, SessionKey},
        record::{
            BucketRecord, Location, ObjectRecord, OutcomeRecord, PartRecord, Record, SessionRecord,
            UploadRecord,
        },
    },
    types::{SESSION_WINDOW, Timestamp, UploadId},
};

/// How long a session is used after its last request, and how long it is kept, in milliseconds.
pub(super) const SESSION_USED_MS: u64 = 60;
pub(super) const SESSION_KEPT_MS: u64 = 2 * SESSION_USED_MS;

/// The rows that transactions write; what follows from them (counters, references) is recomputed by the check.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) rows: BTreeMap<Key, Row>,
    /// How often parts of an upload came, went or moved, while somebody needs them.
    changes: BTreeMap<UploadId, u64>,
    /// How often the collector has moved the body of a row since it was written.
    moves: BTreeMap<Key, u64>,
    /// The lsn of the last transaction, and of the one that changed each row last, if only by removing it.
    pub(super) lsn: u64,
    pub(super) lsns: BTreeMap<Key, u64>,
    /// What was done in sessions, each of which may be done once.
    once: BTreeSet<(SessionKey, u64)>,
}

#[derive(Clone, Debug)]
pub(super) enum Row {
    Bucket(BucketRecord),
    Object(Arc<Object>),
    Upload(Arc<UploadRecord>),
    Part(Arc<Part>),
    Session(SessionRecord),
    Outcome(Arc<OutcomeRecord>),
}

/// An object as it was committed (an inline body at `Here`), with its body.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) record: ObjectRecord,
    pub(super) body: Bytes,
}

/// A part, likewise.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) record: PartRecord,
    pub(super) body: Bytes,
}

impl Row {
    pub(super) fn record(&self) -> Record {
        match self {
            Row::Bucket(bucket) => Record::Bucket(bucket.clone()),
            Row::Object(object) => Record::Object(Box::new(object.record.clone())),
            Row::Upload(upload) => Record::Upload(Box::new((**upload).clone())),
            Row::Part(part) => Record::Part(Box::new(part.record.clone())),
            Row::Session(session) => Record::Session(*session),
            Row::Outcome(outcome) => Record::Outcome(Box::new((**outcome).clone())),
        }
    }

    pub(super) fn object(&self) -> Option<&Arc<Object>> {
        match self {
            Row::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Where the body is, and the body, if the row is one that has a body.
    pub(super) fn body(&self) -> Option<(&Location, &Bytes)> {
        match self {
            Row::Object(object) => Some((&object.record.location, &object.body)),
            Row::Part(part) => Some((&part.record.location, &part.body)),
            _ => None,
        }
    }

    /// The CRC64 in its record.
    pub(super) fn crc64(&self) -> Option<u64> {
        match self {
            Row::Object(object) => Some(object.record.crc64),
            Row::Part(part) => Some(part.record.crc64),
            _ => None,
        }
    }

    fn version(&self) -> Option<u128> {
        match self {
            Row::Object(object) => Some(object.record.version),
            Row::Part(part) => Some(part.record.version),
            _ => None,
        }
    }

    /// The upload whose parts the object is made of.
    pub(super) fn made_of(&self) -> Option<UploadId> {
        match self.body()? {
            (Location::Parts(set), _) => Some(set.id),
            _ => None,
        }
    }
}

/// What becomes of a row.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Put(Row),
    Delete,
    /// The same row, its body at another place.
    Move,
}

/// A transaction as the model sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Intent {
    pub(super) requires: Vec<Precondition>,
    pub(super) changes: Vec<(Key, Edit)>,
    /// For [`Precondition::Is`]: how often the row had been moved when it was read.
    pub(super) moves_seen: u64,
}

impl Intent {
    /// True when it only deletes.
    pub(super) fn only_deletes(&self) -> bool {
        let is_delete = |(_, edit): &(Key, Edit)| matches!(edit, Edit::Delete);
        self.changes.iter().all(is_delete)
    }

    /// A transaction of the collector: it deletes, and it moves bodies.
    pub(super) fn of_collector(transaction: &Transaction) -> Self {
        let changes = transaction.changes.iter();
        let changes = changes.filter(|change| is_modelled(&change.key));
        Self {
            requires: transaction.requires.clone(),
            changes: changes
                .map(|change| match change.record {
                    Some(_) => (change.key.clone(), Edit::Move),
                    None => (change.key.clone(), Edit::Delete),
                })
                .collect(),
            moves_seen: 0,
        }
    }
}

/// True of the rows that transactions write, and of sessions, which follow; false of all others that follow.
pub(super) fn is_modelled(key: &Key) -> bool {
    matches!(
        key,
        Key::Bucket(_)
            | Key::Object(..)
            | Key::Upload(..)
            | Key::Part(..)
            | Key::Session(_)
            | Key::Outcome(..)
    )
}

/// What each transaction of a batch must answer: `Err` names the precondition that does not hold. `state`
/// becomes what it is after the batch.
pub(super) fn commit(state: &mut State, batch: &[Intent]) -> Vec<Result<(), usize>> {
    batch
        .iter()
        .map(|intent| commit_one(state, intent))
        .collect()
}

pub(super) fn commit_one(state: &mut State, intent: &Intent) -> Result<(), usize> {
    let holds = |r| holds(state, r, intent.moves_seen);
    if let Some(broken) = intent.requires.iter().position(|r| !holds(r)) {
        return Err(broken);
    }
    state.lsn += 1;
    for (key, edit) in &intent.changes {
        if let (Key::Outcome(session, sequence), Edit::Put(_)) = (key, edit) {
            let is_first = state.once.insert((*session, *sequence));
            assert!(is_first, "{key:?} is done a second time");
        }
        state.apply(key, edit);
        state.lsns.insert(key.clone(), state.lsn);
    }
    Ok(())
}

fn holds(state: &State, precondition: &Precondition, moves_seen: u64) -> bool {
    let row = |key| state.rows.get(key);
    let object = |key| row(key).and_then(Row::object);
    match precondition {
        Precondition::Exists(key) => row(key).is_some(),
        Precondition::Absent(key) => row(key).is_none(),
        Precondition::BucketIs(name, id) => {
            matches!(row(&Key::Bucket(name.clone())), Some(Row::Bucket(b)) if b.id == *id)
        }
        Precondition::BucketEmpty(id) => objects(state, *id).next().is_none(),
        Precondition::ETagIs(key, etag) => object(key).is_some_and(|o| o.record.etag == *etag),
        Precondition::ETagIsNot(key, etag) => object(key).is_none_or(|o| o.record.etag != *etag),
        Precondition::VersionIs(key, v) => row(key).and_then(Row::version) == Some(*v),
        Precondition::Is(key, record) => {
            row(key).is_some_and(|row| check::same(record, row)) && state.moves(key) == moves_seen
        }
        Precondition::Unanswered(session, sequence) => {
            let is_answered = row(&Key::Outcome(*session, *sequence)).is_some();
            !is_answered && state.session(*session).lowest <= *sequence
        }
        Precondition::Within {
            bucket,
            key,
            size,
            quota,
        } => {
            let sizes = objects(state, *bucket).map(|(_, object)| object.record.size);
            let old = object(key).map_or(0, |object| object.record.size);
            sizes.sum::<u64>() - old + size <= *quota
        }
        Precondition::PartsAre(id, changes) => state.changes(*id) == Some(*changes),
    }
}

impl State {
    fn apply(&mut self, key: &Key, edit: &Edit) {
        let before = match edit {
            Edit::Put(row) => self.rows.insert(key.clone(), row.clone()),
            Edit::Delete => self.rows.remove(key),
            Edit::Move => None,
        };
        match edit {
            Edit::Move => *self.moves.entry(key.clone()).or_default() += 1,
            _ => drop(self.moves.remove(key)),
        }
        match (key, edit) {
            (Key::Upload(_, _, id), Edit::Put(_)) => drop(self.changes.insert(*id, 0)),
            (Key::Upload(_, _, id), Edit::Delete) => self.forget_unneeded(*id),
            (Key::Outcome(id, sequence), Edit::Put(Row::Outcome(outcome))) => {
                self.forget_answers(*id, *sequence, outcome);
            }
            (Key::Part(id, _), _) => {
                self.changes.entry(*id).and_modify(|changes| *changes += 1);
            }
            _ => {}
        }
        if let Some(id) = before.and_then(|row| row.made_of()) {
            self.forget_unneeded(id);
        }
    }

    /// The answers that the caller has got are kept no longer.
    fn forget_answers(&mut self, id: SessionKey, sequence: u64, outcome: &OutcomeRecord) {
        let mut session = self.session(id);
        let lowest = outcome.lowest.min(sequence);
        let from = session.lowest.max(lowest.saturating_sub(SESSION_WINDOW));
        for number in from..lowest {
            self.rows.remove(&Key::Outcome(id, number));
        }
        session.lowest = session.lowest.max(lowest);
        session.used = session.used.max(outcome.at);
        self.rows.insert(Key::Session(id), Row::Session(session));
    }

    pub(super) fn session(&self, id: SessionKey) -> SessionRecord {
        match self.rows.get(&Key::Session(id)) {
            Some(Row::Session(session)) => *session,
            _ => SessionRecord::default(),
        }
    }

    /// Whether a session, or an answer of it, may be forgotten by now.
    fn is_expired(&self, key: &Key, now: Timestamp) -> bool {
        let (Key::Session(id) | Key::Outcome(id, _)) = key else {
            return false;
        };
        self.session(*id).used.0 + SESSION_KEPT_MS < now.0
    }

    fn forget_unneeded(&mut self, id: UploadId) {
        if !self.needs(id) {
            self.changes.remove(&id);
        }
    }

    /// Whether an open upload or an object has these parts.
    fn needs(&self, id: UploadId) -> bool {
        self.rows.iter().any(|(key, row)| match key {
            Key::Upload(_, _, upload) => *upload == id,
            Key::Object(..) => row.made_of() == Some(id),
            _ => false,
        })
    }

    /// How often parts of an upload came, went or moved; `None` when nobody needs them any more.
    pub(super) fn changes(&self, id: UploadId) -> Option<u64> {
        self.changes.get(&id).copied()
    }

    /// How often the body of a row was moved.
    pub(super) fn moves(&self, key: &Key) -> u64 {
        self.moves.get(key).copied().unwrap_or(0)
    }

    fn has_bucket(&self, id: BucketId) -> bool {
        let mut buckets = self.rows.range(..Key::BucketStats(BucketId(0)));
        buckets.any(|(_, row)| matches!(row, Row::Bucket(bucket) if bucket.id == id))
    }

    /// True of what the collector may remove: parts that nobody needs, uploads of buckets that are gone.
    pub(super) fn is_dead(&self, key: &Key) -> bool {
        match key {
            Key::Upload(bucket, ..) => !self.has_bucket(*bucket),
            Key::Part(id, _) => self.changes(*id).is_none(),
            _ => false,
        }
    }

    /// What will be left when the collector has been everywhere.
    pub(super) fn living(&self) -> Self {
        let mut living = self.clone();
        // Uploads come before parts.
        for key in self.rows.keys() {
            if living.is_dead(key) {
                living.apply(key, &Edit::Delete);
            }
        }
        living
    }

    /// The parts of an upload by their numbers.
    pub(super) fn parts(&self, id: UploadId) -> impl Iterator<Item = (u16, &Arc<Part>)> {
        let range = Key::Part(id, 0)..=Key::Part(id, u16::MAX);
        self.rows
            .range(range)
            .filter_map(|(key, row)| match (key, row) {
                (Key::Part(_, number), Row::Part(part)) => Some((*number, part)),
                _ => None,
            })
    }

    /// Holds a transaction of the collector against what it may do.
    pub(super) fn must_be_tidying(
        &self,
        intent: &Intent,
        is_held: impl Fn(UploadId) -> bool,
        now: Timestamp,
    ) -> Result<(), String> {
        let is_wrong = |(key, edit): &&(Key, Edit)| match (key, edit) {
            (Key::Part(id, _), Edit::Delete) => !self.is_dead(key) || is_held(*id),
            (_, Edit::Delete) => !self.is_dead(key) && !self.is_expired(key, now),
            (_, Edit::Move) => false,
            (_, Edit::Put(_)) => true,
        };
        match intent.changes.iter().find(is_wrong) {
            Some((key, _)) => Err(format!("the collector removes {key:?}, which is needed")),
            None => Ok(()),
        }
    }
}

/// The objects of a bucket in the order of a listing.
pub(super) fn objects(
    state: &State,
    bucket: BucketId,
) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
    let from = Key::Object(bucket, String::new());
    state
        .rows
        .range(from..)
        .take_while(move |(key, _)| matches!(key, Key::Object(id, _) if *id == bucket))
        .filter_map(|(key, row)| Some((key, row.object()?)))
}

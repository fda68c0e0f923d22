//! What the store should hold: buckets and objects in a map, changed by the same transactions.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::meta::{
    Precondition,
    key::{BucketId, Key},
    record::{BucketRecord, ObjectRecord, Record},
};

/// Buckets and objects by key; what follows from them (counters, references) is recomputed by the check.
pub(super) type State = BTreeMap<Key, Row>;

#[derive(Clone, Debug)]
pub(super) enum Row {
    Bucket(BucketRecord),
    Object(Arc<Object>),
}

/// An object as it was committed (an inline body at `Here`), with its body.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) record: ObjectRecord,
    pub(super) body: Bytes,
}

impl Row {
    pub(super) fn record(&self) -> Record {
        match self {
            Row::Bucket(bucket) => Record::Bucket(bucket.clone()),
            Row::Object(object) => Record::Object(Box::new(object.record.clone())),
        }
    }

    pub(super) fn object(&self) -> Option<&Arc<Object>> {
        match self {
            Row::Object(object) => Some(object),
            Row::Bucket(_) => None,
        }
    }
}

/// A transaction as the model sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Intent {
    pub(super) requires: Vec<Precondition>,
    pub(super) changes: Vec<(Key, Option<Row>)>,
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
    if let Some(broken) = intent.requires.iter().position(|r| !holds(state, r)) {
        return Err(broken);
    }
    for (key, row) in &intent.changes {
        match row {
            Some(row) => drop(state.insert(key.clone(), row.clone())),
            None => drop(state.remove(key)),
        }
    }
    Ok(())
}

fn holds(state: &State, precondition: &Precondition) -> bool {
    let object = |key| state.get(key).and_then(Row::object);
    match precondition {
        Precondition::Exists(key) => state.contains_key(key),
        Precondition::Absent(key) => !state.contains_key(key),
        Precondition::BucketIs(name, id) => {
            matches!(state.get(&Key::Bucket(name.clone())), Some(Row::Bucket(b)) if b.id == *id)
        }
        Precondition::BucketEmpty(id) => objects(state, *id).next().is_none(),
        Precondition::ETagIs(key, etag) => object(key).is_some_and(|o| o.record.etag == *etag),
        Precondition::ETagIsNot(key, etag) => object(key).is_none_or(|o| o.record.etag != *etag),
        Precondition::VersionIs(key, v) => object(key).is_some_and(|o| o.record.version == *v),
        Precondition::Is(..) | Precondition::PartsAre(..) => unreachable!("no traffic has these"),
    }
}

/// The objects of a bucket in the order of a listing.
pub(super) fn objects(
    state: &State,
    bucket: BucketId,
) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
    let from = Key::Object(bucket, String::new());
    state
        .range(from..)
        .take_while(move |(key, _)| matches!(key, Key::Object(id, _) if *id == bucket))
        .filter_map(|(key, row)| Some((key, row.object()?)))
}

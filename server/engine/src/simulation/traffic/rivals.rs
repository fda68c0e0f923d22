//! Those who write just the rows whose bodies the collector is about to move.

use std::sync::Arc;

use sha2::Digest;

use super::{Made, Seen, buckets, change_tags, finish, is_bucket, put_body, some_tags};
use crate::{
    disk::simulated::random::Random,
    meta::{
        Precondition, Transaction,
        key::{BucketId, Key},
        local::Local,
        record::Location,
    },
    simulation::model::{Edit, Object, Part, Row, State},
};

/// Transactions on rows that are being moved: those that come before the collector's, and those that have read
/// before it and come after it.
#[derive(Default)]
pub(in crate::simulation) struct Rivals {
    pub(in crate::simulation) early: Vec<Made>,
    pub(in crate::simulation) late: Vec<Made>,
}

/// See [`Rivals`].
pub(in crate::simulation) fn rivals(
    dice: &mut Random,
    (state, local): (&State, &Local),
    next_version: &mut u128,
    moves: &[Transaction],
) -> Rivals {
    let mut rivals = Rivals::default();
    for transaction in moves.iter().filter(|moved| moved.body.is_some()) {
        let key = &transaction.changes[0].key;
        *next_version += 1;
        rivals.early.extend(writer(dice, state, *next_version, key));
        *next_version += 1;
        rivals
            .late
            .extend(tagger(dice, (state, local), *next_version, key));
    }
    rivals
}

/// Deletes or replaces the row.
fn writer(dice: &mut Random, state: &State, version: u128, key: &Key) -> Option<Made> {
    let owner = match key {
        Key::Object(..) => key,
        Key::Part(id, _) => state
            .rows
            .keys()
            .find(|key| matches!(key, Key::Upload(_, _, upload) if upload == id))?,
        _ => return None,
    };
    let mut requires = is_bucket(&bucket_of(state, owner)?);
    if owner != key {
        requires.push(Precondition::Exists(owner.clone()));
    }
    match dice.below(4) {
        // An object goes, or an upload with all its parts.
        0 => {
            let changes = vec![(owner.clone(), Edit::Delete)];
            Some(finish(requires, changes, None, None))
        }
        1 => {
            let row = successor(state.rows.get(key)?, version)?;
            Some(put_body(key.clone(), row, requires, None))
        }
        _ => None,
    }
}

/// Changes tags.
fn tagger(
    dice: &mut Random,
    (state, local): (&State, &Local),
    version: u128,
    key: &Key,
) -> Option<Made> {
    let object = state.rows.get(key)?.object()?.clone();
    let seen = Seen {
        bucket: bucket_of(state, key)?,
        key: key.clone(),
        found: local.get(key).ok()??,
        object,
        moves: state.moves(key),
    };
    let tags = some_tags(dice);
    dice.of_16(8).then(|| change_tags(seen, version, tags))
}

fn bucket_of(state: &State, owner: &Key) -> Option<(String, BucketId)> {
    let (Key::Object(id, _) | Key::Upload(id, ..)) = owner else {
        return None;
    };
    buckets(state).into_iter().find(|(_, other)| other == id)
}

/// The same with a body of its own, one byte shorter.
fn successor(row: &Row, version: u128) -> Option<Row> {
    let (_, body) = row.body()?;
    let body = body.slice(..body.len().checked_sub(1)?);
    let sha256: [u8; 32] = sha2::Sha256::digest(&body).into();
    let (size, location) = (
        body.len() as u64,
        match body.is_empty() {
            true => Location::Empty,
            false => Location::Here,
        },
    );
    Some(match row {
        Row::Object(object) => {
            let mut record = object.record.clone();
            (record.version, record.size, record.location) = (version, size, location);
            record.sha256 = Some(sha256);
            Row::Object(Arc::new(Object { record, body }))
        }
        Row::Part(part) => {
            let mut record = part.record.clone();
            (record.version, record.size, record.location) = (version, size, location);
            record.sha256 = sha256;
            Row::Part(Arc::new(Part { record, body }))
        }
        _ => return None,
    })
}

//! What clients do: batches of transactions as the service makes them, and bodies on their way.

mod bodies;
mod multipart;
mod once;
mod rivals;

use std::sync::Arc;

pub(super) use self::{
    bodies::{Writing, advance_body},
    multipart::{Look, Upload},
    once::Session,
    rivals::rivals,
};
use super::{
    model::{self, Edit, Intent, Object, Row, State},
    world::{Outcome, World},
};
use crate::{
    blob::InFlight,
    disk::simulated::random::Random,
    meta::{
        Body, Change, Precondition, Transaction,
        key::{AccountId, BucketId, Key},
        record::{BucketRecord, Location, Record},
    },
    types::{ETag, Tag, Tags, Timestamp},
};

/// A transaction and what the model makes of it.
type Made = (Transaction, Intent);

/// An object as somebody who is about to change its tags has read it.
#[derive(Clone)]
pub(super) struct Seen {
    bucket: (String, BucketId),
    key: Key,
    found: Record,
    object: Arc<Object>,
    moves: u64,
}

/// The next batch, and what the model makes of it.
pub(super) fn batch(world: &mut World) -> Outcome<(Vec<Transaction>, Vec<Intent>)> {
    let count = 1 + world.dice.below(world.plan.batch_max);
    // Some are written with the batch in mind, some by those who know only what is acknowledged.
    let mut staged = world.acknowledged.clone();
    let (mut transactions, mut intents) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let Some(made) = transaction(world, &staged)? else {
            break;
        };
        let (transaction, intent) = match world.dice.of_16(world.plan.once_of_16) {
            true => once::done_once(world, &staged, made),
            false => made,
        };
        if world.dice.of_16(12) {
            let _ = model::commit_one(&mut staged, &intent);
        }
        transactions.push(transaction);
        intents.push(intent);
    }
    Ok((transactions, intents))
}

/// A new bucket and an object in it, which nothing may refuse.
pub(super) fn certain(world: &mut World) -> (Vec<Transaction>, Vec<Intent>) {
    let bucket = (String::from("last"), BucketId(world.next_bucket));
    world.next_bucket += 1;
    let record = BucketRecord::new(bucket.1, AccountId(7), Timestamp(world.next_bucket));
    let row = (
        Key::Bucket(bucket.0.clone()),
        Edit::Put(Row::Bucket(record)),
    );
    let object = bodies::object(world, None);
    let key = Key::Object(bucket.1, any_key(world));
    [
        finish(Vec::new(), vec![row], None, None),
        put_body(key, object, is_bucket(&bucket), None),
    ]
    .into_iter()
    .unzip()
}

/// For the reader of a story.
pub(super) fn describe(intents: &[Intent]) -> String {
    let one = |intent: &Intent| {
        let changes: Vec<String> = intent.changes.iter().map(describe_change).collect();
        let requires: Vec<String> = intent.requires.iter().map(|r| format!("{r:?}")).collect();
        format!("[{} if {}]", changes.join(", "), requires.join(" and "))
    };
    intents.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn describe_change((key, edit): &(Key, Edit)) -> String {
    match edit {
        Edit::Delete => format!("delete {key:?}"),
        Edit::Move => format!("move {key:?}"),
        Edit::Put(Row::Bucket(bucket)) => format!("create {key:?} as {}", bucket.id.0),
        Edit::Put(Row::Upload(_)) => format!("create {key:?}"),
        Edit::Put(Row::Session(_)) => unreachable!("it follows"),
        Edit::Put(Row::Outcome(outcome)) => format!("answer {key:?}: {outcome:?}"),
        Edit::Put(Row::Object(object)) => format!(
            "put {key:?} version {} of {} bytes at {:?}",
            object.record.version, object.record.size, object.record.location
        ),
        Edit::Put(Row::Part(part)) => format!(
            "put {key:?} version {} of {} bytes at {:?}",
            part.record.version, part.record.size, part.record.location
        ),
    }
}

/// `None` when a body could not be written, or a row not be read.
fn transaction(world: &mut World, staged: &State) -> Outcome<Option<Made>> {
    let buckets = buckets(staged);
    if buckets.is_empty() {
        return Ok(Some(create_bucket(world)));
    }
    if world.dice.below(100) < world.plan.multipart_of_100 {
        return multipart::transaction(world, staged, &buckets);
    }
    // They must go on.
    if world.store().local.full().is_some() && world.dice.of_16(5) {
        return Ok(Some(delete_objects(world, staged, &buckets)));
    }
    let made = match world.dice.below(100) {
        0..3 => create_bucket(world),
        3..6 => delete_bucket(world, &buckets),
        6..20 => delete_objects(world, staged, &buckets),
        20..28 => copy(world, staged, &buckets),
        28..40 => return tag(world, staged, &buckets),
        _ => return put(world, staged, &buckets),
    };
    Ok(Some(made))
}

fn create_bucket(world: &mut World) -> Made {
    let n = world.dice.below(world.plan.buckets);
    let key = world.bucket_key(n);
    let id = BucketId(world.next_bucket);
    world.next_bucket += 1;
    let bucket = BucketRecord::new(id, AccountId(7), Timestamp(world.next_bucket));
    let requires = vec![Precondition::Absent(key.clone())];
    let changes = vec![(key, Edit::Put(Row::Bucket(bucket)))];
    finish(requires, changes, None, None)
}

fn delete_bucket(world: &mut World, buckets: &[(String, BucketId)]) -> Made {
    let bucket = pick(&mut world.dice, buckets).clone();
    let mut requires = is_bucket(&bucket);
    requires.push(Precondition::BucketEmpty(bucket.1));
    let changes = vec![(Key::Bucket(bucket.0), Edit::Delete)];
    finish(requires, changes, None, None)
}

fn delete_objects(world: &mut World, staged: &State, buckets: &[(String, BucketId)]) -> Made {
    let bucket = pick(&mut world.dice, buckets).clone();
    let id = bucket.1;
    let count = [1, 1, 2, 30][world.dice.below(4) as usize];
    let keys: Vec<Key> = model::objects(staged, id)
        .map(|(key, _)| key.clone())
        .collect();
    let mut changes = Vec::new();
    for _ in 0..count {
        let key = match keys.len() as u64 {
            0 => Key::Object(id, any_key(world)),
            n => keys[world.dice.below(n) as usize].clone(),
        };
        if changes.iter().all(|(other, _)| *other != key) {
            changes.push((key, Edit::Delete));
        }
    }
    finish(is_bucket(&bucket), changes, None, None)
}

/// A second object with the same file or parts, or the same inline bytes written again; sometimes in place of
/// the first one.
fn copy(world: &mut World, staged: &State, buckets: &[(String, BucketId)]) -> Made {
    let objects: Vec<(&Key, &Arc<Object>)> = staged
        .rows
        .iter()
        .filter_map(|(key, row)| Some((key, row.object()?)))
        .collect();
    if objects.is_empty() {
        return create_bucket(world);
    }
    let made_of_parts =
        |entry: &&(&Key, &Arc<Object>)| matches!(entry.1.record.location, Location::Parts(_));
    let of_parts = objects.iter().find(made_of_parts);
    let (source, object) = match of_parts.filter(|_| world.dice.of_16(4)) {
        Some(entry) => *entry,
        None => *pick(&mut world.dice, &objects),
    };
    let mut bucket = pick(&mut world.dice, buckets).clone();
    let mut key = Key::Object(bucket.1, any_key(world));
    if world.dice.of_16(3)
        && let Some(own) = bucket_of(source, buckets)
    {
        (bucket, key) = (own, source.clone());
    }
    let mut record = object.record.clone();
    let mut requires = is_bucket(&bucket);
    requires.push(Precondition::VersionIs(source.clone(), record.version));
    record.version = next_version(world);
    if key == *source || world.dice.of_16(4) {
        record.metadata = [("copy".to_owned(), record.version.to_string())].into();
        record.tags = some_tags(&mut world.dice);
    }
    let copied = Object {
        record,
        body: object.body.clone(),
    };
    put_body(key, Row::Object(Arc::new(copied)), requires, None)
}

fn bucket_of(key: &Key, buckets: &[(String, BucketId)]) -> Option<(String, BucketId)> {
    let Key::Object(id, _) = key else { return None };
    buckets.iter().find(|(_, other)| other == id).cloned()
}

/// Other tags for an object, which must still be as it was read, by now or a while ago.
fn tag(world: &mut World, staged: &State, buckets: &[(String, BucketId)]) -> Outcome<Option<Made>> {
    let seen = match world.seen.len() as u64 {
        n if n > 0 && world.dice.of_16(6) => {
            let i = world.dice.below(n) as usize;
            Some(world.seen.swap_remove(i))
        }
        _ => see(world)?,
    };
    let Some(seen) = seen else {
        return put(world, staged, buckets);
    };
    if world.seen.len() < 4 && world.dice.of_16(6) {
        world.seen.push(seen.clone());
    }
    let (version, tags) = (next_version(world), some_tags(&mut world.dice));
    Ok(Some(change_tags(seen, version, tags)))
}

fn change_tags(seen: Seen, version: u128, tags: Tags) -> Made {
    let Seen {
        bucket,
        key,
        found,
        object,
        moves,
    } = seen;
    let mut requires = is_bucket(&bucket);
    requires.push(Precondition::Is(key.clone(), Box::new(found.clone())));
    let mut record = object.record.clone();
    (record.version, record.tags) = (version, tags);
    let body = object.body.clone();
    let row = Row::Object(Arc::new(Object { record, body }));
    let changes = vec![(key, Edit::Put(row))];
    let (mut transaction, mut intent) = finish(requires, changes, None, None);
    // Its body stays where it was read.
    let put = transaction.changes[0].record.as_mut();
    let put = put.and_then(Record::location_mut).expect("an object");
    put.clone_from(found.body().expect("an object").0);
    intent.moves_seen = moves;
    (transaction, intent)
}

/// Reads some object, as it is; `None` when there is none or it cannot be read.
fn see(world: &mut World) -> Outcome<Option<Seen>> {
    let (key, row) = any_row(world, |key| matches!(key, Key::Object(..)));
    let bucket = bucket_of(&key, &buckets(&world.acknowledged));
    let (Some(Row::Object(object)), Some(bucket)) = (row, bucket) else {
        return Ok(None);
    };
    let moves = world.acknowledged.moves(&key);
    let Some(Some(found)) = world.look_up(&key)? else {
        return Ok(None);
    };
    Ok(Some(Seen {
        bucket,
        key,
        found,
        object,
        moves,
    }))
}

/// Up to two tags.
fn some_tags(dice: &mut Random) -> Tags {
    let tag = |n: u64| Tag {
        key: n.to_string(),
        value: "v".into(),
    };
    let first = dice.below(100);
    let tags = first..first + dice.below(3);
    Tags::new(tags.map(tag).collect()).expect("different tags")
}

fn put(world: &mut World, staged: &State, buckets: &[(String, BucketId)]) -> Outcome<Option<Made>> {
    let ready: Vec<usize> = (0..world.writing.len())
        .filter(|&i| world.writing[i].is_ready())
        .collect();
    if !ready.is_empty() && world.dice.of_16(8) {
        let body = world.writing.swap_remove(*pick(&mut world.dice, &ready));
        return Ok(Some(put_written(world, staged, body)));
    }
    let bucket = pick(&mut world.dice, buckets).clone();
    if !world.dice.of_16(world.plan.files_of_16) {
        let key = Key::Object(bucket.1, any_key(world));
        let mut requires = is_bucket(&bucket);
        requires.extend(conditions(world, staged, &key));
        let object = bodies::object(world, None);
        return Ok(Some(put_body(key, object, requires, None)));
    }
    match bodies::begin_object(world, bucket).and_then(|body| body.write_out(world)) {
        Ok(body) => Ok(Some(put_written(world, staged, body))),
        Err(error) => world.excuse(error).map(|()| None),
    }
}

/// The row of an object or part whose body is durable in its file.
fn put_written(world: &mut World, staged: &State, body: Writing) -> Made {
    let mut requires = is_bucket(&body.bucket);
    match &body.upload {
        Some(upload) => requires.push(Precondition::Exists(upload.clone())),
        None => requires.extend(conditions(world, staged, &body.to)),
    }
    let (key, row) = (body.to.clone(), body.row.clone());
    put_body(key, row, requires, Some(body.into_blob()))
}

/// What a client may ask of the object that is there or not.
fn conditions(world: &mut World, staged: &State, key: &Key) -> Option<Precondition> {
    let there = staged.rows.get(key).and_then(Row::object);
    let key = key.clone();
    match (world.dice.below(12), there) {
        (0, _) => Some(Precondition::Absent(key)),
        (1, _) => Some(Precondition::Exists(key)),
        (2, Some(object)) => Some(Precondition::ETagIs(key, object.record.etag.clone())),
        (3, Some(object)) => Some(Precondition::ETagIsNot(key, object.record.etag.clone())),
        (4, Some(object)) => Some(Precondition::VersionIs(key, object.record.version)),
        (5, _) => Some(Precondition::ETagIs(key, ETag::new("another"))),
        _ => None,
    }
}

/// Puts a row with its body, which goes along when it is inline.
fn put_body(key: Key, row: Row, requires: Vec<Precondition>, blob: Option<InFlight>) -> Made {
    let body = match row.body() {
        Some((Location::Here, bytes)) => Some(Body::new(bytes.clone())),
        _ => None,
    };
    finish(requires, vec![(key, Edit::Put(row))], body, blob)
}

fn finish(
    requires: Vec<Precondition>,
    changes: Vec<(Key, Edit)>,
    body: Option<Body>,
    blob: Option<InFlight>,
) -> Made {
    let change = |(key, edit): &(Key, Edit)| match edit {
        Edit::Put(row) => Change::put(key.clone(), row.record()),
        Edit::Delete => Change::delete(key.clone()),
        Edit::Move => unreachable!("only the collector moves"),
    };
    let transaction = Transaction {
        requires: requires.clone(),
        changes: changes.iter().map(change).collect(),
        body,
        blob,
        upkeep: false,
    };
    let intent = Intent {
        requires,
        changes,
        moves_seen: 0,
    };
    (transaction, intent)
}

// Choices.

/// A key of the wanted ones, there or not, and its row.
pub(super) fn any_row(world: &mut World, wanted: fn(&Key) -> bool) -> (Key, Option<Row>) {
    let keys = world.acknowledged.rows.keys();
    let keys: Vec<&Key> = keys.filter(|key| wanted(key)).collect();
    let key = match keys.len() as u64 {
        n if n > 0 && world.dice.of_16(14) => keys[world.dice.below(n) as usize].clone(),
        _ => {
            let id = BucketId(world.dice.below(world.next_bucket));
            Key::Object(id, any_key(world))
        }
    };
    let row = world.acknowledged.rows.get(&key).cloned();
    (key, row)
}

fn next_version(world: &mut World) -> u128 {
    world.next_version += 1;
    world.next_version
}

fn any_key(world: &mut World) -> String {
    format!("{}/key", world.dice.below(world.plan.keys))
}

fn buckets(state: &State) -> Vec<(String, BucketId)> {
    let bucket = |(key, row): (&Key, &Row)| match (key, row) {
        (Key::Bucket(name), Row::Bucket(bucket)) => Some((name.clone(), bucket.id)),
        _ => None,
    };
    state.rows.iter().map_while(bucket).collect()
}

fn is_bucket((name, id): &(String, BucketId)) -> Vec<Precondition> {
    vec![Precondition::BucketIs(name.clone(), *id)]
}

fn pick<'a, T>(dice: &mut Random, choices: &'a [T]) -> &'a T {
    &choices[dice.below(choices.len() as u64) as usize]
}

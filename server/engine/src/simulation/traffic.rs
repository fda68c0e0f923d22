//! What clients do: batches of transactions as the service makes them, and bodies on their way.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    model::{self, Intent, Object, Row, State},
    world::{Outcome, World},
};
use crate::{
    blob::{BlobStore, BlobWriter, Description, InFlight},
    disk::simulated::random::Random,
    meta::{
        Body, Change, Precondition, Transaction,
        key::{AccountId, BucketId, Key},
        record::{BucketRecord, Location, ObjectRecord},
    },
    types::{ChecksumType, ContentHeaders, ETag, Timestamp},
};

/// A body that goes to a file of its own.
pub(super) struct Upload {
    bucket: (String, BucketId),
    key: String,
    object: Arc<Object>,
    state: Progress,
}

enum Progress {
    Writing {
        writer: Box<dyn BlobWriter>,
        written: usize,
    },
    Ready(InFlight),
}

/// The next batch, and what the model makes of it.
pub(super) fn batch(world: &mut World) -> Outcome<(Vec<Transaction>, Vec<Intent>)> {
    let count = 1 + world.dice.below(world.plan.batch_max);
    // Some are written with the batch in mind, some by those who know only what is acknowledged.
    let mut staged = world.acknowledged.clone();
    let (mut transactions, mut intents) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let Some((transaction, intent)) = transaction(world, &staged)? else {
            break;
        };
        if world.dice.of_16(12) {
            let _ = model::commit_one(&mut staged, &intent);
        }
        transactions.push(transaction);
        intents.push(intent);
    }
    Ok((transactions, intents))
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

fn describe_change((key, row): &(Key, Option<Row>)) -> String {
    match row {
        None => format!("delete {key:?}"),
        Some(Row::Bucket(bucket)) => format!("create {key:?} as {}", bucket.id.0),
        Some(Row::Object(object)) => format!(
            "put {key:?} version {} of {} bytes at {:?}",
            object.record.version, object.record.size, object.record.location
        ),
    }
}

fn transaction(world: &mut World, staged: &State) -> Outcome<Option<(Transaction, Intent)>> {
    let buckets = buckets(staged);
    let made = match world.dice.below(100) {
        _ if buckets.is_empty() => create_bucket(world, staged),
        0..3 => create_bucket(world, staged),
        3..6 => delete_bucket(world, &buckets),
        6..22 => delete_objects(world, staged, &buckets),
        22..28 => copy(world, staged, &buckets),
        _ => return put(world, staged, &buckets),
    };
    Ok(Some(made))
}

fn create_bucket(world: &mut World, staged: &State) -> (Transaction, Intent) {
    let n = world.dice.below(world.plan.buckets);
    let key = world.bucket_key(n);
    let id = BucketId(world.next_bucket);
    world.next_bucket += 1;
    let bucket = BucketRecord {
        id,
        owner: AccountId(7),
        created: Timestamp(world.next_bucket),
        public_read: false,
    };
    let _ = staged;
    let requires = vec![Precondition::Absent(key.clone())];
    finish(requires, vec![(key, Some(Row::Bucket(bucket)))], None, None)
}

fn delete_bucket(world: &mut World, buckets: &[(String, BucketId)]) -> (Transaction, Intent) {
    let (name, id) = pick(&mut world.dice, buckets).clone();
    let mut requires = is_bucket(&name, id);
    requires.push(Precondition::BucketEmpty(id));
    finish(requires, vec![(Key::Bucket(name), None)], None, None)
}

fn delete_objects(
    world: &mut World,
    staged: &State,
    buckets: &[(String, BucketId)],
) -> (Transaction, Intent) {
    let (name, id) = pick(&mut world.dice, buckets).clone();
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
            changes.push((key, None));
        }
    }
    finish(is_bucket(&name, id), changes, None, None)
}

/// A second object with the same file, or the same inline bytes written again.
fn copy(
    world: &mut World,
    staged: &State,
    buckets: &[(String, BucketId)],
) -> (Transaction, Intent) {
    let objects: Vec<(&Key, &Arc<Object>)> = staged
        .iter()
        .filter_map(|(key, row)| Some((key, row.object()?)))
        .collect();
    if objects.is_empty() {
        return create_bucket(world, staged);
    }
    let (source, object) = *pick(&mut world.dice, &objects);
    let (name, id) = pick(&mut world.dice, buckets).clone();
    let mut record = object.record.clone();
    let mut requires = is_bucket(&name, id);
    requires.push(Precondition::VersionIs(source.clone(), record.version));
    record.version = next_version(world);
    let copied = Object {
        record,
        body: object.body.clone(),
    };
    put_change(
        Key::Object(id, any_key(world)),
        Arc::new(copied),
        requires,
        None,
    )
}

fn put(
    world: &mut World,
    staged: &State,
    buckets: &[(String, BucketId)],
) -> Outcome<Option<(Transaction, Intent)>> {
    let ready: Vec<usize> = (0..world.uploads.len())
        .filter(|&i| matches!(world.uploads[i].state, Progress::Ready(_)))
        .collect();
    if !ready.is_empty() && world.dice.of_16(8) {
        let upload = world.uploads.swap_remove(*pick(&mut world.dice, &ready));
        return Ok(Some(put_upload(world, staged, upload)));
    }
    let (name, id) = pick(&mut world.dice, buckets).clone();
    if !world.dice.of_16(world.plan.files_of_16) {
        let key = Key::Object(id, any_key(world));
        let requires = put_requires(world, staged, &name, id, &key);
        let object = object(world, None);
        return Ok(Some(put_change(key, object, requires, None)));
    }
    match begin_upload(world, (name, id)).and_then(|mut upload| {
        while !advance(world, &mut upload, usize::MAX)? {}
        Ok(upload)
    }) {
        Ok(upload) => Ok(Some(put_upload(world, staged, upload))),
        Err(error) => match world.is_excused() {
            true => Ok(None),
            false => Err(format!("a body could not be written: {error}")),
        },
    }
}

fn put_upload(world: &mut World, staged: &State, upload: Upload) -> (Transaction, Intent) {
    let Upload {
        bucket: (name, id),
        key,
        object,
        state,
    } = upload;
    let key = Key::Object(id, key);
    let requires = put_requires(world, staged, &name, id, &key);
    let blob = match state {
        Progress::Ready(blob) => Some(blob),
        Progress::Writing { .. } => unreachable!("only finished bodies are committed"),
    };
    put_change(key, object, requires, blob)
}

fn put_requires(
    world: &mut World,
    staged: &State,
    name: &str,
    id: BucketId,
    key: &Key,
) -> Vec<Precondition> {
    let mut requires = is_bucket(name, id);
    let there = staged.get(key).and_then(Row::object);
    let key = key.clone();
    requires.extend(match (world.dice.below(12), there) {
        (0, _) => Some(Precondition::Absent(key)),
        (1, _) => Some(Precondition::Exists(key)),
        (2, Some(object)) => Some(Precondition::ETagIs(key, object.record.etag.clone())),
        (3, Some(object)) => Some(Precondition::ETagIsNot(key, object.record.etag.clone())),
        (4, Some(object)) => Some(Precondition::VersionIs(key, object.record.version)),
        (5, _) => Some(Precondition::ETagIs(key, ETag::new("another"))),
        _ => None,
    });
    requires
}

fn put_change(
    key: Key,
    object: Arc<Object>,
    requires: Vec<Precondition>,
    blob: Option<InFlight>,
) -> (Transaction, Intent) {
    let here = object.record.location == Location::Here;
    let body = here.then(|| Body::new(object.body.clone()));
    finish(requires, vec![(key, Some(Row::Object(object)))], body, blob)
}

fn finish(
    requires: Vec<Precondition>,
    changes: Vec<(Key, Option<Row>)>,
    body: Option<Body>,
    blob: Option<InFlight>,
) -> (Transaction, Intent) {
    let change = |(key, row): &(Key, Option<Row>)| Change {
        key: key.clone(),
        record: row.as_ref().map(Row::record),
    };
    let transaction = Transaction {
        requires: requires.clone(),
        changes: changes.iter().map(change).collect(),
        body,
        blob,
    };
    (transaction, Intent { requires, changes })
}

// Bodies in files.

/// Goes on with an upload that is held open over several steps, or begins one.
pub(super) fn advance_upload(world: &mut World) -> io::Result<()> {
    let buckets = buckets(&world.acknowledged);
    let writing = world
        .uploads
        .iter()
        .position(|u| matches!(u.state, Progress::Writing { .. }));
    match writing {
        Some(i) => {
            let mut upload = world.uploads.swap_remove(i);
            let n = 1 + world.dice.below(upload.object.body.len() as u64) as usize;
            let done = advance(world, &mut upload, n)?;
            world
                .story
                .tell(&[20, done.into()], || format!("write on (done: {done})"));
            world.uploads.push(upload);
        }
        None if !buckets.is_empty() && world.uploads.len() < 4 => {
            let bucket = pick(&mut world.dice, &buckets).clone();
            let upload = begin_upload(world, bucket)?;
            world.story.tell(&[21], || {
                format!("begin to write {:?}", upload.object.record.location)
            });
            world.uploads.push(upload);
        }
        None => {}
    }
    Ok(())
}

fn begin_upload(world: &mut World, bucket: (String, BucketId)) -> io::Result<Upload> {
    let writer = world.store().local.files.create()?;
    let object = object(world, Some(&*writer));
    let key = any_key(world);
    Ok(Upload {
        bucket,
        key,
        object,
        state: Progress::Writing { writer, written: 0 },
    })
}

/// Writes at most `n` more bytes; true when the body is durable.
fn advance(world: &mut World, upload: &mut Upload, n: usize) -> io::Result<bool> {
    let Progress::Writing { writer, written } = &mut upload.state else {
        return Ok(true);
    };
    let body = &upload.object.body;
    let end = written.saturating_add(n).min(body.len());
    // In pieces of any length.
    let cut = *written + world.dice.below((end - *written) as u64 + 1) as usize;
    writer.write(&body[*written..cut])?;
    writer.write(&body[cut..end])?;
    *written = end;
    if end < body.len() {
        return Ok(false);
    }
    // Finishing takes the writer; an error leaves an upload that is dropped.
    let unit = Progress::Writing {
        writer: Box::new(Gone),
        written: 0,
    };
    let Progress::Writing { writer, .. } = std::mem::replace(&mut upload.state, unit) else {
        unreachable!("it was being written")
    };
    let description = Description {
        bucket: upload.bucket.1,
        key: &upload.key,
        row: &Key::Object(upload.bucket.1, upload.key.clone()),
        record: &Row::Object(upload.object.clone()).record(),
    };
    upload.state = Progress::Ready(writer.finish(description)?);
    Ok(true)
}

/// Stands where a writer was.
struct Gone;

impl BlobWriter for Gone {
    fn id(&self) -> crate::meta::key::BlobId {
        Default::default()
    }

    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn finish(self: Box<Self>, _: Description<'_>) -> io::Result<InFlight> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

// Choices.

/// A key, there or not, and its object.
pub(super) fn any_object(world: &mut World) -> (Key, Option<Arc<Object>>) {
    let objects: Vec<&Key> = world
        .acknowledged
        .keys()
        .filter(|key| matches!(key, Key::Object(..)))
        .collect();
    let key = match objects.len() as u64 {
        n if n > 0 && world.dice.of_16(14) => objects[world.dice.below(n) as usize].clone(),
        _ => {
            let id = BucketId(world.dice.below(world.next_bucket));
            Key::Object(id, any_key(world))
        }
    };
    let object = world.acknowledged.get(&key).and_then(Row::object).cloned();
    (key, object)
}

/// A new object with a body of its own, inline without a writer.
fn object(world: &mut World, writer: Option<&dyn BlobWriter>) -> Arc<Object> {
    let size = match writer {
        None if world.dice.of_16(1) => 0,
        None => 1 + world.dice.below(world.plan.inline_max),
        Some(_) if world.dice.of_16(1) => 2048 + world.dice.below(200 << 10),
        Some(_) => 2048 + world.dice.below(10 << 10),
    };
    let seed = world.dice.next();
    let location = match writer {
        Some(writer) => Location::File(writer.id()),
        None if size == 0 => Location::Empty,
        None => Location::Here,
    };
    let record = ObjectRecord {
        version: next_version(world),
        modified: world.env.clock.now(),
        size,
        sha256: [seed as u8; 32],
        crc64: seed,
        etag: ETag::new(format!("{seed:016x}")),
        checksum: None,
        checksum_type: ChecksumType::FullObject,
        location,
        headers: ContentHeaders::default(),
        metadata: Default::default(),
        tags: Default::default(),
    };
    Arc::new(Object {
        record,
        body: body(seed, size),
    })
}

/// The bytes that follow from a seed.
fn body(seed: u64, size: u64) -> Bytes {
    let mut random = Random::new(seed);
    let mut bytes = vec![0; size as usize];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    bytes.into()
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
    state.iter().map_while(bucket).collect()
}

fn is_bucket(name: &str, id: BucketId) -> Vec<Precondition> {
    vec![Precondition::BucketIs(name.to_owned(), id)]
}

fn pick<'a, T>(dice: &mut Random, choices: &'a [T]) -> &'a T {
    &choices[dice.below(choices.len() as u64) as usize]
}

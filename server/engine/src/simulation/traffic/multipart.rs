//! Multipart uploads as the service makes them, and some of its requests come too late.

use std::sync::Arc;

use bytes::BytesMut;

use super::{
    Made, any_key, bodies, conditions, finish, is_bucket, next_version, pick, put_body,
    put_written, some_tags,
};
use crate::{
    disk::simulated::random::Random,
    meta::{
        Precondition,
        key::{AccountId, BucketId, Key},
        record::{Location, ObjectRecord, PartSet, UploadRecord},
    },
    service::multipart::completion_changes,
    simulation::{
        model::{Edit, Object, Part, Row, State},
        world::{Outcome, World},
    },
    types::{ChecksumType, ContentHeaders, ETag, UploadId},
};

/// Uploads that clients remember, ended ones among them.
const REMEMBERED: usize = 8;
/// Completes that have looked at the parts, and wait.
const LOOKS: usize = 4;

/// An upload as its client knows it.
#[derive(Clone, Debug)]
pub(in crate::simulation) struct Upload {
    pub(super) bucket: (String, BucketId),
    pub(super) key: String,
    pub(super) id: UploadId,
}

impl Upload {
    pub(super) fn row(&self) -> Key {
        Key::Upload(self.bucket.1, self.key.clone(), self.id)
    }
}

/// What a Complete has seen before it commits.
#[derive(Clone)]
pub(in crate::simulation) struct Look {
    upload: Upload,
    record: Arc<UploadRecord>,
    changes: u64,
    parts: Vec<(u16, Arc<Part>)>,
}

/// One transaction on an upload; `None` when a body could not be written.
pub(super) fn transaction(
    world: &mut World,
    staged: &State,
    buckets: &[(String, BucketId)],
) -> Outcome<Option<Made>> {
    if !world.looks.is_empty() && world.dice.of_16(3) {
        // Once more now and then: the answer may have been lost.
        let i = world.dice.below(world.looks.len() as u64) as usize;
        let look = match world.dice.of_16(8) {
            true => world.looks[i].clone(),
            false => world.looks.swap_remove(i),
        };
        return Ok(Some(complete(world, staged, look)));
    }
    let upload = match world.dice.of_16(13) {
        true => open_upload(&mut world.dice, staged),
        false if world.remembered.is_empty() => None,
        false => Some(pick(&mut world.dice, &world.remembered).clone()),
    };
    let Some(upload) = upload.filter(|_| !world.dice.of_16(1)) else {
        return Ok(Some(create(world, buckets)));
    };
    match world.dice.below(16) {
        0..9 => return upload_part(world, &upload),
        9..11 => {
            if let Some(look) = look(world, &upload) {
                keep(&mut world.looks, look, LOOKS);
            }
        }
        11..14 => {
            if let Some(look) = look(world, &upload) {
                if world.dice.of_16(6) {
                    keep(&mut world.looks, look.clone(), LOOKS);
                }
                return Ok(Some(complete(world, staged, look)));
            }
        }
        14 => return Ok(Some(create(world, buckets))),
        _ => return Ok(Some(abort(&upload))),
    }
    upload_part(world, &upload)
}

/// Some upload that is open, of a bucket that is there.
pub(super) fn open_upload(dice: &mut Random, state: &State) -> Option<Upload> {
    let buckets = super::buckets(state);
    let open = state.rows.keys().filter_map(|key| match key {
        Key::Upload(bucket, key, id) => Some(Upload {
            bucket: buckets.iter().find(|(_, id)| id == bucket)?.clone(),
            key: key.clone(),
            id: *id,
        }),
        _ => None,
    });
    let open: Vec<Upload> = open.collect();
    match open.is_empty() {
        true => None,
        false => Some(pick(dice, &open).clone()),
    }
}

/// A number that a part may have; few, so that parts are replaced.
pub(super) fn any_number(world: &mut World) -> u16 {
    1 + world.dice.below(world.plan.parts) as u16
}

fn create(world: &mut World, buckets: &[(String, BucketId)]) -> Made {
    let bucket = pick(&mut world.dice, buckets).clone();
    let upload = Upload {
        bucket,
        key: any_key(world),
        id: UploadId(next_version(world) << 80 | u128::from(world.dice.next())),
    };
    let n = world.dice.below(3);
    let record = UploadRecord {
        initiated: world.env.clock.now(),
        initiator: AccountId(7),
        checksum_algorithm: None,
        checksum_type: ChecksumType::FullObject,
        headers: ContentHeaders::default(),
        metadata: (0..n).map(|n| (n.to_string(), "v".to_owned())).collect(),
        tags: some_tags(&mut world.dice),
    };
    keep(&mut world.remembered, upload.clone(), REMEMBERED);
    let changes = vec![(upload.row(), Edit::Put(Row::Upload(Arc::new(record))))];
    finish(is_bucket(&upload.bucket), changes, None, None)
}

fn upload_part(world: &mut World, upload: &Upload) -> Outcome<Option<Made>> {
    let number = any_number(world);
    if !world.dice.of_16(world.plan.files_of_16) {
        let row = bodies::part(world, None);
        let key = Key::Part(upload.id, number);
        return Ok(Some(put_body(key, row, is_open(upload), None)));
    }
    match bodies::begin_part(world, upload, number).and_then(|body| body.write_out(world)) {
        Ok(body) => Ok(Some(put_written(world, &State::default(), body))),
        Err(error) => world.excuse(error).map(|()| None),
    }
}

fn is_open(upload: &Upload) -> Vec<Precondition> {
    let mut requires = is_bucket(&upload.bucket);
    requires.push(Precondition::Exists(upload.row()));
    requires
}

/// What the service reads before a Complete: what is acknowledged, be it overtaken by then.
fn look(world: &World, upload: &Upload) -> Option<Look> {
    let state = &world.acknowledged;
    let Some(Row::Upload(record)) = state.rows.get(&upload.row()) else {
        return None;
    };
    let parts = state.parts(upload.id);
    let parts: Vec<_> = parts.map(|(number, part)| (number, part.clone())).collect();
    (!parts.is_empty()).then(|| Look {
        upload: upload.clone(),
        record: record.clone(),
        changes: state.changes(upload.id).unwrap_or(0),
        parts,
    })
}

/// An object of some of the parts; the others go.
fn complete(world: &mut World, staged: &State, look: Look) -> Made {
    let Look { upload, record, .. } = &look;
    let mut set = PartSet {
        id: upload.id,
        runs: Vec::new(),
    };
    let last = look.parts.len() - 1;
    let (mut body, mut unused) = (BytesMut::new(), Vec::new());
    for (i, (number, part)) in look.parts.iter().enumerate() {
        // One at least.
        if world.dice.of_16(12) || (i == last && set.runs.is_empty()) {
            set.push(*number, part.record.size);
            body.extend_from_slice(&part.body);
        } else {
            unused.push(*number);
        }
    }
    let seed = world.dice.next();
    let object = ObjectRecord {
        version: next_version(world),
        modified: world.env.clock.now(),
        size: body.len() as u64,
        sha256: Some([seed as u8; 32]),
        crc64: seed,
        etag: ETag::new(format!("{seed:016x}-{}", set.count())),
        checksum: None,
        checksum_type: record.checksum_type,
        location: Location::Parts(set),
        headers: record.headers.clone(),
        metadata: record.metadata.clone(),
        tags: record.tags.clone(),
        quarantined: None,
    };
    let mut requires = is_open(upload);
    requires.push(Precondition::PartsAre(upload.id, look.changes));
    let key = Key::Object(upload.bucket.1, upload.key.clone());
    requires.extend(conditions(world, staged, &key));
    let row = Row::Object(Arc::new(Object {
        record: object.clone(),
        body: body.freeze(),
    }));
    // In the order of the service.
    let changes = completion_changes(key, object, upload.row(), unused);
    let changes = changes.into_iter().map(|change| match change.record {
        Some(_) => (change.key, Edit::Put(row.clone())),
        None => (change.key, Edit::Delete),
    });
    finish(requires, changes.collect(), None, None)
}

fn abort(upload: &Upload) -> Made {
    let changes = vec![(upload.row(), Edit::Delete)];
    finish(is_open(upload), changes, None, None)
}

/// Adds to what is remembered; the oldest is forgotten.
fn keep<T>(all: &mut Vec<T>, one: T, most: usize) {
    if all.len() == most {
        all.remove(0);
    }
    all.push(one);
}

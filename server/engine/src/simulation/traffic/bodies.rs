//! Bodies with the rows that they come with, and those that go to files, held open over several steps.

use std::{io, sync::Arc};

use bytes::Bytes;
use sha2::Digest;

use super::{any_key, buckets, multipart, next_version, pick};
use crate::{
    blob::{BlobStore, BlobWriter, Description, InFlight},
    disk::simulated::random::Random,
    meta::{
        key::{BlobId, BucketId, Key},
        record::{Location, ObjectRecord, PartRecord},
    },
    simulation::{
        model::{Object, Part, Row},
        world::World,
    },
    types::{ChecksumType, ContentHeaders, ETag},
};

/// A body that goes to a file of its own.
pub(in crate::simulation) struct Writing {
    pub(super) bucket: (String, BucketId),
    /// The key of the object, or of the object that the part is for.
    key: String,
    pub(super) to: Key,
    /// The upload that a part is for.
    pub(super) upload: Option<Key>,
    pub(super) row: Row,
    state: Progress,
}

enum Progress {
    Writing {
        writer: Box<dyn BlobWriter>,
        written: usize,
    },
    Ready(InFlight),
}

/// Goes on with a body that is held open over several steps, or begins one.
pub(in crate::simulation) fn advance_body(world: &mut World) -> io::Result<()> {
    let buckets = buckets(&world.acknowledged);
    let writing = world.writing.iter().position(|body| !body.is_ready());
    match writing {
        Some(i) => {
            let mut body = world.writing.swap_remove(i);
            let n = 1 + world.dice.below(body.bytes().len() as u64) as usize;
            let done = body.advance(world, n)?;
            world
                .story
                .tell(&[20, done.into()], || format!("write on (done: {done})"));
            world.writing.push(body);
        }
        None if !buckets.is_empty() && world.writing.len() < 4 => {
            let body = begin_any(world, &buckets)?;
            world
                .story
                .tell(&[21], || format!("begin to write {:?}", body.row.record()));
            world.writing.push(body);
        }
        None => {}
    }
    Ok(())
}

fn begin_any(world: &mut World, buckets: &[(String, BucketId)]) -> io::Result<Writing> {
    if world.dice.of_16(8)
        && let Some(upload) = multipart::open_upload(&mut world.dice, &world.acknowledged)
    {
        let number = multipart::any_number(world);
        return begin_part(world, &upload, number);
    }
    let bucket = pick(&mut world.dice, buckets).clone();
    begin_object(world, bucket)
}

/// Begins the body of an object.
pub(super) fn begin_object(world: &mut World, bucket: (String, BucketId)) -> io::Result<Writing> {
    let writer = world.store().local.files.create()?;
    let row = object(world, Some(&*writer));
    let key = any_key(world);
    Ok(Writing {
        to: Key::Object(bucket.1, key.clone()),
        bucket,
        key,
        upload: None,
        row,
        state: Progress::Writing { writer, written: 0 },
    })
}

/// Begins the body of a part.
pub(super) fn begin_part(
    world: &mut World,
    upload: &multipart::Upload,
    number: u16,
) -> io::Result<Writing> {
    let writer = world.store().local.files.create()?;
    let row = part(world, Some(&*writer));
    Ok(Writing {
        bucket: upload.bucket.clone(),
        key: upload.key.clone(),
        to: Key::Part(upload.id, number),
        upload: Some(upload.row()),
        row,
        state: Progress::Writing { writer, written: 0 },
    })
}

impl Writing {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, Progress::Ready(_))
    }

    fn bytes(&self) -> &Bytes {
        self.row.body().expect("what is written has a body").1
    }

    /// Writes all that is left.
    pub(super) fn write_out(mut self, world: &mut World) -> io::Result<Self> {
        while !self.advance(world, usize::MAX)? {}
        Ok(self)
    }

    /// Writes at most `n` more bytes; true when the body is durable.
    fn advance(&mut self, world: &mut World, n: usize) -> io::Result<bool> {
        let body = self.bytes().clone();
        let Progress::Writing { writer, written } = &mut self.state else {
            return Ok(true);
        };
        let end = written.saturating_add(n).min(body.len());
        // In pieces of any length.
        let cut = *written + world.dice.below((end - *written) as u64 + 1) as usize;
        writer.write(&body[*written..cut])?;
        writer.write(&body[cut..end])?;
        *written = end;
        if end < body.len() {
            return Ok(false);
        }
        // Finishing takes the writer; an error leaves a body that is dropped.
        let unit = Progress::Writing {
            writer: Box::new(Gone),
            written: 0,
        };
        let Progress::Writing { writer, .. } = std::mem::replace(&mut self.state, unit) else {
            unreachable!("it was being written")
        };
        let description = Description {
            bucket: self.bucket.1,
            key: &self.key,
            row: &self.to,
            record: &self.row.record(),
        };
        self.state = Progress::Ready(writer.finish(description)?);
        Ok(true)
    }

    /// The guard of the durable file.
    pub(super) fn into_blob(self) -> InFlight {
        match self.state {
            Progress::Ready(blob) => blob,
            Progress::Writing { .. } => unreachable!("only finished bodies are committed"),
        }
    }
}

/// Stands where a writer was.
struct Gone;

impl BlobWriter for Gone {
    fn id(&self) -> BlobId {
        Default::default()
    }

    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn finish(self: Box<Self>, _: Description<'_>) -> io::Result<InFlight> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// A new object with a body of its own, inline without a writer.
pub(super) fn object(world: &mut World, writer: Option<&dyn BlobWriter>) -> Row {
    let (seed, body, location) = body(world, writer);
    // Some are put without, and have their CRC64 alone then.
    let (sha256, crc64) = match world.dice.of_16(3) {
        true => (None, crc64(&body)),
        false => (Some(sha2::Sha256::digest(&body).into()), seed),
    };
    let record = ObjectRecord {
        version: next_version(world),
        modified: world.env.clock.now(),
        size: body.len() as u64,
        sha256,
        crc64,
        etag: ETag::new(format!("{seed:016x}")),
        checksum: None,
        checksum_type: ChecksumType::FullObject,
        location,
        headers: ContentHeaders::default(),
        metadata: Default::default(),
        tags: Default::default(),
        quarantined: None,
    };
    Row::Object(Arc::new(Object { record, body }))
}

fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// A new part, likewise.
pub(super) fn part(world: &mut World, writer: Option<&dyn BlobWriter>) -> Row {
    let (seed, body, location) = body(world, writer);
    let record = PartRecord {
        version: next_version(world),
        modified: world.env.clock.now(),
        size: body.len() as u64,
        md5: [seed as u8; 16],
        sha256: sha2::Sha256::digest(&body).into(),
        crc64: seed,
        checksum: None,
        location,
    };
    Row::Part(Arc::new(Part { record, body }))
}

fn body(world: &mut World, writer: Option<&dyn BlobWriter>) -> (u64, Bytes, Location) {
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
    (seed, bytes(seed, size), location)
}

/// The bytes that follow from a seed.
fn bytes(seed: u64, size: u64) -> Bytes {
    let mut random = Random::new(seed);
    let mut bytes = vec![0; size as usize];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    bytes.into()
}

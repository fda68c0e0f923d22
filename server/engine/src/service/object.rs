//! Objects: put, get, head, delete.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use crate::{
    auth::{Action, Caller},
    blob::{BlobReader, BlobStore, BlobWriter, Description},
    digest::Digests,
    error::{Error, ErrorKind, Result},
    meta::{
        BLOCK_BYTES, Body, Change, CommitError, InlineBody, Precondition, Transaction,
        key::{BlobId, Key},
        record::{BucketRecord, Location, ObjectRecord, Record},
    },
    service::{Buffer, Requirements, Service, blocking},
    types::{
        BucketName, ByteRange, Checksum, ChecksumAlgorithm, METADATA_BYTES_MAX, ObjectInfo,
        ObjectKey, PUT_BYTES_MAX, PutOptions,
    },
};

/// Bytes that go from socket to disk and back at a time.
pub const CHUNK_BYTES: usize = 4 * BLOCK_BYTES;
/// Memory of a large body on its way in: the chunk being filled and the one being written.
const UPLOAD_BYTES: usize = 3 * CHUNK_BYTES;
/// Memory of a large body on its way out: the chunk being sent and the next one.
const DOWNLOAD_BYTES: usize = 2 * CHUNK_BYTES;
/// Keys that one transaction deletes.
const DELETES_PER_TRANSACTION: usize = 250;
/// How often a body may move away between its look-up and its opening before something is wrong.
const MOVES_MAX: usize = 100;

impl Service {
    pub(crate) async fn put_object(
        self: &Arc<Self>,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        options: PutOptions,
    ) -> Result<ObjectWriter> {
        let bucket = self.bucket(caller, Action::ObjectPut, name, Some(key))?;
        let metadata: usize = options
            .metadata
            .iter()
            .map(|(n, v)| n.len() + v.len())
            .sum();
        if metadata > METADATA_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::MetadataTooLarge,
                format!(
                    "Your metadata headers exceed the maximum allowed metadata size: \
                     {metadata} bytes of at most {METADATA_BYTES_MAX}."
                ),
            ));
        }
        let size = options.size.unwrap_or(0);
        check_size(size)?;
        let is_small = options
            .size
            .is_some_and(|size| size <= self.inline_max as u64);
        let memory = if is_small {
            size as usize
        } else {
            UPLOAD_BYTES
        };
        let mut writer = ObjectWriter {
            buffer: self.buffer(memory).await?,
            requires: put_requirements(name, &bucket, key, &options),
            service: self.clone(),
            bucket,
            key: key.clone(),
            received: 0,
            state: State::Small(BytesMut::new()),
            options,
        };
        if size > self.inline_max as u64 {
            writer.state = State::Large(Box::new(writer.start_large().await?));
        }
        Ok(writer)
    }

    pub(crate) async fn get_object(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        range: Option<ByteRange>,
    ) -> Result<ObjectReader> {
        let bucket = self.bucket(caller, Action::ObjectGet, name, Some(key))?;
        let mut last = None;
        // A body may be overwritten or moved between its look-up and its opening: look again.
        for _ in 0..MOVES_MAX {
            let record = self.object(&bucket, key)?;
            if let Some(source) = self.open_body(&record)? {
                let whole = 0..record.size;
                let range = range.map_or(Ok(whole), |range| range.resolve(record.size))?;
                let buffer = match source {
                    Source::File(_) => self.buffer(DOWNLOAD_BYTES).await?,
                    Source::Empty | Source::Inline(_) => None,
                };
                let info = info(key.clone(), &record);
                return Ok(ObjectReader::new(info, source, range, buffer));
            }
            if last.as_ref() == Some(&record.location) {
                break;
            }
            last = Some(record.location);
        }
        tracing::error!(bucket = %name, %key, "the body of an object is missing");
        Err(Error::new(
            ErrorKind::InternalError,
            "The body of the object is missing.",
        ))
    }

    pub(crate) fn head_object(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
    ) -> Result<ObjectInfo> {
        let bucket = self.bucket(caller, Action::ObjectGet, name, Some(key))?;
        Ok(info(key.clone(), &self.object(&bucket, key)?))
    }

    pub(crate) async fn delete_object(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
    ) -> Result<()> {
        let bucket = self.bucket(caller, Action::ObjectDelete, name, Some(key))?;
        self.delete_rows(name, &bucket, std::slice::from_ref(key))
            .await
    }

    pub(crate) async fn delete_objects(
        &self,
        caller: &Caller,
        name: &BucketName,
        keys: &[ObjectKey],
    ) -> Result<Vec<Result<()>>> {
        // The bucket decides for all, a prefix scope for each.
        self.find_bucket(name)
            .and_then(|b| crate::auth::authorize(caller, Action::ObjectDelete, name, b, None))?;
        let mut outcomes: Vec<Result<()>> = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(DELETES_PER_TRANSACTION) {
            let rights: Vec<Result<BucketRecord>> = chunk
                .iter()
                .map(|key| self.bucket(caller, Action::ObjectDelete, name, Some(key)))
                .collect();
            let bucket = rights.iter().find_map(|right| right.as_ref().ok());
            let done = match bucket {
                None => Ok(()),
                Some(bucket) => {
                    let allowed = chunk.iter().zip(&rights).filter(|(_, right)| right.is_ok());
                    let keys: Vec<ObjectKey> = allowed.map(|(key, _)| key.clone()).collect();
                    self.delete_rows(name, bucket, &keys).await
                }
            };
            outcomes.extend(rights.into_iter().map(|right| match (&done, right) {
                (_, Err(error)) => Err(error),
                (Err(error), Ok(_)) => Err(Error::new(error.kind(), error.context())),
                (Ok(()), Ok(_)) => Ok(()),
            }));
        }
        Ok(outcomes)
    }

    async fn delete_rows(
        &self,
        name: &BucketName,
        bucket: &BucketRecord,
        keys: &[ObjectKey],
    ) -> Result<()> {
        let mut changes = Vec::new();
        for key in keys {
            let key = Key::Object(bucket.id, key.as_str().into());
            // What is not there needs no record: this moment is when the delete happened.
            if self.meta.get(&key)?.is_some() {
                changes.push(Change::delete(key));
            }
        }
        match self.meta.stopped() {
            // A write in doubt may bring the object back: nothing can be promised.
            Some(why) if changes.is_empty() => return Err(CommitError::Stopped(why).into()),
            None if changes.is_empty() => return Ok(()),
            _ => {}
        }
        let transaction = Transaction {
            changes,
            ..Transaction::default()
        };
        Requirements::bucket(name, bucket)
            .commit(&*self.meta, transaction)
            .await
    }

    fn object(&self, bucket: &BucketRecord, key: &ObjectKey) -> Result<ObjectRecord> {
        match self
            .meta
            .get(&Key::Object(bucket.id, key.as_str().into()))?
        {
            Some(Record::Object(object)) => Ok(*object),
            _ => Err(no_such_key(key)),
        }
    }

    /// The body, or `None` when it is no longer where the record says.
    fn open_body(&self, record: &ObjectRecord) -> Result<Option<Source>> {
        Ok(match &record.location {
            Location::Empty | Location::Here => Some(Source::Empty),
            Location::Pack { .. } => self.meta.open_inline(&record.location)?.map(Source::Inline),
            Location::File(id) => open_blob(&*self.blobs, *id, record.size)?.map(Source::File),
        })
    }
}

fn open_blob(blobs: &dyn BlobStore, id: BlobId, size: u64) -> Result<Option<Arc<dyn BlobReader>>> {
    match blobs.open(id, size) {
        Ok(reader) => Ok(Some(reader)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a record tells its readers.
pub(crate) fn info(key: ObjectKey, record: &ObjectRecord) -> ObjectInfo {
    let crc64 = Checksum {
        algorithm: ChecksumAlgorithm::Crc64Nvme,
        value: record.crc64.to_be_bytes().to_vec(),
    };
    let mut checksums: Vec<Checksum> = record.checksum.iter().cloned().collect();
    if !checksums.contains(&crc64) {
        checksums.push(crc64);
    }
    ObjectInfo {
        key,
        size: record.size,
        etag: record.etag.clone(),
        last_modified: record.modified,
        version: record.version,
        headers: record.headers.clone(),
        metadata: record.metadata.clone(),
        checksums,
        sha256: record.sha256,
    }
}

fn no_such_key(key: &ObjectKey) -> Error {
    Error::new(
        ErrorKind::NoSuchKey,
        format!("The specified key does not exist: {key}"),
    )
}

fn check_size(size: u64) -> Result<()> {
    if size <= PUT_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::EntityTooLarge,
        format!(
            "Your proposed upload exceeds the maximum allowed size: {PUT_BYTES_MAX} bytes in one \
             request. Use a multipart upload."
        ),
    ))
}

fn put_requirements(
    name: &BucketName,
    bucket: &BucketRecord,
    key: &ObjectKey,
    options: &PutOptions,
) -> Requirements {
    let mut requires = Requirements::bucket(name, bucket);
    let row = Key::Object(bucket.id, key.as_str().into());
    let failed = "At least one of the preconditions you specified did not hold.";
    if let Some(etag) = &options.conditions.if_match {
        let missing = no_such_key(key);
        requires.add(
            Precondition::Exists(row.clone()),
            missing.kind(),
            missing.context(),
        );
        if let Some(etag) = etag {
            let is = Precondition::ETagIs(row.clone(), etag.clone());
            requires.add(is, ErrorKind::PreconditionFailed, failed);
        }
    }
    match &options.conditions.if_none_match {
        None => {}
        Some(None) => {
            requires.add(
                Precondition::Absent(row),
                ErrorKind::PreconditionFailed,
                failed,
            );
        }
        Some(Some(etag)) => {
            let is_not = Precondition::ETagIsNot(row, etag.clone());
            requires.add(is_not, ErrorKind::PreconditionFailed, failed);
        }
    }
    requires
}

/// Takes the body of one PUT. Dropped before [`ObjectWriter::finish`], it stores nothing.
pub struct ObjectWriter {
    service: Arc<Service>,
    /// Given back when the object is stored or given up.
    buffer: Buffer,
    requires: Requirements,
    bucket: BucketRecord,
    key: ObjectKey,
    options: PutOptions,
    received: u64,
    state: State,
}

enum State {
    /// Gathered here, to ride in the log.
    Small(BytesMut),
    /// On its way into a file.
    Large(Box<Large>),
}

struct Large {
    /// The chunk that is being filled.
    chunk: BytesMut,
    /// The chunk before it, being hashed and written; holds what it works with.
    job: Option<(JoinHandle<std::io::Result<Work>>, JoinHandle<Digests>)>,
    idle: Option<(Work, Digests)>,
}

/// What writing needs, besides the MD5, which is computed beside it.
struct Work {
    writer: Box<dyn BlobWriter>,
    digests: Digests,
}

impl ObjectWriter {
    /// Takes the next bytes of the body, of any length; waits while the disk is behind.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.received += bytes.len() as u64;
        check_size(self.received)?;
        if self.options.size.is_some_and(|size| self.received > size) {
            return Err(incomplete(self.received, self.options.size));
        }
        if let State::Small(gathered) = &mut self.state {
            if gathered.len() + bytes.len() <= self.service.inline_max {
                if gathered.is_empty() {
                    gathered.reserve(self.options.size.unwrap_or(bytes.len() as u64) as usize);
                }
                gathered.extend_from_slice(&bytes);
                return Ok(());
            }
            let gathered = std::mem::take(gathered).freeze();
            let mut large = self.start_large().await?;
            large.write(gathered).await?;
            self.state = State::Large(Box::new(large));
        }
        match &mut self.state {
            State::Large(large) => large.write(bytes).await,
            State::Small(_) => unreachable!("a body that does not fit has just become large"),
        }
    }

    /// Checks size and digests (`trailer` is a checksum that came behind the body), makes the object
    /// durable, and answers what it has become.
    pub async fn finish(self, trailer: Option<Checksum>) -> Result<ObjectInfo> {
        let Self {
            service,
            requires,
            bucket,
            key,
            options,
            received,
            state,
            buffer: _buffer,
        } = self;
        if options.size.is_some_and(|size| size != received) {
            return Err(incomplete(received, options.size));
        }
        let (body, digests) = match state {
            State::Small(gathered) => {
                let bytes = gathered.freeze();
                let digests = Digests::of(&bytes, chosen_algorithm(&options));
                (Finished::Small(bytes), digests)
            }
            State::Large(large) => {
                let (writer, digests) = large.close().await?;
                (Finished::Large(writer), digests)
            }
        };
        let digests = digests.finish();
        digests.check(&options, trailer.as_ref())?;
        let mut record = ObjectRecord {
            version: service.env.unique_id(),
            modified: service.env.clock.now(),
            size: received,
            sha256: digests.sha256,
            crc64: digests.crc64,
            etag: digests.etag(),
            checksum: digests.chosen,
            location: Location::Empty,
            headers: options.headers,
            metadata: options.metadata,
        };
        let mut transaction = Transaction::default();
        match body {
            Finished::Small(bytes) if bytes.is_empty() => {}
            Finished::Small(bytes) => {
                record.location = Location::Here;
                transaction.body = Some(Body::new(bytes));
            }
            Finished::Large(writer) => {
                record.location = Location::File(writer.id());
                let (bucket, key, described) = (bucket.id, key.clone(), record.clone());
                let finished = blocking(move || {
                    let key = key.as_str();
                    writer.finish(Description {
                        bucket,
                        key,
                        record: &described,
                    })
                });
                transaction.blob = Some(finished.await??);
            }
        }
        let info = info(key.clone(), &record);
        let row = Key::Object(bucket.id, key.as_str().into());
        transaction.changes = vec![Change::put(row, Record::Object(Box::new(record)))];
        requires.commit(&*service.meta, transaction).await?;
        Ok(info)
    }

    async fn start_large(&self) -> Result<Large> {
        let blobs = self.service.blobs.clone();
        let writer = blocking(move || blobs.create()).await??;
        let digests = Digests::without_md5(chosen_algorithm(&self.options));
        let idle = Some((Work { writer, digests }, Digests::only_md5()));
        Ok(Large {
            chunk: BytesMut::with_capacity(CHUNK_BYTES),
            job: None,
            idle,
        })
    }
}

enum Finished {
    Small(Bytes),
    Large(Box<dyn BlobWriter>),
}

fn chosen_algorithm(options: &PutOptions) -> Option<ChecksumAlgorithm> {
    options
        .checksum
        .as_ref()
        .map(|checksum| checksum.algorithm)
        .or(options.checksum_algorithm)
}

fn incomplete(received: u64, declared: Option<u64>) -> Error {
    Error::new(
        ErrorKind::IncompleteBody,
        format!(
            "The body does not have the declared length: {received} bytes came, {} were declared.",
            declared.unwrap_or(0)
        ),
    )
}

impl Large {
    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.chunk.len();
            let now = bytes.split_to(bytes.len().min(room));
            self.chunk.extend_from_slice(&now);
            if self.chunk.len() == CHUNK_BYTES {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Hands the filled chunk over: one thread writes it and computes all sums but MD5, another MD5.
    async fn send(&mut self) -> Result<()> {
        let (mut work, mut md5) = self.settle().await?;
        let chunk = self.chunk.split().freeze();
        self.chunk.reserve(CHUNK_BYTES);
        let same = chunk.clone();
        let writing = tokio::task::spawn_blocking(move || {
            work.writer.write(&chunk)?;
            work.digests.update(&chunk);
            Ok(work)
        });
        let hashing = tokio::task::spawn_blocking(move || {
            md5.update(&same);
            md5
        });
        self.job = Some((writing, hashing));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(Work, Digests)> {
        if let Some((writing, hashing)) = self.job.take() {
            let lost = |error| {
                Error::new(ErrorKind::InternalError, "A task of the store failed.")
                    .with_source(error)
            };
            let work = writing.await.map_err(lost)?;
            let md5 = hashing.await.map_err(lost)?;
            self.idle = Some((work?, md5));
        }
        self.idle.take().ok_or_else(|| {
            Error::new(
                ErrorKind::InternalError,
                "The body could not be written before.",
            )
        })
    }

    async fn close(mut self) -> Result<(Box<dyn BlobWriter>, Digests)> {
        if !self.chunk.is_empty() {
            self.send().await?;
        }
        let (work, md5) = self.settle().await?;
        Ok((work.writer, work.digests.with_md5_of(md5)))
    }
}

enum Source {
    Empty,
    Inline(InlineBody),
    File(Arc<dyn BlobReader>),
}

/// Streams the body of one GET. Every byte that it gives has been checked.
pub struct ObjectReader {
    info: ObjectInfo,
    source: Source,
    range: Range<u64>,
    at: u64,
    /// The next chunk of a file, being read while the last one is sent.
    ahead: Option<JoinHandle<std::io::Result<Bytes>>>,
    /// The first chunk, when it was asked for beforehand.
    first: Option<Bytes>,
    _buffer: Buffer,
}

impl ObjectReader {
    fn new(info: ObjectInfo, source: Source, range: Range<u64>, buffer: Buffer) -> Self {
        Self {
            info,
            source,
            at: range.start,
            range,
            ahead: None,
            first: None,
            _buffer: buffer,
        }
    }

    /// The object, as of the moment it was opened.
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// The bytes that come, half-open.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Reads the first chunk, so that damage there is an error now and not a body that breaks off later.
    pub async fn prepare(&mut self) -> Result<()> {
        if self.first.is_none() {
            self.first = self.read_on().await?;
        }
        Ok(())
    }

    /// The next chunk, at most [`CHUNK_BYTES`]; `None` at the end. After an error the body is not to be
    /// trusted any further: cut the connection.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.read_on().await,
        }
    }

    async fn read_on(&mut self) -> Result<Option<Bytes>> {
        if self.at == self.range.end {
            return Ok(None);
        }
        let chunk = match &self.source {
            Source::Empty => return Ok(None),
            Source::Inline(body) => body.read(self.info.size, self.chunk_at(self.at)),
            Source::File(reader) => {
                let ahead = self.ahead.take();
                let now = ahead.unwrap_or_else(|| read(reader.clone(), self.chunk_at(self.at)));
                let then = self.chunk_at(self.at).end;
                let chunk = now.await.map_err(|error| {
                    Error::new(ErrorKind::InternalError, "A task of the store failed.")
                        .with_source(error)
                })?;
                if then < self.range.end && chunk.is_ok() {
                    self.ahead = Some(read(reader.clone(), self.chunk_at(then)));
                }
                chunk
            }
        };
        match chunk {
            Ok(chunk) => {
                self.at += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Err(error) => {
                tracing::error!(key = %self.info.key, %error, "the body of an object is damaged");
                Err(Error::new(
                    ErrorKind::InternalError,
                    "The body of the object is damaged.",
                )
                .with_source(error))
            }
        }
    }

    /// The chunk at a place: up to the next multiple of [`CHUNK_BYTES`], so that blocks are read once.
    fn chunk_at(&self, at: u64) -> Range<u64> {
        let next = (at + 1).next_multiple_of(CHUNK_BYTES as u64);
        at..next.min(self.range.end)
    }
}

fn read(reader: Arc<dyn BlobReader>, range: Range<u64>) -> JoinHandle<std::io::Result<Bytes>> {
    tokio::task::spawn_blocking(move || reader.read(range))
}

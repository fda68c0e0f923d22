//! Objects: put, get, head, delete.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{
    auth::{Action, Caller, Place},
    error::{Error, ErrorKind, Result},
    meta::{
        Change, CommitError, Precondition, Transaction,
        key::Key,
        record::{BucketRecord, Done, Location, ObjectRecord, Record},
    },
    piece::MOVES_MAX,
    service::{
        Requirements, Service,
        access::Standing,
        blocking,
        body::BodyWriter,
        once,
        policy::over_quota,
        read::{ObjectReader, select_range},
    },
    types::{
        BucketName, Checksum, ChecksumAlgorithm, ChecksumType, Conditions, DeleteConditions,
        DeletedPrefix, ListEntry, ListOptions, METADATA_BYTES_MAX, ObjectInfo, ObjectKey,
        PartOptions, PutOptions, Select,
    },
};

/// Keys that one transaction deletes.
const DELETES_PER_TRANSACTION: usize = 250;
const NOT_HELD: &str = "At least one of the preconditions you specified did not hold.";

impl Service {
    pub(crate) async fn put_object(
        self: &Arc<Self>,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        options: PutOptions,
    ) -> Result<ObjectWriter> {
        let bucket = self.bucket(caller, Action::ObjectPut, name, Place::Key(key))?;
        check_metadata(&options.metadata)?;
        self.must_have_room()?;
        self.must_be_within(&bucket, key, options.size)?;
        let expected = PartOptions {
            size: options.size,
            content_md5: options.content_md5,
            content_sha256: options.content_sha256,
            without_digests: options.without_digests,
            checksum: options.checksum.clone(),
            checksum_algorithm: options.checksum_algorithm,
        };
        Ok(ObjectWriter {
            body: BodyWriter::new(self, expected, 0).await?,
            requires: put_requirements(name, &bucket, key, &options.conditions),
            service: self.clone(),
            standing: Standing::of(caller, Action::ObjectPut, name, key),
            bucket,
            key: key.clone(),
            options,
        })
    }

    pub(crate) async fn get_object(
        self: &Arc<Self>,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        select: Select,
    ) -> Result<ObjectReader> {
        let bucket = self.bucket(caller, Action::ObjectGet, name, Place::Key(key))?;
        let (_, reader) = self.open_object(&bucket, key, select, true).await?;
        Ok(reader)
    }

    pub(crate) fn head_object(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
    ) -> Result<ObjectInfo> {
        let (info, _) = self.head_object_part(caller, name, key, Select::Whole)?;
        Ok(info)
    }

    pub(crate) fn head_object_part(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        select: Select,
    ) -> Result<(ObjectInfo, Result<Range<u64>>)> {
        let bucket = self.bucket(caller, Action::ObjectGet, name, Place::Key(key))?;
        let record = self.object(&bucket, key)?;
        record.must_be_whole(key)?;
        Ok((info(key.clone(), &record), select_range(select, &record)))
    }

    pub(crate) async fn delete_object(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
    ) -> Result<()> {
        let bucket = self.bucket(caller, Action::ObjectDelete, name, Place::Key(key))?;
        self.delete_rows(name, &bucket, std::slice::from_ref(key))
            .await
    }

    /// Decided on what is there, and inside the commit on its still being there.
    pub(crate) async fn delete_object_if(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        conditions: &DeleteConditions,
    ) -> Result<()> {
        let bucket = self.bucket(caller, Action::ObjectDelete, name, Place::Key(key))?;
        let row = Key::Object(bucket.id, key.as_str().into());
        let changed = "The object was changed meanwhile: try again.";
        for _ in 0..MOVES_MAX {
            let mut requires = Requirements::bucket(name, &bucket);
            let mut transaction = Transaction::default();
            match self.meta.get(&row)? {
                Some(Record::Object(old)) => {
                    if !conditions.hold(&old.etag, old.size, old.modified) {
                        return Err(Error::new(ErrorKind::PreconditionFailed, NOT_HELD));
                    }
                    let is = Precondition::VersionIs(row.clone(), old.version);
                    requires.add(is, ErrorKind::OperationAborted, changed);
                    transaction.changes.push(Change::delete(row.clone()));
                }
                _ if conditions.once.is_none() => {
                    return self
                        .delete_rows(name, &bucket, std::slice::from_ref(key))
                        .await;
                }
                // What comes again must not take what others put meanwhile.
                _ => {
                    let absent = Precondition::Absent(row.clone());
                    requires.add(absent, ErrorKind::OperationAborted, changed);
                }
            }
            let once = conditions.once.as_ref();
            let done = self.commit_once(requires, transaction, once, Done::Nothing);
            match done.await {
                Err(error) if error.kind() == ErrorKind::OperationAborted => {}
                done => return done.map(drop),
            }
        }
        Err(Error::new(ErrorKind::OperationAborted, changed))
    }

    pub(crate) async fn delete_objects(
        &self,
        caller: &Caller,
        name: &BucketName,
        keys: &[ObjectKey],
    ) -> Result<Vec<Result<()>>> {
        // The bucket decides for all, a prefix scope for each.
        self.find_bucket(name).and_then(|b| {
            crate::auth::authorize(caller, Action::ObjectDelete, name, b, Place::SomeKeys)
        })?;
        let mut outcomes: Vec<Result<()>> = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(DELETES_PER_TRANSACTION) {
            let rights: Vec<Result<BucketRecord>> = chunk
                .iter()
                .map(|key| self.bucket(caller, Action::ObjectDelete, name, Place::Key(key)))
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

    pub(crate) async fn delete_prefix(
        self: &Arc<Self>,
        caller: &Caller,
        name: &BucketName,
        options: &ListOptions,
    ) -> Result<DeletedPrefix> {
        let (action, place) = (Action::ObjectDelete, Place::Under(&options.prefix));
        let bucket = self.bucket(caller, action, name, place)?;
        let page = {
            let (service, caller, bucket) = (self.clone(), caller.clone(), bucket.clone());
            let options = options.clone();
            blocking(move || service.walk(&caller, action, &bucket, &options)).await??
        };
        let keys: Vec<ObjectKey> = page
            .entries
            .into_iter()
            .filter_map(|entry| match entry {
                ListEntry::Object(object) => Some(object.key),
                ListEntry::CommonPrefix(_) => None,
            })
            .collect();
        for chunk in keys.chunks(DELETES_PER_TRANSACTION) {
            self.delete_rows(name, &bucket, chunk).await?;
        }
        Ok(DeletedPrefix {
            deleted: keys.len() as u64,
            next: page.next,
        })
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
        let transaction = Transaction::of(changes);
        Requirements::bucket(name, bucket)
            .commit(&*self.meta, transaction)
            .await
    }

    pub(super) fn object(&self, bucket: &BucketRecord, key: &ObjectKey) -> Result<ObjectRecord> {
        match self
            .meta
            .get(&Key::Object(bucket.id, key.as_str().into()))?
        {
            Some(Record::Object(object)) => Ok(*object),
            _ => Err(no_such_key(key)),
        }
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
        checksum_type: record.checksum_type,
        sha256: record.sha256,
        parts_count: record.parts_count(),
        tag_count: record.tags.iter().len(),
    }
}

pub(super) fn no_such_key(key: &ObjectKey) -> Error {
    Error::new(
        ErrorKind::NoSuchKey,
        format!("The specified key does not exist: {key}"),
    )
}

pub(super) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<()> {
    let bytes: usize = metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
    if bytes <= METADATA_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::MetadataTooLarge,
        format!(
            "Your metadata headers exceed the maximum allowed metadata size: \
             {bytes} bytes of at most {METADATA_BYTES_MAX}."
        ),
    ))
}

/// What must hold for an object to be written.
pub(super) fn put_requirements(
    name: &BucketName,
    bucket: &BucketRecord,
    key: &ObjectKey,
    conditions: &Conditions,
) -> Requirements {
    let mut requires = Requirements::bucket(name, bucket);
    requires.add_conditions(bucket, key, conditions);
    requires
}

impl Requirements {
    /// Adds the conditions on the object that is there.
    pub(super) fn add_conditions(
        &mut self,
        bucket: &BucketRecord,
        key: &ObjectKey,
        conditions: &Conditions,
    ) {
        let row = Key::Object(bucket.id, key.as_str().into());
        match &conditions.if_none_match {
            None => {}
            Some(None) => self.add_condition(Precondition::Absent(row.clone()), "If-None-Match"),
            Some(Some(etag)) => {
                let is_not = Precondition::ETagIsNot(row.clone(), etag.clone());
                self.add_condition(is_not, "If-None-Match");
            }
        }
        let Some(etag) = &conditions.if_match else {
            return;
        };
        let missing = no_such_key(key);
        self.add(
            Precondition::Exists(row.clone()),
            missing.kind(),
            missing.context(),
        );
        if let Some(etag) = etag {
            self.add_condition(Precondition::ETagIs(row, etag.clone()), "If-Match");
        }
    }

    /// Adds that the bucket has room for an object of `size` bytes in place of the one that is there.
    pub(super) fn add_quota(&mut self, bucket: &BucketRecord, key: &ObjectKey, size: u64) {
        let Some(quota) = bucket.quota_bytes else {
            return;
        };
        let within = Precondition::Within {
            bucket: bucket.id,
            key: Key::Object(bucket.id, key.as_str().into()),
            size,
            quota,
        };
        let error = over_quota(quota);
        self.add(within, error.kind(), error.context());
    }

    fn add_condition(&mut self, precondition: Precondition, name: &str) {
        self.add(
            precondition,
            ErrorKind::PreconditionFailed,
            format!("At least one of the preconditions you specified did not hold: {name}."),
        );
    }
}

/// Takes the body of one PUT. Dropped before [`ObjectWriter::finish`], it stores nothing.
pub struct ObjectWriter {
    service: Arc<Service>,
    requires: Requirements,
    standing: Standing,
    bucket: BucketRecord,
    key: ObjectKey,
    options: PutOptions,
    body: BodyWriter,
}

impl ObjectWriter {
    /// Takes the next bytes of the body, of any length; waits while the disk is behind.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.body.write(bytes).await
    }

    /// Checks size and digests (`trailer` is a checksum that came behind the body), makes the object
    /// durable, and answers what it has become.
    pub async fn finish(self, trailer: Option<Checksum>) -> Result<ObjectInfo> {
        let Self {
            service,
            mut requires,
            standing,
            bucket,
            key,
            options,
            body,
        } = self;
        let body = body.finish(trailer).await?;
        let bucket = service.must_still_stand(&standing, bucket)?;
        requires.add_quota(&bucket, &key, body.size);
        let record = ObjectRecord {
            version: service.env.unique_id(),
            modified: service.env.clock.now(),
            size: body.size,
            sha256: body.sums.sha256,
            crc64: body.sums.crc64,
            etag: body.sums.etag(),
            checksum: body.sums.chosen.clone(),
            checksum_type: ChecksumType::FullObject,
            location: Location::Empty,
            headers: options.headers,
            metadata: options.metadata,
            tags: options.tags,
            quarantined: None,
        };
        let (info, done) = (info(key.clone(), &record), Done::written(&record));
        let row = Key::Object(bucket.id, key.as_str().into());
        let record = Record::Object(Box::new(record));
        let mut transaction = Transaction::default();
        let _buffer = body
            .place(&mut transaction, bucket.id, &key, row, record)
            .await?;
        let once = options.once.as_ref();
        let before = service.commit_once(requires, transaction, once, done);
        once::told(before.await?, &key, info)
    }
}

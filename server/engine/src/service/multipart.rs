//! Multipart uploads: create, upload parts, complete, abort, list.
//!
//! A part is a row with a body of its own. Complete makes an object that refers to these rows: no byte is
//! copied, and what it costs does not grow with the size of the object.

mod assembly;
mod list;

use std::sync::Arc;

use bytes::Bytes;

use self::assembly::Assembly;
use crate::{
    auth::{Action, Caller, Place},
    error::{Error, ErrorKind, Result},
    meta::{
        Change, Precondition, Transaction,
        key::Key,
        record::{
            BucketRecord, Done, Location, ObjectRecord, PartRecord, PartSetRecord, Record,
            UploadRecord,
        },
    },
    piece::MOVES_MAX,
    planted::{self, Bug},
    service::{
        Requirements, Service,
        access::Standing,
        blocking,
        body::BodyWriter,
        object::{check_metadata, info},
        once,
        read::DOWNLOAD_BYTES,
    },
    types::{
        BucketName, ByteRange, Checksum, ChecksumAlgorithm, ChecksumType, CompleteOptions,
        CompletedPart, CopySource, ETag, ObjectInfo, ObjectKey, PART_NUMBER_MAX, PartInfo,
        PartOptions, Select, UploadId, UploadInfo, UploadOptions, no_such_upload,
    },
};

/// The part that a request is about.
#[derive(Clone, Copy)]
pub(crate) struct PartOf<'a> {
    pub(crate) bucket: &'a BucketName,
    pub(crate) key: &'a ObjectKey,
    pub(crate) id: UploadId,
    pub(crate) number: u16,
}

/// Memory that a part takes while an upload is completed.
const PART_BYTES: usize = 512;

impl Service {
    pub(crate) async fn create_multipart_upload(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        options: UploadOptions,
    ) -> Result<UploadInfo> {
        let bucket = self.bucket(caller, Action::MultipartCreate, name, Place::Key(key))?;
        check_metadata(&options.metadata)?;
        let checksum_type = type_of(options.checksum_algorithm, options.checksum_type)?;
        self.must_have_room()?;
        let id = UploadId(self.env.unique_id());
        let record = UploadRecord {
            initiated: self.env.clock.now(),
            initiator: caller.account(),
            checksum_algorithm: options.checksum_algorithm,
            checksum_type,
            headers: options.headers,
            metadata: options.metadata,
            tags: options.tags,
        };
        let info = upload_info(key.clone(), id, &record);
        let row = Key::Upload(bucket.id, key.as_str().into(), id);
        let transaction = Transaction::of(vec![Change::put(row, Record::Upload(Box::new(record)))]);
        Requirements::bucket(name, &bucket)
            .commit(&*self.meta, transaction)
            .await?;
        Ok(info)
    }

    pub(crate) async fn upload_part(
        self: &Arc<Self>,
        caller: &Caller,
        part: PartOf<'_>,
        options: PartOptions,
    ) -> Result<PartWriter> {
        let bucket = self.bucket(
            caller,
            Action::MultipartUploadPart,
            part.bucket,
            Place::Key(part.key),
        )?;
        self.part_writer(caller, bucket, part, options, 0).await
    }

    pub(crate) async fn upload_part_copy(
        self: &Arc<Self>,
        caller: &Caller,
        part: PartOf<'_>,
        source: &CopySource,
        range: Option<ByteRange>,
    ) -> Result<PartInfo> {
        let from = self.bucket(
            caller,
            Action::ObjectGet,
            &source.bucket,
            Place::Key(&source.key),
        )?;
        let bucket = self.bucket(
            caller,
            Action::MultipartUploadPart,
            part.bucket,
            Place::Key(part.key),
        )?;
        let select = range.map_or(Select::Whole, Select::Range);
        source.must_hold(&self.object(&from, &source.key)?)?;
        let opened = self.open_object(&from, &source.key, select, false).await;
        let (record, mut reader) = opened.map_err(outside_source)?;
        source.must_hold(&record)?;
        if matches!(range, Some(ByteRange::FromTo { last, .. }) if last >= record.size) {
            // Unlike a reader, who is told what came, a writer would lose what is not there.
            return Err(outside(record.size));
        }
        let bytes = reader.range();
        let options = PartOptions {
            size: Some(bytes.end - bytes.start),
            ..PartOptions::default()
        };
        let mut writer = self
            .part_writer(caller, bucket, part, options, DOWNLOAD_BYTES)
            .await?;
        while let Some(chunk) = reader.next().await? {
            writer.write(chunk).await?;
        }
        writer.finish(None).await
    }

    async fn part_writer(
        self: &Arc<Self>,
        caller: &Caller,
        bucket: BucketRecord,
        part: PartOf<'_>,
        mut options: PartOptions,
        more_memory: usize,
    ) -> Result<PartWriter> {
        let PartOf {
            bucket: name,
            key,
            id,
            number,
        } = part;
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive."
                ),
            ));
        }
        let upload = self.upload(&bucket, key, id)?;
        choose_algorithm(&upload, &mut options)?;
        self.must_have_room()?;
        self.must_be_within(&bucket, key, options.size)?;
        let mut requires = Requirements::bucket(name, &bucket);
        requires.add_upload(&bucket, key, id);
        Ok(PartWriter {
            body: BodyWriter::new(self, options, more_memory).await?,
            service: self.clone(),
            requires,
            standing: Standing::of(caller, Action::MultipartUploadPart, name, key),
            bucket,
            key: key.clone(),
            id,
            number,
        })
    }

    pub(crate) async fn complete_multipart_upload(
        self: &Arc<Self>,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        id: UploadId,
        parts: &[CompletedPart],
        options: CompleteOptions,
    ) -> Result<ObjectInfo> {
        let bucket = self.bucket(caller, Action::MultipartComplete, name, Place::Key(key))?;
        for _ in 0..MOVES_MAX {
            let upload = match self.upload(&bucket, key, id) {
                Err(error) if error.kind() == ErrorKind::NoSuchUpload => {
                    let before = self.completed_before(&bucket, key, id, parts, &options);
                    return before.await?.ok_or(error);
                }
                upload => upload?,
            };
            let assembled = self.assemble(id, Some(&upload), parts, &options).await;
            if assembled.is_err() && self.upload(&bucket, key, id).is_err() {
                // It ended while we looked, and took parts along.
                continue;
            }
            let (assembly, changes) = assembled?;
            let mut requires = Requirements::bucket(name, &bucket);
            requires.add_upload(&bucket, key, id);
            requires.add(
                Precondition::PartsAre(id, changes),
                ErrorKind::OperationAborted,
                "Parts of the upload are being uploaded: complete it when they are done.",
            );
            requires.add_conditions(&bucket, key, &options.conditions);
            let (transaction, info, answer) = self.completion(&bucket, key, id, upload, assembly);
            requires.add_quota(&bucket, key, info.size);
            let once = options.once.as_ref();
            let done = self.commit_once(requires, transaction, once, answer);
            match done.await {
                // A part came, or the upload ended, while we looked: look again.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::OperationAborted | ErrorKind::NoSuchUpload
                    ) => {}
                done => return once::told(done?, key, info),
            }
        }
        Err(Error::new(
            ErrorKind::OperationAborted,
            "Parts of the upload are being uploaded: complete it when they are done.",
        ))
    }

    /// Answers a Complete that comes again: the first answer may have been lost on its way.
    async fn completed_before(
        self: &Arc<Self>,
        bucket: &BucketRecord,
        key: &ObjectKey,
        id: UploadId,
        parts: &[CompletedPart],
        options: &CompleteOptions,
    ) -> Result<Option<ObjectInfo>> {
        let Ok(object) = self.object(bucket, key) else {
            return Ok(None);
        };
        if !matches!(&object.location, Location::Parts(set) if set.id == id) {
            return Ok(None);
        }
        // Another list is of an upload that is no more.
        let Ok((assembly, _)) = self.assemble(id, None, parts, options).await else {
            return Ok(None);
        };
        let info = info(key.clone(), &object);
        let expected = options.checksum.as_ref();
        let is_same = expected.is_none_or(|expected| info.checksums.contains(expected));
        Ok((is_same && assembly.etag == object.etag).then_some(info))
    }

    /// The object that these parts make, and how often parts had come by then.
    async fn assemble(
        self: &Arc<Self>,
        id: UploadId,
        upload: Option<&UploadRecord>,
        listed: &[CompletedPart],
        options: &CompleteOptions,
    ) -> Result<(Assembly, u64)> {
        let set = match self.meta.get(&Key::PartSet(id))? {
            Some(Record::PartSet(set)) => set,
            _ => PartSetRecord::default(),
        };
        let _memory = self
            .buffer((set.parts as usize + listed.len()) * PART_BYTES)
            .await?;
        let (service, upload) = (self.clone(), upload.cloned());
        let (listed, options) = (listed.to_vec(), options.clone());
        blocking(move || {
            let changes = set.changes;
            let rows = service.parts(id, 0, usize::from(PART_NUMBER_MAX))?;
            let assembly = Assembly::of(id, rows, &listed, upload.as_ref(), &options)?;
            Ok((assembly, changes))
        })
        .await?
    }

    fn completion(
        &self,
        bucket: &BucketRecord,
        key: &ObjectKey,
        id: UploadId,
        upload: UploadRecord,
        assembly: Assembly,
    ) -> (Transaction, ObjectInfo, Done) {
        let record = ObjectRecord {
            version: self.env.unique_id(),
            modified: self.env.clock.now(),
            size: assembly.size,
            sha256: Some(assembly.sha256),
            crc64: assembly.crc64,
            etag: assembly.etag,
            checksum: assembly.checksum,
            checksum_type: upload.checksum_type,
            location: Location::Parts(assembly.set),
            headers: upload.headers,
            metadata: upload.metadata,
            tags: upload.tags,
            quarantined: None,
        };
        let (info, done) = (info(key.clone(), &record), Done::written(&record));
        let upload = Key::Upload(bucket.id, key.as_str().into(), id);
        let key = Key::Object(bucket.id, key.as_str().into());
        let changes = completion_changes(key, record, upload, assembly.unused);
        let transaction = Transaction::of(changes);
        (transaction, info, done)
    }

    pub(crate) async fn abort_multipart_upload(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
        id: UploadId,
    ) -> Result<()> {
        let bucket = self.bucket(caller, Action::MultipartAbort, name, Place::Key(key))?;
        let mut requires = Requirements::bucket(name, &bucket);
        requires.add_upload(&bucket, key, id);
        let row = Key::Upload(bucket.id, key.as_str().into(), id);
        let transaction = Transaction::of(vec![Change::delete(row)]);
        requires.commit(&*self.meta, transaction).await
    }

    fn upload(&self, bucket: &BucketRecord, key: &ObjectKey, id: UploadId) -> Result<UploadRecord> {
        let row = Key::Upload(bucket.id, key.as_str().into(), id);
        match self.meta.get(&row)? {
            Some(Record::Upload(upload)) => Ok(*upload),
            _ => Err(no_such_upload()),
        }
    }

    /// The parts with numbers above `after`, at most `limit`.
    fn parts(&self, id: UploadId, after: u16, limit: usize) -> Result<Vec<(u16, PartRecord)>> {
        let from = Key::Part(id, after.saturating_add(1)).encode();
        let to = Key::Part(id, u16::MAX).encode();
        let mut rows = Vec::new();
        let mut next = Some(from);
        while let Some(from) = next.take()
            && rows.len() < limit
        {
            let page = self.meta.scan(&from, Some(&to), limit - rows.len())?;
            rows.extend(page.rows);
            next = page.next;
        }
        let part = |(key, record): (Vec<u8>, Record)| match (Key::decode(&key), record) {
            (Ok(Key::Part(_, number)), Record::Part(part)) => Some((number, *part)),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(part).collect())
    }
}

/// The rows that a Complete changes: of the object, the upload, and the parts that are not used.
pub(crate) fn completion_changes(
    key: Key,
    record: ObjectRecord,
    upload: Key,
    unused: Vec<u16>,
) -> Vec<Change> {
    let id = match upload {
        Key::Upload(_, _, id) => id,
        _ => unreachable!("the row of an upload"),
    };
    // The object first: the parts are always somebody's.
    let mut changes = vec![
        Change::put(key, Record::Object(Box::new(record))),
        Change::delete(upload),
    ];
    if planted::is(Bug::CompleteDropsFirst) {
        changes.swap(0, 1);
    }
    let unused = unused.into_iter();
    changes.extend(unused.map(|number| Change::delete(Key::Part(id, number))));
    changes
}

impl Requirements {
    fn add_upload(&mut self, bucket: &BucketRecord, key: &ObjectKey, id: UploadId) {
        let gone = no_such_upload();
        let open = Precondition::Exists(Key::Upload(bucket.id, key.as_str().into(), id));
        self.add(open, gone.kind(), gone.context());
    }
}

/// Takes the body of one part. Dropped before [`PartWriter::finish`], it stores nothing.
pub struct PartWriter {
    service: Arc<Service>,
    requires: Requirements,
    standing: Standing,
    bucket: BucketRecord,
    key: ObjectKey,
    id: UploadId,
    number: u16,
    body: BodyWriter,
}

impl PartWriter {
    /// Takes the next bytes of the body, of any length; waits while the disk is behind.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.body.write(bytes).await
    }

    /// Checks size and digests (`trailer` is a checksum that came behind the body), makes the part durable,
    /// in place of an earlier one of its number, and answers what it has become.
    pub async fn finish(self, trailer: Option<Checksum>) -> Result<PartInfo> {
        let body = self.body.finish(trailer).await?;
        let bucket = self.service.must_still_stand(&self.standing, self.bucket)?;
        let (md5, sha256) = body.sums.of_part()?;
        let record = PartRecord {
            version: self.service.env.unique_id(),
            modified: self.service.env.clock.now(),
            size: body.size,
            md5,
            sha256,
            crc64: body.sums.crc64,
            checksum: body.sums.chosen.clone(),
            location: Location::Empty,
        };
        let info = part_info(self.number, &record);
        let row = Key::Part(self.id, self.number);
        let record = Record::Part(Box::new(record));
        let mut transaction = Transaction::default();
        let _buffer = body
            .place(&mut transaction, bucket.id, &self.key, row, record)
            .await?;
        self.requires
            .commit(&*self.service.meta, transaction)
            .await?;
        Ok(info)
    }
}

/// The refusal of a range that the source of a part does not have.
fn outside(size: u64) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("Range specified is not valid for source object of size: {size}"),
    )
}

fn outside_source(error: Error) -> Error {
    match error.kind() {
        ErrorKind::InvalidRange => Error::new(ErrorKind::InvalidArgument, error.context()),
        _ => error,
    }
}

/// What the checksum of the object will be computed from.
///
/// Source: S3 API, CreateMultipartUpload, `x-amz-checksum-type`.
fn type_of(
    algorithm: Option<ChecksumAlgorithm>,
    wanted: Option<ChecksumType>,
) -> Result<ChecksumType> {
    use ChecksumAlgorithm as Algorithm;
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidRequest, why));
    let (usual, possible): (_, &[_]) = match algorithm {
        None if wanted.is_some() => {
            return refuse(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm \
                 header."
                    .to_owned(),
            );
        }
        None | Some(Algorithm::Crc64Nvme) => {
            (ChecksumType::FullObject, &[ChecksumType::FullObject])
        }
        Some(Algorithm::Crc32 | Algorithm::Crc32c) => (
            ChecksumType::Composite,
            &[ChecksumType::Composite, ChecksumType::FullObject],
        ),
        Some(Algorithm::Sha1 | Algorithm::Sha256) => {
            (ChecksumType::Composite, &[ChecksumType::Composite])
        }
    };
    match wanted {
        None => Ok(usual),
        Some(wanted) if possible.contains(&wanted) => Ok(wanted),
        Some(wanted) => refuse(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            wanted.name(),
            algorithm.map_or("", Algorithm::name)
        )),
    }
}

/// Each part has the checksum that the upload asked for.
fn choose_algorithm(upload: &UploadRecord, options: &mut PartOptions) -> Result<()> {
    let sent = options.checksum.as_ref().map(|checksum| checksum.algorithm);
    let sent = sent.or(options.checksum_algorithm);
    match (upload.checksum_algorithm, sent) {
        (Some(wanted), Some(sent)) if wanted != sent => Err(Error::new(
            ErrorKind::InvalidRequest,
            format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}.",
                wanted.name().to_ascii_lowercase(),
                sent.name().to_ascii_lowercase()
            ),
        )),
        (wanted, _) => {
            options.checksum_algorithm = options.checksum_algorithm.or(wanted);
            Ok(())
        }
    }
}

fn upload_info(key: ObjectKey, upload_id: UploadId, upload: &UploadRecord) -> UploadInfo {
    UploadInfo {
        key,
        upload_id,
        initiated: upload.initiated,
        checksum_algorithm: upload.checksum_algorithm,
        checksum_type: upload.checksum_type,
    }
}

fn part_info(number: u16, part: &PartRecord) -> PartInfo {
    PartInfo {
        number,
        size: part.size,
        etag: ETag::of_md5(&part.md5),
        sha256: part.sha256,
        last_modified: part.modified,
        checksum: part.checksum.clone(),
        crc64: Checksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            value: part.crc64.to_be_bytes().to_vec(),
        },
    }
}

//! CopyObject: a second object of the same bytes.
//!
//! Files and parts are shared and counted; small bodies are read and written again, since bytes in the log
//! are never shared. The source must still be the same when the copy is committed, else it is looked at again.

use std::sync::Arc;

use crate::{
    auth::{Action, Caller, Place},
    digest::Digests,
    error::{Error, ErrorKind, Result},
    meta::{
        Body, Change, Precondition, Transaction,
        key::Key,
        record::{BucketRecord, Done, Location, ObjectRecord, Record},
    },
    piece::MOVES_MAX,
    service::{
        Buffer, Service, blocking,
        object::{check_metadata, info, put_requirements},
        once,
        read::{DOWNLOAD_BYTES, ObjectReader},
    },
    types::{
        BucketName, Checksum, ChecksumAlgorithm, ChecksumType, CopyOptions, CopySource, ObjectInfo,
        ObjectKey, ReadOutcome, Select,
    },
};

impl Service {
    pub(crate) async fn copy_object(
        self: &Arc<Self>,
        caller: &Caller,
        source: &CopySource,
        name: &BucketName,
        key: &ObjectKey,
        options: CopyOptions,
    ) -> Result<ObjectInfo> {
        let from = self.bucket(
            caller,
            Action::ObjectGet,
            &source.bucket,
            Place::Key(&source.key),
        )?;
        let to = self.bucket(caller, Action::ObjectPut, name, Place::Key(key))?;
        options
            .replace
            .as_ref()
            .map_or(Ok(()), |(_, metadata)| check_metadata(metadata))?;
        let is_same = from.id == to.id && source.key == *key;
        if is_same && options.replace.is_none() && options.tags.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing \
                 the object's metadata: use the metadata directive REPLACE.",
            ));
        }
        self.must_have_room()?;
        let source_row = Key::Object(from.id, source.key.as_str().into());
        // A checksum stays that of the body while only tags or metadata change.
        let mut known = None;
        for _ in 0..MOVES_MAX {
            let (record, body, _buffer) = self.source(&from, source, &options, &mut known).await?;
            if options.tags.is_none() && record.tags.iter().len() > 0 {
                self.must_show_tags(caller, source)?;
            }
            let mut requires = put_requirements(name, &to, key, &options.conditions);
            requires.add(
                Precondition::VersionIs(source_row.clone(), record.version),
                ErrorKind::OperationAborted,
                "The source of the copy was changed meanwhile: try again.",
            );
            // Counted anew, bytes whose count was lost would go with the copy.
            let counted = match &record.location {
                Location::File(id) => Some(Key::Blob(*id)),
                Location::Parts(set) => Some(Key::PartSet(set.id)),
                Location::Empty | Location::Here | Location::Pack { .. } => None,
            };
            if let Some(row) = counted {
                requires.add(
                    Precondition::Exists(row),
                    ErrorKind::InternalError,
                    "The index has lost who shares the bytes of the source: they are not shared once more.",
                );
            }
            let copy = self.copied(record, body.is_some(), &options);
            let (info, done) = (info(key.clone(), &copy), Done::written(&copy));
            requires.add_quota(&to, key, info.size);
            let row = Key::Object(to.id, key.as_str().into());
            let transaction = Transaction {
                changes: vec![Change::put(row, Record::Object(Box::new(copy)))],
                body,
                ..Transaction::default()
            };
            let once = options.once.as_ref();
            match self.commit_once(requires, transaction, once, done).await {
                Err(error) if error.kind() == ErrorKind::OperationAborted => {}
                done => return once::told(done?, key, info),
            }
        }
        Err(Error::new(
            ErrorKind::OperationAborted,
            "The source of the copy is being changed: try again.",
        ))
    }

    /// A public bucket shows its objects and not their tags, so copies do not carry them away either.
    ///
    /// Source: S3 API, CopyObject, which takes the right to read the tags of an object that has some.
    fn must_show_tags(&self, caller: &Caller, source: &CopySource) -> Result<()> {
        let (bucket, place) = (&source.bucket, Place::Key(&source.key));
        match self.bucket(caller, Action::ObjectReadMeta, bucket, place) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::AccessDenied | ErrorKind::NoSuchBucket
                ) =>
            {
                Err(Error::new(
                    ErrorKind::AccessDenied,
                    "Access denied: the tags of the source are not yours to read: give the copy tags of its own, or \
                     none, by the tagging directive REPLACE.",
                ))
            }
            read => read.map(drop),
        }
    }

    /// The source as it is now, with the checksum that the copy shall have, and its body when that has to be
    /// written again.
    async fn source(
        self: &Arc<Self>,
        from: &BucketRecord,
        source: &CopySource,
        options: &CopyOptions,
        known: &mut Option<(Location, Option<Checksum>)>,
    ) -> Result<(ObjectRecord, Option<Body>, Buffer)> {
        let record = self.object(from, &source.key)?;
        record.must_be_whole(&source.key)?;
        source.must_hold(&record)?;
        let buffer = self.buffer(DOWNLOAD_BYTES.max(self.inline_max)).await?;
        let (mut record, mut reader) = self
            .open_object(from, &source.key, Select::Whole, false)
            .await?;
        source.must_hold(&record)?;
        let mut body = None;
        if let Location::Pack { .. } = record.location {
            let mut bytes = bytes::BytesMut::with_capacity(record.size as usize);
            while let Some(chunk) = reader.next().await? {
                bytes.extend_from_slice(&chunk);
            }
            let bytes = bytes.freeze();
            if let Some(algorithm) = missing(&record, options) {
                let sums = Digests::of(&bytes, Some(algorithm)).finish();
                record.set_checksum(sums.chosen);
            }
            body = Some(Body::new(bytes));
        } else if let Some(algorithm) = missing(&record, options) {
            let checksum = match known.take() {
                Some((location, checksum)) if location == record.location => checksum,
                _ => checksum_of(reader, algorithm).await?,
            };
            *known = Some((record.location.clone(), checksum.clone()));
            record.set_checksum(checksum);
        }
        Ok((record, body, buffer))
    }

    fn copied(&self, source: ObjectRecord, is_inline: bool, options: &CopyOptions) -> ObjectRecord {
        let mut copy = source;
        copy.version = self.env.unique_id();
        copy.modified = self.env.clock.now();
        if is_inline {
            copy.location = Location::Here;
        }
        if let Some((headers, metadata)) = &options.replace {
            copy.headers = headers.clone();
            copy.metadata = metadata.clone();
        }
        if let Some(tags) = &options.tags {
            copy.tags = tags.clone();
        }
        copy
    }
}

impl ObjectRecord {
    fn set_checksum(&mut self, checksum: Option<Checksum>) {
        self.checksum = checksum;
        self.checksum_type = ChecksumType::FullObject;
    }
}

/// The algorithm that is asked for and that the source has no checksum of.
fn missing(record: &ObjectRecord, options: &CopyOptions) -> Option<ChecksumAlgorithm> {
    let has = record.checksum.as_ref().map(|checksum| checksum.algorithm);
    options
        .checksum_algorithm
        .filter(|&wanted| has != Some(wanted))
}

async fn checksum_of(
    mut reader: ObjectReader,
    algorithm: ChecksumAlgorithm,
) -> Result<Option<Checksum>> {
    let mut digests = Digests::without_md5(Some(algorithm)).with_md5_of(Digests::only_md5());
    while let Some(chunk) = reader.next().await? {
        digests = blocking(move || {
            digests.update(&chunk);
            digests
        })
        .await?;
    }
    Ok(digests.finish().chosen)
}

impl CopySource {
    /// Refuses a source for which the conditions do not hold.
    ///
    /// Source: S3 API, CopyObject, `x-amz-copy-source-if-*`.
    pub(super) fn must_hold(&self, record: &ObjectRecord) -> Result<()> {
        let outcome = self.conditions.decide(&record.etag, record.modified);
        let condition = match outcome {
            ReadOutcome::Proceed => return Ok(()),
            ReadOutcome::NotModified => "If-None-Match or If-Modified-Since",
            ReadOutcome::Failed(condition) => condition,
        };
        Err(Error::new(
            ErrorKind::PreconditionFailed,
            format!(
                "At least one of the preconditions you specified for the source did not hold: {condition}."
            ),
        ))
    }
}

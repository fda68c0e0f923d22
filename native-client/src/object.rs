//! Objects: put, get, head, exists, delete, copy, and their tags.

use std::{
    collections::BTreeMap,
    future::{Future, IntoFuture},
    ops::{Bound, RangeBounds},
    pin::Pin,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use jay_wire::{
    Time, object,
    tagging::{DeleteObjectTagging, GetObjectTagging, PutObjectTagging, TagSet},
};

use crate::{
    body::Body,
    bucket::Bucket,
    core::CallOptions,
    error::{Error, ErrorKind, Result},
    list::turns_in_circles,
    model::{Checksum, ContentHeaders, ObjectMeta, PutResult, tags_from, tags_to},
    reader::GetObject,
    retry::Safety,
};

/// What a request becomes when it is awaited.
type Answer<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Most keys of one request.
const KEYS_MAX: usize = object::KEYS_MAX;
/// Most bytes of keys of one request, so that its metadata fit into a frame.
const KEY_BYTES_MAX: usize = 900_000;

/// What every request may say.
macro_rules! call_options {
    () => {
        /// Names the request in the logs of both sides: at most 64 bytes of visible ASCII.
        pub fn request_id(mut self, id: impl Into<String>) -> Self {
            self.options.request_id = Some(id.into());
            self
        }

        /// Gives the request up after so long.
        pub fn timeout(mut self, limit: Duration) -> Self {
            self.options.timeout = Some(limit);
            self
        }
    };
}

impl Bucket {
    /// Stores an object.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] and [`ErrorKind::PreconditionFailed`] when a condition does not hold; see [`ErrorKind`].
    pub fn put(&self, key: impl Into<String>, body: impl Into<Body>) -> Put {
        Put {
            bucket: self.clone(),
            asked: object::PutObject {
                bucket: self.name().to_owned(),
                key: self.full(&key.into()),
                ..object::PutObject::default()
            },
            body: body.into(),
            options: CallOptions::default(),
        }
    }

    /// Reads an object, whole or in part.
    ///
    /// # Errors
    /// [`ErrorKind::ObjectNotFound`], [`ErrorKind::InvalidRange`], [`ErrorKind::NotModified`]; see [`ErrorKind`].
    pub fn get(&self, key: impl Into<String>) -> Get {
        Get {
            bucket: self.clone(),
            asked: object::GetObject {
                bucket: self.name().to_owned(),
                key: self.full(&key.into()),
                ..object::GetObject::default()
            },
            options: CallOptions::default(),
        }
    }

    /// Reads several ranges of one version of an object, in one request: their bytes, in order.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRange`] when one of them has no byte; see [`ErrorKind`].
    pub async fn get_ranges(
        &self,
        key: &str,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<Bytes>> {
        let mut found = Vec::with_capacity(ranges.len());
        let mut etag: Option<String> = None;
        for ranges in ranges.chunks(object::RANGES_MAX) {
            let asked = object::GetRanges {
                bucket: self.name().to_owned(),
                key: self.full(key),
                ranges: ranges
                    .iter()
                    .map(|range| object::ByteRange {
                        start: range.start,
                        end: Some(range.end),
                        suffix: None,
                    })
                    .collect(),
                // All from one version, however many requests it takes.
                conditions: object::ReadConditions {
                    if_match: etag.clone().into_iter().collect(),
                    ..object::ReadConditions::default()
                },
            };
            let wanted: Vec<u64> = ranges
                .iter()
                .map(|range| range.end.saturating_sub(range.start))
                .collect();
            let sum = |lengths: &[u64]| lengths.iter().copied().fold(0, u64::saturating_add);
            let (told, mut all) = self
                .core
                .read_all(&asked, sum(&wanted), &CallOptions::default())
                .await?;
            let is_right = told.lengths.len() == wanted.len()
                && told
                    .lengths
                    .iter()
                    .zip(&wanted)
                    .all(|(told, wanted)| told <= wanted)
                && sum(&told.lengths) == all.len() as u64;
            if !is_right {
                return Err(Error::protocol(
                    "The server answers with other ranges than were asked for.",
                ));
            }
            for length in told.lengths {
                found.push(all.split_to(length as usize));
            }
            etag = Some(told.object.etag);
        }
        Ok(found)
    }

    /// What an object is.
    ///
    /// # Errors
    /// [`ErrorKind::ObjectNotFound`]; see [`ErrorKind`].
    pub async fn head(&self, key: &str) -> Result<ObjectMeta> {
        let asked = object::HeadObject {
            bucket: self.name().to_owned(),
            key: self.full(key),
            ..object::HeadObject::default()
        };
        let told = self
            .core
            .ask(&asked, Safety::Repeatable, &CallOptions::default())
            .await?;
        Ok(ObjectMeta::new(key, told))
    }

    /// What several objects are: one result for each key, in order.
    ///
    /// # Errors
    /// Of the request as a whole.
    pub async fn head_many(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Result<ObjectMeta>>> {
        if self.core.is_v1() {
            return self.head_each(keys).await;
        }
        let mut found = Vec::with_capacity(keys.len());
        while found.len() < keys.len() {
            let now = self.batch(&keys[found.len()..]);
            let asked = object::HeadObjects {
                bucket: self.name().to_owned(),
                keys: now,
            };
            let told = self
                .core
                .ask(&asked, Safety::Repeatable, &CallOptions::default())
                .await?;
            if told.outcomes.is_empty() || told.outcomes.len() > keys.len() - found.len() {
                return Err(Error::protocol(
                    "The server answers about other keys than were asked for.",
                ));
            }
            for outcome in told.outcomes {
                let key = keys[found.len()].as_ref();
                found.push(match (outcome.object, outcome.failure) {
                    (Some(object), None) => Ok(ObjectMeta::new(key, object)),
                    (_, failure) => {
                        let error = Error::of_server(failure.unwrap_or_default(), String::new());
                        Err(error.about("HeadObjects", (Some(self.name()), Some(key))))
                    }
                });
            }
        }
        Ok(found)
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// Anything but its absence.
    pub async fn exists(&self, key: &str) -> Result<bool> {
        match self.head(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::ObjectNotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes an object; fine when there is none.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] when a condition does not hold; see [`ErrorKind`].
    pub fn delete(&self, key: impl Into<String>) -> Delete {
        Delete {
            bucket: self.clone(),
            asked: object::DeleteObject {
                bucket: self.name().to_owned(),
                key: self.full(&key.into()),
                ..object::DeleteObject::default()
            },
            options: CallOptions::default(),
        }
    }

    /// Deletes several objects: one result for each key, in order.
    ///
    /// # Errors
    /// Of a request as a whole: of many keys some may be deleted then.
    pub async fn delete_many(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Result<()>>> {
        if self.core.is_v1() {
            return self.delete_each(keys).await;
        }
        let mut done = Vec::with_capacity(keys.len());
        while done.len() < keys.len() {
            let now = self.batch(&keys[done.len()..]);
            let count = now.len();
            let asked = object::DeleteObjects {
                bucket: self.name().to_owned(),
                keys: now,
            };
            let told = self
                .core
                .ask(&asked, Safety::Once, &CallOptions::default())
                .await?;
            if told.outcomes.len() != count {
                return Err(Error::protocol(
                    "The server answers about other keys than were asked for.",
                ));
            }
            for outcome in told.outcomes {
                let key = keys[done.len()].as_ref();
                done.push(outcome.failure.map_or(Ok(()), |failure| {
                    let error = Error::of_server(failure, String::new());
                    Err(error.about("DeleteObjects", (Some(self.name()), Some(key))))
                }));
            }
        }
        Ok(done)
    }

    /// As many of the first keys as one request may have.
    fn batch(&self, keys: &[impl AsRef<str>]) -> Vec<String> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for key in keys.iter().take(KEYS_MAX) {
            let key = self.full(key.as_ref());
            bytes += key.len() + 4;
            if bytes > KEY_BYTES_MAX && !batch.is_empty() {
                break;
            }
            batch.push(key);
        }
        batch
    }

    /// Deletes all objects whose keys begin with a prefix; answers how many.
    ///
    /// # Errors
    /// See [`ErrorKind`]; some may be deleted then.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64> {
        if self.core.is_v1() {
            return self.delete_listed(prefix).await;
        }
        let mut deleted = 0;
        let mut start_after = String::new();
        loop {
            let asked = object::DeletePrefix {
                bucket: self.name().to_owned(),
                prefix: self.full(prefix),
                start_after,
            };
            let told = self
                .core
                .ask(&asked, Safety::Once, &CallOptions::default())
                .await?;
            deleted += told.deleted;
            if !told.is_truncated {
                return Ok(deleted);
            }
            if told.next_start_after <= asked.start_after {
                return Err(turns_in_circles());
            }
            start_after = told.next_start_after;
        }
    }

    /// Makes an object of the bytes of another one of this bucket, on the server.
    ///
    /// # Errors
    /// [`ErrorKind::ObjectNotFound`] for the source; see [`ErrorKind`].
    pub fn copy(&self, from: impl Into<String>, to: impl Into<String>) -> Copy {
        Copy {
            bucket: self.clone(),
            asked: object::CopyObject {
                bucket: self.name().to_owned(),
                key: self.full(&to.into()),
                source_bucket: self.name().to_owned(),
                source_key: self.full(&from.into()),
                ..object::CopyObject::default()
            },
            options: CallOptions::default(),
        }
    }

    /// The tags of an object.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn tags(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let asked = GetObjectTagging {
            bucket: self.name().to_owned(),
            key: self.full(key),
        };
        let told = self
            .core
            .ask(&asked, Safety::Repeatable, &CallOptions::default())
            .await?;
        Ok(tags_from(told))
    }

    /// Gives an object tags in place of those it has.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn set_tags(&self, key: &str, tags: BTreeMap<String, String>) -> Result<()> {
        let asked = PutObjectTagging {
            bucket: self.name().to_owned(),
            key: self.full(key),
            tags: tags_to(tags),
        };
        self.core
            .ask(&asked, Safety::Once, &CallOptions::default())
            .await?;
        Ok(())
    }

    /// Takes all tags of an object away.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn delete_tags(&self, key: &str) -> Result<()> {
        let asked = DeleteObjectTagging {
            bucket: self.name().to_owned(),
            key: self.full(key),
        };
        self.core
            .ask(&asked, Safety::Once, &CallOptions::default())
            .await?;
        Ok(())
    }
}

/// A PUT that is about to be sent: await it.
#[derive(Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Put {
    bucket: Bucket,
    asked: object::PutObject,
    body: Body,
    options: CallOptions,
}

impl Put {
    /// The content type. Default: `application/octet-stream`.
    pub fn content_type(mut self, text: impl Into<String>) -> Self {
        self.asked.content_type = text.into();
        self
    }

    /// Other standard headers.
    pub fn headers(mut self, headers: ContentHeaders) -> Self {
        self.asked.headers = headers.into();
        self
    }

    /// A piece of user metadata.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.asked.metadata.insert(name.into(), value.into());
        self
    }

    /// Tags.
    pub fn tags(mut self, tags: BTreeMap<String, String>) -> Self {
        self.asked.tags = tags_to(tags);
        self
    }

    /// Only if the object that is there has this ETag; `*` is any.
    pub fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.asked.conditions.if_match = Some(etag.into());
        self
    }

    /// Only if the object that is there has another ETag.
    pub fn if_none_match(mut self, etag: impl Into<String>) -> Self {
        self.asked.conditions.if_none_match = Some(etag.into());
        self
    }

    /// Only if there is no object.
    pub fn if_none_match_any(self) -> Self {
        self.if_none_match("*")
    }

    /// Without MD5 and SHA-256, which cost the server more than all else of a large body: the ETag is `crc64nvme-` and the
    /// CRC64-NVME in hex then, which every body has.
    pub fn without_digests(mut self) -> Self {
        self.asked.without_digests = true;
        self
    }

    /// A checksum that the body must have, and that is kept.
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.asked.checksum = Some(object::Checksum {
            algorithm: checksum.algorithm,
            value: checksum.value.into(),
            is_composite: false,
        });
        self
    }

    call_options!();

    async fn send(self) -> Result<PutResult> {
        let Self {
            bucket,
            asked,
            body,
            options,
        } = self;
        if bucket.core.is_v1() && body.size().is_none() {
            return bucket.put_gathered(&asked, body, &options).await;
        }
        let stored = bucket
            .core
            .write(&asked, body, Safety::InSession, &options, &mut |_| {})
            .await?;
        Ok(stored.into())
    }
}

impl IntoFuture for Put {
    type Output = Result<PutResult>;
    type IntoFuture = Answer<PutResult>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// A GET that is about to be sent: await it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Get {
    bucket: Bucket,
    asked: object::GetObject,
    options: CallOptions,
}

impl Get {
    /// Only these bytes: a range of offsets in bytes.
    pub fn range(mut self, range: impl RangeBounds<u64>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(at) => Some(at.saturating_add(1)),
            Bound::Excluded(at) => Some(*at),
            Bound::Unbounded => None,
        };
        self.asked.range = Some(object::ByteRange {
            start,
            end,
            suffix: None,
        });
        self
    }

    /// Only so many bytes at the end.
    pub fn suffix(mut self, bytes: u64) -> Self {
        self.asked.range = Some(object::ByteRange {
            suffix: Some(bytes),
            ..object::ByteRange::default()
        });
        self
    }

    /// Only if the object has this ETag.
    pub fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.asked.conditions.if_match.push(etag.into());
        self
    }

    /// Only if the object has another ETag, else [`ErrorKind::NotModified`].
    pub fn if_none_match(mut self, etag: impl Into<String>) -> Self {
        self.asked.conditions.if_none_match.push(etag.into());
        self
    }

    /// Only if the object is newer, else [`ErrorKind::NotModified`].
    pub fn if_modified_since(mut self, time: SystemTime) -> Self {
        self.asked.conditions.if_modified_since = Some(moment(time));
        self
    }

    /// Only if the object is not newer.
    pub fn if_unmodified_since(mut self, time: SystemTime) -> Self {
        self.asked.conditions.if_unmodified_since = Some(moment(time));
        self
    }

    call_options!();

    /// What the object is, under the same conditions, without its body; a range does not matter.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn head(self) -> Result<ObjectMeta> {
        let asked = object::HeadObject {
            bucket: self.asked.bucket,
            key: self.asked.key,
            conditions: self.asked.conditions,
        };
        let core = &self.bucket.core;
        let told = core.ask(&asked, Safety::Repeatable, &self.options).await?;
        Ok(ObjectMeta::new(&self.bucket.short(asked.key), told))
    }

    async fn send(self) -> Result<GetObject> {
        GetObject::open(self.bucket, self.asked, self.options).await
    }
}

impl IntoFuture for Get {
    type Output = Result<GetObject>;
    type IntoFuture = Answer<GetObject>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// A DELETE that is about to be sent: await it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Delete {
    bucket: Bucket,
    asked: object::DeleteObject,
    options: CallOptions,
}

impl Delete {
    /// Only if the object that is there has this ETag.
    pub fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.asked.if_match = Some(etag.into());
        self
    }

    call_options!();

    async fn send(self) -> Result<()> {
        self.bucket
            .core
            .ask(&self.asked, Safety::InSession, &self.options)
            .await?;
        Ok(())
    }
}

impl IntoFuture for Delete {
    type Output = Result<()>;
    type IntoFuture = Answer<()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// A copy that is about to be asked for: await it.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Copy {
    bucket: Bucket,
    asked: object::CopyObject,
    options: CallOptions,
}

impl Copy {
    /// From another bucket.
    pub fn from_bucket(mut self, bucket: &Bucket, key: &str) -> Self {
        self.asked.source_bucket = bucket.name().to_owned();
        self.asked.source_key = bucket.full(key);
        self
    }

    /// With other headers and user metadata.
    pub fn replace(
        mut self,
        content_type: impl Into<String>,
        headers: ContentHeaders,
        metadata: BTreeMap<String, String>,
    ) -> Self {
        self.asked.replace = Some(object::Description {
            content_type: content_type.into(),
            headers: headers.into(),
            metadata,
        });
        self
    }

    /// With other tags.
    pub fn replace_tags(mut self, tags: BTreeMap<String, String>) -> Self {
        self.asked.replace_tags = Some(TagSet {
            tags: tags_to(tags),
        });
        self
    }

    /// Only if the source has this ETag.
    pub fn if_source_match(mut self, etag: impl Into<String>) -> Self {
        self.asked.source_conditions.if_match.push(etag.into());
        self
    }

    /// Only if there is no object yet.
    pub fn if_none_match_any(mut self) -> Self {
        self.asked.conditions.if_none_match = Some("*".to_owned());
        self
    }

    call_options!();

    async fn send(self) -> Result<PutResult> {
        let told = self
            .bucket
            .core
            .ask(&self.asked, Safety::InSession, &self.options)
            .await?;
        Ok(told.into())
    }
}

impl IntoFuture for Copy {
    type Output = Result<PutResult>;
    type IntoFuture = Answer<PutResult>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

fn moment(time: SystemTime) -> Time {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl crate::core::Incoming {
    /// All of it; more than `most` bytes are an error, and never in memory.
    pub(crate) async fn all(mut self, most: u64) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if (all.len() + bytes.len()) as u64 > most {
                return Err(Error::protocol("More has come than was asked for."));
            }
            match all.is_empty() {
                true => all = BytesMut::from(bytes),
                false => all.extend_from_slice(&bytes),
            }
        }
        Ok(all.freeze())
    }
}

//! Files up and down: short ones in one request, long ones in parts that go side by side.

use std::{
    fmt,
    future::IntoFuture,
    io::SeekFrom,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use jay_wire::{body::combined_crc64, multipart::CreateMultipartUpload, object};
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
};

use crate::{
    body::Body,
    bucket::Bucket,
    cancel::{CancelToken, unless_cancelled},
    core::CallOptions,
    error::{Error, ErrorKind, Result},
    model::{ContentHeaders, ObjectMeta, PartInfo, PutResult, tags_to},
    multipart::Upload,
    reader::{GetObject, unwritable},
    retry::Safety,
};

/// Most parts of one upload.
pub(crate) const PARTS_MAX: u64 = 10_000;

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that have gone or come; fewer than before when some have to be sent again.
    pub transferred: u64,
    /// Bytes of all.
    pub total: u64,
}

/// What a transfer may be told, whichever way it goes.
#[derive(Clone, Default)]
struct Course {
    part_size: Option<u64>,
    concurrency: Option<u32>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    cancel: Option<CancelToken>,
}

impl fmt::Debug for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Course")
            .field("part_size", &self.part_size)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// What every transfer may say.
macro_rules! course {
    () => {
        /// The size of a part in bytes, in place of the option `part_size`.
        pub fn part_size(mut self, bytes: u64) -> Self {
            self.course.part_size = Some(bytes);
            self
        }

        /// Parts that are on their way at a time, in place of the option `concurrency`.
        pub fn concurrency(mut self, parts: u32) -> Self {
            self.course.concurrency = Some(parts);
            self
        }

        /// Told how far it is, again and again; from whichever thread is at it, so it should be quick.
        pub fn progress(mut self, tell: impl Fn(Progress) + Send + Sync + 'static) -> Self {
            self.course.progress = Some(std::sync::Arc::new(tell));
            self
        }

        /// Gives it up, with [`ErrorKind::Cancelled`], when the token is used.
        pub fn cancel(mut self, token: CancelToken) -> Self {
            self.course.cancel = Some(token);
            self
        }
    };
}

impl Bucket {
    /// Stores a file as an object; one that is longer than `multipart_threshold` in parts, side by side. An upload that fails or is given up
    /// leaves nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] when the file cannot be read, or changes meanwhile; as [`Bucket::put`].
    ///
    /// ```no_run
    /// # async fn example(bucket: jay_client::Bucket) -> jay_client::Result<()> {
    /// bucket.upload_file("films/one.mp4", "one.mp4")
    ///     .content_type("video/mp4")
    ///     .progress(|so_far| println!("{} of {}", so_far.transferred, so_far.total))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn upload_file(&self, key: impl Into<String>, path: impl Into<PathBuf>) -> UploadFile {
        UploadFile {
            bucket: self.clone(),
            asked: object::PutObject {
                bucket: self.name().to_owned(),
                key: self.full(&key.into()),
                ..object::PutObject::default()
            },
            path: path.into(),
            course: Course::default(),
        }
    }

    /// Writes an object to a file, which appears under its name when all of it is there and has been checked; one that is longer than
    /// `multipart_threshold` in ranges, side by side.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] when the object is overwritten meanwhile; [`ErrorKind::InvalidArgument`] when the file cannot be
    /// written; as [`Bucket::get`].
    pub fn download_file(&self, key: impl Into<String>, path: impl Into<PathBuf>) -> DownloadFile {
        DownloadFile {
            bucket: self.clone(),
            key: key.into(),
            conditions: object::ReadConditions::default(),
            path: path.into(),
            course: Course::default(),
        }
    }
}

/// An upload that is about to begin: await it.
#[derive(Debug)]
#[must_use = "a transfer begins when it is awaited"]
pub struct UploadFile {
    bucket: Bucket,
    asked: object::PutObject,
    path: PathBuf,
    course: Course,
}

/// What every request that writes an object may say.
macro_rules! describes {
    () => {
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
        pub fn tags(mut self, tags: std::collections::BTreeMap<String, String>) -> Self {
            self.asked.tags = tags_to(tags);
            self
        }

        /// Only if the object that is there has this ETag; `*` is any.
        pub fn if_match(mut self, etag: impl Into<String>) -> Self {
            self.asked.conditions.if_match = Some(etag.into());
            self
        }

        /// Only if there is no object.
        pub fn if_none_match_any(mut self) -> Self {
            self.asked.conditions.if_none_match = Some("*".to_owned());
            self
        }
    };
}
pub(crate) use describes;

impl UploadFile {
    describes!();
    course!();

    async fn send(self) -> Result<PutResult> {
        let course = self.course.clone();
        unless_cancelled(course.cancel.as_ref(), self.transfer()).await
    }

    async fn transfer(self) -> Result<PutResult> {
        let before = Stamp::of(&self.path).await?;
        let options = &self.bucket.core.config().options;
        let told = Told::new(&self.course, before.size);
        if before.size > options.multipart_threshold {
            return self.in_parts(before, told).await;
        }
        let body = Body::of_file(self.path.clone(), 0, before.size);
        let mut sent = told.part();
        let core = &self.bucket.core;
        let none = CallOptions::default();
        let mut tell = |at| sent.at(at);
        let stored = core.write(&self.asked, body, Safety::InSession, &none, &mut tell);
        Ok(stored.await?.into())
    }

    async fn in_parts(self, before: Stamp, told: Told) -> Result<PutResult> {
        let options = &self.bucket.core.config().options;
        let part_size = part_size_of(
            self.course.part_size.unwrap_or(options.part_size),
            before.size,
        );
        let concurrency = self
            .course
            .concurrency
            .unwrap_or(options.concurrency)
            .max(1);
        let upload = Unfinished::new(self.bucket.begin_upload(&self.asked).await?);
        let mut running = FuturesUnordered::new();
        let mut offsets = (0..before.size).step_by(part_size as usize).zip(1..);
        let mut parts = Vec::new();
        loop {
            while running.len() < concurrency as usize
                && let Some((offset, number)) = offsets.next()
            {
                let size = part_size.min(before.size - offset);
                let body = Body::of_file(self.path.clone(), offset, size);
                running.push(part(upload.get(), number, body, told.part()));
            }
            match running.next().await {
                Some(done) => parts.push(done?),
                None => break,
            }
        }
        if Stamp::of(&self.path).await? != before {
            let message = format!("{} was changed while it was sent.", self.path.display());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        upload.complete(parts, self.asked.conditions).await
    }
}

async fn part(upload: Upload, number: u32, body: Body, mut sent: ToldPart) -> Result<PartInfo> {
    upload.part_with(number, body, &mut |at| sent.at(at)).await
}

impl IntoFuture for UploadFile {
    type Output = Result<PutResult>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl Bucket {
    /// Begins the upload in parts that makes the object of this request.
    pub(crate) async fn begin_upload(&self, asked: &object::PutObject) -> Result<Upload> {
        let begun = CreateMultipartUpload {
            bucket: asked.bucket.clone(),
            key: asked.key.clone(),
            content_type: asked.content_type.clone(),
            metadata: asked.metadata.clone(),
            headers: asked.headers.clone(),
            tags: asked.tags.clone(),
        };
        let told = self
            .core
            .ask(&begun, Safety::Once, &CallOptions::default())
            .await?;
        Ok(self.multipart(&self.short(begun.key), told.upload_id))
    }
}

/// The size of parts, so that there are not too many of them.
pub(crate) fn part_size_of(wanted: u64, size: u64) -> u64 {
    let least = size.div_ceil(PARTS_MAX).next_multiple_of(1 << 20);
    match size.div_ceil(wanted.max(1)) > PARTS_MAX {
        true => least,
        false => wanted.max(1),
    }
}

/// What a file looks like from outside.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    async fn of(path: &Path) -> Result<Self> {
        let metadata = tokio::fs::metadata(path).await.map_err(|error| {
            let message = format!("{} cannot be read: {error}.", path.display());
            Error::new(ErrorKind::InvalidArgument, message).with_source(error)
        })?;
        Ok(Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

/// An upload that is given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Unfinished(Option<Upload>);

impl Unfinished {
    pub(crate) fn new(upload: Upload) -> Self {
        Self(Some(upload))
    }

    pub(crate) fn get(&self) -> Upload {
        self.0.clone().expect("it is there until it is finished")
    }

    /// Makes the object of these parts.
    pub(crate) async fn complete(
        mut self,
        mut parts: Vec<PartInfo>,
        conditions: object::WriteConditions,
    ) -> Result<PutResult> {
        parts.sort_by_key(|part| part.part_number);
        let done = self.get().complete_if(&parts, conditions).await;
        // Whether it was completed may not be known: then it is not for us to give it up.
        let is_open = matches!(&done, Err(error) if !error.is_retryable());
        if !is_open {
            self.0 = None;
        }
        done
    }

    /// Gives it up now.
    pub(crate) async fn abort(mut self) -> Result<()> {
        match self.0.take() {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Nobody waits for it here; what is left the server gives up by itself after a while.
        if let (Some(upload), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, "an upload could not be given up");
                }
            });
        }
    }
}

/// How far all parts are together.
#[derive(Clone)]
struct Told {
    tell: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    transferred: Arc<AtomicU64>,
    total: u64,
}

impl Told {
    fn new(course: &Course, total: u64) -> Self {
        Self {
            tell: course.progress.clone(),
            transferred: Arc::default(),
            total,
        }
    }

    fn part(&self) -> ToldPart {
        ToldPart {
            all: self.clone(),
            last: 0,
        }
    }
}

/// How far one of them is.
struct ToldPart {
    all: Told,
    last: u64,
}

impl ToldPart {
    /// So many bytes of the part; fewer than before when it is sent again.
    fn at(&mut self, bytes: u64) {
        let change = bytes.wrapping_sub(self.last);
        self.last = bytes;
        let before = self.all.transferred.fetch_add(change, Ordering::Relaxed);
        if let Some(tell) = &self.all.tell {
            tell(Progress {
                transferred: before.wrapping_add(change),
                total: self.all.total,
            });
        }
    }
}

/// A download that is about to begin: await it.
#[derive(Debug)]
#[must_use = "a transfer begins when it is awaited"]
pub struct DownloadFile {
    bucket: Bucket,
    key: String,
    conditions: object::ReadConditions,
    path: PathBuf,
    course: Course,
}

impl DownloadFile {
    /// Only if the object has this ETag.
    pub fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.conditions.if_match.push(etag.into());
        self
    }

    /// Only if the object has another ETag, else [`ErrorKind::NotModified`].
    pub fn if_none_match(mut self, etag: impl Into<String>) -> Self {
        self.conditions.if_none_match.push(etag.into());
        self
    }

    course!();

    async fn send(self) -> Result<ObjectMeta> {
        let part = beside(&self.path);
        let written = unless_cancelled(self.course.cancel.as_ref(), self.transfer(&part)).await;
        if written.is_err() {
            let _ = tokio::fs::remove_file(&part).await;
        }
        written
    }

    async fn transfer(&self, part: &Path) -> Result<ObjectMeta> {
        let asked = object::HeadObject {
            bucket: self.bucket.name().to_owned(),
            key: self.bucket.full(&self.key),
            conditions: self.conditions.clone(),
        };
        let core = &self.bucket.core;
        let none = CallOptions::default();
        let told = core.ask(&asked, Safety::Repeatable, &none).await?;
        let meta = ObjectMeta::new(&self.key, told);
        let file = File::create(part).await.map_err(unwritable)?;
        let told = Told::new(&self.course, meta.size);
        // Version 1 has no ranges.
        match meta.size > core.config().options.multipart_threshold && !core.is_v1() {
            true => self.in_ranges(part, &meta, told).await?,
            false => self.at_once(part, &meta, told).await?,
        }
        file.sync_data().await.map_err(unwritable)?;
        tokio::fs::rename(part, &self.path)
            .await
            .map_err(unwritable)?;
        Ok(meta)
    }

    async fn at_once(&self, part: &Path, meta: &ObjectMeta, told: Told) -> Result<()> {
        let got = self.bucket.get(&self.key);
        let got = match self.bucket.core.is_v1() {
            true => got.await?,
            false => got.if_match(&meta.etag).await?,
        };
        written(got, part, 0, told.part()).await.map(drop)
    }

    /// Ranges of the one version that was looked at, and the sum of all of them.
    async fn in_ranges(&self, part: &Path, meta: &ObjectMeta, told: Told) -> Result<()> {
        let options = &self.bucket.core.config().options;
        let size = part_size_of(
            self.course.part_size.unwrap_or(options.part_size),
            meta.size,
        );
        let concurrency = self
            .course
            .concurrency
            .unwrap_or(options.concurrency)
            .max(1);
        let mut running = FuturesUnordered::new();
        let mut offsets = (0..meta.size).step_by(size as usize);
        let mut sums = Vec::new();
        loop {
            while running.len() < concurrency as usize
                && let Some(offset) = offsets.next()
            {
                let range = offset..meta.size.min(offset + size);
                let got = self.bucket.get(&self.key).range(range).if_match(&meta.etag);
                let told = told.part();
                running.push(async move { written(got.await?, part, offset, told).await });
            }
            match running.next().await {
                Some(done) => sums.push(done?),
                None => break,
            }
        }
        sums.sort_by_key(|sum| sum.offset);
        let whole = sums.iter().try_fold(0, |whole, sum| {
            sum.crc64
                .map(|crc64| combined_crc64(whole, crc64, sum.size))
        });
        match whole.is_none_or(|whole| whole == meta.crc64) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::ChecksumMismatch,
                "The ranges together are not the body that was stored.",
            )),
        }
    }
}

impl IntoFuture for DownloadFile {
    type Output = Result<ObjectMeta>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// What was written of an object, and its CRC64-NVME where it was checked.
struct Sum {
    offset: u64,
    size: u64,
    crc64: Option<u64>,
}

/// Writes what comes to a place in a file.
async fn written(mut got: GetObject, path: &Path, offset: u64, mut told: ToldPart) -> Result<Sum> {
    let opened = File::options().write(true).open(path).await;
    let mut file = opened.map_err(unwritable)?;
    file.seek(SeekFrom::Start(offset))
        .await
        .map_err(unwritable)?;
    let mut size = 0;
    while let Some(bytes) = got.next_chunk().await? {
        file.write_all(&bytes).await.map_err(unwritable)?;
        size += bytes.len() as u64;
        told.at(size);
    }
    file.flush().await.map_err(unwritable)?;
    Ok(Sum {
        offset,
        size,
        crc64: got.crc64(),
    })
}

/// The name of a file that is not whole yet, beside the one that it becomes.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut random = [0; 6];
    // Only so that two downloads of one file do not write into each other.
    let _ = getrandom::fill(&mut random);
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{random}.part"));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_where_there_would_be_too_many() {
        assert_eq!(part_size_of(8 << 20, 100 << 20), 8 << 20);
        assert_eq!(part_size_of(0, 1), 1);
        for size in [80_000 << 20, (80_000 << 20) + 1, 5 << 40] {
            let part = part_size_of(8 << 20, size);
            assert!(
                size.div_ceil(part) <= PARTS_MAX && part < (8 << 20) * size.div_ceil(40_000 << 20)
            );
        }
    }
}

//! Moving bodies: files into stores, objects into files, objects from store to store. One at a time; whoever calls decides
//! what goes where, and how many go at once.
//!
//! What is short is in memory while it is moved; what is long goes in parts, some at a time. All bodies and parts in memory
//! share one budget. What is sent is what the file was at one moment, or nothing; a file that comes appears under its name when
//! it is whole.

pub mod file;

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use anyhow::ensure;
use bytes::{Bytes, BytesMut};
use crc_fast::CrcAlgorithm;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jay_client::ErrorKind;
use md5::{Digest as _, Md5};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::{Semaphore, SemaphorePermit},
};

use self::file::{Directory, Source, aside};
use super::{
    place::Remote,
    sign::{hex, unhex},
    store::{self, Description, Download, Object, Part, Range, Store, Upload},
    teller::Teller,
};

/// What is longer goes in parts.
const WHOLE_BYTES_MAX: u64 = 16 << 20;
/// The size of a part; it grows where there would be more than [`PARTS_MAX`].
const PART_BYTES: u64 = 8 << 20;
const PARTS_MAX: u64 = 10_000;
/// Of a body of unknown length the parts become twice as long after so many.
const PARTS_OF_A_SIZE: u32 = 1000;
/// Parts of one body that are on their way at a time.
const PARTS_AT_ONCE: usize = 8;
/// How often a body is asked for that comes in pieces only.
const FETCHES_MAX: u32 = 4;
/// Bodies and parts in memory, in KiB.
const MEMORY_KIB: u32 = 128 << 10;
/// A place in a store that is open.
#[derive(Clone)]
pub struct Target {
    /// The store.
    pub store: Arc<Store>,
    /// Where in it.
    pub remote: Remote,
}

impl Target {
    /// Whether both are in one bucket.
    pub fn is_in_bucket_of(&self, other: &Self) -> bool {
        self.is_in_store_of(other) && self.remote.bucket == other.remote.bucket
    }

    /// Whether both are in one store.
    pub fn is_in_store_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.store, &other.store)
    }

    /// What is relative to it.
    pub fn join(&self, relative: &str) -> Self {
        Self {
            store: self.store.clone(),
            remote: self.remote.join(relative),
        }
    }

    /// What the object there is.
    pub async fn head(&self) -> store::Result<Object> {
        self.store.head(&self.remote.bucket, &self.remote.key).await
    }
}

/// What objects get beside what is known of their source.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// In the place of the content type that follows from the name.
    pub content_type: Option<String>,
    /// User metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Wanted {
    fn is_something(&self) -> bool {
        self.content_type.is_some() || !self.metadata.is_empty()
    }

    /// What an object gets that would have `description`.
    fn over(&self, mut description: Description) -> Description {
        if let Some(content_type) = &self.content_type {
            description.content_type.clone_from(content_type);
        }
        description.metadata.extend(self.metadata.clone());
        description
    }

    /// What an object gets that is made of a file.
    fn of_file(&self, name: &Path, mtime: Option<SystemTime>) -> Description {
        let guessed = mime_guess::from_path(name).first_raw();
        let description = Description {
            content_type: guessed.unwrap_or("application/octet-stream").to_owned(),
            ..Description::default()
        };
        self.over(match mtime {
            Some(mtime) => description.with_mtime(mtime),
            None => description,
        })
    }
}

/// See the module.
pub struct Mover {
    /// Is told how far it is.
    pub teller: Teller,
    wanted: Wanted,
    memory: Semaphore,
}

/// A long body, as it is read.
enum Long<'a> {
    File(&'a Source),
    /// Of this ETag.
    Object(&'a Target, &'a str),
}

impl Long<'_> {
    async fn bytes(&self, start: u64, length: u64) -> anyhow::Result<Bytes> {
        match self {
            Self::File(file) => file.bytes(start, length).await,
            Self::Object(from, etag) => {
                let range = Range::Between(start, start + length);
                let (_, bytes) = fetch(from, Some(range), Some(etag)).await?;
                let bytes = joined(bytes);
                ensure!(
                    bytes.len() as u64 == length,
                    "the server sent less than was asked for"
                );
                Ok(bytes)
            }
        }
    }
}

impl Mover {
    /// Moves bodies, and gives objects what is wanted.
    pub fn new(teller: Teller, wanted: Wanted) -> Self {
        Self {
            teller,
            wanted,
            memory: Semaphore::new(MEMORY_KIB as usize),
        }
    }

    /// Stores a file that had `size` bytes when it was seen last.
    pub async fn upload(&self, path: &Path, size: u64, to: &Target) -> anyhow::Result<()> {
        let whole_max = if size <= WHOLE_BYTES_MAX { size } else { 0 };
        let _room = self.room(whole_max).await;
        let (file, whole) = Source::open(path, whole_max).await?;
        let description = self.wanted.of_file(path, Some(file.mtime));
        match whole {
            Some(body) => self.put(body, to, &description).await,
            None => {
                drop(_room);
                self.upload_parts(&file, to, &description).await
            }
        }
    }

    async fn put(&self, body: Bytes, to: &Target, description: &Description) -> anyhow::Result<()> {
        let Remote { bucket, key, .. } = &to.remote;
        to.store.put(bucket, key, body.clone(), description).await?;
        self.teller.advance(body.len() as u64);
        Ok(())
    }

    /// In parts: those that an earlier upload has left are not sent again.
    async fn upload_parts(
        &self,
        file: &Source,
        to: &Target,
        description: &Description,
    ) -> anyhow::Result<()> {
        let parts = Parts::of(file.size);
        let left = self.left_behind(file, to, parts).await?;
        let (upload, stored) = match left {
            Some(left) => left,
            None => (create(to, description).await?, BTreeMap::new()),
        };
        let stored = self
            .send_parts(&Long::File(file), to, &upload, parts, stored)
            .await?;
        if let Err(changed) = file.must_be_unchanged().await {
            let _ = to.store.abort(&upload).await;
            return Err(changed);
        }
        complete(to, &upload, &stored).await?;
        describe(to, description).await
    }

    /// An upload of this key that was broken off, and those of its parts that are parts of this file.
    async fn left_behind(
        &self,
        file: &Source,
        to: &Target,
        parts: Parts,
    ) -> anyhow::Result<Option<(Upload, BTreeMap<u32, Part>)>> {
        let Remote { bucket, key, .. } = &to.remote;
        // Who may not list uploads, or parts, begins anew.
        let mut uploads = to.store.list_uploads(bucket, key).await.unwrap_or_default();
        uploads.sort_by_key(|upload| std::cmp::Reverse(upload.began));
        for upload in uploads {
            let stored = to.store.list_parts(&upload).await.unwrap_or_default();
            let mut same = BTreeMap::new();
            for part in stored.into_iter().filter(|part| parts.has(part)) {
                let start = parts.start(part.number);
                if file.has(start, part.size, &part.etag).await? {
                    same.insert(part.number, part);
                } else if same.is_empty() {
                    // It is one of another file.
                    break;
                }
            }
            if !same.is_empty() {
                let bytes: u64 = same.values().map(|part| part.size).sum();
                self.teller.advance(bytes);
                return Ok(Some((upload, same)));
            }
        }
        Ok(None)
    }

    /// Sends what is missing beside `stored`; all parts.
    async fn send_parts(
        &self,
        from: &Long<'_>,
        to: &Target,
        upload: &Upload,
        parts: Parts,
        stored: BTreeMap<u32, Part>,
    ) -> anyhow::Result<Vec<Part>> {
        let missing = parts
            .numbers()
            .filter(|number| !stored.contains_key(number));
        let sent: Vec<Part> = stream::iter(missing)
            .map(|number| async move {
                let length = parts.length(number);
                let _room = self.room(length).await;
                let body = from.bytes(parts.start(number), length).await?;
                self.send_part(to, upload, number, body).await
            })
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        let mut all: Vec<_> = stored.into_values().chain(sent).collect();
        all.sort_by_key(|part| part.number);
        Ok(all)
    }

    async fn send_part(
        &self,
        to: &Target,
        upload: &Upload,
        number: u32,
        body: Bytes,
    ) -> anyhow::Result<Part> {
        let part = to.store.upload_part(upload, number, body.clone()).await?;
        self.teller.advance(body.len() as u64);
        Ok(part)
    }

    /// Stores all that a reader gives.
    pub async fn upload_stream(
        &self,
        reader: impl AsyncRead + Send + Unpin,
        to: &Target,
    ) -> anyhow::Result<u64> {
        let description = self.wanted.of_file(Path::new(to.remote.name()), None);
        let mut reader = reader;
        let _room = self.room(PART_BYTES).await;
        let first = read_up_to(&mut reader, PART_BYTES).await?;
        if (first.len() as u64) < PART_BYTES {
            let size = first.len() as u64;
            self.put(first, to, &description).await?;
            return Ok(size);
        }
        let upload = create(to, &description).await?;
        *unrepeatable() = Some((to.store.clone(), upload.clone()));
        let stored = async {
            let first = self.send_part(to, &upload, 1, first).await?;
            let rest = self.stream_parts(reader, to, &upload).await?;
            let mut all = [vec![first], rest].concat();
            all.sort_by_key(|part| part.number);
            complete(to, &upload, &all).await?;
            describe(to, &description).await?;
            Ok(all.iter().map(|part| part.size).sum())
        };
        let stored = stored.await;
        if stored.is_err() {
            give_up().await;
        }
        *unrepeatable() = None;
        stored
    }

    /// Sends what comes behind the first part.
    async fn stream_parts(
        &self,
        reader: impl AsyncRead + Send + Unpin,
        to: &Target,
        upload: &Upload,
    ) -> anyhow::Result<Vec<Part>> {
        let bodies = stream::try_unfold((reader, 2), async |(mut reader, number)| {
            let most = PART_BYTES << (number / PARTS_OF_A_SIZE);
            let room = self.room(most).await;
            let body = read_up_to(&mut reader, most).await?;
            let next = (!body.is_empty()).then_some(((number, body, room), (reader, number + 1)));
            Ok::<_, anyhow::Error>(next)
        });
        let sent = bodies.map_ok(|(number, body, _room)| async move {
            let part = self.send_part(to, upload, number, body).await;
            drop(_room);
            part
        });
        sent.try_buffer_unordered(PARTS_AT_ONCE).try_collect().await
    }

    /// Makes a file of an object that had `size` bytes when it was seen last.
    pub async fn download(
        &self,
        from: &Target,
        size: u64,
        directory: &Directory,
        relative: &Path,
    ) -> anyhow::Result<Object> {
        if size <= WHOLE_BYTES_MAX {
            let _room = self.room(size).await;
            let (object, pieces) = fetch(from, None, None).await?;
            // Unless it is another one by now.
            if object.size <= WHOLE_BYTES_MAX {
                directory.write(relative, pieces, mtime(&object)).await?;
                self.teller.advance(object.size);
                return Ok(object);
            }
        }
        self.download_parts(from, directory, relative).await
    }

    async fn download_parts(
        &self,
        from: &Target,
        directory: &Directory,
        relative: &Path,
    ) -> anyhow::Result<Object> {
        let object = from.head().await?;
        let parts = Parts::of(object.size);
        let file = Arc::new(directory.begin(relative).await?);
        let (body, file_of_all) = (&Long::Object(from, &object.etag), &file);
        let mut sums: Vec<(u32, u64)> = stream::iter(parts.numbers())
            .map(|number| async move {
                let (start, length) = (parts.start(number), parts.length(number));
                let _room = self.room(length).await;
                let bytes = body.bytes(start, length).await?;
                let file = file_of_all.clone();
                let sum = aside(move || {
                    file.write_at(&bytes, start)?;
                    Ok(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &bytes))
                });
                let sum = sum.await?;
                self.teller.advance(length);
                Ok::<_, anyhow::Error>((number, sum))
            })
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        sums.sort_unstable();
        let sum = sums.iter().fold(0, |sum, (number, next)| {
            let length = parts.length(*number);
            crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, sum, *next, length)
        });
        ensure!(
            object.crc64.is_none_or(|expected| expected == sum),
            "what has come is not what was stored"
        );
        let file = Arc::into_inner(file).expect("all writes are done");
        let mtime = mtime(&object);
        aside(move || file.finish(mtime)).await?;
        Ok(object)
    }

    /// Makes an object of another one.
    pub async fn copy(&self, from: &Target, object: &Object, to: &Target) -> anyhow::Result<()> {
        let (Remote { bucket, key, .. }, source) = (&to.remote, &from.remote);
        let is_here = from.is_in_store_of(to) && object.size <= to.store.copy_bytes_max();
        let described = match &object.description {
            None if !is_here || self.wanted.is_something() => Some(from.head().await?),
            _ => None,
        };
        let object = described.as_ref().unwrap_or(object);
        let description = self
            .wanted
            .over(object.description.clone().unwrap_or_default());
        if is_here {
            let named = (
                source.bucket.as_str(),
                source.key.as_str(),
                object.etag.as_str(),
            );
            let description = self.wanted.is_something().then_some(&description);
            to.store.copy(named, (bucket, key), description).await?;
            self.teller.advance(object.size);
            return Ok(());
        }
        let body = Long::Object(from, &object.etag);
        if object.size <= WHOLE_BYTES_MAX {
            let _room = self.room(object.size).await;
            let (_, pieces) = fetch(from, None, Some(&object.etag)).await?;
            return self.put(joined(pieces), to, &description).await;
        }
        let parts = Parts::of(object.size);
        let upload = create(to, &description).await?;
        match self
            .send_parts(&body, to, &upload, parts, BTreeMap::new())
            .await
        {
            Ok(stored) => {
                complete(to, &upload, &stored).await?;
                describe(to, &description).await
            }
            Err(error) => {
                let _ = to.store.abort(&upload).await;
                Err(error)
            }
        }
    }

    /// Memory for so many bytes, when there is.
    async fn room(&self, bytes: u64) -> SemaphorePermit<'_> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = self.memory.acquire_many(kib.min(MEMORY_KIB)).await;
        room.expect("the semaphore is never closed")
    }
}

/// An upload that is under way and whose source does not come again.
static UNREPEATABLE: Mutex<Option<(Arc<Store>, Upload)>> = Mutex::new(None);

fn unrepeatable() -> MutexGuard<'static, Option<(Arc<Store>, Upload)>> {
    UNREPEATABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Aborts what nobody could go on with, as when the program is interrupted.
pub async fn give_up() {
    let given_up = unrepeatable().take();
    if let Some((store, upload)) = given_up {
        let _ = store.abort(&upload).await;
    }
}

/// When the file was changed that an object was made of, else when it was stored.
pub fn mtime(object: &Object) -> SystemTime {
    let kept = object.description.as_ref().and_then(Description::mtime);
    kept.unwrap_or(object.modified)
}

/// A body in parts of one size, but for the last.
#[derive(Clone, Copy, Debug)]
struct Parts {
    size: u64,
    part_bytes: u64,
}

impl Parts {
    fn of(size: u64) -> Self {
        let least = size.div_ceil(PARTS_MAX).next_multiple_of(1 << 20);
        Self {
            size,
            part_bytes: least.max(PART_BYTES),
        }
    }

    fn numbers(self) -> RangeInclusive<u32> {
        // At most 10,000.
        1..=(self.size.div_ceil(self.part_bytes) as u32)
    }

    fn start(self, number: u32) -> u64 {
        u64::from(number - 1) * self.part_bytes
    }

    fn length(self, number: u32) -> u64 {
        self.part_bytes.min(self.size - self.start(number))
    }

    fn has(self, part: &Part) -> bool {
        self.numbers().contains(&part.number) && self.length(part.number) == part.size
    }
}

/// An object, or some of it, in memory. Of one that is too long for that, when all of it was asked for, nothing.
async fn fetch(
    from: &Target,
    range: Option<Range>,
    etag: Option<&str>,
) -> store::Result<(Object, Vec<Bytes>)> {
    let Remote { bucket, key, .. } = &from.remote;
    let mut attempts = 1;
    loop {
        let mut download = from.store.get(bucket, key, range, etag).await?;
        if range.is_none() && download.object.size > WHOLE_BYTES_MAX {
            return Ok((download.object, Vec::new()));
        }
        match collected(&mut download).await {
            Ok(pieces) => return Ok((download.object, pieces)),
            Err(error) if error.is_passing() && attempts < FETCHES_MAX => attempts += 1,
            Err(error) => return Err(error),
        }
    }
}

async fn collected(download: &mut Download) -> store::Result<Vec<Bytes>> {
    let mut pieces = Vec::new();
    while let Some(piece) = download.next().await? {
        pieces.push(piece);
    }
    Ok(pieces)
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        0 | 1 => pieces.pop().unwrap_or_default(),
        _ => pieces.concat().into(),
    }
}

async fn create(to: &Target, description: &Description) -> store::Result<Upload> {
    let Remote { bucket, key, .. } = &to.remote;
    to.store.create_upload(bucket, key, description).await
}

async fn complete(to: &Target, upload: &Upload, parts: &[Part]) -> anyhow::Result<()> {
    match to.store.complete(upload, parts).await {
        // It was completed before: by an attempt whose answer was lost, or by somebody who sends the same file.
        Err(error) if error.kind == ErrorKind::UploadNotFound => {
            let object = to.head().await;
            let is_it = object.is_ok_and(|object| Some(object.etag) == etag_of_parts(parts));
            ensure!(is_it, error);
            Ok(())
        }
        done => Ok(done?),
    }
}

/// The ETag of an object that is made of these parts: the MD5 of their MD5s.
fn etag_of_parts(parts: &[Part]) -> Option<String> {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(unhex(&part.etag).filter(|sum| sum.len() == 16)?);
    }
    Some(format!("{}-{}", hex(&md5.finalize()), parts.len()))
}

/// What an upload was told when it began may be no longer so when it is completed.
async fn describe(to: &Target, description: &Description) -> anyhow::Result<()> {
    let object = to.head().await?;
    let is_told = object.description.as_ref().is_some_and(|told| {
        told.content_type == description.content_type && told.metadata == description.metadata
    });
    if is_told || object.size > to.store.copy_bytes_max() {
        return Ok(());
    }
    let Remote { bucket, key, .. } = &to.remote;
    let itself = (bucket.as_str(), key.as_str(), object.etag.as_str());
    to.store
        .copy(itself, (bucket, key), Some(description))
        .await?;
    Ok(())
}

async fn read_up_to(reader: &mut (impl AsyncRead + Unpin), most: u64) -> anyhow::Result<Bytes> {
    let mut bytes = BytesMut::new();
    let mut reader = reader.take(most);
    while reader.read_buf(&mut bytes).await? > 0 {}
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        for size in [WHOLE_BYTES_MAX + 1, PART_BYTES * 3, 80 << 30, 5 << 40] {
            let parts = Parts::of(size);
            assert!(u64::from(*parts.numbers().end()) <= PARTS_MAX, "{size}");
            let mut at = 0;
            for number in parts.numbers() {
                assert_eq!(parts.start(number), at);
                at += parts.length(number);
            }
            assert_eq!(at, size);
            let part = |number, size| Part {
                number,
                size,
                etag: String::new(),
            };
            assert!(parts.has(&part(1, parts.part_bytes)) && !parts.has(&part(1, 1)));
            assert!(!parts.has(&part(parts.numbers().end() + 1, parts.part_bytes)));
            assert!(!parts.has(&part(0, parts.part_bytes)));
        }
    }

    #[test]
    fn an_upload_has_the_etag_of_s3() {
        let part = |etag: &str| Part {
            number: 1,
            size: 1,
            etag: etag.to_owned(),
        };
        let parts = [
            part("5d41402abc4b2a76b9719d911017c592"),
            part("7d793037a0760186574b0282f2f435e7"),
        ];
        assert_eq!(
            etag_of_parts(&parts).as_deref(),
            Some("065947336a2f2a95ba8899f3675c3be6-2")
        );
        assert_eq!(etag_of_parts(&[part("crc64nvme-0000000000000000")]), None);
    }

    #[test]
    fn names_tell_the_content_type() {
        let wanted = Wanted::default();
        let told = |name: &str| wanted.of_file(Path::new(name), None).content_type;
        assert_eq!(told("a/b.HTML"), "text/html");
        assert_eq!(told("a.jpg"), "image/jpeg");
        assert_eq!(told("jpg"), "application/octet-stream");
        let wanted = Wanted {
            content_type: Some("x/y".into()),
            ..Wanted::default()
        };
        assert_eq!(wanted.of_file(Path::new("a.jpg"), None).content_type, "x/y");
    }
}

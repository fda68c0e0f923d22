//! A store as the verbs of a user see it: one set of operations, over the native protocol or over S3.
//!
//! Deliberately absent: whatever only one of the two can do. Every other part of the command line asks [`Store`] and does
//! not know which one it has.

mod http;
mod native;
mod s3;
mod stores;
mod xml;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use jay_client::{ContentHeaders, ErrorKind};

use http::pause;
use native::Native;
use s3::S3;

pub use self::{
    http::{Ask, Endpoint, Settings, link},
    stores::{StoreArgs, Stores},
};

/// Most keys of one [`Store::delete_many`].
pub const KEYS_MAX: usize = 1000;
/// Attempts of what fails in passing.
const ATTEMPTS_MAX: u32 = 8;
/// How long a server may send a request away for being one of too many.
const THROTTLED_MAX: Duration = Duration::from_secs(600);
/// Name of the user metadata in which the time of a file is kept: seconds since 1970 with a fraction, as rclone has it.
const MTIME: &str = "mtime";

/// Why something failed, and what it was.
#[derive(Clone, Debug)]
pub struct Error {
    /// What went wrong, in the words of the one table that all clients of Jay have.
    pub kind: ErrorKind,
    text: Cow<'static, str>,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// The result of everything that asks a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            text: text.into(),
            retry_after: None,
        }
    }

    /// Whether no answer came, so that nobody knows of the server.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::ConnectionLost | ErrorKind::Timeout | ErrorKind::Unavailable
        )
    }

    /// Whether the same request may succeed when it is sent again at once, and does no harm if it was done already.
    pub fn is_passing(&self) -> bool {
        let is_passing = matches!(self.kind, ErrorKind::ChecksumMismatch | ErrorKind::Conflict);
        is_passing || self.is_unreachable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// A bucket.
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
}

/// An object without its body.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its ETag, without quotes.
    pub etag: String,
    /// When it was stored.
    pub modified: SystemTime,
    /// What was kept with it; `None` when it was not told, as in listings of S3.
    pub description: Option<Description>,
    /// CRC64-NVME of its body, where it is known.
    pub crc64: Option<u64>,
}

/// What is kept with an object beside its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its content type.
    pub content_type: String,
    /// Its other standard headers.
    pub headers: ContentHeaders,
    /// User metadata, names in lower case.
    pub metadata: BTreeMap<String, String>,
}

impl Description {
    /// When the file was changed that the object was made of.
    pub fn mtime(&self) -> Option<SystemTime> {
        let text = self.metadata.get(MTIME)?;
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits: String = fraction
            .chars()
            .chain("000000000".chars())
            .take(9)
            .collect();
        let since = Duration::new(seconds.parse().ok()?, digits.parse().ok()?);
        SystemTime::UNIX_EPOCH.checked_add(since)
    }

    /// The same of an object made of a file that was changed then. Times before 1970 are not kept.
    pub fn with_mtime(mut self, mtime: SystemTime) -> Self {
        if let Ok(since) = mtime.duration_since(SystemTime::UNIX_EPOCH) {
            let text = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
            self.metadata.insert(MTIME.to_owned(), text);
        }
        self
    }
}

/// What a listing asks for.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Of which bucket.
    pub bucket: String,
    /// What keys begin with.
    pub prefix: String,
    /// One level only: what is below a slash behind the prefix is told as a common prefix.
    pub is_flat: bool,
    /// Descriptions too, where they cost no further request.
    pub with_descriptions: bool,
}

/// A page of a listing.
#[derive(Default)]
pub struct Page {
    /// Its objects, keys ascending.
    pub objects: Vec<Object>,
    /// Its common prefixes, ascending.
    pub prefixes: Vec<String>,
    /// Asks for the next page.
    pub next: Option<String>,
}

/// Some bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From the first offset up to but not including the second.
    Between(u64, u64),
    /// From an offset to the end.
    From(u64),
    /// So many at the end.
    Last(u64),
}

/// An object that is being read.
pub struct Download {
    /// What it is.
    pub object: Object,
    body: Body,
}

enum Body {
    Native(Box<jay_client::GetObject>),
    S3(Box<s3::Reading>),
}

impl Download {
    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match &mut self.body {
            Body::Native(object) => Ok(object.next_chunk().await?),
            Body::S3(reading) => reading.next().await,
        }
    }
}

/// An upload in parts.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Of which bucket.
    pub bucket: String,
    /// The key of the object that it becomes.
    pub key: String,
    /// Its id.
    pub id: String,
    /// When it began.
    pub began: SystemTime,
}

/// A part of an upload.
#[derive(Clone, Debug)]
pub struct Part {
    /// From 1 on.
    pub number: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Its ETag, without quotes.
    pub etag: String,
}

/// See the module.
pub struct Store {
    way: Way,
    /// Whether its server has ever answered.
    was_reached: AtomicBool,
}

enum Way {
    Native(Native),
    S3(S3),
}

/// The same call of either, again where a failure passes.
macro_rules! of_either {
    ($self:ident.$($call:tt)+) => {
        $self.patiently(|| async {
            match &$self.way {
                Way::Native(store) => store.$($call)+.await,
                Way::S3(store) => store.$($call)+.await,
            }
        })
        .await
    };
}

impl Store {
    fn new(way: Way) -> Self {
        Self {
            way,
            was_reached: AtomicBool::new(false),
        }
    }

    /// Does what may be done again, again when it fails in passing: for long when there are too many requests, for a while when
    /// a server is gone that was there.
    async fn patiently<T, F: Future<Output = Result<T>>>(&self, work: impl Fn() -> F) -> Result<T> {
        let began = Instant::now();
        let mut attempts = 1;
        loop {
            let done = work().await;
            if !done.as_ref().is_err_and(Error::is_unreachable) {
                self.was_reached.store(true, Relaxed);
            }
            let error = match done {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let is_worth_it = match error.kind {
                ErrorKind::RateLimited => began.elapsed() < THROTTLED_MAX,
                _ if error.is_passing() => {
                    attempts < ATTEMPTS_MAX && self.was_reached.load(Relaxed)
                }
                _ => false,
            };
            if !is_worth_it {
                return Err(error);
            }
            tokio::time::sleep(pause(attempts, error.retry_after)).await;
            attempts += 1;
        }
    }

    /// The buckets of the account, by name.
    pub async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        of_either!(self.list_buckets())
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, bucket: &str) -> Result<()> {
        of_either!(self.create_bucket(bucket))
    }

    /// Deletes an empty bucket.
    pub async fn delete_bucket(&self, bucket: &str) -> Result<()> {
        of_either!(self.delete_bucket(bucket))
    }

    /// A page of a listing: the first one, or the one that the last page names.
    pub async fn list(&self, listing: &Listing, next: Option<&str>) -> Result<Page> {
        of_either!(self.list(listing, next))
    }

    /// What an object is.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<Object> {
        of_either!(self.head(bucket, key))
    }

    /// Reads an object, or some of it; only if it has this ETag, when one is given.
    pub async fn get(
        &self,
        bucket: &str,
        key: &str,
        range: Option<Range>,
        etag: Option<&str>,
    ) -> Result<Download> {
        of_either!(self.get(bucket, key, range, etag))
    }

    /// Stores an object.
    pub async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Bytes,
        description: &Description,
    ) -> Result<()> {
        of_either!(self.put(bucket, key, body.clone(), description))
    }

    /// Makes an object of another one that has this ETag, on the server; with another description, if one is given.
    pub async fn copy(
        &self,
        from: (&str, &str, &str),
        to: (&str, &str),
        description: Option<&Description>,
    ) -> Result<()> {
        of_either!(self.copy(from, to, description))
    }

    /// Deletes an object that has this ETag, when one is given; fine when there is none.
    pub async fn delete(&self, bucket: &str, key: &str, etag: Option<&str>) -> Result<()> {
        of_either!(self.delete(bucket, key, etag))
    }

    /// Deletes up to [`KEYS_MAX`] objects: one result each, in order.
    pub async fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<Vec<Result<()>>> {
        of_either!(self.delete_many(bucket, keys))
    }

    /// Deletes all objects whose keys begin with a prefix; answers how many.
    pub async fn delete_prefix(&self, bucket: &str, prefix: &str) -> Result<u64> {
        of_either!(self.delete_prefix(bucket, prefix))
    }

    /// Begins an upload in parts.
    pub async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        description: &Description,
    ) -> Result<Upload> {
        of_either!(self.create_upload(bucket, key, description))
    }

    /// The uploads of a key that have begun and not ended.
    pub async fn list_uploads(&self, bucket: &str, key: &str) -> Result<Vec<Upload>> {
        let mut found = of_either!(self.list_uploads(bucket, key))?;
        found.retain(|upload| upload.key == key);
        Ok(found)
    }

    /// Stores a part.
    pub async fn upload_part(&self, upload: &Upload, number: u32, body: Bytes) -> Result<Part> {
        of_either!(self.upload_part(upload, number, body.clone()))
    }

    /// The parts that an upload has, by number.
    pub async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        of_either!(self.list_parts(upload))
    }

    /// Makes the object of its parts.
    pub async fn complete(&self, upload: &Upload, parts: &[Part]) -> Result<()> {
        of_either!(self.complete(upload, parts))
    }

    /// Gives an upload up.
    pub async fn abort(&self, upload: &Upload) -> Result<()> {
        of_either!(self.abort(upload))
    }

    /// Size in bytes of the largest object that [`Store::copy`] takes.
    pub fn copy_bytes_max(&self) -> u64 {
        match &self.way {
            Way::Native(_) => u64::MAX,
            Way::S3(_) => s3::COPY_BYTES_MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_file_is_kept_as_rclone_does() {
        let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        let kept = Description::default().with_mtime(at(1_700_000_000, 42));
        assert_eq!(kept.metadata["mtime"], "1700000000.000000042");
        assert_eq!(kept.mtime(), Some(at(1_700_000_000, 42)));
        for (text, expected) in [
            ("1700000000", Some(at(1_700_000_000, 0))),
            ("1700000000.5", Some(at(1_700_000_000, 500_000_000))),
            (
                "1700000000.1234567899",
                Some(at(1_700_000_000, 123_456_789)),
            ),
            ("yesterday", None),
            ("1.x", None),
            ("-1", None),
            ("18446744073709551615", None),
        ] {
            let metadata = BTreeMap::from([(MTIME.to_owned(), text.to_owned())]);
            let told = Description {
                metadata,
                ..Description::default()
            };
            assert_eq!(told.mtime(), expected, "{text}");
        }
    }
}

//! Validated types that fronts make at the edge and the engine takes, so that no check is written twice.

mod conditions;
mod multipart;
mod once;
mod policy;
mod quarantine;
mod tags;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use self::{conditions::*, multipart::*, once::*, policy::*, quarantine::*, tags::*};
use crate::error::{Error, ErrorKind, Result};

/// Longest object key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1024;
/// Most user metadata of one object, in bytes: the sum of all names and values.
pub const METADATA_BYTES_MAX: usize = 2048;
/// Largest body of one PUT, in bytes (5 GiB, as S3).
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// Largest object, in bytes (5 TiB, as S3); what is over [`PUT_BYTES_MAX`] comes in parts.
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;
/// Most entries of one page of a listing.
pub const LIST_PAGE_MAX: usize = 1000;

/// A valid bucket name: 3 to 63 of `a-z 0-9 . -`, beginning and ending with a letter or digit, without
/// `..`, not shaped like an IPv4 address.
///
/// Source: S3 user guide, "General purpose bucket naming rules".
///
/// ```
/// assert!(jay_engine::BucketName::parse("my-photos").is_ok());
/// assert!(jay_engine::BucketName::parse("My_Photos").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Arc<str>);

impl BucketName {
    /// Checks `name`; [`ErrorKind::InvalidBucketName`] says which rule it breaks.
    pub fn parse(name: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Err(Error::new(
                ErrorKind::InvalidBucketName,
                format!("The specified bucket is not valid: {why}."),
            ))
        };
        let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let bytes = name.as_bytes();
        if !(3..=63).contains(&bytes.len()) {
            return refuse("a bucket name has 3 to 63 characters");
        }
        if !bytes
            .iter()
            .all(|&c| edge(Some(c)) || c == b'.' || c == b'-')
        {
            return refuse("only lower-case letters, digits, dots and hyphens are allowed");
        }
        if !edge(bytes.first().copied()) || !edge(bytes.last().copied()) {
            return refuse("it must begin and end with a letter or digit");
        }
        if name.contains("..") {
            return refuse("two dots may not follow each other");
        }
        if name.parse::<std::net::Ipv4Addr>().is_ok() {
            return refuse("it may not look like an IP address");
        }
        Ok(Self(name.into()))
    }

    /// Checks the rule that only new buckets must keep: there are older ones that break it. A hyphen beside a
    /// dot makes no host name, by which buckets are served too (RFC 1123, section 2.1).
    ///
    /// The prefixes and suffixes that S3 keeps for itself (`xn--`, `sthree-`, `-s3alias`, `--ol-s3` and others)
    /// are not refused: they mean nothing here.
    ///
    /// Source: S3 user guide, "General purpose bucket naming rules".
    pub(crate) fn must_be_fit_for_new(&self) -> Result<()> {
        let is_ragged = |label: &str| label.starts_with('-') || label.ends_with('-');
        if !self.0.split('.').any(is_ragged) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidBucketName,
            "The specified bucket is not valid: no hyphen may stand beside a dot.",
        ))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A valid object key: 1 to [`KEY_BYTES_MAX`] bytes of UTF-8, taken literally.
///
/// ```
/// assert_eq!(jay_engine::ObjectKey::parse("a/../b").unwrap().as_str(), "a/../b");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// Checks `key`; [`ErrorKind::KeyTooLongError`] when too long, [`ErrorKind::InvalidArgument`] when empty.
    pub fn parse(key: &str) -> Result<Self> {
        match key.len() {
            0 => Err(Error::new(
                ErrorKind::InvalidArgument,
                "An object key may not be empty.",
            )),
            n if n > KEY_BYTES_MAX => Err(Error::new(
                ErrorKind::KeyTooLongError,
                format!("Your key is too long: {n} bytes of at most {KEY_BYTES_MAX}."),
            )),
            _ => Ok(Self(key.into())),
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entity tag without its quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(Arc<str>);

impl ETag {
    /// Takes the tag as it is, without quotes.
    pub fn new(tag: impl Into<Arc<str>>) -> Self {
        Self(tag.into())
    }

    /// The tag of a body that came at once: its MD5 in hex.
    pub(crate) fn of_md5(md5: &[u8; 16]) -> Self {
        let hex: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::new(hex)
    }

    /// The tag of one whose MD5 was left out: its CRC64-NVME in hex, and that it is one.
    pub(crate) fn of_crc64(crc64: u64) -> Self {
        Self::new(format!("crc64nvme-{crc64:016x}"))
    }

    /// The tag without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// The part of a body that is asked for (RFC 9110, section 14.1.2), not yet held against its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `first-last`, both included.
    FromTo {
        /// First byte.
        first: u64,
        /// Last byte, included; cut to the end of the body.
        last: u64,
    },
    /// `first-`.
    From {
        /// First byte.
        first: u64,
    },
    /// `-length`: the last bytes.
    Suffix {
        /// How many.
        length: u64,
    },
}

impl ByteRange {
    /// The half-open range of a body of `size` bytes, or [`ErrorKind::InvalidRange`].
    ///
    /// ```
    /// use jay_engine::ByteRange;
    /// assert_eq!(ByteRange::FromTo { first: 0, last: 499 }.resolve(10).unwrap(), 0..10);
    /// assert_eq!(ByteRange::Suffix { length: 4 }.resolve(10).unwrap(), 6..10);
    /// assert!(ByteRange::From { first: 10 }.resolve(10).is_err());
    /// ```
    pub fn resolve(self, size: u64) -> Result<std::ops::Range<u64>> {
        let range = match self {
            ByteRange::FromTo { first, last } if first <= last => {
                first..last.saturating_add(1).min(size)
            }
            ByteRange::FromTo { first, .. } => first..first,
            ByteRange::From { first } => first..size,
            ByteRange::Suffix { length } => size.saturating_sub(length)..size,
        };
        if range.start >= range.end {
            return Err(Error::new(
                ErrorKind::InvalidRange,
                format!("The requested range is not satisfiable: the object has {size} bytes."),
            ));
        }
        Ok(range)
    }
}

/// The checksum algorithms that S3 clients may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ChecksumAlgorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// Length of a value in bytes.
    pub fn value_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The name that S3 uses in headers and XML: `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }
}

/// What the checksum of an object that came in parts was computed from.
///
/// Source: S3 user guide, "Checking object integrity", full object and composite checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumType {
    /// The bytes of the object.
    #[default]
    FullObject,
    /// The checksums of its parts.
    Composite,
}

impl ChecksumType {
    /// The name that S3 uses: `FULL_OBJECT`, `COMPOSITE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }
}

/// A checksum; `value` is big-endian and of the algorithm's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// The algorithm.
    pub algorithm: ChecksumAlgorithm,
    /// The raw value, as it is put into base64.
    pub value: Vec<u8>,
}

/// The standard headers that are stored with an object and come back with it, each a field of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ContentHeaders {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub expires: Option<String>,
}

impl ContentHeaders {
    /// The length of all values together, in bytes.
    pub fn bytes(&self) -> usize {
        [
            &self.content_type,
            &self.cache_control,
            &self.content_disposition,
            &self.content_encoding,
            &self.content_language,
            &self.expires,
        ]
        .into_iter()
        .flatten()
        .map(String::len)
        .sum()
    }
}

/// Options of `put_object`.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Size of the body in bytes when it is known; a body of another size is refused.
    pub size: Option<u64>,
    /// Standard headers.
    pub headers: ContentHeaders,
    /// User metadata under bare lower-case names.
    pub metadata: BTreeMap<String, String>,
    /// Tags.
    pub tags: Tags,
    /// MD5 that the body must have (`Content-MD5`).
    pub content_md5: Option<[u8; 16]>,
    /// SHA-256 that the body must have (`x-amz-content-sha256`).
    pub content_sha256: Option<[u8; 32]>,
    /// Whether MD5 and SHA-256 may be left out where nothing else asks for them: the ETag is CRC64-NVME then.
    pub without_digests: bool,
    /// Checksum that the body must have, known beforehand.
    pub checksum: Option<Checksum>,
    /// Checksum to compute because its expected value arrives behind the body, or only its result is wanted.
    pub checksum_algorithm: Option<ChecksumAlgorithm>,
    /// Preconditions.
    pub conditions: Conditions,
    /// Which request of a session it is, if it is to be done once however often it comes.
    pub once: Option<Once>,
}

/// Which bytes of an object are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// All.
    #[default]
    Whole,
    /// A range.
    Range(ByteRange),
    /// The part in this place of a multipart upload, counted from 1 without the gaps that numbers may have had; an
    /// object that came at once is its part 1.
    Part(u16),
}

/// What is known of an object without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: ObjectKey,
    /// Size in bytes.
    pub size: u64,
    /// MD5 of the body in hex; of a multipart upload MD5 of the MD5s of its parts, a hyphen, their number.
    pub etag: ETag,
    /// When it was committed.
    pub last_modified: Timestamp,
    /// Unique id of this version.
    pub version: u128,
    /// Standard headers.
    pub headers: ContentHeaders,
    /// User metadata under bare lower-case names.
    pub metadata: BTreeMap<String, String>,
    /// The checksum that the writer chose, if any, and always CRC64NVME of the whole body.
    pub checksums: Vec<Checksum>,
    /// What the first of them was computed from.
    pub checksum_type: ChecksumType,
    /// SHA-256 of the body; of a multipart upload that of the SHA-256s of its parts.
    pub sha256: Option<[u8; 32]>,
    /// How many parts a multipart upload had; `None` for an object that came at once.
    pub parts_count: Option<u16>,
    /// How many tags it has.
    pub tag_count: usize,
}

/// A bucket as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its id, which no other bucket ever has.
    pub id: u64,
    /// Its name.
    pub name: BucketName,
    /// When it was created.
    pub created: Timestamp,
    /// Whether its objects may be read without credentials.
    pub public_read: bool,
    /// The account that owns it, as 32 hex digits.
    pub owner: String,
    /// Most bytes that its objects may have together.
    pub quota_bytes: Option<u64>,
    /// Whether it has a policy.
    pub has_policy: bool,
}

/// What is in a bucket, from counters that change with each commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketUsage {
    /// Objects in it.
    pub objects: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
}

/// Options of `create_bucket_with`.
#[derive(Clone, Debug, Default)]
pub struct BucketOptions {
    /// Whether its objects may be read without credentials.
    pub public_read: bool,
    /// The account that owns it, as 32 hex digits: only the operator may say so. Else that of the caller.
    pub owner: Option<String>,
}

/// Options of `list_objects`.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Only keys that begin with this.
    pub prefix: String,
    /// Keys that share what follows the prefix up to and with this are one common prefix.
    pub delimiter: Option<String>,
    /// Only keys and common prefixes above this, bytewise.
    pub after: Option<String>,
    /// Most entries of the page; cut to [`LIST_PAGE_MAX`].
    pub max_keys: usize,
}

/// What became of some of the objects under a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedPrefix {
    /// How many were deleted.
    pub deleted: u64,
    /// The last of them when there may be more: the `after` of the next request.
    pub next: Option<String>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListEntry {
    /// An object.
    Object(Box<ObjectInfo>),
    /// A common prefix, delimiter included.
    CommonPrefix(String),
}

/// One page of a listing, in byte order of keys and common prefixes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The entries.
    pub entries: Vec<ListEntry>,
    /// The last entry when more follow: the `after` of the next page.
    pub next: Option<String>,
}

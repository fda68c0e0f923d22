//! What is told of buckets, objects and the server.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use jay_wire::{Time, bucket, list, multipart, object, tagging};

fn time(at: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.0)
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Standard headers that are kept with an object, beside its content type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ContentHeaders {
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub expires: Option<String>,
}

impl From<object::ContentHeaders> for ContentHeaders {
    fn from(told: object::ContentHeaders) -> Self {
        Self {
            cache_control: given(told.cache_control),
            content_disposition: given(told.content_disposition),
            content_encoding: given(told.content_encoding),
            content_language: given(told.content_language),
            expires: given(told.expires),
        }
    }
}

impl From<ContentHeaders> for object::ContentHeaders {
    fn from(given: ContentHeaders) -> Self {
        Self {
            cache_control: given.cache_control.unwrap_or_default(),
            content_disposition: given.content_disposition.unwrap_or_default(),
            content_encoding: given.content_encoding.unwrap_or_default(),
            content_language: given.content_language.unwrap_or_default(),
            expires: given.expires.unwrap_or_default(),
        }
    }
}

/// A checksum of S3's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1` or `SHA256`.
    pub algorithm: String,
    /// Its value, big-endian.
    pub value: Vec<u8>,
}

/// An object without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectMeta {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its ETag, without quotes.
    pub etag: String,
    /// The id of its version.
    pub version: Option<String>,
    /// When it was committed.
    pub last_modified: SystemTime,
    /// Its content type.
    pub content_type: Option<String>,
    /// The checksum that its writer chose, else CRC64NVME of its body, which every object has. Over version 1 SHA256, where
    /// the server tells it.
    pub checksum: Option<Checksum>,
    /// Its other standard headers.
    pub headers: ContentHeaders,
    /// User metadata, names in lower case.
    pub metadata: BTreeMap<String, String>,
    /// How many tags it has; 0 over version 1, which does not tell.
    pub tag_count: u32,
    /// CRC64NVME of its body.
    pub(crate) crc64: u64,
}

/// CRC64NVME of a version; version 1, which names none, has SHA-256 of the body in its place.
fn checksum(version: &str, crc64: u64, sha256: &str) -> Option<Checksum> {
    let (algorithm, value) = match version {
        "" => ("SHA256", sha256_of(sha256)?),
        _ => ("CRC64NVME", crc64.to_be_bytes().to_vec()),
    };
    Some(Checksum {
        algorithm: algorithm.to_owned(),
        value,
    })
}

/// Of 64 digits of hex.
fn sha256_of(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .filter(|value| value.len() == 32)
}

impl ObjectMeta {
    pub(crate) fn new(key: &str, told: object::ObjectInfo) -> Self {
        let chosen = told.chosen_checksum.map(|checksum| Checksum {
            algorithm: checksum.algorithm,
            value: checksum.value.to_vec(),
        });
        let body = checksum(&told.version, told.crc64, &told.checksum);
        Self {
            key: key.to_owned(),
            size: told.size,
            etag: told.etag,
            version: given(told.version),
            last_modified: time(told.last_modified),
            content_type: given(told.content_type),
            checksum: chosen.or(body),
            headers: told.headers.into(),
            metadata: told.metadata,
            tag_count: told.tag_count,
            crc64: told.crc64,
        }
    }

    pub(crate) fn of_entry(told: list::ObjectEntry) -> Self {
        Self {
            key: told.key,
            size: told.size,
            etag: told.etag,
            checksum: checksum(&told.version, told.crc64, &told.checksum),
            version: given(told.version),
            last_modified: time(told.last_modified),
            content_type: given(told.content_type),
            headers: told.headers.into(),
            metadata: told.metadata,
            tag_count: 0,
            crc64: told.crc64,
        }
    }
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutResult {
    /// Its ETag, without quotes.
    pub etag: String,
    /// The id of its version.
    pub version: Option<String>,
    /// CRC64NVME of its body; over version 1 SHA256.
    pub checksum: Option<Checksum>,
    /// Its size in bytes.
    pub size: u64,
}

impl From<object::Stored> for PutResult {
    fn from(told: object::Stored) -> Self {
        Self {
            etag: told.etag,
            checksum: checksum(&told.version, told.crc64, &told.checksum),
            version: given(told.version),
            size: told.size,
        }
    }
}

impl From<multipart::Completed> for PutResult {
    fn from(told: multipart::Completed) -> Self {
        Self {
            etag: told.etag,
            checksum: checksum(&told.version, told.crc64, &told.checksum),
            version: given(told.version),
            size: told.size,
        }
    }
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListPage {
    /// Its objects, in byte order of their keys.
    pub objects: Vec<ObjectMeta>,
    /// Its common prefixes, in byte order.
    pub prefixes: Vec<String>,
    /// What to give as `start_after` for the next page; `None` when there is none.
    pub next: Option<String>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: SystemTime,
}

impl From<bucket::BucketEntry> for BucketInfo {
    fn from(told: bucket::BucketEntry) -> Self {
        Self {
            name: told.name,
            created_at: time(told.created_at),
        }
    }
}

/// An upload that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadInfo {
    /// The key of the object to be.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// When it began.
    pub initiated: SystemTime,
}

impl From<multipart::UploadEntry> for UploadInfo {
    fn from(told: multipart::UploadEntry) -> Self {
        Self {
            key: told.key,
            upload_id: told.upload_id,
            initiated: time(told.initiated),
        }
    }
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartInfo {
    /// Its number.
    pub part_number: u32,
    /// Its size in bytes; 0 where it is only named.
    pub size: u64,
    /// Its ETag.
    pub etag: String,
}

impl PartInfo {
    /// A part that was stored before, as [`crate::Upload::complete`] wants to know of it.
    pub fn named(part_number: u32, etag: impl Into<String>) -> Self {
        Self {
            part_number,
            size: 0,
            etag: etag.into(),
        }
    }
}

impl From<multipart::PartEntry> for PartInfo {
    fn from(told: multipart::PartEntry) -> Self {
        Self {
            part_number: told.part_number,
            size: told.size,
            etag: told.etag,
        }
    }
}

/// The server, and who it takes the caller for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// The id of its store.
    pub store_id: String,
    /// Its region.
    pub region: String,
    /// The time there.
    pub now: SystemTime,
    /// The access key of the caller.
    pub token_id: String,
    /// The account of that key.
    pub account_id: String,
}

impl From<jay_wire::server::ServerInfo> for ServerInfo {
    fn from(told: jay_wire::server::ServerInfo) -> Self {
        Self {
            version: told.version,
            store_id: told.store_id,
            region: told.region,
            now: time(told.now),
            token_id: told.token_id,
            account_id: told.account_id,
        }
    }
}

pub(crate) fn tags_from(told: tagging::TagSet) -> BTreeMap<String, String> {
    told.tags
        .into_iter()
        .map(|tag| (tag.key, tag.value))
        .collect()
}

pub(crate) fn tags_to(given: BTreeMap<String, String>) -> Vec<tagging::Tag> {
    let tags = given
        .into_iter()
        .map(|(key, value)| tagging::Tag { key, value });
    tags.collect()
}

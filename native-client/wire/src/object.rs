//! Objects.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    Empty, Failure, Time,
    message::{fields, operations},
    tagging::{Tag, TagSet},
};

fields! {
    /// Puts an object; the data of the request is its body.
    pub struct PutObject {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
        /// Its content type; empty is `application/octet-stream`.
        3 content_type: String,
        /// User metadata.
        4 metadata: BTreeMap<String, String>,
    } since 2 {
        /// Other standard headers.
        5 headers: ContentHeaders,
        /// Tags.
        6 tags: Vec<Tag>,
        /// What must hold for the object that is there.
        0x8007 conditions: WriteConditions,
        /// A checksum of the body to be checked and kept, beside the one that every body has.
        0x8008 checksum: Option<Checksum>,
        /// Whether MD5 and SHA-256 may be left out: the ETag is CRC64-NVME then.
        9 without_digests: bool,
    }

    /// What was stored.
    pub struct Stored {
        /// MD5 of the body in lower-case hex; `crc64nvme-` and 16 digits of hex where it was left out.
        1 etag: String,
        /// SHA-256 of the body in lower-case hex; empty where it was left out.
        2 checksum: String,
    } since 2 {
        /// The id of the version.
        3 version: String,
        /// CRC64-NVME of the body.
        4 crc64: u64,
        /// Its size in bytes.
        5 size: u64,
        /// When it was committed.
        6 last_modified: Time,
    }

    /// Reads an object; the data of the answer is its body.
    pub struct GetObject {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
    } since 2 {
        /// Only these bytes.
        0x8003 range: Option<ByteRange>,
        /// Only this part of a multipart upload, counted from 1.
        0x8004 part_number: Option<u32>,
        /// What must hold for the object.
        0x8005 conditions: ReadConditions,
    }

    /// Asks what an object is.
    pub struct HeadObject {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
    } since 2 {
        /// What must hold for the object.
        0x8005 conditions: ReadConditions,
    }

    /// An object.
    pub struct ObjectInfo {
        /// Its content type.
        1 content_type: String,
        /// Its size in bytes.
        2 size: u64,
        /// Its ETag, without quotes.
        3 etag: String,
        /// SHA-256 in lower-case hex; of a multipart upload that of the SHA-256s of its parts, a hyphen, their number; empty
        /// where it was left out.
        4 checksum: String,
        /// When it was committed.
        5 last_modified: Time,
        /// User metadata.
        6 metadata: BTreeMap<String, String>,
    } since 2 {
        /// The id of the version: 32 hex digits.
        7 version: String,
        /// CRC64-NVME of its body.
        8 crc64: u64,
        /// Other standard headers.
        9 headers: ContentHeaders,
        /// The checksum that its writer chose.
        10 chosen_checksum: Option<Checksum>,
        /// How many tags it has.
        11 tag_count: u32,
        /// How many parts it came in; 0 when it came at once.
        12 parts_count: u32,
        /// Of a read the first byte that comes.
        13 range_start: u64,
    }

    /// Deletes an object; fine when there is none.
    pub struct DeleteObject {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
    } since 2 {
        /// The ETag that the object must have.
        0x8003 if_match: Option<String>,
        /// The size that it must have, in bytes.
        0x8004 if_match_size: Option<u64>,
        /// When it must have been committed, to the second.
        0x8005 if_match_modified: Option<Time>,
    }

    /// Standard headers that are kept with an object, beside its content type. Empty ones are not there.
    pub struct ContentHeaders {} since 2 {
        /// `Cache-Control`.
        1 cache_control: String,
        /// `Content-Disposition`.
        2 content_disposition: String,
        /// `Content-Encoding`.
        3 content_encoding: String,
        /// `Content-Language`.
        4 content_language: String,
        /// `Expires`.
        5 expires: String,
    }

    /// A checksum of S3's.
    pub struct Checksum {} since 2 {
        /// `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1` or `SHA256`.
        1 algorithm: String,
        /// Its value, big-endian.
        2 value: Bytes,
        /// Whether it was computed from the checksums of parts and not from the body.
        3 is_composite: bool,
    }

    /// Some of the bytes of a body.
    pub struct ByteRange {} since 2 {
        /// The first one.
        1 start: u64,
        /// The one behind the last; more than there are is the end. Nothing is the end.
        2 end: Option<u64>,
        /// In place of both: so many at the end.
        3 suffix: Option<u64>,
    }

    /// What must hold for a write.
    pub struct WriteConditions {} since 2 {
        /// The ETag that the object must have; `*` is any.
        0x8001 if_match: Option<String>,
        /// The ETag that it must not have; `*`: there must be none.
        0x8002 if_none_match: Option<String>,
    }

    /// What must hold for a read (RFC 9110, section 13).
    pub struct ReadConditions {} since 2 {
        /// The ETag must be one of these; `*` is any.
        0x8001 if_match: Vec<String>,
        /// The ETag must be none of these; `*` is any.
        0x8002 if_none_match: Vec<String>,
        /// It must be newer.
        0x8003 if_modified_since: Option<Time>,
        /// It must not be newer.
        0x8004 if_unmodified_since: Option<Time>,
    }

    /// Makes an object of the bytes of another one, on the server.
    pub struct CopyObject {} since 2 {
        /// The bucket of the copy.
        1 bucket: String,
        /// The key of the copy.
        2 key: String,
        /// The bucket of the source.
        3 source_bucket: String,
        /// The key of the source.
        4 source_key: String,
        /// What the copy has in place of what the source has.
        0x8005 replace: Option<Description>,
        /// Tags in place of those of the source.
        0x8006 replace_tags: Option<TagSet>,
        /// What must hold for the source.
        0x8007 source_conditions: ReadConditions,
        /// What must hold for the object that is there.
        0x8008 conditions: WriteConditions,
    }

    /// Headers and user metadata.
    pub struct Description {} since 2 {
        /// The content type.
        1 content_type: String,
        /// Other standard headers.
        2 headers: ContentHeaders,
        /// User metadata.
        3 metadata: BTreeMap<String, String>,
    }

    /// Reads several ranges of one object; the data of the answer is the bytes of all, one behind the other.
    pub struct GetRanges {} since 2 {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
        /// Which, in any order; at most [`RANGES_MAX`].
        3 ranges: Vec<ByteRange>,
        /// What must hold for the object.
        0x8004 conditions: ReadConditions,
    }

    /// What they are of.
    pub struct RangesInfo {} since 2 {
        /// The object.
        1 object: ObjectInfo,
        /// How many bytes each has.
        2 lengths: Vec<u64>,
    }

    /// Asks what several objects are.
    pub struct HeadObjects {} since 2 {
        /// The bucket.
        1 bucket: String,
        /// Their keys, at most [`KEYS_MAX`].
        2 keys: Vec<String>,
    }

    /// They: one outcome for each key, in order. Of many there may be fewer outcomes than keys; the others are to be asked for
    /// again.
    pub struct HeadOutcomes {} since 2 {
        /// At least one.
        1 outcomes: Vec<HeadOutcome>,
    }

    /// One of them.
    pub struct HeadOutcome {} since 2 {
        /// The object.
        1 object: Option<ObjectInfo>,
        /// Why there is none.
        2 failure: Option<Failure>,
    }

    /// Deletes several objects.
    pub struct DeleteObjects {} since 2 {
        /// The bucket.
        1 bucket: String,
        /// Their keys, at most [`KEYS_MAX`].
        2 keys: Vec<String>,
    }

    /// How that went: one outcome for each key, in order.
    pub struct DeleteOutcomes {} since 2 {
        /// Empty where the object is gone.
        1 outcomes: Vec<DeleteOutcome>,
    }

    /// One of them.
    pub struct DeleteOutcome {} since 2 {
        /// Why it is still there.
        1 failure: Option<Failure>,
    }

    /// Deletes the first objects whose keys begin with a prefix, so many as one request may.
    pub struct DeletePrefix {} since 2 {
        /// The bucket.
        1 bucket: String,
        /// The prefix; empty is all.
        2 prefix: String,
        /// Only keys above this, in byte order.
        3 start_after: String,
    }

    /// What was deleted.
    pub struct DeletedPrefix {} since 2 {
        /// How many.
        1 deleted: u64,
        /// Whether there may be more.
        2 is_truncated: bool,
        /// What to ask for next as `start_after`.
        3 next_start_after: String,
    }
}

/// Most ranges of one [`GetRanges`].
pub const RANGES_MAX: usize = 1000;
/// Most keys of one [`HeadObjects`] or [`DeleteObjects`].
pub const KEYS_MAX: usize = 1000;

operations! {
    0x10 PutObject(bucket / key) -> Stored,
    0x11 GetObject(bucket / key) -> ObjectInfo,
    0x12 HeadObject(bucket / key) -> ObjectInfo,
    0x13 DeleteObject(bucket / key) -> Empty,
    0x15 CopyObject(bucket / key) -> Stored since 2,
    0x16 GetRanges(bucket / key) -> RangesInfo since 2,
    0x17 HeadObjects(bucket) -> HeadOutcomes since 2,
    0x18 DeleteObjects(bucket) -> DeleteOutcomes since 2,
    0x19 DeletePrefix(bucket) -> DeletedPrefix since 2,
}

impl WriteConditions {
    /// Whether there must be no object: who loses is told that there is one.
    pub fn creates(&self) -> bool {
        self.if_none_match.as_deref() == Some("*")
    }
}

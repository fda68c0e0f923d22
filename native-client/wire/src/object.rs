//! Objects.

use std::collections::BTreeMap;

use crate::{
    Empty, Time,
    message::{fields, operations},
};

fields! {
    /// Puts an object; the data of the frame is its body.
    pub struct PutObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// Its content type; empty is `application/octet-stream`.
        content_type: String,
        /// User metadata.
        metadata: BTreeMap<String, String>,
    }

    /// What was stored.
    pub struct Stored {
        /// MD5 of the body in lower-case hex.
        etag: String,
        /// SHA-256 of the body in lower-case hex.
        checksum: String,
    }

    /// Reads an object; the data of the answer is its body.
    pub struct GetObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    }

    /// Asks what an object is.
    pub struct HeadObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    }

    /// An object.
    pub struct ObjectInfo {
        /// Its content type.
        content_type: String,
        /// Its size in bytes.
        size: u64,
        /// Its ETag, without quotes.
        etag: String,
        /// SHA-256 in lower-case hex; of a multipart upload that of the SHA-256s of its parts, a hyphen, their number.
        checksum: String,
        /// When it was committed.
        last_modified: Time,
        /// User metadata.
        metadata: BTreeMap<String, String>,
    }

    /// Deletes an object; fine when there is none.
    pub struct DeleteObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    }
}

operations! {
    0x10 PutObject(bucket / key) -> Stored,
    0x11 GetObject(bucket / key) -> ObjectInfo,
    0x12 HeadObject(bucket / key) -> ObjectInfo,
    0x13 DeleteObject(bucket / key) -> Empty,
}

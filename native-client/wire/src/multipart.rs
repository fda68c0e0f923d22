//! Multipart uploads.

use std::collections::BTreeMap;

use crate::{
    Empty, Time,
    message::{fields, operations},
    object::{ContentHeaders, Stored, WriteConditions},
    tagging::Tag,
};

fields! {
    /// Begins an upload.
    pub struct CreateMultipartUpload {
        /// The bucket.
        1 bucket: String,
        /// The key of the object to be.
        2 key: String,
        /// Its content type; empty is `application/octet-stream`.
        3 content_type: String,
    } since 2 {
        /// User metadata.
        4 metadata: BTreeMap<String, String>,
        /// Other standard headers.
        5 headers: ContentHeaders,
        /// Tags.
        6 tags: Vec<Tag>,
    }

    /// An upload that has begun.
    pub struct Upload {
        /// Its id: 36 characters in the form of a UUID.
        1 upload_id: String,
    }

    /// Stores a part; the data of the frame is its body.
    pub struct UploadPart {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
        /// The upload.
        3 upload_id: String,
        /// Which part, from 1 to 10,000.
        4 part_number: u32,
    }

    /// Makes an object of parts, in ascending order of their numbers, in whatever order they are named.
    pub struct CompleteMultipartUpload {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
        /// The upload.
        3 upload_id: String,
        /// Which parts.
        4 part_numbers: Vec<u32>,
    } since 2 {
        /// In place of their numbers alone: which parts with which ETags.
        0x8005 parts: Vec<PartNamed>,
        /// What must hold for the object that is there.
        0x8006 conditions: WriteConditions,
        /// The size in bytes that the object must have.
        0x8007 size: Option<u64>,
    }

    /// A part of a complete.
    pub struct PartNamed {} since 2 {
        /// Its number.
        1 part_number: u32,
        /// The ETag that it must have; empty is any.
        2 etag: String,
    }

    /// The object that came of it.
    pub struct Completed {
        /// MD5 of the MD5s of the parts in lower-case hex, a hyphen, their number.
        1 etag: String,
        /// SHA-256 of the SHA-256s of the parts in lower-case hex, a hyphen, their number.
        2 checksum: String,
        /// Its size in bytes.
        3 size: u64,
    } since 2 {
        /// The id of the version.
        4 version: String,
        /// CRC64-NVME of the body.
        5 crc64: u64,
        /// When it was committed.
        6 last_modified: Time,
    }

    /// Gives an upload up.
    pub struct AbortMultipartUpload {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
        /// The upload.
        3 upload_id: String,
    }

    /// Asks for the parts of an upload.
    pub struct ListParts {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
        /// The upload.
        3 upload_id: String,
    } since 2 {
        /// Only parts of higher numbers.
        4 after: u32,
        /// Most parts of the page; 0 is 1000.
        5 max_parts: u32,
    }

    /// They, by number: all of them in version 1, a page in version 2.
    pub struct PartList {
        /// One entry each.
        1 parts: Vec<PartEntry>,
    } since 2 {
        /// Whether more follow.
        2 is_truncated: bool,
    }

    /// One of them.
    pub struct PartEntry {
        /// Its number.
        1 part_number: u32,
        /// Its size in bytes.
        2 size: u64,
        /// MD5 in lower-case hex.
        3 etag: String,
        /// SHA-256 in lower-case hex.
        4 checksum: String,
    } since 2 {
        /// CRC64-NVME.
        5 crc64: u64,
        /// When it was committed.
        6 last_modified: Time,
    }

    /// Asks for a page of the uploads of a bucket that are open.
    pub struct ListMultipartUploads {} since 2 {
        /// The bucket.
        1 bucket: String,
        /// Only keys that begin with this.
        2 prefix: String,
        /// Keys that share what follows the prefix up to and with this are one common prefix; empty is none.
        3 delimiter: String,
        /// Only keys and common prefixes above this; uploads of this very key too when there is an upload marker.
        4 key_marker: String,
        /// Of the uploads of the key marker only those above this.
        5 upload_id_marker: String,
        /// Most uploads and common prefixes of the page together; 0 is 1000.
        6 max_uploads: u32,
    }

    /// A page.
    pub struct UploadPage {} since 2 {
        /// Its uploads, by key and then by age.
        1 uploads: Vec<UploadEntry>,
        /// Its common prefixes, in byte order.
        2 common_prefixes: Vec<String>,
        /// Whether more follow.
        3 is_truncated: bool,
        /// What to ask for next as `key_marker`.
        4 next_key_marker: String,
        /// What to ask for next as `upload_id_marker`.
        5 next_upload_id_marker: String,
    }

    /// One upload of a page.
    pub struct UploadEntry {} since 2 {
        /// The key of the object to be.
        1 key: String,
        /// Its id.
        2 upload_id: String,
        /// When it began.
        3 initiated: Time,
    }
}

operations! {
    0x20 CreateMultipartUpload(bucket / key) -> Upload,
    0x21 UploadPart(bucket / key) -> Stored,
    0x22 CompleteMultipartUpload(bucket / key) -> Completed,
    0x23 AbortMultipartUpload(bucket / key) -> Empty,
    0x24 ListParts(bucket / key) -> PartList,
    0x25 ListMultipartUploads(bucket) -> UploadPage since 2,
}

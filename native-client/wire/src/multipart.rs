//! Multipart uploads.

use crate::{
    Empty,
    message::{fields, operations},
    object::Stored,
};

fields! {
    /// Begins an upload.
    pub struct CreateMultipartUpload {
        /// The bucket.
        bucket: String,
        /// The key of the object to be.
        key: String,
        /// Its content type; empty is `application/octet-stream`.
        content_type: String,
    }

    /// An upload that has begun.
    pub struct Upload {
        /// Its id: 36 characters in the form of a UUID.
        upload_id: String,
    }

    /// Stores a part; the data of the frame is its body.
    pub struct UploadPart {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The upload.
        upload_id: String,
        /// Which part, from 1 to 10,000.
        part_number: u32,
    }

    /// Makes an object of parts, in ascending order of their numbers, in whatever order they are named.
    pub struct CompleteMultipartUpload {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The upload.
        upload_id: String,
        /// Which parts.
        part_numbers: Vec<u32>,
    }

    /// The object that came of it.
    pub struct Completed {
        /// MD5 of the MD5s of the parts in lower-case hex, a hyphen, their number.
        etag: String,
        /// SHA-256 of the SHA-256s of the parts in lower-case hex, a hyphen, their number.
        checksum: String,
        /// Its size in bytes.
        size: u64,
    }

    /// Gives an upload up.
    pub struct AbortMultipartUpload {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The upload.
        upload_id: String,
    }

    /// Asks for the parts of an upload.
    pub struct ListParts {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The upload.
        upload_id: String,
    }

    /// They, all of them, by number.
    pub struct PartList {
        /// One entry each.
        parts: Vec<PartEntry>,
    }

    /// One of them.
    pub struct PartEntry {
        /// Its number.
        part_number: u32,
        /// Its size in bytes.
        size: u64,
        /// MD5 in lower-case hex.
        etag: String,
        /// SHA-256 in lower-case hex.
        checksum: String,
    }
}

operations! {
    0x20 CreateMultipartUpload(bucket / key) -> Upload,
    0x21 UploadPart(bucket / key) -> Stored,
    0x22 CompleteMultipartUpload(bucket / key) -> Completed,
    0x23 AbortMultipartUpload(bucket / key) -> Empty,
    0x24 ListParts(bucket / key) -> PartList,
}

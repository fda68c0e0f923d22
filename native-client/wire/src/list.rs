//! Listings.

use std::collections::BTreeMap;

use crate::{
    Time,
    message::{fields, operations},
    object::ContentHeaders,
};

fields! {
    /// Asks for a page of the keys of a bucket.
    pub struct ListObjects {
        /// The bucket.
        1 bucket: String,
        /// Only keys that begin with this.
        2 prefix: String,
        /// Keys that share what follows the prefix up to and with this are one common prefix; empty is none.
        3 delimiter: String,
        /// Only what is above this, in byte order.
        4 start_after: String,
        /// Most objects and common prefixes of the page together; 0 and less is 1000. A page may be shorter.
        5 max_keys: i32,
    } since 2 {
        /// Whether entries have user metadata and headers too.
        6 with_metadata: bool,
    }

    /// A page.
    pub struct ObjectPage {
        /// Its objects, in byte order of their keys.
        1 objects: Vec<ObjectEntry>,
        /// Its common prefixes, in byte order.
        2 common_prefixes: Vec<String>,
        /// Whether more follow.
        3 is_truncated: bool,
        /// What to ask for next as `start_after`; it says nothing about whether more follow.
        4 next_start_after: String,
    }

    /// One object of a page.
    pub struct ObjectEntry {
        /// Its key.
        1 key: String,
        /// Its size in bytes.
        2 size: u64,
        /// Its ETag, without quotes.
        3 etag: String,
        /// Its checksum, as [`crate::object::ObjectInfo`] has it.
        4 checksum: String,
        /// When it was committed.
        5 last_modified: Time,
        /// Its content type.
        6 content_type: String,
    } since 2 {
        /// The id of the version, as [`crate::object::ObjectInfo`] has it.
        7 version: String,
        /// CRC64-NVME of its body.
        8 crc64: u64,
        /// User metadata, where they were asked for.
        9 metadata: BTreeMap<String, String>,
        /// Standard headers, where they were asked for.
        10 headers: ContentHeaders,
    }
}

operations! {
    0x14 ListObjects(bucket) -> ObjectPage,
}

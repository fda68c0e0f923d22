//! Listings.

use crate::{
    Time,
    message::{fields, operations},
};

fields! {
    /// Asks for a page of the keys of a bucket.
    pub struct ListObjects {
        /// The bucket.
        bucket: String,
        /// Only keys that begin with this.
        prefix: String,
        /// Keys that share what follows the prefix up to and with this are one common prefix; empty is none.
        delimiter: String,
        /// Only what is above this, in byte order.
        start_after: String,
        /// Most objects and common prefixes of the page together; 0 and less is 1000. A page may be shorter.
        max_keys: i32,
    }

    /// A page.
    pub struct ObjectPage {
        /// Its objects, in byte order of their keys.
        objects: Vec<ObjectEntry>,
        /// Its common prefixes, in byte order.
        common_prefixes: Vec<String>,
        /// Whether more follow.
        is_truncated: bool,
        /// What to ask for next as `start_after`; it says nothing about whether more follow.
        next_start_after: String,
    }

    /// One object of a page.
    pub struct ObjectEntry {
        /// Its key.
        key: String,
        /// Its size in bytes.
        size: u64,
        /// Its ETag, without quotes.
        etag: String,
        /// Its checksum, as [`crate::object::ObjectInfo`] has it.
        checksum: String,
        /// When it was committed.
        last_modified: Time,
        /// Its content type.
        content_type: String,
    }
}

operations! {
    0x14 ListObjects(bucket) -> ObjectPage,
}

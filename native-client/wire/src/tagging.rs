//! Tags of objects, all in version 2.

use crate::{
    Empty,
    message::{fields, operations},
};

fields! {
    /// One tag.
    pub struct Tag {} since 2 {
        /// Its key.
        1 key: String,
        /// Its value.
        2 value: String,
    }

    /// The tags of an object.
    pub struct TagSet {} since 2 {
        /// They, at most ten.
        1 tags: Vec<Tag>,
    }

    /// Asks for the tags of an object.
    pub struct GetObjectTagging {} since 2 {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
    }

    /// Gives an object tags in place of those it has.
    pub struct PutObjectTagging {} since 2 {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
        /// The tags.
        3 tags: Vec<Tag>,
    }

    /// Takes all tags of an object away.
    pub struct DeleteObjectTagging {} since 2 {
        /// The bucket.
        1 bucket: String,
        /// The key.
        2 key: String,
    }
}

operations! {
    0x1A GetObjectTagging(bucket / key) -> TagSet since 2,
    0x1B PutObjectTagging(bucket / key) -> Empty since 2,
    0x1C DeleteObjectTagging(bucket / key) -> Empty since 2,
}

//! Buckets.

use crate::{
    Empty, Time,
    message::{fields, operations},
};

fields! {
    /// Makes a bucket of the caller's account.
    pub struct CreateBucket {
        /// Its name.
        bucket: String,
    }

    /// Deletes an empty bucket.
    pub struct DeleteBucket {
        /// Its name.
        bucket: String,
    }

    /// Asks what a bucket is.
    pub struct HeadBucket {
        /// Its name.
        bucket: String,
    }

    /// A bucket.
    pub struct BucketInfo {
        /// Its id: 36 characters in the form of a UUID.
        bucket_id: String,
        /// Its name.
        name: String,
        /// When it was made.
        created_at: Time,
        /// `private`, or `public-read` when everybody may read its objects.
        visibility: String,
    }

    /// Asks for the buckets of the caller's account.
    pub struct ListBuckets {}

    /// They, by name.
    pub struct BucketList {
        /// One entry each.
        buckets: Vec<BucketEntry>,
    }

    /// One of them.
    pub struct BucketEntry {
        /// Its name.
        name: String,
        /// When it was made.
        created_at: Time,
    }
}

operations! {
    0x01 CreateBucket(bucket) -> BucketInfo,
    0x02 DeleteBucket(bucket) -> Empty,
    0x03 HeadBucket(bucket) -> BucketInfo,
    0x04 ListBuckets() -> BucketList,
}

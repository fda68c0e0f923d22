//! Buckets.

use crate::{
    Empty, Time,
    message::{fields, operations},
};

fields! {
    /// Makes a bucket of the caller's account.
    pub struct CreateBucket {
        /// Its name.
        1 bucket: String,
    } since 2 {
        /// Whether everybody may read its objects.
        0x8002 public_read: bool,
    }

    /// Deletes an empty bucket.
    pub struct DeleteBucket {
        /// Its name.
        1 bucket: String,
    }

    /// Asks what a bucket is.
    pub struct HeadBucket {
        /// Its name.
        1 bucket: String,
    }

    /// A bucket.
    pub struct BucketInfo {
        /// Its id: 36 characters in the form of a UUID.
        1 bucket_id: String,
        /// Its name.
        2 name: String,
        /// When it was made.
        3 created_at: Time,
        /// `private`, or `public-read` when everybody may read its objects.
        4 visibility: String,
    } since 2 {
        /// The account that owns it: 32 hex digits.
        5 owner: String,
        /// Most bytes that its objects may have together.
        6 quota_bytes: Option<u64>,
    }

    /// Asks for the buckets of the caller's account.
    pub struct ListBuckets {}

    /// They, by name.
    pub struct BucketList {
        /// One entry each.
        1 buckets: Vec<BucketEntry>,
    }

    /// One of them.
    pub struct BucketEntry {
        /// Its name.
        1 name: String,
        /// When it was made.
        2 created_at: Time,
    }
}

operations! {
    0x01 CreateBucket(bucket) -> BucketInfo,
    0x02 DeleteBucket(bucket) -> Empty,
    0x03 HeadBucket(bucket) -> BucketInfo,
    0x04 ListBuckets() -> BucketList,
}

//! Buckets, and what governs them.

use std::sync::Arc;

use crate::{BucketInfo, BucketName, BucketOptions, BucketUsage, Caller, Engine, Policy, Result};

impl Engine {
    /// Creates a bucket of the caller's account.
    pub async fn create_bucket(&self, caller: &Caller, bucket: &BucketName) -> Result<BucketInfo> {
        self.create_bucket_with(caller, bucket, BucketOptions::default())
            .await
    }

    /// Creates a bucket of the caller's account as `options` say.
    pub async fn create_bucket_with(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        options: BucketOptions,
    ) -> Result<BucketInfo> {
        self.service.create_bucket(caller, bucket, options).await
    }

    /// What a bucket is.
    pub async fn head_bucket(&self, caller: &Caller, bucket: &BucketName) -> Result<BucketInfo> {
        self.service.head_bucket(caller, bucket)
    }

    /// Deletes an empty bucket.
    pub async fn delete_bucket(&self, caller: &Caller, bucket: &BucketName) -> Result<()> {
        self.service.delete_bucket(caller, bucket).await
    }

    /// The buckets of the caller's account, by name.
    pub async fn list_buckets(&self, caller: &Caller) -> Result<Vec<BucketInfo>> {
        self.service.list_buckets(caller)
    }

    /// Opens the objects of a bucket to readers without credentials, or closes them again.
    pub async fn put_bucket_acl(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        public_read: bool,
    ) -> Result<()> {
        self.service
            .put_bucket_acl(caller, bucket, public_read)
            .await
    }

    /// The policy of a bucket.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoSuchBucketPolicy`] when it has none.
    pub async fn get_bucket_policy(
        &self,
        caller: &Caller,
        bucket: &BucketName,
    ) -> Result<Arc<Policy>> {
        self.service.get_bucket_policy(caller, bucket)
    }

    /// Gives a bucket a policy, in the place of the one that it has. It holds from the answer on.
    ///
    /// # Errors
    /// [`crate::ErrorKind::MalformedPolicy`] when a statement could never hold.
    pub async fn put_bucket_policy(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        policy: Policy,
    ) -> Result<()> {
        self.service.put_bucket_policy(caller, bucket, policy).await
    }

    /// Takes the policy of a bucket away, if it has one.
    pub async fn delete_bucket_policy(&self, caller: &Caller, bucket: &BucketName) -> Result<()> {
        self.service.delete_bucket_policy(caller, bucket).await
    }

    /// Limits the bytes of all objects of a bucket together; `None`: no limit. What is over it stays. For the operator.
    pub async fn put_bucket_quota(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        quota_bytes: Option<u64>,
    ) -> Result<()> {
        self.service
            .put_bucket_quota(caller, bucket, quota_bytes)
            .await
    }

    /// How many objects a bucket has, and bytes, as of the last commit.
    pub async fn bucket_usage(&self, caller: &Caller, bucket: &BucketName) -> Result<BucketUsage> {
        self.service.bucket_usage(caller, bucket)
    }
}

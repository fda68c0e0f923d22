//! What governs a bucket: its policy and its quota; and how its record is changed.

use std::sync::Arc;

use crate::{
    auth::{Action, Caller, Place, must_be_operator, no_such_bucket},
    error::{Error, ErrorKind, Result},
    meta::{
        Change, CommitError, Precondition, Transaction,
        key::Key,
        record::{BucketRecord, BucketStats, Record},
    },
    service::Service,
    types::{BucketName, BucketUsage, ObjectKey, Policy},
};

/// How often a change is tried again when others change the same bucket.
const TRIES_MAX: usize = 16;

impl Service {
    pub(crate) fn get_bucket_policy(
        &self,
        caller: &Caller,
        name: &BucketName,
    ) -> Result<Arc<Policy>> {
        let bucket = self.bucket(caller, Action::BucketReadMeta, name, Place::Bucket)?;
        bucket.policy.ok_or_else(|| {
            Error::new(
                ErrorKind::NoSuchBucketPolicy,
                format!("The bucket {name} has no policy."),
            )
        })
    }

    pub(crate) async fn put_bucket_policy(
        &self,
        caller: &Caller,
        name: &BucketName,
        policy: Policy,
    ) -> Result<()> {
        policy.check()?;
        let policy = Some(Arc::new(policy));
        self.update_bucket(caller, name, false, &|bucket| {
            bucket.policy.clone_from(&policy)
        })
        .await
    }

    pub(crate) async fn delete_bucket_policy(
        &self,
        caller: &Caller,
        name: &BucketName,
    ) -> Result<()> {
        self.update_bucket(caller, name, true, &|bucket| bucket.policy = None)
            .await
    }

    pub(crate) async fn put_bucket_quota(
        &self,
        caller: &Caller,
        name: &BucketName,
        quota_bytes: Option<u64>,
    ) -> Result<()> {
        // Else whoever is limited could end it.
        must_be_operator(caller, "Access denied: quotas are set by the operator.")?;
        self.update_bucket(caller, name, true, &|bucket| {
            bucket.quota_bytes = quota_bytes
        })
        .await
    }

    pub(crate) fn bucket_usage(&self, caller: &Caller, name: &BucketName) -> Result<BucketUsage> {
        let bucket = self.bucket(caller, Action::BucketReadMeta, name, Place::Bucket)?;
        self.usage_of(&bucket)
    }

    fn usage_of(&self, bucket: &BucketRecord) -> Result<BucketUsage> {
        let stats = match self.meta.get(&Key::BucketStats(bucket.id))? {
            Some(Record::BucketStats(stats)) => stats,
            _ => BucketStats::default(),
        };
        Ok(BucketUsage {
            objects: stats.objects,
            bytes: stats.bytes,
        })
    }

    /// Refuses a body that the quota has no room for, before its bytes have come. What decides is the commit.
    pub(super) fn must_be_within(
        &self,
        bucket: &BucketRecord,
        key: &ObjectKey,
        size: Option<u64>,
    ) -> Result<()> {
        let (Some(quota), Some(size)) = (bucket.quota_bytes, size) else {
            return Ok(());
        };
        let old = self.object(bucket, key).map_or(0, |object| object.size);
        let others = self.usage_of(bucket)?.bytes.saturating_sub(old);
        match others.saturating_add(size) <= quota {
            true => Ok(()),
            false => Err(over_quota(quota)),
        }
    }

    /// Changes the record of a bucket, as whoever read it last. `upkeep`: on a full disk too.
    pub(super) async fn update_bucket(
        &self,
        caller: &Caller,
        name: &BucketName,
        upkeep: bool,
        change: &(dyn Fn(&mut BucketRecord) + Sync),
    ) -> Result<()> {
        let first = self.bucket(caller, Action::BucketWriteMeta, name, Place::Bucket)?;
        let mut bucket = first.clone();
        for _ in 0..TRIES_MAX {
            // A bucket that was deleted and made anew is not the one that was meant.
            if bucket.id != first.id {
                return Err(no_such_bucket(name));
            }
            let mut changed = bucket.clone();
            change(&mut changed);
            if bucket == changed {
                return Ok(());
            }
            match self.replace_bucket(name, bucket, changed, upkeep).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
            bucket = self.bucket(caller, Action::BucketWriteMeta, name, Place::Bucket)?;
        }
        Err(Error::new(
            ErrorKind::ServiceUnavailable,
            "The bucket is being changed by many at once: try again.",
        ))
    }

    async fn replace_bucket(
        &self,
        name: &BucketName,
        old: BucketRecord,
        new: BucketRecord,
        upkeep: bool,
    ) -> Result<(), CommitError> {
        let key = Key::Bucket(name.as_str().into());
        let is = Precondition::Is(key.clone(), Box::new(Record::Bucket(old)));
        let transaction = Transaction {
            requires: vec![is],
            changes: vec![Change::put(key, Record::Bucket(new))],
            upkeep,
            ..Transaction::default()
        };
        self.meta.commit(transaction).await
    }
}

/// The error for what a quota has no room for.
pub(super) fn over_quota(quota: u64) -> Error {
    Error::new(
        ErrorKind::QuotaExceeded,
        format!(
            "The bucket may have {quota} bytes, and would have more: delete objects, or ask the operator for a larger quota."
        ),
    )
}

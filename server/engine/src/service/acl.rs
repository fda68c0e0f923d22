//! Access lists, as far as there are any: one flag of a bucket that opens its objects to readers without
//! credentials.

use crate::{
    auth::{Action, Place, Caller, no_such_bucket},
    error::{Error, ErrorKind, Result},
    meta::{
        Change, CommitError, Precondition, Transaction,
        key::Key,
        record::{BucketRecord, Record},
    },
    service::Service,
    types::{BucketName, ObjectKey},
};

/// How often a change is tried again when others change the same bucket.
const TRIES_MAX: usize = 16;

impl Service {
    pub(crate) async fn put_bucket_acl(
        &self,
        caller: &Caller,
        name: &BucketName,
        public_read: bool,
    ) -> Result<()> {
        let first = self.bucket(caller, Action::BucketWriteMeta, name, Place::Bucket)?;
        let mut bucket = first.clone();
        for _ in 0..TRIES_MAX {
            // A bucket that was deleted and made anew is not the one that was meant.
            if bucket.id != first.id {
                return Err(no_such_bucket(name));
            }
            if bucket.public_read == public_read {
                return Ok(());
            }
            match self.replace_bucket(name, &bucket, public_read).await {
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

    pub(crate) fn object_is_public(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
    ) -> Result<bool> {
        let bucket = self.bucket(caller, Action::ObjectReadMeta, name, Place::Key(key))?;
        self.object(&bucket, key)?;
        Ok(bucket.public_read)
    }

    pub(crate) fn put_object_acl(
        &self,
        caller: &Caller,
        name: &BucketName,
        key: &ObjectKey,
    ) -> Result<()> {
        let bucket = self.bucket(caller, Action::ObjectPut, name, Place::Key(key))?;
        self.object(&bucket, key).map(drop)
    }

    /// Puts the flag into the record, if that is still what was read.
    async fn replace_bucket(
        &self,
        name: &BucketName,
        old: &BucketRecord,
        public_read: bool,
    ) -> Result<(), CommitError> {
        let key = Key::Bucket(name.as_str().into());
        let new = BucketRecord {
            public_read,
            ..old.clone()
        };
        let old = Box::new(Record::Bucket(old.clone()));
        let transaction = Transaction {
            requires: vec![Precondition::Is(key.clone(), old)],
            changes: vec![Change::put(key, Record::Bucket(new))],
            // A full disk is no reason to keep a bucket open.
            upkeep: !public_read,
            ..Transaction::default()
        };
        self.meta.commit(transaction).await
    }
}

//! Access lists, as far as there are any: one flag of a bucket that opens its objects to readers without
//! credentials.

use crate::{
    auth::{Action, Caller, Place},
    error::Result,
    service::Service,
    types::{BucketName, ObjectKey},
};

impl Service {
    pub(crate) async fn put_bucket_acl(
        &self,
        caller: &Caller,
        name: &BucketName,
        public_read: bool,
    ) -> Result<()> {
        // A full disk is no reason to keep a bucket open.
        let upkeep = !public_read;
        self.update_bucket(caller, name, upkeep, &|bucket| {
            bucket.public_read = public_read
        })
        .await
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
}

//! Objects.

use std::ops::Range;

use crate::{
    BucketName, Caller, CopyOptions, CopySource, DeleteConditions, DeletedPrefix, Engine,
    ListOptions, ListPage, ObjectInfo, ObjectKey, ObjectReader, ObjectWriter, PutOptions, Result,
    Select, Tags,
};

impl Engine {
    /// Checks rights and bucket, then takes the body of an object.
    pub async fn put_object(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        options: PutOptions,
    ) -> Result<ObjectWriter> {
        self.service.put_object(caller, bucket, key, options).await
    }

    /// Opens an object for reading, whole or in part.
    pub async fn get_object(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        select: Select,
    ) -> Result<ObjectReader> {
        self.service.get_object(caller, bucket, key, select).await
    }

    /// What an object is, without its body.
    pub async fn head_object(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<ObjectInfo> {
        self.service.head_object(caller, bucket, key)
    }

    /// What an object is, and which bytes of it are selected: half-open, or why there are none.
    pub async fn head_object_part(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        select: Select,
    ) -> Result<(ObjectInfo, Result<Range<u64>>)> {
        self.service.head_object_part(caller, bucket, key, select)
    }

    /// Deletes an object; fine when there is none.
    pub async fn delete_object(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<()> {
        self.service.delete_object(caller, bucket, key).await
    }

    /// Deletes an object if the conditions hold for it; fine when there is none.
    ///
    /// # Errors
    /// [`crate::ErrorKind::PreconditionFailed`] when there is another one.
    pub async fn delete_object_if(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        conditions: &DeleteConditions,
    ) -> Result<()> {
        self.service
            .delete_object_if(caller, bucket, key, conditions)
            .await
    }

    /// Deletes many objects in shared commits: one result a key, in order.
    pub async fn delete_objects(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        keys: &[ObjectKey],
    ) -> Result<Vec<Result<()>>> {
        self.service.delete_objects(caller, bucket, keys).await
    }

    /// Deletes the first objects under a prefix that the caller may delete: as many as a page of a listing has. A delimiter
    /// is not looked at.
    ///
    /// # Errors
    /// [`crate::ErrorKind::AccessDenied`] when the caller may not delete there; of many some may be deleted when another
    /// error comes.
    pub async fn delete_prefix(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        options: &ListOptions,
    ) -> Result<DeletedPrefix> {
        let options = ListOptions {
            delimiter: None,
            ..options.clone()
        };
        self.service.delete_prefix(caller, bucket, &options).await
    }

    /// Makes a second object of the same bytes, or gives an object other metadata (S3 API, CopyObject).
    ///
    /// # Errors
    /// [`crate::ErrorKind::PreconditionFailed`] when a condition on source or destination does not hold,
    /// [`crate::ErrorKind::InvalidRequest`] for a copy onto itself that changes nothing.
    pub async fn copy_object(
        &self,
        caller: &Caller,
        source: &CopySource,
        bucket: &BucketName,
        key: &ObjectKey,
        options: CopyOptions,
    ) -> Result<ObjectInfo> {
        let service = &self.service;
        service
            .copy_object(caller, source, bucket, key, options)
            .await
    }

    /// One page of a listing.
    pub async fn list_objects(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        options: &ListOptions,
    ) -> Result<ListPage> {
        let (caller, bucket, options) = (caller.clone(), bucket.clone(), options.clone());
        self.blocking(move |service| service.list_objects(&caller, &bucket, &options))
            .await
    }

    /// The tags of an object.
    pub async fn get_object_tagging(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<Tags> {
        self.service.get_object_tagging(caller, bucket, key)
    }

    /// Gives an object these tags in place of those it has.
    pub async fn put_object_tagging(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        tags: Tags,
    ) -> Result<()> {
        let service = &self.service;
        service.put_object_tagging(caller, bucket, key, tags).await
    }

    /// Whether an object, which must be there, may be read without credentials.
    pub async fn object_is_public(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<bool> {
        self.service.object_is_public(caller, bucket, key)
    }

    /// Whether the caller could change the access list of an object, which must be there. It has none: what
    /// may be read is said by its bucket.
    pub async fn put_object_acl(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<()> {
        self.service.put_object_acl(caller, bucket, key)
    }
}

//! Multipart uploads.

use crate::{
    BucketName, ByteRange, Caller, CompleteOptions, CompletedPart, CopySource, Engine,
    ListPartsOptions, ListUploadsOptions, ObjectInfo, ObjectKey, PartInfo, PartOptions, PartPage,
    PartWriter, Result, UploadId, UploadInfo, UploadOptions, UploadPage,
    service::multipart::PartOf,
};

impl Engine {
    /// Begins a multipart upload (S3 API, CreateMultipartUpload).
    pub async fn create_multipart_upload(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        options: UploadOptions,
    ) -> Result<UploadInfo> {
        let service = &self.service;
        service
            .create_multipart_upload(caller, bucket, key, options)
            .await
    }

    /// Checks rights and upload, then takes the body of a part; `number` is 1 to [`crate::PART_NUMBER_MAX`].
    pub async fn upload_part(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
        number: u16,
        options: PartOptions,
    ) -> Result<PartWriter> {
        let part = PartOf {
            bucket,
            key,
            id: upload_id,
            number,
        };
        let service = &self.service;
        service.upload_part(caller, part, options).await
    }

    /// Makes a part of an object or a range of it (S3 API, UploadPartCopy).
    #[allow(clippy::too_many_arguments)] // each is one of the request
    pub async fn upload_part_copy(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
        number: u16,
        source: &CopySource,
        range: Option<ByteRange>,
    ) -> Result<PartInfo> {
        let part = PartOf {
            bucket,
            key,
            id: upload_id,
            number,
        };
        let service = &self.service;
        service.upload_part_copy(caller, part, source, range).await
    }

    /// Makes an object of the listed parts, by reference (S3 API, CompleteMultipartUpload). Answers the same
    /// when it comes again.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidPart`], [`crate::ErrorKind::InvalidPartOrder`], [`crate::ErrorKind::EntityTooSmall`],
    /// [`crate::ErrorKind::NoSuchUpload`], [`crate::ErrorKind::PreconditionFailed`], [`crate::ErrorKind::BadDigest`].
    pub async fn complete_multipart_upload(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
        parts: &[CompletedPart],
        options: CompleteOptions,
    ) -> Result<ObjectInfo> {
        let service = &self.service;
        service
            .complete_multipart_upload(caller, bucket, key, upload_id, parts, options)
            .await
    }

    /// Gives up a multipart upload; its parts go.
    pub async fn abort_multipart_upload(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
    ) -> Result<()> {
        let service = &self.service;
        service
            .abort_multipart_upload(caller, bucket, key, upload_id)
            .await
    }

    /// One page of the parts of an open upload.
    pub async fn list_parts(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
        options: &ListPartsOptions,
    ) -> Result<PartPage> {
        let (caller, bucket, key) = (caller.clone(), bucket.clone(), key.clone());
        let options = *options;
        self.blocking(move |service| {
            service.list_parts(&caller, &bucket, &key, upload_id, &options)
        })
        .await
    }

    /// One page of the open uploads of a bucket.
    pub async fn list_multipart_uploads(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        options: &ListUploadsOptions,
    ) -> Result<UploadPage> {
        let (caller, bucket, options) = (caller.clone(), bucket.clone(), options.clone());
        self.blocking(move |service| service.list_multipart_uploads(&caller, &bucket, &options))
            .await
    }
}

//! The operations of a store over the native protocol: the client does all the work.

use std::time::SystemTime;

use bytes::Bytes;
use jay_client::{Client, ObjectMeta, PartInfo};

use super::{
    Body, Bucket, Description, Download, Error, Listing, Object, Page, Part, Range, Result, Upload,
};

/// See the module.
pub struct Native(Client);

impl Native {
    /// A store that is asked by this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    pub(super) async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        let told = self.0.list_buckets().await?;
        let buckets = told.into_iter().map(|bucket| Bucket {
            name: bucket.name,
            created: bucket.created_at,
        });
        Ok(buckets.collect())
    }

    pub(super) async fn create_bucket(&self, bucket: &str) -> Result<()> {
        self.0.create_bucket(bucket).await?;
        Ok(())
    }

    pub(super) async fn delete_bucket(&self, bucket: &str) -> Result<()> {
        Ok(self.0.delete_bucket(bucket).await?)
    }

    pub(super) async fn list(&self, listing: &Listing, next: Option<&str>) -> Result<Page> {
        let mut list = self.0.bucket(&listing.bucket).list(&listing.prefix);
        if listing.is_flat {
            list = list.delimiter("/");
        }
        if listing.with_descriptions {
            list = list.with_metadata();
        }
        if let Some(key) = next {
            list = list.start_after(key);
        }
        let page = list.page().await?;
        let objects = page.objects.into_iter().map(|meta| {
            let mut object = Object::from(meta);
            object.description = object.description.filter(|_| listing.with_descriptions);
            object
        });
        Ok(Page {
            objects: objects.collect(),
            prefixes: page.prefixes,
            next: page.next,
        })
    }

    pub(super) async fn head(&self, bucket: &str, key: &str) -> Result<Object> {
        Ok(self.0.bucket(bucket).head(key).await?.into())
    }

    pub(super) async fn get(
        &self,
        bucket: &str,
        key: &str,
        range: Option<Range>,
        etag: Option<&str>,
    ) -> Result<Download> {
        let mut get = self.0.bucket(bucket).get(key);
        get = match range {
            None => get,
            Some(Range::Between(start, end)) => get.range(start..end),
            Some(Range::From(start)) => get.range(start..),
            Some(Range::Last(count)) => get.suffix(count),
        };
        if let Some(etag) = etag {
            get = get.if_match(etag);
        }
        let object = get.await?;
        Ok(Download {
            object: object.meta().clone().into(),
            body: Body::Native(Box::new(object)),
        })
    }

    pub(super) async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Bytes,
        description: &Description,
    ) -> Result<()> {
        let mut put = self
            .0
            .bucket(bucket)
            .put(key, body)
            .content_type(&description.content_type)
            .headers(description.headers.clone());
        for (name, value) in &description.metadata {
            put = put.metadata(name, value);
        }
        put.await?;
        Ok(())
    }

    pub(super) async fn copy(
        &self,
        (from_bucket, from_key, etag): (&str, &str, &str),
        (bucket, key): (&str, &str),
        description: Option<&Description>,
    ) -> Result<()> {
        let mut copy = self
            .0
            .bucket(bucket)
            .copy("", key)
            .from_bucket(&self.0.bucket(from_bucket), from_key)
            .if_source_match(etag);
        if let Some(description) = description.cloned() {
            copy = copy.replace(
                description.content_type,
                description.headers,
                description.metadata,
            );
        }
        copy.await?;
        Ok(())
    }

    pub(super) async fn delete(&self, bucket: &str, key: &str, etag: Option<&str>) -> Result<()> {
        let delete = self.0.bucket(bucket).delete(key);
        match etag {
            Some(etag) => delete.if_match(etag).await?,
            None => delete.await?,
        }
        Ok(())
    }

    pub(super) async fn delete_many(
        &self,
        bucket: &str,
        keys: &[String],
    ) -> Result<Vec<Result<()>>> {
        let results = self.0.bucket(bucket).delete_many(keys).await?;
        Ok(results.into_iter().map(|result| Ok(result?)).collect())
    }

    pub(super) async fn delete_prefix(&self, bucket: &str, prefix: &str) -> Result<u64> {
        Ok(self.0.bucket(bucket).delete_prefix(prefix).await?)
    }

    pub(super) async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        description: &Description,
    ) -> Result<Upload> {
        let bucket = self.0.bucket(bucket);
        let upload = bucket
            .create_multipart(key, &description.content_type)
            .await?;
        Ok(Upload {
            bucket: bucket.name().to_owned(),
            key: key.to_owned(),
            id: upload.upload_id().to_owned(),
            began: SystemTime::now(),
        })
    }

    pub(super) async fn list_uploads(&self, bucket: &str, key: &str) -> Result<Vec<Upload>> {
        let told = self.0.bucket(bucket).list_multiparts(key).await?;
        let uploads = told.into_iter().map(|upload| Upload {
            bucket: bucket.to_owned(),
            key: upload.key,
            id: upload.upload_id,
            began: upload.initiated,
        });
        Ok(uploads.collect())
    }

    pub(super) async fn upload_part(
        &self,
        upload: &Upload,
        number: u32,
        body: Bytes,
    ) -> Result<Part> {
        Ok(self.upload(upload).part(number, body).await?.into())
    }

    pub(super) async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        let told = self.upload(upload).list_parts().await?;
        Ok(told.into_iter().map(Part::from).collect())
    }

    pub(super) async fn complete(&self, upload: &Upload, parts: &[Part]) -> Result<()> {
        let upload = self.upload(upload);
        let mut stored = upload.list_parts().await?;
        stored.retain(|stored| {
            let named = parts.binary_search_by_key(&stored.part_number, |part| part.number);
            named.is_ok_and(|at| parts[at].etag == stored.etag)
        });
        upload.complete(&stored).await?;
        Ok(())
    }

    pub(super) async fn abort(&self, upload: &Upload) -> Result<()> {
        Ok(self.upload(upload).abort().await?)
    }

    fn upload(&self, upload: &Upload) -> jay_client::Upload {
        self.0
            .bucket(&upload.bucket)
            .multipart(&upload.key, &upload.id)
    }
}

impl From<ObjectMeta> for Object {
    fn from(meta: ObjectMeta) -> Self {
        let crc64 = meta
            .checksum
            .filter(|checksum| checksum.algorithm == "CRC64NVME")
            .and_then(|checksum| checksum.value.try_into().ok())
            .map(u64::from_be_bytes);
        Self {
            key: meta.key,
            size: meta.size,
            etag: meta.etag,
            modified: meta.last_modified,
            description: Some(Description {
                content_type: meta.content_type.unwrap_or_default(),
                headers: meta.headers,
                metadata: meta.metadata,
            }),
            // Version 1 of the protocol tells none, which looks like that of nothing.
            crc64: crc64.filter(|&sum| sum != 0 || meta.size == 0),
        }
    }
}

impl From<PartInfo> for Part {
    fn from(part: PartInfo) -> Self {
        Self {
            number: part.part_number,
            size: part.size,
            etag: part.etag,
        }
    }
}

impl From<jay_client::Error> for Error {
    fn from(error: jay_client::Error) -> Self {
        Self {
            retry_after: error.retry_after(),
            ..Self::new(error.kind(), error.to_string())
        }
    }
}

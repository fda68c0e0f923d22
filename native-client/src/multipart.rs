//! Multipart uploads, part by part.

use jay_wire::multipart;

use crate::{
    body::Body,
    bucket::Bucket,
    core::CallOptions,
    error::Result,
    list::turns_in_circles,
    model::{PartInfo, PutResult, UploadInfo},
    retry::Safety,
};

impl Bucket {
    /// Begins an upload in parts.
    ///
    /// # Errors
    /// See [`crate::ErrorKind`].
    pub async fn create_multipart(&self, key: &str, content_type: &str) -> Result<Upload> {
        let asked = multipart::CreateMultipartUpload {
            bucket: self.name().to_owned(),
            key: self.full(key),
            content_type: content_type.to_owned(),
            ..multipart::CreateMultipartUpload::default()
        };
        let told = self
            .core
            .ask(&asked, Safety::Once, &CallOptions::default())
            .await?;
        Ok(Upload {
            bucket: self.clone(),
            key: asked.key,
            upload_id: told.upload_id,
        })
    }

    /// An upload that was begun before, by its id.
    pub fn multipart(&self, key: &str, upload_id: impl Into<String>) -> Upload {
        Upload {
            bucket: self.clone(),
            key: self.full(key),
            upload_id: upload_id.into(),
        }
    }

    /// The uploads that have begun and not ended, of keys that begin with a prefix.
    ///
    /// # Errors
    /// See [`crate::ErrorKind`].
    pub async fn list_multiparts(&self, prefix: &str) -> Result<Vec<UploadInfo>> {
        let mut asked = multipart::ListMultipartUploads {
            bucket: self.name().to_owned(),
            prefix: self.full(prefix),
            ..multipart::ListMultipartUploads::default()
        };
        let mut found = Vec::new();
        loop {
            let page = self
                .core
                .ask(&asked, Safety::Repeatable, &CallOptions::default())
                .await?;
            found.extend(page.uploads.into_iter().map(|upload| {
                let mut upload = UploadInfo::from(upload);
                upload.key = self.short(upload.key);
                upload
            }));
            if !page.is_truncated {
                return Ok(found);
            }
            let (key, upload) = (page.next_key_marker, page.next_upload_id_marker);
            // Uploads of one key come in an order that only the server knows.
            let is_same = (&key, &upload) == (&asked.key_marker, &asked.upload_id_marker);
            if is_same || key < asked.key_marker {
                return Err(turns_in_circles());
            }
            (asked.key_marker, asked.upload_id_marker) = (key, upload);
        }
    }
}

/// An upload in parts, until it is completed or aborted.
#[derive(Clone, Debug)]
pub struct Upload {
    pub(crate) bucket: Bucket,
    pub(crate) key: String,
    pub(crate) upload_id: String,
}

impl Upload {
    /// Its id.
    pub fn upload_id(&self) -> &str {
        &self.upload_id
    }

    /// Stores a part: 1 to 10,000. One that was stored before under this number gives way.
    ///
    /// # Errors
    /// See [`crate::ErrorKind`].
    pub async fn part(&self, part_number: u32, body: impl Into<Body>) -> Result<PartInfo> {
        self.part_with(part_number, body.into(), &mut |_| {}).await
    }

    pub(crate) async fn part_with(
        &self,
        part_number: u32,
        body: Body,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<PartInfo> {
        let asked = multipart::UploadPart {
            bucket: self.bucket.name().to_owned(),
            key: self.key.clone(),
            upload_id: self.upload_id.clone(),
            part_number,
        };
        // Storing the same part again changes nothing.
        let stored = self
            .bucket
            .core
            .write(
                &asked,
                body,
                Safety::Repeatable,
                &CallOptions::default(),
                progress,
            )
            .await?;
        Ok(PartInfo {
            part_number,
            size: stored.size,
            etag: stored.etag,
        })
    }

    /// The parts that are stored, by number.
    ///
    /// # Errors
    /// See [`crate::ErrorKind`].
    pub async fn list_parts(&self) -> Result<Vec<PartInfo>> {
        let mut asked = multipart::ListParts {
            bucket: self.bucket.name().to_owned(),
            key: self.key.clone(),
            upload_id: self.upload_id.clone(),
            ..multipart::ListParts::default()
        };
        let mut found: Vec<PartInfo> = Vec::new();
        loop {
            let page = self
                .bucket
                .core
                .ask(&asked, Safety::Repeatable, &CallOptions::default())
                .await?;
            found.extend(page.parts.into_iter().map(PartInfo::from));
            if !page.is_truncated {
                return Ok(found);
            }
            let last = found.last().map_or(0, |part| part.part_number);
            if last <= asked.after {
                return Err(turns_in_circles());
            }
            asked.after = last;
        }
    }

    /// Makes the object of these parts.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidArgument`] when a part is missing or another one; see [`crate::ErrorKind`].
    pub async fn complete(&self, parts: &[PartInfo]) -> Result<PutResult> {
        self.complete_if(parts, Default::default()).await
    }

    pub(crate) async fn complete_if(
        &self,
        parts: &[PartInfo],
        conditions: jay_wire::object::WriteConditions,
    ) -> Result<PutResult> {
        let mut asked = multipart::CompleteMultipartUpload {
            bucket: self.bucket.name().to_owned(),
            key: self.key.clone(),
            upload_id: self.upload_id.clone(),
            parts: parts
                .iter()
                .map(|part| multipart::PartNamed {
                    part_number: part.part_number,
                    etag: part.etag.clone(),
                })
                .collect(),
            conditions,
            ..multipart::CompleteMultipartUpload::default()
        };
        let core = &self.bucket.core;
        if core.is_v1() {
            asked.part_numbers = parts.iter().map(|part| part.part_number).collect();
            asked.parts.clear();
            self.must_be_stored(&asked, parts).await?;
        }
        let told = core
            .ask(&asked, Safety::InSession, &CallOptions::default())
            .await?;
        Ok(told.into())
    }

    /// Gives it up, with all parts.
    ///
    /// # Errors
    /// [`crate::ErrorKind::UploadNotFound`]; see [`crate::ErrorKind`].
    pub async fn abort(&self) -> Result<()> {
        let asked = multipart::AbortMultipartUpload {
            bucket: self.bucket.name().to_owned(),
            key: self.key.clone(),
            upload_id: self.upload_id.clone(),
        };
        self.bucket
            .core
            .ask(&asked, Safety::Once, &CallOptions::default())
            .await?;
        Ok(())
    }
}

//! Multipart uploads.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jay_engine::{
    Checksum, CompleteOptions, ListPartsOptions, ListUploadsOptions, PartInfo, PartOptions,
    UploadEntry, UploadId, UploadOptions,
};
use serde_json::{Value, json};

use super::{
    super::asked::{Args, Result, unsupported},
    CHUNK_BYTES, Store, written,
};

/// The smallest part but the last, as the server under test has it.
const PART_BYTES_MIN: u64 = 65_536;

impl Store {
    pub(super) async fn multipart(&self, op: &str, args: Args) -> Result<Value> {
        match op {
            "create_multipart_upload" => self.create(args).await,
            "upload_part" => self.upload_part(args).await,
            "upload_part_copy" => self.upload_part_copy(args).await,
            "complete_multipart_upload" => self.complete(args).await,
            "abort_multipart_upload" => self.abort(args).await,
            "list_parts" => self.list_parts(args).await,
            "list_multipart_uploads" => self.list_uploads(args).await,
            _ => Err(unsupported(op)),
        }
    }

    async fn create(&self, mut args: Args) -> Result<Value> {
        let (bucket, key) = (args.bucket()?, args.key()?);
        let options = UploadOptions {
            headers: args.content_headers()?,
            metadata: args.metadata()?,
            tags: args.tags()?,
            checksum_algorithm: args.checksum_algorithm()?,
            checksum_type: args.checksum_type()?,
        };
        args.end()?;
        let engine = &self.engine;
        let upload = engine
            .create_multipart_upload(&self.caller, &bucket, &key, options)
            .await?;
        Ok(json!({"upload_id": upload.upload_id.to_string()}))
    }

    async fn upload_part(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, upload_id) = (args.bucket()?, args.key()?, args.upload_id()?);
        let (number, bytes) = (args.required("part_number")?, args.body()?);
        let options = PartOptions {
            size: Some(bytes.len() as u64),
            content_md5: args.content_md5()?,
            checksum: args.checksum()?,
            checksum_algorithm: args.checksum_algorithm()?,
            ..PartOptions::default()
        };
        args.end()?;
        let engine = &self.engine;
        let writer = engine.upload_part(&self.caller, &bucket, &key, upload_id, number, options);
        let mut writer = writer.await?;
        for chunk in bytes.chunks(CHUNK_BYTES) {
            writer.write(chunk.to_vec().into()).await?;
        }
        let part = writer.finish(None).await?;
        let sums = part.checksum.iter().chain([&part.crc64]);
        let pair = |sum: &Checksum| {
            (
                sum.algorithm.name().to_owned(),
                BASE64_STANDARD.encode(&sum.value).into(),
            )
        };
        let sums: serde_json::Map<String, Value> = sums.map(pair).collect();
        Ok(json!({"etag": part.etag.as_str(), "checksums": sums}))
    }

    async fn upload_part_copy(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, upload_id) = (args.bucket()?, args.key()?, args.upload_id()?);
        let (number, source, range) =
            (args.required("part_number")?, args.source()?, args.range()?);
        args.end()?;
        let engine = &self.engine;
        let part = engine.upload_part_copy(
            &self.caller,
            &bucket,
            &key,
            upload_id,
            number,
            &source,
            range,
        );
        Ok(json!({"etag": part.await?.etag.as_str()}))
    }

    async fn complete(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, upload_id) = (args.bucket()?, args.key()?, args.upload_id()?);
        let parts = args.parts()?;
        let options = CompleteOptions {
            once: None,
            conditions: args.conditions()?,
            checksum: args.checksum()?,
            checksum_type: args.checksum_type()?,
            size: args.option("size")?,
            part_bytes_min: PART_BYTES_MIN,
        };
        args.end()?;
        let engine = &self.engine;
        let object = engine.complete_multipart_upload(
            &self.caller,
            &bucket,
            &key,
            upload_id,
            &parts,
            options,
        );
        Ok(written(&object.await?))
    }

    async fn abort(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, upload_id) = (args.bucket()?, args.key()?, args.upload_id()?);
        args.end()?;
        let engine = &self.engine;
        engine
            .abort_multipart_upload(&self.caller, &bucket, &key, upload_id)
            .await?;
        Ok(json!({}))
    }

    async fn list_parts(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, upload_id) = (args.bucket()?, args.key()?, args.upload_id()?);
        let options = ListPartsOptions {
            after: args.option("part_number_marker")?.unwrap_or(0),
            max_parts: args.option("max_parts")?.unwrap_or(1000),
        };
        args.end()?;
        let page = self
            .engine
            .list_parts(&self.caller, &bucket, &key, upload_id, &options)
            .await?;
        let part = |part: &PartInfo| json!({"part_number": part.number, "size": part.size, "etag": part.etag.as_str()});
        let mut result = json!({"truncated": page.is_truncated, "parts": page.parts.iter().map(part).collect::<Vec<_>>()});
        if let (true, Some(last)) = (page.is_truncated, page.parts.last()) {
            result["next_part_number_marker"] = last.number.into();
        }
        Ok(result)
    }

    async fn list_uploads(&self, mut args: Args) -> Result<Value> {
        let bucket = args.bucket()?;
        let marker: Option<String> = args.option("upload_id_marker")?;
        let options = ListUploadsOptions {
            prefix: args.option("prefix")?.unwrap_or_default(),
            delimiter: args.option("delimiter")?,
            key_marker: args.option("key_marker")?,
            upload_id_marker: marker.map(|text| UploadId::parse(&text)).transpose()?,
            max_uploads: args.option("max_uploads")?.unwrap_or(1000),
        };
        args.end()?;
        let page = self
            .engine
            .list_multipart_uploads(&self.caller, &bucket, &options)
            .await?;
        let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
        for entry in &page.entries {
            match entry {
                UploadEntry::Upload(info) => {
                    uploads.push(
                        json!({"key": info.key.as_str(), "upload_id": info.upload_id.to_string()}),
                    );
                }
                UploadEntry::CommonPrefix(prefix) => prefixes.push(prefix),
            }
        }
        let mut result = json!({"truncated": page.is_truncated, "uploads": uploads, "common_prefixes": prefixes});
        match page.entries.last().filter(|_| page.is_truncated) {
            Some(UploadEntry::Upload(info)) => {
                result["next_key_marker"] = info.key.as_str().into();
                result["next_upload_id_marker"] = info.upload_id.to_string().into();
            }
            Some(UploadEntry::CommonPrefix(prefix)) => {
                result["next_key_marker"] = prefix.clone().into()
            }
            None => {}
        }
        Ok(result)
    }
}

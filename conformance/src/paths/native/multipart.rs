//! Multipart uploads.

use jay_client::{Bucket, PartInfo, Upload};
use serde_json::{Map, Value, json};

use super::{checksums, done};
use crate::paths::asked::{Args, Result, unsupported};

pub(super) async fn answer(bucket: &Bucket, op: &str, mut args: Args) -> Result<Value> {
    match op {
        "create_multipart_upload" => {
            let key = args.text("key")?;
            let content_type: String = args.option("content_type")?.unwrap_or_default();
            args.end()?;
            let upload = bucket.create_multipart(&key, &content_type).await?;
            Ok(json!({"upload_id": upload.upload_id()}))
        }
        "upload_part" => {
            let upload = upload(bucket, &mut args)?;
            let (number, body) = (args.required("part_number")?, args.body()?);
            args.end()?;
            Ok(json!({"etag": upload.part(number, body).await?.etag}))
        }
        "complete_multipart_upload" => complete(bucket, args).await,
        "abort_multipart_upload" => {
            let upload = upload(bucket, &mut args)?;
            args.end()?;
            done(upload.abort().await)
        }
        "list_parts" => {
            let upload = upload(bucket, &mut args)?;
            args.end()?;
            let parts = upload.list_parts().await?;
            let part = |part: &PartInfo| json!({"part_number": part.part_number, "size": part.size, "etag": part.etag});
            Ok(json!({"truncated": false, "parts": parts.iter().map(part).collect::<Vec<_>>()}))
        }
        "list_multipart_uploads" => {
            let prefix: String = args.option("prefix")?.unwrap_or_default();
            args.end()?;
            let uploads = bucket.list_multiparts(&prefix).await?;
            let uploads = uploads
                .iter()
                .map(|it| json!({"key": it.key, "upload_id": it.upload_id}));
            Ok(json!({"truncated": false, "uploads": uploads.collect::<Vec<_>>()}))
        }
        _ => Err(unsupported(op)),
    }
}

fn upload(bucket: &Bucket, args: &mut Args) -> Result<Upload> {
    Ok(bucket.multipart(&args.text("key")?, args.text("upload_id")?))
}

async fn complete(bucket: &Bucket, mut args: Args) -> Result<Value> {
    let upload = upload(bucket, &mut args)?;
    let parts: Vec<Map<String, Value>> = args.required("parts")?;
    args.end()?;
    let mut named = Vec::new();
    for part in parts {
        let mut part = Args(part);
        named.push(PartInfo::named(
            part.required("part_number")?,
            part.text("etag")?,
        ));
        part.end()?;
    }
    let object = upload.complete(&named).await?;
    Ok(json!({"etag": object.etag, "checksums": checksums(object.checksum.as_ref())}))
}

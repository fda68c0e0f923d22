//! PutObject, GetObject, HeadObject and DeleteObject.

use std::collections::BTreeMap;

use jay_engine::{
    BucketName, ContentHeaders, ErrorKind, ObjectKey, ObjectReader, PutOptions, Select,
};
use jay_wire::{Empty, object::*};

use super::{
    Call,
    body::{Body, Broken},
    error::{Error, Result},
    hex, time,
};

/// The type of an object that was stored without one.
const CONTENT_TYPE_DEFAULT: &str = "application/octet-stream";
/// What S3 puts before the names of user metadata, and the first clients took for a part of them.
const METADATA_PREFIX: &str = "x-amz-meta-";

pub(super) async fn put_object(
    call: &Call<'_>,
    asked: PutObject,
    body: &mut Body<'_>,
) -> Result<Stored, Broken> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    let options = PutOptions {
        size: Some(body.left()),
        headers: content_headers(asked.content_type),
        metadata: metadata(asked.metadata)?,
        ..PutOptions::default()
    };
    let mut writer = call
        .engine
        .put_object(call.caller, &bucket, &key, options)
        .await?;
    while let Some(bytes) = body.next().await? {
        writer.write(bytes).await?;
    }
    let info = writer.finish(None).await?;
    Ok(Stored {
        etag: info.etag.as_str().to_owned(),
        checksum: hex(&info.sha256),
    })
}

/// What an object is, with a reader of its body. Its first bytes are known to be right by then.
pub(super) async fn get_object(
    call: &Call<'_>,
    asked: GetObject,
) -> Result<(ObjectInfo, ObjectReader)> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    let mut reader = call
        .engine
        .get_object(call.caller, &bucket, &key, Select::Whole)
        .await?;
    reader.prepare().await?;
    Ok((info(reader.info()), reader))
}

pub(super) async fn head_object(call: &Call<'_>, asked: HeadObject) -> Result<ObjectInfo> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    let found = call.engine.head_object(call.caller, &bucket, &key).await?;
    Ok(info(&found))
}

pub(super) async fn delete_object(call: &Call<'_>, asked: DeleteObject) -> Result<Empty> {
    let (bucket, key) = names(&asked.bucket, &asked.key)?;
    call.engine
        .delete_object(call.caller, &bucket, &key)
        .await?;
    Ok(Empty)
}

/// The bucket and key of a request.
pub(super) fn names(bucket: &str, key: &str) -> Result<(BucketName, ObjectKey)> {
    Ok((BucketName::parse(bucket)?, ObjectKey::parse(key)?))
}

/// The headers of an object of this type.
pub(super) fn content_headers(content_type: String) -> ContentHeaders {
    ContentHeaders {
        content_type: Some(content_type).filter(|text| !text.is_empty()),
        ..ContentHeaders::default()
    }
}

/// The type that is told of an object.
pub(super) fn content_type(info: &jay_engine::ObjectInfo) -> String {
    let stored = info.headers.content_type.as_deref();
    stored.unwrap_or(CONTENT_TYPE_DEFAULT).to_owned()
}

/// SHA-256 of the body, or of the SHA-256s of its parts and then their number.
pub(super) fn checksum(info: &jay_engine::ObjectInfo) -> String {
    let sha256 = hex(&info.sha256);
    match info.parts_count {
        None => sha256,
        Some(parts) => format!("{sha256}-{parts}"),
    }
}

/// User metadata under the names that all fronts know: bare, in lower case. What of a name or value fits into no header
/// of S3 is kept all the same; S3 tells how many there are.
fn metadata(given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        let bare = lower.strip_prefix(METADATA_PREFIX).unwrap_or(&lower);
        if bare.is_empty() {
            return Err(unfit("a name is empty"));
        }
        if bare.chars().chain(value.chars()).any(char::is_control) {
            return Err(unfit("there are no control characters in names and values"));
        }
        if metadata.insert(bare.to_owned(), value).is_some() {
            return Err(unfit("names that differ in case alone are one name"));
        }
    }
    Ok(metadata)
}

fn unfit(rule: &str) -> Error {
    let why = format!("The user metadata cannot be kept: {rule}.");
    Error::new(ErrorKind::InvalidArgument, &why)
}

fn info(info: &jay_engine::ObjectInfo) -> ObjectInfo {
    ObjectInfo {
        content_type: content_type(info),
        size: info.size,
        etag: info.etag.as_str().to_owned(),
        checksum: checksum(info),
        last_modified: time(info.last_modified),
        metadata: info.metadata.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(given: &[(&str, &str)]) -> Result<Vec<(String, String)>> {
        let given = given.iter().map(|(n, v)| (n.to_string(), v.to_string()));
        Ok(metadata(given.collect())?.into_iter().collect())
    }

    #[test]
    fn metadata_have_one_form_on_all_fronts() {
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(kept(&[("Owner", "Ana")]).unwrap(), pair("owner", "Ana"));
        assert_eq!(
            kept(&[("x-amz-meta-Título", "ü")]).unwrap(),
            pair("título", "ü")
        );
        for unfit in [
            &[("", "v")][..],
            &[("x-amz-meta-", "v")],
            &[("a\0b", "v")],
            &[("n", "a\r\nset-cookie: b")],
            &[("A", "1"), ("a", "2")],
        ] {
            assert!(kept(unfit).is_err(), "{unfit:?}");
        }
    }
}

//! CopyObject, and how a request names the source of a copy.
//!
//! Source: S3 API, CopyObject and UploadPartCopy.

use http::{HeaderMap, Response};
use jay_engine::{BucketName, ByteRange, CopyOptions, CopySource, ErrorKind, ObjectKey};

use super::{
    Call,
    body::Body,
    checksum, conditions,
    error::{Error, Result},
    headers, invalid_argument,
    multipart::composite_of,
    tagging, uri,
    xml::Writer,
    xml_response,
};
use crate::planted::{self, Fault};

const SOURCE: &str = "x-amz-copy-source";
const SOURCE_RANGE: &str = "x-amz-copy-source-range";

/// Makes a second object of the same bytes, or gives an object other metadata.
pub(crate) async fn copy_object(
    call: &Call<'_>,
    bucket: BucketName,
    key: ObjectKey,
) -> Result<Response<Body>> {
    let request_headers = &call.parts.headers;
    let source = source(request_headers)?;
    if request_headers.contains_key(SOURCE_RANGE) {
        let message =
            "x-amz-copy-source-range is for the parts of an upload: an object is copied whole.";
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    headers::must_be_known(request_headers)?;
    let info = call
        .engine
        .copy_object(
            call.caller,
            &source,
            &bucket,
            &key,
            options(request_headers)?,
        )
        .await?;
    let mut document = Writer::document();
    document.open_root("CopyObjectResult");
    document.text("LastModified", &headers::xml_date(info.last_modified));
    document.text("ETag", &headers::quoted(&info));
    if let Some(sum) = info.checksums.first() {
        let value = checksum::text(sum, composite_of(&info));
        document.text(checksum::element_name(sum.algorithm), &value);
        document.text("ChecksumType", info.checksum_type.name());
    }
    document.close("CopyObjectResult");
    Ok(xml_response(document.finish()))
}

fn options(request_headers: &HeaderMap) -> Result<CopyOptions> {
    let replace = match replaces(request_headers, "x-amz-metadata-directive")? {
        false if planted::is(Fault::CopyLosesMetadata) => Some(Default::default()),
        false => None,
        true => Some((
            headers::content_headers(request_headers)?,
            headers::metadata(request_headers)?,
        )),
    };
    let tags = match replaces(request_headers, "x-amz-tagging-directive")? {
        false => None,
        true => Some(tagging::of_header(request_headers)?),
    };
    Ok(CopyOptions {
        once: None,
        replace,
        tags,
        checksum_algorithm: checksum::wanted_algorithm(request_headers)?,
        conditions: conditions::of_write(request_headers)?,
    })
}

/// Whether a directive is REPLACE and not COPY.
fn replaces(request_headers: &HeaderMap, name: &'static str) -> Result<bool> {
    let Some(value) = request_headers.get(name) else {
        return Ok(false);
    };
    match value.to_str().unwrap_or_default() {
        "COPY" => Ok(false),
        "REPLACE" => Ok(true),
        other => Err(invalid_argument(name, other, "it is COPY or REPLACE")),
    }
}

/// Reads `x-amz-copy-source`, percent-encoded once, and the conditions on it.
pub(crate) fn source(request_headers: &HeaderMap) -> Result<CopySource> {
    let value = request_headers.get(SOURCE);
    let text = value.map_or("", |value| value.to_str().unwrap_or_default());
    let why = "it is '<bucket>/<key>', percent-encoded";
    let refuse = || invalid_argument(SOURCE, text, why);
    let (path, version) = match text.split_once("?versionId=") {
        Some((path, version)) => (path, Some(version)),
        None => (text, None),
    };
    if version.is_some_and(|version| version != "null") {
        return Err(Error::not_implemented("A version of the source of a copy"));
    }
    let path = uri::decode_path(path)?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) = path.split_once('/').ok_or_else(refuse)?;
    if key.is_empty() {
        return Err(refuse());
    }
    Ok(CopySource {
        bucket: BucketName::parse(bucket)?,
        key: ObjectKey::parse(key)?,
        conditions: conditions::of_copy_source(request_headers)?,
    })
}

/// Reads `x-amz-copy-source-range`: `bytes=first-last`, both given.
pub(crate) fn source_range(request_headers: &HeaderMap) -> Result<Option<ByteRange>> {
    let Some(value) = request_headers.get(SOURCE_RANGE) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| is_number)
    };
    let range = text.strip_prefix("bytes=").and_then(|range| {
        let (first, last) = range.split_once('-')?;
        Some((number(first)?, number(last)?))
    });
    match range {
        Some((first, mut last)) if first <= last => {
            last += u64::from(planted::is(Fault::LongSourceRange));
            Ok(Some(ByteRange::FromTo { first, last }))
        }
        _ => Err(invalid_argument(
            SOURCE_RANGE,
            text,
            "it is bytes=first-last, both zero-based offsets",
        )),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
        headers
    }

    fn named(value: &str) -> Result<(String, String)> {
        let source = source(&headers(SOURCE, value))?;
        Ok((source.bucket.as_str().into(), source.key.as_str().into()))
    }

    #[test]
    fn sources_are_decoded_once() {
        for (text, key) in [
            ("bkt/a/b.txt", "a/b.txt"),
            ("/bkt/a%20b%2Bc%2520", "a b+c%20"),
            ("bkt%2Fk", "k"),
            ("bkt//k", "/k"),
            ("bkt/a+b?versionId=null", "a+b"),
        ] {
            assert_eq!(named(text).unwrap(), ("bkt".into(), key.into()), "{text}");
        }
        for (bad, kind) in [
            ("", ErrorKind::InvalidArgument),
            ("bkt", ErrorKind::InvalidArgument),
            ("bkt/", ErrorKind::InvalidArgument),
            ("B!/k", ErrorKind::InvalidBucketName),
            ("bkt/%zz", ErrorKind::InvalidURI),
            ("bkt/k?versionId=3", ErrorKind::NotImplemented),
        ] {
            assert_eq!(named(bad).unwrap_err().kind(), kind, "{bad}");
        }
    }

    #[test]
    fn ranges_of_sources_have_both_ends() {
        let range = |text| source_range(&headers(SOURCE_RANGE, text));
        let expected = ByteRange::FromTo { first: 0, last: 9 };
        assert_eq!(range("bytes=0-9").unwrap(), Some(expected));
        for bad in [
            "",
            "0-9",
            "bytes=0-",
            "bytes=-9",
            "bytes=9-0",
            "bytes=0-9,11-12",
            "bytes=+0-9",
        ] {
            assert_eq!(
                range(bad).unwrap_err().kind(),
                ErrorKind::InvalidArgument,
                "{bad}"
            );
        }
    }

    #[test]
    fn directives_are_copy_or_replace() {
        const NAME: &str = "x-amz-metadata-directive";
        assert!(!replaces(&HeaderMap::new(), NAME).unwrap());
        assert!(replaces(&headers(NAME, "REPLACE"), NAME).unwrap());
        let error = replaces(&headers(NAME, "replace"), NAME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    proptest! {
        #[test]
        fn hostile_values_never_panic(text in "[ -~]*") {
            let _ = named(&text);
            let _ = source_range(&headers(SOURCE_RANGE, &text));
        }
    }
}

//! What is stored beside an object's bytes, as HTTP headers: standard ones, user metadata, dates.
//!
//! Inside, user metadata have bare lower-case names; `x-amz-meta-` is added and stripped here.
//!
//! Source: S3 user guide, "Working with object metadata"; S3 API, PutObject and GetObject.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use jay_engine::{ContentHeaders, ErrorKind, METADATA_BYTES_MAX, ObjectInfo, Timestamp};
use jiff::fmt::rfc2822::DateTimePrinter;

use super::{
    error::{Error, Result},
    invalid_argument, tagging,
    uri::Query,
};
use crate::planted::{self, Fault};

/// The type of an object that was stored without one.
const CONTENT_TYPE_DEFAULT: HeaderValue = HeaderValue::from_static("application/octet-stream");
const METADATA_PREFIX: &str = "x-amz-meta-";
/// How many entries of the metadata could not be written as headers.
const MISSING_META: HeaderName = HeaderName::from_static("x-amz-missing-meta");

/// The classes that clients may name; all are kept alike and reported as STANDARD.
const STORAGE_CLASSES: &[&str] = &[
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
    "EXPRESS_ONEZONE",
];

/// The canned access lists of objects; all are accepted, since rights come from tokens and policies.
const OBJECT_ACLS: &[&str] = &[
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

/// Reads the standard headers of a PUT.
pub(crate) fn content_headers(headers: &HeaderMap) -> Result<ContentHeaders> {
    Ok(ContentHeaders {
        content_type: joined(headers, header::CONTENT_TYPE)?
            .filter(|_| !planted::is(Fault::LostContentType)),
        cache_control: joined(headers, header::CACHE_CONTROL)?,
        content_disposition: joined(headers, header::CONTENT_DISPOSITION)?,
        content_encoding: joined(headers, header::CONTENT_ENCODING)?
            .and_then(|encodings| without_aws_chunked(&encodings)),
        content_language: joined(headers, header::CONTENT_LANGUAGE)?,
        expires: joined(headers, header::EXPIRES)?,
    })
}

/// `aws-chunked` is how the body travels, not what it is.
fn without_aws_chunked(encodings: &str) -> Option<String> {
    let kept: Vec<_> = encodings
        .split(',')
        .map(str::trim)
        .filter(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// Reads the user metadata of a PUT.
pub(crate) fn metadata(headers: &HeaderMap) -> Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    for name in headers.keys() {
        if let Some(bare) = name.as_str().strip_prefix(METADATA_PREFIX)
            && let Some(value) = joined(headers, name)?
        {
            metadata.insert(bare.to_owned(), value);
        }
    }
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > METADATA_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::MetadataTooLarge,
            format!(
                "Your metadata headers exceed the maximum allowed metadata size: {bytes} bytes of \
                 at most {METADATA_BYTES_MAX}."
            ),
        ));
    }
    if planted::is(Fault::LostMetadata) {
        metadata.clear();
    }
    Ok(metadata)
}

/// All values of a header, joined with commas; `None` when it is absent.
fn joined(
    headers: &HeaderMap,
    name: impl http::header::AsHeaderName + Clone + std::fmt::Display,
) -> Result<Option<String>> {
    let mut all: Option<String> = None;
    for value in headers.get_all(name.clone()) {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| {
            let lossy = String::from_utf8_lossy(value.as_bytes()).into_owned();
            invalid_argument(&name.to_string(), &lossy, "its value is not UTF-8")
        })?;
        match &mut all {
            None => all = Some(value.to_owned()),
            Some(all) => {
                all.push(',');
                all.push_str(value);
            }
        }
    }
    Ok(all)
}

/// Refuses an access list or storage class that S3 does not know.
pub(crate) fn must_be_known(headers: &HeaderMap) -> Result<()> {
    for (name, known, kind) in [
        ("x-amz-acl", OBJECT_ACLS, ErrorKind::InvalidArgument),
        (
            "x-amz-storage-class",
            STORAGE_CLASSES,
            ErrorKind::InvalidStorageClass,
        ),
    ] {
        let Some(value) = headers.get(name) else {
            continue;
        };
        let value = value.to_str().unwrap_or_default();
        if !known.contains(&value) {
            let message = format!("Invalid {name}: it is one of {}.", known.join(", "));
            return Err(Error::new(kind, message)
                .with_detail("ArgumentName", name)
                .with_detail("ArgumentValue", value));
        }
    }
    Ok(())
}

/// The headers of a GET or HEAD that come from the object, without its length.
pub(crate) fn of_object(info: &ObjectInfo) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, etag(info));
    headers.insert(header::LAST_MODIFIED, http_date(info.last_modified));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE_DEFAULT);
    let stored = &info.headers;
    for (name, value) in [
        (header::CONTENT_TYPE, &stored.content_type),
        (header::CACHE_CONTROL, &stored.cache_control),
        (header::CONTENT_DISPOSITION, &stored.content_disposition),
        (header::CONTENT_ENCODING, &stored.content_encoding),
        (header::CONTENT_LANGUAGE, &stored.content_language),
        (header::EXPIRES, &stored.expires),
    ] {
        let value = value.as_ref().filter(|value| !value.is_empty());
        if let Some(value) = value.and_then(|value| HeaderValue::from_str_utf8(value)) {
            headers.insert(name, value);
        }
    }
    if info.tag_count > 0 {
        headers.insert(tagging::COUNT, info.tag_count.into());
    }
    let mut missing: usize = 0;
    for (name, value) in &info.metadata {
        let name = HeaderName::try_from(format!("{METADATA_PREFIX}{name}"));
        match (name, HeaderValue::from_str_utf8(value)) {
            (Ok(name), Some(value)) => drop(headers.insert(name, value)),
            _ => missing += 1,
        }
    }
    if missing > 0 {
        headers.insert(MISSING_META, missing.into());
    }
    headers
}

/// Puts the headers that the query asks for in place of the stored ones.
///
/// Source: S3 API, GetObject, "Overriding response header values through the request".
pub(crate) fn override_by(query: &Query, headers: &mut HeaderMap) -> Result<()> {
    for (parameter, name) in [
        ("response-content-type", header::CONTENT_TYPE),
        ("response-cache-control", header::CACHE_CONTROL),
        ("response-content-disposition", header::CONTENT_DISPOSITION),
        ("response-content-encoding", header::CONTENT_ENCODING),
        ("response-content-language", header::CONTENT_LANGUAGE),
        ("response-expires", header::EXPIRES),
    ] {
        let value = query.get(parameter);
        let Some(value) = value.filter(|_| !planted::is(Fault::IgnoredOverride)) else {
            continue;
        };
        let value = HeaderValue::from_str_utf8(value)
            .ok_or_else(|| invalid_argument(parameter, value, "it cannot be a header"))?;
        headers.insert(name, value);
    }
    Ok(())
}

/// The ETag in its quotes.
pub(crate) fn etag(info: &ObjectInfo) -> HeaderValue {
    HeaderValue::from_str_utf8(&quoted(info)).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The ETag in its quotes, as text.
pub(crate) fn quoted(info: &ObjectInfo) -> String {
    if planted::is(Fault::WrongETag) {
        return format!("\"{:032x}\"", info.size);
    }
    format!("\"{}\"", info.etag.as_str())
}

/// A date as HTTP writes it (RFC 9110, section 5.6.7).
pub(crate) fn http_date(time: Timestamp) -> HeaderValue {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&instant(time));
    let text = text.unwrap_or_else(|_| "Thu, 01 Jan 1970 00:00:00 GMT".to_owned());
    HeaderValue::try_from(text).expect("a date is a header value")
}

/// A date as S3 writes it in XML, with milliseconds.
pub(crate) fn xml_date(time: Timestamp) -> String {
    instant(time).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

fn instant(time: Timestamp) -> jiff::Timestamp {
    let milliseconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::MAX)
}

/// Header values out of UTF-8, which S3 sends as it is.
trait FromUtf8: Sized {
    /// The value, unless it holds characters that no header can.
    fn from_str_utf8(text: &str) -> Option<Self>;
}

impl FromUtf8 for HeaderValue {
    fn from_str_utf8(text: &str) -> Option<Self> {
        Self::from_bytes(text.as_bytes()).ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use jay_engine::{Checksum, ChecksumAlgorithm, ETag, ObjectKey};

    use super::*;

    /// An object of eleven bytes, modified one second into AWS's example day.
    pub(crate) fn info() -> ObjectInfo {
        ObjectInfo {
            key: ObjectKey::parse("k").unwrap(),
            size: 11,
            etag: ETag::new("e"),
            last_modified: Timestamp(1_369_353_601_234),
            version: 1,
            headers: ContentHeaders::default(),
            metadata: BTreeMap::new(),
            checksums: vec![Checksum {
                algorithm: ChecksumAlgorithm::Crc32,
                value: vec![0xcb, 0xf4, 0x39, 0x26],
            }],
            checksum_type: Default::default(),
            sha256: Some([0; 32]),
            parts_count: None,
            tag_count: 0,
        }
    }

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn stored_headers_come_back() {
        let sent = headers(&[
            ("content-type", b"text/plain"),
            ("cache-control", b"no-cache"),
            ("cache-control", b"private"),
            ("content-disposition", b"inline"),
            ("content-encoding", b"gzip, aws-chunked"),
            ("content-language", b"de"),
            ("expires", b"0"),
            ("x-amz-meta-color", b"red"),
            ("x-amz-meta-color", b"blue"),
            ("x-amz-meta-name", "Jürgen".as_bytes()),
        ]);
        let mut info = info();
        info.headers = content_headers(&sent).unwrap();
        info.metadata = metadata(&sent).unwrap();
        assert_eq!(info.metadata["color"], "red,blue");
        let answered = of_object(&info);
        for (name, value) in [
            ("content-type", "text/plain"),
            ("cache-control", "no-cache,private"),
            ("content-disposition", "inline"),
            ("content-encoding", "gzip"),
            ("content-language", "de"),
            ("expires", "0"),
            ("x-amz-meta-color", "red,blue"),
            ("x-amz-meta-name", "Jürgen"),
            ("etag", "\"e\""),
            ("accept-ranges", "bytes"),
            ("last-modified", "Fri, 24 May 2013 00:00:01 GMT"),
        ] {
            assert_eq!(answered[name].as_bytes(), value.as_bytes(), "{name}");
        }
    }

    #[test]
    fn only_aws_chunked_leaves_no_encoding() {
        let sent = headers(&[("content-encoding", b"aws-chunked")]);
        assert_eq!(content_headers(&sent).unwrap().content_encoding, None);
        assert_eq!(
            of_object(&info())["content-type"],
            "application/octet-stream"
        );
    }

    #[test]
    fn metadata_are_bounded_and_utf8() {
        let fits = vec![b'v'; METADATA_BYTES_MAX - 1];
        assert!(metadata(&headers(&[("x-amz-meta-n", &fits)])).is_ok());
        let error = metadata(&headers(&[("x-amz-meta-nn", &fits)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MetadataTooLarge);
        let error = metadata(&headers(&[("x-amz-meta-n", b"\xff")])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn metadata_that_no_header_can_hold_are_counted() {
        let mut info = info();
        info.metadata.insert("a b".to_owned(), "v".to_owned());
        info.metadata
            .insert("n".to_owned(), "v\r\nSet-Cookie: x".to_owned());
        let answered = of_object(&info);
        assert_eq!(answered["x-amz-missing-meta"], "2");
        assert!(!answered.contains_key("set-cookie"));
    }

    #[test]
    fn queries_override_headers() {
        let query = "response-content-type=text/css&response-expires=now";
        let mut answered = of_object(&info());
        override_by(&Query::parse(Some(query)).unwrap(), &mut answered).unwrap();
        assert_eq!(answered["content-type"], "text/css");
        assert_eq!(answered["expires"], "now");
        let query = Query::parse(Some("response-expires=a%0d%0aSet-Cookie:x")).unwrap();
        let error = override_by(&query, &mut answered).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn access_lists_and_storage_classes_must_be_known() {
        let acl = headers(&[
            ("x-amz-acl", b"public-read"),
            ("x-amz-storage-class", b"STANDARD"),
        ]);
        assert!(must_be_known(&acl).is_ok());
        assert!(must_be_known(&headers(&[("x-amz-acl", b"everyone")])).is_err());
        assert!(must_be_known(&headers(&[("x-amz-storage-class", b"SLOW")])).is_err());
    }

    #[test]
    fn dates_are_written_both_ways() {
        assert_eq!(
            xml_date(Timestamp(1_369_353_601_234)),
            "2013-05-24T00:00:01.234Z"
        );
        assert_eq!(http_date(Timestamp(0)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert!(!xml_date(Timestamp(u64::MAX)).is_empty());
    }
}

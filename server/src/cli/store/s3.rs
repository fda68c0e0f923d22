//! The operations of a store over S3.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use ::http::{HeaderMap, Method, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use jay_client::{ContentHeaders, ErrorKind};
use md5::Md5;
use percent_encoding::percent_decode_str;
use sha2::Digest as _;

use super::{
    Body, Bucket, Description, Download, Error, Listing, Object, Page, Part, Range, Result, Upload,
    http::{self, Answer, Ask, Http},
    xml::escaped,
};
use crate::cli::sign::{encode, encode_path};

/// Largest object that CopyObject takes.
pub const COPY_BYTES_MAX: u64 = 5 << 30;
/// How often a body that broke off is taken up again.
const RESUMED_MAX: u32 = 5;
const USER_METADATA: &str = "x-amz-meta-";
const CRC64: &str = "x-amz-checksum-crc64nvme";

/// See the module.
pub struct S3(Arc<Http>);

impl S3 {
    /// A store that is asked by this client.
    pub fn new(http: Http) -> Self {
        Self(Arc::new(http))
    }

    pub(super) async fn list_buckets(&self) -> Result<Vec<Bucket>> {
        let ask = Ask::new("ListBuckets", Method::GET, "", "");
        let document = self.0.document(&ask).await?;
        let buckets = document.child("Buckets").into_iter();
        let mut found = buckets
            .flat_map(|buckets| buckets.children("Bucket"))
            .map(|bucket| {
                Ok(Bucket {
                    name: bucket.text("Name").to_owned(),
                    created: time(bucket.text("CreationDate"))?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    pub(super) async fn create_bucket(&self, bucket: &str) -> Result<()> {
        let configuration = match self.0.region().as_str() {
            "us-east-1" => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
                escaped(region)
            ),
        };
        let ask = Ask::new("CreateBucket", Method::PUT, bucket, "").body(configuration);
        self.0.done(&ask).await.map(drop)
    }

    pub(super) async fn delete_bucket(&self, bucket: &str) -> Result<()> {
        let ask = Ask::new("DeleteBucket", Method::DELETE, bucket, "");
        self.0.done(&ask).await.map(drop)
    }

    pub(super) async fn list(&self, listing: &Listing, next: Option<&str>) -> Result<Page> {
        let mut ask = Ask::new("ListObjectsV2", Method::GET, &listing.bucket, "")
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("prefix", &listing.prefix);
        if listing.is_flat {
            ask = ask.query("delimiter", "/");
        }
        if let Some(token) = next {
            ask = ask.query("continuation-token", token);
        }
        let document = self.0.document(&ask).await?;
        let is_encoded = document.text("EncodingType") == "url";
        let decoded = |text: &str| match is_encoded {
            true => decoded(text),
            false => Ok(text.to_owned()),
        };
        let objects = document.children("Contents").map(|entry| {
            Ok(Object {
                key: decoded(entry.text("Key"))?,
                size: number(entry.text("Size"))?,
                etag: unquoted(entry.text("ETag")),
                modified: time(entry.text("LastModified"))?,
                description: None,
                crc64: None,
            })
        });
        let prefixes = document.children("CommonPrefixes");
        let next = match document.text("IsTruncated") {
            "true" => Some(document.text("NextContinuationToken").to_owned()),
            _ => None,
        };
        if next.as_deref() == Some("") {
            return Err(unexpected("a listing goes on without a token"));
        }
        Ok(Page {
            objects: objects.collect::<Result<_>>()?,
            prefixes: prefixes
                .map(|prefix| decoded(prefix.text("Prefix")))
                .collect::<Result<_>>()?,
            next,
        })
    }

    pub(super) async fn head(&self, bucket: &str, key: &str) -> Result<Object> {
        let ask = Ask::new("HeadObject", Method::HEAD, bucket, key)
            .header("x-amz-checksum-mode", "ENABLED");
        let headers = self.0.done(&ask).await?;
        let size = number(text(&headers, header::CONTENT_LENGTH.as_str()))?;
        object(key, size, &headers)
    }

    pub(super) async fn get(
        &self,
        bucket: &str,
        key: &str,
        range: Option<Range>,
        etag: Option<&str>,
    ) -> Result<Download> {
        let mut ask = Ask::new("GetObject", Method::GET, bucket, key)
            .header("x-amz-checksum-mode", "ENABLED");
        if let Some(range) = range {
            ask = ask.header("range", range_header(range));
        }
        if let Some(etag) = etag {
            ask = ask.header("if-match", quoted(etag));
        }
        let answer = self.0.send(&ask).await?;
        let length = number(text(&answer.headers, header::CONTENT_LENGTH.as_str()))?;
        let (start, size) = match text(&answer.headers, header::CONTENT_RANGE.as_str()) {
            "" => (0, length),
            range => content_range(range)?,
        };
        let object = object(key, size, &answer.headers)?;
        let reading = Reading {
            http: self.0.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            etag: object.etag.clone(),
            at: start,
            end: start + length,
            sum: Digest::new(CrcAlgorithm::Crc64Nvme),
            // Of some of an object nothing is known.
            expected: object.crc64.filter(|_| length == size),
            answer: Some(answer),
            resumed: 0,
        };
        Ok(Download {
            object,
            body: Body::S3(Box::new(reading)),
        })
    }

    pub(super) async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Bytes,
        description: &Description,
    ) -> Result<()> {
        let ask = Ask::new("PutObject", Method::PUT, bucket, key).body(body);
        self.0.done(&described(ask, description)).await.map(drop)
    }

    pub(super) async fn copy(
        &self,
        (from_bucket, from_key, etag): (&str, &str, &str),
        (bucket, key): (&str, &str),
        description: Option<&Description>,
    ) -> Result<()> {
        let source = format!("/{}/{}", encode(from_bucket), encode_path(from_key));
        let mut ask = Ask::new("CopyObject", Method::PUT, bucket, key)
            .header("x-amz-copy-source", source)
            .header("x-amz-copy-source-if-match", quoted(etag));
        if let Some(description) = description {
            ask = described(ask, description).header("x-amz-metadata-directive", "REPLACE");
        }
        self.0.document(&ask).await.map(drop)
    }

    pub(super) async fn delete(&self, bucket: &str, key: &str, etag: Option<&str>) -> Result<()> {
        let mut ask = Ask::new("DeleteObject", Method::DELETE, bucket, key);
        if let Some(etag) = etag {
            ask = ask.header("if-match", quoted(etag));
        }
        self.0.done(&ask).await.map(drop)
    }

    pub(super) async fn delete_many(
        &self,
        bucket: &str,
        keys: &[String],
    ) -> Result<Vec<Result<()>>> {
        let objects = keys
            .iter()
            .map(|key| format!("<Object><Key>{}</Key></Object>", escaped(key)));
        let body = format!(
            "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>{}</Delete>",
            objects.collect::<String>()
        );
        let md5 = BASE64_STANDARD.encode(Md5::digest(&body));
        let ask = Ask::new("DeleteObjects", Method::POST, bucket, "")
            .query("delete", "")
            .header("content-md5", md5)
            .body(body);
        let document = self.0.document(&ask).await?;
        let mut failed: BTreeMap<&str, Error> = document
            .children("Error")
            .map(|entry| (entry.text("Key"), http::refused(entry)))
            .collect();
        let results = keys.iter().map(|key| match failed.remove(key.as_str()) {
            Some(error) => Err(error),
            None => Ok(()),
        });
        Ok(results.collect())
    }

    /// S3 has no operation for it.
    pub(super) async fn delete_prefix(&self, bucket: &str, prefix: &str) -> Result<u64> {
        let listing = Listing {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            ..Listing::default()
        };
        let mut deleted = 0;
        let mut next = None;
        loop {
            let page = self.list(&listing, next.as_deref()).await?;
            let keys: Vec<_> = page.objects.into_iter().map(|object| object.key).collect();
            if !keys.is_empty() {
                let results = self.delete_many(bucket, &keys).await?;
                deleted += results.len() as u64;
                results.into_iter().collect::<Result<Vec<()>>>()?;
            }
            next = page.next;
            if next.is_none() {
                return Ok(deleted);
            }
        }
    }

    pub(super) async fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        description: &Description,
    ) -> Result<Upload> {
        let ask = Ask::new("CreateMultipartUpload", Method::POST, bucket, key).query("uploads", "");
        let document = self.0.document(&described(ask, description)).await?;
        Ok(Upload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            id: document.text("UploadId").to_owned(),
            began: SystemTime::now(),
        })
    }

    pub(super) async fn list_uploads(&self, bucket: &str, key: &str) -> Result<Vec<Upload>> {
        let mut found = Vec::new();
        let mut markers = (String::new(), String::new());
        loop {
            let mut ask = Ask::new("ListMultipartUploads", Method::GET, bucket, "")
                .query("uploads", "")
                .query("encoding-type", "url")
                .query("prefix", key);
            if !markers.0.is_empty() {
                ask = ask
                    .query("key-marker", &markers.0)
                    .query("upload-id-marker", &markers.1);
            }
            let document = self.0.document(&ask).await?;
            for entry in document.children("Upload") {
                found.push(Upload {
                    bucket: bucket.to_owned(),
                    key: decoded(entry.text("Key"))?,
                    id: entry.text("UploadId").to_owned(),
                    began: time(entry.text("Initiated"))?,
                });
            }
            // Behind the key itself come only others that begin with it.
            if document.text("IsTruncated") != "true" || found.iter().any(|other| other.key != key)
            {
                return Ok(found);
            }
            markers = (
                decoded(document.text("NextKeyMarker"))?,
                document.text("NextUploadIdMarker").to_owned(),
            );
        }
    }

    pub(super) async fn upload_part(
        &self,
        upload: &Upload,
        number: u32,
        body: Bytes,
    ) -> Result<Part> {
        let size = body.len() as u64;
        let ask = Ask::new("UploadPart", Method::PUT, &upload.bucket, &upload.key)
            .query("partNumber", number.to_string())
            .query("uploadId", &upload.id)
            .body(body);
        let headers = self.0.done(&ask).await?;
        Ok(Part {
            number,
            size,
            etag: unquoted(text(&headers, "etag")),
        })
    }

    pub(super) async fn list_parts(&self, upload: &Upload) -> Result<Vec<Part>> {
        let mut found: Vec<Part> = Vec::new();
        loop {
            let mut ask = Ask::new("ListParts", Method::GET, &upload.bucket, &upload.key)
                .query("uploadId", &upload.id);
            if let Some(last) = found.last() {
                ask = ask.query("part-number-marker", last.number.to_string());
            }
            let document = self.0.document(&ask).await?;
            let known = found.len();
            for entry in document.children("Part") {
                found.push(Part {
                    number: u32::try_from(number(entry.text("PartNumber"))?).unwrap_or(u32::MAX),
                    size: number(entry.text("Size"))?,
                    etag: unquoted(entry.text("ETag")),
                });
            }
            if document.text("IsTruncated") != "true" || found.len() == known {
                return Ok(found);
            }
        }
    }

    pub(super) async fn complete(&self, upload: &Upload, parts: &[Part]) -> Result<()> {
        let parts = parts.iter().map(|part| {
            format!(
                "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>",
                part.number,
                escaped(&quoted(&part.etag))
            )
        });
        let body = format!(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{}</CompleteMultipartUpload>",
            parts.collect::<String>()
        );
        let ask = Ask::new(
            "CompleteMultipartUpload",
            Method::POST,
            &upload.bucket,
            &upload.key,
        )
        .query("uploadId", &upload.id)
        .body(body);
        self.0.document(&ask).await.map(drop)
    }

    pub(super) async fn abort(&self, upload: &Upload) -> Result<()> {
        let ask = Ask::new(
            "AbortMultipartUpload",
            Method::DELETE,
            &upload.bucket,
            &upload.key,
        )
        .query("uploadId", &upload.id);
        self.0.done(&ask).await.map(drop)
    }
}

/// A body on its way in. One that breaks off is taken up again where it was, as long as the object is still the same one.
pub struct Reading {
    http: Arc<Http>,
    bucket: String,
    key: String,
    etag: String,
    at: u64,
    end: u64,
    sum: Digest,
    /// What the sum of all of it must be.
    expected: Option<u64>,
    /// `None` when it has to be asked for again.
    answer: Option<Answer>,
    resumed: u32,
}

impl Reading {
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let next = match &mut self.answer {
                Some(answer) => answer.next().await,
                None => {
                    self.resume().await?;
                    continue;
                }
            };
            match next {
                Ok(Some(bytes)) => {
                    self.at += bytes.len() as u64;
                    self.sum.update(&bytes);
                    return Ok(Some(bytes));
                }
                Ok(None) if self.at == self.end => return self.checked().map(|()| None),
                Ok(None) => return Err(unexpected("less has come than was told")),
                Err(_) if self.at < self.end && self.resumed < RESUMED_MAX => {
                    self.resumed += 1;
                    self.answer = None;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn checked(&self) -> Result<()> {
        match self.expected {
            Some(expected) if expected != self.sum.finalize() => Err(Error::new(
                ErrorKind::ChecksumMismatch,
                format!(
                    "{}/{}: what has come is not what was stored",
                    self.bucket, self.key
                ),
            )),
            _ => Ok(()),
        }
    }

    async fn resume(&mut self) -> Result<()> {
        let ask = Ask::new("GetObject", Method::GET, &self.bucket, &self.key)
            .header("range", range_header(Range::Between(self.at, self.end)))
            .header("if-match", quoted(&self.etag));
        self.answer = Some(self.http.send(&ask).await?);
        Ok(())
    }
}

fn described<'a>(mut ask: Ask<'a>, description: &Description) -> Ask<'a> {
    let headers = &description.headers;
    for (name, value) in [
        ("content-type", Some(&description.content_type)),
        ("cache-control", headers.cache_control.as_ref()),
        ("content-disposition", headers.content_disposition.as_ref()),
        ("content-encoding", headers.content_encoding.as_ref()),
        ("content-language", headers.content_language.as_ref()),
        ("expires", headers.expires.as_ref()),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            ask = ask.header(name, value);
        }
    }
    for (name, value) in &description.metadata {
        ask = ask.header(format!("{USER_METADATA}{name}"), value);
    }
    ask
}

/// An object, as the headers of an answer describe it.
fn object(key: &str, size: u64, headers: &HeaderMap) -> Result<Object> {
    let modified = text(headers, header::LAST_MODIFIED.as_str());
    let modified = jiff::fmt::rfc2822::parse(modified)
        .map_err(|_| unexpected("an object has no time of modification"))?;
    let given = |name| Some(text(headers, name).to_owned()).filter(|value| !value.is_empty());
    let metadata = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(USER_METADATA)?;
        Some((
            name.to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        ))
    });
    Ok(Object {
        key: key.to_owned(),
        size,
        etag: unquoted(text(headers, header::ETAG.as_str())),
        modified: modified.timestamp().into(),
        description: Some(Description {
            content_type: given("content-type").unwrap_or_default(),
            headers: ContentHeaders {
                cache_control: given("cache-control"),
                content_disposition: given("content-disposition"),
                content_encoding: given("content-encoding"),
                content_language: given("content-language"),
                expires: given("expires"),
            },
            metadata: metadata.collect(),
        }),
        crc64: crc64(text(headers, CRC64)),
    })
}

/// The sum of a whole body; one of sums of parts says something else.
fn crc64(text: &str) -> Option<u64> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn unexpected(what: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, what)
}

fn number(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| unexpected("a number in the answer is none"))
}

fn time(text: &str) -> Result<SystemTime> {
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| unexpected("a time in the answer is none"))?;
    Ok(time.into())
}

/// What `encoding-type=url` has made: servers write a space in either way.
fn decoded(text: &str) -> Result<String> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| unexpected("a key in the answer is no UTF-8"))
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn unquoted(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

fn range_header(range: Range) -> String {
    match range {
        // The last byte is part of it there.
        Range::Between(start, end) => format!("bytes={start}-{}", end.saturating_sub(1)),
        Range::From(start) => format!("bytes={start}-"),
        Range::Last(count) => format!("bytes=-{count}"),
    }
}

/// The first byte that comes, and the size of the whole.
fn content_range(text: &str) -> Result<(u64, u64)> {
    let parsed = || {
        let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = range.split_once('-')?;
        Some((start.parse().ok()?, size.parse().ok()?))
    };
    parsed().ok_or_else(|| unexpected("a range in the answer is none"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn headers_describe_an_object() {
        let headers = [
            ("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
            ("etag", "\"abc-2\""),
            ("content-type", "text/x"),
            ("x-amz-meta-mtime", "1.5"),
            ("x-amz-checksum-crc64nvme", "AAAAAAAAAAE="),
        ];
        let headers: HeaderMap = headers
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>();
        let object = object("k", 3, &headers).unwrap();
        assert_eq!((object.etag.as_str(), object.crc64), ("abc-2", Some(1)));
        let since = object
            .modified
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(since, Duration::from_secs(1_445_412_480));
        let description = object.description.unwrap();
        assert_eq!(description.content_type, "text/x");
        assert_eq!(
            description.mtime(),
            Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1500))
        );
    }

    #[test]
    fn values_of_answers_are_read() {
        assert_eq!(content_range("bytes 5-9/20").unwrap(), (5, 20));
        assert!(content_range("bytes 5-9/*").is_err() && content_range("5").is_err());
        assert_eq!(range_header(Range::Between(5, 10)), "bytes=5-9");
        assert_eq!(unquoted("W/\"x\""), "x");
        assert_eq!(decoded("a+b%2Bc%20%C3%A4").unwrap(), "a b+c ä");
        assert!(decoded("%FF").is_err());
        assert_eq!(crc64("AAAAAAAAAAE=-2"), None);
        assert!(number("-1").is_err() && time("now").is_err());
    }
}

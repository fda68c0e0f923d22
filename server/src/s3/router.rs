//! Names the operation of a request from its host, path, method, query and headers.
//!
//! A request for a sub-resource that is not served is refused and never runs the plain operation:
//! `PUT key?tagging` must not overwrite the object. The same holds for headers that ask for something that
//! is not served.

use http::{HeaderMap, Method, header, request::Parts};
use jay_engine::ErrorKind;

use super::{
    error::{Error, Result},
    sigv4,
    uri::{self, Query},
};

/// Query parameters that name a sub-resource or a variant of an operation.
///
/// Source: S3 API, "Actions", the request syntax of each.
pub(crate) const SUB_RESOURCES: &[&str] = &[
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "append",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "position",
    "publicAccessBlock",
    "quota",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "select-type",
    "session",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// What stands in the place of a bucket when its usage is asked for; no bucket can be called so.
const STATS: &str = "_stats";
/// The header that makes a PUT a copy; what it begins with asks more of the copy.
const COPY_SOURCE: &str = "x-amz-copy-source";
/// What a DELETE of an object holds against it, beside `If-Match`.
const DELETE_CONDITIONS: [&str; 2] = ["x-amz-if-match-size", "x-amz-if-match-last-modified-time"];
/// Beginnings of header names that ask for something that must not be ignored.
const REFUSED_HEADERS: &[&str] = &[
    "x-amz-bucket-object-lock-enabled",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-expected-bucket-owner",
    "x-amz-grant-",
    "x-amz-if-match-",
    "x-amz-object-lock-",
    "x-amz-rename-source",
    "x-amz-server-side-encryption",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
];

/// The operations that are served, under their S3 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The page for browsers.
    Welcome,
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    /// Jay's own: `GET /_stats/{bucket}`.
    GetBucketStats,
    GetBucketLocation,
    GetBucketVersioning,
    ListObjects,
    ListObjectsV2,
    DeleteObjects,
    PutObject,
    GetObject,
    HeadObject,
    DeleteObject,
    CopyObject,
    GetObjectTagging,
    PutObjectTagging,
    DeleteObjectTagging,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
    GetBucketAcl,
    PutBucketAcl,
    GetObjectAcl,
    PutObjectAcl,
    GetBucketPolicy,
    PutBucketPolicy,
    DeleteBucketPolicy,
    GetBucketPolicyStatus,
}

impl Operation {
    /// The S3 name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Welcome => "Welcome",
            Self::ListBuckets => "ListBuckets",
            Self::CreateBucket => "CreateBucket",
            Self::HeadBucket => "HeadBucket",
            Self::DeleteBucket => "DeleteBucket",
            Self::GetBucketStats => "GetBucketStats",
            Self::GetBucketLocation => "GetBucketLocation",
            Self::GetBucketVersioning => "GetBucketVersioning",
            Self::ListObjects => "ListObjects",
            Self::ListObjectsV2 => "ListObjectsV2",
            Self::DeleteObjects => "DeleteObjects",
            Self::PutObject => "PutObject",
            Self::GetObject => "GetObject",
            Self::HeadObject => "HeadObject",
            Self::DeleteObject => "DeleteObject",
            Self::CopyObject => "CopyObject",
            Self::GetObjectTagging => "GetObjectTagging",
            Self::PutObjectTagging => "PutObjectTagging",
            Self::DeleteObjectTagging => "DeleteObjectTagging",
            Self::CreateMultipartUpload => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::UploadPartCopy => "UploadPartCopy",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::ListParts => "ListParts",
            Self::ListMultipartUploads => "ListMultipartUploads",
            Self::GetBucketAcl => "GetBucketAcl",
            Self::PutBucketAcl => "PutBucketAcl",
            Self::GetObjectAcl => "GetObjectAcl",
            Self::PutObjectAcl => "PutObjectAcl",
            Self::GetBucketPolicy => "GetBucketPolicy",
            Self::PutBucketPolicy => "PutBucketPolicy",
            Self::DeleteBucketPolicy => "DeleteBucketPolicy",
            Self::GetBucketPolicyStatus => "GetBucketPolicyStatus",
        }
    }

    /// Whether it is served without credentials.
    pub(crate) fn is_open(self) -> bool {
        self == Self::Welcome
    }

    /// Whether it is served without credentials in a public bucket.
    pub(crate) fn is_public_read(self) -> bool {
        matches!(self, Self::GetObject | Self::HeadObject)
    }
}

/// The bucket and key that a request is about, not yet held against the rules for names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The bucket; `None` for the service itself.
    pub(crate) bucket: Option<String>,
    /// The key; `None` for the bucket itself.
    pub(crate) key: Option<String>,
}

impl Target {
    /// Reads host and path. The bucket is in the host when that is below one of `domains`, else it is the
    /// first segment of the path; the key is all that follows, decoded once and taken literally.
    ///
    /// Source: S3 user guide, "Virtual hosting of general purpose buckets".
    pub(crate) fn of(parts: &Parts, domains: &[String]) -> Result<Self> {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let path = parts.uri.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        if let Some(bucket) = Self::bucket_in_host(parts, domains) {
            return Ok(Self {
                bucket: Some(bucket),
                key: some(uri::decode_path(path)?),
            });
        }
        if path.is_empty() {
            return Ok(Self::default());
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let (bucket, key) = (uri::decode_path(bucket)?, uri::decode_path(key)?);
        Ok(Self {
            bucket: Some(bucket),
            key: some(key),
        })
    }

    /// The bucket of a request whose host is below one of `domains`.
    pub(crate) fn bucket_in_host(parts: &Parts, domains: &[String]) -> Option<String> {
        sigv4::host(parts).and_then(|host| bucket_of_host(host, domains))
    }
}

fn bucket_of_host(host: &[u8], domains: &[String]) -> Option<String> {
    let host = std::str::from_utf8(host).ok()?.to_ascii_lowercase();
    let host = without_port(&host);
    let below = |domain: &String| {
        let domain = domain.to_ascii_lowercase();
        let bucket = host
            .strip_suffix(without_port(&domain))?
            .strip_suffix('.')?;
        (!bucket.is_empty()).then(|| bucket.to_owned())
    };
    // The longest domain wins, so that one may lie below another.
    domains.iter().filter_map(below).min_by_key(String::len)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Names the operation.
pub(crate) fn route(
    method: &Method,
    target: &Target,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Operation> {
    let operation = match (&target.bucket, &target.key) {
        (None, _) => route_service(method, query, headers)?,
        (Some(_), None) => route_bucket(method, query, headers)?,
        (Some(bucket), Some(_)) if bucket == STATS && method == Method::GET => {
            Operation::GetBucketStats
        }
        (Some(_), Some(_)) => route_object(method, query, headers)?,
    };
    must_serve_parameters(method, operation, query)?;
    must_serve_headers(operation, headers)?;
    Ok(operation)
}

fn route_service(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Operation> {
    if method != Method::GET {
        return Err(not_allowed(method));
    }
    let is_browser = !headers.contains_key(header::AUTHORIZATION)
        && query.iter().next().is_none()
        && headers.get(header::ACCEPT).is_some_and(|accept| {
            accept
                .to_str()
                .is_ok_and(|accept| accept.contains("text/html"))
        });
    Ok(if is_browser {
        Operation::Welcome
    } else {
        Operation::ListBuckets
    })
}

fn route_bucket(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Operation> {
    Ok(match *method {
        Method::GET if query.has("location") => Operation::GetBucketLocation,
        Method::GET if query.has("versioning") => Operation::GetBucketVersioning,
        Method::GET if query.has("acl") => Operation::GetBucketAcl,
        Method::PUT if query.has("acl") => Operation::PutBucketAcl,
        Method::GET if query.has("policy") => Operation::GetBucketPolicy,
        Method::PUT if query.has("policy") => Operation::PutBucketPolicy,
        Method::DELETE if query.has("policy") => Operation::DeleteBucketPolicy,
        Method::GET if query.has("policyStatus") => Operation::GetBucketPolicyStatus,
        Method::GET if query.has("uploads") => Operation::ListMultipartUploads,
        Method::GET => match query.get("list-type") {
            None => Operation::ListObjects,
            Some("2") => Operation::ListObjectsV2,
            Some(_) => {
                let message = "Invalid list-type: it is 2, or left out for version 1.";
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        },
        Method::HEAD => Operation::HeadBucket,
        Method::PUT => Operation::CreateBucket,
        Method::DELETE => Operation::DeleteBucket,
        Method::POST if query.has("delete") => Operation::DeleteObjects,
        Method::POST => {
            must_serve_parameters_of(method, &[], query)?;
            return Err(match has_form(headers) {
                true => Error::not_implemented("Upload by an HTML form")
                    .with_hint("Presign a PUT instead."),
                false => not_allowed(method),
            });
        }
        _ => return Err(not_allowed(method)),
    })
}

/// Whether a request is an upload by an HTML form.
pub(crate) fn is_form(parts: &Parts) -> bool {
    parts.method == Method::POST && has_form(&parts.headers)
}

fn has_form(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        value.starts_with(b"multipart/form-data")
    })
}

fn route_object(method: &Method, query: &Query, headers: &HeaderMap) -> Result<Operation> {
    let is_copy = headers.contains_key(COPY_SOURCE);
    let is_part = query.has("uploadId") || query.has("partNumber");
    Ok(match *method {
        Method::GET if query.has("tagging") => Operation::GetObjectTagging,
        Method::PUT if query.has("tagging") => Operation::PutObjectTagging,
        Method::DELETE if query.has("tagging") => Operation::DeleteObjectTagging,
        Method::POST if query.has("uploads") => Operation::CreateMultipartUpload,
        Method::POST if query.has("uploadId") => Operation::CompleteMultipartUpload,
        Method::DELETE if query.has("uploadId") => Operation::AbortMultipartUpload,
        Method::GET if query.has("uploadId") => Operation::ListParts,
        Method::GET if query.has("acl") => Operation::GetObjectAcl,
        Method::PUT if query.has("acl") => Operation::PutObjectAcl,
        Method::GET => Operation::GetObject,
        Method::HEAD => Operation::HeadObject,
        Method::PUT if is_part && is_copy => Operation::UploadPartCopy,
        Method::PUT if is_part => Operation::UploadPart,
        Method::PUT if is_copy => Operation::CopyObject,
        Method::PUT => Operation::PutObject,
        Method::DELETE => Operation::DeleteObject,
        _ => {
            must_serve_parameters_of(method, &[], query)?;
            return Err(not_allowed(method));
        }
    })
}

fn must_serve_parameters(method: &Method, operation: Operation, query: &Query) -> Result<()> {
    let served: &[&str] = match operation {
        Operation::GetBucketLocation => &["location"],
        Operation::GetBucketVersioning => &["versioning"],
        Operation::DeleteObjects => &["delete"],
        Operation::GetObject | Operation::HeadObject => &["partNumber"],
        Operation::GetObjectTagging
        | Operation::PutObjectTagging
        | Operation::DeleteObjectTagging => &["tagging"],
        Operation::CreateMultipartUpload | Operation::ListMultipartUploads => &["uploads"],
        Operation::UploadPart | Operation::UploadPartCopy => &["uploadId", "partNumber"],
        Operation::CompleteMultipartUpload
        | Operation::AbortMultipartUpload
        | Operation::ListParts => &["uploadId"],
        Operation::GetBucketAcl
        | Operation::PutBucketAcl
        | Operation::GetObjectAcl
        | Operation::PutObjectAcl => &["acl"],
        Operation::GetBucketPolicy | Operation::PutBucketPolicy | Operation::DeleteBucketPolicy => {
            &["policy"]
        }
        Operation::GetBucketPolicyStatus => &["policyStatus"],
        _ => &[],
    };
    must_serve_parameters_of(method, served, query)
}

fn must_serve_parameters_of(method: &Method, served: &[&str], query: &Query) -> Result<()> {
    let refused = query.iter().find(|(name, value)| {
        let is_current_version = *name == "versionId" && *value == "null";
        SUB_RESOURCES.contains(name) && !served.contains(name) && !is_current_version
    });
    match refused {
        None => Ok(()),
        Some((name, _)) => {
            let what = format!("The sub-resource '?{name}', here with {method},");
            Err(Error::not_implemented(&what))
        }
    }
}

fn must_serve_headers(operation: Operation, headers: &HeaderMap) -> Result<()> {
    let is_copy = matches!(operation, Operation::CopyObject | Operation::UploadPartCopy);
    let has_tags = matches!(
        operation,
        Operation::PutObject | Operation::CopyObject | Operation::CreateMultipartUpload
    );
    let refused = headers.iter().find(|(name, value)| {
        let name = name.as_str();
        if name.starts_with(COPY_SOURCE) && !is_copy {
            return true;
        }
        if name == "x-amz-tagging" {
            return !has_tags;
        }
        if DELETE_CONDITIONS.contains(&name) {
            return operation != Operation::DeleteObject;
        }
        let is_off = name == "x-amz-bucket-object-lock-enabled"
            && value.as_bytes().eq_ignore_ascii_case(b"false");
        REFUSED_HEADERS.iter().any(|start| name.starts_with(start)) && !is_off
    });
    match refused {
        None => Ok(()),
        Some((name, _)) => Err(Error::not_implemented(&format!("The header '{name}'"))),
    }
}

fn not_allowed(method: &Method) -> Error {
    Error::new(
        ErrorKind::MethodNotAllowed,
        format!("The specified method {method} is not allowed against this resource."),
    )
}

#[cfg(test)]
mod tests;

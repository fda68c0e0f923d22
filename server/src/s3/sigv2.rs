//! URLs presigned by signature version 2: `AWSAccessKeyId`, `Expires` and `Signature` in the query. What
//! `aws s3 presign` and boto3 make as long as nothing is configured.
//!
//! Here the string to sign is put together; the engine, which alone has the secret, checks it. Version 2 signs
//! neither host nor region, and of the query only [`SUB_RESOURCES`] and what boto3 moved there out of the headers:
//! the parameters of a listing may be changed by whoever has its URL. Deliberately absent: version 2 in the
//! `Authorization` header.
//!
//! Source: S3 API, "Signing and authenticating REST requests (AWS signature version 2)", "Query string request
//! authentication alternative".

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, header, request::Parts};
use jay_engine::{Caller, Engine, ErrorKind};
use jiff::Timestamp;

use super::{
    Settings,
    error::{Error, Result},
    payload::ContentHash,
    router::Target,
    sigv4::{SKEW_SECONDS_MAX, presigned},
    uri::Query,
};

const PARAMETERS: [&str; 3] = ["AWSAccessKeyId", "Expires", "Signature"];
/// Longest time that a URL holds, in seconds: 7 days, as by version 4. S3 itself knows no limit here.
const EXPIRES_SECONDS_MAX: i64 = 7 * 24 * 60 * 60;
/// The parameters that are signed, beside `response-*`. Any that the router serves is among them.
const SUB_RESOURCES: [&str; 20] = [
    "acl",
    "cors",
    "delete",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "partNumber",
    "policy",
    "policyStatus",
    "requestPayment",
    "restore",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];
/// By what an SDK would have summed the body up; whoever uploads to a URL does not know.
const SDK_CHECKSUM: &str = "x-amz-sdk-checksum-algorithm";

/// Whether the query says that it is signed by version 2.
pub(crate) fn is_presigned(query: &Query) -> bool {
    query.has("AWSAccessKeyId") && query.has("Signature")
}

/// A request that says who sent it, checked as far as possible without the secret.
pub(crate) struct Claim<'a> {
    access_key_id: &'a str,
    headers: HeaderMap,
    string_to_sign: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Claim<'a> {
    /// Reads the claim of a request to a server of these domains.
    pub(crate) fn of(
        parts: &Parts,
        query: &'a Query,
        vhost_domains: &[String],
        now: Timestamp,
    ) -> Result<Self> {
        let [access_key_id, expires, signature] = parameters(query)?;
        must_hold(expires, now)?;
        let headers = presigned::merge(&parts.headers, query, is_header)?;
        Ok(Self {
            access_key_id,
            string_to_sign: string_to_sign(parts, &headers, expires, vhost_domains)?,
            headers,
            // What is not base64 is nobody's signature.
            signature: BASE64_STANDARD.decode(signature).unwrap_or_default(),
        })
    }

    /// What the signature is over.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn string_to_sign(&self) -> &[u8] {
        &self.string_to_sign
    }
}

/// Who signed the request, and how its body comes.
pub(crate) fn verify(
    engine: &Engine,
    settings: &Settings,
    parts: &Parts,
    query: &Query,
) -> Result<(Caller, ContentHash)> {
    let Claim {
        access_key_id,
        headers,
        string_to_sign,
        signature,
    } = Claim::of(parts, query, &settings.vhost_domains, Timestamp::now())?;
    let caller = engine.verify_v2(access_key_id, &string_to_sign, &signature);
    let caller = caller.map_err(|error| {
        let is_mismatch = error.kind() == ErrorKind::SignatureDoesNotMatch;
        let mut error = Error::from(error);
        if is_mismatch {
            error = error.with_detail("AWSAccessKeyId", access_key_id);
        }
        if is_mismatch && settings.debug_signatures {
            let text = String::from_utf8_lossy(&string_to_sign).into_owned();
            error = error.with_detail("StringToSign", text);
        }
        error
    })?;
    Ok((caller, ContentHash::optional(&headers)?))
}

/// The headers with those that boto3 moved into the query.
pub(crate) fn with_hoisted(headers: &HeaderMap, query: &Query) -> Result<HeaderMap> {
    presigned::merge(headers, query, |name| {
        is_header(name) && name != SDK_CHECKSUM
    })
}

/// Whether a parameter, in lower case, is a header that was moved.
fn is_header(name: &str) -> bool {
    name.starts_with("x-amz-") || matches!(name, "content-md5" | "content-type")
}

/// The value of each of [`PARAMETERS`], which is there once.
fn parameters(query: &Query) -> Result<[&str; 3]> {
    let is_once = |name: &&str| query.has(name) && !query.repeats(name);
    if PARAMETERS.iter().all(is_once) {
        return Ok(PARAMETERS.map(|name| query.get(name).unwrap_or_default()));
    }
    let message = "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters, \
                   each once.";
    Err(Error::new(ErrorKind::AccessDenied, message))
}

/// Whether the URL holds now: through the second `expires`, and not too far ahead. The signer's clock may be
/// fast by as much as version 4 grants.
fn must_hold(expires: &str, now: Timestamp) -> Result<()> {
    let refuse = |message: &str| {
        let error = Error::new(ErrorKind::AccessDenied, message);
        Err(error
            .with_detail("Expires", expires)
            .with_detail("ServerTime", now.to_string()))
    };
    let is_number = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        // It is not repeated: whoever mixes up the parameters has put the signature here.
        let message = "Invalid date: Expires is in seconds since 1970.";
        return Err(Error::new(ErrorKind::AccessDenied, message));
    }
    let expires_at = expires.parse::<i64>().unwrap_or(i64::MAX);
    let ahead = expires_at.saturating_sub(now.as_second());
    if ahead < 0 {
        return refuse("Request has expired");
    }
    if ahead > EXPIRES_SECONDS_MAX + SKEW_SECONDS_MAX {
        return refuse(&format!(
            "Expires is too far ahead: a presigned URL holds for {EXPIRES_SECONDS_MAX} seconds at most."
        ));
    }
    Ok(())
}

/// Method, digest, type, date, `x-amz-*` headers and resource, as S3 puts them together. `headers` are those of
/// the request with those of its query.
fn string_to_sign(
    parts: &Parts,
    headers: &HeaderMap,
    expires: &str,
    vhost_domains: &[String],
) -> Result<Vec<u8>> {
    let value = |name: &str| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    let mut text = Vec::new();
    let method = parts.method.as_str().as_bytes();
    let content_type = value(header::CONTENT_TYPE.as_str());
    for line in [
        method,
        value("content-md5"),
        content_type,
        expires.as_bytes(),
    ] {
        text.extend_from_slice(line.trim_ascii());
        text.push(b'\n');
    }
    push_headers(&mut text, headers);
    push_resource(&mut text, parts, vhost_domains)?;
    Ok(text)
}

/// Appends the `x-amz-*` headers, sorted, those of the same name on one line.
fn push_headers(text: &mut Vec<u8>, headers: &HeaderMap) {
    let names = headers.keys().map(|name| name.as_str());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("x-amz-")).collect();
    names.sort_unstable();
    for name in names {
        let values = headers.get_all(name).iter();
        let values: Vec<_> = values.map(|value| value.as_bytes().trim_ascii()).collect();
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(&values.join(&b','));
        text.push(b'\n');
    }
}

/// Appends bucket and key as they were sent, a bucket alone with a slash, then the signed parameters: sorted,
/// decoded, with `=` only if they came with it.
fn push_resource(text: &mut Vec<u8>, parts: &Parts, vhost_domains: &[String]) -> Result<()> {
    let path = parts.uri.path();
    let resource = match Target::bucket_in_host(parts, vhost_domains) {
        Some(bucket) => format!("/{bucket}{path}"),
        None if path.rfind('/') == Some(0) && path != "/" => format!("{path}/"),
        None => path.to_owned(),
    };
    text.extend_from_slice(resource.as_bytes());
    let mut signed = Vec::new();
    for pair in parts.uri.query().unwrap_or_default().split('&') {
        for (name, value) in Query::parse(Some(pair))?.iter() {
            if SUB_RESOURCES.contains(&name) || name.starts_with("response-") {
                let sign = if pair.contains('=') { "=" } else { "" };
                signed.push((name.to_owned(), format!("{name}{sign}{value}")));
            }
        }
    }
    signed.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (position, (_, pair)) in signed.iter().enumerate() {
        text.push(if position == 0 { b'?' } else { b'&' });
        text.extend_from_slice(pair.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests;

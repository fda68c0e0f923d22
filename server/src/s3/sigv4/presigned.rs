//! Presigned URLs: a signature in the query, which holds for a while and for any operation.
//!
//! SDKs move the `x-amz-*` headers of such a request into its query, where they are signed: [`with_hoisted`]
//! moves them back, so that nothing that a URL asks for is ignored.
//!
//! [`Unsigned`] is what a URL is made of before it is signed.
//!
//! Source: S3 API, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".

use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use jay_engine::ErrorKind;
use jiff::{SignedDuration, Timestamp};

use super::{
    ALGORITHM, Authorization, Claim, Rules, SKEW_SECONDS_MAX, canonical_request, must_sign,
    parse_basic, scope, string_to_sign,
};
use crate::{
    planted::{self, Fault},
    s3::{
        error::{Error, Result},
        invalid_argument,
        payload::ContentHash,
        uri::{self, Query},
    },
};

/// The parameters that make a URL a presigned one, in this spelling and no other.
const PARAMETERS: [&str; 6] = [
    "X-Amz-Algorithm",
    SIGNATURE,
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
];
const SIGNATURE: &str = "X-Amz-Signature";
/// Longest time that a URL holds, in seconds: 7 days.
const EXPIRES_SECONDS_MAX: i64 = 7 * 24 * 60 * 60;
const CONTENT_SHA256: &str = "x-amz-content-sha256";
/// The checksums that a request may ask for by name; all others are values.
const CHECKSUM_WISHES: [&str; 3] = [
    "x-amz-checksum-algorithm",
    "x-amz-checksum-mode",
    "x-amz-checksum-type",
];

/// Whether the query says that it is signed.
pub(crate) fn is_presigned(query: &Query) -> bool {
    PARAMETERS[..3].iter().any(|name| query.has(name))
}

/// Reads the claim of a presigned request, and what it says of its body.
pub(crate) fn claim(
    parts: &Parts,
    query: &Query,
    rules: Rules<'_>,
    now: Timestamp,
) -> Result<(Claim, ContentHash)> {
    let [
        algorithm,
        signature,
        credential,
        date,
        expires,
        signed_headers,
    ] = parameters(query)?;
    if algorithm != ALGORITHM {
        return Err(malformed(&format!("X-Amz-Algorithm is {ALGORITHM}")));
    }
    let authorization = Authorization::new(credential, signed_headers, signature, malformed)?;
    authorization.must_fit_region(rules, malformed)?;
    let sent =
        parse_basic(date).ok_or_else(|| malformed("X-Amz-Date is written yyyymmddThhmmssZ"))?;
    must_hold(sent, seconds(expires)?, expires, now)?;

    let signed = &authorization.signed_headers;
    must_sign(signed, &parts.headers, |name| {
        query.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    })?;
    let (hash, hash_text) = content_hash(&parts.headers, query, signed)?;
    let query = query.without(&[SIGNATURE]);
    let claim = Claim::new(authorization, sent, parts, &query, hash_text, malformed)?;
    Ok((claim, hash))
}

/// The value of each of [`PARAMETERS`], which is there once.
fn parameters(query: &Query) -> Result<[&str; 6]> {
    if PARAMETERS.iter().any(|name| !query.has(name)) {
        return Err(malformed(&format!(
            "it needs the parameters {}",
            PARAMETERS.join(", ")
        )));
    }
    if let Some(name) = PARAMETERS.iter().find(|name| query.repeats(name)) {
        return Err(malformed(&format!("it has {name} twice")));
    }
    Ok(PARAMETERS.map(|name| query.get(name).unwrap_or_default()))
}

fn seconds(expires: &str) -> Result<SignedDuration> {
    let is_number = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = expires.parse().ok().filter(|_| is_number);
    match seconds {
        Some(seconds @ 1..=EXPIRES_SECONDS_MAX) => Ok(SignedDuration::from_secs(seconds)),
        _ => Err(malformed(&format!(
            "X-Amz-Expires is a number of seconds from 1 to {EXPIRES_SECONDS_MAX}"
        ))),
    }
}

/// Whether the URL holds now.
fn must_hold(
    sent: Timestamp,
    lifetime: SignedDuration,
    expires: &str,
    now: Timestamp,
) -> Result<()> {
    if sent.duration_since(now).as_secs() > SKEW_SECONDS_MAX {
        let error = Error::new(
            ErrorKind::AccessDenied,
            "Request is not valid yet: it is signed for later, or a clock is wrong.",
        );
        return Err(error
            .with_detail("RequestTime", sent.to_string())
            .with_detail("ServerTime", now.to_string()));
    }
    if now.duration_since(sent) <= lifetime || planted::is(Fault::EndlessUrl) {
        return Ok(());
    }
    let end = sent.checked_add(lifetime).unwrap_or(Timestamp::MAX);
    Err(Error::new(ErrorKind::AccessDenied, "Request has expired")
        .with_detail("X-Amz-Expires", expires)
        .with_detail("Expires", end.to_string())
        .with_detail("ServerTime", now.to_string()))
}

/// How the body comes, and the text that was signed in place of its hash.
///
/// A header tells how the body comes even when it is not signed: chunks must not be stored as content.
fn content_hash<'a>(
    headers: &'a HeaderMap,
    query: &'a Query,
    signed_headers: &[String],
) -> Result<(ContentHash, &'a str)> {
    let mut parameters = query
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(CONTENT_SHA256));
    let parameter = parameters.next().map(|(_, value)| value);
    if parameters.next().is_some() {
        return Err(malformed("it has X-Amz-Content-Sha256 twice"));
    }
    let header = headers
        .get(CONTENT_SHA256)
        .map(|value| value.to_str().unwrap_or_default());
    if let (Some(parameter), Some(header)) = (parameter, header)
        && parameter != header
    {
        return Err(disagree(CONTENT_SHA256, parameter));
    }
    let hash = ContentHash::parse(header.or(parameter).unwrap_or(ContentHash::UNSIGNED))?;
    let is_signed = signed_headers.iter().any(|name| name == CONTENT_SHA256);
    let signed = parameter.or(header.filter(|_| is_signed));
    Ok((hash, signed.unwrap_or(ContentHash::UNSIGNED)))
}

/// The headers with those that were moved into the query.
///
/// Not the value of a checksum: SDKs put that of an empty body there, whatever body follows.
pub(crate) fn with_hoisted(headers: &HeaderMap, query: &Query) -> Result<HeaderMap> {
    merge(headers, query, is_hoisted)
}

/// The headers with the parameters that are headers, said of a name in lower case. Both may say the same, but
/// not something else.
pub(crate) fn merge(
    headers: &HeaderMap,
    query: &Query,
    is_hoisted: impl Fn(&str) -> bool,
) -> Result<HeaderMap> {
    let mut merged = headers.clone();
    for (parameter, value) in query.iter() {
        let name = parameter.to_ascii_lowercase();
        if !is_hoisted(&name) {
            continue;
        }
        let unusable = |_| invalid_argument(parameter, value, "it cannot be a header");
        let header = HeaderName::try_from(name).map_err(|_| unusable(()))?;
        let sent = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes());
        let sent = sent.map_err(|_| unusable(()))?;
        let mut known = merged.get_all(&header).iter();
        match (known.next(), known.next()) {
            (None, _) => drop(merged.insert(header, sent)),
            (Some(known), None) if *known == sent => {}
            _ => return Err(disagree(parameter, value)),
        }
    }
    Ok(merged)
}

/// Whether a parameter, in lower case, is a header that was moved.
fn is_hoisted(name: &str) -> bool {
    let is_signing = PARAMETERS
        .iter()
        .chain(&[CONTENT_SHA256, "x-amz-security-token"])
        .any(|parameter| parameter.eq_ignore_ascii_case(name));
    let is_checksum = name == "x-amz-sdk-checksum-algorithm"
        || name.starts_with("x-amz-checksum-") && !CHECKSUM_WISHES.contains(&name);
    name.starts_with("x-amz-") && !is_signing && !is_checksum
}

/// A URL to be presigned, with all its parameters but the signature.
pub(crate) struct Unsigned {
    path_and_query: String,
    date: String,
    string_to_sign: String,
}

impl Unsigned {
    /// Of a request with a `Host` header and no query, by this access key, holding for this many seconds from `now`.
    ///
    /// # Errors
    /// When the path of the request cannot be decoded.
    pub(crate) fn new(
        parts: &Parts,
        access_key_id: &str,
        region: &str,
        seconds: u64,
        now: Timestamp,
    ) -> Result<Self> {
        let timestamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = timestamp[..8].to_owned();
        let scope = scope(&date, region);
        let (credential, seconds) = (format!("{access_key_id}/{scope}"), seconds.to_string());
        let query = Query::of(&[
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &timestamp),
            ("X-Amz-Expires", &seconds),
            ("X-Amz-SignedHeaders", "host"),
        ]);
        let signed_headers = ["host".to_owned()];
        let request = canonical_request(parts, &query, &signed_headers, ContentHash::UNSIGNED)?;
        Ok(Self {
            path_and_query: format!("{}?{}", parts.uri.path(), query.canonical()),
            date,
            string_to_sign: string_to_sign(&timestamp, &scope, &request),
        })
    }

    /// The day of the scope, `yyyymmdd`.
    pub(crate) fn date(&self) -> &str {
        &self.date
    }

    /// What the signature is over.
    pub(crate) fn string_to_sign(&self) -> &str {
        &self.string_to_sign
    }

    /// Path and query with the signature.
    pub(crate) fn signed(&self, signature: &[u8; 32]) -> String {
        let signature = uri::encode_hex(signature);
        format!("{}&{SIGNATURE}={signature}", self.path_and_query)
    }
}

fn disagree(name: &str, value: &str) -> Error {
    let why = "the query string and the headers say it twice and differently";
    invalid_argument(name, value, why)
}

fn malformed(why: &str) -> Error {
    Error::new(
        ErrorKind::AuthorizationQueryParametersError,
        format!("The signature in the query string is malformed; {why}."),
    )
}

#[cfg(test)]
mod tests;

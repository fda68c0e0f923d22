//! Verification of AWS Signature Version 4: here in the `Authorization` header, in [`presigned`] in the query.
//!
//! A request makes a [`Claim`]; the caller looks up the signing key of the claimed access key; the
//! claim is then verified against that key. Nothing here knows the engine, so the published
//! examples can be run through it. The signatures of chunks, which continue from the one verified
//! here, are in [`super::chunked`].
//!
//! Source: S3 API, "Signature Calculations for the Authorization Header" and "Authenticating
//! Requests: Using the Authorization Header (AWS Signature Version 4)".

mod hint;
pub(crate) mod presigned;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, header, request::Parts};
use jay_engine::ErrorKind;
use jiff::{Timestamp, civil, fmt::rfc2822, tz::TimeZone};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    error::{Error, Result},
    uri::{self, Query},
};
use crate::planted::{self, Fault};

/// The name of the algorithm, which opens the header and the string to sign.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Largest difference between the client's clock and ours.
pub(crate) const SKEW_SECONDS_MAX: i64 = 15 * 60;
/// Most names in `SignedHeaders`.
const SIGNED_HEADERS_MAX: usize = 256;

/// What the signature check needs to know of the server.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// The region that a scope must name; `None` accepts any.
    pub(crate) region: Option<&'a str>,
    /// Whether a refusal shows what was expected to be signed.
    pub(crate) debug_signatures: bool,
}

/// Makes the refusal of a signature out of what is wrong with it.
type Malformed = fn(&str) -> Error;

/// A parsed signature: the `Authorization` header, or the parameters of a presigned URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authorization {
    access_key_id: String,
    date: String,
    region: String,
    signed_headers: Vec<String>,
    signature: [u8; 32],
}

impl Authorization {
    /// Reads the header of a request.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self> {
        let value = headers.get(header::AUTHORIZATION).ok_or_else(anonymous)?;
        Self::parse(value.to_str().map_err(|_| malformed("it is not ASCII"))?)
    }

    /// Parses `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
    fn parse(value: &str) -> Result<Self> {
        let (algorithm, fields) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if algorithm == "AWS" || algorithm.starts_with("AWS4-ECDSA") {
            return Err(only_v4());
        }
        if algorithm != ALGORITHM {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("Unsupported Authorization Type: sign with {ALGORITHM}."),
            ));
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field
                .trim()
                .split_once('=')
                .ok_or_else(|| malformed("each of its fields is name=value"))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed("it has a field of an unknown name")),
            };
            if slot.replace(value).is_some() {
                return Err(malformed("it has a field twice"));
            }
        }
        let credential = credential.ok_or_else(|| malformed("it has no Credential"))?;
        let signed_headers = signed_headers.ok_or_else(|| malformed("it has no SignedHeaders"))?;
        let signature = signature.ok_or_else(|| malformed("it has no Signature"))?;
        Self::new(credential, signed_headers, signature, malformed)
    }

    /// Reads the three texts that both forms have.
    fn new(
        credential: &str,
        signed_headers: &str,
        signature: &str,
        malformed: Malformed,
    ) -> Result<Self> {
        let signature = uri::decode_hex(signature)
            .ok_or_else(|| malformed("the Signature is 64 hexadecimal digits"))?;
        let mut scope = credential.rsplitn(5, '/');
        let parts = [(); 5].map(|()| scope.next().unwrap_or_default());
        let [terminator, service, region, date, access_key_id] = parts;
        if access_key_id.is_empty() || terminator != "aws4_request" {
            return Err(malformed(
                "the Credential is '<access key id>/<yyyymmdd>/<region>/s3/aws4_request'",
            ));
        }
        if service != "s3" {
            return Err(malformed("the service of the Credential is not 's3'"));
        }
        if date.len() != 8 || !date.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed(
                "the date of the Credential is not in the form 'yyyymmdd'",
            ));
        }
        let signed_headers: Vec<_> = signed_headers
            .split(';')
            .map(str::to_ascii_lowercase)
            .collect();
        if signed_headers.len() > SIGNED_HEADERS_MAX {
            return Err(malformed("it signs too many headers"));
        }
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            signed_headers,
            signature,
        })
    }

    /// `<yyyymmdd>/<region>/s3/aws4_request`.
    fn scope(&self) -> String {
        scope(&self.date, &self.region)
    }

    /// Whether the region of the scope is served.
    fn must_fit_region(&self, rules: Rules<'_>, malformed: Malformed) -> Result<()> {
        match rules.region {
            Some(region) if region != self.region => {
                let wrong = &self.region;
                let why = format!("the region '{wrong}' is wrong; expecting '{region}'");
                Err(malformed(&why).with_detail("Region", region))
            }
            _ => Ok(()),
        }
    }
}

/// A request that says who sent it, checked as far as possible without the key.
#[derive(Debug)]
pub(crate) struct Claim {
    authorization: Authorization,
    canonical_request: Vec<u8>,
    string_to_sign: String,
    /// `X-Amz-Date` in its basic form.
    timestamp: String,
}

impl Claim {
    /// Reads the claim of a request whose payload is described by `payload_hash`, the value of
    /// `x-amz-content-sha256`.
    pub(crate) fn of(
        authorization: Authorization,
        parts: &Parts,
        query: &Query,
        payload_hash: &str,
        rules: Rules<'_>,
        now: Timestamp,
    ) -> Result<Self> {
        authorization.must_fit_region(rules, malformed)?;
        let sent = sent_at(&parts.headers)?;
        if sent.duration_since(now).abs().as_secs() > SKEW_SECONDS_MAX {
            return Err(skewed(sent, now));
        }
        must_sign(&authorization.signed_headers, &parts.headers, |_| false)?;
        Self::new(authorization, sent, parts, query, payload_hash, malformed)
    }

    /// Puts together what must have been signed at the time `sent`.
    fn new(
        authorization: Authorization,
        sent: Timestamp,
        parts: &Parts,
        query: &Query,
        payload_hash: &str,
        malformed: Malformed,
    ) -> Result<Self> {
        let timestamp = sent.strftime("%Y%m%dT%H%M%SZ").to_string();
        if timestamp[..8] != authorization.date {
            let (date, day) = (&authorization.date, &timestamp[..8]);
            let why = format!("its credential date {date} is not the day of X-Amz-Date, {day}");
            return Err(malformed(&why));
        }
        let canonical_request =
            canonical_request(parts, query, &authorization.signed_headers, payload_hash)?;
        let string_to_sign = string_to_sign(&timestamp, &authorization.scope(), &canonical_request);
        Ok(Self {
            authorization,
            canonical_request,
            string_to_sign,
            timestamp,
        })
    }

    /// The access key that is said to have signed.
    pub(crate) fn access_key_id(&self) -> &str {
        &self.authorization.access_key_id
    }

    /// The day of the scope, `yyyymmdd`.
    pub(crate) fn date(&self) -> &str {
        &self.authorization.date
    }

    /// The region of the scope.
    pub(crate) fn region(&self) -> &str {
        &self.authorization.region
    }

    /// Holds the signature against the key, in constant time; the answer signs what follows.
    pub(crate) fn verify(
        self,
        key: &[u8; 32],
        headers: &HeaderMap,
        rules: Rules<'_>,
    ) -> Result<Chain> {
        let chain = Chain {
            mac: mac(key),
            timestamp: self.timestamp,
            scope: self.authorization.scope(),
            previous: self.authorization.signature,
            is_trusting: false,
        };
        let expected = sign(&chain.mac, self.string_to_sign.as_bytes());
        if bool::from(expected.ct_eq(&self.authorization.signature)) {
            return Ok(chain);
        }
        let mut message = "The request signature we calculated does not match the signature you \
                           provided. Check your key and signing method."
            .to_owned();
        if let Some(hint) = hint::rewritten_host(headers) {
            message.push(' ');
            message.push_str(&hint);
        }
        let mut error = Error::new(ErrorKind::SignatureDoesNotMatch, message)
            .with_detail("AWSAccessKeyId", self.authorization.access_key_id);
        if rules.debug_signatures {
            let canonical_request = String::from_utf8_lossy(&self.canonical_request).into_owned();
            error = error
                .with_detail("StringToSign", self.string_to_sign)
                .with_detail("CanonicalRequest", canonical_request);
        }
        Err(error)
    }
}

/// The chain of signatures that begins with the verified one of the headers and goes on with one for
/// each chunk of the body.
///
/// Source: S3 API, "Transferring Payload in Multiple Chunks (Chunked Upload)".
pub(crate) struct Chain {
    mac: Hmac<Sha256>,
    timestamp: String,
    scope: String,
    previous: [u8; 32],
    /// Signatures are believed unseen (`JAY_SIGV4_TRUST_KEY_ID`).
    is_trusting: bool,
}

impl Chain {
    /// A chain of whatever signatures come.
    pub(crate) fn trusting() -> Self {
        Self {
            mac: Hmac::new_from_slice(&[]).expect("HMAC takes keys of any length"),
            timestamp: String::new(),
            scope: String::new(),
            previous: [0; 32],
            is_trusting: true,
        }
    }

    /// Whether `signature` is the next one, over a chunk of this hash.
    pub(crate) fn chunk(&mut self, hash: &[u8], signature: &[u8; 32]) -> bool {
        let empty = uri::encode_hex(&Sha256::digest(b""));
        self.link(
            "AWS4-HMAC-SHA256-PAYLOAD",
            &format!("{empty}\n"),
            hash,
            signature,
        )
    }

    /// Whether `signature` is the last one, over trailers of this hash.
    pub(crate) fn trailer(&mut self, hash: &[u8], signature: &[u8; 32]) -> bool {
        self.link("AWS4-HMAC-SHA256-TRAILER", "", hash, signature)
    }

    fn link(&mut self, kind: &str, middle: &str, hash: &[u8], signature: &[u8; 32]) -> bool {
        let string_to_sign = format!(
            "{kind}\n{}\n{}\n{}\n{middle}{}",
            self.timestamp,
            self.scope,
            uri::encode_hex(&self.previous),
            uri::encode_hex(hash),
        );
        self.previous = sign(&self.mac, string_to_sign.as_bytes());
        self.is_trusting || self.previous.ct_eq(signature).into()
    }
}

/// The refusal of a request without credentials.
pub(crate) fn anonymous() -> Error {
    Error::new(
        ErrorKind::AccessDenied,
        "Access Denied: sign the request with an access key.",
    )
}

/// The refusal of signatures before and beside version 4.
pub(crate) fn only_v4() -> Error {
    let message = format!(
        "The authorization mechanism you have provided is not supported. Please use {ALGORITHM}."
    );
    Error::new(ErrorKind::InvalidRequest, message)
}

/// The name that the client called this server by: the `Host` header verbatim, else the authority.
pub(crate) fn host(parts: &Parts) -> Option<&[u8]> {
    match parts.headers.get(header::HOST) {
        Some(host) => Some(host.as_bytes()),
        None => parts
            .uri
            .authority()
            .map(|authority| authority.as_str().as_bytes()),
    }
}

/// Method, path, query, signed headers, their names and the payload hash, as S3 puts them together.
///
/// S3 encodes the path once and does not normalise it.
fn canonical_request(
    parts: &Parts,
    query: &Query,
    signed_headers: &[String],
    payload_hash: &str,
) -> Result<Vec<u8>> {
    let path = uri::encode_path(&uri::decode_path(parts.uri.path())?);
    let mut request = format!("{}\n{path}\n{}\n", parts.method, query.canonical()).into_bytes();
    for name in signed_headers {
        request.extend_from_slice(name.as_bytes());
        request.push(b':');
        if name == "host" {
            push_collapsed(&mut request, host(parts).unwrap_or_default());
        } else {
            for (position, value) in parts.headers.get_all(name.as_str()).iter().enumerate() {
                if position > 0 {
                    request.push(b',');
                }
                push_collapsed(&mut request, value.as_bytes());
            }
        }
        request.push(b'\n');
    }
    request.push(b'\n');
    request.extend_from_slice(signed_headers.join(";").as_bytes());
    request.push(b'\n');
    request.extend_from_slice(payload_hash.as_bytes());
    Ok(request)
}

/// `<yyyymmdd>/<region>/s3/aws4_request`.
fn scope(date: &str, region: &str) -> String {
    format!("{date}/{region}/s3/aws4_request")
}

/// What the signature of a request is over.
fn string_to_sign(timestamp: &str, scope: &str, canonical_request: &[u8]) -> String {
    let hash = uri::encode_hex(&Sha256::digest(canonical_request));
    format!("{ALGORITHM}\n{timestamp}\n{scope}\n{hash}")
}

/// Appends a header's value, trimmed and with each run of spaces as one.
fn push_collapsed(request: &mut Vec<u8>, value: &[u8]) {
    let mut after_space = false;
    for &byte in value.trim_ascii() {
        let is_space = byte == b' ';
        if !(is_space && after_space) {
            request.push(byte);
        }
        after_space = is_space;
    }
}

/// Host and every `x-amz-*` header must be signed, there or `elsewhere`. The payload hash is a line of the
/// canonical request by itself, so its header may be left out, as some signers do.
fn must_sign(
    signed_headers: &[String],
    headers: &HeaderMap,
    elsewhere: impl Fn(&str) -> bool,
) -> Result<()> {
    let is_signed = |name: &str| signed_headers.iter().any(|signed| signed == name);
    let mut unsigned: Vec<&str> = headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| name.starts_with("x-amz-") && *name != "x-amz-content-sha256")
        .filter(|name| !is_signed(name) && !elsewhere(name))
        .collect();
    if !is_signed("host") {
        unsigned.push("host");
    }
    if unsigned.is_empty() || planted::is(Fault::UnsignedHeaders) {
        return Ok(());
    }
    unsigned.sort_unstable();
    Err(Error::new(
        ErrorKind::AccessDenied,
        "There were headers present in the request which were not signed.",
    )
    .with_detail("HeadersNotSigned", unsigned.join(", ")))
}

/// When the request says it was made: `X-Amz-Date`, else `Date`.
pub(crate) fn sent_at(headers: &HeaderMap) -> Result<Timestamp> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let date = match (text("x-amz-date"), text("date")) {
        (Some(date), _) => {
            parse_basic(date).or_else(|| rfc2822::DateTimeParser::new().parse_timestamp(date).ok())
        }
        (None, Some(date)) => rfc2822::DateTimeParser::new()
            .parse_timestamp(date)
            .ok()
            .or_else(|| parse_basic(date)),
        (None, None) => None,
    };
    date.ok_or_else(|| {
        Error::new(
            ErrorKind::AccessDenied,
            "AWS authentication requires a valid Date or x-amz-date header.",
        )
    })
}

/// Parses `yyyymmddThhmmssZ`.
pub(crate) fn parse_basic(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes[at].is_ascii_digit();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    if !(0..8).chain(9..15).all(is_digit) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<i16>().ok();
    let small = |range| number(range).and_then(|value| i8::try_from(value).ok());
    let time = civil::DateTime::new(
        number(0..4)?,
        small(4..6)?,
        small(6..8)?,
        small(9..11)?,
        small(11..13)?,
        small(13..15)?,
        0,
    );
    Some(time.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn skewed(sent: Timestamp, now: Timestamp) -> Error {
    Error::new(
        ErrorKind::RequestTimeTooSkewed,
        "The difference between the request time and the current time is too large: set the clock.",
    )
    .with_detail("RequestTime", sent.to_string())
    .with_detail("ServerTime", now.to_string())
    .with_detail(
        "MaxAllowedSkewMilliseconds",
        (SKEW_SECONDS_MAX * 1000).to_string(),
    )
}

fn malformed(why: &str) -> Error {
    Error::new(
        ErrorKind::AuthorizationHeaderMalformed,
        format!("The authorization header is malformed; {why}."),
    )
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn sign(mac: &Hmac<Sha256>, message: &[u8]) -> [u8; 32] {
    mac.clone()
        .chain_update(message)
        .finalize()
        .into_bytes()
        .into()
}

#[cfg(test)]
pub(crate) mod tests;

//! Signed requests: by the `Authorization` header, and by the parameters of three kinds of links.

use std::sync::LazyLock;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, request::Parts};
use jay_engine::ErrorKind;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::s3::{
    authenticate::Mechanism,
    error::Result,
    link,
    payload::ContentHash,
    sigv2,
    sigv4::{
        Authorization, Chain, Claim, Rules, SKEW_SECONDS_MAX, parse_basic,
        presigned::{self, Unsigned},
        sent_at,
    },
    uri::{self, Query},
};

/// The signing key of every access key.
pub(super) const KEY: [u8; 32] = [7; 32];
/// When what is made here is signed.
pub(super) const TIMESTAMP: &str = "20261130T120000Z";
const RULES: Rules<'static> = Rules {
    region: None,
    debug_signatures: true,
};

/// A request that could be right is let in by the signature that another reading of the specification gives it, and by
/// no other. The bytes are a request line and headers.
pub fn sigv4_header(data: &[u8]) {
    let Some(mut parts) = request(data) else {
        return;
    };
    let Ok(query) = Query::parse(parts.uri.query()) else {
        return;
    };
    canonical_forms(&parts, &query);
    let Ok(Mechanism::Header) = Mechanism::of(&parts.headers, &query) else {
        return;
    };
    if verified(&parts).is_err_and(|error| error.kind() != ErrorKind::SignatureDoesNotMatch) {
        return;
    }
    let signed = Signed::of_header(&parts);
    // A signature cannot sign itself.
    if signed.names.iter().any(|name| name == "authorization") {
        return;
    }
    let signature = signed.signature(&parts, &pairs(parts.uri.query()));
    parts
        .headers
        .insert(header::AUTHORIZATION, signed.authorization(&signature));
    assert!(verified(&parts).is_ok(), "{parts:?}");
    for changed in changed(&parts, &signed, &signature) {
        assert!(verified(&changed).is_err(), "{changed:?}");
    }
    out_of_time(&parts, &query);
}

/// A link that could be right is let in by the right signature and by no other, for as long as it says; what it signs
/// beyond the path, it signs. The bytes are a request line and headers.
pub fn sigv4_query(data: &[u8]) {
    let Some(parts) = request(data) else {
        return;
    };
    let Ok(query) = Query::parse(parts.uri.query()) else {
        return;
    };
    canonical_forms(&parts, &query);
    hoisted(&parts, &query);
    match Mechanism::of(&parts.headers, &query) {
        Ok(Mechanism::Presigned) => presigned_v4(&parts, &query),
        Ok(Mechanism::PresignedV2) => presigned_v2(&parts, &query),
        Ok(Mechanism::Link) => link_of_jay(&parts),
        Ok(Mechanism::Absent) => made_here(&parts),
        _ => {}
    }
}

/// Reads a request line without a version, and headers.
fn request(data: &[u8]) -> Option<Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut line = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::builder().method(line.next()?).uri(line.next()?);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// The same request for another path and query; `None` when they cannot be sent.
fn with_target(parts: &Parts, path_and_query: &str) -> Option<Parts> {
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(path_and_query.parse().ok()?);
    let mut parts = parts.clone();
    parts.uri = Uri::from_parts(uri).ok()?;
    Some(parts)
}

/// What is canonical stays as it is, and does not depend on the order of the parameters.
fn canonical_forms(parts: &Parts, query: &Query) {
    let again = |text: &str| Query::parse(Some(text)).expect("it is encoded");
    let (canonical, form) = (query.canonical(), query.canonical_form());
    assert_eq!(
        canonical.as_bytes(),
        canonical_query(&pairs(parts.uri.query())).as_bytes()
    );
    assert_eq!(again(&canonical).canonical(), canonical);
    assert_eq!(again(&form).canonical_form(), form);
    assert_eq!(again(&form).canonical(), canonical);
    let mut reversed: Vec<_> = query.iter().collect();
    reversed.reverse();
    let reversed = Query::of(&reversed);
    assert_eq!(
        (reversed.canonical(), reversed.canonical_form()),
        (canonical, form)
    );
    if let Ok(path) = uri::decode_path(parts.uri.path()) {
        assert_eq!(uri::decode_path(&uri::encode_path(&path)).ok(), Some(path));
    }
}

/// Holds a signature in the header against [`KEY`], at the time that it says.
pub(super) fn verified(parts: &Parts) -> Result<Chain> {
    let query = Query::parse(parts.uri.query())?;
    let authorization = Authorization::of(&parts.headers)?;
    let (_, hash) = ContentHash::of(&parts.headers)?;
    let sent = sent_at(&parts.headers)?;
    let claim = Claim::of(authorization, parts, &query, hash, RULES, sent)?;
    claim.verify(&KEY, &parts.headers, RULES)
}

/// Requests that differ from a signed one in something that is signed.
fn changed(parts: &Parts, signed: &Signed, signature: &str) -> Vec<Parts> {
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let targets = [format!("{path}z?{query}"), format!("{path}?{query}&z")];
    let mut all: Vec<_> = targets
        .iter()
        .filter_map(|target| with_target(parts, target))
        .collect();
    if parts.method != Method::OPTIONS {
        let mut changed = parts.clone();
        changed.method = Method::OPTIONS;
        all.push(changed);
    }
    for name in &signed.names {
        if let Some(value) = parts.headers.get(name) {
            let value = [value.as_bytes(), b"z"].concat();
            let value = HeaderValue::from_bytes(&value).expect("it is as good as before");
            let mut changed = parts.clone();
            changed.headers.insert(
                http::HeaderName::try_from(name).expect("it is there"),
                value,
            );
            all.push(changed);
        }
    }
    let other = match signature.strip_prefix('0') {
        Some(rest) => format!("1{rest}"),
        None => format!("0{}", &signature[1..]),
    };
    let mut changed = parts.clone();
    changed
        .headers
        .insert(header::AUTHORIZATION, signed.authorization(&other));
    all.push(changed);
    all
}

/// A good signature is none at another time.
fn out_of_time(parts: &Parts, query: &Query) {
    let (_, hash) = ContentHash::of(&parts.headers).expect("it is verified");
    let sent = sent_at(&parts.headers).expect("it is verified");
    let too_far = SignedDuration::from_secs(SKEW_SECONDS_MAX + 1);
    for now in [sent.checked_add(too_far), sent.checked_sub(too_far)]
        .into_iter()
        .flatten()
    {
        let authorization = Authorization::of(&parts.headers).expect("it is verified");
        let claim = Claim::of(authorization, parts, query, hash, RULES, now);
        assert_eq!(claim.unwrap_err().kind(), ErrorKind::RequestTimeTooSkewed);
    }
}

/// A parameter that is a header is one, and then nothing is left to be moved.
fn hoisted(parts: &Parts, query: &Query) {
    type Hoist = fn(&HeaderMap, &Query) -> Result<HeaderMap>;
    for hoist in [presigned::with_hoisted as Hoist, sigv2::with_hoisted] {
        let Ok(headers) = hoist(&parts.headers, query) else {
            continue;
        };
        assert_eq!(hoist(&headers, query).ok().as_ref(), Some(&headers));
        for (name, value) in query.iter() {
            let name = name.to_ascii_lowercase();
            if name.starts_with("x-amz-meta-") || name == "x-amz-acl" {
                assert_eq!(
                    headers[&name].as_bytes(),
                    value.trim_matches([' ', '\t']).as_bytes()
                );
            }
        }
    }
}

/// Holds a signature in the query against [`KEY`].
fn verified_link(parts: &Parts, now: Timestamp) -> Result<()> {
    let query = Query::parse(parts.uri.query())?;
    let (claim, _) = presigned::claim(parts, &query, RULES, now)?;
    claim.verify(&KEY, &parts.headers, RULES).map(|_| ())
}

fn presigned_v4(parts: &Parts, query: &Query) {
    let Some(sent) = query.get("X-Amz-Date").and_then(parse_basic) else {
        return;
    };
    let refused = verified_link(parts, sent).expect_err("nobody knows the key");
    if refused.kind() != ErrorKind::SignatureDoesNotMatch {
        return;
    }
    let mut unsigned = pairs(parts.uri.query());
    unsigned.retain(|(name, _)| name != b"X-Amz-Signature");
    let signature = Signed::of_query(parts, query).signature(parts, &unsigned);
    let (path, text) = (parts.uri.path(), canonical_query(&unsigned));
    let url = |more: &str| {
        with_target(
            parts,
            &format!("{path}?{text}&X-Amz-Signature={signature}{more}"),
        )
    };
    let (Some(link), Some(longer)) = (url(""), url("&uploads=")) else {
        return;
    };
    assert!(verified_link(&longer, sent).is_err(), "{longer:?}");
    let seconds = query
        .get("X-Amz-Expires")
        .and_then(|text| text.parse().ok());
    holds(&link, sent, seconds.expect("it was read"));
}

/// A link is good for as long as it says.
fn holds(link: &Parts, sent: Timestamp, seconds: i64) {
    assert!(verified_link(link, sent).is_ok(), "{link:?}");
    let at = |seconds| sent.checked_add(SignedDuration::from_secs(seconds));
    if let (Ok(end), Ok(after)) = (at(seconds), at(seconds + 1)) {
        assert!(verified_link(link, end).is_ok(), "{link:?}");
        assert!(verified_link(link, after).is_err(), "{link:?}");
    }
}

/// Version 2 signs the parameters that are sub-resources and no others.
fn presigned_v2(parts: &Parts, query: &Query) {
    let expires = query
        .get("Expires")
        .and_then(|text| text.parse::<i64>().ok());
    let now = expires.and_then(|expires| Timestamp::from_second(expires.checked_sub(60)?).ok());
    let now = now.unwrap_or(Timestamp::UNIX_EPOCH);
    let domains = ["s3.jay.test".to_owned()];
    let text = |parts: &Parts| {
        let query = Query::parse(parts.uri.query()).ok()?;
        let claim = sigv2::Claim::of(parts, &query, &domains, now).ok()?;
        Some(claim.string_to_sign().to_vec())
    };
    let Some(signed) = text(parts) else {
        return;
    };
    let (path, pairs) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    for (more, is_signed) in [
        ("versionId=z", true),
        ("response-z", true),
        ("marker=z", false),
    ] {
        if let Some(changed) = with_target(parts, &format!("{path}?{more}&{pairs}")) {
            assert_eq!(
                text(&changed).as_ref() != Some(&signed),
                is_signed,
                "{changed:?}"
            );
        }
    }
    let mut changed = parts.clone();
    let another = HeaderValue::from_static("z");
    changed.headers.append("x-amz-meta-z", another);
    // The query may say the same.
    if !pairs.to_ascii_lowercase().contains("x-amz-meta-z") {
        assert_ne!(text(&changed).as_ref(), Some(&signed), "{changed:?}");
    }
    let mut changed = parts.clone();
    changed.method = Method::OPTIONS;
    let is_other = parts.method != Method::OPTIONS;
    assert_eq!(text(&changed) != Some(signed), is_other, "{changed:?}");
}

/// A link of Jay's signs all other parameters.
fn link_of_jay(parts: &Parts) {
    let signed = |parts: &Parts| {
        let query = Query::parse(parts.uri.query()).ok()?;
        let claim = link::Claim::of(parts, &query, &[]).ok()?;
        Some(format!("{:?}", claim.link()))
    };
    let Some(said) = signed(parts) else {
        return;
    };
    let (path, pairs) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    for more in [
        "marker=z",
        "X-Jay-Tokens=z",
        "x-jay-token=z",
        "=",
        "a%00b",
        "X-Jay-Expires=1&X-Jay-Expires=1",
    ] {
        if let Some(changed) = with_target(parts, &format!("{path}?{pairs}&{more}")) {
            assert_ne!(signed(&changed).as_ref(), Some(&said), "{changed:?}");
        }
    }
}

/// A link that is made here is good here.
fn made_here(parts: &Parts) {
    let path = parts.uri.path();
    let Some(mut parts) = with_target(parts, path).filter(|_| path.starts_with('/')) else {
        return;
    };
    let host = parts.headers.remove(header::HOST);
    parts.headers = host.map(|host| (header::HOST, host)).into_iter().collect();
    let now = parse_basic(TIMESTAMP).expect("a time");
    let Ok(unsigned) = Unsigned::new(&parts, "AKID", "eu-1", 3600, now) else {
        return;
    };
    let signature = hmac(&KEY, unsigned.string_to_sign().as_bytes());
    let target = unsigned.signed(&signature);
    holds(
        &with_target(&parts, &target).expect("it can be sent"),
        now,
        3600,
    );
}

/// What a request says of its signature.
struct Signed {
    credential: String,
    names: Vec<String>,
    timestamp: String,
    payload: String,
}

impl Signed {
    /// Of a header that was understood.
    fn of_header(parts: &Parts) -> Self {
        let text = |name: header::HeaderName| {
            parts.headers[name]
                .to_str()
                .expect("it was understood")
                .to_owned()
        };
        let authorization = text(header::AUTHORIZATION);
        let field = |name: &str| {
            let (_, fields) = authorization.trim().split_once(' ').expect("it has fields");
            let mut fields = fields.split(',').map(str::trim);
            fields
                .find_map(|field| field.strip_prefix(name))
                .expect("it has each")
                .to_owned()
        };
        let sent = sent_at(&parts.headers).expect("it has a date");
        Self {
            credential: field("Credential="),
            names: names(&field("SignedHeaders=")),
            timestamp: sent.strftime("%Y%m%dT%H%M%SZ").to_string(),
            payload: text(CONTENT_SHA256),
        }
    }

    /// Of parameters that were understood.
    fn of_query(parts: &Parts, query: &Query) -> Self {
        let text = |name| query.get(name).expect("it was understood").to_owned();
        let names = names(&text("X-Amz-SignedHeaders"));
        let is_hash = |(name, _): &(&str, &str)| name.eq_ignore_ascii_case(CONTENT_SHA256.as_str());
        let parameter = query
            .iter()
            .find(is_hash)
            .map(|(_, value)| value.to_owned());
        let header = parts.headers.get(CONTENT_SHA256);
        let header = header.filter(|_| names.iter().any(|name| *name == CONTENT_SHA256.as_str()));
        let header = header.map(|value| value.to_str().expect("it was understood").to_owned());
        Self {
            credential: text("X-Amz-Credential"),
            names,
            timestamp: text("X-Amz-Date"),
            payload: parameter
                .or(header)
                .unwrap_or_else(|| ContentHash::UNSIGNED.to_owned()),
        }
    }

    fn authorization(&self, signature: &str) -> HeaderValue {
        let (credential, names) = (&self.credential, self.names.join(";"));
        let text = format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        );
        HeaderValue::try_from(text).expect("it is made of what was a header")
    }

    /// The signature by [`KEY`], by another reading of the specification than the server's.
    fn signature(&self, parts: &Parts, pairs: &[Pair]) -> String {
        let path = percent_encoded(&percent_decoded(parts.uri.path(), false), b"/");
        let mut request =
            format!("{}\n{path}\n{}\n", parts.method, canonical_query(pairs)).into_bytes();
        for name in &self.names {
            let mut values: Vec<_> = parts.headers.get_all(name).iter().map(collapsed).collect();
            if let ("host", true, Some(host)) = (&**name, values.is_empty(), parts.uri.authority())
            {
                values.push(host.as_str().as_bytes().to_vec());
            }
            if name == "host" {
                values.truncate(1);
            }
            request
                .extend_from_slice(&[name.as_bytes(), b":", &values.join(&b','), b"\n"].concat());
        }
        let end = format!("\n{}\n{}", self.names.join(";"), self.payload);
        request.extend_from_slice(end.as_bytes());
        let scope: Vec<_> = self.credential.rsplitn(5, '/').take(4).collect();
        let [terminator, service, region, date] = scope[..] else {
            unreachable!("it was understood");
        };
        let hash = uri::encode_hex(&Sha256::digest(&request));
        let scope = [date, region, service, terminator].join("/");
        let text = ["AWS4-HMAC-SHA256", &self.timestamp, &scope, &hash].join("\n");
        uri::encode_hex(&hmac(&KEY, text.as_bytes()))
    }
}

const CONTENT_SHA256: header::HeaderName = header::HeaderName::from_static("x-amz-content-sha256");

fn names(text: &str) -> Vec<String> {
    text.split(';').map(str::to_ascii_lowercase).collect()
}

/// A value without outer blanks, and with one space for many.
fn collapsed(value: &HeaderValue) -> Vec<u8> {
    let words = value.as_bytes().trim_ascii().split(|byte| *byte == b' ');
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(&b' ')
}

pub(super) fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(text).finalize().into_bytes().into()
}

/// Name and value of a parameter, decoded.
type Pair = (Vec<u8>, Vec<u8>);

/// The parameters of a query that can be decoded.
fn pairs(query: Option<&str>) -> Vec<Pair> {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    let decoded = |text| percent_decoded(text, true);
    let halves = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    halves
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

/// Each parameter encoded, then all of them sorted.
fn canonical_query(pairs: &[Pair]) -> String {
    let encoded = |(name, value): &Pair| (percent_encoded(name, b""), percent_encoded(value, b""));
    let mut encoded: Vec<_> = pairs.iter().map(encoded).collect();
    encoded.sort();
    let texts = encoded.into_iter().map(|(name, value)| name + "=" + &value);
    texts.collect::<Vec<_>>().join("&")
}

fn percent_encoded(bytes: &[u8], also_plain: &[u8]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = bytes
        .iter()
        .map(|byte| match is_plain(*byte) || also_plain.contains(byte) {
            true => char::from(*byte).to_string(),
            false => format!("%{byte:02X}"),
        });
    encoded.collect()
}

fn percent_decoded(text: &str, plus_is_space: bool) -> Vec<u8> {
    let mut pieces = text.split('%');
    let plain = |text: &str| match plus_is_space {
        true => text.replace('+', " ").into_bytes(),
        false => text.as_bytes().to_vec(),
    };
    let mut decoded = plain(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        decoded.push(u8::from_str_radix(digits, 16).expect("it was understood"));
        decoded.extend(plain(rest));
    }
    decoded
}

/// A request whose body comes in signed chunks, and the signature that the first of them continues.
pub(super) fn seed_of_chunks() -> &'static (Parts, String) {
    static SEED: LazyLock<(Parts, String)> = LazyLock::new(|| {
        let headers = "host:h\nx-amz-content-sha256:STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
        let text = format!("PUT /b/k\n{headers}\nx-amz-date:{TIMESTAMP}\n");
        let mut parts = request(text.as_bytes()).expect("it is one");
        let signed = Signed {
            credential: format!("AKID/{}/us-east-1/s3/aws4_request", &TIMESTAMP[..8]),
            names: names("host;x-amz-content-sha256;x-amz-date"),
            timestamp: TIMESTAMP.to_owned(),
            payload: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned(),
        };
        let signature = signed.signature(&parts, &[]);
        parts
            .headers
            .insert(header::AUTHORIZATION, signed.authorization(&signature));
        (parts, signature)
    });
    &SEED
}

//! Jay's own links: `X-Jay-Token`, `X-Jay-Expires` and `X-Jay-Signature` in the query.
//!
//! Here the link is taken apart; what it must hold, the engine decides, which alone has the secret.

use http::{HeaderMap, request::Parts};
use jay_engine::{Caller, Engine, ErrorKind, Link};

use super::{
    Settings,
    error::{Error, Result},
    router::Target,
    uri::{self, Query},
};
use crate::planted::{self, Fault};

const PARAMETERS: [&str; 3] = [TOKEN, "X-Jay-Expires", "X-Jay-Signature"];
const TOKEN: &str = "X-Jay-Token";
/// Headers that say how a body comes, and change nothing about what is done.
const HARMLESS: [&str; 7] = [
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-storage-class",
    "x-amz-trailer",
    "x-amz-user-agent",
];

/// Whether the query says that the request is a link.
pub(crate) fn is_link(query: &Query) -> bool {
    query.get(TOKEN).is_some_and(|token| !token.is_empty())
}

/// A link, taken apart and not yet verified.
pub(crate) struct Claim<'a> {
    token_id: &'a str,
    method: &'a str,
    path: String,
    canonical_query: String,
    expires: &'a str,
    signature: [u8; 32],
}

impl<'a> Claim<'a> {
    /// Takes the link apart. Whatever is wrong with it, the refusal is the same.
    pub(crate) fn of(parts: &'a Parts, query: &'a Query, vhost_domains: &[String]) -> Result<Self> {
        if PARAMETERS.iter().any(|name| query.repeats(name)) {
            return Err(invalid());
        }
        let [token_id, expires, signature] =
            PARAMETERS.map(|name| query.get(name).unwrap_or_default());
        Ok(Self {
            token_id,
            method: parts.method.as_str(),
            signature: uri::decode_hex(signature).ok_or_else(invalid)?,
            path: signed_path(parts, vhost_domains)?,
            canonical_query: query.without(&PARAMETERS).canonical_form(),
            expires,
        })
    }

    /// What is signed.
    pub(crate) fn link(&self) -> Link<'_> {
        Link {
            token_id: self.token_id,
            method: self.method,
            path: &self.path,
            canonical_query: &self.canonical_query,
            expires: self.expires,
        }
    }
}

/// Who made the link.
pub(crate) fn verify(
    engine: &Engine,
    settings: &Settings,
    parts: &Parts,
    query: &Query,
) -> Result<Caller> {
    let claim = Claim::of(parts, query, &settings.vhost_domains)?;
    let caller = engine.verify_link(claim.link(), &claim.signature)?;
    must_ask_no_more(&parts.headers)?;
    Ok(caller)
}

/// Bucket and key as links are made of them, also where the host names the bucket: the host is not signed, and would
/// else turn a link for one bucket into one for another.
fn signed_path(parts: &Parts, vhost_domains: &[String]) -> Result<String> {
    let path = uri::decode_path(parts.uri.path())?;
    Ok(match Target::bucket_in_host(parts, vhost_domains) {
        Some(bucket) => format!("/{bucket}{path}"),
        None => path,
    })
}

/// A link signs method, path and query, not headers. Whoever holds it may describe what it uploads, but not ask for
/// something else: `x-amz-copy-source` would read any object of the account into the one that the link is for.
fn must_ask_no_more(headers: &HeaderMap) -> Result<()> {
    let is_harmless = |name: &str| {
        let starts = ["x-amz-meta-", "x-amz-checksum-"];
        HARMLESS.contains(&name) || starts.iter().any(|start| name.starts_with(start))
    };
    let names = headers.keys().map(|name| name.as_str());
    let mut more = names.filter(|name| name.starts_with("x-amz-") && !is_harmless(name));
    match more.next() {
        None => Ok(()),
        Some(_) if planted::is(Fault::AskingLink) => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::AccessDenied,
            "There were headers present in the request which were not signed: a link does not sign headers.",
        )
        .with_detail("HeadersNotSigned", name)),
    }
}

fn invalid() -> Error {
    Error::new(ErrorKind::AccessDenied, "Invalid presigned URL")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_link_is_for_one_thing() {
        let with = |name: &'static str| {
            let pair = (HeaderName::from_static(name), HeaderValue::from_static("v"));
            must_ask_no_more(&[pair].into_iter().collect())
        };
        for name in [
            "content-type",
            "x-amz-meta-a",
            "x-amz-checksum-crc32",
            "if-match",
        ] {
            assert!(with(name).is_ok(), "{name}");
        }
        for name in [
            "x-amz-copy-source",
            "x-amz-acl",
            "x-amz-tagging",
            "x-amz-anything",
        ] {
            let error = with(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AccessDenied, "{name}");
        }
    }
}

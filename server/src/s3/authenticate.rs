//! Who sent a request: the ways to prove it, of which a request takes one.
//!
//! Called by [`super::S3`] for each request that is not open to all. What a caller may do is decided in the
//! engine.

use std::net::IpAddr;

use http::{HeaderMap, header, request::Parts};
use jay_engine::{Caller, Engine, ErrorKind};
use jiff::Timestamp;

use super::{
    Settings,
    error::{Error, Result},
    link,
    payload::ContentHash,
    sigv2,
    sigv4::{self, Authorization, Chain, Claim, presigned},
    uri::Query,
};
use crate::planted::{self, Fault};

/// How a request says who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// `Authorization: AWS4-HMAC-SHA256 …`, or another scheme, which is refused.
    Header,
    /// `Authorization: Bearer <token id>:<secret>`.
    Bearer,
    /// `X-Amz-Signature` and its companions in the query.
    Presigned,
    /// `X-Jay-Signature` and its companions in the query. As in the original, the header does not matter then.
    Link,
    /// `AWSAccessKeyId`, `Expires` and `Signature` in the query: signature version 2.
    PresignedV2,
    /// Not at all.
    Absent,
}

impl Mechanism {
    /// Names the mechanism of a request; two at once are refused.
    pub(crate) fn of(headers: &HeaderMap, query: &Query) -> Result<Self> {
        let authorization = headers.get(header::AUTHORIZATION);
        let is_presigned = presigned::is_presigned(query);
        let is_presigned_v2 = sigv2::is_presigned(query);
        let is_link = link::is_link(query);
        let in_query = [is_presigned, is_presigned_v2, is_link];
        let in_query = in_query.iter().filter(|is| **is).count();
        if in_query > 1 || in_query == 1 && !is_link && authorization.is_some() {
            return Err(only_one());
        }
        Ok(match authorization {
            _ if is_link => Self::Link,
            _ if is_presigned => Self::Presigned,
            _ if is_presigned_v2 => Self::PresignedV2,
            Some(value) if bearer(value.as_bytes()).is_some() => Self::Bearer,
            Some(_) => Self::Header,
            None => Self::Absent,
        })
    }
}

/// A caller who has proven who it is, and how the body of its request comes.
pub(crate) struct Proof {
    pub(crate) caller: Caller,
    pub(crate) hash: ContentHash,
    /// What the signatures of chunks continue.
    pub(crate) chain: Option<Chain>,
}

impl Proof {
    /// Reads and checks the proof that a request brings.
    pub(crate) async fn of(
        mechanism: Mechanism,
        engine: &Engine,
        settings: &Settings,
        parts: &Parts,
        query: &Query,
    ) -> Result<Self> {
        must_have_no_session(parts, query)?;
        match mechanism {
            Mechanism::Header => {
                let authorization = Authorization::of(&parts.headers)?;
                let (hash, hash_text) = ContentHash::of(&parts.headers)?;
                let (rules, now) = (settings.signature_rules(), Timestamp::now());
                let claim = Claim::of(authorization, parts, query, hash_text, rules, now)?;
                Self::signed(engine, settings, claim, hash, parts)
            }
            Mechanism::Presigned => {
                let (rules, now) = (settings.signature_rules(), Timestamp::now());
                let (claim, hash) = presigned::claim(parts, query, rules, now)?;
                Self::signed(engine, settings, claim, hash, parts)
            }
            Mechanism::Bearer => Self::of_caller(by_bearer(engine, &parts.headers).await?, parts),
            Mechanism::Link => {
                Self::of_caller(link::verify(engine, settings, parts, query)?, parts)
            }
            Mechanism::PresignedV2 => {
                let (caller, hash) = sigv2::verify(engine, settings, parts, query)?;
                Ok(Self {
                    caller,
                    hash,
                    chain: None,
                })
            }
            Mechanism::Absent if overrides(query) => Err(Error::new(
                ErrorKind::InvalidRequest,
                "Request specific response headers cannot be used for anonymous GET requests.",
            )),
            Mechanism::Absent => Err(sigv4::anonymous()),
        }
    }

    /// No proof, for what is open to all. How the body comes is said all the same: chunks must not be stored as content.
    pub(crate) fn absent(parts: &Parts) -> Result<Self> {
        Self::of_caller(Caller::anonymous(), parts)
    }

    fn signed(
        engine: &Engine,
        settings: &Settings,
        claim: Claim,
        hash: ContentHash,
        parts: &Parts,
    ) -> Result<Self> {
        if settings.trusts_key_id || planted::is(Fault::BelievedSignature) {
            return Ok(Self {
                caller: engine.trusted(claim.access_key_id())?,
                hash,
                chain: Some(Chain::trusting()),
            });
        }
        let (caller, key) =
            engine.signing_key(claim.access_key_id(), claim.date(), claim.region())?;
        let rules = settings.signature_rules();
        let chain = claim.verify(key.as_bytes(), &parts.headers, rules)?;
        Ok(Self {
            caller,
            hash,
            chain: Some(chain),
        })
    }

    /// The same, from this address.
    pub(crate) fn at_address(self, address: IpAddr) -> Self {
        if planted::is(Fault::LostAddress) {
            return self;
        }
        Self {
            caller: self.caller.at_address(address),
            ..self
        }
    }

    fn of_caller(caller: Caller, parts: &Parts) -> Result<Self> {
        Ok(Self {
            caller,
            hash: ContentHash::optional(&parts.headers)?,
            chain: None,
        })
    }
}

/// Whether the query says how the answer should look: only who signs may say so, lest a link shows an image of
/// a public bucket as a page.
///
/// Source: S3 API, GetObject, "Overriding response header values through the request".
pub(crate) fn overrides(query: &Query) -> bool {
    query.iter().any(|(name, _)| name.starts_with("response-"))
}

/// What follows `Bearer `, whose case does not matter (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, credentials) = value.split_at_checked(7)?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
    is_bearer.then(|| credentials.trim_ascii())
}

async fn by_bearer(engine: &Engine, headers: &HeaderMap) -> Result<Caller> {
    let value = headers.get(header::AUTHORIZATION);
    let credentials = value.and_then(|value| bearer(value.as_bytes()));
    let credentials = credentials.and_then(|text| std::str::from_utf8(text).ok());
    let pair = credentials.and_then(|text| text.split_once(':'));
    let (token_id, secret) = pair.ok_or_else(|| {
        let message = "The authorization header is malformed; a bearer is '<token id>:<secret>'.";
        Error::new(ErrorKind::AuthorizationHeaderMalformed, message)
    })?;
    Ok(engine.bearer(token_id, secret).await?)
}

/// Session tokens belong to temporary access keys, of which there are none.
fn must_have_no_session(parts: &Parts, query: &Query) -> Result<()> {
    const SECURITY_TOKEN: &str = "x-amz-security-token";
    let in_query = |(name, _): (&str, &str)| name.eq_ignore_ascii_case(SECURITY_TOKEN);
    if !parts.headers.contains_key(SECURITY_TOKEN) && !query.iter().any(in_query) {
        return Ok(());
    }
    let message = "The provided token is malformed or otherwise invalid: this server has no session tokens. \
                   Sign with an access key alone.";
    Err(Error::new(ErrorKind::InvalidToken, message))
}

fn only_one() -> Error {
    let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
                   query string parameter or the Authorization header should be specified";
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::s3::sigv4::tests::request;

    fn mechanism(query: &str, authorization: Option<&str>) -> Result<Mechanism> {
        let headers: Vec<_> = authorization
            .iter()
            .map(|value| ("authorization", *value))
            .collect();
        let parts = request("GET", &format!("/b/k?{query}"), &headers);
        Mechanism::of(&parts.headers, &Query::parse(parts.uri.query())?)
    }

    #[test]
    fn a_request_takes_one_mechanism() {
        use Mechanism::*;
        let v4 = Some("AWS4-HMAC-SHA256 x");
        for (query, authorization, expected) in [
            ("", None, Absent),
            ("x-amz-signature=1&Signature=1&X-Jay-Token=", None, Absent),
            ("", v4, Header),
            ("", Some("Basic x"), Header),
            ("", Some("bearer a:b"), Bearer),
            ("", Some("Bearer"), Header),
            ("X-Amz-Signature=1", None, Presigned),
            ("X-Amz-Algorithm=1", None, Presigned),
            ("X-Jay-Token=t", None, Link),
            ("X-Jay-Token=t", v4, Link),
            ("AWSAccessKeyId=a&Signature=s&Expires=1", None, PresignedV2),
        ] {
            assert_eq!(
                mechanism(query, authorization).unwrap(),
                expected,
                "{query}"
            );
        }
        for (query, authorization) in [
            ("X-Amz-Signature=1", v4),
            ("X-Amz-Algorithm=1", Some("Bearer a:b")),
            ("X-Amz-Credential=1&X-Jay-Token=t", None),
            ("AWSAccessKeyId=a&Signature=s", v4),
            ("AWSAccessKeyId=a&Signature=s&X-Amz-Signature=1", None),
        ] {
            let error = mechanism(query, authorization).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{query}");
        }
    }

    #[test]
    fn session_tokens_are_refused() {
        let kind = |uri: &str, headers: &[(&str, &str)]| {
            let parts = request("GET", uri, headers);
            let query = Query::parse(parts.uri.query()).unwrap();
            must_have_no_session(&parts, &query).map_err(|error| error.kind())
        };
        assert_eq!(kind("/b/k", &[]), Ok(()));
        let refused = Err(ErrorKind::InvalidToken);
        assert_eq!(kind("/b/k?X-Amz-Security-Token=t", &[]), refused);
        assert_eq!(kind("/b/k", &[("x-amz-security-token", "t")]), refused);
    }

    proptest! {
        #[test]
        fn hostile_bearers_never_panic(value in any::<Vec<u8>>()) {
            let _ = bearer(&value);
            let value = [b"Bearer ", &value[..]].concat();
            prop_assert!(bearer(&value).is_some());
        }
    }
}

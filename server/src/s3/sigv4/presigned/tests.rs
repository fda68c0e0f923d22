//! Presigned URLs of AWS and of a JavaScript SDK, and what must be refused.

use jay_engine::ErrorKind;
use proptest::prelude::*;

use super::*;
use crate::s3::sigv4::{
    Chain,
    tests::{derive, example_key, example_time, request},
};

const RULES: Rules<'static> = Rules {
    region: None,
    debug_signatures: false,
};
/// S3 API, "Authenticating Requests: Using Query Parameters", the example of a GET.
const PUBLISHED: &str = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
    &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
    &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
    &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");

fn verify_by(parts: &Parts, key: &[u8; 32], rules: Rules<'_>, now: Timestamp) -> Result<Chain> {
    let query = Query::parse(parts.uri.query())?;
    let (claim, _) = claim(parts, &query, rules, now)?;
    claim.verify(key, &parts.headers, rules)
}

fn verify(uri: &str, headers: &[(&str, &str)]) -> Result<Chain> {
    verify_by(
        &request("GET", uri, headers),
        &example_key(),
        RULES,
        example_time(),
    )
}

fn refusal(uri: &str) -> Error {
    verify(uri, &[HOST]).err().expect(uri)
}

#[test]
fn published_get() {
    assert!(verify(PUBLISHED, &[HOST]).is_ok());
    // Parameters may come in any order.
    let (path, query) = PUBLISHED.split_once('?').unwrap();
    let turned: Vec<_> = query.split('&').rev().collect();
    assert!(verify(&format!("{path}?{}", turned.join("&")), &[HOST]).is_ok());
}

/// What the AWS SDK for JavaScript 3.190.0 makes of a PutObject with an access list.
#[test]
fn a_put_of_the_javascript_sdk() {
    let key = derive("deadbeef", "20260101", "us-east-1");
    for (host, signature) in [
        (
            "ship.example.com",
            "af02e062efc2893dbf69fbc18be473f32755ccb5d00491fa90cee1656814e899",
        ),
        (
            "127.0.0.1:9000",
            "79e4d96206324faae34582f26e715cc48b3318c0d8b1699d47b15380ab28cd4d",
        ),
    ] {
        let uri = format!(
            "/jars/default/zod/2026.1.1..00.00.00..0000-my%20pic%20%281%29%2B%C3%A9.png\
             ?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD\
             &X-Amz-Credential=~zod%2F20260101%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-Signature={signature}\
             &X-Amz-SignedHeaders=host&x-amz-acl=public-read&x-id=PutObject"
        );
        let headers = [
            ("host", host),
            ("content-type", "image/png"),
            ("cache-control", "public, max-age=3600"),
        ];
        let parts = request("PUT", &uri, &headers);
        let now = parse_basic("20260101T003000Z").unwrap();
        assert!(verify_by(&parts, &key, RULES, now).is_ok(), "{host}");
        let query = Query::parse(parts.uri.query()).unwrap();
        let merged = with_hoisted(&parts.headers, &query).unwrap();
        assert_eq!(merged["x-amz-acl"], "public-read");
        assert_eq!(merged.len(), headers.len() + 1);
    }
}

#[test]
fn anything_changed_after_signing_is_refused() {
    for changed in [
        PUBLISHED.replace("/test.txt", "/test.tx"),
        PUBLISHED.replace("aeeed9", "aeeed8"),
        PUBLISHED.replace("86400", "86401"),
        format!("{PUBLISHED}&x-amz-acl=public-read"),
        format!("{PUBLISHED}&unknown"),
    ] {
        let error = refusal(&changed);
        assert_eq!(error.kind(), ErrorKind::SignatureDoesNotMatch, "{changed}");
    }
    let parts = request("HEAD", PUBLISHED, &[HOST]);
    assert!(verify_by(&parts, &example_key(), RULES, example_time()).is_err());
    assert!(verify(PUBLISHED, &[("host", "other")]).is_err());
}

#[test]
fn each_parameter_is_there_once_and_makes_sense() {
    for name in PARAMETERS {
        let renamed = PUBLISHED.replace(name, &name.to_ascii_lowercase());
        for bad in [renamed, format!("{PUBLISHED}&{name}=x")] {
            let kind = refusal(&bad).kind();
            assert_eq!(kind, ErrorKind::AuthorizationQueryParametersError, "{bad}");
        }
    }
    for (good, bad) in [
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"),
        ("20130524%2F", "20130523%2F"),
        ("%2Fs3%2F", "%2Fiam%2F"),
        ("AKIAIOSFODNN7EXAMPLE", ""),
        ("20130524T000000Z", "20130524"),
        ("=aeeed9", "=aeee"),
        ("=86400", "=0"),
        ("=86400", "=604801"),
        ("=86400", "=-1"),
        ("=86400", "=%2B1"),
        ("=86400", "=1.5"),
        ("=86400", "="),
        ("=86400", "=99999999999999999999"),
    ] {
        let kind = refusal(&PUBLISHED.replace(good, bad)).kind();
        assert_eq!(kind, ErrorKind::AuthorizationQueryParametersError, "{bad}");
    }
}

#[test]
fn a_url_holds_for_a_while() {
    let parts = request("GET", PUBLISHED, &[HOST]);
    let at = |seconds| {
        let now = example_time() + SignedDuration::from_secs(seconds);
        verify_by(&parts, &example_key(), RULES, now).err()
    };
    for held in [-900, 0, 86_400] {
        assert!(at(held).is_none(), "{held}");
    }
    for (seconds, message) in [
        (-901, "Request is not valid yet"),
        (86_401, "Request has expired"),
    ] {
        let error = at(seconds).unwrap();
        assert_eq!(error.kind(), ErrorKind::AccessDenied);
        assert!(error.message().starts_with(message), "{}", error.message());
    }
}

#[test]
fn a_configured_region_must_match() {
    let parts = request("GET", PUBLISHED, &[HOST]);
    let verify = |region| {
        let rules = Rules {
            region: Some(region),
            ..RULES
        };
        verify_by(&parts, &example_key(), rules, example_time())
    };
    assert!(verify("us-east-1").is_ok());
    let error = verify("eu-west-1").err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AuthorizationQueryParametersError);
    assert!(error.message().contains("expecting 'eu-west-1'"));
}

#[test]
fn headers_beside_the_url_must_be_signed() {
    let error = verify(PUBLISHED, &[HOST, ("x-amz-acl", "private")]).err();
    assert_eq!(error.unwrap().kind(), ErrorKind::AccessDenied);
    // In the query it is signed too; then the signature is what is wrong here.
    let uri = format!("{PUBLISHED}&X-Amz-Acl=private");
    let error = verify(&uri, &[HOST, ("x-amz-acl", "private")]).err();
    assert_eq!(error.unwrap().kind(), ErrorKind::SignatureDoesNotMatch);
}

#[test]
fn the_hash_is_the_one_of_the_query_or_of_a_signed_header() {
    const HASH: &str = crate::s3::sigv4::tests::EMPTY;
    let of = |query: &str, header: Option<&str>, signed: &[&str]| {
        let query = Query::parse(Some(query)).unwrap();
        let headers: Vec<_> = header
            .iter()
            .map(|value| (CONTENT_SHA256, *value))
            .collect();
        let parts = request("PUT", "/b/k", &headers);
        let signed: Vec<_> = signed.iter().map(|name| (*name).to_owned()).collect();
        let found = content_hash(&parts.headers, &query, &signed);
        found
            .map(|(hash, text)| (hash, text.to_owned()))
            .map_err(|error| error.kind())
    };
    let (unsigned, in_query) = (
        ContentHash::UNSIGNED,
        format!("X-Amz-Content-Sha256={HASH}"),
    );
    let sha256 = ContentHash::parse(HASH).unwrap();
    assert_eq!(
        of("", None, &[]),
        Ok((ContentHash::Unsigned, unsigned.into()))
    );
    assert_eq!(of(&in_query, None, &[]), Ok((sha256, HASH.into())));
    assert_eq!(of(&in_query, Some(HASH), &[]), Ok((sha256, HASH.into())));
    assert_eq!(
        of("", Some(HASH), &[CONTENT_SHA256]),
        Ok((sha256, HASH.into()))
    );
    assert_eq!(of("", Some(HASH), &[]), Ok((sha256, unsigned.into())));
    let refused = Err(ErrorKind::InvalidArgument);
    assert_eq!(of(&in_query, Some(unsigned), &[]), refused);
    assert_eq!(of("X-Amz-Content-Sha256=x", None, &[]), refused);
    let twice = format!("{in_query}&x-amz-content-sha256={HASH}");
    assert_eq!(
        of(&twice, None, &[]),
        Err(ErrorKind::AuthorizationQueryParametersError)
    );
}

#[test]
fn headers_come_back_from_the_query() {
    let merged = |query: &str, headers: &[(&str, &str)]| {
        let parts = request("PUT", "/b/k", headers);
        with_hoisted(&parts.headers, &Query::parse(Some(query)).unwrap())
    };
    let query = "x-id=PutObject&X-Amz-Date=d&x-amz-date=d&X-Amz-Security-Token=t&X-Amz-Content-Sha256=h\
                 &x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32\
                 &x-amz-checksum-mode=ENABLED&X-Amz-Meta-Name=J%C3%BCrgen&x-amz-tagging=a%3Db&prefix=x-amz-acl";
    let headers = merged(query, &[("x-amz-meta-name", "Jürgen"), HOST]).unwrap();
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "host",
            "x-amz-checksum-mode",
            "x-amz-meta-name",
            "x-amz-tagging"
        ]
    );
    assert_eq!(headers["x-amz-tagging"], "a=b");
    for (query, headers) in [
        ("x-amz-acl=private", &[("x-amz-acl", "public-read")][..]),
        (
            "x-amz-meta-a=1",
            &[("x-amz-meta-a", "1"), ("x-amz-meta-a", "1")],
        ),
        ("x-amz-acl=private&X-Amz-Acl=public-read", &[]),
        ("x-amz-meta-a=%0d%0ax", &[]),
        ("x-amz-meta-a%20b=x", &[]),
        ("x-amz-=%00", &[]),
    ] {
        let error = merged(query, headers).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{query}");
    }
}

proptest! {
    #[test]
    fn hostile_parameters_never_panic(
        texts in prop::collection::vec("[!-~&&[^#<>\"`{}&]]{0,40}", 6),
        more in "[!-~&&[^#<>\"`{}]]{0,40}",
    ) {
        let pairs: Vec<_> = PARAMETERS.iter().zip(&texts).map(|(n, t)| format!("{n}={t}")).collect();
        let uri = format!("/b/k?{}&x-amz-{more}", pairs.join("&"));
        for uri in [uri, format!("{PUBLISHED}&{more}")] {
            let Ok(uri) = uri.parse::<http::Uri>() else { continue };
            let mut parts = request("GET", "/", &[HOST]);
            parts.uri = uri;
            let _ = verify_by(&parts, &example_key(), RULES, example_time());
            if let Ok(query) = Query::parse(parts.uri.query()) {
                let _ = with_hoisted(&parts.headers, &query);
            }
        }
    }
}

#[test]
fn what_is_made_is_the_published_url() {
    let parts = request("GET", "/test.txt", &[HOST]);
    let id = "AKIAIOSFODNN7EXAMPLE";
    let unsigned = Unsigned::new(&parts, id, "us-east-1", 86400, example_time()).unwrap();
    assert_eq!(unsigned.date(), "20130524");
    let string_to_sign = unsigned.string_to_sign().as_bytes();
    let signature = crate::s3::sigv4::sign(&crate::s3::sigv4::mac(&example_key()), string_to_sign);
    assert_eq!(unsigned.signed(&signature), PUBLISHED);
}

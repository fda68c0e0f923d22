//! AWS's published examples, and what must be refused.

use http::Request;
use proptest::prelude::*;

use super::{
    hint::{is_inner, rewritten_host},
    *,
};

pub(crate) const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const RULES: Rules<'static> = Rules {
    region: None,
    debug_signatures: false,
};

/// The signing key of the published examples.
pub(crate) fn example_key() -> [u8; 32] {
    derive(
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "20130524",
        "us-east-1",
    )
}

pub(crate) fn derive(secret: &str, date: &str, region: &str) -> [u8; 32] {
    let start = format!("AWS4{secret}").into_bytes();
    [date, region, "s3", "aws4_request"]
        .iter()
        .fold(start, |key, text| {
            sign(&mac(&key), text.as_bytes()).to_vec()
        })
        .try_into()
        .unwrap()
}

pub(crate) fn example_time() -> Timestamp {
    parse_basic("20130524T000000Z").unwrap()
}

fn authorization(signed_headers: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={signed_headers},Signature={signature}"
    )
}

pub(crate) fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// A request of the published examples, with their host and date.
pub(crate) fn example(
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    signed_headers: &str,
    signature: &str,
) -> Parts {
    let host = if uri.starts_with("/examplebucket/") {
        "s3.amazonaws.com"
    } else {
        "examplebucket.s3.amazonaws.com"
    };
    let authorization = authorization(signed_headers, signature);
    let mut all = vec![("host", host), ("authorization", &authorization)];
    if !headers.iter().any(|(name, _)| *name == "date") {
        all.push(("x-amz-date", "20130524T000000Z"));
    }
    all.extend(headers);
    request(method, uri, &all)
}

pub(crate) fn verify(parts: &Parts) -> Result<Chain> {
    verify_by(parts, RULES, example_time())
}

fn verify_by(parts: &Parts, rules: Rules<'_>, now: Timestamp) -> Result<Chain> {
    let query = Query::parse(parts.uri.query())?;
    let hash = parts.headers["x-amz-content-sha256"].to_str().unwrap();
    let authorization = Authorization::of(&parts.headers)?;
    let claim = Claim::of(authorization, parts, &query, hash, rules, now)?;
    claim.verify(&example_key(), &parts.headers, rules)
}

fn get_object_example() -> Parts {
    example(
        "GET",
        "/test.txt",
        &[("range", "bytes=0-9"), ("x-amz-content-sha256", EMPTY)],
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    )
}

fn kind(result: Result<Chain>) -> ErrorKind {
    result.err().expect("must be refused").kind()
}

#[test]
fn published_get_object() {
    assert!(verify(&get_object_example()).is_ok());
}

#[test]
fn published_put_object() {
    let parts = example(
        "PUT",
        "/test$file.text",
        &[
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-date", "20130524T000000Z"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            (
                "x-amz-content-sha256",
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
            ),
        ],
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    assert!(verify(&parts).is_ok());
}

#[test]
fn published_get_bucket_lifecycle() {
    let parts = example(
        "GET",
        "/?lifecycle",
        &[("x-amz-content-sha256", EMPTY)],
        "host;x-amz-content-sha256;x-amz-date",
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    );
    assert!(verify(&parts).is_ok());
}

#[test]
fn published_list_objects() {
    for uri in ["/?max-keys=2&prefix=J", "/?prefix=J&max-keys=2"] {
        let parts = example(
            "GET",
            uri,
            &[("x-amz-content-sha256", EMPTY)],
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        );
        assert!(verify(&parts).is_ok(), "{uri}");
    }
}

#[test]
fn the_authorization_header_is_parsed_in_any_order() {
    let text = "AWS4-HMAC-SHA256 Signature=".to_owned()
        + EMPTY
        + " , SignedHeaders=Host;range,  Credential=a/b/20130524/r/s3/aws4_request";
    let parsed = Authorization::parse(&text).unwrap();
    assert_eq!(parsed.access_key_id, "a/b");
    assert_eq!(parsed.scope(), "20130524/r/s3/aws4_request");
    assert_eq!(parsed.signed_headers, ["host", "range"]);
}

#[test]
fn malformed_authorization_headers_are_refused() {
    use ErrorKind::*;
    let good = authorization("host", EMPTY);
    let refused = [
        ("AWS AKID:c2ln".to_owned(), InvalidRequest),
        (
            "AWS4-ECDSA-P256-SHA256 Credential=x".to_owned(),
            InvalidRequest,
        ),
        ("Basic abc".to_owned(), InvalidArgument),
        (String::new(), InvalidArgument),
        ("AWS4-HMAC-SHA256".to_owned(), AuthorizationHeaderMalformed),
        (
            good.replace("Credential=", "Cred="),
            AuthorizationHeaderMalformed,
        ),
        (
            good.replace(",Signature", ",SignedHeaders=host,Signature"),
            AuthorizationHeaderMalformed,
        ),
        (good.replace("/s3/", "/iam/"), AuthorizationHeaderMalformed),
        (
            good.replace("aws4_request", "aws5_request"),
            AuthorizationHeaderMalformed,
        ),
        (
            good.replace("20130524", "2013-5-24"),
            AuthorizationHeaderMalformed,
        ),
        (
            good.replace(EMPTY, &EMPTY[1..]),
            AuthorizationHeaderMalformed,
        ),
        (
            good.replace("AKIAIOSFODNN7EXAMPLE/", ""),
            AuthorizationHeaderMalformed,
        ),
    ];
    for (text, expected) in refused {
        assert_eq!(
            Authorization::parse(&text).expect_err(&text).kind(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn anything_changed_after_signing_is_refused() {
    let changes: [fn(&mut Parts); 5] = [
        |parts| parts.method = http::Method::PUT,
        |parts| parts.uri = "/test.txt?a".parse().unwrap(),
        |parts| parts.uri = "//test.txt".parse().unwrap(),
        |parts| {
            parts
                .headers
                .insert("range", "bytes=0-8".parse().unwrap())
                .map_or((), drop)
        },
        |parts| {
            parts
                .headers
                .insert("host", "other".parse().unwrap())
                .map_or((), drop)
        },
    ];
    for change in changes {
        let mut parts = get_object_example();
        change(&mut parts);
        assert_eq!(kind(verify(&parts)), ErrorKind::SignatureDoesNotMatch);
    }
}

#[test]
fn unsigned_amz_headers_and_host_are_refused() {
    let mut parts = get_object_example();
    parts
        .headers
        .insert("x-amz-acl", "private".parse().unwrap());
    assert_eq!(kind(verify(&parts)), ErrorKind::AccessDenied);

    let mut parts = get_object_example();
    let unsigned = authorization("range;x-amz-date", EMPTY);
    parts
        .headers
        .insert("authorization", unsigned.parse().unwrap());
    assert_eq!(kind(verify(&parts)), ErrorKind::AccessDenied);
}

#[test]
fn clocks_may_differ_by_fifteen_minutes() {
    let parts = get_object_example();
    for (seconds, is_accepted) in [(900, true), (-900, true), (901, false), (-901, false)] {
        let now = example_time() + jiff::SignedDuration::from_secs(seconds);
        let result = verify_by(&parts, RULES, now);
        match result {
            Ok(_) => assert!(is_accepted, "{seconds}"),
            Err(error) => {
                assert!(!is_accepted, "{seconds}");
                assert_eq!(error.kind(), ErrorKind::RequestTimeTooSkewed);
            }
        }
    }
}

#[test]
fn dates_must_be_there_and_fit_the_scope() {
    let mut parts = get_object_example();
    parts
        .headers
        .insert("x-amz-date", "20130523T235900Z".parse().unwrap());
    assert_eq!(
        kind(verify(&parts)),
        ErrorKind::AuthorizationHeaderMalformed
    );
    for bad in [
        "",
        "20130524T000000",
        "20131324T000000Z",
        "2013052éT00000Z",
        "+0130524T000000Z",
    ] {
        let value = http::HeaderValue::from_bytes(bad.as_bytes()).unwrap();
        parts.headers.insert("x-amz-date", value);
        assert_eq!(kind(verify(&parts)), ErrorKind::AccessDenied, "{bad}");
    }
    parts.headers.remove("x-amz-date");
    assert_eq!(kind(verify(&parts)), ErrorKind::AccessDenied);
}

#[test]
fn a_configured_region_must_match() {
    let rules = Rules {
        region: Some("eu-west-1"),
        debug_signatures: false,
    };
    let error = verify_by(&get_object_example(), rules, example_time())
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::AuthorizationHeaderMalformed);
    assert!(
        error.message().contains("expecting 'eu-west-1'"),
        "{}",
        error.message()
    );
    let rules = Rules {
        region: Some("us-east-1"),
        ..rules
    };
    assert!(verify_by(&get_object_example(), rules, example_time()).is_ok());
}

#[test]
fn requests_without_credentials_are_refused() {
    let mut parts = get_object_example();
    parts.headers.remove("authorization");
    assert_eq!(kind(verify(&parts)), ErrorKind::AccessDenied);
}

#[test]
fn a_rewritten_host_is_hinted_at() {
    let cases: [(&[(&str, &str)], bool); 5] = [
        (&[("host", "jay.example")], false),
        (
            &[("host", "jay.example"), ("x-forwarded-host", "s3.example")],
            true,
        ),
        (
            &[("host", "10.0.0.1:9000"), ("x-forwarded-for", "192.0.2.1")],
            true,
        ),
        (&[("host", "[::1]:9000"), ("via", "1.1 proxy")], true),
        (&[("host", "127.0.0.1:9000")], false),
    ];
    for (headers, is_hinted) in cases {
        let parts = request("GET", "/", headers);
        assert_eq!(
            rewritten_host(&parts.headers).is_some(),
            is_hinted,
            "{headers:?}"
        );
    }
}

#[test]
fn header_values_are_trimmed_and_joined() {
    let headers = [
        ("host", "h"),
        ("x-amz-meta-a", "  a   b "),
        ("x-amz-meta-a", "c"),
    ];
    let parts = request("GET", "/a%2fb/%7e/../x+y", &headers);
    let signed = ["host".to_owned(), "x-amz-meta-a".to_owned()];
    let canonical = canonical_request(&parts, &Query::default(), &signed, "HASH").unwrap();
    assert_eq!(
        String::from_utf8(canonical).unwrap(),
        "GET\n/a/b/~/../x%2By\n\nhost:h\nx-amz-meta-a:a b,c\n\nhost;x-amz-meta-a\nHASH"
    );
}

proptest! {
    #[test]
    fn hostile_headers_never_panic(text in any::<String>()) {
        let _ = Authorization::parse(&text);
        let _ = Authorization::parse(&format!("AWS4-HMAC-SHA256 {text}"));
        let _ = Authorization::parse(&format!(
            "AWS4-HMAC-SHA256 Credential={text},SignedHeaders={text},Signature={EMPTY}"
        ));
        let _ = parse_basic(&text);
        let _ = is_inner(&text);
    }

    #[test]
    fn hostile_dates_never_panic(text in "[0-9TZ+-]{16}") {
        let _ = parse_basic(&text);
    }
}

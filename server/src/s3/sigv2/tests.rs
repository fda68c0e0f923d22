//! The published examples, URLs of boto3, and what must be refused.

use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use proptest::prelude::*;
use sha1::Sha1;

use super::*;
use crate::s3::{
    router::{self, route},
    sigv4::tests::request,
};

/// Of the published examples.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn text_of(parts: &Parts, expires: &str) -> Result<String> {
    let query = Query::parse(parts.uri.query())?;
    let headers = presigned::merge(&parts.headers, &query, is_header)?;
    let domains = ["s3.amazonaws.com", "jay.test:9000"].map(str::to_owned);
    let text = string_to_sign(parts, &headers, expires, &domains)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn sign(secret: &str, text: &str) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    BASE64_STANDARD.encode(mac.chain_update(text).finalize().into_bytes())
}

/// "Query string request authentication alternative", its example.
#[test]
fn published_get() {
    let uri = "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE\
               &Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620";
    let parts = request("GET", uri, &[("host", "johnsmith.s3.amazonaws.com")]);
    let query = Query::parse(parts.uri.query()).unwrap();
    let [_, expires, signature] = parameters(&query).unwrap();
    let text = text_of(&parts, expires).unwrap();
    assert_eq!(text, "GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg");
    assert_eq!(sign(SECRET, &text), signature);
}

/// The example "Upload": of the header, where the date is in the place of `Expires`.
#[test]
fn published_upload() {
    let headers = [
        ("host", "s3.amazonaws.com"),
        ("x-amz-acl", "public-read"),
        ("content-type", "application/x-download"),
        ("Content-MD5", "4gJE4saaMU4BqNR0kLY+lw=="),
        ("X-Amz-Meta-ReviewedBy", "joe@johnsmith.net"),
        ("X-Amz-Meta-ReviewedBy", " jane@johnsmith.net "),
        ("X-Amz-Meta-FileChecksum", "0x02661779"),
        ("X-Amz-Meta-ChecksumAlgorithm", "crc32"),
        ("Content-Encoding", "gzip"),
    ];
    let parts = request("PUT", "/static.johnsmith.net/db-backup.dat.gz", &headers);
    let text = text_of(&parts, "Tue, 27 Mar 2007 21:06:08 +0000").unwrap();
    assert_eq!(
        sign(SECRET, &text),
        "ilyl83RwaSoYIEdixDQcA4OnAnc=",
        "{text}"
    );
}

/// What boto3 1.43.11 makes for the access key `AK` with the secret `SK`, whichever way the bucket is named.
#[test]
fn urls_of_boto3() {
    const KEY: &str = "/a%20dir/%C3%BC%2B%2520%20%281%29~%2A.txt";
    for (method, key, query, signature) in [
        ("GET", KEY, "", "2lwXXBxLPe0s8wBVhc5jeb2SfEg="),
        (
            "PUT",
            KEY,
            "content-type=text%2Fx&x-amz-meta-color=blue%20green&content-md5=abc%3D",
            "IZI8XlFc+0u4MgVdeKmncrGabJs=",
        ),
        (
            "GET",
            "",
            "list-type=2&prefix=a%20b%2F&encoding-type=url",
            "VPv4twxgfPM3O1gF4t8nYgqEXMU=",
        ),
        ("GET", KEY, "tagging", "OOukv+6N19YpJUpLmPnumfPESkY="),
        (
            "PUT",
            KEY,
            "uploadId=abc&partNumber=3",
            "ormZzgZ0KHhOVb4nW8THqLtkByI=",
        ),
        (
            "GET",
            KEY,
            "response-content-disposition=attachment%3B%20filename%3D%22a%2Bb%20c.txt%22\
             &response-content-type=text%2Fy&versionId=null",
            "MMAZ11mpZPel9sZT7rNyvIy3Zts=",
        ),
        ("POST", "", "delete", "L/5+5p7dTaqEmtCp5jLNeeMNziQ="),
        ("PUT", "", "", "F55FnWbSwyjL40Sh4lZZiQlOIXM="),
    ] {
        let slash = if key.is_empty() { "/" } else { "" };
        for (host, path) in [
            ("jay.test:9000", format!("/bucket{key}")),
            ("bucket.jay.test:9000", format!("{slash}{key}")),
        ] {
            let uri = format!("{path}?{query}&AWSAccessKeyId=AK&Signature=x&Expires=1795356652");
            let parts = request(method, &uri, &[("host", host)]);
            let text = text_of(&parts, "1795356652").unwrap();
            assert_eq!(sign("SK", &text), signature, "{text}");
        }
    }
    let parts = request("GET", "/?AWSAccessKeyId=AK", &[("host", "jay.test:9000")]);
    let text = text_of(&parts, "1795356652").unwrap();
    assert_eq!(sign("SK", &text), "Tlh6gJ2n6vUP8k0HT5ZxnS/ZeNY=");
}

#[test]
fn sub_resources_are_signed_as_they_came() {
    let resource = |query: &str| {
        let parts = request("GET", &format!("/b/k?{query}"), &[]);
        let text = text_of(&parts, "1").unwrap();
        text.strip_prefix("GET\n\n\n1\n").unwrap().to_owned()
    };
    assert_eq!(resource("prefix=p&x-id=GetObject"), "/b/k");
    assert_eq!(resource("uploads=&acl"), "/b/k?acl&uploads=");
    assert_eq!(
        resource("versionId=a%26b&response-expires=x+y&uploadId=2&uploadId=1"),
        "/b/k?response-expires=x y&uploadId=2&uploadId=1&versionId=a&b"
    );
}

/// Else who has a URL could make it another operation.
#[test]
fn what_is_served_is_signed() {
    let target = |key: Option<&str>| Target {
        bucket: Some("b".into()),
        key: key.map(str::to_owned),
    };
    let unsigned = router::SUB_RESOURCES
        .iter()
        .filter(|name| !SUB_RESOURCES.contains(name));
    for name in unsigned {
        let query = Query::parse(Some(name)).unwrap();
        for method in [
            Method::GET,
            Method::HEAD,
            Method::PUT,
            Method::POST,
            Method::DELETE,
        ] {
            for target in [target(None), target(Some("k"))] {
                let error = route(&method, &target, &query, &HeaderMap::new()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::NotImplemented, "{method} {name}");
            }
        }
    }
}

#[test]
fn parameters_are_there_once() {
    let good = "AWSAccessKeyId=AK&Expires=1&Signature=s";
    assert!(parameters(&Query::parse(Some(good)).unwrap()).is_ok());
    for part in good.split('&') {
        let without: Vec<_> = good.split('&').filter(|other| *other != part).collect();
        for bad in [without.join("&"), format!("{good}&{part}")] {
            let query = Query::parse(Some(&bad)).unwrap();
            let error = parameters(&query).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AccessDenied, "{bad}");
        }
    }
}

#[test]
fn a_url_holds_through_its_second_and_a_week_ahead() {
    let now = Timestamp::from_second(1_795_356_652).unwrap();
    let message = |expires: &str| {
        must_hold(expires, now)
            .err()
            .map(|e| e.message().to_owned())
    };
    let furthest = 1_795_356_652 + EXPIRES_SECONDS_MAX + SKEW_SECONDS_MAX;
    assert_eq!(message("1795356652"), None);
    assert_eq!(message(&furthest.to_string()), None);
    assert_eq!(message("1795356651").unwrap(), "Request has expired");
    for expires in [(furthest + 1).to_string(), "9".repeat(40)] {
        assert!(message(&expires).unwrap().contains("604800 seconds"));
    }
    for expires in ["", "x", "-1", "+1795356652", "1795356652 ", "1e10"] {
        assert!(
            message(expires).unwrap().starts_with("Invalid date"),
            "{expires}"
        );
    }
}

#[test]
fn headers_in_the_query_are_headers() {
    let merged = |query: &str, headers: &[(&str, &str)]| {
        let parts = request("PUT", &format!("/b/k?{query}"), headers);
        with_hoisted(&parts.headers, &Query::parse(Some(query)).unwrap())
    };
    let query = "X-Amz-Acl=private&content-type=text%2Fx&Content-MD5=a&cache-control=b\
                 &x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32";
    let headers = merged(query, &[("content-type", "text/x")]).unwrap();
    let mut pairs: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    pairs.sort_unstable();
    let expected = [
        ("content-md5", "a"),
        ("content-type", "text/x"),
        ("x-amz-acl", "private"),
        ("x-amz-checksum-crc32", "AAAAAA=="),
    ];
    assert_eq!(pairs, expected);
    let error = merged(query, &[("content-type", "text/y")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

proptest! {
    #[test]
    fn hostile_requests_never_panic(
        query in "[a-zA-Z0-9%&=+*.-]{0,40}", path in "(/[a-z%0-9.]{0,5}){0,3}", expires in "[0-9x+-]{0,24}",
    ) {
        let query = format!("{query}&acl&Signature&Expires&AWSAccessKeyId");
        if let Ok(parts) = http::Request::get(format!("/{path}?{query}")).body(()) {
            let parts = parts.into_parts().0;
            let _ = text_of(&parts, &expires);
            let _ = Query::parse(Some(&query)).map(|query| parameters(&query).map(|_| ()));
        }
        let _ = must_hold(&expires, Timestamp::UNIX_EPOCH);
    }
}

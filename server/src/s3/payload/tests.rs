//! Bodies that are announced, framed, cut short or left unread.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http_body_util::Full;
use hyper::body::Frame;

use super::*;
use crate::s3::sigv4::tests as sigv4;

type Pairs<'a> = &'a [(&'static str, &'a str)];

fn headers(pairs: Pairs<'_>) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

fn chain() -> Chain {
    let parts = sigv4::example(
        "GET",
        "/test.txt",
        &[
            ("range", "bytes=0-9"),
            ("x-amz-content-sha256", sigv4::EMPTY),
        ],
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    sigv4::verify(&parts).unwrap()
}

async fn read(pairs: Pairs<'_>, body: &'static str) -> Result<String> {
    let headers = headers(pairs);
    let mut incoming = Incoming::new(&headers, Full::new(Bytes::from(body)));
    let (hash, _) = ContentHash::of(&headers)?;
    let mut payload = Payload::new(&headers, &mut incoming, hash, Some(chain()))?;
    payload.size()?;
    let mut content = Vec::new();
    while let Some(bytes) = payload.next().await? {
        content.extend_from_slice(&bytes);
    }
    Ok(String::from_utf8(content).unwrap())
}

const UNSIGNED: (&str, &str) = ("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
const TRAILER: (&str, &str) = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");

#[test]
fn content_hashes_are_read() {
    let of = |value| ContentHash::of(&headers(&[("x-amz-content-sha256", value)])).map(|h| h.0);
    assert!(matches!(of(sigv4::EMPTY), Ok(ContentHash::Sha256(_))));
    assert_eq!(of("UNSIGNED-PAYLOAD").unwrap(), ContentHash::Unsigned);
    for (value, is_signed, has_trailers) in [
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", true, false),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", true, true),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", false, true),
    ] {
        assert_eq!(
            of(value).unwrap(),
            ContentHash::Chunked {
                is_signed,
                has_trailers
            }
        );
    }
    for bad in ["", "abc", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"] {
        assert_eq!(
            of(bad).unwrap_err().kind(),
            ErrorKind::InvalidArgument,
            "{bad}"
        );
    }
    let missing = ContentHash::of(&HeaderMap::new()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn plain_bodies_need_their_length() {
    let whole = read(&[UNSIGNED, ("content-length", "5")], "hello").await;
    assert_eq!(whole.unwrap(), "hello");
    let short = read(&[UNSIGNED, ("content-length", "6")], "hello").await;
    assert_eq!(short.unwrap_err().kind(), ErrorKind::IncompleteBody);
    let unknown = read(&[UNSIGNED], "hello").await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::MissingContentLength);
    let large = read(&[UNSIGNED, ("content-length", "5368709121")], "").await;
    assert_eq!(large.unwrap_err().kind(), ErrorKind::EntityTooLarge);
}

#[tokio::test]
async fn chunked_bodies_need_their_decoded_length() {
    const BODY: &str = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let trailer = ("x-amz-trailer", "x-amz-checksum-crc32");
    let length = |text| ("x-amz-decoded-content-length", text);
    let whole = read(&[TRAILER, trailer, length("5")], BODY).await;
    assert_eq!(whole.unwrap(), "hello");
    for (pairs, expected) in [
        (vec![TRAILER, trailer], ErrorKind::MissingContentLength),
        (
            vec![TRAILER, trailer, length("-5")],
            ErrorKind::InvalidArgument,
        ),
        (
            vec![TRAILER, trailer, length("+5")],
            ErrorKind::InvalidArgument,
        ),
        (
            vec![TRAILER, trailer, length("6")],
            ErrorKind::IncompleteBody,
        ),
        (
            vec![TRAILER, trailer, length("4")],
            ErrorKind::InvalidRequest,
        ),
        (
            vec![TRAILER, trailer, length("5368709121")],
            ErrorKind::EntityTooLarge,
        ),
        (vec![TRAILER, length("5")], ErrorKind::MalformedTrailerError),
        (
            vec![UNSIGNED, trailer, length("5")],
            ErrorKind::InvalidRequest,
        ),
    ] {
        assert_eq!(
            read(&pairs, BODY).await.unwrap_err().kind(),
            expected,
            "{pairs:?}"
        );
    }
}

#[tokio::test]
async fn xml_bodies_are_held_against_their_digests() {
    let cases: [(Pairs<'_>, Option<ErrorKind>); 4] = [
        (
            &[UNSIGNED, ("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")],
            None,
        ),
        (
            &[UNSIGNED, ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==")],
            Some(ErrorKind::BadDigest),
        ),
        (
            &[UNSIGNED, ("x-amz-checksum-crc32", "AAAAAA==")],
            Some(ErrorKind::BadDigest),
        ),
        (
            &[("x-amz-content-sha256", sigv4::EMPTY)],
            Some(ErrorKind::XAmzContentSHA256Mismatch),
        ),
    ];
    for (pairs, expected) in cases {
        let headers = headers(pairs);
        let mut incoming = Incoming::new(&headers, Full::new(Bytes::from("123456789")));
        let hash = ContentHash::of(&headers).unwrap().0;
        let payload = Payload::new(&headers, &mut incoming, hash, Some(chain())).unwrap();
        let result = payload.gather(&headers).await;
        assert_eq!(
            result.err().map(|error| error.kind()),
            expected,
            "{pairs:?}"
        );
    }
}

#[tokio::test]
async fn xml_bodies_are_bounded() {
    let headers = headers(&[UNSIGNED]);
    let body = Full::new(Bytes::from(vec![b' '; XML_BYTES_MAX + 1]));
    let mut incoming = Incoming::new(&headers, body);
    let payload = Payload::new(
        &headers,
        &mut incoming,
        ContentHash::Unsigned,
        Some(chain()),
    );
    let error = payload.unwrap().gather(&headers).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedXML);
}

/// `JAY_REQUEST_BYTES_MAX`.
#[tokio::test]
async fn no_more_is_taken_than_is_allowed() {
    let limited = |announced: &'static str, body: &'static str| {
        let headers = headers(&[UNSIGNED, ("content-length", announced)]);
        Incoming::new(&headers, Full::new(Bytes::from(body))).limited(Some(4))
    };
    assert!(limited("4", "four").must_fit().is_ok());
    let error = limited("5", "fiver").must_fit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EntityTooLarge);
    let mut fits = limited("4", "four");
    assert_eq!(fits.next().await.unwrap().unwrap(), "four");
    // Whatever was announced.
    let mut hidden = limited("-", "fiver");
    assert!(hidden.must_fit().is_ok());
    let error = hidden.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EntityTooLarge);
    assert!(!hidden.settle().await, "the connection stays open");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_an_incomplete_body() {
    let frames = [Ok(Frame::data(Bytes::from("hel"))), Err("gone")];
    let body = Frames(VecDeque::from(frames));
    let headers = headers(&[UNSIGNED, ("content-length", "5")]);
    let mut incoming = Incoming::new(&headers, body);
    assert_eq!(incoming.next().await.unwrap().unwrap(), "hel");
    let error = incoming.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IncompleteBody);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stands_still_times_out() {
    let headers = headers(&[UNSIGNED, ("content-length", "5")]);
    let mut incoming = Incoming::new(&headers, Stalled);
    let error = incoming.next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestTimeout);
    assert!(!incoming.settle().await);
}

/// botocore sends `Expect: 100-continue` with empty bodies too, for which hyper answers at once. botocore
/// then keeps the status of that answer for the next request with `Expect` on the same connection,
/// and waits for a body without end. So such a connection must not be used again.
#[tokio::test]
async fn an_answer_without_100_continue_ends_the_connection() {
    let headers = headers(&[("content-length", "0"), ("expect", "100-continue")]);
    let mut incoming = Incoming::new(&headers, Full::new(Bytes::new()));
    assert_eq!(incoming.next().await.unwrap(), None);
    assert!(!incoming.settle().await);
}

#[tokio::test]
async fn small_rests_are_read_and_large_ones_cut() {
    let rest = |bytes: usize, expects: bool| {
        let length = bytes.to_string();
        let mut pairs = vec![("content-length", length.as_str())];
        if expects {
            pairs.push(("expect", "100-continue"));
        }
        Incoming::new(&headers(&pairs), Full::new(Bytes::from(vec![0; bytes])))
    };
    assert!(rest(0, false).settle().await);
    assert!(rest(1000, false).settle().await);
    assert!(!rest(1000, true).settle().await);
    assert!(!rest(1 << 20, false).settle().await);
}

struct Frames(VecDeque<Result<Frame<Bytes>, &'static str>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(self.0.pop_front())
    }
}

struct Stalled;

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

//! The body of a request: how it is announced, how it is read, and what is done with what is left of it.
//!
//! [`Incoming`] wraps the socket's body and counts; [`Payload`] yields the content inside it, decoded and
//! held against what was announced. Neither touches the socket before it is asked for content, so that
//! `Expect: 100-continue` is answered only after all checks that need no body.

use std::{error, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body;
use jay_engine::{Checksum, ErrorKind, PUT_BYTES_MAX};
use tokio::time;

use super::{
    checksum::{self, Announced},
    chunked::{Decoder, Trailers},
    error::{Error, Result},
    sigv4::Chain,
    uri,
    xml::XML_BYTES_MAX,
};

/// How long a body may stand still.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest rest of a body that is read after a refusal, to keep the connection.
const DRAIN_BYTES_MAX: u64 = 64 << 10;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What `x-amz-content-sha256` says of the body.
///
/// Source: S3 API, "Authenticating Requests: Using the Authorization Header".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentHash {
    /// The SHA-256 of the whole body.
    Sha256([u8; 32]),
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
    /// `STREAMING-…`: aws-chunked.
    Chunked {
        /// Whether each chunk is signed.
        is_signed: bool,
        /// Whether trailers follow.
        has_trailers: bool,
    },
}

impl ContentHash {
    /// Reads the header; answers its text too, which is part of what is signed.
    pub(crate) fn of(headers: &HeaderMap) -> Result<(Self, &str)> {
        let value = headers.get("x-amz-content-sha256").ok_or_else(|| {
            invalid_request("Missing required header for this request: x-amz-content-sha256.")
        })?;
        let text = value.to_str().unwrap_or_default();
        let hash = match text {
            "UNSIGNED-PAYLOAD" => Self::Unsigned,
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => Self::Chunked {
                is_signed: true,
                has_trailers: false,
            },
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => Self::Chunked {
                is_signed: true,
                has_trailers: true,
            },
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Self::Chunked {
                is_signed: false,
                has_trailers: true,
            },
            hex => Self::Sha256(uri::decode_hex(hex).ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidArgument,
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, \
                     STREAMING-AWS4-HMAC-SHA256-PAYLOAD, \
                     STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, \
                     STREAMING-UNSIGNED-PAYLOAD-TRAILER, or a SHA-256 in hexadecimal.",
                )
            })?),
        };
        Ok((hash, text))
    }
}

/// The body of a request as the socket gives it.
pub(crate) struct Incoming<B> {
    body: B,
    /// `Content-Length`.
    announced_bytes: Option<u64>,
    received_bytes: u64,
    is_awaited: bool,
    has_begun: bool,
    has_ended: bool,
}

impl<B> Incoming<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn error::Error + Send + Sync>>,
{
    /// Wraps a body; nothing is read.
    pub(crate) fn new(headers: &HeaderMap, body: B) -> Self {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        Self {
            announced_bytes: announced.and_then(|text| text.parse().ok()),
            received_bytes: 0,
            is_awaited: headers.contains_key(header::EXPECT),
            has_begun: false,
            has_ended: body.is_end_stream(),
            body,
        }
    }

    /// Bytes received so far, framing included.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.has_begun = true;
        loop {
            let frame = match time::timeout(BODY_IDLE_TIMEOUT, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(cause))) => {
                    let cause = cause.into();
                    tracing::debug!(%cause, "the body of a request broke off");
                    self.has_ended = true;
                    return Err(incomplete());
                }
                Ok(None) => {
                    self.has_ended = true;
                    let is_short = self
                        .announced_bytes
                        .is_some_and(|bytes| self.received_bytes < bytes);
                    return if is_short {
                        Err(incomplete())
                    } else {
                        Ok(None)
                    };
                }
                Err(_) => {
                    return Err(Error::new(
                        ErrorKind::RequestTimeout,
                        "Your socket connection to the server was not written to within the \
                         timeout period. Idle connections will be closed.",
                    ));
                }
            };
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                self.received_bytes += data.len() as u64;
                return Ok(Some(data));
            }
        }
    }

    /// Reads what is left after a refusal if it is small; answers whether the connection can serve another
    /// request. Otherwise it is cut, which costs less than to read a body without bound.
    pub(crate) async fn settle(&mut self) -> bool {
        if self.has_ended {
            return true;
        }
        let left = self
            .announced_bytes
            .map(|bytes| bytes.saturating_sub(self.received_bytes));
        let is_small = left.is_some_and(|left| left <= DRAIN_BYTES_MAX);
        // Reading would invite a client that waits for `100 Continue` to send the body.
        if !is_small || (self.is_awaited && !self.has_begun) {
            return false;
        }
        let drain = async {
            while let Ok(Some(_)) = self.next().await {}
            self.has_ended
        };
        time::timeout(DRAIN_TIMEOUT, drain).await.unwrap_or(false)
    }
}

/// The content of a request, to be read once.
pub(crate) struct Payload<'a, B> {
    incoming: &'a mut Incoming<B>,
    hash: ContentHash,
    framing: Framing,
    /// What the headers say of its checksum.
    announced: Announced,
    trailer: Option<Checksum>,
}

enum Framing {
    Plain,
    Chunked {
        decoder: Box<Decoder>,
        input: Bytes,
        decoded_bytes: u64,
    },
}

impl<'a, B> Payload<'a, B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn error::Error + Send + Sync>>,
{
    /// Reads what the headers announce; `chain` goes on from the verified signature of the headers.
    pub(crate) fn new(
        headers: &HeaderMap,
        incoming: &'a mut Incoming<B>,
        hash: ContentHash,
        chain: Chain,
    ) -> Result<Self> {
        let announced = Announced::of(headers)?;
        let framing = match hash {
            ContentHash::Chunked {
                is_signed,
                has_trailers,
            } => {
                let decoded_bytes = decoded_bytes(headers)?;
                let trailers = match (has_trailers, announced.trailer) {
                    (true, trailer) => Trailers::expected(trailer),
                    (false, None) => Trailers::None,
                    (false, Some(_)) => return Err(no_trailers()),
                };
                let chain = is_signed.then_some(chain);
                let decoder = Box::new(Decoder::new(decoded_bytes, chain, trailers));
                Framing::Chunked {
                    decoder,
                    input: Bytes::new(),
                    decoded_bytes,
                }
            }
            _ if announced.trailer.is_some() => return Err(no_trailers()),
            _ => Framing::Plain,
        };
        Ok(Self {
            incoming,
            hash,
            framing,
            announced,
            trailer: None,
        })
    }

    /// The SHA-256 that the content must have.
    pub(crate) fn sha256(&self) -> Option<[u8; 32]> {
        match self.hash {
            ContentHash::Sha256(sha256) => Some(sha256),
            _ => None,
        }
    }

    /// What the headers say of the checksum.
    pub(crate) fn announced(&self) -> &Announced {
        &self.announced
    }

    /// The size of the content, which must be known beforehand and fit one PUT.
    pub(crate) fn size(&self) -> Result<u64> {
        let size = match &self.framing {
            Framing::Chunked { decoded_bytes, .. } => Some(*decoded_bytes),
            Framing::Plain => self.incoming.announced_bytes,
        };
        let size = size.ok_or_else(|| {
            Error::new(
                ErrorKind::MissingContentLength,
                "You must provide the Content-Length HTTP header.",
            )
        })?;
        if size > PUT_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::EntityTooLarge,
                format!(
                    "Your proposed upload exceeds the maximum allowed size: {size} bytes of at most \
                     {PUT_BYTES_MAX}."
                ),
            ));
        }
        Ok(size)
    }

    /// The next piece of content; `None` when the body has ended as it should.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let Framing::Chunked { decoder, input, .. } = &mut self.framing else {
            return self.incoming.next().await;
        };
        loop {
            if let Some(content) = decoder.next(input)? {
                return Ok(Some(content));
            }
            match self.incoming.next().await? {
                Some(bytes) => *input = bytes,
                None => {
                    self.trailer = decoder.finish()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The checksum that came behind the content, once `next` has answered `None`.
    pub(crate) fn trailer(self) -> Option<Checksum> {
        self.trailer
    }

    /// All of an XML body, bounded and held against every digest that came with it.
    pub(crate) async fn xml(mut self, headers: &HeaderMap) -> Result<Bytes> {
        let too_long = || {
            let message =
                format!("Your request was too big: the XML has at most {XML_BYTES_MAX} bytes.");
            Error::new(ErrorKind::MalformedXML, message)
        };
        let md5 = checksum::content_md5(headers)?;
        if self
            .incoming
            .announced_bytes
            .is_some_and(|bytes| bytes > XML_BYTES_MAX as u64)
        {
            return Err(too_long());
        }
        let mut document = BytesMut::new();
        while let Some(content) = self.next().await? {
            if document.len() + content.len() > XML_BYTES_MAX {
                return Err(too_long());
            }
            document.extend_from_slice(&content);
        }
        let checksum = self.announced.checksum.as_ref().or(self.trailer.as_ref());
        checksum::verify_small(&document, self.sha256(), md5, checksum)?;
        Ok(document.freeze())
    }
}

fn decoded_bytes(headers: &HeaderMap) -> Result<u64> {
    let value = headers.get("x-amz-decoded-content-length").ok_or_else(|| {
        Error::new(
            ErrorKind::MissingContentLength,
            "You must provide the x-amz-decoded-content-length HTTP header.",
        )
    })?;
    let text = value.to_str().unwrap_or_default();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(|| {
        let message = "The x-amz-decoded-content-length header is not a number of bytes.";
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

fn incomplete() -> Error {
    Error::new(
        ErrorKind::IncompleteBody,
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    )
}

fn no_trailers() -> Error {
    invalid_request("x-amz-trailer needs an x-amz-content-sha256 that ends in -TRAILER.")
}

fn invalid_request(message: &str) -> Error {
    Error::new(ErrorKind::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
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

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
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

    async fn read(pairs: &[(&'static str, &str)], body: &'static str) -> Result<String> {
        let headers = headers(pairs);
        let mut incoming = Incoming::new(&headers, Full::new(Bytes::from(body)));
        let (hash, _) = ContentHash::of(&headers)?;
        let mut payload = Payload::new(&headers, &mut incoming, hash, chain())?;
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
            (vec![TRAILER, length("5")], ErrorKind::InvalidRequest),
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
        let cases: [(&[(&'static str, &str)], Option<ErrorKind>); 4] = [
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
            let payload = Payload::new(&headers, &mut incoming, hash, chain()).unwrap();
            let result = payload.xml(&headers).await;
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
        let payload = Payload::new(&headers, &mut incoming, ContentHash::Unsigned, chain());
        let error = payload.unwrap().xml(&headers).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedXML);
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
}

//! The body of a request: how it is announced, how it is read, and what is done with what is left of it.
//!
//! [`Incoming`] wraps the socket's body and counts; [`Payload`] yields the content inside it, decoded and
//! held against what was announced. Neither touches the socket before it is asked for content, so that
//! `Expect: 100-continue` is answered only after all checks that need no body.

use std::{error, ops::Deref, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body;
use jay_engine::{Checksum, ErrorKind, Memory, PUT_BYTES_MAX};
use tokio::time;

use super::{
    Call,
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
    /// What stands for the hash of a body that is not signed.
    pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

    /// Reads the header; answers its text too, which is part of what is signed.
    pub(crate) fn of(headers: &HeaderMap) -> Result<(Self, &str)> {
        let value = headers.get("x-amz-content-sha256").ok_or_else(|| {
            invalid_request("Missing required header for this request: x-amz-content-sha256.")
        })?;
        let text = value.to_str().unwrap_or_default();
        Ok((Self::parse(text)?, text))
    }

    /// Reads the header of a request that may leave it out.
    pub(crate) fn optional(headers: &HeaderMap) -> Result<Self> {
        let value = headers.get("x-amz-content-sha256");
        value.map_or(Ok(Self::Unsigned), |value| {
            Self::parse(value.to_str().unwrap_or_default())
        })
    }

    /// Reads the text of the header.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            Self::UNSIGNED => Self::Unsigned,
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
        })
    }
}

/// What a socket gives as the body of a request.
pub(crate) trait RequestBody:
    Body<Data = Bytes, Error: Into<Box<dyn error::Error + Send + Sync>>> + Unpin
{
}

impl<B> RequestBody for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn error::Error + Send + Sync>>> + Unpin
{
}

/// The body of a request, counted as it is read.
pub(crate) struct Incoming<B> {
    body: B,
    /// `Content-Length`.
    announced_bytes: Option<u64>,
    received_bytes: u64,
    /// Whether the client waits for `100 Continue`.
    is_awaited: bool,
    /// Whether that was sent, which hyper does when a body that is not empty is first asked for.
    was_continued: bool,
    has_ended: bool,
    /// Most bytes that are taken.
    bytes_max: u64,
}

impl<B: RequestBody> Incoming<B> {
    /// Wraps a body; nothing is read.
    pub(crate) fn new(headers: &HeaderMap, body: B) -> Self {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        Self {
            announced_bytes: announced.and_then(|text| text.parse().ok()),
            received_bytes: 0,
            is_awaited: headers.contains_key(header::EXPECT),
            was_continued: false,
            has_ended: body.is_end_stream(),
            bytes_max: u64::MAX,
            body,
        }
    }

    /// The same body, of which no more than `bytes_max` are taken.
    pub(crate) fn limited(mut self, bytes_max: Option<u64>) -> Self {
        self.bytes_max = bytes_max.unwrap_or(u64::MAX);
        self
    }

    /// Refuses a body that is announced to be longer than it may be, before any of it has come.
    pub(crate) fn must_fit(&self) -> Result<()> {
        match self.announced_bytes {
            Some(bytes) if bytes > self.bytes_max => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    fn too_large(&self) -> Error {
        let message = format!(
            "A request may have at most {} bytes here; send the object in smaller parts.",
            self.bytes_max
        );
        Error::new(ErrorKind::EntityTooLarge, message)
            .with_detail("MaxSizeAllowed", self.bytes_max.to_string())
    }

    /// Bytes received so far, framing included.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.was_continued |= !self.has_ended;
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
                if self.received_bytes > self.bytes_max {
                    return Err(self.too_large());
                }
                return Ok(Some(data));
            }
        }
    }

    /// Reads what is left after a refusal if it is small; answers whether the connection can serve another
    /// request. Otherwise it is cut, which costs less than to read a body without bound.
    ///
    /// It is also cut when the client waited for `100 Continue` and got its answer at once: reading would
    /// invite the body, and botocore takes the next answer on that connection for the body of this one.
    pub(crate) async fn settle(&mut self) -> bool {
        if self.is_awaited && !self.was_continued {
            return false;
        }
        if self.has_ended {
            return true;
        }
        let left = self
            .announced_bytes
            .map(|bytes| bytes.saturating_sub(self.received_bytes));
        if left.is_none_or(|left| left > DRAIN_BYTES_MAX) {
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

impl<'a, B: RequestBody> Payload<'a, B> {
    /// Reads what the headers announce; `chain` goes on from the verified signature of the headers, if there
    /// is one.
    pub(crate) fn new(
        headers: &HeaderMap,
        incoming: &'a mut Incoming<B>,
        hash: ContentHash,
        chain: Option<Chain>,
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
                let chain = match is_signed {
                    true => Some(chain.ok_or_else(no_chain)?),
                    false => None,
                };
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

    /// Refuses a body where there is none: whoever sends one means something else.
    pub(crate) fn must_be_empty(&self) -> Result<()> {
        if self.incoming.has_ended {
            return Ok(());
        }
        Err(invalid_request(
            "A copy has no body: take the header x-amz-copy-source away to upload one.",
        ))
    }

    /// Takes the checksum of the headers, and of how many parts it is, as that of something else than the body.
    pub(crate) fn take_checksum(&mut self) -> (Option<Checksum>, Option<u16>) {
        (self.announced.checksum.take(), self.announced.parts.take())
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

    /// All of an XML body, in memory that was asked for.
    pub(crate) async fn xml(self, call: &Call<'_>) -> Result<Document> {
        let announced = self.incoming.announced_bytes;
        let bytes = announced.map_or(XML_BYTES_MAX, |bytes| (bytes as usize).min(XML_BYTES_MAX));
        let memory = call.engine.memory(bytes).await?;
        Ok(Document {
            bytes: self.gather(&call.parts.headers).await?,
            _memory: memory,
        })
    }

    /// All of a small body, bounded and held against every digest that came with it.
    async fn gather(mut self, headers: &HeaderMap) -> Result<Bytes> {
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
        let announced = self.announced.of_body()?;
        let checksum = announced.as_ref().or(self.trailer.as_ref());
        checksum::verify_small(&document, self.sha256(), md5, checksum)?;
        Ok(document.freeze())
    }
}

/// An XML body, and the memory that it takes.
pub(crate) struct Document {
    bytes: Bytes,
    _memory: Memory,
}

impl Deref for Document {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
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

fn no_chain() -> Error {
    invalid_request(
        "Signed chunks continue a signature of AWS4-HMAC-SHA256, which this request does not have: send \
         STREAMING-UNSIGNED-PAYLOAD-TRAILER, or no chunks.",
    )
}

fn no_trailers() -> Error {
    invalid_request("x-amz-trailer needs an x-amz-content-sha256 that ends in -TRAILER.")
}

fn invalid_request(message: &str) -> Error {
    Error::new(ErrorKind::InvalidRequest, message)
}

#[cfg(test)]
mod tests;

//! The `aws-chunked` decoder: chunks with and without signatures, and the trailers behind them.
//!
//! ```text
//! body     = *( chunk ) last-chunk ( CRLF / trailers )
//! chunk    = size [ ";chunk-signature=" 64HEXDIG ] CRLF size bytes CRLF
//! last     = "0" [ ";chunk-signature=" 64HEXDIG ] CRLF
//! trailers = *( name ":" value CRLF ) [ "x-amz-trailer-signature:" 64HEXDIG CRLF ] CRLF
//! ```
//!
//! A push parser: it is fed what the socket gives and hands out slices of it, so its memory does not grow
//! with the size of a chunk. Content is handed out before its chunk's signature is verified; whoever stores
//! it must do so only after [`Decoder::finish`] has agreed.
//!
//! Source: S3 API, "Transferring Payload in Multiple Chunks (Chunked Upload)" and "Including Trailing
//! Headers (Chunked Upload)".

use bytes::{Buf, Bytes};
use jay_engine::{Checksum, ChecksumAlgorithm, ErrorKind};
use sha2::{Digest, Sha256};

use super::{
    checksum,
    error::{Error, Result},
    sigv4::Chain,
    uri,
};

/// Longest line before a chunk, in bytes, its end included.
pub(crate) const CHUNK_HEADER_BYTES_MAX: usize = 256;
/// Most bytes of all trailers together.
pub(crate) const TRAILER_BYTES_MAX: usize = 2048;
/// Most hexadecimal digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 16;

/// Where in the body the decoder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the line before a chunk.
    Header,
    /// In a chunk, with this many bytes to come.
    Content(u64),
    /// In the line end behind a chunk's content.
    ContentEnd,
    /// In the trailers.
    Trailers,
    /// Behind the last line. A trailing empty line is let pass, which some clients send.
    Done,
}

/// Decodes one body.
pub(crate) struct Decoder {
    state: State,
    /// The line being collected; never over the limits above.
    line: Vec<u8>,
    /// Content still to come.
    left: u64,
    /// Verifies chunks and trailers, when they are signed.
    chain: Option<Chain>,
    /// The signature that the chunk's header claimed.
    signature: [u8; 32],
    hash: Sha256,
    /// Whether trailers may follow, and which checksum is announced for them.
    trailers: Trailers,
    trailer_bytes: usize,
    /// Whether an empty line was seen behind the end.
    has_extra_line: bool,
}

/// What follows the last chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trailers {
    /// Nothing.
    None,
    /// Trailers, among them the announced checksum.
    Some {
        /// The algorithm of the checksum in `x-amz-trailer`.
        announced: Option<ChecksumAlgorithm>,
        /// The checksum, once it has been read.
        checksum: Option<Checksum>,
        /// Whether their signature has been verified.
        is_verified: bool,
    },
}

impl Trailers {
    /// Trailers that are still to come.
    pub(crate) fn expected(announced: Option<ChecksumAlgorithm>) -> Self {
        Self::Some {
            announced,
            checksum: None,
            is_verified: false,
        }
    }
}

impl Decoder {
    /// A decoder of a body whose content has `decoded_bytes`; `chain` when its chunks are signed.
    pub(crate) fn new(decoded_bytes: u64, chain: Option<Chain>, trailers: Trailers) -> Self {
        Self {
            state: State::Header,
            line: Vec::new(),
            left: decoded_bytes,
            chain,
            signature: [0; 32],
            hash: Sha256::new(),
            trailers,
            trailer_bytes: 0,
            has_extra_line: false,
        }
    }

    /// Takes from the front of `input` and answers the next piece of content, or `None` when `input` is
    /// used up.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>> {
        while !input.is_empty() {
            match self.state {
                State::Header => {
                    if self.take_line(input, CHUNK_HEADER_BYTES_MAX)? {
                        self.begin_chunk()?;
                    }
                }
                State::Content(bytes) => {
                    let now = bytes.min(input.len() as u64);
                    let content = input.split_to(now as usize);
                    if self.chain.is_some() {
                        self.hash.update(&content);
                    }
                    self.left -= now;
                    self.state = match bytes - now {
                        0 => State::ContentEnd,
                        rest => State::Content(rest),
                    };
                    return Ok(Some(content));
                }
                State::ContentEnd => {
                    if self.take_line(input, CRLF.len())? {
                        self.must_be_empty_line()?;
                        self.verify_chunk()?;
                        self.state = State::Header;
                    }
                }
                State::Trailers => {
                    if self.take_line(input, TRAILER_BYTES_MAX - self.trailer_bytes)? {
                        self.trailer_bytes += self.line.len();
                        self.take_trailer()?;
                    }
                }
                State::Done => {
                    let may_follow = self.trailers != Trailers::None && !self.has_extra_line;
                    if !may_follow {
                        return Err(malformed("bytes follow its end"));
                    }
                    if self.take_line(input, CRLF.len())? {
                        self.must_be_empty_line()?;
                        self.has_extra_line = true;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Says that the body has ended; answers the checksum that came behind it.
    pub(crate) fn finish(&mut self) -> Result<Option<Checksum>> {
        if self.state != State::Done || !self.line.is_empty() {
            return Err(Error::new(
                ErrorKind::IncompleteBody,
                "The request body terminated unexpectedly: its last chunk is missing.",
            ));
        }
        match &mut self.trailers {
            Trailers::None => Ok(None),
            Trailers::Some { checksum, .. } => Ok(checksum.take()),
        }
    }

    /// Collects a line with its end into `self.line`; answers whether it is complete.
    fn take_line(&mut self, input: &mut Bytes, bytes_max: usize) -> Result<bool> {
        if self.line.last() == Some(&b'\n') {
            self.line.clear();
        }
        let end = input.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(input.len(), |end| end + 1);
        if self.line.len() + length > bytes_max {
            return Err(malformed("a line is too long"));
        }
        self.line.extend_from_slice(&input[..length]);
        input.advance(length);
        Ok(end.is_some())
    }

    fn must_be_empty_line(&mut self) -> Result<()> {
        if std::mem::take(&mut self.line) == CRLF {
            return Ok(());
        }
        Err(malformed("a chunk does not end in CRLF"))
    }

    fn begin_chunk(&mut self) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        let line = line
            .strip_suffix(CRLF)
            .ok_or_else(|| malformed("a line does not end in CRLF"))?;
        let line =
            std::str::from_utf8(line).map_err(|_| malformed("a chunk header is not ASCII"))?;
        let (size, extensions) = line.split_once(';').unwrap_or((line, ""));
        let is_hex = size.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !(1..=SIZE_DIGITS_MAX).contains(&size.len()) {
            return Err(malformed("a chunk size is not hexadecimal"));
        }
        let size = u64::from_str_radix(size, 16).map_err(|_| malformed("a chunk is too large"))?;
        if self.chain.is_some() {
            self.signature = extensions
                .strip_prefix("chunk-signature=")
                .and_then(uri::decode_hex)
                .ok_or_else(|| malformed("a chunk has no signature of 64 hexadecimal digits"))?;
        }
        if size > self.left {
            return Err(malformed(
                "its content is longer than x-amz-decoded-content-length",
            ));
        }
        if size > 0 {
            self.state = State::Content(size);
            return Ok(());
        }
        if self.left > 0 {
            return Err(Error::new(
                ErrorKind::IncompleteBody,
                "You did not provide the number of bytes specified by the \
                 x-amz-decoded-content-length header.",
            ));
        }
        // The last chunk has no content, so its signature can be held against it at once. Without trailers,
        // what follows is an empty line, which is read like trailers of which none is allowed.
        self.verify_chunk()?;
        self.state = State::Trailers;
        Ok(())
    }

    fn verify_chunk(&mut self) -> Result<()> {
        let Some(chain) = &mut self.chain else {
            return Ok(());
        };
        let hash = self.hash.finalize_reset();
        if chain.chunk(&hash, &self.signature) {
            return Ok(());
        }
        Err(mismatch("a chunk"))
    }

    fn take_trailer(&mut self) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        // Trailers are signed with LF as their line end, and some clients send them so.
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Trailers::Some {
            announced,
            checksum,
            is_verified,
        } = &mut self.trailers
        else {
            self.state = State::Done;
            return match line {
                b"" => Ok(()),
                _ => Err(malformed("trailers follow that were not announced")),
            };
        };
        if line.is_empty() {
            if checksum.is_none() && announced.is_some() {
                return Err(malformed_trailer("the announced checksum is missing"));
            }
            if self.chain.is_some() && !*is_verified {
                return Err(malformed_trailer("x-amz-trailer-signature is missing"));
            }
            self.state = State::Done;
            return Ok(());
        }
        if *is_verified {
            return Err(malformed_trailer(
                "a trailer follows x-amz-trailer-signature",
            ));
        }
        let line = std::str::from_utf8(line).map_err(|_| malformed_trailer("it is not UTF-8"))?;
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| malformed_trailer("a line has no colon"))?;
        let (name, value) = (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']));
        if name == "x-amz-trailer-signature" {
            let Some(chain) = &mut self.chain else {
                return Err(malformed_trailer("a signature follows unsigned chunks"));
            };
            let signature = uri::decode_hex(value)
                .ok_or_else(|| malformed_trailer("its signature is not 64 hexadecimal digits"))?;
            if !chain.trailer(&self.hash.finalize_reset(), &signature) {
                return Err(mismatch("the trailers"));
            }
            *is_verified = true;
            return Ok(());
        }
        let algorithm = announced
            .filter(|algorithm| checksum::header_name(*algorithm) == name.as_str())
            .ok_or_else(|| malformed_trailer("a trailer was not named in x-amz-trailer"))?;
        if checksum.is_some() {
            return Err(malformed_trailer("a trailer comes twice"));
        }
        *checksum = Some(checksum::parse(algorithm, value.as_bytes())?);
        self.hash.update(format!("{name}:{value}\n"));
        Ok(())
    }
}

const CRLF: &[u8] = b"\r\n";

fn malformed(why: &str) -> Error {
    let message = format!("The aws-chunked body is malformed: {why}.");
    Error::new(ErrorKind::InvalidRequest, message)
}

fn malformed_trailer(why: &str) -> Error {
    let message = format!(
        "The request contained trailing data that was not well-formed or did not conform to our \
         published schema: {why}."
    );
    Error::new(ErrorKind::MalformedTrailerError, message)
}

fn mismatch(of: &str) -> Error {
    let message = format!("The signature of {of} does not match what was received.");
    Error::new(ErrorKind::SignatureDoesNotMatch, message)
}

#[cfg(test)]
mod tests;

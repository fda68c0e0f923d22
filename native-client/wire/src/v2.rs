//! What version 2 has of its own: its frames and statuses, and a handshake in which no secret crosses the wire.
//!
//! ```text
//!  client                                               server
//!  0             4    5    6        8                    0             4    5        6        8
//!  +-------------+----+----+--------+--------+           +-------------+----+--------+--------+--------+
//!  | 4A 41 59 00 | 02 | 00 | length | fields |  hello    | 4A 41 59 00 | 02 | status | length | fields |
//!  +-------------+----+----+--------+--------+           +-------------+----+--------+--------+--------+
//!
//!  0                     32                              0             4    5        6        8        40
//!  +---------------------+                               +-------------+----+--------+--------+--------+
//!  | proof of the client |                               | 4A 41 59 00 | 02 | status | 00 20  | proof  |
//!  +---------------------+                               +-------------+----+--------+--------+--------+
//!
//!  0        17             21         25
//!  +--------+--------------+----------+----------+------+
//!  | header | metadata sum | head sum | metadata | data |    every frame behind that, either way
//!  +--------+--------------+----------+----------+------+
//! ```

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    DecodeError, EncodeError, METADATA_BYTES_MAX, Problem, Tagged,
    body::{CHUNK_BYTES_MAX, crc32c},
    cursor::Cursor,
    frame::{HEADER_BYTES, Header},
    handshake::MAGIC,
    message::fields,
};

/// The version that this is.
pub const VERSION: u8 = 2;
/// Length of what comes before the fields of a hello, or before a proof.
pub const PREFIX_BYTES: usize = 8;
/// Most bytes of the fields of a hello.
pub const HELLO_FIELDS_BYTES_MAX: u16 = 4096;
/// Length of a proof.
pub const PROOF_BYTES: usize = 32;
/// What an access key's secret is derived with for this protocol: HMAC-SHA256(secret, this) is the key of its proofs.
pub const KEY_LABEL: &[u8] = b"jay native 2";
/// By which both ends get 32 bytes of their TLS session (RFC 5705), so that a proof is worth nothing in another one.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-jay-native-2";
/// Most requests in flight on a shared connection, unless its server says another number.
pub const STREAMS_MAX: u32 = 256;
/// Length of what comes before the metadata of a frame: a header as in version 1, and two sums.
pub const HEAD_BYTES: usize = HEADER_BYTES + 2 * SUM_BYTES;
/// Most bytes of a frame.
pub const FRAME_BYTES_MAX: usize = HEAD_BYTES + METADATA_BYTES_MAX as usize + CHUNK_BYTES_MAX;
/// Length of a CRC-32C.
const SUM_BYTES: usize = 4;

/// Codes of frames that are no request and no answer. Each belongs to the stream that it names, or to none.
pub mod kind {
    /// Some of a body that follows a request or an answer: a [`crate::call::Chunk`] and data.
    pub const CHUNK: u8 = 0xF0;
    /// The end of a body: a [`crate::call::End`].
    pub const END: u8 = 0xF1;
    /// The client gives a request up. It is answered all the same, with what it has become.
    pub const CANCEL: u8 = 0xF2;
    /// The sender is about to leave: a [`crate::call::GoAway`].
    pub const GO_AWAY: u8 = 0xF3;
    /// Asks for a [`PONG`] with the same stream id.
    pub const PING: u8 = 0xF4;
    /// Answers a [`PING`].
    pub const PONG: u8 = 0xF5;
}

/// How a request ended: the code of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It was done.
    Ok = 0,
    /// It was not: the metadata are a [`crate::call::Failure`].
    Failed = 1,
    /// Its body is too long for a shared connection: ask again on a bulk one. There are no metadata.
    UseBulk = 2,
}

impl Status {
    /// The status of this code.
    pub fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Ok),
            1 => Some(Self::Failed),
            2 => Some(Self::UseBulk),
            _ => None,
        }
    }
}

/// A frame that has come: a request, an answer, or what [`kind`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of a request its operation, of an answer its [`Status`], else its [`kind`].
    pub code: u8,
    /// The stream that it belongs to.
    pub stream_id: u32,
    metadata: Bytes,
    metadata_sum: u32,
    /// Its data, which have sums of their own.
    pub data: Bytes,
}

impl Frame {
    /// Takes one off the front of what has come, once all of it is there.
    ///
    /// # Errors
    /// Its head was changed on its way, or metadata or data are longer than they may be: nobody knows then where the next
    /// frame begins, so the connection is of no more use.
    pub fn take(input: &mut BytesMut) -> Result<Option<Self>, DecodeError> {
        let Some(head) = input.first_chunk() else {
            return Ok(None);
        };
        let (header, metadata_sum) = self::head(head)?;
        let (metadata, data) = (header.metadata_bytes as usize, header.data_bytes as usize);
        if input.len() < HEAD_BYTES + metadata + data {
            return Ok(None);
        }
        input.advance(HEAD_BYTES);
        Ok(Some(Self {
            code: header.code,
            stream_id: header.stream_id,
            metadata: input.split_to(metadata).freeze(),
            metadata_sum,
            data: input.split_to(data).freeze(),
        }))
    }

    /// Its metadata, held against their sum.
    ///
    /// # Errors
    /// They were changed on their way. Frames behind this one are not touched by that.
    pub fn metadata(&self) -> Result<&Bytes, DecodeError> {
        match crc32c(&self.metadata) == self.metadata_sum {
            true => Ok(&self.metadata),
            false => Err(changed("metadata")),
        }
    }
}

/// What stands before the metadata of a frame: a header as in version 1, and the sum of the metadata.
fn head(bytes: &[u8; HEAD_BYTES]) -> Result<(Header, u32), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let summed = cursor.bytes(HEAD_BYTES - SUM_BYTES, "head")?;
    if cursor.u32("head sum")? != crc32c(summed) {
        return Err(changed("head"));
    }
    let (header, sum) = summed.split_first_chunk().expect("a header is shorter");
    let header = Header::parse(header)?;
    match header.data_bytes > CHUNK_BYTES_MAX as u64 {
        true => Err(DecodeError {
            field: "data length",
            problem: Problem::TooLong,
        }),
        false => Ok((header, Cursor::new(sum).u32("metadata sum")?)),
    }
}

fn changed(field: &'static str) -> DecodeError {
    DecodeError {
        field,
        problem: Problem::Checksum,
    }
}

/// A whole frame but its data.
///
/// # Errors
/// The data are longer than a frame has.
pub fn frame(
    code: u8,
    stream_id: u32,
    metadata: &[u8],
    data_bytes: usize,
    to: &mut impl BufMut,
) -> Result<(), EncodeError> {
    if data_bytes > CHUNK_BYTES_MAX {
        return Err(EncodeError { field: "data" });
    }
    let header = Header {
        code,
        stream_id,
        metadata_bytes: u32::try_from(metadata.len())
            .map_err(|_| EncodeError { field: "metadata" })?,
        data_bytes: data_bytes as u64,
    };
    let mut head = [0; HEAD_BYTES];
    head[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    head[HEADER_BYTES..][..SUM_BYTES].copy_from_slice(&crc32c(metadata).to_be_bytes());
    let sum = crc32c(&head[..HEAD_BYTES - SUM_BYTES]);
    head[HEAD_BYTES - SUM_BYTES..].copy_from_slice(&sum.to_be_bytes());
    to.put_slice(&head);
    to.put_slice(metadata);
    Ok(())
}

fields! {
    /// What a client begins with.
    pub struct ClientHello {} since 2 {
        /// The id of its access key.
        1 token_id: String,
        /// Random bytes, anew for each connection.
        2 nonce: [u8; 16],
        /// Its name and version.
        3 agent: String,
        /// Whether bodies of any length come and go on this connection, one request at a time.
        0x8004 bulk: bool,
    }

    /// What a server answers.
    pub struct ServerHello {} since 2 {
        /// Random bytes, anew for each connection.
        1 nonce: [u8; 16],
        /// Its name and version.
        2 agent: String,
        /// Most requests in flight on a shared connection.
        3 streams_max: u32,
        /// Longest body on a shared connection, in bytes.
        4 inline_bytes_max: u32,
    }
}

/// How a server goes on after a hello or a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// With what comes behind this.
    Proceed = 0,
    /// Not at all: the proof is wrong, whatever is wrong with it.
    Refused = 1,
    /// Not at all: the version is none that it speaks, or the hello has something that must be understood and is not. Said as
    /// version 1 says it ([`crate::handshake::Welcome`]), which all know.
    VersionMismatch = 2,
    /// Not now.
    Unavailable = 3,
}

/// What begins either side's hello, and the server's proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The version.
    pub version: u8,
    /// Of a server how it goes on, of a client 0.
    pub step: u8,
    /// Length of what comes behind.
    pub length: u16,
}

impl Prefix {
    /// Its bytes.
    pub fn to_bytes(self) -> [u8; PREFIX_BYTES] {
        let [a, b, c, d] = MAGIC;
        let [high, low] = self.length.to_be_bytes();
        [a, b, c, d, self.version, self.step, high, low]
    }

    /// Reads it.
    ///
    /// # Errors
    /// The magic is another one: this is nobody who speaks this protocol. Or the length is more than it may be.
    pub fn parse(bytes: &[u8; PREFIX_BYTES]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        if cursor.bytes(MAGIC.len(), "magic")? != MAGIC {
            return Err(invalid("magic"));
        }
        let this = Self {
            version: cursor.u8("version")?,
            step: cursor.u8("step")?,
            length: cursor.u16("hello length")?,
        };
        match this.version == VERSION && this.length > HELLO_FIELDS_BYTES_MAX {
            true => Err(DecodeError {
                field: "hello length",
                problem: Problem::TooLong,
            }),
            false => Ok(this),
        }
    }

    /// How the server goes on.
    ///
    /// # Errors
    /// In no way that is known.
    pub fn step(self) -> Result<Step, DecodeError> {
        Ok(match self.step {
            0 => Step::Proceed,
            1 => Step::Refused,
            2 => Step::VersionMismatch,
            3 => Step::Unavailable,
            _ => return Err(invalid("step")),
        })
    }
}

fn invalid(field: &'static str) -> DecodeError {
    DecodeError {
        field,
        problem: Problem::Invalid,
    }
}

/// What a server says behind a hello or a proof: how it goes on, and what belongs to that.
///
/// # Errors
/// There is more of it than may be.
pub fn step(step: Step, rest: &[u8]) -> Result<Vec<u8>, EncodeError> {
    begin(step as u8, rest)
}

/// A client's hello.
///
/// # Errors
/// Its fields are longer than they may be.
pub fn hello(hello: &ClientHello) -> Result<Vec<u8>, EncodeError> {
    begin(0, &hello.to_metadata()?)
}

fn begin(step: u8, rest: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let length = u16::try_from(rest.len()).ok();
    let length = length.filter(|length| *length <= HELLO_FIELDS_BYTES_MAX);
    let prefix = Prefix {
        version: VERSION,
        step,
        length: length.ok_or(EncodeError { field: "hello" })?,
    };
    Ok([&prefix.to_bytes(), rest].concat())
}

/// All that both have said before they prove who they are, so that nobody between them has changed any of it.
#[derive(Clone)]
pub struct Transcript(Sha256);

impl Transcript {
    /// Of all bytes of both hellos, and of what [`EXPORTER_LABEL`] gives where there is TLS.
    pub fn new(client_hello: &[u8], server_hello: &[u8], exported: Option<&[u8; 32]>) -> Self {
        let mut hash = Sha256::new();
        for part in [client_hello, server_hello] {
            // A hello is shorter than that, and its length keeps the two apart.
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part);
        }
        match exported {
            None => hash.update([0]),
            Some(exported) => {
                hash.update([1]);
                hash.update(exported);
            }
        }
        Self(hash)
    }
}

/// The key of the proofs of one access key.
#[derive(Clone)]
pub struct ProofKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey")
    }
}

impl ProofKey {
    /// The key of an access key with this secret.
    ///
    /// ```
    /// use jay_wire::v2::{ProofKey, Transcript};
    /// let (client, server) = (ProofKey::derive("secret"), ProofKey::derive("secret"));
    /// let said = Transcript::new(b"client's hello", b"server's hello", None);
    /// assert!(server.proves_client(&said, &client.client_proof(&said)));
    /// assert!(client.proves_server(&said, &server.server_proof(&said)));
    /// assert!(!server.proves_client(&said, &server.server_proof(&said)));
    /// ```
    pub fn derive(secret: &str) -> Self {
        Self(hmac(secret.as_bytes(), &[KEY_LABEL]))
    }

    /// A key that was derived elsewhere: HMAC-SHA256 of [`KEY_LABEL`] under the secret.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// What a client says to prove that it has the secret.
    pub fn client_proof(&self, transcript: &Transcript) -> [u8; PROOF_BYTES] {
        self.proof(b"client", transcript)
    }

    /// What a server says to prove it.
    pub fn server_proof(&self, transcript: &Transcript) -> [u8; PROOF_BYTES] {
        self.proof(b"server", transcript)
    }

    /// Whether a client that says this has the secret; in constant time.
    pub fn proves_client(&self, transcript: &Transcript, proof: &[u8; PROOF_BYTES]) -> bool {
        self.client_proof(transcript).ct_eq(proof).into()
    }

    /// Whether a server that says this has it; in constant time.
    pub fn proves_server(&self, transcript: &Transcript, proof: &[u8; PROOF_BYTES]) -> bool {
        self.server_proof(transcript).ct_eq(proof).into()
    }

    fn proof(&self, side: &[u8], transcript: &Transcript) -> [u8; PROOF_BYTES] {
        *hmac(&*self.0, &[side, &transcript.0.clone().finalize()])
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

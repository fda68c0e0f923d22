//! Bodies in `aws-chunked`, cut in any places.

use bytes::Bytes;
use jay_engine::{Checksum, ChecksumAlgorithm, ErrorKind};
use sha2::{Digest, Sha256};

use super::sigv4;
use crate::s3::{
    chunked::{Decoder, Trailers},
    error::Error,
    sigv4::Chain,
    uri,
};

/// Most bytes that are signed: each chunk costs several hashes.
const SIGNED_BYTES_MAX: usize = 50;

/// A body is taken or refused wherever the socket cuts it, and a signed one only as it was signed. The first bytes say
/// what was announced of the body, where it is cut and how long its content is.
pub fn chunked(data: &[u8]) {
    let [announced, seed, low, high, body @ ..] = data else {
        return;
    };
    let decoded_bytes = u64::from(u16::from_le_bytes([*low, *high]));
    let decoder = || {
        let chain = (announced & 1 != 0).then(Chain::trusting);
        Decoder::new(decoded_bytes, chain, trailers(*announced))
    };
    let whole = decode(decoder(), [body]);
    if let Ok((content, _)) = &whole {
        assert_eq!(content.len() as u64, decoded_bytes);
    }
    assert_eq!(decode(decoder(), body.chunks(1)), whole);
    assert_eq!(decode(decoder(), cut(body, *seed)), whole);
    if announced & 1 != 0 {
        signed(&body[..body.len().min(SIGNED_BYTES_MAX)], *seed);
    }
}

/// What may follow the last chunk.
fn trailers(announced: u8) -> Trailers {
    let algorithms = ChecksumAlgorithm::ALL;
    match usize::from(announced >> 1) % (algorithms.len() + 2) {
        0 => Trailers::None,
        1 => Trailers::expected(None),
        n => Trailers::expected(Some(algorithms[n - 2])),
    }
}

/// The pieces of `body` between cuts that follow from `seed`.
fn cut(mut body: &[u8], seed: u8) -> Vec<&[u8]> {
    let (mut pieces, mut state) = (Vec::new(), u32::from(seed));
    while !body.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (piece, rest) = body.split_at(body.len().min((state >> 28) as usize));
        pieces.push(piece);
        body = rest;
    }
    pieces
}

/// Content and checksum, or what a client is told.
type Decoded = Result<(Vec<u8>, Option<Checksum>), (ErrorKind, String)>;

fn decode<'a>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let told = |error: Error| (error.kind(), error.message().to_owned());
    let mut content = Vec::new();
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(bytes) = decoder.next(&mut input).map_err(told)? {
            content.extend_from_slice(&bytes);
        }
        assert!(input.is_empty());
    }
    Ok((content, decoder.finish().map_err(told)?))
}

/// Signs `content` in chunks; as that it must be taken, with one bit changed it must be refused.
fn signed(content: &[u8], seed: u8) {
    let (parts, seed_signature) = sigv4::seed_of_chunks();
    let mut previous = seed_signature.clone();
    let mut body = Vec::new();
    let chunks = cut(content, seed)
        .into_iter()
        .filter(|chunk| !chunk.is_empty());
    for chunk in chunks.chain([&b""[..]]) {
        previous = sign(&previous, chunk);
        body.extend_from_slice(
            format!("{:x};chunk-signature={previous}\r\n", chunk.len()).as_bytes(),
        );
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    let decoder = || {
        let chain = sigv4::verified(parts).expect("it is signed");
        Decoder::new(content.len() as u64, Some(chain), Trailers::None)
    };
    let taken = decode(decoder(), cut(&body, seed)).expect("it is signed");
    assert_eq!((&taken.0[..], taken.1), (content, None));
    let at = usize::from(seed).wrapping_mul(2_654_435_761) % body.len();
    body[at] ^= 1;
    let changed = decode(decoder(), [&body[..]]);
    assert!(changed.is_err(), "byte {at} was changed");
}

/// The signature of the next chunk by another reading of the specification.
fn sign(previous: &str, chunk: &[u8]) -> String {
    let hash = |bytes: &[u8]| uri::encode_hex(&Sha256::digest(bytes));
    let text = [
        "AWS4-HMAC-SHA256-PAYLOAD",
        sigv4::TIMESTAMP,
        &format!("{}/us-east-1/s3/aws4_request", &sigv4::TIMESTAMP[..8]),
        previous,
        &hash(b""),
        &hash(chunk),
    ];
    uri::encode_hex(&sigv4::hmac(&sigv4::KEY, text.join("\n").as_bytes()))
}

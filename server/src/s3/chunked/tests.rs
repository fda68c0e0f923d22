//! AWS's published bodies, every truncation, every split, and hostile bytes.

use proptest::prelude::*;

use super::*;
use crate::s3::sigv4::tests as sigv4;

const SIGNED_HEADERS: &str = "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
                              x-amz-decoded-content-length;x-amz-storage-class";

/// The verified headers of the published example without trailers.
fn published_chain() -> Chain {
    let parts = sigv4::example(
        "PUT",
        "/examplebucket/chunkObject.txt",
        &[
            ("content-encoding", "aws-chunked"),
            ("content-length", "66824"),
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            ("x-amz-decoded-content-length", "66560"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ],
        SIGNED_HEADERS,
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    sigv4::verify(&parts).unwrap()
}

/// The verified headers of the published example with trailers.
fn published_trailer_chain() -> Chain {
    let parts = sigv4::example(
        "PUT",
        "/examplebucket/chunkObject.txt",
        &[
            ("content-encoding", "aws-chunked"),
            (
                "x-amz-content-sha256",
                "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            ),
            ("x-amz-decoded-content-length", "66560"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-trailer", "x-amz-checksum-crc32c"),
        ],
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
         x-amz-storage-class;x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    sigv4::verify(&parts).unwrap()
}

fn published_body(signatures: [&str; 3], trailers: &str) -> Vec<u8> {
    let (a, b) = ("a".repeat(65536), "a".repeat(1024));
    let [first, second, last] = signatures;
    format!(
        "10000;chunk-signature={first}\r\n{a}\r\n400;chunk-signature={second}\r\n{b}\r\n\
         0;chunk-signature={last}\r\n{trailers}\r\n"
    )
    .into_bytes()
}

fn published_signed() -> Vec<u8> {
    let signatures = [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ];
    published_body(signatures, "")
}

fn published_with_trailers() -> Vec<u8> {
    let signatures = [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ];
    published_body(
        signatures,
        "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:\
         d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n",
    )
}

fn crc32c_trailer() -> Trailers {
    Trailers::expected(Some(ChecksumAlgorithm::Crc32c))
}

/// Feeds `pieces` one after the other; answers content and checksum.
fn decode<'a>(
    mut decoder: Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<u8>, Option<Checksum>)> {
    let mut content = Vec::new();
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(bytes) = decoder.next(&mut input)? {
            content.extend_from_slice(&bytes);
        }
        assert!(input.is_empty());
    }
    Ok((content, decoder.finish()?))
}

fn unsigned(decoded_bytes: u64) -> Decoder {
    Decoder::new(decoded_bytes, None, crc32c_trailer())
}

const UNSIGNED: &[u8] = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32c:yZRlqg==\r\n\r\n";

#[test]
fn published_signed_chunks() {
    let decoder = Decoder::new(66560, Some(published_chain()), Trailers::None);
    let (content, checksum) = decode(decoder, [&published_signed()[..]]).unwrap();
    assert_eq!((content, checksum), (vec![b'a'; 66560], None));
}

#[test]
fn published_signed_trailers() {
    let decoder = Decoder::new(66560, Some(published_trailer_chain()), crc32c_trailer());
    let (content, checksum) = decode(decoder, [&published_with_trailers()[..]]).unwrap();
    assert_eq!(content.len(), 66560);
    assert_eq!(checksum.unwrap().value, [0xb0, 0xe3, 0xbc, 0xfd]);
}

#[test]
fn any_changed_byte_of_a_signed_body_is_refused() {
    let body = published_with_trailers();
    let interesting = (0..90).chain(65620..body.len());
    for position in interesting {
        let mut body = body.clone();
        body[position] ^= 1;
        let decoder = Decoder::new(66560, Some(published_trailer_chain()), crc32c_trailer());
        assert!(decode(decoder, [&body[..]]).is_err(), "byte {position}");
    }
}

#[test]
fn every_truncation_is_refused() {
    for length in 0..UNSIGNED.len() {
        let error = decode(unsigned(11), [&UNSIGNED[..length]]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IncompleteBody, "{length}");
    }
    let body = published_signed();
    for length in (0..100).chain(65600..body.len()) {
        let decoder = Decoder::new(66560, Some(published_chain()), Trailers::None);
        let error = decode(decoder, [&body[..length]]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IncompleteBody, "{length}");
    }
}

#[test]
fn every_split_gives_the_same_content() {
    for split in 0..=UNSIGNED.len() {
        let (head, tail) = UNSIGNED.split_at(split);
        let (content, checksum) = decode(unsigned(11), [head, tail]).unwrap();
        assert_eq!(content, b"hello world", "{split}");
        assert_eq!(checksum.unwrap().value, [0xc9, 0x94, 0x65, 0xaa]);
    }
    let (content, _) = decode(unsigned(11), UNSIGNED.chunks(1)).unwrap();
    assert_eq!(content, b"hello world");
    let body = published_with_trailers();
    let decoder = Decoder::new(66560, Some(published_trailer_chain()), crc32c_trailer());
    assert_eq!(decode(decoder, body.chunks(7)).unwrap().0.len(), 66560);
}

#[test]
fn content_is_handed_out_without_copying() {
    let mut input = Bytes::from_static(UNSIGNED);
    let start = input.as_ptr() as usize;
    let content = unsigned(11).next(&mut input).unwrap().unwrap();
    assert_eq!(content.as_ptr() as usize, start + 3);
}

#[test]
fn bad_framing_is_refused() {
    use ErrorKind::*;
    let long = format!(
        "5;{}\r\nhello\r\n0\r\n\r\n",
        "x".repeat(CHUNK_HEADER_BYTES_MAX)
    );
    let trailers = format!(
        "0\r\nx-amz-checksum-crc32c:{}\r\n\r\n",
        "A".repeat(TRAILER_BYTES_MAX)
    );
    let cases: [(&str, u64, ErrorKind); 20] = [
        ("\r\n", 0, InvalidRequest),
        ("x\r\n", 0, InvalidRequest),
        ("-1\r\n", 0, InvalidRequest),
        ("+1\r\na\r\n", 1, InvalidRequest),
        ("1\na\r\n", 1, InvalidRequest),
        ("00000000000000001\r\na\r\n", 1, InvalidRequest),
        ("ffffffffffffffff\r\n", 1, InvalidRequest),
        ("5\r\nhelloX\r\n", 5, InvalidRequest),
        ("6\r\nhello!\r\n", 5, InvalidRequest),
        ("4\r\nhell\r\n0\r\n\r\n", 5, IncompleteBody),
        (&long, 5, InvalidRequest),
        (&trailers, 0, InvalidRequest),
        ("0\r\n\r\n", 0, MalformedTrailerError),
        (
            "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
            0,
            MalformedTrailerError,
        ),
        ("0\r\nno colon\r\n\r\n", 0, MalformedTrailerError),
        ("0\r\nx-amz-checksum-crc32c:AAAA\r\n\r\n", 0, InvalidRequest),
        (
            "0\r\nx-amz-checksum-crc32c:AAAAAA==\r\nx-amz-checksum-crc32c:AAAAAA==\r\n\r\n",
            0,
            MalformedTrailerError,
        ),
        (
            "0\r\nx-amz-trailer-signature:00\r\n\r\n",
            0,
            MalformedTrailerError,
        ),
        (
            "0\r\nx-amz-checksum-crc32c:AAAAAA==\r\n\r\nx",
            0,
            IncompleteBody,
        ),
        (
            "0\r\nx-amz-checksum-crc32c:AAAAAA==\r\n\r\n\r\n\r\n",
            0,
            InvalidRequest,
        ),
    ];
    for (body, decoded_bytes, expected) in cases {
        let error = decode(unsigned(decoded_bytes), [body.as_bytes()]).expect_err(body);
        assert_eq!(error.kind(), expected, "{body:?}");
    }
    let decoder = Decoder::new(0, None, Trailers::None);
    assert!(decode(decoder, [&b"0\r\n\r\nx"[..]]).is_err());
    let decoder = Decoder::new(0, None, Trailers::None);
    assert!(decode(decoder, [&b"0\r\na:b\r\n\r\n"[..]]).is_err());
}

#[test]
fn trailers_may_end_in_a_bare_line_feed_and_one_empty_line_more() {
    let body = b"0\r\nx-amz-checksum-crc32c:AAAAAA==\n\r\n\r\n";
    assert_eq!(
        decode(unsigned(0), [&body[..]]).unwrap().1.unwrap().value,
        [0; 4]
    );
}

#[test]
fn signed_chunks_need_their_signatures() {
    let decoder = Decoder::new(5, Some(published_chain()), Trailers::None);
    let error = decode(decoder, [&b"5\r\nhello\r\n0\r\n\r\n"[..]]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    let body = published_with_trailers();
    let end = body
        .windows(23)
        .position(|w| w == b"x-amz-trailer-signature")
        .unwrap();
    let decoder = Decoder::new(66560, Some(published_trailer_chain()), crc32c_trailer());
    let error = decode(decoder, [&body[..end], b"\r\n"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedTrailerError);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in any::<Vec<u8>>(), decoded_bytes in 0u64..64) {
        let _ = decode(unsigned(decoded_bytes), [&bytes[..]]);
        let signed = Decoder::new(decoded_bytes, Some(published_chain()), Trailers::None);
        let _ = decode(signed, [&bytes[..]]);
    }

    #[test]
    fn hostile_framing_never_panics(text in "[0-9a-f;\r\n:=x-]{0,64}", decoded_bytes in any::<u64>()) {
        let _ = decode(unsigned(decoded_bytes), text.as_bytes().chunks(3));
    }

    #[test]
    fn any_content_in_any_chunks_comes_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
        piece in 1usize..20,
    ) {
        let content = chunks.concat();
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let decoder = Decoder::new(content.len() as u64, None, Trailers::expected(None));
        prop_assert_eq!(decode(decoder, body.chunks(piece)).unwrap(), (content, None));
    }
}

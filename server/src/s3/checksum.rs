//! Checksums as S3 writes them: header names, base64 values, and the digests of XML bodies.
//!
//! The digests of objects are computed by the engine; here only small bodies are hashed.
//!
//! Source: S3 user guide, "Checking object integrity".

use base64::{Engine as _, prelude::BASE64_STANDARD};
use crc_fast::CrcAlgorithm;
use http::{HeaderMap, HeaderName, HeaderValue};
use jay_engine::{Checksum, ChecksumAlgorithm, ChecksumType, ErrorKind, ObjectInfo};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::{
    error::{Error, Result},
    invalid_argument,
    multipart::composite_of,
};
use crate::planted::{self, Fault};

/// The algorithm that the parts of an upload, or a copy, shall have a checksum of.
pub(crate) const ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");
/// What a checksum is computed from.
pub(crate) const TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");
/// The prefix of the headers that carry a checksum.
const PREFIX: &str = "x-amz-checksum-";

/// The header of an algorithm: `x-amz-checksum-crc32`.
pub(crate) fn header_name(algorithm: ChecksumAlgorithm) -> HeaderName {
    HeaderName::from_static(match algorithm {
        ChecksumAlgorithm::Crc32 => "x-amz-checksum-crc32",
        ChecksumAlgorithm::Crc32c => "x-amz-checksum-crc32c",
        ChecksumAlgorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        ChecksumAlgorithm::Sha1 => "x-amz-checksum-sha1",
        ChecksumAlgorithm::Sha256 => "x-amz-checksum-sha256",
    })
}

/// The algorithm of a header's name.
pub(crate) fn algorithm_of_header(name: &str) -> Option<ChecksumAlgorithm> {
    ChecksumAlgorithm::ALL
        .into_iter()
        .find(|algorithm| header_name(*algorithm) == name)
}

/// The element of an algorithm: `ChecksumCRC32`.
pub(crate) fn element_name(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "ChecksumCRC32",
        ChecksumAlgorithm::Crc32c => "ChecksumCRC32C",
        ChecksumAlgorithm::Crc64Nvme => "ChecksumCRC64NVME",
        ChecksumAlgorithm::Sha1 => "ChecksumSHA1",
        ChecksumAlgorithm::Sha256 => "ChecksumSHA256",
    }
}

/// The algorithm of an element's name.
pub(crate) fn algorithm_of_element(name: &str) -> Option<ChecksumAlgorithm> {
    ChecksumAlgorithm::ALL
        .into_iter()
        .find(|algorithm| element_name(*algorithm) == name)
}

/// Reads `x-amz-checksum-algorithm`.
pub(crate) fn wanted_algorithm(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>> {
    let Some(value) = headers.get(ALGORITHM) else {
        return Ok(None);
    };
    let name = value.to_str().unwrap_or_default();
    algorithm_of_name(name).map(Some).ok_or_else(|| {
        invalid(format!(
            "Checksum algorithm provided is unsupported: {name}. Please try again with any of the valid types: \
             [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"
        ))
    })
}

/// Reads `x-amz-checksum-type`.
pub(crate) fn wanted_type(headers: &HeaderMap) -> Result<Option<ChecksumType>> {
    let Some(value) = headers.get(TYPE) else {
        return Ok(None);
    };
    let name = value.to_str().unwrap_or_default();
    [ChecksumType::FullObject, ChecksumType::Composite]
        .into_iter()
        .find(|checksum_type| checksum_type.name() == name)
        .map(Some)
        .ok_or_else(|| invalid_argument(TYPE.as_str(), name, "it is COMPOSITE or FULL_OBJECT"))
}

/// The algorithm of a name such as `CRC32C`, in any case.
fn algorithm_of_name(name: &str) -> Option<ChecksumAlgorithm> {
    ChecksumAlgorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
}

/// Parses the base64 value of a checksum header or trailer.
pub(crate) fn parse(algorithm: ChecksumAlgorithm, value: &[u8]) -> Result<Checksum> {
    match BASE64_STANDARD.decode(value.trim_ascii()) {
        Ok(value) if value.len() == algorithm.value_bytes() => Ok(Checksum { algorithm, value }),
        _ => {
            let name = header_name(algorithm);
            Err(invalid(format!("Value for {name} header is invalid.")))
        }
    }
}

/// The base64 value of a checksum; behind one that is made of those of parts stands how many they are.
pub(crate) fn text(checksum: &Checksum, parts: Option<u16>) -> String {
    let value = BASE64_STANDARD.encode(&checksum.value);
    match parts {
        Some(count) => format!("{value}-{count}"),
        None => value,
    }
}

/// The same as a header.
pub(crate) fn value(checksum: &Checksum, parts: Option<u16>) -> HeaderValue {
    HeaderValue::try_from(text(checksum, parts)).expect("base64 is a header value")
}

/// What a request says of the checksum of its body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Announced {
    /// The one in the headers.
    pub(crate) checksum: Option<Checksum>,
    /// Of how many parts it is, when it is of a whole upload and made of theirs.
    pub(crate) parts: Option<u16>,
    /// The algorithm of the one that follows the body.
    pub(crate) trailer: Option<ChecksumAlgorithm>,
}

impl Announced {
    /// Reads `x-amz-checksum-*`, `x-amz-trailer` and `x-amz-sdk-checksum-algorithm`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self> {
        let mut announced = Self::default();
        for (name, value) in headers {
            let Some(suffix) = name.as_str().strip_prefix(PREFIX) else {
                continue;
            };
            if matches!(suffix, "mode" | "type" | "algorithm") {
                continue;
            }
            let algorithm = algorithm_of_header(name.as_str())
                .ok_or_else(|| Error::not_implemented(&format!("The checksum {name}")))?;
            let (value, parts) = split_parts(value.as_bytes());
            let checksum = parse(algorithm, value)?;
            announced.parts = parts;
            if announced.checksum.replace(checksum).is_some() {
                return Err(only_one());
            }
        }
        let trailers = headers.get_all("x-amz-trailer").into_iter();
        let names = trailers.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        for name in names
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty())
        {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            let algorithm = algorithm_of_header(&name).ok_or_else(|| {
                invalid("The value specified in the x-amz-trailer header is not supported.".into())
            })?;
            if announced.trailer.replace(algorithm).is_some() {
                return Err(only_one());
            }
        }
        if announced.checksum.is_some() && announced.trailer.is_some() {
            return Err(only_one());
        }
        announced.must_fit_sdk(headers)?;
        Ok(announced)
    }

    /// The checksum of the body of the request, which is not made of parts.
    pub(crate) fn of_body(&self) -> Result<Option<Checksum>> {
        if self.parts.is_some() {
            return Err(invalid(
                "The checksum of a body has no number of parts behind it.".into(),
            ));
        }
        Ok(self.checksum.clone())
    }

    fn must_fit_sdk(&self, headers: &HeaderMap) -> Result<()> {
        let Some(name) = headers.get("x-amz-sdk-checksum-algorithm") else {
            return Ok(());
        };
        let wanted = algorithm_of_name(name.to_str().unwrap_or_default());
        let sent = self
            .checksum
            .as_ref()
            .map(|checksum| checksum.algorithm)
            .or(self.trailer);
        match (wanted, sent) {
            (_, None) => Err(invalid(
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or \
                 x-amz-trailer headers were found."
                    .into(),
            )),
            (wanted, sent) if wanted == sent => Ok(()),
            _ => Err(invalid(
                "Value for x-amz-sdk-checksum-algorithm header is invalid.".into(),
            )),
        }
    }
}

/// Takes the number of parts off a value such as `y/Q5Jg==-3`.
fn split_parts(value: &[u8]) -> (&[u8], Option<u16>) {
    let Some(at) = value.iter().rposition(|&byte| byte == b'-') else {
        return (value, None);
    };
    let count = std::str::from_utf8(&value[at + 1..]).ok();
    match count.and_then(|count| count.parse().ok()) {
        Some(count) => (&value[..at], Some(count)),
        None => (value, None),
    }
}

/// The value of `Content-MD5` (RFC 1864).
pub(crate) fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>> {
    const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
    let Some(value) = headers.get(CONTENT_MD5) else {
        return Ok(None);
    };
    let digest = BASE64_STANDARD.decode(value.as_bytes().trim_ascii()).ok();
    let digest = digest.and_then(|digest| digest.try_into().ok());
    if planted::is(Fault::IgnoredContentMd5) {
        return Ok(None);
    }
    digest.map(Some).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidDigest,
            "The Content-MD5 you specified was invalid: it is the base64 of 16 bytes.",
        )
    })
}

/// Holds a small body against all digests that came with it.
pub(crate) fn verify_small(
    body: &[u8],
    sha256: Option<[u8; 32]>,
    md5: Option<[u8; 16]>,
    checksum: Option<&Checksum>,
) -> Result<()> {
    if sha256.is_some_and(|expected| expected[..] != Sha256::digest(body)[..]) {
        return Err(Error::new(
            ErrorKind::XAmzContentSHA256Mismatch,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ));
    }
    if md5.is_some_and(|expected| expected[..] != Md5::digest(body)[..]) {
        return Err(Error::new(
            ErrorKind::BadDigest,
            "The Content-MD5 you specified did not match what we received.",
        ));
    }
    if checksum.is_some_and(|expected| expected.value != compute(expected.algorithm, body)) {
        return Err(Error::new(
            ErrorKind::BadDigest,
            "The checksum you specified did not match what we received.",
        ));
    }
    Ok(())
}

fn compute(algorithm: ChecksumAlgorithm, body: &[u8]) -> Vec<u8> {
    let crc = |algorithm| crc_fast::checksum(algorithm, body).to_be_bytes();
    match algorithm {
        ChecksumAlgorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc)[4..].to_vec(),
        ChecksumAlgorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi)[4..].to_vec(),
        ChecksumAlgorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme).to_vec(),
        ChecksumAlgorithm::Sha1 => Sha1::digest(body).to_vec(),
        ChecksumAlgorithm::Sha256 => Sha256::digest(body).to_vec(),
    }
}

fn only_one() -> Error {
    invalid(
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            .into(),
    )
}

pub(crate) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidRequest, message)
}

/// Puts the checksum that the writer chose, else CRC64NVME, on an answer.
pub(crate) fn put_headers(info: &ObjectInfo, headers: &mut HeaderMap) {
    if let Some(checksum) = info.checksums.first() {
        let value = value(checksum, composite_of(info));
        headers.insert(header_name(checksum.algorithm), value);
        headers.insert(TYPE, HeaderValue::from_static(info.checksum_type.name()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn well_known_values_are_computed() {
        // The check values of the CRC catalogue and of RFC 3174 and FIPS 180, over "123456789".
        let expected = [
            (ChecksumAlgorithm::Crc32, "y/Q5Jg=="),
            (ChecksumAlgorithm::Crc32c, "4waSgw=="),
            (ChecksumAlgorithm::Crc64Nvme, "rosUhgp5mIg="),
            (ChecksumAlgorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE="),
            (
                ChecksumAlgorithm::Sha256,
                "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
            ),
        ];
        for (algorithm, text) in expected {
            let checksum = parse(algorithm, text.as_bytes()).unwrap();
            let name = algorithm.name();
            assert_eq!(compute(algorithm, b"123456789"), checksum.value, "{name}");
            assert_eq!(value(&checksum, None), text);
            assert!(verify_small(b"123456789", None, None, Some(&checksum)).is_ok());
            let error = verify_small(b"12345678", None, None, Some(&checksum)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadDigest, "{name}");
        }
    }

    #[test]
    fn one_checksum_is_read_from_headers_or_trailers() {
        let announced = Announced::of(&headers(&[
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-sdk-checksum-algorithm", "CRC32"),
            ("x-amz-checksum-mode", "ENABLED"),
        ]));
        assert_eq!(
            announced.unwrap().checksum.unwrap().value,
            [0xcb, 0xf4, 0x39, 0x26]
        );
        let announced = Announced::of(&headers(&[("x-amz-trailer", " X-Amz-Checksum-SHA1 ")]));
        assert_eq!(announced.unwrap().trailer, Some(ChecksumAlgorithm::Sha1));
        assert_eq!(
            Announced::of(&HeaderMap::new()).unwrap(),
            Announced::default()
        );
    }

    #[test]
    fn a_checksum_of_parts_is_none_of_a_body() {
        let composite = headers(&[("x-amz-checksum-crc32", "y/Q5Jg==-3")]);
        let announced = Announced::of(&composite).unwrap();
        assert_eq!(announced.parts, Some(3));
        let checksum = announced.checksum.as_ref().unwrap();
        assert_eq!(text(checksum, announced.parts), "y/Q5Jg==-3");
        let error = announced.of_body().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    }

    #[test]
    fn algorithms_and_types_have_names() {
        let of = |name, value: &str| headers(&[(name, value)]);
        let wanted = wanted_algorithm(&of("x-amz-checksum-algorithm", "crc32c"));
        assert_eq!(wanted.unwrap(), Some(ChecksumAlgorithm::Crc32c));
        let error = wanted_algorithm(&of("x-amz-checksum-algorithm", "MD4")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        let wanted = wanted_type(&of("x-amz-checksum-type", "COMPOSITE"));
        assert_eq!(wanted.unwrap(), Some(ChecksumType::Composite));
        let error = wanted_type(&of("x-amz-checksum-type", "HALF")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        for algorithm in ChecksumAlgorithm::ALL {
            assert_eq!(
                algorithm_of_element(element_name(algorithm)),
                Some(algorithm)
            );
        }
    }

    #[test]
    fn bad_announcements_are_refused() {
        let refused: [&[(&'static str, &str)]; 8] = [
            &[("x-amz-checksum-crc32", "y/Q5Jg=")],
            &[("x-amz-checksum-crc32", "rosUhgp5mIg=")],
            &[
                ("x-amz-checksum-crc32", "y/Q5Jg=="),
                ("x-amz-checksum-crc32c", "4waSgw=="),
            ],
            &[
                ("x-amz-checksum-crc32", "y/Q5Jg=="),
                ("x-amz-trailer", "x-amz-checksum-crc32"),
            ],
            &[("x-amz-trailer", "x-amz-meta-a")],
            &[("x-amz-trailer", "x-amz-checksum-crc32,x-amz-checksum-sha1")],
            &[("x-amz-sdk-checksum-algorithm", "CRC32")],
            &[
                ("x-amz-checksum-crc32", "y/Q5Jg=="),
                ("x-amz-sdk-checksum-algorithm", "SHA1"),
            ],
        ];
        for pairs in refused {
            let error = Announced::of(&headers(pairs)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{pairs:?}");
        }
        let error = Announced::of(&headers(&[("x-amz-checksum-xxh3", "y/Q5Jg==")])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotImplemented);
    }

    #[test]
    fn content_md5_has_sixteen_bytes() {
        let good = headers(&[("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")]);
        let md5 = content_md5(&good).unwrap();
        assert!(verify_small(b"123456789", None, md5, None).is_ok());
        let error = verify_small(b"", None, md5, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadDigest);
        for bad in ["", "YWJj", "not base64!", "JfnnlDI7RTiF9RgfG2JNCw"] {
            let error = content_md5(&headers(&[("content-md5", bad)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidDigest, "{bad}");
        }
        assert_eq!(content_md5(&HeaderMap::new()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn hostile_values_never_panic(value in any::<Vec<u8>>()) {
            for algorithm in ChecksumAlgorithm::ALL {
                let _ = parse(algorithm, &value);
            }
        }
    }
}

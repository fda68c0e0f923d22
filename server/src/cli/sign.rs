//! Signature Version 4, in the Authorization header and in links, as the verbs of `jay` and its load generator need it.
//!
//! Independent of the server's own verification on purpose: two readings of the specification check each other.
//! Paths and queries come already encoded and sorted.

use std::{fmt::Write, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// In place of the body's SHA-256 when the body is not part of the signature.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Who signs.
#[derive(Clone)]
pub struct Credentials {
    /// Named in the signature.
    pub access_key_id: String,
    /// Never sent.
    pub secret_access_key: Zeroizing<String>,
    /// Of temporary credentials.
    pub session_token: Option<String>,
}

/// The parts of a request that are signed.
pub struct Signable<'a> {
    /// `GET`, `PUT` ..
    pub method: &'a str,
    /// Percent-encoded path.
    pub path: &'a str,
    /// Percent-encoded query, sorted by name.
    pub query: &'a str,
    /// Lower-case names with values, sorted by name.
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body in hex, or [`UNSIGNED_PAYLOAD`].
    pub payload: &'a str,
    /// `20130524T000000Z`, as in `x-amz-date`.
    pub timestamp: &'a str,
}

/// Signs requests; derives its key once a day.
#[derive(Clone)]
pub struct Signer {
    credentials: Credentials,
    region: String,
    /// The last key and its `yyyymmdd`.
    cached: Option<(String, Zeroizing<[u8; 32]>)>,
}

impl Signer {
    /// A signer for the service `s3` in `region`.
    pub fn new(credentials: Credentials, region: String) -> Self {
        Self {
            credentials,
            region,
            cached: None,
        }
    }

    /// The region that is signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Value of `x-amz-security-token`, which belongs to the signed headers.
    pub fn session_token(&self) -> Option<&str> {
        self.credentials.session_token.as_deref()
    }

    /// Value of the Authorization header.
    pub fn authorization(&mut self, request: &Signable<'_>) -> String {
        let (scope, names) = (self.scope(request.timestamp), signed_headers(request));
        let signature = self.signature(request, &scope, &names);
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.credentials.access_key_id
        )
    }

    /// The query of a link by which anybody may do what `request` says, for so long from its timestamp on. Its body is not
    /// part of the signature.
    pub fn link(&mut self, request: &Signable<'_>, expires_in: Duration) -> String {
        let (scope, names) = (self.scope(request.timestamp), signed_headers(request));
        let credential = format!("{}/{scope}", self.credentials.access_key_id);
        let mut query = format!(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={}&X-Amz-Expires={}",
            encode(&credential),
            request.timestamp,
            expires_in.as_secs(),
        );
        if let Some(token) = self.session_token() {
            let _ = write!(query, "&X-Amz-Security-Token={}", encode(token));
        }
        let _ = write!(query, "&X-Amz-SignedHeaders={}", encode(&names));
        let signable = Signable {
            query: &query,
            payload: UNSIGNED_PAYLOAD,
            ..*request
        };
        let signature = self.signature(&signable, &scope, &names);
        format!("{query}&X-Amz-Signature={signature}")
    }

    fn scope(&self, timestamp: &str) -> String {
        format!("{}/{}/s3/aws4_request", &timestamp[..8], self.region)
    }

    fn signature(&mut self, request: &Signable<'_>, scope: &str, names: &str) -> String {
        debug_assert!(request.headers.is_sorted(), "headers are sorted by name");
        let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
        for (name, value) in request.headers {
            let _ = writeln!(canonical, "{name}:{}", value.trim()); // a String takes everything
        }
        let _ = write!(canonical, "\n{names}\n{}", request.payload);
        let digest = hex(&Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{digest}", request.timestamp);
        let key = self.key(&request.timestamp[..8]);
        hex(&hmac(key.as_slice(), to_sign.as_bytes()))
    }

    fn key(&mut self, date: &str) -> Zeroizing<[u8; 32]> {
        match &self.cached {
            Some((cached_date, key)) if cached_date == date => key.clone(),
            _ => {
                let secret = format!("AWS4{}", *self.credentials.secret_access_key);
                let mut key = Zeroizing::new(secret.into_bytes());
                for part in [date, &self.region, "s3", "aws4_request"] {
                    key = Zeroizing::new(hmac(&key, part.as_bytes()).to_vec());
                }
                let key: [u8; 32] = key[..].try_into().expect("an HMAC-SHA256 has 32 bytes");
                let key = Zeroizing::new(key);
                self.cached = Some((date.to_owned(), key.clone()));
                key
            }
        }
    }
}

fn signed_headers(request: &Signable<'_>) -> String {
    let names: Vec<_> = request.headers.iter().map(|(name, _)| *name).collect();
    names.join(";")
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// What stands for itself in a query that is signed.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The same in a path.
const ENCODED_IN_PATHS: &AsciiSet = &ENCODED.remove(b'/');

/// `text` as the value of a query.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// `text` as a path, whose slashes stay.
pub fn encode_path(text: &str) -> String {
    utf8_percent_encode(text, ENCODED_IN_PATHS).to_string()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // a String takes everything
            text
        })
}

/// The bytes of such hex.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
        .collect();
    let pairs = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(pairs.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn signer() -> Signer {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned().into(),
            session_token: None,
        };
        Signer::new(credentials, "us-east-1".into())
    }

    /// Amazon S3 API reference, "Signature calculations: examples", GET Object.
    #[test]
    fn get_object_is_signed_as_published() {
        let mut signer = signer();
        let authorization = signer.authorization(&Signable {
            method: "GET",
            path: "/test.txt",
            query: "",
            headers: &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("x-amz-content-sha256", EMPTY_SHA256),
                ("x-amz-date", "20130524T000000Z"),
            ],
            payload: EMPTY_SHA256,
            timestamp: "20130524T000000Z",
        });
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    /// The same source, GET Bucket (List Objects): a query, and the key of the day taken from the cache.
    #[test]
    fn list_objects_is_signed_as_published() {
        let mut signer = signer();
        for _ in 0..2 {
            let authorization = signer.authorization(&Signable {
                method: "GET",
                path: "/",
                query: "max-keys=2&prefix=J",
                headers: &[
                    ("host", "examplebucket.s3.amazonaws.com"),
                    ("x-amz-content-sha256", EMPTY_SHA256),
                    ("x-amz-date", "20130524T000000Z"),
                ],
                payload: EMPTY_SHA256,
                timestamp: "20130524T000000Z",
            });
            assert!(authorization.ends_with(
                "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
            ));
        }
    }

    /// "Authenticating requests: using query parameters", the example of a presigned URL.
    #[test]
    fn a_link_is_signed_as_published() {
        let mut signer = signer();
        let request = Signable {
            method: "GET",
            path: "/test.txt",
            query: "",
            headers: &[("host", "examplebucket.s3.amazonaws.com")],
            payload: "",
            timestamp: "20130524T000000Z",
        };
        assert_eq!(
            signer.link(&request, Duration::from_secs(86_400)),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }
}

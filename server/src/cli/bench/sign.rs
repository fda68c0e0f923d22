//! Signature Version 4 in the Authorization header, as small as a load generator needs it.
//!
//! Independent of the server's own verification on purpose: two readings of the specification check each other.
//! Paths and queries come already encoded and sorted; the generator's keys need no encoding.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// In place of the body's SHA-256 when the body is not part of the signature.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Who signs.
#[derive(Clone)]
pub struct Credentials {
    /// Named in the signature.
    pub access_key_id: String,
    /// Never sent.
    pub secret_access_key: String,
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
    cached: Option<(String, [u8; 32])>,
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
        debug_assert!(request.headers.is_sorted(), "headers are sorted by name");
        let date = &request.timestamp[..8];
        let names = request
            .headers
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(";");

        let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
        for (name, value) in request.headers {
            let _ = writeln!(canonical, "{name}:{}", value.trim()); // a String takes everything
        }
        let _ = write!(canonical, "\n{names}\n{}", request.payload);

        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let digest = hex(&Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{digest}", request.timestamp);
        let signature = hex(&hmac(&self.key(date), to_sign.as_bytes()));
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.credentials.access_key_id
        )
    }

    fn key(&mut self, date: &str) -> [u8; 32] {
        match &self.cached {
            Some((cached_date, key)) if cached_date == date => *key,
            _ => {
                let secret = format!("AWS4{}", self.credentials.secret_access_key);
                let key = [date, &self.region, "s3", "aws4_request"]
                    .iter()
                    .fold(secret.into_bytes(), |key, part| {
                        hmac(&key, part.as_bytes()).to_vec()
                    });
                let key = key.try_into().expect("an HMAC-SHA256 has 32 bytes");
                self.cached = Some((date.to_owned(), key));
                key
            }
        }
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
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

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn signer() -> Signer {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
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
}

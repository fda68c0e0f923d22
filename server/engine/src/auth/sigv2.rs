//! Signature version 2: an HMAC-SHA1 by the secret of an access key itself.
//!
//! Unlike version 4 it has no key that is good for a day only, so the secret stays here: fronts put together the
//! string to sign and hand it over with the signature.
//!
//! Source: S3 API, "Signing and authenticating REST requests (AWS signature version 2)".

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::{auth::Secrets, error::Result, meta::record::TokenRecord};

impl Secrets {
    /// Whether the token of this id made the signature; compared in constant time.
    pub(crate) fn verify_v2(
        &self,
        id: &str,
        token: &TokenRecord,
        string_to_sign: &[u8],
        signature: &[u8],
    ) -> Result<bool> {
        let secret = self.open(id, &token.sealed_secret)?;
        Ok(is_signed(secret.as_bytes(), string_to_sign, signature))
    }
}

fn is_signed(secret: &[u8], string_to_sign: &[u8], signature: &[u8]) -> bool {
    let mac = Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes keys of any length");
    let mac = mac.chain_update(string_to_sign);
    mac.verify_slice(signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    /// The "Object GET" of the source: `bWq2s1WEIj+Ydj0vQ697zp+IXMU=`.
    #[test]
    fn a_signature_is_the_one_of_the_published_example() {
        let string_to_sign =
            b"GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/johnsmith/photos/puppy.jpg";
        let signature =
            *b"\x6d\x6a\xb6\xb3\x55\x84\x22\x3f\x98\x76\x3d\x2f\x43\xaf\x7b\xce\x9f\x88\x5c\xc5";
        assert!(is_signed(SECRET, string_to_sign, &signature));
        assert!(!is_signed(&SECRET[1..], string_to_sign, &signature));
        assert!(!is_signed(SECRET, &string_to_sign[1..], &signature));
        for length in 0..signature.len() {
            assert!(!is_signed(SECRET, string_to_sign, &signature[..length]));
        }
    }
}

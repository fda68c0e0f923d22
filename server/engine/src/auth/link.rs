//! Jay's own links: a URL that carries a token's rights for a while, signed with the store's signing secret.
//!
//! Fronts take the link apart and hand over the texts; the service looks up the token. Only what is signed,
//! and until when it holds, is decided here. Unlike a presigned SigV4 URL, the host is not signed.
//!
//! Source: the original Jay, whose links stay valid: `X-Jay-Token`, `X-Jay-Expires`, `X-Jay-Signature`.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{auth::Secrets, types::Timestamp};

/// Longest time that a link holds, in seconds: 7 days.
pub const LINK_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// What is signed in a link.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The token whose rights it carries.
    pub token_id: &'a str,
    /// The only method that it serves.
    pub method: &'a str,
    /// The path, percent-decoded once, with the bucket at its beginning whatever the host says.
    pub path: &'a str,
    /// All other parameters of the query: sorted by name then value, encoded as HTML forms do.
    pub canonical_query: &'a str,
    /// The last second of its life, since 1970, in decimal.
    pub expires: &'a str,
}

impl Link<'_> {
    /// Whether it holds at this moment: through the second itself, and not too far ahead.
    fn holds(&self, now: Timestamp) -> bool {
        let is_number = self.expires.bytes().all(|byte| byte.is_ascii_digit());
        let now = now.0 / 1000;
        let expires = self.expires.parse::<u64>().ok().filter(|_| is_number);
        expires.is_some_and(|expires| expires >= now && expires - now <= LINK_SECONDS_MAX)
    }
}

impl Secrets {
    /// The signature of a link, in lower-case hexadecimal.
    pub(crate) fn sign_link(&self, link: Link<'_>) -> String {
        let signature = self.link_mac(link).finalize().into_bytes();
        signature.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether the link holds at this moment and is signed by this store; compared in constant time.
    pub(crate) fn verify_link(&self, link: Link<'_>, signature: &[u8], now: Timestamp) -> bool {
        let is_signed = self.link_mac(link).verify_slice(signature).is_ok();
        is_signed && link.holds(now)
    }

    fn link_mac(&self, link: Link<'_>) -> Hmac<Sha256> {
        let Link {
            token_id,
            method,
            path,
            canonical_query,
            expires,
        } = link;
        let string_to_sign = [token_id, method, path, canonical_query, expires].join("\n");
        self.link_mac
            .clone()
            .chain_update(string_to_sign.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link<'static> = Link {
        token_id: "token",
        method: "GET",
        path: "/photos/a b+c/\u{e9}.jpg",
        canonical_query: "a=1&a=2&name=x+y%2Bz",
        expires: "1767225600",
    };
    const NOW: Timestamp = Timestamp(1_767_225_600_000);

    fn secrets() -> Secrets {
        Secrets::new("a signing secret of at least 32 bytes")
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex
            .chars()
            .map(|digit| digit.to_digit(16).unwrap())
            .collect();
        digits
            .chunks(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect()
    }

    /// The vector comes from Python:
    /// `hmac.digest(secret, "\n".join([token, method, path, query, expires]).encode(), "sha256").hex()`.
    #[test]
    fn a_signature_is_the_one_of_the_original() {
        let signature = secrets().sign_link(LINK);
        assert_eq!(
            signature,
            "2314917761b781ea19c6f6e08f1f14e0e547c21f296c75165bbd586c25198e75"
        );
        assert!(secrets().verify_link(LINK, &bytes(&signature), NOW));
    }

    #[test]
    fn a_link_holds_through_its_second_and_seven_days_ahead() {
        let signature = bytes(&secrets().sign_link(LINK));
        let holds = |now| secrets().verify_link(LINK, &signature, Timestamp(now));
        let week = LINK_SECONDS_MAX * 1000;
        assert!(holds(NOW.0 + 999));
        assert!(!holds(NOW.0 + 1000));
        assert!(holds(NOW.0 - week));
        assert!(!holds(NOW.0 - week - 1));
        for expires in [
            "",
            "x",
            "-1",
            "+1767225600",
            "1767225600 ",
            "99999999999999999999",
        ] {
            let link = Link { expires, ..LINK };
            let signature = bytes(&secrets().sign_link(link));
            assert!(!secrets().verify_link(link, &signature, NOW), "{expires}");
        }
    }

    #[test]
    fn anything_changed_after_signing_is_refused() {
        let signature = bytes(&secrets().sign_link(LINK));
        let changed = [
            Link {
                token_id: "other",
                ..LINK
            },
            Link {
                method: "HEAD",
                ..LINK
            },
            Link {
                path: "/photos/a b+c/",
                ..LINK
            },
            Link {
                canonical_query: "",
                ..LINK
            },
            Link {
                expires: "1767225601",
                ..LINK
            },
        ];
        for link in changed {
            assert!(!secrets().verify_link(link, &signature, NOW), "{link:?}");
        }
        let other = Secrets::new("another signing secret of 32 bytes.");
        assert!(!other.verify_link(LINK, &signature, NOW));
        assert!(!secrets().verify_link(LINK, &signature[..31], NOW));
        assert!(!secrets().verify_link(LINK, &[], NOW));
    }
}

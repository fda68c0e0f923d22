//! Secrets at rest: sealed under the signing secret for signatures, hashed for those who bring the secret itself.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    env::Env,
    error::{Error, ErrorKind, Result},
    meta::record::TokenRecord,
};

/// Signing keys that are remembered; one is 5 HMACs.
const SIGNING_KEYS_MAX: usize = 4096;
/// Longest region whose signing key is remembered, in bytes. A request names its region before it has proven anything.
const REGION_BYTES_MAX: usize = 64;
/// Secrets that are remembered as checked against their hash.
const VERIFIED_MAX: usize = 4096;
const NONCE_BYTES: usize = 12;
/// Rounds of a hash, as a power of two: some 60 ms. The original's.
const BCRYPT_COST: u32 = 10;

/// Names a signing secret. All zeros: not known, the token was made before it was noted.
pub(crate) type KeyId = [u8; 8];

/// The bcrypt hash of a secret. bcrypt sees 72 bytes at most, so it is given a digest, and all bytes count.
///
/// Takes some 60 ms: not for a thread that serves others.
pub(crate) fn hash(env: &Env, secret: &str) -> String {
    let parts = bcrypt::hash_with_salt(&*digest(secret), BCRYPT_COST, env.random());
    parts.expect("cost and length are valid").to_string()
}

/// The SHA-256 in hexadecimal, in which there are no zeros: bcrypt would end at one.
fn digest(secret: &str) -> Zeroizing<String> {
    let digest = Sha256::digest(secret.as_bytes());
    Zeroizing::new(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Secrets that were found to match a hash, by HMACs under a key of this process: a hash is computed once, not for
/// each request.
struct Verified {
    key: Zeroizing<[u8; 32]>,
    known: Mutex<HashMap<String, [u8; 32]>>,
}

impl Default for Verified {
    fn default() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        // Without randomness nothing is remembered that others could use: the key never leaves the process.
        let _ = getrandom::fill(&mut *key);
        Self {
            key,
            known: Mutex::default(),
        }
    }
}

impl Verified {
    fn mac(&self, hash: &str, secret: &str) -> [u8; 32] {
        let hash = hmac(&*self.key, hash.as_bytes());
        hmac(&hash, secret.as_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, [u8; 32]>> {
        self.known.lock().expect("no holder panics")
    }

    fn knows(&self, hash: &str, secret: &str) -> bool {
        let mac = self.mac(hash, secret);
        let known = self.lock();
        known
            .get(hash)
            .is_some_and(|known| known.ct_eq(&mac).into())
    }

    fn note(&self, hash: &str, secret: &str) {
        let mac = self.mac(hash, secret);
        let mut known = self.lock();
        if known.len() >= VERIFIED_MAX {
            known.clear();
        }
        known.insert(hash.to_owned(), mac);
    }
}

/// A SigV4 signing key: the HMAC chain over date, region, `s3` and `aws4_request`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// Derives the key of a secret (S3 API, "Signature Calculations", task 3).
    pub fn derive(secret: &str, date: &str, region: &str) -> Self {
        let start = Zeroizing::new(format!("AWS4{secret}"));
        let mut key = Zeroizing::new(hmac(start.as_bytes(), date.as_bytes()));
        for part in [region, "s3", "aws4_request"] {
            *key = hmac(&*key, part.as_bytes());
        }
        Self(*key)
    }

    /// The signature of `string_to_sign`.
    pub(crate) fn sign(&self, string_to_sign: &[u8]) -> [u8; 32] {
        hmac(&self.0, string_to_sign)
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Signing keys by token id, date and region, each with the sealed secret that it was derived from.
type SigningKeys = HashMap<(String, String, String), (Vec<u8>, SigningKey)>;

/// Seals and opens token secrets, and remembers signing keys.
pub(crate) struct Secrets {
    cipher: Aes256Gcm,
    key_id: KeyId,
    /// Keyed with the signing secret itself, as the links of the original are.
    pub(super) link_mac: Hmac<Sha256>,
    signing_keys: Mutex<SigningKeys>,
    verified: Verified,
}

impl Secrets {
    /// Secrets under this signing secret.
    pub(crate) fn new(signing_secret: &str) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(b"jay-token-secret-v1"), signing_secret.as_bytes());
        let mut key = Zeroizing::new([0; 32]);
        hkdf.expand(b"token-secretkey-aead", &mut *key)
            .expect("32 is a valid length");
        let cipher = Aes256Gcm::new_from_slice(&*key).expect("32 bytes are a key");
        let link_mac = Hmac::<Sha256>::new_from_slice(signing_secret.as_bytes())
            .expect("HMAC takes keys of any length");
        let mut key_id = KeyId::default();
        hkdf.expand(b"token-secretkey-id", &mut key_id)
            .expect("8 is a valid length");
        Self {
            cipher,
            key_id,
            link_mac,
            signing_keys: Mutex::default(),
            verified: Verified::default(),
        }
    }

    /// Names the signing secret, without telling anything of it.
    pub(crate) fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Seals a secret for the token `id`.
    pub(crate) fn seal(&self, env: &Env, id: &str, secret: &str) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = env.random();
        let payload = Payload {
            msg: secret.as_bytes(),
            aad: id.as_bytes(),
        };
        let sealed = self
            .cipher
            .encrypt(&nonce.into(), payload)
            .expect("a secret is short");
        [&nonce[..], &sealed].concat()
    }

    /// Opens what [`Secrets::seal`] made for the same token.
    pub(crate) fn open(&self, id: &str, sealed: &[u8]) -> Result<Zeroizing<String>> {
        let unreadable = || {
            Error::new(
                ErrorKind::InternalError,
                "The secret of an access key cannot be opened: it was sealed under another signing secret.",
            )
        };
        if sealed.is_empty() {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                "Access Denied: signatures with this access key are refused, since the signing secret it was sealed \
                 under is lost. Use a new access key.",
            ));
        }
        let (nonce, body) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(unreadable)?;
        let payload = Payload {
            msg: body,
            aad: id.as_bytes(),
        };
        let secret = self
            .cipher
            .decrypt(&(*nonce).into(), payload)
            .map_err(|_| unreadable())?;
        String::from_utf8(secret)
            .map(Zeroizing::new)
            .map_err(|_| unreadable())
    }

    /// The signing key of a token, derived once a day and region.
    pub(crate) fn signing_key(
        &self,
        id: &str,
        token: &TokenRecord,
        date: &str,
        region: &str,
    ) -> Result<SigningKey> {
        let place = (id.to_owned(), date.to_owned(), region.to_owned());
        if let Some((sealed, key)) = self.lock().get(&place)
            && *sealed == token.sealed_secret
        {
            return Ok(key.clone());
        }
        let secret = self.open(id, &token.sealed_secret)?;
        let key = SigningKey::derive(&secret, date, region);
        if region.len() > REGION_BYTES_MAX {
            return Ok(key);
        }
        let mut keys = self.lock();
        if keys.len() >= SIGNING_KEYS_MAX {
            keys.clear();
        }
        keys.insert(place, (token.sealed_secret.clone(), key.clone()));
        Ok(key)
    }

    /// HMAC-SHA256 of `label` under the secret of a token.
    pub(crate) fn proof_key(
        &self,
        id: &str,
        token: &TokenRecord,
        label: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>> {
        let secret = self.open(id, &token.sealed_secret)?;
        Ok(Zeroizing::new(hmac(secret.as_bytes(), label)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SigningKeys> {
        self.signing_keys.lock().expect("no holder panics")
    }

    /// Whether a secret is known to match this hash.
    pub(crate) fn is_verified(&self, hash: &str, secret: &str) -> bool {
        self.verified.knows(hash, secret)
    }

    /// Whether a secret matches this hash, for the first time. Takes some 60 ms.
    pub(crate) fn verify_hash(&self, hash: &str, secret: &str) -> bool {
        let matches = bcrypt::verify(&*digest(secret), hash).unwrap_or(false);
        if matches {
            self.verified.note(hash, secret);
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{meta::key::AccountId, types::Timestamp};

    #[test]
    fn a_hash_is_checked_in_full_and_remembered() {
        let (env, secrets) = (Env::real(), Secrets::new("a signing secret"));
        let long = "s".repeat(80);
        let hash = hash(&env, &long);
        assert!(hash.starts_with("$2b$10$"));
        assert!(!secrets.is_verified(&hash, &long));
        assert!(!secrets.verify_hash(&hash, &long[..79]));
        assert!(!secrets.is_verified(&hash, &long[..79]));
        assert!(secrets.verify_hash(&hash, &long));
        assert!(secrets.is_verified(&hash, &long));
        assert!(!secrets.is_verified(&hash, &long[..79]));
        assert!(!secrets.verify_hash("no hash", &long));
        assert!(!Secrets::new("a signing secret").is_verified(&hash, &long));
    }

    /// Who knows the id of an access key could fill the memory: a request names its region before it has proven
    /// anything, and the keys of all were remembered. 3000 requests took 300 MB.
    #[test]
    fn signing_keys_of_endless_regions_are_not_remembered() {
        let (env, secrets) = (Env::real(), Secrets::new("a signing secret"));
        let token = TokenRecord {
            account: AccountId(1),
            name: String::new(),
            created: Timestamp(0),
            expires: None,
            active: true,
            sealed_secret: secrets.seal(&env, "id", "secret"),
            key_id: secrets.key_id(),
            secret_hash: String::new(),
            actions: Vec::new(),
            buckets: Vec::new(),
            prefixes: Vec::new(),
        };
        let long = "r".repeat(100_000);
        for region in ["us-east-1", &long, "us-east-1", &long] {
            let key = secrets.signing_key("id", &token, "20260101", region);
            let derived = SigningKey::derive("secret", "20260101", region);
            assert_eq!(key.unwrap().as_bytes(), derived.as_bytes());
        }
        assert_eq!(secrets.lock().len(), 1);
    }

    #[test]
    fn a_signing_secret_has_a_name() {
        let id = |secret| Secrets::new(secret).key_id();
        assert_eq!(id("a"), id("a"));
        assert_ne!(id("a"), id("b"));
        assert_ne!(id("a"), KeyId::default());
    }
}

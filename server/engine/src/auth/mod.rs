//! Who may do what: tokens, their secrets, and the one place where rights are decided.
//!
//! Fronts prove who calls (by a signing key from here); the service asks [`authorize`] and nothing else does.
//! A token's secret leaves this module only as a signing key, the store's signing secret not at all: links are
//! made and checked in [`link`].

pub(crate) mod link;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    env::Env,
    error::{Error, ErrorKind, Result},
    meta::{
        key::AccountId,
        record::{BucketRecord, TokenRecord},
    },
    types::{BucketName, ObjectKey, Timestamp},
};

/// Signing keys that are remembered; one is 5 HMACs.
const SIGNING_KEYS_MAX: usize = 4096;
const NONCE_BYTES: usize = 12;

/// What a token may be allowed to do, under Jay's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    BucketList,
    BucketReadMeta,
    BucketWriteMeta,
    ObjectGet,
    ObjectPut,
    ObjectDelete,
    ObjectList,
    MultipartCreate,
    MultipartUploadPart,
    MultipartComplete,
    MultipartAbort,
}

impl Action {
    /// The name in a token's list.
    pub fn name(self) -> &'static str {
        match self {
            Action::BucketList => "bucket:list",
            Action::BucketReadMeta => "bucket:read-meta",
            Action::BucketWriteMeta => "bucket:write-meta",
            Action::ObjectGet => "object:get",
            Action::ObjectPut => "object:put",
            Action::ObjectDelete => "object:delete",
            Action::ObjectList => "object:list",
            Action::MultipartCreate => "multipart:create",
            Action::MultipartUploadPart => "multipart:upload-part",
            Action::MultipartComplete => "multipart:complete",
            Action::MultipartAbort => "multipart:abort",
        }
    }
}

/// Who calls, as a front has proven. Only the engine makes one.
#[derive(Clone)]
pub struct Caller {
    token_id: Arc<str>,
    token: Arc<TokenRecord>,
}

impl Caller {
    pub(crate) fn new(token_id: &str, token: TokenRecord) -> Self {
        Self {
            token_id: token_id.into(),
            token: Arc::new(token),
        }
    }

    /// The id of the access key, for logs.
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// The account that the access key belongs to, as 32 hex digits.
    pub fn account_id(&self) -> String {
        self.account().to_string()
    }

    pub(crate) fn account(&self) -> AccountId {
        self.token.account
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({})", self.token_id)
    }
}

/// Decides whether the caller's token is allowed `action` on a bucket and key of these names.
pub(crate) fn permit(
    caller: &Caller,
    action: Action,
    bucket: Option<&BucketName>,
    key: Option<&ObjectKey>,
) -> Result<()> {
    let token = &caller.token;
    let allowed = token.actions.iter().any(|a| a == "*" || a == action.name());
    let in_buckets = token.buckets.is_empty()
        || bucket.is_some_and(|name| token.buckets.iter().any(|b| b == name.as_str()));
    let in_prefixes = token.prefixes.is_empty()
        || key.is_none_or(|key| {
            token
                .prefixes
                .iter()
                .any(|p| key.as_str().starts_with(p.as_str()))
        });
    if allowed && in_buckets && in_prefixes {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AccessDenied,
        format!(
            "Access denied: this access key is not allowed {} here.",
            action.name()
        ),
    ))
}

/// Decides whether `caller` may do `action` in `bucket`, which goes by `name`.
pub(crate) fn authorize(
    caller: &Caller,
    action: Action,
    name: &BucketName,
    bucket: Option<BucketRecord>,
    key: Option<&ObjectKey>,
) -> Result<BucketRecord> {
    permit(caller, action, Some(name), key)?;
    // Somebody else's bucket and none at all look alike to those without rights.
    bucket
        .filter(|bucket| bucket.owner == caller.account())
        .ok_or_else(|| no_such_bucket(name))
}

/// The error for a bucket that is not there, or is not the caller's to know of.
pub(crate) fn no_such_bucket(name: &BucketName) -> Error {
    Error::new(
        ErrorKind::NoSuchBucket,
        format!("The specified bucket does not exist: {name}. Create it first, or check the name."),
    )
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
    /// Keyed with the signing secret itself, as the links of the original are.
    link_mac: Hmac<Sha256>,
    signing_keys: Mutex<SigningKeys>,
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
        Self {
            cipher,
            link_mac,
            signing_keys: Mutex::default(),
        }
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
        let mut keys = self.lock();
        if keys.len() >= SIGNING_KEYS_MAX {
            keys.clear();
        }
        keys.insert(place, (token.sealed_secret.clone(), key.clone()));
        Ok(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SigningKeys> {
        self.signing_keys.lock().expect("no holder panics")
    }
}

/// True when a token may be used at all.
pub(crate) fn is_usable(token: &TokenRecord, now: Timestamp) -> bool {
    token.active && token.expires.is_none_or(|expires| now < expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_key_is_the_one_of_the_published_example() {
        // AWS General Reference, "Deriving the signing key" (with service s3 in place of iam the chain is the same).
        let key = SigningKey::derive(
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "20130524",
            "us-east-1",
        );
        let hex: String = key.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378"
        );
    }

    #[test]
    fn a_sealed_secret_opens_only_for_its_token_and_signing_secret() {
        let (env, secrets) = (Env::real(), Secrets::new("a signing secret"));
        let sealed = secrets.seal(&env, "id", "secret");
        assert_eq!(*secrets.open("id", &sealed).unwrap(), "secret");
        assert!(secrets.open("other", &sealed).is_err());
        assert!(Secrets::new("another").open("id", &sealed).is_err());
        assert!(secrets.open("id", &sealed[..5]).is_err());
        assert_ne!(
            sealed,
            secrets.seal(&env, "id", "secret"),
            "every seal has its own nonce"
        );
    }
}

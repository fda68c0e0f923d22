//! Who may do what: tokens, their secrets, and the one place where rights are decided.
//!
//! Fronts prove who calls (by a signing key from here); the service asks [`authorize`] and nothing else does.
//! A token's secret leaves this module only as a signing key, the store's signing secret not at all: links are
//! made and checked in [`link`], signatures of version 2 checked in [`sigv2`].

pub(crate) mod link;
mod sigv2;

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
    /// What is stored about an object: its access list, its tags. The same right as `ObjectGet`, but a public
    /// bucket does not give it away.
    ObjectReadMeta,
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
            Action::ObjectGet | Action::ObjectReadMeta => "object:get",
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

/// Who calls: a token, as a front has proven, or nobody in particular. Only the engine makes one of a token.
#[derive(Clone)]
pub struct Caller(Option<Identity>);

/// The token of a caller.
#[derive(Clone)]
struct Identity {
    token_id: Arc<str>,
    token: Arc<TokenRecord>,
}

/// The account of callers without a token. Accounts have ids of their time, and this one never comes.
const NOBODY: AccountId = AccountId(u128::MAX);

impl Caller {
    pub(crate) fn new(token_id: &str, token: TokenRecord) -> Self {
        Self(Some(Identity {
            token_id: token_id.into(),
            token: Arc::new(token),
        }))
    }

    /// A caller without credentials, who may read the objects of public buckets and nothing else.
    pub fn anonymous() -> Self {
        Self(None)
    }

    /// Whether this is a caller without credentials.
    pub fn is_anonymous(&self) -> bool {
        self.0.is_none()
    }

    /// The id of the access key, for logs; empty without one.
    pub fn token_id(&self) -> &str {
        self.0.as_ref().map_or("", |identity| &identity.token_id)
    }

    /// The account that the access key belongs to, as 32 hex digits.
    pub fn account_id(&self) -> String {
        self.account().to_string()
    }

    pub(crate) fn account(&self) -> AccountId {
        self.0
            .as_ref()
            .map_or(NOBODY, |identity| identity.token.account)
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({})", self.token_id())
    }
}

/// Decides whether the caller's token is allowed `action` on a bucket and key of these names.
pub(crate) fn permit(
    caller: &Caller,
    action: Action,
    bucket: Option<&BucketName>,
    key: Option<&ObjectKey>,
) -> Result<()> {
    let Caller(Some(Identity { token, .. })) = caller else {
        return Err(no_credentials());
    };
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
///
/// The objects of a public bucket may be read by all: by other accounts as far as their own token allows it,
/// and without credentials.
pub(crate) fn authorize(
    caller: &Caller,
    action: Action,
    name: &BucketName,
    bucket: Option<BucketRecord>,
    key: Option<&ObjectKey>,
) -> Result<BucketRecord> {
    let is_open =
        |bucket: &BucketRecord| bucket.public_read && action == Action::ObjectGet && key.is_some();
    // Somebody else's bucket and none at all look alike to those without rights.
    if caller.is_anonymous() {
        return bucket.filter(is_open).ok_or_else(no_credentials);
    }
    permit(caller, action, Some(name), key)?;
    bucket
        .filter(|bucket| bucket.owner == caller.account() || is_open(bucket))
        .ok_or_else(|| no_such_bucket(name))
}

/// The error for callers who did not say who they are.
fn no_credentials() -> Error {
    Error::new(
        ErrorKind::AccessDenied,
        "Access Denied: sign the request with an access key.",
    )
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

    fn caller(account: u128, actions: &[&str]) -> Caller {
        Caller::new(
            "id",
            TokenRecord {
                account: AccountId(account),
                name: String::new(),
                created: Timestamp(0),
                expires: None,
                active: true,
                sealed_secret: Vec::new(),
                actions: actions.iter().map(|action| (*action).to_owned()).collect(),
                buckets: Vec::new(),
                prefixes: Vec::new(),
            },
        )
    }

    #[test]
    fn a_public_bucket_gives_its_objects_to_all_and_nothing_else() {
        use Action::*;
        let (name, key) = (
            BucketName::parse("bucket").unwrap(),
            ObjectKey::parse("k").unwrap(),
        );
        let bucket = |public_read| BucketRecord {
            id: crate::meta::key::BucketId(1),
            owner: AccountId(1),
            created: Timestamp(0),
            public_read,
        };
        let kind = |caller: &Caller, action, bucket, key| {
            authorize(caller, action, &name, bucket, key)
                .err()
                .map(|error| error.kind())
        };
        let (denied, hidden) = (Some(ErrorKind::AccessDenied), Some(ErrorKind::NoSuchBucket));
        let nobody = Caller::anonymous();
        assert_eq!(
            kind(&nobody, ObjectGet, Some(bucket(true)), Some(&key)),
            None
        );
        for bucket in [Some(bucket(false)), None] {
            assert_eq!(kind(&nobody, ObjectGet, bucket, Some(&key)), denied);
        }
        for action in [
            BucketReadMeta,
            BucketWriteMeta,
            ObjectReadMeta,
            ObjectPut,
            ObjectDelete,
            ObjectList,
        ] {
            let public = Some(bucket(true));
            assert_eq!(kind(&nobody, action, public.clone(), Some(&key)), denied);
            let other = caller(2, &["*"]);
            assert_eq!(
                kind(&other, action, public, Some(&key)),
                hidden,
                "{action:?}"
            );
        }
        assert_eq!(kind(&nobody, ObjectGet, Some(bucket(true)), None), denied);
        assert_eq!(
            permit(&nobody, BucketList, None, None).unwrap_err().kind(),
            ErrorKind::AccessDenied
        );

        // A caller with a token is judged by the token.
        let public = || Some(bucket(true));
        assert_eq!(
            kind(&caller(2, &["*"]), ObjectGet, public(), Some(&key)),
            None
        );
        assert_eq!(
            kind(&caller(1, &["object:put"]), ObjectGet, public(), Some(&key)),
            denied
        );
        assert_eq!(
            kind(
                &caller(2, &["*"]),
                ObjectGet,
                Some(bucket(false)),
                Some(&key)
            ),
            hidden
        );
    }

    #[test]
    fn nobody_shares_an_account_with_nobody() {
        let env = Env::real();
        let nobody = Caller::anonymous();
        assert!(nobody.is_anonymous() && nobody.token_id().is_empty());
        assert_ne!(nobody.account(), AccountId(env.unique_id()));
        assert_ne!(nobody.account(), caller(7, &[]).account());
    }
}

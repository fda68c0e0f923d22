//! The proof of who calls, and what decides about a request.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    auth::{
        self, Action, Caller, KeyId, Place, Reason, Secrets, SigningKey, is_usable, link::Link,
    },
    error::{Error, ErrorKind, Result},
    meta::{
        key::Key,
        record::{BucketRecord, Record, TokenRecord},
    },
    service::{Service, blocking},
    types::{BucketName, Grant, ObjectKey},
};

/// How long the rights with which a body began to come are not looked at again.
const STANDING: Duration = Duration::from_secs(1);

/// Who sends a body where, and since when.
pub(super) struct Standing {
    caller: Caller,
    action: Action,
    bucket: BucketName,
    key: ObjectKey,
    since: Instant,
}

impl Standing {
    pub(super) fn of(
        caller: &Caller,
        action: Action,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Self {
        Self {
            caller: caller.clone(),
            action,
            bucket: bucket.clone(),
            key: key.clone(),
            since: Instant::now(),
        }
    }
}

/// A request to be explained; see [`crate::Engine::explain`].
#[derive(Clone, Debug)]
pub struct Question {
    /// Whose request it is; `None`: one without a token.
    pub token_id: Option<String>,
    /// What is done. `*` is not a question.
    pub action: Grant,
    /// In which bucket.
    pub bucket: BucketName,
    /// To what key.
    pub key: Option<ObjectKey>,
    /// Or below which prefix, for listings.
    pub prefix: Option<String>,
    /// From where.
    pub address: Option<IpAddr>,
}

impl Service {
    pub(crate) fn signing_key(
        &self,
        id: &str,
        date: &str,
        region: &str,
    ) -> Result<(Caller, SigningKey)> {
        let token = self.usable_token(id)?.ok_or_else(no_such_access_key)?;
        let key = self.secrets.signing_key(id, &token, date, region)?;
        Ok((Caller::new(id, token), key))
    }

    pub(crate) fn proof_key(
        &self,
        id: &str,
        label: &[u8],
    ) -> Result<(Caller, Zeroizing<[u8; 32]>)> {
        let token = self.usable_token(id)?.ok_or_else(no_such_access_key)?;
        let key = self.secrets.proof_key(id, &token, label)?;
        Ok((Caller::new(id, token), key))
    }

    pub(crate) fn trusted(&self, id: &str) -> Result<Caller> {
        let token = self.usable_token(id)?.ok_or_else(no_such_access_key)?;
        Ok(Caller::new(id, token))
    }

    pub(crate) fn sign_v4(
        &self,
        id: &str,
        date: &str,
        region: &str,
        string_to_sign: &[u8],
    ) -> Result<[u8; 32]> {
        let (_, key) = self.signing_key(id, date, region)?;
        Ok(key.sign(string_to_sign))
    }

    pub(crate) fn must_be_usable(&self, id: &str) -> Result<()> {
        match self.usable_token(id)? {
            Some(_) => Ok(()),
            None => Err(no_such_access_key()),
        }
    }

    pub(crate) fn verify_v2(
        &self,
        id: &str,
        string_to_sign: &[u8],
        signature: &[u8],
    ) -> Result<Caller> {
        let token = self.usable_token(id)?.ok_or_else(no_such_access_key)?;
        if self
            .secrets
            .verify_v2(id, &token, string_to_sign, signature)?
        {
            return Ok(Caller::new(id, token));
        }
        Err(Error::new(
            ErrorKind::SignatureDoesNotMatch,
            "The request signature we calculated does not match the signature you provided. \
             Check your key and signing method.",
        ))
    }

    pub(crate) async fn bearer(self: &Arc<Self>, id: &str, secret: &str) -> Result<Caller> {
        let token = self.usable_token(id)?;
        let is_right = match &token {
            // The same work as for one that is there.
            None => {
                let _ = self.is_sealed(id, &[], secret);
                false
            }
            Some(token) if is_sealed_under(token, &self.secrets) => {
                self.is_sealed(id, &token.sealed_secret, secret)
            }
            Some(token) => self.is_hashed(&token.secret_hash, secret).await?,
        };
        let token = token.filter(|_| is_right).ok_or_else(|| {
            Error::new(
                ErrorKind::AccessDenied,
                "Access Denied: the access key or its secret is wrong, revoked or expired.",
            )
        })?;
        Ok(Caller::new(id, token))
    }

    /// Whether the secret is the sealed one.
    fn is_sealed(&self, id: &str, sealed: &[u8], secret: &str) -> bool {
        let known = self.secrets.open(id, sealed);
        // Digests, so that the comparison does not tell lengths.
        let digest = |secret: &str| Sha256::digest(secret.as_bytes());
        let is_equal =
            bool::from(digest(known.as_deref().map_or("", |s| s)).ct_eq(&digest(secret)));
        is_equal && known.is_ok()
    }

    /// Whether the secret is the hashed one, for tokens whose seal was lost with the signing secret. Only the first
    /// time costs a hash.
    pub(super) async fn is_hashed(self: &Arc<Self>, hash: &str, secret: &str) -> Result<bool> {
        if hash.is_empty() || self.secrets.is_verified(hash, secret) {
            return Ok(!hash.is_empty());
        }
        let _turn = self.hashing.acquire().await;
        let (service, hash) = (self.clone(), hash.to_owned());
        let secret = Zeroizing::new(secret.to_owned());
        blocking(move || service.secrets.verify_hash(&hash, &secret)).await
    }

    pub(crate) fn verify_link(&self, link: Link<'_>, signature: &[u8]) -> Result<Caller> {
        let now = self.env.clock.now();
        // The signature comes first: who cannot make one learns nothing about tokens.
        let token = match self.secrets.verify_link(link, signature, now) {
            true => self.usable_token(link.token_id)?,
            false => None,
        };
        let token =
            token.ok_or_else(|| Error::new(ErrorKind::AccessDenied, "Invalid presigned URL"))?;
        Ok(Caller::new(link.token_id, token))
    }

    /// The token of this id, unless it or its account may not be used now.
    fn usable_token(&self, id: &str) -> Result<Option<TokenRecord>> {
        let token = match self.meta.get(&Key::Token(id.to_owned()))? {
            Some(Record::Token(token)) if is_usable(&token, self.env.clock.now()) => token,
            _ => return Ok(None),
        };
        let account = self.meta.get(&Key::Account(token.account))?;
        let is_active = matches!(account, Some(Record::Account(account)) if account.active);
        Ok(is_active.then_some(*token))
    }

    /// Who has sent a body for a while may have lost its rights meanwhile: its access key, or what the bucket lets it
    /// do. Answers the bucket as it is now, for its quota too.
    pub(super) fn must_still_stand(
        &self,
        standing: &Standing,
        bucket: BucketRecord,
    ) -> Result<BucketRecord> {
        if standing.since.elapsed() < STANDING {
            return Ok(bucket);
        }
        let id = standing.caller.token_id();
        if !id.is_empty() && self.usable_token(id)?.is_none() {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                "Access Denied: the access key was revoked, or expired, while the body was being sent.",
            ));
        }
        let place = Place::Key(&standing.key);
        self.bucket(&standing.caller, standing.action, &standing.bucket, place)
    }

    pub(crate) fn explain(&self, question: &Question) -> Result<Reason> {
        let Grant::One(action) = question.action else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "Name one action: * stands for all of them.",
            ));
        };
        let caller = match &question.token_id {
            None => Caller::anonymous(),
            Some(id) => match self.usable_token(id)? {
                None => return Ok(Reason::TokenUnusable),
                Some(token) => Caller::new(id, token),
            },
        };
        let caller = match question.address {
            None => caller,
            Some(address) => caller.at_address(address),
        };
        let place = match (&question.key, &question.prefix) {
            (Some(key), _) => Place::Key(key),
            (None, Some(prefix)) => Place::Under(prefix),
            (None, None) if matches!(action, Action::ObjectList | Action::MultipartCreate) => {
                Place::Under("")
            }
            (None, None) => Place::Bucket,
        };
        let bucket = self.find_bucket(&question.bucket)?;
        let decided = auth::decide(&caller, action, &question.bucket, bucket.as_ref(), place);
        Ok(decided)
    }
}

/// Whether the seal of a token may open.
fn is_sealed_under(token: &TokenRecord, secrets: &Secrets) -> bool {
    let is_known = token.key_id == KeyId::default() || token.key_id == secrets.key_id();
    is_known && !token.sealed_secret.is_empty()
}

fn no_such_access_key() -> Error {
    Error::new(
        ErrorKind::InvalidAccessKeyId,
        "The access key id you provided does not exist here, is revoked or has expired.",
    )
}

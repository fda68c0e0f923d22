//! Access keys: the one that a start may bring along, and the proof of who calls.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    auth::{Caller, SigningKey, is_usable, link::Link},
    error::{Error, ErrorKind, Result},
    meta::{
        Change, Precondition, Transaction,
        key::{AccountId, Key},
        record::{AccountRecord, Record, TokenRecord},
    },
    service::{Requirements, Service},
};

/// An access key that the configuration asks for.
pub struct SeedToken {
    /// Name of its account.
    pub account: String,
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Zeroizing<String>,
}

/// What became of a [`SeedToken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedOutcome {
    /// It was made; also when one of that id was there, but revoked, and the secret is a new one.
    Created,
    /// It is there already, with this secret.
    Reused,
    /// There is one of that id with another secret, which was left alone.
    SecretMismatch,
}

/// What [`crate::Engine::seed_token`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedReport {
    /// The account.
    pub account_id: String,
    /// True when the account was made now.
    pub account_created: bool,
    /// The token.
    pub token: SeedOutcome,
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

    pub(crate) fn bearer(&self, id: &str, secret: &str) -> Result<Caller> {
        let token = self.usable_token(id)?;
        let known = match &token {
            Some(token) => self.secrets.open(id, &token.sealed_secret)?,
            None => Zeroizing::default(),
        };
        // Digests, so that the comparison does not tell lengths.
        let digest = |secret: &str| Sha256::digest(secret.as_bytes());
        let is_equal = bool::from(digest(&known).ct_eq(&digest(secret)));
        let token = token.filter(|_| is_equal).ok_or_else(|| {
            Error::new(
                ErrorKind::AccessDenied,
                "Access Denied: the access key or its secret is wrong, revoked or expired.",
            )
        })?;
        Ok(Caller::new(id, token))
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

    pub(crate) async fn seed_token(&self, seed: &SeedToken) -> Result<SeedReport> {
        let (account, account_created) = self.seed_account(&seed.account).await?;
        let key = Key::Token(seed.id.clone());
        let mut requires = Requirements::default();
        let raced = "Another process is making the same access key: start again.";
        let old = match self.meta.get(&key)? {
            Some(Record::Token(token)) => Some(token),
            _ => None,
        };
        let token = match old {
            None => {
                requires.add(
                    Precondition::Absent(key.clone()),
                    ErrorKind::InternalError,
                    raced,
                );
                SeedOutcome::Created
            }
            Some(token) => {
                let secret = self.secrets.open(&seed.id, &token.sealed_secret)?;
                match bool::from(secret.as_bytes().ct_eq(seed.secret.as_bytes())) {
                    true => SeedOutcome::Reused,
                    false if token.active => SeedOutcome::SecretMismatch,
                    false => SeedOutcome::Created,
                }
            }
        };
        if token == SeedOutcome::Created {
            let record = Record::Token(Box::new(TokenRecord {
                account,
                name: seed.account.clone(),
                created: self.env.clock.now(),
                expires: None,
                active: true,
                sealed_secret: self.secrets.seal(&self.env, &seed.id, &seed.secret),
                actions: vec!["*".into()],
                buckets: Vec::new(),
                prefixes: Vec::new(),
            }));
            let changes = vec![Change::put(key, record)];
            requires
                .commit(
                    &*self.meta,
                    Transaction {
                        changes,
                        ..Transaction::default()
                    },
                )
                .await?;
        }
        Ok(SeedReport {
            account_id: account.to_string(),
            account_created,
            token,
        })
    }

    async fn seed_account(&self, name: &str) -> Result<(AccountId, bool)> {
        let by_name = Key::AccountName(name.to_owned());
        if let Some(Record::AccountName(id)) = self.meta.get(&by_name)? {
            return Ok((id, false));
        }
        let id = AccountId(self.env.unique_id());
        let record = AccountRecord {
            name: name.to_owned(),
            created: self.env.clock.now(),
            active: true,
        };
        let mut requires = Requirements::default();
        requires.add(
            Precondition::Absent(by_name.clone()),
            ErrorKind::InternalError,
            "Another process is making the same account: start again.",
        );
        let changes = vec![
            Change::put(Key::Account(id), Record::Account(record)),
            Change::put(by_name, Record::AccountName(id)),
        ];
        requires
            .commit(
                &*self.meta,
                Transaction {
                    changes,
                    ..Transaction::default()
                },
            )
            .await?;
        Ok((id, true))
    }
}

fn no_such_access_key() -> Error {
    Error::new(
        ErrorKind::InvalidAccessKeyId,
        "The access key id you provided does not exist here, is revoked or has expired.",
    )
}

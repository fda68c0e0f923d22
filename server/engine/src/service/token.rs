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

//! Access keys: made, listed and revoked by the operator, or brought along by a start.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{
    auth,
    error::{Error, ErrorKind, Result},
    meta::{
        Change, MetaReader, Precondition, Transaction,
        key::{AccountId, Key, after_prefix, tag},
        record::{Record, TokenRecord},
    },
    service::{Requirements, Service, blocking},
    types::{BucketName, Grant, KEY_BYTES_MAX, Timestamp},
};

/// Longest id of an access key, in bytes.
pub const TOKEN_ID_BYTES_MAX: usize = 128;
/// Longest name of an access key or account, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest secret that the configuration gives an access key, in bytes.
pub const SECRET_BYTES_MAX: usize = 4096;
/// Most buckets, and most prefixes, that an access key is limited to.
pub const SCOPES_MAX: usize = 100;
/// Access keys of one page of a list.
const PAGE: usize = 1000;
/// How often a change is tried again when others change the same access key.
const TRIES_MAX: usize = 16;

/// An access key to be made.
#[derive(Clone, Debug, Default)]
pub struct TokenOptions {
    /// What it is for, for its owner's eyes; at most [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// What it may do; empty: everything.
    pub actions: Vec<Grant>,
    /// In which buckets; empty: in all.
    pub buckets: Vec<BucketName>,
    /// Under which prefixes; empty: everywhere.
    pub prefixes: Vec<String>,
    /// From when on it is of no use.
    pub expires: Option<Timestamp>,
}

/// What may be known of an access key: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its id.
    pub id: String,
    /// Its account, as 32 hex digits.
    pub account_id: String,
    /// What it is for.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is of no use.
    pub expires: Option<Timestamp>,
    /// False when it was revoked.
    pub active: bool,
    /// What it may do.
    pub actions: Vec<String>,
    /// In which buckets; empty: in all.
    pub buckets: Vec<String>,
    /// Under which prefixes; empty: everywhere.
    pub prefixes: Vec<String>,
}

/// An access key that was made, with its secret, which nobody tells again.
pub struct NewToken {
    /// All else.
    pub info: TokenInfo,
    /// 64 hex digits.
    pub secret: Zeroizing<String>,
}

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
    pub(crate) async fn seed_token(self: &Arc<Self>, seed: &SeedToken) -> Result<SeedReport> {
        check_seed(seed)?;
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
            // Its seal was given up with a lost signing secret: who knows the secret may sign again.
            Some(token) if token.sealed_secret.is_empty() => {
                match self.is_hashed(&token.secret_hash, &seed.secret).await? {
                    true => {
                        self.seal_again(&seed.id, &token, &seed.secret).await?;
                        SeedOutcome::Reused
                    }
                    false if token.active => SeedOutcome::SecretMismatch,
                    false => SeedOutcome::Created,
                }
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
            let options = TokenOptions {
                name: seed.account.clone(),
                ..TokenOptions::default()
            };
            let record = self
                .new_token(account, &seed.id, &seed.secret, options)
                .await?;
            let changes = vec![Change::put(key, Record::Token(Box::new(record)))];
            requires
                .commit(&*self.meta, Transaction::of(changes))
                .await?;
        }
        Ok(SeedReport {
            account_id: account.to_string(),
            account_created,
            token,
        })
    }

    async fn seal_again(&self, id: &str, token: &TokenRecord, secret: &str) -> Result<()> {
        let sealed = TokenRecord {
            sealed_secret: self.secrets.seal(&self.env, id, secret),
            key_id: self.secrets.key_id(),
            ..token.clone()
        };
        self.replace_tokens(&[(id.to_owned(), token.clone(), sealed)])
            .await
    }

    pub(crate) async fn create_token(
        self: &Arc<Self>,
        account: &str,
        options: TokenOptions,
    ) -> Result<NewToken> {
        let account = self.account_of(account)?;
        check(&options)?;
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(self.env.random());
        let secret = Zeroizing::new(hex(&*bytes));
        let id = uuid(self.env.random());
        let record = self.new_token(account, &id, &secret, options).await?;
        let mut requires = Requirements::default();
        let key = Key::Token(id.clone());
        requires.add(
            Precondition::Absent(key.clone()),
            ErrorKind::InternalError,
            "A random id was drawn twice: try again.",
        );
        requires.add(
            Precondition::Exists(Key::Account(account)),
            ErrorKind::NoSuchAccount,
            "The account was removed meanwhile.",
        );
        let info = info(&id, &record);
        let changes = vec![Change::put(key, Record::Token(Box::new(record)))];
        let transaction = Transaction::of(changes);
        requires.commit(&*self.meta, transaction).await?;
        Ok(NewToken { info, secret })
    }

    async fn new_token(
        self: &Arc<Self>,
        account: AccountId,
        id: &str,
        secret: &Zeroizing<String>,
        options: TokenOptions,
    ) -> Result<TokenRecord> {
        let (env, text) = (self.env.clone(), secret.clone());
        let secret_hash = blocking(move || auth::hash(&env, &text)).await?;
        let actions = match options.actions.is_empty() {
            true => vec![Grant::All],
            false => options.actions,
        };
        Ok(TokenRecord {
            account,
            name: options.name,
            created: self.env.clock.now(),
            expires: options.expires,
            active: true,
            sealed_secret: self.secrets.seal(&self.env, id, secret),
            key_id: self.secrets.key_id(),
            secret_hash,
            actions: actions
                .iter()
                .map(|grant| grant.name().to_owned())
                .collect(),
            buckets: options.buckets.iter().map(ToString::to_string).collect(),
            prefixes: options.prefixes,
        })
    }

    pub(crate) fn tokens(&self, account: Option<&str>) -> Result<Vec<TokenInfo>> {
        let account = account.map(|id| self.account_of(id)).transpose()?;
        let mut all = Vec::new();
        each_token(&*self.meta, |id, token| {
            if account.is_none_or(|account| token.account == account) {
                all.push(info(id, token));
            }
        })?;
        Ok(all)
    }

    pub(crate) fn token(&self, id: &str) -> Result<TokenInfo> {
        self.token_record(id).map(|token| info(id, &token))
    }

    fn token_record(&self, id: &str) -> Result<Box<TokenRecord>> {
        match self.meta.get(&Key::Token(id.to_owned()))? {
            Some(Record::Token(token)) => Ok(token),
            // What was asked for is not repeated: it may be a secret, taken for the id.
            _ => Err(Error::new(
                ErrorKind::NoSuchToken,
                "There is no access key with this id.",
            )),
        }
    }

    /// Revokes an access key; one that is revoked already stays so.
    pub(crate) async fn revoke_token(&self, id: &str) -> Result<()> {
        for _ in 0..TRIES_MAX {
            let old = self.token_record(id)?;
            if !old.active {
                return Ok(());
            }
            let revoked = TokenRecord {
                active: false,
                ..(*old).clone()
            };
            match self.replace_token(id, old, revoked).await {
                Err(error) if error.kind() == ErrorKind::OperationAborted => {}
                done => return done,
            }
        }
        Err(busy())
    }

    /// Puts a record in the place of one that was read; [`ErrorKind::OperationAborted`] when it has changed since.
    pub(super) async fn replace_token(
        &self,
        id: &str,
        old: Box<TokenRecord>,
        new: TokenRecord,
    ) -> Result<()> {
        let key = Key::Token(id.to_owned());
        let mut requires = Requirements::default();
        let is = Precondition::Is(key.clone(), Box::new(Record::Token(old)));
        requires.add(is, ErrorKind::OperationAborted, busy().context());
        let transaction = Transaction {
            changes: vec![Change::put(key, Record::Token(Box::new(new)))],
            // A full disk is no reason to leave a key in use.
            upkeep: true,
            ..Transaction::default()
        };
        requires.commit(&*self.meta, transaction).await
    }
}

/// All access keys, in the order of their ids.
pub(crate) fn each_token(
    meta: &dyn MetaReader,
    mut each: impl FnMut(&str, &TokenRecord),
) -> Result<()> {
    let to = after_prefix(&[tag::TOKEN]);
    let mut from = Some(vec![tag::TOKEN]);
    while let Some(start) = from.take() {
        let rows = meta.scan(&start, to.as_deref(), PAGE)?;
        for (key, record) in &rows.rows {
            if let (Ok(Key::Token(id)), Record::Token(token)) = (Key::decode(key), record) {
                each(&id, token);
            }
        }
        from = rows.next;
    }
    Ok(())
}

fn busy() -> Error {
    Error::new(
        ErrorKind::OperationAborted,
        "The access key is being changed by others: try again.",
    )
}

fn refuse(why: String) -> Result<()> {
    Err(Error::new(ErrorKind::InvalidArgument, why))
}

/// Refuses a longer name than accounts and access keys may have.
pub(super) fn check_name(name: &str) -> Result<()> {
    match name.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => refuse(format!("A name has at most {NAME_BYTES_MAX} bytes.")),
    }
}

fn check_seed(seed: &SeedToken) -> Result<()> {
    check_name(&seed.account)?;
    if !(1..=TOKEN_ID_BYTES_MAX).contains(&seed.id.len()) {
        return refuse(format!(
            "The id of an access key has 1 to {TOKEN_ID_BYTES_MAX} bytes."
        ));
    }
    match seed.secret.len() <= SECRET_BYTES_MAX {
        true => Ok(()),
        false => refuse(format!(
            "The secret of an access key has at most {SECRET_BYTES_MAX} bytes."
        )),
    }
}

fn check(options: &TokenOptions) -> Result<()> {
    check_name(&options.name)?;
    if options.buckets.len() > SCOPES_MAX || options.prefixes.len() > SCOPES_MAX {
        return refuse(format!(
            "An access key is limited to at most {SCOPES_MAX} buckets and {SCOPES_MAX} prefixes."
        ));
    }
    if options.actions.len() > SCOPES_MAX {
        return refuse("An action is named once.".to_owned());
    }
    let is_prefix = |prefix: &String| (1..=KEY_BYTES_MAX).contains(&prefix.len());
    match options.prefixes.iter().all(is_prefix) {
        true => Ok(()),
        false => refuse(format!("A prefix has 1 to {KEY_BYTES_MAX} bytes.")),
    }
}

fn info(id: &str, token: &TokenRecord) -> TokenInfo {
    TokenInfo {
        id: id.to_owned(),
        account_id: token.account.to_string(),
        name: token.name.clone(),
        created: token.created,
        expires: token.expires,
        active: token.active,
        actions: token.actions.clone(),
        buckets: token.buckets.clone(),
        prefixes: token.prefixes.clone(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random UUID (RFC 9562, version 4).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    let parts = [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ];
    parts.join("-")
}

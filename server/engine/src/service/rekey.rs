//! A new signing secret: every secret that is sealed under the old one is sealed anew.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::{
    Engine, EngineConfig, OpenError,
    auth::{KeyId, Secrets},
    error::{Error, ErrorKind, Result},
    meta::{
        Change, CommitError, Precondition, Transaction,
        key::Key,
        record::{Record, TokenRecord},
    },
    service::{Service, token::each_token},
};

/// Access keys that are sealed anew together, and bytes of their records: one record of the log has 1 MiB at most.
const TOGETHER_MAX: (usize, usize) = (200, 512 << 10);

/// What [`rekey`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RekeyReport {
    /// Access keys whose secret was sealed anew.
    pub resealed: u64,
    /// Those that were under the new signing secret already.
    pub unchanged: u64,
    /// Those whose seal was given up, so that signatures with them are refused: only who brings the secret itself gets in.
    pub given_up: u64,
}

/// How the old signing secret comes to be known.
#[derive(Clone)]
pub enum OldSecret {
    /// It is known.
    Is(Zeroizing<String>),
    /// It is lost: what is sealed under it is given up, and what is hashed remains.
    Lost,
}

/// Seals the secrets of all access keys under the signing secret of `config`, in a store that nobody has open. All
/// at once when there are few; cut short, the same call goes on.
///
/// # Errors
/// [`OpenError::WrongSecret`] when a secret is under neither: nothing was changed.
pub async fn rekey(config: EngineConfig, old: OldSecret) -> Result<RekeyReport, OpenError> {
    let config = EngineConfig {
        upkeep: crate::UpkeepConfig::default(),
        ..config
    };
    let opened = tokio::task::spawn_blocking(move || Engine::open_with(config, false)).await;
    let engine = opened
        .map_err(|e| OpenError::io("the store could not be opened", std::io::Error::other(e)))??;
    let done = engine.service.reseal(&old).await;
    let closing = engine.clone();
    let closed = tokio::task::spawn_blocking(move || closing.close()).await;
    let report = done.map_err(|error| match error.kind() {
        ErrorKind::InvalidRequest => OpenError::WrongSecret,
        _ => failed(error),
    })?;
    match closed {
        Ok(closed) => closed.map_err(failed)?,
        Err(error) => return Err(failed(error)),
    }
    Ok(report)
}

fn failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::io(
        "the secrets could not be sealed anew",
        std::io::Error::other(error.to_string()),
    )
}

impl Service {
    async fn reseal(self: &Arc<Self>, old: &OldSecret) -> Result<RekeyReport> {
        let old = match old {
            OldSecret::Is(secret) => Some(Secrets::new(secret)),
            OldSecret::Lost => None,
        };
        let mut all = Vec::new();
        each_token(&*self.meta, |id, token| {
            all.push((id.to_owned(), token.clone()))
        })?;
        let (mut report, mut changed) = (RekeyReport::default(), Vec::new());
        for (id, token) in all {
            match self.resealed(old.as_ref(), &id, &token)? {
                Resealed::Already => report.unchanged += 1,
                Resealed::Now(new) => {
                    report.resealed += 1;
                    changed.push((id, token, new));
                }
                Resealed::GivenUp(new) => {
                    report.given_up += 1;
                    changed.push((id, token, new));
                }
            }
        }
        let mut left = &changed[..];
        while !left.is_empty() {
            let (some, rest) = left.split_at(together(left));
            self.replace_tokens(some).await?;
            left = rest;
        }
        Ok(report)
    }

    fn resealed(&self, old: Option<&Secrets>, id: &str, token: &TokenRecord) -> Result<Resealed> {
        let is_ours = token.key_id == self.secrets.key_id()
            || token.key_id == KeyId::default()
                && self.secrets.open(id, &token.sealed_secret).is_ok();
        if is_ours {
            return Ok(Resealed::Already);
        }
        let new = |sealed_secret| TokenRecord {
            sealed_secret,
            key_id: self.secrets.key_id(),
            ..token.clone()
        };
        // What was given up before stays so.
        let Some(old) = old.filter(|_| !token.sealed_secret.is_empty()) else {
            return Ok(Resealed::GivenUp(new(Vec::new())));
        };
        let secret = old.open(id, &token.sealed_secret).map_err(|_| {
            Error::new(
                ErrorKind::InvalidRequest,
                format!("The secret of {id} is sealed under neither signing secret."),
            )
        })?;
        Ok(Resealed::Now(new(self
            .secrets
            .seal(&self.env, id, &secret))))
    }

    /// Changes access keys all at once, unless one was changed meanwhile.
    pub(super) async fn replace_tokens(&self, some: &[Changed]) -> Result<()> {
        let key = |id: &String| Key::Token(id.clone());
        let is = |(id, old, _): &Changed| {
            Precondition::Is(key(id), Box::new(Record::Token(Box::new(old.clone()))))
        };
        let put =
            |(id, _, new): &Changed| Change::put(key(id), Record::Token(Box::new(new.clone())));
        let transaction = Transaction {
            requires: some.iter().map(is).collect(),
            changes: some.iter().map(put).collect(),
            upkeep: true,
            ..Transaction::default()
        };
        match self.meta.commit(transaction).await {
            Err(CommitError::Refused(_)) => Err(Error::new(
                ErrorKind::OperationAborted,
                "An access key was changed meanwhile: start again.",
            )),
            done => Ok(done?),
        }
    }
}

/// The id of an access key, what it was and what it becomes.
type Changed = (String, TokenRecord, TokenRecord);

/// How many of the first of these are changed together; one at least.
fn together(changed: &[Changed]) -> usize {
    let (count_max, mut room) = TOGETHER_MAX;
    let fits = |(id, _, new): &&Changed| {
        let record = Record::Token(Box::new(new.clone())).encode();
        let left = room.checked_sub(id.len() + record.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    let first = &changed[..changed.len().min(count_max)];
    first.iter().take_while(fits).count().max(1)
}

enum Resealed {
    Already,
    Now(TokenRecord),
    GivenUp(TokenRecord),
}

//! Accounts: what buckets and access keys belong to.

use crate::{
    error::{Error, ErrorKind, Result},
    meta::{
        Change, Precondition, Transaction,
        key::{AccountId, Key, after_prefix, tag},
        record::{AccountRecord, Record},
    },
    service::{Requirements, Service, token::check_name},
    types::Timestamp,
};

const PAGE: usize = 1000;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountInfo {
    /// 32 hex digits.
    pub id: String,
    /// Its name, which others may have too.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// False while it is suspended: its access keys are of no use then.
    pub active: bool,
}

impl Service {
    /// Makes an account. The name may be taken: only the first of a name is found by it.
    pub(crate) async fn create_account(&self, name: &str) -> Result<AccountInfo> {
        check_name(name)?;
        let by_name = Key::AccountName(name.to_owned());
        let is_first = self.meta.get(&by_name)?.is_none();
        match self.add_account(name, is_first).await {
            // Somebody was faster.
            Err(error) if is_first && error.kind() == ErrorKind::OperationAborted => {
                self.add_account(name, false).await
            }
            added => added,
        }
    }

    async fn add_account(&self, name: &str, is_first: bool) -> Result<AccountInfo> {
        let id = AccountId(self.env.unique_id());
        let record = AccountRecord {
            name: name.to_owned(),
            created: self.env.clock.now(),
            active: true,
        };
        let info = info(id, &record);
        let mut requires = Requirements::default();
        let mut changes = vec![Change::put(Key::Account(id), Record::Account(record))];
        if is_first {
            let by_name = Key::AccountName(name.to_owned());
            requires.add(
                Precondition::Absent(by_name.clone()),
                ErrorKind::OperationAborted,
                "Another process is making the same account: start again.",
            );
            changes.push(Change::put(by_name, Record::AccountName(id)));
        }
        let transaction = Transaction::of(changes);
        requires.commit(&*self.meta, transaction).await?;
        Ok(info)
    }

    /// The account of this name, made when there is none; whether it was.
    pub(super) async fn seed_account(&self, name: &str) -> Result<(AccountId, bool)> {
        let by_name = Key::AccountName(name.to_owned());
        if let Some(Record::AccountName(id)) = self.meta.get(&by_name)? {
            return Ok((id, false));
        }
        let made = self.add_account(name, true).await?;
        Ok((parse(&made.id)?, true))
    }

    pub(crate) fn accounts(&self) -> Result<Vec<AccountInfo>> {
        let to = after_prefix(&[tag::ACCOUNT]);
        let (mut from, mut all) = (Some(vec![tag::ACCOUNT]), Vec::new());
        while let Some(start) = from.take() {
            let rows = self.meta.scan(&start, to.as_deref(), PAGE)?;
            for (key, record) in &rows.rows {
                if let (Ok(Key::Account(id)), Record::Account(account)) = (Key::decode(key), record)
                {
                    all.push(info(id, account));
                }
            }
            from = rows.next;
        }
        Ok(all)
    }

    /// Suspends an account, or ends that.
    pub(crate) async fn set_account_active(&self, id: &str, active: bool) -> Result<AccountInfo> {
        let id = self.account_of(id)?;
        let key = Key::Account(id);
        let Some(Record::Account(old)) = self.meta.get(&key)? else {
            return Err(no_such_account());
        };
        let new = AccountRecord {
            active,
            ..old.clone()
        };
        let told = info(id, &new);
        let mut requires = Requirements::default();
        requires.add(
            Precondition::Is(key.clone(), Box::new(Record::Account(old))),
            ErrorKind::OperationAborted,
            "The account is being changed by others: try again.",
        );
        let transaction = Transaction {
            changes: vec![Change::put(key, Record::Account(new))],
            upkeep: true,
            ..Transaction::default()
        };
        requires.commit(&*self.meta, transaction).await?;
        Ok(told)
    }

    /// The account with this id.
    pub(super) fn account_of(&self, id: &str) -> Result<AccountId> {
        let id = parse(id)?;
        match self.meta.get(&Key::Account(id))? {
            Some(Record::Account(_)) => Ok(id),
            _ => Err(no_such_account()),
        }
    }
}

fn parse(id: &str) -> Result<AccountId> {
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(id, 16).ok().filter(|_| is_id);
    number.map(AccountId).ok_or_else(no_such_account)
}

fn no_such_account() -> Error {
    Error::new(
        ErrorKind::NoSuchAccount,
        "There is no account with this id.",
    )
}

fn info(id: AccountId, account: &AccountRecord) -> AccountInfo {
    AccountInfo {
        id: id.to_string(),
        name: account.name.clone(),
        created: account.created,
        active: account.active,
    }
}

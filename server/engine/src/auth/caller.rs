//! Who calls, as a front has proven.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::meta::{key::AccountId, record::TokenRecord};

/// Who calls: a token, as a front has proven, the operator, or nobody in particular; and from where. Only the engine
/// makes one of a token.
#[derive(Clone)]
pub struct Caller {
    who: Who,
    address: Option<IpAddr>,
}

#[derive(Clone)]
enum Who {
    Anonymous,
    Operator,
    Token(Identity),
}

/// The token of a caller.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) token_id: Arc<str>,
    pub(super) token: Arc<TokenRecord>,
}

/// The account of callers without a token. Accounts have ids of their time, and this one never comes.
const NOBODY: AccountId = AccountId(u128::MAX);

impl Caller {
    pub(crate) fn new(token_id: &str, token: TokenRecord) -> Self {
        Self::of(Who::Token(Identity {
            token_id: token_id.into(),
            token: Arc::new(token),
        }))
    }

    /// A caller of this access key, for tests that are about nothing else of it.
    #[cfg(test)]
    pub(crate) fn named(token_id: &str) -> Self {
        Self::new(token_id, crate::meta::record::sample::token())
    }

    fn of(who: Who) -> Self {
        Self { who, address: None }
    }

    /// A caller without credentials: the objects of public buckets, and what policies allow to everybody.
    pub fn anonymous() -> Self {
        Self::of(Who::Anonymous)
    }

    /// The operator of the store, who may do everything. For a front that has seen the admin token.
    pub fn operator() -> Self {
        Self::of(Who::Operator)
    }

    /// The same, calling from this address. Without one no allow statement with a condition holds, and every deny
    /// statement with one does.
    pub fn at_address(self, address: IpAddr) -> Self {
        Self {
            address: Some(address.to_canonical()),
            ..self
        }
    }

    /// Whether this is a caller without credentials.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.who, Who::Anonymous)
    }

    /// The id of the access key, for logs; empty without one.
    pub fn token_id(&self) -> &str {
        self.identity().map_or("", |identity| &identity.token_id)
    }

    /// The account that the access key belongs to, as 32 hex digits.
    pub fn account_id(&self) -> String {
        self.account().to_string()
    }

    pub(crate) fn account(&self) -> AccountId {
        self.identity()
            .map_or(NOBODY, |identity| identity.token.account)
    }

    /// Whether this is the operator.
    pub fn is_operator(&self) -> bool {
        matches!(self.who, Who::Operator)
    }

    pub(super) fn identity(&self) -> Option<&Identity> {
        match &self.who {
            Who::Token(identity) => Some(identity),
            Who::Anonymous | Who::Operator => None,
        }
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Operator => f.write_str("Caller(operator)"),
            _ => write!(f, "Caller({})", self.token_id()),
        }
    }
}

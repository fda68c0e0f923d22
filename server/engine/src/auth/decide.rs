//! The one place where rights are decided: the token's own limits, then the policy of the bucket, its owner, its flag.

use ipnet::IpNet;

use super::{
    Action,
    caller::{Caller, Identity},
};
use crate::{
    error::{Error, ErrorKind, Result},
    meta::record::{BucketRecord, TokenRecord},
    types::{BucketName, Effect, ObjectKey, Statement},
};

/// What in a bucket a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// The bucket itself.
    Bucket,
    /// Keys that are looked at one by one later.
    SomeKeys,
    /// One key.
    Key(&'a ObjectKey),
    /// All keys that begin with this.
    Under(&'a str),
}

/// What decided about a request; see [`crate::Engine::explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The operator may do everything.
    Operator,
    /// The request has no token, and nothing lets everybody in.
    NoToken,
    /// The token is unknown, revoked or expired, or its account is suspended.
    TokenUnusable,
    /// The token is not allowed the action.
    TokenAction,
    /// The token is for other buckets.
    TokenBucket,
    /// The token is for other prefixes.
    TokenPrefix,
    /// There is no such bucket.
    NoSuchBucket,
    /// A statement of the policy denies it; the first is number 0.
    Denied(usize),
    /// The token's account owns the bucket.
    Owner,
    /// The bucket's objects are public.
    Public,
    /// A statement of the policy allows it; the first is number 0.
    Allowed(usize),
    /// The bucket belongs to another account, and no statement of its policy allows it.
    NotOwner,
}

impl Reason {
    /// Whether the request is let in.
    pub fn is_allowed(&self) -> bool {
        matches!(
            self,
            Self::Operator | Self::Owner | Self::Public | Self::Allowed(_)
        )
    }
}

/// Decides whether the caller's own token is allowed `action` there, whosever the bucket is.
pub(crate) fn permit(
    caller: &Caller,
    action: Action,
    bucket: Option<&BucketName>,
    place: Place<'_>,
) -> Result<()> {
    match refusal_of_token(caller, action, bucket, place) {
        None => Ok(()),
        Some(reason) => Err(refused(&reason, caller, action)),
    }
}

/// Refuses everybody but the operator.
pub(crate) fn must_be_operator(caller: &Caller, why: &str) -> Result<()> {
    match caller.is_operator() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::AccessDenied, why)),
    }
}

/// Decides whether `caller` may do `action` in `bucket`, which goes by `name`.
pub(crate) fn authorize(
    caller: &Caller,
    action: Action,
    name: &BucketName,
    bucket: Option<BucketRecord>,
    place: Place<'_>,
) -> Result<BucketRecord> {
    let reason = decide(caller, action, name, bucket.as_ref(), place);
    match bucket {
        Some(bucket) if reason.is_allowed() => Ok(bucket),
        // Somebody else's bucket and none at all look alike to those without rights.
        Some(bucket)
            if matches!(reason, Reason::Denied(_) | Reason::NotOwner)
                && !knows(caller, &bucket) =>
        {
            Err(match caller.is_anonymous() {
                true => refused(&Reason::NoToken, caller, action),
                false => no_such_bucket(name),
            })
        }
        _ if matches!(reason, Reason::NoSuchBucket | Reason::Operator) => Err(no_such_bucket(name)),
        _ => Err(refused(&reason, caller, action)),
    }
}

/// What decides about a request.
pub(crate) fn decide(
    caller: &Caller,
    action: Action,
    name: &BucketName,
    bucket: Option<&BucketRecord>,
    place: Place<'_>,
) -> Reason {
    if caller.is_operator() {
        return Reason::Operator;
    }
    // A list of buckets is about none of them.
    let is_about_all = action == Action::BucketList;
    let asked = Some(name).filter(|_| !is_about_all);
    if !caller.is_anonymous()
        && let Some(reason) = refusal_of_token(caller, action, asked, place)
    {
        return reason;
    }
    let stranger = match caller.is_anonymous() {
        true => Reason::NoToken,
        false => Reason::NotOwner,
    };
    let Some(bucket) = bucket else {
        return match stranger {
            Reason::NotOwner => Reason::NoSuchBucket,
            reason => reason,
        };
    };
    let matching = |effect| {
        let mut statements = statements(bucket).iter();
        statements.position(|s| s.effect == effect && holds(s, caller, action, place))
    };
    let is_owner = bucket.owner == caller.account();
    if is_about_all {
        return if is_owner { Reason::Owner } else { stranger };
    }
    if let Some(i) = matching(Effect::Deny) {
        return Reason::Denied(i);
    }
    if is_owner {
        return Reason::Owner;
    }
    if bucket.public_read && action == Action::ObjectGet && matches!(place, Place::Key(_)) {
        return Reason::Public;
    }
    // What the bucket is, nobody may change without saying who he is.
    if caller.is_anonymous() && action == Action::BucketWriteMeta {
        return stranger;
    }
    matching(Effect::Allow).map_or(stranger, Reason::Allowed)
}

/// Prefixes under `under` that a listing must not show to this caller, who may list there.
pub(crate) fn hidden(
    caller: &Caller,
    action: Action,
    bucket: &BucketRecord,
    under: &str,
) -> Vec<String> {
    if caller.is_operator() {
        return Vec::new();
    }
    let denies = statements(bucket)
        .iter()
        .filter(|s| s.effect == Effect::Deny && covers(s, action) && is_about(s, caller));
    let prefixes = denies.flat_map(|statement| &statement.prefixes);
    let below = prefixes.filter(|prefix| prefix.starts_with(under));
    below.cloned().collect()
}

/// Why the caller's token does not let the request through, if so.
fn refusal_of_token(
    caller: &Caller,
    action: Action,
    bucket: Option<&BucketName>,
    place: Place<'_>,
) -> Option<Reason> {
    if caller.is_operator() {
        return None;
    }
    let Some(Identity { token, .. }) = caller.identity() else {
        return Some(Reason::NoToken);
    };
    let TokenRecord {
        actions,
        buckets,
        prefixes,
        ..
    } = &**token;
    if !actions.iter().any(|a| a == "*" || a == action.name()) {
        return Some(Reason::TokenAction);
    }
    if !buckets.is_empty() && !bucket.is_some_and(|name| buckets.iter().any(|b| b == name.as_str()))
    {
        return Some(Reason::TokenBucket);
    }
    let starts = |text: &str| {
        prefixes
            .iter()
            .any(|prefix| text.starts_with(prefix.as_str()))
    };
    let is_inside = match place {
        _ if prefixes.is_empty() => true,
        Place::Key(key) => starts(key.as_str()),
        Place::Under(prefix) => starts(prefix),
        // Who has a part of a bucket does not decide about the whole.
        Place::Bucket => action != Action::BucketWriteMeta,
        Place::SomeKeys => true,
    };
    (!is_inside).then_some(Reason::TokenPrefix)
}

fn statements(bucket: &BucketRecord) -> &[Statement] {
    bucket
        .policy
        .as_deref()
        .map_or(&[], |policy| &policy.statements)
}

/// Whether a statement matches a request.
fn holds(statement: &Statement, caller: &Caller, action: Action, place: Place<'_>) -> bool {
    covers(statement, action) && is_about(statement, caller) && reaches(statement, place)
}

fn covers(statement: &Statement, action: Action) -> bool {
    statement.actions.iter().any(|grant| grant.covers(action))
}

/// Whether a statement is about this caller, from where it calls.
fn is_about(statement: &Statement, caller: &Caller) -> bool {
    let is_meant = |subject: &String| match caller.identity() {
        _ if subject == "*" => true,
        None => false,
        Some(identity) => {
            **subject == *identity.token_id || *subject == identity.token.account.to_string()
        }
    };
    let networks = &statement.conditions.ip_whitelist;
    let is_inside = match caller.address() {
        _ if networks.is_empty() => true,
        Some(address) => networks.iter().any(|network| contains(network, address)),
        None => statement.effect == Effect::Deny,
    };
    is_inside && statement.subjects.iter().any(is_meant)
}

fn contains(network: &IpNet, address: std::net::IpAddr) -> bool {
    network.contains(&address)
}

/// Whether a statement reaches that far. One with prefixes says nothing about the bucket itself; a listing is let in
/// below its prefixes only, and kept out below them: what of a wider one is denied is [`hidden`].
fn reaches(statement: &Statement, place: Place<'_>) -> bool {
    let starts = |text: &str| {
        statement
            .prefixes
            .iter()
            .any(|prefix| text.starts_with(prefix.as_str()))
    };
    match place {
        _ if statement.prefixes.is_empty() => true,
        Place::Bucket => false,
        Place::SomeKeys => statement.effect == Effect::Allow,
        Place::Key(key) => starts(key.as_str()),
        Place::Under(prefix) => starts(prefix),
    }
}

/// Whether the caller may know of the bucket at all.
fn knows(caller: &Caller, bucket: &BucketRecord) -> bool {
    let allows = |s: &Statement| s.effect == Effect::Allow && is_about(s, caller);
    bucket.owner == caller.account() || bucket.public_read || statements(bucket).iter().any(allows)
}

fn refused(reason: &Reason, caller: &Caller, action: Action) -> Error {
    let action = action.name();
    let why = match reason {
        Reason::NoToken => "Access Denied: sign the request with an access key.".to_owned(),
        Reason::TokenPrefix => {
            let prefixes = caller
                .identity()
                .map(|identity| identity.token.prefixes.join(", "));
            let prefixes = prefixes.unwrap_or_default();
            format!(
                "Access denied: this access key is for keys and listings under {prefixes} only."
            )
        }
        Reason::TokenBucket => "Access denied: this access key is for other buckets.".to_owned(),
        Reason::Denied(_) => {
            format!("Access denied: the policy of the bucket denies {action} here.")
        }
        _ => format!("Access denied: this access key is not allowed {action} here."),
    };
    Error::new(ErrorKind::AccessDenied, why)
}

/// The error for a bucket that is not there, or is not the caller's to know of.
pub(crate) fn no_such_bucket(name: &BucketName) -> Error {
    Error::new(
        ErrorKind::NoSuchBucket,
        format!("The specified bucket does not exist: {name}. Create it first, or check the name."),
    )
}

//! Jay's policies: what they say, and what is decided by them.

use std::{net::IpAddr, sync::Arc};

use crate::{
    auth::{Action, Caller, KeyId, Place, Reason, authorize, decide, hidden},
    meta::{
        key::{AccountId, BucketId, tag},
        record::{BucketRecord, Record, TokenRecord},
    },
    types::{BucketName, Effect, Grant, ObjectKey, POLICY_BYTES_MAX, Policy, Statement, Timestamp},
};

/// The owner of the bucket.
const OWNER: AccountId = AccountId(1);
/// How many of the names in a policy are tried, of each kind.
const TRIED: usize = 2;
/// Of the requests, one in so many is made; which ones depends on the policy.
const STRIDE: usize = 8;

/// Policies in Jay's JSON are written and kept as they were read, and a deny statement wins, whoever asks for what.
pub fn policy(data: &[u8]) {
    let Ok(policy) = Policy::parse(data) else {
        return;
    };
    let json = policy.to_json();
    // Left out lists are written, so it may have become too long to be set again.
    if json.len() <= POLICY_BYTES_MAX {
        assert_eq!(Policy::parse(json.as_bytes()).as_ref().ok(), Some(&policy));
    }
    let kept = Record::Bucket(bucket(policy.statements.clone()));
    let read = Record::decode(tag::BUCKET, &kept.encode());
    assert_eq!(read.as_ref().ok(), Some(&kept));
    let judge = Judge::new(&policy);
    let mut requests = json.len() % STRIDE..;
    Requests::of(&policy).each(|caller, action, place| {
        if requests.next().is_some_and(|number| number % STRIDE == 0) {
            judge.decide(caller, action, place);
        }
    });
}

fn bucket(statements: Vec<Statement>) -> BucketRecord {
    let version = crate::types::POLICY_VERSION.to_owned();
    BucketRecord {
        policy: Some(Arc::new(Policy {
            document: None,
            version,
            statements,
        })),
        ..BucketRecord::new(BucketId(1), OWNER, Timestamp(0))
    }
}

/// The requests that a policy is tried with: by and about what it names, and what it does not.
struct Requests {
    callers: Vec<Caller>,
    actions: Vec<Action>,
    texts: Vec<String>,
}

impl Requests {
    fn of(policy: &Policy) -> Self {
        let statements = || policy.statements.iter();
        let subjects = statements().flat_map(|s| &s.subjects).take(TRIED);
        let mut callers = vec![
            Caller::anonymous(),
            Caller::operator(),
            token("owner", OWNER, "*"),
        ];
        for subject in subjects {
            let account = u128::from_str_radix(subject, 16).unwrap_or(2);
            callers.push(token(subject, AccountId(account), "*"));
            callers.push(token(subject, AccountId(account), "object:get"));
        }
        let networks = statements().flat_map(|s| &s.conditions.ip_whitelist);
        let inside = networks.take(TRIED).map(|network| network.addr());
        let addresses: Vec<IpAddr> = inside.chain(["192.0.2.1".parse().expect("one")]).collect();
        let from = |caller: &Caller, address: &IpAddr| caller.clone().at_address(*address);
        let somewhere = addresses
            .iter()
            .flat_map(|address| callers.iter().map(move |caller| from(caller, address)));
        let callers = somewhere.collect::<Vec<_>>().into_iter().chain(callers);
        let named = statements().flat_map(|s| &s.actions).take(TRIED);
        let named = named.filter_map(|grant| match grant {
            Grant::All => None,
            Grant::One(action) => Some(*action),
        });
        let others = [
            Action::ObjectGet,
            Action::ObjectReadMeta,
            Action::ObjectList,
            Action::BucketWriteMeta,
        ];
        let prefixes = statements().flat_map(|s| &s.prefixes).take(TRIED);
        let near = |prefix: &String| {
            let mut shorter = prefix.clone();
            shorter.pop();
            [prefix.clone() + "x", shorter]
        };
        Self {
            callers: callers.collect(),
            actions: named.chain(others).collect(),
            texts: prefixes
                .flat_map(near)
                .chain(["other".to_owned()])
                .collect(),
        }
    }

    fn each(&self, mut check: impl FnMut(&Caller, Action, Place<'_>)) {
        for caller in &self.callers {
            for action in &self.actions {
                check(caller, *action, Place::Bucket);
                check(caller, *action, Place::SomeKeys);
                for text in &self.texts {
                    check(caller, *action, Place::Under(text));
                    if let Ok(key) = ObjectKey::parse(text) {
                        check(caller, *action, Place::Key(&key));
                    }
                }
            }
        }
    }
}

fn token(id: &str, account: AccountId, action: &str) -> Caller {
    Caller::new(
        id,
        TokenRecord {
            account,
            name: String::new(),
            created: Timestamp(0),
            expires: None,
            active: true,
            sealed_secret: Vec::new(),
            key_id: KeyId::default(),
            secret_hash: String::new(),
            actions: vec![action.to_owned()],
            buckets: Vec::new(),
            prefixes: Vec::new(),
        },
    )
}

/// A bucket with a policy, and the same one with parts of it.
struct Judge<'a> {
    statements: &'a [Statement],
    name: BucketName,
    whole: BucketRecord,
    reversed: BucketRecord,
    denies: BucketRecord,
    allows: BucketRecord,
}

impl<'a> Judge<'a> {
    fn new(policy: &'a Policy) -> Self {
        let statements = || policy.statements.iter();
        let only = |effect| {
            bucket(
                statements()
                    .filter(|s| s.effect == effect)
                    .cloned()
                    .collect(),
            )
        };
        Self {
            statements: &policy.statements,
            name: BucketName::parse("bucket").expect("a name"),
            whole: bucket(policy.statements.clone()),
            reversed: bucket(statements().rev().cloned().collect()),
            denies: only(Effect::Deny),
            allows: only(Effect::Allow),
        }
    }

    /// What is decided about one request, against what is decided by parts of the policy.
    fn decide(&self, caller: &Caller, action: Action, place: Place<'_>) {
        let by = |bucket: &BucketRecord| decide(caller, action, &self.name, Some(bucket), place);
        let alone = |i: usize| by(&bucket(vec![self.statements[i].clone()]));
        let reason = by(&self.whole);
        let what = || format!("{reason:?} for {caller:?}: {action:?} at {place:?}");
        match by(&self.denies) {
            Reason::Denied(_) => assert!(matches!(reason, Reason::Denied(_)), "{}", what()),
            _ => assert_eq!(
                by(&self.allows).is_allowed(),
                reason.is_allowed(),
                "{}",
                what()
            ),
        }
        match reason {
            Reason::Denied(i) => {
                assert_eq!(self.statements[i].effect, Effect::Deny, "{}", what());
                assert_eq!(alone(i), Reason::Denied(0), "{}", what());
                assert!(!caller.is_operator(), "{}", what());
            }
            Reason::Allowed(i) => {
                assert_eq!(self.statements[i].effect, Effect::Allow, "{}", what());
                assert_eq!(alone(i), Reason::Allowed(0), "{}", what());
                let changes_bucket = action == Action::BucketWriteMeta;
                assert!(!(caller.is_anonymous() && changes_bucket), "{}", what());
            }
            _ => {}
        }
        let is_allowed = reason.is_allowed();
        assert_eq!(by(&self.reversed).is_allowed(), is_allowed, "{}", what());
        let answer = authorize(caller, action, &self.name, Some(self.whole.clone()), place);
        assert_eq!(answer.is_ok(), is_allowed, "{}", what());
        // A list of buckets is about none of them, so no policy is asked.
        if let (Place::Under(under), true, false) =
            (place, is_allowed, action == Action::BucketList)
        {
            self.list(caller, action, under);
        }
    }

    /// A listing that is let in passes over every prefix below it that is denied.
    fn list(&self, caller: &Caller, action: Action, under: &str) {
        let passed_over = hidden(caller, action, &self.whole, under);
        let prefixes = self.statements.iter().flat_map(|s| &s.prefixes);
        for prefix in prefixes.take(TRIED).filter(|p| p.starts_with(under)) {
            let place = Place::Under(prefix);
            let reason = decide(caller, action, &self.name, Some(&self.whole), place);
            let is_denied = matches!(reason, Reason::Denied(_));
            let is_hidden = passed_over.iter().any(|hidden| prefix.starts_with(hidden));
            assert_eq!(
                is_denied, is_hidden,
                "{prefix:?} below {under:?}: {caller:?}"
            );
        }
    }
}

//! A policy of Jay's form as AWS's JSON.

use std::collections::BTreeMap;

use jay_engine::{Action, BucketName, Effect, Grant, Policy, Statement};
use serde::Serialize;

use super::names::{OBJECT, PUT, Pattern, S3, bucket_arn, principal};

/// The version of AWS's form that has variables.
pub(super) const VERSION: &str = "2012-10-17";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document<'a> {
    version: &'static str,
    statement: Vec<Written<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    effect: &'static str,
    principal: Principal,
    action: Vec<String>,
    resource: Vec<String>,
    #[serde(skip_serializing_if = "Condition::is_empty")]
    condition: Condition,
}

/// Operator, key, values.
type Condition = BTreeMap<&'static str, BTreeMap<&'static str, Vec<String>>>;

#[derive(Serialize)]
#[serde(untagged)]
enum Principal {
    Everybody(&'static str),
    #[serde(rename_all = "UPPERCASE")]
    Some {
        aws: Vec<String>,
    },
}

/// The JSON of a policy of `bucket`.
pub(crate) fn document(policy: &Policy, bucket: &BucketName) -> String {
    let statements = policy.statements.iter();
    let document = Document {
        version: VERSION,
        statement: statements.flat_map(|s| written(s, bucket)).collect(),
    };
    serde_json::to_string(&document).expect("texts and lists are JSON")
}

/// A statement, in two when listings below prefixes have to be told apart from objects below them.
fn written<'a>(statement: &'a Statement, bucket: &BucketName) -> Vec<Written<'a>> {
    let arn = bucket_arn(bucket);
    let prefixes = match statement.prefixes.iter().any(String::is_empty) {
        true => vec![String::new()],
        false => statement.prefixes.clone(),
    };
    let patterns: Vec<_> = prefixes.iter().map(|p| Pattern::escape(p) + "*").collect();
    let below: Vec<_> = patterns.iter().map(|p| format!("{arn}/{p}")).collect();
    let whole = format!("{arn}/*");
    let part = |action, resource| Written::new(statement, action, resource);
    if statement.actions.contains(&Grant::All) {
        return vec![match prefixes.is_empty() {
            true => part(vec!["s3:*".into()], vec![arn, whole]),
            false => part(vec!["jay:*".into()], below),
        }];
    }
    let asked = |action: &Action| statement.actions.iter().any(|grant| grant.covers(*action));
    let (mut objects, bucket_only, lists) = names(&asked);
    if prefixes.is_empty() {
        let mut resource = Vec::new();
        if !bucket_only.is_empty() || lists {
            resource.push(arn);
        }
        if !objects.is_empty() {
            resource.push(whole);
        }
        objects.extend(lists.then(|| "s3:ListBucket".to_owned()));
        objects.extend(bucket_only);
        return vec![part(objects, resource)];
    }
    objects.extend(bucket_only);
    let mut parts = Vec::new();
    if !objects.is_empty() {
        parts.push(part(objects, below));
    }
    if lists {
        let mut list = part(vec!["s3:ListBucket".into()], vec![arn]);
        let keys = BTreeMap::from([("s3:prefix", patterns)]);
        list.condition.insert("StringLike", keys);
        parts.push(list);
    }
    parts
}

/// The names of the actions about objects, of those about the bucket alone, and whether it lists.
fn names(asked: &dyn Fn(&Action) -> bool) -> (Vec<String>, Vec<String>, bool) {
    let jay = |action: &Action| format!("jay:{}", action.name());
    let has_put = PUT.iter().all(asked);
    let mut objects = Vec::new();
    for action in OBJECT.iter().filter(|action| asked(action)) {
        if has_put && PUT.contains(action) {
            continue;
        }
        let s3 = S3.iter().find(|(_, actions)| *actions == [*action]);
        objects.push(s3.map_or_else(|| jay(action), |(name, _)| (*name).to_owned()));
    }
    if has_put {
        objects.push("s3:PutObject".into());
    }
    let rest = Action::NAMED.iter().filter(|action| asked(action));
    let rest = rest.filter(|action| !OBJECT.contains(action) && **action != Action::ObjectList);
    (objects, rest.map(jay).collect(), asked(&Action::ObjectList))
}

impl<'a> Written<'a> {
    fn new(statement: &'a Statement, action: Vec<String>, resource: Vec<String>) -> Self {
        let subjects = &statement.subjects;
        let networks = &statement.conditions.ip_whitelist;
        let mut condition = Condition::new();
        if !networks.is_empty() {
            let networks = networks.iter().map(ToString::to_string).collect();
            condition.insert("IpAddress", BTreeMap::from([("aws:SourceIp", networks)]));
        }
        Self {
            sid: statement.sid.as_deref(),
            effect: match statement.effect {
                Effect::Allow => "Allow",
                Effect::Deny => "Deny",
            },
            principal: match subjects.as_slice() {
                [all] if all == "*" => Principal::Everybody("*"),
                _ => Principal::Some {
                    aws: subjects.iter().map(|subject| principal(subject)).collect(),
                },
            },
            action,
            resource,
            condition,
        }
    }
}

//! Types that the engine reads and writes itself, as the document tells of them: none is ever made.
#![expect(dead_code, reason = "only their schemas are used")]

use jay_engine::Action;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

/// The name of an action.
pub(in crate::admin) struct ActionName;

/// The name of an action, or `*` for all of them.
pub(in crate::admin) struct GrantName;

/// A policy of a bucket, in Jay's form. A deny wins over every allow; the order does not matter.
#[derive(ToSchema)]
#[schema(as = Policy)]
#[serde(deny_unknown_fields)]
pub(in crate::admin) struct PolicyDocument {
    version: Version,
    statements: Vec<Statement>,
}

#[derive(ToSchema)]
#[schema(as = PolicyVersion)]
enum Version {
    #[serde(rename = "2024-01-01")]
    Only,
}

/// What a policy allows or denies.
#[derive(ToSchema)]
#[schema(as = PolicyStatement)]
#[serde(deny_unknown_fields)]
struct Statement {
    /// What it is called.
    #[schema(nullable = false)]
    sid: Option<String>,
    effect: Effect,
    #[schema(min_items = 1)]
    actions: Vec<GrantName>,
    /// Beginnings of keys; absent or empty: everything in the bucket, and the bucket itself.
    #[serde(default)]
    prefixes: Vec<String>,
    /// Ids of access keys or accounts; `*`: everybody, without an access key too.
    #[schema(min_items = 1)]
    subjects: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
}

#[derive(ToSchema)]
#[schema(as = PolicyEffect)]
#[serde(rename_all = "lowercase")]
enum Effect {
    Allow,
    Deny,
}

/// When a statement holds.
#[derive(Default, ToSchema)]
#[schema(as = PolicyConditions)]
#[serde(deny_unknown_fields)]
struct Conditions {
    /// Only for callers from these networks (CIDR) or addresses.
    #[serde(default)]
    ip_whitelist: Vec<String>,
}

fn one_of(names: impl Iterator<Item = &'static str>) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String);
    text.enum_values(Some(names)).into()
}

impl PartialSchema for ActionName {
    fn schema() -> RefOr<Schema> {
        one_of(Action::NAMED.into_iter().map(Action::name))
    }
}

impl PartialSchema for GrantName {
    fn schema() -> RefOr<Schema> {
        one_of(
            ["*"]
                .into_iter()
                .chain(Action::NAMED.into_iter().map(Action::name)),
        )
    }
}

impl ToSchema for ActionName {}

impl ToSchema for GrantName {}

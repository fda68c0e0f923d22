//! Scenario files: read, held against the schema, decoded.

use std::{collections::BTreeMap, collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

/// One scenario. FORMAT.md says what each field means.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    /// The file it stands in, without its ending.
    #[serde(skip)]
    pub file: String,
    /// A sentence that is true of a right server.
    pub name: String,
    /// Capabilities without which a driver is not asked.
    #[serde(default)]
    pub requires: Vec<String>,
    /// What is there before.
    #[serde(default)]
    pub given: Given,
    /// What happens.
    pub operations: Vec<Step>,
    /// bucket → key → body: what is there in the end.
    #[serde(default)]
    pub outcome: BTreeMap<String, BTreeMap<String, Value>>,
}

/// What is there before the first operation.
#[derive(Debug, Default, Deserialize)]
pub struct Given {
    /// Buckets.
    pub buckets: Vec<String>,
    /// Arguments of `put_object`.
    #[serde(default)]
    pub objects: Vec<Value>,
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// Many operations at once.
    Group(Group),
    /// One operation.
    One(Box<One>),
}

/// One operation and what it should answer.
#[derive(Debug, Deserialize)]
pub struct One {
    /// How it is sent.
    pub via: Option<Value>,
    /// The name under which its result is kept.
    #[serde(rename = "as")]
    pub kept_as: Option<String>,
    /// The result that is right.
    pub expect: Option<Value>,
    /// The kinds of errors that are right.
    pub error: Option<Kinds>,
    /// The operation.
    #[serde(flatten)]
    pub call: Call,
}

/// Operations that are sent at once.
#[derive(Debug, Deserialize)]
pub struct Group {
    /// The operations.
    pub parallel: Vec<Repeated>,
    /// How many succeed.
    pub succeeded: Count,
    /// What the others may answer.
    #[serde(default)]
    pub errors: Vec<String>,
    /// The name under which the results are kept.
    #[serde(rename = "as")]
    pub kept_as: Option<String>,
}

/// An operation of a group.
#[derive(Debug, Deserialize)]
pub struct Repeated {
    /// How often.
    #[serde(default = "one")]
    pub repeat: u64,
    /// The operation.
    #[serde(flatten)]
    pub call: Call,
}

fn one() -> u64 {
    1
}

/// A number, or its bounds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub enum Count {
    /// Exactly.
    Exactly(usize),
    /// At least and at most.
    Between(usize, usize),
}

impl Count {
    /// Whether `number` is right.
    pub fn holds(self, number: usize) -> bool {
        match self {
            Count::Exactly(count) => number == count,
            Count::Between(least, most) => (least..=most).contains(&number),
        }
    }
}

/// One kind, or several of which one is right.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Kinds {
    /// This.
    One(String),
    /// One of these.
    Any(Vec<String>),
}

impl Kinds {
    /// All of them.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Kinds::One(kind) => std::slice::from_ref(kind),
            Kinds::Any(kinds) => kinds,
        }
    }
}

/// An operation: in the file, the one member that is named after it.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Call {
    /// Its name.
    pub op: String,
    /// Its arguments, not yet resolved.
    pub args: Value,
}

impl TryFrom<Map<String, Value>> for Call {
    type Error = String;

    fn try_from(members: Map<String, Value>) -> Result<Self, String> {
        let mut members = members.into_iter();
        match (members.next(), members.next()) {
            (Some((op, args)), None) => Ok(Self { op, args }),
            _ => Err("a step has one operation".to_owned()),
        }
    }
}

/// All scenarios of a suite, file by file.
pub fn load(suite: &Path) -> anyhow::Result<Vec<Scenario>> {
    let schema = schema(suite)?;
    let directory = suite.join("scenarios");
    let mut files = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        files.push(entry?.path());
    }
    files.sort();
    let mut scenarios = Vec::new();
    for path in files {
        let what = || path.display().to_string();
        let text = fs::read_to_string(&path).with_context(what)?;
        let file = path.file_stem().unwrap_or_default().to_string_lossy();
        scenarios.extend(parse(&schema, &file, &text).with_context(what)?);
    }
    let mut names = BTreeSet::new();
    for scenario in &scenarios {
        ensure!(
            names.insert(&scenario.name),
            "two scenarios have the name {:?}",
            scenario.name
        );
    }
    Ok(scenarios)
}

fn schema(suite: &Path) -> anyhow::Result<jsonschema::Validator> {
    let path = suite.join("scenario.schema.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(jsonschema::validator_for(&serde_json::from_str(&text)?)?)
}

fn parse(schema: &jsonschema::Validator, file: &str, text: &str) -> anyhow::Result<Vec<Scenario>> {
    let document: Value = serde_saphyr::from_str(text)?;
    if let Err(error) = schema.validate(&document) {
        bail!("{}: {error}", error.instance_path());
    }
    let mut scenarios: Vec<Scenario> = serde_json::from_value(document)?;
    for scenario in &mut scenarios {
        scenario.file = file.to_owned();
    }
    Ok(scenarios)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
- name: a good one
  given: {buckets: [b], objects: [{bucket: b, key: k, body: {size: 1, seed: 1}}]}
  operations:
    - head_object: {bucket: b, key: k}
      expect: {size: 1}
      as: head
    - parallel: [{delete_object: {bucket: b, key: k}, repeat: 2}]
      succeeded: [1, 2]
  outcome: {b: {}}
";

    fn check(text: &str) -> anyhow::Result<Vec<Scenario>> {
        parse(&schema(Path::new("."))?, "test", text)
    }

    #[test]
    fn every_file_is_as_the_schema_says() {
        let scenarios = load(Path::new(".")).unwrap();
        assert!(scenarios.len() >= 75, "{}", scenarios.len());
    }

    #[test]
    fn what_is_not_in_the_format_is_refused() {
        let good = check(GOOD).unwrap();
        assert_eq!((good.len(), good[0].operations.len()), (1, 2));
        for (from, to) in [
            ("head_object:", "head_objects:"),
            ("expect: {size: 1}", "expects: {size: 1}"),
            (
                "expect: {size: 1}",
                "expect: {size: 1}\n      error: NoSuchKey",
            ),
            ("as: head", "delete_object: {bucket: b, key: k}"),
            ("as: head", "as: 1"),
            (
                "key: k}\n      expect",
                "key: k, rnage: {first: 1}}\n      expect",
            ),
            ("{size: 1, seed: 1}", "{size: -1, seed: 1}"),
            ("{size: 1, seed: 1}", "{size: 1}"),
            ("repeat: 2", "repeat: 65"),
            ("succeeded: [1, 2]", "errors: [NoSuchKey]"),
            ("name: a good one", "title: a good one"),
            ("outcome: {b: {}}", "requires: [telepathy]"),
        ] {
            let bad = GOOD.replace(from, to);
            assert_ne!(bad, GOOD, "{from}");
            assert!(check(&bad).is_err(), "{to}");
        }
    }
}

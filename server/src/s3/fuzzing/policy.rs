//! Policies in AWS's JSON, and what is made of them here.

use jay_engine::{Action, BucketName, Effect, POLICY_BYTES_MAX, Policy};
use serde_json::{Value, json};

use crate::s3::policy::{read, write};

/// The actions that are tried, under both names.
const OF_OBJECTS: [(&str, Action); 4] = [
    ("s3:GetObject", Action::ObjectGet),
    ("s3:PutObject", Action::ObjectPut),
    ("s3:DeleteObject", Action::ObjectDelete),
    ("s3:AbortMultipartUpload", Action::MultipartAbort),
];
const ARN: &str = "arn:aws:s3:::photos";
/// Most names of keys that are tried.
const KEYS_MAX: usize = 64;

/// A policy that is taken is the same when it was written and read again, and each of its statements reaches exactly
/// as far as AWS's rules say.
pub fn aws_policy(data: &[u8]) {
    let Some(policy) = policy(data) else {
        return;
    };
    let written = write::document(&policy, &bucket());
    // Its names are longer than Jay's, so it may have become too long to be set again.
    if written.len() <= POLICY_BYTES_MAX {
        assert_eq!(self::policy(written.as_bytes()), Some(policy), "{written}");
    }
    let document: Value = serde_json::from_slice(data).expect("it was read");
    let statements = match &document["Statement"] {
        Value::Array(statements) => &statements[..],
        one => std::slice::from_ref(one),
    };
    let version = document
        .get("Version")
        .and_then(Value::as_str)
        .unwrap_or("2008-10-17");
    for statement in statements {
        reach(version, statement);
    }
}

fn bucket() -> BucketName {
    BucketName::parse("photos").expect("a name")
}

/// What is made of a document, its text aside.
fn policy(document: &[u8]) -> Option<Policy> {
    let policy = read::policy(document, &bucket()).ok()?;
    Some(Policy {
        document: None,
        ..policy
    })
}

/// Holds what was made of one statement against another reading of it.
fn reach(version: &str, statement: &Value) {
    let alone = json!({"Version": version, "Statement": statement}).to_string();
    if alone.len() > POLICY_BYTES_MAX {
        return;
    }
    let here = policy(alone.as_bytes()).expect("it was taken along with the others");
    let there = Read::of(statement, version == "2012-10-17");
    // Jay's own names of actions have no meaning there.
    if there
        .actions
        .iter()
        .any(|action| action.to_ascii_lowercase().starts_with("jay:"))
    {
        return;
    }
    for text in there.keys(&here) {
        for (name, action) in OF_OBJECTS {
            let reaches = there.reaches_object(name, &text);
            assert_eq!(
                reaches_here(&here, action, &text),
                reaches,
                "{name} {text:?} {alone}"
            );
        }
        let lists = there.lists(&text);
        let list = reaches_here(&here, Action::ObjectList, &text);
        assert_eq!(list, lists, "s3:ListBucket {text:?} {alone}");
    }
}

fn reaches_here(policy: &Policy, action: Action, text: &str) -> bool {
    policy.statements.iter().any(|statement| {
        let mut prefixes = statement.prefixes.iter();
        let is_below = statement.prefixes.is_empty() || prefixes.any(|p| text.starts_with(&**p));
        is_below && statement.actions.iter().any(|grant| grant.covers(action))
    })
}

/// A statement as AWS's rules read it.
struct Read {
    actions: Vec<String>,
    resources: Vec<Vec<Token>>,
    /// Of `s3:prefix`.
    prefixes: Option<Vec<Vec<Token>>>,
    /// What to make keys of.
    texts: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
}

impl Read {
    fn of(statement: &Value, has_variables: bool) -> Self {
        let effect = statement["Effect"]
            .as_str()
            .and_then(|text| text.parse().ok());
        let resources = texts(&statement["Resource"]);
        let (mut prefixes, mut all) = (None, resources.clone());
        for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
            for (_, values) in keys
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(key, _)| key.eq_ignore_ascii_case("s3:prefix"))
            {
                all.extend(texts(values));
                let read = |text: &String| {
                    let mut pattern = tokens(text, has_variables, operator == "StringLike");
                    // Who may list one prefix sees all below it.
                    if effect == Some(Effect::Allow) && pattern.last() != Some(&Token::Any) {
                        pattern.push(Token::Any);
                    }
                    pattern
                };
                prefixes = Some(texts(values).iter().map(read).collect());
            }
        }
        Self {
            actions: texts(&statement["Action"]),
            resources: resources
                .iter()
                .map(|r| tokens(r, has_variables, true))
                .collect(),
            prefixes,
            texts: all,
        }
    }

    /// Names near those that either side knows.
    fn keys(&self, here: &Policy) -> Vec<String> {
        let prefix = format!("{ARN}/");
        let there = self.texts.iter().map(|text| {
            let text = text
                .strip_prefix(&prefix)
                .unwrap_or(text)
                .trim_end_matches('*');
            text.replace("${*}", "*")
                .replace("${?}", "?")
                .replace("${$}", "$")
        });
        let here = here
            .statements
            .iter()
            .flat_map(|statement| statement.prefixes.clone());
        let near = |text: String| {
            let mut shorter = text.clone();
            shorter.pop();
            [text.clone() + "x", text, shorter]
        };
        let keys = there.chain(here).chain(["other".to_owned()]).flat_map(near);
        keys.take(KEYS_MAX).collect()
    }

    fn names(&self, action: &str) -> bool {
        let names = ["*", "s3:*", action];
        let mut said = self.actions.iter();
        said.any(|said| names.iter().any(|name| said.eq_ignore_ascii_case(name)))
    }

    fn reaches_object(&self, action: &str, key: &str) -> bool {
        let arn = format!("{ARN}/{key}");
        self.names(action) && self.resources.iter().any(|pattern| matches(pattern, &arn))
    }

    fn lists(&self, prefix: &str) -> bool {
        let mut prefixes = self.prefixes.iter().flatten();
        self.names("s3:ListBucket")
            && self.resources.iter().any(|pattern| matches(pattern, ARN))
            && (self.prefixes.is_none() || prefixes.any(|pattern| matches(pattern, prefix)))
    }
}

/// A string, or the strings of a list.
fn texts(value: &Value) -> Vec<String> {
    let list = match value {
        Value::Array(list) => &list[..],
        one => std::slice::from_ref(one),
    };
    let texts = list.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn tokens(text: &str, has_variables: bool, has_wildcards: bool) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let (mut rest, mut tokens) = (&characters[..], Vec::new());
    loop {
        rest = match rest {
            [] => return tokens,
            ['$', '{', c @ ('*' | '?' | '$'), '}', rest @ ..] if has_variables => {
                tokens.push(Token::Char(*c));
                rest
            }
            [c, rest @ ..] => {
                tokens.push(match c {
                    '*' if has_wildcards => Token::Any,
                    '?' if has_wildcards => Token::One,
                    c => Token::Char(*c),
                });
                rest
            }
        }
    }
}

fn matches(pattern: &[Token], text: &str) -> bool {
    let mut rest = text.chars();
    match pattern {
        [] => text.is_empty(),
        [Token::Char(c), pattern @ ..] => {
            rest.next() == Some(*c) && matches(pattern, rest.as_str())
        }
        [Token::One, pattern @ ..] => rest.next().is_some() && matches(pattern, rest.as_str()),
        [Token::Any] => true,
        [Token::Any, others @ ..] => {
            matches(others, text) || rest.next().is_some() && matches(pattern, rest.as_str())
        }
    }
}

//! A policy of AWS's form, as Jay's: what has no counterpart is refused, naming the statement.

use jay_engine::{BucketName, Effect, POLICY_BYTES_MAX, POLICY_VERSION, Policy, Statement};

use super::{
    grants::{Reach, Said},
    json::Json,
    malformed,
    names::{self, Pattern},
    too_long,
    write::VERSION,
};
use crate::s3::error::Result;

/// The version of AWS's form that has no variables, and the one of a policy that names none.
const VERSION_OLD: &str = "2008-10-17";

/// Reads the JSON of a policy of `bucket`.
pub(crate) fn policy(document: &[u8], bucket: &BucketName) -> Result<Policy> {
    if document.len() > POLICY_BYTES_MAX {
        return Err(too_long());
    }
    let json = serde_json::from_slice::<Json>(document).map_err(|e| malformed(&e.to_string()))?;
    let policy = read(json, bucket).map_err(|why| malformed(&why))?;
    Ok(Policy {
        document: String::from_utf8(document.to_vec()).ok(),
        ..policy
    })
}

fn read(json: Json, bucket: &BucketName) -> Result<Policy, String> {
    let (mut version, mut listed) = (VERSION_OLD.to_owned(), None);
    for (name, value) in json.members("it")? {
        match name.as_str() {
            "Version" => version = value.text("Version")?,
            // A name for its owner's eyes, which nothing refers to.
            "Id" => drop(value.text("Id")?),
            "Statement" => listed = Some(value),
            _ => return Err(format!("it has an unknown element {name:?}")),
        }
    }
    if ![VERSION, VERSION_OLD].contains(&version.as_str()) {
        return Err(format!("the version {version:?} is not {VERSION:?}"));
    }
    let listed = match listed.ok_or("it has no Statement")? {
        Json::List(list) => list,
        one => vec![one],
    };
    let rules = Rules {
        bucket,
        has_variables: version == VERSION,
    };
    let mut statements = Vec::new();
    for (i, json) in listed.into_iter().enumerate() {
        statements.extend(rules.statements(i, json)?);
    }
    Ok(Policy {
        version: POLICY_VERSION.into(),
        statements,
        document: None,
    })
}

/// By what a statement is read.
struct Rules<'a> {
    bucket: &'a BucketName,
    has_variables: bool,
}

impl Rules<'_> {
    /// What one statement becomes.
    fn statements(&self, i: usize, json: Json) -> Result<Vec<Statement>, String> {
        let mut label = format!("statement {}", i + 1);
        if let Json::Map(members) = &json
            && let Some((_, Json::Text(sid))) = members.iter().find(|(name, _)| name == "Sid")
        {
            label += &format!(" ({sid:?})");
        }
        self.said(json)
            .and_then(Said::into_statements)
            .map_err(|why| format!("{label}: {why}"))
    }

    fn said(&self, json: Json) -> Result<Said, String> {
        let mut said = Said::default();
        let mut condition = None;
        for (name, value) in json.members("it")? {
            match name.as_str() {
                "Sid" => said.sid = Some(value.text("Sid")?),
                "Effect" => said.effect = Some(effect(&value.text("Effect")?)?),
                "Principal" => said.subjects = self.subjects(value)?,
                "Action" => said.actions = value.texts("Action")?,
                "Resource" => said.reach = self.reach(value)?,
                "Condition" => condition = Some(value),
                "NotPrincipal" | "NotAction" | "NotResource" => {
                    let which = &name[3..];
                    return Err(format!(
                        "{name} is not supported: say by {which} what is meant"
                    ));
                }
                _ => return Err(format!("it has an unknown element {name:?}")),
            }
        }
        // Last, since some conditions depend on the effect.
        if let Some(condition) = condition {
            self.condition(&mut said, condition)?;
        }
        let missing = match &said {
            Said { effect: None, .. } => "Effect",
            said if said.subjects.is_empty() => "Principal",
            said if said.actions.is_empty() => "Action",
            said if !said.reach.bucket && said.reach.below.is_empty() => "Resource",
            _ => return Ok(said),
        };
        Err(format!("it has no {missing}"))
    }

    fn subjects(&self, json: Json) -> Result<Vec<String>, String> {
        let texts = match json {
            Json::Text(all) if all == "*" => vec![all],
            Json::Text(_) => return Err("Principal is neither \"*\" nor {\"AWS\": …}".into()),
            json => {
                let mut named = Vec::new();
                for (name, value) in json.members("Principal")? {
                    if name != "AWS" {
                        return Err(format!(
                            "principals of the kind {name:?} are not supported: name token ids or account ids under \"AWS\""
                        ));
                    }
                    named = value.texts("Principal")?;
                }
                named
            }
        };
        let subject = |text: &String| names::subject(text, self.has_variables);
        let mut subjects = Vec::new();
        for text in &texts {
            push_new(&mut subjects, subject(text)?);
        }
        Ok(subjects)
    }

    fn reach(&self, json: Json) -> Result<Reach, String> {
        let mut reach = Reach::default();
        for text in json.texts("Resource")? {
            match names::resource(&text, self.bucket, self.has_variables)? {
                None => reach.bucket = true,
                Some(prefix) => push_new(&mut reach.below, prefix),
            }
        }
        simplify(&mut reach.below);
        Ok(reach)
    }

    fn condition(&self, said: &mut Said, json: Json) -> Result<(), String> {
        for (operator, keys) in json.members("Condition")? {
            let keys = keys.members(&format!("the condition {operator}"))?;
            if keys.is_empty() {
                return Err(format!("the condition {operator} is empty"));
            }
            for (key, values) in keys {
                let what = format!("the condition {operator} of {key}");
                let values = values.texts(&what);
                match (operator.as_str(), key.to_ascii_lowercase().as_str()) {
                    ("IpAddress", "aws:sourceip") => {
                        if !std::mem::replace(&mut said.networks, values?).is_empty() {
                            return Err("aws:SourceIp has two conditions".into());
                        }
                    }
                    ("StringLike" | "StringEquals", "s3:prefix") => {
                        let is_like = operator == "StringLike";
                        let prefixes = self.listed(&values?, is_like, said.effect)?;
                        if said.prefixes.replace(prefixes).is_some() {
                            return Err("s3:prefix has two conditions".into());
                        }
                    }
                    _ => {
                        return Err(format!(
                            "{what} is not supported: there are IpAddress of aws:SourceIp, and StringLike and \
                             StringEquals of s3:prefix"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// The prefixes below which a condition lets list. Who may list one prefix sees all below it, so that a prefix
    /// alone allows the same as all that begin with it; to deny it is less.
    fn listed(
        &self,
        values: &[String],
        is_like: bool,
        effect: Option<Effect>,
    ) -> Result<Vec<String>, String> {
        let mut prefixes = Vec::new();
        for text in values {
            let pattern = match is_like {
                true => Pattern::parse(text, self.has_variables),
                false => Pattern::literal(text, self.has_variables),
            };
            let pattern = pattern.map_err(|why| format!("the condition of s3:prefix: {why}"))?;
            if !pattern.is_open && effect != Some(Effect::Allow) {
                return Err(format!(
                    "the condition of s3:prefix names {text:?} alone, and statements reach here to all that begins \
                     with it: if that is meant, use StringLike and end it with `*`"
                ));
            }
            push_new(&mut prefixes, pattern.prefix);
        }
        simplify(&mut prefixes);
        Ok(prefixes)
    }
}

fn effect(text: &str) -> Result<Effect, String> {
    match text {
        "Allow" => Ok(Effect::Allow),
        "Deny" => Ok(Effect::Deny),
        _ => Err(format!(
            "the effect {text:?} is neither \"Allow\" nor \"Deny\""
        )),
    }
}

fn push_new(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

/// What begins with nothing is everything.
fn simplify(prefixes: &mut Vec<String>) {
    if prefixes.iter().any(String::is_empty) {
        *prefixes = vec![String::new()];
    }
}

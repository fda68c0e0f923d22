//! The values of a scenario: references to earlier results, values that are computed, and the comparison of
//! what is expected with what was found.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::body::{self, Piece};

/// Most bytes of a text that is made by `$repeat`.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What values may refer to.
pub struct Scope {
    /// The results that were kept, by name.
    pub kept: Map<String, Value>,
    /// What this scenario's buckets begin with.
    pub prefix: String,
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Arguments,
    Expectation,
    /// Inside of a value that is computed.
    Made,
}

impl Scope {
    /// Arguments as the driver gets them. `index` says which of a group's repetitions it is.
    pub fn arguments(&self, args: &Value, index: u64) -> anyhow::Result<Value> {
        self.resolve(args, Place::Arguments, index)
    }

    /// An expectation as it is compared.
    pub fn expectation(&self, value: &Value) -> anyhow::Result<Value> {
        self.resolve(value, Place::Expectation, 0)
    }

    fn resolve(&self, value: &Value, place: Place, index: u64) -> anyhow::Result<Value> {
        Ok(match value {
            Value::String(text) => match text.strip_prefix('$') {
                Some("index") => index.into(),
                Some("any" | "absent") if place == Place::Expectation => value.clone(),
                Some(path) => self.look_up(path)?,
                None => value.clone(),
            },
            Value::Array(items) => {
                let items = items.iter().map(|item| self.resolve(item, place, index));
                Value::Array(items.collect::<anyhow::Result<_>>()?)
            }
            Value::Object(members) => match members.iter().next() {
                Some((name, inner)) if members.len() == 1 && name.starts_with('$') => {
                    make(name, &self.resolve_made(name, inner, index)?)?
                }
                _ => self.resolve_members(members, place, index)?,
            },
            _ => value.clone(),
        })
    }

    /// What a value is computed of; a literal is not resolved.
    fn resolve_made(&self, name: &str, inner: &Value, index: u64) -> anyhow::Result<Value> {
        match name {
            "$literal" => Ok(inner.clone()),
            _ => self.resolve(inner, Place::Made, index),
        }
    }

    fn resolve_members(
        &self,
        members: &Map<String, Value>,
        place: Place,
        index: u64,
    ) -> anyhow::Result<Value> {
        let mut resolved = Map::new();
        for (name, value) in members {
            let mut result = self.resolve(value, place, index)?;
            match (name.as_str(), place) {
                ("bucket" | "bucket_prefix", Place::Arguments) if value.is_string() => {
                    let short = result.as_str().context("a bucket is a text")?;
                    result = format!("{}{short}", self.prefix).into();
                }
                ("body", Place::Arguments) => result = pieces_as_sent(&result)?,
                ("body", Place::Expectation) if is_body(&result) => result = digest(&result)?,
                _ => {}
            }
            resolved.insert(name.clone(), result);
        }
        Ok(Value::Object(resolved))
    }

    fn look_up(&self, path: &str) -> anyhow::Result<Value> {
        let mut steps = path.split('.');
        let first = steps.next().unwrap_or_default();
        let mut found = self.kept.get(first);
        for step in steps {
            found = found.and_then(|value| match step.parse::<usize>() {
                Ok(index) => value.get(index).or_else(|| value.get(step)),
                Err(_) => value.get(step),
            });
        }
        found
            .cloned()
            .with_context(|| format!("${path} refers to nothing"))
    }
}

/// `{size, sha256}` of a body.
pub fn digest(value: &Value) -> anyhow::Result<Value> {
    let bytes = bytes(value)?;
    Ok(json!({"size": bytes.len(), "sha256": body::sha256_hex(&bytes)}))
}

/// A body as drivers get it.
pub fn pieces_as_sent(value: &Value) -> anyhow::Result<Value> {
    let pieces = pieces(value)?;
    let sent = pieces
        .iter()
        .map(|piece| json!({"size": piece.size, "seed": piece.seed, "offset": piece.offset}));
    Ok(Value::Array(sent.collect()))
}

fn is_body(value: &Value) -> bool {
    value.is_array() || value.get("seed").is_some()
}

fn pieces(value: &Value) -> anyhow::Result<Vec<Piece>> {
    Ok(match value {
        Value::Array(_) => serde_json::from_value(value.clone())?,
        _ => vec![serde_json::from_value(value.clone())?],
    })
}

fn bytes(value: &Value) -> anyhow::Result<Vec<u8>> {
    Ok(body::bytes(&pieces(value)?))
}

fn parts(value: &Value) -> anyhow::Result<Option<Vec<Vec<u8>>>> {
    let Some(Value::Array(parts)) = value.get("parts") else {
        return Ok(None);
    };
    parts
        .iter()
        .map(bytes)
        .collect::<anyhow::Result<_>>()
        .map(Some)
}

/// A value that is computed.
fn make(name: &str, inner: &Value) -> anyhow::Result<Value> {
    let made = match name {
        "$literal" => return Ok(inner.clone()),
        "$md5" => body::md5_base64(&bytes(inner)?),
        "$etag" => match parts(inner)? {
            Some(parts) => body::etag_of_parts(&parts),
            None => body::md5_hex(&bytes(inner)?),
        },
        "$checksum" => {
            let algorithm = inner["algorithm"].as_str().unwrap_or_default();
            let made = match parts(inner)? {
                Some(parts) => body::checksum_of_parts(algorithm, &parts),
                None => body::checksum(algorithm, &bytes(&inner["body"])?),
            };
            made.with_context(|| format!("no checksum algorithm {algorithm:?}"))?
        }
        "$repeat" => {
            let (text, times) = (inner["text"].as_str(), inner["times"].as_u64());
            let (text, times) = (text.unwrap_or_default(), times.unwrap_or_default() as usize);
            if text.len().saturating_mul(times) > TEXT_BYTES_MAX {
                bail!("$repeat makes more than {TEXT_BYTES_MAX} bytes");
            }
            text.repeat(times)
        }
        _ => bail!("{name} is nothing that the runner makes"),
    };
    Ok(made.into())
}

/// The first place where `found` is not what is expected: where, what was expected, what was found.
pub fn difference(
    expected: &Value,
    found: Option<&Value>,
    at: &str,
) -> Option<(String, Value, Value)> {
    let shown = found.cloned().unwrap_or_else(|| "(missing)".into());
    let differs = || {
        Some((
            at.trim_start_matches('.').to_owned(),
            expected.clone(),
            shown.clone(),
        ))
    };
    match (expected, found.filter(|found| !found.is_null())) {
        (Value::String(matcher), None) if matcher == "$absent" => None,
        (Value::String(matcher), Some(_)) if matcher == "$any" => None,
        (Value::Object(expected), Some(Value::Object(found))) => expected
            .iter()
            .find_map(|(name, value)| difference(value, found.get(name), &format!("{at}.{name}"))),
        (Value::Array(expected), Some(Value::Array(found))) if expected.len() == found.len() => {
            let pairs = expected.iter().zip(found).enumerate();
            let mut pairs = pairs.map(|(i, (e, f))| difference(e, Some(f), &format!("{at}.{i}")));
            pairs.find_map(|difference| difference)
        }
        (Value::Null, None) => None,
        (expected, Some(found)) if expected == found => None,
        _ => differs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let kept = json!({"up": {"upload_id": "u", "parts": [{"etag": "e"}]}, "text": "$any"});
        Scope {
            kept: kept.as_object().unwrap().clone(),
            prefix: "p-".into(),
        }
    }

    #[test]
    fn arguments_are_resolved() {
        let args = json!({
            "bucket": "b", "source": {"bucket": "c"}, "upload_id": "$up.upload_id", "etag": "$up.parts.0.etag",
            "body": {"size": 1, "seed": "$index"}, "key": {"$literal": "$x"}, "metadata": {"a": {"$repeat": {"text": "ab", "times": 2}}},
        });
        let expected = json!({
            "bucket": "p-b", "source": {"bucket": "p-c"}, "upload_id": "u", "etag": "e",
            "body": [{"size": 1, "seed": 3, "offset": 0}], "key": "$x", "metadata": {"a": "abab"},
        });
        assert_eq!(scope().arguments(&args, 3).unwrap(), expected);
        let literal = json!({"bucket": {"$literal": "b"}});
        assert_eq!(scope().arguments(&literal, 0).unwrap()["bucket"], "b");
        assert!(scope().arguments(&json!({"key": "$nothing.x"}), 0).is_err());
        assert!(scope().arguments(&json!({"key": "$any"}), 0).is_err());
    }

    #[test]
    fn expectations_are_computed() {
        let hello = json!({"body": {"size": 0, "seed": 1}, "bucket": "b", "etag": {"$etag": []}, "x": "$any",
            "sums": {"CRC32": {"$checksum": {"algorithm": "CRC32", "body": {"size": 0, "seed": 1}}}}});
        let found = scope().expectation(&hello).unwrap();
        assert_eq!(found["body"]["size"], 0);
        assert_eq!(
            found["body"]["sha256"],
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(found["etag"], "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(found["bucket"], "b");
        assert_eq!(found["sums"]["CRC32"], "AAAAAA==");
    }

    #[test]
    fn only_what_is_named_is_compared() {
        let found = json!({"a": 1, "b": [{"c": 2, "d": 3}], "n": null});
        let holds = |expected: Value| difference(&expected, Some(&found), "").is_none();
        for good in [
            json!({}),
            json!({"a": 1, "b": [{"d": 3}]}),
            json!({"a": "$any", "n": "$absent", "z": "$absent"}),
        ] {
            assert!(holds(good.clone()), "{good}");
        }
        for bad in [
            json!({"a": 2}),
            json!({"a": "1"}),
            json!({"b": []}),
            json!({"b": [{"c": 2}, {}]}),
            json!({"b": [{"c": 3}]}),
            json!({"z": "$any"}),
            json!({"n": "$any"}),
            json!({"a": "$absent"}),
            json!({"z": 1}),
        ] {
            assert!(!holds(bad.clone()), "{bad}");
        }
        let (at, expected, _) = difference(&json!({"b": [{"c": 3}]}), Some(&found), "").unwrap();
        assert_eq!((at.as_str(), expected), ("b.0.c", json!(3)));
    }
}

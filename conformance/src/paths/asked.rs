//! What the drivers inside this program share: operations in, results out, and their arguments.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, Write as _},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use md5::{Digest as _, Md5};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::runtime::Runtime;

use crate::body::{self, Piece, hex};

/// Why an operation failed: its kind, and a sentence.
pub(super) struct Refused(pub(super) String, pub(super) String);

pub(super) type Result<T, E = Refused> = std::result::Result<T, E>;

pub(super) fn unsupported(why: impl std::fmt::Display) -> Refused {
    Refused("Unsupported".into(), why.to_string())
}

/// Answers operations, each beside the others, until the input ends.
pub(super) fn answer_all<F: Future<Output = Result<Value>> + Send + 'static>(
    driver: &str,
    capabilities: &[&str],
    runtime: Runtime,
    answer: impl Fn(Value) -> F,
) -> anyhow::Result<()> {
    say(&json!({"driver": driver, "capabilities": capabilities}))?;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let id = asked["id"].clone();
        let answered = answer(asked);
        runtime.spawn(async move {
            let said = match answered.await {
                Ok(result) => json!({"id": id, "result": result}),
                Err(Refused(kind, message)) => {
                    json!({"id": id, "error": {"kind": kind, "message": message}})
                }
            };
            // A runner that is gone needs no answer.
            let _ = say(&said);
        });
    }
    Ok(())
}

fn say(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

/// The arguments of an operation. Each is taken; what is left is unknown.
pub(super) struct Args(pub(super) Map<String, Value>);

impl Args {
    /// Those of a line.
    pub(super) fn of(asked: &Value) -> Self {
        Self(asked["args"].as_object().cloned().unwrap_or_default())
    }

    pub(super) fn option<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let value = self.0.remove(name);
        let value = value.map(|value| {
            serde_json::from_value(value).map_err(|e| unsupported(format!("{name}: {e}")))
        });
        value.transpose()
    }

    pub(super) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        self.option(name)?
            .ok_or_else(|| unsupported(format!("{name} is missing")))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String> {
        self.required(name)
    }

    pub(super) fn body(&mut self) -> Result<Vec<u8>> {
        Ok(body::bytes(&self.required::<Vec<Piece>>("body")?))
    }

    pub(super) fn map(&mut self, name: &str) -> Result<BTreeMap<String, String>> {
        Ok(self.option(name)?.unwrap_or_default())
    }

    /// A range as numbers: first, last, suffix.
    pub(super) fn range_numbers(&mut self) -> Result<Option<Numbers>> {
        let range = self.option::<BTreeMap<String, u64>>("range")?;
        Ok(range.map(|range| numbers(&range)))
    }

    /// The algorithm of a checksum, and its value.
    pub(super) fn checksum_given(&mut self) -> Result<Option<(String, Vec<u8>)>> {
        let Some(mut given) = self.option::<BTreeMap<String, String>>("checksum")? else {
            return Ok(None);
        };
        let mut of = |name: &str| given.remove(name).unwrap_or_default();
        let value = BASE64_STANDARD.decode(of("value")).map_err(unsupported)?;
        Ok(Some((of("algorithm"), value)))
    }

    /// A moment, in milliseconds.
    pub(super) fn time(&mut self, name: &str) -> Result<Option<u64>> {
        let text = self.option::<String>(name)?;
        let parsed = text.map(|text| text.parse::<jiff::Timestamp>().map_err(unsupported));
        Ok(parsed
            .transpose()?
            .map(|time| time.as_millisecond().max(0) as u64))
    }

    /// That nothing is left.
    pub(super) fn end(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(unsupported(format!("the argument {name}"))),
        }
    }
}

/// First, last and suffix of a range.
pub(super) type Numbers = (Option<u64>, Option<u64>, Option<u64>);

pub(super) fn numbers(range: &BTreeMap<String, u64>) -> Numbers {
    let of = |name: &str| range.get(name).copied();
    (of("first"), of("last"), of("suffix"))
}

/// Bytes that were received, as a result tells of them.
#[derive(Default)]
pub(super) struct Received {
    sha256: Sha256,
    md5: Md5,
    size: usize,
}

impl Received {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.size += bytes.len();
    }

    pub(super) fn told(self) -> Value {
        let (sha256, md5) = (hex(&self.sha256.finalize()), hex(&self.md5.finalize()));
        json!({"size": self.size, "sha256": sha256, "md5": md5})
    }
}

/// A moment in whole seconds, as results have it.
pub(super) fn shown(milliseconds: u64) -> String {
    let seconds = i64::try_from(milliseconds / 1000).unwrap_or_default();
    let at = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    at.to_string()
}

//! Plays a scenario: makes what is given, sends the operations, compares, looks at the outcome.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::{
    driver::{Answer, Asked, Driver, Refusal},
    paths::{Path, System},
    scenario::{Call, Group, One, Scenario, Step},
    values::{self, Scope},
};

/// Keys of one page of the listing that checks an outcome: small, so that pages are met.
const OUTCOME_PAGE_KEYS: usize = 7;

/// One cell of the matrix.
#[derive(Debug)]
pub enum Cell {
    /// As the scenario says.
    Passed,
    /// The driver lacks these capabilities.
    Lacking(Vec<String>),
    /// Not as the scenario says.
    Failed(Failure),
}

/// What was not as it should be.
#[derive(Debug)]
pub struct Failure {
    /// Which step.
    pub step: String,
    /// What was sent.
    pub asked: Value,
    /// What would have been right.
    pub expected: Value,
    /// What it was.
    pub found: Value,
}

/// Plays scenarios on a path: one system, one driver, which is started anew when it fails.
pub fn play_path(path: &Path, scenarios: &[Scenario]) -> anyhow::Result<Vec<Cell>> {
    let mut playing = Playing::start(path, None)?;
    Ok(scenarios
        .iter()
        .map(|scenario| playing.play(scenario))
        .collect())
}

/// A path at work.
pub struct Playing<'a> {
    path: &'a Path,
    system: System,
    driver: Option<Driver>,
    played: usize,
}

impl<'a> Playing<'a> {
    /// Starts the system, with one of its deliberate faults if asked for, and the driver.
    pub fn start(path: &'a Path, fault: Option<&str>) -> anyhow::Result<Self> {
        let system = path.start(fault)?;
        let driver = Some(Driver::start(&mut path.driver(&system))?);
        Ok(Self {
            path,
            system,
            driver,
            played: 0,
        })
    }

    /// Plays one scenario.
    pub fn play(&mut self, scenario: &Scenario) -> Cell {
        self.played += 1;
        let driver = match self.driver.take() {
            Some(driver) => Ok(driver),
            None => Driver::start(&mut self.path.driver(&self.system)),
        };
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => return Cell::Failed(Failure::of("start of the driver", &error)),
        };
        let lacking = driver.lacks(&scenario.requires);
        let mut play = Play {
            driver: &mut driver,
            scope: Scope {
                kept: Map::new(),
                prefix: format!("c{:03}-", self.played),
            },
        };
        let cell = match lacking.is_empty() {
            false => Cell::Lacking(lacking),
            true => match play.scenario(scenario) {
                Ok(None) => Cell::Passed,
                Ok(Some(failure)) => Cell::Failed(failure),
                // The driver is of no more use: the next scenario gets a new one.
                Err(error) => return Cell::Failed(Failure::of("driver", &error)),
            },
        };
        self.driver = Some(driver);
        cell
    }
}

impl Failure {
    fn of(step: &str, error: &anyhow::Error) -> Self {
        Self {
            step: step.into(),
            asked: Value::Null,
            expected: Value::Null,
            found: format!("{error:#}").into(),
        }
    }
}

/// One scenario under way.
struct Play<'a> {
    driver: &'a mut Driver,
    scope: Scope,
}

/// `Ok(None)` is as it should be; an error is the driver's or the scenario's own.
type Verdict = anyhow::Result<Option<Failure>>;

impl Play<'_> {
    fn scenario(&mut self, scenario: &Scenario) -> Verdict {
        for bucket in &scenario.given.buckets {
            let args = json!({"bucket": bucket});
            self.given("create_bucket", args)?;
        }
        for object in &scenario.given.objects {
            self.given("put_object", object.clone())?;
        }
        for (i, step) in scenario.operations.iter().enumerate() {
            let verdict = match step {
                Step::One(one) => self.one(i, one)?,
                Step::Group(group) => self.group(i, group)?,
            };
            if verdict.is_some() {
                return Ok(verdict);
            }
        }
        for (bucket, objects) in &scenario.outcome {
            let verdict = self.outcome(bucket, objects)?;
            if verdict.is_some() {
                return Ok(verdict);
            }
        }
        Ok(None)
    }

    fn given(&mut self, op: &str, args: Value) -> anyhow::Result<()> {
        let call = Call {
            op: op.into(),
            args,
        };
        let asked = self.asked(&call, 0, None)?;
        match self.driver.ask(asked.clone())? {
            Ok(_) => Ok(()),
            Err(refusal) => bail!("what is given cannot be made: {asked:?}: {refusal:?}"),
        }
    }

    fn asked(&self, call: &Call, index: u64, via: Option<&Value>) -> anyhow::Result<Asked> {
        Ok(Asked {
            op: call.op.clone(),
            args: self.scope.arguments(&call.args, index)?,
            via: via.cloned(),
        })
    }

    fn one(&mut self, i: usize, one: &One) -> Verdict {
        let asked = self.asked(&one.call, 0, one.via.as_ref())?;
        let mut answer = self.driver.ask(asked.clone())?;
        if let Ok(result) = &mut answer {
            strip_buckets(result, &self.scope.prefix);
        }
        let failure = |at: &str, expected: Value, found: Value| {
            Ok(Some(Failure {
                step: format!("{}. {}{at}", i + 1, asked.op),
                asked: asked.args.clone(),
                expected,
                found,
            }))
        };
        match (&answer, &one.error) {
            (Ok(result), None) => {
                let expected = self
                    .scope
                    .expectation(one.expect.as_ref().unwrap_or(&json!({})))?;
                if let Some((at, expected, found)) = values::difference(&expected, Some(result), "")
                {
                    return failure(&format!(": {at}"), expected, found);
                }
            }
            (Err(refusal), Some(kinds)) if kinds.as_slice().contains(&refusal.kind) => {}
            (_, Some(kinds)) => {
                return failure("", json!({"error": kinds.as_slice()}), shown(&answer));
            }
            (Err(_), None) => {
                return failure(
                    "",
                    one.expect.clone().unwrap_or("success".into()),
                    shown(&answer),
                );
            }
        }
        if let (Some(name), Ok(result)) = (&one.kept_as, answer) {
            self.scope.kept.insert(name.clone(), result);
        }
        Ok(None)
    }

    fn group(&mut self, i: usize, group: &Group) -> Verdict {
        let mut asked = Vec::new();
        for repeated in &group.parallel {
            for index in 0..repeated.repeat {
                asked.push(self.asked(&repeated.call, index, None)?);
            }
        }
        let answers = self.driver.ask_all(&asked)?;
        let succeeded: Vec<&Value> = answers
            .iter()
            .filter_map(|answer| answer.as_ref().ok())
            .collect();
        let refused: Vec<&Refusal> = answers
            .iter()
            .filter_map(|answer| answer.as_ref().err())
            .collect();
        let is_right = group.succeeded.holds(succeeded.len())
            && refused.iter().all(|r| group.errors.contains(&r.kind));
        if !is_right {
            return Ok(Some(Failure {
                step: format!("{}. parallel", i + 1),
                asked: asked.iter().map(|one| json!({&one.op: one.args})).collect(),
                expected: json!({"succeeded": format!("{:?}", group.succeeded), "errors": group.errors}),
                found: answers.iter().map(shown).collect(),
            }));
        }
        if let Some(name) = &group.kept_as {
            let failed: Vec<&String> = refused.iter().map(|refusal| &refusal.kind).collect();
            let kept = json!({"succeeded": succeeded, "failed": failed});
            self.scope.kept.insert(name.clone(), kept);
        }
        Ok(None)
    }

    /// Lists a bucket and reads all that is in it.
    fn outcome(&mut self, bucket: &str, expected: &BTreeMap<String, Value>) -> Verdict {
        let failure = |what: &str, expected: Value, found: Value| {
            Ok(Some(Failure {
                step: format!("outcome: {what}"),
                asked: json!({"bucket": bucket}),
                expected,
                found,
            }))
        };
        let listed = match self.list(bucket)? {
            Ok(listed) => listed,
            Err(refusal) => return failure("listing", "success".into(), shown(&Err(refusal))),
        };
        let keys: Vec<&str> = listed
            .iter()
            .filter_map(|entry| entry["key"].as_str())
            .collect();
        if !keys.iter().copied().eq(expected.keys().map(String::as_str)) {
            return failure("keys", expected.keys().cloned().collect(), json!(keys));
        }
        for (entry, (key, body)) in listed.iter().zip(expected) {
            let args = json!({"bucket": bucket, "key": key});
            let get = Call {
                op: "get_object".into(),
                args,
            };
            let got = match self.driver.ask(self.asked(&get, 0, None)?)? {
                Ok(got) => got,
                Err(refusal) => return failure(key, "success".into(), shown(&Err(refusal))),
            };
            let body = values::digest(&self.scope.arguments(body, 0)?)?;
            let right = json!({"body": body, "size": body["size"], "length": body["size"], "etag": entry["etag"]});
            if let Some((at, expected, found)) = values::difference(&right, Some(&got), "") {
                return failure(&format!("{key}: {at}"), expected, found);
            }
            if entry["size"] != body["size"] {
                return failure(
                    &format!("{key}: size in the listing"),
                    body["size"].clone(),
                    entry["size"].clone(),
                );
            }
        }
        Ok(None)
    }

    fn list(&mut self, bucket: &str) -> anyhow::Result<Result<Vec<Value>, Refusal>> {
        let mut entries = Vec::new();
        let mut token = Value::Null;
        loop {
            let mut args = json!({"bucket": bucket, "max_keys": OUTCOME_PAGE_KEYS});
            if !token.is_null() {
                args["continuation_token"] = json!({"$literal": token});
            }
            let op = "list_objects_v2".into();
            match self.driver.ask(self.asked(&Call { op, args }, 0, None)?)? {
                Ok(mut page) => {
                    let objects = page["objects"].as_array_mut().map(std::mem::take);
                    entries.extend(objects.unwrap_or_default());
                    token = page["next_continuation_token"].take();
                }
                Err(refusal) => return Ok(Err(refusal)),
            }
            // A server whose pages never end is wrong, and must not keep us.
            if token.is_null() || entries.len() > 10_000 {
                return Ok(Ok(entries));
            }
        }
    }
}

fn shown(answer: &Answer) -> Value {
    match answer {
        Ok(result) => result.clone(),
        Err(refusal) => json!({"error": refusal.kind, "message": refusal.message}),
    }
}

/// Takes the prefix off buckets, and other scenarios' buckets out of the list.
fn strip_buckets(result: &mut Value, prefix: &str) {
    if let Some(Value::Array(buckets)) = result.get_mut("buckets") {
        buckets.retain(|bucket| {
            bucket["bucket"]
                .as_str()
                .is_some_and(|name| name.starts_with(prefix))
        });
        for bucket in buckets {
            let short = bucket["bucket"]
                .as_str()
                .and_then(|name| name.strip_prefix(prefix));
            bucket["bucket"] = short.unwrap_or_default().into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver that gives these answers, one to each operation, and then ends.
    fn played(answers: &[&str], scenarios: &str) -> Vec<Cell> {
        let mut script = r#"echo '{"capabilities": ["a"]}';"#.to_owned();
        for (i, answer) in answers.iter().enumerate() {
            script += &format!(r#"read line; echo '{{"id": {}, {answer}}}';"#, i + 1);
        }
        let scenarios: Vec<Scenario> = serde_saphyr::from_str(scenarios).unwrap();
        play_path(&Path::of_script(&script), &scenarios).unwrap()
    }

    fn step(cell: &Cell) -> &str {
        match cell {
            Cell::Failed(failure) => &failure.step,
            Cell::Passed => "passed",
            Cell::Lacking(_) => "lacking",
        }
    }

    const OK: &str = r#""result": {"size": 1, "keys": [1, 2]}"#;
    const NO_KEY: &str = r#""error": {"kind": "NoSuchKey"}"#;

    #[test]
    fn a_step_is_held_against_what_it_should_be() {
        for (answer, says, verdict) in [
            (OK, "", "passed"),
            (OK, "expect: {size: 1}", "passed"),
            (OK, "expect: {size: 2}", "1. get_object: size"),
            (OK, "expect: {keys: [2, 1]}", "1. get_object: keys.0"),
            (OK, "error: NoSuchKey", "1. get_object"),
            (NO_KEY, "error: NoSuchKey", "passed"),
            (NO_KEY, "error: [NoSuchBucket, NoSuchKey]", "passed"),
            (NO_KEY, "error: NoSuchBucket", "1. get_object"),
            (NO_KEY, "", "1. get_object"),
        ] {
            let text = format!("- {{name: a, operations: [{{get_object: {{}}, {says}}}]}}");
            assert_eq!(
                step(&played(&[answer], &text)[0]),
                verdict,
                "{answer} {says}"
            );
        }
    }

    #[test]
    fn a_group_is_counted() {
        for (says, verdict) in [
            ("succeeded: 1, errors: [NoSuchKey]", "passed"),
            ("succeeded: [0, 2], errors: [NoSuchKey]", "passed"),
            ("succeeded: 2, errors: [NoSuchKey]", "1. parallel"),
            ("succeeded: 1, errors: []", "1. parallel"),
        ] {
            let group = format!("parallel: [{{get_object: {{}}, repeat: 2}}], {says}");
            let text = format!("- {{name: a, operations: [{{{group}}}]}}");
            assert_eq!(step(&played(&[OK, NO_KEY], &text)[0]), verdict, "{says}");
        }
    }

    #[test]
    fn a_driver_that_dies_fails_its_scenario_alone() {
        let text = "
- {name: one, operations: [{get_object: {}}]}
- {name: two, operations: [{get_object: {}}]}
- {name: three, operations: [{get_object: {}}]}
- {name: four, requires: [b], operations: [{get_object: {}}]}
";
        let cells = played(&[OK], text);
        let steps: Vec<&str> = cells.iter().map(step).collect();
        assert_eq!(steps, ["passed", "driver", "passed", "lacking"]);
    }

    #[test]
    fn listing_and_reading_must_agree_in_the_end() {
        let listed = r#""result": {"objects": [{"key": "k", "size": 0, "etag": "e"}]}"#;
        let got = |size: u64, etag: &str| {
            let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
            format!(
                r#""result": {{"size": {size}, "length": 0, "etag": "{etag}", "body": {{"size": 0, "sha256": "{empty}"}}}}"#
            )
        };
        let outcome = |objects: &str| {
            format!("- {{name: a, operations: [{{get_object: {{}}}}], outcome: {{b: {objects}}}}}")
        };
        let is_there = outcome("{k: {size: 0, seed: 1}}");
        for (text, got, verdict) in [
            (&is_there, got(0, "e"), "passed"),
            (&is_there, got(0, "f"), "outcome: k: etag"),
            (&is_there, got(1, "e"), "outcome: k: size"),
            (
                &outcome("{k: {size: 1, seed: 1}}"),
                got(0, "e"),
                "outcome: k: body.sha256",
            ),
            (&outcome("{}"), got(0, "e"), "outcome: keys"),
            (
                &outcome("{k: {size: 0, seed: 1}, l: {size: 0, seed: 1}}"),
                got(0, "e"),
                "outcome: keys",
            ),
        ] {
            assert_eq!(step(&played(&[OK, listed, &got], text)[0]), verdict);
        }
    }
}

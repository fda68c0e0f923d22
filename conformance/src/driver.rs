//! A driver process: operations to its standard input, results from its standard output, one JSON object a line.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long one operation may take.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a driver may take to say what it can do: some load an SDK first.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A driver that runs.
pub struct Driver {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    capabilities: Vec<String>,
    last_id: u64,
}

/// An operation as it is sent.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its name.
    pub op: String,
    /// Its arguments, resolved.
    pub args: Value,
    /// How it is sent.
    pub via: Option<Value>,
}

/// What a driver answered.
pub type Answer = Result<Value, Refusal>;

/// An operation that failed as operations do.
#[derive(Clone, Debug, Deserialize)]
pub struct Refusal {
    /// The kind of the error.
    pub kind: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
struct Hello {
    capabilities: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    id: u64,
    result: Option<Value>,
    error: Option<Refusal>,
}

impl Driver {
    /// Starts it and hears what it can do.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?} does not start"))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut driver = Self {
            child,
            input,
            lines,
            capabilities: Vec::new(),
            last_id: 0,
        };
        let hello: Hello = serde_json::from_str(&driver.line(START_TIMEOUT)?)?;
        driver.capabilities = hello.capabilities;
        Ok(driver)
    }

    /// What of `required` it lacks.
    pub fn lacks(&self, required: &[String]) -> Vec<String> {
        let lacking = required
            .iter()
            .filter(|one| !self.capabilities.contains(one));
        lacking.cloned().collect()
    }

    /// Asks for one operation.
    pub fn ask(&mut self, asked: Asked) -> anyhow::Result<Answer> {
        let answers = self.ask_all(&[asked])?;
        answers.into_iter().next().context("no answer")
    }

    /// Asks for operations at the same time; the answers are in their order. An error says that the driver
    /// is of no more use.
    pub fn ask_all(&mut self, asked: &[Asked]) -> anyhow::Result<Vec<Answer>> {
        let first = self.last_id + 1;
        let mut text = String::new();
        for one in asked {
            self.last_id += 1;
            let mut line = json!({"id": self.last_id, "op": one.op, "args": one.args});
            if let Some(via) = &one.via {
                line["via"] = via.clone();
            }
            text += &format!("{line}\n");
        }
        let mut input = self.input.as_ref().context("the driver has ended")?;
        input
            .write_all(text.as_bytes())
            .and_then(|()| input.flush())
            .context("the driver has died")?;
        let mut answers: Vec<Option<Answer>> = vec![None; asked.len()];
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        while answers.iter().any(Option::is_none) {
            let text = self.line(deadline.saturating_duration_since(Instant::now()))?;
            let line: Line = serde_json::from_str(&text)
                .with_context(|| format!("the driver said {text:?}, which is no answer"))?;
            let place = line
                .id
                .checked_sub(first)
                .and_then(|i| answers.get_mut(i as usize));
            let place = place
                .with_context(|| format!("the driver answered {}, which was not asked", line.id))?;
            *place = Some(match (line.result, line.error) {
                (Some(result), None) => Ok(result),
                (None, Some(error)) => Err(error),
                _ => bail!("the driver gave neither a result nor an error: {text}"),
            });
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn line(&mut self, patience: Duration) -> anyhow::Result<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!(
                "the driver did not answer in {} s",
                OPERATION_TIMEOUT.as_secs()
            ),
            Err(RecvTimeoutError::Disconnected) => bail!("the driver has died"),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The end of its input ends it; one that hangs is ended.
        self.input.take();
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> anyhow::Result<Driver> {
        Driver::start(Command::new("sh").args(["-c", script]))
    }

    fn asked(op: &str) -> Asked {
        Asked {
            op: op.into(),
            args: json!({}),
            via: None,
        }
    }

    const HELLO: &str = r#"echo '{"capabilities": ["a"]}';"#;

    #[test]
    fn answers_find_their_questions() {
        let script = r#"read x; read y; echo '{"id": 2, "error": {"kind": "NoSuchKey"}}'; echo '{"id": 1, "result": {"op": 1}}'; read z"#;
        let mut driver = shell(&format!("{HELLO} {script}")).unwrap();
        assert_eq!(driver.lacks(&["a".into(), "b".into()]), ["b"]);
        let answers = driver.ask_all(&[asked("one"), asked("two")]).unwrap();
        assert_eq!(answers[0].as_ref().unwrap()["op"], 1);
        assert_eq!(answers[1].as_ref().unwrap_err().kind, "NoSuchKey");
    }

    #[test]
    fn a_driver_that_fails_is_noticed() {
        assert!(shell("true").is_err());
        assert!(shell("echo hello").is_err());
        for script in [
            "exit 1",
            "read x",
            "read x; echo no",
            r#"read x; echo '{"id": 7, "result": {}}'"#,
            r#"read x; echo '{"id": 1}'"#,
        ] {
            let mut driver = shell(&format!("{HELLO} {script}")).unwrap();
            assert!(driver.ask(asked("one")).is_err(), "{script}");
        }
    }
}

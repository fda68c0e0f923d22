//! What each command asks of the server, and how its answer is shown.

use std::{fs, io::Read as _, path::Path};

use anyhow::Context as _;
use http::Method;
use indicatif::BinaryBytes;
use jiff::{Span, Timestamp, tz::TimeZone};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::{
    args::{
        Backup, Buckets, Command, Connections, CreateToken, Explain, Policy, Presign, Scrub, Style,
    },
    client::Client,
    show::Output,
};

const ACCOUNT: [&str; 4] = ["account_id", "name", "created_at", "status"];
const TOKEN: [&str; 9] = [
    "token_id",
    "secret",
    "account_id",
    "name",
    "allowed_actions",
    "bucket_scope",
    "prefix_scope",
    "expires_at",
    "status",
];
const TOKENS: [&str; 6] = [
    "token_id",
    "name",
    "allowed_actions",
    "bucket_scope",
    "expires_at",
    "status",
];
const BUCKET: [&str; 8] = [
    "name",
    "owner",
    "object_count",
    "total_size_bytes",
    "quota_bytes",
    "public_read",
    "has_policy",
    "created_at",
];
const QUARANTINE: [&str; 6] = [
    "bucket_id",
    "bucket_name",
    "key",
    "size_bytes",
    "quarantined_at",
    "reason",
];

const CONNECTION: [&str; 12] = [
    "id",
    "port",
    "client",
    "peer",
    "state",
    "since",
    "operation",
    "bucket",
    "token_id",
    "bytes_in",
    "bytes_out",
    "requests",
];
const BACKUP: [&str; 6] = [
    "name",
    "created_at",
    "objects",
    "object_bytes",
    "left_out",
    "store_id",
];
const SETTINGS: [&str; 4] = ["variable", "value", "source", "at"];

/// A client and where its answers go.
pub struct Session {
    /// Asks.
    pub client: Client,
    /// Shows.
    pub output: Output,
}

impl Session {
    /// Does what was asked of a server.
    pub fn run(&self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::CreateAccount { name } => self.ask(
                Method::POST,
                "accounts",
                Some(&json!({ "name": name })),
                &ACCOUNT,
            ),
            Command::ListAccounts => self.ask(Method::GET, "accounts", None, &ACCOUNT),
            Command::SuspendAccount(account) => self.set_status(&account.id, "suspended"),
            Command::ResumeAccount(account) => self.set_status(&account.id, "active"),
            Command::CreateToken(asked) => {
                self.ask(Method::POST, "tokens", Some(&token(&asked)?), &TOKEN)
            }
            Command::ListTokens { account } => {
                let query = account.map(|id| format!("?account_id={}", encode(&id)));
                let path = format!("tokens{}", query.unwrap_or_default());
                self.ask(Method::GET, &path, None, &TOKENS)
            }
            Command::ShowToken(token) => self.ask(
                Method::GET,
                &format!("tokens/{}", encode(&token.id)),
                None,
                &TOKEN,
            ),
            Command::RevokeToken(token) => {
                let path = format!("tokens/{}", encode(&token.id));
                self.done(Method::DELETE, &path, None, "Token revoked.")
            }
            Command::Presign(asked) => self.presign(&asked),
            Command::Buckets(command) => self.buckets(command),
            Command::Policy(command) => self.policy(command),
            Command::SetPublic { bucket, public } => {
                let path = format!("buckets/{}/public", encode(&bucket));
                self.ask(
                    Method::PUT,
                    &path,
                    Some(&json!({ "public_read": public })),
                    &BUCKET,
                )
            }
            Command::SetQuota { bucket, bytes } => {
                let path = format!("buckets/{}/quota", encode(&bucket));
                self.ask(
                    Method::PUT,
                    &path,
                    Some(&json!({ "quota_bytes": bytes.0 })),
                    &BUCKET,
                )
            }
            Command::QuarantineList => self.ask(Method::GET, "quarantine", None, &QUARANTINE),
            Command::QuarantineRevalidate(object) => {
                let asked = json!({ "bucket_id": object.bucket_id, "key": object.key });
                self.ask(Method::POST, "quarantine/revalidate", Some(&asked), &[])
            }
            Command::QuarantinePurge { bucket_id, key } => self.purge(bucket_id, key),
            Command::Connections(command) => self.connections(command),
            Command::Backup(command) => self.backup(command),
            Command::Scrub(command) => self.scrub(command),
            Command::Snapshot => self.ask(Method::POST, "snapshots", None, &[]),
            Command::Fsck { fast } => self.job("fsck", &json!({ "fast": fast })),
            Command::Upkeep => self.ask(Method::GET, "upkeep", None, &[]),
            Command::Config => self.ask(Method::GET, "config", None, &SETTINGS),
            Command::Metrics => self.ask(Method::GET, "metrics", None, &[]),
            Command::Completions { .. } | Command::Man { .. } => Ok(()),
        }
    }

    /// Asks, and shows the answer.
    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        fields: &[&str],
    ) -> anyhow::Result<()> {
        let answer = self.client.call(method, &format!("/_jay/{path}"), body)?;
        self.output.show(&answer, fields)
    }

    /// Asks, and says that it is done.
    fn done(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        text: &str,
    ) -> anyhow::Result<()> {
        self.client.call(method, &format!("/_jay/{path}"), body)?;
        self.output.say(text)
    }

    /// Runs a job that takes its time, and shows its report.
    fn job(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let bar = indicatif::ProgressBar::new_spinner();
        let report = self.client.job(&format!("/_jay/{path}"), body, |progress| {
            bar.set_message(so_far(progress));
            bar.tick();
        });
        bar.finish_and_clear();
        self.output.show(&report?, &[])
    }

    fn set_status(&self, id: &str, status: &str) -> anyhow::Result<()> {
        let path = format!("accounts/{}", encode(id));
        self.ask(
            Method::PATCH,
            &path,
            Some(&json!({ "status": status })),
            &ACCOUNT,
        )
    }

    fn presign(&self, asked: &Presign) -> anyhow::Result<()> {
        let style = match asked.style {
            Style::Jay => "jay",
            Style::SigV4 => "sigv4",
        };
        let asked = json!({
            "token_id": asked.token_id, "method": asked.method, "bucket": asked.bucket, "key": asked.key,
            "expires_seconds": asked.expires, "style": style,
        });
        self.ask(Method::POST, "presign", Some(&asked), &[])
    }

    fn buckets(&self, command: Buckets) -> anyhow::Result<()> {
        let path = |name: &str| format!("buckets/{}", encode(name));
        match command {
            Buckets::List => self.ask(Method::GET, "buckets", None, &BUCKET),
            Buckets::Show { name } => self.ask(Method::GET, &path(&name), None, &BUCKET),
            Buckets::Create { name, account } => {
                let asked = json!({ "name": name, "account_id": account });
                self.ask(Method::POST, "buckets", Some(&asked), &BUCKET)
            }
            Buckets::Delete { name } => {
                self.done(Method::DELETE, &path(&name), None, "Bucket deleted.")
            }
        }
    }

    fn connections(&self, command: Connections) -> anyhow::Result<()> {
        match command {
            Connections::List => self.ask(Method::GET, "connections", None, &CONNECTION),
            Connections::Close { id } => {
                let path = format!("connections/{id}");
                self.done(Method::DELETE, &path, None, "Connection closed.")
            }
        }
    }

    fn backup(&self, command: Backup) -> anyhow::Result<()> {
        match command {
            Backup::Create { to, keep } => {
                let mut asked = json!({ "to": to });
                if let Some(keep) = keep {
                    asked["keep"] = keep.into();
                }
                self.job("backups", &asked)
            }
            Backup::List { from } => {
                let from = from.to_str().context("the directory is not UTF-8")?;
                let path = format!("/_jay/backups?from={}", encode(from));
                let answer = self.client.call(Method::GET, &path, None)?;
                let lists: [(&str, &[&str]); 2] =
                    [("backups", &BACKUP), ("unreadable", &["what", "why"])];
                self.output.show_lists(&answer, &lists)
            }
        }
    }

    fn scrub(&self, command: Scrub) -> anyhow::Result<()> {
        match command {
            Scrub::Start { everything } => {
                let asked = json!({ "everything": everything });
                self.ask(Method::POST, "scrub", Some(&asked), &[])
            }
            Scrub::Status => self.ask(Method::GET, "scrub", None, &[]),
        }
    }

    fn policy(&self, command: Policy) -> anyhow::Result<()> {
        let path = |bucket: &str| format!("/_jay/buckets/{}/policy", encode(bucket));
        match command {
            Policy::Set { bucket, file } => {
                let policy = read(&file)?;
                let not_json = || format!("{} is not JSON", file.display());
                let policy: Value = serde_json::from_str(&policy).with_context(not_json)?;
                self.client
                    .call(Method::PUT, &path(&bucket), Some(&policy))?;
                self.output.say("Policy set.")
            }
            Policy::Get { bucket } => {
                let policy = self.client.call(Method::GET, &path(&bucket), None)?;
                // A document that is edited and set again: on a terminal too.
                Output::new(true).show(&policy, &[])
            }
            Policy::Delete { bucket } => {
                self.client.call(Method::DELETE, &path(&bucket), None)?;
                self.output.say("Policy removed.")
            }
            Policy::Explain(asked) => {
                self.ask(Method::POST, "explain", Some(&question(asked)), &[])
            }
        }
    }

    fn purge(&self, bucket_id: Option<String>, key: Option<String>) -> anyhow::Result<()> {
        let (asked, text) = match (bucket_id, key) {
            (Some(bucket_id), Some(key)) => {
                let asked = json!({ "bucket_id": bucket_id, "key": key });
                (asked, "Quarantined object purged.")
            }
            _ => (json!({ "mode": "all" }), "All quarantined objects purged."),
        };
        self.done(Method::DELETE, "quarantine", Some(&asked), text)
    }
}

fn token(asked: &CreateToken) -> anyhow::Result<Value> {
    let mut token = json!({ "account_id": asked.account, "name": asked.name });
    for (name, values) in [
        ("allowed_actions", &asked.actions),
        ("bucket_scope", &asked.buckets),
        ("prefix_scope", &asked.prefixes),
    ] {
        if !values.is_empty() {
            token[name] = json!(values);
        }
    }
    if let Some(expires) = &asked.expires {
        token["expires_at"] = end(expires, Timestamp::now())?.to_string().into();
    }
    Ok(token)
}

/// How far a job is, in words: its phase, and bytes or pieces of how many.
fn so_far(progress: &Value) -> String {
    let number = |name: &str| progress[name].as_u64().filter(|&number| number > 0);
    let phase = progress["phase"].as_str().unwrap_or_default();
    let done = |name: &str| number(name).unwrap_or_default();
    match (number("bytes_total"), number("total")) {
        (Some(total), _) => {
            let bytes = BinaryBytes(done("bytes"));
            format!("{phase}: {bytes} of {}", BinaryBytes(total))
        }
        (None, Some(total)) => format!("{phase}: {} of {total}", done("done")),
        (None, None) => phase.to_owned(),
    }
}

/// Reads a time, or a time from now.
fn end(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let wrong = || {
        format!(
            "{text:?} is neither a time such as 2030-01-31T00:00:00Z nor one from now such as 30d"
        )
    };
    let span: Span = text.parse().ok().with_context(wrong)?;
    let at = now.to_zoned(TimeZone::UTC).checked_add(span);
    Ok(at.with_context(wrong)?.timestamp())
}

fn question(asked: Explain) -> Value {
    let mut question = json!({ "bucket": asked.bucket, "action": asked.action });
    for (name, value) in [
        ("token_id", asked.token_id),
        ("key", asked.key),
        ("prefix", asked.prefix),
        ("ip", asked.ip),
    ] {
        if let Some(value) = value {
            question[name] = value.into();
        }
    }
    question
}

fn read(file: &Path) -> anyhow::Result<String> {
    let unreadable = || format!("{} cannot be read", file.display());
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .with_context(unreadable)?;
        return Ok(text);
    }
    fs::read_to_string(file).with_context(unreadable)
}

/// A name as a part of a path or query.
fn encode(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_so_long_from_now() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for (text, at) in [
            ("2030-01-31T00:00:00Z", "2030-01-31T00:00:00Z"),
            ("30d", "2026-03-02T12:00:00Z"),
            ("12h", "2026-02-01T00:00:00Z"),
            ("1 month", "2026-02-28T12:00:00Z"),
        ] {
            assert_eq!(end(text, now).unwrap().to_string(), at, "{text}");
        }
        for bad in ["", "soon", "30", "2030-01-31"] {
            assert!(end(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn progress_is_told_in_what_is_counted() {
        for (progress, text) in [
            (
                json!({"phase": "copying", "items": 1, "bytes": 512, "bytes_total": 2048}),
                "copying: 512 B of 2.00 KiB",
            ),
            (
                json!({"phase": "bodies", "done": 3, "total": 40}),
                "bodies: 3 of 40",
            ),
            (
                json!({"phase": "snapshot", "bytes": 0, "bytes_total": 0}),
                "snapshot",
            ),
        ] {
            assert_eq!(so_far(&progress), text);
        }
    }

    #[test]
    fn only_what_was_said_is_sent() {
        let asked = Explain {
            bucket: "b".into(),
            action: "object:get".into(),
            token_id: None,
            key: Some("k".into()),
            prefix: None,
            ip: None,
        };
        assert_eq!(
            question(asked),
            json!({"bucket": "b", "action": "object:get", "key": "k"})
        );
        assert_eq!(encode("a/b?c"), "a%2Fb%3Fc");
    }
}

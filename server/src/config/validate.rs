//! `jay-config validate`: what is wrong with a YAML file of settings, before a server is started with it.
//!
//! Looks at the file alone. A value with a reference to a variable is taken for good, since it is known at the start
//! only. Stricter than the server in what is most likely a slip: a level of the log that is none, negative numbers.

use super::{
    interpolate::has_reference,
    kind::{Kind, SECRET_BYTES_MIN},
    setting::{self, Empty, Setting},
    yaml::{Document, Entry, Located, Position},
};

/// Everything that is wrong with the YAML `text`, in the order of the file.
pub fn validate(text: &str) -> Vec<Located> {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => return vec![error],
    };
    let mut errors = document.strangers();
    errors.extend(document.entries.iter().filter_map(check));
    errors.extend(missing_secrets(&document));
    let seed = [
        &setting::SEED_ACCOUNT,
        &setting::SEED_ID,
        &setting::SEED_SECRET,
    ];
    errors.extend(all_or_none(&document, &seed));
    errors.extend(all_or_none(
        &document,
        &[&setting::TLS_CERT, &setting::TLS_KEY],
    ));
    errors.sort_by_key(|error| error.at);
    errors
}

/// What is wrong with the value of one key.
fn check(entry: &Entry) -> Option<Located> {
    let setting = entry.setting?;
    let wrong = |why: &str| {
        Some(Located::new(
            entry.value_at,
            format!("{} {why}", entry.path),
        ))
    };
    let text = match text_of(setting, entry) {
        Ok(text) => text,
        Err(why) => return wrong(&why),
    };
    if has_reference(&text) || text.is_empty() && setting.empty != Empty::Refused {
        return None;
    }
    match setting.kind.canonical(&text) {
        Err(fault) => return wrong(fault.text()),
        Ok(number) if setting.kind.is_number() && number.starts_with('-') => {
            return wrong("must not be negative: 0 means no limit");
        }
        Ok(_) => {}
    }
    let levels = ["debug", "info", "warn", "error"];
    match setting.kind == Kind::LogLevel && !levels.contains(&text.as_str()) {
        true => wrong("must be debug, info, warn or error"),
        false => None,
    }
}

fn text_of(setting: &Setting, entry: &Entry) -> Result<String, String> {
    setting
        .kind
        .text_of(&entry.node, &mut |text| Ok(text.to_owned()))
}

fn missing_secrets(document: &Document) -> impl Iterator<Item = Located> {
    let secrets = [&setting::ADMIN_TOKEN, &setting::SIGNING_SECRET];
    let missing = secrets
        .into_iter()
        .filter(|secret| document.entry(secret).is_none());
    missing.map(|secret| {
        let key = secret.key.unwrap_or_default();
        let text = format!(
            "{key} is missing: give it at least {SECRET_BYTES_MIN} characters, or ${{{}}} to take the variable",
            secret.variable
        );
        Located::new(Position::START, text)
    })
}

/// An error when some of `settings` have a value and others have none.
fn all_or_none(document: &Document, settings: &[&'static Setting]) -> Option<Located> {
    let has_value = |setting: &&&'static Setting| {
        let entry = document.entry(setting);
        entry.is_some_and(|entry| text_of(setting, entry).is_ok_and(|text| !text.is_empty()))
    };
    let present = settings.iter().find(has_value)?;
    let absent = settings.iter().find(|setting| !has_value(setting))?;
    let keys: Vec<&str> = settings.iter().filter_map(|setting| setting.key).collect();
    let text = format!(
        "{} is missing: {} are set all together or not at all",
        absent.key.unwrap_or_default(),
        keys.join(", ")
    );
    Some(Located::new(document.entry(present)?.at, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: &str =
        "admin_token: ${JAY_ADMIN_TOKEN}\nsigning_secret: 0123456789abcdef0123456789abcdef\n";

    fn errors(text: &str) -> Vec<String> {
        let errors = validate(&format!("{SECRETS}{text}"));
        errors
            .iter()
            .map(|error| format!("{}: {}", error.at, error.text))
            .collect()
    }

    #[test]
    fn good_files() {
        for text in [
            "",
            "log_level: warn\ntls_cert: ${A:-}\ntls_key: ${B:-}\nrate_limit: 0\nrate_burst: '5'\n",
            "seed_token: {account: a, id: b, secret: c}\nscrub: {sample_rate: 1, interval_hours: 1.0}\n",
            "native_addr: ''\nscrub: {interval_hours: '${H}'}\nlog_level: ${L}\ntrust_proxy_headers: 'false'\n",
        ] {
            assert_eq!(errors(text), [] as [&str; 0], "{text}");
        }
    }

    #[test]
    fn each_rule_is_kept() {
        for (text, expected) in [
            (
                "log_level: WARN",
                "3:12: log_level must be debug, info, warn or error",
            ),
            (
                "scrub: {sample_rate: 0}",
                "3:22: scrub.sample_rate must be above 0 and at most 1",
            ),
            (
                "scrub: {sample_rate: 1.1}",
                "3:22: scrub.sample_rate must be above 0 and at most 1",
            ),
            (
                "scrub: {interval_hours: 0}",
                "3:25: scrub.interval_hours must be from 1 to 1000000",
            ),
            (
                "scrub: {max_per_run: 0}",
                "3:22: scrub.max_per_run must be at least 1",
            ),
            (
                "scrub: {bytes_per_sec: -1}",
                "3:24: scrub.bytes_per_sec must not be negative: 0 means no limit",
            ),
            (
                "rate_limit: -0.5",
                "3:13: rate_limit must not be negative: 0 means no limit",
            ),
            (
                "rate_burst: -1",
                "3:13: rate_burst must not be negative: 0 means no limit",
            ),
            ("rate_burst: x", "3:13: rate_burst must be a whole number"),
            ("region: 1", "3:9: region is not a string: put it in quotes"),
            (
                "region:",
                "3:7: region is null: give it a value, or remove the line",
            ),
            (
                "regoin: x",
                "3:1: unknown key \"regoin\": did you mean \"region\"?",
            ),
            (
                "listen_addr: nowhere",
                "3:14: listen_addr is \"nowhere\": the port is missing; give HOST:PORT, or :PORT for every interface",
            ),
            (
                "seed_token: {account: a, secret: c}",
                "3:14: seed_token.id is missing: seed_token.account, seed_token.id, seed_token.secret are set all together or not at all",
            ),
            (
                "tls_key: k",
                "3:1: tls_cert is missing: tls_cert, tls_key are set all together or not at all",
            ),
        ] {
            assert_eq!(errors(text), [expected], "{text}");
        }
    }

    #[test]
    fn secrets_are_there_and_long() {
        let found: Vec<String> = validate("admin_token: short-secret\n")
            .iter()
            .map(|e| e.text.clone())
            .collect();
        assert!(
            found[0].starts_with("signing_secret is missing"),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("admin_token has 12 bytes"),
            "{found:?}"
        );
        assert!(
            found.iter().all(|text| !text.contains("short-secret")),
            "{found:?}"
        );
        assert_eq!(validate("admin_token: ''\nsigning_secret: ${X}").len(), 1);
    }

    #[test]
    fn all_errors_in_the_order_of_the_file() {
        let found = errors("rate_limit: x\nfoo: 1\nrate_burst: y\n");
        let places: Vec<&str> = found
            .iter()
            .map(|error| error.split(' ').next().unwrap())
            .collect();
        assert_eq!(places, ["3:13:", "4:1:", "5:13:"]);
    }
}

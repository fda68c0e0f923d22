//! Which source wins, and what each refuses.

use std::fs;

use super::*;
use crate::config::Config;

const LONG: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

/// What `variables` and the file `yaml` make; errors begin with `F` instead of the file's path.
fn load(variables: &[(&str, &str)], yaml: &str) -> Result<Values, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    fs::write(&path, yaml).unwrap();
    let environment = Environment::from_iter(variables.iter().copied());
    let shown = path.display().to_string();
    Values::load(&environment, Some(&path)).map_err(|error| error.to_string().replace(&shown, "F"))
}

fn refused(variables: &[(&str, &str)], yaml: &str) -> String {
    load(variables, yaml)
        .err()
        .unwrap_or_else(|| panic!("{yaml} is taken"))
}

fn text(variables: &[(&str, &str)], yaml: &str, setting: &Setting) -> Option<String> {
    load(variables, yaml)
        .unwrap()
        .text(setting)
        .map(str::to_owned)
}

#[test]
fn environment_over_yaml_over_default() {
    let setting = &setting::REGION;
    let level = &setting::LOG_LEVEL;
    assert_eq!(text(&[], "", setting), None);
    assert_eq!(text(&[], "", level).as_deref(), Some("info"));
    assert_eq!(text(&[], "log_level: warn", level).as_deref(), Some("warn"));
    assert_eq!(
        text(&[("JAY_LOG_LEVEL", "error")], "log_level: warn", level).as_deref(),
        Some("error")
    );
    // Empty is not set.
    assert_eq!(
        text(&[("JAY_LOG_LEVEL", "")], "log_level: warn", level).as_deref(),
        Some("warn")
    );
    assert_eq!(text(&[], "log_level: ''", level).as_deref(), Some("info"));
    assert_eq!(text(&[], "region: ${NOTHING}", setting), None);

    let found = load(&[("JAY_REGION", "eu")], "scrub:\n  interval_hours: 3\n").unwrap();
    assert_eq!(
        *found.source(&setting::REGION),
        Source::Environment {
            variable: "JAY_REGION".into()
        }
    );
    assert_eq!(
        *found.source(&setting::SCRUB_INTERVAL),
        Source::Yaml(Position {
            line: 2,
            column: 19
        })
    );
    assert_eq!(*found.source(&setting::DATA_DIR), Source::Default);
}

/// Each setting is looked up under its own names: none is lost or taken for another.
#[test]
fn every_setting_is_read_from_both_sources() {
    for setting in SETTINGS.iter().filter(|setting| setting.key.is_some()) {
        let value = match setting.kind.canonical("1").is_ok() {
            true => "1".to_owned(),
            false => ["photos", ":1234", "https://x", "0.5", "1048576", LONG]
                .into_iter()
                .find(|text| setting.kind.canonical(text).is_ok())
                .unwrap()
                .to_owned(),
        };
        assert_eq!(
            text(&[(setting.variable, &value)], "", setting).as_deref(),
            Some(&*value),
            "{setting:?}"
        );
        let yaml = match setting.key.unwrap().split_once('.') {
            Some((group, key)) => format!("{group}:\n  {key}: '{value}'\n"),
            None => format!("{}: '{value}'\n", setting.key.unwrap()),
        };
        assert_eq!(
            text(&[], &yaml, setting).as_deref(),
            Some(&*value),
            "{yaml}"
        );
    }
}

#[test]
fn the_file_is_named_by_option_or_variable() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| {
        let path = dir.path().join(name);
        fs::write(&path, format!("region: {name}\n")).unwrap();
        path
    });
    let environment = Environment::from_iter([("JAY_CONFIG_FILE", one.clone())]);
    let region = |file: Option<&Path>| {
        Values::load(&environment, file)
            .unwrap()
            .text(&setting::REGION)
            .map(str::to_owned)
    };
    assert_eq!(region(None).as_deref(), Some("one"));
    assert_eq!(region(Some(&two)).as_deref(), Some("two"));
    let missing = Values::load(&environment, Some(&dir.path().join("three")))
        .err()
        .unwrap();
    assert!(
        missing.to_string().contains("three cannot be read"),
        "{missing}"
    );
}

#[test]
fn yaml_values_have_types() {
    for (yaml, setting, expected) in [
        ("rate_limit: 2.50", &setting::RATE_LIMIT, "2.5"),
        ("rate_limit: '2.5'", &setting::RATE_LIMIT, "2.5"),
        ("rate_burst: 1e3", &setting::RATE_BURST, "1000"),
        ("rate_burst: 10.0", &setting::RATE_BURST, "10"),
        ("rate_burst: ${BURST}", &setting::RATE_BURST, "7"),
        ("connections_max: 0x10", &setting::CONNECTIONS_MAX, "16"),
        (
            "trust_proxy_headers: true",
            &setting::TRUST_PROXY_HEADERS,
            "true",
        ),
        ("trust_proxy_headers: t", &setting::TRUST_PROXY_HEADERS, "t"),
        (
            "trust_proxy_headers: [10.0.0.0/8, '::1']",
            &setting::TRUST_PROXY_HEADERS,
            "10.0.0.0/8,::1",
        ),
        (
            "buckets: [photos, '${NAME}']",
            &setting::BUCKETS,
            "photos,thumbs",
        ),
        (
            "buckets: photos, thumbs",
            &setting::BUCKETS,
            "photos, thumbs",
        ),
        (
            "data_dir: /d/${NAME}/${MISSING:-x}",
            &setting::DATA_DIR,
            "/d/thumbs/x",
        ),
    ] {
        let found = text(&[("BURST", "7"), ("NAME", "thumbs")], yaml, setting);
        assert_eq!(found.as_deref(), Some(expected), "{yaml}");
    }
    for (yaml, expected) in [
        ("region: ~", "F:1:9: region is null"),
        ("region:\n", "F:1:7: region is null"),
        (
            "region: 5",
            "F:1:9: region is not a string: put it in quotes",
        ),
        ("region: [a]", "F:1:9: region is a list"),
        ("region: {a: b}", "F:1:9: region is a map"),
        (
            "\nscrub:\n  interval_hours: soon",
            "F:3:19: scrub.interval_hours must be a whole number",
        ),
        (
            "rate_burst: 1.5",
            "F:1:13: rate_burst must be a whole number",
        ),
        ("rate_limit: true", "F:1:13: rate_limit is a boolean"),
        (
            "rate_burst: ${BURST}x",
            "F:1:13: rate_burst must be a whole number",
        ),
        (
            "debug_signatures: 1",
            "F:1:19: debug_signatures is a number",
        ),
        (
            "debug_signatures: maybe",
            "F:1:19: debug_signatures is \"maybe\": it is 1 or 0",
        ),
        (
            "listen_addr: '9000'",
            "F:1:14: listen_addr is \"9000\": the port is missing",
        ),
        ("scrub: 3", "F:1:1: scrub is not a mapping"),
        ("a: 1\nlisten_adr: ':1'", "F:1:1: unknown key \"a\""),
        (
            "region: x\nlisten_adr: ':1'",
            "F:2:1: unknown key \"listen_adr\": did you mean \"listen_addr\"?",
        ),
        (
            "scrub:\n  sampel_rate: 1",
            "F:2:3: unknown key \"scrub.sampel_rate\": did you mean \"scrub.sample_rate\"?",
        ),
        ("region: 'x", "F:1:9: "),
    ] {
        let error = refused(&[], yaml);
        assert!(error.starts_with(expected), "{yaml:?}: {error}");
    }
}

#[test]
fn numbers_out_of_range_leave_the_next_source() {
    let setting = &setting::SCRUB_INTERVAL;
    let variables = [("JAY_SCRUB_INTERVAL_HOURS", "0")];
    let found = load(&variables, "scrub: {interval_hours: 9}").unwrap();
    assert_eq!(found.text(setting), Some("9"));
    let ignored = |name, value: &str, error: &str| Notice::Ignored {
        name,
        value: value.into(),
        error: error.into(),
    };
    let error = "must be from 1 to 1000000";
    assert_eq!(
        found.notices,
        [ignored("JAY_SCRUB_INTERVAL_HOURS", "0", error)]
    );
    let found = load(&[], "scrub: {interval_hours: 0, sample_rate: 1.5}").unwrap();
    assert_eq!(found.text(setting), Some("6"));
    let rate = ignored("scrub.sample_rate", "1.5", "must be above 0 and at most 1");
    assert_eq!(
        found.notices,
        [ignored("scrub.interval_hours", "0", error), rate]
    );
}

#[test]
fn conflicts_are_noted_in_one_form_and_without_secrets() {
    let conflict = |variables: &[(&str, &str)], yaml: &str| load(variables, yaml).unwrap().notices;
    let note = |key, variable: &str, yaml_value: &str, env_value: &str| Notice::Overridden {
        key,
        variable: variable.into(),
        yaml_value: yaml_value.into(),
        env_value: env_value.into(),
    };
    assert_eq!(
        conflict(&[("JAY_REGION", "eu")], "region: us"),
        [note("region", "JAY_REGION", "us", "eu")]
    );
    // The same in other words, or nothing to override.
    for (variable, value, yaml) in [
        ("JAY_REGION", "eu", "region: eu"),
        ("JAY_REGION", "eu", "region: ''"),
        ("JAY_REGION", "", "region: eu"),
        ("JAY_RATE_LIMIT", "50.0", "rate_limit: 50"),
        ("JAY_RATE_BURST", "50", "rate_burst: 50.0"),
        ("JAY_TRUST_PROXY_HEADERS", "1", "trust_proxy_headers: true"),
        ("JAY_REGION", "eu", "region: ${JAY_REGION}"),
        // Not usable, so it overrides nothing; that has a notice of its own.
        ("JAY_LOG_LEVEL", "info", "log_level: info"),
    ] {
        assert_eq!(
            conflict(&[(variable, value)], yaml),
            [],
            "{variable}={value} {yaml}"
        );
    }
    let found = conflict(
        &[("JAY_ADMIN_TOKEN", LONG)],
        &format!("admin_token: {OTHER}"),
    );
    assert_eq!(
        found,
        [note(
            "admin_token",
            "JAY_ADMIN_TOKEN",
            setting::MASK,
            setting::MASK
        )]
    );
    let seed = conflict(
        &[("JAY_SEED_TOKEN_SECRET", "mine")],
        "seed_token: {secret: theirs}",
    );
    assert_eq!(
        seed,
        [note(
            "seed_token.secret",
            "JAY_SEED_TOKEN_SECRET",
            setting::MASK,
            setting::MASK
        )]
    );
}

#[test]
fn empty_secrets_are_refused_wherever_they_are() {
    let both = [("JAY_ADMIN_TOKEN", LONG), ("JAY_SIGNING_SECRET", LONG)];
    let error = refused(&both, "admin_token: ''");
    assert!(
        error.starts_with("F:1:14: admin_token is set but empty"),
        "{error}"
    );
    let error = refused(&[], "admin_token: ${JAY_ADMIN_TOKEN}");
    assert!(
        error.starts_with("F:1:14: admin_token is set but empty"),
        "{error}"
    );
    let error = refused(&[("JAY_SIGNING_SECRET", "")], "");
    assert!(
        error.starts_with("JAY_SIGNING_SECRET is set but empty"),
        "{error}"
    );
    let error = refused(&[], "admin_token: short-secret");
    assert!(
        error.starts_with("F:1:14: admin_token has 12 bytes") && !error.contains("short"),
        "{error}"
    );
    let error = refused(&[], "signing_secret: 12345678901234567890123456789012");
    assert!(
        error.contains("is not a string") && !error.contains("1234"),
        "{error}"
    );
    // Those of the seed may be empty, which is none.
    let yaml = "seed_token: {account: '', id: '', secret: ''}";
    assert!(
        Config::from_values(&load(&[], yaml).unwrap())
            .unwrap()
            .seed_token
            .is_none()
    );
}

#[test]
fn a_seed_token_is_whole_over_all_sources() {
    let config = |variables: &[(&str, &str)], yaml: &str| {
        Config::from_values(&load(variables, yaml).unwrap())
    };
    let error = config(&[("JAY_SEED_TOKEN_SECRET", "s")], "seed_token: {id: k}")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("JAY_SEED_TOKEN_ACCOUNT is not set"),
        "{error}"
    );
    let seed = config(
        &[("JAY_SEED_TOKEN_SECRET", "s")],
        "seed_token: {id: k, account: a}",
    )
    .unwrap();
    let seed = seed.seed_token.unwrap();
    assert_eq!((&*seed.account, &*seed.id, &**seed.secret), ("a", "k", "s"));
}

#[test]
fn native_is_off_by_an_empty_value_in_yaml_only() {
    let native = |variables: &[(&str, &str)], yaml: &str| {
        let config = Config::from_values(&load(variables, yaml).unwrap()).unwrap();
        config.native_addr.map(|addr| addr.to_string())
    };
    assert_eq!(native(&[], "native_addr: ''"), None);
    assert_eq!(
        native(&[("JAY_NATIVE_ADDR", "")], "").as_deref(),
        Some(":4444")
    );
    assert_eq!(
        native(&[("JAY_NATIVE_ADDR", ":5")], "native_addr: ''").as_deref(),
        Some(":5")
    );
}

#[test]
fn secrets_come_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    for (setting, value) in [
        (&setting::ADMIN_TOKEN, LONG),
        (&setting::SIGNING_SECRET, LONG),
        (&setting::SEED_SECRET, "seed"),
    ] {
        let variable = format!("{}_FILE", setting.variable);
        for ending in ["", "\n", "\r\n"] {
            let path = file("secret", &format!("{value}{ending}"));
            assert_eq!(
                text(&[(&variable, &path)], "", setting).as_deref(),
                Some(value)
            );
        }
        let path = file("secret", &format!("{value} \n\n"));
        if *setting == setting::SEED_SECRET {
            assert_eq!(
                text(&[(&variable, &path)], "", setting).as_deref(),
                Some("seed \n")
            );
        }
        let error = refused(&[(&variable, &path), (setting.variable, value)], "");
        assert_eq!(
            error,
            format!(
                "{} and {variable} are both set: unset one of them",
                setting.variable
            )
        );
        let error = refused(&[(&variable, "/no/such/file")], "");
        assert!(
            error.starts_with(&format!(
                "the file of {variable} /no/such/file cannot be read"
            )),
            "{error}"
        );
        // Unset by an empty name.
        assert_eq!(text(&[(&variable, "")], "", setting), None);
    }
    let empty = file("empty", "\n");
    let error = refused(&[("JAY_ADMIN_TOKEN_FILE", &empty)], "");
    assert!(
        error.starts_with(&format!("JAY_ADMIN_TOKEN_FILE ({empty}) is set but empty")),
        "{error}"
    );
    let short = file("short", "too short");
    let error = refused(&[("JAY_ADMIN_TOKEN_FILE", &short)], "");
    assert!(
        error.contains("has 9 bytes") && !error.contains("too short"),
        "{error}"
    );
    // Over YAML, as the variable itself.
    let good = file("good", LONG);
    let found = load(
        &[("JAY_ADMIN_TOKEN_FILE", &good)],
        &format!("admin_token: {OTHER}"),
    )
    .unwrap();
    assert_eq!(found.text(&setting::ADMIN_TOKEN), Some(LONG));
    assert!(
        matches!(&found.notices[..], [Notice::Overridden { variable, .. }] if variable == "JAY_ADMIN_TOKEN_FILE")
    );
    // What is no secret has no such variable.
    assert_eq!(
        load(&[("JAY_REGION_FILE", &good)], "")
            .unwrap()
            .notices
            .len(),
        1
    );
}

#[test]
fn unknown_variables_are_noted() {
    let known = [
        ("JAY_URL", "x"),
        ("JAY_TOKEN_SECRET", "x"),
        ("HOME", "x"),
        ("XJAY_A", "x"),
    ];
    assert_eq!(load(&known, "").unwrap().notices, []);
    let found = load(&[("JAY_LISTEN_ADRR", "secret-value")], "")
        .unwrap()
        .notices;
    let (variable, nearest) = ("JAY_LISTEN_ADRR".to_owned(), Some("JAY_LISTEN_ADDR"));
    assert_eq!(found, [Notice::UnknownVariable { variable, nearest }]);
}

mod aliases {
    use super::*;

    fn seeded(variables: &[(&str, &str)], yaml: &str) -> Option<(String, String, String)> {
        let variables = [&[("JAY_COMPAT_ENV", "1")], variables].concat();
        let config = Config::from_values(&load(&variables, yaml).unwrap()).unwrap();
        config
            .seed_token
            .map(|seed| (seed.account, seed.id, seed.secret.to_string()))
    }

    fn key(account: &str, id: &str, secret: &str) -> Option<(String, String, String)> {
        Some((account.into(), id.into(), secret.into()))
    }

    const MINIO: [(&str, &str); 2] = [("MINIO_ROOT_USER", "m"), ("MINIO_ROOT_PASSWORD", "mp")];
    const AWS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "as")];

    #[test]
    fn they_count_only_when_asked_for() {
        assert_eq!(text(&MINIO, "", &setting::SEED_ID), None);
        assert_eq!(
            text(&[("S3_BUCKET", "photos")], "", &setting::BUCKETS),
            None
        );
        assert_eq!(seeded(&MINIO, ""), key("default", "m", "mp"));
        assert_eq!(seeded(&AWS, ""), key("default", "a", "as"));
        assert_eq!(
            seeded(&[MINIO, AWS].concat(), ""),
            key("default", "m", "mp")
        );
    }

    #[test]
    fn an_access_key_is_of_one_source() {
        let own = [
            ("JAY_SEED_TOKEN_ACCOUNT", "j"),
            ("JAY_SEED_TOKEN_ID", "k"),
            ("JAY_SEED_TOKEN_SECRET", "s"),
        ];
        assert_eq!(
            seeded(&[&MINIO[..], &own[..]].concat(), ""),
            key("j", "k", "s")
        );
        // Not completed by another store's.
        let variables = [&[("JAY_COMPAT_ENV", "1"), own[0], own[1]], &MINIO[..]].concat();
        let error = Config::from_values(&load(&variables, "").unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("JAY_SEED_TOKEN_SECRET is not set"),
            "{error}"
        );
        // Over YAML, whose account stays.
        let yaml = "seed_token: {account: y, id: yk, secret: ys}";
        assert_eq!(seeded(&MINIO, yaml), key("y", "m", "mp"));
        let half = refused(&[("JAY_COMPAT_ENV", "1"), MINIO[0]], "");
        assert!(
            half.starts_with("MINIO_ROOT_PASSWORD is not set while MINIO_ROOT_USER is"),
            "{half}"
        );
        let half = refused(&[("JAY_COMPAT_ENV", "1"), AWS[1]], "");
        assert!(half.starts_with("AWS_ACCESS_KEY_ID is not set"), "{half}");
    }

    #[test]
    fn buckets_of_other_stores() {
        let buckets = |variables: &[(&str, &str)]| {
            let found = load(&[&[("JAY_COMPAT_ENV", "1")], variables].concat(), "").unwrap();
            (
                found.text(&setting::BUCKETS).map(str::to_owned),
                found.notices.len(),
            )
        };
        assert_eq!(
            buckets(&[("S3_BUCKET", "photos")]),
            (Some("photos".into()), 0)
        );
        let minio = (
            "MINIO_DEFAULT_BUCKETS",
            "one-a, two-b;three:none four:public",
        );
        assert_eq!(
            buckets(&[minio]),
            (Some("one-a,two-b,three,four".into()), 1)
        );
        assert_eq!(
            buckets(&[minio, ("JAY_BUCKETS", "mine")]),
            (Some("mine".into()), 1)
        );
        let error = refused(&[("JAY_COMPAT_ENV", "1"), ("S3_BUCKET", "No")], "");
        assert!(error.starts_with("S3_BUCKET holds \"No\""), "{error}");
    }
}

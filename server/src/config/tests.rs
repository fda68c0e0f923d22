//! What settings mean, whatever they come from; the sources have tests of their own in `values/tests.rs`.

use super::*;

fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
    let environment = Environment::from_iter(variables.iter().copied());
    Config::from_environment(&environment).map_err(|error| error.to_string())
}

const LONG: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn nothing_set_gives_the_defaults() {
    let config = config(&[]).unwrap();
    assert_eq!(config.listen_addr.to_string(), ":9000");
    assert_eq!(config.admin_addr.to_string(), ":9001");
    assert_eq!(config.data_dir, PathBuf::from("./data"));
    assert_eq!(config.log_level, LevelFilter::INFO);
    assert_eq!(config.region_or_default(), "us-east-1");
    assert_eq!(config.connections_max, 4096);
    assert_eq!(config.stop_timeout, Duration::from_secs(30));
    assert!(config.secrets.is_none() && config.seed_token.is_none());
    assert!(config.region.is_none() && config.vhost_domains.is_empty());
    assert!(config.notices.is_empty());
}

#[test]
fn an_empty_variable_is_unset() {
    let config = config(&[
        ("JAY_LISTEN_ADDR", ""),
        ("JAY_DATA_DIR", ""),
        ("JAY_REGION", ""),
        ("JAY_SEED_TOKEN_ACCOUNT", ""),
        ("JAY_CONNECTIONS_MAX", ""),
    ])
    .unwrap();
    assert_eq!(config.listen_addr.to_string(), ":9000");
    assert_eq!(config.data_dir, PathBuf::from("./data"));
    assert!(config.region.is_none() && config.seed_token.is_none());
    assert!(config.notices.is_empty());
}

#[test]
fn secrets_come_in_pairs_and_are_long() {
    let refused = |variables: &[(&str, &str)], name: &str| {
        let error = config(variables).unwrap_err();
        assert!(error.starts_with(name), "{error}");
        assert!(
            !error.contains("tooshort"),
            "an error repeats a secret: {error}"
        );
    };
    refused(
        &[("JAY_ADMIN_TOKEN", "")],
        "JAY_ADMIN_TOKEN is set but empty",
    );
    refused(
        &[("JAY_SIGNING_SECRET", ""), ("JAY_ADMIN_TOKEN", LONG)],
        "JAY_SIGNING_SECRET is set but empty",
    );
    refused(
        &[
            ("JAY_SIGNING_SECRET", "tooshort"),
            ("JAY_ADMIN_TOKEN", LONG),
        ],
        "JAY_SIGNING_SECRET has 8 bytes",
    );
    refused(
        &[("JAY_ADMIN_TOKEN", LONG)],
        "JAY_SIGNING_SECRET is not set",
    );
    refused(
        &[("JAY_SIGNING_SECRET", LONG)],
        "JAY_ADMIN_TOKEN is not set",
    );
    refused(
        &[("JAY_REQUIRE_SECRETS", "1")],
        "JAY_ADMIN_TOKEN and JAY_SIGNING_SECRET",
    );
    assert!(
        config(&[("JAY_SIGNING_SECRET", LONG), ("JAY_ADMIN_TOKEN", LONG)])
            .unwrap()
            .secrets
            .is_some()
    );
    let debug = format!(
        "{:?}",
        config(&[("JAY_SIGNING_SECRET", LONG), ("JAY_ADMIN_TOKEN", LONG)]).unwrap()
    );
    assert!(!debug.contains(LONG), "{debug}");
}

#[test]
fn a_seed_token_is_whole_or_absent() {
    let error = config(&[("JAY_SEED_TOKEN_ID", "k")]).unwrap_err();
    assert!(
        error.starts_with("JAY_SEED_TOKEN_ACCOUNT is not set"),
        "{error}"
    );
    let seed = config(&[
        ("JAY_SEED_TOKEN_ACCOUNT", "a"),
        ("JAY_SEED_TOKEN_ID", "k"),
        ("JAY_SEED_TOKEN_SECRET", "s"),
    ])
    .unwrap()
    .seed_token
    .unwrap();
    assert_eq!((&*seed.account, &*seed.id, &**seed.secret), ("a", "k", "s"));
}

#[test]
fn log_levels_of_any_case() {
    for (text, level) in [
        ("DEBUG", LevelFilter::DEBUG),
        ("Warn", LevelFilter::WARN),
        ("error", LevelFilter::ERROR),
        ("verbose", LevelFilter::INFO),
    ] {
        assert_eq!(config(&[("JAY_LOG_LEVEL", text)]).unwrap().log_level, level);
    }
}

#[test]
fn addresses() {
    let connect = |text: &str| {
        text.parse::<ListenAddr>()
            .unwrap()
            .connect_addr()
            .to_string()
    };
    assert_eq!(connect(":9000"), "127.0.0.1:9000");
    assert_eq!(connect("0.0.0.0:1"), "127.0.0.1:1");
    assert_eq!(connect("[::]:1"), "127.0.0.1:1");
    assert_eq!(connect("[::1]:1"), "[::1]:1");
    assert_eq!(connect("10.1.2.3:1"), "10.1.2.3:1");
    for bad in ["9000", ":x", ":70000", "no such host:1", ""] {
        assert!(bad.parse::<ListenAddr>().is_err(), "{bad}");
    }
    let error = config(&[("JAY_ADMIN_ADDR", "9001")]).unwrap_err();
    assert!(
        error.starts_with("JAY_ADMIN_ADDR is \"9001\": the port is missing"),
        "{error}"
    );
}

#[test]
fn a_bad_number_keeps_the_default_and_is_noted() {
    let config = config(&[
        ("JAY_CONNECTIONS_MAX", "many"),
        ("JAY_STOP_TIMEOUT_SECONDS", "5"),
    ])
    .unwrap();
    assert_eq!(config.connections_max, 4096);
    assert_eq!(config.stop_timeout, Duration::from_secs(5));
    let error = "must be a whole number".to_owned();
    let (name, value) = ("JAY_CONNECTIONS_MAX", "many".to_owned());
    assert_eq!(config.notices, [Notice::Ignored { name, value, error }]);
}

#[test]
fn domains_and_regions() {
    let found = config(&[("JAY_VHOST_DOMAIN", "s3.example.com, .S3.Local ,")]).unwrap();
    assert_eq!(found.vhost_domains, ["s3.example.com", "s3.local"]);
    assert!(config(&[("JAY_VHOST_DOMAIN", "http://x")]).is_err());
    assert!(config(&[("JAY_REGION", "eu west")]).is_err());
    assert_eq!(
        config(&[("JAY_REGION", "eu-west-1")])
            .unwrap()
            .region_or_default(),
        "eu-west-1"
    );
}

#[test]
fn flags_of_many_spellings() {
    for (text, expected) in [
        ("1", true),
        ("t", true),
        ("TRUE", true),
        ("off", false),
        ("0", false),
    ] {
        let found = config(&[("JAY_SIGV4_TRUST_KEY_ID", text)]).unwrap();
        assert_eq!(found.sigv4_trust_key_id, expected, "{text}");
    }
    let error = config(&[("JAY_DEBUG_SIGNATURES", "maybe")]).unwrap_err();
    assert_eq!(error, "JAY_DEBUG_SIGNATURES is \"maybe\": it is 1 or 0");
}

#[test]
fn tls_is_whole_or_absent() {
    let error = config(&[("JAY_TLS_CERT", "cert.pem")]).unwrap_err();
    assert!(
        error.starts_with("JAY_TLS_KEY is not set while JAY_TLS_CERT is"),
        "{error}"
    );
    let error = config(&[("JAY_TLS_KEY", "key.pem")]).unwrap_err();
    assert!(
        error.starts_with("JAY_TLS_CERT is not set while JAY_TLS_KEY is"),
        "{error}"
    );
    let both = config(&[("JAY_TLS_KEY", "k"), ("JAY_TLS_CERT", "c")]).unwrap();
    let (cert, key) = ("c".into(), "k".into());
    assert_eq!(both.tls, Some(TlsFiles { cert, key }));
    assert_eq!(config(&[("JAY_TLS_KEY", "")]).unwrap().tls, None);
}

#[test]
fn rates_and_bursts() {
    for (rate, burst, expected) in [
        ("", "", Some((100.0, 200))),
        ("0.25", "3", Some((0.25, 3))),
        // Twice the rate, at least 1.
        ("50", "0", Some((50.0, 100))),
        ("0.1", "-1", Some((0.1, 1))),
        ("1e300", "0", Some((1e300, u32::MAX))),
        ("0", "5", None),
        ("-1", "5", None),
        // Not usable: the default.
        ("inf", "2.5", Some((100.0, 200))),
    ] {
        let found = config(&[("JAY_RATE_LIMIT", rate), ("JAY_RATE_BURST", burst)]).unwrap();
        let limit = found
            .rate_limit
            .map(|limit| (limit.per_second, limit.burst.get()));
        assert_eq!(limit, expected, "{rate} {burst}");
    }
}

#[test]
fn proxies_are_near_or_listed() {
    let proxies = |text: &str| {
        config(&[("JAY_TRUST_PROXY_HEADERS", text)]).map(|found| found.trusted_proxies)
    };
    for text in ["1", "true", "TRUE", "True"] {
        let near = proxies(text).unwrap();
        for peer in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.9.9",
            "::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(near.contains(peer.parse().unwrap()), "{peer}");
        }
        for peer in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(!near.contains(peer.parse().unwrap()), "{peer}");
        }
    }
    for text in ["", "0", "false"] {
        assert!(proxies(text).unwrap().is_empty(), "{text}");
    }
    let listed = proxies("203.0.113.0/24, 2001:db8::7, ::ffff:198.51.100.0/120").unwrap();
    assert_eq!(
        listed.to_string(),
        "203.0.113.0/24,2001:db8::7/128,198.51.100.0/24"
    );
    assert!(listed.contains("203.0.113.200".parse().unwrap()));
    assert!(listed.contains("198.51.100.1".parse().unwrap()));
    assert!(!listed.contains("127.0.0.1".parse().unwrap()));
    let error = proxies("10.0.0.0/8,yes").unwrap_err();
    assert!(error.contains("\"yes\" is not a network"), "{error}");
}

#[test]
fn public_urls_are_origins() {
    let origin = |text: &str| {
        config(&[("JAY_PUBLIC_URL", text)]).map(|found| found.public_url.unwrap().to_string())
    };
    for (text, expected) in [
        ("https://s3.example.com", "https://s3.example.com"),
        ("http://s3.example.com:9000/", "http://s3.example.com:9000"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
        ("https://[::1]", "https://[::1]"),
    ] {
        assert_eq!(origin(text).unwrap(), expected);
    }
    for bad in [
        "s3.example.com",
        "ftp://x",
        "https://",
        "https://x/y",
        "https://x?y",
        "https://x#y",
        "https://u:p@x",
        "https://x:99999",
        "https://x:y",
    ] {
        assert!(origin(bad).is_err(), "{bad}");
    }
}

#[test]
fn buckets_need_good_names_and_an_owner() {
    let found = config(&[("JAY_BUCKETS", "photos, backups,")]).unwrap();
    let names: Vec<&str> = found.buckets.iter().map(BucketName::as_str).collect();
    assert_eq!(names, ["photos", "backups"]);
    let error = config(&[("JAY_BUCKETS", "photos,No")]).unwrap_err();
    assert!(error.starts_with("JAY_BUCKETS holds \"No\""), "{error}");
    let secrets = [("JAY_SIGNING_SECRET", LONG), ("JAY_ADMIN_TOKEN", LONG)];
    let error = config(&[&secrets[..], &[("JAY_BUCKETS", "photos")]].concat()).unwrap_err();
    assert!(error.contains("nothing says whose"), "{error}");
}

#[test]
fn sizes_and_native_address() {
    let found = config(&[]).unwrap();
    assert_eq!(
        (
            found.request_bytes_max,
            found.native_addr.unwrap().to_string()
        ),
        (None, ":4444".into())
    );
    let found = config(&[
        ("JAY_REQUEST_BYTES_MAX", "1000"),
        ("JAY_NATIVE_ADDR", "127.0.0.1:5"),
    ])
    .unwrap();
    assert_eq!(found.request_bytes_max, Some(1000));
    assert_eq!(found.native_addr.unwrap().to_string(), "127.0.0.1:5");
    assert!(
        config(&[("JAY_NATIVE_ADDR", "5")])
            .unwrap_err()
            .starts_with("JAY_NATIVE_ADDR is \"5\"")
    );
}

#[test]
fn scrubbing_without_a_limit() {
    let rate = |text| {
        config(&[("JAY_SCRUB_BYTES_PER_SEC", text)])
            .unwrap()
            .upkeep
            .scrub_bytes_per_second
    };
    assert_eq!(
        (rate("0"), rate("-5"), rate("7"), rate("")),
        (None, None, Some(7), Some(52_428_800))
    );
}

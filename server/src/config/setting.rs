//! The table of all settings: the one place that names them.
//!
//! Looking up variables and YAML keys, `jay-config` and the check of the README are driven by [`SETTINGS`]. To add a
//! setting, add its row here, read it in [`super::Config`] and describe it in the README.

use super::kind::Kind;

/// One setting: how it is called, what it may hold, and what it means.
#[derive(Debug, PartialEq)]
pub struct Setting {
    /// Name of the environment variable.
    pub variable: &'static str,
    /// Path in a YAML file, with dots; `None` for what makes sense in the environment only.
    pub key: Option<&'static str>,
    /// What its values are.
    pub kind: Kind,
    /// Text that stands for an absent value; `None` when the absence means something.
    pub default: Option<&'static str>,
    /// The value is never shown, and `<variable>_FILE` may name a file that holds it.
    pub is_secret: bool,
    /// What an empty value means.
    pub empty: Empty,
    /// What it is for, in a few words.
    pub about: &'static str,
}

/// What an empty value of a setting means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// The same as no value.
    Unset,
    /// A mistake: an interpolation that found nothing must not start a server with other secrets than its owner thinks.
    Refused,
    /// In YAML: off. In the environment: no value.
    Off,
}

impl Setting {
    const fn new(
        variable: &'static str,
        key: &'static str,
        kind: Kind,
        about: &'static str,
    ) -> Self {
        Self {
            variable,
            key: Some(key),
            kind,
            default: None,
            is_secret: false,
            empty: Empty::Unset,
            about,
        }
    }

    const fn default(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    const fn secret(self) -> Self {
        Self {
            is_secret: true,
            ..self
        }
    }

    const fn when_empty(self, empty: Empty) -> Self {
        Self { empty, ..self }
    }

    const fn environment_only(self) -> Self {
        Self { key: None, ..self }
    }

    /// `text`, or a mask when it may not be shown.
    pub fn shown<'a>(&self, text: &'a str) -> &'a str {
        match self.is_secret {
            true => MASK,
            false => text,
        }
    }
}

/// Stands for the value of a secret wherever it is shown.
pub const MASK: &str = "********";

macro_rules! settings {
    ($($name:ident = $setting:expr;)*) => {
        $(pub(super) static $name: Setting = $setting;)*
        /// Every setting, in the order in which `jay-config yaml-to-env` writes them.
        pub static SETTINGS: &[&Setting] = &[$(&$name),*];
    };
}

settings! {
    CONFIG_FILE = Setting::new("JAY_CONFIG_FILE", "", Kind::Text, "a YAML file with settings").environment_only();
    DATA_DIR = Setting::new("JAY_DATA_DIR", "data_dir", Kind::Text, "the directory that holds everything").default("./data");
    LISTEN_ADDR = Setting::new("JAY_LISTEN_ADDR", "listen_addr", Kind::Address, "where S3 is served").default(":9000");
    ADMIN_ADDR = Setting::new("JAY_ADMIN_ADDR", "admin_addr", Kind::Address, "where the admin API is served").default(":9001");
    NATIVE_ADDR = Setting::new("JAY_NATIVE_ADDR", "native_addr", Kind::Address, "where the native protocol is served")
        .default(":4444").when_empty(Empty::Off);
    ADMIN_TOKEN = Setting::new("JAY_ADMIN_TOKEN", "admin_token", Kind::LongSecret, "bearer token of the admin API")
        .secret().when_empty(Empty::Refused);
    SIGNING_SECRET = Setting::new("JAY_SIGNING_SECRET", "signing_secret", Kind::LongSecret, "seals the secrets of access keys")
        .secret().when_empty(Empty::Refused);
    LOG_LEVEL = Setting::new("JAY_LOG_LEVEL", "log_level", Kind::LogLevel, "least important level that is logged").default("info");
    TLS_CERT = Setting::new("JAY_TLS_CERT", "tls_cert", Kind::PemFile, "certificate chain of S3 and admin port, PEM file");
    TLS_KEY = Setting::new("JAY_TLS_KEY", "tls_key", Kind::PemFile, "private key of the certificate, PEM file");
    RATE_LIMIT = Setting::new("JAY_RATE_LIMIT", "rate_limit", Kind::Decimal, "requests a second of one token").default("100");
    RATE_BURST = Setting::new("JAY_RATE_BURST", "rate_burst", Kind::Signed, "requests of one token at once").default("200");
    TRUST_PROXY_HEADERS = Setting::new("JAY_TRUST_PROXY_HEADERS", "trust_proxy_headers", Kind::Proxies,
        "peers whose X-Forwarded-For is believed").default("false");
    SCRUB_INTERVAL = Setting::new("JAY_SCRUB_INTERVAL_HOURS", "scrub.interval_hours", Kind::whole(1, 1_000_000),
        "time between two passes of the scrubber").default("6");
    SCRUB_SAMPLE_RATE = Setting::new("JAY_SCRUB_SAMPLE_RATE", "scrub.sample_rate", Kind::Share { may_be_zero: false },
        "share of everything that one pass checks").default("0.1");
    SCRUB_BYTES_PER_SEC = Setting::new("JAY_SCRUB_BYTES_PER_SEC", "scrub.bytes_per_sec", Kind::Signed,
        "how fast the scrubber reads").default("52428800");
    SCRUB_MAX_PER_RUN = Setting::new("JAY_SCRUB_MAX_PER_RUN", "scrub.max_per_run", Kind::whole(1, u64::MAX),
        "objects of a bucket after which a pass ends");
    SEED_ACCOUNT = Setting::new("JAY_SEED_TOKEN_ACCOUNT", "seed_token.account", Kind::Text, "account that is made at the start");
    SEED_ID = Setting::new("JAY_SEED_TOKEN_ID", "seed_token.id", Kind::Text, "its access key");
    SEED_SECRET = Setting::new("JAY_SEED_TOKEN_SECRET", "seed_token.secret", Kind::Text, "the secret of the access key").secret();
    BUCKETS = Setting::new("JAY_BUCKETS", "buckets", Kind::Buckets, "buckets that are made at the start");
    REQUIRE_SECRETS = Setting::new("JAY_REQUIRE_SECRETS", "require_secrets", Kind::Flag, "do not make the two secrets").default("false");
    REGION = Setting::new("JAY_REGION", "region", Kind::Region, "the region that signatures must name");
    VHOST_DOMAIN = Setting::new("JAY_VHOST_DOMAIN", "vhost_domain", Kind::Domains, "domains of virtual-host addressing");
    PUBLIC_URL = Setting::new("JAY_PUBLIC_URL", "public_url", Kind::Origin, "how clients reach S3, for links");
    SIGV4_TRUST_KEY_ID = Setting::new("JAY_SIGV4_TRUST_KEY_ID", "sigv4_trust_key_id", Kind::Flag,
        "do not verify signatures").default("false");
    CONNECTIONS_MAX = Setting::new("JAY_CONNECTIONS_MAX", "connections_max", Kind::whole(1, 1_000_000), "most connections at a time")
        .default("4096");
    REQUEST_BYTES_MAX = Setting::new("JAY_REQUEST_BYTES_MAX", "request_bytes_max", Kind::whole(1, i64::MAX as u64),
        "largest body of a request");
    BUFFER_BYTES_MAX = Setting::new("JAY_BUFFER_BYTES_MAX", "buffer_bytes_max", Kind::whole(1 << 20, 1 << 40),
        "memory for bodies on their way").default("268435456");
    S3_MIN_PART_SIZE = Setting::new("JAY_S3_MIN_PART_SIZE", "s3_min_part_size", Kind::whole(0, 5 << 30),
        "least size of a part").default("5242880");
    VERIFY_SAMPLE_RATE = Setting::new("JAY_VERIFY_SAMPLE_RATE", "verify_sample_rate", Kind::Share { may_be_zero: true },
        "share of reads whose SHA-256 is checked").default("0.05");
    GC_INTERVAL = Setting::new("JAY_GC_INTERVAL_MINUTES", "gc_interval_minutes", Kind::whole(1, 1_000_000),
        "time between two sweeps of the collector").default("15");
    UPLOAD_EXPIRE = Setting::new("JAY_MULTIPART_EXPIRE_HOURS", "multipart_expire_hours", Kind::whole(0, 1_000_000),
        "age at which an open upload is given up").default("168");
    SNAPSHOT_INTERVAL = Setting::new("JAY_SNAPSHOT_INTERVAL_MINUTES", "snapshot_interval_minutes", Kind::whole(1, 1_000_000),
        "time between two snapshots of the index").default("60");
    STOP_TIMEOUT = Setting::new("JAY_STOP_TIMEOUT_SECONDS", "stop_timeout_seconds", Kind::whole(0, 86_400),
        "how long a stop waits for requests").default("30");
    DEBUG_SIGNATURES = Setting::new("JAY_DEBUG_SIGNATURES", "debug_signatures", Kind::Flag,
        "tell callers what was signed here").default("false");
    METRICS_PUBLIC = Setting::new("JAY_METRICS_PUBLIC", "metrics_public", Kind::Flag,
        "/metrics asks for no token").default("false");
    COMPAT_ENV = Setting::new("JAY_COMPAT_ENV", "", Kind::Flag, "accept variables of other stores and of AWS clients")
        .default("false").environment_only();
}

/// Variables that start as ours do and belong to clients, tools and tests: no reason for a warning.
const OTHERS: [&str; 9] = [
    "JAY_URL",
    "JAY_TOKEN_ID",
    "JAY_TOKEN_SECRET",
    "JAY_OLD_SIGNING_SECRET",
    "JAY_PLANT",
    "JAY_PLANTED",
    "JAY_SHUTTLE",
    "JAY_SCHEDULES",
    "JAY_BINARY",
];

/// The setting with the YAML path `key`.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().copied().find(|s| s.key == Some(key))
}

/// The setting of the environment variable `variable`.
pub fn by_variable(variable: &str) -> Option<&'static Setting> {
    SETTINGS.iter().copied().find(|s| s.variable == variable)
}

/// The secret that the variable `variable` names a file of.
pub fn by_file_variable(variable: &str) -> Option<&'static Setting> {
    let secret = variable.strip_suffix("_FILE")?;
    by_variable(secret).filter(|setting| setting.is_secret)
}

/// Whether `name` is a group of settings in YAML, such as `scrub`.
pub fn is_group(name: &str) -> bool {
    SETTINGS
        .iter()
        .filter_map(|s| s.key?.split_once('.'))
        .any(|(group, _)| group == name)
}

/// Whether a variable that starts with `JAY_` is read by anything of ours.
pub fn is_known_variable(name: &str) -> bool {
    by_variable(name).is_some() || by_file_variable(name).is_some() || OTHERS.contains(&name)
}

/// The known YAML path that looks most like `key`.
pub fn nearest_key(key: &str) -> Option<&'static str> {
    nearest(key, SETTINGS.iter().filter_map(|s| s.key))
}

/// The known variable that looks most like `name`.
pub fn nearest_variable(name: &str) -> Option<&'static str> {
    nearest(name, SETTINGS.iter().map(|s| s.variable))
}

/// The candidate that needs the fewest changes, unless that is most of it. The last word of a path counts alone
/// too, for keys in the wrong group.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let written = name.to_ascii_lowercase();
    known
        .map(|candidate| {
            let lower = candidate.to_ascii_lowercase();
            // A path that only shares its last word is the worse guess.
            let distance =
                distance(&written, &lower).min(distance(&last(&written), &last(&lower)) + 1);
            (distance, candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= name.chars().count().div_ceil(2))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: characters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    // Nothing that long is a slip of the finger.
    for (i, x) in a.chars().take(100).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_what_was_meant() {
        for (written, meant) in [
            ("listen_adr", Some("listen_addr")),
            ("Admin-Token", Some("admin_token")),
            ("scrub.intervall_hours", Some("scrub.interval_hours")),
            // In the wrong group, or in none.
            ("interval_hours", Some("scrub.interval_hours")),
            ("seed_token.sample_rate", Some("scrub.sample_rate")),
            ("zzzzzzzz", None),
        ] {
            assert_eq!(nearest_key(written), meant, "{written}");
        }
        assert_eq!(
            nearest_variable("JAY_LISTEN_ADDRESS"),
            Some("JAY_LISTEN_ADDR")
        );
    }

    #[test]
    fn names_are_unique_and_defaults_good() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            let others = &SETTINGS[at + 1..];
            assert!(
                others
                    .iter()
                    .all(|other| other.variable != setting.variable)
            );
            assert!(setting.key.is_none() || others.iter().all(|other| other.key != setting.key));
            let default = setting.default.map(|text| setting.kind.canonical(text));
            assert!(
                default.is_none_or(|checked| checked.is_ok()),
                "{}",
                setting.variable
            );
            assert!(!setting.is_secret || setting.default.is_none());
        }
        assert!(is_group("scrub") && is_group("seed_token") && !is_group("region"));
    }

    /// The README's table is written by hand: this keeps it whole.
    #[test]
    fn the_readme_names_every_setting() {
        let readme = include_str!("../../../README.md");
        for setting in SETTINGS {
            let row = readme
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", setting.variable)));
            let row = row.unwrap_or_else(|| panic!("{} has no row", setting.variable));
            if let Some(key) = setting.key {
                assert!(row.contains(&format!("| `{key}` |")), "{row}");
            }
        }
        for secret in SETTINGS.iter().filter(|setting| setting.is_secret) {
            assert!(readme.contains(&format!("`{}_FILE`", secret.variable)));
        }
    }
}

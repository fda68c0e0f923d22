//! The one configuration of the process: which settings there are, what they mean, and what is refused.
//!
//! Called by the verbs of `jay` that need a setting ([`crate::cli`]). A setting is one of the constants below;
//! its text comes from [`Values`], which today is filled from the environment alone. A YAML file joins by
//! filling the rows that the environment left empty: everything behind [`Config::from_values`] stays.
//! Absent on purpose: files, sockets and logging. What should be logged is returned as [`Notice`]s, since
//! the log's own level is a setting too.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use jay_engine::{ScrubConfig, UpkeepConfig};
use tracing::level_filters::LevelFilter;
use zeroize::Zeroizing;

/// Shortest admin token and signing secret, in bytes.
pub const SECRET_BYTES_MIN: usize = 32;
/// The region that is reported while none is configured.
pub const REGION_DEFAULT: &str = "us-east-1";

/// One setting: its variable, its default, and whether its value may ever be shown.
pub struct Setting {
    /// Name of the environment variable.
    pub variable: &'static str,
    /// Text that stands for an unset variable; `None` when the absence means something.
    pub default: Option<&'static str>,
    /// An empty value is a mistake instead of "unset": an interpolation that found nothing must not
    /// start a server with other secrets than its owner thinks.
    empty_is_refused: bool,
}

const fn setting(variable: &'static str, default: Option<&'static str>) -> Setting {
    Setting {
        variable,
        default,
        empty_is_refused: false,
    }
}

const fn secret(variable: &'static str) -> Setting {
    Setting {
        variable,
        default: None,
        empty_is_refused: true,
    }
}

const LISTEN_ADDR: Setting = setting("JAY_LISTEN_ADDR", Some(":9000"));
const ADMIN_ADDR: Setting = setting("JAY_ADMIN_ADDR", Some(":9001"));
/// Where everything is kept.
pub const DATA_DIR: Setting = setting("JAY_DATA_DIR", Some("./data"));
const LOG_LEVEL: Setting = setting("JAY_LOG_LEVEL", Some("info"));
const ADMIN_TOKEN: Setting = secret("JAY_ADMIN_TOKEN");
const SIGNING_SECRET: Setting = secret("JAY_SIGNING_SECRET");
const REQUIRE_SECRETS: Setting = setting("JAY_REQUIRE_SECRETS", None);
const REGION: Setting = setting("JAY_REGION", None);
const VHOST_DOMAIN: Setting = setting("JAY_VHOST_DOMAIN", None);
const SEED_ACCOUNT: Setting = setting("JAY_SEED_TOKEN_ACCOUNT", None);
const SEED_ID: Setting = setting("JAY_SEED_TOKEN_ID", None);
const SEED_SECRET: Setting = setting("JAY_SEED_TOKEN_SECRET", None);
const CONNECTIONS_MAX: Setting = setting("JAY_CONNECTIONS_MAX", Some("4096"));
const BUFFER_BYTES_MAX: Setting = setting("JAY_BUFFER_BYTES_MAX", Some("268435456"));
const S3_MIN_PART_SIZE: Setting = setting("JAY_S3_MIN_PART_SIZE", Some("5242880"));
const STOP_TIMEOUT: Setting = setting("JAY_STOP_TIMEOUT_SECONDS", Some("30"));
const VERIFY_SAMPLE_RATE: Setting = setting("JAY_VERIFY_SAMPLE_RATE", Some("0.05"));
const SCRUB_INTERVAL: Setting = setting("JAY_SCRUB_INTERVAL_HOURS", Some("6"));
const SCRUB_SAMPLE_RATE: Setting = setting("JAY_SCRUB_SAMPLE_RATE", Some("0.1"));
const SCRUB_BYTES_PER_SEC: Setting = setting("JAY_SCRUB_BYTES_PER_SEC", Some("52428800"));
const SCRUB_MAX_PER_RUN: Setting = setting("JAY_SCRUB_MAX_PER_RUN", None);
const GC_INTERVAL: Setting = setting("JAY_GC_INTERVAL_MINUTES", Some("15"));
const SNAPSHOT_INTERVAL: Setting = setting("JAY_SNAPSHOT_INTERVAL_MINUTES", Some("60"));
const UPLOAD_EXPIRE: Setting = setting("JAY_MULTIPART_EXPIRE_HOURS", Some("168"));
const DEBUG_SIGNATURES: Setting = setting("JAY_DEBUG_SIGNATURES", None);
const TLS_CERT: Setting = setting("JAY_TLS_CERT", None);
const TLS_KEY: Setting = setting("JAY_TLS_KEY", None);
const RATE_LIMIT: Setting = setting("JAY_RATE_LIMIT", Some("100"));
const RATE_BURST: Setting = setting("JAY_RATE_BURST", Some("200"));
const TRUST_PROXY_HEADERS: Setting = setting("JAY_TRUST_PROXY_HEADERS", None);
const REQUEST_BYTES_MAX: Setting = setting("JAY_REQUEST_BYTES_MAX", None);
const METRICS_PUBLIC: Setting = setting("JAY_METRICS_PUBLIC", None);

/// The configuration of one process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the S3 port listens. Default `:9000`, which is port 9000 on every interface.
    pub listen_addr: ListenAddr,
    /// Where the admin port listens. Default `:9001`.
    pub admin_addr: ListenAddr,
    /// The directory that holds everything. Default `./data`.
    pub data_dir: PathBuf,
    /// Least important level that is logged: `debug`, `info`, `warn` or `error`. Default `info`, which
    /// also stands for anything else.
    pub log_level: LevelFilter,
    /// Admin token and signing secret when the owner chose them; `None`: Jay makes its own and keeps
    /// them in the data directory.
    pub secrets: Option<Secrets>,
    /// An access key that is made at the start if it is not there. Default none.
    pub seed_token: Option<SeedToken>,
    /// The region that signatures must name. Default none: any is accepted, and us-east-1 is reported.
    pub region: Option<String>,
    /// Domains under which `bucket.domain` addresses a bucket. Default none: path style only.
    pub vhost_domains: Vec<String>,
    /// Most connections that the S3 port serves at a time; more wait in the kernel's queue. Default 4096.
    pub connections_max: usize,
    /// Memory for bodies on their way in and out, in bytes; requests beyond it wait, 30 s at most, and are
    /// then asked to slow down. Default 256 MiB.
    pub buffer_bytes_max: usize,
    /// Least size of every part but the last when a multipart upload is completed over S3, in bytes. Default
    /// 5 MiB, as S3.
    pub s3_min_part_size: u64,
    /// Of the whole reads, the share whose SHA-256 is checked on top of the sums of their blocks: 0 to 1. Default 0.05.
    pub verify_sample_rate: f64,
    /// When and how much is collected, scrubbed and saved.
    pub upkeep: UpkeepConfig,
    /// How long a stop waits for requests in flight. Default 30 s.
    pub stop_timeout: Duration,
    /// Tells callers with a wrong signature what was signed here. Default off.
    pub debug_signatures: bool,
    /// Files of the certificate chain and of its key, both PEM, for the S3 and admin ports. Default none: plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Requests per second that each token, or each address without one, may send for long; 0 and less: no
    /// limit. Default 100.
    pub rate_limit: f64,
    /// Requests that each may send at once after a pause; 0 and less: twice the rate. Default 200.
    pub rate_burst: i64,
    /// Whose `X-Forwarded-For` and `X-Real-IP` are believed. Default nobody's.
    pub trust_proxies: TrustedProxies,
    /// Most bytes of a request's body, as it is sent. Default no limit but those of S3.
    pub request_bytes_max: Option<u64>,
    /// Whether `/metrics` of the admin port asks for no token. Default it does.
    pub metrics_public: bool,
    /// What was odd about the settings, to be logged once there is a log.
    pub notices: Vec<Notice>,
}

/// The two secrets that an owner may choose, each at least [`SECRET_BYTES_MIN`] bytes.
#[derive(Clone)]
pub struct Secrets {
    /// The bearer token of the admin API.
    pub admin_token: Zeroizing<String>,
    /// The secret that seals token secrets in the store.
    pub signing_secret: Zeroizing<String>,
}

/// The access key of `JAY_SEED_TOKEN_*`.
#[derive(Clone)]
pub struct SeedToken {
    /// Name of the account that owns it.
    pub account: String,
    /// The access key id.
    pub id: String,
    /// The secret access key.
    pub secret: Zeroizing<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl fmt::Debug for SeedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeedToken({}, {}, ..)", self.account, self.id)
    }
}

/// A setting that was not usable and was left at its default; logged as an error, the start goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The variable.
    pub variable: &'static str,
    /// What it held.
    pub value: String,
    /// Why that was not usable.
    pub error: String,
}

/// A setting with which no start is possible; its Display says what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

fn refuse<T>(why: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(why.into()))
}

/// The text of each setting, before it is understood.
pub struct Values<F: Fn(&str) -> Option<std::ffi::OsString>> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<std::ffi::OsString>> Values<F> {
    /// Reads each variable through `lookup`.
    pub fn new(lookup: F) -> Self {
        Self { lookup }
    }

    /// The value, its default, or `None`.
    fn text(&self, setting: &Setting) -> Result<Option<String>, ConfigError> {
        let Some(raw) = (self.lookup)(setting.variable) else {
            return Ok(setting.default.map(str::to_owned));
        };
        // The value itself is not repeated: it may be a secret.
        let Ok(text) = raw.into_string() else {
            return refuse(format!(
                "{} is not valid UTF-8: correct or unset it",
                setting.variable
            ));
        };
        if text.is_empty() && !setting.empty_is_refused {
            return Ok(setting.default.map(str::to_owned));
        }
        Ok(Some(text))
    }

    /// Like [`Values::text`] for a setting that has a default.
    fn text_or_default(&self, setting: &Setting) -> Result<String, ConfigError> {
        Ok(self.text(setting)?.unwrap_or_default())
    }

    fn flag(&self, setting: &Setting) -> Result<bool, ConfigError> {
        let text = self.text_or_default(setting)?;
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "" | "0" | "false" | "no" | "off" => Ok(false),
            _ => refuse(format!("{} is {text:?}: it is 1 or 0", setting.variable)),
        }
    }

    /// A number in `range`; anything else becomes a notice, and the default stays.
    fn number(
        &self,
        setting: &Setting,
        range: std::ops::RangeInclusive<u64>,
        notices: &mut Vec<Notice>,
    ) -> Result<u64, ConfigError> {
        let default = setting
            .default
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let text = self.text_or_default(setting)?;
        let error = match text.parse::<u64>() {
            Ok(number) if range.contains(&number) => return Ok(number),
            Ok(_) => format!("it must be from {} to {}", range.start(), range.end()),
            Err(error) => error.to_string(),
        };
        notices.push(Notice {
            variable: setting.variable,
            value: text,
            error,
        });
        Ok(default)
    }

    /// A share of the whole; anything else becomes a notice, and the default stays.
    fn fraction(
        &self,
        setting: &Setting,
        may_be_zero: bool,
        notices: &mut Vec<Notice>,
    ) -> Result<f64, ConfigError> {
        let default = setting.default.and_then(|text| text.parse().ok());
        let text = self.text_or_default(setting)?;
        let is_good = |share: f64| (share > 0.0 || may_be_zero && share == 0.0) && share <= 1.0;
        let error = match text.parse::<f64>() {
            Ok(share) if is_good(share) => return Ok(share),
            Ok(_) if may_be_zero => "it must be from 0 to 1".to_owned(),
            Ok(_) => "it must be above 0 and at most 1".to_owned(),
            Err(error) => error.to_string(),
        };
        notices.push(Notice {
            variable: setting.variable,
            value: text,
            error,
        });
        Ok(default.unwrap_or_default())
    }

    /// A value that `is_good`; anything else becomes a notice, and the default stays.
    fn parsed<T: FromStr + Default>(
        &self,
        setting: &Setting,
        is_good: impl Fn(&T) -> bool,
        notices: &mut Vec<Notice>,
    ) -> Result<T, ConfigError> {
        let text = self.text_or_default(setting)?;
        if let Some(value) = text.parse().ok().filter(is_good) {
            return Ok(value);
        }
        notices.push(Notice {
            variable: setting.variable,
            value: text,
            error: "it must be a number".to_owned(),
        });
        let default = setting.default.and_then(|text| text.parse().ok());
        Ok(default.unwrap_or_default())
    }

    /// Bytes in a second; zero and less mean no limit.
    fn rate(
        &self,
        setting: &Setting,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<u64>, ConfigError> {
        let default = setting.default.and_then(|text| text.parse().ok());
        let text = self.text_or_default(setting)?;
        match text.parse::<i64>() {
            Ok(rate) => Ok(u64::try_from(rate).ok().filter(|&rate| rate > 0)),
            Err(error) => {
                notices.push(Notice {
                    variable: setting.variable,
                    value: text,
                    error: error.to_string(),
                });
                Ok(default)
            }
        }
    }
}

impl Config {
    /// The configuration that the environment of this process asks for.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_values(&Values::new(|name: &str| std::env::var_os(name)))
    }

    /// Understands `values`, or says in one line what to correct.
    pub fn from_values<F>(values: &Values<F>) -> Result<Self, ConfigError>
    where
        F: Fn(&str) -> Option<std::ffi::OsString>,
    {
        let mut notices = Vec::new();
        Ok(Self {
            listen_addr: listen_addr(values, &LISTEN_ADDR)?,
            admin_addr: listen_addr(values, &ADMIN_ADDR)?,
            data_dir: values.text_or_default(&DATA_DIR)?.into(),
            log_level: log_level(&values.text_or_default(&LOG_LEVEL)?),
            secrets: secrets(values)?,
            seed_token: seed_token(values)?,
            region: region(values)?,
            vhost_domains: vhost_domains(&values.text_or_default(&VHOST_DOMAIN)?)?,
            connections_max: values.number(&CONNECTIONS_MAX, 1..=1_000_000, &mut notices)? as usize,
            buffer_bytes_max: values.number(&BUFFER_BYTES_MAX, 1 << 20..=1 << 40, &mut notices)?
                as usize,
            s3_min_part_size: values.number(&S3_MIN_PART_SIZE, 0..=5 << 30, &mut notices)?,
            verify_sample_rate: values.fraction(&VERIFY_SAMPLE_RATE, true, &mut notices)?,
            upkeep: upkeep(values, &mut notices)?,
            stop_timeout: Duration::from_secs(values.number(
                &STOP_TIMEOUT,
                0..=86_400,
                &mut notices,
            )?),
            debug_signatures: values.flag(&DEBUG_SIGNATURES)?,
            tls: tls(values)?,
            rate_limit: values.parsed(&RATE_LIMIT, |rate: &f64| rate.is_finite(), &mut notices)?,
            rate_burst: values.parsed(&RATE_BURST, |_: &i64| true, &mut notices)?,
            trust_proxies: trust_proxies(values)?,
            request_bytes_max: match values.text(&REQUEST_BYTES_MAX)? {
                None => None,
                Some(_) => values.rate(&REQUEST_BYTES_MAX, &mut notices)?,
            },
            metrics_public: values.flag(&METRICS_PUBLIC)?,
            notices,
        })
    }

    /// The region that clients are told.
    pub fn region_or_default(&self) -> &str {
        self.region.as_deref().unwrap_or(REGION_DEFAULT)
    }
}

fn upkeep<F>(values: &Values<F>, notices: &mut Vec<Notice>) -> Result<UpkeepConfig, ConfigError>
where
    F: Fn(&str) -> Option<std::ffi::OsString>,
{
    const HOUR: u64 = 3600;
    let scrub = ScrubConfig {
        sample_rate: values.fraction(&SCRUB_SAMPLE_RATE, false, notices)?,
        max_per_run: match values.text(&SCRUB_MAX_PER_RUN)? {
            None => None,
            Some(_) => {
                let max = values.number(&SCRUB_MAX_PER_RUN, 1..=u64::MAX, notices)?;
                Some(max).filter(|&max| max > 0)
            }
        },
    };
    let mut seconds = |setting, unit: u64, least| {
        let number = values.number(setting, least..=1_000_000, notices)?;
        Ok(Duration::from_secs(number * unit))
    };
    let config = UpkeepConfig {
        collect_every: seconds(&GC_INTERVAL, 60, 1)?,
        snapshot_every: seconds(&SNAPSHOT_INTERVAL, 60, 1)?,
        upload_age_max: Some(seconds(&UPLOAD_EXPIRE, HOUR, 0)?).filter(|age| !age.is_zero()),
        scrub_every: seconds(&SCRUB_INTERVAL, HOUR, 1)?,
        scrub,
        ..UpkeepConfig::default()
    };
    Ok(UpkeepConfig {
        scrub_bytes_per_second: values.rate(&SCRUB_BYTES_PER_SEC, notices)?,
        ..config
    })
}

/// Both files or neither: half a pair would serve in clear what its owner thinks is protected.
fn tls<F>(values: &Values<F>) -> Result<Option<(PathBuf, PathBuf)>, ConfigError>
where
    F: Fn(&str) -> Option<std::ffi::OsString>,
{
    let half = |missing: &Setting, present: &Setting| {
        refuse(format!(
            "{} is not set while {} is: set both, or neither for plain HTTP",
            missing.variable, present.variable
        ))
    };
    match (values.text(&TLS_CERT)?, values.text(&TLS_KEY)?) {
        (Some(cert), Some(key)) => Ok(Some((cert.into(), key.into()))),
        (None, None) => Ok(None),
        (Some(_), None) => half(&TLS_KEY, &TLS_CERT),
        (None, Some(_)) => half(&TLS_CERT, &TLS_KEY),
    }
}

fn trust_proxies<F>(values: &Values<F>) -> Result<TrustedProxies, ConfigError>
where
    F: Fn(&str) -> Option<std::ffi::OsString>,
{
    let text = values.text_or_default(&TRUST_PROXY_HEADERS)?;
    text.parse().or_else(|why: String| {
        refuse(format!(
            "{} is {text:?}: {why}; give true, false, or networks such as 10.0.0.0/8,192.168.1.2",
            TRUST_PROXY_HEADERS.variable
        ))
    })
}

/// The proxies whose word about the client's address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TrustedProxies {
    /// None.
    #[default]
    Nobody,
    /// Those on this machine and in private networks.
    Private,
    /// Those in these networks.
    Networks(Vec<ipnet::IpNet>),
}

impl TrustedProxies {
    /// Whether `address` is one of them. An IPv4 address in IPv6 form is taken for what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        match self {
            Self::Nobody => false,
            Self::Networks(networks) => networks.iter().any(|network| network.contains(&address)),
            Self::Private => match address {
                IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
                IpAddr::V6(v6) => {
                    v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
                }
            },
        }
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "" | "0" | "false" | "no" | "off" => return Ok(Self::Nobody),
            "1" | "true" | "yes" | "on" => return Ok(Self::Private),
            _ => {}
        }
        let network = |text: &str| {
            let text = text.trim();
            let network = text.parse().ok();
            let address = || text.parse::<IpAddr>().ok().map(Into::into);
            network
                .or_else(address)
                .ok_or_else(|| format!("{text:?} is not a network"))
        };
        text.split(',')
            .map(network)
            .collect::<Result<_, _>>()
            .map(Self::Networks)
    }
}

fn log_level(text: &str) -> LevelFilter {
    match text.to_ascii_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

/// Both secrets or none of them: one alone would be completed by one that the owner never saw.
fn secrets<F>(values: &Values<F>) -> Result<Option<Secrets>, ConfigError>
where
    F: Fn(&str) -> Option<std::ffi::OsString>,
{
    let checked = |setting: &Setting| -> Result<Option<Zeroizing<String>>, ConfigError> {
        let name = setting.variable;
        match values.text(setting)?.map(Zeroizing::new) {
            None => Ok(None),
            Some(text) if text.is_empty() => refuse(format!(
                "{name} is set but empty: give it at least {SECRET_BYTES_MIN} bytes (openssl rand -hex 32), or unset it"
            )),
            Some(text) if text.len() < SECRET_BYTES_MIN => refuse(format!(
                "{name} has {} bytes: give it at least {SECRET_BYTES_MIN} (openssl rand -hex 32)",
                text.len()
            )),
            Some(text) => Ok(Some(text)),
        }
    };
    let missing = |missing: &Setting, present: &Setting| {
        refuse(format!(
            "{} is not set while {} is: set both (openssl rand -hex 32), or neither and Jay makes its own",
            missing.variable, present.variable
        ))
    };
    match (checked(&ADMIN_TOKEN)?, checked(&SIGNING_SECRET)?) {
        (Some(admin_token), Some(signing_secret)) => Ok(Some(Secrets {
            admin_token,
            signing_secret,
        })),
        (Some(_), None) => missing(&SIGNING_SECRET, &ADMIN_TOKEN),
        (None, Some(_)) => missing(&ADMIN_TOKEN, &SIGNING_SECRET),
        (None, None) if values.flag(&REQUIRE_SECRETS)? => refuse(format!(
            "{} and {} are not set and {} forbids to make them: set both (openssl rand -hex 32)",
            ADMIN_TOKEN.variable, SIGNING_SECRET.variable, REQUIRE_SECRETS.variable
        )),
        (None, None) => Ok(None),
    }
}

fn seed_token<F>(values: &Values<F>) -> Result<Option<SeedToken>, ConfigError>
where
    F: Fn(&str) -> Option<std::ffi::OsString>,
{
    let all = [&SEED_ACCOUNT, &SEED_ID, &SEED_SECRET];
    let mut texts = Vec::new();
    for setting in all {
        texts.push(values.text(setting)?.map(Zeroizing::new));
    }
    if texts.iter().all(Option::is_none) {
        return Ok(None);
    }
    if let Some(at) = texts.iter().position(Option::is_none) {
        return refuse(format!(
            "{} is not set: JAY_SEED_TOKEN_ACCOUNT, _ID and _SECRET are set all together or not at all",
            all[at].variable
        ));
    }
    let mut texts = texts.into_iter().flatten();
    let mut next = || texts.next().unwrap_or_default();
    Ok(Some(SeedToken {
        account: next().to_string(),
        id: next().to_string(),
        secret: next(),
    }))
}

fn region<F>(values: &Values<F>) -> Result<Option<String>, ConfigError>
where
    F: Fn(&str) -> Option<std::ffi::OsString>,
{
    let region = values.text(&REGION)?;
    match &region {
        Some(name)
            if !name
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_') =>
        {
            refuse(format!(
                "{} is {name:?}: a region is made of letters, digits and hyphens, such as {REGION_DEFAULT}",
                REGION.variable
            ))
        }
        _ => Ok(region),
    }
}

fn vhost_domains(text: &str) -> Result<Vec<String>, ConfigError> {
    let domains: Vec<String> = text
        .split(',')
        .map(|domain| domain.trim().trim_matches('.').to_ascii_lowercase())
        .filter(|domain| !domain.is_empty())
        .collect();
    let plain = |domain: &&String| {
        domain
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c))
    };
    match domains.iter().find(|domain| !plain(domain)) {
        Some(domain) => refuse(format!(
            "{} holds {domain:?}: give host names without scheme and port, separated by commas",
            VHOST_DOMAIN.variable
        )),
        None => Ok(domains),
    }
}

fn listen_addr<F>(values: &Values<F>, setting: &Setting) -> Result<ListenAddr, ConfigError>
where
    F: Fn(&str) -> Option<std::ffi::OsString>,
{
    let text = values.text_or_default(setting)?;
    text.parse().or_else(|why: String| {
        refuse(format!(
            "{} is {text:?}: {why}; give HOST:PORT, or :PORT for every interface",
            setting.variable
        ))
    })
}

/// Where a port listens: `HOST:PORT`, or `:PORT` for every interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    text: String,
    host: Option<IpAddr>,
    port: u16,
}

impl ListenAddr {
    /// The addresses to try, in this order; the first that this machine knows is taken.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        match self.host {
            Some(host) => vec![(host, self.port).into()],
            // The first is both: a socket on [::] takes IPv4 as well.
            None => vec![
                (Ipv6Addr::UNSPECIFIED, self.port).into(),
                (Ipv4Addr::UNSPECIFIED, self.port).into(),
            ],
        }
    }

    /// The address by which a client on this machine reaches it.
    pub fn connect_addr(&self) -> SocketAddr {
        let host = match self.host {
            None => Ipv4Addr::LOCALHOST.into(),
            Some(host) if host == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            Some(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            Some(host) => host,
        };
        (host, self.port).into()
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err("the port is missing".into());
        };
        let port: u16 = port
            .parse()
            .map_err(|_| format!("{port:?} is not a port"))?;
        let host = match host {
            "" => None,
            _ => {
                let mut addrs = (host.trim_matches(['[', ']']), port)
                    .to_socket_addrs()
                    .map_err(|error| format!("the host is not known ({error})"))?;
                Some(addrs.next().ok_or("the host has no address")?.ip())
            }
        };
        Ok(Self {
            text: text.to_owned(),
            host,
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables: Vec<(String, String)> = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        Config::from_values(&Values::new(move |name: &str| {
            variables
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, value)| value.into())
        }))
        .map_err(|error| error.to_string())
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
        assert_eq!(config.notices.len(), 1);
        assert_eq!(config.notices[0].variable, "JAY_CONNECTIONS_MAX");
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
    fn proxies_and_pairs() {
        let trusted = |text: &str, address: &str| {
            let config = config(&[("JAY_TRUST_PROXY_HEADERS", text)]).unwrap();
            config.trust_proxies.contains(address.parse().unwrap())
        };
        for (text, address, expected) in [
            ("", "127.0.0.1", false),
            ("true", "127.0.0.1", true),
            ("true", "::ffff:10.1.2.3", true),
            ("true", "fd00::1", true),
            ("true", "203.0.113.1", false),
            ("203.0.113.0/24, 2001:db8::/32", "203.0.113.9", true),
            ("203.0.113.0/24, 2001:db8::/32", "2001:db8::1", true),
            ("203.0.113.0/24", "127.0.0.1", false),
            ("192.0.2.1", "192.0.2.1", true),
        ] {
            assert_eq!(trusted(text, address), expected, "{text:?} {address}");
        }
        for (variable, value) in [
            ("JAY_TRUST_PROXY_HEADERS", "10.0.0.0/33"),
            ("JAY_TLS_CERT", "/c"),
            ("JAY_TLS_KEY", "/k"),
        ] {
            let error = config(&[(variable, value)]).unwrap_err();
            assert!(error.contains(variable), "{error}");
        }
    }

    /// Every setting there is, in the order of the README.
    const SETTINGS: [&Setting; 24] = [
        &LISTEN_ADDR,
        &ADMIN_ADDR,
        &DATA_DIR,
        &LOG_LEVEL,
        &ADMIN_TOKEN,
        &SIGNING_SECRET,
        &REQUIRE_SECRETS,
        &SEED_ACCOUNT,
        &SEED_ID,
        &SEED_SECRET,
        &REGION,
        &VHOST_DOMAIN,
        &CONNECTIONS_MAX,
        &BUFFER_BYTES_MAX,
        &S3_MIN_PART_SIZE,
        &STOP_TIMEOUT,
        &DEBUG_SIGNATURES,
        &TLS_CERT,
        &TLS_KEY,
        &RATE_LIMIT,
        &RATE_BURST,
        &TRUST_PROXY_HEADERS,
        &REQUEST_BYTES_MAX,
        &METRICS_PUBLIC,
    ];

    /// The README's table is written by hand: this keeps it whole.
    #[test]
    fn the_readme_names_every_setting() {
        let readme = include_str!("../../README.md");
        for setting in SETTINGS {
            assert!(
                readme.contains(&format!("`{}`", setting.variable)),
                "{}",
                setting.variable
            );
        }
    }
}

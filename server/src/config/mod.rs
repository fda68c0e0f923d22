//! The one configuration of the process: which settings there are, what they mean, and what is refused.
//!
//! Called by the verbs of `jay` that need a setting, and by `jay-config`. [`setting`] is the table of all settings;
//! [`values`] gathers their texts from environment, YAML file and defaults; [`Config`] is what they mean.
//! Absent on purpose: sockets and logging. What should be logged is returned as [`Notice`]s, since the log's own
//! level is a setting too.

mod address;
mod alias;
pub mod convert;
mod environment;
mod file;
mod interpolate;
mod kind;
mod meaning;
mod notice;
pub mod setting;
pub mod show;
pub mod validate;
pub mod values;
mod yaml;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use jay_engine::{BucketName, UpkeepConfig};
use tracing::level_filters::LevelFilter;
use zeroize::Zeroizing;

pub use self::{
    address::{ListenAddr, Origin, TrustedProxies},
    environment::Environment,
    file::read_file,
    kind::SECRET_BYTES_MIN,
    notice::Notice,
    setting::Setting,
    values::Values,
};

/// The region that is reported while none is configured.
pub const REGION_DEFAULT: &str = "us-east-1";

/// The configuration of one process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the S3 port listens. Default `:9000`, which is port 9000 on every interface.
    pub listen_addr: ListenAddr,
    /// Where the admin port listens. Default `:9001`.
    pub admin_addr: ListenAddr,
    /// Where the native port listens; `None`: nowhere. Default `:4444`.
    pub native_addr: Option<ListenAddr>,
    /// The directory that holds everything. Default `./data`.
    pub data_dir: PathBuf,
    /// The YAML file that settings came from, if there is one.
    pub file: Option<PathBuf>,
    /// Least important level that is logged: `debug`, `info`, `warn` or `error`. Default `info`, which
    /// also stands for anything else.
    pub log_level: LevelFilter,
    /// Admin token and signing secret when the owner chose them; `None`: Jay makes its own and keeps
    /// them in the data directory.
    pub secrets: Option<Secrets>,
    /// The admin token when the owner chose it; without the signing secret only for [`Config::load_for_operator`].
    pub admin_token: Option<Zeroizing<String>>,
    /// An access key that is made at the start if it is not there. Default none.
    pub seed_token: Option<SeedToken>,
    /// Buckets that are made at the start for the account of the access key. Default none.
    pub buckets: Vec<BucketName>,
    /// Certificate and key of the S3 and the admin port. Default none: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How many requests one token may make. Default 100 a second, 200 at once; `None`: as many as it likes.
    pub rate_limit: Option<RateLimit>,
    /// Peers whose X-Forwarded-For and X-Real-IP are believed. Default none.
    pub trusted_proxies: TrustedProxies,
    /// How clients reach the S3 port, for links. Default none: as the request that asks for a link did.
    pub public_url: Option<Origin>,
    /// The region that signatures must name. Default none: any is accepted, and us-east-1 is reported.
    pub region: Option<String>,
    /// Domains under which `bucket.domain` addresses a bucket. Default none: path style only.
    pub vhost_domains: Vec<String>,
    /// Takes the access key id of a signature as proof and does not verify the signature. Default off.
    pub sigv4_trust_key_id: bool,
    /// Most connections that the S3 port serves at a time; more wait in the kernel's queue. Default 4096.
    pub connections_max: usize,
    /// Largest body of one request, in bytes. Default none: what an object or a part may have.
    pub request_bytes_max: Option<u64>,
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
    /// Whether what test set-ups of another store ask for is answered (`JAY_COMPAT_ENV`). Default off.
    pub is_compatible: bool,
    /// Whether `/metrics` of the admin port asks for no token. Default it does.
    pub metrics_public: bool,
    /// Every setting as it is in force, secrets masked.
    pub shown: Vec<show::Shown>,
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

/// The files of TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those above it.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// How many requests one token may make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// In a second, on average; above 0.
    pub per_second: f64,
    /// At once, when it was quiet before.
    pub burst: NonZeroU32,
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

fn flag(values: &Values, setting: &Setting) -> bool {
    kind::flag(values.text(setting).unwrap_or_default()) == Some(true)
}

/// The data directory that the environment alone asks for, for verbs that need nothing else.
pub fn data_dir() -> PathBuf {
    let named = std::env::var_os(setting::DATA_DIR.variable).filter(|dir| !dir.is_empty());
    let default = || setting::DATA_DIR.default.unwrap_or_default().into();
    named.map_or_else(default, PathBuf::from)
}

impl Config {
    /// The configuration of this process: its environment, and the YAML file `file` or that of `JAY_CONFIG_FILE`.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::from_values(&Values::load(&Environment::of_process(), file)?)
    }

    /// The same for who does not serve but asks a server, or looks after its directory: the shell of an operator may
    /// know the admin token alone.
    pub fn load_for_operator(file: Option<&Path>) -> Result<Self, ConfigError> {
        let values = Values::load(&Environment::of_process(), file)?;
        let secrets = meaning::secrets(&values, false).unwrap_or_default();
        Self::with_secrets(&values, secrets)
    }

    /// The configuration that `environment` alone asks for.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        Self::from_values(&Values::load(environment, None)?)
    }

    /// Understands `values`, or says in one line what to correct.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let secrets = meaning::secrets(values, flag(values, &setting::REQUIRE_SECRETS))?;
        Self::with_secrets(values, secrets)
    }

    fn with_secrets(values: &Values, secrets: Option<Secrets>) -> Result<Self, ConfigError> {
        let flag = |setting| flag(values, setting);
        let seed_token = meaning::seed_token(values)?;
        Ok(Self {
            listen_addr: meaning::address_of(values, &setting::LISTEN_ADDR)?,
            admin_addr: meaning::address_of(values, &setting::ADMIN_ADDR)?,
            native_addr: match values.filled(&setting::NATIVE_ADDR) {
                Some(_) => Some(meaning::address_of(values, &setting::NATIVE_ADDR)?),
                None => None,
            },
            data_dir: values.text(&setting::DATA_DIR).unwrap_or_default().into(),
            file: values.file.clone(),
            log_level: meaning::log_level(values.text(&setting::LOG_LEVEL).unwrap_or_default()),
            buckets: meaning::buckets(values, seed_token.is_some() || secrets.is_none())?,
            secrets,
            admin_token: meaning::secret(values, &setting::ADMIN_TOKEN),
            seed_token,
            tls: meaning::tls(values)?,
            rate_limit: meaning::rate_limit(values)?,
            trusted_proxies: meaning::parsed(values, &setting::TRUST_PROXY_HEADERS)?
                .unwrap_or_default(),
            public_url: meaning::parsed(values, &setting::PUBLIC_URL)?,
            region: values.filled(&setting::REGION).map(str::to_owned),
            vhost_domains: meaning::vhost_domains(values),
            sigv4_trust_key_id: flag(&setting::SIGV4_TRUST_KEY_ID),
            connections_max: meaning::number(values, &setting::CONNECTIONS_MAX)?,
            request_bytes_max: meaning::parsed(values, &setting::REQUEST_BYTES_MAX)?,
            buffer_bytes_max: meaning::number(values, &setting::BUFFER_BYTES_MAX)?,
            s3_min_part_size: meaning::number(values, &setting::S3_MIN_PART_SIZE)?,
            verify_sample_rate: meaning::number(values, &setting::VERIFY_SAMPLE_RATE)?,
            upkeep: meaning::upkeep(values)?,
            stop_timeout: Duration::from_secs(meaning::number(values, &setting::STOP_TIMEOUT)?),
            debug_signatures: flag(&setting::DEBUG_SIGNATURES),
            is_compatible: flag(&setting::COMPAT_ENV),
            metrics_public: flag(&setting::METRICS_PUBLIC),
            shown: show::show(values),
            notices: values.notices.clone(),
        })
    }

    /// The region that clients are told.
    pub fn region_or_default(&self) -> &str {
        self.region.as_deref().unwrap_or(REGION_DEFAULT)
    }

    /// Whether everything is in the directory that is taken when nothing else is asked for.
    pub fn is_default_data_dir(&self) -> bool {
        setting::DATA_DIR.default.map(Path::new) == Some(&self.data_dir)
    }
}

//! From texts of settings to what they mean, and what only several settings together make wrong.

use std::{fmt, num::NonZeroU32, time::Duration};

use jay_engine::{BucketName, ScrubConfig, UpkeepConfig};
use tracing::level_filters::LevelFilter;
use zeroize::Zeroizing;

use super::{
    ConfigError, ListenAddr, RateLimit, Secrets, SeedToken, Setting, TlsFiles, Values, address,
    kind, refuse, setting,
};

/// The value of `setting`, which [`Values`] has seen to be good, as a `T`; `None` when it has none.
pub fn parsed<T: std::str::FromStr<Err: fmt::Display>>(
    values: &Values,
    setting: &Setting,
) -> Result<Option<T>, ConfigError> {
    let Some(text) = values.filled(setting) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(value) => Ok(Some(value)),
        Err(why) => refuse(format!("{} is {text:?}: {why}", values.name(setting))),
    }
}

/// Like [`parsed`] for a setting that has a default.
pub fn number<T: std::str::FromStr<Err: fmt::Display> + Default>(
    values: &Values,
    setting: &Setting,
) -> Result<T, ConfigError> {
    Ok(parsed(values, setting)?.unwrap_or_default())
}

pub fn address_of(values: &Values, setting: &Setting) -> Result<ListenAddr, ConfigError> {
    let text = values.text(setting).unwrap_or_default();
    text.parse().or_else(|why: String| {
        let name = values.name(setting);
        refuse(format!("{name} is {text:?}: {why}; {}", address::HELP))
    })
}

pub fn upkeep(values: &Values) -> Result<UpkeepConfig, ConfigError> {
    const HOUR: u64 = 3600;
    let seconds = |setting, unit: u64| -> Result<Duration, ConfigError> {
        Ok(Duration::from_secs(number::<u64>(values, setting)? * unit))
    };
    let config = UpkeepConfig {
        collect_every: seconds(&setting::GC_INTERVAL, 60)?,
        snapshot_every: seconds(&setting::SNAPSHOT_INTERVAL, 60)?,
        upload_age_max: Some(seconds(&setting::UPLOAD_EXPIRE, HOUR)?).filter(|age| !age.is_zero()),
        scrub_every: seconds(&setting::SCRUB_INTERVAL, HOUR)?,
        scrub: ScrubConfig {
            sample_rate: number(values, &setting::SCRUB_SAMPLE_RATE)?,
            max_per_run: parsed(values, &setting::SCRUB_MAX_PER_RUN)?,
        },
        ..UpkeepConfig::default()
    };
    let bytes: i64 = number(values, &setting::SCRUB_BYTES_PER_SEC)?;
    Ok(UpkeepConfig {
        scrub_bytes_per_second: u64::try_from(bytes).ok().filter(|&bytes| bytes > 0),
        ..config
    })
}

/// A burst of 0 or less is twice the rate, at least 1.
pub fn rate_limit(values: &Values) -> Result<Option<RateLimit>, ConfigError> {
    let per_second: f64 = number(values, &setting::RATE_LIMIT)?;
    let burst: i64 = number(values, &setting::RATE_BURST)?;
    if per_second <= 0.0 {
        return Ok(None);
    }
    let burst = match burst {
        // A float that is too large becomes the largest number.
        ..=0 => (per_second * 2.0) as u32,
        _ => u32::try_from(burst).unwrap_or(u32::MAX),
    };
    Ok(Some(RateLimit {
        per_second,
        burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
    }))
}

pub fn log_level(text: &str) -> LevelFilter {
    match text.to_ascii_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "warn" => LevelFilter::WARN,
        "error" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

pub fn secret(values: &Values, setting: &Setting) -> Option<Zeroizing<String>> {
    let text = values.text(setting);
    text.map(|text| Zeroizing::new(text.to_owned()))
}

/// Both secrets or none of them: one alone would be completed by one that the owner never saw.
pub fn secrets(values: &Values, required: bool) -> Result<Option<Secrets>, ConfigError> {
    let missing = |missing: &Setting, present: &Setting| {
        refuse(format!(
            "{} is not set while {} is: set both (openssl rand -hex 32), or neither and Jay makes its own",
            missing.variable,
            values.name(present)
        ))
    };
    let (admin, signing) = (&setting::ADMIN_TOKEN, &setting::SIGNING_SECRET);
    match (secret(values, admin), secret(values, signing)) {
        (Some(admin_token), Some(signing_secret)) => Ok(Some(Secrets {
            admin_token,
            signing_secret,
        })),
        (Some(_), None) => missing(signing, admin),
        (None, Some(_)) => missing(admin, signing),
        (None, None) if required => refuse(format!(
            "{} and {} are not set and {} forbids to make them: set both (openssl rand -hex 32)",
            admin.variable,
            signing.variable,
            values.name(&setting::REQUIRE_SECRETS)
        )),
        (None, None) => Ok(None),
    }
}

pub fn seed_token(values: &Values) -> Result<Option<SeedToken>, ConfigError> {
    let all = [
        &setting::SEED_ACCOUNT,
        &setting::SEED_ID,
        &setting::SEED_SECRET,
    ];
    match all.map(|setting| values.filled(setting)) {
        [None, None, None] => Ok(None),
        [Some(account), Some(id), Some(secret)] => Ok(Some(SeedToken {
            account: account.to_owned(),
            id: id.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
        })),
        texts => {
            let at = texts.iter().position(Option::is_none).unwrap_or_default();
            refuse(format!(
                "{} is not set: JAY_SEED_TOKEN_ACCOUNT, _ID and _SECRET are set all together or not at all",
                all[at].variable
            ))
        }
    }
}

/// `has_owner`: there is an access key whose account they may belong to.
pub fn buckets(values: &Values, has_owner: bool) -> Result<Vec<BucketName>, ConfigError> {
    let setting = &setting::BUCKETS;
    let mut buckets = Vec::new();
    for name in kind::items(values.filled(setting).unwrap_or_default()) {
        match BucketName::parse(name) {
            Ok(bucket) => buckets.push(bucket),
            Err(why) => return refuse(format!("{} holds {name:?}: {why}", values.name(setting))),
        }
    }
    match buckets.is_empty() || has_owner {
        true => Ok(buckets),
        false => refuse(format!(
            "{} names buckets but nothing says whose: set JAY_SEED_TOKEN_ACCOUNT, _ID and _SECRET too",
            values.name(setting)
        )),
    }
}

/// Both files or none: with one alone the owner wants TLS and would get none.
pub fn tls(values: &Values) -> Result<Option<TlsFiles>, ConfigError> {
    let (cert, key) = (&setting::TLS_CERT, &setting::TLS_KEY);
    let half = |missing: &Setting, present: &Setting| {
        refuse(format!(
            "{} is not set while {} is: set both, or neither for plain HTTP",
            missing.variable,
            values.name(present)
        ))
    };
    match (values.filled(cert), values.filled(key)) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles {
            cert: cert.into(),
            key: key.into(),
        })),
        (Some(_), None) => half(key, cert),
        (None, Some(_)) => half(cert, key),
        (None, None) => Ok(None),
    }
}

pub fn vhost_domains(values: &Values) -> Vec<String> {
    let text = values.filled(&setting::VHOST_DOMAIN).unwrap_or_default();
    // They were good when the values were gathered.
    kind::domains(text).unwrap_or_default()
}

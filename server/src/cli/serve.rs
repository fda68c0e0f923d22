//! `jay serve`: builds the process in order, runs it, and takes it down in the reverse order.
//!
//! Order matters: both ports are taken before anything is written, the admin port answers before the store
//! is opened, the secrets are on disk before the store uses them, and the S3 port lets nobody in before
//! recovery is done.

use std::{io::Write as _, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use jay_engine::{BucketName, Engine, EngineConfig, ErrorKind, SeedOutcome, SeedToken};
use jiff::{Timestamp, tz::TimeZone};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use zeroize::Zeroizing;

use super::{buckets, compat, print_config::Connection, rekey, supervisor, tls};
use crate::{
    admin::{self, Admin, Health},
    config::{self, Config},
    credentials::Credentials,
    limits::{self, RateLimiter},
    listener::{
        Connections, Edge, Front, Http, Limits, Port, RequestBody, RequestContext, tls::Tls,
    },
    log,
    metrics::{Metrics, Sources},
    native::{self, Native},
    s3::{self, S3},
    self_signed,
};

/// Most connections of the admin port.
const ADMIN_CONNECTIONS_MAX: usize = 256;
/// How long a native connection may be kept without a request: its clients expect no longer one.
const NATIVE_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the admin port may take to end after everything else has.
const ADMIN_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Options of `serve`.
#[derive(Args, Default)]
pub struct ServeArgs {
    /// Speak TLS with a certificate made now for localhost and this host's name, for development
    #[arg(long)]
    tls_self_signed: bool,
}

/// Serves until a signal says to stop.
pub fn run(args: &ServeArgs, config: Config) -> anyhow::Result<()> {
    log::start(config.log_level);
    config.notices.iter().for_each(config::Notice::log);
    if config.sigv4_trust_key_id {
        tracing::warn!(
            "JAY_SIGV4_TRUST_KEY_ID is set: signatures of version 4 are not checked, whoever knows the id of an access key has its rights"
        );
    }
    raise_open_files_limit();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(args, config))
}

/// A connection is an open file, and so is a log file that is read: takes as many as this user may have.
fn raise_open_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, current = limit.current, "the limit of open files stays");
    }
}

async fn serve(args: &ServeArgs, config: Config) -> anyhow::Result<()> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        data_dir = %config.data_dir.display(),
        listen = %config.listen_addr,
        admin = %config.admin_addr,
        native = config.native_addr.as_ref().map(tracing::field::display),
        "jay: starting"
    );
    let health = Health::default();
    let stop = stop_on_signals(health.clone())?;
    let admin_port = Port::reserve("admin", "JAY_ADMIN_ADDR", &config.admin_addr)?;
    let s3_port = Port::reserve("s3", "JAY_LISTEN_ADDR", &config.listen_addr)?;
    let native_port = config.native_addr.as_ref();
    let native_port = native_port
        .map(|addr| Port::reserve("native", "JAY_NATIVE_ADDR", addr))
        .transpose()?;

    let metrics = Arc::new(Metrics::default());
    let edge = Edge {
        tls: tls(args, &config)?,
        proxies: config.trusted_proxies.clone(),
        metrics: metrics.clone(),
        ..Edge::default()
    };
    let limiter = rate_limiter(&config);
    let sources = Sources {
        metrics,
        limiter: limiter.clone(),
    };
    let (stop_admin, admin_stop) = watch::channel(false);
    let admin = tokio::spawn(admin_port.listen(edge.clone())?.serve(
        Http(Admin::new(
            health.clone(),
            admin_settings(&config, sources, edge.connections.clone()),
        )),
        Limits::new(ADMIN_CONNECTIONS_MAX, ADMIN_STOP_TIMEOUT),
        admin_stop,
    ));
    let store = open_store(&config).await?;
    self_signed::note_use(&config.data_dir, args.tls_self_signed)
        .context("which certificate is used could not be noted")?;
    let s3 = S3::new(
        store.engine.clone(),
        s3::Settings {
            region: config.region.clone(),
            vhost_domains: config.vhost_domains.clone(),
            part_bytes_min: config.s3_min_part_size,
            debug_signatures: config.debug_signatures,
            trusts_key_id: config.sigv4_trust_key_id,
            is_compatible: config.is_compatible,
            request_bytes_max: config.request_bytes_max,
        },
        limiter.clone(),
    );
    let native = Native::new(
        store.engine.clone(),
        native::Settings {
            request_bytes_max: config.request_bytes_max,
            region: config.region_or_default().to_owned(),
        },
        limiter,
    );
    let engine = store.engine.clone();
    let edge = Edge {
        memory_is_short: Some(Arc::new(move || engine.memory_is_short())),
        ..edge
    };
    let s3_port = s3_port.listen(edge.clone())?;
    let native_port = native_port.map(|port| port.listen(edge)).transpose()?;
    health.set_ready(store.engine.clone(), store.admin_token.clone());
    store.greet(&config)?;
    supervisor::ready(&health);
    if config.is_compatible {
        println!("{}", compat::STARTED);
    }

    let limits = Limits::new(config.connections_max, config.stop_timeout);
    let native_limits = Limits {
        idle_timeout: NATIVE_IDLE_TIMEOUT,
        ..limits.clone()
    };
    let native = async {
        if let Some(port) = native_port {
            port.serve(native, native_limits, stop.clone()).await;
        }
    };
    tokio::join!(
        s3_port.serve(Http(Arc::new(s3)), limits, stop.clone()),
        native
    );

    // Nobody else listens any more.
    let _ = stop_admin.send(true);
    let _ = admin.await;
    let engine = store.engine;
    tokio::task::spawn_blocking(move || engine.close())
        .await?
        .context("the store could not be closed in order; the next start recovers it")?;
    tracing::info!("jay: stopped");
    Ok(())
}

/// TLS as it is configured, with its files watched.
fn tls(args: &ServeArgs, config: &Config) -> anyhow::Result<Option<Arc<Tls>>> {
    let files = match (&config.tls, args.tls_self_signed) {
        (Some(_), true) => bail!(
            "--tls-self-signed and JAY_TLS_CERT exclude each other: give the option or the certificate"
        ),
        (Some(_), false) => tls::files(config),
        (None, true) => Some(self_signed::ensure(&config.data_dir)?),
        (None, false) => None,
    };
    let Some(files) = files else {
        return Ok(None);
    };
    if args.tls_self_signed {
        let cert = std::path::absolute(&files.cert)?;
        tracing::info!(cert = %cert.display(), "TLS with a self-signed certificate: clients trust it by this file");
    }
    let tls = Tls::load(files)?;
    let watched = tls.clone();
    tokio::spawn(async move {
        let Err(error) = watched.watch().await;
        tracing::error!(%error, "a new certificate will not be seen until the next start");
    });
    Ok(Some(tls))
}

/// The limiter of all fronts, swept now and then.
fn rate_limiter(config: &Config) -> Arc<RateLimiter> {
    let limiter = Arc::new(RateLimiter::new(config.rate_limit));
    let swept = limiter.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(limits::SWEEP_EVERY).await;
            swept.sweep();
        }
    });
    limiter
}

/// What the admin port is told.
fn admin_settings(
    config: &Config,
    metrics: Sources,
    connections: Arc<Connections>,
) -> admin::Settings {
    let local = || {
        format!(
            "{}://{}",
            tls::scheme(config),
            config.listen_addr.connect_addr()
        )
    };
    let s3_url = config
        .public_url
        .as_ref()
        .map_or_else(local, ToString::to_string);
    admin::Settings {
        s3_url,
        region: config.region_or_default().to_owned(),
        config: serde_json::to_value(&config.shown).unwrap_or_default(),
        metrics,
        connections,
        metrics_public: config.metrics_public,
    }
}

impl Front for Arc<S3> {
    type Body = s3::Body;
    const LOGGED: bool = true;

    async fn handle(
        &self,
        request: http::Request<RequestBody>,
        context: &mut RequestContext,
    ) -> http::Response<s3::Body> {
        S3::handle(self, request, context).await
    }
}

/// Turns true at the first SIGTERM or SIGINT; the second one ends the process.
fn stop_on_signals(health: Health) -> anyhow::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            match first {
                true => {
                    tracing::info!("jay: shutting down");
                    health.set_stopping();
                    supervisor::stopping();
                    let _ = stop.send(true);
                }
                // What was acknowledged is durable: the next start recovers it.
                false => {
                    tracing::warn!("jay: stopped at once by a second signal");
                    std::process::exit(1)
                }
            }
        }
    });
    Ok(stopped)
}

/// An open store.
struct Store {
    engine: Engine,
    admin_token: Zeroizing<String>,
    /// Jay has made its secrets now.
    is_new: bool,
}

/// Opens the store under the configured secrets, or under those that Jay makes and keeps.
async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let (signing_secret, admin_token, made) = match &config.secrets {
        Some(secrets) => (
            secrets.signing_secret.clone(),
            secrets.admin_token.clone(),
            None,
        ),
        None => {
            let (credentials, new) = Credentials::load_or_make(&config.data_dir)?;
            if Credentials::open_to_others(&config.data_dir) {
                tracing::warn!(
                    path = %Credentials::path(&config.data_dir).display(),
                    "credentials: others may read the file; chmod 600 it"
                );
            }
            let credentials = rekey::finish(&config.data_dir, credentials).await?;
            (
                credentials.signing_secret.clone(),
                credentials.admin_token.clone(),
                Some((credentials, new)),
            )
        }
    };
    let mut engine_config = EngineConfig::new(&config.data_dir, signing_secret.as_str());
    engine_config.buffer_bytes_max = config.buffer_bytes_max;
    engine_config.verify_sample_rate = config.verify_sample_rate;
    engine_config.upkeep = config.upkeep.clone();
    let engine = tokio::task::spawn_blocking(move || Engine::open(engine_config))
        .await?
        // Its Display is whole, causes included.
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let is_new = matches!(made, Some((_, true)));
    let made = made.map(|(credentials, _)| credentials);
    if let Some(credentials) = &made {
        seed_made(&engine, credentials).await?;
    }
    seed_configured(&engine, config.seed_token.as_ref()).await?;
    let configured = config.seed_token.as_ref().map(|seed| seed.id.as_str());
    if let Some(owner) = configured.or(made.as_ref().map(|made| made.access_key_id.as_str())) {
        buckets::make(&engine, owner, &config.buckets).await?;
    }
    Ok(Store {
        engine,
        admin_token,
        is_new,
    })
}

impl Store {
    /// Tells how to connect: everything at the first start, later only how to see it again.
    fn greet(&self, config: &Config) -> anyhow::Result<()> {
        let Some(connection) = Connection::find(config)? else {
            tracing::info!(
                "ready on {}; `jay-admin create-account` and `create-token` make access keys",
                url(config)
            );
            return Ok(());
        };
        let command = print_config_command(config);
        if !self.is_new {
            tracing::info!("ready on {}; `{command}` shows how to connect", url(config));
            return Ok(());
        }
        let path = Credentials::path(&config.data_dir);
        let greeting = Zeroizing::new(format!(
            "\nJay is ready. This store is new; its credentials are kept in {} and shown\n\
             again by `{command}`. Paste into a shell:\n\n{}\n",
            std::path::absolute(&path).unwrap_or(path).display(),
            *connection.lines_to_paste()
        ));
        // A reader that has gone is no reason to stop serving: `print-config` shows it again.
        if let Err(error) = std::io::stdout().write_all(greeting.as_bytes()) {
            tracing::warn!(%error, "how to connect could not be printed");
        }
        Ok(())
    }
}

/// Where clients on this machine reach S3.
fn url(config: &Config) -> String {
    let scheme = tls::scheme(config);
    format!("{scheme}://{}", config.listen_addr.connect_addr())
}

/// The command that shows the credentials of this store, as typed in this directory.
fn print_config_command(config: &Config) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "jay".into());
    let file = config.file.as_ref();
    let file = file.map(|file| format!(" --config-file {}", file.display()));
    let command = format!("{program}{} print-config", file.unwrap_or_default());
    match config.is_default_data_dir() {
        true => command,
        false => format!("JAY_DATA_DIR={} {command}", config.data_dir.display()),
    }
}

/// Makes the access key of the file `credentials` known to the store and, with it, the first bucket.
async fn seed_made(engine: &Engine, credentials: &Credentials) -> anyhow::Result<()> {
    let report = engine
        .seed_token(SeedToken {
            account: credentials.account.clone(),
            id: credentials.access_key_id.clone(),
            secret: credentials.secret_access_key.clone(),
        })
        .await
        .context("the store refused the access key of its credentials file")?;
    if report.token == SeedOutcome::SecretMismatch {
        tracing::warn!(
            token_id = credentials.access_key_id,
            "credentials: the store knows this access key with another secret, which stays"
        );
        return Ok(());
    }
    let today = Timestamp::now()
        .to_zoned(TimeZone::UTC)
        .strftime("%Y%m%d")
        .to_string();
    let (caller, _) =
        engine.signing_key(&credentials.access_key_id, &today, config::REGION_DEFAULT)?;
    // At the first start, or the one after it if that was cut short; not when the owner has others.
    if !engine.list_buckets(&caller).await?.is_empty() {
        return Ok(());
    }
    match engine
        .create_bucket(&caller, &BucketName::parse(&credentials.bucket)?)
        .await
    {
        Err(error) if error.kind() != ErrorKind::BucketAlreadyOwnedByYou => {
            Err(error).context("the first bucket could not be made")
        }
        _ => Ok(()),
    }
}

/// Makes the access key of `JAY_SEED_TOKEN_*` known to the store.
async fn seed_configured(engine: &Engine, seed: Option<&config::SeedToken>) -> anyhow::Result<()> {
    let Some(seed) = seed else {
        tracing::info!("seed: disabled (JAY_SEED_TOKEN_* all empty)");
        return Ok(());
    };
    let report = engine
        .seed_token(SeedToken {
            account: seed.account.clone(),
            id: seed.id.clone(),
            secret: seed.secret.clone(),
        })
        .await
        .context("the store refused JAY_SEED_TOKEN_*")?;
    let (name, account_id) = (&seed.account, &report.account_id);
    match report.account_created {
        true => tracing::info!(name, account_id, "seed: account created"),
        false => tracing::info!(name, account_id, "seed: account exists, reusing"),
    }
    let token_id = &seed.id;
    match report.token {
        SeedOutcome::Created => tracing::info!(token_id, "seed: token created"),
        SeedOutcome::Reused => tracing::info!(token_id, "seed: token already present, reusing"),
        SeedOutcome::SecretMismatch => tracing::warn!(
            token_id,
            "seed: token exists but secret does not match env; refusing to overwrite"
        ),
    }
    Ok(())
}

//! From a directory to a store that is open.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    Engine, LocalConfig, LogHole, UpkeepConfig,
    auth::{KeyId, Secrets},
    disk::real::{LockGuard, RealDisk},
    engine::Running,
    env::Env,
    maintenance::schedule::Upkeep,
    meta::local::{
        Local,
        recovery::{self, Opened},
        runtime::LocalStore,
    },
    service::{BUFFER_UNIT_BYTES, HASHES_MAX, Service, token::each_token},
};

/// Where a store lives and how much memory it may take.
#[derive(Clone)]
pub struct EngineConfig {
    /// Its directory, made when it is missing.
    pub data_dir: PathBuf,
    /// Seals token secrets at rest; at least 32 bytes.
    pub signing_secret: Zeroizing<String>,
    /// Longest body that is kept in the log instead of a file of its own, in bytes (128 KiB).
    pub inline_max: usize,
    /// Memory for large bodies on their way in and out, in bytes (256 MiB). An upload takes 768 KiB, a
    /// download 512 KiB; further ones wait, 30 s at most.
    pub buffer_bytes_max: usize,
    /// Of the whole reads, the share whose SHA-256 is checked on top of the sums of all blocks (0.05).
    pub verify_sample_rate: f64,
    /// When and how much is collected, scrubbed and saved.
    pub upkeep: UpkeepConfig,
    /// Sizes and limits of log and index.
    pub local: LocalConfig,
}

impl EngineConfig {
    /// The defaults for a store in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>, signing_secret: impl Into<String>) -> Self {
        Self {
            data_dir: data_dir.into(),
            signing_secret: Zeroizing::new(signing_secret.into()),
            inline_max: 128 << 10,
            buffer_bytes_max: 256 << 20,
            verify_sample_rate: 0.05,
            upkeep: UpkeepConfig::default(),
            local: LocalConfig::default(),
        }
    }
}

/// Why a store could not be opened; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{dir} is in use by another process: stop that one, or choose another directory (JAY_DATA_DIR)"
    )]
    AlreadyRunning {
        /// The directory.
        dir: PathBuf,
    },
    /// This user may not use the directory.
    #[error(
        "{dir} cannot be used: {source}. Give this user rights on it (chown -R {} {dir}), or choose another directory \
         (JAY_DATA_DIR)",
        rustix::process::geteuid().as_raw()
    )]
    NoAccess {
        /// The directory.
        dir: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The signing secret is not the one that the store's secrets are sealed under.
    #[error(
        "the signing secret is not the one that the access keys of this store are sealed under: set JAY_SIGNING_SECRET \
         to that one, or change it by `jay rekey`"
    )]
    WrongSecret,
    /// Some secrets are sealed under another signing secret, others under this one.
    #[error(
        "the change of the signing secret was not finished: run `jay rekey` again, with the same secrets"
    )]
    RekeyUnfinished,
    /// What is on the disk is not what was put there.
    #[error("{what}")]
    Damaged {
        /// What is damaged, and how to go on.
        what: String,
    },
    /// The log cannot be read at a place, although more of it was durable.
    #[error("{what}")]
    Hole {
        /// The place, by which its owner may give up what is lost.
        hole: LogHole,
        /// What is damaged, and how to go on.
        what: String,
    },
    /// The disk failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the operating system says.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(what: &str, source: io::Error) -> Self {
        OpenError::Io {
            what: what.into(),
            source,
        }
    }
}

impl Engine {
    /// Opens the store, making it when there is none: recovers, then starts its threads. Waits for the disk.
    pub fn open(config: EngineConfig) -> Result<Engine, OpenError> {
        Self::open_with(config, true)
    }

    /// The same; `checks_secret`: the signing secret must be the one that the secrets are sealed under.
    pub(crate) fn open_with(
        config: EngineConfig,
        checks_secret: bool,
    ) -> Result<Engine, OpenError> {
        let (disk, lock) = open_disk(&config.data_dir)?;
        let local = fitting(config.local, &disk)?;
        let env = Env::real();
        let data_dir = config.data_dir.clone();
        let secrets = Secrets::new(&config.signing_secret);
        let opened = recover(disk, local, &env, Some(&secrets).filter(|_| checks_secret))?;
        let files = opened.local.files.clone();
        let store = LocalStore::start(opened)
            .map_err(|e| OpenError::io("a thread could not be started", e))?;
        let buffers_max = (config.buffer_bytes_max / BUFFER_UNIT_BYTES).max(1);
        let service = Arc::new(Service {
            meta: store.clone(),
            blobs: Arc::new(files),
            secrets,
            env: env.clone(),
            inline_max: config.inline_max,
            verify_sample_rate: config.verify_sample_rate,
            counters: store.local().counters.clone(),
            buffers: Arc::new(Semaphore::new(buffers_max)),
            buffers_max,
            hashing: Semaphore::new(HASHES_MAX),
        });
        let upkeep = Upkeep::start(&store, &service, &config.upkeep)
            .map_err(|e| OpenError::io("a thread could not be started", e))?;
        let running = Running {
            store,
            upkeep,
            data_dir,
            env,
            backup: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        Ok(Engine {
            service,
            running: Arc::new(running),
        })
    }
}

pub(super) fn no_access(dir: &Path, source: io::Error) -> OpenError {
    OpenError::NoAccess {
        dir: dir.to_owned(),
        source,
    }
}

pub(crate) fn open_disk(dir: &Path) -> Result<(Arc<RealDisk>, LockGuard), OpenError> {
    let disk = RealDisk::open(dir).map_err(|e| no_access(dir, e))?;
    match disk.lock("LOCK") {
        Ok(lock) => Ok((disk, lock)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(OpenError::AlreadyRunning {
            dir: dir.to_owned(),
        }),
        Err(error) => Err(no_access(dir, error)),
    }
}

/// Settings that fit the file system of the store.
pub(super) fn fitting(config: LocalConfig, disk: &RealDisk) -> Result<LocalConfig, OpenError> {
    let total_bytes = disk
        .total_bytes()
        .map_err(|e| OpenError::io("the size of the disk is not known", e))?;
    Ok(config.fitting(total_bytes))
}

/// Recovers the store, and refuses a signing secret that does not open what it holds.
fn recover(
    disk: Arc<RealDisk>,
    config: LocalConfig,
    env: &Env,
    secrets: Option<&Secrets>,
) -> Result<Opened, OpenError> {
    let start = || recovery::open(disk.clone(), config.clone(), env.clone());
    let opened = start()?;
    let Some(secrets) = secrets else {
        return Ok(opened);
    };
    match check_secret(&opened.local, secrets) {
        // A row cannot be read, which has marked the index: it is made anew now, not when somebody starts again.
        Err(OpenError::Damaged { .. }) if opened.local.rebuilt().is_none() => {}
        checked => return checked.map(|()| opened),
    }
    drop(opened);
    let opened = start()?;
    check_secret(&opened.local, secrets).map(|()| opened)
}

/// Refuses a signing secret that does not open what the store holds.
fn check_secret(local: &Arc<Local>, secrets: &Secrets) -> Result<(), OpenError> {
    let (mut ours, mut others) = (0_u64, 0_u64);
    let looked = each_token(local, |id, token| {
        let opens = match token.key_id {
            // Made before that was noted.
            key_id if key_id == KeyId::default() => secrets.open(id, &token.sealed_secret).is_ok(),
            key_id => key_id == secrets.key_id(),
        };
        *if opens { &mut ours } else { &mut others } += 1;
    });
    looked.map_err(|e| recovery::index_failed("The index cannot be read", &e))?;
    match (ours, others) {
        (_, 0) => Ok(()),
        (0, _) => Err(OpenError::WrongSecret),
        _ => Err(OpenError::RekeyUnfinished),
    }
}

//! Full backups of a store in another directory, each of which needs only what is new; and the way back.
//!
//! A backup takes the rows as they are at one moment, then copies the files that they name while the collector waits;
//! its manifest comes last. [`create`], [`list`], [`verify`] and [`restore`] are for directories that no server has
//! open; [`crate::Engine::create_backup`] is for a store in use. Each is a step function underneath ([`Backup`],
//! [`Verify`], [`Restore`]), over any two disks. FORMAT.md draws the directory.

mod create;
mod losses;
mod manifest;
mod offline;
mod prune;
mod restore;
#[cfg(test)]
mod tests;
mod transfer;
mod vault;
mod verify;

use std::io;

pub(crate) use self::offline::{must_be_apart, open_vault_disk, run};
pub use self::{
    create::{Backup, Step},
    offline::{create, list, restore, verify},
    restore::Restore,
    vault::{UnreadableBackup, Vault},
    verify::Verify,
};
use crate::{Error, OpenError, maintenance::verify::Depth, types::Timestamp};

const MANIFEST_SUFFIX: &str = ".manifest";

/// Why there is no backup, or nothing was restored; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be as it was asked for.
    #[error("{0}")]
    Refused(String),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

fn not_done(what: &str) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let what = what.to_owned();
    move |source| BackupError::Io { what, source }
}

/// What a backup is to be.
#[derive(Clone, Debug, Default)]
pub struct BackupOptions {
    /// How many backups are kept, this one included; `None`: all.
    pub keep: Option<usize>,
    /// Small files in the directory of the store that are not the engine's and come along.
    pub extras: Vec<String>,
}

/// How a backup is to be restored.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Of the files that came along, those that are put back unless they are there.
    pub extras: Vec<String>,
    /// How closely to look at all bodies: with [`Depth::Bytes`] those that are there are read too, and one with wrong
    /// bytes is set aside for the backup's; afterwards all of the restored store.
    pub check: Depth,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            extras: Vec::new(),
            check: Depth::Length,
        }
    }
}

/// What a backup is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupInfo {
    /// Its name in the directory.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// The store it is of.
    pub store_id: [u8; 16],
    /// Objects in it.
    pub objects: u64,
    /// Sum of their sizes in bytes.
    pub object_bytes: u64,
    /// Files of large bodies that it needs.
    pub files: u64,
    /// Bytes of the bodies in them.
    pub file_bytes: u64,
    /// Files of the log that it needs.
    pub packs: u64,
    /// Bytes of them.
    pub pack_bytes: u64,
    /// Bytes of its rows.
    pub row_bytes: u64,
    /// Bodies that are not in it, because they were damaged or could not be read.
    pub left_out: u64,
}

/// A body that is not what was put, or not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Bucket and key, or what else is known of it.
    pub what: String,
    /// What is wrong.
    pub why: String,
}

/// What came of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// The backup.
    pub info: BackupInfo,
    /// Files of large bodies that were not there yet.
    pub files_copied: u64,
    /// Files of the log that were not there yet.
    pub packs_copied: u64,
    /// Bytes of both.
    pub bytes_copied: u64,
    /// What was left out: the first thousand of [`BackupInfo::left_out`].
    pub damage: Vec<Damage>,
    /// Objects in quarantine: their bodies may not be in it, without having been left out.
    pub quarantined: u64,
    /// Old backups that were removed.
    pub removed: Vec<String>,
}

/// What there is to say of a backup that was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The backup.
    pub info: BackupInfo,
    /// Objects that were looked at.
    pub objects: u64,
    /// Objects that were in quarantine when the backup was made; their bodies were not looked at.
    pub quarantined: u64,
    /// What is wrong with rows and files of the log.
    pub findings: Vec<String>,
    /// How many bodies are missing or damaged.
    pub damaged: u64,
    /// The first thousand of them.
    pub damage: Vec<Damage>,
}

impl VerifyReport {
    /// True when everything would come back.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty() && self.damaged == 0
    }
}

/// What came of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// The backup.
    pub info: BackupInfo,
    /// Files of large bodies that were put back; all others were there.
    pub files_restored: u64,
    /// Files of the log that were put back.
    pub packs_restored: u64,
    /// Bytes of both.
    pub bytes_restored: u64,
    /// What is wrong with files of the log in the backup.
    pub findings: Vec<String>,
    /// How many bodies of files could not be put back.
    pub damaged: u64,
    /// The first thousand of them.
    pub damage: Vec<Damage>,
    /// Objects in the store now, what the log had to add to the backup included.
    pub objects: u64,
    /// How many of them are in quarantine, because their bytes are missing or damaged.
    pub quarantined: u64,
    /// The first thousand of those.
    pub quarantine: Vec<Damage>,
}

impl RestoreReport {
    /// True when nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty() && self.damaged == 0 && self.quarantined == 0
    }
}

/// How far something is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done: `rows`, `log`, `bodies`, or a few words more.
    pub phase: &'static str,
    /// Files (of the log, of large bodies) that are done.
    pub items: u64,
    /// How many there are; 0 while that is not known.
    pub items_total: u64,
    /// Bytes that are done.
    pub bytes: u64,
    /// How many there are; 0 while that is not known.
    pub bytes_total: u64,
}

impl Progress {
    fn new(phase: &'static str) -> Self {
        Self {
            phase,
            ..Self::default()
        }
    }
}

/// How much a step takes.
#[derive(Clone, Copy, Debug)]
struct StepSize {
    items: usize,
    bytes: u64,
}

impl Default for StepSize {
    fn default() -> Self {
        Self {
            items: 256,
            bytes: 1 << 20,
        }
    }
}

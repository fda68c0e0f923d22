//! `/_jay/backups`: a backup of the store while it is in use; and how backups are told in JSON, here and by
//! `jay backup --json`.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use axum::Extension;
use http::{Response, StatusCode};
use jay_engine::{
    BackupOptions, BackupProgress, BackupReport,
    maintenance::backup::{self, RestoreReport, UnreadableBackup, VerifyReport},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, Body,
    error::{Error, ErrorAnswer},
    input::{Input, Parameters},
    job, json, time,
};
use crate::credentials;

/// How often a backup tells how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBackup {
    /// An absolute path on the machine of the server.
    #[schema(value_type = String, pattern = "^/")]
    pub to: PathBuf,
    /// How many backups are kept; absent: all.
    #[schema(minimum = 1, maximum = 4_294_967_295_i64, format = Int64)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

impl CreateBackup {
    /// What the engine is told.
    pub fn options(&self) -> BackupOptions {
        BackupOptions {
            keep: self.keep.map(|keep| keep as usize),
            extras: vec![credentials::FILE.into()],
        }
    }
}

/// Where to look for backups.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Directory {
    /// An absolute path on the machine of the server.
    #[param(value_type = String)]
    from: PathBuf,
}

/// How far a backup is.
#[derive(Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)] // as the engine says
pub struct Progress {
    pub phase: String,
    pub items: u64,
    pub items_total: u64,
    pub bytes: u64,
    pub bytes_total: u64,
}

/// A backup.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)] // as the engine says
pub struct Backup {
    pub name: String,
    pub created_at: String,
    pub store_id: String,
    pub objects: u64,
    pub object_bytes: u64,
    pub files: u64,
    pub file_bytes: u64,
    pub log_files: u64,
    pub log_bytes: u64,
    pub row_bytes: u64,
    pub left_out: u64,
}

/// A body that is damaged or missing.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)] // as the engine says
pub struct Damage {
    pub what: String,
    pub why: String,
}

/// A backup that was made.
#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // as the engine says
pub struct Created {
    pub backup: Backup,
    pub files_copied: u64,
    pub log_files_copied: u64,
    pub bytes_copied: u64,
    pub damage: Vec<Damage>,
    pub quarantined: u64,
    pub removed: Vec<String>,
}

/// The backups in a directory.
#[derive(Debug, Serialize, ToSchema)]
#[allow(missing_docs)] // as the engine says
pub struct Listed {
    pub backups: Vec<Backup>,
    pub unreadable: Vec<Damage>,
}

/// A backup that was verified.
#[derive(Debug, Serialize)]
#[allow(missing_docs)] // as the engine says
pub struct Verified {
    pub backup: Backup,
    pub whole: bool,
    pub objects: u64,
    pub quarantined: u64,
    pub findings: Vec<String>,
    pub damaged: u64,
    pub damage: Vec<Damage>,
}

/// A backup that was brought back.
#[derive(Debug, Serialize)]
#[allow(missing_docs)] // as the engine says
pub struct Restored {
    pub backup: Backup,
    pub whole: bool,
    pub files_restored: u64,
    pub log_files_restored: u64,
    pub bytes_restored: u64,
    pub findings: Vec<String>,
    pub damaged: u64,
    pub damage: Vec<Damage>,
    pub objects: u64,
    pub quarantined: u64,
    pub quarantine: Vec<Damage>,
}

/// Begins a backup; the answer tells how far it is in lines `{"progress":…}`, and at last what came of it:
/// `{"report":…}` or `{"error":…}`.
#[utoipa::path(post, path = "/_jay/backups", operation_id = "CreateBackup", request_body = CreateBackup,
    responses((status = 200, body = String, content_type = "application/x-ndjson"),
        (status = "default", body = ErrorAnswer)))]
pub(super) async fn create(
    Extension(api): Extension<Api>,
    Input(asked): Input<CreateBackup>,
) -> Result<Response<Body>, Error> {
    let engine = api.engine;
    must_be_absolute("to", &asked.to)?;
    if asked.keep == Some(0) {
        return Err(Error::bad_request("keep must be at least 1"));
    }
    Ok(job::start(move |progress| {
        let mut told = Instant::now();
        let mut tell = |now: &BackupProgress| {
            if told.elapsed() < TELL_EVERY {
                return true;
            }
            told = Instant::now();
            progress.tell(&Progress::from(now))
        };
        let report = engine.create_backup(&asked.to, asked.options(), &mut tell)?;
        tracing::info!(
            name = report.info.name,
            to = %asked.to.display(),
            objects = report.info.objects,
            bytes_copied = report.bytes_copied,
            left_out = report.info.left_out,
            "a backup was made"
        );
        Ok::<_, backup::BackupError>(Created::from(report))
    }))
}

/// The backups in a directory, the newest first.
#[utoipa::path(get, path = "/_jay/backups", operation_id = "ListBackups", params(Directory),
    responses((status = 200, body = Listed), (status = "default", body = ErrorAnswer)))]
pub(super) async fn list(
    Parameters(Directory { from }): Parameters<Directory>,
) -> Result<Response<Body>, Error> {
    must_be_absolute("from", &from)?;
    let listed = tokio::task::spawn_blocking(move || backup::list(&from)).await;
    let listed = listed
        .map_err(|error| Error::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
        // The directory is the caller's choice.
        .map_err(|error| Error::bad_request(error.to_string()))?;
    Ok(json(StatusCode::OK, &Listed::from(listed)))
}

fn must_be_absolute(name: &str, path: &Path) -> Result<(), Error> {
    match path.is_absolute() {
        true => Ok(()),
        false => Err(Error::bad_request(format!(
            "{name} must be an absolute path on the machine of the server"
        ))),
    }
}

impl From<&BackupProgress> for Progress {
    fn from(now: &BackupProgress) -> Self {
        Self {
            phase: now.phase.into(),
            items: now.items,
            items_total: now.items_total,
            bytes: now.bytes,
            bytes_total: now.bytes_total,
        }
    }
}

impl From<backup::BackupInfo> for Backup {
    fn from(info: backup::BackupInfo) -> Self {
        Self {
            name: info.name,
            created_at: time(info.created),
            store_id: info.store_id.iter().map(|b| format!("{b:02x}")).collect(),
            objects: info.objects,
            object_bytes: info.object_bytes,
            files: info.files,
            file_bytes: info.file_bytes,
            log_files: info.packs,
            log_bytes: info.pack_bytes,
            row_bytes: info.row_bytes,
            left_out: info.left_out,
        }
    }
}

fn all(damage: Vec<backup::Damage>) -> Vec<Damage> {
    let damage = damage.into_iter();
    damage
        .map(|backup::Damage { what, why }| Damage { what, why })
        .collect()
}

impl From<BackupReport> for Created {
    fn from(report: BackupReport) -> Self {
        Self {
            backup: report.info.into(),
            files_copied: report.files_copied,
            log_files_copied: report.packs_copied,
            bytes_copied: report.bytes_copied,
            damage: all(report.damage),
            quarantined: report.quarantined,
            removed: report.removed,
        }
    }
}

impl From<(Vec<backup::BackupInfo>, Vec<UnreadableBackup>)> for Listed {
    fn from((infos, unreadable): (Vec<backup::BackupInfo>, Vec<UnreadableBackup>)) -> Self {
        let unreadable = unreadable.into_iter();
        Self {
            backups: infos.into_iter().map(Backup::from).collect(),
            unreadable: unreadable
                .map(|bad| Damage {
                    what: bad.name,
                    why: bad.why,
                })
                .collect(),
        }
    }
}

impl From<VerifyReport> for Verified {
    fn from(report: VerifyReport) -> Self {
        Self {
            whole: report.is_whole(),
            backup: report.info.into(),
            objects: report.objects,
            quarantined: report.quarantined,
            findings: report.findings,
            damaged: report.damaged,
            damage: all(report.damage),
        }
    }
}

impl From<RestoreReport> for Restored {
    fn from(report: RestoreReport) -> Self {
        Self {
            whole: report.is_whole(),
            backup: report.info.into(),
            files_restored: report.files_restored,
            log_files_restored: report.packs_restored,
            bytes_restored: report.bytes_restored,
            findings: report.findings,
            damaged: report.damaged,
            damage: all(report.damage),
            objects: report.objects,
            quarantined: report.quarantined,
            quarantine: all(report.quarantine),
        }
    }
}

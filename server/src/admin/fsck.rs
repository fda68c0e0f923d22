//! `/_jay/fsck`: the check of the whole store while it is in use; and how it is told in JSON, here and by
//! `jay fsck --json`.

use std::time::{Duration, Instant};

use axum::Extension;
use http::Response;
use jay_engine::{Depth, Finding, Findings, FsckProgress, FsckReport, Loss};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Body,
    error::{Error, ErrorAnswer},
    input::Optional,
    job,
};

/// How often a check tells how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Only whether all bodies are there and long enough, without reading them.
    #[serde(default)]
    pub fast: bool,
}

impl Check {
    /// How closely to look.
    pub fn depth(&self) -> Depth {
        match self.fast {
            true => Depth::Length,
            false => Depth::Bytes,
        }
    }
}

/// How far a check is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// What it looks at.
    pub phase: String,
    /// How much of that is done.
    pub done: u64,
    /// How much there is in all, about.
    pub total: u64,
}

impl From<FsckProgress> for Progress {
    fn from(now: FsckProgress) -> Self {
        Self {
            phase: now.phase.name().to_owned(),
            done: now.done,
            total: now.total,
        }
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // as the engine says
pub struct Found {
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_number: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    pub reason: String,
    /// The same in one line, for people.
    pub text: String,
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        let text = finding.to_string();
        let (upload_id, part_number) = finding.part.unzip();
        Self {
            kind: finding.kind.name().to_owned(),
            bucket: finding.bucket,
            bucket_id: finding.bucket_id.map(|id| id.to_string()),
            key: finding.key,
            upload_id,
            part_number,
            file: finding.file,
            reason: finding.reason,
            text,
        }
    }
}

/// What cannot be read of the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lost {
    /// What `--accept-loss` would be told to give it up.
    pub hole: String,
    /// The log file.
    pub file: String,
    /// The first record that is lost, if any is known to be.
    pub first_lsn: u64,
    /// The last one.
    pub last_lsn: u64,
    /// In words.
    pub text: String,
}

impl From<&Loss> for Lost {
    fn from(loss: &Loss) -> Self {
        Self {
            hole: loss.hole.to_string(),
            file: loss.hole.path(),
            first_lsn: loss.first_lsn,
            last_lsn: loss.last_lsn,
            text: format!("{} cannot be read: {}", loss.records(), loss.reason),
        }
    }
}

/// What a check found.
#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // as the engine says
pub struct Report {
    pub clean: bool,
    /// Whether the bytes of the bodies were read.
    pub bytes_were_read: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    pub losses: Vec<Lost>,
    pub rows: u64,
    pub objects: u64,
    pub parts: u64,
    pub bytes: u64,
    pub quarantined: u64,
    pub finding_count: u64,
    pub findings: Vec<Found>,
    /// What is worth to know and nothing wrong.
    pub note_count: u64,
    pub notes: Vec<Found>,
}

fn told(findings: Findings) -> (u64, Vec<Found>) {
    let told = findings.told.into_iter().map(Found::from);
    (findings.count, told.collect())
}

impl From<FsckReport> for Report {
    fn from(report: FsckReport) -> Self {
        let clean = report.is_clean();
        let (finding_count, findings) = told(report.findings);
        let (note_count, notes) = told(report.notes);
        Self {
            clean,
            bytes_were_read: report.depth == Depth::Bytes,
            refused: report.refused,
            losses: report.losses.iter().map(Lost::from).collect(),
            rows: report.rows,
            objects: report.objects,
            parts: report.parts,
            bytes: report.bytes,
            quarantined: report.quarantined,
            finding_count,
            findings,
            note_count,
            notes,
        }
    }
}

/// Checks the whole store and writes nothing; the answer tells how far it is in lines `{"progress":…}`, and at last
/// what was found: `{"report":…}` or `{"error":…}`.
#[utoipa::path(post, path = "/_jay/fsck", operation_id = "Fsck", request_body = Option<Check>,
    responses((status = 200, body = String, content_type = "application/x-ndjson"),
        (status = "default", body = ErrorAnswer)))]
pub(super) async fn check(
    Extension(api): Extension<Api>,
    Optional(asked): Optional<Check>,
) -> Result<Response<Body>, Error> {
    let engine = api.engine;
    Ok(job::start(move |progress| {
        let mut told = Instant::now();
        let report = engine.fsck(asked.depth(), &mut |now| {
            if told.elapsed() < TELL_EVERY {
                return true;
            }
            told = Instant::now();
            progress.tell(&Progress::from(now))
        });
        report.map(Report::from)
    }))
}

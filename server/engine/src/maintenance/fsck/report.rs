//! What a check of a store found.

use std::fmt;

use crate::{
    maintenance::verify::Depth,
    meta::local::holes::{LogHole, Loss},
};

/// Findings (and notes) that are told; more are only counted.
pub const TOLD_MAX: usize = 5000;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// The store as a whole: it does not open.
    Store,
    /// The rows.
    Index,
    /// The body of an object.
    Object,
    /// The body of a part of an open upload.
    Part,
    /// An object that was put into quarantine before.
    Quarantined,
    /// The log.
    Log,
    /// A file of `objects/` or `quarantine/`.
    File,
    /// A snapshot of the index.
    Snapshot,
}

impl FindingKind {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::Store => "store",
            FindingKind::Index => "index",
            FindingKind::Object => "object",
            FindingKind::Part => "part",
            FindingKind::Quarantined => "quarantined",
            FindingKind::Log => "log",
            FindingKind::File => "file",
            FindingKind::Snapshot => "snapshot",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// The name of the bucket, if it has one.
    pub bucket: Option<String>,
    /// The id of the bucket.
    pub bucket_id: Option<u64>,
    /// The key of the object, or of the object that the part is for.
    pub key: Option<String>,
    /// The upload and number of the part.
    pub part: Option<(String, u16)>,
    /// The file below the data directory, if it is known which one.
    pub file: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl Finding {
    /// A finding that is not about an object.
    pub fn new(kind: FindingKind, file: Option<String>, reason: impl Into<String>) -> Self {
        Self {
            kind,
            bucket: None,
            bucket_id: None,
            key: None,
            part: None,
            file,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.name())?;
        match (&self.bucket, self.bucket_id) {
            (Some(bucket), _) => write!(f, " {bucket}")?,
            (None, Some(id)) => write!(f, " (bucket {id:016x})")?,
            (None, None) => {}
        }
        if let Some(key) = &self.key {
            write!(f, "/{key}")?;
        }
        if let Some((upload, number)) = &self.part {
            write!(f, " part {number} of upload {upload}")?;
        }
        if let Some(file) = &self.file {
            write!(f, " {file}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Findings, not without bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The first ones.
    pub told: Vec<Finding>,
    /// How many there are in all.
    pub count: u64,
}

impl Findings {
    /// One more.
    pub fn push(&mut self, finding: Finding) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(finding);
        }
    }
}

/// What a check looks at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsckPhase {
    /// The rows, against each other; counted in rows.
    Index,
    /// The bodies of objects and parts; counted in bytes.
    Bodies,
    /// The log files; counted in bytes.
    Log,
    /// The files below `objects/`; counted in directories.
    Files,
    /// The snapshots in `backup/`; counted in bytes.
    Snapshots,
}

impl FsckPhase {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            FsckPhase::Index => "index",
            FsckPhase::Bodies => "bodies",
            FsckPhase::Log => "log",
            FsckPhase::Files => "files",
            FsckPhase::Snapshots => "snapshots",
        }
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsckProgress {
    /// What it looks at.
    pub phase: FsckPhase,
    /// How much of that is done, in the unit of the phase.
    pub done: u64,
    /// How much there is in all, about.
    pub total: u64,
}

/// What a check of a store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsckReport {
    /// How closely it looked.
    pub depth: Depth,
    /// Why the store does not open, if so. Then its files were checked by themselves.
    pub refused: Option<String>,
    /// What cannot be read of the log, and would be lost if it were given up.
    pub losses: Vec<Loss>,
    /// Rows of the index.
    pub rows: u64,
    /// Objects whose bodies were checked.
    pub objects: u64,
    /// Parts of open uploads whose bodies were checked.
    pub parts: u64,
    /// Bytes of these bodies.
    pub bytes: u64,
    /// Objects in quarantine.
    pub quarantined: u64,
    /// Log files.
    pub log_files: u64,
    /// Records that were read in them.
    pub log_records: u64,
    /// Files below `objects/`.
    pub files: u64,
    /// Those of them that no row names.
    pub unnamed_files: u64,
    /// Snapshots that can be read.
    pub snapshots: u64,
    /// What is damaged.
    pub findings: Findings,
    /// What is worth a look and may be as it should.
    pub notes: Findings,
}

impl FsckReport {
    /// Nothing is found yet.
    pub fn new(depth: Depth) -> Self {
        Self {
            depth,
            refused: None,
            losses: Vec::new(),
            rows: 0,
            objects: 0,
            parts: 0,
            bytes: 0,
            quarantined: 0,
            log_files: 0,
            log_records: 0,
            files: 0,
            unnamed_files: 0,
            snapshots: 0,
            findings: Findings::default(),
            notes: Findings::default(),
        }
    }

    /// True when nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.findings.count == 0
    }

    /// The holes that would have to be given up for the store to open.
    pub fn holes(&self) -> Vec<LogHole> {
        self.losses.iter().map(|loss| loss.hole).collect()
    }
}

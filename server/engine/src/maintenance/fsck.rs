//! The check of everything: rows against each other, every body, the log, the files, the snapshots. It changes nothing.
//!
//! A step function over an open store, which may be in use: what looks wrong is looked at again, for it may have been
//! moved, overwritten or removed meanwhile. [`closed`] is the same for a store that nobody has open. Memory grows with
//! the numbers of buckets and log files, not of objects.

pub mod closed;
mod files;
mod log;
mod report;
mod snapshots;

use std::sync::Arc;

pub use self::report::{
    Finding, FindingKind, Findings, FsckPhase, FsckProgress, FsckReport, TOLD_MAX,
};
use self::{files::FileCheck, log::LogCheck, snapshots::SnapshotCheck};
use crate::{
    blob::files::{self as blob_files, Files},
    disk::Disk,
    error::{Error, ErrorKind, Result},
    maintenance::{
        audit::AuditWalk,
        bodies::BodyRows,
        verify::{BodyCheck, Depth, Progress},
    },
    meta::{
        key::{BucketId, Key, after_prefix, tag},
        local::{Local, holes::LogHole, packs},
        record::{Location, Record},
    },
    piece::MOVES_MAX,
    planted::{self, Bug},
};

/// Rows of buckets that are looked at together.
const ROWS: usize = 1000;
/// What an object costs besides its bytes, in bytes, for the progress.
const OBJECT_COST: u64 = 4096;

/// A check that is under way.
pub struct Fsck {
    store: Checked,
    state: State,
    total: u64,
    done: u64,
    report: FsckReport,
    /// The name of the bucket that was asked for last.
    bucket: Option<(BucketId, Option<String>)>,
    /// The disk whose quarantine counts, when it is not the one of the store.
    quarantine: Option<Arc<dyn Disk>>,
}

/// What is checked.
enum Checked {
    /// An open store.
    Open(Arc<Local>),
    /// The files of one that does not open.
    Files {
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        files: Files,
    },
}

enum State {
    Index(Box<AuditWalk>),
    Bodies(Box<BodyRows>, Option<Box<Checking>>),
    Log(Box<LogCheck>),
    Files(Box<FileCheck>),
    Snapshots(Box<SnapshotCheck>),
    Over,
}

/// A body that is being checked.
struct Checking {
    key: Key,
    record: Record,
    /// How often the row has turned out to be another one.
    moves: usize,
    check: BodyCheck,
}

impl Checked {
    fn disk(&self) -> &dyn Disk {
        match self {
            Checked::Open(local) => local.disk(),
            Checked::Files { disk, .. } => &**disk,
        }
    }

    fn store_id(&self) -> [u8; 16] {
        match self {
            Checked::Open(local) => local.store_id(),
            Checked::Files { store_id, .. } => *store_id,
        }
    }

    fn local(&self) -> Option<&Arc<Local>> {
        match self {
            Checked::Open(local) => Some(local),
            Checked::Files { .. } => None,
        }
    }

    fn files(&self) -> &Files {
        match self {
            Checked::Open(local) => &local.files,
            Checked::Files { files, .. } => files,
        }
    }
}

impl Fsck {
    /// Begins the check of an open store.
    pub fn begin(local: Arc<Local>, depth: Depth) -> Result<Self> {
        let audit = AuditWalk::begin(&local)?;
        let total = audit.stated();
        let mut fsck = Self::new(Checked::Open(local), depth, State::Over);
        fsck.enter(State::Index(Box::new(audit)), total);
        Ok(fsck)
    }

    /// Begins the check of an open store whose log has these holes: counters are not expected to be right.
    fn begin_with_holes(local: Arc<Local>, depth: Depth) -> Result<Self> {
        let mut fsck = Self::new(Checked::Open(local), depth, State::Over);
        fsck.enter_bodies()?;
        Ok(fsck)
    }

    fn new(store: Checked, depth: Depth, state: State) -> Self {
        Self {
            store,
            state,
            total: 0,
            done: 0,
            report: FsckReport::new(depth),
            bucket: None,
            quarantine: None,
        }
    }

    /// Looks at a bounded piece. False when there is no more.
    pub fn step(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => return Ok(false),
            State::Index(walk) => self.step_index(walk)?,
            State::Bodies(rows, checking) => self.step_bodies(rows, checking)?,
            State::Log(check) => self.step_log(check)?,
            State::Files(check) => self.step_files(check)?,
            State::Snapshots(check) => self.step_snapshots(check)?,
        }
        Ok(true)
    }

    /// How far it is; `None` behind the end.
    pub fn progress(&self) -> Option<FsckProgress> {
        let phase = match self.state {
            State::Index(..) => FsckPhase::Index,
            State::Bodies(..) => FsckPhase::Bodies,
            State::Log(..) => FsckPhase::Log,
            State::Files(..) => FsckPhase::Files,
            State::Snapshots(..) => FsckPhase::Snapshots,
            State::Over => return None,
        };
        Some(FsckProgress {
            phase,
            done: self.done.min(self.total),
            total: self.total,
        })
    }

    /// What it has found.
    pub fn into_report(self) -> FsckReport {
        self.report
    }

    /// Runs to the end, or until `go_on` says no.
    pub fn run(mut self, go_on: &mut dyn FnMut(FsckProgress) -> bool) -> Result<FsckReport> {
        while self.step()? {
            if let Some(progress) = self.progress()
                && !go_on(progress)
            {
                return Err(Error::new(
                    ErrorKind::OperationAborted,
                    "The check was broken off.",
                ));
            }
        }
        Ok(self.into_report())
    }

    fn enter(&mut self, state: State, total: u64) {
        (self.state, self.total, self.done) = (state, total, 0);
    }

    fn found(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    // The index.

    fn step_index(&mut self, mut walk: Box<AuditWalk>) -> Result<()> {
        let Some(findings) = walk.step()? else {
            self.done = walk.row_count();
            self.state = State::Index(walk);
            return Ok(());
        };
        self.report.rows = walk.stated();
        for reason in findings {
            self.found(Finding::new(FindingKind::Index, None, reason));
        }
        self.enter_bodies()
    }

    // Bodies.

    fn enter_bodies(&mut self) -> Result<()> {
        let total = self.cost()?;
        self.enter(State::Bodies(Box::new(BodyRows::all()), None), total);
        Ok(())
    }

    fn cost(&mut self) -> Result<u64> {
        let mut cost = 0_u64;
        self.each_row(tag::BUCKET_STATS, &mut |_, record| {
            if let Record::BucketStats(stats) = record {
                cost = cost.saturating_add(stats.bytes + stats.objects * OBJECT_COST);
            }
            true
        })?;
        Ok(cost)
    }

    /// Looks at all rows of a kind until `look` says that it is enough. Those that cannot be read are left out.
    fn each_row(&self, tag: u8, look: &mut dyn FnMut(Key, &Record) -> bool) -> Result<()> {
        let Some(local) = self.store.local() else {
            return Ok(());
        };
        let (mut from, to) = (Some(vec![tag]), after_prefix(&[tag]));
        while let Some(start) = from.take() {
            let Ok(rows) = local.scan(&start, to.as_deref(), ROWS) else {
                // It is a finding already: the audit reads every row.
                return Ok(());
            };
            from = rows.next;
            for (key, record) in &rows.rows {
                if let Ok(key) = Key::decode(key)
                    && !look(key, record)
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn step_bodies(
        &mut self,
        mut rows: Box<BodyRows>,
        checking: Option<Box<Checking>>,
    ) -> Result<()> {
        let Some(local) = self.store.local().cloned() else {
            return Ok(());
        };
        if let Some(checking) = checking {
            let checking = self.check_body(&local, checking, rows.upload());
            self.state = State::Bodies(rows, checking);
            return Ok(());
        }
        match rows.next_row(&local) {
            Ok(Some((key, record))) => {
                let checking = match Key::decode(&key) {
                    Ok(key) => self.take_up(key, record, 0),
                    Err(_) => None,
                };
                self.state = State::Bodies(rows, checking);
            }
            Ok(None) => return self.enter_log(),
            Err(_) => self.step_over(&local, rows)?,
        }
        Ok(())
    }

    /// Some row cannot be read: it is found, and those around it are checked.
    fn step_over(&mut self, local: &Local, mut rows: Box<BodyRows>) -> Result<()> {
        match rows.step_over(local) {
            Ok(unreadable) => {
                for (key, error) in unreadable {
                    let mut finding = Finding::new(FindingKind::Index, None, error.to_string());
                    if let Ok(key) = Key::decode(&key) {
                        self.name(&mut finding, &key, None);
                    }
                    self.found(finding);
                }
                self.state = State::Bodies(rows, None);
            }
            Err(error) => {
                let what = format!("the bodies behind it cannot be looked up: {error}");
                self.found(Finding::new(FindingKind::Index, None, what));
                self.enter_log()?;
            }
        }
        Ok(())
    }

    fn take_up(&mut self, key: Key, record: Record, moves: usize) -> Option<Box<Checking>> {
        let check = match &record {
            Record::Object(object) => {
                if let Some(why) = &object.quarantined {
                    self.report.quarantined += 1;
                    let reason = why.reason.clone();
                    let mut finding = Finding::new(FindingKind::Quarantined, None, reason);
                    self.name(&mut finding, &key, None);
                    self.found(finding);
                    return None;
                }
                BodyCheck::of_object(object, self.report.depth)
            }
            Record::Part(part) => BodyCheck::of_part(part, self.report.depth),
            _ => return None,
        };
        let is_in_pack = matches!(record.body(), Some((Location::Pack { .. }, _)));
        if is_in_pack && planted::is(Bug::FsckBlind) {
            return None;
        }
        self.done += OBJECT_COST;
        Some(Box::new(Checking {
            key,
            record,
            moves,
            check: check.with_ends(),
        }))
    }

    /// A step of one body; `None` when it is done with.
    fn check_body(
        &mut self,
        local: &Arc<Local>,
        mut checking: Box<Checking>,
        upload: Option<&Key>,
    ) -> Option<Box<Checking>> {
        match checking.check.step(local, &local.files) {
            Ok(Progress::More(read)) => {
                self.done += read;
                Some(checking)
            }
            Ok(Progress::Done(read)) => {
                self.done += read;
                self.report.bytes += checking.record.body().map_or(0, |(_, size)| size);
                match checking.record {
                    Record::Part(_) => self.report.parts += 1,
                    _ => self.report.objects += 1,
                }
                None
            }
            Err(error) => self.suspect(local, *checking, &error, upload),
        }
    }

    /// A body is not as its row says: unless the row says something else by now, that is damage.
    fn suspect(
        &mut self,
        local: &Arc<Local>,
        checking: Checking,
        error: &Error,
        upload: Option<&Key>,
    ) -> Option<Box<Checking>> {
        let Checking {
            key, record, moves, ..
        } = checking;
        let reason = match local.get(&key) {
            Ok(None) => return None,
            Ok(Some(now)) if now != record && moves < MOVES_MAX => {
                return self.take_up(key, now, moves + 1);
            }
            Ok(Some(_)) => std::error::Error::source(error)
                .map_or_else(|| error.context().to_owned(), |source| source.to_string()),
            Err(error) => error.to_string(),
        };
        let kind = match record {
            Record::Part(_) => FindingKind::Part,
            _ => FindingKind::Object,
        };
        let file = match record.body() {
            Some((Location::Pack { pack, .. }, _)) => Some(packs::path(*pack)),
            Some((Location::File(id), _)) => Some(blob_files::path(*id)),
            _ => None,
        };
        let mut finding = Finding::new(kind, file, reason);
        self.name(&mut finding, &key, upload);
        self.found(finding);
        None
    }

    /// Says which object a finding is about.
    fn name(&mut self, finding: &mut Finding, key: &Key, upload: Option<&Key>) {
        let of = match key {
            Key::Part(id, number) => {
                finding.part = Some((id.to_string(), *number));
                upload
            }
            key => Some(key),
        };
        if let Some(Key::Object(bucket, key) | Key::Upload(bucket, key, _)) = of {
            finding.key = Some(key.clone());
            finding.bucket_id = Some(bucket.0);
            finding.bucket = self.bucket_name(*bucket);
        }
    }

    fn bucket_name(&mut self, id: BucketId) -> Option<String> {
        if let Some((known, name)) = &self.bucket
            && *known == id
        {
            return name.clone();
        }
        let mut found = None;
        let _ = self.each_row(tag::BUCKET, &mut |key, record| {
            if let (Key::Bucket(name), Record::Bucket(bucket)) = (key, record)
                && bucket.id == id
            {
                found = Some(name);
            }
            found.is_none()
        });
        self.bucket = Some((id, found.clone()));
        found
    }

    // The log.

    fn enter_log(&mut self) -> Result<()> {
        let known: Vec<LogHole> = self.report.holes();
        let check = LogCheck::begin(
            self.store.disk(),
            self.store.store_id(),
            self.report.depth,
            self.store
                .local()
                .map_or(0, |local| local.first_needed_pack()),
            known,
        )?;
        let total = check.bytes();
        self.enter(State::Log(Box::new(check)), total);
        Ok(())
    }

    fn step_log(&mut self, mut check: Box<LogCheck>) -> Result<()> {
        let position = self.store.local().map(|local| local.position());
        let more = check.step(self.store.disk(), position, &mut self.report)?;
        self.done = check.done();
        if more {
            self.state = State::Log(check);
            return Ok(());
        }
        self.missing_packs()?;
        self.enter_files()
    }

    /// Log files with living bodies that are not there.
    fn missing_packs(&mut self) -> Result<()> {
        let Some(local) = self.store.local().cloned() else {
            return Ok(());
        };
        let mut missing = Vec::new();
        let there = packs::Packs::numbers(local.disk())?;
        self.each_row(tag::PACK, &mut |key, record| {
            if let (Key::Pack(number), Record::Pack(pack)) = (key, record)
                && pack.live_bytes > 0
                && there.binary_search(&number).is_err()
            {
                missing.push(number);
            }
            true
        })?;
        for number in missing {
            // It may have been emptied and removed, or made, since.
            let is_alive = matches!(local.get(&Key::Pack(number)), Ok(Some(Record::Pack(pack))) if pack.live_bytes > 0);
            let is_missing = local.disk().open(&packs::path(number)).is_err();
            if is_alive && is_missing {
                let reason = "the log file is missing, and there are bodies in it";
                self.found(Finding::new(
                    FindingKind::Log,
                    Some(packs::path(number)),
                    reason,
                ));
            }
        }
        Ok(())
    }

    // Files.

    fn enter_files(&mut self) -> Result<()> {
        let check = FileCheck::begin(self.store.files(), self.report.depth)?;
        let total = check.shards();
        self.enter(State::Files(Box::new(check)), total);
        Ok(())
    }

    fn step_files(&mut self, mut check: Box<FileCheck>) -> Result<()> {
        let (store, report) = (&self.store, &mut self.report);
        let more = match store {
            Checked::Open(local) => check.step_open(local, report)?,
            Checked::Files { files, .. } => check.step_closed(files, report)?,
        };
        self.done = self.total.saturating_sub(check.shards());
        if more {
            self.state = State::Files(check);
            return Ok(());
        }
        let quarantine = self.quarantine.clone();
        let disk = quarantine.as_deref().unwrap_or(self.store.disk());
        files::list_quarantine(disk, &mut self.report)?;
        self.enter_snapshots()
    }

    // Snapshots.

    fn enter_snapshots(&mut self) -> Result<()> {
        let check = SnapshotCheck::begin(self.store.disk())?;
        let total = check.bytes();
        self.enter(State::Snapshots(Box::new(check)), total);
        Ok(())
    }

    fn step_snapshots(&mut self, mut check: Box<SnapshotCheck>) -> Result<()> {
        let store_id = self.store.store_id();
        if check.step(self.store.disk(), store_id, &mut self.report)? {
            self.done = check.done();
            self.state = State::Snapshots(check);
        }
        Ok(())
    }
}

//! Verifies a backup, in steps, as if it were needed now: every file of the log against its sum, all rows against each
//! other, every body against the CRCs of its blocks and its SHA-256.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::Arc,
};

use super::{
    BackupError, Progress, StepSize, VerifyReport,
    losses::{Losses, Lost},
    manifest::{Manifest, PackCopy},
    not_done,
    transfer::PackTransfer,
    vault::{PackBodies, SnapshotRows, Vault, decoded, pack_path},
};
use crate::{
    blob::{
        copy::{self, Presence},
        files::Files,
    },
    disk::Disk,
    env::Env,
    error::{Error, Result},
    maintenance::{
        audit::Audit,
        verify::{BodyCheck, Depth, Progress as Checked},
    },
    meta::{
        key::Key,
        record::{Location, Record},
    },
    types::UploadId,
};

/// A backup that is being verified.
pub struct Verify {
    vault: Vault,
    manifest: Manifest,
    bodies: PackBodies,
    files: Files,
    state: State,
    queue: VecDeque<(Key, Record)>,
    checking: Option<(Key, BodyCheck)>,
    audit: Audit,
    /// Parts of objects that are known to be damaged.
    condemned: BTreeSet<UploadId>,
    losses: Losses,
    report: VerifyReport,
    progress: Progress,
    size: StepSize,
}

enum State {
    Packs(VecDeque<PackCopy>, Option<(PackCopy, PackTransfer)>),
    Bodies(SnapshotRows),
    Over,
}

impl Verify {
    /// Begins to verify the backup of this name, or the newest one.
    pub fn begin(from: Arc<dyn Disk>, name: Option<&str>, env: &Env) -> Result<Self, BackupError> {
        let vault = Vault::open(from)?;
        let manifest = vault.find(name)?;
        let listed = PackBodies::new(&vault, &manifest.packs);
        let bodies = listed.map_err(not_done("the files of the log could not be listed"))?;
        let info = manifest.info();
        let progress = Progress {
            phase: "log",
            items_total: info.objects + info.packs,
            bytes_total: info.pack_bytes + info.object_bytes,
            ..Progress::default()
        };
        Ok(Self {
            files: Files::of_others(vault.disk.clone(), env.clone()),
            state: State::Packs(manifest.packs.iter().copied().collect(), None),
            vault,
            bodies,
            queue: VecDeque::new(),
            checking: None,
            audit: Audit::default(),
            condemned: BTreeSet::new(),
            losses: Losses::default(),
            report: VerifyReport {
                info,
                ..VerifyReport::default()
            },
            manifest,
            progress,
            size: StepSize::default(),
        })
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Verifies a bounded piece. What there is to report, at the end.
    pub fn step(&mut self) -> Result<Option<VerifyReport>, BackupError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => {}
            State::Packs(mut packs, None) => match packs.pop_front() {
                Some(pack) => {
                    let transfer = self.begin_pack(&pack)?;
                    self.state = State::Packs(packs, transfer.map(|transfer| (pack, transfer)));
                }
                None => match self.vault.rows(&self.manifest.name) {
                    Ok(rows) => {
                        self.progress.phase = "bodies";
                        self.state = State::Bodies(rows);
                    }
                    Err(error) => return self.without_rows(error).map(Some),
                },
            },
            State::Packs(packs, Some((pack, transfer))) => {
                let now = self.sum_pack(pack, transfer)?;
                self.state = State::Packs(packs, now);
            }
            State::Bodies(rows) => return self.check_bodies(rows),
        }
        Ok(None)
    }

    fn begin_pack(&mut self, pack: &PackCopy) -> Result<Option<PackTransfer>, BackupError> {
        let there = self.vault.packs();
        let there = there.map_err(not_done("the files of the log could not be listed"))?;
        let Some(bytes) = pack.found_in(&there) else {
            self.finding(format!("the file {} of the log is missing", pack.number));
            return Ok(None);
        };
        let file = self.vault.disk.open(&pack_path(pack, bytes));
        let file = file.map_err(not_done("a file of the log could not be opened"))?;
        Ok(Some(PackTransfer::new(file, None, pack.bytes)))
    }

    fn sum_pack(
        &mut self,
        pack: PackCopy,
        mut transfer: PackTransfer,
    ) -> Result<Option<(PackCopy, PackTransfer)>, BackupError> {
        match transfer.step() {
            Ok(0) => {
                self.progress.items += 1;
                let sum = transfer.finish();
                if sum.map_err(not_done("a file of the log could not be read"))? != pack.crc32c {
                    self.finding(format!(
                        "the file {} of the log is not what was backed up",
                        pack.number
                    ));
                }
                Ok(None)
            }
            Ok(bytes) => {
                self.progress.bytes += bytes;
                Ok(Some((pack, transfer)))
            }
            Err(error) => {
                let error = error.into_io();
                self.finding(format!(
                    "the file {} of the log cannot be read: {error}",
                    pack.number
                ));
                Ok(None)
            }
        }
    }

    fn check_bodies(
        &mut self,
        mut rows: SnapshotRows,
    ) -> Result<Option<VerifyReport>, BackupError> {
        let (mut items, mut bytes) = (0, 0);
        while items < self.size.items && bytes < self.size.bytes {
            items += 1;
            if let Some((key, check)) = self.checking.take() {
                bytes += self.check(key, check);
                continue;
            }
            if let Some((key, record)) = self.queue.pop_front() {
                self.row(key, &record);
                continue;
            }
            match rows.reader.next_block() {
                Ok(Some(some)) => {
                    let all = self.audit.rows(&some).and_then(|()| decoded(&some));
                    match all {
                        Ok(all) => self.queue.extend(all),
                        Err(error) => return self.without_rows(error).map(Some),
                    }
                }
                Ok(None) => {
                    let findings = std::mem::take(&mut self.audit).finish(rows.reader.info.rows);
                    findings.into_iter().for_each(|what| self.finding(what));
                    return Ok(Some(self.finish()));
                }
                Err(error) => return self.without_rows(error).map(Some),
            }
        }
        self.state = State::Bodies(rows);
        Ok(None)
    }

    fn row(&mut self, key: Key, record: &Record) {
        let check = match record {
            Record::Object(object) => {
                self.progress.items += 1;
                self.report.objects += 1;
                match &object.location {
                    location if object.quarantined.is_some() => {
                        self.report.quarantined += 1;
                        if let Location::Parts(set) = location {
                            self.condemned.insert(set.id);
                        }
                        return;
                    }
                    // The parts have rows of their own.
                    Location::Parts(_) => return,
                    _ => BodyCheck::of_object(object, Depth::Bytes),
                }
            }
            Record::Part(part) => match key {
                Key::Part(id, _) if self.condemned.contains(&id) => return,
                _ => BodyCheck::of_part(part, Depth::Bytes),
            },
            _ => return,
        };
        // Its last bytes are no part of the body, but without them it would not be taken for whole.
        if let Some((Location::File(id), size)) = record.body() {
            match copy::is_there(&*self.vault.disk, *id, size) {
                Ok(Presence::There) => {}
                Ok(Presence::Missing) => return self.losses.add(Lost::Row(key), "it is missing"),
                Ok(Presence::Damaged) => {
                    return self
                        .losses
                        .add(Lost::Row(key), "its file is damaged or too short");
                }
                Err(error) => return self.losses.add(Lost::Row(key), error),
            }
        }
        self.checking = Some((key, check));
    }

    /// A step of a body; how many bytes were read.
    fn check(&mut self, key: Key, mut check: BodyCheck) -> u64 {
        match check.step(&self.bodies, &self.files) {
            Ok(Checked::More(bytes)) => {
                self.progress.bytes += bytes;
                self.checking = Some((key, check));
                bytes
            }
            Ok(Checked::Done(bytes)) => {
                self.progress.bytes += bytes;
                bytes
            }
            Err(error) => {
                self.losses.add(Lost::Row(key), told(&error));
                0
            }
        }
    }

    fn finding(&mut self, what: String) {
        self.report.findings.push(what);
    }

    /// The end when there are no rows (any more) by which the bodies could be found.
    fn without_rows(&mut self, error: Error) -> Result<VerifyReport, BackupError> {
        let why = told(&error);
        self.finding(format!(
            "the rows of the backup cannot be read to their end: {why}"
        ));
        Ok(self.finish())
    }

    fn finish(&mut self) -> VerifyReport {
        let losses = std::mem::take(&mut self.losses);
        self.report.damaged = losses.count;
        self.report.damage = losses.named(&self.vault, &self.manifest.name);
        std::mem::take(&mut self.report)
    }
}

/// The cause of an error rather than the error, which is told to clients.
fn told(error: &Error) -> String {
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) => error.to_string(),
        None => source.map_or_else(|| error.context().to_owned(), ToString::to_string),
    }
}

//! Brings a backup back into a directory, in steps. It adds what is missing and overwrites nothing, so the log that
//! is still there goes on from the backup to the present. While it is under way the directory is no store.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};

use super::{
    BackupError, Progress, RestoreOptions, RestoreReport, StepSize,
    losses::{Losses, Lost},
    manifest::{Manifest, PackCopy},
    not_done,
    transfer::{FileTransfer, PackTransfer},
    vault::{SnapshotRows, Vault, pack_path, remove_if_there, snapshot_path},
};
use crate::{
    blob::copy::CopyError,
    disk::{Disk, shadow::ShadowDisk},
    env::Env,
    error::Result,
    maintenance::{
        snapshot::{self, SnapshotReader},
        verify::Depth,
    },
    meta::{
        key::{BlobId, Key},
        local::{
            LocalConfig,
            format::{self, Format},
            log::{HeaderBlock, PAGE_BYTES, PackHeader},
            packs, recovery,
        },
        record::Record,
    },
};

const PACK_TEMPORARY: &str = "log/restored.new";
const SNAPSHOT_TEMPORARY: &str = "backup/restored.new";
/// Where a damaged file goes whose copy is whole.
const SET_ASIDE: &str = "quarantine";

/// A backup that is being brought back.
pub struct Restore {
    vault: Vault,
    manifest: Manifest,
    to: Arc<dyn Disk>,
    env: Env,
    /// What the directory was before.
    was: Option<Format>,
    /// How far its own log went, when it could be opened as it was.
    own_lsn: Option<u64>,
    /// Files of the log that were put there, to be taken away again when they do not fit what is there.
    packs_put: Vec<u32>,
    /// The log goes on from the rows.
    leads_on: bool,
    state: State,
    files: FileTransfer,
    losses: Losses,
    report: RestoreReport,
    progress: Progress,
    size: StepSize,
}

enum State {
    Packs(VecDeque<PackCopy>, Option<(PackCopy, PackTransfer)>),
    Bodies(Box<Bodies>),
    /// The rows are copied as they are, then read.
    Rows(PackTransfer),
    CheckRows(SnapshotReader),
    Over,
}

struct Bodies {
    rows: SnapshotRows,
    queue: VecDeque<(Key, Record)>,
    copying: Option<BlobId>,
}

impl Restore {
    /// Begins to bring back the backup of this name, or the newest one. Nothing is changed when it is refused.
    pub fn begin(
        from: Arc<dyn Disk>,
        name: Option<&str>,
        to: Arc<dyn Disk>,
        env: &Env,
        options: &RestoreOptions,
    ) -> Result<Self, BackupError> {
        let vault = Vault::open(from)?;
        let manifest = vault.find(name)?;
        let was = format::look(&*to)?;
        must_fit(&*to, was.as_ref(), &manifest)?;
        let own_lsn = was.and_then(|_| lsn_of(&to, env));
        let rows = vault.rows(&manifest.name).map(drop);
        rows.map_err(|e| refused_rows(&manifest.name, &e.to_string()))?;
        prepare(&*to).map_err(not_done("the directory could not be prepared"))?;
        // Now, lest somebody makes others in their place.
        let extras = manifest.extras.iter();
        for extra in extras.filter(|extra| options.extras.contains(&extra.name)) {
            let put = put_extra(&*to, &extra.name, &extra.bytes);
            put.map_err(not_restored(&extra.name))?;
        }
        let info = manifest.info();
        Ok(Self {
            state: State::Packs(manifest.packs.iter().copied().collect(), None),
            files: FileTransfer::new(vault.disk.clone(), to.clone(), Some(SET_ASIDE))
                .reading(options.check == Depth::Bytes),
            progress: Progress {
                phase: "log",
                items_total: info.packs + info.files,
                bytes_total: info.pack_bytes + info.file_bytes + info.row_bytes,
                ..Progress::default()
            },
            report: RestoreReport {
                info,
                ..RestoreReport::default()
            },
            vault,
            manifest,
            to,
            env: env.clone(),
            was,
            own_lsn,
            packs_put: Vec::new(),
            leads_on: true,
            losses: Losses::default(),
            size: StepSize::default(),
        })
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Brings a bounded piece back. What was done, at the end, when the directory is a store.
    pub fn step(&mut self) -> Result<Option<RestoreReport>, BackupError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => {}
            State::Packs(mut left, None) => match left.pop_front() {
                Some(pack) => {
                    let now = self.begin_pack(&pack)?;
                    self.state = State::Packs(left, now.map(|transfer| (pack, transfer)));
                }
                None => self.begin_bodies()?,
            },
            State::Packs(left, Some((pack, transfer))) => {
                let now = self.copy_pack(pack, transfer)?;
                self.state = State::Packs(left, now);
            }
            State::Bodies(bodies) => self.copy_bodies(bodies)?,
            State::Rows(transfer) => self.copy_rows(transfer)?,
            State::CheckRows(mut reader) => {
                let name = &self.manifest.name;
                match reader.next_block() {
                    Ok(Some(_)) => self.state = State::CheckRows(reader),
                    Ok(None) => return self.finish().map(Some),
                    Err(error) => return Err(refused_rows(name, &error.to_string())),
                }
            }
        }
        Ok(None)
    }

    fn begin_pack(&mut self, pack: &PackCopy) -> Result<Option<PackTransfer>, BackupError> {
        match self.to.open(&packs::path(pack.number)) {
            Ok(_) => {
                self.progress.items += 1;
                self.progress.bytes += pack.bytes;
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(not_restored("log")(error)),
        }
        let unreadable = not_done("the files of the log could not be listed");
        let there = self.vault.packs().map_err(unreadable)?;
        let Some(bytes) = pack.found_in(&there) else {
            self.finding(format!(
                "the file {} of the log is missing in the backup",
                pack.number
            ));
            return Ok(None);
        };
        let from = self.vault.disk.open(&pack_path(pack, bytes));
        let from = from.map_err(not_done("a file of the log could not be opened"))?;
        remove_if_there(&*self.to, PACK_TEMPORARY).map_err(not_restored("log"))?;
        let to = self
            .to
            .create(PACK_TEMPORARY)
            .map_err(not_restored("log"))?;
        // No more than that: what follows is of a later time.
        Ok(Some(PackTransfer::new(from, Some(to), pack.bytes)))
    }

    fn copy_pack(
        &mut self,
        pack: PackCopy,
        mut transfer: PackTransfer,
    ) -> Result<Option<(PackCopy, PackTransfer)>, BackupError> {
        match transfer.step() {
            Ok(0) => {
                self.progress.items += 1;
                self.report.packs_restored += 1;
                self.report.bytes_restored += pack.bytes;
                let sum = transfer.finish().map_err(not_restored("log"))?;
                if sum != pack.crc32c {
                    let number = pack.number;
                    self.finding(format!(
                        "the file {number} of the log is not what was backed up"
                    ));
                }
                let named = self.to.rename(PACK_TEMPORARY, &packs::path(pack.number));
                named.map_err(not_restored("log"))?;
                self.packs_put.push(pack.number);
                Ok(None)
            }
            Ok(bytes) => {
                self.progress.bytes += bytes;
                Ok(Some((pack, transfer)))
            }
            Err(CopyError::Target(error)) => Err(not_restored("log")(error)),
            Err(CopyError::Source(error)) => {
                let number = pack.number;
                self.finding(format!(
                    "the file {number} of the log cannot be read: {error}"
                ));
                Ok(None)
            }
        }
    }

    fn begin_bodies(&mut self) -> Result<(), BackupError> {
        let done =
            remove_if_there(&*self.to, PACK_TEMPORARY).and_then(|()| self.to.sync_dir(packs::DIR));
        done.map_err(not_restored("log"))?;
        self.must_lead_on()?;
        self.progress.phase = "bodies";
        self.state = State::Bodies(Box::new(Bodies {
            rows: self.vault.rows(&self.manifest.name)?,
            queue: VecDeque::new(),
            copying: None,
        }));
        Ok(())
    }

    /// The log that is there now leads from the backup to the present, or the store is beyond the backup already.
    fn must_lead_on(&mut self) -> Result<(), BackupError> {
        let point = &self.manifest.checkpoint;
        let leads_on = recovery::goes_on_from(&*self.to, self.vault.store_id, point);
        self.leads_on = leads_on.map_err(not_restored("log"))?;
        // Without a log nothing could contradict: what the backup lacks of it is among the findings.
        let is_beyond = self.own_lsn.is_some_and(|lsn| lsn >= point.applied_lsn);
        if self.leads_on || is_beyond || !self.report.findings.is_empty() {
            return Ok(());
        }
        self.undo().map_err(not_restored("log"))?;
        Err(BackupError::Refused(format!(
            "The store in the directory is at another state than the backup {}, and its log does not lead there: it was \
             restored to an earlier state, or lost the end of its log. Nothing was changed: move the directory away and \
             restore into an empty one (JAY_DATA_DIR).",
            self.manifest.name
        )))
    }

    fn undo(&self) -> io::Result<()> {
        for &number in &self.packs_put {
            self.to.unlink(&packs::path(number))?;
        }
        self.to.sync_dir(packs::DIR)?;
        self.to.unlink(format::RESTORING)?;
        self.to.sync_dir("")
    }

    fn copy_bodies(&mut self, mut bodies: Box<Bodies>) -> Result<(), BackupError> {
        let (mut items, mut bytes) = (0, 0);
        while items < self.size.items && bytes < self.size.bytes {
            items += 1;
            if let Some(id) = bodies.copying {
                match self.files.step() {
                    Ok(Some(copied)) => {
                        bytes += copied;
                        self.progress.bytes += copied;
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => self.not_copied(id, error)?,
                }
                bodies.copying = None;
                self.progress.items += 1;
                continue;
            }
            match bodies.queue.pop_front() {
                Some((Key::Blob(id), Record::Blob(blob))) => match self.files.begin(id, blob.bytes)
                {
                    Ok(true) => bodies.copying = Some(id),
                    Ok(false) => {
                        self.progress.bytes += blob.bytes;
                        self.progress.items += 1;
                    }
                    Err(error) => self.not_copied(id, error)?,
                },
                Some(_) => {}
                None => match bodies.rows.next() {
                    Ok(Some(rows)) => bodies.queue.extend(rows),
                    Ok(None) => return self.begin_rows(),
                    Err(error) => {
                        return Err(refused_rows(&self.manifest.name, &error.to_string()));
                    }
                },
            }
        }
        self.state = State::Bodies(bodies);
        Ok(())
    }

    fn not_copied(&mut self, id: BlobId, error: CopyError) -> Result<(), BackupError> {
        match error {
            CopyError::Target(error) => Err(not_restored("objects")(error)),
            CopyError::Source(error) => {
                self.losses.add(Lost::File(id), error);
                Ok(())
            }
        }
    }

    fn begin_rows(&mut self) -> Result<(), BackupError> {
        self.files.leave().map_err(not_restored("objects"))?;
        self.progress.phase = "rows";
        let from = self.vault.disk.open(&snapshot_path(&self.manifest.name));
        let from = from.map_err(not_done("the rows of the backup could not be opened"))?;
        let begun = remove_if_there(&*self.to, SNAPSHOT_TEMPORARY)
            .and_then(|()| self.to.create(SNAPSHOT_TEMPORARY));
        let to = begun.map_err(not_restored(snapshot::DIR))?;
        let transfer = PackTransfer::new(from, Some(to), self.manifest.snapshot_bytes);
        self.state = State::Rows(transfer);
        Ok(())
    }

    fn copy_rows(&mut self, mut transfer: PackTransfer) -> Result<(), BackupError> {
        match transfer.step() {
            Ok(0) => {
                let done = transfer.finish().map(drop);
                done.map_err(not_restored(snapshot::DIR))?;
                let copy = self.to.open(SNAPSHOT_TEMPORARY);
                let copy = copy.map_err(not_restored(snapshot::DIR))?;
                let name = &self.manifest.name;
                let reader = SnapshotReader::open(copy, self.vault.store_id, name)
                    .map_err(|e| refused_rows(name, &e.to_string()))?;
                self.state = State::CheckRows(reader);
            }
            Ok(bytes) => {
                self.progress.bytes += bytes;
                self.state = State::Rows(transfer);
            }
            Err(CopyError::Source(error)) => {
                return Err(refused_rows(&self.manifest.name, &error.to_string()));
            }
            Err(CopyError::Target(error)) => return Err(not_restored(snapshot::DIR)(error)),
        }
        Ok(())
    }

    /// All is there: the directory becomes a store (again).
    fn finish(&mut self) -> Result<RestoreReport, BackupError> {
        self.name_rows().map_err(not_restored(snapshot::DIR))?;
        let floor = format::floor_now(&self.env)
            .max(self.manifest.checkpoint.incarnation)
            .max(self.was.map_or(0, |was| was.incarnation_floor));
        let created = self.was.map_or(self.manifest.created.0, |was| was.created);
        let done = format::put_restored(&*self.to, self.vault.store_id, created, floor)
            .and_then(|()| self.to.unlink(format::RESTORING))
            .and_then(|()| self.to.sync_dir(""));
        done.map_err(not_restored("FORMAT"))?;
        let mut report = std::mem::take(&mut self.report);
        let losses = std::mem::take(&mut self.losses);
        report.files_restored = self.files.files_copied;
        report.bytes_restored += self.files.bytes_copied;
        report.damaged = losses.count;
        report.damage = losses.named(&self.vault, &self.manifest.name);
        Ok(report)
    }

    /// Puts the rows among the snapshots of the store, unless they are there.
    fn name_rows(&self) -> io::Result<()> {
        let mine = self.manifest.checkpoint;
        let there = snapshot::list(&*self.to, self.vault.store_id)?;
        if !self.leads_on || there.iter().any(|info| info.checkpoint == mine) {
            self.to.unlink(SNAPSHOT_TEMPORARY)?;
            return self.to.sync_dir(snapshot::DIR);
        }
        let names = self.to.read_dir(snapshot::DIR)?;
        let name = snapshot::free_name(&names, self.manifest.created);
        self.to.rename(SNAPSHOT_TEMPORARY, &snapshot::path(&name))?;
        self.to.sync_dir(snapshot::DIR)
    }

    fn finding(&mut self, what: String) {
        self.report.findings.push(what);
    }
}

/// How far the log of the store in a directory goes, if that opens. Nothing is changed.
fn lsn_of(to: &Arc<dyn Disk>, env: &Env) -> Option<u64> {
    let shadow = ShadowDisk::over(to.clone());
    let opened = recovery::open(shadow, LocalConfig::default(), env.clone()).ok()?;
    Some(opened.local.durable_lsn())
}

/// Refuses a directory that is not of this store, or has gone another way since the backup.
fn must_fit(to: &dyn Disk, was: Option<&Format>, manifest: &Manifest) -> Result<(), BackupError> {
    let refuse = |why: &str| {
        Err(BackupError::Refused(format!(
            "{why} Nothing was changed: restore into an empty directory (JAY_DATA_DIR)."
        )))
    };
    if was.is_some_and(|was| was.store_id != manifest.store_id) {
        return refuse("The directory holds another store than the one that was backed up.");
    }
    if was.is_none()
        && let Some(name) = format::foreign_file(to)?
    {
        return refuse(&format!(
            "The directory has files that are not Jay's ({name})."
        ));
    }
    let epochs: BTreeMap<u32, u64> = manifest
        .packs
        .iter()
        .map(|pack| (pack.number, pack.epoch))
        .collect();
    let numbers = match packs::Packs::numbers(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        numbers => numbers.map_err(not_done("log/ could not be read"))?,
    };
    for number in numbers {
        let block = first_block(to, number).map_err(not_done("log/ could not be read"))?;
        match (PackHeader::decode_any(&block), epochs.get(&number)) {
            (HeaderBlock::Valid(header), _) if header.store_id != manifest.store_id => {
                return refuse(
                    "The directory has the log of another store than the one that was backed up.",
                );
            }
            (HeaderBlock::Valid(header), Some(&epoch)) if header.epoch != epoch => {
                return refuse(
                    "The store in the directory has gone another way than the one that was backed up: it was \
                     restored to an earlier state before.",
                );
            }
            (HeaderBlock::Spare | HeaderBlock::Bad, Some(_)) => {
                return refuse(&format!(
                    "The file {} is damaged, and the backup has a good one: move it out of the directory and \
                     restore again.",
                    packs::path(number)
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn first_block(disk: &dyn Disk, number: u32) -> io::Result<Vec<u8>> {
    let file = disk.open(&packs::path(number))?;
    let mut block = vec![0; PAGE_BYTES as usize];
    if file.len()? >= PAGE_BYTES {
        file.read_at(&mut block, 0)?;
    }
    Ok(block)
}

/// Marks the directory as unfinished, before anything else, and makes its directories.
fn prepare(to: &dyn Disk) -> io::Result<()> {
    match to.create(format::RESTORING) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => to.sync_dir("")?,
    }
    let directories = format::DIRECTORIES.iter();
    directories
        .into_iter()
        .try_for_each(|dir| to.create_dir(dir))?;
    to.sync_dir("")
}

fn put_extra(to: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    match to.open(name) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let temporary = format!("{name}.new");
    remove_if_there(to, &temporary)?;
    let file = to.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    to.rename(&temporary, name)?;
    to.sync_dir("")
}

fn refused_rows(name: &str, why: &str) -> BackupError {
    BackupError::Refused(format!(
        "The rows of the backup {name} are damaged ({why}): restore another one by --backup."
    ))
}

fn not_restored(what: &str) -> impl FnOnce(io::Error) -> BackupError + use<> {
    not_done(&format!("the directory could not be written ({what})"))
}

//! Makes a backup, in steps: the rows as they are now, then what of log and files they need and the directory does
//! not have yet, then the manifest.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    BackupError, BackupOptions, BackupReport, Progress, StepSize,
    losses::{Losses, Lost},
    manifest::{EXTRA_BYTES_MAX, Extra, Manifest, PackCopy, Tally},
    not_done,
    prune::Pruning,
    transfer::{FileTransfer, PackTransfer},
    vault::{
        PACK_TEMPORARY, PACKS, PackBodies, SNAPSHOT_TEMPORARY, SNAPSHOTS, SnapshotRows, Vault,
        pack_path, remove_if_there, snapshot_path,
    },
};
use crate::{
    blob::copy::{CopyError, is_damage},
    disk::{Disk, DiskFile},
    env::Env,
    error::{Error, ErrorKind, Result},
    maintenance::snapshot::{self, SnapshotInfo, Taking},
    meta::{
        MetaReader,
        key::{BlobId, Key},
        local::{
            CollectionHold, Local,
            log::{HeaderBlock, PAGE_BYTES, PackHeader},
        },
        record::{Location, Record},
    },
    planted::{self, Bug},
    types::{Timestamp, UploadId},
};

/// Bytes of a file of the log that are read together in search of its end.
const END_BYTES: u64 = 1 << 20;

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// The index has to be brought up to the log before there can be more: apply, and come again.
    Waiting,
    /// There is more to do.
    More,
    /// The backup is there, to stay.
    Done(Box<BackupReport>),
}

/// A backup that is being made. While it lives the collector waits.
pub struct Backup {
    local: Arc<Local>,
    env: Env,
    vault: Vault,
    options: BackupOptions,
    size: StepSize,
    progress: Progress,
    state: State,
    /// From the moment on that it has taken its look at the rows.
    name: Option<String>,
    /// Dropped last: what the rows name stays where it is.
    _hold: CollectionHold,
}

enum State {
    Over,
    /// For this lsn to be in the index.
    Waiting(u64),
    Rows(Box<Taking>),
    Counting(Box<Counting>),
    Planning(Box<Planning>),
    Packs(Box<PackRun>),
    Bodies(Box<Bodies>),
    Pruning(Box<Pruning>, Box<BackupReport>),
}

/// What goes on from state to state.
struct Draft {
    name: String,
    created: Timestamp,
    info: SnapshotInfo,
    snapshot_bytes: u64,
    tally: Tally,
    losses: Losses,
}

struct Counting {
    draft: Draft,
    rows: SnapshotRows,
    packs: BTreeSet<u32>,
}

struct Planning {
    draft: Draft,
    left: VecDeque<u32>,
    plans: VecDeque<PackCopy>,
    /// Files of the log that cannot be had, and why: the bodies in them are lost.
    bad: BTreeMap<u32, String>,
}

struct PackRun {
    draft: Draft,
    plans: VecDeque<PackCopy>,
    bad: BTreeMap<u32, String>,
    now: Option<(PackCopy, PackTransfer, Source)>,
    /// What is there already, and the sums that earlier manifests know.
    there: BTreeMap<(u32, u64), Vec<u64>>,
    known: BTreeMap<(u32, u64, u64), u32>,
    done: Vec<PackCopy>,
    /// Those that are new here, and how many of them were copied now.
    unchecked: BTreeSet<u32>,
    copied: u64,
    bytes_copied: u64,
    /// The last backup has damaged bodies: they may lie in what is there already.
    is_suspect: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// It is copied.
    Store,
    /// It is there, but its sum is not known.
    Vault,
}

struct Bodies {
    draft: Draft,
    rows: SnapshotRows,
    queue: VecDeque<(Key, Record)>,
    files: FileTransfer,
    packs: Vec<PackCopy>,
    pack_bodies: PackBodies,
    /// Files of the log whose bodies are checked.
    unchecked: BTreeSet<u32>,
    packs_copied: u64,
    pack_bytes_copied: u64,
    bad: BTreeMap<u32, String>,
    condemned: Condemned,
    copying: Option<BlobId>,
}

/// What is in quarantine, so that nobody is surprised when its body is missing.
#[derive(Default)]
struct Condemned {
    files: BTreeSet<BlobId>,
    parts: BTreeSet<UploadId>,
    objects: u64,
}

impl Backup {
    /// Begins a backup in a directory that is empty or has backups of this store.
    pub fn begin(
        local: &Arc<Local>,
        env: &Env,
        to: Arc<dyn Disk>,
        options: BackupOptions,
    ) -> Result<Self, BackupError> {
        let vault = Vault::open_or_make(to, local.store_id(), env)?;
        // In this order: what the collector has removed by now is known to the log.
        let hold = local.hold_collection();
        let wanted = local.durable_lsn();
        Ok(Self {
            local: local.clone(),
            env: env.clone(),
            vault,
            options,
            size: StepSize::default(),
            progress: Progress::new("rows"),
            state: State::Waiting(wanted),
            name: None,
            _hold: hold,
        })
    }

    /// Takes so much in a step.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn taking(mut self, items: usize) -> Self {
        self.size.items = items;
        self
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Its name, from the moment on that it has taken its look at the rows.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Does a bounded piece. After an error the backup is given up; what was copied is there for the next one.
    pub fn step(&mut self) -> Result<Step, BackupError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => {
                return Err(BackupError::Refused("The backup is over.".into()));
            }
            State::Waiting(wanted) => {
                let applied = self.local.applied();
                let is_early = planted::is(Bug::BackupBeforeApply) && applied.lsn > 0;
                if applied.lsn < wanted && !is_early {
                    self.state = State::Waiting(wanted);
                    return Ok(Step::Waiting);
                }
                self.state = State::Rows(Box::new(self.look()?));
            }
            State::Rows(taking) => self.save_rows(taking)?,
            State::Counting(counting) => self.count(counting)?,
            State::Planning(planning) => self.plan(planning)?,
            State::Packs(run) => self.copy_packs(run)?,
            State::Bodies(bodies) => {
                if let Some(done) = self.copy_bodies(bodies)? {
                    return Ok(done);
                }
            }
            State::Pruning(mut pruning, mut report) => match pruning.step(&self.vault)? {
                false => self.state = State::Pruning(pruning, report),
                true => {
                    report.removed = pruning.into_removed();
                    return Ok(Step::Done(report));
                }
            },
        }
        Ok(Step::More)
    }

    fn look(&mut self) -> Result<Taking, BackupError> {
        let disk = &*self.vault.disk;
        let name = self.vault.new_name(&self.env);
        let name = name.map_err(not_done("the backups could not be listed"))?;
        remove_if_there(disk, SNAPSHOT_TEMPORARY).map_err(not_written(SNAPSHOTS))?;
        let file = disk.create(SNAPSHOT_TEMPORARY);
        let file = file.map_err(not_written(SNAPSHOTS))?;
        let taking = Taking::begin(&self.local, &self.env, file, name.clone())?;
        self.name = Some(name);
        Ok(taking)
    }

    fn save_rows(&mut self, mut taking: Box<Taking>) -> Result<(), BackupError> {
        let info = match taking.step()? {
            snapshot::Step::More => {
                self.state = State::Rows(taking);
                return Ok(());
            }
            snapshot::Step::Done(info) => info,
            snapshot::Step::Damaged(why) => {
                self.local.index_is_damaged(&why);
                return Err(BackupError::Refused(format!(
                    "The index is damaged ({why}), so no backup was made of it: restart the server, which makes \
                     the index anew."
                )));
            }
        };
        let named = || -> io::Result<u64> {
            let path = snapshot_path(&info.name);
            self.vault.disk.rename(SNAPSHOT_TEMPORARY, &path)?;
            self.vault.disk.sync_dir(SNAPSHOTS)?;
            self.vault.disk.open(&path)?.len()
        };
        let snapshot_bytes = named().map_err(not_written(SNAPSHOTS))?;
        let rows = self.vault.rows(&info.name)?;
        let draft = Draft {
            name: info.name.clone(),
            created: info.created,
            snapshot_bytes,
            info,
            tally: Tally::default(),
            losses: Losses::default(),
        };
        self.state = State::Counting(Box::new(Counting {
            packs: [draft.info.checkpoint.pack].into(),
            draft,
            rows,
        }));
        Ok(())
    }

    fn count(&mut self, mut counting: Box<Counting>) -> Result<(), BackupError> {
        if let Some(rows) = counting.rows.next()? {
            for (key, record) in &rows {
                counting.row(key, record);
            }
            self.state = State::Counting(counting);
            return Ok(());
        }
        let Counting { draft, packs, .. } = *counting;
        self.progress = Progress {
            phase: "log",
            items_total: draft.tally.files + packs.len() as u64,
            bytes_total: draft.tally.file_bytes,
            ..Progress::default()
        };
        self.state = State::Planning(Box::new(Planning {
            draft,
            left: packs.into_iter().filter(|&number| number > 0).collect(),
            plans: VecDeque::new(),
            bad: BTreeMap::new(),
        }));
        Ok(())
    }

    /// Looks how much of a file of the log has to be there.
    fn plan(&mut self, mut planning: Box<Planning>) -> Result<(), BackupError> {
        let Some(number) = planning.left.pop_front() else {
            return self.begin_packs(*planning);
        };
        let checkpoint = planning.draft.info.checkpoint;
        let is_last = number == checkpoint.pack;
        match self.measure(number, is_last.then_some(checkpoint.offset)) {
            Ok(plan) if number <= checkpoint.pack => {
                self.progress.bytes_total += plan.bytes;
                planning.plans.push_back(plan);
            }
            // Without it a restored store would not know where its log goes on.
            Err(error) if is_last => {
                return Err(not_done("the newest file of the log cannot be copied")(
                    error,
                ));
            }
            Ok(_) => {
                let why = "The index names a file of the log behind its checkpoint.";
                self.local.index_is_damaged(why);
                return Err(Error::new(ErrorKind::InternalError, why).into());
            }
            Err(error) => drop(planning.bad.insert(number, error.to_string())),
        }
        self.state = State::Planning(planning);
        Ok(())
    }

    /// The part of a file of the log that is in use; of the last one that is known by the checkpoint.
    fn measure(&self, number: u32, end: Option<u64>) -> io::Result<PackCopy> {
        let file = self.local.packs().file(number)?;
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut block = vec![0; PAGE_BYTES as usize];
        if file.len()? >= PAGE_BYTES {
            file.read_at(&mut block, 0)?;
        }
        let header = PackHeader::decode(&block, number, self.local.store_id());
        let (epoch, bytes) = match (header, end) {
            (HeaderBlock::Valid(header), Some(end)) if file.len()? >= end => (header.epoch, end),
            (HeaderBlock::Valid(_), Some(_)) => return Err(damaged("it is too short")),
            (HeaderBlock::Valid(header), None) => (header.epoch, used_bytes(&*file)?),
            (_, Some(_)) => return Err(damaged("its header is damaged")),
            // The bodies in it may be whole.
            (_, None) => (0, used_bytes(&*file)?),
        };
        Ok(PackCopy {
            number,
            epoch,
            bytes,
            crc32c: 0,
        })
    }

    fn begin_packs(&mut self, planning: Planning) -> Result<(), BackupError> {
        let Planning {
            draft, plans, bad, ..
        } = planning;
        let there = self.vault.packs().map_err(not_written(PACKS))?;
        let (manifests, _) = self.vault.list()?;
        let last = manifests.first();
        let is_suspect = last.is_some_and(|last| last.tally.left_out > 0);
        let mut known = BTreeMap::new();
        for manifest in manifests {
            let sums = manifest.packs.iter();
            known.extend(sums.map(|p| ((p.number, p.epoch, p.bytes), p.crc32c)));
        }
        self.state = State::Packs(Box::new(PackRun {
            draft,
            plans,
            bad,
            now: None,
            there,
            known,
            done: Vec::new(),
            unchecked: BTreeSet::new(),
            copied: 0,
            bytes_copied: 0,
            is_suspect,
        }));
        Ok(())
    }

    fn copy_packs(&mut self, mut run: Box<PackRun>) -> Result<(), BackupError> {
        if let Some((plan, mut transfer, source)) = run.now.take() {
            match transfer.step() {
                Ok(0) => self.finish_pack(&mut run, plan, transfer, source)?,
                Ok(bytes) => {
                    self.progress.bytes += bytes;
                    run.now = Some((plan, transfer, source));
                }
                Err(CopyError::Source(error)) if source == Source::Store => {
                    if plan.number == run.draft.info.checkpoint.pack {
                        return Err(not_done("the newest file of the log cannot be copied")(
                            error,
                        ));
                    }
                    run.bad.insert(plan.number, error.to_string());
                }
                Err(CopyError::Source(error) | CopyError::Target(error)) => {
                    return Err(not_written(PACKS)(error));
                }
            }
        } else if let Some(plan) = run.plans.pop_front() {
            self.begin_pack(&mut run, plan)?;
        } else {
            return self.begin_bodies(*run);
        }
        self.state = State::Packs(run);
        Ok(())
    }

    fn begin_pack(&mut self, run: &mut PackRun, mut plan: PackCopy) -> Result<(), BackupError> {
        let disk = &*self.vault.disk;
        let mut found = plan.found_in(&run.there);
        if planted::is(Bug::BackupKeepsShortPack)
            && let Some(&short) = run
                .there
                .get(&(plan.number, plan.epoch))
                .and_then(|l| l.last())
        {
            plan.bytes = plan.bytes.min(short);
            found = Some(short);
        }
        if let Some(bytes) = found {
            let path = pack_path(&plan, bytes);
            let file = disk.open(&path).map_err(not_written(PACKS))?;
            if file.len().map_err(not_written(PACKS))? >= bytes {
                if let Some(&sum) = run.known.get(&(plan.number, plan.epoch, plan.bytes)) {
                    plan.crc32c = sum;
                    if run.is_suspect {
                        run.unchecked.insert(plan.number);
                    }
                    self.progress.bytes += plan.bytes;
                    self.progress.items += 1;
                    run.done.push(plan);
                    return Ok(());
                }
                let transfer = PackTransfer::new(file, None, plan.bytes);
                run.now = Some((plan, transfer, Source::Vault));
                return Ok(());
            }
            // Somebody cut it: another one takes its place.
            disk.unlink(&path).map_err(not_written(PACKS))?;
        }
        let file = match self.local.packs().file(plan.number) {
            Ok(Some(file)) => file,
            Ok(None) => {
                run.bad.insert(plan.number, "it is missing".into());
                return Ok(());
            }
            Err(error) => {
                run.bad.insert(plan.number, error.to_string());
                return Ok(());
            }
        };
        remove_if_there(disk, PACK_TEMPORARY).map_err(not_written(PACKS))?;
        let to = disk.create(PACK_TEMPORARY).map_err(not_written(PACKS))?;
        let transfer = PackTransfer::new(file, Some(to), plan.bytes);
        run.now = Some((plan, transfer, Source::Store));
        Ok(())
    }

    fn finish_pack(
        &mut self,
        run: &mut PackRun,
        mut plan: PackCopy,
        transfer: PackTransfer,
        source: Source,
    ) -> Result<(), BackupError> {
        plan.crc32c = transfer.finish().map_err(not_written(PACKS))?;
        run.unchecked.insert(plan.number);
        if source == Source::Store {
            let path = pack_path(&plan, plan.bytes);
            let named = self.vault.disk.rename(PACK_TEMPORARY, &path);
            named.map_err(not_written(PACKS))?;
            run.copied += 1;
            run.bytes_copied += plan.bytes;
        }
        self.progress.items += 1;
        run.done.push(plan);
        Ok(())
    }

    fn begin_bodies(&mut self, run: PackRun) -> Result<(), BackupError> {
        // Also those that were there: who put them may not have come so far.
        let synced = self.vault.disk.sync_dir(PACKS);
        synced.map_err(not_written(PACKS))?;
        let bodies = PackBodies::new(&self.vault, &run.done);
        let bodies = Bodies {
            rows: self.vault.rows(&run.draft.name)?,
            draft: run.draft,
            queue: VecDeque::new(),
            files: FileTransfer::new(self.local.disk_handle(), self.vault.disk.clone(), None),
            packs: run.done,
            pack_bodies: bodies.map_err(not_written(PACKS))?,
            unchecked: run.unchecked,
            packs_copied: run.copied,
            pack_bytes_copied: run.bytes_copied,
            bad: run.bad,
            condemned: Condemned::default(),
            copying: None,
        };
        if planted::is(Bug::ManifestFirst) {
            self.put_manifest(&bodies.draft, &bodies.packs)?;
        }
        self.progress.phase = "bodies";
        self.state = State::Bodies(Box::new(bodies));
        Ok(())
    }

    fn copy_bodies(&mut self, mut bodies: Box<Bodies>) -> Result<Option<Step>, BackupError> {
        let (mut items, mut bytes) = (0, 0);
        while items < self.size.items && bytes < self.size.bytes {
            items += 1;
            if let Some(id) = bodies.copying {
                let copied = bodies.copy_on(id)?;
                bytes += copied;
                self.progress.bytes += copied;
                self.progress.items += u64::from(bodies.copying.is_none());
                continue;
            }
            match bodies.queue.pop_front() {
                Some((key, record)) => {
                    let is_file = matches!(key, Key::Blob(_));
                    bytes += bodies.row(&self.local, key, &record)?;
                    if let (true, None, Record::Blob(blob)) = (is_file, bodies.copying, &record) {
                        self.progress.bytes += blob.bytes;
                        self.progress.items += 1;
                    }
                }
                None => match bodies.rows.next()? {
                    Some(rows) => bodies.queue.extend(rows),
                    None => return self.finish(*bodies).map(Some),
                },
            }
        }
        self.state = State::Bodies(bodies);
        Ok(None)
    }

    fn finish(&mut self, mut bodies: Bodies) -> Result<Step, BackupError> {
        bodies.files.leave().map_err(not_written("objects"))?;
        bodies.draft.tally.left_out = bodies.draft.losses.count;
        let manifest = match planted::is(Bug::ManifestFirst) {
            true => self.vault.find(Some(&bodies.draft.name))?,
            false => self.put_manifest(&bodies.draft, &bodies.packs)?,
        };
        let report = Box::new(BackupReport {
            info: manifest.info(),
            files_copied: bodies.files.files_copied,
            packs_copied: bodies.packs_copied,
            bytes_copied: bodies.files.bytes_copied + bodies.pack_bytes_copied,
            damage: bodies.draft.losses.named(&self.vault, &manifest.name),
            quarantined: bodies.condemned.objects,
            removed: Vec::new(),
        });
        let Some(keep) = self.options.keep else {
            return Ok(Step::Done(report));
        };
        self.progress = Progress::new("removal of old backups");
        let pruning = Pruning::begin(&self.vault, keep, &self.env)?;
        self.state = State::Pruning(Box::new(pruning), report);
        Ok(Step::More)
    }

    fn put_manifest(&self, draft: &Draft, packs: &[PackCopy]) -> Result<Manifest, BackupError> {
        let manifest = Manifest {
            name: draft.name.clone(),
            store_id: self.vault.store_id,
            created: draft.created,
            checkpoint: draft.info.checkpoint,
            snapshot_bytes: draft.snapshot_bytes,
            tally: draft.tally,
            packs: packs.to_vec(),
            extras: self.extras()?,
        };
        let put = self.vault.put_manifest(&manifest);
        put.map_err(not_written("manifests"))?;
        Ok(manifest)
    }

    fn extras(&self) -> Result<Vec<Extra>, BackupError> {
        let mut extras = Vec::new();
        for name in &self.options.extras {
            let read = || -> io::Result<Option<Extra>> {
                let file = match self.local.disk().open(name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    file => file?,
                };
                let len = file.len()? as usize;
                if len > EXTRA_BYTES_MAX {
                    return Err(io::Error::other("it is too long"));
                }
                let mut bytes = Zeroizing::new(vec![0; len]);
                file.read_at(&mut bytes, 0)?;
                let name = name.clone();
                Ok(Some(Extra { name, bytes }))
            };
            let what = format!("the file {name} could not be read");
            extras.extend(read().map_err(not_done(&what))?);
        }
        Ok(extras)
    }
}

impl Counting {
    fn row(&mut self, key: &Key, record: &Record) {
        let tally = &mut self.draft.tally;
        match (key, record) {
            (Key::Object(..), Record::Object(object)) => {
                tally.objects += 1;
                tally.object_bytes += object.size;
            }
            (Key::Blob(_), Record::Blob(blob)) => {
                tally.files += 1;
                tally.file_bytes += blob.bytes;
            }
            (Key::Pack(number), Record::Pack(pack)) if pack.live_bytes > 0 => {
                self.packs.insert(*number);
            }
            _ => {}
        }
    }
}

impl Bodies {
    /// Checks the body of a row if it was copied now, or begins with its file. How many bytes were read.
    fn row(&mut self, local: &Arc<Local>, key: Key, record: &Record) -> Result<u64, BackupError> {
        match (&key, record) {
            (Key::Object(..), Record::Object(object)) if object.quarantined.is_some() => {
                self.condemned.add(&object.location);
                return Ok(0);
            }
            (Key::Part(id, _), Record::Part(part)) if self.condemned.parts.contains(id) => {
                if let Location::File(id) = part.location {
                    self.condemned.files.insert(id);
                }
                return Ok(0);
            }
            (Key::Blob(id), Record::Blob(blob)) => {
                match self.files.begin(*id, blob.bytes) {
                    Ok(is_begun) => self.copying = is_begun.then_some(*id),
                    Err(error) => self.not_copied(*id, error)?,
                }
                return Ok(0);
            }
            _ => {}
        }
        match record.body() {
            Some((location @ Location::Pack { pack, .. }, size)) => {
                self.inline_body(local, &key, location, *pack, size)
            }
            _ => Ok(0),
        }
    }

    fn copy_on(&mut self, id: BlobId) -> Result<u64, BackupError> {
        match self.files.step() {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => {}
            Err(error) => self.not_copied(id, error)?,
        }
        self.copying = None;
        Ok(0)
    }

    /// A body that cannot be had is left out and told; a directory that cannot be written ends the backup.
    fn not_copied(&mut self, id: BlobId, error: CopyError) -> Result<(), BackupError> {
        match error {
            CopyError::Target(error) => Err(not_written("objects")(error)),
            CopyError::Source(_) if self.condemned.files.contains(&id) => Ok(()),
            CopyError::Source(error) => {
                self.draft.losses.add(Lost::File(id), error);
                Ok(())
            }
        }
    }

    /// Looks whether a body is whole where it was copied to.
    fn inline_body(
        &mut self,
        local: &Arc<Local>,
        key: &Key,
        location: &Location,
        pack: u32,
        size: u64,
    ) -> Result<u64, BackupError> {
        if let Some(why) = self.bad.get(&pack) {
            let why = format!("the file {pack} of the log cannot be copied: {why}");
            self.draft.losses.add(Lost::Row(key.clone()), why);
            return Ok(0);
        }
        if !self.unchecked.contains(&pack) {
            return Ok(0);
        }
        let read = |bodies: &dyn MetaReader| -> Result<io::Result<()>> {
            let body = bodies.open_inline(location)?;
            let missing = || io::Error::from(io::ErrorKind::NotFound);
            Ok(body
                .ok_or_else(missing)
                .and_then(|body| body.read(size, 0..size).map(drop)))
        };
        match read(&self.pack_bodies)? {
            Ok(()) => return Ok(size),
            Err(error) if is_damage(&error) => {}
            Err(error) => return Err(not_done("what was copied could not be read back")(error)),
        }
        match read(local)? {
            Ok(()) => Err(BackupError::Refused(format!(
                "The copy of the file {pack} of the log is damaged, and the store has it whole: remove \
                 log/{pack:08}-* from the directory of the backups and make another backup."
            ))),
            Err(error) => {
                self.draft.losses.add(Lost::Row(key.clone()), error);
                Ok(size)
            }
        }
    }
}

impl Condemned {
    fn add(&mut self, location: &Location) {
        self.objects += 1;
        match location {
            Location::File(id) => drop(self.files.insert(*id)),
            Location::Parts(set) => drop(self.parts.insert(set.id)),
            _ => {}
        }
    }
}

/// How much of a file of the log is in use: up to its last batch.
fn used_bytes(file: &dyn DiskFile) -> io::Result<u64> {
    let mut end = file.len()? / PAGE_BYTES * PAGE_BYTES;
    let mut bytes = vec![0; END_BYTES.min(end) as usize];
    while end > 0 {
        let n = END_BYTES.min(end);
        let piece = &mut bytes[..n as usize];
        file.read_at(piece, end - n)?;
        if let Some(last) = piece.iter().rposition(|&byte| byte != 0) {
            return Ok((end - n + last as u64 + 1).next_multiple_of(PAGE_BYTES));
        }
        end -= n;
    }
    Ok(0)
}

fn not_written(what: &str) -> impl FnOnce(io::Error) -> BackupError {
    not_done(&format!("the backup could not be written ({what})"))
}

//! The metadata of one machine: a group-committed log acknowledges, a redb index follows behind.
//!
//! [`Local`] is what the steps share; [`recovery::open`] makes it together with the [`committer`] and the
//! [`applier`]. [`runtime`] runs the steps on threads; the crash simulator runs them by hand.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    OpenError,
    blob::files::Files,
    counters::{Counters, Gauges},
    disk::{Disk, is_full},
    env::Env,
    error::{DISK_FULL, Error, ErrorKind, Result},
    maintenance::snapshot,
    meta::{
        Hold, InlineBody, MetaReader, Rows, SCAN_BYTES, above,
        key::Key,
        record::{Checkpoint, Location, Record},
    },
    planted::{self, Bug},
    sync::{self, Condvar, Mutex, MutexGuard, Race},
    types::UploadId,
};

pub mod applier;
pub mod committer;
pub mod effects;
pub mod format;
pub mod holds;
pub mod holes;
pub mod index;
pub mod log;
pub mod overlay;
pub mod packs;
pub mod rebuild;
pub mod recovery;
pub mod runtime;
pub mod space;

use holds::Holds;
use index::{Index, IndexRead};
use log::Position;
use overlay::{Lookup, Overlay};
use packs::Packs;
use space::Space;

/// How far the overlay may grow, as a multiple of its limit, while the index has no room.
const FULL_OVERLAYS: usize = 2;

/// Longest wait for the applier by who would like the index to be up to date.
const APPLY_PATIENCE: Duration = Duration::from_secs(5);

/// Sizes and limits; every one in its unit with its default.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Length of a log file in bytes (64 MiB; an [`crate::Engine`] takes at most a 16th of the file system).
    pub pack_bytes: u64,
    /// Whether log files are written with zeros ahead of need, which makes each sync cheaper (true).
    pub zero_ahead: bool,
    /// Memory of the rows that wait for the index, in bytes (32 MiB). At half of it they are applied, at all
    /// of it writers wait.
    pub overlay_bytes_max: usize,
    /// Rows after which they are applied (16,000).
    pub apply_rows: usize,
    /// Cache of the index in bytes (32 MiB).
    pub index_cache_bytes: usize,
    /// Transactions of one batch (1,024).
    pub batch_count_max: usize,
    /// Bytes of bodies and changes after which a batch is closed (4 MiB).
    pub batch_bytes_max: usize,
    /// Bytes of bodies and changes that wait for the committer (32 MiB); more writers wait outside.
    pub queue_bytes_max: usize,
    /// Idle time after which the log is sealed (5 ms).
    pub seal_after: Duration,
    /// Longest time that rows wait for the index (1 s).
    pub apply_after: Duration,
    /// Length of the file that keeps room for deletes on a full disk, in bytes (32 MiB; an
    /// [`crate::Engine`] takes at most a 32nd of the file system); 0: none.
    pub ballast_bytes: u64,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            pack_bytes: 64 << 20,
            zero_ahead: true,
            overlay_bytes_max: 32 << 20,
            apply_rows: 16_000,
            index_cache_bytes: 32 << 20,
            batch_count_max: 1024,
            batch_bytes_max: 4 << 20,
            queue_bytes_max: 32 << 20,
            seal_after: Duration::from_millis(5),
            apply_after: Duration::from_secs(1),
            ballast_bytes: 32 << 20,
        }
    }
}

impl LocalConfig {
    /// For tests: log files and caches that are soon full.
    #[cfg(test)]
    pub(crate) fn small() -> Self {
        Self {
            pack_bytes: 64 << 10,
            zero_ahead: false,
            index_cache_bytes: 1 << 20,
            ..Self::default()
        }
    }

    /// The same for a file system of `total_bytes` (0: not known): of a small one, log files and ballast take a
    /// small part.
    pub fn fitting(mut self, total_bytes: u64) -> Self {
        if total_bytes == 0 {
            return self;
        }
        let part = |of: u64| (total_bytes / of).next_multiple_of(1 << 20);
        self.pack_bytes = self.pack_bytes.min(part(16));
        self.ballast_bytes = self.ballast_bytes.min(part(32));
        self
    }
}

/// What committer, applier, collector and readers share.
pub struct Local {
    disk: Arc<dyn Disk>,
    /// The limits.
    pub config: LocalConfig,
    store_id: [u8; 16],
    epoch: u64,
    incarnation: u32,
    /// The incarnation floor of FORMAT.
    lineage: u32,
    index: Index,
    overlay: Overlay,
    packs: Packs,
    /// The files of large bodies.
    pub files: Files,
    /// What the index was made from, as of the last step of the applier.
    applied: Mutex<Position>,
    stopped: Mutex<Option<String>>,
    /// What the store counts.
    pub counters: Arc<Counters>,
    /// Whether the disk has room.
    space: Arc<Space>,
    /// A log file was begun, so the next one should be made.
    pack_wanted: Signal,
    /// There is much to apply.
    apply_wanted: Signal,
    /// There is something for the collector.
    collect_wanted: Signal,
    /// The parts that readers are at.
    holds: Holds,
    /// The log file that the newest snapshot begins at: from there on all are kept. 0 when there is none.
    snapshot: Mutex<Option<Checkpoint>>,
    /// Why the index was made anew at this start, if it was.
    rebuilt: std::sync::OnceLock<String>,
    /// Rows may be missing before those that are applied: what follows from them is counted anew afterwards.
    is_recount_owed: AtomicBool,
    /// The index is marked as damaged.
    is_index_marked: AtomicBool,
    /// At the start the log went back to its beginning.
    has_whole_log: AtomicBool,
    /// A full disk had no room for a snapshot: log files go without one.
    is_snapshot_waived: AtomicBool,
    /// Held by a step of the collector; how many want everything to stay.
    collection: Mutex<usize>,
}

impl Local {
    #[allow(clippy::too_many_arguments)]
    fn new(
        disk: Arc<dyn Disk>,
        config: LocalConfig,
        env: Env,
        store_id: [u8; 16],
        (incarnation, lineage): (u32, u32),
        index: Index,
        checkpoint: Option<Checkpoint>,
        next_pack: u32,
    ) -> Self {
        let start = checkpoint.map_or(Position::default(), |c| c.position());
        let floor = checkpoint.map(|c| c.lowest_uncommitted).unwrap_or_default();
        let space = Arc::new(Space::new(disk.clone(), config.ballast_bytes));
        Self {
            epoch: env.random_u64(),
            packs: Packs::new(
                disk.clone(),
                config.pack_bytes,
                config.zero_ahead,
                next_pack,
            ),
            files: Files::new(disk.clone(), env, incarnation, floor, space.clone()),
            overlay: Overlay::new(start),
            applied: Mutex::new(start),
            counters: Arc::new(Counters::new(disk.syncs())),
            disk,
            config,
            store_id,
            incarnation,
            lineage,
            index,
            stopped: Mutex::default(),
            space,
            pack_wanted: Signal::default(),
            apply_wanted: Signal::default(),
            collect_wanted: Signal::default(),
            holds: Holds::default(),
            snapshot: Mutex::default(),
            rebuilt: std::sync::OnceLock::new(),
            is_recount_owed: false.into(),
            is_index_marked: false.into(),
            has_whole_log: false.into(),
            is_snapshot_waived: false.into(),
            collection: Mutex::default(),
        }
    }

    /// The log has holes: what follows from rows cannot be trusted until it is counted anew, and no file is deleted
    /// because no row names it.
    fn distrust_rows(&self) {
        self.is_recount_owed.store(true, Ordering::Relaxed);
        self.files.distrust_rows();
    }

    /// What follows from rows is right again.
    fn is_recounted(&self) {
        self.is_recount_owed.store(false, Ordering::Relaxed);
    }

    fn owes_recount(&self) -> bool {
        self.is_recount_owed.load(Ordering::Relaxed)
    }

    /// Takes over what the start has found besides rows: the newest snapshot, and whether the index is new.
    fn note_start(&self, rebuilt: Option<String>, has_whole_log: bool) -> Result<(), OpenError> {
        self.has_whole_log.store(has_whole_log, Ordering::Relaxed);
        let snapshots = snapshot::list(&*self.disk, self.store_id)
            .map_err(|e| OpenError::io("the snapshots could not be listed", e))?;
        if let Some(newest) = snapshots.first() {
            self.set_snapshot(&newest.checkpoint);
        }
        if let Some(why) = rebuilt {
            let _ = self.rebuilt.set(why);
        }
        Ok(())
    }

    /// Whether the index could be made anew from the log alone, as far as the start has seen.
    pub(crate) fn has_whole_log(&self) -> bool {
        self.has_whole_log.load(Ordering::Relaxed)
    }

    /// Brings the index up to what is durable by now, if the applier can. Waits for it, but not for ever.
    pub(crate) fn apply_now(&self) {
        let (wanted, began) = (self.overlay.position().lsn, std::time::Instant::now());
        while self.applied().lsn < wanted && began.elapsed() < APPLY_PATIENCE {
            self.apply_wanted.notify();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How much waits for the index.
    pub fn gauges(&self) -> Gauges {
        let (rows, bytes) = self.overlay.load();
        let behind = self
            .overlay
            .position()
            .lsn
            .saturating_sub(self.applied().lsn);
        Gauges {
            overlay_rows: rows as u64,
            overlay_bytes: bytes as u64,
            unapplied_records: behind,
        }
    }

    /// Keeps the collector from removing any file while the guard lives.
    pub fn hold_collection(self: &Arc<Self>) -> CollectionHold {
        *self.collection.lock().expect("no holder panics") += 1;
        CollectionHold(self.clone())
    }

    /// A step of the collector; `None` while somebody wants everything to stay.
    pub(crate) fn collecting(&self) -> Option<MutexGuard<'_, usize>> {
        let holds = self.collection.lock().expect("no holder panics");
        (*holds == 0 || planted::is(Bug::IgnoreBackup)).then_some(holds)
    }

    /// A snapshot was taken at this checkpoint: the log before it is not needed any more to make the index anew.
    pub(crate) fn set_snapshot(&self, checkpoint: &Checkpoint) {
        *self.snapshot.lock().expect("no holder panics") = Some(*checkpoint);
        self.is_snapshot_waived.store(false, Ordering::Relaxed);
    }

    /// Lets log files go that only a snapshot would need: on a full disk there is no room for one, and nothing
    /// would ever become free again.
    pub(crate) fn waive_snapshot(&self) {
        if !self.is_snapshot_waived.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the disk has no room for a snapshot of the index: until the next one a lost index cannot be made anew"
            );
            self.collection_wanted();
        }
    }

    /// The checkpoint of the newest snapshot.
    pub fn snapshot(&self) -> Option<Checkpoint> {
        *self.snapshot.lock().expect("no holder panics")
    }

    /// The first log file that must be kept: what the index lacks, and what the newest snapshot lacks.
    pub(crate) fn first_needed_pack(&self) -> u32 {
        let applied = self.applied().pack;
        match self.snapshot() {
            _ if planted::is(Bug::ForgetSnapshot) => applied,
            _ if self.is_snapshot_waived.load(Ordering::Relaxed) => applied,
            Some(snapshot) => applied.min(snapshot.pack),
            None => 0,
        }
    }

    /// Why the index was made anew at this start, if it was.
    pub fn rebuilt(&self) -> Option<&str> {
        self.rebuilt.get().map(String::as_str)
    }

    /// The index is not what was put there: the next start makes it anew.
    pub fn index_is_damaged(&self, why: &str) {
        if self.is_index_marked.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            why,
            "the index is damaged: restart to make it anew from the last snapshot and the log"
        );
        let marked = self.disk.create(rebuild::MARK).map(drop);
        if let Err(error) = marked.and_then(|()| self.disk.sync_dir(""))
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            tracing::error!(%error, "the mark that the index is damaged could not be made");
        }
    }

    /// Passes an answer of the index on; when it is damage, the next start makes the index anew.
    fn watched<T>(&self, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer
            && index::is_damage(error)
        {
            self.index_is_damaged(&error.to_string());
        }
        answer
    }

    /// A stable look at the index.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// What a snapshot would say that takes the rows of the index for all rows: a deliberate bug.
    pub(crate) fn claimed_checkpoint(&self, checkpoint: Checkpoint) -> Checkpoint {
        let position = self.overlay.position();
        Checkpoint {
            applied_lsn: position.lsn,
            pack: position.pack,
            offset: position.offset,
            hash: position.hash,
            ..checkpoint
        }
    }

    /// The row under `key`: the overlay first, then the index.
    pub fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.get_encoded(&key.encode())
    }

    /// The row under an encoded key.
    pub(crate) fn get_encoded(&self, key: &[u8]) -> Result<Option<Record>> {
        let index = || self.index.read();
        let early = sync::has(Race::IndexFirst).then(index);
        match self.overlay.get(key) {
            Lookup::Put(row) => effects::decode(key, &row).map(Some),
            Lookup::Deleted => Ok(None),
            Lookup::Unknown => {
                let get = |index: &IndexRead| index.get(key);
                let row = match early {
                    Some(early) => early.and_then(|index| get(&index)),
                    None => self.index.look(get),
                };
                let row = self.watched(row)?;
                row.map(|row| effects::decode(key, &row)).transpose()
            }
        }
    }

    /// The first key of `from..to`, whether or not there is (still) a row that can be read.
    pub(crate) fn next_key(&self, from: &[u8], to: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let (newer, _) = self.overlay.range(from, to, 1);
        let newer = newer.into_iter().next().map(|(key, _)| key);
        let older = self.index.read().and_then(|index| index.next_key(from, to));
        let older = self.watched(older)?;
        Ok(match (newer, older) {
            (Some(newer), Some(older)) => Some(newer.min(older)),
            (newer, older) => newer.or(older),
        })
    }

    /// The point of the log that is durable and visible.
    pub(crate) fn position(&self) -> Position {
        self.overlay.position()
    }

    /// The first rows of `from..to`: at most `limit`, and fewer when they are long.
    pub fn scan(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let mut next = Some(from.to_vec());
        while let Some(from) = next.take() {
            let wanted = (limit - rows.len()).max(16);
            let index = || self.index.read();
            let early = sync::has(Race::IndexFirst).then(index);
            let (newer, newer_end) = self.overlay.range(&from, to, wanted);
            let range = |index: &IndexRead| index.range(&from, to, wanted);
            let older = match early {
                Some(early) => early.and_then(|index| range(&index)),
                None => self.index.look(range),
            };
            let (older, older_end) = self.watched(older)?;
            let end = [newer_end, older_end].into_iter().flatten().min();
            let mut merged: std::collections::BTreeMap<Vec<u8>, Option<Arc<[u8]>>> = older
                .into_iter()
                .map(|(key, row)| (key, Some(row.into())))
                .collect();
            merged.extend(newer);
            for (key, row) in merged {
                if end.as_ref().is_some_and(|end| key > *end) {
                    break;
                }
                let Some(row) = row else { continue };
                if rows.len() >= limit || bytes >= SCAN_BYTES {
                    let next = Some(key);
                    return Ok(Rows { rows, next });
                }
                bytes += row.len();
                let record = effects::decode(&key, &row)?;
                rows.push((key, record));
            }
            next = end.map(|end| above(&end));
            if rows.len() >= limit || bytes >= SCAN_BYTES {
                break;
            }
        }
        Ok(Rows { rows, next })
    }

    /// The file of an inline body; `None` when it has moved.
    pub fn open_inline(&self, location: &Location) -> Result<Option<InlineBody>> {
        let Location::Pack {
            pack, offset, sums, ..
        } = location
        else {
            return Ok(None);
        };
        let file = self.packs.file(*pack)?;
        Ok(file.map(|file| InlineBody::new(file, u64::from(*offset), sums.clone())))
    }

    /// Why the store writes no more, if so.
    pub fn stopped(&self) -> Option<String> {
        self.stopped.lock().expect("no holder panics").clone()
    }

    /// Makes the store refuse to write until it is restarted.
    pub fn stop(&self, why: &str) {
        let mut stopped = self.stopped.lock().expect("no holder panics");
        if stopped.is_none() {
            tracing::error!(
                reason = why,
                "the store has stopped writing until it is restarted"
            );
            *stopped = Some(why.to_owned());
        }
    }

    /// Why nothing can be added for now, if so: the disk is full.
    pub fn full(&self) -> Option<String> {
        self.space.short()
    }

    /// Makes what is missing of the reserve: the next log file, then the ballast. True when it made one. When
    /// both are there the store takes writes again, should it have run short of space.
    pub fn prepare_pack(&self) -> io::Result<bool> {
        // What waits for the index goes first: for that the ballast was given back.
        if self.space.index_waits() {
            return Ok(false);
        }
        let seen = self.space.misses();
        let spare = self.packs.prepare_spare();
        let made = spare.and_then(|made| Ok(self.space.make_ballast()? || made));
        match &made {
            Ok(_) => self.space.relax(seen),
            Err(error) if is_full(error) => self.note_full("the reserve", error),
            Err(_) => {}
        }
        made
    }

    /// The disk had no room for something: from here on only what makes room is taken.
    fn note_full(&self, what: &str, error: &io::Error) {
        if self.space.note_full(what, error) {
            self.collect_wanted.notify();
            self.pack_wanted.notify();
        }
    }

    /// The point of the log that the index reaches to.
    pub fn applied(&self) -> Position {
        *self.applied.lock().expect("no holder panics")
    }

    /// The last lsn that is durable, and so is what the collector has seen.
    pub(crate) fn durable_lsn(&self) -> u64 {
        self.overlay.position().lsn
    }

    /// How many rows the overlay still has to hand over, for tests and figures.
    pub fn waiting_rows(&self) -> usize {
        self.overlay.load().0
    }

    fn set_applied(&self, checkpoint: &Checkpoint) {
        *self.applied.lock().expect("no holder panics") = checkpoint.position();
    }

    /// Wakes the collector.
    pub(crate) fn collection_wanted(&self) {
        self.collect_wanted.notify();
    }

    /// Waits until there is something for the collector, `patience` at most.
    pub(crate) fn wait_for_collection(&self, patience: Duration) {
        self.collect_wanted.wait(patience);
    }

    /// True when it is time to apply whatever the clock says: many rows, or half the memory they may take.
    fn is_apply_due(&self) -> bool {
        let (rows, bytes) = self.overlay.load();
        rows >= self.config.apply_rows || bytes >= self.config.overlay_bytes_max / 2
    }

    /// True when deletes are refused too: the index has had no room for a long time, and what waits for it
    /// takes memory.
    pub(crate) fn is_overlay_full(&self) -> bool {
        self.overlay.load().1 >= FULL_OVERLAYS * self.config.overlay_bytes_max
    }

    /// The log files, for the collector.
    pub(crate) fn packs(&self) -> &Packs {
        &self.packs
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The disk, for who keeps it.
    pub(crate) fn disk_handle(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    /// Puts rows into the index past the log, as damage would, for tests.
    #[cfg(test)]
    pub(crate) fn lose_rows(&self, rows: &overlay::Generation, checkpoint: &Checkpoint) {
        self.index
            .apply(rows, checkpoint)
            .expect("the index can be written");
    }

    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// Puts rows into the index before their batch is synced: a deliberate bug.
    fn apply_unsynced(&self, rows: &overlay::Generation, at: Position, count: u32) {
        let checkpoint = Checkpoint {
            applied_lsn: at.lsn + u64::from(count),
            pack: at.pack,
            offset: at.offset,
            hash: at.hash,
            incarnation: self.incarnation,
            lowest_uncommitted: self.files.lowest_uncommitted(),
        };
        let _ = self.index.apply(rows, &checkpoint);
    }
}

impl MetaReader for Arc<Local> {
    fn get(&self, key: &Key) -> Result<Option<Record>> {
        Local::get(self, key)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows> {
        Local::scan(self, from, to, limit)
    }

    fn open_inline(&self, location: &Location) -> Result<Option<InlineBody>> {
        Local::open_inline(self, location)
    }

    fn hold_parts(&self, id: UploadId) -> Result<Option<Box<dyn Hold>>> {
        Local::hold_parts(self, id)
    }
}

impl Checkpoint {
    /// The point of the log it stands for.
    pub fn position(&self) -> Position {
        Position {
            pack: self.pack,
            offset: self.offset,
            lsn: self.applied_lsn,
            hash: self.hash,
        }
    }
}

const NOT_COMMITTED: &str = "The change could not be committed.";

impl From<crate::meta::CommitError> for Error {
    fn from(error: crate::meta::CommitError) -> Self {
        use crate::meta::CommitError;
        let (kind, context) = match error {
            CommitError::Full(_) => (ErrorKind::InsufficientStorage, DISK_FULL),
            CommitError::Stopped(_) => (
                ErrorKind::ServiceUnavailable,
                "The store has stopped writing until it is restarted; its log says why.",
            ),
            CommitError::Refused(_) | CommitError::Failed(_) => {
                (ErrorKind::InternalError, NOT_COMMITTED)
            }
        };
        Error::new(kind, context).with_source(error)
    }
}

/// See [`Local::hold_collection`].
pub struct CollectionHold(Arc<Local>);

impl Drop for CollectionHold {
    fn drop(&mut self) {
        *self.0.collection.lock().expect("no holder panics") -= 1;
        self.0.collection_wanted();
    }
}

/// Wakes one waiting thread; a wake-up without a waiter is kept.
#[derive(Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Wakes the waiter.
    pub(crate) fn notify(&self) {
        *self.raised.lock().expect("no holder panics") = true;
        self.changed.notify_all();
    }

    /// Waits for a wake-up, `patience` at most. True when it was woken.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let raised = self.raised.lock().expect("no holder panics");
        let (mut raised, _) = self
            .changed
            .wait_timeout_while(raised, patience, |raised| !*raised)
            .expect("no holder panics");
        std::mem::take(&mut *raised)
    }
}

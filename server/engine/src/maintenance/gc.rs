//! The collector: removes uploads of buckets that are gone or that nobody completes, parts and files that the free
//! lists name, files that were never committed, and log files in which nothing lives; moves the last living records
//! out of log files that are mostly dead.
//!
//! A step function. It changes rows by the same transactions as everybody; a move is conditional on the
//! version it moves, so an overwrite in between wins.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    blob::BlobStore,
    disk::DiskFile,
    env::{Clock, Env},
    error::Result,
    maintenance::audit::AuditWalk,
    meta::{
        Body, Change, CommitError, Precondition, Transaction,
        key::{BlobId, Key, after_prefix, tag},
        local::{
            Local,
            log::{self, Batch, HeaderBlock, PAGE_BYTES, PackHeader, Position, Scanned},
            packs::Packs,
        },
        record::{Location, Record},
    },
    planted::{self, Bug},
    sync::{self, Race},
    types::{SESSION_LIFETIME, UploadId},
};

/// See [`Collector::free_per_step`].
const FREE_PER_STEP: usize = 256;
/// How long after its last request a session is kept: longer than it may be used, so that what is on its way finds it.
const SESSION_KEPT: Duration = SESSION_LIFETIME.saturating_mul(2);
/// Rows of log files that are looked at together.
const PACK_ROWS: usize = 1000;
/// Records that are moved together, and their bytes: one by one they would take a page each.
const MOVES: usize = 256;
const MOVE_BYTES: usize = 1 << 20;
/// Log files shorter than a quarter of the usual length that are let be before they are merged.
const SHORT_PACKS_MAX: usize = 8;

/// Room in the log that a move leaves for others on a full disk, in bytes.
const ROOM_LEFT: u64 = 256 << 10;

/// Commits transactions and waits for the answers.
pub type CommitAll<'a> = &'a mut dyn FnMut(Vec<Transaction>) -> Vec<Result<(), CommitError>>;

/// See the module.
pub struct Collector {
    local: Arc<Local>,
    phase: Phase,
    sweep: bool,
    /// Entries of a free list, and rows of what it names, that one step takes.
    free_per_step: usize,
    /// Log files that could not be read to their end; they are left alone until the next start.
    unreadable: BTreeSet<u32>,
    /// Log files without a row in which nothing lives: every record was looked at.
    dead: BTreeSet<u32>,
    /// The clock, and the age at which an open upload goes.
    upload_age_max: Option<(Arc<dyn Clock>, Duration)>,
    /// The clock, and how long after its last request a session goes.
    session_age_max: Option<(Arc<dyn Clock>, Duration)>,
}

/// Files that no row names, and whether they were never committed as far as that can be known.
type Suspects = BTreeMap<BlobId, bool>;

enum Phase {
    Idle,
    /// Sessions from this row on are looked at for their age.
    Sessions(Vec<u8>),
    /// Open uploads from this row on are looked at for their age.
    Expire(Vec<u8>),
    Uploads,
    /// Behind this one: those before it are gone, or held.
    Parts(Option<UploadId>),
    /// Entries of the free list of files from this row on.
    Free(Vec<u8>),
    Sweep(Vec<u16>, Suspects),
    /// Something is about to be destroyed because there is no row for it: first the index is held against itself.
    Audit(Box<AuditWalk>, AfterAudit),
    Cut,
    Packs(Vec<u32>),
    Move(Mover, Vec<u32>),
}

/// What waits for an audit.
enum AfterAudit {
    Suspects(Suspects),
    Packs(Vec<u32>),
}

struct Mover {
    header: PackHeader,
    at: Position,
}

impl Collector {
    /// The collector of a store; there is one.
    pub fn new(local: Arc<Local>) -> Self {
        Self {
            local,
            phase: Phase::Idle,
            sweep: false,
            free_per_step: FREE_PER_STEP,
            unreadable: BTreeSet::new(),
            dead: BTreeSet::new(),
            upload_age_max: None,
            session_age_max: None,
        }
    }

    /// Gives up multipart uploads of this age, and sessions that nobody uses any more.
    pub fn expiring(mut self, env: &Env, age_max: Option<Duration>) -> Self {
        self.upload_age_max = age_max.map(|age| (env.clock.clone(), age));
        self.forgetting(env, SESSION_KEPT)
    }

    /// Forgets sessions so long after their last request.
    pub(crate) fn forgetting(mut self, env: &Env, age: Duration) -> Self {
        self.session_age_max = Some((env.clock.clone(), age));
        self
    }

    /// Takes so many rows in a step.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn taking(mut self, rows: usize) -> Self {
        self.free_per_step = rows;
        self
    }

    /// Begins a pass; with `sweep` it also looks for files that nothing names.
    pub fn begin(&mut self, sweep: bool) {
        self.sweep = sweep;
        self.phase = match sweep {
            true => Phase::Sessions(vec![tag::SESSION]),
            false => Phase::Uploads,
        };
    }

    /// Does a bounded piece of the pass. False when the pass is over.
    pub fn step(&mut self, commit: CommitAll) -> Result<bool> {
        let local = self.local.clone();
        let turn = local.collecting();
        if self.local.stopped().is_some() || turn.is_none() {
            self.phase = Phase::Idle;
        }
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => return Ok(false),
            Phase::Sessions(from) => match self.forget_sessions(&from, commit)? {
                Some(next) => Phase::Sessions(next),
                None => Phase::Expire(vec![tag::UPLOAD]),
            },
            Phase::Expire(from) => match self.expire_uploads(&from, commit)? {
                Some(next) => Phase::Expire(next),
                None => Phase::Uploads,
            },
            Phase::Uploads => match self.free_uploads(commit)? {
                true => Phase::Uploads,
                false => Phase::Parts(None),
            },
            Phase::Parts(behind) => match self.free_parts(behind, commit)? {
                Some(behind) => Phase::Parts(behind),
                None => Phase::Free(vec![tag::FREE]),
            },
            Phase::Free(from) => match self.free(&from, commit)? {
                Some(next) => Phase::Free(next),
                None if self.sweep => Phase::Sweep(self.local.files.shards()?, Suspects::new()),
                None => Phase::Cut,
            },
            Phase::Sweep(mut shards, mut suspects) => match shards.pop() {
                Some(shard) => {
                    self.sweep_shard(shard, &mut suspects)?;
                    Phase::Sweep(shards, suspects)
                }
                None if suspects.is_empty() => self.end_sweep(),
                None => self.audit(AfterAudit::Suspects(suspects))?,
            },
            Phase::Audit(mut walk, then) => match walk.step()? {
                None => Phase::Audit(walk, then),
                Some(findings) if findings.is_empty() => self.audited(then)?,
                Some(findings) => {
                    // It may hide rows: nothing is destroyed because there is none.
                    self.local.index_is_damaged(&findings.join("; "));
                    Phase::Idle
                }
            },
            Phase::Cut => match self.local.packs().cut_retired()? {
                true => Phase::Cut,
                false => {
                    let old = self.old_packs()?;
                    self.forget_missing(&old, commit)?;
                    match self.has_unknown(&old)? {
                        true => self.audit(AfterAudit::Packs(old))?,
                        false => Phase::Packs(old),
                    }
                }
            },
            Phase::Packs(mut packs) => match packs.pop() {
                Some(pack) => self.judge(pack, packs, commit)?,
                None => Phase::Idle,
            },
            Phase::Move(mover, packs) => self.move_on(mover, packs, commit)?,
        };
        Ok(!matches!(self.phase, Phase::Idle))
    }

    /// Removes some uploads of a bucket that is gone, or in the end its entry. True when there may be more.
    fn free_uploads(&self, commit: CommitAll) -> Result<bool> {
        let from = [tag::FREE_BUCKET];
        let entry = self.local.scan(&from, after_prefix(&from).as_deref(), 1)?;
        let Some(Ok(key @ Key::FreeBucket(bucket))) =
            entry.rows.first().map(|(k, _)| Key::decode(k))
        else {
            return Ok(false);
        };
        let from = Key::upload_prefix(bucket, "");
        self.free_rows(&from, after_prefix(&from), key, commit)?;
        Ok(true)
    }

    /// Removes some parts that nobody needs, or in the end their entry. `None` when that was all.
    fn free_parts(
        &self,
        behind: Option<UploadId>,
        commit: CommitAll,
    ) -> Result<Option<Option<UploadId>>> {
        let mut from = vec![tag::FREE_PART_SET];
        let to = after_prefix(&from);
        if let Some(id) = behind {
            from = Key::FreePartSet(id).encode();
            from.push(0);
        }
        let entry = self.local.scan(&from, to.as_deref(), 1)?;
        let Some(Ok(key @ Key::FreePartSet(id))) = entry.rows.first().map(|(k, _)| Key::decode(k))
        else {
            return Ok(None);
        };
        if self.local.is_held(id) && !planted::is(Bug::IgnoreHolds) {
            return Ok(Some(Some(id)));
        }
        let (from, to) = (Key::Part(id, 0).encode(), Key::Part(id, u16::MAX).encode());
        self.free_rows(&from, Some(to), key, commit)?;
        Ok(Some(behind))
    }

    /// Removes the first rows of a range, and the entry that asked for it when there are no more.
    fn free_rows(
        &self,
        from: &[u8],
        to: Option<Vec<u8>>,
        entry: Key,
        commit: CommitAll,
    ) -> Result<()> {
        let rows = self.local.scan(from, to.as_deref(), self.free_per_step)?;
        let is_last = rows.next.is_none();
        let keys = rows
            .rows
            .iter()
            .filter_map(|(key, _)| Key::decode(key).ok());
        let keys = keys.chain(is_last.then_some(entry));
        commit_changes(keys.map(Change::delete).collect(), commit)
    }

    /// Removes the files of some entries of the free list, then the entries. Where to go on; `None` behind the last
    /// one.
    fn free(&self, from: &[u8], commit: CommitAll) -> Result<Option<Vec<u8>>> {
        let to = after_prefix(&[tag::FREE]);
        let rows = self.local.scan(from, to.as_deref(), self.free_per_step)?;
        let files = &self.local.files;
        let ids = rows
            .rows
            .iter()
            .filter_map(|(key, _)| match Key::decode(key) {
                Ok(Key::Free(id)) => Some(id),
                _ => None,
            });
        let gone: Vec<BlobId> = ids
            .filter(|&id| match files.delete(id) {
                Ok(()) => true,
                // It holds nobody else up; its entry stays for the next pass.
                Err(error) => {
                    tracing::warn!(blob = %id, %error, "a file could not be removed");
                    false
                }
            })
            .collect();
        if !gone.is_empty() {
            files.sync_deletes(&gone)?;
            let entries = gone.iter().map(|&id| Change::delete(Key::Free(id)));
            commit_changes(entries.collect(), commit)?;
        }
        Ok(rows.next)
    }

    /// Gives up the uploads in some rows that are past their age. Where to go on; `None` behind the last one.
    fn expire_uploads(&self, from: &[u8], commit: CommitAll) -> Result<Option<Vec<u8>>> {
        let Some((clock, age)) = &self.upload_age_max else {
            return Ok(None);
        };
        let oldest = clock.now().0.saturating_sub(age.as_millis() as u64);
        let to = after_prefix(&[tag::UPLOAD]);
        let rows = self.local.scan(from, to.as_deref(), self.free_per_step)?;
        for (key, record) in rows.rows {
            let Record::Upload(upload) = record else {
                continue;
            };
            if upload.initiated.0 >= oldest {
                continue;
            }
            let Ok(key) = Key::decode(&key) else { continue };
            let transaction = Transaction {
                requires: vec![Precondition::Exists(key.clone())],
                changes: vec![Change::delete(key)],
                ..Transaction::default()
            };
            // It may have been completed or given up meanwhile.
            commit_unless_changed(transaction, commit)?;
        }
        Ok(rows.next)
    }

    /// Forgets the sessions in some rows that nobody uses any more, with what is remembered of their requests. Where to go
    /// on; `None` behind the last one.
    fn forget_sessions(&self, from: &[u8], commit: CommitAll) -> Result<Option<Vec<u8>>> {
        let Some((clock, age)) = &self.session_age_max else {
            return Ok(None);
        };
        let oldest = clock.now().0.saturating_sub(age.as_millis() as u64);
        let to = after_prefix(&[tag::SESSION]);
        let rows = self.local.scan(from, to.as_deref(), self.free_per_step)?;
        for (row, record) in rows.rows {
            let is_old = matches!(&record, Record::Session(session) if session.used.0 < oldest);
            let Ok(key @ Key::Session(id)) = Key::decode(&row) else {
                continue;
            };
            if !is_old {
                continue;
            }
            let (first, last) = (
                Key::Outcome(id, 0).encode(),
                Key::Outcome(id, u64::MAX).encode(),
            );
            let answers = self.local.scan(&first, Some(&last), self.free_per_step)?;
            let is_last = answers.next.is_none();
            let keys = answers
                .rows
                .iter()
                .filter_map(|(key, _)| Key::decode(key).ok());
            let keys = keys.chain(is_last.then_some(key.clone()));
            let transaction = Transaction {
                requires: vec![Precondition::Is(key, Box::new(record))],
                changes: keys.map(Change::delete).collect(),
                ..Transaction::default()
            };
            commit_unless_changed(transaction, commit)?;
            if !is_last {
                return Ok(Some(row));
            }
        }
        Ok(rows.next)
    }

    fn end_sweep(&self) -> Phase {
        self.local.files.swept();
        Phase::Cut
    }

    fn audit(&self, then: AfterAudit) -> Result<Phase> {
        Ok(Phase::Audit(Box::new(AuditWalk::begin(&self.local)?), then))
    }

    /// The index hides nothing: what has no row is needed by nobody.
    fn audited(&self, then: AfterAudit) -> Result<Phase> {
        Ok(match then {
            AfterAudit::Suspects(suspects) => {
                self.remove_suspects(&suspects)?;
                self.end_sweep()
            }
            AfterAudit::Packs(packs) => Phase::Packs(packs),
        })
    }

    /// Whether some of these log files have no row.
    fn has_unknown(&self, packs: &[u32]) -> Result<bool> {
        for &number in packs {
            if self.local.get(&Key::Pack(number))?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn remove_suspects(&self, suspects: &Suspects) -> Result<()> {
        let files = &self.local.files;
        for (&id, was_never_committed) in suspects {
            if self.local.stopped().is_some() {
                // The batch that names it may be on disk, and only the next start can tell.
                break;
            }
            if *was_never_committed {
                files.delete(id)?;
            } else {
                tracing::warn!(blob = %id, "a file that nothing names was moved to quarantine");
                files.quarantine(id)?;
            }
        }
        let ids: Vec<BlobId> = suspects.keys().copied().collect();
        Ok(files.sync_deletes(&ids)?)
    }

    /// Whether a file is in flight, in use or on the free list.
    fn is_known(&self, id: BlobId) -> Result<bool> {
        // In this order: a body leaves the flight only after its row is there.
        Ok(
            (self.local.files.is_in_flight(id) && !sync::has(Race::SweepFlying))
                || self.local.get(&Key::Blob(id))?.is_some()
                || self.local.get(&Key::Free(id))?.is_some(),
        )
    }

    fn sweep_shard(&self, shard: u16, suspects: &mut Suspects) -> Result<()> {
        let files = &self.local.files;
        files.remove_temporary(shard)?;
        let floor = files.lowest_uncommitted();
        for id in files.list(shard)? {
            if self.is_known(id)? {
                continue;
            }
            if self.local.stopped().is_some() {
                // Asked after the flight, which such a body leaves later: the batch that names it may be on
                // disk, and only the next start can tell.
                break;
            }
            let owner = match files.described(id) {
                // Its writer gave it up since the names were read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                owner => owner?,
            };
            // The row of the file may be missing because the index is damaged.
            match self.names(owner, id)? {
                Some(true) => self.local.index_is_damaged(
                    "the row of a file is missing, in which an object has its body",
                ),
                owner => drop(suspects.insert(id, owner == Some(false) && id >= floor)),
            }
        }
        // Files that their writers abandoned included: after the sweep none may come back.
        Ok(files.sync_shard(shard)?)
    }

    /// Whether the object or part that a file was written for has its body in it; `None` when the file does not say
    /// for which it was.
    fn names(&self, owner: Option<Key>, id: BlobId) -> Result<Option<bool>> {
        let Some(key) = owner else {
            return Ok(None);
        };
        let owner = self.local.get(&key)?;
        let location = owner.as_ref().and_then(Record::body).map(|body| body.0);
        Ok(Some(location == Some(&Location::File(id))))
    }

    /// The log files that neither the index nor the newest snapshot needs for replay, the first to look at last.
    fn old_packs(&self) -> Result<Vec<u32>> {
        let needed = self.local.first_needed_pack();
        let mut numbers = Packs::numbers(self.local.disk())?;
        numbers.retain(|&n| n < needed);
        numbers.reverse();
        if self.local.full().is_some() {
            // What takes the least room to give the most comes first.
            let mut by_live = Vec::with_capacity(numbers.len());
            for number in numbers {
                by_live.push((self.live_bytes(number)?, number));
            }
            by_live.sort_by_key(|&(live, _)| std::cmp::Reverse(live.unwrap_or(u64::MAX)));
            numbers = by_live.into_iter().map(|(_, number)| number).collect();
        }
        Ok(numbers)
    }

    fn live_bytes(&self, pack: u32) -> Result<Option<u64>> {
        Ok(match self.local.get(&Key::Pack(pack))? {
            Some(Record::Pack(record)) => Some(record.live_bytes),
            _ => None,
        })
    }

    /// Removes the rows of log files that were removed just before the power went.
    fn forget_missing(&self, there: &[u32], commit: CommitAll) -> Result<()> {
        let mut from = Some(Key::Pack(0).encode());
        let to = Key::Pack(self.local.first_needed_pack()).encode();
        let mut missing = Vec::new();
        while let Some(start) = from.take() {
            let rows = self.local.scan(&start, Some(&to), PACK_ROWS)?;
            from = rows.next;
            for (key, record) in rows.rows {
                match (Key::decode(&key), record) {
                    (Ok(Key::Pack(number)), _) if there.contains(&number) => {}
                    (Ok(Key::Pack(number)), Record::Pack(record)) if record.live_bytes == 0 => {
                        missing.push(number);
                    }
                    (Ok(Key::Pack(number)), _) => {
                        tracing::error!(pack = number, "a log file with living bodies is missing");
                    }
                    _ => {}
                }
            }
        }
        self.forget_packs(&missing, commit)
    }

    fn forget_packs(&self, numbers: &[u32], commit: CommitAll) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let rows = numbers.iter().map(|&n| Change::delete(Key::Pack(n)));
        commit_changes(rows.collect(), commit)
    }

    /// Removes a log file, begins to move out of it, or lets it be.
    fn judge(&mut self, number: u32, packs: Vec<u32>, commit: CommitAll) -> Result<Phase> {
        // A missing row says nothing: only one that can be read, or a look at every record, does.
        let live = self.live_bytes(number)?;
        if live == Some(0) || (live.is_none() && self.dead.remove(&number)) {
            self.local.packs().remove(number)?;
            self.forget_packs(&[number], commit)?;
            return Ok(Phase::Packs(packs));
        }
        let Some(file) = self.local.packs().file(number)? else {
            return Ok(Phase::Packs(packs));
        };
        let used = file.len()?;
        let quarter = self.local.config.pack_bytes / 4;
        let many_short = packs.len() >= SHORT_PACKS_MAX && used < quarter;
        // On a full disk every bit of room counts.
        let (most, of) = match self.local.full() {
            Some(_) => (7, 8),
            None => (1, 2),
        };
        let is_dense = live.is_some_and(|live| live * of >= used.saturating_sub(PAGE_BYTES) * most);
        if self.unreadable.contains(&number)
            || (is_dense && !many_short)
            || !self.has_room_for(live.unwrap_or(used))
        {
            return Ok(Phase::Packs(packs));
        }
        let mut block = vec![0; PAGE_BYTES as usize];
        if used >= PAGE_BYTES {
            file.read_at(&mut block, 0)?;
        }
        match PackHeader::decode(&block, number, self.local.store_id()) {
            HeaderBlock::Valid(header) => {
                let at = Position {
                    pack: number,
                    offset: PAGE_BYTES,
                    ..header.continues
                };
                return Ok(Phase::Move(Mover { header, at }, packs));
            }
            // It was made ahead of need, and a power cut came before its turn.
            HeaderBlock::Spare if live.is_none() && is_blank(&*file, PAGE_BYTES, used)? => {
                self.local.packs().remove(number)?;
            }
            HeaderBlock::Spare | HeaderBlock::Bad => {
                self.give_up_on(number, "its header is damaged");
            }
        }
        Ok(Phase::Packs(packs))
    }

    /// Whether what lives in a log file can be moved out of it. A move that ended halfway for want of space would
    /// have taken room and given none.
    fn has_room_for(&self, live: u64) -> bool {
        self.local.full().is_none() || self.local.packs().room() >= live + live / 16 + ROOM_LEFT
    }

    /// Moves what lives in the next batches to the end of the log.
    fn move_on(
        &mut self,
        mut mover: Mover,
        mut packs: Vec<u32>,
        commit: CommitAll,
    ) -> Result<Phase> {
        let number = mover.at.pack;
        let Some(file) = self.local.packs().file(number)? else {
            return Ok(Phase::Packs(packs));
        };
        let len = file.len()?;
        let (mut moves, mut batches, mut bytes) = (Vec::new(), 0, 0);
        let scanned = loop {
            if batches >= MOVES || moves.len() >= MOVES || bytes >= MOVE_BYTES {
                break None;
            }
            match log::read_batch(&*file, len, mover.header.epoch, &mover.at)? {
                Scanned::Batch(batch) => {
                    let more = self.moves(number, mover.at.offset, &batch)?;
                    bytes += more.iter().map(Transaction::bytes).sum::<usize>();
                    moves.extend(more);
                    batches += 1;
                    mover.at = batch.next;
                }
                Scanned::Bad(why) => break Some(why),
            }
        };
        commit_moves(moves, commit)?;
        match scanned {
            None => Ok(Phase::Move(mover, packs)),
            Some(why) => {
                let epoch = Some(mover.header.epoch);
                let durable = log::durable_lsn_beyond(&*file, mover.at.offset, len, epoch)?;
                match self.local.get(&Key::Pack(number))? {
                    Some(Record::Pack(record)) if record.live_bytes == 0 => packs.push(number),
                    // Read to its end or a torn tail, by the rule of recovery, and nothing of it lives any more.
                    None if durable <= mover.at.lsn => {
                        self.dead.insert(number);
                        packs.push(number);
                    }
                    _ => self.give_up_on(number, why),
                }
                Ok(Phase::Packs(packs))
            }
        }
    }

    fn moves(&self, number: u32, batch_offset: u64, batch: &Batch) -> Result<Vec<Transaction>> {
        let mut moves = Vec::new();
        for record in &batch.records {
            let here = batch_offset + record.body.start as u64;
            for change in &record.changes {
                let written = change.record.as_ref().and_then(Record::body);
                if !matches!(written, Some((Location::Here, _))) {
                    continue;
                }
                let Some(mut row) = self.local.get(&change.key)? else {
                    continue;
                };
                let (Some(version), Some(location)) = (row.version(), row.location_mut()) else {
                    continue;
                };
                if !matches!(location, Location::Pack { pack, offset, .. }
                    if *pack == number && u64::from(*offset) == here)
                {
                    continue;
                }
                *location = Location::Here;
                let bytes = Bytes::copy_from_slice(&batch.bytes[record.body.clone()]);
                let mut requires = vec![Precondition::VersionIs(change.key.clone(), version)];
                if planted::is(Bug::MoveUnchecked) && matches!(change.key, Key::Part(..)) {
                    requires.clear();
                }
                if sync::has(Race::MoveBlindly) {
                    requires.clear();
                }
                moves.push(Transaction {
                    requires,
                    changes: vec![Change::put(change.key.clone(), row)],
                    body: Some(Body {
                        bytes,
                        sums: record.sums.clone(),
                    }),
                    upkeep: true,
                    ..Transaction::default()
                });
            }
        }
        Ok(moves)
    }

    fn give_up_on(&mut self, number: u32, why: &str) {
        tracing::warn!(
            pack = number,
            why,
            "a log file with living bodies cannot be read to its end"
        );
        self.unreadable.insert(number);
    }
}

fn commit_moves(moves: Vec<Transaction>, commit: CommitAll) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    for answer in commit(moves) {
        match answer {
            Ok(()) | Err(CommitError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Commits what goes by the board when what it is about has changed since.
fn commit_unless_changed(transaction: Transaction, commit: CommitAll) -> Result<()> {
    for answer in commit(vec![transaction]) {
        match answer {
            Ok(()) | Err(CommitError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn commit_changes(changes: Vec<Change>, commit: CommitAll) -> Result<()> {
    let transaction = Transaction {
        changes,
        upkeep: true,
        ..Transaction::default()
    };
    commit(vec![transaction])
        .into_iter()
        .try_for_each(|answer| Ok(answer?))
}

/// True when a log file has nothing more from `offset` on.
fn is_blank(file: &dyn DiskFile, offset: u64, len: u64) -> Result<bool> {
    if offset + PAGE_BYTES > len {
        return Ok(true);
    }
    let mut page = vec![0; PAGE_BYTES as usize];
    file.read_at(&mut page, offset)?;
    Ok(page.iter().all(|&byte| byte == 0))
}

#[cfg(test)]
mod tests;

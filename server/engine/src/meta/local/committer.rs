//! The only writer of the log: decides, writes and syncs one batch after the other.
//!
//! A step function: the real runtime calls it from a thread of its own, the simulator from its schedule.
//! Nothing is answered before the batch it depends on is synced, refusals included. A log that could not
//! be written or synced is never written again by this process: after a failed sync the page cache may
//! show bytes that the disk does not have.

use std::{io, sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    disk::{DiskFile, is_full},
    error::Error,
    meta::{
        Body, CommitError, Transaction,
        local::{
            Local,
            effects::View,
            log::{self, Batch, BatchBuilder, PAGE_BYTES, PackHeader, Position},
        },
    },
    planted::{self, Bug},
};

/// What part of a log file stays for deletes on a full disk.
const KEPT_FOR_DELETES: u64 = 64;

/// See the module.
pub struct Committer {
    local: Arc<Local>,
    pack: Arc<dyn DiskFile>,
    /// The header of the pack, while it still has to go to disk with the first batch.
    header: Option<PackHeader>,
    at: Position,
    /// Length that is reserved for the pack, in bytes.
    capacity: u64,
    durable_lsn: u64,
    /// True when the last batch says that everything before it is durable and nothing follows.
    sealed: bool,
    /// A deliberate bug left the last batch unsynced.
    sync_owed: bool,
}

impl Committer {
    /// A committer that writes its first batch into `pack`, continuing the log at `continues`.
    pub(super) fn new(
        local: Arc<Local>,
        pack: (u32, Arc<dyn DiskFile>),
        continues: Position,
    ) -> Self {
        let mut committer = Self {
            local,
            pack: pack.1.clone(),
            header: None,
            at: continues,
            capacity: 0,
            durable_lsn: continues.lsn,
            sealed: false,
            sync_owed: false,
        };
        committer.turn_to(pack);
        committer
    }

    /// Commits what can be, and answers each. The answers may be given away as they are.
    pub fn commit(&mut self, transactions: Vec<Transaction>) -> Vec<Result<(), CommitError>> {
        if let Some(why) = self.local.stopped() {
            return transactions
                .iter()
                .map(|_| Err(CommitError::Stopped(why.clone())))
                .collect();
        }
        match self.local.full() {
            Some(why) => self.commit_while_full(transactions, why),
            None => match self.commit_all(transactions) {
                Ok(answers) => answers,
                Err(NoRoom(transactions, why)) => self.commit_while_full(transactions, why),
            },
        }
    }

    /// Commits what makes room and refuses the rest, about which nothing is decided.
    fn commit_while_full(
        &mut self,
        transactions: Vec<Transaction>,
        why: String,
    ) -> Vec<Result<(), CommitError>> {
        let is_taken = self.taken_while_full(&transactions);
        let taken = transactions.into_iter().zip(&is_taken);
        let taken: Vec<Transaction> = taken
            .filter_map(|(transaction, &is_taken)| is_taken.then_some(transaction))
            .collect();
        let mut answers = match self.commit_all(taken) {
            Ok(answers) => answers,
            Err(NoRoom(taken, why)) => {
                let full = CommitError::Full(why);
                taken.iter().map(|_| Err(full.clone())).collect()
            }
        }
        .into_iter();
        let full = CommitError::Full(why);
        let answer = |is_taken| match is_taken {
            true => answers.next().expect("one answer a transaction"),
            false => Err(full.clone()),
        };
        is_taken.into_iter().map(answer).collect()
    }

    /// Which transactions are for a store that is short of space.
    fn taken_while_full(&self, transactions: &[Transaction]) -> Vec<bool> {
        // What the collector moves must leave room in the log for deletes.
        let mut room = match self.local.packs.has_spare() {
            true => u64::MAX,
            false => {
                let kept = self.local.config.pack_bytes / KEPT_FOR_DELETES;
                self.capacity.saturating_sub(self.at.offset + kept)
            }
        };
        let is_overlay_full = self.local.is_overlay_full();
        let is_taken = |transaction: &Transaction| {
            if is_overlay_full {
                return false;
            }
            if !transaction.adds() {
                return transaction.upkeep || !planted::is(Bug::RefuseDeletesWhenShort);
            }
            let left = room.checked_sub(transaction.bytes() as u64);
            room = left.unwrap_or(room);
            transaction.upkeep && left.is_some()
        };
        transactions.iter().map(is_taken).collect()
    }

    /// Commits what can be, and answers each, unless there is no room for the batch: then nothing was done.
    fn commit_all(
        &mut self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<(), CommitError>>, NoRoom> {
        let encoded: Vec<Vec<u8>> = transactions
            .iter()
            .map(|t| log::encode_changes(&t.changes))
            .collect();
        if let Err(error) = self.make_room(&transactions, &encoded) {
            return self.not_written(transactions, &error);
        }
        let local = self.local.clone();
        loop {
            let generation = local.index.generation();
            match self.decide(&local, &transactions, &encoded) {
                Ok((view, builder, answers)) => {
                    return self.write(view, builder, transactions, answers);
                }
                Err(error) if local.index.await_reopening(&error, generation) => {}
                Err(error) => {
                    let answer = CommitError::Failed(error.to_string());
                    return Ok(transactions.iter().map(|_| Err(answer.clone())).collect());
                }
            }
        }
    }

    fn not_written(
        &self,
        transactions: Vec<Transaction>,
        error: &io::Error,
    ) -> Result<Vec<Result<(), CommitError>>, NoRoom> {
        if is_full(error) {
            return Err(NoRoom(transactions, self.note_full(error)));
        }
        let answer = CommitError::Failed(format!("the log could not be continued: {error}"));
        Ok(transactions.iter().map(|_| Err(answer.clone())).collect())
    }

    fn note_full(&self, error: &io::Error) -> String {
        self.local.note_full("the log", error);
        format!("no room for the log: {error}")
    }

    /// Writes an empty batch that says that everything before it is durable, unless the last one does.
    pub fn seal(&mut self) -> bool {
        if self.sealed || self.local.stopped().is_some() {
            return false;
        }
        if let Err(error) = self.make_room(&[], &[]) {
            if is_full(&error) {
                self.note_full(&error);
            }
            return false;
        }
        self.append(BatchBuilder::new(self.local.epoch, &self.at))
            .is_ok()
    }

    /// Writes a batch of an earlier epoch anew, under the lsns it has, and makes it visible.
    pub(super) fn rewrite(&mut self, batch: &Batch) -> Result<(), Error> {
        let local = self.local.clone();
        let mut view = View::new(&local)?;
        let mut builder = BatchBuilder::new(local.epoch, &self.at);
        view.use_pack(self.at.pack)?;
        for record in &batch.records {
            let bytes = Bytes::copy_from_slice(&batch.bytes[record.body.clone()]);
            let body = Body {
                bytes,
                sums: record.sums.clone(),
            };
            let placed = builder.push(&log::encode_changes(&record.changes), Some(&body));
            for change in &record.changes {
                let located =
                    log::locate(change, self.at.pack, self.at.offset, placed, &record.sums);
                view.apply(located)?;
            }
        }
        self.append(builder)?;
        view.publish(self.at);
        Ok(())
    }

    /// True when the log says that everything in it is durable.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The point behind the last durable batch.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Goes on in a fresh pack when the batch might not fit into this one.
    fn make_room(&mut self, transactions: &[Transaction], encoded: &[Vec<u8>]) -> io::Result<()> {
        let records: usize = transactions
            .iter()
            .zip(encoded)
            .map(|(t, changes)| {
                let body = t.body.as_ref().map_or(0, |body| body.bytes.len());
                log::record_bytes(changes.len(), body)
            })
            .sum();
        let fits = self.at.offset + log::batch_bytes(records) as u64 <= self.capacity;
        // A batch that is longer than a whole pack makes its pack longer.
        if fits || self.header.is_some() {
            return Ok(());
        }
        let next = self.local.packs.next()?;
        self.local.packs.retire(self.at.pack, self.at.offset);
        self.turn_to(next);
        self.local.pack_wanted.notify();
        Ok(())
    }

    fn turn_to(&mut self, (number, file): (u32, Arc<dyn DiskFile>)) {
        self.header = Some(PackHeader {
            number,
            store_id: self.local.store_id,
            epoch: self.local.epoch,
            incarnation: self.local.incarnation,
            continues: self.at,
        });
        let usual = self.local.config.pack_bytes;
        self.capacity = file.len().map_or(usual, |len| len.min(usual));
        self.pack = file;
        self.at.pack = number;
        self.at.offset = PAGE_BYTES;
        self.note_rest();
    }

    fn note_rest(&self) {
        let rest = self.capacity.saturating_sub(self.at.offset);
        self.local.packs.set_rest(rest);
    }

    #[allow(clippy::type_complexity)]
    fn decide<'a>(
        &self,
        local: &'a Local,
        transactions: &[Transaction],
        encoded: &[Vec<u8>],
    ) -> Result<(View<'a>, BatchBuilder, Vec<Result<(), CommitError>>), Error> {
        let mut view = View::new(local)?;
        let mut builder = BatchBuilder::new(local.epoch, &self.at);
        let mut answers = Vec::with_capacity(transactions.len());
        for (transaction, changes) in transactions.iter().zip(encoded) {
            if let Some(i) = view.first_broken(&transaction.requires)? {
                answers.push(Err(CommitError::Refused(i)));
                continue;
            }
            let body = transaction.body.as_ref().map_or(0, |body| body.bytes.len());
            if changes.len() > log::CHANGE_BYTES_MAX || body > log::BODY_BYTES_MAX {
                // Recovery would take such a record for garbage.
                answers.push(Err(CommitError::Failed("the change is too long".into())));
                continue;
            }
            view.use_pack(self.at.pack)?;
            let placed = builder.push(changes, transaction.body.as_ref());
            let sums = transaction.body.as_ref().map_or(&[][..], |body| &body.sums);
            for change in &transaction.changes {
                view.apply(log::locate(
                    change,
                    self.at.pack,
                    self.at.offset,
                    placed,
                    sums,
                ))?;
            }
            answers.push(Ok(()));
        }
        Ok((view, builder, answers))
    }

    fn write(
        &mut self,
        view: View,
        builder: BatchBuilder,
        transactions: Vec<Transaction>,
        answers: Vec<Result<(), CommitError>>,
    ) -> Result<Vec<Result<(), CommitError>>, NoRoom> {
        if builder.count() == 0 {
            return Ok(answers);
        }
        if planted::is(Bug::ApplyBeforeSync) {
            self.local
                .apply_unsynced(&view.staged_rows(), self.at, builder.count());
        }
        if let Err(error) = self.append(builder) {
            if let CommitError::Full(why) = error {
                return Err(NoRoom(transactions, why));
            }
            // Whether the batch is on disk is unknown, so its files stay until the restart has decided.
            transactions
                .into_iter()
                .filter_map(|t| t.blob)
                .for_each(|blob| blob.keep());
            let answer = |decided| match decided {
                Err(CommitError::Refused(i)) if planted::is(Bug::RefuseBeforeSync) => {
                    Err(CommitError::Refused(i))
                }
                // Refusals too: they may depend on what is lost.
                _ => Err(error.clone()),
            };
            return Ok(answers.into_iter().map(answer).collect());
        }
        view.publish(self.at);
        if self.local.is_apply_due() {
            self.local.apply_wanted.notify();
        }
        for (transaction, answer) in transactions.into_iter().zip(&answers) {
            if let (Some(blob), Ok(())) = (transaction.blob, answer) {
                blob.keep();
            }
        }
        Ok(answers)
    }

    /// One write, one sync. A batch that found no room lacks its footer at least, so it is no part of the log,
    /// which goes on in another pack.
    fn append(&mut self, builder: BatchBuilder) -> Result<(), CommitError> {
        let count = builder.count();
        let (batch, hash) = builder.finish(self.durable_lsn);
        let (bytes, offset) = match &self.header {
            Some(header) => ([header.encode(), batch].concat(), 0),
            None => (batch, self.at.offset),
        };
        let written = self.pack.write_at(&bytes, offset);
        if let Err(error) = &written
            && is_full(error)
        {
            // Nothing more goes behind the torn batch; a pack that has no other is as good as new.
            if self.header.is_none() {
                self.capacity = self.at.offset;
                self.local.packs.set_rest(0);
            }
            return Err(CommitError::Full(self.note_full(error)));
        }
        if let Err(error) = written.and_then(|()| self.sync()) {
            let why = format!("the log could not be written: {error}");
            self.local.stop(&why);
            return Err(CommitError::Stopped(why));
        }
        let counters = &self.local.counters;
        counters.log_bytes.add(bytes.len() as u64);
        // A seal has no transactions, and is no batch that anybody waits for.
        if count > 0 {
            counters.batch_transactions.record(count.into());
        }
        self.header = None;
        self.at.offset = offset + bytes.len() as u64;
        self.note_rest();
        self.at.lsn += u64::from(count);
        self.at.hash = hash;
        self.durable_lsn = self.at.lsn;
        self.sealed = count == 0;
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        if planted::is(Bug::SkipSync) {
            return Ok(());
        }
        if planted::is(Bug::AcknowledgeBeforeSync) && !std::mem::replace(&mut self.sync_owed, true)
        {
            return Ok(());
        }
        self.sync_owed = false;
        let began = Instant::now();
        let synced = self.pack.sync_data();
        self.local
            .counters
            .log_sync_micros
            .record_micros(began.elapsed());
        synced
    }
}

/// There was no room for these transactions, and why.
struct NoRoom(Vec<Transaction>, String);

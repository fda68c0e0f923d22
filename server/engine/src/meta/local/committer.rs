//! The only writer of the log: decides, writes and syncs one batch after the other.
//!
//! A step function: the real runtime calls it from a thread of its own, the simulator from its schedule.
//! Nothing is answered before the batch it depends on is synced, refusals included. A log that could not
//! be written or synced is never written again by this process: after a failed sync the page cache may
//! show bytes that the disk does not have.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    disk::DiskFile,
    error::{Error, ErrorKind},
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
        let encoded: Vec<Vec<u8>> = transactions
            .iter()
            .map(|t| log::encode_changes(&t.changes))
            .collect();
        if let Err(error) = self.make_room(&transactions, &encoded) {
            let answer = not_written(error);
            return transactions.iter().map(|_| Err(answer.clone())).collect();
        }
        let local = self.local.clone();
        match self.decide(&local, &transactions, &encoded) {
            Ok((view, builder, answers)) => self.write(view, builder, transactions, answers),
            Err(error) => {
                let answer = CommitError::Failed(error.to_string());
                transactions.iter().map(|_| Err(answer.clone())).collect()
            }
        }
    }

    /// Writes an empty batch that says that everything before it is durable, unless the last one does.
    pub fn seal(&mut self) -> bool {
        if self.sealed || self.local.stopped().is_some() {
            return false;
        }
        if self.make_room(&[], &[]).is_err() {
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
        self.append(builder)
            .map_err(|e| Error::new(ErrorKind::InternalError, e.to_string()))?;
        view.publish(self.at);
        Ok(())
    }

    /// The point behind the last durable batch.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Goes on in a fresh pack when the batch might not fit into this one.
    fn make_room(
        &mut self,
        transactions: &[Transaction],
        encoded: &[Vec<u8>],
    ) -> Result<(), Error> {
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
    ) -> Vec<Result<(), CommitError>> {
        if builder.count() == 0 {
            return answers;
        }
        if planted::is(Bug::ApplyBeforeSync) {
            self.local
                .apply_unsynced(&view.staged_rows(), self.at, builder.count());
        }
        if let Err(stopped) = self.append(builder) {
            // Whether the batch is on disk is unknown, so its files stay until the restart has decided.
            transactions
                .into_iter()
                .filter_map(|t| t.blob)
                .for_each(|blob| blob.keep());
            return answers.iter().map(|_| Err(stopped.clone())).collect();
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
        answers
    }

    /// One write, one sync.
    fn append(&mut self, builder: BatchBuilder) -> Result<(), CommitError> {
        let count = builder.count();
        let (batch, hash) = builder.finish(self.durable_lsn);
        let (bytes, offset) = match &self.header {
            Some(header) => ([header.encode(), batch].concat(), 0),
            None => (batch, self.at.offset),
        };
        let written = self
            .pack
            .write_at(&bytes, offset)
            .and_then(|()| self.sync());
        if let Err(error) = written {
            let why = format!("the log could not be written: {error}");
            self.local.stop(&why);
            return Err(CommitError::Stopped(why));
        }
        self.header = None;
        self.at.offset = offset + bytes.len() as u64;
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
        self.pack.sync_data()
    }
}

fn not_written(error: Error) -> CommitError {
    match error.kind() {
        ErrorKind::InsufficientStorage => CommitError::Full(error.to_string()),
        _ => CommitError::Failed(error.to_string()),
    }
}

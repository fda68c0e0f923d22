//! What operators look after: quarantine, scrubber, checks, snapshots and backups. No rights are asked.

use std::{
    cell::Cell,
    path::Path,
    sync::TryLockError,
    time::{Duration, Instant},
};

use crate::{
    BackupError, BackupOptions, BackupProgress, BackupReport, Depth, Engine, FsckProgress,
    FsckReport, ObjectKey, QuarantinePage, Result, ScrubExtent, ScrubPass, ScrubTally,
    SnapshotInfo,
    maintenance::{
        backup::{self, Backup},
        fsck::Fsck,
        scrub,
    },
    meta::{
        key::{BucketId, Key},
        record::{Record, ScrubRecord},
    },
    service::blocking,
};

/// How far the scrubber is.
#[derive(Clone, Copy, Debug)]
pub struct ScrubStatus {
    /// How long a whole round takes, by the settings.
    pub round_takes: Duration,
    /// Objects in all buckets.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// A pass that was asked for and has not begun.
    pub wanted: Option<ScrubExtent>,
    /// Time until the next pass begins by itself; `None` before the first of this start is planned.
    pub next_pass_in: Option<Duration>,
    /// The pass under way.
    pub pass: Option<ScrubPass>,
    /// What the round under way has seen.
    pub round: ScrubTally,
    /// What the last whole round has seen.
    pub last: ScrubTally,
}

impl Engine {
    /// The objects in quarantine, in the order of bucket ids and keys: those behind `after`. For operators: no
    /// rights are asked.
    pub async fn list_quarantine(&self, after: Option<(u64, ObjectKey)>) -> Result<QuarantinePage> {
        self.blocking(move |service| {
            let after = after
                .as_ref()
                .map(|(bucket, key)| (BucketId(*bucket), key.as_str()));
            service.list_quarantine(after)
        })
        .await
    }

    /// Checks an object in quarantine again: true when its bytes are what was put, so that it is readable again.
    /// For operators: no rights are asked.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoSuchKey`] when it is not in quarantine.
    pub async fn revalidate_quarantined(&self, bucket_id: u64, key: &ObjectKey) -> Result<bool> {
        self.service.revalidate(BucketId(bucket_id), key).await
    }

    /// Deletes an object that is in quarantine, with what is left of its bytes. For operators: no rights are asked.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NoSuchKey`] when it is not in quarantine.
    pub async fn purge_quarantined(&self, bucket_id: u64, key: &ObjectKey) -> Result<()> {
        self.service.purge(BucketId(bucket_id), key).await
    }

    /// How far the scrubber is.
    pub async fn scrub_status(&self) -> Result<ScrubStatus> {
        let running = self.running.clone();
        self.blocking(move |service| {
            // Before the row, so that a pass which ends meanwhile is in one of them.
            let scrubbing = running.upkeep.scrubbing();
            let row = match service.meta.get(&Key::Scrub)? {
                Some(Record::Scrub(row)) => *row,
                _ => ScrubRecord::default(),
            };
            let of_round = scrubbing
                .pass
                .filter(|pass| pass.extent != ScrubExtent::Presence);
            let all = scrub::contents(running.store.local())?;
            Ok(ScrubStatus {
                round_takes: running.upkeep.round_takes(),
                objects: all.objects,
                bytes: all.bytes,
                wanted: scrubbing.wanted,
                next_pass_in: scrubbing
                    .next
                    .map(|next| next.saturating_duration_since(Instant::now())),
                pass: scrubbing.pass,
                round: of_round.map_or(row.round, |pass| pass.round),
                last: row.last,
            })
        })
        .await
    }

    /// Begins a pass of the scrubber as soon as what upkeep does is done: one under way that checks less ends, and with
    /// one that checks as much nothing more is to be done.
    pub fn start_scrub(&self, extent: ScrubExtent) {
        self.running.upkeep.start_scrub(extent);
    }

    /// Why the index was made anew at this start, if it was.
    pub fn rebuilt(&self) -> Option<String> {
        self.running.store.local().rebuilt().map(str::to_owned)
    }

    /// Checks everything, while the store is in use, and changes nothing; tells how far it is until `go_on` says no.
    /// Waits for the disk. For operators: no rights are asked.
    ///
    /// # Errors
    /// [`crate::ErrorKind::OperationAborted`] when it was broken off.
    pub fn fsck(
        &self,
        depth: Depth,
        go_on: &mut dyn FnMut(FsckProgress) -> bool,
    ) -> Result<FsckReport> {
        let local = self.running.store.local().clone();
        Fsck::begin(local, depth)?.run(go_on)
    }

    /// Takes a snapshot of the index now, verified. Waits for the disk.
    pub async fn take_snapshot(&self) -> Result<SnapshotInfo> {
        let running = self.running.clone();
        blocking(move || running.upkeep.take_snapshot()).await?
    }

    /// Makes a backup of everything that is acknowledged by now in the directory `to`, which is empty or has backups
    /// of this store. The store goes on meanwhile, but nothing is collected. Waits for the disk; `progress` gives the
    /// backup up by answering false.
    ///
    /// # Errors
    /// [`BackupError`], among other reasons when another backup is being made or the engine is closed.
    pub fn create_backup(
        &self,
        to: &Path,
        options: BackupOptions,
        progress: &mut dyn FnMut(&BackupProgress) -> bool,
    ) -> Result<BackupReport, BackupError> {
        let running = &self.running;
        let _turn = match running.backup.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(refused("Another backup is being made: wait for it to end."));
            }
        };
        backup::must_be_apart(&running.data_dir, to)?;
        let (vault, _lock) = backup::open_vault_disk(to)?;
        let local = running.store.local();
        let begun = Backup::begin(local, &running.env, vault, options)?;
        let is_wanted = Cell::new(true);
        let mut told = |now: &BackupProgress| is_wanted.set(progress(now));
        backup::run(begun, &mut told, |is_waiting| {
            if is_waiting {
                local.apply_now();
            }
            match local.stopped() {
                Some(why) => Err(refused(&why)),
                None if running.upkeep.is_closing() => Err(refused("The store is being closed.")),
                None if !is_wanted.get() => Err(refused("The backup was given up.")),
                None => Ok(()),
            }
        })
    }
}

fn refused(why: &str) -> BackupError {
    BackupError::Refused(why.to_owned())
}

//! What kind of life a seed leads: its limits, and how often each step comes. Some steps never come in some
//! lives, so that each has lives of its own to go wrong in.

use crate::{
    disk::simulated::{Faults, random::Random},
    meta::local::LocalConfig,
};

/// One step of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Commit,
    Seal,
    Freeze,
    Apply,
    BeginCollection,
    Collect,
    PreparePack,
    Snapshot,
    Scrub,
    Backup,
    Read,
    Scan,
    Write,
    Hold,
    Abandon,
    PlanPowerCut,
    PlanFailedSync,
    Trouble,
    PowerCut,
    Kill,
    Reopen,
}

/// Each step with the weights it may have.
const STEPS: [(Step, [u64; 4]); 21] = [
    (Step::Commit, [20, 30, 40, 60]),
    (Step::Seal, [0, 2, 4, 10]),
    (Step::Freeze, [0, 0, 2, 4]),
    (Step::Apply, [0, 2, 6, 12]),
    (Step::BeginCollection, [0, 2, 4, 8]),
    (Step::Collect, [4, 8, 12, 20]),
    (Step::PreparePack, [0, 1, 3, 8]),
    (Step::Snapshot, [0, 1, 4, 8]),
    (Step::Scrub, [0, 2, 6, 12]),
    (Step::Backup, [0, 0, 6, 14]),
    (Step::Read, [1, 2, 4, 4]),
    (Step::Scan, [0, 1, 1, 2]),
    (Step::Write, [0, 2, 6, 12]),
    (Step::Hold, [0, 2, 4, 8]),
    (Step::Abandon, [0, 0, 1, 4]),
    (Step::PlanPowerCut, [0, 1, 3, 6]),
    (Step::PlanFailedSync, [0, 0, 2, 5]),
    (Step::Trouble, [0, 0, 1, 3]),
    (Step::PowerCut, [0, 1, 1, 2]),
    (Step::Kill, [0, 0, 1, 3]),
    (Step::Reopen, [0, 0, 1, 2]),
];

/// The kind of life.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) config: LocalConfig,
    pub(super) steps: u64,
    weights: Vec<(Step, u64)>,
    total: u64,
    /// How often a start is disturbed, and how often a dead process loses the power too.
    pub(super) bad_recoveries_of_16: u64,
    pub(super) power_cuts_of_16: u64,
    /// In times of trouble, how many of the disk's verbs fail now and then.
    pub(super) failing_of_16: u64,
    /// How often a batch comes between the collector's look and its commit.
    pub(super) races_of_16: u64,
    /// Different keys in use; fewer mean more overwrites.
    pub(super) keys: u64,
    pub(super) buckets: u64,
    /// Most transactions of a batch.
    pub(super) batch_max: u64,
    /// Of 16 puts, how many have a file.
    pub(super) files_of_16: u64,
    pub(super) inline_max: u64,
    /// Of 100 transactions, how many have to do with multipart uploads.
    pub(super) multipart_of_100: u64,
    /// Different numbers of parts in use.
    pub(super) parts: u64,
    /// How often the index is lost between two starts.
    pub(super) index_losses_of_16: u64,
    /// How often the directory of the backups fails while one is made.
    pub(super) bad_backups_of_16: u64,
    /// Files and rows that one step of a backup takes.
    pub(super) backup_items: usize,
    /// Rows that the collector removes in a step.
    pub(super) free_per_step: usize,
    /// Of 16 transactions, how many are done once however often they come.
    pub(super) once_of_16: u64,
}

impl Plan {
    pub(super) fn new(dice: &mut Random) -> Self {
        let mut one_of = |choices: [u64; 4]| choices[dice.below(4) as usize];
        let weights: Vec<_> = STEPS
            .iter()
            .map(|&(step, choices)| (step, one_of(choices)))
            .collect();
        let config = LocalConfig {
            pack_bytes: one_of([32, 32, 48, 64]) << 10,
            zero_ahead: one_of([0, 0, 0, 1]) == 1,
            overlay_bytes_max: one_of([16 << 10, 64 << 10, 1 << 20, 1 << 20]) as usize,
            apply_rows: one_of([8, 40, 200, 1000]) as usize,
            index_cache_bytes: one_of([64 << 10, 256 << 10, 512 << 10, 1 << 20]) as usize,
            ballast_bytes: one_of([0, 16, 16, 64]) << 10,
            ..LocalConfig::default()
        };
        Self {
            config,
            steps: one_of([20, 30, 40, 60]),
            total: weights.iter().map(|(_, weight)| weight).sum(),
            weights,
            bad_recoveries_of_16: one_of([0, 2, 5, 8]),
            power_cuts_of_16: one_of([16, 14, 12, 8]),
            failing_of_16: one_of([1, 2, 5, 10]),
            races_of_16: one_of([1, 2, 4, 8]),
            keys: one_of([3, 6, 10, 16]),
            buckets: one_of([1, 2, 2, 3]),
            batch_max: one_of([1, 2, 4, 8]),
            files_of_16: one_of([0, 1, 3, 6]),
            inline_max: one_of([100, 600, 1500, 2048]),
            multipart_of_100: one_of([0, 20, 40, 60]),
            parts: one_of([2, 4, 8, 24]),
            index_losses_of_16: one_of([0, 0, 1, 6]),
            bad_backups_of_16: one_of([0, 0, 2, 6]),
            backup_items: one_of([1, 3, 16, 256]) as usize,
            free_per_step: one_of([1, 3, 256, 256]) as usize,
            once_of_16: one_of([0, 0, 0, 6]),
        }
    }

    /// Which verbs of the disk begin to fail, and how often.
    pub(super) fn faults(&self, dice: &mut Random) -> Faults {
        let mut rate = || match dice.of_16(self.failing_of_16) {
            true => [5_000, 50_000, 300_000][dice.below(3) as usize],
            false => 0,
        };
        Faults {
            create_dir_errors: rate(),
            remove_dir_errors: rate(),
            open_errors: rate() / 4,
            create_errors: rate(),
            link_errors: rate(),
            rename_errors: rate(),
            unlink_errors: rate(),
            read_dir_errors: rate() / 4,
            read_errors: rate() / 10,
            write_errors: rate() / 10,
            sync_errors: rate() / 4,
            len_errors: rate() / 4,
            set_len_errors: rate(),
            allocate_errors: rate(),
            full_on_write: rate(),
            full_on_allocate: rate(),
            full_on_create: rate(),
            delays: rate(),
            delay_ms_max: [100, 5_000][dice.below(2) as usize],
        }
    }

    pub(super) fn pick(&self, dice: &mut Random) -> Step {
        let mut at = dice.below(self.total);
        for &(step, weight) in &self.weights {
            if at < weight {
                return step;
            }
            at -= weight;
        }
        Step::Commit
    }
}

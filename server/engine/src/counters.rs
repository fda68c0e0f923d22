//! What the store has counted since it was started.
//!
//! Written by the steps of the engine without a lock, read by whoever shows it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Upper bounds of [`Counters::batch_transactions`].
const BATCH_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096];
/// Upper bounds of the durations of syncs, in microseconds.
const SYNC_BOUNDS: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// Counts since the start; each only grows.
#[derive(Debug)]
pub struct Counters {
    /// Bodies that were read and were not what had been put.
    pub checksum_failures: Counter,
    /// Objects that were put into quarantine.
    pub objects_quarantined: Counter,
    /// Whole reads whose SHA-256 was checked on top of the sums of their blocks.
    pub reads_sampled: Counter,
    /// All syncs of files and directories, those of the log too.
    pub syncs: Arc<Syncs>,
    /// Bytes that were written to the log.
    pub log_bytes: Counter,
    /// How many transactions each batch of the log held.
    pub batch_transactions: Histogram,
    /// How long each sync of the log took, in microseconds.
    pub log_sync_micros: Histogram,
}

impl Default for Counters {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Counters {
    /// All at zero; `syncs` are counted elsewhere, by the disk.
    pub(crate) fn new(syncs: Arc<Syncs>) -> Self {
        Self {
            checksum_failures: Counter::default(),
            objects_quarantined: Counter::default(),
            reads_sampled: Counter::default(),
            syncs,
            log_bytes: Counter::default(),
            batch_transactions: Histogram::new(BATCH_BOUNDS),
            log_sync_micros: Histogram::new(SYNC_BOUNDS),
        }
    }
}

/// What came of syncing files and directories.
#[derive(Debug)]
pub struct Syncs {
    /// Those that failed.
    pub failures: Counter,
    /// How long each took, in microseconds.
    pub micros: Histogram,
}

impl Default for Syncs {
    fn default() -> Self {
        Self {
            failures: Counter::default(),
            micros: Histogram::new(SYNC_BOUNDS),
        }
    }
}

impl Syncs {
    /// Syncs, and counts that.
    pub(crate) fn count(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let began = Instant::now();
        let synced = sync();
        self.micros.record_micros(began.elapsed());
        synced.inspect_err(|_| self.failures.increase())
    }
}

/// How much waits inside the store, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Rows that are in the log and not in the index yet.
    pub overlay_rows: u64,
    /// Memory that they take, in bytes.
    pub overlay_bytes: u64,
    /// Records of the log behind what the index was made from.
    pub unapplied_records: u64,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increase(&self) {
        self.add(1);
    }

    /// `more` more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often which values came: counts by upper bounds that never change.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is above all of them.
    counts: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    /// An empty one; `bounds` are inclusive and ascend.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| Counter::default()).collect(),
            sum: Counter::default(),
        }
    }

    /// Counts `value`.
    pub fn record(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].increase();
        self.sum.add(value);
    }

    /// Counts a duration, in microseconds.
    pub fn record_micros(&self, duration: Duration) {
        self.record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Each bound with the number of values up to it; the last has none and counts all.
    pub fn cumulative(&self) -> Vec<(Option<u64>, u64)> {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let mut total = 0;
        let counts = self.counts.iter().map(|count| {
            total += count.value();
            total
        });
        bounds.zip(counts).collect()
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_counts_below_it() {
        let histogram = Histogram::new(&[1, 10]);
        for value in [0, 1, 2, 10, 11] {
            histogram.record(value);
        }
        let expected = vec![(Some(1), 2), (Some(10), 4), (None, 5)];
        assert_eq!(histogram.cumulative(), expected);
        assert_eq!(histogram.sum(), 24);
    }
}

//! What the store has counted since it was started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start; each only grows.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bodies that were read and were not what had been put.
    pub checksum_failures: Counter,
    /// Objects that were put into quarantine.
    pub objects_quarantined: Counter,
    /// Whole reads whose SHA-256 was checked on top of the sums of their blocks.
    pub reads_sampled: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increase(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

//! The world of a life but for its disk: a clock and randomness that follow from a seed.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    disk::simulated::{SimulatedDisk, random::Random},
    env::{self, Clock, Env},
    types::Timestamp,
};

/// Time that goes by one millisecond a look, and randomness that follows from a seed. The time goes by faster
/// where the disk is slow.
pub(crate) fn env(seed: u64, disk: &SimulatedDisk) -> Env {
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = Arc::new(Ticks(now.clone()));
    disk.set_clock(move |ms| {
        now.fetch_add(ms, Ordering::Relaxed);
    });
    Env {
        clock,
        random: Arc::new(Seeded(Mutex::new(Random::new(seed)))),
    }
}

struct Ticks(Arc<AtomicU64>);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct Seeded(Mutex<Random>);

impl env::Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut random = self.0.lock().expect("no holder panics");
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

//! Time and randomness, passed in so that a failure can be replayed from a seed.

use std::sync::Arc;

use crate::types::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Now, in milliseconds since 1970.
    fn now(&self) -> Timestamp;
}

/// Gives random bytes.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// What the engine knows of the world besides the disk.
#[derive(Clone)]
pub struct Env {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
}

impl Env {
    /// The machine's own clock and randomness.
    pub fn real() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        }
    }

    /// A random array.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    /// A random number.
    pub fn random_u32(&self) -> u32 {
        u32::from_le_bytes(self.random())
    }

    /// A random number.
    pub fn random_u64(&self) -> u64 {
        u64::from_le_bytes(self.random())
    }

    /// A unique id that sorts by time: 48 bits of milliseconds, then 80 random ones (as a UUIDv7 or ULID).
    pub fn unique_id(&self) -> u128 {
        let random = u128::from_le_bytes(self.random());
        u128::from(self.clock.now().0) << 80 | random >> 48
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| d.as_millis() as u64))
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

//! What the process has counted since its start, for those who watch it.
//!
//! The listener counts each connection and, where it writes the log line of a request, each request: a front only says
//! which operation it was. [`render`] shows it. Absent on purpose: what the store counts, which is
//! [`jay_engine::Counters`].

mod render;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jay_engine::{Counter, Histogram};

pub use render::{JayMetrics, Sources};

/// Upper bounds of the durations of requests, in microseconds.
const DURATION_BOUNDS: &[u64] = &[
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];
/// What stands for the operation of a request that has none.
const UNKNOWN: &str = "Unknown";

/// See the module.
pub struct Metrics {
    started: Instant,
    ports: RwLock<Vec<Arc<PortMetrics>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            ports: RwLock::default(),
        }
    }
}

impl Metrics {
    /// The counts of the port called `name`.
    pub fn port(&self, name: &'static str) -> Arc<PortMetrics> {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = ports.iter().find(|port| port.name == name) {
            return port.clone();
        }
        let port = Arc::new(PortMetrics::new(name));
        ports.push(port.clone());
        port
    }

    fn ports(&self) -> Vec<Arc<PortMetrics>> {
        let ports = self.ports.read().unwrap_or_else(PoisonError::into_inner);
        ports.clone()
    }
}

/// Counts of one thing for each of a few names that the program knows.
type Named<T> = RwLock<BTreeMap<&'static str, Arc<T>>>;

/// The counts of one port.
pub struct PortMetrics {
    name: &'static str,
    connections: AtomicU64,
    accepted: Counter,
    handshake_failures: Counter,
    auth_failures: Counter,
    operations: Named<Operation>,
    errors: Named<Counter>,
}

/// The counts of one operation.
struct Operation {
    ended: [Counter; Outcome::ALL.len()],
    duration_micros: Histogram,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl Default for Operation {
    fn default() -> Self {
        Self {
            ended: Default::default(),
            duration_micros: Histogram::new(DURATION_BOUNDS),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was refused.
    ClientError,
    /// It could not be done.
    ServerError,
    /// The client went away before the answer's end.
    Aborted,
}

impl Outcome {
    const ALL: [Self; 4] = [
        Self::Success,
        Self::ClientError,
        Self::ServerError,
        Self::Aborted,
    ];

    /// That of an answer with this status of HTTP, all of which was sent or not.
    pub fn of(status: u16, is_complete: bool) -> Self {
        match status {
            500.. => Self::ServerError,
            400..500 => Self::ClientError,
            100..400 if is_complete => Self::Success,
            _ => Self::Aborted,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Aborted => "aborted",
        }
    }
}

/// A request that is over.
pub struct Ended {
    /// Its name in S3 or in the admin API; "" when it has none.
    pub operation: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// The code of the error that was answered.
    pub error_code: Option<&'static str>,
    /// The caller's proof of who it is was wrong.
    pub auth_failed: bool,
    /// From its head to the end of its answer.
    pub took: Duration,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
}

impl PortMetrics {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            connections: AtomicU64::new(0),
            accepted: Counter::default(),
            handshake_failures: Counter::default(),
            auth_failures: Counter::default(),
            operations: RwLock::default(),
            errors: RwLock::default(),
        }
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connection(self: &Arc<Self>) -> OpenConnection {
        self.accepted.increase();
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    /// Connections that are open, those that were accepted, and those whose handshake failed.
    #[cfg(test)]
    pub fn connection_counts(&self) -> (u64, u64, u64) {
        (
            self.connections.load(Ordering::Relaxed),
            self.accepted.value(),
            self.handshake_failures.value(),
        )
    }

    /// Counts a connection whose TLS handshake failed.
    pub fn handshake_failed(&self) {
        self.handshake_failures.increase();
    }

    /// Counts a request.
    pub fn request(&self, ended: &Ended) {
        let name = match ended.operation {
            "" => UNKNOWN,
            name => name,
        };
        let operation = named(&self.operations, name);
        operation.ended[ended.outcome as usize].increase();
        operation.duration_micros.record_micros(ended.took);
        operation.bytes_in.add(ended.bytes_in);
        operation.bytes_out.add(ended.bytes_out);
        if let Some(code) = ended.error_code {
            named(&self.errors, code).increase();
        }
        if ended.auth_failed {
            self.auth_failures.increase();
        }
    }
}

/// The count of `name`, made when it is the first.
fn named<T: Default>(all: &Named<T>, name: &'static str) -> Arc<T> {
    let known = all.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(name) {
        return found.clone();
    }
    drop(known);
    let mut all = all.write().unwrap_or_else(PoisonError::into_inner);
    all.entry(name).or_default().clone()
}

/// Everything that has been counted by name.
fn all<T>(named: &Named<T>) -> Vec<(&'static str, Arc<T>)> {
    let named = named.read().unwrap_or_else(PoisonError::into_inner);
    named
        .iter()
        .map(|(name, count)| (*name, count.clone()))
        .collect()
}

/// A connection, for as long as it is open.
pub struct OpenConnection(Arc<PortMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

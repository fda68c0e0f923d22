//! Clients in a closed loop: each has one record outstanding and sends the next when that is acknowledged. Raw commits
//! and the engine are driven by the same code, so that its cost is in both.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::row::{histogram, record};

/// What the clients saw.
pub struct Seen {
    /// Acknowledged within the measured time.
    pub count: u64,
    /// How long that was.
    pub elapsed: Duration,
    /// From sending to acknowledgement, in nanoseconds.
    pub latencies_ns: Histogram<u64>,
}

impl Seen {
    /// Acknowledgements per second.
    pub fn per_s(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs `clients` tasks that each call `step` with a number of their own, again and again, for `warmup` and then
/// `duration`.
pub async fn drive<S, F>(
    clients: u32,
    warmup: Duration,
    duration: Duration,
    step: S,
) -> anyhow::Result<Seen>
where
    S: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let step = Arc::new(step);
    let begin = Instant::now() + warmup;
    let end = begin + duration;
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let step = step.clone();
        tasks.spawn(async move {
            let mut latencies = histogram();
            let mut number = u64::from(client) << 40;
            let mut sent = Instant::now();
            let mut last = begin;
            while sent < end {
                step(number).await?;
                number += 1;
                let now = Instant::now();
                if sent >= begin {
                    record(&mut latencies, now - sent);
                    last = now;
                }
                sent = now;
            }
            anyhow::Ok((latencies, last))
        });
    }
    let (mut latencies_ns, mut last) = (histogram(), end);
    while let Some(ended) = tasks.join_next().await {
        let (latencies, at) = ended??;
        latencies_ns.add(&latencies)?;
        last = last.max(at);
    }
    Ok(Seen {
        count: latencies_ns.len(),
        elapsed: last - begin,
        latencies_ns,
    })
}

/// A runtime as the server has it.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

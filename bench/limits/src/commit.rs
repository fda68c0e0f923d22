//! Raw group commit: the limit of every durable small write.
//!
//! Clients hand a record each to one committer thread, which takes all that wait, writes them with one `pwrite` behind
//! the last batch, calls `fdatasync` once and acknowledges them. No index, no sums, no answer to anybody.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use hdrhistogram::Histogram;
use rustix::fs::{FallocateFlags, fallocate};
use tokio::sync::oneshot;

use crate::{
    clients::{Seen, drive, runtime},
    row::{Row, histogram, record},
};

/// A body of 1 KiB with its key, metadata and framing.
pub const RECORD_BYTES: usize = 1_438;
/// Batches begin at multiples of this.
const BLOCK_BYTES: usize = 4 << 10;
/// Size of a log file.
const FILE_BYTES: u64 = 128 << 20;
/// How often the preparations take turns.
const TURNS: u32 = 4;
/// Most of one batch.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// How a log file is made ready for its records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preparation {
    /// Zeros written and synced before the run, the file used over and over: the limit.
    Zeroed,
    /// The same, but file after file, the next zeroed by a thread while the last is in use: what a log that zeroes pays.
    ZeroedAhead,
    /// File after file, each only `fallocate`d: its extents stay unwritten until the records come.
    Allocated,
    /// File after file, each grown by every batch.
    Growing,
}

impl Preparation {
    const ALL: [Self; 4] = [
        Self::Zeroed,
        Self::ZeroedAhead,
        Self::Allocated,
        Self::Growing,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Zeroed => "zeroed",
            Self::ZeroedAhead => "zeroed-ahead",
            Self::Allocated => "fallocate",
            Self::Growing => "growing",
        }
    }

    fn make(self, path: &Path) -> anyhow::Result<File> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        match self {
            Self::Zeroed | Self::ZeroedAhead => {
                let zeros = vec![0; 1 << 20];
                for at in (0..FILE_BYTES).step_by(zeros.len()) {
                    file.write_all_at(&zeros, at)?;
                }
            }
            Self::Allocated => fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?,
            Self::Growing => {}
        }
        file.sync_all()?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(file)
    }
}

/// What a run of commits saw.
pub struct Commits {
    /// By the clients.
    pub seen: Seen,
    /// Write and sync of each batch, in nanoseconds.
    batches_ns: Histogram<u64>,
    /// Bytes written in all batches.
    bytes: u64,
    /// How long the first file took to make.
    prepared_in: Duration,
}

impl Commits {
    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.seen.count += other.seen.count;
        self.seen.elapsed += other.seen.elapsed;
        self.seen.latencies_ns.add(&other.seen.latencies_ns)?;
        self.batches_ns.add(&other.batches_ns)?;
        self.bytes += other.bytes;
        self.prepared_in += other.prepared_in;
        Ok(())
    }
}

/// Measures all preparations at 1, 16 and 64 clients; they take turns, so that all meet the same machine.
pub fn limits(dir: &Path, duration: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for clients in [1, 16, 64] {
        let mut sums: [Option<Commits>; 4] = Default::default();
        for _ in 0..TURNS {
            for (sum, preparation) in sums.iter_mut().zip(Preparation::ALL) {
                let commits = run(dir, preparation, clients, Duration::ZERO, duration / TURNS)?;
                match sum {
                    Some(sum) => sum.add(&commits)?,
                    None => *sum = Some(commits),
                }
            }
        }
        let sums = sums.iter().flatten().zip(Preparation::ALL);
        rows.extend(sums.map(|(commits, preparation)| {
            let batches = commits.batches_ns.len().max(1) as f64;
            let seen = &commits.seen;
            let row = Row {
                name: format!("commit {} c={clients}", preparation.name()),
                per_s: seen.per_s(),
                unit: "records",
                mib_per_s: Some(seen.per_s() * RECORD_BYTES as f64 / (1 << 20) as f64),
                note: format!(
                    "{:.1} records and {:.1} KiB a batch; a file ready in {:.0} ms",
                    seen.count as f64 / batches,
                    commits.bytes as f64 / batches / 1024.0,
                    commits.prepared_in.as_secs_f64() * 1e3 / f64::from(TURNS),
                ),
                ..Row::default()
            };
            row.with_latencies(&commits.batches_ns)
        }));
    }
    Ok(rows)
}

/// One run; its files are in `dir` until the end.
pub fn run(
    dir: &Path,
    preparation: Preparation,
    clients: u32,
    warmup: Duration,
    duration: Duration,
) -> anyhow::Result<Commits> {
    let dir = tempfile::Builder::new().prefix("commit-").tempdir_in(dir)?;
    let start = Instant::now();
    let log = Log::open(dir.path(), preparation)?;
    let prepared_in = start.elapsed();
    let (queue, waiting) = channel();
    let committer = thread::spawn(move || commit(log, waiting));
    let queue = Arc::new(queue);
    let seen = runtime()?.block_on(drive(clients, warmup, duration, move |number| {
        let queue: Arc<Sender<Waiting>> = queue.clone();
        async move {
            let (acknowledge, acknowledged) = oneshot::channel();
            queue
                .send(Waiting {
                    number,
                    acknowledge,
                })
                .ok()
                .context("the committer is gone")?;
            acknowledged.await.context("the commit failed")
        }
    }));
    // The clients are gone and their queue with them, so the committer has ended too; its error says more than theirs.
    let (batches_ns, bytes) = committer.join().expect("the committer does not panic")?;
    Ok(Commits {
        seen: seen?,
        batches_ns,
        bytes,
        prepared_in,
    })
}

/// A record in the queue.
struct Waiting {
    number: u64,
    acknowledge: oneshot::Sender<()>,
}

fn commit(mut log: Log, queue: Receiver<Waiting>) -> anyhow::Result<(Histogram<u64>, u64)> {
    let mut latencies = histogram();
    let mut bytes = 0;
    let mut batch = Vec::with_capacity(BATCH_BYTES_MAX);
    let mut acknowledge = Vec::new();
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some(waiting) = next {
            let end = batch.len() + RECORD_BYTES;
            batch.extend_from_slice(&waiting.number.to_le_bytes());
            batch.resize(end, b'x');
            acknowledge.push(waiting.acknowledge);
            let full = batch.len() + RECORD_BYTES > BATCH_BYTES_MAX;
            next = if full { None } else { queue.try_recv().ok() };
        }
        batch.resize(batch.len().next_multiple_of(BLOCK_BYTES), 0);
        let start = Instant::now();
        log.append(&batch)?;
        record(&mut latencies, start.elapsed());
        bytes += batch.len() as u64;
        for waiting in acknowledge.drain(..) {
            let _ = waiting.send(()); // its client may have reached the end
        }
        batch.clear();
    }
    Ok((latencies, bytes))
}

/// The file in use, and those to come.
struct Log {
    file: File,
    at: u64,
    /// Files that a thread makes one ahead; none when one file is used over and over.
    next: Option<Receiver<anyhow::Result<File>>>,
}

impl Log {
    fn open(dir: &Path, preparation: Preparation) -> anyhow::Result<Self> {
        let dir = dir.to_owned();
        let path = move |number: u32| dir.join(format!("{number:08}.log"));
        let file = preparation.make(&path(0))?;
        if preparation == Preparation::Zeroed {
            return Ok(Self {
                file,
                at: 0,
                next: None,
            });
        }
        let (made, next) = sync_channel(0);
        // Ends when the log is dropped: then nobody takes the next file.
        thread::spawn(move || {
            for number in 1.. {
                if made.send(preparation.make(&path(number))).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            file,
            at: 0,
            next: Some(next),
        })
    }

    fn append(&mut self, batch: &[u8]) -> anyhow::Result<()> {
        if self.at + batch.len() as u64 > FILE_BYTES {
            if let Some(next) = &self.next {
                self.file = next
                    .recv()
                    .context("the thread that makes files is gone")??;
            }
            self.at = 0;
        }
        self.file.write_all_at(batch, self.at)?;
        self.file.sync_data()?;
        self.at += batch.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preparation_commits_what_its_clients_send() {
        let dir = tempfile::tempdir().unwrap();
        for preparation in [Preparation::Allocated, Preparation::Growing] {
            let duration = Duration::from_millis(50);
            let commits = run(dir.path(), preparation, 4, Duration::ZERO, duration).unwrap();
            assert!(commits.seen.count > 0);
            assert!(commits.bytes >= commits.seen.count * RECORD_BYTES as u64);
            assert_eq!(commits.bytes % BLOCK_BYTES as u64, 0);
        }
    }
}

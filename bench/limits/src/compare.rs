//! One interleaved run: raw group commit, the engine alone and Jay over S3 take turns in short rounds, so that all of
//! them meet the machine in all its moods, and the ratios are worth more than the figures.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use crate::{
    clients::Seen,
    commit::{self, Preparation},
    engine::{self, Keys},
    process::{Binary, Memory, Server},
};

/// Before each round is measured.
const WARMUP: Duration = Duration::from_millis(300);

/// Options of `jay-limits compare`.
#[derive(clap::Args)]
pub struct CompareArgs {
    /// The jay binary, for the server and for `jay bench`
    #[arg(long, value_name = "PATH")]
    jay: PathBuf,
    /// An argument that starts the server, when a bare `jay` does not
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    jay_arg: Vec<String>,
    /// Rounds of each path at each concurrency
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Length of a round in seconds
    #[arg(long, default_value_t = 2.0, value_parser = crate::seconds)]
    round_seconds: f64,
    /// Clients with one outstanding PUT each
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    concurrency: Vec<u32>,
    /// Keys that the PUTs are spread over
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// What takes turns
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "raw,engine,s3",
        value_enum
    )]
    contenders: Vec<Contender>,
    /// Clients of the memory measurement; 0 leaves it out
    #[arg(long, default_value_t = 32)]
    memory_clients: u32,
    /// Size of the bodies of the memory measurement in MiB
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
}

/// What takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Contender {
    /// Raw group commit of records of the same size into a zeroed file.
    Raw,
    /// PUTs of 1 KiB by the engine in this process.
    Engine,
    /// The same over S3, from `jay bench`.
    S3,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Engine => "engine",
            Self::S3 => "s3",
        }
    }
}

/// What one round saw.
#[derive(Clone, Debug, Serialize)]
struct Round {
    /// Acknowledged per second.
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Until everything acknowledged was also applied, and the store closed.
    closed_in_s: Option<f64>,
    /// Per second when that time counts too.
    per_s_with_close: Option<f64>,
}

/// One contender at one concurrency: the medians of its rounds.
#[derive(Debug, Serialize)]
struct Line {
    contender: Contender,
    concurrency: u32,
    per_s: f64,
    per_s_min: f64,
    per_s_max: f64,
    p50_ms: f64,
    p99_ms: f64,
    closed_in_s: Option<f64>,
    per_s_with_close: Option<f64>,
    /// Median of the ratios to the raw round of the same turn.
    to_raw: Option<f64>,
    /// The same with the time to close.
    to_raw_with_close: Option<f64>,
    rounds: Vec<Round>,
}

/// Memory of the server under large bodies.
#[derive(Debug, Serialize)]
struct LargeBodies {
    clients: u32,
    body_mib: u64,
    /// Before the first body.
    idle: Memory,
    /// Uploads only.
    upload: Memory,
    upload_mib_per_s: f64,
    /// Downloads, and before them the uploads of what is downloaded.
    download: Memory,
    download_mib_per_s: f64,
}

/// The result of an interleaved run.
#[derive(Debug, Serialize)]
pub struct Comparison {
    cpus: usize,
    kernel: String,
    round_s: f64,
    lines: Vec<Line>,
    large_bodies: Option<LargeBodies>,
}

/// Runs all rounds and the memory measurement in `dir`.
pub fn run(args: &CompareArgs, dir: &Path) -> anyhow::Result<Comparison> {
    let binary = Binary::at(&args.jay, &args.jay_arg)?;
    let mut lines = Vec::new();
    for &concurrency in &args.concurrency {
        lines.extend(take_turns(args, &binary, dir, concurrency)?);
    }
    let large_bodies = match args.memory_clients {
        0 => None,
        clients => Some(large_bodies(&binary, dir, clients, args.memory_mib)?),
    };
    Ok(Comparison {
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .into(),
        round_s: args.round_seconds,
        lines,
        large_bodies,
    })
}

/// All rounds at one concurrency. Each turn begins with another contender, so that none always follows the same one.
fn take_turns(
    args: &CompareArgs,
    binary: &Binary,
    dir: &Path,
    concurrency: u32,
) -> anyhow::Result<Vec<Line>> {
    let contenders = &args.contenders;
    let stores = tempfile::Builder::new().prefix("stores-").tempdir_in(dir)?;
    let mut rounds = vec![Vec::new(); contenders.len()];
    for turn in 0..args.rounds as usize {
        for step in 0..contenders.len() {
            let at = (turn + step) % contenders.len();
            let name = contenders[at].name();
            let what = format!(
                "{name}, {concurrency} clients, turn {} of {}",
                turn + 1,
                args.rounds
            );
            eprintln!("{what}");
            let round = match contenders[at] {
                Contender::Raw => raw_round(args, stores.path(), concurrency),
                Contender::Engine => engine_round(args, stores.path(), turn, concurrency),
                Contender::S3 => s3_round(args, binary, stores.path(), concurrency),
            };
            rounds[at].push(round.context(what)?);
        }
    }
    let raw = contenders
        .iter()
        .position(|&contender| contender == Contender::Raw);
    let raw = raw.map(|at| rounds[at].clone());
    Ok(contenders
        .iter()
        .zip(rounds)
        .map(|(&contender, rounds)| Line::new(contender, concurrency, rounds, raw.as_deref()))
        .collect())
}

fn raw_round(args: &CompareArgs, dir: &Path, concurrency: u32) -> anyhow::Result<Round> {
    let duration = Duration::from_secs_f64(args.round_seconds);
    let commits = commit::run(dir, Preparation::Zeroed, concurrency, WARMUP, duration)?;
    Ok(Round::new(&commits.seen, None))
}

fn engine_round(
    args: &CompareArgs,
    dir: &Path,
    turn: usize,
    concurrency: u32,
) -> anyhow::Result<Round> {
    let duration = Duration::from_secs_f64(args.round_seconds);
    let keys = Keys {
        folder: format!("turn-{turn}"),
        count: args.keys,
    };
    let puts = engine::run(&dir.join("engine"), keys, concurrency, WARMUP, duration)?;
    Ok(Round::new(&puts.seen, Some(puts.closed_in)))
}

fn s3_round(
    args: &CompareArgs,
    binary: &Binary,
    dir: &Path,
    concurrency: u32,
) -> anyhow::Result<Round> {
    let server = Server::start(binary, &dir.join("s3"))?;
    let report = server.bench(&[
        "--mix=put=1".into(),
        format!("--size={}", engine::BODY_BYTES),
        format!("--keys={}", args.keys),
        format!("--concurrency={concurrency}"),
        format!("--warmup={}ms", WARMUP.as_millis()),
        format!("--duration={}s", args.round_seconds),
        "--keep".into(),
    ])?;
    let closed_in = server.stop()?.as_secs_f64();
    let (count, elapsed) = (
        figure(&report, "/total/count")?,
        figure(&report, "/elapsed_s")?,
    );
    Ok(Round {
        per_s: figure(&report, "/total/ops_per_s")?,
        p50_ms: figure(&report, "/total/latency_ms/p50")?,
        p99_ms: figure(&report, "/total/latency_ms/p99")?,
        closed_in_s: Some(closed_in),
        per_s_with_close: Some(count / (elapsed + closed_in)),
    })
}

fn figure(report: &Value, pointer: &str) -> anyhow::Result<f64> {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    value.with_context(|| format!("the report of jay bench has no {pointer}"))
}

/// The server's memory while `clients` clients send and fetch bodies of `mib` MiB.
fn large_bodies(
    binary: &Binary,
    dir: &Path,
    clients: u32,
    mib: u64,
) -> anyhow::Result<LargeBodies> {
    let stores = tempfile::Builder::new().prefix("stores-").tempdir_in(dir)?;
    // Each client uploads twice, then once more for the downloads; what was overwritten may not be collected yet.
    let needed = (u64::from(clients) * mib * 4) << 20;
    let disk = rustix::fs::statvfs(stores.path())?;
    let free = disk.f_bavail * disk.f_frsize;
    if free < needed {
        bail!(
            "{clients} bodies of {mib} MiB may take {} GiB here and {} GiB are free: \
             choose another --dir or --memory-clients 0",
            needed >> 30,
            free >> 30
        );
    }
    let server = Server::start(binary, &stores.path().join("large"))?;
    let load = |mix: &str| {
        eprintln!("memory, {clients} clients, {mib} MiB, {mix}");
        server.bench(&[
            format!("--mix={mix}"),
            format!("--size={mib}MiB"),
            format!("--keys={clients}"),
            format!("--concurrency={clients}"),
            format!("--requests={}", clients * 2),
            "--warmup=0s".into(),
            "--timeout=10m".into(),
        ])
    };
    let ((), idle) = server.watch_memory(|| std::thread::sleep(WARMUP))?;
    let (uploads, upload) = server.watch_memory(|| load("put=1"))?;
    let (downloads, download) = server.watch_memory(|| load("get=1"))?;
    server.stop()?;
    Ok(LargeBodies {
        clients,
        body_mib: mib,
        idle,
        upload,
        upload_mib_per_s: figure(&uploads?, "/total/mib_per_s")?,
        download,
        download_mib_per_s: figure(&downloads?, "/total/mib_per_s")?,
    })
}

impl Round {
    fn new(seen: &Seen, closed_in: Option<Duration>) -> Self {
        let ms = |quantile| seen.latencies_ns.value_at_quantile(quantile) as f64 / 1e6;
        Self {
            per_s: seen.per_s(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            closed_in_s: closed_in.map(|closed_in| closed_in.as_secs_f64()),
            per_s_with_close: closed_in
                .map(|closed_in| seen.count as f64 / (seen.elapsed + closed_in).as_secs_f64()),
        }
    }
}

impl Line {
    fn new(
        contender: Contender,
        concurrency: u32,
        rounds: Vec<Round>,
        raw: Option<&[Round]>,
    ) -> Self {
        let of = |value: fn(&Round) -> Option<f64>| median(rounds.iter().filter_map(value));
        let to_raw = |value: fn(&Round) -> Option<f64>| {
            let pairs = rounds
                .iter()
                .zip(raw.filter(|_| contender != Contender::Raw)?);
            median(pairs.filter_map(|(round, raw)| Some(value(round)? / raw.per_s)))
        };
        let rates = rounds.iter().map(|round| round.per_s);
        Self {
            contender,
            concurrency,
            per_s: of(|round| Some(round.per_s)).unwrap_or(0.0),
            per_s_min: rates.clone().fold(f64::INFINITY, f64::min),
            per_s_max: rates.fold(0.0, f64::max),
            p50_ms: of(|round| Some(round.p50_ms)).unwrap_or(0.0),
            p99_ms: of(|round| Some(round.p99_ms)).unwrap_or(0.0),
            closed_in_s: of(|round| round.closed_in_s),
            per_s_with_close: of(|round| round.per_s_with_close),
            to_raw: to_raw(|round| Some(round.per_s)),
            to_raw_with_close: to_raw(|round| round.per_s_with_close),
            rounds,
        }
    }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "durable PUT of 1 KiB, medians of interleaved rounds of {} s; {} CPUs, Linux {}\n",
            self.round_s, self.cpus, self.kernel
        )?;
        writeln!(
            f,
            "{:<8}{:>8}{:>11}{:>20}{:>9}{:>9}{:>8}{:>10}{:>11}{:>11}",
            "",
            "clients",
            "per s",
            "min..max",
            "p50 ms",
            "p99 ms",
            "to raw",
            "close s",
            "with close",
            "to raw"
        )?;
        for line in &self.lines {
            let figure = |value: Option<f64>, digits| match value {
                Some(value) => format!("{value:.digits$}"),
                None => "-".into(),
            };
            writeln!(
                f,
                "{:<8}{:>8}{:>11.0}{:>20}{:>9.3}{:>9.3}{:>8}{:>10}{:>11}{:>11}",
                line.contender.name(),
                line.concurrency,
                line.per_s,
                format!("{:.0}..{:.0}", line.per_s_min, line.per_s_max),
                line.p50_ms,
                line.p99_ms,
                figure(line.to_raw, 2),
                figure(line.closed_in_s, 2),
                figure(line.per_s_with_close, 0),
                figure(line.to_raw_with_close, 2),
            )?;
        }
        let Some(large) = &self.large_bodies else {
            return Ok(());
        };
        writeln!(
            f,
            "\nresident set of the server, {} clients, bodies of {} MiB\n\n{:<10}{:>10}{:>10}{:>10}",
            large.clients, large.body_mib, "", "mean MiB", "peak MiB", "MiB/s"
        )?;
        for (name, memory, rate) in [
            ("idle", large.idle, None),
            ("upload", large.upload, Some(large.upload_mib_per_s)),
            ("download", large.download, Some(large.download_mib_per_s)),
        ] {
            let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
            let rate = rate.map_or("-".into(), |rate| format!("{rate:.0}"));
            let (mean, peak) = (mib(memory.mean_bytes), mib(memory.peak_bytes));
            writeln!(f, "{name:<10}{mean:>10.1}{peak:>10.1}{rate:>10}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(per_s: f64) -> Round {
        Round {
            per_s,
            p50_ms: 1.0,
            p99_ms: 2.0,
            closed_in_s: None,
            per_s_with_close: None,
        }
    }

    #[test]
    fn ratios_are_of_rounds_of_the_same_turn() {
        // The machine slows down tenfold in the second turn: each path's own median hides that, the ratio does not.
        let raw = [round(1000.0), round(100.0), round(1000.0)];
        let engine = vec![round(500.0), round(50.0), round(400.0)];
        let line = Line::new(Contender::Engine, 16, engine, Some(&raw));
        assert_eq!(
            (line.per_s, line.per_s_min, line.per_s_max),
            (400.0, 50.0, 500.0)
        );
        assert_eq!((line.to_raw, line.to_raw_with_close), (Some(0.5), None));
        assert_eq!(
            Line::new(Contender::Raw, 16, raw.to_vec(), Some(&raw)).to_raw,
            None
        );
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median([].into_iter()), None);
    }
}

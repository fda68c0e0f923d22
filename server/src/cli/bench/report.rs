//! What a load saw: counts, errors by code, throughput, percentiles of latency; as a table and as JSON.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{BenchArgs, client::Failure, load::Done, pace::Pace, parse::Operation};

/// Latencies are kept in microseconds with this many significant digits.
const DIGITS: u8 = 3;

/// What one worker saw; merged when all have ended.
#[derive(Default)]
pub struct Recorder {
    operations: BTreeMap<Operation, Tally>,
    /// When the last answer came.
    last: Option<Instant>,
}

struct Tally {
    latency_us: Histogram<u64>,
    bytes: u64,
    missed: u64,
    /// By code: how many, and what the first one said.
    errors: BTreeMap<String, (u64, String)>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency_us = Histogram::new(DIGITS).expect("3 digits are within 0 to 5");
        Self {
            latency_us,
            bytes: 0,
            missed: 0,
            errors: BTreeMap::new(),
        }
    }
}

impl Tally {
    fn merge(&mut self, other: &Self) {
        self.latency_us
            .add(&other.latency_us)
            .expect("histograms grow as needed");
        self.bytes += other.bytes;
        self.missed += other.missed;
        for (code, (count, detail)) in &other.errors {
            self.errors
                .entry(code.clone())
                .or_insert_with(|| (0, detail.clone()))
                .0 += count;
        }
    }
}

impl Recorder {
    /// Notes one request that was answered `now`.
    pub fn record(
        &mut self,
        operation: Operation,
        now: Instant,
        latency: Duration,
        outcome: Result<Done, Failure>,
    ) {
        self.last = self.last.max(Some(now));
        let tally = self.operations.entry(operation).or_default();
        match outcome {
            Ok(done) => {
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                tally
                    .latency_us
                    .record(micros)
                    .expect("histograms grow as needed");
                tally.bytes += done.bytes;
                tally.missed += u64::from(done.missed);
            }
            Err(failure) => {
                let code = failure.code.into_owned();
                tally.errors.entry(code).or_insert((0, failure.detail)).0 += 1;
            }
        }
    }

    /// Adds what another worker saw.
    pub fn merge(&mut self, other: &Self) {
        self.last = self.last.max(other.last);
        for (&operation, tally) in &other.operations {
            self.operations.entry(operation).or_default().merge(tally);
        }
    }
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    endpoint: String,
    bucket: String,
    mix: String,
    size: String,
    concurrency: u32,
    /// `closed` or `open`.
    #[serde(rename = "loop")]
    pace: &'static str,
    /// Requests per second asked for, in the open loop.
    rate: Option<f64>,
    warmup_s: f64,
    elapsed_s: f64,
    /// Requests whose time had come but that no worker was free to send.
    unsent: u64,
    /// Requests sent anew because a kept-alive connection was closed under them.
    reconnects: u64,
    /// By name.
    operations: BTreeMap<&'static str, Line>,
    /// All operations together.
    pub total: Line,
}

/// One operation of a report.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Successful requests.
    pub count: u64,
    /// Of these, requests for a deleted key that were rightly told so.
    missed: u64,
    bytes: u64,
    /// Successful requests per second.
    pub ops_per_s: f64,
    mib_per_s: f64,
    /// Of successful requests.
    pub latency_ms: Latency,
    errors: BTreeMap<String, Errors>,
}

#[derive(Debug, Serialize)]
struct Errors {
    count: u64,
    /// What the first one said.
    example: String,
}

/// Of successful requests.
#[derive(Debug, Serialize)]
pub struct Latency {
    mean: f64,
    /// Half of the requests took no longer.
    pub p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl Line {
    fn new(tally: &Tally, elapsed: Duration) -> Self {
        let per_second = |amount: f64| match elapsed.as_secs_f64() {
            0.0 => 0.0,
            seconds => amount / seconds,
        };
        let histogram = &tally.latency_us;
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let error = |(code, (count, example)): (&String, &(u64, String))| {
            (
                code.clone(),
                Errors {
                    count: *count,
                    example: example.clone(),
                },
            )
        };
        Self {
            count: histogram.len(),
            missed: tally.missed,
            bytes: tally.bytes,
            ops_per_s: per_second(histogram.len() as f64),
            mib_per_s: per_second(tally.bytes as f64 / (1 << 20) as f64),
            latency_ms: Latency {
                mean: histogram.mean() / 1000.0,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                max: histogram.max() as f64 / 1000.0,
            },
            errors: tally.errors.iter().map(error).collect(),
        }
    }

    /// Failed requests of all codes.
    pub fn error_count(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum()
    }
}

impl Report {
    /// Sums up what the workers saw.
    pub fn new(
        args: &BenchArgs,
        endpoint: &str,
        recorder: Recorder,
        pace: &Pace,
        reconnects: u64,
    ) -> Self {
        let elapsed = pace.elapsed(recorder.last);
        let mut total = Tally::default();
        recorder
            .operations
            .values()
            .for_each(|tally| total.merge(tally));
        Self {
            endpoint: endpoint.to_owned(),
            bucket: args.bucket.clone(),
            mix: args.mix.to_string(),
            size: args.size.to_string(),
            concurrency: args.workers(),
            pace: if args.rate.is_some() {
                "open"
            } else {
                "closed"
            },
            rate: args.rate,
            warmup_s: args.warmup.as_secs_f64(),
            elapsed_s: elapsed.as_secs_f64(),
            unsent: pace.unsent(),
            reconnects,
            operations: recorder
                .operations
                .iter()
                .map(|(operation, tally)| (operation.name(), Line::new(tally, elapsed)))
                .collect(),
            total: Line::new(&total, elapsed),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} on {}, {} workers, {:.1} s after {:.1} s of warm-up",
            self.mix, self.size, self.endpoint, self.concurrency, self.elapsed_s, self.warmup_s,
        )?;
        match self.rate {
            Some(rate) => writeln!(
                f,
                "open loop at {rate} requests/s: latency counts from the intended time of sending"
            )?,
            None => writeln!(
                f,
                "closed loop: each worker waits for its answer, so a stall also stops the asking \
                 (--rate measures latency without that omission)"
            )?,
        }
        if self.unsent > 0 {
            writeln!(
                f,
                "{} requests were due but never sent: {} workers cannot keep this rate here, \
                 and the latencies below are too good",
                self.unsent, self.concurrency
            )?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:<7}{:>10}{:>8}{:>11}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "",
            "count",
            "errors",
            "op/s",
            "MiB/s",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms"
        )?;
        let mut lines: Vec<_> = Operation::ALL
            .iter()
            .filter_map(|operation| {
                Some((operation.name(), self.operations.get(operation.name())?))
            })
            .collect();
        if lines.len() != 1 {
            lines.push(("total", &self.total));
        }
        for (name, line) in &lines {
            let latency = &line.latency_ms;
            writeln!(
                f,
                "{name:<7}{:>10}{:>8}{:>11.1}{:>10.1}{:>10.3}{:>10.3}{:>10.3}{:>10.3}{:>10.3}",
                line.count,
                line.error_count(),
                line.ops_per_s,
                line.mib_per_s,
                latency.p50,
                latency.p90,
                latency.p99,
                latency.p99_9,
                latency.max,
            )?;
        }
        if self.total.missed > 0 {
            writeln!(
                f,
                "{} requests asked for a deleted key and were told so",
                self.total.missed
            )?;
        }
        if self.reconnects > 0 {
            writeln!(
                f,
                "{} kept-alive connections were closed under a request",
                self.reconnects
            )?;
        }
        for (name, line) in &self.operations {
            for (code, errors) in &line.errors {
                writeln!(f, "{name}: {} x {code}: {}", errors.count, errors.example)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_up_by_operation() {
        let now = Instant::now();
        let mut recorders = [Recorder::default(), Recorder::default()];
        for ms in 1..=1000 {
            let done = Done {
                bytes: 1024,
                missed: false,
            };
            let recorder = &mut recorders[ms % 2];
            recorder.record(
                Operation::Put,
                now,
                Duration::from_millis(ms as u64),
                Ok(done),
            );
        }
        let failure = || Failure {
            code: "SlowDown".into(),
            detail: "Please reduce your request rate.".into(),
            status: None,
        };
        let late = now + Duration::from_secs(2);
        for recorder in &mut recorders {
            recorder.record(Operation::Get, late, Duration::from_secs(9), Err(failure()));
        }
        let [mut all, other] = recorders;
        all.merge(&other);
        assert_eq!(all.last, Some(late));

        let put = Line::new(&all.operations[&Operation::Put], Duration::from_secs(10));
        assert_eq!(
            (put.count, put.bytes, put.error_count()),
            (1000, 1_024_000, 0)
        );
        assert_eq!(put.ops_per_s, 100.0);
        assert!((put.mib_per_s - 0.09765625).abs() < 1e-9);
        let within = |value: f64, expected: f64| (value - expected).abs() <= expected / 500.0;
        assert!(within(put.latency_ms.p50, 500.0), "{:?}", put.latency_ms);
        assert!(within(put.latency_ms.p90, 900.0), "{:?}", put.latency_ms);
        assert!(within(put.latency_ms.p99, 990.0), "{:?}", put.latency_ms);
        assert!(within(put.latency_ms.p99_9, 999.0), "{:?}", put.latency_ms);
        assert!(within(put.latency_ms.max, 1000.0), "{:?}", put.latency_ms);

        let get = Line::new(&all.operations[&Operation::Get], Duration::from_secs(10));
        assert_eq!((get.count, get.error_count()), (0, 2));
        assert_eq!(
            get.errors["SlowDown"].example,
            "Please reduce your request rate."
        );
        assert_eq!(get.latency_ms.max, 0.0);
    }

    #[test]
    fn nothing_measured_is_reported_as_nothing() {
        let line = Line::new(&Tally::default(), Duration::ZERO);
        assert_eq!(
            (line.count, line.ops_per_s, line.latency_ms.p99),
            (0, 0.0, 0.0)
        );
    }
}

//! One figure of the limits, and the table of all.

use std::{
    io::{self, Write},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// A rate and, where single steps were timed, their latencies.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// What was measured: `commit zeroed c=64`.
    pub name: String,
    /// Steps per second.
    pub per_s: f64,
    /// What a step is: records, files, round trips.
    pub unit: &'static str,
    /// Bytes of payload per second.
    pub mib_per_s: Option<f64>,
    /// Of a step, the tenth percentile: near to what an idle machine takes.
    pub p10_ms: Option<f64>,
    /// Median of a step.
    pub p50_ms: Option<f64>,
    /// The 99th percentile of a step.
    pub p99_ms: Option<f64>,
    /// What else there is to know.
    pub note: String,
}

impl Row {
    /// Adds percentiles of a histogram of nanoseconds.
    pub fn with_latencies(mut self, latencies_ns: &Histogram<u64>) -> Self {
        let at = |quantile| Some(latencies_ns.value_at_quantile(quantile) as f64 / 1e6);
        (self.p10_ms, self.p50_ms, self.p99_ms) = (at(0.1), at(0.5), at(0.99));
        self
    }
}

/// An empty histogram of nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("3 digits are within 0 to 5")
}

/// Notes a latency.
pub fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    histogram.record(nanos).expect("histograms grow as needed");
}

/// Prints all rows as a table.
pub fn print(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    writeln!(
        out,
        "{:<32}{:>12} {:<12}{:>9}{:>9}{:>9}{:>9}",
        "", "per second", "", "MiB/s", "p10 ms", "p50 ms", "p99 ms"
    )?;
    for row in rows {
        let figure = |value: Option<f64>, digits| match value {
            Some(value) => format!("{value:.digits$}"),
            None => "-".into(),
        };
        writeln!(
            out,
            "{:<32}{:>12.0} {:<12}{:>9}{:>9}{:>9}{:>9}  {}",
            row.name,
            row.per_s,
            row.unit,
            figure(row.mib_per_s, 0),
            figure(row.p10_ms, 3),
            figure(row.p50_ms, 3),
            figure(row.p99_ms, 3),
            row.note,
        )?;
    }
    Ok(())
}

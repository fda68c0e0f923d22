//! The counts as text: Jay's JSON with the names that it always had, and Prometheus.
//!
//! Called by the admin front; both are plain functions of what was counted.

use std::{
    fmt::{Display, Write as _},
    sync::{Arc, atomic::Ordering},
};

use jay_engine::{Counters, Engine, Histogram};
use serde::Serialize;

use super::{Metrics, Operation, Outcome, PortMetrics, all};
use crate::limits::RateLimiter;

/// Everything that counts, besides the store; cheap to clone.
#[derive(Clone)]
pub struct Sources {
    /// Connections and requests.
    pub metrics: Arc<Metrics>,
    /// Requests that were too many.
    pub limiter: Arc<RateLimiter>,
}

/// The metrics of Jay, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct JayMetrics {
    /// Since the start.
    pub uptime_seconds: u64,
    /// Objects that were put: by PutObject alone, as always.
    pub put_object_total: u64,
    /// Objects that were read.
    pub get_object_total: u64,
    /// Objects that were deleted, by DeleteObject.
    pub delete_object_total: u64,
    /// Objects that were looked at.
    pub head_object_total: u64,
    /// Pages of both versions of ListObjects.
    pub list_objects_total: u64,
    /// Buckets that were made.
    pub create_bucket_total: u64,
    /// Buckets that were deleted.
    pub delete_bucket_total: u64,
    /// Requests that were refused because the proof of who sent them was wrong.
    pub auth_failures: u64,
    /// Bodies that were read and were not what had been put.
    pub checksum_failures: u64,
    /// Syncs of files and directories that failed.
    pub fsync_failures: u64,
    /// Objects that were put into quarantine.
    pub objects_quarantined: u64,
    /// Bytes of objects and parts that came in.
    pub bytes_uploaded: u64,
    /// Bytes of objects that went out.
    pub bytes_downloaded: u64,
}

impl Sources {
    /// Jay's metrics, with those of the store once it is open.
    pub fn jay_json(&self, engine: Option<&Engine>) -> JayMetrics {
        let ports = self.metrics.ports();
        let sum = |names: &[&str], count: fn(&Operation) -> u64| {
            let operations = ports.iter().flat_map(|port| all(&port.operations));
            let counted = operations.filter(|(name, _)| names.contains(name));
            counted.map(|(_, operation)| count(&operation)).sum()
        };
        let done = |names: &[&str]| sum(names, |it| it.ended[Outcome::Success as usize].value());
        let counters = engine.map(Engine::counters);
        let stored = |count: fn(&Counters) -> u64| counters.map_or(0, count);
        JayMetrics {
            uptime_seconds: self.metrics.started.elapsed().as_secs(),
            put_object_total: done(&["PutObject"]),
            get_object_total: done(&["GetObject"]),
            delete_object_total: done(&["DeleteObject"]),
            head_object_total: done(&["HeadObject"]),
            list_objects_total: done(&["ListObjects", "ListObjectsV2"]),
            create_bucket_total: done(&["CreateBucket"]),
            delete_bucket_total: done(&["DeleteBucket"]),
            auth_failures: ports.iter().map(|port| port.auth_failures.value()).sum(),
            checksum_failures: stored(|it| it.checksum_failures.value()),
            fsync_failures: stored(|it| it.syncs.failures.value()),
            objects_quarantined: stored(|it| it.objects_quarantined.value()),
            bytes_uploaded: sum(&["PutObject", "UploadPart"], |it| it.bytes_in.value()),
            bytes_downloaded: sum(&["GetObject"], |it| it.bytes_out.value()),
        }
    }

    /// Everything in the text format of Prometheus, version 0.0.4; `buckets` are names with their objects and bytes.
    ///
    /// Source: Prometheus, "Exposition formats", "Text-based format".
    pub fn prometheus(
        &self,
        engine: Option<&Engine>,
        buckets: impl IntoIterator<Item = (String, u64, u64)>,
    ) -> String {
        let mut text = Text::default();
        self.process(&mut text);
        let ports = self.metrics.ports();
        connections(&mut text, &ports);
        requests(&mut text, &ports);
        if let Some(engine) = engine {
            store(&mut text, engine);
        }
        usage(&mut text, buckets);
        text.0
    }

    fn process(&self, text: &mut Text) {
        text.family("jay_build_info", "gauge", "What is running.");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        text.sample("jay_build_info", &version, 1);
        text.family("jay_uptime_seconds", "gauge", "Time since the start.");
        let uptime = self.metrics.started.elapsed().as_secs_f64();
        text.sample("jay_uptime_seconds", &[], uptime);
        let help = "Requests refused because their caller sends too many.";
        text.counter(
            "jay_rate_limited_requests_total",
            help,
            self.limiter.refused(),
        );
    }
}

fn connections(text: &mut Text, ports: &[Arc<PortMetrics>]) {
    let mut family = |name, kind, help, value: fn(&PortMetrics) -> u64| {
        text.family(name, kind, help);
        for port in ports {
            text.sample(name, &[("port", port.name)], value(port));
        }
    };
    family(
        "jay_open_connections",
        "gauge",
        "Connections that are open.",
        |port| port.connections.load(Ordering::Relaxed),
    );
    family(
        "jay_connections_total",
        "counter",
        "Connections that were accepted.",
        |port| port.accepted.value(),
    );
    family(
        "jay_tls_handshake_failures_total",
        "counter",
        "Connections that ended before TLS was agreed on.",
        |port| port.handshake_failures.value(),
    );
    family(
        "jay_auth_failures_total",
        "counter",
        "Requests refused because the proof of who sent them was wrong.",
        |port| port.auth_failures.value(),
    );
}

fn requests(text: &mut Text, ports: &[Arc<PortMetrics>]) {
    let operations: Vec<_> = ports
        .iter()
        .flat_map(|port| {
            all(&port.operations)
                .into_iter()
                .map(|(name, it)| (port.name, name, it))
        })
        .collect();
    let labels = |port: &'static str, name: &'static str| [("port", port), ("operation", name)];
    text.family(
        "jay_requests_total",
        "counter",
        "Requests, by how they ended.",
    );
    for (port, name, it) in &operations {
        for outcome in Outcome::ALL {
            let [port, name] = labels(port, name);
            let labels = [port, name, ("outcome", outcome.name())];
            text.sample(
                "jay_requests_total",
                &labels,
                it.ended[outcome as usize].value(),
            );
        }
    }
    const DURATION: &str = "jay_request_duration_seconds";
    text.family(
        DURATION,
        "histogram",
        "From a request's head to the end of its answer.",
    );
    for (port, name, it) in &operations {
        text.histogram(DURATION, &labels(port, name), &it.duration_micros, 1e-6);
    }
    let mut bytes = |family, help, value: fn(&Operation) -> u64| {
        text.family(family, "counter", help);
        for (port, name, it) in &operations {
            text.sample(family, &labels(port, name), value(it));
        }
    };
    bytes(
        "jay_request_bytes_total",
        "Bytes of bodies that came in.",
        |it| it.bytes_in.value(),
    );
    bytes(
        "jay_response_bytes_total",
        "Bytes of bodies that went out.",
        |it| it.bytes_out.value(),
    );
    text.family("jay_errors_total", "counter", "Errors answered, by code.");
    for port in ports {
        for (code, count) in all(&port.errors) {
            let labels = [("port", port.name), ("code", code)];
            text.sample("jay_errors_total", &labels, count.value());
        }
    }
}

fn store(text: &mut Text, engine: &Engine) {
    let counters = engine.counters();
    for (name, help, count) in [
        (
            "jay_checksum_failures_total",
            "Bodies that were read and were not what had been put.",
            &counters.checksum_failures,
        ),
        (
            "jay_objects_quarantined_total",
            "Objects that were put into quarantine.",
            &counters.objects_quarantined,
        ),
        (
            "jay_reads_sampled_total",
            "Whole reads whose SHA-256 was checked.",
            &counters.reads_sampled,
        ),
        (
            "jay_fsync_failures_total",
            "Syncs of files and directories that failed.",
            &counters.syncs.failures,
        ),
        (
            "jay_log_bytes_total",
            "Bytes written to the log.",
            &counters.log_bytes,
        ),
    ] {
        text.counter(name, help, count.value());
    }
    let help = "Transactions in each batch of the log.";
    text.family("jay_log_batch_transactions", "histogram", help);
    text.histogram(
        "jay_log_batch_transactions",
        &[],
        &counters.batch_transactions,
        1.0,
    );
    for (name, help, micros) in [
        (
            "jay_log_sync_seconds",
            "How long each sync of the log took.",
            &counters.log_sync_micros,
        ),
        (
            "jay_fsync_seconds",
            "How long each sync of a file or directory took, those of the log too.",
            &counters.syncs.micros,
        ),
    ] {
        text.family(name, "histogram", help);
        text.histogram(name, &[], micros, 1e-6);
    }
    let gauges = engine.gauges();
    for (name, help, value) in [
        (
            "jay_overlay_rows",
            "Rows that are in the log and not in the index yet.",
            gauges.overlay_rows,
        ),
        (
            "jay_overlay_bytes",
            "Memory of the rows that the index does not have yet.",
            gauges.overlay_bytes,
        ),
        (
            "jay_log_unapplied_records",
            "Records of the log behind what the index was made from.",
            gauges.unapplied_records,
        ),
        (
            "jay_store_stopped",
            "1 when the store writes no more until it is restarted.",
            u64::from(engine.stopped().is_some()),
        ),
    ] {
        text.family(name, "gauge", help);
        text.sample(name, &[], value);
    }
}

fn usage(text: &mut Text, buckets: impl IntoIterator<Item = (String, u64, u64)>) {
    let buckets: Vec<_> = buckets.into_iter().collect();
    text.family("jay_bucket_objects", "gauge", "Objects in a bucket.");
    for (bucket, objects, _) in &buckets {
        text.sample("jay_bucket_objects", &[("bucket", bucket)], objects);
    }
    text.family(
        "jay_bucket_bytes",
        "gauge",
        "Bytes of the objects in a bucket.",
    );
    for (bucket, _, bytes) in &buckets {
        text.sample("jay_bucket_bytes", &[("bucket", bucket)], bytes);
    }
}

/// Text in the format of Prometheus. Writing into a String does not fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// The values of `histogram`, each multiplied by `unit`.
    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram, unit: f64) {
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        for (bound, total) in histogram.cumulative() {
            let bound = bound.map_or("+Inf".to_owned(), |bound| scaled(bound, unit));
            self.sample(&bucket, &[labels, &[("le", &*bound)]].concat(), total);
            count = total;
        }
        self.sample(
            &format!("{name}_sum"),
            labels,
            scaled(histogram.sum(), unit),
        );
        self.sample(&format!("{name}_count"), labels, count);
    }
}

/// `value` times `unit`, without digits that only come from rounding.
fn scaled(value: u64, unit: f64) -> String {
    let digits = if unit < 1.0 { 6 } else { 0 };
    let text = format!("{:.digits$}", value as f64 * unit);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

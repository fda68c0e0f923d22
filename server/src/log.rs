//! The log: JSON lines on standard output, or lines for people when that is a terminal.
//!
//! Set up once by `serve`; everybody else just uses `tracing`. A line holds `time`, `level`, `msg` and the
//! event's own fields, flat. Absent on purpose: spans, files and rotation, which belong to whoever runs us.

use std::{
    fmt::{self, Write as _},
    io::IsTerminal as _,
};

use jiff::{Timestamp, Unit};
use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer as _,
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// Starts the log at `level`. Other crates than ours speak from WARN on.
pub fn start(level: LevelFilter) {
    let ours = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // A prefix: `jay` itself and `jay_engine`.
        .with_target("jay", level);
    let layer = tracing_subscriber::fmt::layer();
    if std::io::stdout().is_terminal() {
        let people = layer.compact().with_target(false).with_filter(ours);
        tracing_subscriber::registry().with(people).init();
    } else {
        let machines = layer.event_format(JsonLines).with_filter(ours);
        tracing_subscriber::registry().with(machines).init();
    }
}

/// One flat JSON object a line.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = Timestamp::now()
            .round(Unit::Millisecond)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        write!(
            writer,
            r#"{{"time":"{now:.3}","level":"{}""#,
            event.metadata().level()
        )?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(message) = fields.message {
            write!(writer, r#","msg":{}"#, Value::String(message))?;
        }
        for (name, value) in &fields.others {
            // Field names are Rust identifiers.
            write!(writer, r#","{name}":{value}"#)?;
        }
        writer.write_str("}\n")
    }
}

#[derive(Default)]
struct Fields {
    message: Option<String>,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = Some(value.to_owned()),
            _ => self.put(field, value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_flat_json_object() {
        let lines = Lines::default();
        let to = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(JsonLines)
            .with_writer(move || to.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(bucket = "b\n\"", bytes = 7_u64, peer = %"::1", "two\nlines");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["msg"], "two\nlines");
        assert_eq!(line["bucket"], "b\n\"");
        assert_eq!(line["bytes"], 7);
        assert_eq!(line["peer"], "::1");
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
}

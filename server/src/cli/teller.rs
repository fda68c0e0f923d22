//! What the verbs of a user say: a line of text or of JSON for each thing on standard output, errors and a bar on standard
//! error, and at the end how it went.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::Serialize;

use super::bar::{Bar, Unit};

/// What programs end with whose reader has left.
const EXIT_BROKEN_PIPE: i32 = 141;

/// How a verb speaks.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct TellArgs {
    /// Print a JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// See the module.
#[derive(Default)]
pub struct Teller {
    json: bool,
    quiet: bool,
    bar: Option<Bar>,
    /// Bytes that are known to be moved, and those that were.
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    failed: AtomicU64,
}

/// A failure, for programs.
#[derive(Serialize)]
struct Failure<'a> {
    place: &'a str,
    error: String,
}

impl Teller {
    /// Speaks so; with `quiet` only of errors.
    pub fn new(args: TellArgs, quiet: bool) -> Self {
        Self {
            json: args.json,
            quiet,
            ..Self::default()
        }
    }

    /// The same with a bar of the bytes that are moved.
    pub fn with_bar(self) -> Self {
        Self {
            bar: (!self.quiet).then(Bar::new),
            ..self
        }
    }

    /// Says something of `value`, or says `text`.
    pub fn say(&self, value: &impl Serialize, text: impl FnOnce() -> String) {
        if self.quiet {
            return;
        }
        let line = match self.json {
            true => json(value),
            false => text(),
        };
        self.apart(|| print(format!("{line}\n").as_bytes()));
    }

    /// Says on standard error, where it disturbs no program, what nobody needs who is quiet.
    pub fn remark(&self, text: impl Display) {
        if !self.quiet {
            self.apart(|| eprintln!("jay: {text}"));
        }
    }

    /// Says what has failed, and counts it.
    pub fn failed(&self, place: &str, error: impl Display) {
        self.failed.fetch_add(1, Relaxed);
        let error = error.to_string();
        self.apart(|| eprintln!("jay: {}: {error}", shown(place)));
        if self.json {
            let line = json(&Failure { place, error });
            self.apart(|| print(format!("{line}\n").as_bytes()));
        }
    }

    /// How many have failed.
    pub fn failures(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// So many bytes more are to be moved.
    pub fn expect(&self, bytes: u64) {
        self.bytes_total.fetch_add(bytes, Relaxed);
        self.show();
    }

    /// So many bytes were moved.
    pub fn advance(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Relaxed);
        self.show();
    }

    fn show(&self) {
        if let Some(bar) = &self.bar {
            let (done, total) = (
                self.bytes_done.load(Relaxed),
                self.bytes_total.load(Relaxed),
            );
            bar.show("transfer", Unit::Bytes, done, total);
        }
    }

    fn apart(&self, work: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.apart(work),
            None => work(),
        }
    }

    /// Says how much it was, to programs.
    pub fn total(&self, value: &impl Serialize) {
        if self.json {
            self.say(&serde_json::json!({ "total": value }), String::new);
        }
    }

    /// The end: 1 and a count when something has failed.
    pub fn ended(&self, attempted: u64) -> ExitCode {
        match self.failures() {
            0 => ExitCode::SUCCESS,
            failed => {
                self.apart(|| eprintln!("jay: {failed} of {attempted} failed"));
                ExitCode::FAILURE
            }
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is told here has a form in JSON")
}

/// Writes to standard output at once. When that cannot be done this is the end, as for every program in a pipe whose reader
/// has left.
pub fn print(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(EXIT_BROKEN_PIPE);
        }
        Err(error) => {
            eprintln!("jay: standard output cannot be written: {error}");
            std::process::exit(1);
        }
    }
}

/// `text` on one line, and without what would command a terminal.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let shown = text.chars().fold(String::new(), |mut shown, character| {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
        shown
    });
    shown.into()
}

/// `bytes` for people.
pub fn human(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter();
    let mut unit = "B";
    while amount >= 1023.95
        && let Some(next) = units.next()
    {
        (amount, unit) = (amount / 1024.0, next);
    }
    match unit {
        "B" => format!("{bytes} B"),
        unit => format!("{amount:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_command_no_terminal() {
        assert_eq!(shown("a ä"), "a ä");
        assert_eq!(shown("a\n\u{1b}[31m"), "a\\n\\u{1b}[31m");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1536 << 20, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}

//! `jay fsck`: checks the whole store, and writes nothing.
//!
//! Without a server it opens the data directory itself, without any secret; while a server has it open, that one
//! checks, asked by its admin port. `--accept-loss` is the one thing here that writes: it gives up what cannot be
//! read of a damaged log, so that the rest is served again.

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use jay_engine::{Acceptance, LogHole, OpenError, meta::key::Key};
use serde::Serialize;

use super::{
    bar::{Bar, Unit},
    operator::Operator,
};
use crate::{
    admin::fsck::{Check, Found, Lost, Progress, Report},
    config::Config,
};

/// Findings that are shown to people; `--json` has more.
const SHOWN_MAX: usize = 50;

/// Options of `fsck`.
#[derive(clap::Args)]
pub struct FsckArgs {
    /// Look only whether all bodies are there and long enough, without reading them
    #[arg(long)]
    fast: bool,
    /// Give up what cannot be read of the log at this place, which a check has named; the store must not be in use
    #[arg(long, value_name = "PACK@OFFSET")]
    accept_loss: Vec<LogHole>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Checks, and tells what was found: exit code 0 when nothing, 1 when something, 2 when it could not be looked.
pub fn run(args: &FsckArgs, config_file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let done = match args.accept_loss.is_empty() {
        true => check(args, config_file),
        false => accept(args, config_file),
    };
    match done {
        Ok(is_clean) => Ok(ExitCode::from(u8::from(!is_clean))),
        Err(error) => {
            eprintln!("jay: {error:#}");
            Ok(ExitCode::from(2))
        }
    }
}

fn check(args: &FsckArgs, config_file: Option<&Path>) -> anyhow::Result<bool> {
    let config = Config::load_for_operator(config_file)?;
    let asked = Check { fast: args.fast };
    let bar = Bar::new();
    let checked = jay_engine::fsck(&config.data_dir, asked.depth(), &mut |now| {
        show(&bar, &now.into());
        true
    });
    let report = match checked {
        Ok(report) => Report::from(report),
        Err(OpenError::AlreadyRunning { .. }) => check_in_server(&asked, &config, &bar)?,
        Err(error) => bail!("{error}"),
    };
    drop(bar);
    let mut out = std::io::stdout().lock();
    match args.json {
        true => print_json(&report)?,
        false => write!(out, "{}", text(&report, &config))?,
    }
    Ok(report.clean)
}

fn check_in_server(asked: &Check, config: &Config, bar: &Bar) -> anyhow::Result<Report> {
    let mut report = None;
    let body = serde_json::to_value(asked)?;
    Operator::new(config)?.job("/_jay/fsck", &body, |mut line| {
        if let Some(now) = line.get_mut("progress") {
            show(bar, &serde_json::from_value(now.take())?);
        } else if let Some(told) = line.get_mut("report") {
            report = Some(serde_json::from_value(told.take())?);
        }
        Ok(())
    })?;
    report.context("the server ended without a word about the check")
}

fn show(bar: &Bar, now: &Progress) {
    let unit = match now.phase.as_str() {
        "bodies" | "log" | "snapshots" => Unit::Bytes,
        _ => Unit::Pieces,
    };
    bar.show(&now.phase, unit, now.done, now.total);
}

fn text(report: &Report, config: &Config) -> String {
    let mut lines = Vec::new();
    lines.extend(
        report
            .refused
            .iter()
            .map(|why| format!("the store does not open: {why}")),
    );
    for Lost { file, text, .. } in &report.losses {
        lines.push(format!("{file}: {text}"));
    }
    let mut list = |title: &str, found: &[Found], count: u64| {
        let shown = found.iter().take(SHOWN_MAX);
        lines.extend(shown.map(|found| format!("{title}: {}", found.text)));
        if count > SHOWN_MAX as u64 {
            let more = count - SHOWN_MAX as u64;
            lines.push(format!("{title}: and {more} more (--json shows them)"));
        }
    };
    list("damaged", &report.findings, report.finding_count);
    list("note", &report.notes, report.note_count);
    if !report.losses.is_empty() {
        let holes = report
            .losses
            .iter()
            .map(|lost| format!(" --accept-loss {}", lost.hole));
        lines.push(format!(
            "restore the log files from a copy or a backup (`jay backup restore`); to give up what they held and \
             serve the rest:\n    jay fsck{}",
            holes.collect::<String>()
        ));
    }
    lines.push(format!(
        "{}: {} objects, {} parts of open uploads, {} of bodies{}: {}",
        config.data_dir.display(),
        report.objects,
        report.parts,
        indicatif::BinaryBytes(report.bytes),
        match report.bytes_were_read {
            true => " read",
            false => " looked for",
        },
        match report.clean {
            true => "all is as it was put".to_owned(),
            false if report.finding_count == 1 => "1 thing is damaged".to_owned(),
            false => format!("{} things are damaged", report.finding_count),
        }
    ));
    lines.join("\n") + "\n"
}

/// What became of a store whose holes were given up.
#[derive(Serialize)]
struct Accepted {
    losses: Vec<Lost>,
    quarantined_count: u64,
    quarantined: Vec<String>,
    /// Names that buckets got whose rows are lost.
    buckets: Vec<String>,
    /// Parts that nothing needs any more.
    parts: u64,
}

impl From<Acceptance> for Accepted {
    fn from(accepted: Acceptance) -> Self {
        let names = accepted.quarantined.iter();
        Self {
            losses: accepted.losses.iter().map(Lost::from).collect(),
            quarantined_count: accepted.quarantined_count,
            quarantined: names.map(named).collect(),
            buckets: accepted.buckets,
            parts: accepted.parts,
        }
    }
}

fn named(key: &Key) -> String {
    match key {
        Key::Object(bucket, key) => format!("{key} (bucket {})", bucket.0),
        other => format!("{other:?}"),
    }
}

fn accept(args: &FsckArgs, config_file: Option<&Path>) -> anyhow::Result<bool> {
    let config = Config::load_for_operator(config_file)?;
    let accepted = match jay_engine::accept_loss(&config.data_dir, &args.accept_loss) {
        Ok(accepted) => Accepted::from(accepted),
        Err(OpenError::AlreadyRunning { .. }) => {
            bail!("a server has the store open: stop it first")
        }
        Err(error) => bail!("{error}"),
    };
    if args.json {
        print_json(&accepted)?;
        return Ok(true);
    }
    let mut out = std::io::stdout().lock();
    for Lost { file, text, .. } in &accepted.losses {
        writeln!(out, "given up: {file}: {text}")?;
    }
    for key in &accepted.quarantined {
        writeln!(out, "in quarantine now: {key}")?;
    }
    for bucket in &accepted.buckets {
        writeln!(out, "a bucket whose name is lost is now called {bucket}")?;
    }
    writeln!(out, "the store can be served again")?;
    Ok(true)
}

fn print_json(report: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, report)?;
    writeln!(out)?;
    Ok(())
}

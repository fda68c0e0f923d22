//! `jay-conformance`: plays one set of scenarios on every path by every client, and prints one matrix.
//!
//! FORMAT.md says what a scenario and a driver are. This file reads the command line; [`play`] is where a
//! scenario happens, [`paths`] where drivers and the systems behind them are started. Deliberately absent:
//! any knowledge of S3 besides the sums of bodies. What is right is said by the scenarios alone.

mod body;
mod driver;
mod paths;
mod planted;
mod play;
mod report;
mod scenario;
mod values;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};

use crate::{paths::Path, report::Report, scenario::Scenario};

/// Plays the scenarios of Jay's conformance suite.
#[derive(Parser)]
#[command(name = "jay-conformance", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The server under test
    #[arg(long, value_name = "PATH", default_value = "jay")]
    jay: PathBuf,
    /// Who asks: engine, native-v1, native-v2, boto3, or all
    #[arg(long, value_name = "NAME", default_value = "all")]
    driver: String,
    /// Only scenarios whose file or name holds this
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// The Python that has the packages of the drivers
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// Where scenarios and drivers are
    #[arg(long, value_name = "DIR", default_value = "conformance")]
    suite: PathBuf,
    /// The results as JSON instead of the matrix
    #[arg(long)]
    json: bool,
    /// Instead: which scenario catches this deliberate fault of a server that was built with them, or all
    #[arg(long, value_name = "FAULT")]
    planted: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// The engine as a driver: operations on standard input, results on standard output
    #[command(hide = true)]
    EngineDriver,
    /// The Rust client as a driver
    #[command(hide = true)]
    NativeDriver {
        /// The version of the protocol: v1 or v2
        version: String,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("jay-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run(cli: &Cli) -> anyhow::Result<bool> {
    match &cli.command {
        Some(Command::EngineDriver) => return paths::engine::serve().map(|()| true),
        Some(Command::NativeDriver { version }) => {
            return paths::native::serve(version).map(|()| true);
        }
        None => {}
    }
    let mut scenarios = scenario::load(&cli.suite)?;
    if let Some(pattern) = &cli.only {
        scenarios
            .retain(|scenario| scenario.file.contains(pattern) || scenario.name.contains(pattern));
    }
    ensure!(!scenarios.is_empty(), "no scenario matches");
    let paths = Path::all(&cli.jay, &cli.python, &cli.suite)?;
    if let Some(fault) = &cli.planted {
        let s3 = paths.into_iter().find(|path| path.name == "boto3");
        return planted::run(&s3.context("no driver for the server")?, &scenarios, fault);
    }
    let chosen: Vec<Path> = paths
        .into_iter()
        .filter(|path| cli.driver == "all" || cli.driver == path.name)
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no driver {:?}: engine, native-v1, native-v2, boto3 or all",
        cli.driver
    );
    let report = play_all(&chosen, &scenarios)?;
    match cli.json {
        true => println!("{}", report.json()),
        false => print!("{}", report.matrix()),
    }
    println!("{} passed, {} failed", report.passed(), report.failed());
    Ok(report.failed() == 0)
}

/// Every path beside the others, each with a system of its own.
fn play_all<'a>(paths: &'a [Path], scenarios: &'a [Scenario]) -> anyhow::Result<Report<'a>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = paths
            .iter()
            .map(|path| scope.spawn(|| play::play_path(path, scenarios)))
            .collect();
        let mut report = Report::new(scenarios);
        for (path, running) in paths.iter().zip(running) {
            let cells = running.join().expect("playing does not panic");
            report.add(&path.name, cells.with_context(|| path.name.clone())?);
        }
        Ok(report)
    })
}

//! `jay-limits`: what this machine can do at best, so that every speed of Jay can be told as a ratio to a limit that
//! was measured in the same run.
//!
//! Without a subcommand it measures the raw primitives; `compare` alternates them with Jay. See bench/README.md.

mod bodies;
mod clients;
mod commit;
mod compare;
mod engine;
mod files;
mod hashes;
mod loopback;
mod process;
mod row;

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

use self::row::Row;

#[derive(Parser)]
#[command(about, version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Directory on the disk to measure; a directory of its own is made in it and removed at the end
    #[arg(long, global = true, default_value = ".")]
    dir: PathBuf,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// How long to measure each figure
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Measure only these
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Limit>,
}

#[derive(Subcommand)]
enum Command {
    /// Alternate raw group commit, the engine alone and Jay over S3, and report their ratios
    Compare(compare::CompareArgs),
    /// Alternate durable files, MD5, large bodies over S3, and nginx, and report their ratios
    Bodies(bodies::BodiesArgs),
}

/// A group of figures.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Limit {
    /// One write and one fdatasync for all records that wait.
    Commit,
    /// A file that is durable under its name.
    File,
    /// TCP between two threads of this machine.
    Loopback,
    /// Sums over bodies.
    Hash,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.01 to 3600".into()),
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let scratch = tempfile::Builder::new()
        .prefix("jay-limits-")
        .tempdir_in(&args.dir)
        .with_context(|| format!("no directory can be made in {}", args.dir.display()))?;
    let mut out = std::io::stdout().lock();
    match &args.command {
        Some(Command::Compare(compare)) => {
            let comparison = compare::run(compare, scratch.path())?;
            match args.json {
                true => serde_json::to_writer_pretty(&mut out, &comparison)?,
                false => write!(out, "{comparison}")?,
            }
        }
        Some(Command::Bodies(bodies)) => {
            let bodies = bodies::run(bodies, scratch.path())?;
            match args.json {
                true => serde_json::to_writer_pretty(&mut out, &bodies)?,
                false => write!(out, "{bodies}")?,
            }
        }
        None => {
            let rows = limits(&args, scratch.path())?;
            match args.json {
                true => serde_json::to_writer_pretty(&mut out, &rows)?,
                false => row::print(&mut out, &rows)?,
            }
        }
    }
    writeln!(out)?;
    Ok(())
}

fn limits(args: &Args, dir: &Path) -> anyhow::Result<Vec<Row>> {
    let duration = Duration::from_secs_f64(args.seconds);
    let wanted = |limit| args.only.is_empty() || args.only.contains(&limit);
    let mut rows = Vec::new();
    if wanted(Limit::Commit) {
        rows.extend(commit::limits(dir, duration)?);
    }
    if wanted(Limit::File) {
        rows.extend(files::limits(dir, duration)?);
    }
    if wanted(Limit::Loopback) {
        rows.extend(loopback::limits(duration)?);
    }
    if wanted(Limit::Hash) {
        rows.extend(hashes::limits(duration));
    }
    Ok(rows)
}

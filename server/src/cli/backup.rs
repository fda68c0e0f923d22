//! `jay backup`: full backups of the store in another directory, and the way back.
//!
//! Without a server these verbs open the data directory themselves; none of them needs the secrets. While a server has
//! it open, `create` asks the server, by its admin port. Deliberately absent: backups over a network (mount the
//! directory, or copy it away), and a restore into a store in use.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use indicatif::BinaryBytes;
use jay_engine::{
    BackupError, OpenError,
    maintenance::{
        backup::{self, RestoreOptions},
        verify::Depth,
    },
};
use serde::Serialize;

use super::{
    bar::{Bar, Unit},
    operator::Operator,
};
use crate::{
    admin::backup::{Backup, CreateBackup, Created, Damage, Listed, Progress, Restored, Verified},
    config::Config,
    credentials,
};

/// Full backups of the store in another directory, best on another disk.
#[derive(clap::Subcommand)]
pub enum BackupCommand {
    /// Makes a backup of the store in JAY_DATA_DIR; the next one copies only what is new
    Create(CreateArgs),
    /// Lists the backups in a directory, the newest first
    List(ListArgs),
    /// Reads all that a backup needs and holds it against its checksums
    Verify(VerifyArgs),
    /// Brings a backup back into JAY_DATA_DIR: empty, or the same store with something lost; overwrites nothing
    Restore(RestoreArgs),
}

/// Options of `create`.
#[derive(clap::Args)]
pub struct CreateArgs {
    /// Directory for the backups of this store, made when it is missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Remove all backups but the newest N, and what only they needed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `list`.
#[derive(clap::Args)]
pub struct ListArgs {
    /// Directory of the backups
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `verify`.
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// Directory of the backups
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Which one, by the name that `list` shows [default: the newest]
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `restore`.
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// Directory of the backups
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Which one, by the name that `list` shows [default: the newest]
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// Read every byte, instead of looking whether all bodies are there: a damaged file that is still in the directory is
    /// then replaced by the backup's
    #[arg(long)]
    check: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Does what was asked; an error also when something is missing or damaged.
pub fn run(command: BackupCommand, config_file: Option<&Path>) -> anyhow::Result<()> {
    match command {
        BackupCommand::Create(args) => create(&args, &Config::load_for_operator(config_file)?),
        BackupCommand::List(args) => list(&args),
        BackupCommand::Verify(args) => verify(&args),
        BackupCommand::Restore(args) => restore(&args, &Config::load_for_operator(config_file)?),
    }
}

fn create(args: &CreateArgs, config: &Config) -> anyhow::Result<()> {
    let asked = CreateBackup {
        to: std::path::absolute(&args.to)?,
        keep: args.keep,
    };
    let bar = Bar::new();
    let made = backup::create(&config.data_dir, &asked.to, asked.options(), &mut |now| {
        show(&bar, &now.into());
    });
    let created = match made {
        Ok(report) => Created::from(report),
        // By a server, which makes the backup itself then.
        Err(BackupError::Open(OpenError::AlreadyRunning { .. })) => {
            create_in_server(&asked, config, &bar)?
        }
        Err(error) => return Err(told(error)),
    };
    drop(bar);
    print(&created, args.json, |out| {
        describe_created(&created, &args.to, out)
    })?;
    match created.backup.left_out {
        0 => Ok(()),
        n => bail!("{n} bodies are damaged or cannot be read, and are not in the backup"),
    }
}

fn create_in_server(asked: &CreateBackup, config: &Config, bar: &Bar) -> anyhow::Result<Created> {
    let mut created = None;
    let body = serde_json::to_value(asked)?;
    Operator::new(config)?.job("/_jay/backups", &body, |mut line| {
        if let Some(now) = line.get_mut("progress") {
            show(bar, &serde_json::from_value(now.take())?);
        } else if let Some(report) = line.get_mut("report") {
            created = Some(serde_json::from_value(report.take())?);
        }
        Ok(())
    })?;
    created.context("the server ended without a word about the backup")
}

fn show(bar: &Bar, now: &Progress) {
    bar.show(&now.phase, Unit::Bytes, now.bytes, now.bytes_total);
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let listed = Listed::from(backup::list(&args.from).map_err(told)?);
    print(&listed, args.json, |out| describe_listed(&listed, out))?;
    match listed.unreadable.len() {
        0 => Ok(()),
        n => bail!("{n} backups cannot be read"),
    }
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let bar = Bar::new();
    let name = args.backup.as_deref();
    let report = backup::verify(&args.from, name, &mut |now| show(&bar, &now.into()));
    drop(bar);
    let verified = Verified::from(report.map_err(told)?);
    print(&verified, args.json, |out| {
        describe_verified(&verified, out)
    })?;
    match verified.whole {
        true => Ok(()),
        false => bail!("the backup {} is not whole", verified.backup.name),
    }
}

fn restore(args: &RestoreArgs, config: &Config) -> anyhow::Result<()> {
    let options = RestoreOptions {
        extras: vec![credentials::FILE.into()],
        check: match args.check {
            true => Depth::Bytes,
            false => Depth::Length,
        },
    };
    let bar = Bar::new();
    let (name, dir) = (args.backup.as_deref(), &config.data_dir);
    let report = backup::restore(&args.from, name, dir, options, &mut |now| {
        show(&bar, &now.into());
    });
    drop(bar);
    let restored = Restored::from(report.map_err(told)?);
    print(&restored, args.json, |out| {
        describe_restored(&restored, dir, out)
    })?;
    match restored.whole {
        true => Ok(()),
        false => bail!("not everything is there"),
    }
}

/// Its Display is whole, causes included.
fn told(error: BackupError) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

fn print(
    report: &impl Serialize,
    as_json: bool,
    describe: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match as_json {
        true => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)?;
        }
        false => describe(&mut out)?,
    }
    Ok(())
}

fn describe_created(created: &Created, to: &Path, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "backup {}: {}",
        created.backup.name,
        contents(&created.backup)
    )?;
    writeln!(
        out,
        "copied {} and {} of the log ({}) to {}; what else it needs was there",
        files(created.files_copied),
        files(created.log_files_copied),
        BinaryBytes(created.bytes_copied),
        to.display()
    )?;
    if created.quarantined > 0 {
        writeln!(
            out,
            "objects in quarantine, whose bytes may not be in it: {}",
            created.quarantined
        )?;
    }
    if !created.removed.is_empty() {
        writeln!(out, "removed old backups: {}", created.removed.join(", "))?;
    }
    damage("not in it", created.backup.left_out, &created.damage, out)
}

fn describe_listed(listed: &Listed, out: &mut dyn Write) -> std::io::Result<()> {
    for backup in &listed.backups {
        let incomplete = match backup.left_out {
            0 => String::new(),
            n => format!(", {n} damaged bodies left out"),
        };
        writeln!(
            out,
            "{}  {}  {}{incomplete}",
            backup.name,
            backup.created_at,
            contents(backup)
        )?;
    }
    for bad in &listed.unreadable {
        writeln!(out, "{}  cannot be read: {}", bad.what, bad.why)?;
    }
    if listed.backups.is_empty() && listed.unreadable.is_empty() {
        writeln!(out, "no backups")?;
    }
    Ok(())
}

fn describe_verified(verified: &Verified, out: &mut dyn Write) -> std::io::Result<()> {
    let backup = &verified.backup;
    writeln!(
        out,
        "backup {} of {}: {}",
        backup.name,
        backup.created_at,
        contents(backup)
    )?;
    if verified.quarantined > 0 {
        writeln!(
            out,
            "objects that were in quarantine before the backup: {}",
            verified.quarantined
        )?;
    }
    for what in &verified.findings {
        writeln!(out, "damaged: {what}")?;
    }
    damage(
        "damaged or missing",
        verified.damaged,
        &verified.damage,
        out,
    )?;
    match verified.whole {
        true => writeln!(out, "all that this backup needs is there and as it was"),
        false => writeln!(
            out,
            "To mend it, move each of these files out of the directory and make the next backup: it copies what is not there."
        ),
    }
}

fn describe_restored(restored: &Restored, dir: &Path, out: &mut dyn Write) -> std::io::Result<()> {
    let backup = &restored.backup;
    writeln!(
        out,
        "brought back {} and {} of the log ({}) of backup {} of {}; what else it needs was there",
        files(restored.files_restored),
        files(restored.log_files_restored),
        BinaryBytes(restored.bytes_restored),
        backup.name,
        backup.created_at
    )?;
    for what in &restored.findings {
        writeln!(out, "damaged: {what}")?;
    }
    damage("not in the backup", restored.damaged, &restored.damage, out)?;
    writeln!(
        out,
        "the store in {} has {} objects, {} of them in quarantine",
        dir.display(),
        restored.objects,
        restored.quarantined
    )?;
    damage(
        "missing or damaged",
        restored.quarantined,
        &restored.quarantine,
        out,
    )?;
    match restored.quarantined {
        0 => Ok(()),
        _ => writeln!(
            out,
            "The same with --check replaces files whose bytes are damaged by those of the backup."
        ),
    }
}

fn contents(backup: &Backup) -> String {
    format!(
        "{} objects ({})",
        backup.objects,
        BinaryBytes(backup.object_bytes)
    )
}

fn files(n: u64) -> String {
    match n {
        1 => "1 file".into(),
        n => format!("{n} files"),
    }
}

fn damage(title: &str, count: u64, told: &[Damage], out: &mut dyn Write) -> std::io::Result<()> {
    for Damage { what, why } in told {
        writeln!(out, "{title}: {what}: {why}")?;
    }
    match count - told.len() as u64 {
        0 => Ok(()),
        more => writeln!(out, "{title}: {more} more"),
    }
}

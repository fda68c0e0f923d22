//! The command line of `jay`: one verb, one file.
//!
//! `main` calls [`Cli::run`]. The verbs of a user are clients; only `serve`, and what an operator does while no server
//! runs, ever opens a store.

mod backup;
mod bar;
mod bench;
mod buckets;
pub mod compat;
mod fsck;
mod health;
mod operator;
mod print_config;
mod rekey;
mod serve;
mod supervisor;
pub mod tls;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::Config;

/// An S3 object store that keeps what it acknowledged.
///
/// Everything is configured by JAY_* variables or a YAML file; without any, `jay` makes its own secrets, listens on
/// :9000 and keeps everything in ./data. `jay-config show` tells what is in force.
#[derive(Parser)]
#[command(name = "jay", version)]
pub struct Cli {
    /// A YAML file with settings, before that of JAY_CONFIG_FILE; variables win over it
    #[arg(long, value_name = "PATH", global = true)]
    config_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the store; also what happens without a command
    Serve(serve::ServeArgs),
    /// Serves the store, on the command line of another
    #[command(hide = true)]
    Server(compat::ServerArgs),
    /// Prints how to connect, credentials included
    PrintConfig(print_config::PrintConfigArgs),
    /// Asks the admin port whether the server is ready; exits with 0 if so
    Health,
    /// Names the deliberate faults that JAY_PLANT may choose
    #[cfg(planted)]
    PlantedFaults {
        /// Those that the matrix of rights must catch, in place of those of the scenarios
        #[arg(long)]
        rights: bool,
    },
    /// Makes full backups of the store, verifies them and brings them back
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Checks the whole store, and writes nothing
    Fsck(fsck::FsckArgs),
    /// Seals the secrets of all access keys under a new signing secret; the store must not be in use
    ///
    /// JAY_OLD_SIGNING_SECRET is the one until now and JAY_SIGNING_SECRET the new one. Without both, a store that made
    /// its own secrets makes a new one. Cut short, the same command goes on.
    Rekey(rekey::RekeyArgs),
    /// Puts load on a server and measures it
    Bench(Box<bench::BenchArgs>),
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let file = self.config_file.as_deref();
        let command = self
            .command
            .unwrap_or_else(|| Command::Serve(serve::ServeArgs::default()));
        match command {
            // It has exit codes of its own.
            Command::Fsck(args) => return fsck::run(&args, file),
            Command::Serve(args) => serve::run(&args, Config::load(file)?),
            Command::Server(args) => {
                serve::run(&serve::ServeArgs::default(), args.over(Config::load(file)?))
            }
            Command::PrintConfig(args) => {
                print_config::run(&args, &Config::load_for_operator(file)?)
            }
            Command::Health => health::run(&Config::load_for_operator(file)?),
            #[cfg(planted)]
            Command::PlantedFaults { rights } => {
                use crate::planted::Fault;
                let faults = if rights {
                    Fault::OF_RIGHTS
                } else {
                    Fault::OF_ANSWERS
                };
                faults.iter().for_each(|fault| println!("{fault:?}"));
                Ok(())
            }
            Command::Backup(command) => backup::run(command, file),
            Command::Rekey(args) => rekey::run(&args),
            Command::Bench(args) => tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?
                .block_on(bench::run(*args)),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

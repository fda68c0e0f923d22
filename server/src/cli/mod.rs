//! The command line of `jay`: one verb, one file.
//!
//! `main` calls [`Cli::run`]. The verbs of a user are clients; only `serve`, and what an operator does while no server
//! runs, ever opens a store.

mod backup;
mod bar;
mod bench;
mod buckets;
mod carry;
mod cat;
mod compare;
pub mod compat;
mod cp;
mod crew;
mod diff;
mod du;
mod filter;
mod fsck;
mod health;
mod ls;
mod mb;
mod operator;
mod pairs;
mod place;
mod presign;
mod print_config;
mod rekey;
mod rm;
mod serve;
mod sign;
mod stat;
mod store;
mod supervisor;
mod sync;
mod teller;
pub mod tls;
mod transfer;
mod tree;

use std::{fmt, path::PathBuf, process::ExitCode, time::Duration};

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
    #[command(flatten)]
    Client(ClientCommand),
}

/// What users do. A place is a path, jay://host:port/bucket/key (jay:///bucket/key on the server of JAY_URL; jays:// with
/// TLS), s3://bucket/key on the S3 server of AWS_ENDPOINT_URL, or - for standard input and output.
#[derive(Subcommand)]
enum ClientCommand {
    /// Lists buckets, or what is in one
    Ls(ls::ListArgs),
    /// Copies files into stores, objects into files, and objects
    Cp(Box<cp::CopyArgs>),
    /// Copies, and removes each source when it has been copied
    Mv(Box<cp::CopyArgs>),
    /// Deletes objects
    Rm(rm::RemoveArgs),
    /// Prints objects
    Cat(cat::CatArgs),
    /// Makes a tree of what another one is, by moving what is missing or differs
    Sync(Box<sync::SyncArgs>),
    /// Makes a bucket
    Mb(mb::MakeArgs),
    /// Removes a bucket
    Rb(mb::RemoveArgs),
    /// Tells all that is known of objects
    Stat(stat::StatArgs),
    /// Tells how many objects and bytes there are below a prefix
    Du(du::UsageArgs),
    /// Tells what differs between two trees; ends with 1 when something does, and 2 when that could not be told
    Diff(diff::DiffArgs),
    /// Prints a link that carries the rights of an access key for a while
    Presign(presign::PresignArgs),
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
            Command::Bench(args) => {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .enable_all()
                    .build()?;
                let done = runtime.block_on(bench::run(*args));
                return exit(done.map(|()| ExitCode::SUCCESS));
            }
            // They have exit codes of their own.
            Command::Client(command) => return command.run(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The command line makes no sense: exit code 2, as for what clap refuses.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn exit(done: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match done {
        Err(error) if error.is::<Usage>() => {
            eprintln!("jay: {error}");
            Ok(ExitCode::from(EXIT_USAGE))
        }
        done => done,
    }
}

const EXIT_USAGE: u8 = 2;
/// What a shell makes of a program that was interrupted.
const EXIT_INTERRUPTED: u8 = 130;
/// How long work that was given up has to clean up behind itself.
const CLEAN_UP: Duration = Duration::from_secs(1);

impl ClientCommand {
    /// Does it, unless it is interrupted.
    fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let done = runtime.block_on(async {
            tokio::select! {
                done = self.work() => done,
                _ = tokio::signal::ctrl_c() => {
                    let _ = tokio::time::timeout(CLEAN_UP, transfer::give_up()).await;
                    Ok(ExitCode::from(EXIT_INTERRUPTED))
                }
            }
        });
        runtime.shutdown_timeout(CLEAN_UP);
        exit(done)
    }

    async fn work(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Ls(args) => ls::run(args).await,
            Self::Cp(args) => cp::run(*args, false).await,
            Self::Mv(args) => cp::run(*args, true).await,
            Self::Rm(args) => rm::run(args).await,
            Self::Cat(args) => cat::run(args).await,
            Self::Sync(args) => sync::run(*args).await,
            Self::Mb(args) => mb::make(args).await,
            Self::Rb(args) => mb::remove(args).await,
            Self::Stat(args) => stat::run(args).await,
            Self::Du(args) => du::run(args).await,
            Self::Diff(args) => diff::run(args).await,
            Self::Presign(args) => presign::run(args).await,
        }
    }
}

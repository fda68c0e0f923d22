//! `jay-admin`: the operator's commands, each a request to the admin port of a server.
//!
//! It knows nothing but that port: no data directory, no store. What it asks is in [`commands`], how in [`client`].

mod args;
mod client;
mod commands;
mod show;

use std::{env, fs, io::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::{CommandFactory as _, Parser as _};
use jay_server::args::with_double_dashes;
use zeroize::Zeroizing;

use self::{
    args::{Cli, Command},
    client::Client,
    commands::Session,
    show::Output,
};

const ADDR_DEFAULT: &str = "http://localhost:9001";

fn main() -> ExitCode {
    let args = with_double_dashes(env::args_os(), &Cli::command());
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Help is an answer; anything else is a mistake of the caller.
fn explain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    match text.strip_prefix("error: ") {
        Some(why) => eprint!("Error: {why}"),
        // The help, when a command is missing.
        None => eprint!("{text}"),
    }
    ExitCode::FAILURE
}

fn run(mut cli: Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Completions { shell } => {
            let (mut command, mut text) = (Cli::command(), Vec::new());
            clap_complete::generate(*shell, &mut command, "jay-admin", &mut text);
            return Ok(std::io::stdout().write_all(&text)?);
        }
        Command::Man { dir } => return man(dir),
        _ => {}
    }
    let token = token(&mut cli)?;
    let addr = cli.addr.or_else(|| variable("JAY_ADMIN_ADDR"));
    let addr = addr.as_deref().unwrap_or(ADDR_DEFAULT);
    let session = Session {
        client: Client::new(addr, cli.ca_file.as_deref(), token)?,
        output: Output::new(cli.json),
    };
    session.run(cli.command)
}

/// The admin token: from the arguments, a file or the environment.
fn token(cli: &mut Cli) -> anyhow::Result<Zeroizing<String>> {
    if let Some(token) = cli.token.take() {
        eprintln!(
            "Warning: everybody on this machine can see the arguments of a program: give the admin token by \
             JAY_ADMIN_TOKEN or --token-file."
        );
        return Ok(Zeroizing::new(token));
    }
    let file = cli.token_file.take();
    let token = variable("JAY_ADMIN_TOKEN").map(Zeroizing::new);
    let file = match (file, token) {
        (Some(file), _) => file,
        (None, Some(token)) => return Ok(token),
        (None, None) => match variable("JAY_ADMIN_TOKEN_FILE") {
            Some(file) => file.into(),
            None => bail!(
                "the admin token is not known: set JAY_ADMIN_TOKEN (`jay print-config --json` shows it) or give --token-file"
            ),
        },
    };
    let text = fs::read_to_string(&file);
    let text = Zeroizing::new(text.with_context(|| format!("{} cannot be read", file.display()))?);
    Ok(Zeroizing::new(text.trim_end().to_owned()))
}

/// An environment variable; an empty one counts as none.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Writes a page for the program and one for each command.
fn man(dir: &Path) -> anyhow::Result<()> {
    let failed = || format!("no man pages can be written into {}", dir.display());
    fs::create_dir_all(dir).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(failed)
}

//! `jay`: the server, and the verbs around it.
//!
//! This file only starts the command line and turns an error into a line on standard error and exit code 1.

mod admin;
mod cli;
mod credentials;
mod limits;
mod listener;
mod log;
mod metrics;
mod planted;
mod s3;
mod self_signed;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use jay_server::{args::with_double_dashes, config};

fn main() -> ExitCode {
    let args = with_double_dashes(std::env::args_os(), &cli::Cli::command());
    match cli::Cli::parse_from(args).run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("jay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

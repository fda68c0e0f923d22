//! `jay`: the server, and the verbs around it.
//!
//! This file only starts the command line and turns an error into a line on standard error and exit code 1.

mod admin;
mod cli;
mod config;
mod credentials;
mod limits;
mod listener;
mod log;
mod metrics;
mod planted;
mod s3;
mod self_signed;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("jay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `jay`: the server, and the verbs around it.
//!
//! This file only starts the command line and turns an error into a line on standard error and exit code 1.
// The fuzz targets use them by the library.
#![cfg_attr(feature = "fuzzing", allow(dead_code, unused_imports))]

mod admin;
mod cli;
mod credentials;
#[cfg(test)]
mod fuzzing;
mod limits;
mod listener;
mod log;
mod metrics;
mod native;
mod planted;
mod s3;
mod self_signed;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use jay_server::{args::with_double_dashes, config};

fn main() -> ExitCode {
    leave_no_core_files();
    let args = with_double_dashes(std::env::args_os(), &cli::Cli::command());
    match cli::Cli::parse_from(args).run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("jay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A core file would hold the secrets in clear, and the bodies on their way. Who needs one raises the limit of a running
/// process (`prlimit --core`).
fn leave_no_core_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Core)
    };
    // To lower one's own limit is always allowed.
    let _ = setrlimit(Resource::Core, limit);
}

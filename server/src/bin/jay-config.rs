//! `jay-config`: checks, converts and shows what `jay` is configured by.
//!
//! Translates the command line and nothing else; the rest is [`jay_server::config`]. Ends with 0 when all is good and
//! with 1 otherwise.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use jay_server::{
    args::with_double_dashes,
    config::{
        Config, Environment, Values,
        convert::{Converted, env_to_yaml, yaml_to_env},
        read_file, show, validate,
    },
};

/// Checks, converts and shows the settings of jay.
#[derive(Parser)]
#[command(
    name = "jay-config",
    version,
    arg_required_else_help = true,
    subcommand_required = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Turns a YAML file into lines NAME=value
    YamlToEnv(Files),
    /// Turns lines NAME=value into a YAML file
    EnvToYaml(Files),
    /// Says what is wrong with a YAML file; exits with 0 if nothing is
    Validate {
        /// The YAML file
        #[arg(short, long, value_name = "FILE")]
        input: PathBuf,
    },
    /// Shows the value of every setting in this environment and where it comes from, secrets masked
    Show {
        /// The YAML file [default: that of JAY_CONFIG_FILE, if it is set]
        #[arg(short, long, alias = "input", short_alias = 'i', value_name = "FILE")]
        config_file: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct Files {
    /// The file to read
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// The file to write, which only its owner may read [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = with_double_dashes(std::env::args_os(), &Cli::command());
    let done = match Cli::try_parse_from(args) {
        Ok(cli) => run(cli.command),
        Err(error) => return explain(&error),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("jay-config: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Help is an answer; anything else is a mistake of the caller, with the usage where no command was understood.
fn explain(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => eprint!("{error}"),
        kind => {
            let text = error.to_string();
            eprint!(
                "jay-config: {}",
                text.strip_prefix("error: ").unwrap_or(&text)
            );
            if kind == ErrorKind::InvalidSubcommand {
                eprint!("\n{}", Cli::command().render_help());
            }
        }
    }
    ExitCode::FAILURE
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::YamlToEnv(files) => {
            let input = files.input.display().to_string();
            let text = read_file(&files.input, "the file")?;
            let converted = yaml_to_env(&input, &text)
                .map_err(|error| anyhow::anyhow!("{input}:{}: {}", error.at, error.text))?;
            write(&converted, files.output.as_deref())?;
        }
        Command::EnvToYaml(files) => {
            let text = read_file(&files.input, "the file")?;
            let converted = env_to_yaml(&files.input.display().to_string(), &text);
            write(&converted, files.output.as_deref())?;
        }
        Command::Validate { input } => return check(&input),
        Command::Show { config_file, json } => shown(config_file.as_deref(), json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes what was made, and warns of what was not.
fn write(converted: &Converted, output: Option<&Path>) -> anyhow::Result<()> {
    for warning in &converted.warnings {
        eprintln!("jay-config: warning: {warning}");
    }
    let bytes = converted.text.as_bytes();
    match output {
        None => std::io::stdout()
            .write_all(bytes)
            .context("standard output could not be written"),
        Some(path) => OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(bytes))
            .with_context(|| format!("{} could not be written", path.display())),
    }
}

fn check(input: &Path) -> anyhow::Result<ExitCode> {
    let errors = validate::validate(&read_file(input, "the file")?);
    let input = input.display();
    for error in &errors {
        eprintln!("error: {input}:{}: {}", error.at, error.text);
    }
    if errors.is_empty() {
        println!("OK: {input} is valid");
    }
    Ok(ExitCode::from(u8::from(!errors.is_empty())))
}

/// Shows the settings even if no server can start with them, and then says so.
fn shown(file: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let values = Values::load(&Environment::of_process(), file)?;
    let rows = show::show(&values);
    let text = match json {
        true => serde_json::to_string_pretty(&rows)? + "\n",
        false => show::table(&rows),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("standard output could not be written")?;
    for notice in &values.notices {
        eprintln!("jay-config: warning: {notice}");
    }
    Config::from_values(&values)?;
    Ok(())
}

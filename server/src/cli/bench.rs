//! `jay bench`: a load generator for any S3 server, and for the native protocol.
//!
//! It makes a bucket when there is none, fills a key space, runs a mix of operations for a while, checks every body
//! it reads, prints what it saw and removes what it wrote. Over S3 each worker has a connection, kept alive; over the native
//! protocol they share those of one client.
//!
//! Two ways to send: without `--rate` each worker sends its next request when the last one was answered (closed loop),
//! which shows the highest throughput; with `--rate` requests have an intended time of sending that does not depend on
//! answers (open loop), and latency counts from it, so that a stalled server cannot hide what it made others wait.
//!
//! Called by the command line only. Deliberately absent: TLS (bench the plain port), multipart, and credentials as
//! arguments, where every user of the machine could read them.

mod client;
mod compare;
mod content;
mod load;
mod native;
mod pace;
mod parse;
mod report;
mod s3;
#[cfg(test)]
mod tests;

use std::{fmt, io::Write, time::Duration};

use anyhow::{Context, bail};
use serde::Serialize;

pub use self::parse::parse_duration;
use self::{
    client::Client,
    load::Load,
    native::Native,
    parse::{Mix, SizeRange},
    report::Report,
    s3::S3,
};
use super::{
    Usage,
    place::{Place, Server},
    sign::Signer,
    store::{Endpoint, Settings, StoreArgs, Stores},
};

/// Put load on an S3 server, or on a server of Jay by the native protocol; report throughput, errors and latency.
///
/// Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, with --native from JAY_TOKEN_ID
/// and JAY_TOKEN_SECRET or JAY_URL.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// Where the server is, with --native as jay://host:port [default: $AWS_ENDPOINT_URL, else http://127.0.0.1:9000; with
    /// --native $JAY_URL]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region to sign for [default: $AWS_REGION, else $AWS_DEFAULT_REGION, else us-east-1]
    #[arg(long)]
    pub region: Option<String>,
    /// Bucket to work in; made if missing, and then removed at the end
    #[arg(long, default_value = "jay-bench")]
    pub bucket: String,
    /// Operations and their weights, of put, get, head, delete and list
    #[arg(long, default_value = "put=1,get=3", value_name = "OP=WEIGHT,..")]
    pub mix: Mix,
    /// Size of a body, or a range such as 1KiB..64KiB, drawn log-uniformly
    #[arg(long, default_value = "1KiB")]
    pub size: SizeRange,
    /// Workers, each with at most one request under way, and over S3 with one connection; with --compare one number or several
    #[arg(long, default_value = "16", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: Vec<u32>,
    /// How long to measure: 10s, 500ms, 2m [default: 10s, or no end with --requests]
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// How long to run before measuring
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Stop after this many measured requests
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Requests per second to send whatever the answers (open loop); latency then counts from the intended time
    #[arg(long, value_name = "PER_SECOND", value_parser = parse::parse_rate)]
    pub rate: Option<f64>,
    /// Size of the key space; filled beforehand when the mix reads
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub keys: u64,
    /// Give up on a request after this long
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Sign bodies too (SHA-256 of each) instead of sending UNSIGNED-PAYLOAD
    #[arg(long)]
    pub sign_payload: bool,
    /// Speak the native protocol
    #[arg(long)]
    pub native: bool,
    /// Which version of it; the first one sends the secret
    #[arg(long, default_value = "v2", value_parser = ["v1", "v2"], value_name = "VERSION", requires = "native")]
    pub protocol: String,
    /// Let the native protocol, its first version and S3 take turns, each operation of the mix alone, and print ratios
    #[arg(long, conflicts_with_all = ["native", "rate", "requests", "keep"])]
    pub compare: bool,
    /// Turns of each with --compare; each takes --duration, by default 2s
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Leave the objects where they are
    #[arg(long)]
    pub keep: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    /// How many workers there are.
    fn workers(&self) -> u32 {
        self.concurrency.first().copied().unwrap_or(1)
    }
}

/// A round of a comparison, unless it is said.
const ROUND: Duration = Duration::from_secs(2);

/// Runs the load and prints the report; an error when any request failed or any body was wrong.
pub async fn run(args: BenchArgs) -> anyhow::Result<()> {
    if args.compare {
        return run_comparison(args).await;
    }
    if args.concurrency.len() > 1 {
        bail!(Usage("only --compare takes several concurrencies".into()));
    }
    let client = match args.native {
        true => native(&args, args.endpoint.as_deref(), &args.protocol)?,
        false => s3(&args)?,
    };
    let (report, cleaned) = measure(&args, client).await?;
    print(&report, args.json)?;
    let failed = report.total.error_count();
    if failed > 0 {
        bail!(
            "{failed} of {} requests failed",
            report.total.count + failed
        );
    }
    cleaned.context("the load is done, but what it wrote could not be removed")
}

async fn run_comparison(mut args: BenchArgs) -> anyhow::Result<()> {
    args.duration.get_or_insert(ROUND);
    let clients = vec![
        ("native v2", native(&args, None, "v2")?),
        ("native v1", native(&args, None, "v1")?),
        ("s3", s3(&args)?),
    ];
    print(&compare::compare(&args, clients).await?, args.json)
}

fn print(report: &(impl Serialize + fmt::Display), json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}

/// Bucket, prefill, load, cleanup. How the cleanup ended is apart, as the report is good without it.
async fn measure(
    args: &BenchArgs,
    mut client: Client,
) -> anyhow::Result<(Report, anyhow::Result<()>)> {
    let endpoint = client.url();
    let mut load = Load::new(args, &client)?;
    let made = client
        .ensure_bucket(&args.bucket)
        .await
        .with_context(|| format!("bucket {} on {endpoint}", args.bucket))?;
    let filled = load.fill().await;
    let report = match filled {
        Ok(()) => load.run().await,
        Err(error) => Err(error),
    };
    let cleaned = match args.keep {
        true => Ok(()),
        false => clean(&mut load, &mut client, made.then_some(&args.bucket)).await,
    };
    Ok((report?, cleaned))
}

async fn clean(load: &mut Load, client: &mut Client, made: Option<&String>) -> anyhow::Result<()> {
    load.clean().await?;
    if let Some(bucket) = made {
        client.delete_bucket(bucket).await?;
    }
    Ok(())
}

fn s3(args: &BenchArgs) -> anyhow::Result<Client> {
    let endpoint = args.endpoint.clone().or_else(Settings::endpoint_of_env);
    let endpoint = endpoint.unwrap_or_else(|| "http://127.0.0.1:9000".into());
    let settings = Settings::from_env(Some(&endpoint), args.region.as_deref())?;
    let endpoint = Endpoint::parse(&settings.endpoint)?;
    if endpoint.is_tls {
        bail!(
            "{}: only http:// is spoken, so bench the server's plain port",
            endpoint.url()
        );
    }
    let signer = Signer::new(settings.credentials, settings.region);
    let client = S3::new(endpoint, signer, args.timeout, args.sign_payload);
    Ok(Client::S3(client))
}

fn native(args: &BenchArgs, endpoint: Option<&str>, protocol: &str) -> anyhow::Result<Client> {
    let server = match endpoint.map(|url| Place::parse(url.as_ref())).transpose()? {
        None => Server::Known,
        Some(Place::Remote(remote)) if remote.server != Server::S3 => remote.server,
        Some(other) => bail!(Usage(format!("{other} is no jay://host:port"))),
    };
    let mut config = Stores::new(StoreArgs::default()).config(&server)?;
    config.set("protocol", protocol)?;
    // A load shows what fails.
    config.set("retries", "0")?;
    Ok(Client::Native(Native::new(config, args.timeout)?))
}

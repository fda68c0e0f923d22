//! `jay bench`: a load generator for any S3 server.
//!
//! It makes a bucket when there is none, fills a key space, runs a mix of operations for a while, checks every body
//! it reads, prints what it saw and removes what it wrote. One connection per worker, kept alive.
//!
//! Two ways to send: without `--rate` each worker sends its next request when the last one was answered (closed loop),
//! which shows the highest throughput; with `--rate` requests have an intended time of sending that does not depend on
//! answers (open loop), and latency counts from it, so that a stalled server cannot hide what it made others wait.
//!
//! Called by the command line only. Deliberately absent: TLS (bench the plain port), multipart, and credentials as
//! arguments, where every user of the machine could read them.

mod client;
mod content;
mod load;
mod pace;
mod parse;
mod report;
#[cfg(test)]
mod tests;

use std::{io::Write, time::Duration};

use anyhow::{Context, bail};

pub use self::parse::parse_duration;
use self::{
    client::{Client, Endpoint},
    load::Load,
    parse::{Mix, SizeRange},
    report::Report,
};
use super::sign::{Credentials, Signer};

/// Put load on an S3 server; report throughput, errors and latency.
///
/// Credentials come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// Where the server is [default: $AWS_ENDPOINT_URL, else http://127.0.0.1:9000]
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
    /// Workers, each with one connection and at most one request under way
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub concurrency: u32,
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
    /// Leave the objects where they are
    #[arg(long)]
    pub keep: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the load and prints the report; an error when any request failed or any body was wrong.
pub async fn run(args: BenchArgs) -> anyhow::Result<()> {
    let client = client(&args)?;
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

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
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
    let endpoint = client.endpoint().url();
    let mut load = Load::new(args, &client)?;
    let made = client
        .ensure_bucket(&args.bucket)
        .await
        .with_context(|| format!("bucket {} on {endpoint}", args.bucket))?;
    let report = load.run().await;
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

fn client(args: &BenchArgs) -> anyhow::Result<Client> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = args
        .endpoint
        .clone()
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .unwrap_or_else(|| "http://127.0.0.1:9000".into());
    let region = args
        .region
        .clone()
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .unwrap_or_else(|| "us-east-1".into());
    let missing = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (`jay print-config` shows them)";
    let credentials = Credentials {
        access_key_id: variable("AWS_ACCESS_KEY_ID").context(missing)?,
        secret_access_key: variable("AWS_SECRET_ACCESS_KEY").context(missing)?.into(),
        session_token: variable("AWS_SESSION_TOKEN"),
    };
    Ok(Client::new(
        Endpoint::parse(&endpoint)?,
        Signer::new(credentials, region),
        args.timeout,
        args.sign_payload,
    ))
}

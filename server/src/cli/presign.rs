//! `jay presign`: links that carry the rights of an access key for a while. They are for the S3 port, whichever way the place
//! is written, and no server is asked.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use anyhow::bail;
use clap::ValueEnum;
use http::Method;
use serde_json::json;

use super::{
    Usage,
    bench::parse_duration,
    ls::remote_with_bucket,
    sign::Signer,
    store::{Ask, Endpoint, StoreArgs, Stores, link},
    teller::{TellArgs, Teller},
};

/// Longest life of a link, as S3 has it.
const EXPIRES_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Options of `presign`.
#[derive(Clone, Debug, clap::Args)]
pub struct PresignArgs {
    /// An object of a jay:// or s3:// place, which need not be there
    place: OsString,
    /// What the link does
    #[arg(long, value_enum, default_value = "GET", ignore_case = true)]
    method: LinkMethod,
    /// How long it is good for: 3600 (seconds), 15m, 24h; at most 7 days
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    expires_in: Duration,
    #[command(flatten)]
    tell: TellArgs,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "UPPER")]
enum LinkMethod {
    Get,
    Head,
    Put,
    Delete,
}

/// Prints the link.
pub async fn run(args: PresignArgs) -> anyhow::Result<ExitCode> {
    let place = remote_with_bucket(&args.place)?;
    if place.key.is_empty() {
        bail!(Usage(format!("{place} is no object")));
    }
    if args.expires_in > EXPIRES_MAX || args.expires_in < Duration::from_secs(1) {
        bail!(Usage("a link is good for 1 s to 7 days".into()));
    }
    let settings = Stores::new(args.store).settings(&place.server)?;
    let endpoint = Endpoint::parse(&settings.endpoint)?;
    let mut signer = Signer::new(settings.credentials, settings.region);
    let (method, operation) = match args.method {
        LinkMethod::Get => (Method::GET, "GetObject"),
        LinkMethod::Head => (Method::HEAD, "HeadObject"),
        LinkMethod::Put => (Method::PUT, "PutObject"),
        LinkMethod::Delete => (Method::DELETE, "DeleteObject"),
    };
    let ask = Ask::new(operation, method, &place.bucket, &place.key);
    let url = link(&mut signer, &endpoint, &ask, args.expires_in);
    let value =
        json!({"url": url, "method": ask.method.as_str(), "expires_in": args.expires_in.as_secs()});
    Teller::new(args.tell, false).say(&value, || url.clone());
    Ok(ExitCode::SUCCESS)
}

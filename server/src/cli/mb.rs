//! `jay mb` and `jay rb`: makes and removes buckets.

use std::{ffi::OsString, process::ExitCode};

use anyhow::bail;
use serde_json::json;

use super::{
    Usage,
    ls::remote_with_bucket,
    place::Remote,
    store::{StoreArgs, Stores},
    teller::{TellArgs, Teller},
};

/// Options of `mb`.
#[derive(Clone, Debug, clap::Args)]
pub struct MakeArgs {
    /// A bucket, as jay:///bucket or s3://bucket
    bucket: OsString,
    #[command(flatten)]
    tell: TellArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// Options of `rb`.
#[derive(Clone, Debug, clap::Args)]
pub struct RemoveArgs {
    /// A bucket, as jay:///bucket or s3://bucket
    bucket: OsString,
    /// Delete all objects that are in it first, for good
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    tell: TellArgs,
    #[command(flatten)]
    store: StoreArgs,
}

fn bucket(argument: &OsString) -> Result<Remote, Usage> {
    let remote = remote_with_bucket(argument)?;
    match remote.key.is_empty() {
        true => Ok(remote),
        false => Err(Usage(format!("{remote} is no bucket"))),
    }
}

/// Makes a bucket.
pub async fn make(args: MakeArgs) -> anyhow::Result<ExitCode> {
    let place = bucket(&args.bucket)?;
    let store = Stores::new(args.store).open(&place.server)?;
    store.create_bucket(&place.bucket).await?;
    let name = place.to_string();
    Teller::new(args.tell, false).say(&json!({"action": "make_bucket", "source": name}), || {
        format!("make_bucket: {name}")
    });
    Ok(ExitCode::SUCCESS)
}

/// Removes a bucket.
pub async fn remove(args: RemoveArgs) -> anyhow::Result<ExitCode> {
    let place = bucket(&args.bucket)?;
    let store = Stores::new(args.store).open(&place.server)?;
    let teller = Teller::new(args.tell, false);
    let name = place.to_string();
    if args.force {
        let objects = store.delete_prefix(&place.bucket, "").await?;
        let value = json!({"action": "delete", "source": name, "objects": objects});
        teller.say(&value, || format!("delete: {objects} objects below {name}"));
    }
    match store.delete_bucket(&place.bucket).await {
        Err(error) if error.kind == jay_client::ErrorKind::BucketNotEmpty && !args.force => {
            bail!("{error}; --force deletes all objects that are in it");
        }
        deleted => deleted?,
    }
    let value = json!({"action": "remove_bucket", "source": name});
    teller.say(&value, || format!("remove_bucket: {name}"));
    Ok(ExitCode::SUCCESS)
}

//! What the native protocol costs, beside S3: one client process, whose contenders take turns within seconds.
//!
//! Contenders for small objects: native version 2, native version 1, S3 by the AWS SDK for Rust, and S3 by a bare loop over a
//! socket that sends presigned requests and reads just enough of the answer. For large ones: native version 2 against a
//! sender and a reader that checksum over loop-back, and against a file that is written and synced.
//!
//! Credentials come from the environment: `JAY_URL`, and `AWS_*` as `jay print-config` prints them.

mod large;
mod small;

use clap::Parser;

/// How fast, and beside what.
#[derive(Parser)]
pub struct Args {
    /// Turns of each contender
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Length of a turn in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Requests under way at a time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    concurrency: Vec<usize>,
    /// Size of small objects in bytes
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Contenders for small objects
    #[arg(long, value_delimiter = ',', default_values_t = ["v2", "v1", "sdk", "bare"].map(String::from))]
    contenders: Vec<String>,
    /// Size of the large object in MiB; 0: none
    #[arg(long, default_value_t = 1024)]
    large: usize,
    /// Where the limit of the disk is measured: on the file system of the store
    #[arg(long, default_value = ".")]
    dir: std::path::PathBuf,
    /// Only the large objects
    #[arg(long)]
    only_large: bool,
    /// Sends so many MiB, checksummed, to whoever connects: the other side of the loop-back limit
    #[arg(long, hide = true)]
    sender: Option<usize>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(size) = args.sender {
        return large::send(size).await;
    }
    if !args.only_large {
        small::run(&args).await?;
    }
    if args.large > 0 {
        large::run(&args).await?;
    }
    Ok(())
}

/// The one in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The bucket that everything goes to.
const BUCKET: &str = "bench-native";

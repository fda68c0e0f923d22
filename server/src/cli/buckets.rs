//! The buckets of `JAY_BUCKETS`, made when `serve` starts.

use anyhow::Context as _;
use jay_engine::{BucketName, Engine, ErrorKind};
use jiff::{Timestamp, tz::TimeZone};

use crate::config::REGION_DEFAULT;

/// Makes those of `buckets` that are missing, for the account of the access key `access_key_id`.
pub async fn make(
    engine: &Engine,
    access_key_id: &str,
    buckets: &[BucketName],
) -> anyhow::Result<()> {
    if buckets.is_empty() {
        return Ok(());
    }
    let today = Timestamp::now()
        .to_zoned(TimeZone::UTC)
        .strftime("%Y%m%d")
        .to_string();
    let (caller, _) = engine
        .signing_key(access_key_id, &today, REGION_DEFAULT)
        .with_context(|| {
            format!("the buckets of JAY_BUCKETS: {access_key_id} may not make them")
        })?;
    for bucket in buckets {
        match engine.create_bucket(&caller, bucket).await {
            Ok(_) => tracing::info!(bucket = bucket.as_str(), "seed: bucket created"),
            Err(error) if error.kind() == ErrorKind::BucketAlreadyOwnedByYou => {
                tracing::info!(bucket = bucket.as_str(), "seed: bucket exists");
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "the bucket {} of JAY_BUCKETS could not be made",
                        bucket.as_str()
                    )
                });
            }
        }
    }
    Ok(())
}

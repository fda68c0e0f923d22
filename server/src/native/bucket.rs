//! CreateBucket, DeleteBucket, HeadBucket and ListBuckets.

use jay_engine::{BucketName, BucketOptions};
use jay_wire::{Empty, bucket::*};

use super::{error::Result, operation::Call, time, uuid};

pub(super) async fn create_bucket(call: &Call<'_>, asked: CreateBucket) -> Result<BucketInfo> {
    let name = BucketName::parse(&asked.bucket)?;
    let options = BucketOptions {
        public_read: asked.public_read,
        owner: None,
    };
    let info = call
        .engine
        .create_bucket_with(call.caller, &name, options)
        .await?;
    Ok(self::info(call, &info))
}

pub(super) async fn delete_bucket(call: &Call<'_>, asked: DeleteBucket) -> Result<Empty> {
    let name = BucketName::parse(&asked.bucket)?;
    call.engine.delete_bucket(call.caller, &name).await?;
    Ok(Empty)
}

pub(super) async fn head_bucket(call: &Call<'_>, asked: HeadBucket) -> Result<BucketInfo> {
    let name = BucketName::parse(&asked.bucket)?;
    let info = call.engine.head_bucket(call.caller, &name).await?;
    Ok(self::info(call, &info))
}

pub(super) async fn list_buckets(call: &Call<'_>, _: ListBuckets) -> Result<BucketList> {
    let buckets = call.engine.list_buckets(call.caller).await?;
    let entries = buckets.iter().map(|bucket| BucketEntry {
        name: bucket.name.as_str().to_owned(),
        created_at: time(bucket.created),
    });
    Ok(BucketList {
        buckets: entries.collect(),
    })
}

fn info(call: &Call<'_>, info: &jay_engine::BucketInfo) -> BucketInfo {
    // The id of the store in front, so that two stores name no bucket alike.
    let store = u128::from_be_bytes(call.engine.store_id());
    BucketInfo {
        bucket_id: uuid(store << 64 | u128::from(info.id)),
        name: info.name.as_str().to_owned(),
        created_at: time(info.created),
        visibility: match info.public_read {
            true => "public-read".to_owned(),
            false => "private".to_owned(),
        },
        owner: info.owner.clone(),
        quota_bytes: info.quota_bytes,
    }
}

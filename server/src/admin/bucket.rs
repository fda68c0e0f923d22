//! `/_jay/buckets`: buckets of all accounts, what governs them and how full they are.

use axum::Extension;
use http::{Response, StatusCode};
use jay_engine::{BucketInfo, BucketName, BucketOptions, Caller, Engine, ErrorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api, Body, Error,
    error::ErrorAnswer,
    input::{InBucket, Input},
    json, no_content, time,
};

/// A bucket.
#[derive(Serialize, ToSchema)]
pub(super) struct Bucket {
    name: String,
    /// The `account_id` of the account that it belongs to.
    owner: String,
    /// RFC 3339.
    created_at: String,
    /// Whether everybody may read its objects.
    public_read: bool,
    /// Most bytes that its objects may have together; null: no limit.
    quota_bytes: Option<u64>,
    has_policy: bool,
    object_count: u64,
    total_size_bytes: u64,
}

impl Bucket {
    async fn of(engine: &Engine, bucket: BucketInfo) -> Result<Self, jay_engine::Error> {
        let caller = Caller::operator();
        let usage = engine.bucket_usage(&caller, &bucket.name).await?;
        Ok(Self {
            name: bucket.name.to_string(),
            owner: bucket.owner,
            created_at: time(bucket.created),
            public_read: bucket.public_read,
            quota_bytes: bucket.quota_bytes,
            has_policy: bucket.has_policy,
            object_count: usage.objects,
            total_size_bytes: usage.bytes,
        })
    }
}

async fn found(engine: &Engine, name: &BucketName) -> Result<Bucket, Error> {
    let bucket = engine.head_bucket(&Caller::operator(), name).await?;
    Ok(Bucket::of(engine, bucket).await?)
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBucket {
    #[schema(
        min_length = 3,
        max_length = 63,
        pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"
    )]
    name: String,
    /// The account that it shall belong to.
    account_id: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutPublic {
    public_read: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutQuota {
    /// null: no limit. It must be given, lest a typing error end a limit.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required, format = "uint64")]
    quota_bytes: Option<u64>,
}

/// All buckets, in the order of their names.
#[utoipa::path(get, path = "/_jay/buckets", operation_id = "ListBuckets",
    responses((status = 200, body = Vec<Bucket>), (status = "default", body = ErrorAnswer)))]
pub(super) async fn list(Extension(api): Extension<Api>) -> Result<Response<Body>, Error> {
    let mut buckets = Vec::new();
    for bucket in api.engine.list_buckets(&Caller::operator()).await? {
        match Bucket::of(&api.engine, bucket).await {
            Ok(bucket) => buckets.push(bucket),
            // It was deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NoSuchBucket => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(json(StatusCode::OK, &buckets))
}

/// Makes a bucket for an account.
#[utoipa::path(post, path = "/_jay/buckets", operation_id = "CreateBucket", request_body = CreateBucket,
    responses((status = 201, body = Bucket), (status = "default", body = ErrorAnswer)))]
pub(super) async fn create(
    Extension(api): Extension<Api>,
    Input(asked): Input<CreateBucket>,
) -> Result<Response<Body>, Error> {
    let name = BucketName::parse(&asked.name)?;
    let options = BucketOptions {
        owner: Some(asked.account_id),
        ..BucketOptions::default()
    };
    let caller = Caller::operator();
    let made = api.engine.create_bucket_with(&caller, &name, options).await;
    made.map_err(|error| match error.kind() {
        ErrorKind::NoSuchAccount => Error::bad_request("account not found"),
        _ => error.into(),
    })?;
    Ok(json(StatusCode::CREATED, &found(&api.engine, &name).await?))
}

/// A bucket.
#[utoipa::path(get, path = "/_jay/buckets/{name}", operation_id = "GetBucket",
    params(InBucket),
    responses((status = 200, body = Bucket), (status = "default", body = ErrorAnswer)))]
pub(super) async fn show(
    Extension(api): Extension<Api>,
    InBucket { name }: InBucket,
) -> Result<Response<Body>, Error> {
    Ok(json(StatusCode::OK, &found(&api.engine, &name).await?))
}

/// Deletes a bucket, which must be empty.
#[utoipa::path(delete, path = "/_jay/buckets/{name}", operation_id = "DeleteBucket",
    params(InBucket),
    responses((status = 204), (status = "default", body = ErrorAnswer)))]
pub(super) async fn delete(
    Extension(api): Extension<Api>,
    InBucket { name }: InBucket,
) -> Result<Response<Body>, Error> {
    api.engine.delete_bucket(&Caller::operator(), &name).await?;
    Ok(no_content())
}

/// Says whether everybody may read the objects of a bucket.
#[utoipa::path(put, path = "/_jay/buckets/{name}/public", operation_id = "PutBucketPublic",
    request_body = PutPublic, params(InBucket),
    responses((status = 200, body = Bucket), (status = "default", body = ErrorAnswer)))]
pub(super) async fn put_public(
    Extension(api): Extension<Api>,
    InBucket { name }: InBucket,
    Input(asked): Input<PutPublic>,
) -> Result<Response<Body>, Error> {
    let caller = Caller::operator();
    let engine = &api.engine;
    engine
        .put_bucket_acl(&caller, &name, asked.public_read)
        .await?;
    Ok(json(StatusCode::OK, &found(engine, &name).await?))
}

/// Limits the bytes in a bucket, or ends that. What is there already stays.
#[utoipa::path(put, path = "/_jay/buckets/{name}/quota", operation_id = "PutBucketQuota",
    request_body = PutQuota, params(InBucket),
    responses((status = 200, body = Bucket), (status = "default", body = ErrorAnswer)))]
pub(super) async fn put_quota(
    Extension(api): Extension<Api>,
    InBucket { name }: InBucket,
    Input(asked): Input<PutQuota>,
) -> Result<Response<Body>, Error> {
    let caller = Caller::operator();
    let engine = &api.engine;
    engine
        .put_bucket_quota(&caller, &name, asked.quota_bytes)
        .await?;
    Ok(json(StatusCode::OK, &found(engine, &name).await?))
}

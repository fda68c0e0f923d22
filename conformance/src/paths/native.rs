//! The Rust client over one version of the native protocol, as a driver. What it does by itself is not switched off but for
//! its retries; what it has no means to say is unsupported here too.

mod multipart;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use anyhow::bail;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jay_client::{
    Bucket, Checksum, Client, Config, ContentHeaders, Error, ErrorKind, GetObject, ObjectMeta,
};
use serde_json::{Map, Value, json};

use super::asked::{Args, Received, Refused, Result, answer_all, numbers, shown, unsupported};

/// What both versions can do.
pub(super) const CAPABILITIES: &[&str] = &["delete_prefix", "front", "head_objects"];
/// What version 2 can do beside that.
pub(super) const CAPABILITIES_V2: &[&str] = &[
    "checksums",
    "conditions",
    "copy",
    "get_ranges",
    "headers",
    "ranges",
    "tags",
    "upload_list",
];

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let kind = match (error.s3_code(), error.kind()) {
            // Version 1 has one code for buckets of one's own and of others, and there are no others here.
            (Some("BucketAlreadyExists"), _) => "BucketAlreadyOwnedByYou",
            (Some(code), _) => code,
            (None, ErrorKind::Unsupported) => "Unsupported",
            (None, _) => "ClientFailure",
        };
        Self(kind.to_owned(), error.to_string())
    }
}

/// Answers operations until its input ends.
pub fn serve(version: &str) -> anyhow::Result<()> {
    let mut config = Config::from_env()?;
    config.set("protocol", version)?;
    config.set("retries", "0")?;
    let capabilities = match version {
        "v1" => CAPABILITIES.to_vec(),
        "v2" => [CAPABILITIES, CAPABILITIES_V2].concat(),
        other => bail!("the protocol has no version {other}"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let store = Store(Client::new(config)?);
    answer_all(
        &format!("native-{version}"),
        &capabilities,
        runtime,
        |asked| {
            let store = store.clone();
            async move { store.answer(&asked).await }
        },
    )
}

/// The client.
#[derive(Clone)]
struct Store(Client);

impl Store {
    async fn answer(&self, asked: &Value) -> Result<Value> {
        if asked.get("via").is_some_and(|via| !via.is_null()) {
            return Err(unsupported("this way to send"));
        }
        let op = asked["op"].as_str().unwrap_or_default();
        let mut args = Args::of(asked);
        if op == "list_buckets" {
            return self.list_buckets(args).await;
        }
        let bucket = self.0.bucket(args.text("bucket")?);
        match op {
            "create_bucket" | "head_bucket" | "delete_bucket" => {
                args.end()?;
                self.bucket(op, bucket.name()).await
            }
            "put_object" => put_object(&bucket, args).await,
            "get_object" => get_object(&bucket, args).await,
            "get_ranges" => get_ranges(&bucket, args).await,
            "head_object" => head_object(&bucket, args).await,
            "head_objects" => head_objects(&bucket, args).await,
            "delete_object" => delete_object(&bucket, args).await,
            "delete_objects" => delete_objects(&bucket, args).await,
            "delete_prefix" => delete_prefix(&bucket, args).await,
            "list_objects" => list_objects(&bucket, args, "marker").await,
            "list_objects_v2" => list_objects(&bucket, args, "start_after").await,
            "copy_object" => self.copy_object(&bucket, args).await,
            "get_object_tagging" => {
                let key = args.text("key")?;
                args.end()?;
                Ok(json!({"tags": bucket.tags(&key).await?}))
            }
            "put_object_tagging" => {
                let (key, tags) = (args.text("key")?, args.map("tags")?);
                args.end()?;
                done(bucket.set_tags(&key, tags).await)
            }
            "delete_object_tagging" => {
                let key = args.text("key")?;
                args.end()?;
                done(bucket.delete_tags(&key).await)
            }
            _ => multipart::answer(&bucket, op, args).await,
        }
    }

    async fn bucket(&self, op: &str, name: &str) -> Result<Value> {
        match op {
            "create_bucket" => done(self.0.create_bucket(name).await.map(drop)),
            "delete_bucket" => done(self.0.delete_bucket(name).await),
            _ => match self.0.bucket_exists(name).await? {
                true => Ok(json!({})),
                false => Err(Refused("NoSuchBucket".into(), String::new())),
            },
        }
    }

    async fn list_buckets(&self, mut args: Args) -> Result<Value> {
        let prefix: String = args.option("bucket_prefix")?.unwrap_or_default();
        args.end()?;
        let buckets = self.0.list_buckets().await?;
        let named = buckets
            .iter()
            .filter(|bucket| bucket.name.starts_with(&prefix));
        let named = named.map(|bucket| json!({"bucket": bucket.name}));
        Ok(json!({"buckets": named.collect::<Vec<_>>()}))
    }

    async fn copy_object(&self, bucket: &Bucket, mut args: Args) -> Result<Value> {
        let key = args.text("key")?;
        let mut source = Args(args.required("source")?);
        let from = (self.0.bucket(source.text("bucket")?), source.text("key")?);
        source.end()?;
        let replaces = |directive: Option<String>| directive.as_deref() == Some("REPLACE");
        let (content_type, headers) = (args.option("content_type")?, content_headers(&mut args)?);
        let (metadata, tags) = (args.map("metadata")?, args.map("tags")?);
        let mut copy = bucket.copy("", key).from_bucket(&from.0, &from.1);
        if replaces(args.option("directive")?) {
            let content_type: String = content_type.unwrap_or_default();
            copy = copy.replace(content_type, headers, metadata);
        }
        if replaces(args.option("tagging_directive")?) {
            copy = copy.replace_tags(tags);
        }
        match args.option::<String>("if_none_match")?.as_deref() {
            None => {}
            Some("*") => copy = copy.if_none_match_any(),
            Some(_) => return Err(unsupported("a copy if another ETag is there")),
        }
        args.end()?;
        let copied = copy.await?;
        Ok(json!({"etag": copied.etag, "checksums": checksums(copied.checksum.as_ref())}))
    }
}

fn done(result: jay_client::Result<()>) -> Result<Value> {
    result?;
    Ok(json!({}))
}

fn content_headers(args: &mut Args) -> Result<ContentHeaders> {
    Ok(ContentHeaders {
        cache_control: args.option("cache_control")?,
        content_disposition: args.option("content_disposition")?,
        content_encoding: args.option("content_encoding")?,
        content_language: args.option("content_language")?,
        expires: args.option("expires")?,
    })
}

async fn put_object(bucket: &Bucket, mut args: Args) -> Result<Value> {
    let mut put = bucket.put(args.text("key")?, args.body()?);
    if let Some(text) = args.option::<String>("content_type")? {
        put = put.content_type(text);
    }
    put = put
        .headers(content_headers(&mut args)?)
        .tags(args.map("tags")?);
    for (name, value) in args.map("metadata")? {
        put = put.metadata(name, value);
    }
    if let Some(etag) = args.option::<String>("if_match")? {
        put = put.if_match(etag);
    }
    if let Some(etag) = args.option::<String>("if_none_match")? {
        put = put.if_none_match(etag);
    }
    if let Some((algorithm, value)) = args.checksum_given()? {
        put = put.checksum(Checksum { algorithm, value });
    }
    args.end()?;
    let stored = put.await?;
    Ok(json!({"etag": stored.etag, "checksums": checksums(stored.checksum.as_ref())}))
}

async fn get_object(bucket: &Bucket, mut args: Args) -> Result<Value> {
    let mut get = bucket.get(args.text("key")?);
    let range = args.range_numbers()?;
    match range {
        None => {}
        Some((Some(first), Some(last), None)) => get = get.range(first..=last),
        Some((Some(first), None, None)) => get = get.range(first..),
        Some((None, None, Some(length))) => get = get.suffix(length),
        Some(_) => return Err(unsupported("a range of this form")),
    }
    if let Some(etag) = args.option::<String>("if_match")? {
        get = get.if_match(etag);
    }
    if let Some(etag) = args.option::<String>("if_none_match")? {
        get = get.if_none_match(etag);
    }
    if let Some(time) = args.time("if_modified_since")? {
        get = get.if_modified_since(moment(time));
    }
    if let Some(time) = args.time("if_unmodified_since")? {
        get = get.if_unmodified_since(moment(time));
    }
    let has_checksums = args.option("checksum_mode")?.unwrap_or(false) && range.is_none();
    args.end()?;
    let got = get.await?;
    let mut result = described(got.meta(), has_checksums);
    let told = got.range();
    result["length"] = (told.end - told.start).into();
    if range.is_some() && !told.is_empty() {
        result["range"] = json!({"first": told.start, "last": told.end - 1});
    }
    result["body"] = received(got).await?;
    Ok(result)
}

async fn received(mut got: GetObject) -> Result<Value> {
    let mut received = Received::default();
    while let Some(bytes) = got.next_chunk().await? {
        received.take(&bytes);
    }
    Ok(received.told())
}

async fn get_ranges(bucket: &Bucket, mut args: Args) -> Result<Value> {
    let key = args.text("key")?;
    let asked: Vec<BTreeMap<String, u64>> = args.required("ranges")?;
    args.end()?;
    let ranges = asked.iter().map(|range| match numbers(range) {
        (Some(first), Some(last), None) => Ok(first..last + 1),
        _ => Err(unsupported("a range of this form")),
    });
    let ranges: Vec<_> = ranges.collect::<Result<_>>()?;
    let found = bucket.get_ranges(&key, &ranges).await?;
    let told = found.iter().map(|bytes| {
        let mut received = Received::default();
        received.take(bytes);
        json!({"body": received.told()})
    });
    Ok(json!({"ranges": told.collect::<Vec<_>>()}))
}

async fn head_object(bucket: &Bucket, mut args: Args) -> Result<Value> {
    let key = args.text("key")?;
    let has_checksums = args.option("checksum_mode")?.unwrap_or(false);
    args.end()?;
    let meta = bucket.head(&key).await?;
    let mut result = described(&meta, has_checksums);
    result["length"] = meta.size.into();
    Ok(result)
}

async fn head_objects(bucket: &Bucket, mut args: Args) -> Result<Value> {
    let keys: Vec<String> = args.required("keys")?;
    args.end()?;
    let found = bucket.head_many(&keys).await?;
    let told = keys.iter().zip(found).map(|(key, found)| match found {
        Ok(meta) => json!({"key": meta.key, "size": meta.size, "etag": meta.etag, "metadata": meta.metadata}),
        Err(error) => json!({"key": key, "kind": Refused::from(error).0}),
    });
    Ok(json!({"objects": told.collect::<Vec<_>>()}))
}

async fn delete_object(bucket: &Bucket, mut args: Args) -> Result<Value> {
    let key = args.text("key")?;
    args.end()?;
    done(bucket.delete(key).await)
}

async fn delete_objects(bucket: &Bucket, mut args: Args) -> Result<Value> {
    let keys: Vec<String> = args.required("keys")?;
    args.end()?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (key, outcome) in keys.iter().zip(bucket.delete_many(&keys).await?) {
        match outcome {
            Ok(()) => deleted.push(key),
            Err(error) => errors.push(json!({"key": key, "kind": Refused::from(error).0})),
        }
    }
    Ok(json!({"deleted": deleted, "errors": errors}))
}

async fn delete_prefix(bucket: &Bucket, mut args: Args) -> Result<Value> {
    let prefix = args.text("prefix")?;
    args.end()?;
    Ok(json!({"deleted": bucket.delete_prefix(&prefix).await?}))
}

/// Both versions of S3's listing; `begin` is what the first page begins behind.
async fn list_objects(bucket: &Bucket, mut args: Args, begin: &str) -> Result<Value> {
    let mut list = bucket.list(&args.option::<String>("prefix")?.unwrap_or_default());
    let begin: Option<String> = args.option(begin)?;
    let token: Option<String> = args.option("continuation_token")?;
    if let Some(after) = token.or(begin) {
        list = list.start_after(&after);
    }
    let delimiter: Option<String> = args.option("delimiter")?;
    if let Some(delimiter) = &delimiter {
        list = list.delimiter(delimiter);
    }
    if let Some(most) = args.option("max_keys")? {
        list = list.page_size(most);
    }
    args.end()?;
    let page = list.page().await?;
    let objects = page.objects.iter();
    let objects: Vec<_> = objects
        .map(|object| json!({"key": object.key, "size": object.size, "etag": object.etag}))
        .collect();
    let mut result = json!({
        "key_count": objects.len() + page.prefixes.len(), "objects": objects, "common_prefixes": page.prefixes,
        "truncated": page.next.is_some(),
    });
    if let Some(next) = page.next {
        result["next_continuation_token"] = next.clone().into();
        if delimiter.is_some() {
            result["next_marker"] = next.into();
        }
    }
    Ok(result)
}

/// What a GET or HEAD says about an object, but for its bytes.
fn described(meta: &ObjectMeta, has_checksums: bool) -> Value {
    let modified = meta.last_modified.duration_since(SystemTime::UNIX_EPOCH);
    let modified = modified.unwrap_or_default().as_millis() as u64;
    let mut result = json!({
        "size": meta.size, "etag": meta.etag, "metadata": meta.metadata, "last_modified": shown(modified),
    });
    if meta.tag_count > 0 {
        result["tag_count"] = meta.tag_count.into();
    }
    if has_checksums {
        result["checksums"] = checksums(meta.checksum.as_ref());
    }
    let headers = &meta.headers;
    for (name, value) in [
        ("content_type", &meta.content_type),
        ("cache_control", &headers.cache_control),
        ("content_disposition", &headers.content_disposition),
        ("content_encoding", &headers.content_encoding),
        ("content_language", &headers.content_language),
        ("expires", &headers.expires),
    ] {
        if let Some(value) = value {
            result[name] = value.clone().into();
        }
    }
    result
}

fn checksums(told: Option<&Checksum>) -> Value {
    let told = told.map(|sum| {
        (
            sum.algorithm.clone(),
            BASE64_STANDARD.encode(&sum.value).into(),
        )
    });
    Value::Object(told.into_iter().collect::<Map<_, _>>())
}

fn moment(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
}

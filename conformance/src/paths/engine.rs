//! The engine in process, as a driver: no server, no HTTP. What fronts do for their clients is absent here:
//! dates in headers, overrides, signatures.

mod args;
mod multipart;

use std::{collections::BTreeMap, ops::Range};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jay_engine::{
    BucketOptions, Caller, Checksum, ChecksumType, CopyOptions, Engine, EngineConfig, Error,
    ErrorKind, LIST_PAGE_MAX, ListEntry, ListOptions, ObjectInfo, ObjectKey, PutOptions,
    ReadOutcome, SeedToken, Select, Tags,
};
use serde_json::{Map, Value, json};

use super::asked::{Args, Received, Refused, Result, answer_all, shown, unsupported};

pub(super) const CAPABILITIES: &[&str] = &[
    "anonymous",
    "checksum_algorithm",
    "checksums",
    "complete_conditions",
    "conditions",
    "content_md5",
    "copy",
    "copy_conditions",
    "copy_part",
    "delete_prefix",
    "empty_pages",
    "get_ranges",
    "head_objects",
    "head_options",
    "headers",
    "part_minimum",
    "part_pages",
    "part_reads",
    "ranges",
    "tags",
    "told_checksums",
    "upload_details",
    "upload_list",
    "upload_pages",
];
/// Bytes of a body that are written at a time.
const CHUNK_BYTES: usize = 100_000;
const TOKEN: &str = "conformance";

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(format!("{:?}", error.kind()), error.context().to_owned())
    }
}

/// Answers operations until its input ends.
pub fn serve() -> anyhow::Result<()> {
    let directory =
        std::env::var_os("JAY_CONFORMANCE_DIR").context("JAY_CONFORMANCE_DIR is not set")?;
    let directory = std::path::Path::new(&directory).join("engine");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()?;
    let engine = Engine::open(EngineConfig::new(
        directory,
        "a signing secret of this driver alone",
    ))?;
    let seed = SeedToken {
        account: TOKEN.into(),
        id: TOKEN.into(),
        secret: "a secret of this driver alone".to_owned().into(),
    };
    runtime.block_on(engine.seed_token(seed))?;
    let (caller, _) = engine.signing_key(TOKEN, "20260101", "us-east-1")?;
    let store = Store { engine, caller };
    answer_all("engine", CAPABILITIES, runtime, |asked| {
        let store = store.clone();
        async move { store.answer(&asked).await }
    })?;
    store.engine.close()?;
    Ok(())
}

/// The engine and who calls.
#[derive(Clone)]
struct Store {
    engine: Engine,
    caller: Caller,
}

impl Store {
    /// Does what was asked, as who asked.
    async fn answer(mut self, asked: &Value) -> Result<Value> {
        match asked.get("via").map(Value::as_str) {
            None => {}
            Some(Some("anonymous")) => self.caller = Caller::anonymous(),
            Some(_) => return Err(unsupported("this way to send")),
        }
        let op = asked["op"].as_str().unwrap_or_default();
        self.perform(op, Args::of(asked)).await
    }

    async fn perform(&self, op: &str, args: Args) -> Result<Value> {
        match op {
            "create_bucket" | "put_bucket_acl" | "head_bucket" | "delete_bucket" => {
                self.bucket(op, args).await
            }
            "list_buckets" => self.list_buckets(args).await,
            "put_object" => self.put_object(args).await,
            "get_object" => self.get_object(args).await,
            "head_object" => self.head_object(args).await,
            "delete_object" => self.delete_object(args).await,
            "delete_objects" => self.delete_objects(args).await,
            "delete_prefix" => self.delete_prefix(args).await,
            "get_ranges" => self.get_ranges(args).await,
            "head_objects" => self.head_objects(args).await,
            "list_objects" => self.list_objects(args, "marker").await,
            "list_objects_v2" => self.list_objects(args, "start_after").await,
            "copy_object" => self.copy_object(args).await,
            "get_object_tagging" | "put_object_tagging" | "delete_object_tagging" => {
                self.tagging(op, args).await
            }
            _ => self.multipart(op, args).await,
        }
    }

    async fn bucket(&self, op: &str, mut args: Args) -> Result<Value> {
        let (engine, caller, bucket) = (&self.engine, &self.caller, args.bucket()?);
        let public_read = match args.option::<String>("acl")?.as_deref() {
            None | Some("private") => false,
            Some("public-read") => true,
            Some(other) => return Err(unsupported(format!("the access list {other}"))),
        };
        args.end()?;
        match op {
            "create_bucket" => {
                let options = BucketOptions {
                    public_read,
                    ..BucketOptions::default()
                };
                engine.create_bucket_with(caller, &bucket, options).await?;
            }
            "put_bucket_acl" => engine.put_bucket_acl(caller, &bucket, public_read).await?,
            "head_bucket" => drop(engine.head_bucket(caller, &bucket).await?),
            _ => engine.delete_bucket(caller, &bucket).await?,
        }
        Ok(json!({}))
    }

    async fn list_buckets(&self, mut args: Args) -> Result<Value> {
        let prefix: String = args.option("bucket_prefix")?.unwrap_or_default();
        args.end()?;
        let buckets = self.engine.list_buckets(&self.caller).await?;
        let names = buckets.iter().map(|bucket| bucket.name.as_str());
        let named = names
            .filter(|name| name.starts_with(&prefix))
            .map(|name| json!({"bucket": name}));
        Ok(json!({"buckets": named.collect::<Vec<_>>()}))
    }

    async fn put_object(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, bytes) = (args.bucket()?, args.key()?, args.body()?);
        let options = PutOptions {
            size: Some(bytes.len() as u64),
            headers: args.content_headers()?,
            metadata: args.metadata()?,
            tags: args.tags()?,
            content_md5: args.content_md5()?,
            checksum: args.checksum()?,
            checksum_algorithm: args.checksum_algorithm()?,
            conditions: args.conditions()?,
            ..PutOptions::default()
        };
        args.end()?;
        let mut writer = self
            .engine
            .put_object(&self.caller, &bucket, &key, options)
            .await?;
        for chunk in bytes.chunks(CHUNK_BYTES) {
            writer.write(chunk.to_vec().into()).await?;
        }
        Ok(written(&writer.finish(None).await?))
    }

    async fn get_object(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, select) = (args.bucket()?, args.key()?, args.select()?);
        let conditions = args.read_conditions("")?;
        let has_checksums = args.option("checksum_mode")?.unwrap_or(false);
        args.end()?;
        // As a front does: conditions are decided before the range, on what is opened.
        let info = self.engine.head_object(&self.caller, &bucket, &key).await?;
        must_proceed(conditions.decide(&info.etag, info.last_modified))?;
        let mut reader = self
            .engine
            .get_object(&self.caller, &bucket, &key, select)
            .await?;
        must_proceed(conditions.decide(&reader.info().etag, reader.info().last_modified))?;
        let mut received = Received::default();
        while let Some(bytes) = reader.next().await? {
            received.take(&bytes);
        }
        let mut result = described(reader.info(), select, reader.range(), has_checksums);
        result["body"] = received.told();
        Ok(result)
    }

    async fn get_ranges(&self, mut args: Args) -> Result<Value> {
        let (bucket, key) = (args.bucket()?, args.key()?);
        let asked: Vec<BTreeMap<String, u64>> = args.required("ranges")?;
        args.end()?;
        let mut ranges = Vec::new();
        for range in &asked {
            ranges.push(args::range_of(range)?);
        }
        let first = ranges.first().ok_or_else(|| unsupported("no ranges"))?;
        let mut reader = self
            .engine
            .get_object(&self.caller, &bucket, &key, Select::Range(*first))
            .await?;
        let mut told = Vec::new();
        for range in ranges {
            reader.select(range)?;
            let mut received = Received::default();
            while let Some(bytes) = reader.next().await? {
                received.take(&bytes);
            }
            told.push(json!({"body": received.told()}));
        }
        Ok(json!({"ranges": told}))
    }

    async fn head_objects(&self, mut args: Args) -> Result<Value> {
        let bucket = args.bucket()?;
        let names: Vec<String> = args.required("keys")?;
        args.end()?;
        let mut objects = Vec::new();
        for name in names {
            let key = ObjectKey::parse(&name)?;
            let found = self.engine.head_object(&self.caller, &bucket, &key).await;
            objects.push(match found {
                Ok(info) => {
                    json!({"key": name, "size": info.size, "etag": info.etag.as_str(), "metadata": info.metadata})
                }
                Err(error) if error.kind() == ErrorKind::NoSuchBucket => return Err(error.into()),
                Err(error) => json!({"key": name, "kind": format!("{:?}", error.kind())}),
            });
        }
        Ok(json!({"objects": objects}))
    }

    async fn delete_prefix(&self, mut args: Args) -> Result<Value> {
        let bucket = args.bucket()?;
        let mut options = ListOptions {
            prefix: args.text("prefix")?,
            delimiter: None,
            after: None,
            max_keys: LIST_PAGE_MAX,
        };
        args.end()?;
        let mut deleted = 0;
        loop {
            let page = self
                .engine
                .delete_prefix(&self.caller, &bucket, &options)
                .await?;
            deleted += page.deleted;
            options.after = page.next;
            if options.after.is_none() {
                return Ok(json!({"deleted": deleted}));
            }
        }
    }

    async fn head_object(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, select) = (args.bucket()?, args.key()?, args.select()?);
        let conditions = args.read_conditions("")?;
        let has_checksums = args.option("checksum_mode")?.unwrap_or(false);
        args.end()?;
        let info = self.engine.head_object(&self.caller, &bucket, &key).await?;
        must_proceed(conditions.decide(&info.etag, info.last_modified))?;
        // Only an open object knows where its parts are.
        let reader = self
            .engine
            .get_object(&self.caller, &bucket, &key, select)
            .await?;
        Ok(described(
            reader.info(),
            select,
            reader.range(),
            has_checksums,
        ))
    }

    async fn delete_object(&self, mut args: Args) -> Result<Value> {
        let (bucket, key) = (args.bucket()?, args.key()?);
        args.end()?;
        self.engine
            .delete_object(&self.caller, &bucket, &key)
            .await?;
        Ok(json!({}))
    }

    async fn delete_objects(&self, mut args: Args) -> Result<Value> {
        let bucket = args.bucket()?;
        let names: Vec<String> = args.required("keys")?;
        args.end()?;
        let keys: Vec<ObjectKey> = names
            .iter()
            .map(|key| ObjectKey::parse(key))
            .collect::<Result<_, _>>()?;
        let outcomes = self
            .engine
            .delete_objects(&self.caller, &bucket, &keys)
            .await?;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (key, outcome) in names.iter().zip(outcomes) {
            match outcome {
                Ok(()) => deleted.push(key),
                Err(error) => {
                    errors.push(json!({"key": key, "kind": format!("{:?}", error.kind())}))
                }
            }
        }
        Ok(json!({"deleted": deleted, "errors": errors}))
    }

    async fn copy_object(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, source) = (args.bucket()?, args.key()?, args.source()?);
        let replaces = |directive: Option<String>| directive.as_deref() == Some("REPLACE");
        let (headers, metadata, tags) = (args.content_headers()?, args.metadata()?, args.tags()?);
        let options = CopyOptions {
            once: None,
            replace: replaces(args.option("directive")?).then_some((headers, metadata)),
            tags: replaces(args.option("tagging_directive")?).then_some(tags),
            checksum_algorithm: args.checksum_algorithm()?,
            conditions: args.conditions()?,
        };
        args.end()?;
        let copied = self
            .engine
            .copy_object(&self.caller, &source, &bucket, &key, options);
        Ok(written(&copied.await?))
    }

    async fn tagging(&self, op: &str, mut args: Args) -> Result<Value> {
        let (bucket, key, tags) = (args.bucket()?, args.key()?, args.tags()?);
        args.end()?;
        if op == "get_object_tagging" {
            let tags = self
                .engine
                .get_object_tagging(&self.caller, &bucket, &key)
                .await?;
            let tags = tags
                .iter()
                .map(|tag| (tag.key.clone(), tag.value.clone().into()));
            return Ok(json!({"tags": tags.collect::<Map<_, Value>>()}));
        }
        let tags = if op == "put_object_tagging" {
            tags
        } else {
            Tags::default()
        };
        self.engine
            .put_object_tagging(&self.caller, &bucket, &key, tags)
            .await?;
        Ok(json!({}))
    }

    /// Both versions; `begin` is what the first page begins behind.
    async fn list_objects(&self, mut args: Args, begin: &str) -> Result<Value> {
        let bucket = args.bucket()?;
        let begin: Option<String> = args.option(begin)?;
        let token: Option<String> = args.option("continuation_token")?;
        let options = ListOptions {
            prefix: args.option("prefix")?.unwrap_or_default(),
            delimiter: args.option("delimiter")?,
            after: token.or(begin),
            max_keys: args.option("max_keys")?.unwrap_or(1000),
        };
        args.end()?;
        let page = self
            .engine
            .list_objects(&self.caller, &bucket, &options)
            .await?;
        let (mut objects, mut prefixes) = (Vec::new(), Vec::new());
        for entry in &page.entries {
            match entry {
                ListEntry::Object(info) => {
                    objects.push(json!({"key": info.key.as_str(), "size": info.size, "etag": info.etag.as_str()}));
                }
                ListEntry::CommonPrefix(prefix) => prefixes.push(prefix),
            }
        }
        let mut result = json!({
            "objects": objects, "common_prefixes": prefixes, "truncated": page.next.is_some(), "key_count": page.entries.len(),
        });
        if let Some(next) = page.next {
            result["next_continuation_token"] = next.clone().into();
            if options.delimiter.is_some() {
                result["next_marker"] = next.into();
            }
        }
        Ok(result)
    }
}

fn must_proceed(outcome: ReadOutcome) -> Result<()> {
    match outcome {
        ReadOutcome::Proceed => Ok(()),
        ReadOutcome::NotModified => Err(Refused("NotModified".into(), String::new())),
        ReadOutcome::Failed(what) => Err(Refused("PreconditionFailed".into(), what.into())),
    }
}

fn written(info: &ObjectInfo) -> Value {
    json!({"etag": info.etag.as_str(), "checksums": checksums(info), "checksum_type": info.checksum_type.name()})
}

/// What a GET or HEAD says about an object.
fn described(info: &ObjectInfo, select: Select, range: Range<u64>, has_checksums: bool) -> Value {
    let mut result = json!({
        "size": info.size, "length": range.end - range.start, "etag": info.etag.as_str(), "metadata": info.metadata,
        "last_modified": shown(info.last_modified.0),
    });
    if select != Select::Whole && range.end > range.start {
        result["range"] = json!({"first": range.start, "last": range.end - 1});
    }
    if let (Select::Part(_), Some(count)) = (select, info.parts_count) {
        result["parts_count"] = count.into();
    }
    if info.tag_count > 0 {
        result["tag_count"] = info.tag_count.into();
    }
    if has_checksums && select == Select::Whole {
        result["checksums"] = checksums(info);
        result["checksum_type"] = info.checksum_type.name().into();
    }
    let headers = &info.headers;
    for (name, value) in [
        ("content_type", &headers.content_type),
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

/// The checksums of an object; a composite one with the number of its parts.
fn checksums(info: &ObjectInfo) -> Value {
    let pair = |(i, sum): (usize, &Checksum)| {
        let mut text = BASE64_STANDARD.encode(&sum.value);
        if let (0, ChecksumType::Composite, Some(count)) = (i, info.checksum_type, info.parts_count)
        {
            text += &format!("-{count}");
        }
        (sum.algorithm.name().to_owned(), text.into())
    };
    Value::Object(info.checksums.iter().enumerate().map(pair).collect())
}

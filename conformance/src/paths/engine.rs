//! The engine in process, as a driver: no server, no HTTP. What fronts do for their clients is absent here:
//! dates in headers, overrides, signatures.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, Write as _},
    sync::Arc,
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jay_engine::{
    BucketName, ByteRange, Caller, Checksum, ChecksumAlgorithm, Conditions, ContentHeaders, ETag,
    Engine, EngineConfig, Error, ListEntry, ListOptions, ObjectInfo, ObjectKey, PutOptions,
    SeedToken,
};
use md5::{Digest as _, Md5};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::Sha256;

use crate::body::{self, Piece, hex};

const CAPABILITIES: [&str; 0] = [];
/// Bytes of a body that are written at a time.
const CHUNK_BYTES: usize = 100_000;
const TOKEN: &str = "conformance";

/// Why an operation failed: its kind, and a sentence.
struct Refused(String, String);

type Result<T, E = Refused> = std::result::Result<T, E>;

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(format!("{:?}", error.kind()), error.context().to_owned())
    }
}

fn unsupported(why: impl std::fmt::Display) -> Refused {
    Refused("Unsupported".into(), why.to_string())
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
    let store = Arc::new(Store { engine, caller });
    say(&json!({"driver": "engine", "capabilities": CAPABILITIES}))?;
    for line in std::io::stdin().lock().lines() {
        let mut asked: Map<String, Value> = serde_json::from_str(&line?)?;
        let store = store.clone();
        runtime.spawn(async move {
            let args = asked
                .remove("args")
                .and_then(|args| args.as_object().cloned());
            let op = asked["op"].as_str().unwrap_or_default();
            let answer = match store.perform(op, Args(args.unwrap_or_default())).await {
                Ok(result) => json!({"id": asked["id"], "result": result}),
                Err(Refused(kind, message)) => {
                    json!({"id": asked["id"], "error": {"kind": kind, "message": message}})
                }
            };
            // A runner that is gone needs no answer.
            let _ = say(&answer);
        });
    }
    drop(runtime);
    store.engine.close()?;
    Ok(())
}

fn say(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

/// The arguments of an operation. Each is taken; what is left is unknown.
struct Args(Map<String, Value>);

impl Args {
    fn option<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let value = self.0.remove(name);
        let value = value.map(|value| {
            serde_json::from_value(value).map_err(|e| unsupported(format!("{name}: {e}")))
        });
        value.transpose()
    }

    fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        self.option(name)?
            .ok_or_else(|| unsupported(format!("{name} is missing")))
    }

    fn bucket(&mut self) -> Result<BucketName> {
        Ok(BucketName::parse(&self.required::<String>("bucket")?)?)
    }

    fn key(&mut self) -> Result<ObjectKey> {
        Ok(ObjectKey::parse(&self.required::<String>("key")?)?)
    }

    fn body(&mut self) -> Result<Vec<u8>> {
        Ok(body::bytes(&self.required::<Vec<Piece>>("body")?))
    }

    fn content_headers(&mut self) -> Result<ContentHeaders> {
        Ok(ContentHeaders {
            content_type: self.option("content_type")?,
            cache_control: self.option("cache_control")?,
            content_disposition: self.option("content_disposition")?,
            content_encoding: self.option("content_encoding")?,
            content_language: self.option("content_language")?,
            expires: self.option("expires")?,
        })
    }

    fn metadata(&mut self) -> Result<BTreeMap<String, String>> {
        Ok(self.option("metadata")?.unwrap_or_default())
    }

    /// Preconditions of a write.
    fn conditions(&mut self) -> Result<Conditions> {
        let mut etag = |name| -> Result<_> {
            let text: Option<String> = self.option(name)?;
            Ok(text.map(|text| (text != "*").then(|| ETag::new(text))))
        };
        Ok(Conditions {
            if_match: etag("if_match")?,
            if_none_match: etag("if_none_match")?,
        })
    }

    fn range(&mut self) -> Result<Option<ByteRange>> {
        let Some(range) = self.option::<BTreeMap<String, u64>>("range")? else {
            return Ok(None);
        };
        let of = |name: &str| range.get(name).copied();
        Ok(Some(match (of("first"), of("last"), of("suffix")) {
            (Some(first), Some(last), None) => ByteRange::FromTo { first, last },
            (Some(first), None, None) => ByteRange::From { first },
            (None, None, Some(length)) => ByteRange::Suffix { length },
            _ => return Err(unsupported("a range of this form")),
        }))
    }

    fn checksum_algorithm(&mut self) -> Result<Option<ChecksumAlgorithm>> {
        let name: Option<String> = self.option("checksum_algorithm")?;
        name.map(|name| algorithm(&name)).transpose()
    }

    fn checksum(&mut self) -> Result<Option<Checksum>> {
        let Some(given) = self.option::<BTreeMap<String, String>>("checksum")? else {
            return Ok(None);
        };
        let of = |name: &str| given.get(name).map(String::as_str).unwrap_or_default();
        let value = BASE64_STANDARD.decode(of("value")).map_err(unsupported)?;
        let algorithm = algorithm(of("algorithm"))?;
        Ok(Some(Checksum { algorithm, value }))
    }

    fn content_md5(&mut self) -> Result<Option<[u8; 16]>> {
        let Some(text) = self.option::<String>("content_md5")? else {
            return Ok(None);
        };
        let bytes = BASE64_STANDARD.decode(text).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Some)
            .ok_or_else(|| Refused("InvalidDigest".into(), "no MD5".into()))
    }

    /// That nothing is left.
    fn end(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(unsupported(format!("the argument {name}"))),
        }
    }
}

fn algorithm(name: &str) -> Result<ChecksumAlgorithm> {
    let found = ChecksumAlgorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name() == name);
    found.ok_or_else(|| unsupported(format!("the checksum {name}")))
}

/// The engine and who calls.
struct Store {
    engine: Engine,
    caller: Caller,
}

impl Store {
    async fn perform(&self, op: &str, args: Args) -> Result<Value> {
        match op {
            "create_bucket" | "head_bucket" | "delete_bucket" => self.bucket(op, args).await,
            "list_buckets" => self.list_buckets(args).await,
            "put_object" => self.put_object(args).await,
            "get_object" => self.get_object(args).await,
            "head_object" => self.head_object(args).await,
            "delete_object" => self.delete_object(args).await,
            "delete_objects" => self.delete_objects(args).await,
            "list_objects" => self.list_objects(args, "marker").await,
            "list_objects_v2" => self.list_objects(args, "start_after").await,
            _ => Err(unsupported(op)),
        }
    }

    async fn bucket(&self, op: &str, mut args: Args) -> Result<Value> {
        let bucket = args.bucket()?;
        args.end()?;
        match op {
            "create_bucket" => self.engine.create_bucket(&self.caller, &bucket).await?,
            "head_bucket" => drop(self.engine.head_bucket(&self.caller, &bucket).await?),
            _ => self.engine.delete_bucket(&self.caller, &bucket).await?,
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
        let (bucket, key, range) = (args.bucket()?, args.key()?, args.range()?);
        let has_checksums = args.option("checksum_mode")?.unwrap_or(false);
        args.end()?;
        let mut reader = self
            .engine
            .get_object(&self.caller, &bucket, &key, range)
            .await?;
        let (mut sha256, mut md5, mut size) = (Sha256::new(), Md5::new(), 0);
        while let Some(bytes) = reader.next().await? {
            sha256.update(&bytes);
            md5.update(&bytes);
            size += bytes.len();
        }
        let mut result = described(reader.info(), has_checksums && range.is_none());
        if range.is_some() {
            let range = reader.range();
            result["range"] = json!({"first": range.start, "last": range.end - 1});
            result["length"] = (range.end - range.start).into();
        }
        let (sha256, md5) = (hex(&sha256.finalize()), hex(&md5.finalize()));
        result["body"] = json!({"size": size, "sha256": sha256, "md5": md5});
        Ok(result)
    }

    async fn head_object(&self, mut args: Args) -> Result<Value> {
        let (bucket, key, range) = (args.bucket()?, args.key()?, args.range()?);
        let has_checksums = args.option("checksum_mode")?.unwrap_or(false);
        args.end()?;
        let info = self.engine.head_object(&self.caller, &bucket, &key).await?;
        let mut result = described(&info, has_checksums && range.is_none());
        if let Some(range) = range {
            let range = range.resolve(info.size)?;
            result["range"] = json!({"first": range.start, "last": range.end - 1});
            result["length"] = (range.end - range.start).into();
        }
        Ok(result)
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

fn written(info: &ObjectInfo) -> Value {
    json!({"etag": info.etag.as_str(), "checksums": checksums(info)})
}

/// What a GET or HEAD says about an object.
fn described(info: &ObjectInfo, has_checksums: bool) -> Value {
    let seconds = i64::try_from(info.last_modified.0 / 1000).unwrap_or_default();
    let mut result = json!({
        "size": info.size, "length": info.size, "etag": info.etag.as_str(), "metadata": info.metadata,
        "last_modified": jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string(),
    });
    if has_checksums {
        result["checksums"] = checksums(info);
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

fn checksums(info: &ObjectInfo) -> Value {
    let pair = |sum: &Checksum| {
        (
            sum.algorithm.name().to_owned(),
            BASE64_STANDARD.encode(&sum.value).into(),
        )
    };
    Value::Object(info.checksums.iter().map(pair).collect())
}

//! Durable PUTs by the engine alone, in this process: what S3 adds is the difference to the same load over a socket.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use jay_engine::{BucketName, Engine, EngineConfig, ObjectKey, PutOptions, SeedToken};

use crate::clients::{Seen, drive, runtime};

/// Bytes of a body.
pub const BODY_BYTES: usize = 1 << 10;

/// Where the objects go.
pub struct Keys {
    /// New in every round, as it is for `jay bench`: later rounds write into a fuller store and overwrite no earlier one.
    pub folder: String,
    /// Size of the key space.
    pub count: u64,
}

/// What a round of PUTs saw.
pub struct Puts {
    /// By the clients.
    pub seen: Seen,
    /// Until the engine had finished what it had acknowledged, and was closed.
    pub closed_in: Duration,
}

/// Opens the store in `dir`, writes bodies of 1 KiB under `keys` with `clients` clients, and closes it.
pub fn run(
    dir: &Path,
    keys: Keys,
    clients: u32,
    warmup: Duration,
    duration: Duration,
) -> anyhow::Result<Puts> {
    let runtime = runtime()?;
    let store = Arc::new(runtime.block_on(Store::open(dir, keys))?);
    let putting = store.clone();
    let seen = runtime.block_on(drive(clients, warmup, duration, move |number| {
        let store = putting.clone();
        async move { store.put(number).await }
    }))?;
    let start = Instant::now();
    store
        .engine
        .close()
        .context("the engine could not be closed")?;
    Ok(Puts {
        seen,
        closed_in: start.elapsed(),
    })
}

/// Spreads client and count over the key space, as keys that come in order are an easy case for every index.
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

struct Store {
    engine: Engine,
    caller: jay_engine::Caller,
    bucket: BucketName,
    keys: Keys,
    body: Bytes,
}

impl Store {
    async fn open(dir: &Path, keys: Keys) -> anyhow::Result<Self> {
        const KEY_ID: &str = "JAYLIMITS";
        let secret = "a secret that guards nothing but a benchmark";
        let engine = Engine::open(EngineConfig::new(dir, secret))?;
        let seed = SeedToken {
            account: "limits".into(),
            id: KEY_ID.into(),
            secret: secret.to_owned().into(),
        };
        engine.seed_token(seed).await?;
        let (caller, _) = engine.signing_key(KEY_ID, "20260101", "us-east-1")?;
        let bucket = BucketName::parse("jay-limits")?;
        if engine.head_bucket(&caller, &bucket).await.is_err() {
            engine.create_bucket(&caller, &bucket).await?;
        }
        Ok(Self {
            engine,
            caller,
            bucket,
            keys,
            body: Bytes::from(vec![b'x'; BODY_BYTES]),
        })
    }

    async fn put(&self, number: u64) -> anyhow::Result<()> {
        let key = scatter(scatter(number) % self.keys.count + 1);
        let key = ObjectKey::parse(&format!("{}/{key:016x}", self.keys.folder))?;
        let options = PutOptions {
            size: Some(BODY_BYTES as u64),
            ..PutOptions::default()
        };
        let mut writer = self
            .engine
            .put_object(&self.caller, &self.bucket, &key, options)
            .await?;
        writer.write(self.body.clone()).await?;
        writer.finish(None).await?;
        Ok(())
    }
}

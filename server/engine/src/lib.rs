//! Jay's engine: the object store itself, without HTTP and sockets. Also the in-process API.
//!
//! A front decodes a request, calls one method of [`Engine`] and encodes the answer; it holds nothing else,
//! so it cannot bypass what is decided here. What is acknowledged is durable: see ARCHITECTURE.md for how,
//! and FORMAT.md for every byte on disk. Its futures run on a tokio runtime with time enabled.
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # let dir = tempfile::tempdir().unwrap();
//! # let secret = zeroize::Zeroizing::new("an access secret".to_owned());
//! use jay_engine::{BucketName, Engine, EngineConfig, ObjectKey, PutOptions, SeedToken, Select};
//!
//! let config = EngineConfig::new(dir.path(), "a signing secret of at least 32 bytes");
//! let engine = Engine::open(config).unwrap();
//! # runtime.block_on(async {
//! let seed = SeedToken { account: "me".into(), id: "key".into(), secret };
//! engine.seed_token(seed).await?;
//! let (caller, _) = engine.signing_key("key", "20260101", "us-east-1")?;
//!
//! let (bucket, key) = (BucketName::parse("photos")?, ObjectKey::parse("a/b.jpg")?);
//! engine.create_bucket(&caller, &bucket).await?;
//! let mut put = engine.put_object(&caller, &bucket, &key, PutOptions::default()).await?;
//! put.write("hello".into()).await?;
//! let stored = put.finish(None).await?;
//! assert_eq!(stored.etag.as_str(), "5d41402abc4b2a76b9719d911017c592");
//!
//! let mut got = engine.get_object(&caller, &bucket, &key, Select::Whole).await?;
//! assert_eq!(got.next().await?.as_deref(), Some(&b"hello"[..]));
//! # Ok::<_, jay_engine::Error>(())
//! # }).unwrap();
//! engine.close().unwrap();
//! ```

pub mod auth;
pub mod blob;
mod codec;
mod counters;
mod digest;
pub mod disk;
mod engine;
pub mod env;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(test, shuttle))]
mod interleavings;
pub mod maintenance;
pub mod meta;
mod piece;
pub mod planted;
pub mod service;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod sync;
mod types;

pub use crate::{
    auth::{
        Action, Caller, Reason, SigningKey,
        link::{LINK_SECONDS_MAX, Link},
    },
    counters::{Counter, Counters, Gauges, Histogram, Syncs},
    engine::{Engine, EngineConfig, Memory, OpenError, ScrubStatus, accept_loss, fsck, store_id},
    error::{Error, ErrorKind, Result},
    maintenance::{
        accept::Acceptance,
        backup::{BackupError, BackupOptions, BackupReport, Progress as BackupProgress},
        fsck::{Finding, FindingKind, Findings, FsckPhase, FsckProgress, FsckReport},
        schedule::UpkeepConfig,
        scrub::{ScrubConfig, ScrubExtent, ScrubPass},
        snapshot::SnapshotInfo,
        verify::Depth,
    },
    meta::{
        local::{
            LocalConfig,
            holes::{LogHole, Loss, NotAHole},
        },
        record::ScrubTally,
    },
    service::{
        access::Question,
        account::AccountInfo,
        multipart::PartWriter,
        object::ObjectWriter,
        read::ObjectReader,
        rekey::{OldSecret, RekeyReport, rekey},
        token::{NewToken, SeedOutcome, SeedReport, SeedToken, TokenInfo, TokenOptions},
    },
    types::*,
};

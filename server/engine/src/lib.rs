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
pub mod env;
mod error;
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

use std::{
    cell::Cell,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, TryLockError},
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

pub use crate::{
    auth::{
        Action, Caller, Reason, SigningKey,
        link::{LINK_SECONDS_MAX, Link},
    },
    counters::{Counter, Counters, Gauges, Histogram, Syncs},
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
use crate::{
    auth::{KeyId, Secrets},
    disk::{Disk, real::RealDisk},
    env::Env,
    maintenance::{
        backup::{self, Backup},
        fsck::{Fsck, closed},
        schedule::Upkeep,
        scrub,
    },
    meta::{
        key::{BucketId, Key},
        local::{recovery, runtime::LocalStore},
        record::{Record, ScrubRecord},
    },
    service::{Service, multipart::PartOf},
};

/// Where a store lives and how much memory it may take.
#[derive(Clone)]
pub struct EngineConfig {
    /// Its directory, made when it is missing.
    pub data_dir: PathBuf,
    /// Seals token secrets at rest; at least 32 bytes.
    pub signing_secret: Zeroizing<String>,
    /// Longest body that is kept in the log instead of a file of its own, in bytes (128 KiB).
    pub inline_max: usize,
    /// Memory for large bodies on their way in and out, in bytes (256 MiB). An upload takes 768 KiB, a
    /// download 512 KiB; further ones wait, 30 s at most.
    pub buffer_bytes_max: usize,
    /// Of the whole reads, the share whose SHA-256 is checked on top of the sums of all blocks (0.05).
    pub verify_sample_rate: f64,
    /// When and how much is collected, scrubbed and saved.
    pub upkeep: UpkeepConfig,
    /// Sizes and limits of log and index.
    pub local: LocalConfig,
}

impl EngineConfig {
    /// The defaults for a store in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>, signing_secret: impl Into<String>) -> Self {
        Self {
            data_dir: data_dir.into(),
            signing_secret: Zeroizing::new(signing_secret.into()),
            inline_max: 128 << 10,
            buffer_bytes_max: 256 << 20,
            verify_sample_rate: 0.05,
            upkeep: UpkeepConfig::default(),
            local: LocalConfig::default(),
        }
    }
}

/// Why a store could not be opened; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{dir} is in use by another process: stop that one, or choose another directory (JAY_DATA_DIR)"
    )]
    AlreadyRunning {
        /// The directory.
        dir: PathBuf,
    },
    /// This user may not use the directory.
    #[error(
        "{dir} cannot be used: {source}. Give this user rights on it (chown -R {} {dir}), or choose another directory \
         (JAY_DATA_DIR)",
        rustix::process::geteuid().as_raw()
    )]
    NoAccess {
        /// The directory.
        dir: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The signing secret is not the one that the store's secrets are sealed under.
    #[error(
        "the signing secret is not the one that the access keys of this store are sealed under: set JAY_SIGNING_SECRET \
         to that one, or change it by `jay rekey`"
    )]
    WrongSecret,
    /// Some secrets are sealed under another signing secret, others under this one.
    #[error(
        "the change of the signing secret was not finished: run `jay rekey` again, with the same secrets"
    )]
    RekeyUnfinished,
    /// What is on the disk is not what was put there.
    #[error("{what}")]
    Damaged {
        /// What is damaged, and how to go on.
        what: String,
    },
    /// The log cannot be read at a place, although more of it was durable.
    #[error("{what}")]
    Hole {
        /// The place, by which its owner may give up what is lost.
        hole: LogHole,
        /// What is damaged, and how to go on.
        what: String,
    },
    /// The disk failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the operating system says.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(what: &str, source: io::Error) -> Self {
        OpenError::Io {
            what: what.into(),
            source,
        }
    }
}

/// The object store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Engine {
    service: Arc<Service>,
    running: Arc<Running>,
}

/// What ends when the store is closed.
struct Running {
    store: Arc<LocalStore>,
    upkeep: Upkeep,
    data_dir: PathBuf,
    env: Env,
    /// Held while a backup is made.
    backup: Mutex<()>,
    /// Dropped last: the directory is free only then.
    lock: Mutex<Option<disk::real::LockGuard>>,
}

impl Engine {
    /// Opens the store, making it when there is none: recovers, then starts its threads. Waits for the disk.
    pub fn open(config: EngineConfig) -> Result<Engine, OpenError> {
        Self::open_with(config, true)
    }

    /// The same; `checks_secret`: the signing secret must be the one that the secrets are sealed under.
    pub(crate) fn open_with(
        config: EngineConfig,
        checks_secret: bool,
    ) -> Result<Engine, OpenError> {
        let (disk, lock) = open_disk(&config.data_dir)?;
        let total_bytes = disk
            .total_bytes()
            .map_err(|e| OpenError::io("the size of the disk is not known", e))?;
        let local = config.local.fitting(total_bytes);
        let env = Env::real();
        let data_dir = config.data_dir.clone();
        let opened = recovery::open(disk, local, env.clone())?;
        let files = opened.local.files.clone();
        let store = LocalStore::start(opened)
            .map_err(|e| OpenError::io("a thread could not be started", e))?;
        let buffers_max = (config.buffer_bytes_max / service::BUFFER_UNIT_BYTES).max(1);
        let service = Arc::new(Service {
            meta: store.clone(),
            blobs: Arc::new(files),
            secrets: Secrets::new(&config.signing_secret),
            env: env.clone(),
            inline_max: config.inline_max,
            verify_sample_rate: config.verify_sample_rate,
            counters: store.local().counters.clone(),
            buffers: Arc::new(tokio::sync::Semaphore::new(buffers_max)),
            buffers_max,
            hashing: tokio::sync::Semaphore::new(service::HASHES_MAX),
        });
        if checks_secret {
            check_secret(&service)?;
        }
        let upkeep = Upkeep::start(&store, &service, &config.upkeep)
            .map_err(|e| OpenError::io("a thread could not be started", e))?;
        let running = Running {
            store,
            upkeep,
            data_dir,
            env,
            backup: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        Ok(Engine {
            service,
            running: Arc::new(running),
        })
    }

    /// Commits what waits, brings the index up to date and ends the threads. Waits for the disk. Later
    /// writes answer [`ErrorKind::ServiceUnavailable`].
    ///
    /// # Errors
    /// [`ErrorKind::ServiceUnavailable`] when the store had stopped before: the next start recovers it.
    pub fn close(&self) -> Result<()> {
        self.running.close();
        match self.stopped() {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::ServiceUnavailable, why)),
        }
    }

    /// Makes an access key that the configuration asks for, unless it is there.
    pub async fn seed_token(&self, seed: SeedToken) -> Result<SeedReport> {
        self.service.seed_token(&seed).await
    }

    /// The signing key of an access key for a day (`yyyymmdd`) and region, and who calls when it verifies.
    /// [`ErrorKind::InvalidAccessKeyId`] when the key is unknown, revoked or expired.
    pub fn signing_key(
        &self,
        access_key_id: &str,
        date: &str,
        region: &str,
    ) -> Result<(Caller, SigningKey)> {
        self.service.signing_key(access_key_id, date, region)
    }

    /// Who calls, when whoever names this access key is believed to have it. For a front whose operator has said so.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidAccessKeyId`] when the key is unknown, revoked or expired.
    pub fn trusted(&self, access_key_id: &str) -> Result<Caller> {
        self.service.trusted(access_key_id)
    }

    /// Who signed `string_to_sign` by signature version 2: HMAC-SHA1.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidAccessKeyId`] when the key is unknown, revoked or expired, else
    /// [`ErrorKind::SignatureDoesNotMatch`].
    pub fn verify_v2(
        &self,
        access_key_id: &str,
        string_to_sign: &[u8],
        signature: &[u8],
    ) -> Result<Caller> {
        self.service
            .verify_v2(access_key_id, string_to_sign, signature)
    }

    /// Who calls with this access key and secret.
    ///
    /// # Errors
    /// [`ErrorKind::AccessDenied`], whatever is wrong with them.
    pub async fn bearer(&self, token_id: &str, secret: &str) -> Result<Caller> {
        self.service.bearer(token_id, secret).await
    }

    /// Who calls with this link: the token in it, if the link holds and `signature` is this store's.
    ///
    /// # Errors
    /// [`ErrorKind::AccessDenied`], whatever is wrong with it.
    pub fn verify_link(&self, link: Link<'_>, signature: &[u8]) -> Result<Caller> {
        self.service.verify_link(link, signature)
    }

    /// The signature version 4 of an access key over `string_to_sign`, by its key for that day (`yyyymmdd`) and region:
    /// for URLs that the operator presigns.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidAccessKeyId`] when the key is unknown, revoked or expired, or its account is suspended.
    pub fn sign_v4(
        &self,
        access_key_id: &str,
        date: &str,
        region: &str,
        string_to_sign: &[u8],
    ) -> Result<[u8; 32]> {
        self.service
            .sign_v4(access_key_id, date, region, string_to_sign)
    }

    /// Whether an access key can be used now.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidAccessKeyId`] when it is unknown, revoked or expired, or its account is suspended.
    pub fn must_be_usable(&self, token_id: &str) -> Result<()> {
        self.service.must_be_usable(token_id)
    }

    /// The signature of a link, in lower-case hexadecimal: who has it has the rights of the token.
    pub fn sign_link(&self, link: Link<'_>) -> String {
        self.service.secrets.sign_link(link)
    }

    /// Creates a bucket of the caller's account.
    pub async fn create_bucket(&self, caller: &Caller, bucket: &BucketName) -> Result<()> {
        self.create_bucket_with(caller, bucket, BucketOptions::default())
            .await
    }

    /// Creates a bucket of the caller's account as `options` say.
    pub async fn create_bucket_with(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        options: BucketOptions,
    ) -> Result<()> {
        self.service.create_bucket(caller, bucket, options).await
    }

    /// Opens the objects of a bucket to readers without credentials, or closes them again.
    pub async fn put_bucket_acl(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        public_read: bool,
    ) -> Result<()> {
        self.service
            .put_bucket_acl(caller, bucket, public_read)
            .await
    }

    /// Whether an object, which must be there, may be read without credentials.
    pub async fn object_is_public(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<bool> {
        self.service.object_is_public(caller, bucket, key)
    }

    /// Whether the caller could change the access list of an object, which must be there. It has none: what
    /// may be read is said by its bucket.
    pub async fn put_object_acl(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<()> {
        self.service.put_object_acl(caller, bucket, key)
    }

    /// What a bucket is.
    pub async fn head_bucket(&self, caller: &Caller, bucket: &BucketName) -> Result<BucketInfo> {
        self.service.head_bucket(caller, bucket)
    }

    /// Deletes an empty bucket.
    pub async fn delete_bucket(&self, caller: &Caller, bucket: &BucketName) -> Result<()> {
        self.service.delete_bucket(caller, bucket).await
    }

    /// The buckets of the caller's account, by name.
    pub async fn list_buckets(&self, caller: &Caller) -> Result<Vec<BucketInfo>> {
        self.service.list_buckets(caller)
    }

    /// The policy of a bucket.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchBucketPolicy`] when it has none.
    pub async fn get_bucket_policy(
        &self,
        caller: &Caller,
        bucket: &BucketName,
    ) -> Result<Arc<Policy>> {
        self.service.get_bucket_policy(caller, bucket)
    }

    /// Gives a bucket a policy, in the place of the one that it has. It holds from the answer on.
    ///
    /// # Errors
    /// [`ErrorKind::MalformedPolicy`] when a statement could never hold.
    pub async fn put_bucket_policy(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        policy: Policy,
    ) -> Result<()> {
        self.service.put_bucket_policy(caller, bucket, policy).await
    }

    /// Takes the policy of a bucket away, if it has one.
    pub async fn delete_bucket_policy(&self, caller: &Caller, bucket: &BucketName) -> Result<()> {
        self.service.delete_bucket_policy(caller, bucket).await
    }

    /// Limits the bytes of all objects of a bucket together; `None`: no limit. What is over it stays. For the operator.
    pub async fn put_bucket_quota(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        quota_bytes: Option<u64>,
    ) -> Result<()> {
        self.service
            .put_bucket_quota(caller, bucket, quota_bytes)
            .await
    }

    /// How many objects a bucket has, and bytes, as of the last commit.
    pub async fn bucket_usage(&self, caller: &Caller, bucket: &BucketName) -> Result<BucketUsage> {
        self.service.bucket_usage(caller, bucket)
    }

    /// What decides about a request: for operators who wonder.
    pub async fn explain(&self, question: &Question) -> Result<Reason> {
        self.service.explain(question)
    }

    /// Makes an account. Names need not be unique. For operators, as all that is about accounts and access keys: no
    /// rights are asked.
    pub async fn create_account(&self, name: &str) -> Result<AccountInfo> {
        self.service.create_account(name).await
    }

    /// All accounts, the oldest first.
    pub async fn list_accounts(&self) -> Result<Vec<AccountInfo>> {
        self.blocking(|service| service.accounts()).await
    }

    /// Suspends an account, whose access keys are of no use from then on, or ends that.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchAccount`].
    pub async fn set_account_active(&self, account_id: &str, active: bool) -> Result<AccountInfo> {
        self.service.set_account_active(account_id, active).await
    }

    /// Makes an access key for an account. Its secret is told now and never again.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchAccount`]; [`ErrorKind::InvalidArgument`] when a limit is passed.
    pub async fn create_token(&self, account_id: &str, options: TokenOptions) -> Result<NewToken> {
        self.service.create_token(account_id, options).await
    }

    /// All access keys, or those of one account, in byte order of their ids.
    pub async fn list_tokens(&self, account_id: Option<&str>) -> Result<Vec<TokenInfo>> {
        let account_id = account_id.map(str::to_owned);
        self.blocking(move |service| service.tokens(account_id.as_deref()))
            .await
    }

    /// An access key.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchToken`].
    pub async fn get_token(&self, token_id: &str) -> Result<TokenInfo> {
        self.service.token(token_id)
    }

    /// Revokes an access key: no request that begins after the answer gets in by it.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchToken`].
    pub async fn revoke_token(&self, token_id: &str) -> Result<()> {
        self.service.revoke_token(token_id).await
    }

    /// Checks rights and bucket, then takes the body of an object.
    pub async fn put_object(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        options: PutOptions,
    ) -> Result<ObjectWriter> {
        self.service.put_object(caller, bucket, key, options).await
    }

    /// Opens an object for reading, whole or in part.
    pub async fn get_object(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        select: Select,
    ) -> Result<ObjectReader> {
        self.service.get_object(caller, bucket, key, select).await
    }

    /// What an object is, without its body.
    pub async fn head_object(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<ObjectInfo> {
        self.service.head_object(caller, bucket, key)
    }

    /// What an object is, and which bytes of it are selected: half-open, or why there are none.
    pub async fn head_object_part(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        select: Select,
    ) -> Result<(ObjectInfo, Result<std::ops::Range<u64>>)> {
        self.service.head_object_part(caller, bucket, key, select)
    }

    /// Deletes an object; fine when there is none.
    pub async fn delete_object(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<()> {
        self.service.delete_object(caller, bucket, key).await
    }

    /// Deletes an object if the conditions hold for it; fine when there is none.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] when there is another one.
    pub async fn delete_object_if(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        conditions: &DeleteConditions,
    ) -> Result<()> {
        self.service
            .delete_object_if(caller, bucket, key, conditions)
            .await
    }

    /// Deletes many objects in shared commits: one result a key, in order.
    pub async fn delete_objects(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        keys: &[ObjectKey],
    ) -> Result<Vec<Result<()>>> {
        self.service.delete_objects(caller, bucket, keys).await
    }

    /// Makes a second object of the same bytes, or gives an object other metadata (S3 API, CopyObject).
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`] when a condition on source or destination does not hold,
    /// [`ErrorKind::InvalidRequest`] for a copy onto itself that changes nothing.
    pub async fn copy_object(
        &self,
        caller: &Caller,
        source: &CopySource,
        bucket: &BucketName,
        key: &ObjectKey,
        options: CopyOptions,
    ) -> Result<ObjectInfo> {
        let service = &self.service;
        service
            .copy_object(caller, source, bucket, key, options)
            .await
    }

    /// The tags of an object.
    pub async fn get_object_tagging(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<Tags> {
        self.service.get_object_tagging(caller, bucket, key)
    }

    /// Gives an object these tags in place of those it has.
    pub async fn put_object_tagging(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        tags: Tags,
    ) -> Result<()> {
        let service = &self.service;
        service.put_object_tagging(caller, bucket, key, tags).await
    }

    /// Begins a multipart upload (S3 API, CreateMultipartUpload).
    pub async fn create_multipart_upload(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        options: UploadOptions,
    ) -> Result<UploadInfo> {
        let service = &self.service;
        service
            .create_multipart_upload(caller, bucket, key, options)
            .await
    }

    /// Checks rights and upload, then takes the body of a part; `number` is 1 to [`PART_NUMBER_MAX`].
    pub async fn upload_part(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
        number: u16,
        options: PartOptions,
    ) -> Result<PartWriter> {
        let part = PartOf {
            bucket,
            key,
            id: upload_id,
            number,
        };
        let service = &self.service;
        service.upload_part(caller, part, options).await
    }

    /// Makes a part of an object or a range of it (S3 API, UploadPartCopy).
    #[allow(clippy::too_many_arguments)] // each is one of the request
    pub async fn upload_part_copy(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
        number: u16,
        source: &CopySource,
        range: Option<ByteRange>,
    ) -> Result<PartInfo> {
        let part = PartOf {
            bucket,
            key,
            id: upload_id,
            number,
        };
        let service = &self.service;
        service.upload_part_copy(caller, part, source, range).await
    }

    /// Makes an object of the listed parts, by reference (S3 API, CompleteMultipartUpload). Answers the same
    /// when it comes again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidPart`], [`ErrorKind::InvalidPartOrder`], [`ErrorKind::EntityTooSmall`],
    /// [`ErrorKind::NoSuchUpload`], [`ErrorKind::PreconditionFailed`], [`ErrorKind::BadDigest`].
    pub async fn complete_multipart_upload(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
        parts: &[CompletedPart],
        options: CompleteOptions,
    ) -> Result<ObjectInfo> {
        let service = &self.service;
        service
            .complete_multipart_upload(caller, bucket, key, upload_id, parts, options)
            .await
    }

    /// Gives up a multipart upload; its parts go.
    pub async fn abort_multipart_upload(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
    ) -> Result<()> {
        let service = &self.service;
        service
            .abort_multipart_upload(caller, bucket, key, upload_id)
            .await
    }

    /// One page of the parts of an open upload.
    pub async fn list_parts(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        upload_id: UploadId,
        options: &ListPartsOptions,
    ) -> Result<PartPage> {
        let (caller, bucket, key) = (caller.clone(), bucket.clone(), key.clone());
        let options = *options;
        self.blocking(move |service| {
            service.list_parts(&caller, &bucket, &key, upload_id, &options)
        })
        .await
    }

    /// One page of the open uploads of a bucket.
    pub async fn list_multipart_uploads(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        options: &ListUploadsOptions,
    ) -> Result<UploadPage> {
        let (caller, bucket, options) = (caller.clone(), bucket.clone(), options.clone());
        self.blocking(move |service| service.list_multipart_uploads(&caller, &bucket, &options))
            .await
    }

    /// One page of a listing.
    pub async fn list_objects(
        &self,
        caller: &Caller,
        bucket: &BucketName,
        options: &ListOptions,
    ) -> Result<ListPage> {
        let (caller, bucket, options) = (caller.clone(), bucket.clone(), options.clone());
        self.blocking(move |service| service.list_objects(&caller, &bucket, &options))
            .await
    }

    /// Runs what may read many rows where waiting is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Service) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let service = self.service.clone();
        service::blocking(move || work(&service)).await?
    }

    /// Takes a share of the memory for bodies, for what a front has to gather before it can call; waits for it,
    /// 30 s at most.
    ///
    /// # Errors
    /// [`ErrorKind::SlowDown`] when there was none.
    pub async fn memory(&self, bytes: usize) -> Result<Memory> {
        self.service.buffer(bytes).await.map(Memory)
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.service.counters
    }

    /// How much waits inside the store now.
    pub fn gauges(&self) -> Gauges {
        self.running.store.local().gauges()
    }

    /// The objects in quarantine, in the order of bucket ids and keys: those behind `after`. For operators: no
    /// rights are asked.
    pub async fn list_quarantine(&self, after: Option<(u64, ObjectKey)>) -> Result<QuarantinePage> {
        self.blocking(move |service| {
            let after = after
                .as_ref()
                .map(|(bucket, key)| (BucketId(*bucket), key.as_str()));
            service.list_quarantine(after)
        })
        .await
    }

    /// Checks an object in quarantine again: true when its bytes are what was put, so that it is readable again.
    /// For operators: no rights are asked.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`] when it is not in quarantine.
    pub async fn revalidate_quarantined(&self, bucket_id: u64, key: &ObjectKey) -> Result<bool> {
        self.service.revalidate(BucketId(bucket_id), key).await
    }

    /// Deletes an object that is in quarantine, with what is left of its bytes. For operators: no rights are asked.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchKey`] when it is not in quarantine.
    pub async fn purge_quarantined(&self, bucket_id: u64, key: &ObjectKey) -> Result<()> {
        self.service.purge(BucketId(bucket_id), key).await
    }

    /// How far the scrubber is.
    pub async fn scrub_status(&self) -> Result<ScrubStatus> {
        let running = self.running.clone();
        self.blocking(move |service| {
            // Before the row, so that a pass which ends meanwhile is in one of them.
            let scrubbing = running.upkeep.scrubbing();
            let row = match service.meta.get(&Key::Scrub)? {
                Some(Record::Scrub(row)) => *row,
                _ => ScrubRecord::default(),
            };
            let of_round = scrubbing
                .pass
                .filter(|pass| pass.extent != ScrubExtent::Presence);
            let all = scrub::contents(running.store.local())?;
            Ok(ScrubStatus {
                round_takes: running.upkeep.round_takes(),
                objects: all.objects,
                bytes: all.bytes,
                wanted: scrubbing.wanted,
                next_pass_in: scrubbing
                    .next
                    .map(|next| next.saturating_duration_since(Instant::now())),
                pass: scrubbing.pass,
                round: of_round.map_or(row.round, |pass| pass.round),
                last: row.last,
            })
        })
        .await
    }

    /// Begins a pass of the scrubber as soon as what upkeep does is done: one under way that checks less ends, and with
    /// one that checks as much nothing more is to be done.
    pub fn start_scrub(&self, extent: ScrubExtent) {
        self.running.upkeep.start_scrub(extent);
    }

    /// Why the index was made anew at this start, if it was.
    pub fn rebuilt(&self) -> Option<String> {
        self.running.store.local().rebuilt().map(str::to_owned)
    }

    /// Checks everything, while the store is in use, and changes nothing; tells how far it is until `go_on` says no.
    /// Waits for the disk. For operators: no rights are asked.
    ///
    /// # Errors
    /// [`ErrorKind::OperationAborted`] when it was broken off.
    pub fn fsck(
        &self,
        depth: Depth,
        go_on: &mut dyn FnMut(FsckProgress) -> bool,
    ) -> Result<FsckReport> {
        let local = self.running.store.local().clone();
        Fsck::begin(local, depth)?.run(go_on)
    }

    /// Takes a snapshot of the index now, verified. Waits for the disk.
    pub async fn take_snapshot(&self) -> Result<SnapshotInfo> {
        let running = self.running.clone();
        service::blocking(move || running.upkeep.take_snapshot()).await?
    }

    /// Makes a backup of everything that is acknowledged by now in the directory `to`, which is empty or has backups
    /// of this store. The store goes on meanwhile, but nothing is collected. Waits for the disk; `progress` gives the
    /// backup up by answering false.
    ///
    /// # Errors
    /// [`BackupError`], among other reasons when another backup is being made or the engine is closed.
    pub fn create_backup(
        &self,
        to: &Path,
        options: BackupOptions,
        progress: &mut dyn FnMut(&BackupProgress) -> bool,
    ) -> Result<BackupReport, BackupError> {
        self.running.create_backup(to, options, progress)
    }

    /// The id of the store, by which two of them can be told apart.
    pub fn store_id(&self) -> [u8; 16] {
        self.running.store.local().store_id()
    }

    /// Why the store refuses to write, if it does.
    pub fn stopped(&self) -> Option<String> {
        self.running.store.local().stopped()
    }
}

/// How far the scrubber is.
#[derive(Clone, Copy, Debug)]
pub struct ScrubStatus {
    /// How long a whole round takes, by the settings.
    pub round_takes: Duration,
    /// Objects in all buckets.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// A pass that was asked for and has not begun.
    pub wanted: Option<ScrubExtent>,
    /// Time until the next pass begins by itself; `None` before the first of this start is planned.
    pub next_pass_in: Option<Duration>,
    /// The pass under way.
    pub pass: Option<ScrubPass>,
    /// What the round under way has seen.
    pub round: ScrubTally,
    /// What the last whole round has seen.
    pub last: ScrubTally,
}

/// A share of the memory for bodies, given back when it is dropped.
pub struct Memory(#[allow(dead_code)] service::Buffer);

impl Running {
    fn create_backup(
        &self,
        to: &Path,
        options: BackupOptions,
        progress: &mut dyn FnMut(&BackupProgress) -> bool,
    ) -> Result<BackupReport, BackupError> {
        let _turn = match self.backup.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(refused("Another backup is being made: wait for it to end."));
            }
        };
        backup::must_be_apart(&self.data_dir, to)?;
        let (vault, _lock) = backup::open_vault_disk(to)?;
        let local = self.store.local();
        let begun = Backup::begin(local, &self.env, vault, options)?;
        let is_wanted = Cell::new(true);
        let mut told = |now: &BackupProgress| is_wanted.set(progress(now));
        backup::run(begun, &mut told, |is_waiting| {
            if is_waiting {
                local.apply_now();
            }
            match local.stopped() {
                Some(why) => Err(refused(&why)),
                None if self.upkeep.is_closing() => Err(refused("The store is being closed.")),
                None if !is_wanted.get() => Err(refused("The backup was given up.")),
                None => Ok(()),
            }
        })
    }

    fn close(&self) {
        self.upkeep.begin_to_close();
        // A backup sees that at its next step; the directory is nobody else's until then.
        drop(self.backup.lock());
        self.upkeep.close();
        self.store.close();
        self.lock.lock().expect("no holder panics").take();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close();
    }
}

fn refused(why: &str) -> BackupError {
    BackupError::Refused(why.to_owned())
}

/// Checks everything in the directory of a store that nobody has open, and writes nothing; tells how far it is until
/// `go_on` says no.
pub fn fsck(
    data_dir: &Path,
    depth: Depth,
    go_on: &mut dyn FnMut(FsckProgress) -> bool,
) -> Result<FsckReport, OpenError> {
    must_be_store(data_dir)?;
    // Also on a file system that takes no writes any more, and beside others who only look.
    let disk = RealDisk::open_read_only(data_dir).map_err(|e| no_access(data_dir, e))?;
    let _lock = match disk.lock_shared("LOCK") {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(OpenError::AlreadyRunning {
                dir: data_dir.to_owned(),
            });
        }
        lock => lock.map_err(|e| no_access(data_dir, e))?,
    };
    let disk: Arc<dyn Disk> = disk;
    let report = closed::check(&disk, &unobtrusive(), &Env::real(), depth, go_on);
    report.map_err(|e| OpenError::io("the store could not be checked", io::Error::other(e)))
}

/// The id of the store in a directory, which others have it open or not; `None` when there is none that can be read.
pub fn store_id(data_dir: &Path) -> Option<[u8; 16]> {
    let disk = RealDisk::open_read_only(data_dir).ok()?;
    let format = meta::local::format::look(&*disk).ok()??;
    Some(format.store_id)
}

/// Gives up what cannot be read of the log of a store that nobody has open: exactly these holes, else it refuses. The
/// rest can be served again then.
pub fn accept_loss(data_dir: &Path, holes: &[LogHole]) -> Result<Acceptance, OpenError> {
    must_be_store(data_dir)?;
    let (disk, _lock) = open_disk(data_dir)?;
    let total_bytes = disk
        .total_bytes()
        .map_err(|e| OpenError::io("the size of the disk is not known", e))?;
    let config = unobtrusive().fitting(total_bytes);
    let disk: Arc<dyn Disk> = disk;
    maintenance::accept::accept_loss(&disk, &config, &Env::real(), holes)
}

/// For a store that is open for a moment.
fn unobtrusive() -> LocalConfig {
    LocalConfig {
        zero_ahead: false,
        ..LocalConfig::default()
    }
}

fn must_be_store(dir: &Path) -> Result<(), OpenError> {
    let there = |name: &str| dir.join(name).exists();
    match there("FORMAT") || there("FORMAT.new") || there("log") || there("index.redb") {
        true => Ok(()),
        false => Err(OpenError::Damaged {
            what: format!(
                "There is no store in {}: say where it is (JAY_DATA_DIR).",
                dir.display()
            ),
        }),
    }
}

fn no_access(dir: &Path, source: io::Error) -> OpenError {
    OpenError::NoAccess {
        dir: dir.to_owned(),
        source,
    }
}

fn open_disk(dir: &Path) -> Result<(Arc<RealDisk>, disk::real::LockGuard), OpenError> {
    let disk = RealDisk::open(dir).map_err(|e| no_access(dir, e))?;
    match disk.lock("LOCK") {
        Ok(lock) => Ok((disk, lock)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(OpenError::AlreadyRunning {
            dir: dir.to_owned(),
        }),
        Err(error) => Err(no_access(dir, error)),
    }
}

/// Refuses a signing secret that does not open what the store holds.
fn check_secret(service: &Service) -> Result<(), OpenError> {
    let (mut ours, mut others) = (0_u64, 0_u64);
    let looked = service.each_token(|id, token| {
        let opens = match token.key_id {
            // Made before that was noted.
            key_id if key_id == KeyId::default() => {
                service.secrets.open(id, &token.sealed_secret).is_ok()
            }
            key_id => key_id == service.secrets.key_id(),
        };
        *if opens { &mut ours } else { &mut others } += 1;
    });
    looked.map_err(|e| recovery::index_failed("The index cannot be read", &e))?;
    match (ours, others) {
        (_, 0) => Ok(()),
        (0, _) => Err(OpenError::WrongSecret),
        _ => Err(OpenError::RekeyUnfinished),
    }
}

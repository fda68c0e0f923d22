//! What every front calls: authorize, validate, store, commit. One file per noun.

pub mod access;
pub mod account;
pub mod acl;
mod body;
pub mod bucket;
mod copy;
pub mod list;
pub mod multipart;
pub mod object;
mod once;
pub mod policy;
pub mod quarantine;
pub mod read;
pub mod rekey;
mod tagging;
pub mod token;

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    auth::{self, Action, Caller, Place, Secrets},
    blob::BlobStore,
    counters::Counters,
    env::Env,
    error::{Error, ErrorKind, Result},
    meta::{
        BLOCK_BYTES, CommitError, MetaStore, Precondition, Transaction,
        key::Key,
        record::{BucketRecord, Record},
    },
    types::BucketName,
};

/// Bytes that go from socket to disk and back at a time.
pub const CHUNK_BYTES: usize = 4 * BLOCK_BYTES;

/// What the operations stand on.
pub(crate) struct Service {
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) secrets: Secrets,
    pub(crate) env: Env,
    pub(crate) inline_max: usize,
    /// Of the whole reads, the share whose SHA-256 is checked too: 0 to 1.
    pub(crate) verify_sample_rate: f64,
    pub(crate) counters: Arc<Counters>,
    /// Memory for bodies on their way, in units of [`BUFFER_UNIT_BYTES`].
    pub(crate) buffers: Arc<Semaphore>,
    pub(crate) buffers_max: usize,
    /// Hashes of secrets that are computed at a time.
    pub(crate) hashing: Semaphore,
}

/// Hashes of secrets that are computed at a time, so that who guesses does not take the processor from others.
pub(crate) const HASHES_MAX: usize = 1;

/// The unit in which memory for bodies is counted.
pub(crate) const BUFFER_UNIT_BYTES: usize = 1024;
/// How long a request waits for memory before it is asked to come again.
const BUFFER_PATIENCE: Duration = Duration::from_secs(30);

/// A share of the memory for bodies.
pub(crate) type Buffer = Option<OwnedSemaphorePermit>;

impl Service {
    /// Takes `bytes` of the memory for bodies; waits for it, but not for ever.
    pub(crate) async fn buffer(&self, bytes: usize) -> Result<Buffer> {
        let units = bytes.div_ceil(BUFFER_UNIT_BYTES).min(self.buffers_max) as u32;
        if let Ok(permit) = self.buffers.clone().try_acquire_many_owned(units) {
            return Ok(Some(permit));
        }
        let wait = self.buffers.clone().acquire_many_owned(units);
        match tokio::time::timeout(BUFFER_PATIENCE, wait).await {
            Ok(permit) => Ok(permit.ok()),
            Err(_) => Err(Error::new(
                ErrorKind::SlowDown,
                "All memory for bodies is in use: reduce your request rate (JAY_BUFFER_BYTES_MAX).",
            )),
        }
    }

    /// Refuses what would be added to a full disk, before its bytes have come.
    fn must_have_room(&self) -> Result<()> {
        match self.meta.full() {
            Some(why) => Err(CommitError::Full(why).into()),
            None => Ok(()),
        }
    }

    /// The bucket, if the caller may do this to it.
    fn bucket(
        &self,
        caller: &Caller,
        action: Action,
        name: &BucketName,
        place: Place<'_>,
    ) -> Result<BucketRecord> {
        auth::authorize(caller, action, name, self.find_bucket(name)?, place)
    }

    fn find_bucket(&self, name: &BucketName) -> Result<Option<BucketRecord>> {
        Ok(match self.meta.get(&Key::Bucket(name.as_str().into()))? {
            Some(Record::Bucket(bucket)) => Some(bucket),
            _ => None,
        })
    }
}

/// Preconditions, each with the error that says that it does not hold.
#[derive(Default)]
struct Requirements(Vec<(Precondition, ErrorKind, String)>);

impl Requirements {
    fn add(&mut self, precondition: Precondition, kind: ErrorKind, context: impl Into<String>) {
        self.0.push((precondition, kind, context.into()));
    }

    fn bucket(name: &BucketName, bucket: &BucketRecord) -> Self {
        let mut all = Self::default();
        let gone = auth::no_such_bucket(name);
        let precondition = Precondition::BucketIs(name.as_str().into(), bucket.id);
        all.add(precondition, gone.kind(), gone.context());
        all
    }

    /// Commits under these preconditions.
    async fn commit(self, meta: &dyn MetaStore, transaction: Transaction) -> Result<()> {
        self.try_commit(meta, transaction)
            .await
            .map_err(|(_, error)| error)
    }

    /// The same; a failure comes with how the store said it.
    async fn try_commit(
        self,
        meta: &dyn MetaStore,
        mut transaction: Transaction,
    ) -> Result<(), (CommitError, Error)> {
        let (requires, errors): (Vec<_>, Vec<_>) = self
            .0
            .into_iter()
            .map(|(p, kind, context)| (p, (kind, context)))
            .unzip();
        transaction.requires = requires;
        match meta.commit(transaction).await {
            Ok(()) => Ok(()),
            Err(CommitError::Refused(i)) => {
                let (kind, context) = errors.into_iter().nth(i).expect("one error a precondition");
                Err((CommitError::Refused(i), Error::new(kind, context)))
            }
            Err(error) => Err((error.clone(), error.into())),
        }
    }
}

/// Runs what may wait for the disk where waiting is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::new(ErrorKind::InternalError, "A task of the store failed.").with_source(error)
    })
}

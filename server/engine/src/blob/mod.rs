//! Bodies: large ones in files of their own, immutable under ids that are never used again.
//!
//! [`BlobStore`] is one of the two traits that separate the service from storage. A body is durable
//! before anything points at it. All calls may wait for the disk: make them where waiting is allowed.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;

use crate::meta::{
    key::{BlobId, BucketId, Key},
    record::Record,
};

pub(crate) mod copy;
pub mod files;

/// A store of bodies.
pub trait BlobStore: Send + Sync + 'static {
    /// Begins a new body.
    fn create(&self) -> io::Result<Box<dyn BlobWriter>>;

    /// Opens a body of `size` bytes; `NotFound` when it is gone.
    fn open(&self, id: BlobId, size: u64) -> io::Result<Arc<dyn BlobReader>>;

    /// Removes a body that nothing points at. Fine when it is gone already. Durable after
    /// [`BlobStore::sync_deletes`].
    fn delete(&self, id: BlobId) -> io::Result<()>;

    /// Makes the deletes of these bodies durable.
    fn sync_deletes(&self, ids: &[BlobId]) -> io::Result<()>;

    /// The ids of bodies in one shard, for the collector.
    fn list(&self, shard: u16) -> io::Result<Vec<BlobId>>;
}

/// Takes one body. Dropped before `finish`, it leaves nothing behind.
pub trait BlobWriter: Send + Sync {
    /// The id the body will have.
    fn id(&self) -> BlobId;

    /// Appends bytes, of any length.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Closes the body and makes it durable under its id. The description goes along for salvage.
    fn finish(self: Box<Self>, description: Description<'_>) -> io::Result<InFlight>;
}

/// What stands behind a body for salvage.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// The bucket it was written to.
    pub bucket: BucketId,
    /// The key it was written to.
    pub key: &'a str,
    /// The row that will point at it: of the object, or of a part of it.
    pub row: &'a Key,
    /// The record as it is being committed.
    pub record: &'a Record,
}

/// Reads one body.
pub trait BlobReader: Send + Sync {
    /// Reads `range`, every block that it touches checked; `InvalidData` when one does not match.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes>;

    /// Whether all bytes of the body and their sums are there, without reading them; `InvalidData` when not.
    fn check_length(&self) -> io::Result<()>;

    /// Whether all that is kept with the body is there too, to the very end: a reader needs none of it, a copy all.
    fn check_end(&self) -> io::Result<()>;
}

/// A body that is durable but that no commit points at yet. Dropped, the body is removed.
#[derive(Debug)]
pub struct InFlight {
    id: BlobId,
    files: Option<Arc<files::Shared>>,
}

impl InFlight {
    /// The body's id.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// A commit points at it now (or may do so): it stays.
    pub fn keep(mut self) {
        if let Some(files) = self.files.take() {
            files.settle(self.id);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        match self.files.take() {
            // Whether a batch that names it is on disk is unknown: the next start decides.
            Some(files) if std::thread::panicking() => files.settle(self.id),
            Some(files) => files.abandon(self.id),
            None => {}
        }
    }
}

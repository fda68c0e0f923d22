//! The disk under everything the engine stores: a handful of verbs, so that the crash simulator can stand
//! in for the operating system (`simulated`), redb included.
//!
//! Paths are relative to the data directory, with `/` between their parts. Nothing here buffers: what a
//! verb does is visible to later reads at once and durable only after the sync that the verb names.
//! Absent on purpose: rename over an existing file, append, seek positions, metadata times.

pub mod real;
pub mod shadow;
#[cfg(any(test, feature = "simulation"))]
pub mod simulated;

use std::{io, sync::Arc};

use crate::counters::Syncs;

/// True of an error that says that there is no room: on the disk, or for this user.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A directory tree with files, and what makes each change durable.
pub trait Disk: Send + Sync + 'static {
    /// Makes a directory; fine if it is there. Durable after [`Disk::sync_dir`] of its parent.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory. Durable after `sync_dir` of its parent.
    fn remove_dir(&self, path: &str) -> io::Result<()>;

    /// Opens an existing file for reading and writing; `NotFound` when there is none.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a new empty file (mode 0600) and opens it; `AlreadyExists` when there is one. The name is
    /// durable after `sync_dir` of its directory.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a file without a name in `dir` (mode 0600); it vanishes when it is closed unlinked.
    fn create_unnamed(&self, dir: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file made by [`Disk::create_unnamed`] its name. Durable after `sync_dir` of the directory
    /// (the content only after its own sync).
    fn link(&self, file: &dyn DiskFile, path: &str) -> io::Result<()>;

    /// Moves a file; `to` must not exist. Durable after `sync_dir` of both directories.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name; open files stay readable. Durable after `sync_dir` of its directory.
    fn unlink(&self, path: &str) -> io::Result<()>;

    /// Makes the entries of a directory durable (not the content of its files).
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    /// The names in a directory, in no order; `NotFound` when there is none.
    fn read_dir(&self, path: &str) -> io::Result<Vec<String>>;

    /// The syncs of files and directories, where the disk counts them.
    fn syncs(&self) -> Arc<Syncs> {
        Arc::default()
    }
}

/// An open file. Positions are bytes from its start.
pub trait DiskFile: Send + Sync + 'static {
    /// Fills `buffer` from `offset`; `UnexpectedEof` when the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file when needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes content and length durable: `fdatasync`.
    fn sync_data(&self) -> io::Result<()>;

    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// True when it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with zeros) to `len`.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space so that later writes below `len` cannot fail for want of it; extends the file with
    /// zeros. Best effort where the file system has no such thing.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Starts writing out what was written to the range, without waiting: a hint, no durability.
    fn start_writeback(&self, offset: u64, len: u64);

    /// For [`Disk::link`]: the implementation's own type.
    fn as_any(&self) -> &dyn std::any::Any;
}

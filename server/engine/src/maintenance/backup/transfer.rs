//! Copies bodies and files of the log from one directory to another, in steps: from a store to its backups, and back.

use std::{io, sync::Arc};

use crate::{
    blob::{
        copy::{self, CopyError, Copying, Presence},
        files::{path as blob_path, shard_dir},
    },
    disk::{Disk, DiskFile},
    meta::key::BlobId,
    service::CHUNK_BYTES,
};

use super::vault::remove_if_there;

/// Copies files of bodies that are not there yet. They come in the order of their ids, so that those of one shard
/// come together.
pub(super) struct FileTransfer {
    from: Arc<dyn Disk>,
    to: Arc<dyn Disk>,
    /// Where a damaged file goes whose place is wanted; `None`: nowhere.
    set_aside: Option<&'static str>,
    /// What is there is read, too: one with wrong bytes is none.
    reads: bool,
    /// The shard whose directory is there, and has to be synced.
    shard: Option<u16>,
    now: Option<Now>,
    pub(super) files_copied: u64,
    pub(super) bytes_copied: u64,
}

struct Now {
    id: BlobId,
    copying: Copying,
    /// A damaged file has its name.
    replaces: bool,
}

impl FileTransfer {
    pub(super) fn new(
        from: Arc<dyn Disk>,
        to: Arc<dyn Disk>,
        set_aside: Option<&'static str>,
    ) -> Self {
        Self {
            from,
            to,
            set_aside,
            reads: false,
            shard: None,
            now: None,
            files_copied: 0,
            bytes_copied: 0,
        }
    }

    /// Whether what is there is read, or only asked for its length.
    pub(super) fn reading(self, reads: bool) -> Self {
        Self { reads, ..self }
    }

    /// Begins with a file; false when it is there already.
    pub(super) fn begin(&mut self, id: BlobId, size: u64) -> Result<bool, CopyError> {
        self.enter(id.shard()).map_err(CopyError::Target)?;
        let there = match self.reads {
            true => copy::is_whole(&*self.to, id, size),
            false => copy::is_there(&*self.to, id, size),
        };
        let there = there.map_err(CopyError::Target)?;
        if there == Presence::There {
            return Ok(false);
        }
        let copying = Copying::begin(&*self.from, &*self.to, id, size)?;
        self.now = Some(Now {
            id,
            copying,
            replaces: there == Presence::Damaged,
        });
        Ok(true)
    }

    /// Copies the next chunk of the file: its bytes; `None` when the file is done, or was none.
    pub(super) fn step(&mut self) -> Result<Option<u64>, CopyError> {
        let Some(mut now) = self.now.take() else {
            return Ok(None);
        };
        let bytes = now.copying.step()?;
        if bytes > 0 {
            self.bytes_copied += bytes;
            self.now = Some(now);
            return Ok(Some(bytes));
        }
        self.finish(now).map_err(CopyError::Target)?;
        self.files_copied += 1;
        Ok(None)
    }

    fn finish(&self, now: Now) -> io::Result<()> {
        if now.replaces {
            match self.set_aside {
                Some(dir) => {
                    let aside = format!("{dir}/{}", now.id);
                    remove_if_there(&*self.to, &aside)?;
                    self.to.rename(&blob_path(now.id), &aside)?;
                    self.to.sync_dir(dir)?;
                }
                None => self.to.unlink(&blob_path(now.id))?,
            }
        }
        now.copying.finish(&*self.to)
    }

    /// Makes the directory of a shard when it is another one, and what was put into the last one stay.
    fn enter(&mut self, shard: u16) -> io::Result<()> {
        if self.shard == Some(shard) {
            return Ok(());
        }
        self.leave()?;
        let dir = shard_dir(shard);
        self.to.create_dir(parent(&dir))?;
        self.to.create_dir(&dir)?;
        self.shard = Some(shard);
        Ok(())
    }

    /// Makes the names in the shard stay: also those that were there, for who put them may not have come so far.
    pub(super) fn leave(&mut self) -> io::Result<()> {
        let Some(shard) = self.shard.take() else {
            return Ok(());
        };
        let dir = shard_dir(shard);
        self.to.sync_dir(&dir)?;
        self.to.sync_dir(parent(&dir))?;
        self.to.sync_dir(parent(parent(&dir)))
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// A file of the log that is copied, or only summed up: so many bytes from its start.
pub(super) struct PackTransfer {
    from: Arc<dyn DiskFile>,
    to: Option<Arc<dyn DiskFile>>,
    bytes: u64,
    at: u64,
    sum: Box<crc_fast::Digest>,
}

impl PackTransfer {
    pub(super) fn new(from: Arc<dyn DiskFile>, to: Option<Arc<dyn DiskFile>>, bytes: u64) -> Self {
        let sum = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        Self {
            from,
            to,
            bytes,
            at: 0,
            sum: Box::new(sum),
        }
    }

    /// Goes on by a chunk: its bytes, 0 behind the last one.
    pub(super) fn step(&mut self) -> Result<u64, CopyError> {
        let n = (self.bytes - self.at).min(CHUNK_BYTES as u64);
        if n == 0 {
            return Ok(0);
        }
        let mut bytes = vec![0; n as usize];
        let read = self.from.read_at(&mut bytes, self.at);
        read.map_err(CopyError::Source)?;
        self.sum.update(&bytes);
        if let Some(to) = &self.to {
            to.write_at(&bytes, self.at).map_err(CopyError::Target)?;
        }
        self.at += n;
        Ok(n)
    }

    /// The sum of all bytes, which are durable now if they were copied.
    pub(super) fn finish(self) -> io::Result<u32> {
        if let Some(to) = &self.to {
            to.sync_data()?;
        }
        Ok(self.sum.finalize() as u32)
    }
}

//! Copies the file of a body from one disk to another, chunk by chunk, every block checked on the way: what has a
//! name at the other end is whole, and durable but for the name.

use std::{io, sync::Arc};

use super::{
    BlobReader,
    files::{FileReader, path, shard_dir},
};
use crate::{
    disk::{Disk, DiskFile},
    meta::key::BlobId,
    service::CHUNK_BYTES,
};

/// Written bytes after which writing out is started, so that the final sync finds little to do.
const WRITEBACK_BYTES: u64 = 4 << 20;

/// A copy that is under way.
pub(crate) struct Copying {
    id: BlobId,
    reader: FileReader,
    from: Arc<dyn DiskFile>,
    to: Arc<dyn DiskFile>,
    /// Bytes of the body, and of the whole file.
    size: u64,
    len: u64,
    at: u64,
    written_back: u64,
}

/// Which side failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// The body is missing or damaged, or cannot be read.
    Source(io::Error),
    /// The copy cannot be written.
    Target(io::Error),
}

impl CopyError {
    /// What the operating system says, whichever side it was.
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            CopyError::Source(error) | CopyError::Target(error) => error,
        }
    }
}

impl Copying {
    /// Begins to copy a body of `size` bytes. The directory of its shard is there at the other end.
    pub(crate) fn begin(
        from: &dyn Disk,
        to: &dyn Disk,
        id: BlobId,
        size: u64,
    ) -> Result<Self, CopyError> {
        let from = from.open(&path(id)).map_err(CopyError::Source)?;
        let reader = FileReader::new(from.clone(), id, size);
        reader.check_end().map_err(CopyError::Source)?;
        let len = from.len().map_err(CopyError::Source)?;
        let to = to.create_unnamed(&shard_dir(id.shard()));
        Ok(Self {
            id,
            reader,
            from,
            to: to.map_err(CopyError::Target)?,
            size,
            len,
            at: 0,
            written_back: 0,
        })
    }

    /// Copies the next chunk: its bytes, 0 behind the last one.
    pub(crate) fn step(&mut self) -> Result<u64, CopyError> {
        let end = match self.at < self.size {
            true => self.size.min(self.at + CHUNK_BYTES as u64),
            // The sums of the blocks, the description and the tail.
            false => self.len.min(self.at + CHUNK_BYTES as u64),
        };
        let n = end - self.at;
        if n == 0 {
            return Ok(0);
        }
        let written = if self.at < self.size {
            let bytes = self.reader.read(self.at..end).map_err(CopyError::Source)?;
            self.to.write_at(&bytes, self.at)
        } else {
            let mut bytes = vec![0; n as usize];
            let read = self.from.read_at(&mut bytes, self.at);
            read.map_err(CopyError::Source)?;
            self.to.write_at(&bytes, self.at)
        };
        written.map_err(CopyError::Target)?;
        self.at = end;
        if self.at - self.written_back >= WRITEBACK_BYTES {
            let pending = self.at - self.written_back;
            self.to.start_writeback(self.written_back, pending);
            self.written_back = self.at;
        }
        Ok(n)
    }

    /// Makes the copy durable and gives it its name, in place of what must not be there any more. The name is
    /// durable after a sync of the shard's directory.
    pub(crate) fn finish(self, to: &dyn Disk) -> io::Result<()> {
        self.to.sync_data()?;
        to.link(&*self.to, &path(self.id))
    }
}

/// Whether the file of a body of `size` bytes is there from end to end, without a look at its bytes.
pub(crate) fn is_there(disk: &dyn Disk, id: BlobId, size: u64) -> io::Result<Presence> {
    presence(disk, id, size, FileReader::check_end)
}

/// The same, by reading it all.
pub(crate) fn is_whole(disk: &dyn Disk, id: BlobId, size: u64) -> io::Result<Presence> {
    presence(disk, id, size, |file| {
        file.check_end()?;
        let mut at = 0;
        while at < size {
            let end = size.min(at + CHUNK_BYTES as u64);
            file.read(at..end)?;
            at = end;
        }
        Ok(())
    })
}

fn presence(
    disk: &dyn Disk,
    id: BlobId,
    size: u64,
    check: impl FnOnce(&FileReader) -> io::Result<()>,
) -> io::Result<Presence> {
    let file = match disk.open(&path(id)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Presence::Missing),
        file => file?,
    };
    match check(&FileReader::new(file, id, size)) {
        Ok(()) => Ok(Presence::There),
        Err(error) if is_damage(&error) => Ok(Presence::Damaged),
        Err(error) => Err(error),
    }
}

/// See [`is_there`] and [`is_whole`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Damaged,
    Missing,
}

/// True of errors that say that bytes are not what was written, rather than that the disk failed.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
    )
}

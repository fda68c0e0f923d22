//! One file of the shadow: which of its pages differ from those below, and how long it is.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::disk::DiskFile;

const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// One file. Names and handles are the tree's affair: what counts them is called with the tree locked.
pub(super) struct Node {
    path_below: Option<String>,
    content: RwLock<Content>,
    handles: AtomicU64,
    /// It was changed or moved: it is not what is below any more.
    is_kept: AtomicBool,
    /// It has (had) a name.
    is_named: AtomicBool,
}

struct Content {
    len: u64,
    /// Up to here the file below shows where no page was written.
    below_len: u64,
    /// What was written; none begins at or beyond `len`, and bytes behind `len` are zero.
    pages: BTreeMap<u64, Box<Page>>,
}

impl Node {
    /// A file that is made here.
    pub(super) fn empty() -> Node {
        Node::new(None, 0)
    }

    /// A file of the disk below.
    pub(super) fn of(path: &str, len: u64) -> Node {
        let node = Node::new(Some(path.to_owned()), len);
        node.name();
        node
    }

    fn new(path_below: Option<String>, len: u64) -> Node {
        let content = Content {
            len,
            below_len: len,
            pages: BTreeMap::new(),
        };
        Node {
            path_below,
            content: RwLock::new(content),
            handles: AtomicU64::new(0),
            is_kept: AtomicBool::new(false),
            is_named: AtomicBool::new(false),
        }
    }

    /// Where the file below is.
    pub(super) fn path_below(&self) -> Option<&str> {
        self.path_below.as_deref()
    }

    /// Notes that it has a name; true when it had one before.
    pub(super) fn name(&self) -> bool {
        self.is_named.swap(true, Ordering::Relaxed)
    }

    /// Notes that it is not what is below any more.
    pub(super) fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
    }

    /// Notes one more handle.
    pub(super) fn open(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes one handle less; true when it was the last one of a file that is as it is below.
    pub(super) fn close(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::Relaxed) == 1 && !self.is_kept.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> u64 {
        self.content().len
    }

    /// Fills `buffer` from `offset`; `below` is the file below.
    pub(super) fn read(
        &self,
        below: Option<&dyn DiskFile>,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<()> {
        let content = self.content();
        match offset.checked_add(buffer.len() as u64) {
            Some(end) if end <= content.len => content.read(below, buffer, offset),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    pub(super) fn write(
        &self,
        below: Option<&dyn DiskFile>,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        if offset.checked_add(bytes.len() as u64).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.content_mut().write(below, bytes, offset)
    }

    pub(super) fn set_len(&self, len: u64) {
        self.content_mut().set_len(len);
    }

    #[cfg(test)]
    pub(super) fn pages(&self) -> usize {
        self.content().pages.len()
    }

    fn content(&self) -> RwLockReadGuard<'_, Content> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn content_mut(&self) -> RwLockWriteGuard<'_, Content> {
        self.keep();
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    /// Pages that were written from here; what lies between them from below, in one read each.
    fn read(&self, below: Option<&dyn DiskFile>, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let position = offset + done as u64;
            let (index, start) = place(position);
            let n = match self.pages.range(index..).next() {
                Some((&at, page)) if at == index => {
                    let n = (PAGE_BYTES - start).min(buffer.len() - done);
                    buffer[done..done + n].copy_from_slice(&page[start..start + n]);
                    n
                }
                next => {
                    let until = next.map_or(u64::MAX, |(&at, _)| at * PAGE_BYTES as u64 - position);
                    let n = until.min((buffer.len() - done) as u64) as usize;
                    self.read_below(below, &mut buffer[done..done + n], position)?;
                    n
                }
            };
            done += n;
        }
        Ok(())
    }

    fn read_below(
        &self,
        below: Option<&dyn DiskFile>,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<()> {
        let shown = self.below_len.saturating_sub(offset);
        let shown = shown.min(buffer.len() as u64) as usize;
        let (from_below, zeros) = buffer.split_at_mut(shown);
        zeros.fill(0);
        match below {
            Some(file) if shown > 0 => file.read_at(from_below, offset),
            _ => Ok(()),
        }
    }

    fn write(&mut self, below: Option<&dyn DiskFile>, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let (index, start) = place(offset + done as u64);
            let n = (PAGE_BYTES - start).min(bytes.len() - done);
            let part = &bytes[done..done + n];
            let page_start = offset + done as u64 - start as u64;
            let is_hole = page_start >= self.below_len && !self.pages.contains_key(&index);
            // Zeros where nothing is: a file that is filled with them ahead of its use costs nothing.
            if !(is_hole && part.iter().all(|&byte| byte == 0)) {
                let page = self.page_mut(below, index, n < PAGE_BYTES)?;
                page[start..start + n].copy_from_slice(part);
            }
            done += n;
            self.len = self.len.max(offset + done as u64);
        }
        Ok(())
    }

    /// A page to write to; with what is below unless all of it will be written.
    fn page_mut(
        &mut self,
        below: Option<&dyn DiskFile>,
        index: u64,
        is_partial: bool,
    ) -> io::Result<&mut Page> {
        if !self.pages.contains_key(&index) {
            let mut page = Box::new([0; PAGE_BYTES]);
            if is_partial {
                self.read_below(below, &mut page[..], index * PAGE_BYTES as u64)?;
            }
            self.pages.insert(index, page);
        }
        Ok(self.pages.get_mut(&index).expect("it is there now"))
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE_BYTES as u64));
            let (index, start) = place(len);
            if let Some(page) = self.pages.get_mut(&index) {
                page[start..].fill(0);
            }
        }
        self.below_len = self.below_len.min(len);
        self.len = len;
    }
}

/// The page of a position, and where in it.
fn place(position: u64) -> (u64, usize) {
    let bytes = PAGE_BYTES as u64;
    (position / bytes, (position % bytes) as usize)
}

//! What goes wrong with the content of a simulated file without anybody being told.

use std::{ops::Range, sync::Arc};

use super::{Inode, PAGE_BYTES, Page};
use crate::disk::simulated::faults::{Harm, Lie};

impl Inode {
    /// Lets the next sync of these pages be a lie.
    pub(crate) fn lie(&mut self, pages: Range<u64>, lie: Lie) {
        self.lies.extend(pages.map(|index| (index, lie)));
    }

    /// How many pages the disk has, those of zeros included.
    pub(crate) fn pages(&self) -> u64 {
        self.durable.len.div_ceil(PAGE_BYTES as u64)
    }

    pub(crate) fn has_page(&self, index: u64) -> bool {
        index < self.pages()
    }

    /// A page as the disk holds it; `None` is zeros.
    pub(crate) fn durable_page(&self, index: u64) -> Option<Arc<Page>> {
        self.durable.pages.get(&index).cloned()
    }

    /// When a page was last written on the disk; 0 when nobody knows.
    pub(crate) fn written_at(&self, index: u64) -> u64 {
        self.previous.get(&index).map_or(0, |previous| previous.at)
    }

    /// Takes a page on the disk back to what it held before it was last written. False when that is the same.
    pub(crate) fn lose(&mut self, index: u64, harm: Harm, at_once: bool) -> bool {
        match self.previous.get(&index).cloned() {
            Some(before) => self.replace(index, before.page.as_ref(), harm, at_once),
            None => false,
        }
    }

    /// Puts other bytes into a page on the disk. Programs see them after the next power cut or, unless they
    /// have the page changed, at once. False when they are the same.
    pub(crate) fn replace(
        &mut self,
        index: u64,
        page: Option<&Arc<Page>>,
        harm: Harm,
        at_once: bool,
    ) -> bool {
        let before = self.durable.put(index, page);
        self.durable.drop_beyond(self.durable.len);
        let now = self.durable.pages.get(&index);
        let is_same = content(before.as_ref()) == content(now);
        if !is_same {
            self.harm.insert(index, harm);
        }
        let mut written = self.pending.iter().flat_map(|pending| &pending.versions);
        if at_once && written.all(|version| version.index != index) {
            self.live.put(index, now);
            self.live.drop_beyond(self.live.len);
            if !is_same {
                self.seen_harm.insert(index);
            }
        } else {
            self.lost.insert(index);
        }
        !is_same
    }

    /// The damaged pages, in order.
    pub(crate) fn harm(&self) -> impl Iterator<Item = (u64, Harm)> {
        self.harm.iter().map(|(&index, &harm)| (index, harm))
    }

    /// Cuts the file at rest. False when it is not longer.
    pub(crate) fn truncate(&mut self, len: u64) -> bool {
        if self.live.len <= len {
            return false;
        }
        self.allocated = self.allocated.min(len);
        self.live.set_len(len);
        self.seen_harm.split_off(&len.div_ceil(PAGE_BYTES as u64));
        self.forget_beyond(len);
        self.durable.len = self.durable.len.min(len);
        true
    }

    /// Flips bits at rest. False beyond the end.
    pub(crate) fn corrupt(&mut self, offset: u64, mask: u8) -> bool {
        let (index, byte) = (offset / PAGE_BYTES as u64, offset as usize % PAGE_BYTES);
        let inside = offset < self.live.len;
        for image in [&mut self.live, &mut self.durable] {
            if offset < image.len {
                image.page_mut(index)[byte] ^= mask;
            }
        }
        inside
    }
}

/// What is in a page.
fn content(page: Option<&Arc<Page>>) -> &Page {
    page.map_or(&[0; PAGE_BYTES], Arc::as_ref)
}

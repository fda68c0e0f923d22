//! The content of one simulated file: what programs read, what the disk holds, and the changes between.
//!
//! Pages are shared between the two images and copied when written, so that a write, a sync and a power
//! cut cost the pages they touch, however long the file is.

mod damage;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    faults::{Harm, Lie},
    survival::{Cut, Fate},
};

pub(super) const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
const ALL_SECTORS: u8 = 0xff;

type Page = [u8; PAGE_BYTES];

/// One simulated file.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What reads see.
    live: Image,
    /// What a power cut leaves when every pending change is lost.
    durable: Image,
    /// Changes since the last sync, oldest first.
    pending: Vec<Pending>,
    /// Pages that a failed sync or a lie lost: clean in memory, so that no later sync writes them.
    lost: BTreeSet<u64>,
    /// A pending or lost change cut the file, so the images may differ beyond the noted pages.
    was_cut: bool,
    /// A sync failed since the last power cut.
    sync_failed: bool,
    /// What the pages held on the disk before they were last written there.
    previous: BTreeMap<u64, Previous>,
    /// Pages whose next sync will be a lie.
    lies: BTreeMap<u64, Lie>,
    /// Pages that do not hold on the disk what was synced.
    harm: BTreeMap<u64, Harm>,
    /// Those of them that programs read so.
    seen_harm: BTreeSet<u64>,
    /// Writes below this length find their space reserved.
    allocated: u64,
    /// True once the file has (had) a name.
    pub(super) linked: bool,
    /// How many have it open.
    pub(super) handles: u64,
}

#[derive(Clone, Debug, Default)]
struct Image {
    len: u64,
    /// No page lies beyond `len`; a page that is missing, and bytes behind `len`, are zero.
    pages: BTreeMap<u64, Arc<Page>>,
}

#[derive(Clone, Debug)]
struct Previous {
    /// The moment of the last write.
    at: u64,
    page: Option<Arc<Page>>,
}

#[derive(Clone, Debug)]
struct Pending {
    at: u64,
    /// The pages it wrote, as they were after it.
    versions: Vec<Version>,
    /// The length after it, when it changed the length.
    len: Option<u64>,
}

#[derive(Clone, Debug)]
struct Version {
    index: u64,
    /// The sectors it wrote, one bit each.
    sectors: u8,
    page: Arc<Page>,
    /// Nothing in it comes from damage.
    is_sound: bool,
}

impl Inode {
    /// An empty file that has a name.
    pub(super) fn named() -> Inode {
        Inode {
            linked: true,
            ..Inode::default()
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len
    }

    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The space it takes: what is reserved, and what was written beyond it.
    pub(super) fn used_pages(&self) -> u64 {
        self.used_pages_with(self.allocated)
    }

    /// The space it would take if everything below `allocated` were reserved.
    pub(super) fn used_pages_with(&self, allocated: u64) -> u64 {
        let reserved = allocated.div_ceil(PAGE_BYTES as u64);
        reserved + self.live.pages.range(reserved..).count() as u64
    }

    /// How many of `len` bytes at `offset` can be written when `pages` are free.
    pub(super) fn fitting(&self, offset: u64, len: u64, mut pages: u64) -> u64 {
        let page_bytes = PAGE_BYTES as u64;
        let reserved = self.allocated.div_ceil(page_bytes);
        for index in offset / page_bytes..(offset + len).div_ceil(page_bytes) {
            if index < reserved || self.live.pages.contains_key(&index) {
                continue;
            }
            if pages == 0 {
                return (index * page_bytes).saturating_sub(offset);
            }
            pages -= 1;
        }
        len
    }

    /// The moment of the oldest pending change.
    pub(super) fn oldest_pending(&self) -> Option<u64> {
        self.pending.first().map(|pending| pending.at)
    }

    /// Fills `buffer` from `offset`; false when the file ends before.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> bool {
        self.live.read(buffer, offset)
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8], offset: u64) {
        let end = offset + bytes.len() as u64;
        let mut versions = Vec::with_capacity(bytes.len() / PAGE_BYTES + 1);
        for (index, start, bytes) in by_page(bytes, offset) {
            let page = match <&Page>::try_from(bytes) {
                Ok(whole) => {
                    let page = Arc::new(*whole);
                    self.seen_harm.remove(&index);
                    self.live.pages.insert(index, Arc::clone(&page));
                    page
                }
                Err(_) => {
                    let page = self.live.page_mut(index);
                    page[start..start + bytes.len()].copy_from_slice(bytes);
                    Arc::clone(&self.live.pages[&index])
                }
            };
            versions.push(Version {
                index,
                sectors: sectors(start, bytes.len()),
                page,
                is_sound: !self.seen_harm.contains(&index),
            });
        }
        let len = (end > self.live.len).then_some(end);
        self.live.len = self.live.len.max(end);
        self.pending.push(Pending { at, versions, len });
    }

    pub(super) fn set_len(&mut self, at: u64, len: u64) {
        if len == self.live.len {
            return;
        }
        self.was_cut |= len < self.live.len;
        self.allocated = self.allocated.min(len);
        self.live.set_len(len);
        self.seen_harm.split_off(&len.div_ceil(PAGE_BYTES as u64));
        self.pending.push(Pending {
            at,
            versions: Vec::new(),
            len: Some(len),
        });
    }

    pub(super) fn allocate(&mut self, at: u64, len: u64) {
        if len > self.live.len {
            self.set_len(at, len);
        }
        self.allocated = self.allocated.max(len);
    }

    /// A sync that succeeds. What an earlier failed one lost stays lost, unless the page was written anew.
    /// Answers the written pages that are to be a lie.
    pub(super) fn sync(&mut self) -> Vec<(u64, Lie)> {
        let mut written = BTreeSet::new();
        for pending in std::mem::take(&mut self.pending) {
            for Version { index, .. } in pending.versions {
                let page = self.live.pages.get(&index);
                if self.durable.pages.get(&index) != page {
                    let (at, page) = (pending.at, self.durable.put(index, page));
                    self.previous.insert(index, Previous { at, page });
                    written.insert(index);
                }
                self.lost.remove(&index);
                if !self.seen_harm.contains(&index) {
                    self.harm.remove(&index);
                }
            }
            if let Some(len) = pending.len {
                // Only a cut has anything to drop here; the final length comes below.
                self.forget_beyond(len);
            }
        }
        self.durable.set_len(self.live.len);
        self.was_cut &= self.sync_failed;
        let mut lies = std::mem::take(&mut self.lies);
        lies.retain(|index, _| written.contains(index) && self.has_page(*index));
        lies.into_iter().collect()
    }

    /// A sync that fails: each pending change may have reached the disk; those that did not are forgotten
    /// by the system, which still shows them to readers.
    pub(super) fn fail_sync(&mut self, cut: &mut Cut) {
        self.sync_failed = true;
        self.lies.clear();
        for index in self.settle(cut) {
            if self.live.pages.get(&index) != self.durable.pages.get(&index) {
                self.lost.insert(index);
            }
        }
    }

    /// The power cut: what was synced stays, the rest as `cut` decides.
    pub(super) fn crash(&mut self, cut: &mut Cut) {
        self.lies.clear();
        if self.pending.is_empty() && !self.sync_failed && self.lost.is_empty() {
            return;
        }
        let touched = self.settle(cut);
        if self.was_cut {
            self.live = self.durable.clone();
        } else {
            for index in touched.into_iter().chain(std::mem::take(&mut self.lost)) {
                self.live.put(index, self.durable.pages.get(&index));
            }
            self.live.set_len(self.durable.len);
        }
        self.lost.clear();
        self.seen_harm = self.harm.keys().copied().collect();
        (self.was_cut, self.sync_failed) = (false, false);
        self.allocated = self.allocated.min(self.live.len);
    }

    /// Decides about each pending change, in their order: a sector ends as one of the versions it had, the
    /// length as one of the lengths. Answers the pages that were written.
    fn settle(&mut self, cut: &mut Cut) -> Vec<u64> {
        let mut touched = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            let fate = cut.fate(pending.at);
            for version in &pending.versions {
                touched.push(version.index);
                let kept = match fate {
                    Fate::Lost => 0,
                    Fate::Kept => version.sectors,
                    Fate::Torn => cut.tear(version.sectors),
                };
                self.take_sectors(pending.at, version, kept);
            }
            if let Some(len) = pending.len
                && (fate == Fate::Kept || (fate == Fate::Torn && cut.coin()))
            {
                self.forget_beyond(len);
                self.durable.len = len;
            }
        }
        self.durable.drop_beyond(self.durable.len);
        touched
    }

    fn take_sectors(&mut self, at: u64, version: &Version, kept: u8) {
        if kept == 0 {
            return;
        }
        let page = self.durable_page(version.index);
        self.previous.insert(version.index, Previous { at, page });
        self.durable.take_sectors(version, kept);
        if kept == ALL_SECTORS && version.is_sound {
            self.harm.remove(&version.index);
        }
    }

    /// Nothing on the disk lies beyond `len` any more.
    fn forget_beyond(&mut self, len: u64) {
        self.durable.drop_beyond(len);
        let whole = len.div_ceil(PAGE_BYTES as u64);
        self.previous.split_off(&whole);
        self.harm.split_off(&whole);
    }

    /// The content that survives when every pending change is lost.
    pub(super) fn durable_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.durable.len as usize];
        self.durable.read(&mut bytes, 0);
        bytes
    }
}

impl Image {
    fn read(&self, buffer: &mut [u8], offset: u64) -> bool {
        if offset
            .checked_add(buffer.len() as u64)
            .is_none_or(|end| end > self.len)
        {
            return false;
        }
        let mut done = 0;
        while done < buffer.len() {
            let position = offset + done as u64;
            let start = (position % PAGE_BYTES as u64) as usize;
            let n = (PAGE_BYTES - start).min(buffer.len() - done);
            let part = &mut buffer[done..done + n];
            match self.pages.get(&(position / PAGE_BYTES as u64)) {
                Some(page) => part.copy_from_slice(&page[start..start + n]),
                None => part.fill(0),
            }
            done += n;
        }
        true
    }

    fn page_mut(&mut self, index: u64) -> &mut Page {
        Arc::make_mut(
            self.pages
                .entry(index)
                .or_insert_with(|| Arc::new([0; PAGE_BYTES])),
        )
    }

    /// Replaces a page; answers what was there.
    fn put(&mut self, index: u64, page: Option<&Arc<Page>>) -> Option<Arc<Page>> {
        match page {
            Some(page) => self.pages.insert(index, Arc::clone(page)),
            None => self.pages.remove(&index),
        }
    }

    fn take_sectors(&mut self, version: &Version, kept: u8) {
        if kept == ALL_SECTORS {
            self.pages.insert(version.index, Arc::clone(&version.page));
        } else if kept != 0 {
            let page = self.page_mut(version.index);
            for sector in (0..8).filter(|sector| kept & (1 << sector) != 0) {
                let bytes = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                page[bytes.clone()].copy_from_slice(&version.page[bytes]);
            }
        }
    }

    fn set_len(&mut self, len: u64) {
        self.drop_beyond(len);
        self.len = len;
    }

    /// Zeroes what lies at and behind `len`.
    fn drop_beyond(&mut self, len: u64) {
        let whole = len.div_ceil(PAGE_BYTES as u64);
        while let Some((&index, _)) = self.pages.range(whole..).next_back() {
            self.pages.remove(&index);
        }
        let start = (len % PAGE_BYTES as u64) as usize;
        if start > 0
            && let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES as u64))
            && page[start..].iter().any(|&byte| byte != 0)
        {
            Arc::make_mut(page)[start..].fill(0);
        }
    }
}

/// The parts of a write: page, position in it, bytes.
fn by_page(bytes: &[u8], offset: u64) -> impl Iterator<Item = (u64, usize, &[u8])> {
    let (mut rest, mut position) = (bytes, offset);
    std::iter::from_fn(move || {
        let start = (position % PAGE_BYTES as u64) as usize;
        let (part, others) = rest.split_at(rest.len().min(PAGE_BYTES - start));
        let index = position / PAGE_BYTES as u64;
        (rest, position) = (others, position + part.len() as u64);
        (!part.is_empty()).then_some((index, start, part))
    })
}

/// The sectors that `len` bytes from `start` touch.
fn sectors(start: usize, len: usize) -> u8 {
    let (first, last) = (start / SECTOR_BYTES, (start + len - 1) / SECTOR_BYTES);
    (ALL_SECTORS << first) & (ALL_SECTORS >> (7 - last))
}

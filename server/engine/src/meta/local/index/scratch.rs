//! A file that is read as it is, and whose changes stay in memory: redb writes when it opens a file, and on a
//! file system that writes everything to a new place (btrfs, ZFS) a full disk has no room even for that.

use std::{collections::BTreeMap, io, sync::Mutex};

use redb::StorageBackend;

use super::{Arc, DiskFile};

const PAGE_BYTES: usize = 4096;

/// See the module.
pub(super) struct Scratch {
    file: Arc<dyn DiskFile>,
    changed: Mutex<Changed>,
}

#[derive(Default)]
struct Changed {
    len: Option<u64>,
    /// The shortest it has been: what the file has beyond counts no more.
    len_min: Option<u64>,
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl Scratch {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self {
            file,
            changed: Mutex::default(),
        }
    }

    fn changed(&self) -> std::sync::MutexGuard<'_, Changed> {
        self.changed.lock().expect("no holder panics")
    }

    /// The page as the file has it, up to `len_min`; zeros beyond.
    fn page_of_file(&self, number: u64, len_min: Option<u64>) -> io::Result<Box<[u8; PAGE_BYTES]>> {
        let mut page = Box::new([0; PAGE_BYTES]);
        let offset = number * PAGE_BYTES as u64;
        let len = self.file.len()?.min(len_min.unwrap_or(u64::MAX));
        let there = len.saturating_sub(offset).min(PAGE_BYTES as u64) as usize;
        if there > 0 {
            self.file.read_at(&mut page[..there], offset)?;
        }
        Ok(page)
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

/// The pieces of a range, each within one page: number of the page, where in it, and where in the range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE_BYTES as u64) as usize;
        let n = (PAGE_BYTES - within).min(len - done);
        let piece = done..done + n;
        done += n;
        (n > 0).then_some((at / PAGE_BYTES as u64, within, piece))
    })
}

impl StorageBackend for Scratch {
    fn len(&self) -> io::Result<u64> {
        self.changed().len.map_or_else(|| self.file.len(), Ok)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.len()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let changed = self.changed();
        if changed.pages.is_empty() && changed.len.is_none() {
            return self.file.read_at(out, offset);
        }
        for (number, within, piece) in pieces(offset, out.len()) {
            let n = piece.len();
            match changed.pages.get(&number) {
                Some(page) => out[piece].copy_from_slice(&page[within..within + n]),
                None => {
                    let page = self.page_of_file(number, changed.len_min)?;
                    out[piece].copy_from_slice(&page[within..within + n]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changed = self.changed();
        changed.len = Some(len);
        changed.len_min = Some(changed.len_min.map_or(len, |min| min.min(len)));
        changed
            .pages
            .retain(|number, _| number * (PAGE_BYTES as u64) < len);
        let (last, within) = (len / PAGE_BYTES as u64, (len % PAGE_BYTES as u64) as usize);
        if let Some(page) = changed.pages.get_mut(&last) {
            page[within..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let len = self.len()?.max(end);
        let mut changed = self.changed();
        for (number, within, piece) in pieces(offset, data.len()) {
            let page = match changed.pages.remove(&number) {
                Some(page) => page,
                None => self.page_of_file(number, changed.len_min)?,
            };
            let page = changed.pages.entry(number).or_insert(page);
            page[within..within + piece.len()].copy_from_slice(&data[piece]);
        }
        changed.len = Some(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, simulated::SimulatedDisk};

    #[test]
    fn changes_are_seen_and_leave_the_file_alone() {
        let file = SimulatedDisk::new(1).create("f").unwrap();
        file.write_at(&[7; 10_000], 0).unwrap();
        let scratch = Scratch::new(file.clone());
        scratch.write(4090, &[8; 20]).unwrap();
        scratch.write(9_990, &[9; 5000]).unwrap();
        assert_eq!(scratch.len().unwrap(), 14_990);
        let mut seen = vec![0; 14_990];
        scratch.read(0, &mut seen).unwrap();
        let expected = [
            vec![7; 4090],
            vec![8; 20],
            vec![7; 9_990 - 4110],
            vec![9; 5000],
        ]
        .concat();
        assert_eq!(seen, expected);
        assert!(scratch.read(1, &mut seen).is_err());
        scratch.set_len(4100).unwrap();
        scratch.set_len(9000).unwrap();
        scratch.read(0, &mut seen[..9000]).unwrap();
        assert_eq!(seen[..9000], [&expected[..4100], &[0; 4900]].concat());
        let mut kept = vec![0; 10_000];
        file.read_at(&mut kept, 0).unwrap();
        assert_eq!((file.len().unwrap(), kept), (10_000, vec![7; 10_000]));
    }
}

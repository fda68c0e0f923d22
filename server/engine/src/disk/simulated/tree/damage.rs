//! What goes wrong with the content of the simulated disk without anybody being told.

use std::io;

use super::Tree;
use crate::disk::simulated::{
    faults::{Damage, Harm, Lie},
    inode::PAGE_BYTES,
};

impl Tree {
    /// The disk will lie about some pages of a write.
    pub(crate) fn lie(&mut self, node: u64, lie: Lie, offset: u64, len: u64) {
        let page_bytes = PAGE_BYTES as u64;
        let (first, end) = (offset / page_bytes, (offset + len).div_ceil(page_bytes));
        let from = first + self.random.below(end - first);
        let pages = match lie {
            Lie::Lost => 1 + self.random.below(end - from),
            Lie::Misdirected => 1,
        };
        self.inode_mut(node).lie(from..from + pages, lie);
    }

    /// A page that was just synced is not what it should be.
    pub(crate) fn be_lied_about(&mut self, page: (u64, u64), lie: Lie) {
        let at_once = self.random.of_16(8);
        let other = match lie {
            Lie::Lost => None,
            Lie::Misdirected => self.other_page(page),
        };
        match other {
            Some(other) => self.misdirect(page, other, at_once),
            None => self.inode_mut(page.0).lose(page.1, Harm::Lost, at_once),
        };
    }

    /// Some other page, of the same file or another one with a name.
    fn other_page(&mut self, (node, index): (u64, u64)) -> Option<(u64, u64)> {
        let named = self.files(|directory| &directory.live).into_values();
        let others: Vec<u64> = named
            .filter(|&other| other != node && self.inode(other).pages() > 0)
            .collect();
        let pages = self.inode(node).pages();
        if pages > 1 && (others.is_empty() || self.random.of_16(8)) {
            let page = self.random.below(pages - 1);
            return Some((node, page + u64::from(page >= index)));
        }
        if others.is_empty() {
            return None;
        }
        let other = others[self.random.below(others.len() as u64) as usize];
        let pages = self.inode(other).pages();
        Some((other, self.random.below(pages)))
    }

    /// Lets a page that was written have landed in another one. False when nothing differs.
    fn misdirect(&mut self, from: (u64, u64), to: (u64, u64), at_once: bool) -> bool {
        let page = self.inode(from.0).durable_page(from.1);
        let lost = self
            .inode_mut(from.0)
            .lose(from.1, Harm::Misdirected, at_once);
        let other = self.inode_mut(to.0);
        other.replace(to.1, page.as_ref(), Harm::Overwritten, at_once) || lost
    }

    pub(crate) fn truncate(&mut self, path: &str, len: u64) -> io::Result<()> {
        let node = self.find_file(path)?;
        match self.inode_mut(node).truncate(len) {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    pub(crate) fn lose_page(&mut self, path: &str, page: u64) -> io::Result<bool> {
        let (node, page) = self.page(path, page)?;
        Ok(self.inode_mut(node).lose(page, Harm::Lost, true))
    }

    pub(crate) fn misdirect_page(
        &mut self,
        from: (&str, u64),
        to: (&str, u64),
    ) -> io::Result<bool> {
        let (from, to) = (self.page(from.0, from.1)?, self.page(to.0, to.1)?);
        let written_at = |page: (u64, u64)| self.inode(page.0).written_at(page.1);
        // Written later, the other page would be right again.
        Ok(written_at(to) < written_at(from) && self.misdirect(from, to, true))
    }

    fn page(&self, path: &str, page: u64) -> io::Result<(u64, u64)> {
        let node = self.find_file(path)?;
        match self.inode(node).has_page(page) {
            true => Ok((node, page)),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The damaged pages of all files with a name.
    pub(crate) fn damages(&self) -> Vec<Damage> {
        let mut damages: Vec<Damage> = Vec::new();
        for (path, node) in self.files(|directory| &directory.live) {
            for (page, harm) in self.inode(node).harm() {
                match damages.last_mut() {
                    Some(last)
                        if (&last.path, last.pages.end, last.harm) == (&path, page, harm) =>
                    {
                        last.pages.end += 1;
                    }
                    _ => damages.push(Damage {
                        path: path.clone(),
                        pages: page..page + 1,
                        harm,
                    }),
                }
            }
        }
        damages
    }

    pub(crate) fn corrupt(&mut self, path: &str, offset: u64, mask: u8) -> io::Result<()> {
        let node = self.find_file(path)?;
        match self.inode_mut(node).corrupt(offset, mask) {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

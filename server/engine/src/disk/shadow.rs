//! A disk whose changes stay in memory: over another one, of which it only ever reads.
//!
//! Who opens a store on it sees what the next start would see, replayed log and all, and writes nothing:
//! `jay fsck`. What costs memory is what was changed: the pages that were written, and the names. Space
//! that is only reserved, and zeros where nothing was, cost nothing. The disk below must not change
//! meanwhile, and opens its files for reading and writing, as [`Disk::open`] says.
//!
//! Absent: durability. Syncs succeed and do nothing, and with the last handle all is forgotten.

mod node;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use self::node::Node;
use super::{Disk, DiskFile};

/// The disk below with changes that nobody else ever sees.
pub struct ShadowDisk {
    tree: Arc<Mutex<Tree>>,
}

/// The names that differ from those below, and the files that are open.
struct Tree {
    below: Arc<dyn Disk>,
    /// By directory, then by name.
    entries: BTreeMap<String, BTreeMap<String, Entry>>,
}

#[derive(Clone)]
enum Entry {
    /// Nothing is there any more.
    Removed,
    /// A file that was made, moved or changed here, or that is open.
    File(Arc<Node>),
    /// A directory that was made here: nothing below shows in it.
    Directory,
}

/// What a path leads to.
enum Found {
    Here(Arc<Node>),
    Below(Arc<dyn DiskFile>),
    Directory,
}

impl ShadowDisk {
    /// A disk that shows what `below` holds until it is changed here.
    pub fn over(below: Arc<dyn Disk>) -> Arc<ShadowDisk> {
        let entries = BTreeMap::new();
        let tree = Arc::new(Mutex::new(Tree { below, entries }));
        Arc::new(ShadowDisk { tree })
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    /// A handle of a file. Call it with the tree locked: the last handle that goes looks at their number.
    fn handle(&self, node: &Arc<Node>, below: Option<Arc<dyn DiskFile>>) -> Arc<dyn DiskFile> {
        node.open();
        Arc::new(ShadowFile {
            tree: Arc::clone(&self.tree),
            node: Arc::clone(node),
            below,
        })
    }
}

fn lock(tree: &Mutex<Tree>) -> MutexGuard<'_, Tree> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for ShadowDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut tree = self.tree();
        tree.find_dir(parent(path))?;
        match tree.find(path) {
            Ok(Found::Directory) => Ok(()),
            Ok(Found::Here(_) | Found::Below(_)) => Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tree.put(path, Entry::Directory);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        let mut tree = self.tree();
        if !tree.read_dir(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        // It holds nothing but names that were removed.
        tree.entries.remove(path);
        tree.remove(path)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.tree();
        let (node, below) = match tree.find(path)? {
            Found::Directory => return Err(io::ErrorKind::IsADirectory.into()),
            Found::Here(node) => {
                let below = node.path_below().map(|path| tree.below.open(path));
                (node, below.transpose()?)
            }
            Found::Below(file) => (tree.note(path, &*file)?, Some(file)),
        };
        Ok(self.handle(&node, below))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.tree();
        tree.must_be_vacant(path)?;
        let node = Arc::new(Node::empty());
        node.name();
        tree.put(path, Entry::File(Arc::clone(&node)));
        Ok(self.handle(&node, None))
    }

    fn create_unnamed(&self, dir: &str) -> io::Result<Arc<dyn DiskFile>> {
        let tree = self.tree();
        tree.find_dir(dir)?;
        Ok(self.handle(&Arc::new(Node::empty()), None))
    }

    fn link(&self, file: &dyn DiskFile, path: &str) -> io::Result<()> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        let file = file
            .as_any()
            .downcast_ref::<ShadowFile>()
            .filter(|file| Arc::ptr_eq(&file.tree, &self.tree))
            .ok_or_else(|| invalid("a file of another disk"))?;
        let mut tree = self.tree();
        tree.must_be_vacant(path)?;
        if file.node.name() {
            return Err(invalid("the file has a name"));
        }
        tree.put(path, Entry::File(Arc::clone(&file.node)));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut tree = self.tree();
        let found = tree.find(from)?;
        if matches!(found, Found::Directory) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        tree.must_be_vacant(to)?;
        let node = match found {
            Found::Here(node) => node,
            Found::Below(file) => tree.note(from, &*file)?,
            Found::Directory => unreachable!("refused above"),
        };
        node.keep();
        tree.remove(from)?;
        tree.put(to, Entry::File(node));
        Ok(())
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let mut tree = self.tree();
        match tree.find(path)? {
            Found::Directory => Err(io::ErrorKind::IsADirectory.into()),
            Found::Here(_) | Found::Below(_) => tree.remove(path),
        }
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.tree().find_dir(path)
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        self.tree().read_dir(path)
    }
}

impl Tree {
    /// What `path` leads to; `NotFound` and `NotADirectory` as the system answers them.
    fn find(&self, path: &str) -> io::Result<Found> {
        if path.is_empty() {
            return Ok(Found::Directory);
        }
        let is_ours = self.is_ours(parent(path))?;
        match self.entry(path) {
            Some(Entry::File(node)) => Ok(Found::Here(Arc::clone(node))),
            Some(Entry::Directory) => Ok(Found::Directory),
            Some(Entry::Removed) => Err(io::ErrorKind::NotFound.into()),
            None if is_ours => Err(io::ErrorKind::NotFound.into()),
            None => match self.below.open(path) {
                Ok(file) => Ok(Found::Below(file)),
                Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(Found::Directory),
                Err(error) => Err(error),
            },
        }
    }

    /// True when the directory `dir` (or one above it) was made here, so that nothing below shows in it.
    /// An error when what is known here says that there is no such directory.
    fn is_ours(&self, dir: &str) -> io::Result<bool> {
        let mut is_ours = false;
        let ends = dir.match_indices('/').map(|(at, _)| at).chain([dir.len()]);
        for ancestor in ends.map(|end| &dir[..end]).filter(|path| !path.is_empty()) {
            match self.entry(ancestor) {
                Some(Entry::Directory) => is_ours = true,
                Some(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                Some(Entry::Removed) => return Err(io::ErrorKind::NotFound.into()),
                None if is_ours => return Err(io::ErrorKind::NotFound.into()),
                None => {}
            }
        }
        Ok(is_ours)
    }

    fn find_dir(&self, path: &str) -> io::Result<()> {
        match self.find(path)? {
            Found::Directory => Ok(()),
            Found::Here(_) | Found::Below(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn must_be_vacant(&self, path: &str) -> io::Result<()> {
        self.find_dir(parent(path))?;
        match self.find(path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        self.find_dir(path)?;
        let mut names = match self.is_ours(path)? {
            true => Vec::new(),
            false => self.below.read_dir(path)?,
        };
        if let Some(entries) = self.entries.get(path) {
            names.retain(|name| !entries.contains_key(name));
            let here = entries.iter();
            let here = here.filter(|(_, entry)| !matches!(entry, Entry::Removed));
            names.extend(here.map(|(name, _)| name.clone()));
        }
        Ok(names)
    }

    /// Notes a file of the disk below, so that all who open it share what becomes of it.
    fn note(&mut self, path: &str, file: &dyn DiskFile) -> io::Result<Arc<Node>> {
        let node = Arc::new(Node::of(path, file.len()?));
        self.put(path, Entry::File(Arc::clone(&node)));
        Ok(node)
    }

    /// Forgets a file that nobody has open and that is as it is below.
    fn forget(&mut self, node: &Arc<Node>) {
        if let Some(path) = node.path_below()
            && matches!(self.entry(path), Some(Entry::File(entry)) if Arc::ptr_eq(entry, node))
        {
            self.take(path);
        }
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        match self.is_ours(parent(path))? {
            true => self.take(path),
            false => self.put(path, Entry::Removed),
        }
        Ok(())
    }

    fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.get(parent(path))?.get(name(path))
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let dir = self.entries.entry(parent(path).to_owned()).or_default();
        dir.insert(name(path).to_owned(), entry);
    }

    fn take(&mut self, path: &str) {
        if let Some(entries) = self.entries.get_mut(parent(path)) {
            entries.remove(name(path));
            if entries.is_empty() {
                self.entries.remove(parent(path));
            }
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

struct ShadowFile {
    tree: Arc<Mutex<Tree>>,
    node: Arc<Node>,
    /// The same file below, when it comes from there: read, and nothing else.
    below: Option<Arc<dyn DiskFile>>,
}

impl DiskFile for ShadowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.node.read(self.below.as_deref(), buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.node.write(self.below.as_deref(), bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.node.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.node.set_len(len);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len > self.node.len() {
            self.node.set_len(len);
        }
        Ok(())
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Drop for ShadowFile {
    fn drop(&mut self) {
        let mut tree = lock(&self.tree);
        if self.node.close() {
            tree.forget(&self.node);
        }
    }
}

//! The simulated directory tree with its files, in two states at once: as programs see it, and as the disk
//! holds it.

mod damage;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::{
    directory::{Change, Directory},
    inode::Inode,
    random::Random,
    survival::{Cut, Survival},
};

const ROOT: u64 = 0;

/// Everything on the disk.
pub(super) struct Tree {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    /// Numbers the changes: the moment each happened.
    now: u64,
    random: Random,
}

#[derive(Clone)]
enum Node {
    File(Inode),
    Directory(Directory),
}

impl Tree {
    pub(super) fn new(seed: u64) -> Tree {
        let nodes = BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]);
        Tree {
            nodes,
            next_node: ROOT + 1,
            now: 0,
            random: Random::new(seed),
        }
    }

    pub(super) fn fork(&self, seed: u64) -> Tree {
        let mut fork = Tree {
            nodes: self.nodes.clone(),
            random: Random::new(seed),
            ..*self
        };
        fork.close_all();
        fork
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    pub(super) fn per_million(&mut self, rate: u32) -> bool {
        self.random.per_million(rate)
    }

    pub(super) fn any_survival(&mut self) -> Survival {
        Cut::any(&mut self.random)
    }

    // Names.

    pub(super) fn create_dir(&mut self, path: &str) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        match self
            .directory(dir)
            .live
            .get(name)
            .map(|node| &self.nodes[node])
        {
            Some(Node::Directory(_)) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => {
                self.add(dir, name, Node::Directory(Directory::default()));
                Ok(())
            }
        }
    }

    pub(super) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        let node = self.find_dir(path)?;
        if !self.directory(node).live.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.remove(path)
    }

    pub(super) fn create(&mut self, path: &str) -> io::Result<u64> {
        let (dir, name) = self.vacant(path)?;
        Ok(self.add(dir, name, Node::File(Inode::named())))
    }

    pub(super) fn create_unnamed(&mut self, dir: &str) -> io::Result<u64> {
        self.find_dir(dir)?;
        Ok(self.add_node(Node::File(Inode::default())))
    }

    pub(super) fn link(&mut self, node: u64, path: &str) -> io::Result<()> {
        let (dir, name) = self.vacant(path)?;
        if std::mem::replace(&mut self.inode_mut(node).linked, true) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the file has a name",
            ));
        }
        self.change(
            dir,
            Change::Add {
                name: name.to_owned(),
                node,
            },
            None,
        );
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = self.find_file(from)?;
        let (to_dir, to) = self.vacant(to)?;
        let (from_dir, from) = self.parent(from)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        if from_dir == to_dir {
            self.change(to_dir, Change::Rename { from, to, node }, None);
        } else {
            let added = self.change(to_dir, Change::Add { name: to, node }, None);
            self.change(
                from_dir,
                Change::Remove { name: from },
                Some((to_dir, added)),
            );
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &str) -> io::Result<()> {
        self.find_file(path)?;
        self.remove(path)
    }

    pub(super) fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        Ok(self
            .directory(self.find_dir(path)?)
            .live
            .keys()
            .cloned()
            .collect())
    }

    /// Makes the entries of a directory durable.
    pub(super) fn sync_dir(&mut self, dir: u64) {
        self.persist(dir, u64::MAX);
    }

    /// Makes the changes of a directory before some moment durable; the others stay pending.
    pub(super) fn fail_sync_dir(&mut self, dir: u64) {
        let pending = &self.directory(dir).pending;
        if let (Some(first), Some(last)) = (pending.first(), pending.last()) {
            let (first, last) = (first.at, last.at);
            let end = first + self.random.below(last - first + 2);
            if end > first {
                self.persist(dir, end - 1);
            }
        }
    }

    // Files.

    /// Notes one more who has a file open.
    pub(super) fn open(&mut self, node: u64) {
        self.inode_mut(node).handles += 1;
    }

    pub(super) fn close(&mut self, node: u64) {
        self.inode_mut(node).handles -= 1;
    }

    /// Nobody has any file open any more.
    pub(super) fn close_all(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::File(inode) = node {
                inode.handles = 0;
            }
        }
    }

    /// The space that files take which have a name or are open.
    pub(super) fn used_pages(&self) -> u64 {
        let directories = self.nodes.values().filter_map(Node::as_directory);
        let named: BTreeSet<u64> = directories
            .flat_map(|directory| directory.live.values().copied())
            .collect();
        let used = |(number, node): (&u64, &Node)| match node {
            Node::File(inode) if inode.handles > 0 || named.contains(number) => inode.used_pages(),
            _ => 0,
        };
        self.nodes.iter().map(used).sum()
    }

    pub(super) fn write(&mut self, node: u64, bytes: &[u8], offset: u64) {
        let now = self.tick();
        self.inode_mut(node).write(now, bytes, offset);
    }

    pub(super) fn set_len(&mut self, node: u64, len: u64) {
        let now = self.tick();
        self.inode_mut(node).set_len(now, len);
    }

    pub(super) fn allocate(&mut self, node: u64, len: u64) {
        let now = self.tick();
        self.inode_mut(node).allocate(now, len);
    }

    /// A sync that succeeds, or says so.
    pub(super) fn sync(&mut self, node: u64) {
        for (index, lie) in self.inode_mut(node).sync() {
            self.be_lied_about((node, index), lie);
        }
    }

    pub(super) fn fail_sync(&mut self, node: u64) {
        let oldest = self.inode(node).oldest_pending();
        let survival = self.any_survival();
        let mut cut = self.cut(survival, oldest);
        cut.next_node();
        self.inode_mut(node).fail_sync(&mut cut);
    }

    // The power cut.

    /// Leaves what was synced, and of the rest what `survival` picks.
    pub(super) fn crash(&mut self, survival: Survival) {
        let oldest = self.nodes.values().filter_map(Node::oldest_pending).min();
        let mut cut = self.cut(survival, oldest);
        self.crash_directories(&mut cut);
        self.forget_unreachable();
        for node in self.nodes.values_mut() {
            if let Node::File(inode) = node {
                cut.next_node();
                inode.crash(&mut cut);
            }
        }
    }

    fn cut(&mut self, survival: Survival, oldest: Option<u64>) -> Cut {
        let moments = oldest.unwrap_or(self.now)..self.now + 1;
        Cut::new(survival, moments, self.random.fork())
    }

    fn crash_directories(&mut self, cut: &mut Cut) {
        let mut lost = BTreeSet::new();
        let mut halves = Vec::new();
        for directory in self.nodes.values().filter_map(Node::as_directory) {
            cut.next_node();
            for entry in &directory.pending {
                if !cut.survives(entry.at) {
                    lost.insert(entry.at);
                }
                halves.extend(entry.after.map(|(_, other)| (entry.at, other)));
            }
        }
        for (removed, added) in halves {
            if lost.contains(&added) {
                lost.insert(removed);
            }
        }
        for node in self.nodes.values_mut() {
            if let Node::Directory(directory) = node {
                directory.crash(|at| !lost.contains(&at));
            }
        }
    }

    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            for &node in self.directory(dir).durable.values() {
                if reached.insert(node) && self.nodes[&node].as_directory().is_some() {
                    dirs.push(node);
                }
            }
        }
        self.nodes.retain(|node, _| reached.contains(node));
    }

    // Views for tests.

    pub(super) fn live_files(&self) -> Vec<String> {
        self.files(|directory| &directory.live)
            .into_keys()
            .collect()
    }

    pub(super) fn durable_files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.files(|directory| &directory.durable).into_iter();
        files
            .map(|(path, node)| (path, self.inode(node).durable_bytes()))
            .collect()
    }

    fn files(&self, entries: fn(&Directory) -> &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![(String::new(), ROOT)];
        while let Some((prefix, dir)) = dirs.pop() {
            for (name, &node) in entries(self.directory(dir)) {
                match &self.nodes[&node] {
                    Node::File(_) => drop(files.insert(format!("{prefix}{name}"), node)),
                    Node::Directory(_) => dirs.push((format!("{prefix}{name}/"), node)),
                }
            }
        }
        files
    }

    // Helpers.

    pub(super) fn find_dir(&self, path: &str) -> io::Result<u64> {
        let mut dir = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            dir = *self
                .directory(dir)
                .live
                .get(name)
                .ok_or(io::ErrorKind::NotFound)?;
            if self.nodes[&dir].as_directory().is_none() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        Ok(dir)
    }

    pub(super) fn find_file(&self, path: &str) -> io::Result<u64> {
        let (dir, name) = self.parent(path)?;
        let node = *self
            .directory(dir)
            .live
            .get(name)
            .ok_or(io::ErrorKind::NotFound)?;
        match &self.nodes[&node] {
            Node::File(_) => Ok(node),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory of a path, and its last name.
    fn parent<'a>(&self, path: &'a str) -> io::Result<(u64, &'a str)> {
        debug_assert!(!path.starts_with('/'), "absolute path {path:?}");
        debug_assert!(
            path.split('/').all(|part| part != ".."),
            "path {path:?} leaves the root"
        );
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find_dir(dir)?, name))
    }

    fn vacant<'a>(&self, path: &'a str) -> io::Result<(u64, &'a str)> {
        let (dir, name) = self.parent(path)?;
        match self.directory(dir).live.contains_key(name) {
            true => Err(io::ErrorKind::AlreadyExists.into()),
            false => Ok((dir, name)),
        }
    }

    fn add(&mut self, dir: u64, name: &str, node: Node) -> u64 {
        let node = self.add_node(node);
        self.change(
            dir,
            Change::Add {
                name: name.to_owned(),
                node,
            },
            None,
        );
        node
    }

    fn add_node(&mut self, node: Node) -> u64 {
        let number = self.next_node;
        self.next_node += 1;
        self.nodes.insert(number, node);
        number
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        self.change(
            dir,
            Change::Remove {
                name: name.to_owned(),
            },
            None,
        );
        Ok(())
    }

    /// Changes an entry; answers the moment.
    fn change(&mut self, dir: u64, change: Change, after: Option<(u64, u64)>) -> u64 {
        let now = self.tick();
        self.directory_mut(dir).change(now, change, after);
        now
    }

    /// Makes the pending changes of a directory durable up to a moment, and before an old name goes, the
    /// new one in the other directory. That one is always of an earlier moment, so this ends.
    fn persist(&mut self, dir: u64, through: u64) {
        for entry in self.directory_mut(dir).take_through(through) {
            if let Some((other, at)) = entry.after {
                self.persist(other, at);
            }
            self.directory_mut(dir).persist(&entry);
        }
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// The file behind a handle of this machine: nodes go only at a power cut.
    pub(super) fn inode(&self, node: u64) -> &Inode {
        match &self.nodes[&node] {
            Node::File(inode) => inode,
            Node::Directory(_) => unreachable!("handles are of files"),
        }
    }

    fn inode_mut(&mut self, node: u64) -> &mut Inode {
        match self.nodes.get_mut(&node) {
            Some(Node::File(inode)) => inode,
            _ => unreachable!("handles are of files"),
        }
    }

    fn directory(&self, node: u64) -> &Directory {
        self.nodes[&node]
            .as_directory()
            .expect("only directories are asked")
    }

    fn directory_mut(&mut self, node: u64) -> &mut Directory {
        match self.nodes.get_mut(&node) {
            Some(Node::Directory(directory)) => directory,
            _ => unreachable!("only directories are asked"),
        }
    }
}

impl Node {
    fn as_directory(&self) -> Option<&Directory> {
        match self {
            Node::Directory(directory) => Some(directory),
            Node::File(_) => None,
        }
    }

    fn oldest_pending(&self) -> Option<u64> {
        match self {
            Node::File(inode) => inode.oldest_pending(),
            Node::Directory(directory) => directory.pending.first().map(|pending| pending.at),
        }
    }
}

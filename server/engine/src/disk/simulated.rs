//! A disk in memory that forgets at a power cut what a real one may forget, and fails when told to.
//!
//! The crash simulator runs the whole store over it, redb included. Everything random follows from one
//! seed, so a failing run replays. What it promises is what the verbs of [`Disk`] promise and nothing
//! that file systems merely happen to do:
//!
//! - Writes, lengths and entries survive a power cut only by the sync that covers them. Each unsynced
//!   change may survive, vanish or be torn, whatever became of those before and after it.
//! - A sector of 512 bytes is written entirely or not at all; it ends as one of the versions it had.
//! - A rename within a directory happens entirely or not at all. Of a move between directories the new
//!   name may survive beside the old one; both are never lost.
//! - A failed sync of a file forgets: what it did not write stays visible until the power cut, and later
//!   syncs skip it. A failed sync of a directory leaves its changes pending.
//! - What was synced stays as it is, unless the disk is told to lie ([`Lies`]) or damaged at rest.
//! - Space reserved by [`DiskFile::allocate`] never runs out. Names take none.
//!
//! Absent: holes, times, permissions, links to a second name, renames of directories.

mod directory;
mod faults;
mod file;
mod inode;
mod machine;
pub(crate) mod random;
mod survival;
mod tree;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::{
    faults::{Damage, Faults, Harm, Lie, Lies},
    survival::Survival,
};
use self::{
    file::SimulatedFile,
    inode::PAGE_BYTES,
    machine::{Machine, input_output_error},
    tree::Tree,
};
use super::{Disk, DiskFile};

/// A machine's disk, until the next power cut and beyond.
pub struct SimulatedDisk {
    machine: Arc<Mutex<Machine>>,
}

impl SimulatedDisk {
    /// An empty disk whose accidents follow from `seed`.
    pub fn new(seed: u64) -> Arc<SimulatedDisk> {
        SimulatedDisk::with_tree(Tree::new(seed))
    }

    /// A copy of this disk as it is, unsynced changes included, with accidents of its own. Its cost
    /// follows the pages in use, so a prepared disk can begin many runs.
    pub fn fork(&self, seed: u64) -> Arc<SimulatedDisk> {
        SimulatedDisk::with_tree(self.machine().tree.fork(seed))
    }

    fn with_tree(tree: Tree) -> Arc<SimulatedDisk> {
        Arc::new(SimulatedDisk {
            machine: Arc::new(Mutex::new(Machine::new(tree))),
        })
    }

    /// Cuts the power and starts a fresh machine on what the disk kept: every file opened before is dead,
    /// files without a name are gone, planned accidents are off. Rates of [`Faults`] and
    /// [`Lies`] stay, and so does damage.
    pub fn crash(&self) {
        let survival = self.machine().tree.any_survival();
        self.crash_as(survival);
    }

    /// [`SimulatedDisk::crash`] with a given choice of what survives.
    pub fn crash_as(&self, survival: Survival) {
        let mut machine = self.machine();
        machine.tree.crash(survival);
        machine.start();
    }

    /// Cuts the power in the midst of the `n`th operation from now on that changes something (1 is the
    /// next one): it may be done, half done or not, and answers an error, as does all that follows until
    /// [`SimulatedDisk::crash`]. 0 calls it off.
    pub fn crash_at(&self, n: u64) {
        self.machine().operations_left = (n > 0).then_some(n);
    }

    /// Ends the process at once: every verb answers an error until [`SimulatedDisk::crash`] or
    /// [`SimulatedDisk::restart`].
    pub fn halt(&self) {
        self.machine().powered = false;
    }

    /// Starts a new process on the machine of the old one: what was written is there, synced or not; every
    /// file opened before is dead, planned accidents are off.
    pub fn restart(&self) {
        self.machine().start();
    }

    /// Lets the `n`th sync of a file or directory from now on fail (1 is the next one). 0 calls it off.
    pub fn fail_sync_after(&self, n: u64) {
        self.machine().syncs_left = (n > 0).then_some(n);
    }

    /// Sets how often verbs fail, and answers what it was before.
    pub fn set_faults(&self, faults: Faults) -> Faults {
        std::mem::replace(&mut self.machine().faults, faults)
    }

    /// Sets how often a write that was synced is not there all the same.
    pub fn set_lies(&self, lies: Lies) {
        self.machine().lies = lies;
    }

    /// Lets the disk lie about the `n`th write from now on (1 is the next one), when it is synced. 0 calls it
    /// off.
    pub fn lie_about(&self, n: u64, lie: Lie) {
        self.machine().lie_left = ((n > 0).then_some(n), lie);
    }

    /// The pages that do not hold what was synced, of all files with a name: lies and lost pages so far,
    /// until they are written anew. Flipped bits and cut files are not among them.
    pub fn damages(&self) -> Vec<Damage> {
        self.machine().tree.damages()
    }

    /// How many verbs of open files have answered an error since the file at `path` was made.
    pub fn failures(&self, path: &str) -> u64 {
        let machine = self.machine();
        let node = machine.tree.find_file(path).ok();
        let failures = node.and_then(|node| machine.failures.get(&node));
        failures.copied().unwrap_or(0)
    }

    /// Sets who is told that a verb took so many milliseconds: the clock of the world, which must not ask
    /// the disk in turn.
    pub fn set_clock(&self, clock: impl Fn(u64) + Send + 'static) {
        self.machine().clock = Some(Box::new(clock));
    }

    /// Refuses to reserve more than `bytes` for one file, as a nearly full disk does.
    pub fn set_allocation_max(&self, bytes: u64) {
        self.machine().allocation_max = Some(bytes);
    }

    /// Sets how many bytes all files together may take, in whole pages: those written and those reserved, of
    /// every file that has a name or is open. `None` is a disk without end.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.machine().capacity = bytes;
    }

    /// The bytes that count for [`SimulatedDisk::set_capacity`].
    pub fn used_bytes(&self) -> u64 {
        self.machine().tree.used_pages() * PAGE_BYTES as u64
    }

    /// How many operations tried to change something, syncs included.
    pub fn operations(&self) -> u64 {
        self.machine().operations
    }

    /// False between the moment set by [`SimulatedDisk::crash_at`] (or [`SimulatedDisk::halt`]) and
    /// [`SimulatedDisk::crash`] (or [`SimulatedDisk::restart`]).
    pub fn is_powered(&self) -> bool {
        self.machine().powered
    }

    /// True until the sync planned by [`SimulatedDisk::fail_sync_after`] has failed.
    pub fn is_failed_sync_ahead(&self) -> bool {
        self.machine().syncs_left.is_some()
    }

    /// The paths of all files, in order, as programs see them.
    pub fn live_files(&self) -> Vec<String> {
        self.machine().tree.live_files()
    }

    /// All files as a power cut leaves them that loses everything unsynced.
    pub fn durable_snapshot(&self) -> BTreeMap<String, Vec<u8>> {
        self.machine().tree.durable_files()
    }

    /// Flips the bits of `mask` in one byte at rest.
    pub fn corrupt(&self, path: &str, offset: u64, mask: u8) -> io::Result<()> {
        self.machine().tree.corrupt(path, offset, mask)
    }

    /// Takes a page (of 4 KiB) at rest back to what it held before it was last written: a write that was
    /// lost. False when it held the same.
    pub fn lose_page(&self, path: &str, page: u64) -> io::Result<bool> {
        self.machine().tree.lose_page(path, page)
    }

    /// Lets the last write of the page `from` have landed in the page `to` instead. False when nothing
    /// differs, and nothing happens when `to` was written later.
    pub fn misdirect_page(&self, from: (&str, u64), to: (&str, u64)) -> io::Result<bool> {
        self.machine().tree.misdirect_page(from, to)
    }

    /// Cuts a file at rest; an error when it is not longer than `len`.
    pub fn truncate_at_rest(&self, path: &str, len: u64) -> io::Result<()> {
        self.machine().tree.truncate(path, len)
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, machine: &mut Machine, node: u64) -> Arc<dyn DiskFile> {
        let generation = machine.generation;
        machine.tree.open(node);
        Arc::new(SimulatedFile {
            machine: Arc::clone(&self.machine),
            node,
            generation,
        })
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.machine().add(
            |faults| faults.create_dir_errors,
            |tree| tree.create_dir(path),
        )
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.machine().change(
            |faults| faults.remove_dir_errors,
            |machine| machine.tree.remove_dir(path),
        )
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine();
        machine.look(|faults| faults.open_errors)?;
        let node = machine.tree.find_file(path)?;
        Ok(self.file(&mut machine, node))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine();
        let node = machine.add(|faults| faults.create_errors, |tree| tree.create(path))?;
        Ok(self.file(&mut machine, node))
    }

    fn create_unnamed(&self, dir: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine();
        let node = machine.add(
            |faults| faults.create_errors,
            |tree| tree.create_unnamed(dir),
        )?;
        Ok(self.file(&mut machine, node))
    }

    fn link(&self, file: &dyn DiskFile, path: &str) -> io::Result<()> {
        let file = file
            .as_any()
            .downcast_ref::<SimulatedFile>()
            .filter(|file| Arc::ptr_eq(&file.machine, &self.machine))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file of another disk"))?;
        let mut machine = self.machine();
        machine.same(file.generation)?;
        machine.add(
            |faults| faults.link_errors,
            |tree| tree.link(file.node, path),
        )
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.machine()
            .add(|faults| faults.rename_errors, |tree| tree.rename(from, to))
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.machine().change(
            |faults| faults.unlink_errors,
            |machine| machine.tree.unlink(path),
        )
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.machine().change(
            |_| 0,
            |machine| {
                let dir = machine.tree.find_dir(path)?;
                if machine.sync_fails() {
                    machine.tree.fail_sync_dir(dir);
                    return Err(input_output_error());
                }
                machine.tree.sync_dir(dir);
                Ok(())
            },
        )
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        let mut machine = self.machine();
        machine.look(|faults| faults.read_dir_errors)?;
        machine.tree.read_dir(path)
    }
}

#[cfg(test)]
mod redb_tests;
#[cfg(test)]
mod tests;

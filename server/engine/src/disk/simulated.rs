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
//! - Space reserved by [`DiskFile::allocate`] never runs out.
//!
//! Absent: holes, times, permissions, links to a second name, renames of directories.

mod directory;
mod inode;
pub(crate) mod random;
mod survival;
mod tree;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::survival::Survival;
use self::tree::Tree;
use super::{Disk, DiskFile};

/// How often verbs fail, in a million calls each.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Reads that answer an I/O error.
    pub read_errors: u32,
    /// Writes that answer an I/O error; the first part of the bytes may be written.
    pub write_errors: u32,
    /// Syncs of files and directories that answer an I/O error.
    pub sync_errors: u32,
    /// Writes beyond the reserved space that find none left; the first part may be written.
    pub full_on_write: u32,
    /// Reservations that find no space left.
    pub full_on_allocate: u32,
    /// New files, directories and names that find no space left.
    pub full_on_create: u32,
}

/// A machine's disk, until the next power cut and beyond.
pub struct SimulatedDisk {
    machine: Arc<Mutex<Machine>>,
}

struct Machine {
    tree: Tree,
    /// Counts power cuts: handles of an earlier machine are dead.
    generation: u64,
    powered: bool,
    operations: u64,
    operations_left: Option<u64>,
    syncs_left: Option<u64>,
    allocation_max: Option<u64>,
    faults: Faults,
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
        let machine = Machine {
            tree,
            generation: 0,
            powered: true,
            operations: 0,
            operations_left: None,
            syncs_left: None,
            allocation_max: None,
            faults: Faults::default(),
        };
        Arc::new(SimulatedDisk {
            machine: Arc::new(Mutex::new(machine)),
        })
    }

    /// Cuts the power and starts a fresh machine on what the disk kept: every file opened before is dead,
    /// files without a name are gone, planned accidents are off. Rates of [`Faults`] stay.
    pub fn crash(&self) {
        let survival = self.machine().tree.any_survival();
        self.crash_as(survival);
    }

    /// [`SimulatedDisk::crash`] with a given choice of what survives.
    pub fn crash_as(&self, survival: Survival) {
        let mut machine = self.machine();
        machine.tree.crash(survival);
        machine.generation += 1;
        machine.powered = true;
        (machine.operations_left, machine.syncs_left) = (None, None);
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
        let mut machine = self.machine();
        machine.generation += 1;
        machine.powered = true;
        (machine.operations_left, machine.syncs_left) = (None, None);
    }

    /// Lets the `n`th sync of a file or directory from now on fail (1 is the next one). 0 calls it off.
    pub fn fail_sync_after(&self, n: u64) {
        self.machine().syncs_left = (n > 0).then_some(n);
    }

    /// Sets how often verbs fail.
    pub fn set_faults(&self, faults: Faults) {
        self.machine().faults = faults;
    }

    /// Refuses to reserve more than `bytes` for one file, as a nearly full disk does.
    pub fn set_allocation_max(&self, bytes: u64) {
        self.machine().allocation_max = Some(bytes);
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

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, machine: &Machine, node: u64) -> Arc<dyn DiskFile> {
        let generation = machine.generation;
        Arc::new(SimulatedFile {
            machine: Arc::clone(&self.machine),
            node,
            generation,
        })
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.machine().change(|machine| {
            machine.full(machine.faults.full_on_create)?;
            machine.tree.create_dir(path)
        })
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.machine()
            .change(|machine| machine.tree.remove_dir(path))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let machine = self.machine();
        machine.powered()?;
        Ok(self.file(&machine, machine.tree.find_file(path)?))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine();
        let node = machine.change(|machine| {
            machine.full(machine.faults.full_on_create)?;
            machine.tree.create(path)
        })?;
        Ok(self.file(&machine, node))
    }

    fn create_unnamed(&self, dir: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut machine = self.machine();
        let node = machine.change(|machine| {
            machine.full(machine.faults.full_on_create)?;
            machine.tree.create_unnamed(dir)
        })?;
        Ok(self.file(&machine, node))
    }

    fn link(&self, file: &dyn DiskFile, path: &str) -> io::Result<()> {
        let file = file
            .as_any()
            .downcast_ref::<SimulatedFile>()
            .filter(|file| Arc::ptr_eq(&file.machine, &self.machine))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file of another disk"))?;
        let mut machine = self.machine();
        machine.same(file.generation)?;
        machine.change(|machine| {
            machine.full(machine.faults.full_on_create)?;
            machine.tree.link(file.node, path)
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.machine().change(|machine| {
            machine.full(machine.faults.full_on_create)?;
            machine.tree.rename(from, to)
        })
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.machine().change(|machine| machine.tree.unlink(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.machine().change(|machine| {
            let dir = machine.tree.find_dir(path)?;
            if machine.sync_fails() {
                machine.tree.fail_sync_dir(dir);
                return Err(input_output_error());
            }
            machine.tree.sync_dir(dir);
            Ok(())
        })
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        let mut machine = self.machine();
        let machine = &mut *machine;
        machine.powered()?;
        machine.fails(machine.faults.read_errors)?;
        machine.tree.read_dir(path)
    }
}

struct SimulatedFile {
    machine: Arc<Mutex<Machine>>,
    node: u64,
    generation: u64,
}

impl SimulatedFile {
    fn machine(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        machine.same(self.generation)?;
        Ok(machine)
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut machine = self.machine()?;
        let machine = &mut *machine;
        machine.fails(machine.faults.read_errors)?;
        match machine.tree.inode(self.node).read(buffer, offset) {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if bytes.is_empty() {
            return self.machine().map(drop);
        }
        self.machine()?.change(|machine| {
            let mut result = machine.fails(machine.faults.write_errors);
            if result.is_ok() && end > machine.tree.inode(self.node).allocated() {
                result = machine.full(machine.faults.full_on_write);
            }
            let done = match result {
                Ok(()) => bytes.len(),
                Err(_) => machine.tree.below(bytes.len() as u64) as usize,
            };
            if done > 0 {
                machine.tree.write(self.node, &bytes[..done], offset);
            }
            result
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.machine()?.change(|machine| {
            if machine.sync_fails() {
                machine.tree.fail_sync(self.node);
                return Err(input_output_error());
            }
            machine.tree.sync(self.node);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.machine()?.tree.inode(self.node).len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.machine()?.change(|machine| {
            machine.tree.set_len(self.node, len);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.machine()?.change(|machine| {
            if len > machine.tree.inode(self.node).allocated() {
                if machine.allocation_max.is_some_and(|max| len > max) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                machine.full(machine.faults.full_on_allocate)?;
                machine.tree.allocate(self.node, len);
            }
            Ok(())
        })
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Machine {
    /// Runs an operation that changes something, unless the power goes before or with it.
    fn change<T>(&mut self, run: impl FnOnce(&mut Machine) -> io::Result<T>) -> io::Result<T> {
        self.powered()?;
        self.operations += 1;
        if !counted_down(&mut self.operations_left) {
            return run(self);
        }
        self.powered = false;
        if self.tree.below(2) == 0 {
            // Whether it succeeds, nobody will know.
            let _ = run(self);
        }
        Err(crashed())
    }

    fn powered(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(crashed()) }
    }

    /// Refuses what was opened before the last power cut.
    fn same(&self, generation: u64) -> io::Result<()> {
        if self.powered && self.generation == generation {
            Ok(())
        } else {
            Err(crashed())
        }
    }

    fn sync_fails(&mut self) -> bool {
        counted_down(&mut self.syncs_left) || self.tree.per_million(self.faults.sync_errors)
    }

    fn fails(&mut self, rate: u32) -> io::Result<()> {
        if self.tree.per_million(rate) {
            Err(input_output_error())
        } else {
            Ok(())
        }
    }

    fn full(&mut self, rate: u32) -> io::Result<()> {
        if self.tree.per_million(rate) {
            Err(no_space())
        } else {
            Ok(())
        }
    }
}

/// Counts down to the one call that is meant.
fn counted_down(left: &mut Option<u64>) -> bool {
    *left = left.map(|n| n - 1);
    let reached = *left == Some(0);
    if reached {
        *left = None;
    }
    reached
}

fn crashed() -> io::Error {
    io::Error::other("crashed")
}

fn input_output_error() -> io::Error {
    rustix::io::Errno::IO.into()
}

fn no_space() -> io::Error {
    rustix::io::Errno::NOSPC.into()
}

#[cfg(test)]
mod redb_tests;
#[cfg(test)]
mod tests;

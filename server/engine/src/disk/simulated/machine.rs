//! The machine around the simulated disk: whether it has power, and which of its verbs fail.

use std::{collections::BTreeMap, io};

use super::{
    faults::{Faults, Lie, Lies},
    inode::PAGE_BYTES,
    tree::Tree,
};

pub(super) struct Machine {
    pub(super) tree: Tree,
    /// Counts power cuts: handles of an earlier machine are dead.
    pub(super) generation: u64,
    pub(super) powered: bool,
    pub(super) operations: u64,
    pub(super) operations_left: Option<u64>,
    pub(super) syncs_left: Option<u64>,
    pub(super) allocation_max: Option<u64>,
    /// Bytes that all files together may take.
    pub(super) capacity: Option<u64>,
    pub(super) faults: Faults,
    pub(super) lies: Lies,
    /// In how many writes from now on the disk will lie, and how.
    pub(super) lie_left: (Option<u64>, Lie),
    /// How many verbs of a file answered an error.
    pub(super) failures: BTreeMap<u64, u64>,
    /// Moves the clock of the world.
    pub(super) clock: Option<Box<dyn Fn(u64) + Send>>,
}

impl Machine {
    pub(super) fn new(tree: Tree) -> Machine {
        Machine {
            tree,
            generation: 0,
            powered: true,
            operations: 0,
            operations_left: None,
            syncs_left: None,
            allocation_max: None,
            capacity: None,
            faults: Faults::default(),
            lies: Lies::default(),
            lie_left: (None, Lie::Lost),
            failures: BTreeMap::new(),
            clock: None,
        }
    }

    /// Runs an operation that changes something, unless the power goes before or with it. After an error,
    /// whose rate `errors` picks, it may be done or not.
    pub(super) fn change<T>(
        &mut self,
        errors: fn(&Faults) -> u32,
        run: impl FnOnce(&mut Machine) -> io::Result<T>,
    ) -> io::Result<T> {
        self.powered()?;
        self.operations += 1;
        self.delay();
        let is_last = counted_down(&mut self.operations_left);
        self.powered = !is_last;
        if !is_last && !self.tree.per_million(errors(&self.faults)) {
            return run(self);
        }
        if self.tree.below(2) == 0 {
            // Whether it succeeds, nobody will know.
            let _ = run(self);
        }
        Err(if is_last {
            crashed()
        } else {
            input_output_error()
        })
    }

    /// [`Machine::change`] that needs space for a name.
    pub(super) fn add<T>(
        &mut self,
        errors: fn(&Faults) -> u32,
        run: impl FnOnce(&mut Tree) -> io::Result<T>,
    ) -> io::Result<T> {
        self.change(errors, |machine| {
            machine.full(machine.faults.full_on_create)?;
            run(&mut machine.tree)
        })
    }

    /// Before an operation that only looks.
    pub(super) fn look(&mut self, errors: fn(&Faults) -> u32) -> io::Result<()> {
        self.powered()?;
        self.delay();
        self.fails(errors(&self.faults))
    }

    fn delay(&mut self) {
        if self.tree.per_million(self.faults.delays) {
            let ms = 1 + self.tree.below(self.faults.delay_ms_max.max(1));
            if let Some(clock) = &self.clock {
                clock(ms);
            }
        }
    }

    pub(super) fn powered(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(crashed()) }
    }

    /// Refuses what was opened before the last power cut.
    pub(super) fn same(&self, generation: u64) -> io::Result<()> {
        if self.powered && self.generation == generation {
            Ok(())
        } else {
            Err(crashed())
        }
    }

    /// How many of `len` bytes at `offset` of a file find space.
    pub(super) fn fitting(&self, node: u64, offset: u64, len: u64) -> u64 {
        let inode = self.tree.inode(node);
        match self.free_pages() {
            Some(pages) if offset + len > inode.allocated() => inode.fitting(offset, len, pages),
            _ => len,
        }
    }

    /// Refuses to reserve `len` bytes of a file when there are not so many.
    pub(super) fn can_allocate(&self, node: u64, len: u64) -> io::Result<()> {
        let inode = self.tree.inode(node);
        let more = || inode.used_pages_with(len) - inode.used_pages();
        match self.free_pages() {
            Some(pages) if more() > pages => Err(no_space()),
            _ => Ok(()),
        }
    }

    /// `None` when the disk has no end.
    fn free_pages(&self) -> Option<u64> {
        let capacity = self.capacity? / PAGE_BYTES as u64;
        Some(capacity.saturating_sub(self.tree.used_pages()))
    }

    /// Decides whether the next sync lies about what was just written.
    pub(super) fn consider_lying(&mut self, node: u64, offset: u64, len: u64) {
        let lie = if counted_down(&mut self.lie_left.0) {
            self.lie_left.1
        } else if self.tree.per_million(self.lies.lost_writes) {
            Lie::Lost
        } else if self.tree.per_million(self.lies.misdirected_writes) {
            Lie::Misdirected
        } else {
            return;
        };
        self.tree.lie(node, lie, offset, len);
    }

    /// The beginning of another process: files are closed, planned accidents are off.
    pub(super) fn start(&mut self) {
        self.tree.close_all();
        self.generation += 1;
        self.powered = true;
        (self.operations_left, self.syncs_left, self.lie_left.0) = (None, None, None);
    }

    pub(super) fn sync_fails(&mut self) -> bool {
        counted_down(&mut self.syncs_left) || self.tree.per_million(self.faults.sync_errors)
    }

    pub(super) fn fails(&mut self, rate: u32) -> io::Result<()> {
        if self.tree.per_million(rate) {
            Err(input_output_error())
        } else {
            Ok(())
        }
    }

    pub(super) fn full(&mut self, rate: u32) -> io::Result<()> {
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

pub(super) fn input_output_error() -> io::Error {
    rustix::io::Errno::IO.into()
}

pub(super) fn no_space() -> io::Error {
    rustix::io::Errno::NOSPC.into()
}

//! A file that is open on the simulated disk.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    faults::Faults,
    machine::{Machine, input_output_error, no_space},
};
use crate::disk::DiskFile;

pub(super) struct SimulatedFile {
    pub(super) machine: Arc<Mutex<Machine>>,
    pub(super) node: u64,
    pub(super) generation: u64,
}

impl SimulatedFile {
    /// Runs a verb on the machine of this file, and counts it when it fails.
    fn run<T>(&self, verb: impl FnOnce(&mut Machine) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        machine.same(self.generation)?;
        let result = verb(&mut machine);
        if result.is_err() {
            *machine.failures.entry(self.node).or_default() += 1;
        }
        result
    }

    fn change(
        &self,
        errors: fn(&Faults) -> u32,
        verb: impl FnOnce(&mut Machine) -> io::Result<()>,
    ) -> io::Result<()> {
        self.run(|machine| machine.change(errors, verb))
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        if machine.generation == self.generation {
            machine.tree.close(self.node);
        }
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.run(|machine| {
            machine.look(|faults| faults.read_errors)?;
            match machine.tree.inode(self.node).read(buffer, offset) {
                true => Ok(()),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if bytes.is_empty() {
            return self.run(|_| Ok(()));
        }
        self.change(
            |_| 0,
            |machine| {
                let mut result = machine.fails(machine.faults.write_errors);
                if result.is_ok() && end > machine.tree.inode(self.node).allocated() {
                    result = machine.full(machine.faults.full_on_write);
                }
                let mut done = match result {
                    Ok(()) => bytes.len(),
                    Err(_) => machine.tree.below(bytes.len() as u64) as usize,
                };
                let fitting = machine.fitting(self.node, offset, bytes.len() as u64) as usize;
                if fitting < done {
                    (done, result) = (fitting, Err(no_space()));
                }
                if done > 0 {
                    machine.tree.write(self.node, &bytes[..done], offset);
                    machine.consider_lying(self.node, offset, done as u64);
                }
                result
            },
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(
            |_| 0,
            |machine| {
                if machine.sync_fails() {
                    machine.tree.fail_sync(self.node);
                    return Err(input_output_error());
                }
                machine.tree.sync(self.node);
                Ok(())
            },
        )
    }

    fn len(&self) -> io::Result<u64> {
        self.run(|machine| {
            machine.look(|faults| faults.len_errors)?;
            Ok(machine.tree.inode(self.node).len())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(
            |faults| faults.set_len_errors,
            |machine| {
                machine.tree.set_len(self.node, len);
                Ok(())
            },
        )
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.change(
            |faults| faults.allocate_errors,
            |machine| {
                if len > machine.tree.inode(self.node).allocated() {
                    if machine.allocation_max.is_some_and(|max| len > max) {
                        return Err(io::ErrorKind::StorageFull.into());
                    }
                    machine.full(machine.faults.full_on_allocate)?;
                    machine.can_allocate(self.node, len)?;
                    machine.tree.allocate(self.node, len);
                }
                Ok(())
            },
        )
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

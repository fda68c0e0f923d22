//! Moves what the log has made durable into the index. A step function, like the committer.

use std::sync::Arc;

use crate::{
    disk::is_full,
    error::Result,
    meta::{
        local::{Local, index, overlay::Frozen},
        record::Checkpoint,
    },
    planted::{self, Bug},
    sync::{self, Race},
};

/// See the module.
pub struct Applier {
    local: Arc<Local>,
}

impl Applier {
    /// The applier of a store; there is one.
    pub fn new(local: Arc<Local>) -> Self {
        Self { local }
    }

    /// The beginning of a step, for a simulator that lets commits come in between.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn freeze(&mut self) -> bool {
        self.local.overlay.freeze().is_some()
    }

    /// Applies everything that is durable by now, in one transaction of the index. True when there was
    /// something and the index has it; when the disk has no room for it, it waits for a later step.
    pub fn step(&mut self) -> Result<bool> {
        // Asked before the freeze: a file that is committed in between is only called uncommitted.
        let lowest_uncommitted = self.local.files.lowest_uncommitted();
        let Some(frozen) = self.local.overlay.freeze() else {
            return Ok(false);
        };
        let checkpoint = Checkpoint {
            applied_lsn: frozen.position.lsn,
            pack: frozen.position.pack,
            offset: frozen.position.offset,
            hash: frozen.position.hash,
            incarnation: self.local.incarnation,
            lowest_uncommitted,
        };
        if sync::has(Race::DropFirst) {
            self.local.overlay.drop_frozen();
        }
        let is_applied = self.apply(&frozen, &checkpoint)? || planted::is(Bug::DropFrozenWhenFull);
        if is_applied {
            self.local.space.set_index_waits(false);
            self.local.set_applied(&checkpoint);
            self.local.overlay.drop_frozen();
        }
        Ok(is_applied)
    }

    /// False when the disk is full; the index is open again then.
    fn apply(&self, frozen: &Frozen, checkpoint: &Checkpoint) -> Result<bool> {
        let Err(error) = self.local.index.apply(&frozen.rows, checkpoint) else {
            return Ok(true);
        };
        match index::disk_failure(&error).filter(is_full) {
            Some(full) => {
                // In this order: nobody may find the reserve complete in between.
                self.local.space.set_index_waits(true);
                self.local.note_full("the index", &full);
                self.local.index.reopen()?;
                Ok(false)
            }
            None => Err(error),
        }
    }
}

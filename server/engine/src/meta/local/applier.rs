//! Moves what the log has made durable into the index. A step function, like the committer.

use std::sync::Arc;

use crate::{
    error::Result,
    meta::{local::Local, record::Checkpoint},
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
    /// something.
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
        self.local.index.apply(&frozen.rows, &checkpoint)?;
        self.local.set_applied(&checkpoint);
        self.local.overlay.drop_frozen();
        Ok(true)
    }
}

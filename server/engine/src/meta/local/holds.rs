//! Readers that are at the parts of an object: the collector leaves these parts alone, although the object
//! may be gone.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    error::Result,
    meta::{Hold, key::Key, local::Local},
    sync::{self, Mutex, MutexGuard, Race},
    types::UploadId,
};

/// The part sets that readers are at, each with how many.
#[derive(Default)]
pub struct Holds(Mutex<BTreeMap<UploadId, usize>>);

struct PartsHold {
    local: Arc<Local>,
    id: UploadId,
}

impl Local {
    /// Keeps the parts of an upload from the collector; `None` when it may have them already.
    pub fn hold_parts(self: &Arc<Self>, id: UploadId) -> Result<Option<Box<dyn Hold>>> {
        let row = || self.get(&Key::PartSet(id));
        // In this order: the collector asks who holds the parts after this row is gone.
        let early = sync::has(Race::HoldLate).then(row);
        *self.holds.lock().entry(id).or_default() += 1;
        let hold = PartsHold {
            local: self.clone(),
            id,
        };
        Ok(early
            .unwrap_or_else(row)?
            .map(|_| Box::new(hold) as Box<dyn Hold>))
    }

    /// Whether a reader is at these parts.
    pub(crate) fn is_held(&self, id: UploadId) -> bool {
        self.holds.lock().contains_key(&id)
    }
}

impl Holds {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<UploadId, usize>> {
        self.0.lock().expect("no holder panics")
    }

    /// True when nobody else is at the parts.
    fn release(&self, id: UploadId) -> bool {
        let mut all = self.lock();
        match all.get_mut(&id) {
            Some(readers) if *readers > 1 => {
                *readers -= 1;
                false
            }
            _ => all.remove(&id).is_some(),
        }
    }
}

impl Hold for PartsHold {}

impl Drop for PartsHold {
    fn drop(&mut self) {
        let may_wait = || !matches!(self.local.get(&Key::FreePartSet(self.id)), Ok(None));
        let early = sync::has(Race::AskFirst).then(may_wait);
        let is_last = self.local.holds.release(self.id);
        if is_last && early.unwrap_or_else(may_wait) {
            self.local.collection_wanted();
        }
    }
}

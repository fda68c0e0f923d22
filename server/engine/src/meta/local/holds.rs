//! Readers that are at the parts of an object: the collector leaves these parts alone, although the object
//! may be gone.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{
    error::Result,
    meta::{Hold, key::Key, local::Local},
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
        // In this order: the collector asks who holds the parts after this row is gone.
        *self.holds.lock().entry(id).or_default() += 1;
        let hold = PartsHold {
            local: self.clone(),
            id,
        };
        Ok(self
            .get(&Key::PartSet(id))?
            .map(|_| Box::new(hold) as Box<dyn Hold>))
    }

    /// Whether a reader is at these parts.
    pub(crate) fn is_held(&self, id: UploadId) -> bool {
        self.holds.lock().contains_key(&id)
    }
}

impl Holds {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<UploadId, usize>> {
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
        let is_last = self.local.holds.release(self.id);
        if is_last && !matches!(self.local.get(&Key::FreePartSet(self.id)), Ok(None)) {
            self.local.collection_wanted();
        }
    }
}

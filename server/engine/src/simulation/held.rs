//! Readers who are at the parts of an object for a while. The object may go and the collector may run; the
//! reader reads on until the power goes.

use std::sync::Arc;

use super::{
    check,
    model::Object,
    traffic,
    world::{Outcome, World},
};
use crate::{
    meta::{
        Hold,
        key::Key,
        record::{Location, PartSet},
    },
    types::UploadId,
};

/// A reader at the parts of an object.
pub(super) struct Held {
    set: PartSet,
    object: Arc<Object>,
    _hold: Box<dyn Hold>,
}

impl Held {
    /// Whether these parts are held.
    pub(super) fn is_at(&self, id: UploadId) -> bool {
        self.set.id == id
    }
}

impl World {
    /// A reader comes, or one who is there reads on and perhaps goes.
    pub(super) fn hold(&mut self) -> Outcome {
        if self.held.is_empty() || (self.held.len() < 3 && self.dice.of_16(6)) {
            return self.take_hold();
        }
        let i = self.dice.below(self.held.len() as u64) as usize;
        let Held { set, object, .. } = &self.held[i];
        let size = object.body.len() as u64;
        let start = self.dice.below(size + 1);
        let range = start..start + self.dice.below(size - start + 1);
        self.story.tell(&[26, i as u64], || {
            format!("reader {i} reads {range:?} of {set:?}")
        });
        let expected = object.body.slice(range.start as usize..range.end as usize);
        let local = &self.store.as_ref().expect("open between steps").local;
        match check::read_parts(local, set, range) {
            Ok(bytes) if bytes == expected => {}
            Ok(_) => return Err(format!("a reader of {set:?} got wrong bytes")),
            Err(_) if self.is_index_failing() => {}
            Err(error) => return Err(format!("a reader lost its parts: {error}")),
        }
        if self.dice.of_16(4) {
            self.held.swap_remove(i);
            self.story
                .tell(&[27, i as u64], || format!("reader {i} goes"));
        }
        Ok(())
    }

    fn take_hold(&mut self) -> Outcome {
        let (key, row) = traffic::any_row(self, |key| matches!(key, Key::Object(..)));
        let object = row.as_ref().and_then(|row| row.object());
        let Some(object) = object else { return Ok(()) };
        let Location::Parts(set) = &object.record.location else {
            return Ok(());
        };
        self.story
            .tell(&[28], || format!("a reader comes to {key:?}, {set:?}"));
        let hold = match self.store().local.hold_parts(set.id) {
            Ok(Some(hold)) => hold,
            Err(_) if self.is_index_failing() => return Ok(()),
            Ok(None) => return Err(format!("{set:?} of {key:?} is gone")),
            Err(error) => return Err(format!("{set:?} cannot be held: {error}")),
        };
        self.held.push(Held {
            set: set.clone(),
            object: object.clone(),
            _hold: hold,
        });
        Ok(())
    }
}

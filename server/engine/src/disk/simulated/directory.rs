//! The entries of one simulated directory: those programs see, those the disk holds, the changes between.

use std::collections::BTreeMap;

/// One simulated directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// What programs see.
    pub(super) live: BTreeMap<String, u64>,
    /// What a power cut leaves when every pending change is lost.
    pub(super) durable: BTreeMap<String, u64>,
    /// Changes since the last sync, oldest first.
    pub(super) pending: Vec<PendingEntry>,
}

#[derive(Clone, Debug)]
pub(super) struct PendingEntry {
    pub(super) at: u64,
    pub(super) change: Change,
    /// Set on the half of a move between directories that removes the old name: the directory and moment
    /// of the other half. No file system forgets the new name and still removes the old one.
    pub(super) after: Option<(u64, u64)>,
}

/// A change of entries, which happens entirely or not at all.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Add { name: String, node: u64 },
    Remove { name: String },
    Rename { from: String, to: String, node: u64 },
}

impl Change {
    fn apply(&self, entries: &mut BTreeMap<String, u64>) {
        match self {
            Change::Add { name, node } => {
                entries.insert(name.clone(), *node);
            }
            Change::Remove { name } => {
                entries.remove(name);
            }
            Change::Rename { from, to, node } => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }

    fn names(&self) -> [Option<&String>; 2] {
        match self {
            Change::Add { name, .. } | Change::Remove { name } => [Some(name), None],
            Change::Rename { from, to, .. } => [Some(from), Some(to)],
        }
    }
}

impl Directory {
    pub(super) fn change(&mut self, at: u64, change: Change, after: Option<(u64, u64)>) {
        change.apply(&mut self.live);
        self.pending.push(PendingEntry { at, change, after });
    }

    /// Takes the pending changes up to the moment `through` out of the list.
    pub(super) fn take_through(&mut self, through: u64) -> Vec<PendingEntry> {
        let end = self
            .pending
            .partition_point(|pending| pending.at <= through);
        self.pending.drain(..end).collect()
    }

    /// Makes one change durable.
    pub(super) fn persist(&mut self, pending: &PendingEntry) {
        pending.change.apply(&mut self.durable);
    }

    /// The power cut: the pending changes that `survives` picks reach the disk, and that is all there is.
    pub(super) fn crash(&mut self, survives: impl Fn(u64) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        for entry in pending.iter().filter(|entry| survives(entry.at)) {
            self.persist(entry);
        }
        for name in pending
            .iter()
            .flat_map(|entry| entry.change.names())
            .flatten()
        {
            match self.durable.get(name) {
                Some(&node) => self.live.insert(name.clone(), node),
                None => self.live.remove(name),
            };
        }
    }
}

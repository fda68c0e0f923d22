//! The rows that the log holds and the index does not yet: two generations, the newer one growing while
//! the older one is moved into the index.
//!
//! Holds places of bodies, never bodies. The rule that makes read-your-writes true: look here first, and
//! begin the read of the index afterwards; a generation is dropped only after the index has it.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use crate::{
    meta::local::log::Position,
    sync::{self, Condvar, Mutex, MutexGuard, Race, RwLock},
};

/// Rows by key; `None` is a deleted row.
pub type Generation = BTreeMap<Vec<u8>, Option<Arc<[u8]>>>;

/// What a row costs besides its bytes.
const ROW_OVERHEAD_BYTES: usize = 96;

/// A generation that changes no more, and the point of the log it reaches to.
#[derive(Debug)]
pub struct Frozen {
    /// The rows.
    pub rows: Generation,
    /// All batches before this point are in these rows or in the index.
    pub position: Position,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Inner {
    active: Generation,
    active_bytes: usize,
    frozen: Option<Arc<Frozen>>,
    position: Position,
}

/// What the overlay knows of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// This is it.
    Put(Arc<[u8]>),
    /// It was deleted.
    Deleted,
    /// Nothing: ask the index.
    Unknown,
}

/// Rows of a scan and, when there are more, the last key that the rows are complete to.
pub type Chunk<T> = (Vec<(Vec<u8>, T)>, Option<Vec<u8>>);

/// See the module.
#[derive(Debug, Default)]
pub struct Overlay {
    inner: RwLock<Inner>,
    /// Held by the committer from its first look to its publication, and by the freeze.
    turn: Mutex<()>,
    drained: (Mutex<()>, Condvar),
}

impl Overlay {
    /// An overlay over an index that has everything up to `position`.
    pub fn new(position: Position) -> Self {
        Self {
            inner: RwLock::new(Inner {
                position,
                ..Inner::default()
            }),
            ..Self::default()
        }
    }

    /// Looks a row up.
    pub fn get(&self, key: &[u8]) -> Lookup {
        let inner = self.inner.read().expect("no holder panics");
        let frozen = inner
            .frozen
            .as_ref()
            .and_then(|frozen| frozen.rows.get(key));
        lookup(inner.active.get(key).or(frozen))
    }

    /// Rows of `from..to`, at most `limit` of each generation, merged.
    pub fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Chunk<Option<Arc<[u8]>>> {
        let inner = self.inner.read().expect("no holder panics");
        let (newer, newer_end) = take(&inner.active, from, to, limit);
        let empty = Generation::new();
        let older = inner.frozen.as_ref().map_or(&empty, |frozen| &frozen.rows);
        let (older, older_end) = take(older, from, to, limit);
        drop(inner);
        let end = [newer_end, older_end].into_iter().flatten().min();
        let mut rows: Generation = older.into_iter().collect();
        rows.extend(newer);
        if let Some(end) = &end {
            rows.retain(|key, _| key <= end);
        }
        (rows.into_iter().collect(), end)
    }

    /// Keeps the applier from freezing while the committer looks and publishes.
    pub fn take_turn(&self) -> Turn<'_> {
        let turn = self.turn.lock().expect("no holder panics");
        let frozen = self.inner.read().expect("no holder panics").frozen.clone();
        Turn {
            overlay: self,
            frozen,
            _turn: turn,
        }
    }

    /// Makes the rows of a durable batch visible. Only by the holder of the turn (or alone, at recovery).
    pub fn publish(&self, rows: Generation, position: Position) {
        let mut inner = self.inner.write().expect("no holder panics");
        for (key, value) in rows {
            inner.active_bytes += row_bytes(&key, value.as_deref());
            let key_bytes = key.len();
            if let Some(old) = inner.active.insert(key, value) {
                inner.active_bytes -= key_bytes + old.map_or(0, |v| v.len()) + ROW_OVERHEAD_BYTES;
            }
        }
        inner.position = position;
    }

    /// The point of the log that these rows reach to.
    pub fn position(&self) -> Position {
        self.inner.read().expect("no holder panics").position
    }

    /// Closes the growing generation for the applier; `None` when there is nothing to apply.
    pub fn freeze(&self) -> Option<Arc<Frozen>> {
        let turn = || self.turn.lock().expect("no holder panics");
        let _turn = (!sync::has(Race::FreezeAnyTime)).then(turn);
        let mut inner = self.inner.write().expect("no holder panics");
        if inner.frozen.is_none() && !inner.active.is_empty() {
            let rows = std::mem::take(&mut inner.active);
            let bytes = std::mem::take(&mut inner.active_bytes);
            inner.frozen = Some(Arc::new(Frozen {
                rows,
                position: inner.position,
                bytes,
            }));
        }
        inner.frozen.clone()
    }

    /// Drops the frozen generation: the index has it.
    pub fn drop_frozen(&self) {
        self.inner.write().expect("no holder panics").frozen = None;
        let _held = self.drained.0.lock().expect("no holder panics");
        self.drained.1.notify_all();
    }

    /// Rows waiting to be frozen, and bytes of both generations.
    pub fn load(&self) -> (usize, usize) {
        let inner = self.inner.read().expect("no holder panics");
        let frozen = inner.frozen.as_ref().map_or(0, |frozen| frozen.bytes);
        (inner.active.len(), inner.active_bytes + frozen)
    }

    /// Waits until both generations together are below `bytes_max`, or `give_up` says so.
    pub fn wait_below(&self, bytes_max: usize, give_up: impl Fn() -> bool) {
        let mut held = self.drained.0.lock().expect("no holder panics");
        while self.load().1 >= bytes_max && !give_up() {
            let patience = std::time::Duration::from_millis(50);
            held = self
                .drained
                .1
                .wait_timeout(held, patience)
                .expect("no holder panics")
                .0;
        }
    }
}

/// The committer's look at the overlay, stable until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    overlay: &'a Overlay,
    frozen: Option<Arc<Frozen>>,
    _turn: MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// Looks a row up.
    pub fn get(&self, key: &[u8]) -> Lookup {
        let inner = self.overlay.inner.read().expect("no holder panics");
        lookup(
            inner
                .active
                .get(key)
                .or_else(|| self.frozen.as_ref()?.rows.get(key)),
        )
    }

    /// Publishes the batch and ends the turn.
    pub fn publish(self, rows: Generation, position: Position) {
        self.overlay.publish(rows, position);
    }
}

fn lookup(row: Option<&Option<Arc<[u8]>>>) -> Lookup {
    match row {
        None => Lookup::Unknown,
        Some(None) => Lookup::Deleted,
        Some(Some(value)) => Lookup::Put(value.clone()),
    }
}

fn row_bytes(key: &[u8], value: Option<&[u8]>) -> usize {
    key.len() + value.map_or(0, <[u8]>::len) + ROW_OVERHEAD_BYTES
}

fn take(
    rows: &Generation,
    from: &[u8],
    to: Option<&[u8]>,
    limit: usize,
) -> Chunk<Option<Arc<[u8]>>> {
    if to.is_some_and(|to| from >= to) {
        return (Vec::new(), None);
    }
    let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
    let mut range = rows.range::<[u8], _>((Bound::Included(from), upper));
    let taken: Vec<_> = range
        .by_ref()
        .take(limit)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let end = range.next().and(taken.last()).map(|(key, _)| key.clone());
    (taken, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pairs: &[(&str, Option<&str>)]) -> Generation {
        pairs
            .iter()
            .map(|(k, v)| (k.as_bytes().to_vec(), v.map(|v| v.as_bytes().into())))
            .collect()
    }

    #[test]
    fn the_newer_generation_hides_the_older_one() {
        let overlay = Overlay::default();
        overlay.publish(
            rows(&[("a", Some("1")), ("b", Some("1")), ("d", Some("1"))]),
            Position::default(),
        );
        assert_eq!(overlay.freeze().unwrap().rows.len(), 3);
        overlay.publish(rows(&[("b", None), ("c", Some("2"))]), Position::default());
        assert_eq!(overlay.get(b"a"), Lookup::Put(b"1".as_slice().into()));
        assert_eq!(overlay.get(b"b"), Lookup::Deleted);
        assert_eq!(overlay.get(b"z"), Lookup::Unknown);
        let (all, end) = overlay.range(b"", None, 10);
        assert_eq!(all.len(), 4);
        assert_eq!(end, None);
        overlay.drop_frozen();
        assert_eq!(overlay.get(b"a"), Lookup::Unknown);
        assert_eq!(overlay.freeze().unwrap().rows.len(), 2);
    }

    #[test]
    fn a_cut_scan_says_how_far_it_is_complete() {
        let overlay = Overlay::default();
        overlay.publish(
            rows(&[("a", Some("1")), ("c", Some("1")), ("e", Some("1"))]),
            Position::default(),
        );
        overlay.freeze();
        overlay.publish(
            rows(&[("b", Some("2")), ("d", Some("2")), ("f", Some("2"))]),
            Position::default(),
        );
        let (some, end) = overlay.range(b"", None, 2);
        let keys: Vec<_> = some.iter().map(|(k, _)| k.as_slice()).collect();
        assert_eq!(keys, [b"a", b"b", b"c"]);
        assert_eq!(end, Some(b"c".to_vec()));
        assert_eq!(overlay.range(b"c", Some(b"c"), 2), (Vec::new(), None));
    }

    #[test]
    fn bytes_follow_overwrites_and_freezes() {
        let overlay = Overlay::default();
        overlay.publish(rows(&[("a", Some("12345"))]), Position::default());
        let (_, five) = overlay.load();
        overlay.publish(rows(&[("a", Some("123"))]), Position::default());
        assert_eq!(overlay.load(), (1, five - 2));
        overlay.freeze();
        assert_eq!(overlay.load(), (0, five - 2));
        overlay.drop_frozen();
        assert_eq!(overlay.load(), (0, 0));
    }
}

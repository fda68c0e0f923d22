//! Counts anew what follows from rows, when rows may be missing before those that were applied: a hole in the log that
//! was given up may have held anything.
//!
//! From a durable row that says so ([`owe`]) until it is gone, every start does this before anything is served, so that
//! nobody decides by wrong counters. Memory is bounded by a chunk of rows: the sums grow in the index itself. Nothing
//! is deleted for want of a row: the free lists are emptied, and files that no row names go to quarantine.

use std::sync::Arc;

use crate::{
    error::{Error, ErrorKind, Result},
    meta::{
        key::{AccountId, BucketId, Key, after_prefix, tag},
        local::{
            Local, applier::Applier, effects::View, index::Index, log::Position,
            overlay::Generation,
        },
        record::{
            BucketRecord, BucketStats, Checkpoint, Location, PackRecord, PartSetRecord, Record,
        },
    },
    types::Timestamp,
};

/// Rows that are counted together.
const ROWS: usize = 4096;

/// Rows that follow from others and are made from nothing.
const MADE_ANEW: [u8; 5] = [
    tag::BUCKET_STATS,
    tag::BLOB,
    tag::FREE,
    tag::FREE_PART_SET,
    tag::QUARANTINE,
];

/// What had to be done besides counting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recounted {
    /// Names that were given to buckets whose rows are lost, with objects in them.
    pub buckets: Vec<String>,
    /// Parts that were forgotten, because no upload and no object needs them.
    pub parts: u64,
}

/// Whether a start was cut short before it had counted.
pub fn is_owed(index: &Index) -> Result<bool> {
    Ok(index.read()?.get(&Key::Recount.encode())?.is_some())
}

/// Notes durably that what follows from the rows cannot be trusted.
pub fn owe(index: &Index, checkpoint: Option<&Checkpoint>) -> Result<()> {
    let beginning = Checkpoint {
        applied_lsn: 0,
        pack: 0,
        offset: 0,
        hash: [0; 16],
        incarnation: 0,
        lowest_uncommitted: Default::default(),
    };
    let row = (
        Key::Recount.encode(),
        Some(Arc::from(Record::Recount.encode())),
    );
    index.apply(&Generation::from([row]), checkpoint.unwrap_or(&beginning))
}

/// Counts everything anew. The log reaches to `position`, and nobody else uses the store.
pub fn run(local: &Arc<Local>, applier: &mut Applier, position: Position) -> Result<Recounted> {
    let mut recount = Recount {
        local,
        applier,
        position,
        done: Recounted::default(),
    };
    recount.apply()?;
    recount.clear()?;
    recount.count()?;
    recount.end()
}

struct Recount<'a> {
    local: &'a Arc<Local>,
    applier: &'a mut Applier,
    position: Position,
    done: Recounted,
}

impl Recount<'_> {
    fn clear(&mut self) -> Result<()> {
        for tag in MADE_ANEW {
            self.each(tag, |_, view, key, _| {
                view.put(key, None);
                Ok(())
            })?;
        }
        // A pack without a row would not be known to be dead.
        self.each(tag::PACK, |_, view, key, _| {
            view.put(key, Some(Record::Pack(PackRecord::default())));
            Ok(())
        })?;
        self.each(tag::PART_SET, |_, view, key, record| {
            if let Record::PartSet(set) = record {
                let none = PartSetRecord {
                    changes: set.changes,
                    ..PartSetRecord::default()
                };
                view.put(key, Some(Record::PartSet(none)));
            }
            Ok(())
        })
    }

    /// Those who need something come before what they need.
    fn count(&mut self) -> Result<()> {
        self.each(tag::BUCKET, |_, view, _, record| {
            if let Record::Bucket(bucket) = record {
                let stats = Record::BucketStats(BucketStats::default());
                view.put(&Key::BucketStats(bucket.id), Some(stats));
            }
            Ok(())
        })?;
        self.each(tag::OBJECT, |recount, view, key, record| {
            let (Key::Object(bucket, name), Record::Object(object)) = (key, record) else {
                return Ok(());
            };
            if view.get(&Key::BucketStats(*bucket))?.is_none() {
                recount.make_bucket(view, *bucket, object.modified)?;
            }
            view.count_objects(*bucket, None, Some(object))?;
            view.list_quarantined(*bucket, name, None, Some(object));
            count_body(view, record)
        })?;
        self.each(tag::UPLOAD, |recount, view, key, record| {
            let (Key::Upload(bucket, _, id), Record::Upload(upload)) = (key, record) else {
                return Ok(());
            };
            if view.get(&Key::BucketStats(*bucket))?.is_none() {
                if view.get(&Key::FreeBucket(*bucket))?.is_some() {
                    // It goes with its bucket; not so the bytes of its parts.
                    view.put(key, None);
                    return Ok(());
                }
                recount.make_bucket(view, *bucket, upload.initiated)?;
            }
            view.add_reference(*id)
        })?;
        self.each(tag::PART, |recount, view, key, record| {
            let Key::Part(id, _) = key else { return Ok(()) };
            let set = view.part_set(*id)?.filter(|set| set.references > 0);
            let Some(mut set) = set else {
                recount.done.parts += 1;
                view.put(key, None);
                return Ok(());
            };
            set.parts += 1;
            view.put(&Key::PartSet(*id), Some(Record::PartSet(set)));
            count_body(view, record)
        })?;
        self.each(tag::PART_SET, |_, view, key, record| {
            if matches!(record, Record::PartSet(set) if set.references == 0) {
                view.put(key, None);
            }
            Ok(())
        })
    }

    fn end(mut self) -> Result<Recounted> {
        self.publish(|view| {
            view.put(&Key::Recount, None);
            Ok(())
        })?;
        self.local.is_recounted();
        tracing::warn!(
            buckets = ?self.done.buckets,
            parts = self.done.parts,
            "everything that follows from rows was counted anew"
        );
        Ok(self.done)
    }

    /// Does something for each row of a kind, one chunk after the other.
    fn each(
        &mut self,
        tag: u8,
        mut each: impl FnMut(&mut Self, &mut View, &Key, &Record) -> Result<()>,
    ) -> Result<()> {
        let (mut from, to) = (Some(vec![tag]), after_prefix(&[tag]));
        while let Some(start) = from.take() {
            let rows = self.local.scan(&start, to.as_deref(), ROWS)?;
            from = rows.next;
            let local = self.local;
            let mut view = View::new(local)?;
            for (key, record) in &rows.rows {
                if let Ok(key) = Key::decode(key) {
                    each(self, &mut view, &key, record)?;
                }
            }
            view.publish(self.position);
            self.apply()?;
        }
        Ok(())
    }

    /// Brings what was counted into the index. A full disk ends it: the sums must not grow in memory instead.
    fn apply(&mut self) -> Result<()> {
        while self.applier.step()? {}
        match self.local.overlay.load() {
            (0, 0) => Ok(()),
            _ => Err(Error::new(
                ErrorKind::InsufficientStorage,
                "The disk has no room for the index.",
            )),
        }
    }

    fn publish(&mut self, change: impl FnOnce(&mut View) -> Result<()>) -> Result<()> {
        let mut view = View::new(self.local)?;
        change(&mut view)?;
        view.publish(self.position);
        self.apply()
    }

    /// A bucket whose row is lost gets another one, so that what is in it can be reached.
    fn make_bucket(&mut self, view: &mut View, id: BucketId, created: Timestamp) -> Result<()> {
        let mut name = format!("recovered-{:016x}", id.0);
        while view.get(&Key::Bucket(name.clone()))?.is_some() {
            name.push('x');
        }
        let bucket = BucketRecord::new(id, self.only_account()?, created);
        view.put(&Key::Bucket(name.clone()), Some(Record::Bucket(bucket)));
        let stats = Record::BucketStats(BucketStats::default());
        view.put(&Key::BucketStats(id), Some(stats));
        view.put(&Key::FreeBucket(id), None);
        self.done.buckets.push(name);
        Ok(())
    }

    /// The account, if there is just one; else nobody, for whose objects they were is not known.
    fn only_account(&self) -> Result<AccountId> {
        let from = [tag::ACCOUNT];
        let rows = self.local.scan(&from, after_prefix(&from).as_deref(), 2)?;
        let only = match rows.rows.as_slice() {
            [(key, _)] => Key::decode(key).ok(),
            _ => None,
        };
        Ok(match only {
            Some(Key::Account(id)) => id,
            _ => AccountId(0),
        })
    }
}

fn count_body(view: &mut View, record: &Record) -> Result<()> {
    match record.body() {
        Some((Location::Parts(set), _)) => view.add_reference(set.id),
        Some(body) => view.retain(body),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;

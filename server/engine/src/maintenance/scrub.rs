//! The scrubber: walks all bodies by position and checks them against what was put; what is damaged goes to
//! quarantine.
//!
//! A step function: the caller sets the pace by the bytes that a step says it has read. How far it is is a row,
//! so that a restart does not send it back to the beginning.

use std::sync::Arc;

use crate::{
    counters::Counters,
    env::Env,
    error::{Error, ErrorKind, Result},
    maintenance::{
        bodies::BodyRows,
        gc::CommitAll,
        verify::{BodyCheck, Depth, Progress},
    },
    meta::{
        Change, CommitError, Transaction, above,
        key::{BucketId, Key, after_prefix, tag},
        local::Local,
        record::{ObjectRecord, Quarantined, Record, ScrubRecord},
    },
    planted::{self, Bug},
    service::quarantine,
};

/// What an object costs besides its bytes, in bytes: so that a bucket of small ones is walked at a pace too.
const OBJECT_COST: u64 = 4096;
/// Rows of counters that are looked up together.
const ROWS: usize = 64;
/// Cost after which the position is saved within a pass.
const SAVE_COST: u64 = 1 << 30;

/// How much a pass checks.
#[derive(Clone, Debug)]
pub struct ScrubConfig {
    /// Share of everything that one pass checks: above 0, at most 1 (0.1).
    pub sample_rate: f64,
    /// Objects of one bucket after which a pass ends (none).
    pub max_per_run: Option<u64>,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        Self {
            sample_rate: 0.1,
            max_per_run: None,
        }
    }
}

/// See the module.
pub struct Scrubber {
    local: Arc<Local>,
    env: Env,
    counters: Arc<Counters>,
    config: ScrubConfig,
    walk: Option<Walk>,
}

/// A pass that is under way.
struct Walk {
    depth: Depth,
    position: ScrubRecord,
    rows: BodyRows,
    /// What the pass may still cost, and what it has cost since the position was saved.
    left: u64,
    unsaved: u64,
    /// The bucket it is in, and how many of its objects it has checked.
    bucket: Option<(BucketId, u64)>,
    checking: Option<(Key, Record, BodyCheck)>,
}

impl Scrubber {
    /// The scrubber of a store; there is one.
    pub fn new(local: Arc<Local>, env: Env, counters: Arc<Counters>, config: ScrubConfig) -> Self {
        Self {
            local,
            env,
            counters,
            config,
            walk: None,
        }
    }

    /// Begins a pass. With [`Depth::Bytes`] it goes on where the last one ended and checks a share of everything;
    /// with [`Depth::Length`] it looks for all bodies, as after a start.
    pub fn begin(&mut self, depth: Depth) -> Result<()> {
        let mut position = match self.local.get(&Key::Scrub)? {
            Some(Record::Scrub(position)) if depth == Depth::Bytes => *position,
            _ => ScrubRecord::default(),
        };
        let all = [tag::OBJECT];
        if position.next.is_empty() {
            position.next = all.to_vec();
            position.round.began = self.env.clock.now();
        }
        let left = match depth {
            Depth::Length => u64::MAX,
            Depth::Bytes => (self.cost()? as f64 * self.config.sample_rate).ceil() as u64,
        };
        self.walk = Some(Walk {
            depth,
            rows: BodyRows::from(position.next.clone()),
            position,
            left: left.max(1),
            unsaved: 0,
            bucket: None,
            checking: None,
        });
        Ok(())
    }

    /// True while a pass is under way.
    pub fn is_busy(&self) -> bool {
        self.walk.is_some()
    }

    /// Gives up the pass, and what it holds.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn give_up(&mut self) {
        self.walk = None;
    }

    /// Checks a bounded piece: how many bytes it has read. `None` when the pass is over.
    pub fn step(&mut self, commit: CommitAll) -> Result<Option<u64>> {
        let Some(mut walk) = self.walk.take() else {
            return Ok(None);
        };
        if walk.checking.is_some() {
            let read = self.check(&mut walk, commit)?;
            self.walk = Some(walk);
            return Ok(Some(read));
        }
        let Some((key, record)) = walk.rows.next_row(&self.local)? else {
            self.end_round(walk, commit)?;
            return Ok(None);
        };
        if walk.is_enough(&key, &self.config) {
            walk.position.next = key;
            self.save(&mut walk, commit)?;
            return Ok(None);
        }
        walk.take_up(key, record);
        if walk.unsaved >= SAVE_COST {
            self.save(&mut walk, commit)?;
        }
        self.walk = Some(walk);
        Ok(Some(0))
    }

    /// What checking everything costs.
    fn cost(&self) -> Result<u64> {
        let mut from = Some(vec![tag::BUCKET_STATS]);
        let to = after_prefix(&[tag::BUCKET_STATS]);
        let mut cost = 0_u64;
        while let Some(start) = from.take() {
            let rows = self.local.scan(&start, to.as_deref(), ROWS)?;
            from = rows.next;
            for (_, record) in rows.rows {
                if let Record::BucketStats(stats) = record {
                    cost = cost.saturating_add(stats.bytes + stats.objects * OBJECT_COST);
                }
            }
        }
        Ok(cost)
    }

    /// A step of the body that is being checked.
    fn check(&self, walk: &mut Walk, commit: CommitAll) -> Result<u64> {
        let (key, record, mut check) = walk.checking.take().expect("asked before");
        let size = record.body().map_or(0, |(_, size)| size);
        let tally = &mut walk.position.round;
        match check.step(&self.local, &self.local.files) {
            Ok(Progress::More(read)) => {
                walk.checking = Some((key, record, check));
                return Ok(read);
            }
            Ok(Progress::Done(read)) => {
                tally.objects += 1;
                tally.bytes += size;
                return Ok(read);
            }
            Err(error) if error.kind() == ErrorKind::ObjectCorrupt => {
                tally.damaged += u64::from(self.damaged(&key, &record, &error, commit)?);
            }
            Err(error) => {
                tracing::error!(?key, %error, "scrub: a body could not be read");
                tally.errors += 1;
            }
        }
        Ok(0)
    }

    /// Puts a damaged object into quarantine. False when it is another one by now.
    fn damaged(&self, key: &Key, seen: &Record, why: &Error, commit: CommitAll) -> Result<bool> {
        let reason = std::error::Error::source(why)
            .map_or_else(|| why.context().to_owned(), |source| source.to_string());
        let Record::Object(seen) = seen else {
            // Completing the upload or reading the object will say so; the client can send the part again.
            let is_same = self.local.get(key)?.as_ref() == Some(seen);
            if is_same {
                self.counters.checksum_failures.increase();
                tracing::error!(?key, reason, "scrub: a part of an open upload is damaged");
            }
            return Ok(is_same);
        };
        match self.quarantine(key, seen, &reason, commit) {
            Ok(()) => {
                self.counters.checksum_failures.increase();
                self.counters.objects_quarantined.increase();
                tracing::error!(
                    ?key,
                    reason,
                    "scrub: a damaged object was put into quarantine"
                );
                Ok(true)
            }
            Err(CommitError::Refused(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn quarantine(
        &self,
        key: &Key,
        seen: &ObjectRecord,
        reason: &str,
        commit: CommitAll,
    ) -> Result<(), CommitError> {
        let why = Quarantined {
            since: self.env.clock.now(),
            reason: reason.to_owned(),
        };
        let mut transaction = quarantine::set(key.clone(), seen, self.env.unique_id(), Some(why));
        if planted::is(Bug::QuarantineUnchecked) {
            transaction.requires.clear();
        }
        commit(vec![transaction])
            .into_iter()
            .next()
            .unwrap_or(Ok(()))
    }

    fn end_round(&self, mut walk: Walk, commit: CommitAll) -> Result<()> {
        let mut tally = std::mem::take(&mut walk.position.round);
        tally.ended = self.env.clock.now();
        tracing::info!(
            depth = ?walk.depth,
            objects = tally.objects,
            bytes = tally.bytes,
            damaged = tally.damaged,
            errors = tally.errors,
            "scrub: all bodies were checked"
        );
        walk.position.last = tally;
        walk.position.next.clear();
        self.save(&mut walk, commit)
    }

    fn save(&self, walk: &mut Walk, commit: CommitAll) -> Result<()> {
        walk.unsaved = 0;
        if walk.depth == Depth::Length {
            return Ok(());
        }
        let record = Record::Scrub(Box::new(walk.position.clone()));
        let transaction = Transaction {
            changes: vec![Change::put(Key::Scrub, record)],
            upkeep: true,
            ..Transaction::default()
        };
        commit(vec![transaction])
            .into_iter()
            .try_for_each(|answer| Ok(answer?))
    }
}

impl Walk {
    /// True when the pass has checked its share.
    fn is_enough(&mut self, key: &[u8], config: &ScrubConfig) -> bool {
        if self.depth == Depth::Length {
            return false;
        }
        let is_part = key[0] == tag::PART;
        // A position is a key of objects or uploads, so a pass does not end among the parts of an upload.
        self.left == 0 && !is_part
            || match (self.bucket, config.max_per_run, Key::decode(key)) {
                (Some((bucket, count)), Some(max), Ok(Key::Object(id, _))) => {
                    bucket == id && count >= max
                }
                _ => false,
            }
    }

    fn take_up(&mut self, key: Vec<u8>, record: Record) {
        let Ok(decoded) = Key::decode(&key) else {
            return;
        };
        if let Key::Object(id, _) = &decoded {
            let count = match self.bucket {
                Some((bucket, count)) if bucket == *id => count + 1,
                _ => 1,
            };
            self.bucket = Some((*id, count));
        }
        if key[0] != tag::PART {
            self.position.next = above(&key);
        }
        let check = match &record {
            Record::Object(object) if object.quarantined.is_none() => {
                BodyCheck::of_object(object, self.depth)
            }
            Record::Part(part) => BodyCheck::of_part(part, self.depth),
            _ => return,
        };
        let cost = OBJECT_COST + record.body().map_or(0, |(_, size)| size);
        self.left = self.left.saturating_sub(cost);
        self.unsaved += cost;
        self.checking = Some((decoded, record, check));
    }
}

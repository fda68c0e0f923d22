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
        record::{BucketStats, ObjectRecord, Quarantined, Record, ScrubRecord, ScrubTally},
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

/// What a pass checks; the later ones more than those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScrubExtent {
    /// Whether all bodies are there, as after a start.
    Presence,
    /// The bytes of a share of everything, from where the last pass ended.
    Share,
    /// The bytes of everything: the round begins anew.
    Everything,
}

impl ScrubExtent {
    fn depth(self) -> Depth {
        match self {
            Self::Presence => Depth::Length,
            Self::Share | Self::Everything => Depth::Bytes,
        }
    }
}

/// How far a pass is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScrubPass {
    /// What it checks.
    pub extent: ScrubExtent,
    /// What it has seen.
    pub seen: ScrubTally,
    /// What the round that it is a part of has seen; of [`ScrubExtent::Presence`] the same.
    pub round: ScrubTally,
    /// Share of the pass that is done, about.
    pub done: f64,
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
    extent: ScrubExtent,
    position: ScrubRecord,
    rows: BodyRows,
    seen: ScrubTally,
    /// What the pass is to cost, what it has cost, and how much of that since the position was saved.
    planned: u64,
    cost: u64,
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

    /// Begins a pass, in the place of one that is under way.
    pub fn begin(&mut self, extent: ScrubExtent) -> Result<()> {
        let mut position = match self.local.get(&Key::Scrub)? {
            Some(Record::Scrub(position)) => *position,
            _ => ScrubRecord::default(),
        };
        if extent != ScrubExtent::Share {
            position.next.clear();
            position.round = ScrubTally::default();
        }
        let now = self.env.clock.now();
        if position.next.is_empty() {
            position.next = vec![tag::OBJECT];
            position.round.began = now;
        }
        let planned = match extent {
            // It says only how far the pass is: bodies are looked for whatever the counters say.
            ScrubExtent::Presence => self.cost().unwrap_or_default(),
            ScrubExtent::Share => (self.cost()? as f64 * self.config.sample_rate).ceil() as u64,
            ScrubExtent::Everything => self.cost()?,
        };
        self.walk = Some(Walk {
            extent,
            rows: BodyRows::from(position.next.clone()),
            position,
            seen: ScrubTally {
                began: now,
                ..ScrubTally::default()
            },
            planned: planned.max(1),
            cost: 0,
            unsaved: 0,
            bucket: None,
            checking: None,
        });
        Ok(())
    }

    /// How far the pass under way is.
    pub fn pass(&self) -> Option<ScrubPass> {
        self.walk.as_ref().map(|walk| ScrubPass {
            extent: walk.extent,
            seen: walk.seen,
            round: walk.position.round,
            done: (walk.cost as f64 / walk.planned as f64).min(1.0),
        })
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
        let all = contents(&self.local)?;
        let objects = all.objects.saturating_mul(OBJECT_COST);
        Ok(all.bytes.saturating_add(objects))
    }

    /// A step of the body that is being checked.
    fn check(&self, walk: &mut Walk, commit: CommitAll) -> Result<u64> {
        let (key, record, mut check) = walk.checking.take().expect("asked before");
        let size = record.body().map_or(0, |(_, size)| size);
        match check.step(&self.local, &self.local.files) {
            Ok(Progress::More(read)) => {
                walk.checking = Some((key, record, check));
                return Ok(read);
            }
            Ok(Progress::Done(read)) => {
                walk.count(|tally| {
                    tally.objects += 1;
                    tally.bytes += size;
                });
                return Ok(read);
            }
            Err(error) if error.kind() == ErrorKind::ObjectCorrupt => {
                let damaged = u64::from(self.damaged(&key, &record, &error, commit)?);
                walk.count(|tally| tally.damaged += damaged);
            }
            Err(error) => {
                tracing::error!(?key, %error, "scrub: a body could not be read");
                walk.count(|tally| tally.errors += 1);
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
            extent = ?walk.extent,
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
        if walk.extent == ScrubExtent::Presence {
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
    fn count(&mut self, count: impl Fn(&mut ScrubTally)) {
        count(&mut self.seen);
        count(&mut self.position.round);
    }

    /// True when the pass has checked its share.
    fn is_enough(&mut self, key: &[u8], config: &ScrubConfig) -> bool {
        if self.extent != ScrubExtent::Share {
            return false;
        }
        let is_part = key[0] == tag::PART;
        // A position is a key of objects or uploads, so a pass does not end among the parts of an upload.
        self.cost >= self.planned && !is_part
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
        let depth = self.extent.depth();
        let check = match &record {
            Record::Object(object) if object.quarantined.is_none() => {
                BodyCheck::of_object(object, depth)
            }
            Record::Part(part) => BodyCheck::of_part(part, depth),
            _ => return,
        };
        let cost = OBJECT_COST + record.body().map_or(0, |(_, size)| size);
        self.cost = self.cost.saturating_add(cost);
        self.unsaved += cost;
        self.checking = Some((decoded, record, check));
    }
}

/// What all buckets hold together.
pub fn contents(local: &Local) -> Result<BucketStats> {
    let mut from = Some(vec![tag::BUCKET_STATS]);
    let to = after_prefix(&[tag::BUCKET_STATS]);
    let mut all = BucketStats::default();
    while let Some(start) = from.take() {
        let rows = local.scan(&start, to.as_deref(), ROWS)?;
        from = rows.next;
        for (_, record) in rows.rows {
            if let Record::BucketStats(stats) = record {
                all.objects = all.objects.saturating_add(stats.objects);
                all.bytes = all.bytes.saturating_add(stats.bytes);
            }
        }
    }
    Ok(all)
}

//! One life of a store: steps, accidents and restarts that follow from a seed.
//!
//! The engine's step functions run by hand on one thread. Whatever they answer is held against the model;
//! after every restart everything is.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::{
    check::{self, Found},
    model::{self, Intent, Row, State},
    plan::{Plan, Step},
    story::Story,
    traffic::{self, Upload},
};
use crate::{
    OpenError,
    disk::simulated::{Faults, SimulatedDisk, random::Random},
    env::{self, Clock, Env},
    maintenance::gc::Collector,
    meta::{
        CommitError, Transaction,
        key::Key,
        local::{
            Local,
            applier::Applier,
            committer::Committer,
            recovery::{self, Opened},
        },
        record::Record,
    },
    types::Timestamp,
};

pub(super) type Outcome<T = ()> = Result<T, String>;

/// A store that is open.
pub(super) struct Store {
    pub(super) local: Arc<Local>,
    committer: Committer,
    applier: Applier,
    collector: Collector,
}

pub(super) struct World {
    pub(super) disk: Arc<SimulatedDisk>,
    pub(super) dice: Random,
    pub(super) plan: Plan,
    pub(super) story: Story,
    pub(super) env: Env,
    pub(super) store: Option<Store>,
    /// Everything acknowledged, and what any reader has seen.
    pub(super) acknowledged: State,
    /// A batch of which nobody was told whether it is durable.
    in_doubt: Option<Vec<Intent>>,
    /// Bodies that are being written or wait for their commit.
    pub(super) uploads: Vec<Upload>,
    pub(super) next_bucket: u64,
    pub(super) next_version: u128,
    /// A failing sync is planned; one has failed in the life of this process.
    sync_armed: bool,
    sync_failed: bool,
    /// The committer answered that it writes no more.
    stopped: bool,
    /// The index could not be written: until the restart it may answer errors.
    index_failed: bool,
    /// Verbs of the disk fail at random.
    trouble: bool,
    pub(super) restarts: u64,
}

impl World {
    /// A world around a disk that holds nothing, or a store that was just made.
    pub(super) fn new(seed: u64, disk: Arc<SimulatedDisk>, print: bool) -> Self {
        let mut dice = Random::new(seed);
        let plan = Plan::new(&mut dice);
        let mut story = Story::new(print);
        story.tell(&[seed], || format!("seed {seed}: {plan:?}"));
        Self {
            disk,
            env: env(dice.next()),
            dice,
            plan,
            story,
            store: None,
            acknowledged: State::new(),
            in_doubt: None,
            uploads: Vec::new(),
            next_bucket: 1,
            next_version: 1,
            sync_armed: false,
            sync_failed: false,
            stopped: false,
            index_failed: false,
            trouble: false,
            restarts: 0,
        }
    }

    /// The whole story.
    pub(super) fn live(&mut self) -> Outcome {
        self.live_on()?;
        self.end()
    }

    /// The story but for its end.
    pub(super) fn live_on(&mut self) -> Outcome {
        self.recover()?;
        (0..self.plan.steps).try_for_each(|_| self.step())
    }

    fn step(&mut self) -> Outcome {
        let step = self.plan.pick(&mut self.dice);
        match step {
            Step::Commit => self.commit()?,
            Step::Seal => self.seal(),
            Step::Freeze => {
                let done = self.store().applier.freeze();
                self.story
                    .tell(&[25, done.into()], || format!("freeze: {done}"));
            }
            Step::Apply => self.apply()?,
            Step::BeginCollection => {
                let sweep = self.dice.of_16(10);
                self.story.tell(&[1, sweep.into()], || {
                    format!("begin a collection (sweep: {sweep})")
                });
                self.store().collector.begin(sweep);
                self.collect(1)?;
            }
            Step::Collect => {
                let steps = 1 + self.dice.below(12);
                self.collect(steps)?;
            }
            Step::PreparePack => self.prepare_pack()?,
            Step::Read => self.read()?,
            Step::Scan => self.scan()?,
            Step::Upload => self.advance_upload()?,
            Step::Abandon => self.abandon(),
            Step::PlanPowerCut => {
                let range = [4, 16, 64][self.dice.below(3) as usize];
                let n = 1 + self.dice.below(range);
                self.story.tell(&[2, n], || {
                    format!("the power will go in operation {n} from now")
                });
                self.disk.crash_at(n);
            }
            Step::PlanFailedSync => {
                let n = 1 + self.dice.below(5);
                self.story
                    .tell(&[3, n], || format!("sync {n} from now will fail"));
                self.disk.fail_sync_after(n);
                self.sync_armed = true;
            }
            Step::Trouble => self.trouble(),
            Step::PowerCut => self.halt("the power goes"),
            Step::Kill => {
                self.halt("the process is killed");
                self.close_dead(false);
                self.recover()?;
            }
            Step::Reopen => self.reopen()?,
        }
        self.note_failed_sync();
        if !self.disk.is_powered() {
            let cut = self.dice.of_16(self.plan.power_cuts_of_16) || step == Step::PowerCut;
            self.close_dead(cut);
            self.recover()?;
        }
        Ok(())
    }

    // Traffic.

    fn commit(&mut self) -> Outcome {
        let (transactions, intents) = traffic::batch(self)?;
        if transactions.is_empty() {
            return Ok(());
        }
        let answers = self.store().committer.commit(transactions);
        let fired = self.note_failed_sync();
        self.judge(intents, answers, fired)
    }

    /// Holds the answers to a batch against the model, which takes over what was acknowledged.
    fn judge(
        &mut self,
        intents: Vec<Intent>,
        answers: Vec<Result<(), CommitError>>,
        fired: bool,
    ) -> Outcome {
        let numbers = [4, intents.len() as u64, digest(&answers)];
        self.story.tell(&numbers, || {
            format!("commit {}: {answers:?}", traffic::describe(&intents))
        });
        let excused = fired || self.stopped || self.is_failing();
        let all = |is: fn(&CommitError) -> bool| {
            answers.iter().all(|answer| answer.as_ref().is_err_and(is))
        };
        if all(|e| matches!(e, CommitError::Stopped(_))) {
            if !self.stopped {
                self.stopped = true;
                self.in_doubt = Some(intents);
            }
            return match excused {
                true => Ok(()),
                false => Err("the store stopped without a cause".into()),
            };
        }
        if self.stopped {
            return Err(format!("a stopped store answered {answers:?}"));
        }
        if all(|e| matches!(e, CommitError::Failed(_) | CommitError::Full(_))) {
            return match excused {
                true => Ok(()),
                false => Err(format!(
                    "nothing was wrong, but a commit answered {answers:?}"
                )),
            };
        }
        let answers: Vec<Result<(), usize>> = answers
            .into_iter()
            .map(|answer| match answer {
                Err(CommitError::Refused(i)) => Ok(Err(i)),
                Ok(()) => Ok(Ok(())),
                Err(error) => Err(format!("a commit answered {error} among other answers")),
            })
            .collect::<Outcome<_>>()?;
        let mut after = self.acknowledged.clone();
        let expected = model::commit(&mut after, &intents);
        if answers != expected {
            return Err(format!(
                "a commit answered {answers:?} instead of {expected:?}"
            ));
        }
        self.acknowledged = after;
        Ok(())
    }

    fn seal(&mut self) {
        let done = self.store().committer.seal();
        self.note_failed_sync();
        self.stopped |= self.store().local.stopped().is_some();
        self.story
            .tell(&[5, done.into()], || format!("seal: {done}"));
    }

    fn apply(&mut self) -> Outcome {
        let done = self.store().applier.step();
        self.note_failed_sync();
        self.story.tell(&[6, matches!(done, Ok(true)).into()], || {
            format!("apply: {done:?}")
        });
        let Err(error) = done else { return Ok(()) };
        if !self.is_failing() && !self.sync_failed {
            return Err(format!("the index could not be written: {error}"));
        }
        // As the runtime does.
        self.store().local.stop("the index could not be written");
        (self.stopped, self.index_failed) = (true, true);
        Ok(())
    }

    /// Steps of the collector. Between its look and its commit others may commit.
    fn collect(&mut self, steps: u64) -> Outcome {
        for _ in 0..steps {
            let (mut others, intents) = match self.dice.of_16(self.plan.races_of_16) {
                true => traffic::batch(self)?,
                false => Default::default(),
            };
            let was_stopped = self.stopped;
            let (mut count, mut answers) = (0, Vec::new());
            let Store {
                committer,
                collector,
                ..
            } = self.store.as_mut().expect("open between steps");
            let done = collector.step(&mut |transactions: Vec<Transaction>| {
                count += transactions.len() as u64;
                answers.extend(committer.commit(std::mem::take(&mut others)));
                committer.commit(transactions)
            });
            answers.extend(committer.commit(others));
            let fired = self.note_failed_sync();
            let numbers = [7, matches!(done, Ok(true)).into(), count];
            self.story.tell(&numbers, || {
                format!("collect, with {count} transactions: {done:?}")
            });
            let excused = fired || was_stopped || self.is_failing();
            if !intents.is_empty() {
                self.judge(intents, answers, fired)?;
            }
            self.stopped |= self.store().local.stopped().is_some();
            match done {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if excused => break,
                Err(error) => return Err(format!("the collector failed: {error}")),
            }
        }
        Ok(())
    }

    fn prepare_pack(&mut self) -> Outcome {
        let done = self.store().local.prepare_pack();
        let fired = self.note_failed_sync();
        self.story.tell(&[8, done.is_ok().into()], || {
            format!("prepare a pack: {done:?}")
        });
        match done {
            Err(error) if !fired && !self.is_failing() => {
                Err(format!("a pack could not be made: {error}"))
            }
            _ => Ok(()),
        }
    }

    fn read(&mut self) -> Outcome {
        let (key, expected) = traffic::any_object(self);
        self.story.tell(&[9], || format!("read {key:?}"));
        let found = match self
            .store
            .as_ref()
            .expect("open between steps")
            .local
            .get(&key)
        {
            Err(_) if self.index_failed || self.is_failing() => return Ok(()),
            found => found.map_err(|e| format!("{key:?} cannot be read: {e}"))?,
        };
        match (&found, &expected) {
            (None, None) => Ok(()),
            (Some(record @ Record::Object(found)), Some(object))
                if check::same(record, &Row::Object(object.clone())) =>
            {
                let start = self.dice.below(found.size + 1);
                let end = start + self.dice.below(found.size - start + 1);
                let read = check::check_body(&self.store().local, &key, found, object, start..end);
                // A look at the index may write too, and so meet a planned power cut.
                match self.disk.is_powered() {
                    true => read,
                    false => Ok(()),
                }
            }
            _ => Err(format!("{key:?} is {found:?} instead of {expected:?}")),
        }
    }

    fn scan(&mut self) -> Outcome {
        let page = 1 + self.dice.below(20) as usize;
        self.story
            .tell(&[10, page as u64], || format!("scan by {page}"));
        let found = match Found::scan(&self.store().local, page) {
            Err(_) if self.index_failed || self.is_failing() => return Ok(()),
            found => found?,
        };
        match found.differs_from(&self.acknowledged) {
            Some(how) => Err(format!("a scan: {how}")),
            None => found.check_counters(),
        }
    }

    fn advance_upload(&mut self) -> Outcome {
        let told = traffic::advance_upload(self);
        let fired = self.note_failed_sync();
        match told {
            Err(error) if !fired && !self.is_failing() => {
                Err(format!("a body could not be written: {error}"))
            }
            _ => Ok(()),
        }
    }

    fn abandon(&mut self) {
        if !self.uploads.is_empty() {
            let i = self.dice.below(self.uploads.len() as u64) as usize;
            self.uploads.swap_remove(i);
            self.story
                .tell(&[11, i as u64], || format!("abandon upload {i}"));
        }
    }

    /// The disk begins to fail now and then, or ceases to.
    fn trouble(&mut self) {
        self.trouble = !self.trouble;
        let mut rate = || match self.dice.below(3) {
            0 => [5_000, 50_000, 300_000][self.dice.below(3) as usize],
            _ => 0,
        };
        let faults = Faults {
            read_errors: 0,
            write_errors: rate() / 10,
            sync_errors: rate() / 4,
            full_on_write: rate(),
            full_on_allocate: rate(),
            full_on_create: rate(),
        };
        let faults = if self.trouble {
            faults
        } else {
            Faults::default()
        };
        self.sync_failed |= self.trouble;
        self.story
            .tell(&[19, self.trouble.into()], || format!("{faults:?}"));
        self.disk.set_faults(faults);
    }

    // Restarts.

    /// From here on everything fails, as for a process that is no more.
    fn halt(&mut self, how: &str) {
        self.story.tell(&[12], || how.to_owned());
        self.disk.halt();
    }

    /// Drops what is left of a dead process; then the disk is there again, after a power cut or as it was.
    fn close_dead(&mut self, power_cut: bool) {
        self.drop_store();
        match power_cut {
            true => self.disk.crash(),
            false => self.disk.restart(),
        }
        self.sync_armed = false;
        self.story
            .tell(&[13, power_cut.into()], || match power_cut {
                true => "a new start after a power cut".into(),
                false => "a new start, the power was never gone".into(),
            });
    }

    fn drop_store(&mut self) {
        self.uploads.clear();
        self.store = None;
        (self.stopped, self.index_failed, self.sync_failed) = (false, false, self.trouble);
    }

    /// An orderly end of the process and a new start.
    fn reopen(&mut self) -> Outcome {
        self.story.tell(&[14], || "close".into());
        self.seal();
        self.apply()?;
        self.drop_store();
        self.note_failed_sync();
        if self.disk.is_powered() {
            self.recover()?;
        }
        Ok(())
    }

    /// Opens the store, however often it takes, and holds everything against the model.
    pub(super) fn recover(&mut self) -> Outcome {
        for attempt in 0.. {
            if attempt == 3 && self.trouble {
                self.trouble();
            }
            if attempt < 6 && self.dice.of_16(self.plan.bad_recoveries_of_16) {
                self.disturb_recovery();
            }
            let config = self.plan.config.clone();
            let opened = recovery::open(self.disk.clone(), config, self.env.clone());
            let fired = self.note_failed_sync();
            self.restarts += 1;
            self.story.tell(&[15, attempt, opened.is_ok().into()], || {
                format!(
                    "open: {}",
                    opened
                        .as_ref()
                        .err()
                        .map_or("done".into(), |e| e.to_string())
                )
            });
            match opened {
                Ok(opened) => {
                    self.store = Some(Store::new(opened));
                    break;
                }
                Err(_) if !self.disk.is_powered() => {
                    let cut = self.dice.of_16(self.plan.power_cuts_of_16);
                    self.close_dead(cut);
                }
                Err(OpenError::Io { .. }) if fired || self.trouble => {
                    if self.dice.of_16(4) {
                        self.halt("the power goes after a failed start");
                        self.close_dead(true);
                    }
                }
                Err(error) => return Err(format!("the store does not open: {error}")),
            }
        }
        let checked = self.check();
        if self.disk.is_powered() {
            return checked;
        }
        // The power went at the last moment of the start, or when redb wrote on the occasion of a look.
        let cut = self.dice.of_16(self.plan.power_cuts_of_16);
        self.close_dead(cut);
        self.recover()
    }

    fn disturb_recovery(&mut self) {
        if self.dice.of_16(11) {
            let n = 1 + self.dice.below(30);
            self.story.tell(&[16, n], || {
                format!("the power will go in operation {n} from now")
            });
            self.disk.crash_at(n);
        } else {
            let n = 1 + self.dice.below(8);
            self.story
                .tell(&[17, n], || format!("sync {n} from now will fail"));
            self.disk.fail_sync_after(n);
            self.sync_armed = true;
        }
    }

    /// Everything acknowledged is there, and nothing else; what was in doubt is there wholly or not at all.
    pub(super) fn check(&mut self) -> Outcome {
        let page = [3, 16, 1000][self.dice.below(3) as usize];
        let found = Found::scan(&self.store().local, page)?;
        if let Some(how) = found.differs_from(&self.acknowledged) {
            let Some(batch) = self.in_doubt.take() else {
                return Err(how);
            };
            let mut with = self.acknowledged.clone();
            let _ = model::commit(&mut with, &batch);
            if let Some(how_with) = found.differs_from(&with) {
                return Err(format!(
                    "without the batch in doubt: {how}; with it: {how_with}"
                ));
            }
            // It was seen, so it may not be lost any more.
            self.acknowledged = with;
        }
        self.in_doubt = None;
        found.check_counters()?;
        found.check_bodies(
            &self.store.as_ref().expect("just opened").local,
            &self.acknowledged,
        )?;
        check::check_quarantine(&self.disk, None)?;
        let rows = self.acknowledged.len() as u64;
        self.story
            .tell(&[18, rows], || format!("all {rows} rows are right"));
        Ok(())
    }

    /// The end of the story: what is left is right, tidy, and the same after another start.
    fn end(&mut self) -> Outcome {
        self.calm()?;
        self.uploads.clear();
        self.apply()?;
        self.store().collector.begin(true);
        self.collect(100_000)?;
        self.check()?;
        let found = Found::scan(&self.store().local, 1000)?;
        found.check_tidiness(&self.store.as_ref().expect("open").local, &self.disk)?;
        for _ in 0..2 {
            self.halt("another start");
            let cut = self.dice.of_16(8);
            self.close_dead(cut);
            self.recover()?;
        }
        let again = Found::scan(&self.store().local, 1000)?;
        again.check_files(&self.disk)
    }

    /// Ends all accidents; the store writes again if it had stopped.
    fn calm(&mut self) -> Outcome {
        (self.plan.bad_recoveries_of_16, self.plan.races_of_16) = (0, 0);
        self.sync_armed = false;
        self.disk.crash_at(0);
        self.disk.fail_sync_after(0);
        if self.trouble {
            self.trouble();
        }
        if self.stopped || self.dice.of_16(8) {
            let cut = self.dice.of_16(8);
            self.halt("the end comes near");
            self.close_dead(cut);
            self.recover()?;
        }
        Ok(())
    }

    /// Brings everything to rest: durable, sealed, the process gone, the power off and on.
    pub(super) fn rest(&mut self) -> Outcome {
        self.calm()?;
        if self.dice.of_16(8) {
            self.apply()?;
        }
        self.seal();
        self.halt("all is at rest");
        self.close_dead(true);
        Ok(())
    }

    /// Opens the store after damage; `None` when it refuses.
    pub(super) fn open_damaged(&mut self) -> Option<Arc<Local>> {
        let config = self.plan.config.clone();
        let opened = recovery::open(self.disk.clone(), config, self.env.clone());
        self.story.tell(&[23, opened.is_ok().into()], || {
            let refused = opened.as_ref().err().map(|e| e.to_string());
            format!("open: {}", refused.unwrap_or_else(|| "done".into()))
        });
        let store = Store::new(opened.ok()?);
        let local = store.local.clone();
        self.store = Some(store);
        Some(local)
    }

    /// A whole pass of applier and collector over a damaged store, as far as it goes.
    pub(super) fn upkeep_damaged(&mut self) {
        let store = self.store();
        let applied = store.applier.step();
        store.collector.begin(true);
        let Store {
            committer,
            collector,
            ..
        } = store;
        let collected = loop {
            match collector.step(&mut |transactions| committer.commit(transactions)) {
                Ok(true) => {}
                over => break over,
            }
        };
        self.story.tell(
            &[24, applied.is_ok().into(), collected.is_ok().into()],
            || format!("apply: {applied:?}, collect: {collected:?}"),
        );
        self.drop_store();
    }

    // Helpers.

    pub(super) fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("open between steps")
    }

    /// True when a body may fail to be written: a sync has failed, or the power is gone.
    pub(super) fn is_excused(&mut self) -> bool {
        self.note_failed_sync() || self.is_failing()
    }

    fn is_failing(&self) -> bool {
        self.trouble || !self.disk.is_powered()
    }

    /// True when the planned sync has failed since the last question.
    fn note_failed_sync(&mut self) -> bool {
        let fired = self.sync_armed && !self.disk.is_failed_sync_ahead();
        self.sync_armed &= !fired;
        self.sync_failed |= fired;
        fired
    }

    pub(super) fn bucket_key(&self, n: u64) -> Key {
        Key::Bucket(format!("bucket-{n}"))
    }
}

impl Store {
    fn new(opened: Opened) -> Self {
        let Opened {
            local,
            committer,
            applier,
        } = opened;
        Self {
            collector: Collector::new(local.clone()),
            local,
            committer,
            applier,
        }
    }
}

fn digest(answers: &[Result<(), CommitError>]) -> u64 {
    answers.iter().fold(0, |hash, answer| {
        let n = match answer {
            Ok(()) => 1,
            Err(CommitError::Refused(i)) => 8 + *i as u64,
            Err(CommitError::Full(_)) => 2,
            Err(CommitError::Failed(_)) => 3,
            Err(CommitError::Stopped(_)) => 4,
        };
        hash * 31 + n
    })
}

/// Time that goes by one millisecond a look, and randomness that follows from a seed.
pub(super) fn env(seed: u64) -> Env {
    Env {
        clock: Arc::new(Ticks(AtomicU64::new(1_700_000_000_000))),
        random: Arc::new(Seeded(Mutex::new(Random::new(seed)))),
    }
}

struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct Seeded(Mutex<Random>);

impl env::Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut random = self.0.lock().expect("no holder panics");
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

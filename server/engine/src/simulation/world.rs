//! One life of a store: steps, accidents and restarts that follow from a seed.
//!
//! The engine's step functions run by hand on one thread. Whatever they answer is held against the model;
//! after every restart everything is.

use std::{io, sync::Arc, time::Duration};

use super::{
    backups::Backups,
    check::{self, Found},
    environment::env,
    held::Held,
    model::{self, Intent, SESSION_KEPT_MS, State},
    plan::{Plan, Step},
    story::Story,
    traffic::{self, Look, Seen, Session, Upload, Writing},
};
use crate::{
    disk::{
        is_full,
        simulated::{Faults, SimulatedDisk, random::Random},
    },
    env::Env,
    maintenance::{
        gc::Collector,
        scrub::{ScrubConfig, Scrubber},
        snapshot::Snapshotter,
    },
    meta::{
        CommitError, Transaction,
        key::Key,
        local::{Local, applier::Applier, committer::Committer, format::INDEX, recovery::Opened},
        record::Record,
    },
};

pub(super) type Outcome<T = ()> = Result<T, String>;

/// A store that is open.
pub(super) struct Store {
    pub(super) local: Arc<Local>,
    pub(super) committer: Committer,
    pub(super) applier: Applier,
    pub(super) collector: Collector,
    pub(super) snapshotter: Snapshotter,
    pub(super) scrubber: Scrubber,
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
    pub(super) in_doubt: Option<Vec<Intent>>,
    /// Bodies that are being written or wait for their commit.
    pub(super) writing: Vec<Writing>,
    /// Multipart uploads that clients remember.
    pub(super) remembered: Vec<Upload>,
    /// Requests that have read and will commit later.
    pub(super) looks: Vec<Look>,
    pub(super) seen: Vec<Seen>,
    /// Readers who are at the parts of an object.
    pub(super) held: Vec<Held>,
    /// Callers whose requests are done once.
    pub(super) sessions: Vec<Session>,
    pub(super) next_bucket: u64,
    pub(super) next_version: u128,
    /// A failing sync is planned; one has failed in the life of this process.
    pub(super) sync_armed: bool,
    pub(super) sync_failed: bool,
    /// The committer answered that it writes no more.
    pub(super) stopped: bool,
    /// How many verbs of the index had failed before this process opened it: one more, and it may answer
    /// errors until the restart.
    pub(super) index_failures: u64,
    /// Verbs of the disk fail at random.
    pub(super) trouble: bool,
    /// They did in the life of this process, so it may be short of space.
    pub(super) may_be_short: bool,
    pub(super) restarts: u64,
    pub(super) backups: Backups,
}

impl World {
    /// A world around a disk that holds nothing, or a store that was just made.
    pub(super) fn new(seed: u64, disk: Arc<SimulatedDisk>, print: bool) -> Self {
        let mut dice = Random::new(seed);
        let plan = Plan::new(&mut dice);
        let mut story = Story::new(print);
        story.tell(&[seed], || format!("seed {seed}: {plan:?}"));
        Self {
            env: env(dice.next(), &disk),
            disk,
            dice,
            plan,
            story,
            store: None,
            acknowledged: State::default(),
            in_doubt: None,
            writing: Vec::new(),
            remembered: Vec::new(),
            looks: Vec::new(),
            seen: Vec::new(),
            held: Vec::new(),
            sessions: Vec::new(),
            next_bucket: 1,
            next_version: 1,
            sync_armed: false,
            sync_failed: false,
            stopped: false,
            index_failures: 0,
            trouble: false,
            may_be_short: false,
            restarts: 0,
            backups: Backups::new(seed),
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
            Step::Snapshot => self.snapshot()?,
            Step::Scrub => self.scrub()?,
            Step::Backup => self.backup()?,
            Step::Read => self.read()?,
            Step::Scan => self.scan()?,
            Step::Write => self.advance_body()?,
            Step::Hold => self.hold()?,
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
        self.commit_batch(transactions, intents)
    }

    pub(super) fn commit_batch(
        &mut self,
        transactions: Vec<Transaction>,
        intents: Vec<Intent>,
    ) -> Outcome {
        let store = self.store();
        let round = Round::commit(&mut store.committer, &store.local, transactions, intents);
        let fired = self.note_failed_sync();
        self.judge(round, fired)
    }

    /// Holds the answers to a batch against the model, which takes over what was acknowledged.
    pub(super) fn judge(&mut self, round: Round, fired: bool) -> Outcome {
        let numbers = [4, round.intents.len() as u64, digest(&round.answers)];
        self.story.tell(&numbers, || {
            let what = traffic::describe(&round.intents);
            format!("commit {what}: {:?}", round.answers)
        });
        let excused = fired || self.stopped || self.is_index_failing();
        let (intents, answers) = round.without_refused(self.may_be_short, excused)?;
        if intents.is_empty() {
            return Ok(());
        }
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
        if all(|e| matches!(e, CommitError::Failed(_))) {
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

    pub(super) fn seal(&mut self) {
        let done = self.store().committer.seal();
        self.note_failed_sync();
        self.stopped |= self.store().local.stopped().is_some();
        self.story
            .tell(&[5, done.into()], || format!("seal: {done}"));
    }

    pub(super) fn apply(&mut self) -> Outcome {
        let done = self.store().applier.step();
        self.note_failed_sync();
        self.story.tell(&[6, matches!(done, Ok(true)).into()], || {
            format!("apply: {done:?}")
        });
        let Err(error) = done else { return Ok(()) };
        if !self.is_index_failing() && !self.sync_failed {
            return Err(format!("the index could not be written: {error}"));
        }
        // As the runtime does.
        self.store().local.stop("the index could not be written");
        self.stopped = true;
        Ok(())
    }

    /// Steps of the collector. Between its look and its commit others may commit.
    pub(super) fn collect(&mut self, steps: u64) -> Outcome {
        for _ in 0..steps {
            let (others, intents) = match self.dice.of_16(self.plan.races_of_16) {
                true => traffic::batch(self)?,
                false => Default::default(),
            };
            let mut others = Some((others, intents));
            // They may also have looked before the collector commits, and commit themselves after it.
            let is_late = self.dice.of_16(5);
            let was_stopped = self.stopped;
            let mut rounds = Vec::new();
            let is_raced = self.dice.of_16(2 * self.plan.races_of_16);
            let (dice, state) = (&mut self.dice, &self.acknowledged);
            let next_version = &mut self.next_version;
            let store = self.store.as_mut().expect("open between steps");
            let (committer, local) = (&mut store.committer, &store.local);
            let done = store.collector.step(&mut |transactions: Vec<Transaction>| {
                let rivals = match is_raced {
                    true => traffic::rivals(dice, (state, local), next_version, &transactions),
                    false => Default::default(),
                };
                if !rivals.early.is_empty() {
                    let (early, intents): (Vec<_>, _) = rivals.early.into_iter().unzip();
                    rounds.push(Round::commit(committer, local, early, intents));
                }
                if let Some((others, intents)) = others.take_if(|_| !is_late) {
                    rounds.push(Round::commit(committer, local, others, intents));
                }
                let intents = transactions.iter().map(Intent::of_collector).collect();
                let mut round = Round::commit(committer, local, transactions, intents);
                round.is_collector = true;
                let answers = round.answers.clone();
                rounds.push(round);
                if !rivals.late.is_empty() {
                    let (late, intents): (Vec<_>, _) = rivals.late.into_iter().unzip();
                    rounds.push(Round::commit(committer, local, late, intents));
                }
                answers
            });
            if let Some((others, intents)) = others {
                rounds.push(Round::commit(committer, local, others, intents));
            }
            let fired = self.note_failed_sync();
            let numbers = [7, matches!(done, Ok(true)).into(), rounds.len() as u64];
            self.story.tell(&numbers, || format!("collect: {done:?}"));
            let is_short = self.store().local.full().is_some();
            let excused = fired || was_stopped || self.is_index_failing() || is_short;
            for round in rounds {
                if round.is_collector {
                    let may = |intent| self.must_be_tidying(intent);
                    round.intents.iter().try_for_each(may)?;
                }
                self.judge(round, fired)?;
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

    fn must_be_tidying(&self, intent: &Intent) -> Outcome {
        let is_held = |id| self.held.iter().any(|held| held.is_at(id));
        let now = self.env.clock.now();
        self.acknowledged.must_be_tidying(intent, is_held, now)
    }

    pub(super) fn prepare_pack(&mut self) -> Outcome {
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
        let has_body = |key: &Key| matches!(key, Key::Object(..) | Key::Part(..));
        let (key, expected) = traffic::any_row(self, has_body);
        self.story.tell(&[9], || format!("read {key:?}"));
        let Some(found) = self.look_up(&key)? else {
            return Ok(());
        };
        match (&found, &expected) {
            (None, None) => Ok(()),
            (Some(found), Some(row)) if check::same(found, row) => {
                let Some((_, body)) = row.body() else {
                    return Ok(());
                };
                let size = body.len() as u64;
                let start = self.dice.below(size + 1);
                let end = start + self.dice.below(size - start + 1);
                let expected = &body[start as usize..end as usize];
                match check::read_body(&self.store().local, found, start..end) {
                    Ok(bytes) if bytes == *expected => Ok(()),
                    Ok(_) => Err(format!("{key:?}: wrong bytes from {found:?}")),
                    // A look at the index may write too, and so meet a planned power cut.
                    Err(_) if self.is_index_failing() => Ok(()),
                    Err(error) => Err(format!("{key:?}: {error}")),
                }
            }
            _ => Err(format!("{key:?} is {found:?} instead of {expected:?}")),
        }
    }

    /// The row under `key`; `None` when it cannot be read for a good reason.
    pub(super) fn look_up(&mut self, key: &Key) -> Outcome<Option<Option<Record>>> {
        match self.store().local.get(key) {
            Ok(found) => Ok(Some(found)),
            Err(_) if self.is_index_failing() => Ok(None),
            Err(error) => Err(format!("{key:?} cannot be read: {error}")),
        }
    }

    fn scan(&mut self) -> Outcome {
        let page = 1 + self.dice.below(20) as usize;
        self.story
            .tell(&[10, page as u64], || format!("scan by {page}"));
        let found = match Found::scan(&self.store().local, page) {
            Err(_) if self.is_index_failing() => return Ok(()),
            found => found?,
        };
        match found.differs_from(&self.acknowledged) {
            Some(how) => Err(format!("a scan: {how}")),
            None => found.check_counters(&self.acknowledged),
        }
    }

    fn advance_body(&mut self) -> Outcome {
        match traffic::advance_body(self) {
            Ok(()) => {
                self.note_failed_sync();
                Ok(())
            }
            Err(error) => self.excuse(error),
        }
    }

    fn abandon(&mut self) {
        if !self.writing.is_empty() {
            let i = self.dice.below(self.writing.len() as u64) as usize;
            self.writing.swap_remove(i);
            self.story
                .tell(&[11, i as u64], || format!("abandon body {i}"));
        }
    }

    /// The disk begins to fail now and then, or ceases to.
    pub(super) fn trouble(&mut self) {
        self.trouble = !self.trouble;
        let faults = match self.trouble {
            true => self.plan.faults(&mut self.dice),
            false => Faults::default(),
        };
        self.sync_failed |= self.trouble;
        self.may_be_short |= self.trouble;
        self.story
            .tell(&[19, self.trouble.into()], || format!("{faults:?}"));
        self.disk.set_faults(faults);
    }

    // Helpers.

    pub(super) fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("open between steps")
    }

    /// Lets it pass that a body could not be written when a sync has failed, the power is gone, or the store is
    /// short of space.
    pub(super) fn excuse(&mut self, error: io::Error) -> Outcome {
        let is_short = is_full(&error) && self.store().local.full().is_some();
        match self.note_failed_sync() || self.is_failing() || is_short {
            true => Ok(()),
            false => Err(format!("a body could not be written: {error}")),
        }
    }

    pub(super) fn is_failing(&self) -> bool {
        self.trouble || !self.disk.is_powered()
    }

    /// True when the disk fails, or has failed the index, which notices that once and for all.
    pub(super) fn is_index_failing(&self) -> bool {
        self.is_failing() || self.disk.failures(INDEX) > self.index_failures
    }

    /// True when the planned sync has failed since the last question.
    pub(super) fn note_failed_sync(&mut self) -> bool {
        let fired = self.sync_armed && !self.disk.is_failed_sync_ahead();
        self.sync_armed &= !fired;
        self.sync_failed |= fired;
        fired
    }

    pub(super) fn bucket_key(&self, n: u64) -> Key {
        Key::Bucket(format!("bucket-{n}"))
    }
}

/// A batch with its answers.
pub(super) struct Round {
    pub(super) intents: Vec<Intent>,
    pub(super) answers: Vec<Result<(), CommitError>>,
    is_collector: bool,
    /// Whether the store was short of space before and behind it, and so much so that it takes no deletes.
    was_short: bool,
    is_short: bool,
    is_overlay_full: bool,
}

impl Round {
    pub(super) fn commit(
        committer: &mut Committer,
        local: &Local,
        transactions: Vec<Transaction>,
        intents: Vec<Intent>,
    ) -> Self {
        let was_short = local.full().is_some();
        let is_overlay_full = local.is_overlay_full();
        Self {
            answers: committer.commit(transactions),
            intents,
            is_collector: false,
            was_short,
            is_short: local.full().is_some(),
            is_overlay_full,
        }
    }

    /// Without those that were refused for want of space, and rightly so.
    #[allow(clippy::type_complexity)]
    fn without_refused(
        self,
        may_be_short: bool,
        excused: bool,
    ) -> Outcome<(Vec<Intent>, Vec<Result<(), CommitError>>)> {
        if (self.was_short || self.is_short) && !may_be_short {
            return Err("the store is short of space without a cause".into());
        }
        let (mut intents, mut answers) = (Vec::new(), Vec::new());
        for (intent, answer) in self.intents.into_iter().zip(self.answers) {
            let is_refused = matches!(answer, Err(CommitError::Full(_)));
            let is_stopped = matches!(answer, Err(CommitError::Stopped(_)));
            let only_deletes = intent.only_deletes();
            let what = || traffic::describe(std::slice::from_ref(&intent));
            if is_refused && !self.is_short {
                return Err(format!("there was no room for {}, but for others", what()));
            }
            if is_refused && only_deletes && !self.is_overlay_full && !excused {
                return Err(format!("a short store refused {}", what()));
            }
            let may_be_taken = only_deletes || self.is_collector || is_stopped;
            if !is_refused && self.was_short && !may_be_taken {
                return Err(format!("a short store decided on {}", what()));
            }
            if !is_refused {
                intents.push(intent);
                answers.push(answer);
            }
        }
        Ok((intents, answers))
    }
}

impl Store {
    pub(super) fn new(opened: Opened, free_per_step: usize, env: &Env) -> Self {
        let Opened {
            local,
            committer,
            applier,
        } = opened;
        Self {
            collector: Collector::new(local.clone())
                .taking(free_per_step)
                .forgetting(env, Duration::from_millis(SESSION_KEPT_MS)),
            snapshotter: Snapshotter::new(local.clone(), env.clone()),
            scrubber: Scrubber::new(
                local.clone(),
                env.clone(),
                Arc::default(),
                ScrubConfig {
                    sample_rate: 0.5,
                    max_per_run: None,
                },
            ),
            local,
            committer,
            applier,
        }
    }
}

fn digest(answers: &[Result<(), CommitError>]) -> u64 {
    answers.iter().fold(0, |hash: u64, answer| {
        let n = match answer {
            Ok(()) => 1,
            Err(CommitError::Refused(i)) => 8 + *i as u64,
            Err(CommitError::Full(_)) => 2,
            Err(CommitError::Failed(_)) => 3,
            Err(CommitError::Stopped(_)) => 4,
        };
        hash.wrapping_mul(31).wrapping_add(n)
    })
}

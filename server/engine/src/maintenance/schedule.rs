//! When upkeep happens: two threads that run its steps, one for the collector, one for the scrubber and the snapshots.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    error::{Error, ErrorKind, Result},
    maintenance::{
        audit::AuditWalk,
        gc::Collector,
        scrub::{ScrubConfig, ScrubExtent, ScrubPass, Scrubber},
        snapshot::{SnapshotInfo, Snapshotter, Step},
    },
    meta::local::{Signal, runtime::LocalStore},
    service::Service,
};

/// Shortest time between two passes of the collector.
const COLLECT_PAUSE: Duration = Duration::from_millis(200);
/// Longest time that the upkeep thread sleeps.
const NAP: Duration = Duration::from_secs(1);
/// How long upkeep that failed is let be.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Steps of the walk after a start between two short rests, so that it leaves the processor to requests.
const STEPS_AT_ONCE: u32 = 256;

/// When and how much is collected, scrubbed and saved; every value in its unit with its default.
#[derive(Clone, Debug)]
pub struct UpkeepConfig {
    /// Time between passes of the collector (15 min).
    pub collect_every: Duration,
    /// Age at which a multipart upload that nobody completes goes (7 days); `None`: never.
    pub upload_age_max: Option<Duration>,
    /// Time from a start to its first pass of the scrubber (30 s).
    pub first_scrub_after: Duration,
    /// Time between passes of the scrubber (6 h).
    pub scrub_every: Duration,
    /// How much a pass checks.
    pub scrub: ScrubConfig,
    /// Bytes that the scrubber reads in a second (50 MiB); `None`: no limit.
    pub scrub_bytes_per_second: Option<u64>,
    /// Time between snapshots of the index (1 h).
    pub snapshot_every: Duration,
    /// Bytes of log behind the last snapshot at which the next one is taken (1 GiB).
    pub snapshot_log_bytes: u64,
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        Self {
            collect_every: Duration::from_secs(15 * 60),
            upload_age_max: Some(Duration::from_secs(7 * 24 * 3600)),
            first_scrub_after: Duration::from_secs(30),
            scrub_every: Duration::from_secs(6 * 3600),
            scrub: ScrubConfig::default(),
            scrub_bytes_per_second: Some(50 << 20),
            snapshot_every: Duration::from_secs(3600),
            snapshot_log_bytes: 1 << 30,
        }
    }
}

/// The threads of upkeep.
pub(crate) struct Upkeep {
    stop: Arc<Stop>,
    store: Arc<LocalStore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    round_takes: Duration,
}

/// Asks the threads to end, for a snapshot or for a pass of the scrubber.
#[derive(Default)]
struct Stop {
    asked: AtomicBool,
    collector: Signal,
    keeper: Signal,
    snapshots: Mutex<Vec<oneshot::Sender<Result<SnapshotInfo>>>>,
    scrubbing: Mutex<Scrubbing>,
}

/// What the scrubber does, and is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scrubbing {
    /// A pass that was asked for and has not begun.
    pub wanted: Option<ScrubExtent>,
    /// The pass under way.
    pub pass: Option<ScrubPass>,
    /// When the next one is due; `None`: after that of the start.
    pub next: Option<Instant>,
}

impl Stop {
    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    fn scrubbing(&self) -> MutexGuard<'_, Scrubbing> {
        self.scrubbing.lock().expect("no holder panics")
    }
}

impl Upkeep {
    /// Starts the threads.
    pub(crate) fn start(
        store: &Arc<LocalStore>,
        service: &Arc<Service>,
        config: &UpkeepConfig,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let local = store.local();
        let collector = Collector::new(local.clone()).expiring(&service.env, config.upload_age_max);
        let env = service.env.clone();
        let keeper = Keeper {
            store: store.clone(),
            snapshotter: Snapshotter::new(local.clone(), env.clone()),
            scrubber: Scrubber::new(
                local.clone(),
                env,
                service.counters.clone(),
                config.scrub.clone(),
            ),
            config: config.clone(),
            stop: stop.clone(),
        };
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let round_takes = config.scrub_every.div_f64(config.scrub.sample_rate);
        tracing::info!(
            round_hours = round_takes.as_secs_f64() / 3600.0,
            "scrub: each body is checked once in a round"
        );
        let (s, st, every) = (store.clone(), stop.clone(), config.collect_every);
        let threads = vec![
            named("jay-collector").spawn(move || run_collector(&s, collector, &st, every))?,
            named("jay-upkeep").spawn(move || keeper.run())?,
        ];
        Ok(Self {
            stop,
            store: store.clone(),
            threads: Mutex::new(threads),
            round_takes,
        })
    }

    /// How long the scrubber takes for everything.
    pub(crate) fn round_takes(&self) -> Duration {
        self.round_takes
    }

    /// What the scrubber does now.
    pub(crate) fn scrubbing(&self) -> Scrubbing {
        *self.stop.scrubbing()
    }

    /// Asks for a pass of the scrubber now; it begins when what the thread does is done.
    pub(crate) fn start_scrub(&self, extent: ScrubExtent) {
        let mut scrubbing = self.stop.scrubbing();
        scrubbing.wanted = scrubbing.wanted.max(Some(extent));
        drop(scrubbing);
        self.stop.keeper.notify();
    }

    /// Whether the threads are about to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.stop.is_asked()
    }

    /// Tells everybody who asks that the threads are about to end.
    pub(crate) fn begin_to_close(&self) {
        self.stop.asked.store(true, Ordering::Release);
    }

    /// Ends the threads. Waits for them.
    pub(crate) fn close(&self) {
        self.begin_to_close();
        self.stop.collector.notify();
        self.stop.keeper.notify();
        self.store.local().collection_wanted();
        let threads = std::mem::take(&mut *self.threads.lock().expect("no holder panics"));
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// Takes a snapshot of the index now, and waits for it.
    pub(crate) fn take_snapshot(&self) -> Result<SnapshotInfo> {
        let (answer, receiver) = oneshot::channel();
        self.stop
            .snapshots
            .lock()
            .expect("no holder panics")
            .push(answer);
        self.stop.keeper.notify();
        let closed = |_| Error::new(ErrorKind::ServiceUnavailable, "The store is being closed.");
        receiver.blocking_recv().map_err(closed)?
    }
}

fn run_collector(store: &LocalStore, mut collector: Collector, stop: &Stop, every: Duration) {
    let mut swept: Option<Instant> = None;
    while !stop.is_asked() {
        let sweep = swept.is_none_or(|at| at.elapsed() >= every);
        collector.begin(sweep);
        loop {
            match collector.step(&mut |transactions| store.commit_all(transactions)) {
                Ok(true) if !stop.is_asked() => {}
                Ok(_) => {
                    swept = if sweep { Some(Instant::now()) } else { swept };
                    break;
                }
                // On a full disk it comes again soon.
                Err(error) if error.kind() == ErrorKind::InsufficientStorage => break,
                Err(error) => {
                    tracing::warn!(%error, "the collector could not finish its pass");
                    break;
                }
            }
        }
        // Frees come in crowds: one pass takes them all.
        stop.collector.wait(COLLECT_PAUSE);
        store.local().wait_for_collection(every);
    }
}

/// The thread of scrubber and snapshots.
struct Keeper {
    store: Arc<LocalStore>,
    snapshotter: Snapshotter,
    scrubber: Scrubber,
    config: UpkeepConfig,
    stop: Arc<Stop>,
}

impl Keeper {
    fn run(mut self) {
        self.look_at_the_index();
        self.look_for_all_bodies();
        let mut next_scrub = Instant::now() + self.config.first_scrub_after;
        let mut next_snapshot = Instant::now() + self.config.snapshot_every;
        if self.is_log_cut() {
            next_snapshot = Instant::now();
        }
        while !self.stop.is_asked() {
            let now = Instant::now();
            if self.begin_wanted_scrub() {
                next_scrub = now + self.config.scrub_every;
            }
            self.stop.scrubbing().next = Some(next_scrub);
            if now >= next_snapshot
                || self.is_log_long()
                || self.is_snapshot_wanted()
                || self.does_log_take_room()
            {
                next_snapshot = now
                    + match self.take_snapshot() {
                        true => self.config.snapshot_every,
                        false => AFTER_FAILURE.min(self.config.snapshot_every),
                    };
            } else if now >= next_scrub {
                match self.scrubber.pass() {
                    None => self.begin_scrub(ScrubExtent::Share),
                    // It was asked for, and takes what it takes.
                    Some(pass) if pass.extent == ScrubExtent::Everything => {}
                    Some(_) => tracing::warn!(
                        "scrub: a pass takes longer than the time between two; it goes on"
                    ),
                }
                next_scrub = now + self.config.scrub_every;
            }
            if !self.scrub_on() {
                let next = next_scrub.min(next_snapshot).duration_since(now);
                self.stop.keeper.wait(next.min(NAP));
            }
        }
    }

    /// After a start: the index hides nothing. Else it would answer for an hour before a snapshot tells.
    fn look_at_the_index(&mut self) {
        let local = self.store.local().clone();
        let mut walk = match AuditWalk::begin(&local) {
            Ok(walk) => walk,
            Err(error) => return tracing::warn!(%error, "the index could not be looked at"),
        };
        while !self.stop.is_asked() {
            match walk.step() {
                Ok(None) => drop(self.stop.keeper.wait(Duration::from_millis(1))),
                Ok(Some(findings)) if findings.is_empty() => return,
                Ok(Some(findings)) => return self.index_is_damaged(&findings.join("; ")),
                Err(error) => return tracing::warn!(%error, "the index could not be looked at"),
            };
        }
    }

    /// The next start makes the index anew; until then nothing is decided on what it says.
    fn index_is_damaged(&self, why: &str) {
        let local = self.store.local();
        local.index_is_damaged(why);
        // Made anew a moment ago and wrong again, it is not the disk's fault: going on is better then.
        if local.rebuilt().is_none() {
            local.stop("the index is damaged: restart to make it anew");
        }
    }

    /// After a start: whatever the last one left, every object has its bytes or goes to quarantine.
    fn look_for_all_bodies(&mut self) {
        if let Err(error) = self.scrubber.begin(ScrubExtent::Presence) {
            tracing::warn!(%error, "the bodies could not be looked for");
            return;
        }
        let mut steps = 0;
        while !self.stop.is_asked() {
            match self.step_scrubber() {
                Some(_) => steps += 1,
                None => return,
            }
            if steps % STEPS_AT_ONCE == 0 {
                self.stop.keeper.wait(Duration::from_millis(1));
            }
        }
    }

    /// Begins the pass that was asked for, unless one that checks as much is under way. False when none was to begin.
    fn begin_wanted_scrub(&mut self) -> bool {
        let Some(wanted) = self.stop.scrubbing().wanted else {
            return false;
        };
        let is_to_begin = self.scrubber.pass().is_none_or(|pass| pass.extent < wanted);
        if is_to_begin {
            self.begin_scrub(wanted);
        }
        let mut scrubbing = self.stop.scrubbing();
        // Unless more was asked for meanwhile.
        if scrubbing.wanted == Some(wanted) {
            scrubbing.wanted = None;
        }
        is_to_begin
    }

    fn begin_scrub(&mut self, extent: ScrubExtent) {
        if let Err(error) = self.scrubber.begin(extent) {
            tracing::warn!(%error, "scrub: the pass could not be begun");
        }
        self.stop.scrubbing().pass = self.scrubber.pass();
    }

    /// Scrubs for about a nap at the pace that is set. False when there is nothing to scrub now.
    fn scrub_on(&mut self) -> bool {
        let began = Instant::now();
        let mut read = 0;
        while began.elapsed() < NAP && !self.stop.is_asked() {
            match self.step_scrubber() {
                Some(bytes) => read += bytes,
                None => return false,
            }
            let Some(rate) = self.config.scrub_bytes_per_second else {
                continue;
            };
            let due = Duration::from_secs_f64(read as f64 / rate as f64);
            if let Some(ahead) = due.checked_sub(began.elapsed())
                && ahead > Duration::from_millis(5)
            {
                self.stop.keeper.wait(ahead.min(NAP));
                break;
            }
        }
        true
    }

    fn step_scrubber(&mut self) -> Option<u64> {
        let store = &self.store;
        let stepped = self
            .scrubber
            .step(&mut |transactions| store.commit_all(transactions));
        self.stop.scrubbing().pass = self.scrubber.pass();
        match stepped {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "scrub: the pass could not be finished");
                None
            }
        }
    }

    /// There is no snapshot, and the log does not go back to its beginning: a lost index could not be made anew.
    fn is_log_cut(&self) -> bool {
        let local = self.store.local();
        local.snapshot().is_none() && !local.has_whole_log()
    }

    /// The disk is full, and log files are kept that nothing but the next snapshot would need.
    fn does_log_take_room(&self) -> bool {
        let local = self.store.local();
        local.full().is_some() && local.first_needed_pack() < local.applied().pack
    }

    fn is_log_long(&self) -> bool {
        let local = self.store.local();
        let applied = local.applied().pack;
        let behind = applied.saturating_sub(local.snapshot().map_or(0, |snapshot| snapshot.pack));
        u64::from(behind) * local.config.pack_bytes >= self.config.snapshot_log_bytes
    }

    fn is_snapshot_wanted(&self) -> bool {
        !self
            .stop
            .snapshots
            .lock()
            .expect("no holder panics")
            .is_empty()
    }

    /// Takes a snapshot, unless nothing has changed since the last one. True when the newest one is of now.
    fn take_snapshot(&mut self) -> bool {
        let wanted = std::mem::take(&mut *self.stop.snapshots.lock().expect("no holder panics"));
        let local = self.store.local();
        local.apply_now();
        if local.applied().pack == 0 && wanted.is_empty() {
            return true;
        }
        let is_new = local
            .snapshot()
            .is_none_or(|snapshot| snapshot.applied_lsn < local.applied().lsn);
        if wanted.is_empty() && !is_new {
            return true;
        }
        let taken = self.try_snapshot();
        match &taken {
            Ok(info) => {
                tracing::info!(
                    name = info.name,
                    rows = info.rows,
                    "a snapshot of the index was taken"
                );
                // What only the one before it needed can go.
                self.store.local().collection_wanted();
            }
            Err(error) if error.kind() == ErrorKind::InsufficientStorage => {
                self.store.local().waive_snapshot();
            }
            Err(_) if self.stop.is_asked() => {
                tracing::debug!("the snapshot of the index is given up: the store is being closed");
            }
            Err(error) => tracing::error!(%error, "a snapshot of the index could not be taken"),
        }
        let is_taken = taken.is_ok();
        for answer in wanted {
            let told = match &taken {
                Ok(info) => Ok(info.clone()),
                Err(error) => Err(Error::new(error.kind(), error.to_string())),
            };
            let _ = answer.send(told);
        }
        is_taken
    }

    fn try_snapshot(&mut self) -> Result<SnapshotInfo> {
        self.snapshotter.begin()?;
        while !self.stop.is_asked() {
            match self.snapshotter.step()? {
                Step::More => {}
                Step::Done(info) => return Ok(info),
                Step::Damaged(why) => {
                    self.index_is_damaged(&why);
                    return Err(Error::new(
                        ErrorKind::InternalError,
                        format!("The index is damaged: {why}."),
                    ));
                }
            }
        }
        Err(Error::new(
            ErrorKind::ServiceUnavailable,
            "The store is being closed.",
        ))
    }
}

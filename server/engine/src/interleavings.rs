//! What threads may do to each other, by the crate shuttle: it runs the threads of a test one at a time, and
//! changes to another one at each lock, wait and verb of the disk as a seed says. A test looks at thousands of
//! orders, the same ones in every run; one that fails is printed and can be played again.
//!
//! ```text
//! JAY_SHUTTLE=1 cargo test --profile ci -p jay-engine --features shuttle --lib interleavings
//! ```
//!
//! `JAY_SCHEDULES` says how many orders of each kind a test looks at. Each property also names the races of
//! [`Race`] that break it; those are planted, and must be found. The other tests of the crate do not run in
//! such a build: its locks exist only within an execution of shuttle.
//!
//! Absent: power cuts at any moment (see `simulation`) and weak memory, of which the engine has nothing but a flag.

mod collector;
mod files;
mod overlay;
mod queue;

use std::{
    any::Any,
    cell::RefCell,
    io,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Once,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    rand::Rng,
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
};

use crate::{
    disk::{Disk, DiskFile, simulated::SimulatedDisk},
    env::Env,
    meta::{
        Change, Transaction,
        key::{AccountId, Key},
        local::{
            LocalConfig, format,
            recovery::{self, Opened},
        },
        record::Record,
    },
    simulation::environment,
    sync::{self, Race},
};

/// Orders of each kind that a test looks at.
const SCHEDULES: usize = 2000;
/// Orders of each kind among which a planted race must show; most do in one of the first ten.
const SCHEDULES_TO_FIND: usize = 1000;
/// Stack of a thread; redb needs more than shuttle gives.
const STACK_BYTES: usize = 512 << 10;
/// Changes of thread after which a test is taken for one that never ends.
const STEPS_MAX: usize = 100_000;
/// Of a race in the second kind of orders: one more than the changes of priority that it needs. Deeper ones are rare.
const DEPTH: usize = 3;

/// Looks at many orders of the threads of `life`, which fails by a panic or by sleeping for ever.
fn check(life: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("JAY_SCHEDULES").map_or(SCHEDULES, |text| {
        text.parse().expect("JAY_SCHEDULES is a number")
    });
    let life = Arc::new(life);
    look(random(schedules), life.clone());
    look(pct(schedules), life);
}

/// Holds that `life` fails with `race`, saying `how`, so that we know it can.
fn must_find(race: Race, how: &str, life: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = orders.clone();
    let life = Arc::new(move || {
        counted.fetch_add(1, Relaxed);
        life();
    });
    listen();
    let found_by = |look: &dyn Fn()| {
        sync::plant(Some(race));
        let is_found = catch_unwind(AssertUnwindSafe(look)).is_err();
        sync::plant(None);
        is_found
    };
    // Most races need few changes of thread, at the right moments: the second kind of orders finds them sooner.
    let is_found = found_by(&|| look(pct(SCHEDULES_TO_FIND), life.clone()))
        || found_by(&|| look(random(SCHEDULES_TO_FIND), life.clone()));
    assert!(is_found, "{race:?} was not found");
    let (orders, said) = (orders.load(Relaxed), SAID.take().unwrap_or_default());
    println!("{race:?} was found after {orders} orders: {said}");
    assert!(
        said.contains(how),
        "{race:?} was found by what it does not do: {said}"
    );
}

thread_local! {
    /// What the first thread to fail said; shuttle hands on what the last one did.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let said = || panic.payload_as_str().unwrap_or_default().to_owned();
            SAID.with_borrow_mut(|first| first.get_or_insert_with(said).len());
            told(panic);
        }));
    });
    SAID.take();
}

fn random(schedules: usize) -> RandomScheduler {
    RandomScheduler::new_from_seed(1, schedules)
}

fn pct(schedules: usize) -> PctScheduler {
    PctScheduler::new_from_seed(2, DEPTH, schedules)
}

fn look(scheduler: impl Scheduler + 'static, life: Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.failure_persistence = FailurePersistence::Print;
    config.silence_warnings = true;
    config
        .ungraceful_shutdown_config
        .immediately_return_on_panic = true;
    Runner::new(scheduler, config).run(move || life());
}

/// A number below `n`, by the seed of the order.
fn below(n: usize) -> usize {
    shuttle::rand::thread_rng().gen_range(0..n)
}

/// A small store, whose threads (if it has any) wait for being woken, not for the clock.
fn config() -> LocalConfig {
    let never = std::time::Duration::from_secs(3600);
    LocalConfig {
        seal_after: never,
        apply_after: never,
        ..LocalConfig::small()
    }
}

/// Its time goes by with looks alone: no disk here is slow.
fn env() -> Env {
    environment::env(1, &SimulatedDisk::new(1))
}

fn open(disk: Arc<SimulatedDisk>, config: LocalConfig) -> Opened {
    recovery::open(Arc::new(RestlessDisk(disk)), config, env()).expect("nothing disturbs it")
}

/// A disk with a store that `fill` has written to, made once for all orders.
fn prepared(fill: impl Fn(&mut Opened) + Send + Sync + 'static) -> Arc<SimulatedDisk> {
    let disk = SimulatedDisk::new(1);
    let fresh = disk.clone();
    let life = move || fill(&mut open(fresh.clone(), config()));
    look(random(1), Arc::new(life));
    disk
}

/// Puts or deletes rows that nothing follows from.
fn rows(rows: &[(&str, Option<usize>)]) -> Transaction {
    let change = |&(name, number): &(&str, Option<usize>)| Change {
        key: row(name),
        record: number.map(|number| Record::AccountName(AccountId(number as u128))),
    };
    Transaction::of(rows.iter().map(change).collect())
}

fn row(name: &str) -> Key {
    Key::AccountName(name.into())
}

fn number(record: &Record) -> usize {
    match record {
        Record::AccountName(AccountId(number)) => *number as usize,
        other => panic!("{other:?} was never put"),
    }
}

/// A disk before each of whose verbs another thread may run; not before those on the index, as redb has locks
/// of its own that shuttle knows nothing of.
struct RestlessDisk(Arc<SimulatedDisk>);

struct RestlessFile(Arc<dyn DiskFile>);

impl RestlessDisk {
    fn opened(
        &self,
        path: &str,
        file: io::Result<Arc<dyn DiskFile>>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        match path {
            format::INDEX => file,
            _ => file.map(|file| Arc::new(RestlessFile(file)) as Arc<dyn DiskFile>),
        }
    }

    fn disk(&self) -> &SimulatedDisk {
        sync::point();
        &self.0
    }
}

impl Disk for RestlessDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk().create_dir(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.disk().remove_dir(path)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.opened(path, self.disk().open(path))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.opened(path, self.disk().create(path))
    }

    fn create_unnamed(&self, dir: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.opened(dir, self.disk().create_unnamed(dir))
    }

    fn link(&self, file: &dyn DiskFile, path: &str) -> io::Result<()> {
        let RestlessFile(file) = file.as_any().downcast_ref().expect("this disk made it");
        self.disk().link(&**file, path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.disk().unlink(path)
    }

    /// Others may run behind it too: what they change then, it does not cover.
    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let synced = self.disk().sync_dir(path);
        sync::point();
        synced
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<String>> {
        self.disk().read_dir(path)
    }
}

impl RestlessFile {
    fn file(&self) -> &dyn DiskFile {
        sync::point();
        &*self.0
    }
}

impl DiskFile for RestlessFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file().read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file().write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.file().sync_data();
        sync::point();
        synced
    }

    fn len(&self) -> io::Result<u64> {
        self.file().len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file().set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file().allocate(len)
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.file().start_writeback(offset, len);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

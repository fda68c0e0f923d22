//! Reads while rows move from the overlay into the index: who reads sees every row that was acknowledged
//! before, and never an older state than before. The committer decides on the newest rows likewise.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use shuttle::thread;

use super::{check, config, must_find, number, open, prepared, row, rows};
use crate::{
    disk::simulated::SimulatedDisk,
    meta::{
        CommitError, Precondition, Transaction,
        key::Key,
        local::{Local, recovery::Opened},
    },
    sync::Race,
};

const WRITES: usize = 3;
const READS: usize = 3;
const STEPS: usize = 3;

/// How far the writer is. No matter for the order of threads: the standard library's.
#[derive(Default)]
struct Written {
    begun: AtomicUsize,
    acknowledged: AtomicUsize,
}

/// The `n`th state: "count" is n, "odd" is there when n is odd, "always" is there.
fn write(opened: &mut Opened, n: usize) {
    let odd = (n % 2 == 1).then_some(n);
    let transaction = rows(&[("count", Some(n)), ("odd", odd)]);
    let answers = opened.committer.commit(vec![transaction]);
    assert_eq!(answers, [Ok(())]);
}

/// Looks up or scans; holds what is found against what was acknowledged before and begun by then.
struct Reader {
    local: Arc<Local>,
    written: Arc<Written>,
    seen: usize,
}

impl Reader {
    /// The states that the reader may see, having asked `read` for something.
    fn between<T>(&self, read: impl FnOnce(&Local) -> T) -> (std::ops::RangeInclusive<usize>, T) {
        let low = self.written.acknowledged.load(SeqCst);
        let read = read(&self.local);
        (low..=self.written.begun.load(SeqCst), read)
    }

    fn saw(&mut self, possible: &std::ops::RangeInclusive<usize>, count: Option<usize>) {
        let count = count.expect("the row is always there");
        assert!(possible.contains(&count), "{count} of {possible:?}");
        assert!(count >= self.seen, "{count} after {}", self.seen);
        self.seen = count;
    }

    fn look(&mut self) {
        let get = |name: &'static str| {
            move |local: &Local| local.get(&row(name)).unwrap().map(|found| number(&found))
        };
        let (possible, count) = self.between(get("count"));
        self.saw(&possible, count);
        let (possible, odd) = self.between(get("odd"));
        may_be(&possible, odd);
        assert!(get("always")(&self.local).is_some());
    }

    fn scan(&mut self) {
        let (from, to) = (row("").encode(), row("z").encode());
        let (possible, rows) = self.between(|local| local.scan(&from, Some(&to), 10).unwrap());
        let of = |name: &str| {
            let found = rows.rows.iter().find(|(key, _)| *key == row(name).encode());
            found.map(|(_, record)| number(record))
        };
        self.saw(&possible, of("count"));
        may_be(&possible, of("odd"));
        assert!(of("always").is_some());
    }
}

fn may_be(possible: &std::ops::RangeInclusive<usize>, odd: Option<usize>) {
    let mut possible_rows = possible.clone().map(|n| (n % 2 == 1).then_some(n));
    assert!(
        possible_rows.any(|row| row == odd),
        "{odd:?} of {possible:?}"
    );
}

fn reads(disk: &SimulatedDisk) {
    let Opened {
        local,
        committer,
        mut applier,
    } = open(disk.fork(1), config());
    let written = Arc::new(Written::default());
    let mut threads = Vec::new();
    for scans in [false, true] {
        let mut reader = Reader {
            local: local.clone(),
            written: written.clone(),
            seen: 0,
        };
        threads.push(thread::spawn(move || {
            for _ in 0..READS {
                if scans { reader.scan() } else { reader.look() }
            }
        }));
    }
    threads.push(thread::spawn(move || {
        for _ in 0..STEPS {
            applier.step().unwrap();
        }
    }));
    let applier = crate::meta::local::applier::Applier::new(local.clone());
    let mut opened = Opened {
        local,
        committer,
        applier,
    };
    for n in 1..=WRITES {
        written.begun.store(n, SeqCst);
        write(&mut opened, n);
        written.acknowledged.store(n, SeqCst);
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
}

fn store() -> Arc<SimulatedDisk> {
    prepared(|opened| {
        let transaction = rows(&[("always", Some(0)), ("count", Some(0))]);
        assert_eq!(opened.committer.commit(vec![transaction]), [Ok(())]);
        opened.applier.step().unwrap();
    })
}

fn readers() -> impl Fn() + Send + Sync + 'static {
    let disk = store();
    move || reads(&disk)
}

/// Rows that may be put once are put twice, while they move into the index.
fn decisions(disk: &SimulatedDisk) {
    let Opened {
        mut committer,
        mut applier,
        ..
    } = open(disk.fork(1), config());
    let applying = thread::spawn(move || {
        for _ in 0..STEPS {
            applier.step().unwrap();
        }
    });
    for n in 0..WRITES {
        let name = format!("row {n}");
        let put = || Transaction {
            requires: vec![Precondition::Absent(Key::AccountName(name.clone()))],
            ..rows(&[(&name, Some(n))])
        };
        assert_eq!(committer.commit(vec![put()]), [Ok(())]);
        let again = committer.commit(vec![put()]);
        assert_eq!(again, [Err(CommitError::Refused(0))], "put twice");
    }
    applying.join().expect("no panic");
}

fn decider() -> impl Fn() + Send + Sync + 'static {
    let disk = store();
    move || decisions(&disk)
}

#[test]
fn readers_see_what_was_acknowledged_and_never_less_than_before() {
    check(readers());
}

#[test]
fn a_reader_who_begins_with_the_index_is_found() {
    must_find(Race::IndexFirst, " of ", readers());
}

#[test]
fn a_generation_dropped_too_early_is_found() {
    must_find(Race::DropFirst, " of ", readers());
}

#[test]
fn the_committer_decides_on_the_newest_rows() {
    check(decider());
}

#[test]
fn a_freeze_amid_a_decision_is_found() {
    must_find(Race::FreezeAnyTime, "put twice", decider());
}

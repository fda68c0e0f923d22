//! The queue in front of the committer, with all threads of the store: whoever comes, whenever it closes, each
//! transaction is answered, and what one thread pushes is committed in its order.

use std::{sync::Arc, time::Duration};

use shuttle::{
    future::block_on,
    thread::{self, JoinHandle},
};

use super::{below, check, config, env, must_find, number, open, prepared, row, rows};
use crate::{
    disk::simulated::{SimulatedDisk, Survival},
    meta::{
        CommitError, MetaStore, Precondition, Transaction,
        local::{Local, LocalConfig, recovery, runtime::LocalStore},
    },
    sync::{self, Race},
};

const PUSHERS: [&str; 3] = ["a", "b", "c"];
/// Transactions of each pusher.
const PUSHED: usize = 3;

/// The `i`th transaction of a pusher: possible when those before it are committed.
fn transaction(name: &str, i: usize) -> Transaction {
    let is_first = i == 0;
    let before = rows(&[(name, i.checked_sub(1))]).changes.remove(0);
    let requires = match before.record {
        None if is_first => Precondition::Absent(before.key),
        record => Precondition::Is(before.key, Box::new(record.expect("behind the first"))),
    };
    Transaction {
        requires: vec![requires],
        ..rows(&[(name, Some(i))])
    }
}

/// Pushes all at once or each when the one before it is answered.
fn push(store: &LocalStore, name: &str) -> Vec<Result<(), CommitError>> {
    let mut transactions: Vec<_> = (0..PUSHED).map(|i| transaction(name, i)).collect();
    match below(3) {
        0 => store.commit_all(transactions),
        1 => {
            // Two in the queue, by the way that counts their bytes.
            let last = transactions.pop().expect("there are some");
            let waiting: Vec<_> = transactions.into_iter().map(|t| store.commit(t)).collect();
            let mut answers: Vec<_> = waiting.into_iter().map(block_on).collect();
            answers.push(block_on(store.commit(last)));
            answers
        }
        _ => transactions
            .into_iter()
            .map(|t| block_on(store.commit(t)))
            .collect(),
    }
}

/// Some are committed, in order, and all behind those are refused because the store is closed or has stopped.
fn committed(answers: &[Result<(), CommitError>]) -> usize {
    assert_eq!(answers.len(), PUSHED);
    let committed = answers.iter().take_while(|answer| answer.is_ok()).count();
    for answer in &answers[committed..] {
        assert!(
            matches!(answer, Err(CommitError::Stopped(_))),
            "{answers:?}"
        );
    }
    committed
}

fn small() -> LocalConfig {
    // Some idle stores seal at once, others are asleep; batches and the overlay hold little.
    let seal_after = [Duration::from_millis(5), config().seal_after][below(2)];
    LocalConfig {
        seal_after,
        batch_count_max: 1 + below(3),
        queue_bytes_max: 2 << 10,
        overlay_bytes_max: 300 + 300 * below(4),
        ..config()
    }
}

/// Pushers at work, each of whom ends with how many of his transactions were committed.
fn begin(store: &Arc<LocalStore>) -> Vec<JoinHandle<usize>> {
    let begin = |name| {
        let store = store.clone();
        thread::spawn(move || committed(&push(&store, name)))
    };
    PUSHERS.map(begin).into()
}

fn end(pushers: Vec<JoinHandle<usize>>) -> Vec<usize> {
    let ends = pushers.into_iter().map(|pusher| pusher.join());
    ends.map(|end| end.expect("no panic")).collect()
}

/// How many transactions of each pusher can be read.
fn found(local: &Local) -> Vec<usize> {
    let found = PUSHERS.map(|name| local.get(&row(name)).expect("the index can be read"));
    let counted = found.map(|found| found.map_or(0, |found| number(&found) + 1));
    counted.into()
}

/// A store that is closed behind its pushers, so that its end wakes nobody who should have been woken before, or
/// amid them.
fn close(disk: &SimulatedDisk) {
    let disk = disk.fork(1);
    let store = LocalStore::start(open(disk.clone(), small())).expect("threads start");
    let pushers = begin(&store);
    let committed = if below(2) == 0 {
        let committed = end(pushers);
        assert_eq!(committed, [PUSHED; PUSHERS.len()]);
        store.close();
        committed
    } else {
        (0..below(100)).for_each(|_| sync::point());
        store.close();
        end(pushers)
    };
    assert_eq!(store.stopped(), None);
    assert_eq!(store.local().waiting_rows(), 0, "all is in the index");
    assert_eq!(found(store.local()), committed);
    if below(8) == 0 {
        drop(store);
        let opened = recovery::open(disk, config(), env()).expect("it was closed in order");
        assert_eq!(found(&opened.local), committed);
    }
}

/// A store whose log or index cannot be synced once. The power goes when everybody has his answer.
fn fail(disk: &SimulatedDisk) {
    let disk = disk.fork(1);
    let opened = open(disk.clone(), small());
    disk.fail_sync_after(1 + below(12) as u64);
    let store = LocalStore::start(opened).expect("threads start");
    let committed = end(begin(&store));
    let is_whole = committed == [PUSHED; PUSHERS.len()];
    assert!(
        is_whole || store.stopped().is_some(),
        "refused without a reason"
    );
    let left = disk.fork(1);
    left.crash_as(Survival::Nothing);
    store.close();
    let opened = recovery::open(left, config(), env()).expect("a failed sync is no damage");
    let found = found(&opened.local);
    let is_kept = |(found, committed): (&usize, &usize)| found >= committed;
    assert!(
        found.iter().zip(&committed).all(is_kept),
        "{committed:?} were acknowledged, {found:?} are there"
    );
}

fn closing() -> impl Fn() + Send + Sync + 'static {
    let disk = prepared(|_| ());
    move || close(&disk)
}

#[test]
fn each_transaction_is_answered_and_in_order() {
    check(closing());
}

#[test]
fn each_transaction_is_answered_when_the_disk_fails() {
    let disk = prepared(|_| ());
    check(move || fail(&disk));
}

#[test]
fn a_committer_that_is_not_told_is_found() {
    must_find(Race::ArriveUnheard, "deadlock", closing());
}

#[test]
fn a_transaction_behind_the_end_is_found() {
    must_find(Race::ArriveLate, "deadlock", closing());
}

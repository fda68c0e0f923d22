use std::sync::Arc;

use bytes::Bytes;

use crate::{
    disk::{
        Disk, is_full,
        simulated::{Faults, SimulatedDisk},
    },
    env::Env,
    meta::{
        Body, Change, CommitError, Transaction,
        key::{AccountId, BlobId, BucketId, Key},
        local::{
            LocalConfig,
            index::{self, Index},
            overlay::Generation,
            packs,
            recovery::{self, Opened},
            space::BALLAST,
        },
        record::{BucketRecord, Checkpoint, Location, Record, sample},
    },
    types::Timestamp,
};

/// Nothing more fits on the disk.
fn full() -> Faults {
    Faults {
        full_on_write: 1_000_000,
        full_on_allocate: 1_000_000,
        full_on_create: 1_000_000,
        ..Faults::default()
    }
}

const BUCKET: BucketId = BucketId(1);

fn config() -> LocalConfig {
    LocalConfig {
        ballast_bytes: 16 << 10,
        ..LocalConfig::small()
    }
}

fn open(disk: &Arc<SimulatedDisk>) -> Opened {
    recovery::open(disk.clone(), config(), Env::real()).unwrap()
}

fn create_bucket(name: &str) -> Transaction {
    let record = BucketRecord::new(BUCKET, AccountId(7), Timestamp(1));
    Transaction::of(vec![Change::put(
        Key::Bucket(name.into()),
        Record::Bucket(record),
    )])
}

fn put(key: &str, bytes: usize) -> Transaction {
    let record = sample::object(bytes as u64, Location::Here);
    Transaction {
        changes: vec![Change::put(object(key), Record::Object(Box::new(record)))],
        body: Some(Body::new(Bytes::from(vec![7; bytes]))),
        ..Transaction::default()
    }
}

fn delete(key: &str) -> Transaction {
    Transaction::of(vec![Change::delete(object(key))])
}

fn object(key: &str) -> Key {
    Key::Object(BUCKET, key.into())
}

fn is_refused(answer: &Result<(), CommitError>) -> bool {
    matches!(answer, Err(CommitError::Full(_)))
}

/// A store with a bucket and three objects, and its reserve.
fn store(disk: &Arc<SimulatedDisk>) -> Opened {
    let mut store = open(disk);
    let transactions = vec![create_bucket("b"), put("1", 10), put("2", 10), put("3", 10)];
    let answers = store.committer.commit(transactions);
    assert_eq!(answers, [Ok(()), Ok(()), Ok(()), Ok(())]);
    assert!(store.applier.step().unwrap());
    assert!(store.local.prepare_pack().unwrap());
    assert!(!store.local.prepare_pack().unwrap());
    store
}

fn has_ballast(disk: &SimulatedDisk) -> bool {
    disk.live_files().iter().any(|path| path == BALLAST)
}

#[test]
fn a_full_index_makes_the_store_short_until_the_reserve_is_back() {
    let disk = SimulatedDisk::new(1);
    let mut store = store(&disk);
    assert_eq!(disk.open(BALLAST).unwrap().len().unwrap(), 16 << 10);
    store
        .committer
        .commit(vec![put("4", 10)])
        .remove(0)
        .unwrap();

    disk.set_faults(full());
    assert!(!store.applier.step().unwrap());
    assert!(store.local.stopped().is_none());
    assert!(
        store
            .local
            .full()
            .unwrap()
            .contains("no room for the index")
    );
    assert!(!has_ballast(&disk));
    // Growth is refused, deletes in the same batch are taken, rows are there from both sides.
    let answers =
        store
            .committer
            .commit(vec![put("5", 10), delete("1"), put("6", 10), delete("4")]);
    assert!(
        is_refused(&answers[0]) && is_refused(&answers[2]),
        "{answers:?}"
    );
    assert_eq!((&answers[1], &answers[3]), (&Ok(()), &Ok(())));
    let has = |store: &Opened, key| store.local.get(&object(key)).unwrap().is_some();
    assert!(!has(&store, "1") && has(&store, "2") && !has(&store, "4") && !has(&store, "5"));
    // What the collector moves is taken, too, while there is a log file to spare.
    let moved = Transaction {
        upkeep: true,
        ..put("2", 10)
    };
    assert_eq!(store.committer.commit(vec![moved]), [Ok(())]);

    disk.set_faults(Faults::default());
    // Rows still wait for the index, which comes before the ballast.
    store.local.prepare_pack().unwrap();
    assert!(store.local.full().is_some() && !has_ballast(&disk));
    assert!(store.applier.step().unwrap());
    store.local.prepare_pack().unwrap();
    assert!(store.local.full().is_none() && has_ballast(&disk));
    store
        .committer
        .commit(vec![put("5", 10)])
        .remove(0)
        .unwrap();
    while store.applier.step().unwrap() {}
    drop(store);
    let store = open(&disk);
    assert!(!has(&store, "1") && has(&store, "2") && has(&store, "5"));
}

#[test]
fn a_log_without_room_refuses_and_goes_on_elsewhere() {
    let disk = SimulatedDisk::new(1);
    let mut store = store(&disk);
    // Longer than a pack, and so beyond what is reserved.
    let long = || put("long", 100 << 10);
    disk.set_faults(full());
    let answers = store.committer.commit(vec![long(), delete("1")]);
    assert!(is_refused(&answers[0]) && answers[1].is_ok(), "{answers:?}");
    assert!(store.local.stopped().is_none());
    for _ in 0..30 {
        // Until there is no room for deletes either.
        store.committer.commit(vec![delete("2")]);
    }
    let answers = store.committer.commit(vec![delete("3")]);
    assert!(is_refused(&answers[0]), "{answers:?}");

    disk.set_faults(Faults::default());
    store.local.prepare_pack().unwrap();
    let answers = store.committer.commit(vec![delete("3"), long()]);
    assert_eq!(answers, [Ok(()), Ok(())]);
    disk.crash();
    drop(store);
    let store = open(&disk);
    let keys = ["1", "2", "3", "long"].map(|key| store.local.get(&object(key)).unwrap().is_some());
    assert_eq!(keys, [false, false, false, true]);
}

/// Where a file system has no way to reserve space, a write into the log may find none.
#[test]
fn a_torn_batch_is_no_part_of_the_log() {
    let disk = SimulatedDisk::new(1);
    let mut store = open(&disk);
    let answers = store
        .committer
        .commit(vec![create_bucket("b"), put("0", 10)]);
    assert_eq!(answers, [Ok(()), Ok(())]);
    // As if nothing more of it were reserved.
    let at = store.committer.position();
    let file = disk.open(&packs::path(at.pack)).unwrap();
    file.set_len(at.offset).unwrap();
    disk.set_faults(Faults {
        full_on_write: 1_000_000,
        ..Faults::default()
    });
    let answers = store.committer.commit(vec![put("1", 3000), delete("0")]);
    assert!(is_refused(&answers[0]) && answers[1].is_ok(), "{answers:?}");
    assert!(store.local.stopped().is_none() && store.committer.position().pack > at.pack);
    disk.set_faults(Faults::default());
    store.local.prepare_pack().unwrap();
    assert_eq!(store.committer.commit(vec![put("2", 10)]), [Ok(())]);
    disk.crash();
    drop(store);
    let store = open(&disk);
    let keys = ["0", "1", "2"].map(|key| store.local.get(&object(key)).unwrap().is_some());
    assert_eq!(keys, [false, false, true]);
}

#[test]
fn a_start_on_a_full_disk_takes_the_ballast() {
    let disk = SimulatedDisk::new(1);
    drop(store(&disk));
    assert!(has_ballast(&disk));
    disk.set_faults(full());
    let refused = recovery::open(disk.clone(), config(), Env::real());
    assert!(refused.is_err() && !has_ballast(&disk));
    disk.set_faults(Faults::default());
    open(&disk);
}

#[test]
fn no_ballast_is_kept_when_none_is_wanted() {
    let disk = SimulatedDisk::new(1);
    drop(store(&disk));
    let config = LocalConfig {
        ballast_bytes: 0,
        ..config()
    };
    let store = recovery::open(disk.clone(), config, Env::real()).unwrap();
    store.local.prepare_pack().unwrap();
    assert!(!has_ballast(&disk) && store.local.full().is_none());
}

#[test]
fn an_index_is_read_although_there_is_no_room_to_open_it() {
    let disk = SimulatedDisk::new(1);
    let index = Index::open(disk.create("index").unwrap(), 1 << 20, [7; 16]).unwrap();
    let checkpoint = |applied_lsn| Checkpoint {
        applied_lsn,
        pack: 1,
        offset: 4096,
        hash: [0; 16],
        incarnation: 1,
        lowest_uncommitted: BlobId::default(),
    };
    let rows = |value: &[u8], n: u32| -> Generation {
        let row = |n: u32| (n.to_be_bytes().to_vec(), Some(Arc::from(value)));
        (0..n).map(row).collect()
    };
    index.apply(&rows(b"old", 2000), &checkpoint(1)).unwrap();
    let look = index.begin_long_read().unwrap();
    let generation = index.generation();
    assert_eq!(index.long(&look, index::row_count).unwrap(), 2001);

    disk.set_faults(full());
    for _ in 0..2 {
        let error = index
            .apply(&rows(b"new", 2000), &checkpoint(2))
            .unwrap_err();
        assert!(is_full(&index::disk_failure(&error).unwrap()), "{error}");
        index.reopen().unwrap();
        let (all, _) = index.look(|read| read.range(&[0], None, 2000)).unwrap();
        assert!(all.iter().all(|(_, value)| value == b"old") && all.len() > 1000);
        assert_eq!(index.checkpoint().unwrap(), Some(checkpoint(1)));
    }
    assert_ne!(index.generation(), generation);
    let over = index.long(&look, index::row_count).unwrap_err();
    assert_eq!(over.kind(), crate::ErrorKind::OperationAborted);
    disk.set_faults(Faults::default());
    index.apply(&rows(b"new", 2000), &checkpoint(2)).unwrap();
    drop(index);
    let index = Index::open(disk.open("index").unwrap(), 1 << 20, [7; 16]).unwrap();
    let key = 1999u32.to_be_bytes();
    let found = index.look(|read| read.get(&key)).unwrap();
    assert_eq!(found.as_deref(), Some(&b"new"[..]));
    assert_eq!(index.checkpoint().unwrap(), Some(checkpoint(2)));
}

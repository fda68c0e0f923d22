//! The collector beside readers and writers. Who reads gets the right bytes or looks again; what he holds stays
//! until he lets go of it, and goes then without anybody asking.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use bytes::Bytes;
use shuttle::thread;

use super::{check, config, files, must_find, open, prepared, rows};
use crate::{
    blob::BlobStore,
    disk::simulated::SimulatedDisk,
    maintenance::gc::Collector,
    meta::{
        Body, Change, CommitError, Precondition, Transaction,
        key::{AccountId, BlobId, BucketId, Key, after_prefix, tag},
        local::{Local, committer::Committer, packs::Packs, recovery::Opened},
        record::{BucketRecord, Location, ObjectRecord, PartRecord, PartSet, Record, sample},
    },
    sync::{Mutex, Race},
    types::{Timestamp, UploadId},
};

const BUCKET: BucketId = BucketId(1);
const UPLOAD: UploadId = UploadId(9);
const READS: usize = 2;
const NEVER: std::time::Duration = std::time::Duration::from_secs(3600);

/// What the threads of a test share.
struct Store {
    local: Arc<Local>,
    committer: Mutex<Committer>,
}

impl Store {
    /// Opens a copy of a prepared store and leaves its log files behind.
    fn open(disk: &SimulatedDisk) -> (Arc<SimulatedDisk>, Arc<Store>) {
        let disk = disk.fork(1);
        let mut opened = open(disk.clone(), config());
        commit(&mut opened, rows(&[("begun", Some(1))]));
        while opened.applier.step().unwrap() {}
        // So that old log files may go: no snapshot wants them.
        let checkpoint = opened.local.index().checkpoint().unwrap().unwrap();
        opened.local.set_snapshot(&checkpoint);
        let Opened {
            local, committer, ..
        } = opened;
        let committer = Mutex::new(committer);
        (disk, Arc::new(Store { local, committer }))
    }

    fn commit(&self, transaction: Transaction) -> Result<(), CommitError> {
        self.commit_all(vec![transaction]).remove(0)
    }

    fn commit_all(&self, transactions: Vec<Transaction>) -> Vec<Result<(), CommitError>> {
        self.committer
            .lock()
            .expect("no holder panics")
            .commit(transactions)
    }

    fn object(&self, key: &str) -> Option<ObjectRecord> {
        match self.local.get(&object_key(key)).unwrap() {
            Some(Record::Object(object)) => Some(*object),
            None => None,
            other => panic!("{other:?} is no object"),
        }
    }

    /// The bytes, or `None` when they are no longer there.
    fn read(&self, location: &Location, size: u64) -> Option<Bytes> {
        match location {
            Location::Pack { .. } => {
                let body = self.local.open_inline(location).unwrap()?;
                Some(body.read(size, 0..size).unwrap())
            }
            Location::File(id) => match self.local.files.open(*id, size) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                file => Some(file.unwrap().read(0..size).unwrap()),
            },
            other => panic!("no bytes at {other:?}"),
        }
    }

    /// Looks until the bytes are where the row says; holds them against the version that the row has.
    fn read_row(&self, key: &Key) -> u128 {
        let mut last = None;
        loop {
            let row = self.local.get(key).unwrap();
            let row = row.unwrap_or_else(|| panic!("{key:?} is lost"));
            let (location, size) = row.body().expect("of such a row");
            let version = row.version().expect("of such a row");
            if let Some(bytes) = self.read(location, size) {
                assert_eq!(bytes, body(version), "of version {version}");
                return version;
            }
            assert_ne!(last.as_ref(), Some(location), "nobody moved it");
            last = Some(location.clone());
        }
    }

    fn pass(&self, collector: &mut Collector, sweep: bool) {
        collector.begin(sweep);
        while collector
            .step(&mut |transactions| self.commit_all(transactions))
            .unwrap()
        {}
    }

    fn is_empty(&self, tag: u8) -> bool {
        let rows = self
            .local
            .scan(&[tag], after_prefix(&[tag]).as_deref(), 1)
            .unwrap();
        rows.rows.is_empty()
    }
}

fn commit(opened: &mut Opened, transaction: Transaction) {
    assert_eq!(opened.committer.commit(vec![transaction]), [Ok(())]);
}

fn object_key(key: &str) -> Key {
    Key::Object(BUCKET, key.into())
}

/// What the bytes of a version are.
fn body(version: u128) -> Bytes {
    Bytes::from(vec![version as u8; 100])
}

fn object(version: u128, size: u64, location: Location) -> Record {
    Record::Object(Box::new(ObjectRecord {
        version,
        ..sample::object(size, location)
    }))
}

fn part(version: u128, location: Location) -> Record {
    Record::Part(Box::new(PartRecord {
        version,
        ..sample::part(body(version).len() as u64, location)
    }))
}

fn upload() -> Record {
    Record::Upload(Box::new(sample::upload()))
}

fn put(key: &str, version: u128, bytes: Bytes) -> Transaction {
    let record = object(version, bytes.len() as u64, Location::Here);
    Transaction {
        changes: vec![Change::put(object_key(key), record)],
        body: Some(Body::new(bytes)),
        ..Transaction::default()
    }
}

/// Puts an object whose body is in a file; refused when `requires` do not hold.
fn put_file(local: &Local, key: &str, version: u128, requires: Vec<Precondition>) -> Transaction {
    let bytes = body(version);
    let blob = files::write(&local.files, &bytes).unwrap();
    let record = object(version, bytes.len() as u64, Location::File(blob.id()));
    Transaction {
        requires,
        changes: vec![Change::put(object_key(key), record)],
        blob: Some(blob),
        ..Transaction::default()
    }
}

fn delete(key: Key) -> Transaction {
    Transaction::of(vec![Change::delete(key)])
}

/// An object of a small part and a large one.
fn of_parts() -> Arc<SimulatedDisk> {
    with_bucket(|opened| {
        let upload_key = Key::Upload(BUCKET, "k".into(), UPLOAD);
        let blob = files::write(&opened.local.files, &body(2)).unwrap();
        let mut set = PartSet {
            id: UPLOAD,
            runs: Vec::new(),
        };
        set.push(1, 100);
        set.push(2, 100);
        commit(
            opened,
            Transaction {
                changes: vec![
                    Change::put(upload_key.clone(), upload()),
                    Change::put(Key::Part(UPLOAD, 1), part(1, Location::Here)),
                ],
                body: Some(Body::new(body(1))),
                ..Transaction::default()
            },
        );
        let large = part(2, Location::File(blob.id()));
        commit(
            opened,
            Transaction {
                changes: vec![
                    Change::put(Key::Part(UPLOAD, 2), large),
                    Change::put(object_key("k"), object(3, 200, Location::Parts(set))),
                    Change::delete(upload_key),
                ],
                blob: Some(blob),
                ..Transaction::default()
            },
        );
    })
}

/// Reads an object of parts as often as it is there.
fn read_parts(store: &Store) {
    let mut is_refused = false;
    for _ in 0..READS {
        let Some(object) = store.object("k") else {
            return;
        };
        assert!(!is_refused, "the parts of an object are not kept for it");
        let Some(hold) = store.local.hold_parts(UPLOAD).unwrap() else {
            is_refused = true;
            continue;
        };
        assert_eq!(object.size, 200);
        for number in [1, 2] {
            assert_eq!(store.read_row(&Key::Part(UPLOAD, number)), number.into());
        }
        drop(hold);
    }
}

fn holds(disk: &SimulatedDisk) {
    let (_, store) = Store::open(disk);
    let mut threads = Vec::new();
    for _ in 0..2 {
        let store = store.clone();
        threads.push(thread::spawn(move || read_parts(&store)));
    }
    let s = store.clone();
    threads.push(thread::spawn(move || {
        let mut collector = Collector::new(s.local.clone()).taking(1);
        let is_left = || !s.is_empty(tag::PART) || !s.is_empty(tag::FREE_PART_SET);
        while is_left() || !s.is_empty(tag::FREE) {
            s.local.wait_for_collection(NEVER);
            s.pass(&mut collector, false);
        }
    }));
    assert_eq!(store.commit(delete(object_key("k"))), Ok(()));
    for thread in threads {
        thread.join().expect("no panic");
    }
    let shards = store.local.files.shards().unwrap();
    for shard in shards {
        assert_eq!(store.local.files.list(shard).unwrap(), []);
    }
}

fn holders() -> impl Fn() + Send + Sync + 'static {
    let disk = of_parts();
    move || holds(&disk)
}

#[test]
fn parts_stay_while_they_are_held_and_go_then() {
    check(holders());
}

#[test]
fn parts_that_are_held_too_late_are_found() {
    must_find(Race::HoldLate, "is lost", holders());
}

#[test]
fn parts_that_nobody_collects_are_found() {
    must_find(Race::AskFirst, "deadlock", holders());
}

/// A disk with a store that has a bucket and what `fill` puts there.
fn with_bucket(fill: impl Fn(&mut Opened) + Send + Sync + 'static) -> Arc<SimulatedDisk> {
    prepared(move |opened| {
        commit(opened, bucket());
        fill(opened);
    })
}

/// The bucket of all objects, without which the index would not agree with itself.
fn bucket() -> Transaction {
    let record = BucketRecord::new(BUCKET, AccountId(1), Timestamp(1));
    Transaction::of(vec![Change::put(
        Key::Bucket("bucket".into()),
        Record::Bucket(record),
    )])
}

/// A log file in which one small object lives among the dead.
fn mostly_dead() -> Arc<SimulatedDisk> {
    with_bucket(|opened| {
        commit(opened, put("k", 1, body(1)));
        commit(opened, put("junk", 1, vec![0; 20_000].into()));
        commit(opened, delete(object_key("junk")));
        while opened.applier.step().unwrap() {}
    })
}

/// Reads while versions come; none may be older than one that was acknowledged before, or seen before.
fn read_versions(store: &Store, key: &str, acknowledged: &AtomicU64) {
    let mut seen = 0;
    for _ in 0..READS {
        let low = acknowledged.load(SeqCst).into();
        let version = store.read_row(&object_key(key));
        assert!(
            version >= low && version >= seen,
            "{version} after {low} and {seen}"
        );
        seen = version;
    }
}

fn moves(disk: &SimulatedDisk) {
    let (disk, store) = Store::open(disk);
    let acknowledged = Arc::new(AtomicU64::new(1));
    let (s, a) = (store.clone(), acknowledged.clone());
    let reader = thread::spawn(move || read_versions(&s, "k", &a));
    let s = store.clone();
    let collecting = thread::spawn(move || {
        let mut collector = Collector::new(s.local.clone());
        s.pass(&mut collector, false);
    });
    if super::below(2) == 0 {
        assert_eq!(store.commit(put("k", 2, body(2))), Ok(()));
        acknowledged.store(2, SeqCst);
    }
    reader.join().expect("no panic");
    collecting.join().expect("no panic");
    read_versions(&store, "k", &acknowledged);
    assert!(
        !Packs::numbers(&*disk).unwrap().contains(&1),
        "the dead are still there"
    );
    assert!(
        !store.local.packs().is_open(1),
        "the removed file still takes its space"
    );
}

fn movers() -> impl Fn() + Send + Sync + 'static {
    let disk = mostly_dead();
    move || moves(&disk)
}

#[test]
fn a_moving_body_is_read_where_it_is() {
    check(movers());
}

#[test]
fn a_move_that_brings_an_old_version_back_is_found() {
    must_find(Race::MoveBlindly, " after ", movers());
}

/// A large object that is overwritten, and one that is refused, while the collector sweeps.
fn sweeps(disk: &SimulatedDisk) {
    let (_, store) = Store::open(disk);
    let acknowledged = Arc::new(AtomicU64::new(1));
    let (s, a) = (store.clone(), acknowledged.clone());
    let reader = thread::spawn(move || read_versions(&s, "k", &a));
    let s = store.clone();
    let collecting = thread::spawn(move || {
        let mut collector = Collector::new(s.local.clone());
        s.pass(&mut collector, true);
    });
    let s = store.clone();
    let refused = thread::spawn(move || {
        let never = Precondition::Exists(object_key("never"));
        let answer = s.commit(put_file(&s.local, "k", 9, vec![never]));
        assert_eq!(answer, Err(CommitError::Refused(0)));
    });
    let answer = store.commit(put_file(&store.local, "k", 2, Vec::new()));
    assert_eq!(answer, Ok(()));
    acknowledged.store(2, SeqCst);
    for thread in [reader, collecting, refused] {
        thread.join().expect("no panic");
    }
    read_versions(&store, "k", &acknowledged);
    let mut collector = Collector::new(store.local.clone());
    store.pass(&mut collector, true);
    read_versions(&store, "k", &acknowledged);
    let shards = store.local.files.shards().unwrap();
    let files = shards
        .iter()
        .map(|&shard| store.local.files.list(shard).unwrap());
    let files: Vec<BlobId> = files.flatten().collect();
    assert_eq!(files.len(), 1, "of {files:?} one is needed");
}

fn sweepers() -> impl Fn() + Send + Sync + 'static {
    let disk = with_bucket(|opened| {
        let transaction = put_file(&opened.local, "k", 1, Vec::new());
        commit(opened, transaction);
    });
    move || sweeps(&disk)
}

#[test]
fn a_large_body_is_read_or_replaced_while_files_go() {
    check(sweepers());
}

#[test]
fn a_sweep_that_takes_new_files_is_found() {
    must_find(Race::SweepFlying, "nobody moved it", sweepers());
}

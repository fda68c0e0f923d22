use bytes::Bytes;

use super::*;
use crate::{
    blob::Description,
    disk::{Disk, simulated::SimulatedDisk},
    env::Env,
    meta::{
        InlineBody,
        key::{AccountId, BucketId},
        local::{LocalConfig, overlay::Generation, recovery},
        record::{BucketRecord, Checkpoint, PartSet, UploadRecord, sample},
    },
    types::{Timestamp, UploadId},
};

const BUCKET: BucketId = BucketId(1);

fn open(disk: &Arc<SimulatedDisk>) -> recovery::Opened {
    let mut store = recovery::open(disk.clone(), LocalConfig::small(), Env::real()).unwrap();
    let row = Key::Bucket("bucket".into());
    if store.local.get(&row).unwrap().is_none() {
        let bucket = BucketRecord::new(BUCKET, AccountId(1), Timestamp(1));
        commit(&mut store, vec![Change::put(row, Record::Bucket(bucket))]);
    }
    store
}

fn put_inline(store: &mut recovery::Opened, key: &str, bytes: &[u8]) {
    let record = sample::object(bytes.len() as u64, Location::Here);
    let row = Key::Object(BUCKET, key.into());
    let transaction = Transaction {
        changes: vec![Change::put(row, Record::Object(Box::new(record)))],
        body: Some(Body::new(Bytes::copy_from_slice(bytes))),
        ..Transaction::default()
    };
    store.committer.commit(vec![transaction]).remove(0).unwrap();
}

fn put_file(store: &mut recovery::Opened, key: &str, bytes: &[u8]) -> BlobId {
    let mut writer = store.local.files.create().unwrap();
    writer.write(bytes).unwrap();
    let id = writer.id();
    let record = Record::Object(Box::new(sample::object(
        bytes.len() as u64,
        Location::File(id),
    )));
    let row = Key::Object(BUCKET, key.into());
    let description = Description {
        bucket: BUCKET,
        key,
        row: &row,
        record: &record,
    };
    let blob = writer.finish(description).unwrap();
    let transaction = Transaction {
        changes: vec![Change::put(row, record)],
        blob: Some(blob),
        ..Transaction::default()
    };
    store.committer.commit(vec![transaction]).remove(0).unwrap();
    id
}

fn inline_body(store: &recovery::Opened, key: &str) -> Bytes {
    let row = store.local.get(&Key::Object(BUCKET, key.into())).unwrap();
    let Some(Record::Object(object)) = row else {
        panic!("{key} is gone");
    };
    let body: InlineBody = store.local.open_inline(&object.location).unwrap().unwrap();
    body.read(object.size, 0..object.size).unwrap()
}

fn collect(store: &mut recovery::Opened) {
    let collector = Collector::new(store.local.clone());
    collect_by(store, collector);
}

fn collect_by(store: &mut recovery::Opened, mut collector: Collector) {
    // So that old log files may go at all.
    if let Some(checkpoint) = store.local.index().checkpoint().unwrap() {
        store.local.set_snapshot(&checkpoint);
    }
    collector.begin(true);
    let committer = &mut store.committer;
    while collector
        .step(&mut |transactions| committer.commit(transactions))
        .unwrap()
    {}
}

/// Takes rows out of the index behind everybody's back, as damage to it does.
fn lose_rows(store: &mut recovery::Opened, rows: &[Key]) {
    while store.applier.step().unwrap() {}
    let at = store.local.applied();
    let checkpoint = Checkpoint {
        applied_lsn: at.lsn,
        pack: at.pack,
        offset: at.offset,
        hash: at.hash,
        incarnation: 1,
        lowest_uncommitted: BlobId::default(),
    };
    let lost: Generation = rows.iter().map(|key| (key.encode(), None)).collect();
    store.local.lose_rows(&lost, &checkpoint);
}

/// A bit flipped in a key of the index hid the row that counts what lives in a log file. The collector took
/// that for nothing and unlinked 64 MiB of acknowledged bodies.
#[test]
fn a_log_file_whose_row_is_lost_is_read_before_it_is_removed() {
    let disk = SimulatedDisk::new(1);
    let mut store = open(&disk);
    let bodies: Vec<Vec<u8>> = (0..30).map(|i| vec![i; 6000]).collect();
    for (i, body) in bodies.iter().enumerate() {
        put_inline(&mut store, &format!("k{i}"), body);
    }
    let last = store
        .local
        .applied()
        .pack
        .max(store.committer.position().pack);
    let rows: Vec<Key> = (1..last).map(Key::Pack).collect();
    assert!(rows.len() >= 2, "several log files are full");
    lose_rows(&mut store, &rows);
    collect(&mut store);
    for (i, body) in bodies.iter().enumerate() {
        assert_eq!(inline_body(&store, &format!("k{i}")), body[..]);
    }
    // The next start makes the index anew.
    drop(store);
    let mut store = open(&disk);
    assert!(store.local.rebuilt().is_some());
    collect(&mut store);
    for (i, body) in bodies.iter().enumerate() {
        assert_eq!(inline_body(&store, &format!("k{i}")), body[..]);
    }
}

/// Small bodies that came one at a time have a page each, so their log files look half empty. They were moved
/// one at a time too, to log files that looked the same: at each pass of the collector all was written anew.
#[test]
fn what_was_moved_is_dense_afterwards() {
    let disk = SimulatedDisk::new(1);
    let mut store = open(&disk);
    for i in 0..200 {
        put_inline(&mut store, &format!("k{i}"), &[i; 100]);
    }
    let mut packs = Vec::new();
    for _ in 0..3 {
        while store.applier.step().unwrap() {}
        collect(&mut store);
        let numbers = Packs::numbers(&*disk).unwrap();
        packs.push((numbers.len(), numbers.last().copied()));
    }
    assert!(packs[1].0 <= 4, "{packs:?}");
    assert_eq!(packs[1], packs[2]);
    assert_eq!(inline_body(&store, "k199"), [199; 100][..]);
}

/// The same for the row of a large body's file: the object's own row still names it.
#[test]
fn a_file_whose_row_is_lost_is_kept_while_its_object_names_it() {
    let disk = SimulatedDisk::new(2);
    let mut store = open(&disk);
    let id = put_file(&mut store, "big", &[5; 10_000]);
    lose_rows(&mut store, &[Key::Blob(id)]);
    collect(&mut store);
    let reader = store.local.files.open(id, 10_000).unwrap();
    assert_eq!(reader.read(0..10_000).unwrap(), [5; 10_000][..]);
}

fn commit(store: &mut recovery::Opened, changes: Vec<Change>) {
    let transaction = Transaction::of(changes);
    store.committer.commit(vec![transaction]).remove(0).unwrap();
}

fn upload(initiated: Timestamp) -> Record {
    Record::Upload(Box::new(UploadRecord {
        initiated,
        ..sample::upload()
    }))
}

fn empty_part() -> Record {
    Record::Part(Box::new(sample::part(0, Location::Empty)))
}

/// Weakness 36: uploads that nobody completed stayed for ever.
#[test]
fn an_upload_goes_with_its_parts_when_it_is_too_old() {
    let disk = SimulatedDisk::new(7);
    let mut store = open(&disk);
    let env = Env::real();
    let (old, new) = (UploadId(1), UploadId(2));
    let row = |id| Key::Upload(BUCKET, "k".into(), id);
    for (id, initiated) in [(old, Timestamp(1)), (new, env.clock.now())] {
        let changes = vec![
            Change::put(row(id), upload(initiated)),
            Change::put(Key::Part(id, 1), empty_part()),
        ];
        commit(&mut store, changes);
    }
    let is_there = |store: &recovery::Opened, id| {
        [row(id), Key::Part(id, 1)].map(|key| store.local.get(&key).unwrap().is_some())
    };
    collect(&mut store);
    assert_eq!(is_there(&store, old), [true, true], "no age was said");
    let hour = Duration::from_secs(3600);
    for _ in 0..2 {
        // Giving up is one pass, what hung on it goes in the next at the latest.
        let collector = Collector::new(store.local.clone()).expiring(&env, Some(hour));
        collect_by(&mut store, collector);
    }
    assert_eq!(is_there(&store, old), [false, false]);
    assert_eq!(is_there(&store, new), [true, true]);
}

/// Parts whose count was lost were counted anew, from one, when their object was copied: the deletion of the
/// copy took them from the object.
#[test]
fn parts_whose_count_is_lost_stay() {
    let disk = SimulatedDisk::new(6);
    let mut store = open(&disk);
    let (id, part) = (UploadId(9), Key::Part(UploadId(9), 1));
    let runs = Vec::new();
    let joined = sample::object(0, Location::Parts(PartSet { id, runs }));
    let put = |key: &str| {
        let row = Key::Object(BUCKET, key.into());
        Change::put(row, Record::Object(Box::new(joined.clone())))
    };
    let row = Key::Upload(BUCKET, "k".into(), id);
    let changes = vec![
        Change::put(row.clone(), upload(Timestamp(1))),
        Change::put(part.clone(), empty_part()),
        put("k"),
        Change::delete(row),
    ];
    commit(&mut store, changes);
    lose_rows(&mut store, &[Key::PartSet(id)]);
    commit(&mut store, vec![put("copy")]);
    let copy = Key::Object(BUCKET, "copy".into());
    commit(&mut store, vec![Change::delete(copy)]);
    collect(&mut store);
    assert!(store.local.get(&part).unwrap().is_some());
}

/// Each start of an idle store left a preallocated log file behind, 64 MiB a time.
#[test]
fn idle_restarts_do_not_grow_the_log() {
    let disk = SimulatedDisk::new(3);
    let mut store = open(&disk);
    put_inline(&mut store, "k", b"body");
    for _ in 0..10 {
        store.local.prepare_pack().unwrap();
        drop(store);
        store = open(&disk);
        assert!(Packs::numbers(&*disk).unwrap().len() <= 4);
    }
    assert_eq!(inline_body(&store, "k"), b"body"[..]);
}

/// With index and log taken away the rest was taken for an empty store, and all object files were removed.
#[test]
fn a_store_without_index_and_log_is_not_an_empty_one() {
    let disk = SimulatedDisk::new(4);
    let mut store = open(&disk);
    let id = put_file(&mut store, "big", &[5; 10_000]);
    drop(store);
    disk.unlink("index.redb").unwrap();
    for number in Packs::numbers(&*disk).unwrap() {
        disk.unlink(&crate::meta::local::packs::path(number))
            .unwrap();
    }
    let refused = recovery::open(disk.clone(), LocalConfig::small(), Env::real())
        .err()
        .unwrap();
    assert!(
        matches!(refused, crate::OpenError::Damaged { .. }),
        "{refused}"
    );
    let path = format!(
        "objects/{:02x}/{:02x}/{id}",
        id.shard() >> 8,
        id.shard() & 0xff
    );
    disk.open(&path).unwrap();
}

/// A disk with less room than a log file could not be opened any more, so nothing could be deleted either.
#[test]
fn a_nearly_full_disk_gets_a_shorter_log_file() {
    let disk = SimulatedDisk::new(5);
    let mut store = open(&disk);
    put_inline(&mut store, "k", b"body");
    drop(store);
    let long = LocalConfig {
        pack_bytes: 1 << 20,
        ..LocalConfig::small()
    };
    disk.set_allocation_max(600 << 10);
    let mut store = recovery::open(disk.clone(), long, Env::real()).unwrap();
    let transaction = Transaction::of(vec![Change::delete(Key::Object(BUCKET, "k".into()))]);
    store.committer.commit(vec![transaction]).remove(0).unwrap();
}

use super::*;
use crate::{
    disk::simulated::SimulatedDisk,
    env::Env,
    maintenance::audit::AuditWalk,
    meta::{
        Change, Transaction,
        key::BlobId,
        local::{
            LocalConfig,
            recovery::{self, Opened},
        },
        record::{AccountRecord, BlobRecord, PartSet, Quarantined, sample},
    },
    types::UploadId,
};

const OWNER: AccountId = AccountId(7);

fn object(size: u64, location: Location) -> Record {
    Record::Object(Box::new(sample::object(size, location)))
}

fn part(location: Location) -> Record {
    Record::Part(Box::new(sample::part(10, location)))
}

fn upload() -> Record {
    Record::Upload(Box::new(sample::upload()))
}

fn file(n: u64) -> BlobId {
    BlobId::new(1, 0, n, 0)
}

/// Puts rows into the index as they are, and counts anew.
fn counted(rows: Vec<(Key, Record)>) -> (Opened, Recounted) {
    let disk = SimulatedDisk::new(1);
    let mut store = recovery::open(disk, LocalConfig::small(), Env::real()).unwrap();
    let account = Record::Account(AccountRecord {
        name: "a".into(),
        created: Timestamp(1),
        active: true,
    });
    let transaction = Transaction::of(vec![Change::put(Key::Account(OWNER), account)]);
    store.committer.commit(vec![transaction]).remove(0).unwrap();
    store.applier.step().unwrap();
    let checkpoint = store.local.index().checkpoint().unwrap();
    let rows = rows.into_iter();
    let rows: Generation = rows
        .map(|(key, record)| (key.encode(), Some(record.encode().into())))
        .collect();
    store.local.lose_rows(&rows, &checkpoint.unwrap());
    owe(store.local.index(), checkpoint.as_ref()).unwrap();
    assert!(is_owed(store.local.index()).unwrap());
    let position = store.committer.position();
    let recounted = run(&store.local, &mut store.applier, position).unwrap();
    assert!(!is_owed(store.local.index()).unwrap());
    let applied = store.local.index().checkpoint().unwrap().unwrap();
    assert_eq!(applied.position(), position);
    let mut walk = AuditWalk::begin(&store.local).unwrap();
    let findings = loop {
        if let Some(findings) = walk.step().unwrap() {
            break findings;
        }
    };
    assert_eq!(findings, Vec::<String>::new());
    (store, recounted)
}

fn bucket(n: u64) -> (Key, Record) {
    let record = BucketRecord::new(BucketId(n), OWNER, Timestamp(1));
    (Key::Bucket(format!("bucket-{n}")), Record::Bucket(record))
}

fn key(bucket: u64, name: &str) -> Key {
    Key::Object(BucketId(bucket), name.into())
}

/// Deletes and puts lay in a hole: counters too high and too low, a file on the free list that an object has.
#[test]
fn counters_and_references_become_right() {
    let blob = |references| {
        Record::Blob(BlobRecord {
            references,
            bytes: 10,
        })
    };
    let stats = BucketStats {
        objects: 9,
        bytes: 1,
    };
    let mut quarantined = object(10, Location::File(file(1)));
    if let Record::Object(object) = &mut quarantined {
        object.quarantined = Some(Quarantined {
            since: Timestamp(1),
            reason: "r".into(),
        });
    }
    let (store, recounted) = counted(vec![
        bucket(1),
        (Key::BucketStats(BucketId(1)), Record::BucketStats(stats)),
        (Key::BucketStats(BucketId(9)), Record::BucketStats(stats)),
        (key(1, "a"), object(10, Location::File(file(1)))),
        (key(1, "b"), quarantined),
        (key(1, "c"), object(0, Location::Empty)),
        (Key::Quarantine(BucketId(1), "c".into()), Record::Quarantine),
        (Key::Blob(file(1)), blob(1)),
        (Key::Blob(file(2)), blob(1)),
        (Key::Free(file(1)), Record::Free),
        (Key::Free(file(3)), Record::Free),
        (Key::Pack(1), Record::Pack(PackRecord { live_bytes: 77 })),
    ]);
    assert_eq!(recounted, Recounted::default());
    let row = |key: Key| store.local.get(&key).unwrap();
    let right = BucketStats {
        objects: 3,
        bytes: 20,
    };
    assert_eq!(
        row(Key::BucketStats(BucketId(1))),
        Some(Record::BucketStats(right))
    );
    assert_eq!(row(Key::BucketStats(BucketId(9))), None);
    assert_eq!(row(Key::Blob(file(1))), Some(blob(2)));
    for gone in [
        Key::Blob(file(2)),
        Key::Free(file(1)),
        Key::Free(file(3)),
        Key::Quarantine(BucketId(1), "c".into()),
    ] {
        assert_eq!(row(gone.clone()), None, "{gone:?}");
    }
    assert!(row(Key::Quarantine(BucketId(1), "b".into())).is_some());
    assert_eq!(row(Key::Pack(1)), Some(Record::Pack(PackRecord::default())));
}

/// A copy lay in the hole and its source went afterwards: the parts were on the free list, and an object has them.
#[test]
fn parts_stay_with_who_needs_them_and_no_others_do() {
    let set = |n: u128| PartSet {
        id: UploadId(n),
        runs: Vec::new(),
    };
    let in_file = |n| part(Location::File(file(n)));
    let (store, recounted) = counted(vec![
        bucket(1),
        (key(1, "made"), object(0, Location::Parts(set(1)))),
        (Key::Part(UploadId(1), 1), in_file(1)),
        (Key::FreePartSet(UploadId(1)), Record::Free),
        // An upload that is open as well as what was made of it.
        (key(1, "again"), object(0, Location::Parts(set(2)))),
        (
            Key::Upload(BucketId(1), "again".into(), UploadId(2)),
            upload(),
        ),
        (Key::Part(UploadId(2), 1), in_file(2)),
        (Key::Part(UploadId(2), 5), in_file(3)),
        (
            Key::PartSet(UploadId(2)),
            Record::PartSet(PartSetRecord {
                references: 1,
                parts: 7,
                changes: 9,
            }),
        ),
        // Nobody's.
        (Key::Part(UploadId(3), 1), in_file(4)),
        (Key::FreePartSet(UploadId(3)), Record::Free),
        (
            Key::PartSet(UploadId(4)),
            Record::PartSet(PartSetRecord::default()),
        ),
    ]);
    assert_eq!(recounted.parts, 1);
    let row = |key: Key| store.local.get(&key).unwrap();
    let part_set = |references, parts, changes| {
        Some(Record::PartSet(PartSetRecord {
            references,
            parts,
            changes,
        }))
    };
    assert_eq!(row(Key::PartSet(UploadId(1))), part_set(1, 1, 0));
    assert_eq!(row(Key::PartSet(UploadId(2))), part_set(2, 2, 9));
    for n in [1, 3] {
        assert_eq!(row(Key::FreePartSet(UploadId(n))), None);
    }
    assert_eq!(row(Key::PartSet(UploadId(4))), None);
    assert_eq!(row(Key::Part(UploadId(3), 1)), None);
    // Its file goes to quarantine, for no row names it.
    assert_eq!(row(Key::Blob(file(4))), None);
    assert_eq!(row(Key::Free(file(4))), None);
}

/// The creation of a bucket lay in the hole: what is in it can be reached, by the only account there is.
#[test]
fn a_bucket_without_a_row_gets_one() {
    let taken = (
        Key::Bucket("recovered-0000000000000002".into()),
        bucket(1).1,
    );
    let (store, recounted) = counted(vec![
        taken,
        (key(2, "a"), object(0, Location::Empty)),
        (key(2, "b"), object(0, Location::Empty)),
        (Key::FreeBucket(BucketId(2)), Record::Free),
        (Key::Upload(BucketId(3), "u".into(), UploadId(1)), upload()),
        // Its bucket was deleted: it would have gone.
        (Key::Upload(BucketId(4), "u".into(), UploadId(2)), upload()),
        (Key::FreeBucket(BucketId(4)), Record::Free),
    ]);
    let names = ["recovered-0000000000000002x", "recovered-0000000000000003"];
    assert_eq!(recounted.buckets, names);
    let row = |key: Key| store.local.get(&key).unwrap();
    for (name, id) in names.into_iter().zip([2, 3]) {
        let Some(Record::Bucket(bucket)) = row(Key::Bucket(name.into())) else {
            panic!("{name} is missing");
        };
        assert_eq!((bucket.id, bucket.owner), (BucketId(id), OWNER));
    }
    assert_eq!(row(Key::FreeBucket(BucketId(2))), None);
    let gone = Key::Upload(BucketId(4), "u".into(), UploadId(2));
    assert_eq!(row(gone), None);
}

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::{
    manifest::Manifest,
    vault::{Vault, pack_path},
    *,
};
use crate::{
    blob::{BlobStore, Description, files},
    disk::{Disk, simulated::SimulatedDisk},
    env::Env,
    maintenance::gc::Collector,
    meta::{
        Body, Change, Transaction,
        key::{AccountId, BlobId, BucketId, Key},
        local::{
            LocalConfig, format,
            recovery::{self, Opened},
        },
        record::{BucketRecord, Location, ObjectRecord, Quarantined, Record, sample},
    },
    types::Timestamp,
};

const BUCKET: BucketId = BucketId(1);

/// A store with its disk, and a disk for its backups.
struct Site {
    disk: Arc<SimulatedDisk>,
    vault: Arc<SimulatedDisk>,
    store: Option<Opened>,
}

fn open(disk: &Arc<SimulatedDisk>) -> Opened {
    recovery::open(disk.clone(), LocalConfig::small(), Env::real()).unwrap()
}

/// What is put under a key, so that nobody has to remember.
fn body_of(key: &str, size: usize) -> Vec<u8> {
    let first = key.bytes().map(usize::from).sum::<usize>();
    (0..size).map(|i| ((first + i) % 251) as u8).collect()
}

fn record(bytes: &[u8], location: Location) -> ObjectRecord {
    ObjectRecord {
        sha256: Some(<sha2::Sha256 as sha2::Digest>::digest(bytes).into()),
        ..sample::object(bytes.len() as u64, location)
    }
}

impl Site {
    fn new() -> Self {
        let disk = SimulatedDisk::new(1);
        let mut site = Self {
            store: Some(open(&disk)),
            disk,
            vault: SimulatedDisk::new(2),
        };
        let bucket = Record::Bucket(BucketRecord::new(BUCKET, AccountId(1), Timestamp(1)));
        site.commit(Transaction::of(vec![Change::put(
            Key::Bucket("bucket".into()),
            bucket,
        )]));
        site
    }

    fn store(&mut self) -> &mut Opened {
        self.store.as_mut().unwrap()
    }

    fn commit(&mut self, transaction: Transaction) {
        let answers = self.store().committer.commit(vec![transaction]);
        answers.into_iter().for_each(|answer| answer.unwrap());
    }

    fn put_inline(&mut self, key: &str, size: usize) {
        let bytes = body_of(key, size);
        let record = Record::Object(Box::new(record(&bytes, Location::Here)));
        self.commit(Transaction {
            changes: vec![Change::put(Key::Object(BUCKET, key.into()), record)],
            body: Some(Body::new(Bytes::from(bytes))),
            ..Transaction::default()
        });
    }

    fn put_file(&mut self, key: &str, size: usize) -> BlobId {
        let bytes = body_of(key, size);
        let mut writer = self.store().local.files.create().unwrap();
        writer.write(&bytes).unwrap();
        let id = writer.id();
        let record = Record::Object(Box::new(record(&bytes, Location::File(id))));
        let row = Key::Object(BUCKET, key.into());
        let blob = writer.finish(Description {
            bucket: BUCKET,
            key,
            row: &row,
            record: &record,
        });
        self.commit(Transaction {
            changes: vec![Change::put(row, record)],
            blob: Some(blob.unwrap()),
            ..Transaction::default()
        });
        id
    }

    fn delete(&mut self, key: &str) {
        self.commit(Transaction::of(vec![Change::delete(Key::Object(
            BUCKET,
            key.into(),
        ))]));
    }

    fn backup(&mut self) -> BackupReport {
        self.try_backup(BackupOptions::default()).unwrap()
    }

    fn try_backup(&mut self, options: BackupOptions) -> Result<BackupReport, BackupError> {
        let vault = self.vault.clone();
        let store = self.store();
        let backup = Backup::begin(&store.local, &Env::real(), vault, options)?;
        let applier = &mut store.applier;
        run(backup.taking(1), &mut |_| {}, |is_waiting| {
            if is_waiting {
                applier.step()?;
            }
            Ok(())
        })
    }

    fn collect(&mut self) {
        let store = self.store();
        while store.applier.step().unwrap() {}
        let mut collector = Collector::new(store.local.clone());
        collector.begin(true);
        let committer = &mut store.committer;
        while collector.step(&mut |all| committer.commit(all)).unwrap() {}
    }

    /// Ends the process in order.
    fn close(&mut self) {
        let mut store = self.store.take().unwrap();
        store.committer.seal();
        while store.applier.step().unwrap() {}
    }

    fn reopen(&mut self) {
        self.close();
        self.store = Some(open(&self.disk));
    }

    fn manifest(&self, name: &str) -> Manifest {
        let vault = Vault::open(self.vault.clone()).unwrap();
        vault.find(Some(name)).unwrap()
    }

    fn verify(&self) -> Result<VerifyReport, BackupError> {
        verify_in(&self.vault)
    }

    fn restore(&self, to: &Arc<SimulatedDisk>) -> Result<RestoreReport, BackupError> {
        self.restore_one(None, to, Depth::Length)
    }

    fn restore_one(
        &self,
        name: Option<&str>,
        to: &Arc<SimulatedDisk>,
        check: Depth,
    ) -> Result<RestoreReport, BackupError> {
        let options = RestoreOptions {
            extras: vec!["credentials".into()],
            check,
        };
        let vault = self.vault.clone();
        let mut restore = Restore::begin(vault, name, to.clone(), &Env::real(), &options)?;
        loop {
            if let Some(report) = restore.step()? {
                return Ok(report);
            }
        }
    }
}

fn verify_in(vault: &Arc<SimulatedDisk>) -> Result<VerifyReport, BackupError> {
    let mut verify = Verify::begin(vault.clone(), None, &Env::real())?;
    loop {
        if let Some(report) = verify.step()? {
            return Ok(report);
        }
    }
}

/// The body under a key of an open store; `None` when there is no such object.
fn get(store: &Opened, key: &str) -> Option<Result<Vec<u8>, String>> {
    let row = store.local.get(&Key::Object(BUCKET, key.into())).unwrap()?;
    let (location, size) = row.body().unwrap();
    let read = match location {
        Location::File(id) => store
            .local
            .files
            .open(*id, size)
            .and_then(|file| file.read(0..size)),
        location => match store.local.open_inline(location).unwrap() {
            Some(body) => body.read(size, 0..size),
            None => Err(std::io::ErrorKind::NotFound.into()),
        },
    };
    Some(read.map(|bytes| bytes.to_vec()).map_err(|e| e.to_string()))
}

fn must_have(store: &Opened, objects: &[(&str, usize)]) {
    for (key, size) in objects {
        assert_eq!(get(store, key), Some(Ok(body_of(key, *size))), "{key}");
    }
}

#[test]
fn a_lost_directory_comes_back_as_it_was_at_the_last_backup() {
    let mut site = Site::new();
    let file = site.disk.create("credentials").unwrap();
    file.write_at(b"a secret", 0).unwrap();
    site.put_inline("small", 1000);
    site.put_file("large", 200_000);
    site.put_inline("deleted later", 10);
    let options = BackupOptions {
        extras: vec!["credentials".into(), "none".into()],
        ..BackupOptions::default()
    };
    let report = site.try_backup(options).unwrap();
    assert_eq!((report.info.objects, report.info.files), (3, 1));
    assert_eq!((report.files_copied, report.info.left_out), (1, 0));
    site.delete("deleted later");
    site.put_inline("too late", 10);

    let fresh = SimulatedDisk::new(3);
    let restored = site.restore(&fresh).unwrap();
    assert!(restored.is_whole(), "{restored:?}");
    assert_eq!((restored.files_restored, restored.packs_restored), (1, 1));
    let store = open(&fresh);
    let there = [("small", 1000), ("large", 200_000), ("deleted later", 10)];
    must_have(&store, &there);
    assert_eq!(get(&store, "too late"), None);
    let mut secret = [0; 8];
    let file = fresh.open("credentials").unwrap();
    file.read_at(&mut secret, 0).unwrap();
    assert_eq!(&secret, b"a secret");
}

/// The log of a store at an earlier state does not lead to a later backup: mixed, it would be neither.
#[test]
fn a_later_backup_is_not_mixed_into_an_earlier_state() {
    let mut site = Site::new();
    site.put_inline("first", 1000);
    site.put_file("changed", 200_000);
    let first = site.backup().info.name;
    site.delete("changed");
    site.put_inline("second", 1000);
    site.put_file("new", 200_000);
    let second = site.backup().info.name;

    let fresh = SimulatedDisk::new(3);
    let earlier = site.restore_one(Some(&first), &fresh, Depth::Length);
    assert!(earlier.unwrap().is_whole());
    // It has lived on since.
    drop(open(&fresh));
    let before = fresh.live_files();
    let refused = site.restore_one(Some(&second), &fresh, Depth::Length);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("its log does not lead there"), "{refused}");
    assert_eq!(fresh.live_files(), before);
    let store = open(&fresh);
    must_have(&store, &[("first", 1000), ("changed", 200_000)]);
    assert_eq!(get(&store, "new"), None);
    drop(store);
    // The other way round it only fills holes.
    site.close();
    let later = site.restore_one(Some(&first), &site.disk, Depth::Length);
    assert!(later.unwrap().is_whole());
    let store = open(&site.disk);
    must_have(
        &store,
        &[("first", 1000), ("second", 1000), ("new", 200_000)],
    );
    assert_eq!(get(&store, "changed"), None);
}

#[test]
fn a_damaged_file_is_replaced_by_that_of_the_backup_when_all_is_read() {
    let mut site = Site::new();
    let id = site.put_file("large", 200_000);
    site.backup();
    site.close();
    let path = files::path(id);
    let file = site.disk.open(&path).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 100_000).unwrap();
    file.write_at(&[byte[0] ^ 1], 100_000).unwrap();
    let restored = |check| site.restore_one(None, &site.disk, check).unwrap();
    assert_eq!(restored(Depth::Length).files_restored, 0);
    assert_eq!(restored(Depth::Bytes).files_restored, 1);
    must_have(&open(&site.disk), &[("large", 200_000)]);
    assert!(site.disk.open(&format!("quarantine/{id}")).is_ok());
}

#[test]
fn the_next_backup_copies_only_what_is_new() {
    let mut site = Site::new();
    for n in 0..20 {
        site.put_inline(&format!("inline {n}"), 8000);
    }
    site.put_file("first", 200_000);
    let first = site.backup();
    assert_eq!(first.files_copied, 1);
    assert!(first.packs_copied > 1, "{first:?}");

    site.put_file("second", 300_000);
    site.put_inline("more", 100);
    let second = site.backup();
    // The file of the log that is being written has grown.
    assert_eq!((second.files_copied, second.packs_copied), (1, 1));
    assert_eq!((second.info.files, second.info.objects), (2, 23));
    assert!(second.bytes_copied < 300_000 + 80_000, "{second:?}");

    let third = site.backup();
    assert_eq!(
        (third.files_copied, third.packs_copied, third.bytes_copied),
        (0, 0, 0)
    );
    assert!(site.verify().unwrap().is_whole());
}

#[test]
fn old_backups_go_with_what_only_they_needed() {
    let mut site = Site::new();
    let (gone, stays) = (
        site.put_file("gone", 200_000),
        site.put_file("stays", 200_000),
    );
    site.put_inline("inline", 60_000);
    let first = site.backup().info.name;
    site.delete("gone");
    site.collect();
    site.put_inline("more", 60_000);
    let keep = |keep| BackupOptions {
        keep: Some(keep),
        ..BackupOptions::default()
    };
    let second = site.try_backup(keep(2)).unwrap();
    assert_eq!(second.removed, Vec::<String>::new());
    assert!(site.vault.open(&files::path(gone)).is_ok());

    let third = site.try_backup(keep(2)).unwrap();
    assert_eq!(third.removed, [first.as_str()]);
    assert!(site.vault.open(&files::path(gone)).is_err());
    assert!(site.vault.open(&files::path(stays)).is_ok());
    let names = site.vault.live_files();
    let is_left = |dir: &str| names.iter().filter(|name| name.starts_with(dir)).count();
    assert_eq!((is_left("manifests/"), is_left("snapshots/")), (2, 2));
    let packs: BTreeSet<String> = [second, third]
        .iter()
        .flat_map(|report| site.manifest(&report.info.name).packs)
        .map(|pack| pack_path(&pack, pack.bytes))
        .collect();
    let is_pack = |name: &&String| name.starts_with("log/");
    assert!(
        names
            .iter()
            .filter(is_pack)
            .all(|name| packs.contains(name))
    );
    assert!(site.verify().unwrap().is_whole());
}

#[test]
fn a_damaged_body_is_left_out_and_told_and_the_others_are_saved() {
    let mut site = Site::new();
    let rotten = site.put_file("rotten", 200_000);
    let missing = site.put_file("missing", 200_000);
    site.put_file("whole", 200_000);
    site.put_inline("small", 5000);
    site.put_inline("small and rotten", 5000);
    let row = site
        .store()
        .local
        .get(&Key::Object(BUCKET, "small and rotten".into()));
    let Some(Record::Object(object)) = row.unwrap() else {
        panic!("it was just put");
    };
    let Location::Pack { pack, offset, .. } = object.location else {
        panic!("it is small");
    };
    let pack = crate::meta::local::packs::path(pack);
    site.disk.corrupt(&pack, u64::from(offset) + 99, 4).unwrap();
    site.disk.corrupt(&files::path(rotten), 70_000, 4).unwrap();
    site.disk.unlink(&files::path(missing)).unwrap();

    let report = site.backup();
    assert_eq!(report.info.left_out, 3);
    let what: BTreeSet<&str> = report.damage.iter().map(|d| d.what.as_str()).collect();
    let told = ["bucket/rotten", "bucket/missing", "bucket/small and rotten"];
    assert_eq!(what, told.into_iter().collect());
    assert!(site.vault.open(&files::path(rotten)).is_err());
    let verified = site.verify().unwrap();
    assert_eq!((verified.damaged, verified.objects), (3, 5));
    let what: BTreeSet<&str> = verified.damage.iter().map(|d| d.what.as_str()).collect();
    assert_eq!(what, told.into_iter().collect());

    let fresh = SimulatedDisk::new(3);
    assert_eq!(site.restore(&fresh).unwrap().damaged, 2);
    must_have(&open(&fresh), &[("whole", 200_000), ("small", 5000)]);
    // What is whole again is taken along by the next one.
    site.disk.corrupt(&files::path(rotten), 70_000, 4).unwrap();
    let again = site.backup();
    assert_eq!((again.info.left_out, again.files_copied), (2, 1));
}

#[test]
fn what_is_in_quarantine_is_no_news() {
    let mut site = Site::new();
    let id = site.put_file("damaged", 200_000);
    site.put_file("whole", 200_000);
    let row = Key::Object(BUCKET, "damaged".into());
    let Some(Record::Object(seen)) = site.store().local.get(&row).unwrap() else {
        panic!("it was just put");
    };
    let why = Quarantined {
        since: Timestamp(1),
        reason: "rot".into(),
    };
    site.commit(crate::service::quarantine::set(row, &seen, 8, Some(why)));
    site.disk.unlink(&files::path(id)).unwrap();
    let report = site.backup();
    assert_eq!((report.info.left_out, report.quarantined), (0, 1));
    let verified = site.verify().unwrap();
    assert!(verified.is_whole(), "{verified:?}");
    assert_eq!(verified.quarantined, 1);
}

/// Every file of a backup, somewhere in each of its parts: whatever rots, a look at the backup says so.
#[test]
fn a_look_at_a_backup_finds_any_flipped_bit_and_any_missing_file() {
    let mut site = Site::new();
    site.put_inline("small", 5000);
    site.put_file("large", 200_000);
    site.backup();
    assert!(site.verify().unwrap().is_whole());
    let is_told = |vault: &Arc<SimulatedDisk>| match verify_in(vault) {
        Ok(report) => !report.is_whole(),
        Err(_) => true,
    };
    for (path, bytes) in site.vault.durable_snapshot() {
        let n = bytes.len() as u64;
        let is_object = path.starts_with("objects/");
        for at in (0..16).map(|i| i * (n - 1) / 15).chain([n - 30]) {
            // Between the sums of the blocks and the tail lies the description, which serves salvage alone; and
            // the page of sums is mostly zeros that its own sum covers.
            let is_description = is_object && (200_000 + 4096..n - 48).contains(&at);
            let vault = site.vault.fork(9);
            vault.corrupt(&path, at, 0x10).unwrap();
            assert_eq!(
                is_told(&vault),
                !is_description,
                "byte {at} of {n} of {path}"
            );
        }
        let vault = site.vault.fork(9);
        vault.unlink(&path).unwrap();
        assert!(is_told(&vault), "{path} is missing");
    }
}

#[test]
fn a_store_that_goes_back_in_time_uses_no_id_again_and_destroys_nothing_of_the_lost_future() {
    let mut site = Site::new();
    site.put_file("before", 200_000);
    site.backup();
    site.reopen();
    let lost = site.put_file("lost", 200_000);
    site.close();

    // Rows and log are gone, the files are not.
    for path in site.disk.live_files() {
        if !path.starts_with("objects/") && path != "FORMAT" {
            site.disk.unlink(&path).unwrap();
        }
    }
    let report = site.restore(&site.disk.clone()).unwrap();
    assert_eq!((report.files_restored, report.packs_restored), (0, 1));
    site.store = Some(open(&site.disk));
    must_have(site.store(), &[("before", 200_000)]);
    let new = site.put_file("new", 200_000);
    assert!(new.incarnation() > lost.incarnation() + 1_000_000, "{new}");
    site.collect();
    assert!(site.disk.open(&format!("quarantine/{lost}")).is_ok());
    must_have(site.store(), &[("before", 200_000), ("new", 200_000)]);

    // The next backup goes to the same directory, and a restore of it goes on from there.
    let report = site.backup();
    assert_eq!((report.files_copied, report.info.left_out), (1, 0));
    let fresh = SimulatedDisk::new(3);
    site.restore(&fresh).unwrap();
    must_have(&open(&fresh), &[("before", 200_000), ("new", 200_000)]);
}

#[test]
fn kept_log_goes_on_from_a_backup_to_the_present() {
    let mut site = Site::new();
    site.put_inline("small", 5000);
    let large = site.put_file("large", 200_000);
    site.backup();
    site.put_inline("later", 5000);
    site.put_file("later and large", 200_000);
    site.delete("small");
    site.close();
    // There was no snapshot yet.
    site.disk.unlink(format::INDEX).unwrap();
    site.disk.unlink(&files::path(large)).unwrap();
    let report = site.restore(&site.disk.clone()).unwrap();
    assert_eq!((report.files_restored, report.packs_restored), (1, 0));
    let store = open(&site.disk);
    let there = [
        ("large", 200_000),
        ("later", 5000),
        ("later and large", 200_000),
    ];
    must_have(&store, &there);
    assert_eq!(get(&store, "small"), None);
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_as_it_is() {
    let mut site = Site::new();
    site.put_inline("small", 5000);
    site.backup();
    let other = Site::new();
    let photos = SimulatedDisk::new(5);
    photos.create("holiday.jpg").unwrap();
    // The same store, but restored to an earlier state and used since.
    let astray = SimulatedDisk::new(6);
    site.restore(&astray).unwrap();
    drop(open(&astray));
    for n in 0..20 {
        site.put_inline(&format!("{n}"), 8000);
    }
    site.backup();
    for (disk, why) in [
        (&other.disk, "another store"),
        (&photos, "holiday.jpg"),
        (&astray, "another way"),
    ] {
        let before = disk.live_files();
        let refused = site.restore(disk).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert_eq!(disk.live_files(), before);
    }
}

#[test]
fn a_directory_that_is_not_for_backups_of_this_store_is_refused() {
    let mut site = Site::new();
    site.put_inline("small", 5000);
    site.backup();
    let mut other = Site::new();
    other.put_inline("small", 5000);
    for (vault, why) in [
        (site.vault.clone(), "another store"),
        (other.disk.clone(), "not of a backup"),
    ] {
        other.vault = vault;
        let refused = other.try_backup(BackupOptions::default());
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let nothing = verify_in(&SimulatedDisk::new(7)).unwrap_err().to_string();
    assert!(nothing.contains("JAYBACKUP"), "{nothing}");
}

#[test]
fn the_newest_backup_is_meant_unless_it_cannot_be_read() {
    let mut site = Site::new();
    site.put_inline("small", 5000);
    let first = site.backup().info.name;
    let second = site.backup().info.name;
    let vault = Vault::open(site.vault.clone()).unwrap();
    let names: Vec<String> = vault
        .list()
        .unwrap()
        .0
        .into_iter()
        .map(|m| m.name)
        .collect();
    assert_eq!(names, [second.as_str(), first.as_str()]);
    assert_eq!(vault.find(None).unwrap().name, second);
    let path = format!("manifests/{second}.manifest");
    site.vault.corrupt(&path, 20, 1).unwrap();
    let refused = vault.find(None).unwrap_err().to_string();
    assert!(refused.contains(&second), "{refused}");
    assert_eq!(vault.find(Some(&first)).unwrap().name, first);
    assert!(vault.find(Some("none")).is_err());
    // What cannot be read may need anything: nothing is removed.
    let files = site.vault.live_files();
    let options = BackupOptions {
        keep: Some(1),
        ..BackupOptions::default()
    };
    assert!(site.try_backup(options).is_err());
    assert!(files.iter().all(|file| site.vault.open(file).is_ok()));
}

#[test]
fn a_full_directory_ends_a_backup_and_the_next_one_goes_on() {
    let mut site = Site::new();
    site.put_file("one", 200_000);
    site.put_file("two", 200_000);
    site.vault.crash_at(40);
    assert!(site.try_backup(BackupOptions::default()).is_err());
    site.vault.crash();
    let report = site.backup();
    assert_eq!(report.info.files, 2);
    assert!(site.verify().unwrap().is_whole());
    // Nobody waits for a backup that was given up.
    site.delete("one");
    site.collect();
    let names = site.disk.live_files();
    let is_body = |name: &&String| name.starts_with("objects/");
    assert_eq!(names.iter().filter(is_body).count(), 1);
}

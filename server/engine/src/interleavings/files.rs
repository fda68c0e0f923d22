//! Large bodies whose writers share the sync of a directory: nobody is told that his file is durable before a
//! sync that began after he linked it has ended.

use std::{io, sync::Arc};

use shuttle::thread;

use super::{RestlessDisk, below, check, env, must_find, prepared, row};
use crate::{
    blob::{BlobStore, Description, InFlight, files::Files},
    disk::{
        Disk,
        simulated::{SimulatedDisk, Survival},
    },
    meta::{
        key::{AccountId, BlobId, BucketId},
        local::space::Space,
        record::Record,
    },
    sync::Race,
};

const WRITERS: usize = 3;
const BYTES: &[u8] = b"a large body";

pub(super) fn write(files: &Files, bytes: &[u8]) -> io::Result<InFlight> {
    let mut writer = files.create()?;
    writer.write(bytes)?;
    let (row, record) = (row("owner"), Record::AccountName(AccountId(1)));
    writer.finish(Description {
        bucket: BucketId(1),
        key: "key",
        row: &row,
        record: &record,
    })
}

fn open(disk: Arc<dyn Disk>, incarnation: u32) -> Files {
    let space = Arc::new(Space::new(disk.clone(), 0));
    Files::new(disk, env(), incarnation, BlobId::default(), space)
}

/// What the file would be if the power went now, and with it all that no sync covers.
fn survives(disk: &SimulatedDisk, id: BlobId) -> bool {
    let disk = disk.fork(1);
    disk.crash_as(Survival::Nothing);
    let files = open(disk, 2);
    let found = files.open(id, BYTES.len() as u64);
    found.is_ok_and(|file| {
        file.read(0..BYTES.len() as u64)
            .is_ok_and(|bytes| bytes == BYTES)
    })
}

fn life(disk: &SimulatedDisk) {
    let disk = disk.fork(1);
    let files = open(Arc::new(RestlessDisk(disk.clone())), 1);
    // The directory is made by the first one.
    write(&files, BYTES).expect("nothing disturbs it").keep();
    // One of the syncs of files and of the directory fails, or none.
    let fails = below(12) as u64;
    disk.fail_sync_after(fails);
    let write_some = |files: Files, disk: Arc<SimulatedDisk>| {
        let mut durable = 0;
        for _ in 0..2 {
            if let Ok(blob) = write(&files, BYTES) {
                assert!(survives(&disk, blob.id()), "{} was not durable", blob.id());
                durable += 1;
                blob.keep();
            }
        }
        durable
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (files, disk) = (files.clone(), disk.clone());
            thread::spawn(move || write_some(files, disk))
        })
        .collect();
    let durable = writers
        .into_iter()
        .map(|writer| writer.join().expect("no panic"));
    let durable: usize = durable.sum();
    assert!(fails > 0 || durable == 2 * WRITERS);
}

fn writers() -> impl Fn() + Send + Sync + 'static {
    let disk = prepared(|_| ());
    move || life(&disk)
}

#[test]
fn a_file_is_durable_when_its_writer_is_told() {
    check(writers());
}

#[test]
fn a_sync_that_began_too_early_is_found() {
    must_find(Race::JoinRunningSync, "was not durable", writers());
}

#[test]
fn a_sync_whose_end_nobody_hears_of_is_found() {
    must_find(Race::EndUnheard, "deadlock", writers());
}

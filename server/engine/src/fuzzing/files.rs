//! The small formats of files: what a store is, the ends of files of bodies, snapshots, backups.

use std::sync::Arc;

use super::summed;
use crate::{
    blob::files::Files,
    codec::{DecodeError, Reader, crc32c, crc32c_of},
    disk::{Disk, DiskFile, simulated::SimulatedDisk},
    env::Env,
    maintenance::{backup::Vault, snapshot::SnapshotReader},
    meta::{key::BlobId, local::format},
};

const STORE: [u8; 16] = [7; 16];

/// Whatever stands in a file, it is read as what it says or refused. The first byte says which file it is.
pub fn files(data: &[u8]) {
    match data.split_first() {
        Some((0, bytes)) => format(bytes),
        Some((1, bytes)) => body(bytes),
        Some((2, bytes)) => backup(bytes),
        Some((_, bytes)) => {
            let _ = snapshot(&mut Reader::new("a snapshot to be made", bytes));
        }
        None => {}
    }
}

/// Puts a file where the directories of its path are made.
fn put(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    for (end, _) in path.match_indices('/') {
        disk.create_dir(&path[..end]).expect("no faults");
    }
    let file = disk.create(path).expect("no faults");
    file.write_at(bytes, 0).expect("no faults");
    file
}

fn format(bytes: &[u8]) {
    let disk = SimulatedDisk::new(1);
    put(&*disk, "FORMAT", &summed(bytes));
    let Ok(Some(found)) = format::look(&*disk) else {
        return;
    };
    let (id, created, floor) = (found.store_id, found.created, found.incarnation_floor);
    format::put_restored(&*disk, id, created, floor).expect("no faults");
    let written = format::look(&*disk)
        .expect("it is of this version")
        .expect("it is there");
    let (of, since, above) = (written.store_id, written.created, written.incarnation_floor);
    assert_eq!((of, since, above), (id, created, floor));
}

/// The end of the file of a body: the description, and a tail with its sums.
fn body(bytes: &[u8]) {
    const TAIL: usize = 48;
    let (id, mut bytes) = (BlobId::new(1, 2, 3, 4), bytes.to_vec());
    if let Some(at) = bytes.len().checked_sub(TAIL) {
        let length = u32::from_le_bytes(bytes[at + 32..at + 36].try_into().expect("four bytes"));
        let described = at
            .checked_sub(length as usize)
            .map(|start| crc32c(&bytes[start..at]));
        bytes[at + 8..at + 24].copy_from_slice(&id.0.to_be_bytes());
        bytes[at + 40..at + 44].copy_from_slice(&described.unwrap_or(0).to_le_bytes());
        let tail = summed(&bytes[at..]);
        bytes[at..].copy_from_slice(&tail);
    }
    let disk = SimulatedDisk::new(1);
    put(&*disk, &format!("objects/00/02/{id}"), &bytes);
    let files = Files::of_others(disk, Env::real());
    let described = files.described(id).expect("no faults");
    let size = files.stated_size(id).expect("no faults");
    assert!(described.is_none() || size.is_some());
}

/// A directory of backups: its mark, and a manifest.
fn backup(bytes: &[u8]) {
    let (mark, manifest) = bytes.split_at(bytes.len().min(64));
    let disk = SimulatedDisk::new(1);
    put(&*disk, "JAYBACKUP", &summed(mark));
    put(&*disk, "manifests/1.manifest", &summed(manifest));
    let Ok(vault) = Vault::open(disk) else {
        return;
    };
    let (found, unreadable) = vault.list().expect("no faults");
    assert_eq!(found.len() + unreadable.len(), 1);
    for found in found {
        assert_eq!(**found.encode(), summed(manifest));
        let told = found.info();
        // Verify and restore reckon with such sums.
        let _ = told.pack_bytes + told.object_bytes + told.file_bytes + told.row_bytes;
    }
}

/// A snapshot whose sums are right, but for its end; whose rows may be anything.
fn snapshot(spec: &mut Reader) -> Result<(), DecodeError> {
    let mut bytes = b"JAYSNAP\x01\x01\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&STORE);
    bytes.extend_from_slice(spec.take(16, "created, rows")?);
    let checkpoint = spec.bytes16("checkpoint")?;
    bytes.extend_from_slice(&(checkpoint.len() as u16).to_le_bytes());
    bytes.extend_from_slice(checkpoint);
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    let mut blocks = Vec::new();
    for _ in 0..spec.u8("blocks")? % 4 {
        let rows = u32::from(spec.u8("rows")?);
        let payload = spec.bytes16("payload")?;
        let mut block = b"JROW".to_vec();
        block.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        block.extend_from_slice(&rows.to_le_bytes());
        block.extend_from_slice(payload);
        let sum = crc32c_of(&[&block]);
        block.extend_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(&block);
        blocks.push((rows, payload));
    }
    bytes.extend_from_slice(spec.rest());
    let disk = SimulatedDisk::new(1);
    if let Ok(reader) = SnapshotReader::open(put(&*disk, "snapshot", &bytes), STORE, "1") {
        read(reader, &blocks);
    }
    Ok(())
}

fn read(mut reader: SnapshotReader, blocks: &[(u32, &[u8])]) {
    for (count, payload) in blocks {
        let Ok(rows) = reader.next_block() else {
            return;
        };
        let rows = rows.expect("its end comes behind the blocks");
        assert_eq!(rows.len(), *count as usize);
        let lengths = rows.iter().map(|(key, row)| 6 + key.len() + row.len());
        assert_eq!(lengths.sum::<usize>(), payload.len());
    }
    while let Ok(Some(_)) = reader.next_block() {}
}

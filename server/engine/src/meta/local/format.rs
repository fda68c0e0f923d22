//! The file FORMAT and the making of an empty store.

use std::{io, sync::Arc};

use crate::{
    OpenError,
    codec::{Reader, Writer, crc32c},
    disk::Disk,
    env::Env,
    meta::local::{index::Index, packs},
};

const MAGIC: &[u8; 8] = b"JAYSTORE";
/// See FORMAT.md. Every version since the first can be read; a start makes it this one.
const VERSION: u32 = 3;
const FILE: &str = "FORMAT";
const TEMPORARY: &str = "FORMAT.new";
/// The file of the index.
pub const INDEX: &str = "index.redb";
const INDEX_TEMPORARY: &str = "index.new";

/// Directories of a store.
pub const DIRECTORIES: [&str; 4] = [packs::DIR, "objects", "quarantine", "backup"];

/// The id of the store in this directory, which is made when there is none.
pub fn open_or_create(disk: &Arc<dyn Disk>, env: &Env) -> Result<[u8; 16], OpenError> {
    let io = |e| OpenError::io("FORMAT could not be read", e);
    let bytes = match read(&**disk, FILE).map_err(io)? {
        Some(bytes) => bytes,
        None => match read(&**disk, TEMPORARY).map_err(io)? {
            // A making or an upgrade of the store was cut short when all but the name was done.
            Some(bytes) if decode(&bytes).is_ok() => {
                name(&**disk).map_err(|e| OpenError::io("FORMAT could not be named", e))?;
                bytes
            }
            _ => return create(disk, env),
        },
    };
    let (store_id, version) = decode(&bytes)?;
    if version < VERSION {
        // Before anything of the new format is written: older programs then refuse the store.
        upgrade(&**disk, &bytes).map_err(|e| OpenError::io("FORMAT could not be written", e))?;
    }
    // A copy may have left empty ones out.
    let made = DIRECTORIES
        .iter()
        .try_for_each(|directory| disk.create_dir(directory));
    made.map_err(|e| OpenError::io("a directory could not be made", e))?;
    Ok(store_id)
}

fn read(disk: &dyn Disk, path: &str) -> io::Result<Option<[u8; 64]>> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = [0; 64];
    // A shorter one is not complete.
    if file.len()? >= bytes.len() as u64 {
        file.read_at(&mut bytes, 0)?;
    }
    Ok(Some(bytes))
}

/// Gives FORMAT, complete under its temporary name, its own.
fn name(disk: &dyn Disk) -> io::Result<()> {
    disk.rename(TEMPORARY, FILE)?;
    disk.sync_dir("")
}

fn write(disk: &dyn Disk, bytes: &[u8]) -> io::Result<()> {
    remove_if_there(disk, TEMPORARY)?;
    let file = disk.create(TEMPORARY)?;
    file.write_at(bytes, 0)?;
    file.sync_data()
}

/// Makes a store of an older format one of this: only records that are written from now on differ.
fn upgrade(disk: &dyn Disk, old: &[u8; 64]) -> io::Result<()> {
    let (mut store_id, mut created) = ([0; 16], [0; 8]);
    store_id.copy_from_slice(&old[16..32]);
    created.copy_from_slice(&old[32..40]);
    write(
        disk,
        &encode(VERSION, store_id, u64::from_le_bytes(created)),
    )?;
    // At every moment one of the two is there.
    disk.sync_dir("")?;
    disk.unlink(FILE)?;
    name(disk)
}

fn create(disk: &Arc<dyn Disk>, env: &Env) -> Result<[u8; 16], OpenError> {
    let packs = match packs::Packs::numbers(&**disk) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        packs => packs.map_err(|e| OpenError::io("the log could not be read", e))?,
    };
    if !packs.is_empty() {
        return Err(OpenError::Damaged {
            what: "The directory has a log but no FORMAT file, so it is not known whose it is. \
                   Put FORMAT back from a copy, or start on another directory (JAY_DATA_DIR)."
                .into(),
        });
    }
    let names = disk
        .read_dir("")
        .map_err(|e| OpenError::io("the directory could not be read", e))?;
    if let Some(name) = names.iter().find(|name| !may_be_ours(name)) {
        return Err(OpenError::Damaged {
            what: format!(
                "The directory has files that are not Jay's ({name}), so no store was made in it: give \
                 Jay a directory of its own (JAY_DATA_DIR)."
            ),
        });
    }
    let made = make(disk, env);
    made.map_err(|e| OpenError::io("a new store could not be made", e))
}

fn make(disk: &Arc<dyn Disk>, env: &Env) -> io::Result<[u8; 16]> {
    for directory in DIRECTORIES {
        disk.create_dir(directory)?;
    }
    // Leftovers of a start that was cut short before FORMAT was there: nothing was acknowledged yet.
    for leftover in [TEMPORARY, INDEX_TEMPORARY, INDEX] {
        remove_if_there(&**disk, leftover)?;
    }
    let file = disk.create(INDEX_TEMPORARY)?;
    let index = Index::open(file, 1 << 20).map_err(io::Error::other)?;
    drop(index);
    disk.rename(INDEX_TEMPORARY, INDEX)?;
    disk.sync_dir("")?;
    let store_id = env.random();
    write(&**disk, &encode(VERSION, store_id, env.clock.now().0))?;
    name(&**disk)?;
    Ok(store_id)
}

/// What a first start that was cut short may have left, and what file systems put into their roots.
fn may_be_ours(name: &str) -> bool {
    const OURS: [&str; 6] = [
        FILE,
        TEMPORARY,
        INDEX,
        INDEX_TEMPORARY,
        "LOCK",
        "lost+found",
    ];
    OURS.contains(&name)
        || DIRECTORIES.contains(&name)
        || name.starts_with("credentials")
        || name.starts_with('.')
}

fn remove_if_there(disk: &dyn Disk, path: &str) -> io::Result<()> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn encode(version: u32, store_id: [u8; 16], created: u64) -> Vec<u8> {
    let mut w = Writer::with_capacity(64);
    w.raw(MAGIC)
        .u32(version)
        .u32(0)
        .raw(&store_id)
        .u64(created)
        .raw(&[0; 20]);
    let mut bytes = w.into_bytes();
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; 64]) -> Result<([u8; 16], u32), OpenError> {
    let damaged = |what: &str| OpenError::Damaged {
        what: format!(
            "The file FORMAT {what}. Put it back from a copy; the store was not touched."
        ),
    };
    let mut r = Reader::new("FORMAT", bytes);
    let fields = (|| Ok::<_, crate::codec::DecodeError>((r.array("magic")?, r.u32("version")?)))();
    let (magic, version): ([u8; 8], u32) = fields.map_err(|_| damaged("is too short"))?;
    if magic != *MAGIC
        || u32::from_le_bytes([bytes[60], bytes[61], bytes[62], bytes[63]]) != crc32c(&bytes[..60])
    {
        return Err(damaged("is damaged"));
    }
    if !(1..=VERSION).contains(&version) {
        return Err(OpenError::Damaged {
            what: format!(
                "The store has format version {version}, this program knows {VERSION}: \
                 use the version of Jay that wrote it, or a newer one."
            ),
        });
    }
    let mut store_id = [0; 16];
    store_id.copy_from_slice(&bytes[16..32]);
    Ok((store_id, version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::{Faults, SimulatedDisk};

    #[test]
    fn an_older_store_becomes_one_of_this_version_and_a_newer_one_is_refused() {
        let disk: Arc<dyn Disk> = SimulatedDisk::new(1);
        let id = open_or_create(&disk, &Env::real()).unwrap();
        let set = |version| {
            let file = disk.open(FILE).unwrap();
            file.write_at(&encode(version, id, 7), 0).unwrap();
        };
        let mut bytes = [0; 64];
        set(1);
        assert_eq!(open_or_create(&disk, &Env::real()).unwrap(), id);
        disk.open(FILE).unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes[..], encode(VERSION, id, 7)[..]);
        for version in [0, VERSION + 1] {
            set(version);
            let refused = open_or_create(&disk, &Env::real()).unwrap_err().to_string();
            assert!(refused.contains("format version"), "{refused}");
        }
    }

    #[test]
    fn a_log_that_cannot_be_read_is_not_taken_for_none() {
        for seed in 0..40 {
            let disk = SimulatedDisk::new(seed);
            let store: Arc<dyn Disk> = disk.clone();
            open_or_create(&store, &Env::real()).unwrap();
            disk.create(&packs::path(1)).unwrap();
            disk.unlink(FILE).unwrap();
            disk.set_faults(Faults {
                read_dir_errors: 500_000,
                ..Faults::default()
            });
            open_or_create(&store, &Env::real()).unwrap_err();
            disk.set_faults(Faults::default());
            assert!(disk.open(FILE).is_err(), "seed {seed}: a new store");
        }
    }

    #[test]
    fn a_directory_with_other_files_does_not_become_a_store() {
        let photos = SimulatedDisk::new(1);
        photos.create("holiday.jpg").unwrap();
        let photos: Arc<dyn Disk> = photos;
        let refused = open_or_create(&photos, &Env::real())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("holiday.jpg"), "{refused}");
        assert_eq!(photos.read_dir("").unwrap(), ["holiday.jpg"]);

        let begun = SimulatedDisk::new(2);
        for name in ["LOCK", "credentials", "FORMAT.new", "index.new"] {
            begun.create(name).unwrap();
        }
        let begun: Arc<dyn Disk> = begun;
        let id = open_or_create(&begun, &Env::real()).unwrap();
        assert_eq!(open_or_create(&begun, &Env::real()).unwrap(), id);
    }
}

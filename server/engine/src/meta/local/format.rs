//! The file FORMAT and the making of an empty store.

use std::{io, sync::Arc};

use crate::{
    OpenError,
    codec::{Reader, Writer, crc32c},
    disk::Disk,
    env::Env,
    meta::local::{index::Index, packs, space::BALLAST},
};

const MAGIC: &[u8; 8] = b"JAYSTORE";
/// See FORMAT.md. Every version since the first can be read; a start makes it this one.
const VERSION: u32 = 5;
const FILE: &str = "FORMAT";
const TEMPORARY: &str = "FORMAT.new";
/// The file of the index.
pub const INDEX: &str = "index.redb";
const INDEX_TEMPORARY: &str = "index.new";
/// There while a restore is under way, or when one was cut short: files are missing.
pub(crate) const RESTORING: &str = "RESTORING";

/// Directories of a store.
pub const DIRECTORIES: [&str; 4] = [packs::DIR, "objects", "quarantine", "backup"];

/// What FORMAT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    version: u32,
    /// The store in this directory.
    pub store_id: [u8; 16],
    /// When it was made, in milliseconds since 1970.
    pub created: u64,
    /// All starts from here on count from above this, so that ids of bodies that a restore has lost do not come
    /// again. 0 when nothing was ever restored, and no loss accepted.
    pub incarnation_floor: u32,
}

/// What the store in this directory is, which is made when there is none.
pub fn open_or_create(disk: &Arc<dyn Disk>, env: &Env) -> Result<Format, OpenError> {
    must_not_be_restored(&**disk)?;
    let io = |e| OpenError::io("FORMAT could not be read", e);
    let format = match read(&**disk, FILE).map_err(io)? {
        Some(bytes) => decode(&bytes)?,
        None => match read(&**disk, TEMPORARY).map_err(io)?.map(|b| decode(&b)) {
            // A making or an upgrade of the store was cut short when all but the name was done.
            Some(Ok(format)) => {
                name(&**disk).map_err(|e| OpenError::io("FORMAT could not be named", e))?;
                format
            }
            _ => return create(disk, env),
        },
    };
    if format.version < VERSION {
        // Before anything of the new format is written: older programs then refuse the store.
        replace(&**disk, &format).map_err(|e| OpenError::io("FORMAT could not be written", e))?;
    }
    // A copy may have left empty ones out.
    let made = DIRECTORIES
        .iter()
        .try_for_each(|directory| disk.create_dir(directory));
    made.map_err(|e| OpenError::io("a directory could not be made", e))?;
    Ok(format)
}

/// What the store in this directory is, without a change to it; `None` when there is none.
pub(crate) fn look(disk: &dyn Disk) -> Result<Option<Format>, OpenError> {
    let io = |e| OpenError::io("FORMAT could not be read", e);
    if let Some(bytes) = read(disk, FILE).map_err(io)? {
        return decode(&bytes).map(Some);
    }
    let begun = read(disk, TEMPORARY).map_err(io)?;
    Ok(begun.and_then(|bytes| decode(&bytes).ok()))
}

/// Notes that the store gives up a part of its past: what it remembers from before is not to be relied upon.
pub(crate) fn raise_floor(disk: &dyn Disk, env: &Env) -> Result<(), OpenError> {
    let Some(mut format) = look(disk)? else {
        return Ok(());
    };
    format.incarnation_floor = floor_now(env).max(format.incarnation_floor);
    replace(disk, &format).map_err(|e| OpenError::io("FORMAT could not be written", e))
}

/// Above all incarnations so far: no store is started more often than once in a second.
pub(crate) fn floor_now(env: &Env) -> u32 {
    u32::try_from(env.clock.now().0 / 1000).unwrap_or(u32::MAX - 1)
}

/// Says what a restored store is: in place of what FORMAT says, or where there is none.
pub(crate) fn put_restored(
    disk: &dyn Disk,
    store_id: [u8; 16],
    created: u64,
    incarnation_floor: u32,
) -> io::Result<()> {
    let format = Format {
        version: VERSION,
        store_id,
        created,
        incarnation_floor,
    };
    replace(disk, &format)
}

fn must_not_be_restored(disk: &dyn Disk) -> Result<(), OpenError> {
    match disk.open(RESTORING) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OpenError::io("RESTORING could not be looked at", error)),
        Ok(_) => Err(OpenError::Damaged {
            what: format!(
                "A restore into the directory was not finished, so files are missing: give the same \
                 `jay backup restore` again. (Who wants to go without it removes the file {RESTORING}.)"
            ),
        }),
    }
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

/// Puts a FORMAT of this version in place of what is there: only records that are written from now on differ.
fn replace(disk: &dyn Disk, format: &Format) -> io::Result<()> {
    write(disk, &encode(VERSION, format))?;
    // At every moment one of the two is there.
    disk.sync_dir("")?;
    remove_if_there(disk, FILE)?;
    name(disk)
}

fn create(disk: &Arc<dyn Disk>, env: &Env) -> Result<Format, OpenError> {
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
    if let Some(name) = foreign_file(&**disk)? {
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

/// A file in the directory that no start of Jay has put there.
pub(crate) fn foreign_file(disk: &dyn Disk) -> Result<Option<String>, OpenError> {
    let names = disk
        .read_dir("")
        .map_err(|e| OpenError::io("the directory could not be read", e))?;
    Ok(names.into_iter().find(|name| !may_be_ours(name)))
}

fn make(disk: &Arc<dyn Disk>, env: &Env) -> io::Result<Format> {
    for directory in DIRECTORIES {
        disk.create_dir(directory)?;
    }
    // Leftovers of a start that was cut short before FORMAT was there: nothing was acknowledged yet.
    for leftover in [TEMPORARY, INDEX_TEMPORARY, INDEX] {
        remove_if_there(&**disk, leftover)?;
    }
    let file = disk.create(INDEX_TEMPORARY)?;
    // Empty: it says whose it is from its first rows on.
    let index = Index::open(file, 1 << 20, [0; 16]).map_err(io::Error::other)?;
    drop(index);
    disk.rename(INDEX_TEMPORARY, INDEX)?;
    disk.sync_dir("")?;
    let format = Format {
        version: VERSION,
        store_id: env.random(),
        created: env.clock.now().0,
        incarnation_floor: 0,
    };
    write(&**disk, &encode(VERSION, &format))?;
    name(&**disk)?;
    Ok(format)
}

/// What a first start that was cut short may have left, and what file systems put into their roots.
fn may_be_ours(name: &str) -> bool {
    const OURS: [&str; 9] = [
        FILE,
        TEMPORARY,
        RESTORING,
        INDEX,
        INDEX_TEMPORARY,
        BALLAST,
        "LOCK",
        // The server's own certificate, which is there before the store.
        "tls",
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

fn encode(version: u32, format: &Format) -> Vec<u8> {
    let mut w = Writer::with_capacity(64);
    w.raw(MAGIC).u32(version).u32(0).raw(&format.store_id);
    w.u64(format.created).u32(format.incarnation_floor);
    w.raw(&[0; 16]);
    let mut bytes = w.into_bytes();
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; 64]) -> Result<Format, OpenError> {
    let damaged = |what: &str| OpenError::Damaged {
        what: format!(
            "The file FORMAT {what}. Put it back from a copy; the store was not touched."
        ),
    };
    let mut r = Reader::new("FORMAT", bytes);
    let mut fields = || -> Result<_, crate::codec::DecodeError> {
        let (magic, version): ([u8; 8], _) = (r.array("magic")?, r.u32("version")?);
        r.u32("flags")?;
        let format = Format {
            version,
            store_id: r.array("store id")?,
            created: r.u64("created")?,
            incarnation_floor: r.u32("incarnation floor")?,
        };
        Ok((magic, format))
    };
    let (magic, format) = fields().map_err(|_| damaged("is too short"))?;
    let version = format.version;
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
    Ok(format)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::simulated::{Faults, SimulatedDisk};

    #[test]
    fn an_older_store_becomes_one_of_this_version_and_a_newer_one_is_refused() {
        let disk: Arc<dyn Disk> = SimulatedDisk::new(1);
        let made = open_or_create(&disk, &Env::real()).unwrap();
        let older = Format {
            created: 7,
            incarnation_floor: 9,
            ..made
        };
        let set = |version| {
            let file = disk.open(FILE).unwrap();
            file.write_at(&encode(version, &older), 0).unwrap();
        };
        let mut bytes = [0; 64];
        set(1);
        let opened = open_or_create(&disk, &Env::real()).unwrap();
        assert_eq!(
            opened,
            Format {
                version: 1,
                ..older
            }
        );
        disk.open(FILE).unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes[..], encode(VERSION, &older)[..]);
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
    fn a_restore_that_was_cut_short_is_no_store() {
        for has_format in [true, false] {
            let disk: Arc<dyn Disk> = SimulatedDisk::new(1);
            if has_format {
                open_or_create(&disk, &Env::real()).unwrap();
            }
            disk.create(RESTORING).unwrap();
            let refused = open_or_create(&disk, &Env::real()).unwrap_err();
            assert!(refused.to_string().contains("restore"), "{refused}");
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
        for name in [
            "LOCK",
            "credentials",
            "tls",
            "FORMAT.new",
            "index.new",
            "ballast",
        ] {
            begun.create(name).unwrap();
        }
        let begun: Arc<dyn Disk> = begun;
        let id = open_or_create(&begun, &Env::real()).unwrap();
        assert_eq!(open_or_create(&begun, &Env::real()).unwrap(), id);
    }
}

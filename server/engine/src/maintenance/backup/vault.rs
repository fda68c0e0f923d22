//! The directory that holds the backups of one store: what is in it under which name. FORMAT.md draws it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use super::{
    BackupError, MANIFEST_SUFFIX,
    manifest::{Manifest, PackCopy},
    not_done,
};
use crate::{
    codec::{Reader, Writer, crc32c},
    disk::{Disk, DiskFile},
    env::Env,
    error::{Error, ErrorKind, Result},
    maintenance::snapshot::SnapshotReader,
    meta::{
        Hold, InlineBody, MetaReader, Rows,
        key::Key,
        record::{Location, Record},
    },
    types::UploadId,
};

/// Says that a directory holds backups, and of which store.
const MARK: &str = "JAYBACKUP";
const MARK_TEMPORARY: &str = "JAYBACKUP.new";
const MARK_MAGIC: &[u8; 8] = b"JAYBKDIR";
const MARK_VERSION: u32 = 1;
const MARK_BYTES: usize = 64;

pub(super) const LOCK: &str = "LOCK";
pub(super) const MANIFESTS: &str = "manifests";
pub(super) const SNAPSHOTS: &str = "snapshots";
pub(super) const PACKS: &str = "log";
pub(super) const OBJECTS: &str = "objects";
const DIRECTORIES: [&str; 4] = [MANIFESTS, SNAPSHOTS, PACKS, OBJECTS];
const MANIFEST_TEMPORARY: &str = "manifests/manifest.new";
pub(super) const SNAPSHOT_TEMPORARY: &str = "snapshots/snapshot.new";
pub(super) const PACK_TEMPORARY: &str = "log/pack.new";
/// Longest manifest that is believed, in bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Files of the log that are held open at a time.
const OPEN_PACKS_MAX: usize = 64;

/// Rows of a backup, read back.
pub(super) type RowsOf = Vec<(Key, Record)>;

/// See the module.
#[derive(Clone)]
pub struct Vault {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store_id: [u8; 16],
}

/// A manifest that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct UnreadableBackup {
    pub name: String,
    pub why: String,
}

impl Vault {
    /// The backups in a directory that has some.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, BackupError> {
        let found = read_mark(&*disk).map_err(not_done("JAYBACKUP could not be read"))?;
        match found {
            Some(store_id) => Ok(Self {
                disk,
                store_id: store_id?,
            }),
            None => Err(BackupError::Refused(
                "The directory holds no backups of Jay: it has no file JAYBACKUP.".into(),
            )),
        }
    }

    /// The directory for the backups of this store, which may be empty so far.
    pub fn open_or_make(
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        env: &Env,
    ) -> Result<Self, BackupError> {
        let found = read_mark(&*disk).map_err(not_done("JAYBACKUP could not be read"))?;
        match found.transpose()? {
            Some(other) if other != store_id => {
                return Err(BackupError::Refused(
                    "The directory holds the backups of another store: choose another one.".into(),
                ));
            }
            Some(_) => {}
            None => {
                must_be_empty(&*disk)?;
                make_mark(&*disk, store_id, env)
                    .map_err(not_done("the directory for the backups could not be made"))?;
            }
        }
        let vault = Self { disk, store_id };
        vault
            .make_directories()
            .map_err(not_done("the directory for the backups could not be made"))?;
        Ok(vault)
    }

    fn make_directories(&self) -> io::Result<()> {
        for directory in DIRECTORIES {
            self.disk.create_dir(directory)?;
        }
        // What a backup that was cut short has left.
        for leftover in [MANIFEST_TEMPORARY, PACK_TEMPORARY] {
            remove_if_there(&*self.disk, leftover)?;
        }
        // Whoever put what is there may not have come so far as to make it stay.
        self.disk.sync_dir(MANIFESTS)?;
        let manifests = self.disk.read_dir(MANIFESTS)?;
        for name in self.disk.read_dir(SNAPSHOTS)? {
            let backup = name.split('.').next().unwrap_or_default();
            if !manifests.contains(&format!("{backup}{MANIFEST_SUFFIX}")) {
                self.disk.unlink(&format!("{SNAPSHOTS}/{name}"))?;
            }
        }
        self.disk.sync_dir("")
    }

    /// All backups, the newest first, and what looks like one and cannot be read.
    pub fn list(&self) -> Result<(Vec<Manifest>, Vec<UnreadableBackup>), BackupError> {
        let names = self
            .disk
            .read_dir(MANIFESTS)
            .map_err(not_done("the backups could not be listed"))?;
        let (mut manifests, mut unreadable) = (Vec::new(), Vec::new());
        for name in names
            .iter()
            .filter_map(|name| name.strip_suffix(MANIFEST_SUFFIX))
        {
            match self.manifest(name) {
                Ok(manifest) => manifests.push(manifest),
                Err(why) => unreadable.push(UnreadableBackup {
                    name: name.to_owned(),
                    why: why.to_string(),
                }),
            }
        }
        manifests.sort_by(|a, b| b.name.cmp(&a.name));
        unreadable.sort_by(|a, b| b.name.cmp(&a.name));
        Ok((manifests, unreadable))
    }

    /// The backup of this name, or the newest one.
    pub fn find(&self, name: Option<&str>) -> Result<Manifest, BackupError> {
        let (manifests, unreadable) = self.list()?;
        let wanted = |manifest: &Manifest| name.is_none_or(|name| manifest.name == name);
        // Without a name the newest one is meant, and no older one in its place.
        let newest_unreadable = unreadable.into_iter().find(|bad| match name {
            Some(name) => bad.name == name,
            None => manifests.first().is_none_or(|good| good.name < bad.name),
        });
        if let Some(bad) = newest_unreadable {
            return Err(BackupError::Refused(format!(
                "The backup {} cannot be read ({}); name another one.",
                bad.name, bad.why
            )));
        }
        manifests.into_iter().find(wanted).ok_or_else(|| {
            BackupError::Refused(match name {
                Some(name) => format!("There is no backup {name} in the directory."),
                None => "There is no backup in the directory.".into(),
            })
        })
    }

    fn manifest(&self, name: &str) -> io::Result<Manifest> {
        let file = self
            .disk
            .open(&format!("{MANIFESTS}/{name}{MANIFEST_SUFFIX}"))?;
        let len = file.len()?;
        if len > MANIFEST_BYTES_MAX {
            return Err(invalid("it is too long"));
        }
        let mut bytes = zeroize::Zeroizing::new(vec![0; len as usize]);
        file.read_at(&mut bytes, 0)?;
        let manifest = Manifest::decode(name, &bytes).map_err(|e| invalid(&e.to_string()))?;
        match manifest.store_id == self.store_id {
            true => Ok(manifest),
            false => Err(invalid("it is of another store")),
        }
    }

    /// Makes a backup one, when all that it needs is there to stay.
    pub(super) fn put_manifest(&self, manifest: &Manifest) -> io::Result<()> {
        let file = self.disk.create(MANIFEST_TEMPORARY)?;
        file.write_at(&manifest.encode(), 0)?;
        file.sync_data()?;
        let path = format!("{MANIFESTS}/{}", manifest.file_name());
        self.disk.rename(MANIFEST_TEMPORARY, &path)?;
        self.disk.sync_dir(MANIFESTS)
    }

    /// A name above all that there were: the time, unless the clock went back.
    pub(super) fn new_name(&self, env: &Env) -> io::Result<String> {
        let mut names = self.disk.read_dir(MANIFESTS)?;
        names.extend(self.disk.read_dir(SNAPSHOTS)?);
        let number = |name: &String| name.split('.').next()?.parse::<u64>().ok();
        let above = names.iter().filter_map(number).max().map_or(0, |n| n + 1);
        Ok(format!("{:015}", env.clock.now().0.max(above)))
    }

    /// Goes through the rows of a backup.
    pub(super) fn rows(&self, name: &str) -> Result<SnapshotRows> {
        let file = self.disk.open(&snapshot_path(name))?;
        let reader = SnapshotReader::open(file, self.store_id, name)?;
        Ok(SnapshotRows { reader })
    }

    /// The files of the log that are there: by number and epoch the lengths.
    pub(super) fn packs(&self) -> io::Result<BTreeMap<(u32, u64), Vec<u64>>> {
        let mut packs: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for name in self.disk.read_dir(PACKS)? {
            if let Some((number, epoch, bytes)) = parse_pack_name(&name) {
                packs.entry((number, epoch)).or_default().push(bytes);
            }
        }
        packs
            .values_mut()
            .for_each(|lengths| lengths.sort_unstable());
        Ok(packs)
    }
}

/// The rows of one backup, block by block.
pub(super) struct SnapshotRows {
    pub(super) reader: SnapshotReader,
}

impl SnapshotRows {
    /// The next rows, and as they are; `None` behind the last ones.
    pub(super) fn next(&mut self) -> Result<Option<RowsOf>> {
        let Some(rows) = self.reader.next_block()? else {
            return Ok(None);
        };
        decoded(&rows).map(Some)
    }
}

/// What encoded rows say.
pub(super) fn decoded(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<RowsOf> {
    let unreadable = |error: crate::codec::DecodeError| {
        Error::new(
            ErrorKind::InternalError,
            "A row of a backup cannot be read.",
        )
        .with_source(error)
    };
    let rows = rows.iter();
    rows.map(|(key, row)| {
        let record = Record::decode(key[0], row).map_err(unreadable)?;
        Ok((Key::decode(key).map_err(unreadable)?, record))
    })
    .collect()
}

/// The bodies of one backup that lie in files of the log, for those who read bodies by their rows.
pub(super) struct PackBodies {
    disk: Arc<dyn Disk>,
    /// Where each file of the log is.
    paths: BTreeMap<u32, String>,
    open: Mutex<BTreeMap<u32, Arc<dyn DiskFile>>>,
}

impl PackBodies {
    pub(super) fn new(vault: &Vault, packs: &[PackCopy]) -> io::Result<Self> {
        let there = vault.packs()?;
        let path = |pack: &PackCopy| Some((pack.number, pack_path(pack, pack.found_in(&there)?)));
        Ok(Self {
            disk: vault.disk.clone(),
            paths: packs.iter().filter_map(path).collect(),
            open: Mutex::default(),
        })
    }

    fn file(&self, number: u32) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let mut open = self.open.lock().expect("no holder panics");
        if let Some(file) = open.get(&number) {
            return Ok(Some(file.clone()));
        }
        let Some(path) = self.paths.get(&number) else {
            return Ok(None);
        };
        let file = match self.disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if open.len() >= OPEN_PACKS_MAX {
            open.pop_first();
        }
        open.insert(number, file.clone());
        Ok(Some(file))
    }
}

impl MetaReader for PackBodies {
    fn get(&self, _: &Key) -> Result<Option<Record>> {
        Ok(None)
    }

    fn scan(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Rows> {
        let (rows, next) = (Vec::new(), None);
        Ok(Rows { rows, next })
    }

    fn open_inline(&self, location: &Location) -> Result<Option<InlineBody>> {
        let Location::Pack {
            pack, offset, sums, ..
        } = location
        else {
            return Ok(None);
        };
        let file = self.file(*pack)?;
        Ok(file.map(|file| InlineBody::new(file, u64::from(*offset), sums.clone())))
    }

    fn hold_parts(&self, _: UploadId) -> Result<Option<Box<dyn Hold>>> {
        Ok(None)
    }
}

impl PackCopy {
    /// The length of the file that has it: a file of the log only ever grew, so the longest begins with all others.
    pub(super) fn found_in(&self, there: &BTreeMap<(u32, u64), Vec<u64>>) -> Option<u64> {
        let longest = *there.get(&(self.number, self.epoch))?.last()?;
        (longest >= self.bytes).then_some(longest)
    }
}

/// The path of a file of the log of this length.
pub(super) fn pack_path(pack: &PackCopy, bytes: u64) -> String {
    format!("{PACKS}/{}", pack_name(pack.number, pack.epoch, bytes))
}

fn pack_name(number: u32, epoch: u64, bytes: u64) -> String {
    format!("{number:08}-{epoch:016x}-{bytes}.pack")
}

pub(super) fn parse_pack_name(name: &str) -> Option<(u32, u64, u64)> {
    let mut parts = name.strip_suffix(".pack")?.splitn(3, '-');
    let number = parts.next()?.parse().ok()?;
    let epoch = u64::from_str_radix(parts.next()?, 16).ok()?;
    let bytes = parts.next()?.parse().ok()?;
    (name == pack_name(number, epoch, bytes)).then_some((number, epoch, bytes))
}

pub(super) fn snapshot_path(name: &str) -> String {
    format!("{SNAPSHOTS}/{name}.snapshot")
}

/// The store of the backups in a directory; `None` when it is not one for backups.
fn read_mark(disk: &dyn Disk) -> io::Result<Option<Result<[u8; 16], BackupError>>> {
    let file = match disk.open(MARK) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = [0; MARK_BYTES];
    if file.len()? >= MARK_BYTES as u64 {
        file.read_at(&mut bytes, 0)?;
    }
    Ok(Some(decode_mark(&bytes).map_err(|error| {
        BackupError::Refused(format!("The file JAYBACKUP cannot be used: {error}."))
    })))
}

fn make_mark(disk: &dyn Disk, store_id: [u8; 16], env: &Env) -> io::Result<()> {
    remove_if_there(disk, MARK_TEMPORARY)?;
    let mut w = Writer::with_capacity(MARK_BYTES);
    w.raw(MARK_MAGIC).u32(MARK_VERSION).u32(0).raw(&store_id);
    w.u64(env.clock.now().0).raw(&[0; 20]);
    let mut bytes = w.into_bytes();
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    let file = disk.create(MARK_TEMPORARY)?;
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    disk.rename(MARK_TEMPORARY, MARK)?;
    disk.sync_dir("")
}

fn decode_mark(bytes: &[u8; MARK_BYTES]) -> Result<[u8; 16], crate::codec::DecodeError> {
    let mut r = Reader::new("JAYBACKUP", bytes);
    if r.array("magic")? != *MARK_MAGIC {
        return Err(r.error("magic"));
    }
    let version = r.u32("version")?;
    r.take(4, "zero")?;
    let store_id = r.array("store id")?;
    r.take(28, "zero")?;
    if r.u32("crc32c")? != crc32c(&bytes[..MARK_BYTES - 4]) {
        return Err(r.error("crc32c"));
    }
    match version {
        MARK_VERSION => Ok(store_id),
        _ => Err(r.error("version")),
    }
}

/// Refuses a directory that neither has backups nor could get some, before anything is put into it.
pub(super) fn must_be_usable(disk: &dyn Disk) -> Result<(), BackupError> {
    match disk.open(MARK) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => must_be_empty(disk),
        // Whose it is will be asked later.
        _ => Ok(()),
    }
}

/// A directory that becomes one for backups has nothing but what file systems put into their roots.
fn must_be_empty(disk: &dyn Disk) -> Result<(), BackupError> {
    let names = disk
        .read_dir("")
        .map_err(not_done("the directory for the backups could not be read"))?;
    let is_ours =
        |name: &str| [LOCK, MARK_TEMPORARY, "lost+found"].contains(&name) || name.starts_with('.');
    match names.iter().find(|name| !is_ours(name)) {
        None => Ok(()),
        Some(name) => Err(BackupError::Refused(format!(
            "The directory has files that are not of a backup ({name}): give the backups one of their own."
        ))),
    }
}

pub(super) fn remove_if_there(disk: &dyn Disk, path: &str) -> io::Result<()> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

//! Bodies in files `objects/ab/cd/<blob id>`, as FORMAT.md draws them.
//!
//! A file is written without a name, synced, linked into the current shard directory, and that directory is
//! synced once for all who wait. The shard is rotated every few thousand files, because syncing one shared
//! directory costs a small part of syncing many random ones.

use std::{collections::BTreeSet, io, ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{
    blob::{BlobReader, BlobStore, BlobWriter, Description, InFlight},
    codec::{DecodeError, Reader, Writer, crc32c, crc32c_of},
    disk::{Disk, DiskFile},
    env::Env,
    meta::{
        BLOCK_BYTES,
        key::{BlobId, BucketId, Key},
        local::space::Space,
    },
    planted::{self, Bug},
    sync::{self, Condvar, Mutex, MutexGuard, Race},
};

/// Files in a shard before the next one is begun.
const FILES_PER_SHARD: u64 = 4096;
/// Written bytes after which writing out is started, so that the final sync finds little to do.
const WRITEBACK_BYTES: u64 = 4 << 20;
const TABLE_BYTES: usize = 4096;
const SUMS_PER_TABLE: usize = TABLE_BYTES / 4 - 1;
const TAIL_MAGIC: &[u8; 7] = b"JAYBLOB";
/// Since format 2 the description names the row, which may be that of a part.
const TAIL_VERSION: u8 = 2;
const TAIL_BYTES: usize = 48;
const DIR: &str = "objects";
const QUARANTINE: &str = "quarantine";

/// The directory of a shard.
pub fn shard_dir(shard: u16) -> String {
    format!("{DIR}/{:02x}/{:02x}", shard >> 8, shard & 0xff)
}

/// The path of a body.
pub(crate) fn path(id: BlobId) -> String {
    format!("{}/{id}", shard_dir(id.shard()))
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    shared: Arc<Shared>,
}

/// What writers, readers and bodies in flight share.
pub struct Shared {
    disk: Arc<dyn Disk>,
    env: Env,
    incarnation: u32,
    state: Mutex<State>,
    syncs: DirectorySyncs,
    space: Arc<Space>,
}

#[derive(Default)]
struct State {
    counter: u64,
    /// Shards whose directories are there and durable.
    ready: BTreeSet<u16>,
    /// See [`Files::lowest_uncommitted`].
    floor: BlobId,
    /// Bodies that are written or wait for their commit.
    in_flight: BTreeSet<BlobId>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Files")
    }
}

impl Files {
    /// The files of a directory that no store is open on, to be looked at.
    pub fn of_others(disk: Arc<dyn Disk>, env: Env) -> Self {
        let space = Arc::new(Space::new(disk.clone(), 0));
        Self::new(disk, env, 0, BlobId::default(), space)
    }

    /// The files of a store that is being started for the `incarnation`th time, in which files from `floor`
    /// on may never have been committed. Bodies are refused while `space` is short.
    pub fn new(
        disk: Arc<dyn Disk>,
        env: Env,
        incarnation: u32,
        floor: BlobId,
        space: Arc<Space>,
    ) -> Self {
        let state = Mutex::new(State {
            floor,
            ..State::default()
        });
        let syncs = DirectorySyncs::default();
        Self {
            shared: Arc::new(Shared {
                disk,
                env,
                incarnation,
                state,
                syncs,
                space,
            }),
        }
    }

    /// The least id that may belong to a file that was never committed.
    pub fn lowest_uncommitted(&self) -> BlobId {
        self.shared.lock().floor
    }

    /// Nothing below `id` is known never to have been committed.
    pub(crate) fn spare_below(&self, id: BlobId) {
        let mut state = self.shared.lock();
        state.floor = state.floor.max(id);
    }

    /// Every file of earlier starts is accounted for.
    pub fn swept(&self) {
        self.shared.lock().floor = BlobId::new(self.shared.incarnation, 0, 0, 0);
    }

    /// Something may be missing from the rows: until the next sweep no file counts as never committed.
    pub fn distrust_rows(&self) {
        self.shared.lock().floor = BlobId(u128::MAX);
    }

    /// True while a body is written or waits for its commit.
    pub fn is_in_flight(&self, id: BlobId) -> bool {
        self.shared.lock().in_flight.contains(&id)
    }

    /// The start of the store that ids are made under now.
    pub fn incarnation(&self) -> u32 {
        self.shared.incarnation
    }

    /// The shards that have a directory.
    pub fn shards(&self) -> io::Result<Vec<u16>> {
        let mut shards = Vec::new();
        for high in self.shared.disk.read_dir(DIR)? {
            let Some(high_number) = hex_byte(&high) else {
                continue;
            };
            for low in self.shared.disk.read_dir(&format!("{DIR}/{high}"))? {
                shards.extend(hex_byte(&low).map(|low| u16::from_be_bytes([high_number, low])));
            }
        }
        shards.sort_unstable();
        Ok(shards)
    }

    /// Removes what a writer left in a shard when it was killed on a file system without unnamed files.
    /// Only in shards that this process does not write to.
    pub fn remove_temporary(&self, shard: u16) -> io::Result<()> {
        if self.shared.lock().ready.contains(&shard) {
            return Ok(());
        }
        let dir = shard_dir(shard);
        let names = self.shared.disk.read_dir(&dir)?;
        let left = names.iter().filter(|name| BlobId::parse(name).is_none());
        left.into_iter()
            .try_for_each(|name| self.shared.disk.unlink(&format!("{dir}/{name}")))
    }

    /// Makes everything that was removed from a shard stay removed.
    pub fn sync_shard(&self, shard: u16) -> io::Result<()> {
        self.shared.disk.sync_dir(&shard_dir(shard))
    }

    /// Moves a file that nothing names out of the way without destroying it.
    pub fn quarantine(&self, id: BlobId) -> io::Result<()> {
        let disk = &self.shared.disk;
        match disk.rename(&path(id), &format!("{QUARANTINE}/{id}")) {
            // A crash left both names.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk.unlink(&path(id))?,
            renamed => renamed?,
        }
        self.shared.disk.sync_dir(QUARANTINE)?;
        self.shared.disk.sync_dir(&shard_dir(id.shard()))
    }

    /// The length of the body by the end of its file; `None` when that cannot be read.
    pub fn stated_size(&self, id: BlobId) -> io::Result<Option<u64>> {
        let file = self.shared.disk.open(&path(id))?;
        Ok(read_tail(&*file, id)?.map(|(tail, _)| tail.body_bytes))
    }

    /// The row of the object or part that a file was written for; `None` when the file is no complete body.
    pub fn described(&self, id: BlobId) -> io::Result<Option<Key>> {
        let file = self.shared.disk.open(&path(id))?;
        let Some((tail, tail_at)) = read_tail(&*file, id)? else {
            return Ok(None);
        };
        let Some(at) = tail_at.checked_sub(tail.description_bytes.into()) else {
            return Ok(None);
        };
        let mut description = vec![0; tail.description_bytes as usize];
        file.read_at(&mut description, at)?;
        Ok((crc32c(&description) == tail.description_sum)
            .then(|| decode_owner(tail.version, &description).ok())
            .flatten())
    }

    /// Removes a file at once, for a deliberate bug.
    pub(crate) fn remove_now(&self, id: BlobId) {
        let _ = self.shared.disk.unlink(&path(id));
    }
}

impl BlobStore for Files {
    fn create(&self) -> io::Result<Box<dyn BlobWriter>> {
        self.shared.must_have_room()?;
        let id = self.shared.next_id()?;
        let file = self.shared.disk.create_unnamed(&shard_dir(id.shard()));
        match file {
            Ok(file) => Ok(Box::new(FileWriter::new(self.shared.clone(), id, file))),
            Err(error) => {
                self.shared.settle(id);
                Err(error)
            }
        }
    }

    fn open(&self, id: BlobId, size: u64) -> io::Result<Arc<dyn BlobReader>> {
        let file = self.shared.disk.open(&path(id))?;
        Ok(Arc::new(FileReader::new(file, id, size)))
    }

    fn delete(&self, id: BlobId) -> io::Result<()> {
        match self.shared.disk.unlink(&path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_deletes(&self, ids: &[BlobId]) -> io::Result<()> {
        let shards: BTreeSet<u16> = ids.iter().map(|id| id.shard()).collect();
        shards.into_iter().try_for_each(|shard| {
            match self.shared.disk.sync_dir(&shard_dir(shard)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
    }

    fn list(&self, shard: u16) -> io::Result<Vec<BlobId>> {
        let names = self.shared.disk.read_dir(&shard_dir(shard))?;
        Ok(names
            .iter()
            .filter_map(|name| BlobId::parse(name))
            .collect())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// A body must not take the room that was given back for deletes.
    fn must_have_room(&self) -> io::Result<()> {
        match self.space.is_short() {
            true => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the disk is full",
            )),
            false => Ok(()),
        }
    }

    /// A new id in a shard whose directory is durable.
    fn next_id(&self) -> io::Result<BlobId> {
        let random = self.env.random_u32();
        let mut state = self.lock();
        let counter = state.counter;
        let first = self.incarnation.wrapping_mul(0x9e37) as u16;
        let shard = first.wrapping_add((counter / FILES_PER_SHARD) as u16);
        if !state.ready.contains(&shard) {
            // Under the lock: it happens once in thousands of files, and all others would need it too.
            self.make_shard(shard)?;
            state.ready.insert(shard);
        }
        state.counter += 1;
        let id = BlobId::new(self.incarnation, shard, counter, random);
        state.in_flight.insert(id);
        Ok(id)
    }

    fn make_shard(&self, shard: u16) -> io::Result<()> {
        let parent = format!("{DIR}/{:02x}", shard >> 8);
        self.disk.create_dir(&parent)?;
        self.disk.create_dir(&shard_dir(shard))?;
        self.disk.sync_dir(&parent)?;
        self.disk.sync_dir(DIR)
    }

    /// The body's fate is known, or left to the next start.
    pub(super) fn settle(&self, id: BlobId) {
        self.lock().in_flight.remove(&id);
    }

    /// Nothing will ever point at the body.
    pub(super) fn abandon(&self, id: BlobId) {
        if let Err(error) = self.disk.unlink(&path(id)) {
            tracing::debug!(blob = %id, %error, "an abandoned file stays until the next collection");
        }
        self.settle(id);
    }
}

struct FileWriter {
    shared: Arc<Shared>,
    id: BlobId,
    file: Arc<dyn DiskFile>,
    size: u64,
    written_back: u64,
    /// Sum of the block that is being filled.
    block: crc_fast::Digest,
    sums: Vec<u32>,
    done: bool,
}

impl FileWriter {
    fn new(shared: Arc<Shared>, id: BlobId, file: Arc<dyn DiskFile>) -> Self {
        let block = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        Self {
            shared,
            id,
            file,
            size: 0,
            written_back: 0,
            block,
            sums: Vec::new(),
            done: false,
        }
    }

    fn sum(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let filled = (self.size % BLOCK_BYTES as u64) as usize;
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - filled));
            self.block.update(now);
            self.size += now.len() as u64;
            if self.size.is_multiple_of(BLOCK_BYTES as u64) {
                self.sums.push(self.block.finalize_reset() as u32);
            }
            bytes = rest;
        }
    }

    fn end(&mut self, description: Description<'_>) -> Vec<u8> {
        if !self.size.is_multiple_of(BLOCK_BYTES as u64) {
            self.sums.push(self.block.finalize_reset() as u32);
        }
        let mut w = Writer::with_capacity(2 * TABLE_BYTES);
        w.raw(&vec![
            0;
            (self.size.next_multiple_of(8) - self.size) as usize
        ]);
        for (number, sums) in self.sums.chunks(SUMS_PER_TABLE).enumerate() {
            w.raw(&table(self.id, number as u32, sums));
        }
        let mut d = Writer::with_capacity(512);
        d.u64(description.bucket.0)
            .bytes16(description.key.as_bytes())
            .bytes16(&description.row.encode());
        d.raw(&description.record.encode());
        let described = d.into_bytes();
        let mut t = Writer::with_capacity(48);
        t.raw(TAIL_MAGIC)
            .u8(TAIL_VERSION)
            .raw(&self.id.0.to_be_bytes())
            .u64(self.size);
        t.u32(described.len() as u32).u32(0).u32(crc32c(&described));
        let mut tail = t.into_bytes();
        tail.extend_from_slice(&crc32c(&tail).to_le_bytes());
        w.raw(&described).raw(&tail);
        w.into_bytes()
    }
}

impl BlobWriter for FileWriter {
    fn id(&self) -> BlobId {
        self.id
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.shared.must_have_room()?;
        self.file.write_at(bytes, self.size)?;
        self.sum(bytes);
        let pending = self.size - self.written_back;
        if pending >= WRITEBACK_BYTES {
            self.file.start_writeback(self.written_back, pending);
            self.written_back = self.size;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, description: Description<'_>) -> io::Result<InFlight> {
        self.shared.must_have_room()?;
        let end = self.end(description);
        self.file.write_at(&end, self.size)?;
        self.file.sync_data()?;
        self.shared.disk.link(&*self.file, &path(self.id))?;
        self.done = true;
        // From here on the guard removes the file when anything goes wrong.
        let in_flight = InFlight {
            id: self.id,
            files: Some(self.shared.clone()),
        };
        if !planted::is(Bug::SkipDirectorySync) {
            self.shared
                .syncs
                .sync(&*self.shared.disk, self.id.shard())?;
        }
        Ok(in_flight)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.done {
            self.shared.settle(self.id);
        }
    }
}

/// The end of an object file.
struct Tail {
    version: u8,
    body_bytes: u64,
    description_bytes: u32,
    description_sum: u32,
}

/// The end of an object file, and where it begins; `None` when it cannot be read.
fn read_tail(file: &dyn DiskFile, id: BlobId) -> io::Result<Option<(Tail, u64)>> {
    let Some(tail_at) = file.len()?.checked_sub(TAIL_BYTES as u64) else {
        return Ok(None);
    };
    let mut tail = [0; TAIL_BYTES];
    file.read_at(&mut tail, tail_at)?;
    Ok(decode_tail(&tail, id).ok().map(|tail| (tail, tail_at)))
}

fn decode_tail(tail: &[u8; TAIL_BYTES], id: BlobId) -> Result<Tail, DecodeError> {
    let mut r = Reader::new("tail of an object file", tail);
    let (magic, version) = (r.array("magic")?, r.u8("version")?);
    if magic != *TAIL_MAGIC || r.array("blob id")? != id.0.to_be_bytes() {
        return Err(r.error("magic"));
    }
    if !(1..=TAIL_VERSION).contains(&version) {
        return Err(r.error("version"));
    }
    let body_bytes = r.u64("body bytes")?;
    let description_bytes = r.u32("description bytes")?;
    r.u32("zero")?;
    let description_sum = r.u32("crc32c of description")?;
    if r.u32("crc32c")? != crc32c(&tail[..TAIL_BYTES - 4]) {
        return Err(r.error("crc32c"));
    }
    Ok(Tail {
        version,
        body_bytes,
        description_bytes,
        description_sum,
    })
}

fn decode_owner(version: u8, description: &[u8]) -> Result<Key, DecodeError> {
    let mut r = Reader::new("description of an object file", description);
    let bucket = BucketId(r.u64("bucket id")?);
    let key = r.text16("key")?;
    match version {
        1 => Ok(Key::Object(bucket, key.to_owned())),
        _ => Key::decode(r.bytes16("row")?),
    }
}

/// One page of block sums.
fn table(id: BlobId, number: u32, sums: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TABLE_BYTES);
    sums.iter()
        .for_each(|sum| bytes.extend_from_slice(&sum.to_le_bytes()));
    bytes.resize(TABLE_BYTES - 4, 0);
    let sum = crc32c_of(&[&id.0.to_be_bytes(), &number.to_le_bytes(), &bytes]);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

pub(super) struct FileReader {
    file: Arc<dyn DiskFile>,
    id: BlobId,
    size: u64,
    /// The page of block sums that was read last.
    table: Mutex<Option<(u32, Arc<[u32]>)>>,
}

impl FileReader {
    pub(super) fn new(file: Arc<dyn DiskFile>, id: BlobId, size: u64) -> Self {
        let table = Mutex::default();
        Self {
            file,
            id,
            size,
            table,
        }
    }

    fn sums(&self, number: u32) -> io::Result<Arc<[u32]>> {
        let mut held = self.table.lock().expect("no holder panics");
        if let Some((at, sums)) = &*held
            && *at == number
        {
            return Ok(sums.clone());
        }
        let mut bytes = vec![0; TABLE_BYTES];
        let offset = self.size.next_multiple_of(8) + u64::from(number) * TABLE_BYTES as u64;
        self.file.read_at(&mut bytes, offset)?;
        let (sums, sum) = bytes.split_at(TABLE_BYTES - 4);
        if crc32c_of(&[&self.id.0.to_be_bytes(), &number.to_le_bytes(), sums]).to_le_bytes() != sum
        {
            return Err(invalid(format!(
                "table {number} of block sums of {} is damaged",
                self.id
            )));
        }
        let sums: Arc<[u32]> = sums
            .as_chunks()
            .0
            .iter()
            .map(|chunk| u32::from_le_bytes(*chunk))
            .collect();
        *held = Some((number, sums.clone()));
        Ok(sums)
    }
}

impl BlobReader for FileReader {
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let block = BLOCK_BYTES as u64;
        let start = range.start / block * block;
        let end = range.end.next_multiple_of(block).min(self.size);
        let mut bytes = vec![0; (end - start) as usize];
        self.file.read_at(&mut bytes, start)?;
        let checked = match planted::is(Bug::ReadUnchecked) {
            true => 0,
            false => bytes.len(),
        };
        for (i, chunk) in bytes[..checked].chunks(BLOCK_BYTES).enumerate() {
            let number = (start / block) as usize + i;
            let sums = self.sums((number / SUMS_PER_TABLE) as u32)?;
            if crc32c(chunk) != sums[number % SUMS_PER_TABLE]
                && !(i > 0 && planted::is(Bug::CrcOfWrongRange))
            {
                return Err(invalid(format!(
                    "block {number} of {} does not match its sum",
                    self.id
                )));
            }
        }
        Ok(Bytes::from(bytes).slice((range.start - start) as usize..(range.end - start) as usize))
    }

    fn check_end(&self) -> io::Result<()> {
        self.check_length()?;
        let tables = self.size.div_ceil((BLOCK_BYTES * SUMS_PER_TABLE) as u64);
        let body = self.size.next_multiple_of(8) + tables * TABLE_BYTES as u64;
        let tail_at = self.file.len()?.saturating_sub(TAIL_BYTES as u64);
        let mut bytes = [0; TAIL_BYTES];
        self.file.read_at(&mut bytes, tail_at)?;
        let tail = decode_tail(&bytes, self.id);
        let tail = tail.map_err(|e| invalid(format!("the end of {} is damaged: {e}", self.id)))?;
        match tail.body_bytes == self.size && tail_at == body + u64::from(tail.description_bytes) {
            true => Ok(()),
            false => Err(invalid(format!("{} is not as long as it was", self.id))),
        }
    }

    fn check_length(&self) -> io::Result<()> {
        let tables = self.size.div_ceil((BLOCK_BYTES * SUMS_PER_TABLE) as u64);
        let needed = self.size.next_multiple_of(8) + tables * TABLE_BYTES as u64;
        match self.file.len()? >= needed {
            true => Ok(()),
            false => Err(invalid(format!(
                "{} is shorter than it was written",
                self.id
            ))),
        }
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn hex_byte(name: &str) -> Option<u8> {
    u8::from_str_radix(name, 16)
        .ok()
        .filter(|byte| name == format!("{byte:02x}"))
}

/// Shares the sync of a directory among all who linked a file into it meanwhile.
#[derive(Default)]
struct DirectorySyncs {
    state: Mutex<std::collections::HashMap<u16, Syncs>>,
    turned: Condvar,
}

#[derive(Default)]
struct Syncs {
    /// Syncs begun, and the one that is running.
    begun: u64,
    running: bool,
    /// Syncs ended, and how the last ones did: a failure is everybody's who waited for it.
    ended: u64,
    failed: Option<(u64, io::ErrorKind, String)>,
    waiting: usize,
}

impl DirectorySyncs {
    /// Returns when a sync that began after this call has ended.
    fn sync(&self, disk: &dyn Disk, shard: u16) -> io::Result<()> {
        let mut all = self.state.lock().expect("no holder panics");
        let mine = {
            let syncs = all.entry(shard).or_default();
            syncs.waiting += 1;
            let is_enough = syncs.running && sync::has(Race::JoinRunningSync);
            syncs.begun + u64::from(!is_enough)
        };
        loop {
            let syncs = all.entry(shard).or_default();
            if syncs.ended >= mine {
                break;
            }
            if syncs.running {
                all = self.turned.wait(all).expect("no holder panics");
                continue;
            }
            syncs.running = true;
            syncs.begun += 1;
            drop(all);
            let result = disk.sync_dir(&shard_dir(shard));
            all = self.state.lock().expect("no holder panics");
            let syncs = all.entry(shard).or_default();
            syncs.running = false;
            syncs.ended = syncs.begun;
            if let Err(error) = result {
                syncs.failed = Some((syncs.ended, error.kind(), error.to_string()));
            }
            if !sync::has(Race::EndUnheard) {
                self.turned.notify_all();
            }
        }
        let syncs = all.entry(shard).or_default();
        syncs.waiting -= 1;
        // A later failure is taken for this one too, rather than the reverse.
        let outcome = match &syncs.failed {
            Some((at, kind, why)) if *at >= mine => Err(io::Error::new(*kind, why.clone())),
            _ => Ok(()),
        };
        if syncs.waiting == 0 && !syncs.running {
            all.remove(&shard);
        }
        outcome
    }
}

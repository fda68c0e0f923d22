//! The index: rows in redb, as of a checkpoint. Written by the applier only.
//!
//! redb checks no page sums when it reads, so every value ends in a CRC over key and value that is checked
//! here. A database that met a full disk takes no more calls: it is opened anew on the same file, while
//! nobody reads through the old one, whose pages the new one may use again.

mod scratch;

use std::{
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTableMetadata, StorageBackend,
    TableDefinition, TableError,
};

use self::scratch::Scratch;
use crate::{
    codec::{crc32c, crc32c_of},
    disk::{DiskFile, is_full},
    error::{Error, ErrorKind, Result},
    meta::{
        SCAN_BYTES,
        key::Key,
        local::overlay::{Chunk, Generation},
        record::Checkpoint,
    },
    sync::{self, RwLock, RwLockReadGuard},
};

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

/// How long a reader waits for an index that is being opened anew.
const REOPEN_PATIENCE: Duration = Duration::from_secs(5);

/// The table as a reader holds it.
pub type RowsTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// See the module.
pub struct Index {
    file: Arc<dyn DiskFile>,
    /// The store whose rows they are.
    store_id: [u8; 16],
    cache_bytes: usize,
    /// `None` when it could not be opened anew.
    database: RwLock<Option<Database>>,
    /// Counts openings: what was begun under another one must not be read any more.
    generation: AtomicU64,
    /// The disk was too full to open it for writing: its own changes go to memory and are dropped.
    is_read_only: AtomicBool,
    /// A write has met a full disk, so it will be opened anew.
    met_full: Arc<AtomicBool>,
}

impl Index {
    /// Opens the index in `file`, which is empty for a new one.
    pub fn open(file: Arc<dyn DiskFile>, cache_bytes: usize, store_id: [u8; 16]) -> Result<Self> {
        let index = Self {
            file,
            store_id,
            cache_bytes,
            database: RwLock::new(None),
            generation: AtomicU64::new(0),
            is_read_only: AtomicBool::new(false),
            met_full: Arc::default(),
        };
        *index.database.write().expect("no holder panics") = Some(index.open_to_write()?);
        Ok(index)
    }

    /// Opens the index anew after it met a full disk; waits for those who read it. Where even that takes
    /// space, it can only be read from then on, until it is opened anew again.
    pub fn reopen(&self) -> Result<()> {
        let mut database = self.database.write().expect("no holder panics");
        // In this order: a long reader that still sees the old number has read nothing that is used again.
        self.generation.fetch_add(1, Ordering::SeqCst);
        *database = None;
        let opened = match self.open_to_write() {
            Err(error) if is_full_disk(&error) => {
                self.is_read_only.store(true, Ordering::Release);
                self.open_with(Scratch::new(self.file.clone()))
            }
            opened => {
                self.is_read_only.store(false, Ordering::Release);
                opened
            }
        };
        self.met_full.store(false, Ordering::Release);
        *database = Some(opened?);
        Ok(())
    }

    /// Counts how often the index was opened anew; see [`Index::begin_long_read`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// A stable look for many steps, which does not keep the index from being opened anew: it is over then.
    pub fn begin_long_read(&self) -> Result<LongRead> {
        let read = self.read()?;
        Ok(LongRead {
            generation: self.generation(),
            table: read.table,
        })
    }

    /// Reads through a long look; [`ErrorKind::OperationAborted`] when the index was opened anew since it began.
    pub fn long<T>(
        &self,
        read: &LongRead,
        look: impl FnOnce(Option<&RowsTable>) -> Result<T>,
    ) -> Result<T> {
        let seen = look(read.table.as_ref());
        match self.generation() == read.generation {
            true => seen,
            // Its pages may have been used again meanwhile: neither what was seen nor what went wrong counts.
            false => Err(Error::new(
                ErrorKind::OperationAborted,
                "The index was opened anew meanwhile.",
            )),
        }
    }

    /// A stable look at the rows, which keeps the index from being opened anew. Short, and one at a time a
    /// thread: a second one would wait behind who waits for the first.
    pub fn read(&self) -> Result<IndexRead<'_>> {
        sync::point();
        let database = self.database.read().expect("no holder panics");
        let table = guarded(|| begin_read(database.as_ref().ok_or_else(closed)?))?;
        Ok(IndexRead {
            table,
            _database: database,
        })
    }

    /// Looks at the rows, again when the index had to be opened anew meanwhile.
    pub fn look<T>(&self, look: impl Fn(&IndexRead<'_>) -> Result<T>) -> Result<T> {
        loop {
            let generation = self.generation();
            match self.read().and_then(|read| look(&read)) {
                Err(error) if self.await_reopening(&error, generation) => {}
                outcome => return outcome,
            }
        }
    }

    /// After an error of a read begun under `generation`, which is over: true when it came from a full disk
    /// that the applier has met, and the index is open again. Waits for that.
    pub fn await_reopening(&self, error: &Error, generation: u64) -> bool {
        if !matches!(redb_error(error), Some(redb::Error::PreviousIo)) {
            return false;
        }
        let began = Instant::now();
        while self.generation() == generation {
            if !self.met_full.load(Ordering::Acquire) || began.elapsed() > REOPEN_PATIENCE {
                return self.generation() != generation;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// What the index was made from; `None` when it is new.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        checkpoint(self.read()?.table.as_ref())
    }

    /// The store that it was made for; `None` when it does not say.
    pub fn owner(&self) -> Result<Option<[u8; 16]>> {
        let bytes = get(self.read()?.table.as_ref(), &Key::Checkpoint.encode())?;
        let owner = bytes.and_then(|bytes| bytes.get(Checkpoint::BYTES..)?.try_into().ok());
        Ok(owner)
    }

    /// Puts `rows` and the checkpoint they lead to into the index, in one durable transaction. When the disk
    /// was full, whether they are there is unknown, and [`Index::reopen`] comes next.
    pub fn apply(&self, rows: &Generation, checkpoint: &Checkpoint) -> Result<()> {
        if self.is_read_only.load(Ordering::Acquire) {
            self.reopen()?;
            if self.is_read_only.load(Ordering::Acquire) {
                return Err(broken(redb::Error::Io(io::ErrorKind::StorageFull.into())));
            }
        }
        sync::point();
        let database = self.database.read().expect("no holder panics");
        let point = [&checkpoint.encode()[..], &self.store_id].concat();
        let written = guarded(|| write(database.as_ref().ok_or_else(closed)?, rows, &point));
        if !matches!(&written, Err(error) if is_full_disk(error)) {
            self.met_full.store(false, Ordering::Release);
        }
        written
    }

    fn open_to_write(&self) -> Result<Database> {
        self.open_with(Backend {
            file: self.file.clone(),
            met_full: self.met_full.clone(),
        })
    }

    fn open_with(&self, backend: impl StorageBackend) -> Result<Database> {
        guarded(|| {
            Database::builder()
                .set_cache_size(self.cache_bytes)
                .create_with_backend(backend)
                .map_err(broken)
        })
    }
}

fn begin_read(database: &Database) -> Result<Option<RowsTable>> {
    let transaction = database.begin_read().map_err(broken)?;
    match transaction.open_table(ROWS) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(broken(error)),
    }
}

fn write(database: &Database, rows: &Generation, point: &[u8]) -> Result<()> {
    let mut transaction = database.begin_write().map_err(broken)?;
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(ROWS).map_err(broken)?;
        let mut value = Vec::new();
        let mut put = |key: &[u8], bytes: &[u8]| {
            value.clear();
            value.extend_from_slice(bytes);
            value.extend_from_slice(&crc32c_of(&[key, bytes]).to_le_bytes());
            table.insert(key, value.as_slice()).map(drop)
        };
        put(&Key::Checkpoint.encode(), point).map_err(broken)?;
        for (key, row) in rows.iter().filter_map(|(k, v)| Some((k, v.as_ref()?))) {
            put(key, row).map_err(broken)?;
        }
        for (key, _) in rows.iter().filter(|(_, row)| row.is_none()) {
            table.remove(key.as_slice()).map_err(broken)?;
        }
    }
    transaction.commit().map_err(broken)
}

/// A stable look at the index.
pub struct IndexRead<'a> {
    table: Option<RowsTable>,
    _database: RwLockReadGuard<'a, Option<Database>>,
}

/// See [`Index::begin_long_read`].
pub struct LongRead {
    generation: u64,
    table: Option<RowsTable>,
}

impl IndexRead<'_> {
    /// The record under `key`, checked.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        get(self.table.as_ref(), key)
    }

    /// The first key of `from..to`, whatever its row is like.
    pub fn next_key(&self, from: &[u8], to: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let table = match &self.table {
            Some(table) if to.is_none_or(|to| from < to) => table,
            _ => return Ok(None),
        };
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        guarded(|| {
            let mut range = table
                .range::<&[u8]>((Bound::Included(from), upper))
                .map_err(broken)?;
            let row = range.next().transpose().map_err(broken)?;
            Ok(row.map(|(key, _)| key.value().to_vec()))
        })
    }

    /// The first rows of `from..to`: at most `limit`, and fewer when they are long.
    pub fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Chunk<Vec<u8>>> {
        range(self.table.as_ref(), from, to, limit)
    }
}

/// What the index was made from; `None` when it is new.
pub fn checkpoint(table: Option<&RowsTable>) -> Result<Option<Checkpoint>> {
    let bytes = get(table, &Key::Checkpoint.encode())?;
    bytes
        .map(|bytes| Checkpoint::decode(&bytes[..bytes.len().min(Checkpoint::BYTES)]))
        .transpose()
        .map_err(|e| failed("The checkpoint of the index is damaged.", e))
}

/// How many rows there are by redb's own count, the checkpoint included.
pub fn row_count(table: Option<&RowsTable>) -> Result<u64> {
    table.map_or(Ok(0), |table| guarded(|| table.len().map_err(broken)))
}

fn get(table: Option<&RowsTable>, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(table) = table else {
        return Ok(None);
    };
    guarded(|| {
        let value = table.get(key).map_err(broken)?;
        value
            .map(|value| checked(key, value.value()).map(<[u8]>::to_vec))
            .transpose()
    })
}

/// The first rows of `from..to`: at most `limit`, and fewer when they are long.
pub fn range(
    table: Option<&RowsTable>,
    from: &[u8],
    to: Option<&[u8]>,
    limit: usize,
) -> Result<Chunk<Vec<u8>>> {
    let Some(table) = table else {
        return Ok((Vec::new(), None));
    };
    if to.is_some_and(|to| from >= to) {
        return Ok((Vec::new(), None));
    }
    let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
    guarded(|| {
        let mut range = table
            .range::<&[u8]>((Bound::Included(from), upper))
            .map_err(broken)?;
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        for row in range.by_ref().take(limit) {
            let (key, value) = row.map_err(broken)?;
            let value = checked(key.value(), value.value())?.to_vec();
            bytes += value.len();
            rows.push((key.value().to_vec(), value));
            if bytes >= SCAN_BYTES {
                break;
            }
        }
        let more = range.next().transpose().map_err(broken)?.is_some();
        let end = rows.last().filter(|_| more).map(|(key, _)| key.clone());
        Ok((rows, end))
    })
}

/// redb panics on some pages that are not what it wrote: that is damage, and no reason to fall over.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::InternalError,
            "The index is damaged: a page of index.redb is not what was written.",
        ))
    })
}

fn checked<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8]> {
    match value.split_last_chunk::<4>() {
        Some((bytes, sum)) if crc32c_of(&[key, bytes]) == u32::from_le_bytes(*sum) => Ok(bytes),
        _ => Err(Error::new(
            ErrorKind::InternalError,
            format!(
                "A row of the index is damaged (key {:02x?}, crc32c of the value {:08x}).",
                &key[..key.len().min(32)],
                crc32c(value)
            ),
        )),
    }
}

/// True when an error says that the index does not hold what was put there.
pub fn is_damage(error: &Error) -> bool {
    if disk_failure(error).is_some() || error.kind() != ErrorKind::InternalError {
        return false;
    }
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<redb::Error>()) {
        Some(error) => matches!(error, redb::Error::Corrupted(_) | redb::Error::Io(_)),
        // A row, a page or the checkpoint is not what was written.
        None => true,
    }
}

/// The failure of the disk behind an error of the index; `None` when it is what the index holds that is bad.
pub fn disk_failure(error: &Error) -> Option<io::Error> {
    match redb_error(error)? {
        redb::Error::Io(e) => {
            let is_content = matches!(
                e.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            );
            (!is_content).then(|| io::Error::new(e.kind(), e.to_string()))
        }
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
            Some(io::Error::other("the index failed before"))
        }
        _ => None,
    }
}

/// True of an error that says that the disk had no room.
fn is_full_disk(error: &Error) -> bool {
    disk_failure(error).as_ref().is_some_and(is_full)
}

fn redb_error(error: &Error) -> Option<&redb::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn closed() -> Error {
    broken(redb::Error::DatabaseClosed)
}

fn broken(error: impl Into<redb::Error>) -> Error {
    failed("The index failed.", error.into())
}

fn failed(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InternalError, what).with_source(error)
}

/// redb's view of a file of [`crate::disk`].
struct Backend {
    file: Arc<dyn DiskFile>,
    met_full: Arc<AtomicBool>,
}

impl Backend {
    /// Noted before redb knows, which answers errors to everybody from then on.
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(is_full) {
            self.met_full.store(true, Ordering::Release);
        }
        result
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted(self.file.set_len(len))
    }

    /// A sync that fails, be it for want of space, leaves the page cache ahead of the disk: the index must
    /// not be read from it again, as it would be when it is opened anew.
    fn sync_data(&self) -> io::Result<()> {
        let synced = self.file.sync_data();
        synced.map_err(|error| match is_full(&error) {
            true => io::Error::other(format!("a sync failed: {error}")),
            false => error,
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.noted(self.file.write_at(data, offset))
    }
}

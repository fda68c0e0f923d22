//! The index: rows in redb, as of a checkpoint. Written by the applier only.
//!
//! redb checks no page sums when it reads, so every value ends in a CRC over key and value that is checked
//! here.

use std::{io, ops::Bound, sync::Arc};

use redb::{
    Database, ReadableDatabase, ReadableTableMetadata, StorageBackend, TableDefinition, TableError,
};

use crate::{
    codec::{crc32c, crc32c_of},
    disk::DiskFile,
    error::{Error, ErrorKind, Result},
    meta::{
        SCAN_BYTES,
        key::Key,
        local::overlay::{Chunk, Generation},
        record::Checkpoint,
    },
    sync,
};

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

/// See the module.
pub struct Index {
    database: Database,
}

impl Index {
    /// Opens the index in `file`, which is empty for a new one.
    pub fn open(file: Arc<dyn DiskFile>, cache_bytes: usize) -> Result<Self> {
        let open = || {
            Database::builder()
                .set_cache_size(cache_bytes)
                .create_with_backend(Backend { file })
                .map_err(broken)
        };
        guarded(open).map(|database| Self { database })
    }

    /// A stable look at the rows.
    pub fn read(&self) -> Result<IndexRead> {
        sync::point();
        guarded(|| self.begin_read())
    }

    fn begin_read(&self) -> Result<IndexRead> {
        let transaction = self.database.begin_read().map_err(broken)?;
        match transaction.open_table(ROWS) {
            Ok(table) => Ok(IndexRead { table: Some(table) }),
            Err(TableError::TableDoesNotExist(_)) => Ok(IndexRead { table: None }),
            Err(error) => Err(broken(error)),
        }
    }

    /// What the index was made from; `None` when it is new.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.read()?.checkpoint()
    }

    /// Puts `rows` and the checkpoint they lead to into the index, in one durable transaction.
    pub fn apply(&self, rows: &Generation, checkpoint: &Checkpoint) -> Result<()> {
        sync::point();
        guarded(|| self.write(rows, checkpoint))
    }

    fn write(&self, rows: &Generation, checkpoint: &Checkpoint) -> Result<()> {
        let mut transaction = self.database.begin_write().map_err(broken)?;
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
            put(&Key::Checkpoint.encode(), &checkpoint.encode()).map_err(broken)?;
            for (key, row) in rows.iter().filter_map(|(k, v)| Some((k, v.as_ref()?))) {
                put(key, row).map_err(broken)?;
            }
            for (key, _) in rows.iter().filter(|(_, row)| row.is_none()) {
                table.remove(key.as_slice()).map_err(broken)?;
            }
        }
        transaction.commit().map_err(broken)
    }
}

/// A stable look at the index.
pub struct IndexRead {
    table: Option<redb::ReadOnlyTable<&'static [u8], &'static [u8]>>,
}

impl IndexRead {
    /// What the index was made from; `None` when it is new.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let bytes = self.get(&Key::Checkpoint.encode())?;
        bytes
            .map(|bytes| Checkpoint::decode(&bytes))
            .transpose()
            .map_err(|e| failed("The checkpoint of the index is damaged.", e))
    }

    /// How many rows there are by redb's own count, the checkpoint included.
    pub fn rows(&self) -> Result<u64> {
        let rows = |table: &redb::ReadOnlyTable<_, _>| guarded(|| table.len().map_err(broken));
        self.table.as_ref().map_or(Ok(0), rows)
    }

    /// The record under `key`, checked.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(table) = &self.table else {
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
    pub fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Chunk<Vec<u8>>> {
        let Some(table) = &self.table else {
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
    if disk_failure(error).is_some() {
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
    match std::error::Error::source(error)?.downcast_ref::<redb::Error>()? {
        redb::Error::Io(e) => {
            let is_content = matches!(
                e.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            );
            (!is_content).then(|| io::Error::new(e.kind(), e.to_string()))
        }
        redb::Error::PreviousIo => Some(io::Error::other("the index failed before")),
        _ => None,
    }
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
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}

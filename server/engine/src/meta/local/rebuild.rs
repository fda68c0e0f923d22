//! A lost or damaged index is made anew: from the newest snapshot that fits the log, or from nothing when the log
//! goes back to its beginning. What is behind the snapshot is replayed by `recovery`, as after every start.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    OpenError,
    disk::Disk,
    error::{Error, ErrorKind, Result},
    maintenance::snapshot::{self, SnapshotInfo, SnapshotReader},
    meta::{
        local::{
            LocalConfig, format,
            index::{self, Index},
            overlay::Generation,
            recovery::{self, Log},
            space::BALLAST,
        },
        record::Checkpoint,
    },
};

/// There while the index is known to be damaged.
pub const MARK: &str = "index.damaged";
const TEMPORARY: &str = "index.new";
const SET_ASIDE: &str = "quarantine/index.redb";
/// Rows that are put into the new index together.
const ROWS: usize = 16_000;
const TELL_EVERY: Duration = Duration::from_secs(1);

/// An index that can be used, and what it was made from.
pub(super) struct Usable {
    pub(super) index: Index,
    pub(super) checkpoint: Option<Checkpoint>,
    /// Why it was made anew, if it was.
    pub(super) rebuilt: Option<String>,
}

/// Opens the index, or makes it anew when it cannot be used.
pub(super) fn open_index(
    disk: &dyn Disk,
    config: &LocalConfig,
    store_id: [u8; 16],
    log: &Log,
) -> Result<Usable, OpenError> {
    let why = match disk.open(format::INDEX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => "it is missing".to_owned(),
        Err(error) => return Err(OpenError::io("the index could not be opened", error)),
        Ok(file) => match is_marked(disk)? {
            true => "it was found damaged".to_owned(),
            false => match open(file, config, store_id) {
                Ok((index, checkpoint)) => {
                    match why_strange(disk, store_id, log, &index, &checkpoint)? {
                        None => {
                            return Ok(Usable {
                                index,
                                checkpoint,
                                rebuilt: None,
                            });
                        }
                        Some(why) => why.to_owned(),
                    }
                }
                Err(error) => match index::disk_failure(&error) {
                    Some(source) => {
                        return Err(OpenError::io("the index could not be opened", source));
                    }
                    None => error.to_string(),
                },
            },
        },
    };
    rebuild(disk, config, store_id, log, why)
}

/// Why an index that can be read is not the one of this log, if so.
fn why_strange(
    disk: &dyn Disk,
    store_id: [u8; 16],
    log: &Log,
    index: &Index,
    checkpoint: &Option<Checkpoint>,
) -> Result<Option<&'static str>, OpenError> {
    let owner = index
        .owner()
        .map_err(|e| recovery::index_failed("The index cannot be read", &e))?;
    if owner.is_some_and(|owner| owner != store_id) {
        return Ok(Some("it is the index of another store"));
    }
    let checkpoint = checkpoint.filter(|checkpoint| checkpoint.pack != 0);
    if let Some(checkpoint) = &checkpoint
        && !log.has_point(checkpoint)?
    {
        return Ok(Some("it was not made from this log"));
    }
    // One that is older than what is left of the log, or has no rows: a snapshot may be of more use.
    match log.continues(checkpoint.as_ref()) {
        Ok(()) => return Ok(None),
        Err(error @ OpenError::Io { .. }) => return Err(error),
        Err(_) => {}
    }
    if log.is_empty() || checkpoint.is_some_and(|point| log.ends_before(&point)) {
        return Ok(None);
    }
    let snapshots = snapshot::list(disk, store_id)
        .map_err(|e| OpenError::io("the snapshots could not be listed", e))?;
    let is_better = |info: &SnapshotInfo| {
        checkpoint.is_none_or(|point| point.applied_lsn < info.checkpoint.applied_lsn)
            && log.continues(Some(&info.checkpoint)).is_ok()
    };
    let is_any_better = snapshots.iter().any(is_better);
    Ok(is_any_better.then_some("the log does not go on from it"))
}

fn open(
    file: std::sync::Arc<dyn crate::disk::DiskFile>,
    config: &LocalConfig,
    store_id: [u8; 16],
) -> Result<(Index, Option<Checkpoint>)> {
    let index = Index::open(file, config.index_cache_bytes, store_id)?;
    let checkpoint = index.checkpoint()?;
    Ok((index, checkpoint))
}

fn is_marked(disk: &dyn Disk) -> Result<bool, OpenError> {
    match disk.open(MARK) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OpenError::io("index.damaged could not be looked at", error)),
    }
}

fn rebuild(
    disk: &dyn Disk,
    config: &LocalConfig,
    store_id: [u8; 16],
    log: &Log,
    why: String,
) -> Result<Usable, OpenError> {
    let snapshots = snapshot::list(disk, store_id)
        .map_err(|e| OpenError::io("the snapshots could not be listed", e))?;
    // Before anything is changed: there must be a way to a whole index.
    let mut why_not = None;
    for from in snapshots.iter().map(Some).chain([None]) {
        match log.continues(from.map(|info| &info.checkpoint)) {
            Ok(()) => {}
            // A disk that fails may do so no more at the next start.
            Err(error @ OpenError::Io { .. }) => return Err(error),
            Err(error) => {
                why_not = why_not.or(Some(error));
                continue;
            }
        }
        let mut built = build(disk, config, store_id, from);
        if built.as_ref().is_err_and(is_full) && disk.unlink(BALLAST).is_ok() {
            // What the reserve is for.
            built = build(disk, config, store_id, from);
        }
        match built {
            Ok(()) => {}
            Err(error) if is_full_or_failing(&error) => {
                return Err(OpenError::io(
                    "the index could not be made anew (make room, or see to the disk, and start again)",
                    io::Error::other(error.to_string()),
                ));
            }
            Err(error) => {
                tracing::error!(%error, "a snapshot cannot be used; the next one is tried");
                continue;
            }
        }
        return put_in_place(disk, config, store_id, why).map_err(|e| {
            OpenError::io("the index that was made anew could not be put in place", e)
        });
    }
    // The newest snapshot that can be read needs the least of the log.
    let readable = |info: &&SnapshotInfo| reads(disk, store_id, info);
    let newest = snapshots.iter().find(readable).map(|info| &info.checkpoint);
    if let Err(OpenError::Hole { hole, what }) = log.continues(newest) {
        return Err(OpenError::Hole {
            hole,
            what: format!(
                "The index (index.redb) cannot be used ({why}), and the log that it is made anew from has a hole. {what}"
            ),
        });
    }
    let why_not = why_not.map_or_else(|| "no snapshot can be read".into(), |e| e.to_string());
    Err(OpenError::Damaged {
        what: format!(
            "The index (index.redb) cannot be used ({why}), and it cannot be made anew from a snapshot in backup/ and \
             the log: {why_not}"
        ),
    })
}

/// Whether a snapshot can be read to its end.
fn reads(disk: &dyn Disk, store_id: [u8; 16], info: &SnapshotInfo) -> bool {
    let read = || -> Result<()> {
        let file = disk.open(&snapshot::path(&info.name))?;
        let mut reader = SnapshotReader::open(file, store_id, &info.name)?;
        while reader.next_block()?.is_some() {}
        Ok(())
    };
    read().is_ok()
}

fn is_full(error: &Error) -> bool {
    error.kind() == ErrorKind::InsufficientStorage
        || index::disk_failure(error).is_some_and(|error| crate::disk::is_full(&error))
}

/// True of errors that another snapshot would meet too.
fn is_full_or_failing(error: &Error) -> bool {
    let is_io = |error: &io::Error| {
        !matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        )
    };
    error.kind() == ErrorKind::InsufficientStorage
        || index::disk_failure(error).is_some()
        || std::error::Error::source(error)
            .and_then(|source| source.downcast_ref::<io::Error>())
            .is_some_and(is_io)
}

/// Makes an index under a temporary name: the rows of a snapshot, or none.
fn build(
    disk: &dyn Disk,
    config: &LocalConfig,
    store_id: [u8; 16],
    from: Option<&SnapshotInfo>,
) -> Result<()> {
    match disk.unlink(TEMPORARY) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = disk.create(TEMPORARY)?;
    let index = Index::open(file, config.index_cache_bytes, store_id)?;
    let Some(info) = from else {
        tracing::warn!("the index is made anew from the whole log");
        return Ok(());
    };
    tracing::warn!(
        snapshot = info.name,
        rows = info.rows,
        "the index is made anew from a snapshot and the log behind it"
    );
    let file = disk.open(&snapshot::path(&info.name))?;
    let mut reader = SnapshotReader::open(file, store_id, &info.name)?;
    let (mut rows, mut done, mut told) = (Generation::new(), 0_u64, Instant::now());
    loop {
        let block = reader.next_block()?;
        let is_last = block.is_none();
        let block = block.into_iter().flatten();
        rows.extend(block.map(|(key, row)| (key, Some(row.into()))));
        if rows.len() >= ROWS || is_last {
            done += rows.len() as u64;
            index.apply(&rows, &info.checkpoint)?;
            rows.clear();
        }
        if told.elapsed() >= TELL_EVERY || is_last {
            told = Instant::now();
            tracing::info!(rows = done, of = info.rows, "the index is being made anew");
        }
        if is_last {
            return Ok(());
        }
    }
}

/// The old index is set aside, not destroyed: it is the only one to tell what had become of it.
fn put_in_place(
    disk: &dyn Disk,
    config: &LocalConfig,
    store_id: [u8; 16],
    why: String,
) -> io::Result<Usable> {
    let gone = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    gone(disk.unlink(SET_ASIDE))?;
    gone(disk.rename(format::INDEX, SET_ASIDE))?;
    disk.rename(TEMPORARY, format::INDEX)?;
    disk.sync_dir("quarantine")?;
    disk.sync_dir("")?;
    gone(disk.unlink(MARK))?;
    disk.sync_dir("")?;
    let (index, checkpoint) = open(disk.open(format::INDEX)?, config, store_id)
        .map_err(|e| io::Error::other(e.to_string()))?;
    Ok(Usable {
        index,
        checkpoint,
        rebuilt: Some(why),
    })
}

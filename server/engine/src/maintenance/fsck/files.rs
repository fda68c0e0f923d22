//! The files below `objects/` that no row names, and those in `quarantine/`; for a store that does not open, whether
//! each file is whole by itself.

use std::{collections::VecDeque, io, ops::Range, sync::Arc};

use crate::{
    blob::{
        BlobReader, BlobStore,
        files::{self, Files},
    },
    disk::Disk,
    error::Result,
    maintenance::{
        fsck::report::{Finding, FindingKind, FsckReport},
        verify::Depth,
    },
    meta::{
        key::{BlobId, Key},
        local::Local,
        record::{Location, Record},
    },
    service::CHUNK_BYTES,
};

/// See the module.
pub(super) struct FileCheck {
    depth: Depth,
    shards: Vec<u16>,
    /// Files that were listed and not yet looked at.
    ids: VecDeque<BlobId>,
    reading: Option<(BlobId, Arc<dyn BlobReader>, Range<u64>)>,
}

impl FileCheck {
    pub(super) fn begin(files: &Files, depth: Depth) -> Result<Self> {
        let shards = match files.shards() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            shards => shards?,
        };
        Ok(Self {
            depth,
            shards,
            ids: VecDeque::new(),
            reading: None,
        })
    }

    /// How many directories are left.
    pub(super) fn shards(&self) -> u64 {
        self.shards.len() as u64
    }

    /// Looks at the files of one directory. False when there are no more.
    pub(super) fn step_open(
        &mut self,
        local: &Arc<Local>,
        report: &mut FsckReport,
    ) -> Result<bool> {
        let Some(shard) = self.shards.pop() else {
            return Ok(false);
        };
        let dir = files::shard_dir(shard);
        let names = match names(local.disk(), &dir) {
            Ok(names) => names,
            Err(error) => {
                let finding = Finding::new(FindingKind::File, Some(dir), error.to_string());
                report.findings.push(finding);
                return Ok(true);
            }
        };
        for name in names {
            let path = format!("{dir}/{name}");
            match BlobId::parse(&name) {
                Some(id) => look(local, id, path, report)?,
                None => {
                    let what = "no body has such a name";
                    report
                        .notes
                        .push(Finding::new(FindingKind::File, Some(path), what));
                }
            }
        }
        Ok(true)
    }

    /// Checks a piece of a file by what it says of itself. False when there are no more.
    pub(super) fn step_closed(&mut self, files: &Files, report: &mut FsckReport) -> Result<bool> {
        if let Some((id, reader, range)) = self.reading.take() {
            let end = range.end.min(range.start + CHUNK_BYTES as u64);
            match reader.read(range.start..end) {
                Ok(_) if end < range.end => self.reading = Some((id, reader, end..range.end)),
                Ok(_) => report.bytes += range.end,
                Err(error) => damaged(id, &error, report),
            }
            return Ok(true);
        }
        if let Some(id) = self.ids.pop_front() {
            report.files += 1;
            match whole(files, id) {
                Ok((reader, size)) if self.depth == Depth::Bytes => {
                    self.reading = Some((id, reader, 0..size));
                }
                Ok(_) => {}
                Err(error) => damaged(id, &error, report),
            }
            return Ok(true);
        }
        let Some(shard) = self.shards.pop() else {
            return Ok(false);
        };
        self.ids.extend(files.list(shard)?);
        Ok(true)
    }
}

/// Whether a row names the file.
fn look(local: &Arc<Local>, id: BlobId, path: String, report: &mut FsckReport) -> Result<()> {
    report.files += 1;
    // In this order: a body leaves the flight only after its row is there.
    if local.files.is_in_flight(id) {
        return Ok(());
    }
    let is_named = |key: Key| local.get(&key).map(|row| row.is_some());
    match (is_named(Key::Blob(id)), is_named(Key::Free(id))) {
        (Ok(false), Ok(false)) => {}
        // A row that cannot be read was found when all rows were read.
        _ => return Ok(()),
    }
    let owner = match local.files.described(id) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => None,
        Ok(owner) => owner,
    };
    let owner = owner.and_then(|key| local.get(&key).ok().flatten());
    let location = owner.as_ref().and_then(Record::body).map(|body| body.0);
    if location == Some(&Location::File(id)) {
        let what = "an object has its body in the file, but the row of the file is missing";
        report
            .findings
            .push(Finding::new(FindingKind::Index, Some(path), what));
        return Ok(());
    }
    report.unnamed_files += 1;
    let what = "nothing needs it: upkeep will remove it, or set it aside";
    report
        .notes
        .push(Finding::new(FindingKind::File, Some(path), what));
    Ok(())
}

/// Opens a file, whose end says how long its body is.
fn whole(files: &Files, id: BlobId) -> io::Result<(Arc<dyn BlobReader>, u64)> {
    let size = files.stated_size(id)?.ok_or_else(|| {
        let what = "its end cannot be read: it is cut short, or damaged";
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    let reader = files.open(id, size)?;
    reader.check_length()?;
    Ok((reader, size))
}

fn damaged(id: BlobId, error: &io::Error, report: &mut FsckReport) {
    let path = Some(files::path(id));
    report
        .findings
        .push(Finding::new(FindingKind::File, path, error.to_string()));
}

/// Tells what was set aside before.
pub(super) fn list_quarantine(disk: &dyn Disk, report: &mut FsckReport) -> Result<()> {
    for name in names(disk, "quarantine")? {
        let path = format!("quarantine/{name}");
        report.notes.push(Finding::new(
            FindingKind::File,
            Some(path),
            "it was set aside; look at it, and remove it when it is not needed",
        ));
    }
    Ok(())
}

fn names(disk: &dyn Disk, dir: &str) -> io::Result<Vec<String>> {
    let mut names = match disk.read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    names.sort();
    Ok(names)
}

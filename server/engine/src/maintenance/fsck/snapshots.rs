//! The snapshots in `backup/`: each is read to its end, and its rows are held against each other.

use std::io;

use crate::{
    disk::Disk,
    error::Result,
    maintenance::{
        audit::Audit,
        fsck::report::{Finding, FindingKind, FsckReport},
        snapshot::{self, SnapshotReader},
        verify::Depth,
    },
};

/// See the module.
pub(super) struct SnapshotCheck {
    left: Vec<String>,
    reading: Option<(SnapshotReader, Audit)>,
    bytes: u64,
    done: u64,
}

impl SnapshotCheck {
    pub(super) fn begin(disk: &dyn Disk) -> Result<Self> {
        let mut left = match snapshot::names(disk) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names?,
        };
        left.reverse();
        let lengths = left
            .iter()
            .filter_map(|name| disk.open(&snapshot::path(name)).ok()?.len().ok());
        Ok(Self {
            bytes: lengths.sum(),
            left,
            reading: None,
            done: 0,
        })
    }

    /// How many bytes there are to read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of them were read.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Reads a piece. False when there is no more.
    pub(super) fn step(
        &mut self,
        disk: &dyn Disk,
        store_id: [u8; 16],
        report: &mut FsckReport,
    ) -> Result<bool> {
        if let Some((mut reader, mut audit)) = self.reading.take() {
            match reader.next_block() {
                Ok(Some(rows)) => {
                    self.done += rows
                        .iter()
                        .map(|(k, v)| (k.len() + v.len()) as u64)
                        .sum::<u64>();
                    match audit.rows(&rows) {
                        Ok(()) => self.reading = Some((reader, audit)),
                        Err(error) => damaged(&reader.info.name, &error.to_string(), report),
                    }
                }
                Ok(None) => {
                    let findings = audit.finish(reader.info.rows);
                    match findings.is_empty() {
                        true => report.snapshots += 1,
                        false => damaged(&reader.info.name, &findings.join("; "), report),
                    }
                }
                Err(error) => damaged(&reader.info.name, &error.to_string(), report),
            }
            return Ok(true);
        }
        let Some(name) = self.left.pop() else {
            return Ok(false);
        };
        let file = match disk.open(&snapshot::path(&name)) {
            // A newer one has made it superfluous.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            file => file?,
        };
        match SnapshotReader::open(file, store_id, &name) {
            Ok(_) if report.depth == Depth::Length => report.snapshots += 1,
            Ok(reader) => self.reading = Some((reader, Audit::default())),
            Err(error) => damaged(&name, &error.to_string(), report),
        }
        Ok(true)
    }
}

fn damaged(name: &str, why: &str, report: &mut FsckReport) {
    let path = Some(snapshot::path(name));
    report
        .findings
        .push(Finding::new(FindingKind::Snapshot, path, why));
}

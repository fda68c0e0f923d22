//! The log, file by file: every batch from the header to where the log leaves the file, and that the newest snapshot
//! fits it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use crate::{
    disk::{Disk, DiskFile},
    error::{Error, Result},
    maintenance::{
        fsck::report::{Finding, FindingKind, FsckReport},
        snapshot::{self, SnapshotInfo},
        verify::Depth,
    },
    meta::local::{
        holes::{LogHole, Loss},
        log::{self, HeaderBlock, PAGE_BYTES, PackHeader, Position, Scanned},
        packs::{self, Packs},
    },
};

/// See the module.
pub(super) struct LogCheck {
    depth: Depth,
    store_id: [u8; 16],
    headers: BTreeMap<u32, HeaderBlock>,
    /// The newest log file that was begun.
    head: Option<u32>,
    /// The files that the log goes through, from the head back.
    chain: BTreeSet<u32>,
    /// Where the log leaves each of the others.
    ends: BTreeMap<u32, Position>,
    /// Files that are still to be read, the next one last.
    left: Vec<u32>,
    reading: Option<Reading>,
    /// The first file that a start or a lost index may need; those before it are kept for the bodies in them.
    first_needed: u32,
    /// Holes that were found when the store was opened.
    known: Vec<LogHole>,
    /// The newest snapshot, and whether the point of the log that it was taken at was met.
    snapshot: Option<(SnapshotInfo, bool)>,
    bytes: u64,
    done: u64,
}

/// A log file that is being read.
struct Reading {
    file: Arc<dyn DiskFile>,
    epoch: u64,
    at: Position,
    end: Option<Position>,
}

impl LogCheck {
    /// Takes the files that are there now.
    pub(super) fn begin(
        disk: &dyn Disk,
        store_id: [u8; 16],
        depth: Depth,
        first_needed: u32,
        known: Vec<LogHole>,
    ) -> Result<Self> {
        let snapshots = none_if_missing(snapshot::list(disk, store_id))?;
        let mut check = Self {
            depth,
            store_id,
            headers: BTreeMap::new(),
            head: None,
            chain: BTreeSet::new(),
            ends: BTreeMap::new(),
            left: Vec::new(),
            reading: None,
            first_needed,
            known,
            snapshot: snapshots.into_iter().next().map(|info| (info, false)),
            bytes: 0,
            done: 0,
        };
        for number in none_if_missing(Packs::numbers(disk))? {
            let Some(file) = open(disk, number)? else {
                continue;
            };
            check.bytes += check.cost(&*file)?;
            check
                .headers
                .insert(number, header(&*file, number, store_id)?);
        }
        check.left = check.headers.keys().rev().copied().collect();
        check.follow(disk)?;
        Ok(check)
    }

    /// About how many bytes there are to read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many of them were read.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    fn cost(&self, file: &dyn DiskFile) -> io::Result<u64> {
        match self.depth {
            Depth::Length => Ok(PAGE_BYTES),
            Depth::Bytes => file.len(),
        }
    }

    fn header_of(&self, number: u32) -> Option<PackHeader> {
        match self.headers.get(&number) {
            Some(HeaderBlock::Valid(header)) => Some(*header),
            _ => None,
        }
    }

    /// Finds the head of the log and how it came there.
    fn follow(&mut self, disk: &dyn Disk) -> Result<()> {
        for &number in self.headers.keys().rev() {
            let (Some(header), Some(file)) = (self.header_of(number), open(disk, number)?) else {
                continue;
            };
            let at = first(&header);
            if let Scanned::Batch(_) = log::read_batch(&*file, file.len()?, header.epoch, &at)? {
                self.head = Some(number);
                break;
            }
        }
        let mut next = self.head;
        while let Some(header) = next.and_then(|number| self.header_of(number)) {
            self.chain.insert(header.number);
            let point = header.continues;
            self.ends.insert(point.pack, point);
            next = (point.pack < header.number).then_some(point.pack);
        }
        // Behind a gap only files are left in which something lives; later starts know better.
        let older: Vec<PackHeader> = self
            .headers
            .keys()
            .rev()
            .filter(|&&number| Some(number) < self.head)
            .filter_map(|&number| self.header_of(number))
            .collect();
        for header in older {
            let point = header.continues;
            self.ends.entry(point.pack).or_insert(point);
        }
        Ok(())
    }

    /// Reads the next batch. The log is durable and visible up to `position`. False when all is read.
    pub(super) fn step(
        &mut self,
        disk: &dyn Disk,
        position: Option<Position>,
        report: &mut FsckReport,
    ) -> Result<bool> {
        if let Some(mut reading) = self.reading.take() {
            let before = reading.at.offset;
            match self.read_on(&mut reading, position, report) {
                Ok(true) => {
                    self.done += reading.at.offset.saturating_sub(before);
                    self.reading = Some(reading);
                }
                Ok(false) => {}
                Err(error) => unreadable(reading.at.pack, &error, report),
            }
            return Ok(true);
        }
        let Some(number) = self.left.pop() else {
            self.judge_snapshot(disk, report)?;
            return Ok(false);
        };
        if let Err(error) = self.open(disk, number, report) {
            unreadable(number, &error, report);
        }
        Ok(true)
    }

    fn open(&mut self, disk: &dyn Disk, number: u32, report: &mut FsckReport) -> Result<()> {
        let Some(file) = open(disk, number)? else {
            return Ok(());
        };
        report.log_files += 1;
        // It may have been begun since.
        match header(&*file, number, self.store_id)? {
            HeaderBlock::Valid(header) => self.begin_pack(file, &header, report)?,
            HeaderBlock::Spare
                if log::durable_lsn_beyond(&*file, PAGE_BYTES, file.len()?, None)? == 0 => {}
            HeaderBlock::Spare if !matches!(self.headers[&number], HeaderBlock::Spare) => {}
            HeaderBlock::Spare | HeaderBlock::Bad => {
                let hole = LogHole {
                    pack: number,
                    offset: 0,
                };
                self.damaged(hole, "its header cannot be read", report);
            }
        }
        Ok(())
    }

    fn begin_pack(
        &mut self,
        file: Arc<dyn DiskFile>,
        header: &PackHeader,
        report: &mut FsckReport,
    ) -> Result<()> {
        let end = match Some(header.number) == self.head {
            true => None,
            false => self.ends.get(&header.number).copied(),
        };
        let len = file.len()?;
        if let Some(end) = end.filter(|end| end.offset > len) {
            let hole = LogHole {
                pack: header.number,
                offset: len,
            };
            let why = format!(
                "the file ends here, and the log goes on to byte {}",
                end.offset
            );
            self.damaged(hole, &why, report);
        }
        if self.depth == Depth::Bytes {
            self.reading = Some(Reading {
                file,
                epoch: header.epoch,
                at: first(header),
                end,
            });
        }
        Ok(())
    }

    /// Reads the next batch of a file; false at its end.
    fn read_on(
        &mut self,
        reading: &mut Reading,
        position: Option<Position>,
        report: &mut FsckReport,
    ) -> Result<bool> {
        if let Some(end) = reading.end
            && reading.at.offset >= end.offset
        {
            if (reading.at.offset, reading.at.hash) != (end.offset, end.hash) {
                let why = "the log leaves this file at another point";
                self.damaged(hole(&reading.at), why, report);
            }
            return Ok(false);
        }
        match reading.next()? {
            Scanned::Batch(batch) => {
                report.log_records += batch.records.len() as u64;
                self.come_to(reading, batch.next);
                Ok(true)
            }
            Scanned::Bad(why) => self.stuck(reading, why, position, report),
        }
    }

    fn come_to(&mut self, reading: &mut Reading, at: Position) {
        reading.at = at;
        if let Some((snapshot, is_met)) = &mut self.snapshot {
            *is_met |= snapshot.checkpoint.position() == at;
        }
    }

    /// No batch can be read: the end of the file, or damage. False at the end.
    fn stuck(
        &mut self,
        reading: &mut Reading,
        why: &str,
        position: Option<Position>,
        report: &mut FsckReport,
    ) -> Result<bool> {
        let at = reading.at;
        let is_durable =
            |position: Position| position.pack == at.pack && at.offset < position.offset;
        let is_damage = reading.end.is_some()
            || position.is_some_and(is_durable)
            || reading.durable_behind()? > at.lsn;
        if !is_damage {
            return Ok(false);
        }
        // It may have been written meanwhile.
        if let Scanned::Batch(batch) = reading.next()? {
            report.log_records += batch.records.len() as u64;
            self.come_to(reading, batch.next);
            return Ok(true);
        }
        let limit = reading.limit()?;
        let next =
            log::next_whole_batch(&*reading.file, (at.offset, limit), Some(reading.epoch), &at)?;
        let last_lsn = match &next {
            Some((before, _)) => before.lsn,
            None => reading.end.map_or(at.lsn, |end| end.lsn),
        };
        let loss = Loss {
            hole: hole(&at),
            first_lsn: at.lsn + 1,
            last_lsn,
            ends_log: next.is_none() && reading.end.is_none(),
            resumes_at: None,
            reason: why.to_owned(),
        };
        self.damaged(
            loss.hole,
            &format!("{} cannot be read ({why})", loss.records()),
            report,
        );
        Ok(match next {
            Some((_, batch)) => {
                report.log_records += batch.records.len() as u64;
                self.come_to(reading, batch.next);
                true
            }
            None => false,
        })
    }

    fn damaged(&self, hole: LogHole, why: &str, report: &mut FsckReport) {
        if self.known.contains(&hole) {
            return;
        }
        let mut reason = format!("at byte {}: {why}", hole.offset);
        let is_needed = hole.pack >= self.first_needed;
        if !is_needed {
            reason += "; nothing needs it but the bodies in it, which are checked by themselves";
        }
        let finding = Finding::new(FindingKind::Log, Some(hole.path()), reason);
        match is_needed {
            true => report.findings.push(finding),
            false => report.notes.push(finding),
        }
    }

    /// A lost index is made anew from the newest snapshot: its place in the log must be there.
    fn judge_snapshot(&self, disk: &dyn Disk, report: &mut FsckReport) -> Result<()> {
        let Some((snapshot, is_met)) = &self.snapshot else {
            return Ok(());
        };
        let is_met = *is_met || self.depth == Depth::Length;
        let fits = is_met && self.chain.contains(&snapshot.checkpoint.pack);
        if fits || !self.known.is_empty() {
            return Ok(());
        }
        // There may be a newer one by now, and the log that only this one needed may be gone.
        let newest = snapshot::list(disk, self.store_id)?.into_iter().next();
        if newest.as_ref() == Some(snapshot) {
            report.findings.push(Finding::new(
                FindingKind::Snapshot,
                Some(snapshot::path(&snapshot.name)),
                "the log does not go on from it: a lost index could not be made anew",
            ));
        }
        Ok(())
    }
}

impl Reading {
    fn limit(&self) -> io::Result<u64> {
        let len = self.file.len()?;
        Ok(self.end.map_or(len, |end| end.offset.min(len)))
    }

    fn next(&self) -> io::Result<Scanned> {
        let read = |limit| log::read_batch(&*self.file, limit, self.epoch, &self.at);
        match read(self.limit()?) {
            // Its unused end was given back meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => read(self.limit()?),
            read => read,
        }
    }

    /// The highest lsn that anything behind calls durable.
    fn durable_behind(&self) -> io::Result<u64> {
        let limit = self.limit()?;
        log::durable_lsn_beyond(&*self.file, self.at.offset, limit, Some(self.epoch))
    }
}

fn none_if_missing<T>(list: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match list {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        list => list,
    }
}

/// The disk does not let us read it.
fn unreadable(number: u32, error: &Error, report: &mut FsckReport) {
    let path = Some(packs::path(number));
    report
        .findings
        .push(Finding::new(FindingKind::Log, path, error.to_string()));
}

fn first(header: &PackHeader) -> Position {
    Position {
        pack: header.number,
        offset: PAGE_BYTES,
        ..header.continues
    }
}

fn hole(at: &Position) -> LogHole {
    LogHole {
        pack: at.pack,
        offset: at.offset,
    }
}

/// `None` when it was removed meanwhile.
fn open(disk: &dyn Disk, number: u32) -> io::Result<Option<Arc<dyn DiskFile>>> {
    match disk.open(&packs::path(number)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn header(file: &dyn DiskFile, number: u32, store_id: [u8; 16]) -> io::Result<HeaderBlock> {
    let mut block = vec![0; PAGE_BYTES as usize];
    if file.len()? >= PAGE_BYTES {
        file.read_at(&mut block, 0)?;
    }
    Ok(PackHeader::decode(&block, number, store_id))
}

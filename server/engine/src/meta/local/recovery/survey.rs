//! The files of the log as they were found, and the way through them: which belong to it, in what order, and whether
//! any says that more was durable than can be read.

use std::{collections::BTreeMap, io, sync::Arc};

use crate::{
    OpenError,
    disk::{Disk, DiskFile},
    meta::{
        local::{
            holes::{self, LogHole},
            log::{
                self, FOOTER_BYTES, Footer, HeaderBlock, PAGE_BYTES, PackHeader, Position, Scanned,
            },
            packs::{self, Packs},
            recovery::damaged,
        },
        record::Checkpoint,
    },
    planted::{self, Bug},
};

/// A stretch of one pack that belongs to the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    /// `None` behind a hole: the file is missing, or its header cannot be read.
    pub(super) header: Option<PackHeader>,
    /// Where the log leaves the pack; `None` in the last one, and where the next one does not say.
    pub(super) end: Option<Position>,
}

/// A file of the log.
pub(super) struct FoundPack {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) len: u64,
    pub(super) block: HeaderBlock,
}

impl FoundPack {
    pub(super) fn header(&self) -> Option<PackHeader> {
        match self.block {
            HeaderBlock::Valid(header) => Some(header),
            HeaderBlock::Spare | HeaderBlock::Bad => None,
        }
    }
}

/// The files of the log as they were found.
pub(in crate::meta::local) struct Log {
    pub(super) packs: BTreeMap<u32, FoundPack>,
    /// Holes that their owner has given up.
    pub(super) accepted: Vec<LogHole>,
    /// There are such, or there were at a start that was cut short: nothing is destroyed that may be of use yet.
    pub(super) keeps_all: bool,
}

/// Whether the log on a disk goes on from this point.
pub(crate) fn goes_on_from(
    disk: &dyn Disk,
    store_id: [u8; 16],
    point: &Checkpoint,
) -> io::Result<bool> {
    Ok(Log::survey(disk, store_id)?.continues(Some(point)).is_ok())
}

impl Log {
    pub(super) fn survey(disk: &dyn Disk, store_id: [u8; 16]) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        for number in Packs::numbers(disk)? {
            let file = disk.open(&packs::path(number))?;
            let len = file.len()?;
            let mut block = vec![0; PAGE_BYTES as usize];
            if len >= PAGE_BYTES {
                file.read_at(&mut block, 0)?;
            }
            let block = PackHeader::decode(&block, number, store_id);
            found.insert(number, FoundPack { file, len, block });
        }
        Ok(Self {
            packs: found,
            accepted: Vec::new(),
            keeps_all: false,
        })
    }

    /// Whether there are no files at all.
    pub(in crate::meta::local) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// The number of the newest file; 0 when there is none.
    pub(super) fn newest(&self) -> u32 {
        self.packs.keys().next_back().copied().unwrap_or(0)
    }

    /// The highest incarnation of all starts that wrote to it; 0 when there is none.
    pub(super) fn incarnation(&self) -> u32 {
        let headers = self.packs.values().filter_map(FoundPack::header);
        headers.map(|header| header.incarnation).max().unwrap_or(0)
    }

    /// Whether the last file is one before that point: the log has lost its end.
    pub(in crate::meta::local) fn ends_before(&self, point: &Checkpoint) -> bool {
        let last = self
            .packs
            .iter()
            .rev()
            .find(|(_, pack)| pack.header().is_some());
        last.is_none_or(|(&number, _)| number < point.pack)
    }

    /// False when the log was somewhere else at that point. What cannot be read there is damage, of which others tell.
    pub(in crate::meta::local) fn has_point(&self, point: &Checkpoint) -> Result<bool, OpenError> {
        let Some((pack, header)) = self
            .packs
            .get(&point.pack)
            .and_then(|pack| Some((pack, pack.header()?)))
        else {
            return Ok(true);
        };
        if point.offset <= PAGE_BYTES {
            return Ok(header.continues.hash == point.hash);
        }
        if pack.len < point.offset {
            return Ok(true);
        }
        let mut end = [0; FOOTER_BYTES];
        pack.file
            .read_at(&mut end, point.offset - FOOTER_BYTES as u64)
            .map_err(|e| OpenError::io("the log could not be read", e))?;
        if let Ok(footer) = Footer::decode(&end) {
            return Ok(footer.hash == point.hash);
        }
        // Rotten, or in the midst of a batch.
        let mut at = Position {
            pack: point.pack,
            offset: PAGE_BYTES,
            ..header.continues
        };
        while at.offset < point.offset {
            match self.batch(pack, &at, Some(header.epoch), pack.len)? {
                Scanned::Batch(batch) => at = batch.next,
                Scanned::Bad(_) => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Refuses when the log does not go on from this checkpoint (or begin at its beginning).
    pub(in crate::meta::local) fn continues(
        &self,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), OpenError> {
        if checkpoint.is_none() && !self.has_beginning() {
            // Without rows and without what the log began with, there is nothing to go on from.
            return Err(damaged(
                "The beginning of the log (log/) is missing.".into(),
            ));
        }
        let segments = match self.head(checkpoint)? {
            None => return Err(damaged("There is no log.".into())),
            head => self.segments(head, checkpoint)?,
        };
        match (checkpoint, segments.first()) {
            (Some(point), Some(first))
                if first.end.is_some_and(|end| end.offset < point.offset) =>
            {
                Err(damaged(format!(
                    "The log leaves the file {} before that point.",
                    packs::path(point.pack)
                )))
            }
            _ => Ok(()),
        }
    }

    fn has_beginning(&self) -> bool {
        let mut headers = self.packs.values().filter_map(FoundPack::header);
        headers.any(|header| header.continues.pack == 0)
    }

    /// The newest pack that belongs to the log: it has a complete first batch, or the checkpoint knows it, or a
    /// hole in its beginning was given up.
    pub(super) fn head(&self, checkpoint: Option<&Checkpoint>) -> Result<Option<u32>, OpenError> {
        let first = checkpoint.map_or(0, |c| c.pack);
        for (&number, pack) in self.packs.range(first..).rev() {
            let Some(header) = pack.header() else {
                if self.accepts(number, 0) {
                    return Ok(Some(number));
                }
                continue;
            };
            if let Some(checkpoint) = checkpoint.filter(|c| c.pack == number) {
                return self.reaches(pack, checkpoint).map(|()| Some(number));
            }
            let at = Position {
                pack: number,
                offset: PAGE_BYTES,
                ..header.continues
            };
            if self.accepts(number, PAGE_BYTES)
                || matches!(
                    self.batch(pack, &at, Some(header.epoch), pack.len)?,
                    Scanned::Batch(_)
                )
            {
                return Ok(Some(number));
            }
        }
        match first {
            0 => Ok(None),
            pack => self.pass(LogHole { pack, offset: 0 }, || {
                format!(
                    "The log file {} is missing or has no readable header, and the index was made from it.",
                    packs::path(pack)
                )
            }).map(|()| Some(pack)),
        }
    }

    /// What the index was made from was durable: a file that ends before it was cut, and with it perhaps what
    /// came behind, of which nothing tells any more.
    fn reaches(&self, pack: &FoundPack, checkpoint: &Checkpoint) -> Result<(), OpenError> {
        if pack.len >= checkpoint.offset {
            return Ok(());
        }
        let hole = LogHole {
            pack: checkpoint.pack,
            offset: checkpoint.offset,
        };
        self.pass(hole, || {
            format!(
                "The log file {} ends at byte {}, and the index was made from it up to byte {}.",
                hole.path(),
                pack.len,
                checkpoint.offset
            )
        })
    }

    /// The stretches from the checkpoint (or the beginning) to the head, in order.
    pub(super) fn segments(
        &self,
        head: Option<u32>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Vec<Segment>, OpenError> {
        let (mut segments, mut end, mut at) = (Vec::new(), None, head.unwrap_or(0));
        let first = checkpoint.map_or(0, |c| c.pack);
        while at != 0 && at >= first {
            let header = self.packs.get(&at).and_then(FoundPack::header);
            if header.is_none() {
                self.pass(LogHole { pack: at, offset: 0 }, || {
                    let path = packs::path(at);
                    format!(
                        "The log file {path} is missing or has no readable header, but later ones continue it."
                    )
                })?;
            }
            segments.push(Segment {
                number: at,
                header,
                end,
            });
            if at == first {
                break;
            }
            (end, at) = match header {
                Some(header) if header.continues.pack < at => {
                    (Some(header.continues), header.continues.pack)
                }
                _ => (None, self.before(at, first)?),
            };
        }
        if at != first {
            return Err(damaged(format!(
                "The index was made from the log file {}, which the rest of the log does not continue.",
                packs::path(first)
            )));
        }
        segments.reverse();
        Ok(segments)
    }

    /// The pack that one without a readable header must have continued: no other is left.
    fn before(&self, number: u32, first: u32) -> Result<u32, OpenError> {
        for (&before, pack) in self.packs.range(first..number).rev() {
            // One that was made ahead of need holds nothing.
            if pack.header().is_some() || self.durable_in(pack, PAGE_BYTES)? > 0 {
                return Ok(before);
            }
        }
        Ok(first)
    }

    /// The batch at a point of a pack; of any epoch when that is not known.
    pub(super) fn batch(
        &self,
        pack: &FoundPack,
        at: &Position,
        epoch: Option<u64>,
        limit: u64,
    ) -> Result<Scanned, OpenError> {
        let failed = |e| OpenError::io(&format!("{} could not be read", packs::path(at.pack)), e);
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => match log::epoch_at(&*pack.file, at.offset, limit).map_err(failed)? {
                Some(epoch) => epoch,
                None => return Ok(Scanned::Bad("its header, and no batch begins here")),
            },
        };
        log::read_batch(&*pack.file, limit, epoch, at).map_err(failed)
    }

    /// The highest lsn that anything in a pack from `offset` on calls durable.
    pub(super) fn durable_in(&self, pack: &FoundPack, offset: u64) -> Result<u64, OpenError> {
        let epoch = pack.header().map(|header| header.epoch);
        log::durable_lsn_beyond(&*pack.file, offset, pack.len, epoch)
            .map_err(|e| OpenError::io("the log could not be read", e))
    }

    /// Looks behind the end of the log for anything that says that more had been durable: refuses unless that was
    /// given up. The last lsn that was.
    pub(super) fn refuse_if_more_was_durable(
        &self,
        head: Option<u32>,
        end: Position,
    ) -> Result<u64, OpenError> {
        let (mut here, mut behind) = (end.lsn, Vec::new());
        for (&number, pack) in self.packs.iter().filter(|(n, _)| Some(**n) >= head) {
            let mut beyond = 0;
            match pack.header().map(|header| header.continues) {
                Some(point) if point.pack <= end.pack => here = here.max(point.lsn),
                Some(point) => beyond = point.lsn,
                None => {}
            }
            if number <= end.pack {
                here = here.max(self.durable_in(pack, end.offset)?);
                continue;
            }
            beyond = beyond.max(self.durable_in(pack, PAGE_BYTES)?);
            if beyond > end.lsn {
                let first = Position {
                    pack: number,
                    offset: PAGE_BYTES,
                    ..end
                };
                behind.push((beyond, self.hole_at(&first)));
            }
        }
        if planted::is(Bug::DamageTakenForTorn) {
            return Ok(end.lsn);
        }
        let hole = self.hole_at(&end);
        let mut durable = end.lsn;
        let all = (here > end.lsn)
            .then_some((here, hole))
            .into_iter()
            .chain(behind);
        for (beyond, hole) in all {
            durable = durable.max(beyond);
            self.pass(hole, || {
                let readable = end.lsn;
                at_hole(
                    hole,
                    &format!("it was durable up to record {beyond}, but is readable only up to {readable}"),
                )
            })?;
        }
        Ok(durable)
    }

    /// What a hole is called that the log comes to at this point: a pack without a readable header is one hole with
    /// what cannot be read at its beginning.
    pub(super) fn hole_at(&self, at: &Position) -> LogHole {
        let offset = match self.packs.get(&at.pack) {
            None => 0,
            Some(pack) if pack.header().is_none() && at.offset <= PAGE_BYTES => 0,
            Some(_) => at.offset,
        };
        LogHole {
            pack: at.pack,
            offset,
        }
    }

    fn accepts(&self, pack: u32, offset: u64) -> bool {
        self.accepted.contains(&LogHole { pack, offset })
    }

    /// Goes past a hole that was given up, and no other.
    pub(super) fn pass(
        &self,
        hole: LogHole,
        what: impl FnOnce() -> String,
    ) -> Result<(), OpenError> {
        match self.accepted.contains(&hole) || planted::is(Bug::SkipHole) {
            true => Ok(()),
            false => Err(holes::refused(hole, &what())),
        }
    }
}

/// What is wrong with the log at a hole.
pub(super) fn at_hole(hole: LogHole, why: &str) -> String {
    let path = hole.path();
    match hole.offset {
        0 => format!("The log file {path} is missing or has no readable header: {why}."),
        offset => format!("The log is damaged at byte {offset} of {path}: {why}."),
    }
}

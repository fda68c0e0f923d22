//! From the disk to a running store: finds the log's end, replays what the index lacks, and writes the
//! last batch anew before anything is served.
//!
//! What a bad frame means is decided here. Bytes above the last lsn that anything says is durable are a
//! torn tail and are cut; bytes at or below it are damage: never cut, and never skipped unless the owner has
//! given up what is lost (`holes`), else the store refuses to open and says how to go on.

use std::{collections::BTreeMap, io, sync::Arc};

use crate::{
    Error, ErrorKind, OpenError,
    disk::{Disk, DiskFile, is_full},
    env::Env,
    meta::{
        key::{BlobId, Key},
        local::{
            Local, LocalConfig,
            applier::Applier,
            committer::Committer,
            effects::{
                View,
                recount::{self, Recounted},
            },
            format::{self, Format},
            holes::{self, LogHole, Loss},
            index,
            log::{
                self, Batch, FOOTER_BYTES, Footer, HeaderBlock, PAGE_BYTES, PackHeader, Position,
                Scanned,
            },
            packs::{self, Packs},
            rebuild::{self, Usable},
            space,
        },
        record::Checkpoint,
    },
    planted::{self, Bug},
};

/// A store that is open: what it shares, and the steps that drive it.
pub struct Opened {
    /// Shared by all steps and readers.
    pub local: Arc<Local>,
    /// Writes the log.
    pub committer: Committer,
    /// Moves it into the index.
    pub applier: Applier,
}

/// How to go past holes of the log.
#[derive(Clone, Debug, Default)]
pub struct Tolerance {
    /// These are given up by their owner.
    pub accepted: Vec<LogHole>,
    /// Nobody will write to this store: what follows from rows is left as it is.
    pub only_looks: bool,
}

/// What became of holes that were given up.
#[derive(Debug, Default)]
pub struct GivenUp {
    /// What they hide.
    pub losses: Vec<Loss>,
    /// What had to be done besides counting, when it was counted.
    pub recounted: Option<Recounted>,
}

/// Opens the store in `disk`, making it when there is none.
pub fn open(disk: Arc<dyn Disk>, config: LocalConfig, env: Env) -> Result<Opened, OpenError> {
    open_past(disk, config, env, &Tolerance::default()).map(|(opened, _)| opened)
}

/// Opens the store past the holes that are given up; all others are refused as ever. A start on a full disk takes the
/// ballast.
pub fn open_past(
    disk: Arc<dyn Disk>,
    config: LocalConfig,
    env: Env,
    tolerance: &Tolerance,
) -> Result<(Opened, GivenUp), OpenError> {
    let has_ballast = disk.open(space::BALLAST).is_ok();
    match open_once(disk.clone(), config.clone(), env.clone(), tolerance) {
        Err(OpenError::Io { source, .. }) if has_ballast && is_full(&source) => {
            space::give_back(&*disk)
                .map_err(|e| OpenError::io("the ballast could not be removed", e))?;
            open_once(disk, config, env, tolerance)
        }
        opened => opened,
    }
}

fn open_once(
    disk: Arc<dyn Disk>,
    config: LocalConfig,
    env: Env,
    tolerance: &Tolerance,
) -> Result<(Opened, GivenUp), OpenError> {
    let Format {
        store_id,
        incarnation_floor,
        ..
    } = format::open_or_create(&disk, &env)?;
    // A process that was killed may leave names that are there but not durable: FORMAT, a spare pack.
    for directory in ["", packs::DIR] {
        disk.sync_dir(directory)
            .map_err(|e| OpenError::io("the directory of the store could not be synced", e))?;
    }
    let mut log =
        Log::survey(&*disk, store_id).map_err(|e| OpenError::io("the log could not be read", e))?;
    log.accepted.clone_from(&tolerance.accepted);
    let Usable {
        index,
        checkpoint,
        rebuilt,
    } = rebuild::open_index(&*disk, &config, store_id, &log)?;
    let checkpoint = checkpoint.filter(|checkpoint| checkpoint.pack != 0);
    let head = log.head(checkpoint.as_ref())?;
    let segments = log.segments(head, checkpoint.as_ref())?;
    let is_new = head.is_none() && checkpoint.is_none();
    if is_new {
        must_be_empty(&*disk)?;
    }

    let seen = log
        .packs
        .values()
        .filter_map(|pack| pack.header())
        .map(|h| h.incarnation)
        .max();
    let incarnation = 1 + seen
        .unwrap_or(0)
        .max(checkpoint.map_or(0, |checkpoint| checkpoint.incarnation))
        .max(incarnation_floor);
    let newest = log.packs.keys().max().copied().unwrap_or(0);
    let next_number = 1 + newest.max(checkpoint.map_or(0, |c| c.pack));
    let is_recount_owed = !tolerance.accepted.is_empty()
        || recount::is_owed(&index).map_err(|e| index_failed("The index cannot be read", &e))?;
    log.keeps_all = is_recount_owed;
    if is_recount_owed && !tolerance.only_looks {
        recount::owe(&index, checkpoint.as_ref())
            .map_err(|e| index_failed("The index cannot be written", &e))?;
    }
    let start = checkpoint.map_or(Position::default(), |c| c.position());
    let local = Arc::new(Local::new(
        disk,
        config,
        env,
        store_id,
        incarnation,
        index,
        checkpoint,
        next_number,
    ));
    if incarnation_floor > 0 {
        // What was committed between the backup and its restore may have a file and no row: it is not destroyed.
        let first = BlobId::new(incarnation_floor + 1, 0, 0, 0);
        local.files.spare_below(first);
    }
    local.note_start(rebuilt, is_new || log.continues(None).is_ok())?;
    if is_recount_owed {
        local.distrust_rows();
    }
    let mut applier = Applier::new(local.clone());
    let (tail, mut losses) = log.replay(&local, &mut applier, start, &segments)?;
    let durable = log.refuse_if_more_was_durable(head, &tail)?;
    let tail = log.end_in_hole(&local, tail, durable, &mut losses)?;
    log.tidy(&local, head, &segments, &tail)?;
    let left = tail.before.pack;
    use_packs(&local, &segments, left)
        .map_err(|e| index_failed("The log could not be replayed", &e))?;
    let committer = begin_fresh_pack(&local, tail)?;
    if !planted::is(Bug::SkipRewrite) {
        remove_bypassed(&local, &log, &segments, start.pack, left)?;
    }
    let recounted = (is_recount_owed && !tolerance.only_looks)
        .then(|| recount::run(&local, &mut applier, committer.position()))
        .transpose()
        .map_err(|e| match e.kind() {
            ErrorKind::InsufficientStorage => {
                OpenError::io("the rows could not be counted anew", not_written(e))
            }
            _ => index_failed("What follows from the rows could not be counted", &e),
        })?;
    let opened = Opened {
        local,
        committer,
        applier,
    };
    Ok((opened, GivenUp { losses, recounted }))
}

/// Without a log and without a checkpoint this must be the first start, cut short: nothing was acknowledged,
/// so there is nothing but an empty index. Else something was taken away, and what is left must not be
/// taken for an empty store, whose files nobody names.
fn must_be_empty(disk: &dyn Disk) -> Result<(), OpenError> {
    let objects = disk
        .read_dir("objects")
        .map_err(|e| OpenError::io("objects/ could not be read", e))?;
    if !objects.is_empty() {
        return Err(damaged(
            "The store has neither an index (index.redb) nor a log (log/) that can be read.".into(),
        ));
    }
    Ok(())
}

/// Gives every pack of the log a row, so that one without is known to be damage or no part of the log: also
/// those whose only records were in the last batch, which the fresh pack has now.
fn use_packs(local: &Local, segments: &[Segment], left: u32) -> Result<(), Error> {
    let position = local.overlay.position();
    let mut view = View::new(local)?;
    for number in segments.iter().map(|segment| segment.number) {
        if number <= left {
            view.use_pack(number)?;
        }
    }
    view.publish(position);
    Ok(())
}

/// Removes packs that the log goes past: starts that failed left them, or what they hold is in later ones.
fn remove_bypassed(
    local: &Local,
    log: &Log,
    segments: &[Segment],
    // The pack of the checkpoint (0 when there is none): those before it are not the log's any more.
    first: u32,
    left: u32,
) -> Result<(), OpenError> {
    let on_the_way = |n: u32| segments.iter().any(|segment| segment.number == n);
    let last = segments.last().map_or(0, |segment| segment.number);
    for number in log
        .packs
        .keys()
        .copied()
        .filter(|&n| n >= first && n <= last)
    {
        if on_the_way(number) && number <= left {
            continue;
        }
        let row = local.get(&Key::Pack(number));
        if row
            .map_err(|e| index_failed("The index cannot be read", &e))?
            .is_none()
        {
            log.remove(local, number)
                .map_err(|e| OpenError::io("a superfluous log file could not be removed", e))?;
        }
    }
    Ok(())
}

/// A stretch of one pack that belongs to the log.
#[derive(Clone, Copy, Debug)]
struct Segment {
    number: u32,
    /// `None` behind a hole: the file is missing, or its header cannot be read.
    header: Option<PackHeader>,
    /// Where the log leaves the pack; `None` in the last one, and where the next one does not say.
    end: Option<Position>,
}

struct FoundPack {
    file: Arc<dyn DiskFile>,
    len: u64,
    block: HeaderBlock,
}

impl FoundPack {
    fn header(&self) -> Option<PackHeader> {
        match self.block {
            HeaderBlock::Valid(header) => Some(header),
            HeaderBlock::Spare | HeaderBlock::Bad => None,
        }
    }
}

/// The end of the log. Its last batch may be in the page cache only, and so may the header of its pack when
/// it is the first there: the log goes on from the point before it.
struct Tail {
    /// The point before the last batch, outside of a pack that has no other.
    before: Position,
    /// The last batch, unless it has no records.
    last: Option<Box<Batch>>,
    /// The point behind everything.
    end: Position,
}

/// The files of the log as they were found.
pub(super) struct Log {
    packs: BTreeMap<u32, FoundPack>,
    /// Holes that their owner has given up.
    accepted: Vec<LogHole>,
    /// There are such, or there were at a start that was cut short: nothing is destroyed that may be of use yet.
    keeps_all: bool,
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
    fn survey(disk: &dyn Disk, store_id: [u8; 16]) -> io::Result<Self> {
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
    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Whether the last file is one before that point: the log has lost its end.
    pub(super) fn ends_before(&self, point: &Checkpoint) -> bool {
        let last = self
            .packs
            .iter()
            .rev()
            .find(|(_, pack)| pack.header().is_some());
        last.is_none_or(|(&number, _)| number < point.pack)
    }

    /// False when the log was somewhere else at that point. What cannot be read there is damage, of which others tell.
    pub(super) fn has_point(&self, point: &Checkpoint) -> Result<bool, OpenError> {
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

    /// What a hole is called that the log comes to at this point: a pack without a readable header is one hole with
    /// what cannot be read at its beginning.
    fn hole_at(&self, at: &Position) -> LogHole {
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
    fn pass(&self, hole: LogHole, what: impl FnOnce() -> String) -> Result<(), OpenError> {
        match self.accepted.contains(&hole) || planted::is(Bug::SkipHole) {
            true => Ok(()),
            false => Err(holes::refused(hole, &what())),
        }
    }

    /// The newest pack that belongs to the log: it has a complete first batch, or the checkpoint knows it, or a
    /// hole in its beginning was given up.
    fn head(&self, checkpoint: Option<&Checkpoint>) -> Result<Option<u32>, OpenError> {
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

    /// Refuses when the log does not go on from this checkpoint (or begin at its beginning).
    pub(super) fn continues(&self, checkpoint: Option<&Checkpoint>) -> Result<(), OpenError> {
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

    /// The stretches from the checkpoint (or the beginning) to the head, in order.
    fn segments(
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

    /// Replays everything but the last batch into the overlay. What holes hide that were given up comes along.
    fn replay(
        &self,
        local: &Arc<Local>,
        applier: &mut Applier,
        start: Position,
        segments: &[Segment],
    ) -> Result<(Tail, Vec<Loss>), OpenError> {
        let mut replay = Replay {
            log: self,
            local,
            applier,
            at: start,
            entered: start,
            held: None,
            losses: Vec::new(),
            records: 0,
            bytes: 0,
        };
        for (place, segment) in segments.iter().enumerate() {
            replay.segment(segment, place + 1 == segments.len())?;
        }
        let Replay {
            at,
            entered,
            held,
            losses,
            records,
            bytes,
            ..
        } = replay;
        if records > 0 {
            tracing::info!(records, bytes, "the end of the log was replayed");
        }
        let Some((mut before, batch)) = held else {
            let tail = Tail {
                before: at,
                last: None,
                end: at,
            };
            return Ok((tail, losses));
        };
        if let Some(segment) = segments.last()
            && (before.pack, before.offset) == (segment.number, PAGE_BYTES)
        {
            before = segment.header.map_or(entered, |header| header.continues);
        }
        let tail = Tail {
            before,
            last: Some(batch).filter(|batch| !batch.records.is_empty()),
            end: at,
        };
        Ok((tail, losses))
    }

    /// The batch at a point of a pack; of any epoch when that is not known.
    fn batch(
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
    fn durable_in(&self, pack: &FoundPack, offset: u64) -> Result<u64, OpenError> {
        let epoch = pack.header().map(|header| header.epoch);
        log::durable_lsn_beyond(&*pack.file, offset, pack.len, epoch)
            .map_err(|e| OpenError::io("the log could not be read", e))
    }

    /// Looks behind the end of the log for anything that says that more had been durable: refuses unless that was
    /// given up. The last lsn that was.
    fn refuse_if_more_was_durable(&self, head: Option<u32>, tail: &Tail) -> Result<u64, OpenError> {
        let end = tail.end;
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

    /// When the log ends in a hole that was given up: it goes on behind the last record that was ever durable.
    fn end_in_hole(
        &self,
        local: &Local,
        tail: Tail,
        durable: u64,
        losses: &mut Vec<Loss>,
    ) -> Result<Tail, OpenError> {
        let end = tail.end;
        let hole = self.hole_at(&end);
        if !self.accepted.contains(&hole) {
            return Ok(tail);
        }
        losses.retain(|loss| loss.hole != hole);
        losses.push(Loss {
            hole,
            first_lsn: end.lsn + 1,
            last_lsn: durable,
            ends_log: true,
            resumes_at: None,
            reason: "nothing can be read behind it".into(),
        });
        let end = Position {
            lsn: durable,
            ..end
        };
        // The last batch that can be read stays where it is: its lsns are behind those that are lost.
        if let Some(batch) = &tail.last {
            publish(local, tail.before.pack, tail.before.offset, batch, end)?;
        }
        Ok(Tail {
            before: end,
            last: None,
            end,
        })
    }

    /// Drops packs that never became part of the log; keeps the newest unwritten one as the spare.
    fn tidy(
        &self,
        local: &Local,
        head: Option<u32>,
        segments: &[Segment],
        tail: &Tail,
    ) -> Result<(), OpenError> {
        let newest = self.packs.keys().max();
        for (&number, pack) in self.packs.iter().filter(|(n, _)| Some(**n) > head) {
            let done = if matches!(pack.block, HeaderBlock::Spare) && Some(&number) == newest {
                local.packs.adopt_spare(number)
            } else {
                self.remove(local, number)
            };
            done.map_err(|e| OpenError::io("the log could not be tidied", e))?;
        }
        if self.keeps_all {
            return Ok(());
        }
        // What was reserved behind the end is given back now: a full disk may need it for the fresh pack.
        if let Some(pack) = self.packs.get(&tail.end.pack)
            && pack.len > tail.end.offset
            && let Err(error) = pack.file.set_len(tail.end.offset)
        {
            tracing::warn!(pack = tail.end.pack, %error, "the unused end of a log file stays");
        }
        // The log leaves its last pack where the fresh one continues it.
        let left = match planted::is(Bug::SkipRewrite) {
            true => tail.end,
            false => tail.before,
        };
        for segment in segments {
            let number = segment.number;
            let here = (left.pack == number).then_some(left.offset);
            if let Some(used) = segment.end.map(|end| end.offset).or(here) {
                local.packs.retire(number, used);
            }
        }
        Ok(())
    }

    /// Removes a pack that is no part of the log; with holes in the log that is not sure, so it is set aside.
    fn remove(&self, local: &Local, number: u32) -> io::Result<()> {
        match self.keeps_all {
            true => local.packs.set_aside(number),
            false => local.packs.remove(number),
        }
    }
}

/// The log being read from the checkpoint on.
struct Replay<'a> {
    log: &'a Log,
    local: &'a Arc<Local>,
    applier: &'a mut Applier,
    at: Position,
    /// Where the log came into the pack that it is in.
    entered: Position,
    /// The last batch, and the point before it.
    held: Option<(Position, Box<Batch>)>,
    losses: Vec<Loss>,
    /// What the index lacked: records, and bytes of their batches.
    records: usize,
    bytes: u64,
}

impl Replay<'_> {
    fn segment(&mut self, segment: &Segment, is_last: bool) -> Result<(), OpenError> {
        let Some(pack) = self.log.packs.get(&segment.number) else {
            self.pass_missing(segment);
            return Ok(());
        };
        if segment.number != self.at.pack {
            self.enter(segment)?;
        }
        let mut epoch = segment.header.map(|header| header.epoch);
        let limit = segment.end.map_or(pack.len, |end| end.offset);
        while segment.end.is_none() || self.at.offset < limit {
            match self.log.batch(pack, &self.at, epoch, limit)? {
                Scanned::Batch(batch) => {
                    epoch = Some(batch.footer.epoch);
                    self.take(self.at, batch)?;
                }
                Scanned::Bad(why) => match self.go_on(pack, segment, epoch, why, is_last)? {
                    Some(resumed) => epoch = resumed,
                    None => break,
                },
            }
        }
        let headless = LogHole {
            pack: segment.number,
            offset: 0,
        };
        if segment.header.is_none() && self.losses.iter().all(|loss| loss.hole != headless) {
            // All of its batches could be read.
            self.lose(
                headless,
                self.at.lsn,
                Some(PAGE_BYTES),
                "its header cannot be read",
            );
        }
        match segment.end {
            Some(end) if (end.offset, end.hash) != (self.at.offset, self.at.hash) => {
                self.jump(end, "the log leaves this file at another point")
            }
            _ => Ok(()),
        }
    }

    /// Takes the next batch, which stands at `before`; the one before it is replayed.
    fn take(&mut self, before: Position, batch: Box<Batch>) -> Result<(), OpenError> {
        self.at = batch.next;
        self.records += batch.records.len();
        self.bytes += self.at.offset.saturating_sub(before.offset);
        match self.held.replace((before, batch)) {
            Some((before, batch)) => replay_batch(self.local, self.applier, &before, &batch),
            None => Ok(()),
        }
    }

    /// Comes into the next pack.
    fn enter(&mut self, segment: &Segment) -> Result<(), OpenError> {
        if let Some(header) = segment.header
            && (self.at.lsn, self.at.hash) != (header.continues.lsn, header.continues.hash)
        {
            self.jump(header.continues, "the next log file does not continue it")?;
        }
        self.entered = self.at;
        self.at.pack = segment.number;
        self.at.offset = PAGE_BYTES;
        Ok(())
    }

    /// Goes on at a point that what was read does not lead to, when that was given up.
    fn jump(&mut self, to: Position, why: &str) -> Result<(), OpenError> {
        let hole = self.log.hole_at(&self.at);
        self.log.pass(hole, || at_hole(hole, why))?;
        self.lose(hole, to.lsn, None, why);
        self.at = Position {
            lsn: to.lsn.max(self.at.lsn),
            ..to
        };
        Ok(())
    }

    /// A pack that is not there was given up.
    fn pass_missing(&mut self, segment: &Segment) {
        let hole = LogHole {
            pack: segment.number,
            offset: 0,
        };
        let to = segment.end.map_or(self.at.lsn, |end| end.lsn);
        self.lose(hole, to, None, "the log file is missing");
        if let Some(end) = segment.end {
            self.at = Position {
                lsn: end.lsn.max(self.at.lsn),
                ..end
            };
        }
    }

    /// What to do where no batch can be read: the epoch to go on with, or `None` at the end of the pack.
    fn go_on(
        &mut self,
        pack: &FoundPack,
        segment: &Segment,
        epoch: Option<u64>,
        why: &str,
        is_last: bool,
    ) -> Result<Option<Option<u64>>, OpenError> {
        let at = self.at;
        let hole = self.log.hole_at(&at);
        if !self.log.accepted.contains(&hole) {
            let is_torn = match segment.end {
                Some(_) => false,
                None if is_last => {
                    !planted::is(Bug::TornTakenForDamage)
                        || matches!(why, "magic" | "beyond the end of the pack")
                }
                // The next pack does not say where the log left this one.
                None => self.log.durable_in(pack, at.offset)? <= at.lsn,
            };
            if is_torn {
                return Ok(None);
            }
            self.log.pass(hole, || at_hole(hole, why))?;
        }
        let limit = segment.end.map_or(pack.len, |end| end.offset);
        let next = log::next_whole_batch(&*pack.file, (at.offset, limit), epoch, &at)
            .map_err(|e| OpenError::io(&format!("{} could not be read", hole.path()), e))?;
        match (next, segment.end) {
            (Some((before, batch)), _) => {
                self.lose(hole, before.lsn, Some(before.offset), why);
                let epoch = batch.footer.epoch;
                self.take(before, batch)?;
                Ok(Some(Some(epoch)))
            }
            (None, Some(end)) => {
                self.lose(hole, end.lsn, None, why);
                self.at = Position {
                    lsn: end.lsn.max(at.lsn),
                    ..end
                };
                Ok(Some(epoch))
            }
            (None, None) => {
                self.lose(hole, at.lsn, None, why);
                Ok(None)
            }
        }
    }

    /// Notes that a hole hides all records up to `last_lsn`.
    fn lose(&mut self, hole: LogHole, last_lsn: u64, resumes_at: Option<u64>, reason: &str) {
        self.losses.push(Loss {
            hole,
            first_lsn: self.at.lsn + 1,
            last_lsn,
            ends_log: false,
            resumes_at,
            reason: reason.to_owned(),
        });
    }
}

fn replay_batch(
    local: &Arc<Local>,
    applier: &mut Applier,
    at: &Position,
    batch: &Batch,
) -> Result<(), OpenError> {
    publish(local, at.pack, at.offset, batch, batch.next)?;
    // A full disk is no reason not to start: the rows wait in memory, as they did in the process before.
    if local.is_apply_due() && local.full().is_none() {
        applier
            .step()
            .map_err(|e| index_failed("The log could not be replayed", &e))?;
    }
    Ok(())
}

fn publish(
    local: &Local,
    pack: u32,
    offset: u64,
    batch: &Batch,
    position: Position,
) -> Result<(), OpenError> {
    let replayed = (|| {
        let mut view = View::new(local)?;
        if !batch.records.is_empty() {
            view.use_pack(pack)?;
        }
        for record in &batch.records {
            for change in record.located(pack, offset) {
                view.apply(change)?;
            }
        }
        view.publish(position);
        Ok::<_, Error>(())
    })();
    replayed.map_err(|e| index_failed("The log could not be replayed", &e))
}

/// Starts this epoch: a fresh pack that begins with the last batch anew, or with a seal.
///
/// After a failed or missing sync the page cache may hold a batch that the disk does not; once it has been
/// read here it may be served, so first it is made durable.
fn begin_fresh_pack(local: &Arc<Local>, tail: Tail) -> Result<Committer, OpenError> {
    let Tail { before, last, .. } = tail;
    let failed = |e: io::Error| OpenError::io("the log could not be continued", e);
    let last = match last {
        Some(batch) if planted::is(Bug::SkipRewrite) => {
            publish(local, before.pack, before.offset, &batch, batch.next)?;
            let pack = local.packs.next().map_err(failed)?;
            let mut committer = Committer::new(local.clone(), pack, batch.next);
            committer.seal();
            return Ok(committer);
        }
        last => last,
    };
    let pack = local.packs.next().map_err(failed)?;
    let mut committer = Committer::new(local.clone(), pack, before);
    match &last {
        Some(batch) => committer
            .rewrite(batch)
            .map_err(|e| failed(not_written(e)))?,
        None => drop(committer.seal()),
    }
    match (local.stopped(), local.full()) {
        (Some(why), _) => Err(failed(io::Error::other(why))),
        (None, Some(why)) if last.is_none() && !committer.is_sealed() => {
            Err(failed(io::Error::new(io::ErrorKind::StorageFull, why)))
        }
        (None, _) => Ok(committer),
    }
}

fn not_written(error: Error) -> io::Error {
    match error.kind() {
        ErrorKind::InsufficientStorage => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => io::Error::other(error),
    }
}

fn at_hole(hole: LogHole, why: &str) -> String {
    let path = hole.path();
    match hole.offset {
        0 => format!("The log file {path} is missing or has no readable header: {why}."),
        offset => format!("The log is damaged at byte {offset} of {path}: {why}."),
    }
}

/// A failing disk is worth another try; only bad content is damage.
pub(crate) fn index_failed(what: &str, error: &Error) -> OpenError {
    match index::disk_failure(error) {
        Some(source) => OpenError::io(what, source),
        None => damaged(format!("{what}: {error}.")),
    }
}

pub(super) fn damaged(what: String) -> OpenError {
    OpenError::Damaged {
        what: format!(
            "{what} Nothing was changed. Check the disk, and restore the file from a copy if there is one; \
             `jay fsck` says what else is damaged."
        ),
    }
}

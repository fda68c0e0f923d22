//! From the disk to a running store: finds the log's end, replays what the index lacks, and writes the
//! last batch anew before anything is served.
//!
//! What a bad frame means is decided here. Bytes above the last lsn that anything says is durable are a
//! torn tail and are cut; bytes at or below it are damage: never cut, never skipped, the store refuses to
//! open and says how to go on.

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
            effects::View,
            format::{self, Format},
            index,
            log::{self, Batch, Hash, HeaderBlock, PAGE_BYTES, PackHeader, Position, Scanned},
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

/// Opens the store in `disk`, making it when there is none. A start on a full disk takes the ballast.
pub fn open(disk: Arc<dyn Disk>, config: LocalConfig, env: Env) -> Result<Opened, OpenError> {
    let has_ballast = disk.open(space::BALLAST).is_ok();
    match open_once(disk.clone(), config.clone(), env.clone()) {
        Err(OpenError::Io { source, .. }) if has_ballast && is_full(&source) => {
            space::give_back(&*disk)
                .map_err(|e| OpenError::io("the ballast could not be removed", e))?;
            open_once(disk, config, env)
        }
        opened => opened,
    }
}

fn open_once(disk: Arc<dyn Disk>, config: LocalConfig, env: Env) -> Result<Opened, OpenError> {
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
    let log =
        Log::survey(&*disk, store_id).map_err(|e| OpenError::io("the log could not be read", e))?;
    let Usable {
        index,
        checkpoint,
        rebuilt,
    } = rebuild::open_index(&*disk, &config, store_id, &log)?;
    let head = log.head(checkpoint.as_ref())?;
    let segments = log.segments(head, checkpoint.as_ref())?;
    if head.is_none() && checkpoint.is_none() {
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
    let next_number = 1 + log.packs.keys().max().copied().unwrap_or(0);
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
    local.note_start(rebuilt, log.continues(None).is_ok())?;
    let mut applier = Applier::new(local.clone());
    let tail = log.replay(&local, &mut applier, start, &segments)?;
    log.refuse_if_more_was_durable(head, &tail)?;
    log.tidy(&local, head, &segments, &tail)?;
    let left = tail.before.pack;
    use_packs(&local, &segments, left)
        .map_err(|e| index_failed("The log could not be replayed", &e))?;
    let committer = begin_fresh_pack(&local, tail)?;
    if !planted::is(Bug::SkipRewrite) {
        remove_bypassed(&local, &log, &segments, start.pack, left)?;
    }
    Ok(Opened {
        local,
        committer,
        applier,
    })
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
    for number in segments.iter().map(|segment| segment.header.number) {
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
    let on_the_way = |n: u32| segments.iter().any(|segment| segment.header.number == n);
    let last = segments.last().map_or(0, |segment| segment.header.number);
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
            local
                .packs
                .remove(number)
                .map_err(|e| OpenError::io("a superfluous log file could not be removed", e))?;
        }
    }
    Ok(())
}

/// A stretch of one pack that belongs to the log.
#[derive(Clone, Copy, Debug)]
struct Segment {
    header: PackHeader,
    /// Where the log leaves the pack, and the hash there; `None` in the last one.
    end: Option<(u64, Hash)>,
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

    /// What the index was made from was durable: a file that ends before it was cut, and with it perhaps what
    /// came behind, of which nothing tells any more.
    fn reaches(&self, checkpoint: &Checkpoint) -> Result<(), OpenError> {
        if self.len >= checkpoint.offset {
            return Ok(());
        }
        Err(damaged(format!(
            "The log file {} ends at byte {}, and the index was made from it up to byte {}.",
            packs::path(checkpoint.pack),
            self.len,
            checkpoint.offset
        )))
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
        Ok(Self { packs: found })
    }

    /// The newest pack that belongs to the log: it has a complete first batch, or the checkpoint knows it.
    fn head(&self, checkpoint: Option<&Checkpoint>) -> Result<Option<u32>, OpenError> {
        for (&number, pack) in self.packs.iter().rev() {
            let Some(header) = pack.header() else {
                continue;
            };
            if let Some(checkpoint) = checkpoint.filter(|c| c.pack == number) {
                return pack.reaches(checkpoint).map(|()| Some(number));
            }
            let first = Position {
                pack: number,
                offset: PAGE_BYTES,
                ..header.continues
            };
            if let Scanned::Batch(_) = self.batch(&header, &first, None)? {
                return Ok(Some(number));
            }
        }
        match checkpoint {
            Some(c) if c.pack != 0 => Err(damaged(format!(
                "The log file {} is missing or has no readable header, and the index was made from it.",
                packs::path(c.pack)
            ))),
            _ => Ok(None),
        }
    }

    /// Refuses when the log does not go on from this checkpoint (or begin at its beginning).
    pub(super) fn continues(&self, checkpoint: Option<&Checkpoint>) -> Result<(), OpenError> {
        match self.head(checkpoint)? {
            None => Err(damaged(
                "The store has neither an index (index.redb) nor a log (log/) that can be read."
                    .into(),
            )),
            head => self.segments(head, checkpoint).map(drop),
        }
    }

    /// The stretches from the checkpoint (or the beginning) to the head, in order.
    fn segments(
        &self,
        head: Option<u32>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Vec<Segment>, OpenError> {
        let (mut segments, mut end, mut at) = (Vec::new(), None, head.unwrap_or(0));
        let first = checkpoint.map_or(0, |c| c.pack);
        while at != 0 {
            let header = self.packs.get(&at).and_then(FoundPack::header).ok_or_else(|| {
                damaged(format!(
                    "The log file {} is missing or has no readable header, but later ones continue it.",
                    packs::path(at)
                ))
            })?;
            segments.push(Segment { header, end });
            if at == first {
                break;
            }
            end = Some((header.continues.offset, header.continues.hash));
            at = header.continues.pack;
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

    /// Replays everything but the last batch into the overlay.
    fn replay(
        &self,
        local: &Arc<Local>,
        applier: &mut Applier,
        start: Position,
        segments: &[Segment],
    ) -> Result<Tail, OpenError> {
        let mut at = start;
        let mut held: Option<(Position, Box<Batch>)> = None;
        let (mut records, mut bytes) = (0, 0);
        for segment in segments {
            if segment.header.number != at.pack {
                at = Position {
                    pack: segment.header.number,
                    offset: PAGE_BYTES,
                    ..at
                };
                if at.lsn != segment.header.continues.lsn
                    || at.hash != segment.header.continues.hash
                {
                    return Err(bad_log(
                        &at,
                        "its header does not continue what is before it",
                    ));
                }
            }
            while segment.end.is_none_or(|(offset, _)| at.offset < offset) {
                match self.batch(&segment.header, &at, segment.end)? {
                    Scanned::Batch(batch) => {
                        if let Some((before, batch)) = held.take() {
                            replay_batch(local, applier, &before, &batch)?;
                        }
                        let next = batch.next;
                        records += batch.records.len();
                        bytes += next.offset - at.offset;
                        held = Some((at, batch));
                        at = next;
                    }
                    Scanned::Bad(why) if segment.end.is_some() => return Err(bad_log(&at, why)),
                    Scanned::Bad(_) => break,
                }
            }
            if segment.end.is_some_and(|end| end != (at.offset, at.hash)) {
                return Err(bad_log(&at, "the log leaves this file at another point"));
            }
        }
        if records > 0 {
            tracing::info!(records, bytes, "the end of the log was replayed");
        }
        let Some((mut before, batch)) = held else {
            return Ok(Tail {
                before: at,
                last: None,
                end: at,
            });
        };
        if let Some(segment) = segments.last()
            && (before.pack, before.offset) == (segment.header.number, PAGE_BYTES)
        {
            before = segment.header.continues;
        }
        Ok(Tail {
            before,
            last: Some(batch).filter(|batch| !batch.records.is_empty()),
            end: at,
        })
    }

    fn batch(
        &self,
        header: &PackHeader,
        at: &Position,
        end: Option<(u64, Hash)>,
    ) -> Result<Scanned, OpenError> {
        let pack = &self.packs[&header.number];
        let limit = end.map_or(pack.len, |(offset, _)| offset);
        log::read_batch(&*pack.file, limit, header.epoch, at)
            .map_err(|e| OpenError::io(&format!("{} could not be read", packs::path(at.pack)), e))
    }

    /// Looks behind the end of the log for anything that says that more had been durable.
    fn refuse_if_more_was_durable(&self, head: Option<u32>, tail: &Tail) -> Result<(), OpenError> {
        let end = tail.end;
        let mut durable = 0;
        for (&number, pack) in self.packs.iter().filter(|(n, _)| Some(**n) >= head) {
            let from = if Some(number) == head {
                end.offset
            } else {
                PAGE_BYTES
            };
            if let Some(header) = pack.header() {
                durable = durable.max(header.continues.lsn);
            }
            let epoch = pack.header().map(|header| header.epoch);
            let beyond = log::durable_lsn_beyond(&*pack.file, from, pack.len, epoch)
                .map_err(|e| OpenError::io("the log could not be read", e))?;
            durable = durable.max(beyond);
        }
        if durable > end.lsn {
            return Err(bad_log(
                &end,
                &format!(
                    "it was durable up to record {durable}, but is readable only up to {}",
                    end.lsn
                ),
            ));
        }
        Ok(())
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
                local.packs.remove(number)
            };
            done.map_err(|e| OpenError::io("the log could not be tidied", e))?;
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
            let number = segment.header.number;
            let here = (left.pack == number).then_some(left.offset);
            if let Some(used) = segment.end.map(|(offset, _)| offset).or(here) {
                local.packs.retire(number, used);
            }
        }
        Ok(())
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

fn bad_log(at: &Position, why: &str) -> OpenError {
    damaged(format!(
        "The log is damaged at byte {} of {}: {why}.",
        at.offset,
        packs::path(at.pack)
    ))
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
            "{what} Nothing was changed. Check the disk, restore the file from a copy if there is one; \
             `jay fsck` will say what is lost."
        ),
    }
}

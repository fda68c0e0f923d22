//! From the disk to a running store: finds the log's end, replays what the index lacks, and writes the
//! last batch anew before anything is served.
//!
//! What a bad frame means is decided here. Bytes above the last lsn that anything says is durable are a
//! torn tail and are cut; bytes at or below it are damage: never cut, and never skipped unless the owner has
//! given up what is lost (`holes`), else the store refuses to open and says how to go on.

mod replay;
mod survey;

use std::{io, sync::Arc};

pub(super) use self::survey::Log;
pub(crate) use self::survey::goes_on_from;
use self::{
    replay::{Tail, publish},
    survey::Segment,
};
use crate::{
    Error, ErrorKind, OpenError,
    disk::{Disk, is_full},
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
            holes::{LogHole, Loss},
            index,
            log::{HeaderBlock, Position},
            packs,
            rebuild::{self, Usable},
            space,
        },
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

    let known = checkpoint.map_or((0, 0), |c| (c.incarnation, c.pack));
    let incarnation = 1 + log.incarnation().max(known.0).max(incarnation_floor);
    let next_number = 1 + log.newest().max(known.1);
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
        (incarnation, incarnation_floor),
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
    let durable = log.refuse_if_more_was_durable(head, tail.end)?;
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
        .map_err(not_counted)?;
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

impl Log {
    /// Drops packs that never became part of the log; keeps the newest unwritten one as the spare.
    fn tidy(
        &self,
        local: &Local,
        head: Option<u32>,
        segments: &[Segment],
        tail: &Tail,
    ) -> Result<(), OpenError> {
        let newest = self.newest();
        for (&number, pack) in self.packs.iter().filter(|(n, _)| Some(**n) > head) {
            let done = if matches!(pack.block, HeaderBlock::Spare) && number == newest {
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

fn not_counted(error: Error) -> OpenError {
    match error.kind() {
        ErrorKind::InsufficientStorage => {
            OpenError::io("the rows could not be counted anew", not_written(error))
        }
        _ => index_failed("What follows from the rows could not be counted", &error),
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

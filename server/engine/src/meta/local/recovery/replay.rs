//! The way through the log, replayed: into the overlay, but for the last batch, and past the holes that were given up.

use std::sync::Arc;

use crate::{
    Error, OpenError,
    meta::local::{
        Local,
        applier::Applier,
        effects::View,
        holes::{LogHole, Loss},
        log::{self, Batch, PAGE_BYTES, Position, Scanned},
        recovery::{
            index_failed,
            survey::{FoundPack, Log, Segment, at_hole},
        },
    },
    planted::{self, Bug},
};

/// The end of the log. Its last batch may be in the page cache only, and so may the header of its pack when
/// it is the first there: the log goes on from the point before it.
pub(super) struct Tail {
    /// The point before the last batch, outside of a pack that has no other.
    pub(super) before: Position,
    /// The last batch, unless it has no records.
    pub(super) last: Option<Box<Batch>>,
    /// The point behind everything.
    pub(super) end: Position,
}

impl Log {
    /// Replays everything but the last batch into the overlay. What holes hide that were given up comes along.
    pub(super) fn replay(
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

    /// When the log ends in a hole that was given up: it goes on behind the last record that was ever durable.
    pub(super) fn end_in_hole(
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

/// Makes a batch visible, as it was when it was committed.
pub(super) fn publish(
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

//! Snapshots, scrubbing and the loss of the index, in the midst of everything else.

use super::{
    model::Intent,
    traffic,
    world::{Outcome, Round, World},
};
use crate::{
    disk::Disk,
    maintenance::{scrub::ScrubExtent, snapshot::Step as Snapshot},
    meta::{CommitError, Transaction, key::Key, local::format, record::Record},
};

impl World {
    /// Begins a snapshot, or goes on with it.
    pub(super) fn snapshot(&mut self) -> Outcome {
        let steps = 1 + self.dice.below(8);
        if !self.store().snapshotter.is_busy() {
            let begun = self.store().snapshotter.begin();
            self.note_failed_sync();
            self.story.tell(&[30, begun.is_ok().into()], || {
                format!("begin a snapshot: {begun:?}")
            });
            // A store to which nothing has been written has nothing to save.
            let is_empty = self.store().local.applied().pack == 0;
            return match begun {
                Err(error) if !is_empty && !self.may_fail() => {
                    Err(format!("a snapshot could not be begun: {error}"))
                }
                _ => Ok(()),
            };
        }
        for _ in 0..steps {
            let done = self.store().snapshotter.step();
            self.note_failed_sync();
            self.story
                .tell(&[31, matches!(done, Ok(Snapshot::More)).into()], || {
                    format!("snapshot: {done:?}")
                });
            match done {
                Ok(Snapshot::More) => {}
                Ok(Snapshot::Done(_)) => return Ok(()),
                Ok(Snapshot::Damaged(why)) if !self.may_fail() => {
                    return Err(format!("an index that is whole was called damaged: {why}"));
                }
                Err(error) if !self.may_fail() => {
                    return Err(format!("a snapshot could not be taken: {error}"));
                }
                Ok(Snapshot::Damaged(_)) | Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// A whole snapshot, when nothing disturbs it any more.
    pub(super) fn snapshot_now(&mut self) -> Outcome {
        if self.store().local.applied().pack == 0 {
            return Ok(());
        }
        let before = self
            .store()
            .local
            .snapshot()
            .map(|snapshot| snapshot.applied_lsn);
        for _ in 0..100_000 {
            self.snapshot()?;
            let store = self.store();
            let now = store.local.snapshot().map(|snapshot| snapshot.applied_lsn);
            if !store.snapshotter.is_busy()
                && (now > before || now == Some(store.local.applied().lsn))
            {
                return Ok(());
            }
        }
        Err("a snapshot does not come to an end".into())
    }

    /// Begins a pass of the scrubber, or goes on with it. Between its look and its commit others may commit.
    pub(super) fn scrub(&mut self) -> Outcome {
        if self.dice.of_16(4) {
            let extent = match self.dice.below(3) {
                0 => ScrubExtent::Presence,
                1 => ScrubExtent::Share,
                _ => ScrubExtent::Everything,
            };
            let begun = self.store().scrubber.begin(extent);
            self.story.tell(&[32, begun.is_ok().into()], || {
                format!("begin to scrub ({extent:?})")
            });
            return match begun {
                Err(error) if !self.may_fail() => {
                    Err(format!("a scrub could not be begun: {error}"))
                }
                _ => Ok(()),
            };
        }
        for _ in 0..1 + self.dice.below(4) {
            if !self.scrub_step()? {
                break;
            }
        }
        Ok(())
    }

    /// A step of the scrubber. Nothing is damaged here, so it must find nothing. False at the end of the pass.
    fn scrub_step(&mut self) -> Outcome<bool> {
        let (others, intents) = match self.dice.of_16(self.plan.races_of_16) {
            true => traffic::batch(self)?,
            false => Default::default(),
        };
        let mut others = Some((others, intents));
        let (was_stopped, mut rounds, mut wrong) = (self.stopped, Vec::new(), None);
        let store = self.store.as_mut().expect("open between steps");
        let (committer, local) = (&mut store.committer, &store.local);
        let done = store.scrubber.step(&mut |transactions: Vec<Transaction>| {
            if let Some((others, intents)) = others.take() {
                rounds.push(Round::commit(committer, local, others, intents));
            }
            let is_quarantine = transactions.iter().any(quarantines);
            let intents: Vec<Intent> = transactions.iter().map(|_| Intent::default()).collect();
            let round = Round::commit(committer, local, transactions, intents);
            let answers = round.answers.clone();
            match (is_quarantine, &answers[0]) {
                (true, Ok(())) => wrong = Some("an object that is whole was put into quarantine"),
                (true, Err(CommitError::Refused(_))) => {}
                _ => rounds.push(round),
            }
            answers
        });
        if let Some((others, intents)) = others {
            rounds.push(Round::commit(committer, local, others, intents));
        }
        let fired = self.note_failed_sync();
        self.story
            .tell(&[33, matches!(done, Ok(Some(_))).into()], || {
                format!("scrub: {done:?}")
            });
        for round in rounds {
            if !round.intents.is_empty() {
                self.judge(round, fired)?;
            }
        }
        self.stopped |= self.store().local.stopped().is_some();
        match (wrong, done) {
            (Some(wrong), _) => Err(wrong.into()),
            (None, Err(error)) if !fired && !was_stopped && !self.may_fail() => {
                Err(format!("the scrubber failed: {error}"))
            }
            (None, done) => Ok(matches!(done, Ok(Some(_)))),
        }
    }

    pub(super) fn may_fail(&self) -> bool {
        self.is_index_failing() || self.sync_failed || self.stopped
    }

    /// Between two starts, the index is taken away or overwritten: it can be made anew.
    pub(super) fn lose_index(&mut self) {
        let how = self.dice.below(3);
        let lost = match how {
            0 => self.disk.unlink(format::INDEX),
            1 => self
                .disk
                .open(format::INDEX)
                .and_then(|file| file.set_len(100)),
            _ => self
                .disk
                .open(format::INDEX)
                .and_then(|file| file.write_at(&[0x5a; 4096], 0)),
        };
        let lost = lost.and_then(|()| self.disk.sync_dir(""));
        self.story.tell(&[34, how, lost.is_ok().into()], || {
            format!("the index is lost (way {how}): {lost:?}")
        });
    }
}

fn quarantines(transaction: &Transaction) -> bool {
    transaction.changes.iter().any(|change| {
        matches!((&change.key, &change.record), (Key::Object(..), Some(Record::Object(object)))
            if object.quarantined.is_some())
    })
}

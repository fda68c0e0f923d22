//! Ends of a process and starts of the next one, after which everything is held against the model; and the end
//! of the story.

use std::sync::Arc;

use super::{
    check::{self, Found},
    model, traffic,
    world::{Outcome, Store, World},
};
use crate::{
    OpenError,
    disk::simulated::Faults,
    meta::local::{Local, format::INDEX, recovery},
};

impl World {
    /// From here on everything fails, as for a process that is no more.
    pub(super) fn halt(&mut self, how: &str) {
        self.story.tell(&[12], || how.to_owned());
        self.disk.halt();
    }

    /// Drops what is left of a dead process; then the disk is there again, after a power cut or as it was.
    pub(super) fn close_dead(&mut self, power_cut: bool) {
        self.drop_store();
        match power_cut {
            true => self.disk.crash(),
            false => self.disk.restart(),
        }
        self.backups.start_anew(power_cut);
        self.sync_armed = false;
        self.story
            .tell(&[13, power_cut.into()], || match power_cut {
                true => "a new start after a power cut".into(),
                false => "a new start, the power was never gone".into(),
            });
    }

    pub(super) fn drop_store(&mut self) {
        self.writing.clear();
        self.looks.clear();
        self.seen.clear();
        self.held.clear();
        self.backups.give_up();
        self.store = None;
        (self.stopped, self.sync_failed) = (false, self.trouble);
        self.may_be_short = self.trouble;
    }

    /// An orderly end of the process and a new start.
    pub(super) fn reopen(&mut self) -> Outcome {
        self.story.tell(&[14], || "close".into());
        self.seal();
        self.apply()?;
        self.drop_store();
        self.note_failed_sync();
        if self.disk.is_powered() {
            self.recover()?;
        }
        Ok(())
    }

    /// Opens the store, however often it takes, and holds everything against the model.
    pub(super) fn recover(&mut self) -> Outcome {
        if !self.acknowledged.rows.is_empty() && self.dice.of_16(self.plan.index_losses_of_16) {
            self.lose_index();
        }
        for attempt in 0.. {
            if attempt == 3 && self.trouble {
                self.trouble();
            }
            if !self.trouble && self.dice.of_16(1) && self.disk.is_powered() {
                self.must_be_sound()?;
            }
            if attempt < 6 && self.dice.of_16(self.plan.bad_recoveries_of_16) {
                self.disturb_recovery();
            }
            let config = self.plan.config.clone();
            self.index_failures = self.disk.failures(INDEX);
            let opened = recovery::open(self.disk.clone(), config, self.env.clone());
            let fired = self.note_failed_sync();
            self.restarts += 1;
            self.story.tell(&[15, attempt, opened.is_ok().into()], || {
                format!(
                    "open: {}",
                    opened
                        .as_ref()
                        .err()
                        .map_or("done".into(), |e| e.to_string())
                )
            });
            match opened {
                Ok(opened) => {
                    self.store = Some(Store::new(opened, self.plan.free_per_step, &self.env));
                    break;
                }
                Err(_) if !self.disk.is_powered() => {
                    let cut = self.dice.of_16(self.plan.power_cuts_of_16);
                    self.close_dead(cut);
                }
                Err(OpenError::Io { .. }) if fired || self.trouble => {
                    if self.dice.of_16(4) {
                        self.halt("the power goes after a failed start");
                        self.close_dead(true);
                    }
                }
                Err(error) => return Err(format!("the store does not open: {error}")),
            }
        }
        // What happened meanwhile is to be seen whole.
        let faults = self.disk.set_faults(Faults::default());
        let checked = self.check();
        self.disk.set_faults(faults);
        if self.disk.is_powered() {
            // What was in doubt may have had an lsn and no effect.
            self.acknowledged.lsn = self.store().committer.position().lsn;
            return checked;
        }
        // The power went at the last moment of the start, or when redb wrote on the occasion of a look.
        let cut = self.dice.of_16(self.plan.power_cuts_of_16);
        self.close_dead(cut);
        self.recover()
    }

    fn disturb_recovery(&mut self) {
        if self.dice.of_16(11) {
            let n = 1 + self.dice.below(30);
            self.story.tell(&[16, n], || {
                format!("the power will go in operation {n} from now")
            });
            self.disk.crash_at(n);
        } else {
            let n = 1 + self.dice.below(8);
            self.story
                .tell(&[17, n], || format!("sync {n} from now will fail"));
            self.disk.fail_sync_after(n);
            self.sync_armed = true;
        }
    }

    /// Everything acknowledged is there, and nothing else; what was in doubt is there wholly or not at all.
    pub(super) fn check(&mut self) -> Outcome {
        let page = [3, 16, 1000][self.dice.below(3) as usize];
        let found = Found::scan(&self.store().local, page)?;
        if let Some(how) = found.differs_from(&self.acknowledged) {
            let Some(batch) = self.in_doubt.take() else {
                return Err(how);
            };
            let mut with = self.acknowledged.clone();
            let _ = model::commit(&mut with, &batch);
            if let Some(how_with) = found.differs_from(&with) {
                return Err(format!(
                    "without the batch in doubt: {how}; with it: {how_with}"
                ));
            }
            // It was seen, so it may not be lost any more.
            self.acknowledged = with;
        }
        self.in_doubt = None;
        found.check_counters(&self.acknowledged)?;
        found.check_bodies(
            &self.store.as_ref().expect("just opened").local,
            &self.acknowledged,
        )?;
        check::check_quarantine(&self.disk, &[])?;
        let rows = self.acknowledged.rows.len() as u64;
        self.story
            .tell(&[18, rows], || format!("all {rows} rows are right"));
        Ok(())
    }

    /// The end of the story: what is left is right, tidy, and the same after another start.
    pub(super) fn end(&mut self) -> Outcome {
        self.calm()?;
        self.writing.clear();
        self.held.clear();
        self.backups.give_up();
        self.store().scrubber.give_up();
        self.apply()?;
        self.snapshot_now()?;
        self.store().collector.begin(true);
        self.collect(100_000)?;
        self.check()?;
        let found = Found::scan(&self.store().local, 1000)?;
        found.check_tidiness(&self.store.as_ref().expect("open").local, &self.disk)?;
        for _ in 0..2 {
            self.halt("another start");
            let cut = self.dice.of_16(8);
            self.close_dead(cut);
            self.recover()?;
        }
        let again = Found::scan(&self.store().local, 1000)?;
        again.check_files(&self.disk)?;
        self.must_be_clean()?;
        self.end_of_backups()
    }

    /// Ends all accidents; the store writes again if it had stopped.
    fn calm(&mut self) -> Outcome {
        (self.plan.bad_recoveries_of_16, self.plan.races_of_16) = (0, 0);
        self.sync_armed = false;
        self.disk.crash_at(0);
        self.disk.fail_sync_after(0);
        if self.trouble {
            self.trouble();
        }
        if self.stopped || self.is_index_failing() || self.dice.of_16(8) {
            let cut = self.dice.of_16(8);
            self.halt("the end comes near");
            self.close_dead(cut);
            self.recover()?;
        }
        self.must_write()
    }

    /// With room on the disk the store takes writes, whatever was before, and without another start.
    fn must_write(&mut self) -> Outcome {
        self.apply()?;
        self.prepare_pack()?;
        if let Some(why) = self.store().local.full() {
            return Err(format!("the disk has room, but the store has not: {why}"));
        }
        let (transactions, intents) = traffic::certain(self);
        let keys: Vec<_> = intents.iter().map(|i| i.changes[0].0.clone()).collect();
        self.commit_batch(transactions, intents)?;
        match keys
            .iter()
            .find(|key| !self.acknowledged.rows.contains_key(key))
        {
            Some(key) => Err(format!("{key:?} was refused")),
            None => Ok(()),
        }
    }

    /// Brings everything to rest: durable, sealed, the process gone, the power off and on.
    pub(super) fn rest(&mut self) -> Outcome {
        self.calm()?;
        if self.dice.of_16(8) {
            self.apply()?;
        }
        self.seal();
        self.halt("all is at rest");
        self.close_dead(true);
        Ok(())
    }

    /// Opens the store after damage.
    pub(super) fn open_damaged(&mut self) -> Result<Arc<Local>, OpenError> {
        let config = self.plan.config.clone();
        let opened = recovery::open(self.disk.clone(), config, self.env.clone());
        self.story.tell(&[23, opened.is_ok().into()], || {
            let refused = opened.as_ref().err().map(|e| e.to_string());
            format!("open: {}", refused.unwrap_or_else(|| "done".into()))
        });
        let store = Store::new(opened?, self.plan.free_per_step, &self.env);
        let local = store.local.clone();
        self.store = Some(store);
        Ok(local)
    }

    /// A whole pass of applier and collector over a damaged store, as far as it goes.
    pub(super) fn upkeep_damaged(&mut self) {
        let store = self.store();
        let applied = store.applier.step();
        store.collector.begin(true);
        let Store {
            committer,
            collector,
            ..
        } = store;
        let collected = loop {
            match collector.step(&mut |transactions| committer.commit(transactions)) {
                Ok(true) => {}
                over => break over,
            }
        };
        self.story.tell(
            &[24, applied.is_ok().into(), collected.is_ok().into()],
            || format!("apply: {applied:?}, collect: {collected:?}"),
        );
        self.drop_store();
    }
}

//! Backups in the midst of everything else, to a disk of their own that loses its power with the machine, or alone;
//! and restores of them, which must come to what the model was at the moment of the backup.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    check::{self, Found},
    model::State,
    world::{Outcome, Store, World},
};
use crate::{
    disk::{Disk, simulated::SimulatedDisk},
    maintenance::backup::{
        Backup, BackupOptions, Restore, RestoreOptions, RestoreReport, Step, Vault, Verify,
    },
    meta::{
        local::{format, packs, recovery},
        record::Location,
    },
};

/// The backups of a life.
pub(super) struct Backups {
    vault: Arc<SimulatedDisk>,
    making: Option<Making>,
    /// What each backup that may be there is of, by name; `None` when some of what was acknowledged since it began
    /// was still on its way to the index.
    states: BTreeMap<String, Option<State>>,
    /// Those that must be there.
    done: BTreeSet<String>,
    /// One that was given up: whether it is there is not known, nor what it has removed.
    doubtful: Option<(String, Option<usize>)>,
    is_sync_armed: bool,
}

struct Making {
    backup: Backup,
    keep: Option<usize>,
    /// The last of what was acknowledged when it began, all of which it must have.
    begun_at: u64,
    has_looked: bool,
    /// The disk of the store has failed now and then.
    is_troubled: bool,
}

impl Backups {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            vault: SimulatedDisk::new(seed ^ 0xb0c1),
            making: None,
            states: BTreeMap::new(),
            done: BTreeSet::new(),
            doubtful: None,
            is_sync_armed: false,
        }
    }

    /// Nobody goes on with the backup that is being made.
    pub(super) fn give_up(&mut self) {
        if let Some(making) = self.making.take()
            && let Some(name) = making.backup.name()
        {
            self.doubtful = Some((name.to_owned(), making.keep));
        }
    }

    /// The machine starts anew: the disk of the backups goes with it.
    pub(super) fn start_anew(&mut self, power_cut: bool) {
        match power_cut {
            true => self.vault.crash(),
            false => self.vault.restart(),
        }
        self.is_sync_armed = false;
    }

    /// True when the disk of the backups has failed. Then it is there again.
    fn has_failed(&mut self) -> bool {
        let fired = self.is_sync_armed && !self.vault.is_failed_sync_ahead();
        let is_off = !self.vault.is_powered();
        if is_off {
            self.vault.crash();
        }
        self.vault.crash_at(0);
        self.vault.fail_sync_after(0);
        self.is_sync_armed = false;
        fired || is_off
    }

    /// The names of the backups that are there, which are those that must be and perhaps the doubtful one.
    fn listed(&self) -> Outcome<BTreeSet<String>> {
        let Ok(vault) = Vault::open(self.vault.clone()) else {
            // None was ever begun, or not so far.
            return match self.done.is_empty() {
                true => Ok(BTreeSet::new()),
                false => Err("the directory of the backups cannot be opened".into()),
            };
        };
        let listed = vault.list();
        let (manifests, unreadable) = match listed {
            Err(_) if self.done.is_empty() => return Ok(BTreeSet::new()),
            listed => listed.map_err(|e| format!("the backups cannot be listed: {e}"))?,
        };
        if let Some(bad) = unreadable.first() {
            return Err(format!("a manifest cannot be read: {bad:?}"));
        }
        let listed: BTreeSet<String> = manifests.into_iter().map(|m| m.name).collect();
        let mut wanted = self.done.clone();
        if let Some((name, keep)) = &self.doubtful
            && listed.contains(name)
        {
            wanted.insert(name.clone());
            newest(&mut wanted, *keep);
        }
        let may_be = |name: &String| {
            wanted.contains(name) || self.done.contains(name) && self.doubtful.is_some()
        };
        match wanted.is_subset(&listed) && listed.iter().all(may_be) {
            true => Ok(listed),
            false => Err(format!("the backups are {listed:?} instead of {wanted:?}")),
        }
    }

    /// The names of the backups that are there and can give everything back: bodies that the disk of the store did not
    /// give may be missing, and a backup says so.
    fn complete(&self) -> Outcome<BTreeSet<String>> {
        let listed = self.listed()?;
        let Ok(vault) = Vault::open(self.vault.clone()) else {
            return Ok(listed);
        };
        let (manifests, _) = vault.list().map_err(|e| e.to_string())?;
        let complete = manifests.into_iter().filter(|m| m.left_out() == 0);
        Ok(complete.map(|manifest| manifest.name).collect())
    }

    /// A backup has begun, so that all that is there is there to stay.
    fn settle(&mut self) -> Outcome {
        self.done = self.listed()?;
        self.doubtful = None;
        let done = &self.done;
        self.states.retain(|name, _| done.contains(name));
        Ok(())
    }
}

fn newest(names: &mut BTreeSet<String>, keep: Option<usize>) {
    while keep.is_some_and(|keep| names.len() > keep) {
        names.pop_first();
    }
}

impl World {
    /// Begins a backup, or goes on with it.
    pub(super) fn backup(&mut self) -> Outcome {
        if self.backups.making.is_none() {
            return self.begin_backup();
        }
        for _ in 0..1 + self.dice.below(8) {
            let is_waiting = match &self.backups.making {
                None => return Ok(()),
                Some(making) => !making.has_looked,
            };
            if is_waiting && self.dice.of_16(12) {
                self.apply_all()?;
            }
            if !self.disk.is_powered() {
                break;
            }
            self.step_backup()?;
        }
        Ok(())
    }

    fn begin_backup(&mut self) -> Outcome {
        if self.stopped || self.store().local.durable_lsn() == 0 {
            return Ok(());
        }
        let keep = [None, None, Some(1), Some(2)][self.dice.below(4) as usize];
        if self.dice.of_16(self.plan.bad_backups_of_16) {
            self.plan_accident();
        }
        if self.dice.of_16(5) {
            // What goes now may still be there by the rows in the index.
            self.store().collector.begin(false);
            self.collect(40)?;
            if self.stopped || !self.disk.is_powered() {
                return Ok(());
            }
        }
        let options = BackupOptions {
            keep,
            ..BackupOptions::default()
        };
        let local = self.store().local.clone();
        let vault = self.backups.vault.clone();
        let begun = Backup::begin(&local, &self.env, vault, options);
        self.story.tell(&[40, begun.is_ok().into()], || {
            format!("begin a backup (keep {keep:?}): {:?}", begun.as_ref().err())
        });
        match begun {
            Ok(backup) => {
                self.backups.settle()?;
                self.backups.making = Some(Making {
                    backup: backup.taking(self.plan.backup_items),
                    keep,
                    begun_at: self.acknowledged.lsn,
                    has_looked: false,
                    is_troubled: false,
                });
                Ok(())
            }
            Err(_) if self.backups.has_failed() || self.may_fail() => Ok(()),
            Err(error) => Err(format!("a backup could not be begun: {error}")),
        }
    }

    fn plan_accident(&mut self) {
        let n = 1 + self.dice.below(60);
        let is_sync = self.dice.of_16(8);
        self.story.tell(&[41, n, is_sync.into()], || match is_sync {
            true => format!("sync {n} of the backup's disk will fail"),
            false => format!("the backup's disk will go in operation {n}"),
        });
        match is_sync {
            true => self.backups.vault.fail_sync_after(n),
            false => self.backups.vault.crash_at(n),
        }
        self.backups.is_sync_armed |= is_sync;
    }

    /// Brings the index up to the log, if nothing disturbs that.
    fn apply_all(&mut self) -> Outcome {
        for _ in 0..3 {
            if self.stopped || self.is_all_applied() {
                break;
            }
            self.apply()?;
        }
        Ok(())
    }

    fn is_all_applied(&mut self) -> bool {
        let local = &self.store().local;
        local.applied().lsn == local.durable_lsn()
    }

    fn step_backup(&mut self) -> Outcome {
        let Some(mut making) = self.backups.making.take() else {
            return Ok(());
        };
        making.is_troubled |= self.trouble;
        let done = making.backup.step();
        self.note_failed_sync();
        if !making.has_looked
            && let Some(name) = making.backup.name()
        {
            making.has_looked = true;
            let is_known = self.acknowledged.lsn == making.begun_at || self.is_all_applied();
            let state = is_known.then(|| self.acknowledged.clone());
            self.backups.states.insert(name.to_owned(), state);
        }
        let number = match &done {
            Ok(Step::Done(_)) => 2,
            Ok(_) => 1,
            Err(_) => 0,
        };
        self.story
            .tell(&[42, number], || format!("backup: {done:?}"));
        match done {
            Ok(Step::More | Step::Waiting) => {
                self.backups.making = Some(making);
                Ok(())
            }
            Ok(Step::Done(report)) => {
                if report.info.left_out > 0 {
                    let is_disk = |why: &str| why.contains("Input/output error");
                    if !making.is_troubled || !report.damage.iter().all(|lost| is_disk(&lost.why)) {
                        return Err(format!("a backup has left out {:?}", report.damage));
                    }
                }
                self.backups.done.insert(report.info.name.clone());
                newest(&mut self.backups.done, making.keep);
                match self.dice.of_16(6) {
                    true => self.restore_some(),
                    false => Ok(()),
                }
            }
            Err(error) => {
                self.backups.making = Some(making);
                self.backups.give_up();
                match self.backups.has_failed() || self.may_fail() {
                    true => Ok(()),
                    false => Err(format!("a backup could not be made: {error}")),
                }
            }
        }
    }

    /// Verifies one of the backups that are there, restores it to a fresh disk and compares.
    fn restore_some(&mut self) -> Outcome {
        let listed = self.backups.complete()?;
        if listed.is_empty() {
            return Ok(());
        }
        let place = self.dice.below(listed.len() as u64) as usize;
        let Some(name) = listed.into_iter().nth(place) else {
            return Ok(());
        };
        let vault = self.backups.vault.clone();
        let failed = |e| format!("backup {name} cannot be verified: {e}");
        let mut verify = Verify::begin(vault, Some(&name), &self.env).map_err(failed)?;
        let report = loop {
            if let Some(report) = verify.step().map_err(failed)? {
                break report;
            }
        };
        self.story
            .tell(&[43, report.objects], || format!("verify {name}"));
        if !report.is_whole() {
            return Err(format!("backup {name} is not whole: {report:?}"));
        }
        let disk = SimulatedDisk::new(self.dice.next());
        let range = [40, 200][self.dice.below(2) as usize];
        if self.dice.of_16(8) {
            let n = 1 + self.dice.below(range);
            disk.crash_at(n);
            let cut = self.restore(&name, &disk);
            self.story.tell(&[44, n, cut.is_ok().into()], || {
                format!("restore {name}, the power goes in operation {n}: {cut:?}")
            });
            disk.crash();
            self.must_be_no_store(&disk)?;
        }
        let report = self.restore(&name, &disk)?;
        self.story.tell(&[45, report.info.objects], || {
            format!("restore {name}: {report:?}")
        });
        match report.is_whole() {
            true => self.compare(&name, disk),
            false => Err(format!("{name} could not be restored: {report:?}")),
        }
    }

    fn restore(&self, name: &str, to: &Arc<SimulatedDisk>) -> Outcome<RestoreReport> {
        let vault = self.backups.vault.clone();
        let failed = |e| format!("backup {name} cannot be restored: {e}");
        let options = RestoreOptions::default();
        let restore = Restore::begin(vault, Some(name), to.clone(), &self.env, &options);
        let mut restore = restore.map_err(failed)?;
        loop {
            if let Some(report) = restore.step().map_err(failed)? {
                return Ok(report);
            }
        }
    }

    /// A restore that was cut short has left nothing that opens, unless it was done but for the answer.
    fn must_be_no_store(&self, disk: &Arc<SimulatedDisk>) -> Outcome {
        let files = disk.live_files();
        let has = |name: &str| files.iter().any(|file| file == name);
        if files.is_empty() || has("FORMAT") && !has(format::RESTORING) {
            return Ok(());
        }
        let opened = recovery::open(disk.clone(), self.plan.config.clone(), self.env.clone());
        match opened {
            Err(_) => Ok(()),
            Ok(_) => Err(format!("half a restore opens as a store: {files:?}")),
        }
    }

    /// Holds a restored store against what was there when its backup was made, also after upkeep.
    fn compare(&mut self, name: &str, disk: Arc<SimulatedDisk>) -> Outcome {
        let config = self.plan.config.clone();
        let opened = recovery::open(disk.clone(), config, self.env.clone());
        let opened = opened.map_err(|e| format!("{name}, restored, does not open: {e}"))?;
        let mut store = Store::new(opened, 256, &self.env);
        let Some(Some(state)) = self.backups.states.get(name) else {
            return Ok(());
        };
        let wrong = |how: String| format!("{name}, restored: {how}");
        let found = Found::scan(&store.local, 1000).map_err(wrong)?;
        if let Some(how) = found.differs_from(state) {
            return Err(wrong(how));
        }
        found.check_counters(state).map_err(wrong)?;
        found.check_bodies(&store.local, state).map_err(wrong)?;

        store.applier.step().map_err(|e| wrong(e.to_string()))?;
        store.collector.begin(true);
        let committer = &mut store.committer;
        while store
            .collector
            .step(&mut |transactions| committer.commit(transactions))
            .map_err(|e| wrong(e.to_string()))?
        {}
        let living = state.living();
        let found = Found::scan(&store.local, 1000).map_err(wrong)?;
        found.check_bodies(&store.local, &living).map_err(wrong)?;
        found.check_files(&disk).map_err(wrong)?;
        check::check_quarantine(&disk, &[]).map_err(wrong)
    }

    /// The end of the story: a backup that is left comes back, also into the store itself when that has lost files.
    pub(super) fn end_of_backups(&mut self) -> Outcome {
        if self.backups.done.is_empty() && self.backups.doubtful.is_none() {
            return Ok(());
        }
        if self.dice.of_16(8) {
            self.restore_some()?;
        }
        let listed = self.backups.complete()?;
        let Some(name) = listed.last().filter(|_| self.dice.of_16(8)) else {
            return Ok(());
        };
        self.halt("files of the store are lost");
        self.close_dead(false);
        if self.lose_files(name)? == 0 {
            return self.recover();
        }
        let report = self.restore(name, &self.disk.clone())?;
        self.story
            .tell(&[47, report.files_restored, report.packs_restored], || {
                format!("restore {name} into the store: {report:?}")
            });
        self.recover()
    }

    /// Removes files that the backup has: how many.
    fn lose_files(&mut self, name: &str) -> Outcome<u64> {
        let vault = Vault::open(self.backups.vault.clone()).map_err(|e| e.to_string())?;
        let manifest = vault.find(Some(name)).map_err(|e| e.to_string())?;
        let in_vault = self.backups.vault.live_files();
        let state = self.backups.states.get(name).and_then(Option::as_ref);
        let of_files: BTreeSet<String> = state
            .into_iter()
            .flat_map(|state| state.rows.values())
            .filter_map(|row| match row.body() {
                Some((Location::File(id), _)) => Some(crate::blob::files::path(*id)),
                _ => None,
            })
            .filter(|path| in_vault.contains(path))
            .collect();
        let of_log = manifest.sealed_packs().map(packs::path);
        let mut lost = 0;
        for path in of_files.into_iter().chain(of_log) {
            if self.dice.of_16(8) && self.disk.unlink(&path).is_ok() {
                lost += 1;
                self.story.tell(&[46], || format!("{path} is lost"));
            }
        }
        Ok(lost)
    }
}

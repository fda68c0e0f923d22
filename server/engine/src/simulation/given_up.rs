//! A store whose log has holes, which its owner gives up: what comes of it is explained by the holes, nothing wrong is
//! served, and what did not lie in them is there.

use std::{collections::BTreeSet, sync::Arc};

use sha2::Digest;

use super::{
    check,
    model::{Row, State},
    world::{Outcome, World},
};
use crate::{
    LogHole, Loss, OpenError,
    blob::files,
    disk::Disk,
    maintenance::{accept, audit::AuditWalk, fsck::FsckReport, verify::Depth},
    meta::{
        key::{Key, tag},
        local::{Local, packs},
        record::{Location, PartSet, Record},
    },
};

impl World {
    /// Gives up the holes that a check has named, and holds what is left against the model.
    pub(super) fn give_up(&mut self, report: &FsckReport, damaged: &[String]) -> Outcome {
        let losses = &report.losses;
        self.must_refuse_others(report)?;
        let before = self.files();
        if self.dice.of_16(6) {
            let n = 1 + self.dice.below(80);
            self.story.tell(&[41, n], || {
                format!("the power will go in operation {n} from now")
            });
            self.disk.crash_at(n);
        }
        let (mut was_cut_short, mut holes) = (false, report.holes());
        for attempt in 0.. {
            if attempt > 10 {
                return Err("the loss cannot be accepted".into());
            }
            let accepted = self.accept(&holes);
            if !self.disk.is_powered() {
                self.disk.crash();
                was_cut_short = true;
                // It refuses as before, or the holes are behind it.
                match self.open_damaged() {
                    Ok(_) => break,
                    Err(OpenError::Hole { .. }) => {
                        // Perhaps not all of them.
                        holes = self.fsck_closed(Depth::Length)?.holes();
                        was_cut_short = false;
                        continue;
                    }
                    Err(error) => return Err(format!("after a crash: {error}")),
                }
            }
            self.disk.crash_at(0);
            accepted?;
            break;
        }
        self.drop_store();
        // As it is, after upkeep, and after another start.
        for round in 0..3 {
            if round == 2 && !was_cut_short && self.dice.of_16(8) {
                // It is made anew from behind the holes.
                self.lose_index();
            }
            let local = match self.open_damaged() {
                Ok(local) => local,
                Err(error) => return Err(format!("past its holes it does not open: {error}")),
            };
            must_agree(&local)?;
            let last = losses.iter().map(|loss| loss.last_lsn).max();
            let lsn = self.store().committer.position().lsn;
            if Some(lsn) < last {
                return Err(format!("lsn {lsn} comes again: {losses:?}"));
            }
            if round == 0 {
                self.must_have(&before, |_| true)?;
            }
            let holes = Holes {
                losses,
                damaged,
                was_cut_short,
                state: &self.acknowledged,
            };
            holes
                .explain(&local)
                .map_err(|what| format!("round {round} past {losses:?}: {what}"))?;
            drop(local);
            self.upkeep_damaged();
            // Log files in which nothing lives go, as ever.
            self.must_have(&before, |path| path.starts_with("objects/"))?;
        }
        self.fsck_closed(Depth::Bytes).map(drop)
    }

    /// The files of bodies and of the log, but for those that were only made ahead of need.
    fn files(&self) -> Vec<String> {
        let files = self.disk.durable_snapshot().into_iter();
        let is_kept = |path: &str| path.starts_with("objects/") || path.starts_with("log/");
        files
            .filter(|(path, bytes)| is_kept(path) && bytes.iter().any(|&byte| byte != 0))
            .map(|(path, _)| path)
            .collect()
    }

    /// No file was destroyed: each is where it was, or was set aside.
    fn must_have(&self, before: &[String], is_meant: impl Fn(&str) -> bool) -> Outcome {
        let now: BTreeSet<String> = self.disk.live_files().into_iter().collect();
        let is_there = |path: &&String| {
            let name = path.rsplit('/').next().unwrap_or_default();
            now.contains(*path) || now.contains(&format!("quarantine/{name}"))
        };
        let mut meant = before.iter().filter(|path| is_meant(path));
        match meant.find(|path| !is_there(path)) {
            Some(path) => Err(format!("{path} was destroyed")),
            None => Ok(()),
        }
    }

    fn accept(&mut self, holes: &[LogHole]) -> Outcome {
        let disk: Arc<dyn Disk> = self.disk.clone();
        let accepted = accept::accept_loss(&disk, &self.plan.config, &self.env, holes);
        self.story.tell(&[42, accepted.is_ok().into()], || {
            format!("accept the loss of {holes:?}: {accepted:?}")
        });
        accepted.map(drop).map_err(|e| e.to_string())
    }

    /// Another hole, or not all of them: nothing happens.
    fn must_refuse_others(&mut self, report: &FsckReport) -> Outcome {
        let holes = report.holes();
        let mut others = holes.clone();
        others[0].offset += 4096;
        let operations = self.disk.operations();
        if self.accept(&others).is_ok() || self.accept(&holes[1..]).is_ok() {
            return Err("a hole that was not named was given up".into());
        }
        match self.disk.operations() == operations {
            true => Ok(()),
            false => Err("a refusal has written".into()),
        }
    }
}

struct Holes<'a> {
    losses: &'a [Loss],
    /// Files that are damaged.
    damaged: &'a [String],
    /// Nobody has looked for bodies in them yet.
    was_cut_short: bool,
    state: &'a State,
}

impl Holes<'_> {
    /// What lies outside of the holes is right; what is not is explained by them.
    fn explain(&self, local: &Arc<Local>) -> Outcome {
        let living = self.state.living();
        for (key, row) in &living.rows {
            let found = local.get(key).map_err(|e| format!("{key:?}: {e}"))?;
            if self.hide(key) {
                continue;
            }
            match (found, row) {
                (None, Row::Part(_)) => {}
                (None, _) => return Err(format!("{key:?} is missing: {row:?}")),
                (Some(found), row) => self.compare(local, key, &found, row)?,
            }
        }
        let seen: BTreeSet<&Key> = self.state.rows.keys().collect();
        each_primary_row(local, |key, record| {
            let is_new = matches!(key, Key::Bucket(name) if name.starts_with("recovered-"));
            if !seen.contains(key) && !self.hide(key) && !is_new {
                return Err(format!("{key:?} should not be there: {record:?}"));
            }
            must_be_itself(local, key, record)
        })
    }

    /// Whether the last change of a row lies in them.
    fn hide(&self, key: &Key) -> bool {
        let lsn = self.state.lsns.get(key);
        lsn.is_some_and(|&lsn| self.losses.iter().any(|loss| loss.has(lsn)))
    }

    /// Whether some bytes of a body do.
    fn have(&self, local: &Local, location: &Location) -> bool {
        match location {
            Location::Pack { pack, offset, .. } => self
                .losses
                .iter()
                .any(|loss| loss.covers(*pack, u64::from(*offset))),
            Location::Parts(set) => self.any_part(local, set, |key, location| {
                self.hide(key) || location.is_some_and(|location| self.have(local, location))
            }),
            _ => false,
        }
    }

    /// Whether some bytes of a body are in a damaged file.
    fn are_damaged(&self, local: &Local, location: &Location) -> bool {
        let path = match location {
            Location::Pack { pack, .. } => packs::path(*pack),
            Location::File(id) => files::path(*id),
            Location::Parts(set) => {
                return self.any_part(local, set, |_, location| {
                    location.is_some_and(|location| self.are_damaged(local, location))
                });
            }
            Location::Empty | Location::Here => return false,
        };
        self.damaged.contains(&path)
    }

    fn any_part(
        &self,
        local: &Local,
        set: &PartSet,
        is: impl Fn(&Key, Option<&Location>) -> bool,
    ) -> bool {
        self.state.parts(set.id).any(|(number, _)| {
            let key = Key::Part(set.id, number);
            let row = local.get(&key).ok().flatten();
            is(&key, row.as_ref().and_then(Record::body).map(|body| body.0))
        })
    }

    fn compare(&self, local: &Local, key: &Key, found: &Record, row: &Row) -> Outcome {
        let mut plain = found.clone();
        let mut is_quarantined = false;
        if let (Record::Object(plain), Row::Object(object)) = (&mut plain, row)
            && plain.quarantined.take().is_some()
        {
            is_quarantined = true;
            plain.version = object.record.version;
        }
        if !check::same(&plain, row) {
            return Err(format!("{key:?} is {found:?} instead of {row:?}"));
        }
        let Some((_, body)) = row.body() else {
            return Ok(());
        };
        let size = body.len() as u64;
        let location = found.body().map_or(&Location::Empty, |body| body.0);
        match check::read_body(local, found, 0..size) {
            Ok(bytes) if bytes != *body => Err(format!("{key:?}: wrong bytes from {found:?}")),
            Ok(_) if is_quarantined && !self.are_damaged(local, location) => {
                Err(format!("{key:?} is whole and in quarantine: {found:?}"))
            }
            Ok(_) => Ok(()),
            Err(why) => match self.have(local, location) {
                _ if self.are_damaged(local, location) => Ok(()),
                true if is_quarantined || self.was_cut_short => Ok(()),
                true if matches!(row, Row::Part(_)) => Ok(()),
                true => Err(format!("{key:?} should be in quarantine: {why}")),
                false => Err(format!("{key:?} is not in a hole: {why}")),
            },
        }
    }
}

/// Whatever is served is what its record says.
fn must_be_itself(local: &Local, key: &Key, record: &Record) -> Outcome {
    let (sha256, is_of_parts) = match record {
        Record::Object(object) => (object.sha256, matches!(object.location, Location::Parts(_))),
        Record::Part(part) => (Some(part.sha256), false),
        _ => return Ok(()),
    };
    let size = record.body().map_or(0, |(_, size)| size);
    match check::read_body(local, record, 0..size) {
        Ok(bytes)
            if !is_of_parts
                && sha256.is_some_and(|sha256| sha2::Sha256::digest(&bytes)[..] != sha256) =>
        {
            Err(format!("{key:?}: wrong bytes from {record:?}"))
        }
        _ => Ok(()),
    }
}

/// All that follows from rows is right.
fn must_agree(local: &Arc<Local>) -> Outcome {
    let walk = || {
        let mut walk = AuditWalk::begin(local)?;
        loop {
            if let Some(findings) = walk.step()? {
                return Ok::<_, crate::Error>(findings);
            }
        }
    };
    match walk() {
        Ok(findings) if findings.is_empty() => Ok(()),
        findings => Err(format!(
            "past its holes the index does not agree: {findings:?}"
        )),
    }
}

fn each_primary_row(local: &Local, mut look: impl FnMut(&Key, &Record) -> Outcome) -> Outcome {
    let mut from = Some(vec![tag::BUCKET]);
    while let Some(start) = from.take() {
        let rows = local.scan(&start, None, 1000).map_err(|e| e.to_string())?;
        from = rows.next;
        for (key, record) in &rows.rows {
            let key = Key::decode(key).map_err(|e| e.to_string())?;
            let is_primary = matches!(
                key,
                Key::Bucket(_) | Key::Object(..) | Key::Upload(..) | Key::Part(..)
            );
            if is_primary {
                look(&key, record)?;
            }
        }
    }
    Ok(())
}

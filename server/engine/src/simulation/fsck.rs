//! The check of a store, held against what is known: it writes nothing, finds nothing in a store that is whole, and
//! every body that cannot be read in one that is not.

use std::sync::Arc;

use super::{
    check,
    model::Row,
    world::{Outcome, World},
};
use crate::{
    disk::Disk,
    maintenance::{
        fsck::{Finding, FindingKind, Fsck, FsckReport, closed},
        verify::Depth,
    },
    meta::{
        key::{BucketId, Key},
        local::{Local, format},
        record::Record,
    },
};

impl World {
    /// Checks the store while no process has it open. Nothing may be written.
    pub(super) fn fsck_closed(&mut self, depth: Depth) -> Outcome<FsckReport> {
        let disk: Arc<dyn Disk> = self.disk.clone();
        let operations = self.disk.operations();
        let config = self.plan.config.clone();
        let report = closed::check(&disk, &config, &self.env, depth, &mut |_| true)
            .map_err(|e| format!("the store could not be checked: {e}"))?;
        if self.disk.operations() != operations {
            return Err("a check has written".into());
        }
        let numbers = [40, report.findings.count, report.notes.count];
        self.story.tell(&numbers, || {
            format!(
                "fsck: {:?}, losses {:?}, refused {:?}",
                report.findings.told, report.losses, report.refused
            )
        });
        Ok(report)
    }

    /// Whatever the last process left: nothing of it is damage, but for an index that is lost.
    pub(super) fn must_be_sound(&mut self) -> Outcome {
        let report = self.fsck_closed(Depth::Bytes)?;
        let is_lost_index = |finding: &Finding| finding.file.as_deref() == Some(format::INDEX);
        none_but(&report, is_lost_index)
    }

    /// At the end of a story: nothing is found in the open store, nor in the closed one.
    pub(super) fn must_be_clean(&mut self) -> Outcome {
        for depth in [Depth::Bytes, Depth::Length] {
            let local = self.store().local.clone();
            let check = Fsck::begin(local, depth).and_then(|fsck| fsck.run(&mut |_| true));
            let report = check.map_err(|e| format!("the open store could not be checked: {e}"))?;
            none_but(&report, |_| false)?;
        }
        self.halt("the last end");
        self.close_dead(true);
        let report = self.fsck_closed(Depth::Bytes)?;
        none_but(&report, |_| false)
    }

    /// Holds what was found before the start against what can be read after it.
    pub(super) fn check_findings(&self, report: &FsckReport, local: &Arc<Local>) -> Outcome {
        let finding_of = |key: &Key| {
            let mut findings = report.findings.told.iter();
            findings.find(|finding| match key {
                Key::Object(bucket, name) => {
                    finding.part.is_none()
                        && finding.bucket_id == Some(bucket.0)
                        && finding.key.as_deref() == Some(name)
                }
                Key::Part(id, number) => finding.part == Some((id.to_string(), *number)),
                _ => false,
            })
        };
        let living = self.acknowledged.living();
        let open = |row: &Row| matches!(row, Row::Upload(_));
        for (key, row) in &living.rows {
            let is_walked = match key {
                Key::Object(..) => true,
                Key::Part(id, _) => living.rows.iter().any(|(key, row)| {
                    open(row) && matches!(key, Key::Upload(_, _, of) if of == id)
                }),
                _ => false,
            };
            let Some((_, body)) = row.body().filter(|_| is_walked) else {
                continue;
            };
            let why = match local.get(key) {
                Err(error) => Some(error.to_string()),
                Ok(None) => Some("there is no such row".into()),
                Ok(Some(found)) => check::read_body(local, &found, 0..body.len() as u64).err(),
            };
            if let (Some(why), None) = (why, finding_of(key)) {
                return Err(format!("fsck has not found {key:?}: {why}"));
            }
        }
        for finding in &report.findings.told {
            let FindingKind::Object = finding.kind else {
                continue;
            };
            let (Some(bucket), Some(key)) = (finding.bucket_id, &finding.key) else {
                return Err(format!("{finding:?} names no object"));
            };
            let key = Key::Object(BucketId(bucket), key.clone());
            let is_end = finding.reason.starts_with("the end of");
            if let Ok(Some(found @ Record::Object(_))) = local.get(&key)
                && let Some((_, size)) = found.body()
                && check::read_body(local, &found, 0..size).is_ok()
                && !is_end
            {
                return Err(format!("fsck finds {finding:?}, but it can be read"));
            }
        }
        Ok(())
    }
}

fn none_but(report: &FsckReport, is_excused: impl Fn(&Finding) -> bool) -> Outcome {
    let mut findings = report.findings.told.iter();
    match findings.find(|finding| !is_excused(finding)) {
        Some(finding) => Err(format!(
            "fsck finds damage where there is none: {finding:?}"
        )),
        None => Ok(()),
    }
}

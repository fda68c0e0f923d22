//! The check of a store that nobody has open: as the next start would find it, over a [`ShadowDisk`], so that nothing
//! is written. Of one that does not open, the files are checked by themselves.

use std::{io, sync::Arc};

use crate::{
    OpenError,
    blob::files::Files,
    codec::crc32c,
    disk::{Disk, shadow::ShadowDisk},
    env::Env,
    error::Result,
    maintenance::{
        fsck::{Checked, Finding, FindingKind, Fsck, FsckPhase, FsckProgress, FsckReport, State},
        verify::Depth,
    },
    meta::local::{
        LocalConfig, format,
        holes::{LogHole, Loss},
        log::{PAGE_BYTES, PackHeader},
        packs::{self, Packs},
        recovery::{self, Opened, Tolerance},
    },
};

/// Holes that are named; behind more of them nobody looks.
const HOLES_MAX: usize = 64;

/// A store as the next start would find it.
pub(crate) struct Look {
    /// The store, open over a shadow of its disk, past all holes of its log.
    opened: Option<Opened>,
    /// The holes, and what they hide.
    pub(crate) losses: Vec<Loss>,
    /// Why it does not open as it is.
    pub(crate) refused: Option<OpenError>,
    /// Why it would not open even past the holes.
    pub(crate) stuck: Option<OpenError>,
}

/// Opens a store without writing to its disk, and finds all holes of its log on the way.
pub(crate) fn look(disk: &Arc<dyn Disk>, config: &LocalConfig, env: &Env) -> Look {
    let mut tolerance = Tolerance {
        accepted: Vec::new(),
        only_looks: true,
    };
    let mut refused = None;
    loop {
        let shadow = ShadowDisk::over(disk.clone());
        match recovery::open_past(shadow, config.clone(), env.clone(), &tolerance) {
            Ok((opened, given_up)) => {
                let mut losses = given_up.losses;
                let is_told = |hole| losses.iter().any(|loss| loss.hole == hole);
                let untold: Vec<LogHole> = tolerance.accepted;
                let untold: Vec<Loss> = untold
                    .into_iter()
                    .filter(|&hole| !is_told(hole))
                    .map(unknown)
                    .collect();
                losses.extend(untold);
                return Look {
                    opened: Some(opened),
                    losses,
                    refused,
                    stuck: None,
                };
            }
            Err(OpenError::Hole { hole, what })
                if !tolerance.accepted.contains(&hole) && tolerance.accepted.len() < HOLES_MAX =>
            {
                tolerance.accepted.push(hole);
                refused.get_or_insert(OpenError::Hole { hole, what });
            }
            Err(error) => {
                return Look {
                    opened: None,
                    losses: tolerance
                        .accepted
                        .iter()
                        .map(|&hole| unknown(hole))
                        .collect(),
                    refused,
                    stuck: Some(error),
                };
            }
        }
    }
}

/// A hole of which nothing more is known.
fn unknown(hole: LogHole) -> Loss {
    Loss {
        hole,
        first_lsn: 1,
        last_lsn: 0,
        ends_log: false,
        resumes_at: None,
        reason: "what it hides is not known".into(),
    }
}

/// Checks everything in a data directory that nobody has open, until `go_on` says no.
pub fn check(
    disk: &Arc<dyn Disk>,
    config: &LocalConfig,
    env: &Env,
    depth: Depth,
    go_on: &mut dyn FnMut(FsckProgress) -> bool,
) -> Result<FsckReport> {
    let begun = FsckProgress {
        phase: FsckPhase::Index,
        done: 0,
        total: 0,
    };
    go_on(begun);
    let Look {
        opened,
        losses,
        refused,
        stuck,
    } = look(disk, config, env);
    let why = stuck.as_ref().or(refused.as_ref()).map(|e| e.to_string());
    let mut fsck = match &opened {
        Some(opened) if losses.is_empty() => Fsck::begin(opened.local.clone(), depth)?,
        Some(opened) => Fsck::begin_with_holes(opened.local.clone(), depth)?,
        None => only_files(disk, env, depth)?,
    };
    fsck.quarantine = Some(disk.clone());
    for loss in &losses {
        let reason = format!("at byte {}: {}", loss.hole.offset, lost(loss));
        let finding = Finding::new(FindingKind::Log, Some(loss.hole.path()), reason);
        fsck.found(finding);
    }
    if let (Some(why), true) = (&why, opened.is_none()) {
        fsck.found(Finding::new(FindingKind::Store, None, why.clone()));
    }
    let rebuilt = opened.as_ref().and_then(|opened| opened.local.rebuilt());
    if let Some(why) = rebuilt {
        let what = format!("the next start makes it anew: {why}");
        let file = Some(format::INDEX.to_owned());
        fsck.found(Finding::new(FindingKind::Index, file, what));
    }
    fsck.report.refused = why;
    fsck.report.losses = losses;
    if opened.is_none() {
        fsck.enter_log()?;
    }
    fsck.run(go_on)
}

fn lost(loss: &Loss) -> String {
    format!("{} cannot be read ({})", loss.records(), loss.reason)
}

/// The check of the files of a store that does not open.
fn only_files(disk: &Arc<dyn Disk>, env: &Env, depth: Depth) -> Result<Fsck> {
    let store = Checked::Files {
        disk: disk.clone(),
        store_id: store_id(&**disk)?,
        files: Files::of_others(disk.clone(), env.clone()),
    };
    Ok(Fsck::new(store, depth, State::Over))
}

/// The store's id by FORMAT, else by some log file.
fn store_id(disk: &dyn Disk) -> io::Result<[u8; 16]> {
    let mut bytes = [0; 64];
    if let Ok(file) = disk.open("FORMAT")
        && file.read_at(&mut bytes, 0).is_ok()
        && bytes[60..] == crc32c(&bytes[..60]).to_le_bytes()
    {
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[16..32]);
        return Ok(id);
    }
    let mut block = vec![0; PAGE_BYTES as usize];
    for number in Packs::numbers(disk).unwrap_or_default() {
        let file = disk.open(&packs::path(number))?;
        if file.read_at(&mut block, 0).is_ok()
            && let Some(id) = PackHeader::store_id_of(&block)
        {
            return Ok(id);
        }
    }
    Ok([0; 16])
}

//! Giving up what holes in the log hide: the store opens past them, what follows from rows is counted anew, and what
//! is not whole any more goes to quarantine.
//!
//! A crash in the midst of it leaves a store that refuses as before, or one whose next start counts on.

use std::sync::Arc;

use crate::{
    LogHole, Loss, OpenError,
    disk::Disk,
    env::Env,
    error::{Error, ErrorKind, Result},
    maintenance::{
        bodies::BodyRows,
        fsck::closed,
        snapshot::{SnapshotInfo, Snapshotter, Step},
        verify::{BodyCheck, Depth, Progress},
    },
    meta::{
        CommitError,
        key::Key,
        local::{
            Local, LocalConfig, format,
            recovery::{self, Opened, Tolerance},
        },
        record::{Location, ObjectRecord, PartSet, Quarantined, Record},
    },
    service::quarantine,
};

/// What became of a store whose holes were given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// What is lost.
    pub losses: Vec<Loss>,
    /// Objects that are in quarantine now, because their bodies are not whole any more: the first ones.
    pub quarantined: Vec<Key>,
    /// How many there are.
    pub quarantined_count: u64,
    /// Names that buckets got whose rows are lost.
    pub buckets: Vec<String>,
    /// Parts that no upload and no object needs any more.
    pub parts: u64,
    /// From which the index can be made anew from now on.
    pub snapshot: Option<SnapshotInfo>,
}

/// Objects that are told.
const TOLD_MAX: usize = 5000;

/// Gives up exactly these holes: refuses when there are others, or not these. Calls `go_on` now and then.
pub fn accept_loss(
    disk: &Arc<dyn Disk>,
    config: &LocalConfig,
    env: &Env,
    holes: &[LogHole],
) -> Result<Acceptance, OpenError> {
    must_be_all(disk, config, env, holes)?;
    format::raise_floor(&**disk, env)?;
    let tolerance = Tolerance {
        accepted: holes.to_vec(),
        only_looks: false,
    };
    let (opened, given_up) =
        recovery::open_past(disk.clone(), config.clone(), env.clone(), &tolerance)?;
    let recounted = given_up.recounted.unwrap_or_default();
    let mut acceptance = Acceptance {
        losses: given_up.losses,
        quarantined: Vec::new(),
        quarantined_count: 0,
        buckets: recounted.buckets,
        parts: recounted.parts,
        snapshot: None,
    };
    let failed = |what: &str, error: Error| {
        let why = format!("{what}: the store is open again, and `jay fsck` says what is damaged");
        OpenError::io(&why, std::io::Error::other(error))
    };
    // First of all: the index must not be made anew from before the holes.
    let snapshot = take_snapshot(&opened.local, env);
    acceptance.snapshot =
        Some(snapshot.map_err(|e| failed("No snapshot could be taken of the index", e))?);
    let done = put_into_quarantine(opened, env, &mut acceptance);
    done.map_err(|e| failed("The bodies could not be checked", e))?;
    Ok(acceptance)
}

fn must_be_all(
    disk: &Arc<dyn Disk>,
    config: &LocalConfig,
    env: &Env,
    given: &[LogHole],
) -> Result<(), OpenError> {
    let look = closed::look(disk, config, env);
    if let Some(stuck) = look.stuck {
        return Err(stuck);
    }
    let holes: Vec<LogHole> = look.losses.iter().map(|loss| loss.hole).collect();
    if let Some(not_there) = given.iter().find(|hole| !holes.contains(hole)) {
        return Err(OpenError::Damaged {
            what: match look.refused {
                None => format!(
                    "There is no hole {not_there}: the log can be read, and nothing was changed."
                ),
                Some(_) => format!(
                    "There is no hole {not_there} in the log: nothing was changed. `jay fsck` names those that are there."
                ),
            },
        });
    }
    let left_out = holes.iter().any(|hole| !given.contains(hole));
    match look.refused {
        Some(refused) if left_out => Err(OpenError::Damaged {
            what: format!(
                "The log has more holes than these, and nothing was changed: {}",
                all_of(&look.losses).unwrap_or_else(|| refused.to_string())
            ),
        }),
        _ => Ok(()),
    }
}

/// The command that gives up all holes; `None` when there are none.
pub fn all_of(losses: &[Loss]) -> Option<String> {
    let mut command = "jay fsck".to_owned();
    for loss in losses {
        command += &format!(" --accept-loss {}", loss.hole);
    }
    (!losses.is_empty()).then_some(command)
}

fn take_snapshot(local: &Arc<Local>, env: &Env) -> Result<SnapshotInfo> {
    let mut snapshotter = Snapshotter::new(local.clone(), env.clone());
    snapshotter.begin()?;
    loop {
        match snapshotter.step()? {
            Step::More => {}
            Step::Done(info) => return Ok(info),
            Step::Damaged(why) => {
                let what = format!("The index is damaged: {why}.");
                return Err(Error::new(ErrorKind::InternalError, what));
            }
        }
    }
}

/// Looks for all bodies, and reads those that lie in holes: objects that are not whole go to quarantine.
fn put_into_quarantine(opened: Opened, env: &Env, acceptance: &mut Acceptance) -> Result<()> {
    let Opened {
        local,
        mut committer,
        mut applier,
    } = opened;
    let mut rows = BodyRows::all();
    while let Some((key, record)) = rows.next_row(&local)? {
        let Record::Object(object) = record else {
            continue;
        };
        if object.quarantined.is_some() {
            continue;
        }
        let Some(reason) = damage(&local, &object, &acceptance.losses)? else {
            continue;
        };
        let Ok(key) = Key::decode(&key) else { continue };
        let why = Quarantined {
            since: env.clock.now(),
            reason,
        };
        let transaction = quarantine::set(key.clone(), &object, env.unique_id(), Some(why));
        for answer in committer.commit(vec![transaction]) {
            answer.map_err(|error: CommitError| Error::from(error))?;
        }
        acceptance.quarantined_count += 1;
        if acceptance.quarantined.len() < TOLD_MAX {
            acceptance.quarantined.push(key);
        }
        if local.waiting_rows() >= local.config.apply_rows {
            applier.step()?;
        }
    }
    committer.seal();
    applier.step().map(drop)
}

/// What is wrong with the body of an object, if anything is. Of bodies outside of the holes only the length is asked.
fn damage(local: &Arc<Local>, object: &ObjectRecord, losses: &[Loss]) -> Result<Option<String>> {
    let depth = match lies_in(local, &object.location, losses)? {
        true => Depth::Bytes,
        false => Depth::Length,
    };
    let mut check = BodyCheck::of_object(object, depth);
    loop {
        match check.step(local, &local.files) {
            Ok(Progress::More(_)) => {}
            Ok(Progress::Done(_)) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::ObjectCorrupt => {
                let reason = std::error::Error::source(&error)
                    .map_or_else(|| error.context().to_owned(), |source| source.to_string());
                return Ok(Some(reason));
            }
            Err(error) => return Err(error),
        }
    }
}

fn lies_in(local: &Arc<Local>, location: &Location, losses: &[Loss]) -> Result<bool> {
    Ok(match location {
        Location::Pack { pack, offset, .. } => losses
            .iter()
            .any(|loss| loss.covers(*pack, u64::from(*offset))),
        Location::Parts(set) => some_part_lies_in(local, set, losses)?,
        Location::Empty | Location::Here | Location::File(_) => false,
    })
}

fn some_part_lies_in(local: &Arc<Local>, set: &PartSet, losses: &[Loss]) -> Result<bool> {
    let ends = [Key::Part(set.id, 0), Key::Part(set.id, u16::MAX)];
    let [from, to] = ends.map(|end| end.encode());
    let mut next = Some(from);
    while let Some(from) = next.take() {
        let rows = local.scan(&from, Some(&to), 1000)?;
        next = rows.next;
        for (_, record) in rows.rows {
            if let Some((location @ Location::Pack { .. }, _)) = record.body()
                && lies_in(local, location, losses)?
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

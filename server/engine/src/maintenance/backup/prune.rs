//! Removes old backups, and then what none of the others needs.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
};

use super::{
    BackupError,
    manifest::Manifest,
    not_done,
    vault::{
        MANIFESTS, PACKS, SNAPSHOTS, SnapshotRows, Vault, pack_path, parse_pack_name, snapshot_path,
    },
};
use crate::{
    blob::{BlobStore, files::Files},
    env::Env,
    meta::key::{BlobId, Key},
};

/// Files that are held against the rows of all backups at a time: 17 bytes of memory each.
const CANDIDATES_MAX: usize = 1_000_000;
/// Files that one step removes.
const REMOVED_PER_STEP: usize = 256;

/// See the module.
pub(super) struct Pruning {
    files: Files,
    kept: Vec<Manifest>,
    removed: Vec<String>,
    phase: Phase,
}

enum Phase {
    /// The first of these are to be gathered next.
    Gather(VecDeque<u16>, Candidates),
    /// Held against the rows of one backup, then of those that follow.
    Mark(VecDeque<u16>, Candidates, Option<SnapshotRows>, usize),
    Remove(VecDeque<u16>, Candidates, usize),
    Over,
}

/// Files, in order, and whether a backup needs them.
#[derive(Default)]
struct Candidates {
    ids: Vec<BlobId>,
    is_needed: Vec<bool>,
}

impl Pruning {
    /// Removes all backups but the newest `keep`, and the small files that only they needed.
    pub(super) fn begin(vault: &Vault, keep: usize, env: &Env) -> Result<Self, BackupError> {
        let (mut kept, unreadable) = vault.list()?;
        if let Some(bad) = unreadable.first() {
            // What it needs is not known, so nothing can be said to be superfluous.
            return Err(BackupError::Refused(format!(
                "The backup was made, but no old one was removed, for one cannot be read: {} ({}). Remove its \
                 file from manifests/ when it is of no use.",
                bad.name, bad.why
            )));
        }
        let old = kept.split_off(keep.max(1).min(kept.len()));
        let removed = remove_small(vault, &kept, &old).map_err(not_removed)?;
        let files = Files::of_others(vault.disk.clone(), env.clone());
        let shards = files.shards().map_err(not_removed)?.into();
        Ok(Self {
            files,
            kept,
            removed,
            phase: Phase::Gather(shards, Candidates::default()),
        })
    }

    /// The names of the backups that are gone.
    pub(super) fn into_removed(self) -> Vec<String> {
        self.removed
    }

    /// Does a bounded piece. True when it is over.
    pub(super) fn step(&mut self, vault: &Vault) -> Result<bool, BackupError> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Over => return Ok(true),
            Phase::Gather(shards, candidates) => self.gather(shards, candidates)?,
            Phase::Mark(shards, mut candidates, rows, next) => {
                let mut rows = match rows {
                    Some(rows) => rows,
                    None => match self.kept.get(next) {
                        Some(manifest) => vault.rows(&manifest.name)?,
                        None => {
                            self.phase = Phase::Remove(shards, candidates, 0);
                            return Ok(false);
                        }
                    },
                };
                match rows.next()? {
                    Some(some) => {
                        some.iter().for_each(|(key, _)| candidates.mark(key));
                        Phase::Mark(shards, candidates, Some(rows), next)
                    }
                    None => Phase::Mark(shards, candidates, None, next + 1),
                }
            }
            Phase::Remove(shards, candidates, from) => self.remove(shards, candidates, from)?,
        };
        Ok(matches!(self.phase, Phase::Over))
    }

    fn gather(
        &self,
        mut shards: VecDeque<u16>,
        mut candidates: Candidates,
    ) -> Result<Phase, BackupError> {
        let shard = (candidates.ids.len() < CANDIDATES_MAX).then(|| shards.pop_front());
        let Some(shard) = shard.flatten() else {
            if candidates.ids.is_empty() {
                return Ok(Phase::Over);
            }
            candidates.ids.sort_unstable();
            candidates.is_needed = vec![false; candidates.ids.len()];
            return Ok(Phase::Mark(shards, candidates, None, 0));
        };
        self.files.remove_temporary(shard).map_err(not_removed)?;
        let ids = self.files.list(shard).map_err(not_removed)?;
        candidates.ids.extend(ids);
        Ok(Phase::Gather(shards, candidates))
    }

    fn remove(
        &self,
        shards: VecDeque<u16>,
        candidates: Candidates,
        from: usize,
    ) -> Result<Phase, BackupError> {
        let end = candidates.ids.len().min(from + REMOVED_PER_STEP);
        let superfluous: Vec<BlobId> = (from..end)
            .filter(|&at| !candidates.is_needed[at])
            .map(|at| candidates.ids[at])
            .collect();
        let mut ids = superfluous.iter();
        ids.try_for_each(|&id| self.files.delete(id))
            .map_err(not_removed)?;
        self.files.sync_deletes(&superfluous).map_err(not_removed)?;
        Ok(match end < candidates.ids.len() {
            true => Phase::Remove(shards, candidates, end),
            false => Phase::Gather(shards, Candidates::default()),
        })
    }
}

impl Candidates {
    fn mark(&mut self, key: &Key) {
        if let Key::Blob(id) = key
            && let Ok(at) = self.ids.binary_search(id)
        {
            self.is_needed[at] = true;
        }
    }
}

/// Removes manifests first: what has one must be whole.
fn remove_small(vault: &Vault, kept: &[Manifest], old: &[Manifest]) -> io::Result<Vec<String>> {
    let disk = &*vault.disk;
    for manifest in old {
        disk.unlink(&format!("{MANIFESTS}/{}", manifest.file_name()))?;
    }
    disk.sync_dir(MANIFESTS)?;

    let needed: BTreeSet<String> = kept.iter().map(|kept| snapshot_path(&kept.name)).collect();
    for name in disk.read_dir(SNAPSHOTS)? {
        let path = format!("{SNAPSHOTS}/{name}");
        if !needed.contains(&path) {
            disk.unlink(&path)?;
        }
    }
    disk.sync_dir(SNAPSHOTS)?;

    let there = vault.packs()?;
    let packs = kept.iter().flat_map(|kept| &kept.packs);
    let needed: BTreeSet<String> = packs
        .filter_map(|pack| Some(pack_path(pack, pack.found_in(&there)?)))
        .collect();
    for name in disk.read_dir(PACKS)? {
        let path = format!("{PACKS}/{name}");
        if parse_pack_name(&name).is_some() && !needed.contains(&path) {
            disk.unlink(&path)?;
        }
    }
    disk.sync_dir(PACKS)?;
    Ok(old.iter().map(|old| old.name.clone()).collect())
}

fn not_removed(error: io::Error) -> BackupError {
    not_done("old backups could not be removed")(error)
}

//! Bit rot at rest: after it, a store refuses to open or answers errors; it never serves a wrong byte and
//! never hides an object.
//!
//! Rot in the keys and branches of the index is left out: redb checks no sums when it reads, and what we put
//! into its values does not cover where it looks for them.

use super::{
    check::{self, Found},
    world::{Outcome, World},
};
use crate::meta::local::Local;

/// What precedes the CRC64 in an encoded record of an object, in bytes: version to SHA-256; in that of a part
/// an MD5 comes on top.
const BEFORE: u64 = 65;
const BEFORE_IN_PART: u64 = BEFORE + 16;
/// What follows from there on: the CRC64 itself, and the entity tag or the place of the body.
const BEHIND: u64 = 24;

/// Lives on a damaged store.
pub(super) fn live(world: &mut World) -> Outcome {
    world.live_on()?;
    world.rest()?;
    let Some(damaged) = flip(world) else {
        return Ok(());
    };
    // Once as it is, once more after upkeep had its chance to make it worse.
    for _ in 0..2 {
        let Some(local) = world.open_damaged() else {
            return Ok(());
        };
        check(world, &local)?;
        drop(local);
        world.upkeep_damaged();
        check::check_quarantine(&world.disk, Some(&damaged))?;
    }
    Ok(())
}

/// Flips bits of one byte of a file, which it names; `None` when there is nothing to flip.
fn flip(world: &mut World) -> Option<String> {
    let (prefix, in_index) = match world.dice.below(4) {
        0 => ("objects/", false),
        1 => ("index.redb", true),
        _ => ("log/", false),
    };
    let files: Vec<(String, Vec<u8>)> = world
        .disk
        .durable_snapshot()
        .into_iter()
        .filter(|(path, bytes)| path.starts_with(prefix) && bytes.iter().any(|&b| b != 0))
        .collect();
    if files.is_empty() {
        return None;
    }
    let (path, bytes) = &files[world.dice.below(files.len() as u64) as usize];
    let at = if in_index {
        row_byte(world, bytes)?
    } else {
        // Up to the last byte in use.
        let used = bytes.iter().rposition(|&b| b != 0).unwrap_or(0) as u64 + 1;
        world.dice.below(used)
    };
    let mask = 1 << world.dice.below(8) | 1 << world.dice.below(8);
    world.story.tell(&[22, at, mask], || {
        format!("flip {mask:#04x} of byte {at} of {path}")
    });
    world.disk.corrupt(path, at, mask as u8).ok()?;
    Some(path.clone())
}

/// A byte of the row of some object or part.
fn row_byte(world: &mut World, index: &[u8]) -> Option<u64> {
    let living = world.acknowledged.living();
    let sums = living.rows.values();
    let sums = sums.filter_map(|row| Some((row.crc64()?, row.object().is_some())));
    let sums: Vec<(u64, bool)> = sums.collect();
    if sums.is_empty() {
        return None;
    }
    let (wanted, is_object) = sums[world.dice.below(sums.len() as u64) as usize];
    let before = if is_object { BEFORE } else { BEFORE_IN_PART };
    let wanted = wanted.to_le_bytes();
    let places: Vec<usize> = (0..index.len() - 8)
        .filter(|&at| index[at..at + 8] == wanted)
        .collect();
    let place = match places.len() as u64 {
        0 => return None,
        n => places[world.dice.below(n) as usize] as u64,
    };
    Some(place - before + world.dice.below(before + BEHIND))
}

/// Everything acknowledged is there or an error says why not; but for the dead, which upkeep removes.
fn check(world: &World, local: &Local) -> Outcome {
    let state = &world.acknowledged;
    let living = state.living();
    for (key, row) in &living.rows {
        let record = match local.get(key) {
            Err(_) => continue,
            Ok(None) => return Err(format!("{key:?} is silently missing")),
            Ok(Some(record)) => record,
        };
        if !check::same(&record, row) {
            return Err(format!("{key:?} is {record:?} instead of {row:?}"));
        }
        if let Some((_, body)) = row.body()
            && let Ok(bytes) = check::read_body(local, &record, 0..body.len() as u64)
            && bytes != *body
        {
            return Err(format!("{key:?}: wrong bytes from {record:?}"));
        }
    }
    match Found::scan(local, 1000) {
        Ok(found) => match found.living(state, &living).differs_from(&living) {
            Some(how) => Err(format!("a scan: {how}")),
            None => Ok(()),
        },
        Err(_) => Ok(()),
    }
}

//! Damage at rest: flipped bits, lost and cut files, writes that were lost or went astray. After it, a store refuses
//! to open or answers errors; it never serves a wrong byte and never hides an object.
//!
//! Left out is what nothing can tell. Rot in the keys and branches of the index, and pages of it that are older than
//! they should be: redb checks no sums when it reads, and what we put into its values does not cover where it looks
//! for them. And an end of the log that is gone, with all that says that it was there.

use super::{
    check::{self, Found},
    model::Row,
    world::{Outcome, World},
};
use crate::{
    OpenError,
    disk::Disk,
    maintenance::{fsck::FsckReport, verify::Depth},
    meta::local::{
        Local, format,
        log::{FOOTER_BYTES, PAGE_BYTES},
        packs::{self, Packs},
    },
};

/// What precedes the CRC64 in an encoded record of an object, in bytes: version to SHA-256, which it may be without; in that
/// of a part an MD5 comes on top.
const BEFORE: u64 = 66;
const BEFORE_WITHOUT: u64 = BEFORE - 32;
const BEFORE_IN_PART: u64 = BEFORE - 1 + 16;
/// What follows from there on: the CRC64 itself, and the entity tag or the place of the body.
const BEHIND: u64 = 24;

/// Lives on a damaged store.
pub(super) fn live(world: &mut World) -> Outcome {
    // What a hole has swallowed is made up for by the lineage, which is not of rows.
    world.plan.once_of_16 = 0;
    // Races are for the other lives above all.
    world.plan.races_of_16 = world.plan.races_of_16.saturating_sub(2);
    world.live_on()?;
    world.rest()?;
    let damaged = damage(world);
    if damaged.is_empty() {
        return Ok(());
    }
    // Once as it is, once more after upkeep had its chance to make it worse.
    for round in 0..2 {
        let report = world.fsck_closed(Depth::Bytes)?;
        must_tell_of_snapshots(&report, &damaged)?;
        let local = match world.open_damaged() {
            Ok(_) if report.refused.is_some() => {
                return Err(format!("fsck expected a refusal: {:?}", report.refused));
            }
            Ok(local) => local,
            Err(OpenError::Hole { hole, .. }) => {
                let is_named = report.losses.iter().any(|loss| loss.hole == hole);
                return match is_named {
                    true if is_index(&damaged) => Ok(()),
                    true => world.give_up(&report, &damaged),
                    false => Err(format!("fsck has not named the hole {hole}")),
                };
            }
            Err(error) if report.refused.is_none() => {
                return Err(format!("fsck did not expect a refusal: {error}"));
            }
            Err(_) => return Ok(()),
        };
        check(world, &local)?;
        if round == 0 {
            world.check_findings(&report, &local)?;
        }
        drop(local);
        world.upkeep_damaged();
        check::check_quarantine(&world.disk, &damaged)?;
    }
    Ok(())
}

/// Whether rows are damaged too: then what follows from them cannot be counted anew.
fn is_index(damaged: &[String]) -> bool {
    damaged.iter().any(|path| path == format::INDEX)
}

fn must_tell_of_snapshots(report: &FsckReport, damaged: &[String]) -> Outcome {
    for path in damaged.iter().filter(|path| path.starts_with("backup/")) {
        let mut findings = report.findings.told.iter();
        if !findings.any(|finding| finding.file.as_ref() == Some(path)) {
            return Err(format!("fsck has not found damage in {path}"));
        }
    }
    Ok(())
}

/// Damages a file, sometimes several, and names them.
fn damage(world: &mut World) -> Vec<String> {
    let count = [1, 1, 1, 3][world.dice.below(4) as usize];
    let mut damaged = Vec::new();
    for _ in 0..count {
        let done = match world.dice.below(16) {
            0 | 1 => lose_file(world).into_iter().collect(),
            2 | 3 => cut(world, &damaged).into_iter().collect(),
            4 | 5 => lose_page(world, &damaged).into_iter().collect(),
            6 | 7 => misdirect(world, &damaged),
            8 | 9 => wreck_log(world, &damaged).into_iter().collect(),
            _ => flip(world, &damaged).into_iter().collect(),
        };
        damaged.extend(done);
    }
    damaged
}

/// Damages several pages of a log file, each before its end: what a batch says there of those before it stays.
fn wreck_log(world: &mut World, damaged: &[String]) -> Option<String> {
    let files = world.disk.durable_snapshot().into_iter();
    let mut files: Vec<(String, usize)> = files
        .filter(|(path, _)| path.starts_with("log/") && !damaged.contains(path))
        .filter_map(|(path, bytes)| {
            let used = bytes.iter().rposition(|&b| b != 0)?;
            Some((path, used / PAGE_BYTES as usize + 1))
        })
        .collect();
    let (path, pages) = match files.len() as u64 {
        0 => return None,
        n => files.swap_remove(world.dice.below(n) as usize),
    };
    let first = world.dice.below(pages as u64);
    let count = match world.dice.below(2) {
        0 => pages as u64 - first,
        _ => 1 + world.dice.below(3).min(pages as u64 - first - 1),
    };
    for page in first..first + count {
        let at = page * PAGE_BYTES + world.dice.below(PAGE_BYTES - FOOTER_BYTES as u64);
        world.disk.corrupt(&path, at, 0x11).ok()?;
    }
    world.story.tell(&[39, first, count], || {
        format!("wreck {count} pages of {path} from {first} on")
    });
    Some(path)
}

/// Takes a file away, but not the last one of the log: of that nothing tells any more.
fn lose_file(world: &mut World) -> Option<String> {
    let newest = newest_pack(world);
    let mut files = world.disk.live_files();
    files.retain(|path| {
        path.starts_with("objects/") || path.starts_with("log/") && Some(path) < newest.as_ref()
    });
    let path = match files.len() as u64 {
        0 => return None,
        n => files.swap_remove(world.dice.below(n) as usize),
    };
    let dir = path.rsplit_once('/')?.0;
    let lost = world
        .disk
        .unlink(&path)
        .and_then(|()| world.disk.sync_dir(dir));
    world
        .story
        .tell(&[29, lost.is_ok().into()], || format!("{path} is lost"));
    lost.ok().map(|()| path)
}

/// The last file of the log: when it is lost or cut, nothing tells any more what was in it.
fn newest_pack(world: &World) -> Option<String> {
    Packs::numbers(&*world.disk)
        .ok()?
        .into_iter()
        .rfind(|&number| has_header(world, number))
        .map(packs::path)
}

/// Cuts a file within what it holds.
fn cut(world: &mut World, damaged: &[String]) -> Option<String> {
    let newest = newest_pack(world);
    let mut files = whole_files(world, damaged);
    files.retain(|(path, _)| !path.starts_with("log/") || Some(path) < newest.as_ref());
    let (path, bytes) = pick(world, files)?;
    let len = world.dice.below(used(&bytes));
    world
        .story
        .tell(&[30, len], || format!("{path} is cut to {len} bytes"));
    world.disk.truncate_at_rest(&path, len).ok()?;
    Some(path)
}

/// Takes a page back to what it held before it was last written. Not of the index, whose older pages are as sound as
/// the newer ones: see the module.
fn lose_page(world: &mut World, damaged: &[String]) -> Option<String> {
    let mut files = whole_files(world, damaged);
    files.retain(|(path, _)| path != format::INDEX);
    let (path, bytes) = pick(world, files)?;
    let page = world.dice.below(used(&bytes).div_ceil(PAGE_BYTES));
    let lost = world.disk.lose_page(&path, page).ok()?;
    world.story.tell(&[31, page, lost.into()], || {
        format!("the last write of page {page} of {path} is lost: {lost}")
    });
    lost.then_some(path)
}

/// Lets the last write of a page have landed in another one.
fn misdirect(world: &mut World, damaged: &[String]) -> Vec<String> {
    let files = whole_files(world, damaged);
    let mut sources = files.clone();
    sources.retain(|(path, _)| path != format::INDEX);
    let (Some((from, bytes)), Some((to, other))) = (pick(world, sources), pick(world, files))
    else {
        return Vec::new();
    };
    let page = world.dice.below(used(&bytes).div_ceil(PAGE_BYTES));
    let at = match to == format::INDEX {
        true => row_byte(world, &other).map(|at| at / PAGE_BYTES),
        false => Some(world.dice.below(used(&other).div_ceil(PAGE_BYTES))),
    };
    let Some(at) = at else { return Vec::new() };
    // What redb would take for a page of its own.
    let is_like_its_own = matches!(bytes[(page * PAGE_BYTES) as usize], 1 | 2);
    if to == format::INDEX && is_like_its_own {
        return Vec::new();
    }
    let done = world.disk.misdirect_page((&from, page), (&to, at));
    let done = done.unwrap_or(false);
    world.story.tell(&[32, page, at, done.into()], || {
        format!("the last write of page {page} of {from} went to page {at} of {to}: {done}")
    });
    match done {
        true => vec![from, to],
        false => Vec::new(),
    }
}

/// Files that hold something and are not damaged yet.
fn whole_files(world: &World, damaged: &[String]) -> Vec<(String, Vec<u8>)> {
    const KINDS: [&str; 4] = ["objects/", "log/", "backup/", format::INDEX];
    let files = world.disk.durable_snapshot().into_iter();
    files
        .filter(|(path, bytes)| {
            KINDS.iter().any(|kind| path.starts_with(kind)) && bytes.iter().any(|&b| b != 0)
        })
        .filter(|(path, _)| !damaged.contains(path) && !path.ends_with(".new"))
        .collect()
}

fn pick<T>(world: &mut World, mut choices: Vec<T>) -> Option<T> {
    match choices.len() as u64 {
        0 => None,
        n => Some(choices.swap_remove(world.dice.below(n) as usize)),
    }
}

/// Up to the last byte in use.
fn used(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|&b| b != 0).unwrap_or(0) as u64 + 1
}

fn has_header(world: &World, number: u32) -> bool {
    let mut magic = [0; 4];
    world
        .disk
        .open(&packs::path(number))
        .and_then(|file| file.read_at(&mut magic, 0))
        .is_ok_and(|()| magic != [0; 4])
}

/// Flips bits of one byte of a file that is not damaged yet, which it names; `None` when there is nothing to flip.
fn flip(world: &mut World, damaged: &[String]) -> Option<String> {
    let (prefix, in_index) = match world.dice.below(9) {
        0 | 1 => ("objects/", false),
        2 | 3 => ("index.redb", true),
        4 => ("backup/", false),
        _ => ("log/", false),
    };
    let mut files = whole_files(world, damaged);
    files.retain(|(path, _)| path.starts_with(prefix));
    let (path, bytes) = pick(world, files)?;
    let at = match in_index {
        true => row_byte(world, &bytes)?,
        false => world.dice.below(used(&bytes)),
    };
    let mask = 1 << world.dice.below(8) | 1 << world.dice.below(8);
    world.story.tell(&[22, at, mask], || {
        format!("flip {mask:#04x} of byte {at} of {path}")
    });
    world.disk.corrupt(&path, at, mask as u8).ok()?;
    Some(path)
}

/// A byte of the row of some object or part.
fn row_byte(world: &mut World, index: &[u8]) -> Option<u64> {
    let living = world.acknowledged.living();
    let sums = living.rows.values();
    let before = |row: &Row| match row.object() {
        Some(object) if object.record.sha256.is_none() => BEFORE_WITHOUT,
        Some(_) => BEFORE,
        None => BEFORE_IN_PART,
    };
    let sums = sums.filter_map(|row| Some((row.crc64()?, before(row))));
    let sums: Vec<(u64, u64)> = sums.collect();
    if sums.is_empty() {
        return None;
    }
    let (wanted, before) = sums[world.dice.below(sums.len() as u64) as usize];
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

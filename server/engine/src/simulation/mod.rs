//! The crash simulator: whole lives of a store over a simulated disk, each following from one number.
//!
//! A life is a row of random steps (commits, bodies and multipart uploads, applying, collecting, reading) with
//! power cuts, kills and failing syncs in the midst of any of them, recoveries included. What the store answers is held
//! against a model at every step, and all of it after every restart. By the methods of TigerBeetle's VOPR
//! and Amazon's ShardStore; `examples/simulate.rs` runs many.
//!
//! Absent: threads. The engine's steps run by hand, so a failing seed replays.

mod backups;
mod check;
mod damage;
pub(crate) mod environment;
mod fsck;
mod given_up;
mod held;
mod model;
mod plan;
mod restart;
mod story;
mod traffic;
mod upkeep;
mod world;

use std::{cell::OnceCell, mem::ManuallyDrop, sync::Arc};

use self::world::World;
use crate::{
    disk::simulated::SimulatedDisk,
    meta::local::{LocalConfig, recovery},
    planted::Bug,
};

/// What came of a seed that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of everything that happened; the same for every run of the seed.
    pub story_hash: u64,
    /// Starts of the store, those that were cut short included.
    pub restarts: u64,
}

/// A seed whose life went wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What went wrong.
    pub what: String,
}

/// What may happen in a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Power cuts, kills, failing syncs and full disks.
    Crashes,
    /// In the end, bits at rest flip too.
    Damage,
}

impl Bug {
    /// The kind of life in which it shows.
    pub fn mode(self) -> Mode {
        match self {
            Bug::DamageTakenForTorn
            | Bug::CrcOfWrongRange
            | Bug::ReadUnchecked
            | Bug::SkipHole
            | Bug::FsckBlind => Mode::Damage,
            _ => Mode::Crashes,
        }
    }
}

/// Lives the life of `seed`, printing its story on demand.
pub fn run(seed: u64, mode: Mode, print: bool) -> Result<Report, Failure> {
    let disk = match seed % 16 {
        0 => SimulatedDisk::new(seed),
        _ => PREPARED.with(|disk| disk.get_or_init(prepared).fork(seed)),
    };
    // A life that ended in a panic may hold poisoned locks: it is left where it lies.
    let mut world = ManuallyDrop::new(World::new(seed, disk, print));
    let report = story::catch(|| {
        match mode {
            Mode::Crashes => world.live()?,
            Mode::Damage => damage::live(&mut world)?,
        }
        Ok(Report {
            story_hash: world.story.hash(),
            restarts: world.restarts,
        })
    });
    if report.is_ok() {
        drop(ManuallyDrop::into_inner(world));
    }
    report.map_err(|what| Failure { seed, what })
}

thread_local! {
    static PREPARED: OnceCell<Arc<SimulatedDisk>> = const { OnceCell::new() };
}

/// A disk with a store that was just made and closed.
fn prepared() -> Arc<SimulatedDisk> {
    let disk = SimulatedDisk::new(0);
    let config = LocalConfig {
        pack_bytes: 32 << 10,
        zero_ahead: false,
        ..LocalConfig::default()
    };
    drop(
        recovery::open(disk.clone(), config, environment::env(0, &disk))
            .expect("nothing disturbs it"),
    );
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_hundred_lives_go_well() {
        for seed in 0..400 {
            if let Err(failure) = run(seed, Mode::Crashes, false) {
                panic!("seed {seed}: {}", failure.what);
            }
        }
    }

    #[test]
    fn rot_is_never_served() {
        for seed in 0..200 {
            if let Err(failure) = run(seed, Mode::Damage, false) {
                panic!("seed {seed}: {}", failure.what);
            }
        }
    }

    #[test]
    fn a_seed_replays() {
        for seed in [0, 7, 16, 58] {
            let lives = [
                run(seed, Mode::Crashes, false).unwrap(),
                run(seed, Mode::Crashes, false).unwrap(),
            ];
            assert_eq!(lives[0], lives[1], "seed {seed}");
        }
        assert_ne!(
            run(1, Mode::Crashes, false).unwrap(),
            run(2, Mode::Crashes, false).unwrap()
        );
    }
}

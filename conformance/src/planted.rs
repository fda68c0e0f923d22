//! Deliberate faults of the server: each must be caught by a scenario, so that we know that a wrong server is.
//!
//! `server/src/planted.rs` has them, in builds with the feature `planted` and `JAY_PLANTED=1` alone; such a
//! build has the verb `planted-faults`, which names them.

use std::{path::Path as FilePath, process::Command};

use anyhow::{Context as _, ensure};

use crate::{
    paths::Path,
    play::{Cell, Playing},
    scenario::Scenario,
};

/// Plays until a scenario fails that a server without fault passes; whether each fault was caught.
pub fn run(path: &Path, scenarios: &[Scenario], chosen: &str) -> anyhow::Result<bool> {
    let known = faults(path.server().context("faults are the server's")?)?;
    let faults: Vec<&String> = known
        .iter()
        .filter(|name| chosen == "all" || chosen == *name)
        .collect();
    ensure!(
        !faults.is_empty(),
        "no fault {chosen:?}: {}, or all",
        known.join(", ")
    );
    let mut right = Playing::start(path, None)?;
    let good: Vec<&Scenario> = scenarios
        .iter()
        .filter(|scenario| matches!(right.play(scenario), Cell::Passed))
        .collect();
    println!(
        "without a fault: {} of {} scenarios passed",
        good.len(),
        scenarios.len()
    );
    let mut caught = 0;
    for fault in &faults {
        let mut wrong = Playing::start(path, Some(fault))?;
        let by = good
            .iter()
            .find(|scenario| matches!(wrong.play(scenario), Cell::Failed(_)));
        match by {
            Some(scenario) => println!("{fault:28} caught by {}: {}", scenario.file, scenario.name),
            None => println!("{fault:28} NOT CAUGHT"),
        }
        caught += usize::from(by.is_some());
    }
    println!("{caught} passed, {} failed", faults.len() - caught);
    Ok(caught == faults.len())
}

fn faults(jay: &FilePath) -> anyhow::Result<Vec<String>> {
    let told = Command::new(jay).arg("planted-faults").output();
    let told = told.with_context(|| format!("{} does not start", jay.display()))?;
    ensure!(
        told.status.success(),
        "{} has no faults: build it with JAY_PLANTED=1 and --features planted",
        jay.display()
    );
    Ok(String::from_utf8(told.stdout)?
        .lines()
        .map(str::to_owned)
        .collect())
}

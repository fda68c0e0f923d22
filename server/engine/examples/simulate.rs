//! Runs the crash simulator: `simulate [--seeds N] [--start S] [--seed X] [--threads T] [--planted all|NAME] [--damage]`.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jay_engine::{
    planted::{self, Bug},
    simulation::{self, Failure, Mode},
};

/// Seeds after which a planted bug counts as not found.
const PLANTED_SEEDS_MAX: u64 = 60_000;
/// Failures that are told in full.
const TOLD_MAX: usize = 10;

const USAGE: &str =
    "usage: simulate [--seeds N] [--start S] [--threads T] [--damage] [--planted all|NAME]
       simulate --seed X [--damage]    replays one seed and prints its story";

struct Arguments {
    seeds: u64,
    start: u64,
    seed: Option<u64>,
    threads: usize,
    planted: Option<String>,
    mode: Mode,
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let passed = match (&arguments.planted, arguments.seed) {
        (Some(names), None) => hunt(&arguments, names),
        (names, Some(seed)) => replay(seed, arguments.mode, names.as_deref()),
        (None, None) => many(&arguments),
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse() -> Result<Arguments, String> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut parsed = Arguments {
        seeds: 1000,
        start: 0,
        seed: None,
        threads,
        planted: None,
        mode: Mode::Crashes,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--damage" {
            parsed.mode = Mode::Damage;
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} wants a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name} {value}: not a number"))
        };
        match name.as_str() {
            "--seeds" => parsed.seeds = number()?,
            "--start" => parsed.start = number()?,
            "--seed" => parsed.seed = Some(number()?),
            "--threads" => parsed.threads = number()?.max(1) as usize,
            "--planted" => parsed.planted = Some(value),
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(parsed)
}

fn replay(seed: u64, mut mode: Mode, planted: Option<&str>) -> bool {
    for bug in planted.map(bugs).into_iter().flatten() {
        planted::choose(Some(bug));
        mode = bug.mode();
    }
    match simulation::run(seed, mode, true) {
        Ok(report) => {
            println!("{report:?}\n1 passed, 0 failed");
            true
        }
        Err(failure) => {
            println!("{}\n0 passed, 1 failed", failure.what);
            false
        }
    }
}

fn many(arguments: &Arguments) -> bool {
    let seeds = arguments.start..arguments.start + arguments.seeds;
    let tally = run_all(seeds, arguments, arguments.mode, false);
    for failure in tally.failures.iter().take(TOLD_MAX) {
        println!("seed {}: {}", failure.seed, failure.what);
        println!(
            "    replay: {} --seed {}{}",
            command(),
            failure.seed,
            match arguments.mode {
                Mode::Crashes => "",
                Mode::Damage => " --damage",
            }
        );
    }
    println!(
        "{} passed, {} failed ({} starts, {:.1} s)",
        tally.passed,
        tally.failures.len(),
        tally.restarts,
        tally.took.as_secs_f64()
    );
    tally.failures.is_empty()
}

/// Runs seeds with each of the planted bugs until one fails.
fn hunt(arguments: &Arguments, names: &str) -> bool {
    if !planted::choose(Some(Bug::SkipSync)) {
        eprintln!(
            "this build has no planted bugs: build it with JAY_PLANTED=1 cargo build --features planted"
        );
        return false;
    }
    let bugs = bugs(names);
    if bugs.is_empty() {
        eprintln!("no planted bug is called {names}; there are {:?}", Bug::ALL);
        return false;
    }
    let (mut found, mut missed) = (0, 0);
    for bug in bugs {
        planted::choose(Some(bug));
        let seeds = arguments.start..arguments.start + PLANTED_SEEDS_MAX;
        let tally = run_all(seeds, arguments, bug.mode(), true);
        match tally.failures.iter().min_by_key(|failure| failure.seed) {
            Some(failure) => {
                found += 1;
                let took = failure.seed - arguments.start + 1;
                println!(
                    "{bug:?}: found after {took} seeds: {}",
                    shortened(&failure.what)
                );
            }
            None => {
                missed += 1;
                println!("{bug:?}: NOT found in {PLANTED_SEEDS_MAX} seeds");
            }
        }
    }
    planted::choose(None);
    println!("{found} passed, {missed} failed");
    missed == 0
}

fn bugs(names: &str) -> Vec<Bug> {
    let wanted = |bug: &Bug| names == "all" || format!("{bug:?}").eq_ignore_ascii_case(names);
    Bug::ALL.into_iter().filter(wanted).collect()
}

struct Tally {
    passed: u64,
    restarts: u64,
    failures: Vec<Failure>,
    took: Duration,
}

fn run_all(
    seeds: std::ops::Range<u64>,
    arguments: &Arguments,
    mode: Mode,
    until_failure: bool,
) -> Tally {
    let (next, passed, restarts) = (
        AtomicU64::new(seeds.start),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let (failures, ended) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.threads)
            .map(|_| {
                scope.spawn(|| {
                    while !(until_failure && ended.load(Ordering::Relaxed)) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            break;
                        }
                        match simulation::run(seed, mode, false) {
                            Ok(report) => {
                                passed.fetch_add(1, Ordering::Relaxed);
                                restarts.fetch_add(report.restarts, Ordering::Relaxed);
                            }
                            Err(failure) => {
                                ended.store(true, Ordering::Relaxed);
                                failures.lock().expect("no holder panics").push(failure);
                            }
                        }
                    }
                })
            })
            .collect();
        let terminal = std::io::stderr().is_terminal();
        while terminal && workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(200));
            let done = passed.load(Ordering::Relaxed);
            let rate = done as f64 / began.elapsed().as_secs_f64();
            eprint!(
                "\r{done} of {} seeds, {rate:.0}/s ",
                seeds.end - seeds.start
            );
            let _ = std::io::stderr().flush();
        }
        if terminal {
            eprintln!();
        }
    });
    let mut failures = failures.into_inner().expect("no holder panics");
    failures.sort_by_key(|failure| failure.seed);
    Tally {
        passed: passed.into_inner(),
        restarts: restarts.into_inner(),
        failures,
        took: began.elapsed(),
    }
}

fn shortened(what: &str) -> String {
    what.lines()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(160)
        .collect()
}

fn command() -> String {
    "cargo run --profile ci -p jay-engine --features simulation --example simulate --".into()
}

//! `jay bench --compare`: the native protocol, its first version and S3 take turns in short rounds on one server, so that all
//! of them meet the machine in all its moods, and the ratios are worth more than the figures.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::{BenchArgs, client::Client, load::Load, parse::Mix};

/// One operation at one concurrency.
#[derive(Debug, Serialize)]
struct Row {
    operation: String,
    concurrency: u32,
    /// By contender.
    results: BTreeMap<&'static str, Outcome>,
}

/// What one contender did: medians over all rounds.
#[derive(Debug, Serialize)]
struct Outcome {
    ops_per_s: f64,
    p50_ms: f64,
    /// Of the rates of one round: the first contender's to this one's.
    ratio: f64,
}

/// What one contender did in one round.
#[derive(Clone, Copy, Default)]
struct Turn {
    ops_per_s: f64,
    p50_ms: f64,
}

/// The result of a comparison.
#[derive(Debug, Serialize)]
pub struct Comparison {
    size: String,
    rounds: u32,
    round_s: f64,
    contenders: Vec<&'static str>,
    /// Contenders that could not take part, and why.
    absent: BTreeMap<&'static str, String>,
    rows: Vec<Row>,
}

/// A contender: its name, how it sends, and what it has done.
struct Contender {
    name: &'static str,
    client: Client,
}

/// Lets them take turns; the first one is what the others are held against.
pub async fn compare(
    args: &BenchArgs,
    clients: Vec<(&'static str, Client)>,
) -> anyhow::Result<Comparison> {
    let mut comparison = Comparison {
        size: args.size.to_string(),
        rounds: args.rounds,
        round_s: args.duration.unwrap_or_default().as_secs_f64(),
        contenders: Vec::new(),
        absent: BTreeMap::new(),
        rows: Vec::new(),
    };
    let mut contenders = Vec::new();
    let mut made = None;
    for (name, mut client) in clients {
        match client.ensure_bucket(&args.bucket).await {
            Ok(is_made) => {
                if is_made {
                    made = Some(client.clone());
                }
                comparison.contenders.push(name);
                contenders.push(Contender { name, client });
            }
            Err(failure) => {
                comparison.absent.insert(name, failure.to_string());
            }
        }
    }
    if contenders.len() < 2 {
        bail!("there is nobody to compare with: {:?}", comparison.absent);
    }
    for &concurrency in &args.concurrency {
        for mix in args.mix.each() {
            let row = row(args, &contenders, concurrency, mix).await?;
            comparison.rows.push(row);
        }
    }
    if let Some(mut client) = made {
        client.delete_bucket(&args.bucket).await?;
    }
    Ok(comparison)
}

async fn row(
    args: &BenchArgs,
    contenders: &[Contender],
    concurrency: u32,
    mix: Mix,
) -> anyhow::Result<Row> {
    let operation = mix.to_string().trim_end_matches("=1").to_owned();
    let args = BenchArgs {
        concurrency: vec![concurrency],
        mix,
        ..args.clone()
    };
    let mut loads = Vec::new();
    for contender in contenders {
        let mut load = Load::new(&args, &contender.client)?;
        load.fill().await.context(contender.name)?;
        loads.push(load);
    }
    let mut rounds = Vec::new();
    for number in 0..args.rounds as usize {
        let mut round = vec![Turn::default(); loads.len()];
        for turn in 0..loads.len() {
            // Who begins changes, for the first one may find the server at rest.
            let at = (number + turn) % loads.len();
            let total = loads[at].run().await?.total;
            if total.error_count() > 0 {
                bail!(
                    "{}: {operation} at {concurrency}: {total:?}",
                    contenders[at].name
                );
            }
            round[at] = Turn {
                ops_per_s: total.ops_per_s,
                p50_ms: total.latency_ms.p50,
            };
        }
        rounds.push(round);
    }
    for load in &mut loads {
        load.clean().await?;
    }
    let results = contenders.iter().enumerate().map(|(at, contender)| {
        let rates = rounds.iter().map(|round| round[at].ops_per_s);
        let latencies = rounds.iter().map(|round| round[at].p50_ms);
        let ratios = rounds
            .iter()
            .map(|round| round[0].ops_per_s / round[at].ops_per_s);
        let outcome = Outcome {
            ops_per_s: median(rates),
            p50_ms: median(latencies),
            ratio: median(ratios),
        };
        (contender.name, outcome)
    });
    Ok(Row {
        operation,
        concurrency,
        results: results.collect(),
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    (lower + upper) / 2.0
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rounds, seconds) = (self.rounds, self.round_s);
        writeln!(
            f,
            "{} bodies, medians of {rounds} interleaved rounds of {seconds} s each",
            self.size
        )?;
        for (name, why) in &self.absent {
            writeln!(f, "without {name}: {why}")?;
        }
        write!(f, "\n{:<14}", "")?;
        for name in &self.contenders {
            write!(f, "{:>14}{:>10}", format!("{name}/s"), "p50 ms")?;
        }
        let first = self.contenders.first().copied().unwrap_or_default();
        for name in self.contenders.iter().skip(1) {
            write!(f, "{:>18}", format!("{first} : {name}"))?;
        }
        writeln!(f)?;
        for row in &self.rows {
            write!(
                f,
                "{:<14}",
                format!("{} at {}", row.operation, row.concurrency)
            )?;
            for name in &self.contenders {
                let outcome = &row.results[name];
                write!(f, "{:>14.0}{:>10.3}", outcome.ops_per_s, outcome.p50_ms)?;
            }
            for name in self.contenders.iter().skip(1) {
                write!(f, "{:>18.2}", row.results[name].ratio)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([1.0].into_iter()), 1.0);
    }

    #[test]
    fn a_table_has_a_ratio_for_each_other_contender() {
        let outcome = |ops_per_s, ratio| Outcome {
            ops_per_s,
            p50_ms: 0.5,
            ratio,
        };
        let table = Comparison {
            size: "1 KiB".into(),
            rounds: 5,
            round_s: 2.0,
            contenders: vec!["v2", "s3"],
            absent: BTreeMap::from([("v1", "Unsupported: not here".into())]),
            rows: vec![Row {
                operation: "get".into(),
                concurrency: 64,
                results: BTreeMap::from([
                    ("v2", outcome(3000.0, 1.0)),
                    ("s3", outcome(1000.0, 3.0)),
                ]),
            }],
        };
        let text = table.to_string();
        assert!(text.contains("without v1: Unsupported: not here"), "{text}");
        let line = text.lines().last().unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            words,
            ["get", "at", "64", "3000", "0.500", "1000", "0.500", "3.00"]
        );
    }
}

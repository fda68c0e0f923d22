//! The load itself: the workers, their keys, and the phases of a run.
//!
//! Every worker owns a share of the keys and is the only one to touch them. So it knows what each GET has to return,
//! and an acknowledged write that is not read back is an error, also while all workers overwrite and delete.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use hyper::StatusCode;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;

use super::{
    BenchArgs,
    client::{Client, Failure},
    content::Content,
    pace::Pace,
    parse::{Mix, Operation, Random, SizeRange, scramble},
    report::{Recorder, Report},
};

/// Pause of a worker that lost its connection, so that a server that is down is not asked in a tight loop.
const PAUSE_WITHOUT_CONNECTION: Duration = Duration::from_millis(50);

/// A load, ready to run.
pub struct Load {
    args: BenchArgs,
    endpoint: String,
    workers: Vec<Worker>,
}

/// What all workers do at the same time.
#[derive(Clone)]
enum Phase {
    /// Write every key once.
    Fill,
    /// The mix, for as long as the pace goes on.
    Mix(Arc<Pace>),
    /// Delete what was written.
    Clean,
}

impl Load {
    /// Shares the keys out to the workers; sends nothing yet.
    pub fn new(args: &BenchArgs, client: &Client) -> anyhow::Result<Self> {
        let concurrency = u64::from(args.workers());
        if args.keys < concurrency || args.keys > u64::from(u32::MAX) {
            bail!(
                "--keys {}: each of {concurrency} workers needs a key of its own",
                args.keys
            );
        }
        let run = RandomState::new().hash_one(std::process::id());
        let workers = (0..concurrency)
            .map(|worker| {
                let first = args.keys * worker / concurrency;
                let end = args.keys * (worker + 1) / concurrency;
                Worker {
                    client: client.clone(),
                    keys: KeySpace::new(run, &args.bucket, first..end),
                    random: Random::new(run ^ scramble(worker)),
                    mix: args.mix.clone(),
                    sizes: args.size,
                    recorder: Recorder::default(),
                }
            })
            .collect();
        Ok(Self {
            args: args.clone(),
            endpoint: client.url(),
            workers,
        })
    }

    /// Fills the key space if the mix reads.
    pub async fn fill(&mut self) -> anyhow::Result<()> {
        if !self.args.mix.reads() {
            return Ok(());
        }
        let bar = progress_bar("fill", Some(self.args.keys));
        let filled = self.all(Phase::Fill, bar).await;
        filled.context("the key space could not be filled")
    }

    /// Runs the mix and reports. It may run several times: each report is of one run.
    pub async fn run(&mut self) -> anyhow::Result<Report> {
        for worker in &mut self.workers {
            worker.recorder = Recorder::default();
        }
        let pace = Pace::start(&self.args);
        let stopper = pace.clone();
        let interrupt = tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if stopper.is_stopped() {
                    std::process::exit(130);
                }
                stopper.stop();
            }
        });
        self.all(
            Phase::Mix(pace.clone()),
            progress_bar("load", self.args.requests),
        )
        .await?;
        interrupt.abort();

        let mut recorder = Recorder::default();
        let mut reconnects = 0;
        for worker in &self.workers {
            recorder.merge(&worker.recorder);
            reconnects += worker.client.reconnects();
        }
        Ok(Report::new(
            &self.args,
            &self.endpoint,
            recorder,
            &pace,
            reconnects,
        ))
    }

    /// Deletes every object that the load may have left.
    pub async fn clean(&mut self) -> anyhow::Result<()> {
        let present = self
            .workers
            .iter()
            .map(|worker| worker.keys.present as u64)
            .sum();
        self.all(Phase::Clean, progress_bar("clean", Some(present)))
            .await
    }

    /// Sends all workers through `phase`; the first failure wins, after all have ended.
    async fn all(&mut self, phase: Phase, bar: ProgressBar) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for mut worker in self.workers.drain(..) {
            let (phase, bar) = (phase.clone(), bar.clone());
            tasks.spawn(async move {
                let outcome = match phase {
                    Phase::Fill => worker.fill(&bar).await,
                    Phase::Mix(pace) => worker.drive(&pace, &bar).await,
                    Phase::Clean => worker.clean(&bar).await,
                };
                (worker, outcome)
            });
        }
        let mut outcome = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let (worker, ended) = ended.context("a worker panicked")?;
            self.workers.push(worker);
            outcome = outcome.and(ended);
        }
        bar.finish_and_clear();
        outcome.map_err(anyhow::Error::from)
    }
}

/// Drawn on standard error, and only on a terminal.
fn progress_bar(phase: &'static str, length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{prefix:>5} [{bar:40}] {pos}/{len} {per_sec} eta {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{prefix:>5} {elapsed} {pos} requests {per_sec}",
        ),
    };
    let style = ProgressStyle::with_template(template).expect("the templates above are valid");
    bar.with_style(style.progress_chars("=> "))
        .with_prefix(phase)
}

/// One connection, one share of the keys, at most one request under way.
struct Worker {
    client: Client,
    keys: KeySpace,
    random: Random,
    mix: Mix,
    sizes: SizeRange,
    recorder: Recorder,
}

/// What a successful request did.
pub struct Done {
    /// Bytes of bodies sent or received.
    pub bytes: u64,
    /// It asked for a key that is deleted, and was told so.
    pub missed: bool,
}

impl Done {
    const MISSED: Self = Self {
        bytes: 0,
        missed: true,
    };

    fn with(bytes: u64) -> Self {
        Self {
            bytes,
            missed: false,
        }
    }
}

impl Worker {
    async fn fill(&mut self, bar: &ProgressBar) -> Result<(), Failure> {
        for key in 0..self.keys.stored.len() as u32 {
            self.put(key).await?;
            bar.inc(1);
        }
        Ok(())
    }

    async fn clean(&mut self, bar: &ProgressBar) -> Result<(), Failure> {
        while let Some(key) = self.keys.last_present() {
            self.delete(key).await?;
            bar.inc(1);
        }
        Ok(())
    }

    async fn drive(&mut self, pace: &Pace, bar: &ProgressBar) -> Result<(), Failure> {
        while let Some(turn) = pace.next().await {
            let operation = self.mix.pick(&mut self.random);
            let outcome = self.perform(operation).await;
            let now = Instant::now();
            let lost = matches!(&outcome, Err(failure) if failure.code == Failure::CONNECTION);
            if turn.measured {
                self.recorder
                    .record(operation, now, now - turn.intended, outcome);
                bar.inc(1);
            }
            if lost {
                tokio::time::sleep(PAUSE_WITHOUT_CONNECTION).await;
            }
        }
        Ok(())
    }

    async fn perform(&mut self, operation: Operation) -> Result<Done, Failure> {
        match operation {
            Operation::Put => {
                let key = self.keys.any(&mut self.random);
                self.put(key).await
            }
            Operation::Get => {
                let key = self.keys.any_present(&mut self.random);
                let (path, expected) = (self.keys.path(key), self.keys.content(key));
                let answer = self.client.get_object(&path, expected).await;
                self.keys.judge(key, answer)
            }
            Operation::Head => {
                let key = self.keys.any_present(&mut self.random);
                let (path, expected) = (self.keys.path(key), self.keys.content(key));
                let answer = self.client.head_object(&path, expected).await;
                self.keys.judge(key, answer.map(|()| 0))
            }
            Operation::Delete => {
                let key = self.keys.any_present(&mut self.random);
                self.delete(key).await
            }
            Operation::List => {
                let after = self.keys.any(&mut self.random);
                let after = self.keys.name(after);
                let bytes = self
                    .client
                    .list_objects(&self.keys.bucket, &self.keys.folder, &after)
                    .await?;
                Ok(Done::with(bytes))
            }
        }
    }

    async fn put(&mut self, key: u32) -> Result<Done, Failure> {
        let content = Content {
            id: self.random.next(),
            size: self.sizes.pick(&mut self.random),
        };
        // Until the answer is there, nobody knows what the key holds.
        self.keys.set_present(key, None);
        self.client
            .put_object(&self.keys.path(key), content)
            .await?;
        self.keys.set_present(key, Some(content));
        Ok(Done::with(content.size))
    }

    async fn delete(&mut self, key: u32) -> Result<Done, Failure> {
        if self.keys.is_present(key) {
            self.keys.set_present(key, None);
        }
        self.client.delete_object(&self.keys.path(key)).await?;
        self.keys.set_absent(key);
        Ok(Done::with(0))
    }
}

/// A worker's share of the keys and what is known of each.
struct KeySpace {
    bucket: String,
    /// Common to all keys of a run, so that runs do not meet and a listing sees one run.
    folder: String,
    /// Number of the first key among all workers' keys.
    first: u64,
    /// All keys; those that may exist come first.
    order: Vec<u32>,
    /// Where each key is in `order`.
    position: Vec<u32>,
    /// How many may exist.
    present: usize,
    /// What a key that exists must hold; `None` when its last request failed and both old and new are right.
    stored: Vec<Option<Content>>,
}

impl KeySpace {
    fn new(run: u64, bucket: &str, numbers: std::ops::Range<u64>) -> Self {
        let keys = (numbers.end - numbers.start) as u32;
        Self {
            bucket: bucket.to_owned(),
            folder: format!("bench-{run:016x}"),
            first: numbers.start,
            order: (0..keys).collect(),
            position: (0..keys).collect(),
            present: 0,
            stored: vec![None; keys as usize],
        }
    }

    /// Scattered, as keys that come in order are an easy case for every index.
    fn name(&self, key: u32) -> String {
        format!("{:016x}", scramble(self.first + u64::from(key) + 1))
    }

    fn path(&self, key: u32) -> String {
        format!("/{}/{}/{}", self.bucket, self.folder, self.name(key))
    }

    fn any(&self, random: &mut Random) -> u32 {
        random.below(self.order.len() as u64) as u32
    }

    /// A key that may exist, or any when none does.
    fn any_present(&self, random: &mut Random) -> u32 {
        match self.present {
            0 => self.any(random),
            present => self.order[random.below(present as u64) as usize],
        }
    }

    fn last_present(&self) -> Option<u32> {
        self.present.checked_sub(1).map(|last| self.order[last])
    }

    fn is_present(&self, key: u32) -> bool {
        (self.position[key as usize] as usize) < self.present
    }

    fn content(&self, key: u32) -> Option<Content> {
        self.stored[key as usize].filter(|_| self.is_present(key))
    }

    fn set_present(&mut self, key: u32, content: Option<Content>) {
        if !self.is_present(key) {
            self.swap(key, self.present);
            self.present += 1;
        }
        self.stored[key as usize] = content;
    }

    fn set_absent(&mut self, key: u32) {
        if self.is_present(key) {
            self.present -= 1;
            self.swap(key, self.present);
        }
    }

    fn swap(&mut self, key: u32, to: usize) {
        let from = self.position[key as usize] as usize;
        self.order.swap(from, to);
        self.position[self.order[from] as usize] = from as u32;
        self.position[self.order[to] as usize] = to as u32;
    }

    /// Holds the answer to a GET or HEAD against what is known of the key.
    fn judge(&self, key: u32, answer: Result<u64, Failure>) -> Result<Done, Failure> {
        match (answer, self.is_present(key), self.stored[key as usize]) {
            (Ok(bytes), true, _) => Ok(Done::with(bytes)),
            (Ok(_), false, _) => Err(Failure {
                code: Failure::WRONG_BODY.into(),
                detail: "a deleted object was still there".into(),
                status: None,
            }),
            (Err(failure), present, stored) => {
                let told_missing =
                    failure.status == Some(StatusCode::NOT_FOUND) && failure.code != "NoSuchBucket";
                match told_missing && (!present || stored.is_none()) {
                    true => Ok(Done::MISSED),
                    false => Err(failure),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_space_knows_which_keys_exist() {
        let mut keys = KeySpace::new(1, "b", 10..20);
        let mut random = Random::new(3);
        let mut model = std::collections::BTreeSet::new();
        for step in 0..10_000 {
            let key = keys.any(&mut random);
            if step % 3 == 0 {
                keys.set_absent(key);
                model.remove(&key);
            } else {
                keys.set_present(key, None);
                model.insert(key);
            }
            assert_eq!(keys.present, model.len());
            assert!((0..10).all(|key| keys.is_present(key) == model.contains(&key)));
            assert!(model.is_empty() || model.contains(&keys.any_present(&mut random)));
        }
    }

    #[test]
    fn an_answer_is_held_against_what_was_acknowledged() {
        let mut keys = KeySpace::new(1, "b", 0..2);
        let missing = || {
            Err(Failure::answer(
                StatusCode::NOT_FOUND,
                "<Code>NoSuchKey</Code>",
            ))
        };
        assert!(keys.judge(0, missing()).unwrap().missed);
        assert!(keys.judge(0, Ok(5)).is_err(), "never written");

        keys.set_present(0, Some(Content { id: 1, size: 5 }));
        assert_eq!(keys.judge(0, Ok(5)).unwrap().bytes, 5);
        assert!(
            keys.judge(0, missing()).is_err(),
            "an acknowledged write is gone"
        );

        keys.set_present(0, None);
        assert!(
            keys.judge(0, missing()).is_ok() && keys.judge(0, Ok(5)).is_ok(),
            "unsure"
        );
        keys.set_absent(0);
        assert!(keys.judge(0, Ok(5)).is_err(), "deleted");
    }
}

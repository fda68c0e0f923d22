//! The steps on threads: a queue in front of the committer, the applier and the maker of log files behind.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    disk::is_full,
    error::Result,
    meta::{
        Commit, CommitError, Hold, InlineBody, MetaReader, MetaStore, Rows, Transaction,
        key::Key,
        local::{Local, applier::Applier, committer::Committer, recovery::Opened},
        record::{Location, Record},
    },
    sync::{
        self, Condvar, Mutex, Race,
        atomic::{AtomicBool, Ordering},
        thread::{self, JoinHandle},
    },
    types::UploadId,
};

/// Time after which something is tried again that found no room on the disk.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Of so many tries to make the reserve again, the collector is woken at one.
const TRIES_PER_COLLECTION: u32 = 3;

/// The unit in which waiting bytes are counted.
const PERMIT_BYTES: usize = 1024;

/// The metadata store of one machine, running.
pub struct LocalStore {
    local: Arc<Local>,
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Pending {
    transaction: Transaction,
    answer: oneshot::Sender<Result<(), CommitError>>,
    _room: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    pending: VecDeque<Pending>,
    closed: bool,
}

impl LocalStore {
    /// Starts the threads of an opened store.
    pub fn start(opened: Opened) -> std::io::Result<Arc<Self>> {
        let Opened {
            local,
            committer,
            applier,
        } = opened;
        let queue = Arc::new(Queue::default());
        let room = Arc::new(Semaphore::new(local.config.queue_bytes_max / PERMIT_BYTES));
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(body)
        };
        let applied = Arc::new(Stop::default());
        let mut threads = Vec::new();
        let (q, l, a) = (queue.clone(), local.clone(), applied.clone());
        threads.push(spawn(
            "jay-committer",
            Box::new(move || {
                // However it ends: nobody may wait for it any longer.
                let _ended = Ended {
                    queue: &q,
                    local: &l,
                    stop: &a,
                };
                run_committer(&q, &l, committer);
            }),
        )?);
        let (l, a) = (local.clone(), applied.clone());
        threads.push(spawn(
            "jay-applier",
            Box::new(move || run_applier(&l, applier, &a)),
        )?);
        let (l, a) = (local.clone(), applied);
        threads.push(spawn("jay-packs", Box::new(move || run_packs(&l, &a)))?);
        Ok(Arc::new(Self {
            local,
            queue,
            room,
            threads: Mutex::new(threads),
        }))
    }

    /// What the steps share.
    pub fn local(&self) -> &Arc<Local> {
        &self.local
    }

    /// Commits from a thread that may wait.
    pub fn commit_all(&self, transactions: Vec<Transaction>) -> Vec<Result<(), CommitError>> {
        let answers: Vec<_> = transactions
            .into_iter()
            .map(|t| self.queue.push(t, None))
            .collect();
        answers
            .into_iter()
            .map(|a| sync::receive(a).unwrap_or_else(|_| Err(gone())))
            .collect()
    }

    /// Commits what waits, applies it, and ends the threads. Waits for them.
    pub fn close(&self) {
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock().expect("no holder panics"));
        for thread in threads {
            if thread.join().is_err() {
                self.local.stop("a thread of the store panicked");
            }
        }
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl MetaReader for LocalStore {
    fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.local.get(key)
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows> {
        self.local.scan(from, to, limit)
    }

    fn open_inline(&self, location: &Location) -> Result<Option<InlineBody>> {
        self.local.open_inline(location)
    }

    fn hold_parts(&self, id: UploadId) -> Result<Option<Box<dyn Hold>>> {
        self.local.hold_parts(id)
    }
}

impl MetaStore for LocalStore {
    fn commit(&self, transaction: Transaction) -> Commit {
        let most = self.local.config.queue_bytes_max / PERMIT_BYTES;
        let permits = (1 + transaction.bytes() / PERMIT_BYTES).min(most) as u32;
        let (room, queue) = (self.room.clone(), self.queue.clone());
        Box::pin(async move {
            let room = room.acquire_many_owned(permits).await.map_err(|_| gone())?;
            queue
                .push(transaction, Some(room))
                .await
                .unwrap_or_else(|_| Err(gone()))
        })
    }

    fn stopped(&self) -> Option<String> {
        self.local.stopped()
    }

    fn lineage(&self) -> u32 {
        self.local.lineage
    }

    fn full(&self) -> Option<String> {
        self.local.full()
    }
}

impl Queue {
    fn push(
        &self,
        transaction: Transaction,
        room: Option<OwnedSemaphorePermit>,
    ) -> oneshot::Receiver<Result<(), CommitError>> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().expect("no holder panics");
        if waiting.closed && !sync::has(Race::ArriveLate) {
            let _ = answer.send(Err(gone()));
        } else {
            waiting.pending.push_back(Pending {
                transaction,
                answer,
                _room: room,
            });
            if !sync::has(Race::ArriveUnheard) {
                self.arrived.notify_one();
            }
        }
        receiver
    }

    fn close(&self) {
        self.waiting.lock().expect("no holder panics").closed = true;
        self.arrived.notify_all();
    }

    /// The next batch; empty when nothing came for `patience`; `None` when the queue is closed and empty.
    fn take(&self, local: &Local, patience: Duration) -> Option<Vec<Pending>> {
        let waiting = self.waiting.lock().expect("no holder panics");
        let (mut waiting, _) = self
            .arrived
            .wait_timeout_while(waiting, patience, |w| w.pending.is_empty() && !w.closed)
            .expect("no holder panics");
        if waiting.pending.is_empty() && waiting.closed {
            return None;
        }
        let bytes_max = local
            .config
            .batch_bytes_max
            .min(local.config.pack_bytes as usize / 4);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(next) = waiting.pending.front() {
            bytes += next.transaction.bytes();
            let full = batch.len() == local.config.batch_count_max || bytes > bytes_max;
            if full && !batch.is_empty() {
                break;
            }
            batch.extend(waiting.pending.pop_front());
        }
        Some(batch)
    }
}

fn gone() -> CommitError {
    CommitError::Stopped("the store is closed".into())
}

fn run_committer(queue: &Queue, local: &Local, mut committer: Committer) {
    let mut patience = local.config.seal_after;
    while let Some(batch) = queue.take(local, patience) {
        if batch.is_empty() {
            committer.seal();
            patience = match committer.is_sealed() {
                true => Duration::from_secs(3600),
                // The disk may have room later.
                false => RETRY_AFTER,
            };
            continue;
        }
        patience = local.config.seal_after;
        // On a full disk the index may not get what waits for it; the committer knows what to refuse then.
        local
            .overlay
            .wait_below(local.config.overlay_bytes_max, || {
                local.stopped().is_some() || local.full().is_some()
            });
        let (transactions, answers): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|p| (p.transaction, (p.answer, p._room)))
            .unzip();
        for (outcome, (answer, _room)) in committer.commit(transactions).into_iter().zip(answers) {
            let _ = answer.send(outcome);
        }
    }
    committer.seal();
}

/// Releases everybody who waits for the committer when it ends, by a panic too.
struct Ended<'a> {
    queue: &'a Queue,
    local: &'a Local,
    stop: &'a Stop,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.local.stop("the committer panicked");
        }
        self.queue.close();
        self.queue
            .waiting
            .lock()
            .expect("no holder panics")
            .pending
            .clear();
        self.stop.stop();
        self.local.apply_wanted.notify();
        self.local.pack_wanted.notify();
    }
}

/// Tells the other threads that the committer has ended.
#[derive(Default)]
struct Stop(AtomicBool);

impl Stop {
    fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

fn run_applier(local: &Local, mut applier: Applier, stop: &Stop) {
    loop {
        local.apply_wanted.wait(local.config.apply_after);
        let ending = stop.is_stopped();
        if let Err(error) = applier.step() {
            local.stop(&format!("the index could not be written: {error}"));
            return;
        }
        if ending {
            return;
        }
        // Writers ask for more all the time, but each try on a full disk keeps readers waiting for a moment.
        let again = Instant::now() + RETRY_AFTER;
        while local.space.index_waits() && Instant::now() < again && !stop.is_stopped() {
            local.apply_wanted.wait(again - Instant::now());
        }
    }
}

fn run_packs(local: &Local, stop: &Stop) {
    let mut tries: u32 = 0;
    while !stop.is_stopped() {
        match local.prepare_pack() {
            // Said once, when it began.
            Err(error) if is_full(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the next log file could not be made ahead of need");
            }
            Ok(_) => {}
        }
        tries = tries.wrapping_add(1);
        if local.full().is_some() && tries.is_multiple_of(TRIES_PER_COLLECTION) {
            local.collection_wanted();
        }
        local.pack_wanted.wait(RETRY_AFTER);
    }
}

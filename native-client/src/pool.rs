//! The connections of one client: a few that small requests share, and lanes for large bodies, some up and some down.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{sleep, timeout},
};

use crate::{
    bulk::Bulk,
    config::Config,
    connection::{Dialed, Dialer},
    error::{Error, ErrorKind, Result},
    shared::Shared,
};

/// Most connections that small requests share. One carries what several cores ask for; more are for when all of its places
/// are taken.
const SHARED_MAX: usize = 4;
/// A lane that was not used for longer may have been closed by the server, which closes idle ones after 60 s.
const IDLE_MAX: Duration = Duration::from_secs(45);

/// Which way a large body goes. Each has lanes of its own: a copy that reads and writes would otherwise wait for itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Up,
    Down,
}

/// See the module.
pub(crate) struct Pool {
    dialer: Dialer,
    /// The address that answered last.
    address: AtomicUsize,
    shared: Mutex<Vec<Shared>>,
    shared_max: usize,
    /// Held while a shared connection is being made, so that a crowd makes one and not one each; and why that failed last.
    making: AsyncMutex<Option<Error>>,
    /// How often it has failed.
    failures: AtomicU64,
    idle: Mutex<Vec<Kept>>,
    up: Arc<Semaphore>,
    down: Arc<Semaphore>,
    is_closed: AtomicBool,
}

/// How a lane that nobody uses is asked for; who keeps it is gone when it has ended.
type Kept = oneshot::Sender<oneshot::Sender<Bulk>>;

/// A lane, for as long as somebody uses it.
pub(crate) struct Lane {
    bulk: Option<Bulk>,
    pool: Arc<Pool>,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(config: Arc<Config>) -> Result<Self> {
        // At least one each.
        let all = (config.options.connections_max as usize).max(3);
        let shared_max = (all / 4).clamp(1, SHARED_MAX);
        let up = (all - shared_max) / 2;
        Ok(Self {
            dialer: Dialer::new(config)?,
            address: AtomicUsize::new(0),
            shared: Mutex::default(),
            shared_max,
            making: AsyncMutex::default(),
            failures: AtomicU64::new(0),
            idle: Mutex::default(),
            up: Arc::new(Semaphore::new(up)),
            down: Arc::new(Semaphore::new(all - shared_max - up)),
            is_closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.dialer.config
    }

    /// A connection for a small request.
    pub(crate) async fn shared(&self) -> Result<Shared> {
        if let Some(shared) = self.ready()? {
            return Ok(shared);
        }
        let failures = self.failures.load(Ordering::SeqCst);
        let mut failed = self.making.lock().await;
        // Somebody else has made one meanwhile, or has found that there is none to be had.
        if let Some(shared) = self.ready()? {
            return Ok(shared);
        }
        if let Some(failed) = &*failed
            && self.failures.load(Ordering::SeqCst) != failures
        {
            return Err(failed.same());
        }
        let dialed = self.dial(false).await.inspect_err(|error| {
            self.failures.fetch_add(1, Ordering::SeqCst);
            *failed = Some(error.same());
        })?;
        let shared = Shared::start(dialed, &self.config().options);
        let mut all = lock(&self.shared);
        self.must_be_open()?;
        all.push(shared.clone());
        Ok(shared)
    }

    /// One that is there and has a place; or any, when there are as many as may be.
    fn ready(&self) -> Result<Option<Shared>> {
        self.must_be_open()?;
        let mut all = lock(&self.shared);
        all.retain(Shared::is_open);
        let free = all.iter().find(|shared| !shared.is_full());
        Ok(match free {
            Some(shared) => Some(shared.clone()),
            // They all wait in one line then.
            None if all.len() >= self.shared_max => all.first().cloned(),
            None => None,
        })
    }

    /// A lane for a large body.
    pub(crate) async fn lane(self: &Arc<Self>, way: Way) -> Result<Lane> {
        let places = match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        };
        let patience = self.config().options.pool_timeout;
        let place = timeout(patience, places.clone().acquire_owned()).await;
        let place = place.map_err(|_| {
            let message = format!("All connections were in use for {patience:?}: connections_max says how many there are.");
            Error::new(ErrorKind::PoolTimeout, message).undone()
        })?;
        let place = place.map_err(|_| closed())?;
        self.must_be_open()?;
        let bulk = match self.kept().await {
            Some(bulk) => bulk,
            None => Bulk::new(self.dial(true).await?, self.config().options.idle_timeout),
        };
        Ok(Lane {
            bulk: Some(bulk),
            pool: self.clone(),
            _place: place,
        })
    }

    /// The lane that was given back last and has not ended since.
    async fn kept(&self) -> Option<Bulk> {
        loop {
            let kept = lock(&self.idle).pop()?;
            let (give, given) = oneshot::channel();
            if kept.send(give).is_ok()
                && let Ok(bulk) = given.await
            {
                return Some(bulk);
            }
        }
    }

    /// Keeps a lane for whoever needs one next, but not for too long, nor when the server has ended it: nobody would notice
    /// before a request is lost on it.
    fn keep(&self, mut bulk: Bulk) {
        // Whoever drops it without a runtime needs no more of it.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (kept, mut wanted) = oneshot::channel::<oneshot::Sender<Bulk>>();
        let mut idle = lock(&self.idle);
        idle.retain(|kept| !kept.is_closed());
        idle.push(kept);
        runtime.spawn(async move {
            tokio::select! {
                wanted = &mut wanted => if let Ok(give) = wanted {
                    let _ = give.send(bulk);
                },
                () = bulk.ended() => {}
                () = sleep(IDLE_MAX) => {}
            }
        });
    }

    /// Connects to the address that answered last, else to the next one that does.
    async fn dial(&self, bulk: bool) -> Result<Dialed> {
        let addresses = &self.config().addresses;
        let first = self.address.load(Ordering::Relaxed);
        let mut failed = None;
        for n in 0..addresses.len() {
            let at = (first + n) % addresses.len();
            match self.dialer.dial(&addresses[at], bulk).await {
                Ok(dialed) => {
                    self.address.store(at, Ordering::Relaxed);
                    return Ok(dialed);
                }
                // Another address has the same access keys.
                Err(error) if error.kind() == ErrorKind::Unauthenticated => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed
            .unwrap_or_else(|| Error::new(ErrorKind::Config, "There is no address."))
            .undone())
    }

    /// Ends all connections: those with requests under way when these are answered.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        lock(&self.shared)
            .drain(..)
            .for_each(|shared| shared.leave());
        lock(&self.idle).clear();
        self.up.close();
        self.down.close();
    }

    fn must_be_open(&self) -> Result<()> {
        match self.is_closed.load(Ordering::Relaxed) {
            true => Err(closed()),
            false => Ok(()),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "The client was closed.")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave a list half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    /// The connection.
    pub(crate) fn bulk(&mut self) -> &mut Bulk {
        self.bulk
            .as_mut()
            .expect("it is given back when the lane is dropped")
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(bulk) = self.bulk.take() else {
            return;
        };
        if bulk.is_reusable() && self.pool.must_be_open().is_ok() {
            self.pool.keep(bulk);
        }
    }
}

//! The connections of one client: a few that small requests share, and lanes for large bodies, some up and some down.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore},
    time::timeout,
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
    /// Held while a shared connection is being made, so that a crowd makes one and not one each.
    making: AsyncMutex<()>,
    idle: Mutex<Vec<Bulk>>,
    up: Arc<Semaphore>,
    down: Arc<Semaphore>,
    is_closed: AtomicBool,
}

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
            making: AsyncMutex::new(()),
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
        let _turn = self.making.lock().await;
        // Somebody else has made one meanwhile.
        if let Some(shared) = self.ready()? {
            return Ok(shared);
        }
        let dialed = self.dial(false).await?;
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
        let bulk = match self.kept() {
            Some(bulk) => bulk,
            None => Bulk::new(self.dial(true).await?, self.config().options.idle_timeout),
        };
        Ok(Lane {
            bulk: Some(bulk),
            pool: self.clone(),
            _place: place,
        })
    }

    /// The lane that was given back last, unless it was too long ago.
    fn kept(&self) -> Option<Bulk> {
        let mut idle = lock(&self.idle);
        idle.retain(|bulk| bulk.idle_since.elapsed() < IDLE_MAX);
        idle.pop()
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
        let Some(mut bulk) = self.bulk.take() else {
            return;
        };
        if bulk.is_reusable() && self.pool.must_be_open().is_ok() {
            bulk.idle_since = tokio::time::Instant::now();
            lock(&self.pool.idle).push(bulk);
        }
    }
}

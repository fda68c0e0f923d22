//! The engine's API: one method an operation, in one file per noun. Each hands over to the service.

mod access;
mod account;
mod bucket;
mod closed;
mod multipart;
mod object;
mod once;
mod open;
mod upkeep;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

pub(crate) use self::{closed::unobtrusive, open::open_disk};
pub use self::{
    closed::{accept_loss, fsck, store_id},
    open::{EngineConfig, OpenError},
    upkeep::ScrubStatus,
};
use crate::{
    Counters, Error, ErrorKind, Gauges, Result,
    disk::real::LockGuard,
    env::Env,
    maintenance::schedule::Upkeep,
    meta::local::runtime::LocalStore,
    service::{self, Service},
};

/// The object store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Engine {
    pub(crate) service: Arc<Service>,
    running: Arc<Running>,
}

/// What ends when the store is closed.
struct Running {
    store: Arc<LocalStore>,
    upkeep: Upkeep,
    data_dir: PathBuf,
    env: Env,
    /// Held while a backup is made.
    backup: Mutex<()>,
    /// Dropped last: the directory is free only then.
    lock: Mutex<Option<LockGuard>>,
}

impl Engine {
    /// Commits what waits, brings the index up to date and ends the threads. Waits for the disk. Later
    /// writes answer [`ErrorKind::ServiceUnavailable`].
    ///
    /// # Errors
    /// [`ErrorKind::ServiceUnavailable`] when the store had stopped before: the next start recovers it.
    pub fn close(&self) -> Result<()> {
        self.running.close();
        match self.stopped() {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::ServiceUnavailable, why)),
        }
    }

    /// Why the store refuses to write, if it does.
    pub fn stopped(&self) -> Option<String> {
        self.running.store.local().stopped()
    }

    /// The id of the store, by which two of them can be told apart.
    pub fn store_id(&self) -> [u8; 16] {
        self.running.store.local().store_id()
    }

    /// Takes a share of the memory for bodies, for what a front has to gather before it can call; waits for it,
    /// 30 s at most.
    ///
    /// # Errors
    /// [`ErrorKind::SlowDown`] when there was none.
    pub async fn memory(&self, bytes: usize) -> Result<Memory> {
        self.service.buffer(bytes).await.map(Memory)
    }

    /// Whether little of the memory for bodies is left, or none: then who is slow with a body keeps others waiting.
    pub fn memory_is_short(&self) -> bool {
        self.service.buffers.available_permits() < self.service.buffers_max / 4
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.service.counters
    }

    /// How much waits inside the store now.
    pub fn gauges(&self) -> Gauges {
        self.running.store.local().gauges()
    }

    /// Runs what may read many rows where waiting is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Service) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let service = self.service.clone();
        service::blocking(move || work(&service)).await?
    }
}

/// A share of the memory for bodies, given back when it is dropped.
pub struct Memory(#[allow(dead_code)] service::Buffer);

impl Running {
    fn close(&self) {
        self.upkeep.begin_to_close();
        // A backup sees that at its next step; the directory is nobody else's until then.
        drop(self.backup.lock());
        self.upkeep.close();
        self.store.close();
        self.lock.lock().expect("no holder panics").take();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close();
    }
}

//! Whether the disk has room, and the reserve for when it has not.
//!
//! The reserve is the log file made ahead of need and the *ballast*, a file of reserved space. When anything
//! finds the disk full the store is *short*: the ballast is given back, for short log files and for the
//! growth of the index, and from then on only what makes room is committed, or keeps the store going. When
//! log file and ballast are there again, and the index has what waited for it, everything is as before.
//!
//! Large bodies look here too, so that they do not take what was given back. One that found no room by itself
//! does not make the store short: its own space comes back with its failure.

use std::{io, sync::Arc};

use crate::{
    disk::Disk,
    planted::{self, Bug},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// The file of reserved space.
pub const BALLAST: &str = "ballast";

/// See the module.
pub struct Space {
    disk: Arc<dyn Disk>,
    ballast_bytes: u64,
    inner: Mutex<Inner>,
    /// As in `inner`, for those who ask often.
    is_short: AtomicBool,
}

#[derive(Default)]
struct Inner {
    /// Why the store is short of space, if it is.
    short: Option<String>,
    ballast: Ballast,
    /// How often there was no room.
    misses: u64,
    /// Rows wait for the index, which had no room for them.
    index_waits: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Ballast {
    /// What an earlier start left has not been looked at.
    #[default]
    Unknown,
    There,
    Gone,
}

impl Space {
    /// Space on `disk`, of which `ballast_bytes` are kept.
    pub fn new(disk: Arc<dyn Disk>, ballast_bytes: u64) -> Self {
        Self {
            disk,
            ballast_bytes,
            inner: Mutex::default(),
            is_short: AtomicBool::new(false),
        }
    }

    /// Why the store is short of space, if it is.
    pub fn short(&self) -> Option<String> {
        match self.is_short() {
            true => self.lock().short.clone(),
            false => None,
        }
    }

    /// Whether the store is short of space.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Acquire)
    }

    /// Notes that there was no room for `what`, and gives the ballast back. True when the store became short.
    pub fn note_full(&self, what: &str, error: &io::Error) -> bool {
        let mut inner = self.lock();
        inner.misses += 1;
        let is_new = inner.short.is_none();
        if is_new {
            let why = format!("no room for {what}: {error}");
            tracing::warn!(
                reason = %why,
                "the disk is full: nothing is added until it has room again; reads and deletes go on"
            );
            inner.short = Some(why);
            self.is_short.store(true, Ordering::Release);
        }
        if inner.ballast != Ballast::Gone {
            self.drop_ballast(&mut inner);
        }
        is_new
    }

    /// How often there was no room so far, for [`Space::relax`].
    pub fn misses(&self) -> u64 {
        self.lock().misses
    }

    /// Notes whether rows wait for room in the index.
    pub fn set_index_waits(&self, waits: bool) {
        self.lock().index_waits = waits;
    }

    /// Whether rows wait for room in the index.
    pub fn index_waits(&self) -> bool {
        self.lock().index_waits
    }

    /// Makes the ballast when there is none. True when it did.
    pub fn make_ballast(&self) -> io::Result<bool> {
        let mut inner = self.lock();
        if self.ballast_bytes == 0 && inner.ballast == Ballast::Unknown {
            self.drop_ballast(&mut inner);
        }
        if self.ballast_bytes == 0 || inner.ballast == Ballast::There {
            return Ok(false);
        }
        let misses = inner.misses;
        drop(inner);
        let filled = self.fill_ballast();
        let mut inner = self.lock();
        // Somebody may have found no room meanwhile, and counts on it.
        let is_kept = filled.is_ok() && inner.misses == misses;
        match is_kept {
            true => inner.ballast = Ballast::There,
            false => self.drop_ballast(&mut inner),
        }
        filled.map(|()| is_kept)
    }

    fn fill_ballast(&self) -> io::Result<()> {
        let file = match self.disk.open(BALLAST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(BALLAST)?,
            opened => opened?,
        };
        if file.len()? > self.ballast_bytes {
            file.set_len(self.ballast_bytes)?;
        }
        file.allocate(self.ballast_bytes)?;
        self.disk.sync_dir("")
    }

    fn drop_ballast(&self, inner: &mut Inner) {
        match give_back(&*self.disk) {
            Ok(_) => inner.ballast = Ballast::Gone,
            Err(error) => {
                inner.ballast = Ballast::Unknown;
                tracing::warn!(%error, "the ballast could not be removed");
            }
        }
    }

    /// Ends the shortness if the reserve is complete and nothing was without room since `misses`. The caller
    /// knows of a log file made ahead.
    pub fn relax(&self, misses: u64) {
        let mut inner = self.lock();
        let has_ballast = self.ballast_bytes == 0 || inner.ballast == Ballast::There;
        if inner.short.is_none() || inner.misses != misses || inner.index_waits || !has_ballast {
            return;
        }
        if planted::is(Bug::StayShort) {
            return;
        }
        inner.short = None;
        self.is_short.store(false, Ordering::Release);
        tracing::info!("the disk has room again: writes go on");
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }
}

/// Removes the ballast. True when there was one.
pub fn give_back(disk: &dyn Disk) -> io::Result<bool> {
    match disk.unlink(BALLAST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir("").map(|()| true),
    }
}

#[cfg(test)]
mod tests;

//! Locks, condition variables and threads of everything that threads share: the standard library's own, or
//! under `--cfg shuttle` those of the crate shuttle, whose threads run one at a time in an order that follows
//! from a seed. `build.rs` sets it when the build has the feature `shuttle` and `JAY_SHUTTLE=1` in its
//! environment; `interleavings` are the tests. In every other build this file is a list of re-exports.
//!
//! Absent: `Arc`, `OnceLock` and what one thread has for itself, which are the same in both.

#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, atomic},
    thread,
};

#[cfg(shuttle)]
pub(crate) use self::scheduled::{Condvar, Mutex, MutexGuard};
#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{RwLock, RwLockReadGuard, atomic},
    thread,
};

use tokio::sync::oneshot;

/// Waits for an answer, on a thread that may.
pub(crate) fn receive<T>(answer: oneshot::Receiver<T>) -> Result<T, oneshot::error::RecvError> {
    #[cfg(not(shuttle))]
    return answer.blocking_recv();
    #[cfg(shuttle)]
    shuttle::future::block_on(answer)
}

/// A moment at which another thread may run although no lock is taken, for the tests.
#[inline(always)]
pub(crate) fn point() {
    #[cfg(shuttle)]
    thread::sleep(std::time::Duration::ZERO);
}

/// One deliberate race. Only threads can have them, so the crash simulator, which has none, cannot find them,
/// and the tests of `interleavings` must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Race {
    /// A transaction comes into the queue and the committer is not told.
    ArriveUnheard,
    /// The queue takes transactions when it is closed already.
    ArriveLate,
    /// A reader looks into the index first and into the overlay afterwards.
    IndexFirst,
    /// A generation is dropped before the index has it.
    DropFirst,
    /// The applier freezes while the committer decides.
    FreezeAnyTime,
    /// A reader looks for the parts before it holds them.
    HoldLate,
    /// The last reader looks whether the parts wait for the collector before it lets go of them.
    AskFirst,
    /// A body is moved although its row has changed since the collector read it.
    MoveBlindly,
    /// The sweep takes files that are still to get their rows.
    SweepFlying,
    /// Who links a file contents himself with the sync of its directory that is running already.
    JoinRunningSync,
    /// Those who wait for the sync of a directory are not told that it has ended.
    EndUnheard,
}

/// True when `race` was planted.
#[inline(always)]
pub(crate) fn has(race: Race) -> bool {
    #[cfg(shuttle)]
    return scheduled::PLANTED.get() == Some(race);
    #[cfg(not(shuttle))]
    {
        let _ = race;
        false
    }
}

#[cfg(all(test, shuttle))]
pub(crate) use self::scheduled::plant;

#[cfg(shuttle)]
mod scheduled {
    //! What shuttle lacks: waits that time out.

    use std::{
        cell::Cell,
        ops::{Deref, DerefMut},
        sync::{LockResult, PoisonError},
        time::Duration,
    };

    use super::Race;

    thread_local! {
        /// Of the thread of the test: shuttle's own threads all run on it.
        pub(super) static PLANTED: Cell<Option<Race>> = const { Cell::new(None) };
    }

    /// Chooses the race of the tests that this thread runs.
    #[cfg(test)]
    pub(crate) fn plant(race: Option<Race>) {
        PLANTED.set(race);
    }

    /// A shorter patience may end at any moment, as if the clock had jumped; a longer one never does, so that
    /// whoever should have been woken and was not is found asleep.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// As the standard library's.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    /// As the standard library's; it knows its mutex, so that a wait can let go of it and take it again.
    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        guard: shuttle::sync::MutexGuard<'a, T>,
        mutex: &'a Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            self.guarded(self.0.lock())
        }

        fn guarded<'a>(
            &'a self,
            locked: LockResult<shuttle::sync::MutexGuard<'a, T>>,
        ) -> LockResult<MutexGuard<'a, T>> {
            let mutex = self;
            match locked {
                Ok(guard) => Ok(MutexGuard { guard, mutex }),
                Err(poisoned) => Err(PoisonError::new(MutexGuard {
                    guard: poisoned.into_inner(),
                    mutex,
                })),
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    /// As the standard library's, but for [`PATIENCE`].
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(shuttle::sync::Condvar);

    /// Whether a wait has timed out.
    pub(crate) type TimedOut = bool;

    impl Condvar {
        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn wait<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
        ) -> LockResult<MutexGuard<'a, T>> {
            let MutexGuard { guard, mutex } = guard;
            mutex.guarded(self.0.wait(guard))
        }

        pub(crate) fn wait_timeout<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            patience: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, TimedOut)> {
            let timed_out = patience < PATIENCE;
            let woken = if timed_out {
                let mutex = guard.mutex;
                drop(guard);
                shuttle::thread::yield_now();
                mutex.lock()
            } else {
                self.wait(guard)
            };
            match woken {
                Ok(guard) => Ok((guard, timed_out)),
                Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), timed_out))),
            }
        }

        pub(crate) fn wait_timeout_while<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            patience: Duration,
            mut condition: impl FnMut(&mut T) -> bool,
        ) -> LockResult<(MutexGuard<'a, T>, TimedOut)> {
            let mut timed_out = false;
            while condition(&mut guard) {
                if timed_out {
                    return Ok((guard, true));
                }
                (guard, timed_out) = self.wait_timeout(guard, patience)?;
            }
            Ok((guard, false))
        }
    }
}

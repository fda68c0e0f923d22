//! The session of a client, in which each request is done once, however often it is sent.
//!
//! The server keeps the answer to each until the client says that it has got it: in every request stands the lowest
//! number whose answer is still awaited. A session that was not used for a while is left for a new one, before the server
//! forgets it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use jay_wire::{call, server::SessionInfo};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::error::Result;

/// Requests of a session that may be under way; further ones are sent without, and once.
const PLACES_MAX: usize = 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<State>,
    /// Held while a session is being opened, so that a crowd opens one and not one each.
    opening: AsyncMutex<()>,
}

#[derive(Default)]
enum State {
    #[default]
    None,
    Open(Open),
    /// The server has no sessions.
    Unsupported,
}

struct Open {
    id: Bytes,
    lifetime: Duration,
    used: Instant,
    last: u64,
    awaited: BTreeSet<u64>,
}

impl Open {
    /// Whether the server still knows it for sure when a request comes that takes its time.
    fn is_fresh(&self) -> bool {
        self.used.elapsed() < self.lifetime / 2
    }
}

/// The place of a request in a session. When it is dropped, its answer is awaited no more.
pub(crate) struct Place<'a> {
    sessions: &'a Sessions,
    id: Bytes,
    sequence: u64,
    again: bool,
}

impl Sessions {
    /// A place for the next request; `open` asks the server for a session when there is none. `None` where the server has no
    /// sessions, and when too many requests are under way.
    pub(crate) async fn place(
        &self,
        open: impl Future<Output = Result<Option<SessionInfo>>>,
    ) -> Result<Option<Place<'_>>> {
        if let Some(place) = self.next() {
            return Ok(place);
        }
        let _turn = self.opening.lock().await;
        // Somebody else has opened one meanwhile.
        if let Some(place) = self.next() {
            return Ok(place);
        }
        let state = match open.await? {
            None => State::Unsupported,
            Some(told) => State::Open(Open {
                id: told.id,
                lifetime: Duration::from_millis(told.lifetime_ms.into()),
                used: Instant::now(),
                last: 0,
                awaited: BTreeSet::new(),
            }),
        };
        *self.lock() = state;
        Ok(self.next().flatten())
    }

    /// The next place of the session that is open; `None` when one is to be opened.
    fn next(&self) -> Option<Option<Place<'_>>> {
        let mut state = self.lock();
        let open = match &mut *state {
            State::None => return None,
            State::Unsupported => return Some(None),
            State::Open(open) if !open.is_fresh() => return None,
            State::Open(open) => open,
        };
        if open.awaited.len() >= PLACES_MAX || open.is_too_wide() {
            return Some(None);
        }
        open.last += 1;
        open.used = Instant::now();
        open.awaited.insert(open.last);
        Some(Some(Place {
            sessions: self,
            id: open.id.clone(),
            sequence: open.last,
            again: false,
        }))
    }

    /// The server does not know the session any more.
    fn forget(&self, id: &Bytes) {
        let mut state = self.lock();
        if matches!(&*state, State::Open(open) if open.id == *id) {
            *state = State::None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave these few fields half-changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Whether one that hangs has kept the window from moving for so many that came after it.
    fn is_too_wide(&self) -> bool {
        let first = self.awaited.first().copied();
        first.is_some_and(|first| self.last - first >= 2 * PLACES_MAX as u64)
    }
}

impl Place<'_> {
    /// What the server is told.
    pub(crate) fn envelope(&self) -> call::Session {
        let lowest = match &*self.sessions.lock() {
            State::Open(open) if open.id == self.id => open.awaited.first().copied(),
            _ => None,
        };
        call::Session {
            id: self.id.clone(),
            sequence: self.sequence,
            lowest: lowest.unwrap_or(self.sequence).min(self.sequence),
            again: self.again,
        }
    }

    /// The request is about to be sent once more.
    pub(crate) fn comes_again(&mut self) {
        self.again = true;
    }

    /// Whether it was sent before.
    pub(crate) fn is_again(&self) -> bool {
        self.again
    }

    /// The server does not know the session any more: later requests are sent in another one.
    pub(crate) fn is_unknown(&self) {
        self.sessions.forget(&self.id);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let State::Open(open) = &mut *self.sessions.lock()
            && open.id == self.id
        {
            open.awaited.remove(&self.sequence);
            open.used = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn place(sessions: &Sessions) -> Place<'_> {
        let open = async {
            Ok(Some(SessionInfo {
                id: Bytes::from_static(b"one"),
                lifetime_ms: 1000,
            }))
        };
        sessions.place(open).await.unwrap().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_lowest_number_is_the_first_that_is_awaited() {
        let sessions = Sessions::default();
        let (first, second) = (place(&sessions).await, place(&sessions).await);
        let told = |place: &Place<'_>| (place.envelope().sequence, place.envelope().lowest);
        assert_eq!((told(&first), told(&second)), ((1, 1), (2, 1)));
        drop(first);
        let mut third = place(&sessions).await;
        assert_eq!((told(&second), told(&third)), ((2, 2), (3, 2)));
        third.comes_again();
        assert!(third.envelope().again && !second.envelope().again);
        tokio::time::advance(Duration::from_millis(600)).await;
        // Another session, though it has the same name here.
        assert_eq!(told(&place(&sessions).await), (1, 1));
    }

    #[tokio::test]
    async fn a_server_without_sessions_is_asked_once() {
        let sessions = Sessions::default();
        for times in [1, 0] {
            let mut asked = 0;
            let open = async {
                asked += 1;
                Ok(None)
            };
            assert!(sessions.place(open).await.unwrap().is_none());
            assert_eq!(asked, times);
        }
    }

    #[tokio::test]
    async fn one_that_hangs_does_not_let_the_window_grow() {
        let sessions = Sessions::default();
        let hanging = place(&sessions).await;
        let mut places = 0;
        while let Some(Some(place)) = sessions.next() {
            drop(place);
            places += 1;
        }
        assert_eq!(places, 2 * PLACES_MAX);
        drop(hanging);
        assert!(sessions.next().flatten().is_some());
    }
}

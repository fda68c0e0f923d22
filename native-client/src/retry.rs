//! When a request is sent again: only where that does no harm, after a pause that is never the same for two clients, and
//! within a budget, so that a server in trouble is not drowned by those who try again.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use jay_wire::Retry;

use crate::{
    error::{Error, Result},
    options::Options,
};

/// What may be sent again though nobody knows whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safety {
    /// Reads, and what does the same when it is done twice, whatever others do in between.
    Repeatable,
    /// Everything else: only when it is certain that it was not done.
    Once,
    /// What the server does once in a session, however often it comes; without one as [`Safety::Once`].
    InSession,
}

/// Retries that all requests of a client may make together, in hundredths.
pub(crate) struct Budget {
    left: AtomicI64,
    percent: i64,
}

/// Retries that are allowed when there was no traffic before, in hundredths; and the most that is saved.
const RESERVE: i64 = 10 * 100;

impl Budget {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            left: AtomicI64::new(RESERVE),
            percent: options.retry_budget.into(),
        }
    }

    /// A request was sent for the first time.
    fn earn(&self) {
        let more = |left: i64| Some((left + self.percent).min(RESERVE));
        let _ = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether another one may be sent again.
    fn spend(&self) -> bool {
        let less = |left: i64| (left >= 100).then_some(left - 100);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

/// The attempts of one request.
pub(crate) struct Attempts<'a> {
    options: &'a Options,
    budget: &'a Budget,
    safety: Safety,
    made: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(options: &'a Options, budget: &'a Budget, safety: Safety) -> Self {
        budget.earn();
        Self {
            options,
            budget,
            safety,
            made: 0,
        }
    }

    /// Waits until the request may be sent again; or gives the error back, when it may not.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<()> {
        self.made += 1;
        let error = error.after_attempts(self.made);
        let is_safe = match error.kind().retry() {
            Retry::Never | Retry::Later => false,
            Retry::Soon | Retry::IfIdempotent => error.is_undone() || self.safety != Safety::Once,
        };
        if !is_safe || self.made > self.options.retries || !self.budget.spend() {
            return Err(error);
        }
        let pause = self.length(error.retry_after());
        tracing::debug!(%error, ?pause, attempt = self.made, "a request is sent again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// A random part of a time that doubles, and never less than what the server wants.
    fn length(&self, wanted: Option<Duration>) -> Duration {
        let doubled = 1_u32 << (self.made - 1).min(16);
        let most = (self.options.retry_base * doubled).min(self.options.retry_max);
        let pause = most.mul_f64(random());
        // Those who were sent away together must not come back together.
        wanted.map_or(pause, |wanted| wanted + pause)
    }
}

/// From 0 to 1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_safe_is_sent_again() {
        let (options, budget) = (Options::default(), Budget::new(&Options::default()));
        let lost = || Error::new(ErrorKind::ConnectionLost, "lost");
        let mut once = Attempts::new(&options, &budget, Safety::Once);
        assert!(once.pause(lost()).await.is_err());
        assert!(once.pause(lost().undone()).await.is_ok());
        let hopeless = Error::new(ErrorKind::Unsupported, "").undone();
        assert!(once.pause(hopeless).await.is_err());
        let mut reads = Attempts::new(&options, &budget, Safety::Repeatable);
        for _ in 0..options.retries {
            assert!(reads.pause(lost()).await.is_ok());
        }
        assert_eq!(
            reads.pause(lost()).await.unwrap_err().attempts(),
            options.retries + 1
        );
        let mut missing = Attempts::new(&options, &budget, Safety::Repeatable);
        assert!(
            missing
                .pause(Error::new(ErrorKind::ObjectNotFound, ""))
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_a_budget() {
        let options = Options::default();
        let budget = Budget::new(&options);
        let mut allowed = 0;
        for _ in 0..1000 {
            let mut attempts = Attempts::new(&options, &budget, Safety::Repeatable);
            while attempts
                .pause(Error::new(ErrorKind::Unavailable, ""))
                .await
                .is_ok()
            {
                allowed += 1;
            }
        }
        // One for five, and the reserve.
        assert!((200..=215).contains(&allowed), "{allowed}");
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        let (options, budget) = (Options::default(), Budget::new(&Options::default()));
        let mut attempts = Attempts::new(&options, &budget, Safety::Once);
        for (made, most) in [(1, 100), (2, 200), (4, 800), (30, 5000)] {
            attempts.made = made;
            let longest = (0..200).map(|_| attempts.length(None)).max().unwrap();
            assert!(
                longest <= Duration::from_millis(most) && longest > Duration::from_millis(most / 2)
            );
            assert!(attempts.length(Some(Duration::from_secs(9))) >= Duration::from_secs(9));
        }
    }
}

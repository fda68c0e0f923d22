//! When requests are sent: one after another, or at intended times that do not wait for answers.
//!
//! In the open loop request number `i` is meant to be sent at `i / rate`. A free worker takes the next number, and
//! latency counts from the intended time: when the server stalls, the requests that had to wait for a worker show it.
//! This is what "without coordinated omission" means.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::BenchArgs;

/// How long the last requests may still wait for a worker after the end.
const GRACE: Duration = Duration::from_millis(100);
/// How often the thread that releases requests looks whether it should stop.
const LOOK: Duration = Duration::from_millis(100);
/// When neither an end nor a number of requests is given.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Start, end and rhythm of a load.
pub struct Pace {
    start: Instant,
    warmup: Duration,
    /// Of the measured part.
    duration: Option<Duration>,
    /// Measured requests that may still begin.
    budget: Option<AtomicU64>,
    stopped: AtomicBool,
    open: Option<OpenLoop>,
}

impl Pace {
    /// Starts now.
    pub fn start(args: &BenchArgs) -> Arc<Self> {
        let pace = Arc::new(Self {
            start: Instant::now(),
            warmup: args.warmup,
            duration: args.duration.or(match args.requests {
                Some(_) => None,
                None => Some(DURATION_DEFAULT),
            }),
            budget: args.requests.map(AtomicU64::new),
            stopped: AtomicBool::new(false),
            open: args.rate.map(OpenLoop::new),
        });
        if pace.open.is_some() {
            let releaser = pace.clone();
            // A thread and not a task: a runtime's timers are a millisecond coarse.
            std::thread::spawn(move || releaser.release());
        }
        pace
    }

    /// Waits for the next request's time to come; `None` at the end.
    pub async fn next(&self) -> Option<Turn> {
        let since_start = match &self.open {
            Some(open) => open.next().await?,
            None => self.start.elapsed(),
        };
        let measured = self.start.elapsed() >= self.warmup;
        if self.is_stopped() || self.end().is_some_and(|end| since_start >= end) {
            return None;
        }
        if let Some(budget) = &self.budget
            && measured
            && budget
                .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                .is_err()
        {
            self.stop();
            return None;
        }
        Some(Turn {
            intended: self.start + since_start,
            measured,
        })
    }

    /// Lets no further request begin.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
        if let Some(open) = &self.open {
            open.released.close();
        }
    }

    /// Whether it was stopped before its end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// The measured time, given when the last request was answered.
    pub fn elapsed(&self, last: Option<Instant>) -> Duration {
        let begun = self.start + self.warmup;
        let until_last = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(begun));
        match self.duration {
            Some(duration) if !self.is_stopped() => duration.max(until_last),
            _ => until_last,
        }
    }

    /// Requests whose time had come but that found no free worker until the end.
    pub fn unsent(&self) -> u64 {
        self.open.as_ref().map_or(0, OpenLoop::unsent)
    }

    fn end(&self) -> Option<Duration> {
        self.duration.map(|duration| self.warmup + duration)
    }

    /// Releases requests as their times come. Runs on a thread of its own.
    fn release(&self) {
        let Some(open) = &self.open else { return };
        let total = self.end().map_or(u64::MAX, |end| open.due(end));
        let mut released = 0;
        while released < total && !self.is_stopped() {
            let wait = open.intended(released).saturating_sub(self.start.elapsed());
            if !wait.is_zero() {
                std::thread::sleep(wait.min(LOOK));
            }
            let due = open.due(self.start.elapsed()).min(total);
            open.release(due - released);
            released = due;
        }
        let end = self.end().map_or(Duration::ZERO, |end| end + GRACE);
        while open.unsent() > 0 && self.start.elapsed() < end && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
        open.released.close();
    }
}

/// A request to be sent now.
pub struct Turn {
    /// When it was meant to be sent; its latency counts from here.
    pub intended: Instant,
    /// Whether it counts, or belongs to the warm-up. Decided by when it is sent: under overload a backlog of the warm-up
    /// is what there is to measure.
    pub measured: bool,
}

/// The arithmetic of intended times.
struct OpenLoop {
    rate: f64,
    /// One permit for each request whose time has come and that no worker has taken.
    released: Semaphore,
    released_count: AtomicU64,
    taken_count: AtomicU64,
}

impl OpenLoop {
    fn new(rate: f64) -> Self {
        Self {
            rate,
            released: Semaphore::new(0),
            released_count: AtomicU64::new(0),
            taken_count: AtomicU64::new(0),
        }
    }

    /// When request `number` is meant to be sent, since the start.
    fn intended(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many requests have an intended time before or at `now`.
    fn due(&self, now: Duration) -> u64 {
        (now.as_secs_f64() * self.rate).ceil() as u64
    }

    fn release(&self, count: u64) {
        self.released_count.fetch_add(count, Relaxed);
        self.released.add_permits(count as usize);
    }

    async fn next(&self) -> Option<Duration> {
        self.released.acquire().await.ok()?.forget();
        Some(self.intended(self.taken_count.fetch_add(1, Relaxed)))
    }

    fn unsent(&self) -> u64 {
        self.released_count
            .load(Relaxed)
            .saturating_sub(self.taken_count.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One worker at 100 requests a second, 1 ms each; the server stalls for one second with request 100. The requests
    /// behind it were meant to be sent during the stall, so their latencies fall linearly from a second to nothing; a
    /// clock that starts when the worker sends sees one slow request.
    #[test]
    fn a_stall_is_felt_by_all_who_wait_behind_it() {
        let open = OpenLoop::new(100.0);
        let mut free = Duration::ZERO;
        let (mut intended, mut naive) = (Vec::new(), Vec::new());
        for number in 0..300 {
            let sent = free.max(open.intended(number));
            let service = if number == 100 { 1000 } else { 1 };
            free = sent + Duration::from_millis(service);
            intended.push((free - open.intended(number)).as_millis());
            naive.push((free - sent).as_millis());
        }
        assert_eq!(intended[99..104], [1, 1000, 991, 982, 973]);
        assert_eq!(intended[150], 1000 - 9 * 50);
        assert_eq!(intended[211..214], [1, 1, 1]);
        assert!(intended[100..211].is_sorted_by(|a, b| a >= b));
        assert_eq!(intended.iter().filter(|&&ms| ms > 1).count(), 111);
        assert_eq!(naive.iter().filter(|&&ms| ms > 1).count(), 1);
    }

    #[test]
    fn intended_times_and_what_is_due_agree() {
        let open = OpenLoop::new(250.0);
        assert_eq!(open.intended(0), Duration::ZERO);
        assert_eq!(open.intended(500), Duration::from_secs(2));
        assert_eq!(open.due(Duration::ZERO), 0);
        assert_eq!(open.due(Duration::from_millis(1)), 1);
        assert_eq!(open.due(Duration::from_secs(2)), 500);
    }
}

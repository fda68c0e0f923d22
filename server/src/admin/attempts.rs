//! Wrong tries of the admin token, counted per address.
//!
//! They are told in the log and answered with 429 after a while. The right token always passes: whoever shares an
//! address with a guesser (everybody behind one reverse proxy) is not locked out.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Wrong tries that are answered with 401; further ones with 429.
const FAILURES_MAX: u32 = 5;
/// How long after the last wrong try the count begins anew.
pub(super) const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Most addresses that are remembered.
const ADDRESSES_MAX: usize = 10_000;

/// See the module.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Failures>>);

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// What a wrong try is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The token is wrong.
    Wrong,
    /// It was wrong this often.
    TooOften(u32),
}

impl Attempts {
    /// Notes a wrong try from this address at this time.
    pub(super) fn note(&self, address: IpAddr, now: Instant) -> Verdict {
        let mut known = self.0.lock().expect("no holder panics");
        let is_over = |failures: &Failures| now.duration_since(failures.last) >= WINDOW;
        if known.len() >= ADDRESSES_MAX && !known.contains_key(&address) {
            known.retain(|_, failures| !is_over(failures));
            if known.len() >= ADDRESSES_MAX {
                let oldest = known.iter().min_by_key(|(_, failures)| failures.last);
                let oldest = oldest.map(|(address, _)| *address);
                oldest.map(|address| known.remove(&address));
            }
        }
        let none = Failures {
            count: 0,
            last: now,
        };
        let failures = known.entry(address).or_insert(none);
        if is_over(failures) {
            *failures = none;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        match failures.count {
            count if count > FAILURES_MAX => Verdict::TooOften(count),
            _ => Verdict::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(number).into()
    }

    #[test]
    fn the_sixth_wrong_try_is_one_too_many() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(attempts.note(address(1), start), Verdict::Wrong);
        }
        assert_eq!(attempts.note(address(1), start), Verdict::TooOften(6));
        assert_eq!(attempts.note(address(2), start), Verdict::Wrong);
        let almost = start + WINDOW - Duration::from_secs(1);
        assert_eq!(attempts.note(address(1), almost), Verdict::TooOften(7));
        assert_eq!(attempts.note(address(1), almost + WINDOW), Verdict::Wrong);
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let most = ADDRESSES_MAX as u32;
        for number in 0..=most {
            let at = start + Duration::from_micros(u64::from(number));
            assert_eq!(attempts.note(address(number), at), Verdict::Wrong);
        }
        let known = attempts.0.lock().unwrap();
        assert_eq!(known.len(), ADDRESSES_MAX);
        // The one that was quiet the longest is the one to forget.
        assert!(!known.contains_key(&address(0)) && known.contains_key(&address(most)));
    }
}

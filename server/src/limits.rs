//! How many requests each caller may send: one limiter, shared by all fronts.
//!
//! A front asks [`RateLimiter::check`] once for each request, after the caller's proof and before the work: who has
//! proven a token pays from the token's budget, everybody else (a wrong proof included) from the address's. So
//! nobody can spend the budget of a token without its secret. Absent on purpose: what the refusal looks like.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota};
use jay_engine::Counter;

use crate::config::RateLimit;

/// Most callers whose budgets are kept apart; addresses beyond them share one.
const CALLERS_MAX: usize = 100_000;
/// Bits of an IPv6 address that name a network: whoever has one address there has them all.
const IPV6_NETWORK_BITS: u32 = 64;
/// The longest time in which a whole burst comes back. The limiter counts nanoseconds in 64 bits.
const REFILL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// See the module.
pub struct RateLimiter {
    /// `None`: everybody may send as much as they like.
    budgets: Option<Budgets>,
    refused: Counter,
}

struct Budgets {
    limiter: DefaultKeyedRateLimiter<Caller>,
    retry_after_seconds: u64,
    callers_max: usize,
    /// The callers about whose refusal the log tells already.
    told: Mutex<HashSet<Caller>>,
}

/// Who pays for a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A proven token.
    Token(String),
    /// Nobody, or nobody proven, from this network.
    Address(IpAddr),
    /// Addresses beyond those that are kept apart.
    Others,
}

impl Caller {
    /// Who pays for what comes from `address` without a proof.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & (u128::MAX << (128 - IPV6_NETWORK_BITS));
                Ipv6Addr::from_bits(network).into()
            }
            v4 => v4,
        })
    }
}

/// A request too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When to come again, in seconds; at least 1.
    pub retry_after_seconds: u64,
}

impl RateLimiter {
    /// One that lets each caller send as much; `None`: as much as they like.
    pub fn new(limit: Option<RateLimit>) -> Self {
        Self {
            budgets: limit.and_then(Budgets::new),
            refused: Counter::default(),
        }
    }

    /// Takes one request from the budget of `caller`.
    pub fn check(&self, caller: Caller) -> Result<(), Refused> {
        let Some(budgets) = &self.budgets else {
            return Ok(());
        };
        budgets
            .check(caller)
            .inspect_err(|_| self.refused.increase())
    }

    /// Forgets callers whose budgets are full again. To be called now and then; see [`SWEEP_EVERY`].
    pub fn sweep(&self) {
        if let Some(budgets) = &self.budgets {
            budgets.sweep();
        }
    }

    /// Requests that were refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.value()
    }
}

/// How often [`RateLimiter::sweep`] is worth its while.
pub const SWEEP_EVERY: Duration = Duration::from_secs(300);

impl Budgets {
    fn new(limit: RateLimit) -> Option<Self> {
        let seconds = 1.0 / limit.per_second;
        let longest = REFILL_MAX / limit.burst.get();
        let period = Duration::try_from_secs_f64(seconds).unwrap_or(longest);
        let period = period.clamp(Duration::from_nanos(1), longest);
        let quota = Quota::with_period(period)?.allow_burst(limit.burst);
        Some(Self {
            limiter: DefaultKeyedRateLimiter::keyed(quota),
            retry_after_seconds: seconds.ceil().max(1.0) as u64,
            callers_max: CALLERS_MAX,
            told: Mutex::default(),
        })
    }

    fn check(&self, caller: Caller) -> Result<(), Refused> {
        let caller = match caller {
            Caller::Address(_) if self.limiter.len() >= self.callers_max => Caller::Others,
            caller => caller,
        };
        self.limiter.check_key(&caller).map_err(|_| {
            self.tell(caller);
            Refused {
                retry_after_seconds: self.retry_after_seconds,
            }
        })
    }

    /// Says in the log once for each token that it is refused: its owner sees errors and should find the reason.
    fn tell(&self, caller: Caller) {
        let Caller::Token(token_id) = &caller else {
            return;
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < self.callers_max && !told.contains(&caller) {
            tracing::warn!(
                token_id,
                "requests of this token are refused: it sends more than JAY_RATE_LIMIT (per second) and \
                 JAY_RATE_BURST (at once) allow"
            );
            told.insert(caller);
        }
    }

    fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_second: f64, burst: u32) -> RateLimit {
        let burst = burst.try_into().unwrap();
        RateLimit { per_second, burst }
    }

    fn limiter(per_second: f64, burst: u32) -> RateLimiter {
        RateLimiter::new(Some(limit(per_second, burst)))
    }

    fn token(id: &str) -> Caller {
        Caller::Token(id.into())
    }

    fn allowed(limiter: &RateLimiter, caller: &Caller, tries: usize) -> usize {
        (0..tries)
            .filter(|_| limiter.check(caller.clone()).is_ok())
            .count()
    }

    #[test]
    fn each_caller_has_a_burst_of_its_own() {
        let limiter = limiter(0.001, 3);
        assert_eq!(allowed(&limiter, &token("a"), 5), 3);
        assert_eq!(allowed(&limiter, &token("b"), 5), 3);
        let address = Caller::address("192.0.2.1".parse().unwrap());
        assert_eq!(allowed(&limiter, &address, 5), 3);
        assert_eq!(limiter.refused(), 6);
        // An address that is spelled like a token is not one.
        assert_eq!(allowed(&limiter, &token("192.0.2.1"), 1), 1);
    }

    #[test]
    fn rates_and_bursts_of_every_size_are_understood() {
        let first = |limiter: RateLimiter| allowed(&limiter, &token("t"), 50);
        assert_eq!(first(RateLimiter::new(None)), 50);
        assert_eq!(first(limiter(0.001, 8)), 8);
        assert_eq!(first(limiter(1e-300, 2)), 2);
        assert_eq!(first(limiter(1e300, u32::MAX)), 50);
        assert_eq!(first(limiter(f64::MIN_POSITIVE, 1)), 1);
    }

    #[test]
    fn fractions_come_back_in_their_time() {
        let limiter = limiter(2.5, 1);
        assert_eq!(allowed(&limiter, &token("t"), 2), 1);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(allowed(&limiter, &token("t"), 1), 0, "before 400 ms");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(allowed(&limiter, &token("t"), 2), 1);
    }

    #[test]
    fn who_is_refused_hears_when_to_come_again() {
        for (rate, expected) in [(0.3, 4), (0.5, 2), (1.0, 1), (100.0, 1)] {
            let limiter = limiter(rate, 1);
            let _ = limiter.check(token("t"));
            let refused = limiter.check(token("t")).unwrap_err();
            assert_eq!(refused.retry_after_seconds, expected, "{rate}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller_and_a_mapped_address_is_itself() {
        let caller = |text: &str| Caller::address(text.parse().unwrap());
        assert_eq!(caller("2001:db8::1"), caller("2001:db8::ffff:2"));
        assert_ne!(caller("2001:db8::1"), caller("2001:db8:0:1::1"));
        assert_eq!(caller("::ffff:192.0.2.1"), caller("192.0.2.1"));
    }

    /// Addresses cost an attacker nothing: memory must not follow them.
    #[test]
    fn memory_for_addresses_is_bounded_and_tokens_stay_apart() {
        let mut budgets = Budgets::new(limit(0.001, 2)).unwrap();
        budgets.callers_max = 10;
        for n in 0..100_u32 {
            let _ = budgets.check(Caller::address(std::net::Ipv4Addr::from(n).into()));
        }
        assert_eq!(budgets.limiter.len(), 11, "those kept apart, and the rest");
        let fresh = Caller::address("192.0.2.1".parse().unwrap());
        assert!(budgets.check(fresh).is_err(), "the rest share a budget");
        assert!(budgets.check(token("t")).is_ok());
    }

    #[test]
    fn a_sweep_forgets_only_full_budgets() {
        let budgets = Budgets::new(limit(1000.0, 1)).unwrap();
        let _ = budgets.check(token("t"));
        std::thread::sleep(Duration::from_millis(20));
        budgets.sweep();
        assert!(budgets.limiter.is_empty());
        let budgets = Budgets::new(limit(0.001, 1)).unwrap();
        let _ = budgets.check(token("t"));
        budgets.sweep();
        assert!(budgets.check(token("t")).is_err());
    }
}

//! How often one user may call.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DefaultKeyedStateStore,
};

use crate::{config::RateLimit, token::VerifiedToken};

/// How often each principal may call.
pub(super) struct Rates<C: Clock = DefaultClock> {
    limiter: RateLimiter<u64, DefaultKeyedStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    hasher: RandomState,
}

impl Rates {
    /// Counts every user against `limit`.
    pub(super) fn new(limit: RateLimit) -> Self {
        Self::with_clock(limit, DefaultClock::default())
    }
}

impl<C: Clock> Rates<C> {
    fn with_clock(limit: RateLimit, clock: C) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        Self { limiter: RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock), hasher: RandomState::new() }
    }

    /// Counts one request; the error is how long to wait before the next.
    ///
    /// A user has one limit whatever clients act for them, because anybody can register clients.
    /// A client counts for itself only where the token names no user.
    pub(super) fn check(&self, token: &VerifiedToken) -> Result<(), Duration> {
        let client_id = token.client_id.as_ref().filter(|_| token.subject.is_none());
        // A hash keeps an entry small; two principals that share one share a limit, no more.
        let key = self.hasher.hash_one((&token.issuer, &token.subject, client_id));
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(self.limiter.clock().now()))
    }

    /// Forgets users that have not called for a while.
    pub(super) fn tidy(&self) {
        self.limiter.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::token::Issuer;

    fn token(issuer: &str, subject: Option<&str>, client_id: Option<&str>) -> VerifiedToken {
        VerifiedToken {
            issuer: Issuer::new(issuer),
            subject: subject.map(str::to_owned),
            client_id: client_id.map(str::to_owned),
            email: None,
            scopes: Default::default(),
            expires_at: None,
        }
    }

    /// Two requests per second, three at once.
    fn rates() -> (Rates<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let number = |number| NonZeroU32::new(number).expect("not zero");
        let limit = RateLimit { per_second: number(2), burst: number(3) };
        (Rates::with_clock(limit, clock.clone()), clock)
    }

    #[test]
    fn a_burst_then_the_rate_and_the_wait_that_was_told_is_enough() {
        let (rates, clock) = rates();
        let alice = token("https://as.example", Some("alice"), Some("app"));
        for _ in 0..3 {
            assert_eq!(rates.check(&alice), Ok(()));
        }
        for _ in 0..5 {
            let wait = rates.check(&alice).expect_err("over the limit");
            assert_eq!(wait, Duration::from_millis(500));
            clock.advance(wait);
            rates.tidy();
            assert_eq!(rates.check(&alice), Ok(()));
        }
        clock.advance(Duration::from_secs(60));
        rates.tidy();
        assert_eq!(rates.limiter.len(), 0, "who has not called for long takes no memory");
        assert_eq!((0..9).filter(|_| rates.check(&alice).is_ok()).count(), 3);
    }

    #[test]
    fn a_limit_belongs_to_a_user_whatever_the_client_or_else_to_the_client() {
        let exhausted = token("https://as.example", Some("alice"), Some("app"));
        for (other, shares) in [
            (token("https://as.example", Some("alice"), Some("app")), true),
            (token("https://as.example", Some("alice"), Some("second-app")), true),
            (token("https://as.example", Some("alice"), None), true),
            (token("https://as.example", Some("bob"), Some("app")), false),
            (token("https://other.example", Some("alice"), Some("app")), false),
            (token("https://as.example", None, Some("app")), false),
            (token("https://as.example", None, Some("alice")), false),
        ] {
            let (rates, _clock) = rates();
            while rates.check(&exhausted).is_ok() {}
            assert_eq!(rates.check(&other).is_err(), shares, "{other:?}");
        }
        let (rates, _clock) = rates();
        while rates.check(&token("https://as.example", None, Some("app"))).is_ok() {}
        assert!(rates.check(&token("https://as.example", None, Some("second-app"))).is_ok());
    }
}

//! How often one user may call.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};

use crate::{config::RateLimit, token::VerifiedToken};

/// How often each user may call, through all their clients together: where clients register
/// themselves, one user can have any number of them.
pub(super) struct Rates {
    limiter: DefaultKeyedRateLimiter<u64>,
    hasher: RandomState,
}

impl Rates {
    /// Counts every user against `limit`.
    pub(super) fn new(limit: RateLimit) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        Self { limiter: RateLimiter::keyed(quota), hasher: RandomState::new() }
    }

    /// Counts one request; the error is how long to wait before the next.
    pub(super) fn check(&self, token: &VerifiedToken) -> Result<(), Duration> {
        // A hash keeps an entry small; two users that share one share a limit, no more.
        let key = self.hasher.hash_one((&token.issuer, token.principal()));
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(self.limiter.clock().now()))
    }

    /// Forgets users that have not called for a while.
    pub(super) fn tidy(&self) {
        self.limiter.retain_recent();
    }
}

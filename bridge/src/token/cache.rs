//! Verdicts that are still good.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use moka::sync::Cache;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::{BearerToken, Inactive, Verdict, VerifiedToken, VerifyError};

/// Entries in each of the two caches: a few hundred bytes each, so some megabytes at most.
const MAX_ENTRIES: u64 = 10_000;
/// How long a bad token is remembered: an unknown token does not become a good one, and whoever
/// repeats it costs us nothing meanwhile.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);
/// A token that does not say when it ends is asked about at least this often.
const NO_EXPIRY_TTL: Duration = Duration::from_secs(30);
/// A longer TTL is cut to this: it is the time for which a revoked token goes on working.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// Stands for a token where the token itself must not be kept. Has no `Debug`: it must not be
/// logged either.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenDigest([u8; SHA256_OUTPUT_LEN]);

impl TokenDigest {
    pub(super) fn of(token: &BearerToken) -> Self {
        let digest = digest(&SHA256, token.expose().as_bytes());
        Self(digest.as_ref().try_into().expect("SHA-256 has one length"))
    }
}

/// Good tokens and bad ones, apart, so that a flood of unknown tokens cannot push out a good one.
///
/// Lifetimes are judged by the caller's clock, and by the monotonic clock besides: a clock that is
/// set back does not lengthen them.
pub(super) struct VerdictCache {
    good: Cache<TokenDigest, Good>,
    bad: Cache<TokenDigest, Bad>,
    ttl: Duration,
}

#[derive(Clone)]
struct Good {
    token: Arc<VerifiedToken>,
    until: SystemTime,
}

#[derive(Clone, Copy)]
struct Bad {
    why: Inactive,
    until: SystemTime,
}

impl VerdictCache {
    /// `ttl` is cut to a day.
    pub(super) fn new(ttl: Duration) -> Self {
        let ttl = ttl.min(MAX_TTL);
        Self {
            good: Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(ttl).build(),
            bad: Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(NEGATIVE_TTL).build(),
            ttl,
        }
    }

    /// The verdict on the token that `key` stands for, if it still holds at `now`.
    pub(super) fn look_up(&self, key: &TokenDigest, now: SystemTime) -> Option<Verdict> {
        if let Some(good) = self.good.get(key)
            && now < good.until
        {
            return Some(Ok(good.token));
        }
        let bad = self.bad.get(key)?;
        (now < bad.until).then_some(Err(VerifyError::Inactive(bad.why)))
    }

    /// Keeps `verdict`, which was asked for at `asked`. An outage is not a verdict, and a token
    /// that is not valid yet will be: neither is kept.
    pub(super) fn store(&self, key: TokenDigest, verdict: &Verdict, asked: SystemTime) {
        match verdict {
            Ok(token) => {
                let ttl = if token.expires_at.is_some() { self.ttl } else { self.ttl.min(NO_EXPIRY_TTL) };
                let until = asked + ttl;
                let until = token.expires_at.map_or(until, |end| until.min(end));
                self.good.insert(key, Good { token: Arc::clone(token), until });
            }
            Err(VerifyError::Inactive(Inactive::NotYetValid)) => self.good.invalidate(&key),
            Err(VerifyError::Inactive(why)) => {
                self.good.invalidate(&key);
                self.bad.insert(key, Bad { why: *why, until: asked + NEGATIVE_TTL });
            }
            Err(VerifyError::Unavailable(_)) => {}
        }
    }
}

//! What telemetry may see of token verification.

use std::time::Duration;

/// Told of each event that an operator wants counted. Called on the request's path: it must not
/// block.
pub trait Observer: Send + Sync {
    /// A verdict was looked for in the cache.
    fn cache(&self, _event: CacheEvent) {}

    /// The authorization server was asked about a token, or would have been.
    fn introspected(&self, _result: IntrospectionResult, _took: Duration) {}

    /// The authorization server's signing keys were fetched, or could not be.
    fn keys_fetched(&self, _fetched: bool, _took: Duration) {}
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// How a verdict was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheEvent {
    /// From the cache.
    Hit,
    /// By a question of its own.
    Miss,
    /// By a question that somebody else had already asked.
    Coalesced,
}

/// How one introspection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntrospectionResult {
    /// The token is good here.
    Active,
    /// The token is not good here.
    Inactive,
    /// The authorization server was asked and gave no usable answer.
    Unavailable,
    /// The authorization server refused our own client credentials.
    CredentialsRefused,
    /// The authorization server was not asked: too many failures or too many questions.
    NotAsked,
}

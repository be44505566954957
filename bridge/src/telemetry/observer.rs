//! Token verification, counted.

use std::time::Duration;

use crate::{
    telemetry::{
        labels::{self, IntrospectionOutcome, KeyFetchOutcome},
        metrics::Metrics,
    },
    token::observer::{CacheEvent, IntrospectionResult, Observer},
};

impl Observer for Metrics {
    fn cache(&self, event: CacheEvent) {
        self.cache(match event {
            CacheEvent::Hit => labels::CacheEvent::Hit,
            CacheEvent::Miss => labels::CacheEvent::Miss,
            CacheEvent::Coalesced => labels::CacheEvent::Coalesced,
        });
    }

    fn introspected(&self, result: IntrospectionResult, took: Duration) {
        let outcome = match result {
            IntrospectionResult::Active => IntrospectionOutcome::Active,
            IntrospectionResult::Inactive => IntrospectionOutcome::Inactive,
            IntrospectionResult::Unavailable => IntrospectionOutcome::Unavailable,
            IntrospectionResult::CredentialsRefused => IntrospectionOutcome::Unauthorized,
            IntrospectionResult::NotAsked => IntrospectionOutcome::NotAsked,
        };
        self.introspection(outcome, took);
    }

    fn keys_fetched(&self, fetched: bool, _took: Duration) {
        self.key_fetch(if fetched { KeyFetchOutcome::Fetched } else { KeyFetchOutcome::Failed });
    }
}

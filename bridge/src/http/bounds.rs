//! What one user may take, whatever endpoints they call.

use std::sync::Arc;

use crate::{
    config::Limits,
    http::{places::Places, rates::Rates},
};

/// The shares of users, common to all endpoints: who calls two of them gets no more than who calls
/// one.
#[derive(Clone)]
pub struct Bounds {
    pub(super) places: Arc<Places>,
    pub(super) rates: Option<Arc<Rates>>,
}

impl Bounds {
    /// The bounds that `limits` say. `tell_apart`: whether principals are told apart, and each is
    /// bounded for the sake of the others.
    pub fn new(limits: &Limits, tell_apart: bool) -> Self {
        Self {
            places: Arc::new(Places::new(limits.max_concurrent_requests, tell_apart)),
            rates: limits.rate_limit.filter(|_| tell_apart).map(|limit| Arc::new(Rates::new(limit))),
        }
    }

    /// Forgets users that have not called for a while.
    pub(super) fn tidy(&self) {
        if let Some(rates) = &self.rates {
            rates.tidy();
        }
    }
}

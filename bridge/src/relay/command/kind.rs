//! As what a child is opened, and what it said then.

use std::sync::Arc;

use bytes::Bytes;

use crate::relay::translate::capabilities::profile;

/// A longer description of a client's capabilities is not remembered, nor is a child that was opened with
/// it: no client needs as much, and memory would be what anybody can fill.
const PROFILE_KEPT_MAX: usize = 4096;

/// As what a child is opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// It has answered `server/discover`.
    Modern,
    /// It was initialised for clients with these capabilities, in canonical spelling.
    Legacy(Arc<str>),
    /// It has not heard anything yet: a legacy client will initialise it.
    Blank,
}

impl Kind {
    /// A legacy server for clients with these capabilities.
    pub(super) fn legacy(capabilities: &str) -> Self {
        Self::Legacy(profile(capabilities).into())
    }

    /// Whether what a client says about itself is in it.
    pub(super) fn is_a_clients_own(&self) -> bool {
        matches!(self, Self::Legacy(_)) && *self != Self::legacy("{}")
    }

    /// Whether a child of this kind may be kept for later requests.
    pub(super) fn can_be_kept(&self) -> bool {
        !matches!(self, Self::Legacy(profile) if profile.len() > PROFILE_KEPT_MAX)
    }
}

/// What a server said when it was opened.
#[derive(Clone, Debug)]
pub(super) enum Opening {
    /// Nothing was asked yet: its client will.
    Blank,
    /// Its `server/discover` result.
    Modern(Bytes),
    /// Its `initialize` result.
    Legacy(Bytes),
}

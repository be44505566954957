//! Which scopes the user was asked for lately: one who has not consented to them, or a server that wants
//! them all the same, is no reason to open a tab at every request.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::sync::Locked as _;

/// How long nobody is asked for the same again: as after a sign-in that failed.
const COOLING: Duration = Duration::from_secs(300);

/// How many different ones there may be in that time. No honest server has near as many refusals for one
/// user; one that makes up names could have tabs opened for ever.
const ASKED_MAX: usize = 8;

/// What was asked for, and when.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Vec<(Vec<String>, Instant)>>);

impl Asked {
    /// Whether the user may be asked for `scopes`, which are sorted.
    pub(super) fn may_ask(&self, scopes: &[String], now: Instant) -> bool {
        let mut asked = self.0.locked();
        asked.retain(|(_, at)| now.saturating_duration_since(*at) < COOLING);
        asked.len() < ASKED_MAX && !asked.iter().any(|(known, _)| known == scopes)
    }

    /// Remembers that the user was asked for `scopes`, which are sorted.
    pub(super) fn note(&self, scopes: Vec<String>, now: Instant) {
        self.0.locked().push((scopes, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_the_same_twice_nor_for_ever_more() {
        let (asked, start) = (Asked::default(), Instant::now());
        let scopes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(asked.may_ask(&scopes(&["a"]), start));
        asked.note(scopes(&["a"]), start);
        let soon = start + Duration::from_secs(299);
        assert!(!asked.may_ask(&scopes(&["a"]), soon));
        assert!(asked.may_ask(&scopes(&["a", "b"]), soon) && asked.may_ask(&[], soon));
        for number in 1..ASKED_MAX {
            let other = scopes(&[&number.to_string()]);
            assert!(asked.may_ask(&other, soon));
            asked.note(other, soon);
        }
        assert!(!asked.may_ask(&scopes(&["another"]), soon));
        assert!(asked.may_ask(&scopes(&["a"]), start + COOLING), "after a while it is worth another try");
    }
}

//! When tokens are renewed, and by whom.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use subtle::ConstantTimeEq as _;
use tokio::time;

use super::{Current, Inner, LOOK_EVERY, RefreshError, SessionError, SignedIn, State, TRY_AGAIN, Unsaved, is_within};
use crate::{
    login::{
        record::{Record, Slot},
        store::{Entry, Guard, Purpose, Store, StoreError},
    },
    secret::Secret,
};

/// Before a token's end: more than a request takes, and what clocks differ by.
const MARGIN: Duration = Duration::from_secs(60);
/// Longer than all deadlines of one request to a token endpoint.
const REFRESH_PATIENCE: Duration = Duration::from_secs(60);
/// For another process's renewal, with its reading and writing.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);
/// A token that is refused so soon after it was issued was never going to be accepted.
const NEW: Duration = Duration::from_secs(60);

/// The same for who cannot go on: a person is waiting.
const TRY_AGAIN_SOON: Duration = Duration::from_secs(5);

const RECENTLY: &str = "it could not be asked a moment ago";
const ENDED: &str = "its token has ended, and there is no refresh token";
const REFUSED: &str = "the server refuses its token, and there is no refresh token";
const REFUSED_NEW: &str = "the server refuses a token that was issued just now";
const GONE: &str = "another program has signed this user out";
const LOST: &str = "its tokens are not any more where they were kept";

impl Current {
    pub(super) fn new(entry: Entry, record: Record) -> Self {
        let Entry { generation, family, saved_at, .. } = entry;
        Self { record: Arc::new(record), generation, family, saved_at, unsaved: None }
    }

    /// When the token ends, if its authorization server said something that can be: a token that
    /// ended before it was issued is used until it is refused.
    fn end(&self) -> Option<SystemTime> {
        self.record.expires_at.filter(|end| *end > self.saved_at)
    }

    pub(super) fn has_ended(&self, now: SystemTime) -> bool {
        self.end().is_some_and(|end| now >= end)
    }

    /// Whether something has to be done about the token.
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        let Some(end) = self.end() else { return false };
        if self.record.refresh_token.is_none() {
            return now >= end;
        }
        let life = end.duration_since(self.saved_at).unwrap_or_default();
        let margin = MARGIN.min(life / 2);
        // Addition can leave the calendar of the platform; subtraction from the end of the life cannot.
        now.checked_add(margin).is_none_or(|soon| soon >= end)
    }

    fn has(&self, token: &Secret<String>) -> bool {
        self.record.access_token.expose().as_bytes().ct_eq(token.expose().as_bytes()).into()
    }

    /// Whether it can be used, given that `refused` was not accepted.
    fn is_good(&self, refused: Option<&Secret<String>>, now: SystemTime) -> bool {
        match refused {
            Some(refused) => !self.has(refused) && !self.has_ended(now),
            None => !self.is_due(now),
        }
    }
}

impl Inner {
    /// A token that is good: the one that is known, another process's, or a renewed one.
    pub(super) async fn renew(
        self: Arc<Self>,
        refused: Option<Secret<String>>,
    ) -> Result<Option<Arc<Current>>, SessionError> {
        let refused = refused.as_ref();
        self.look(refused.is_some()).await?;
        let current = match self.state().signed_in.clone() {
            SignedIn::Yes(current) => current,
            SignedIn::NoMore(reason) => return Err(self.signed_out(reason)),
            SignedIn::Never | SignedIn::Unread => return Ok(None),
        };
        let now = self.now();
        if current.is_good(refused, now) {
            return Ok(Some(current));
        }
        if let Some(refused) = refused
            && current.has(refused)
            && is_within(current.saved_at, now, NEW)
        {
            return Err(self.sign_in_needed(REFUSED_NEW));
        }
        if current.record.refresh_token.is_none() {
            return Err(self.sign_in_needed(if refused.is_some() { REFUSED } else { ENDED }));
        }
        if self.state().renew_after.is_some_and(|after| now < after) {
            let is_usable = refused.is_none() && !current.has_ended(now);
            return if is_usable { Ok(Some(current)) } else { Err(SessionError::Unavailable(RECENTLY.to_owned())) };
        }
        self.renew_alone(refused, &current).await.map(Some)
    }

    /// Renews as the only one of all processes.
    async fn renew_alone(
        self: &Arc<Self>,
        refused: Option<&Secret<String>>,
        known: &Arc<Current>,
    ) -> Result<Arc<Current>, SessionError> {
        let is_usable = || refused.is_none() && !known.has_ended(self.now());
        // Without the lock, or with a refresh token that another process has used already, two
        // processes can end each other's sign-in: rather none renews.
        let (_alone, current) = match self.lock_newest(known).await {
            Ok(newest) => newest,
            Err(SessionError::Store(error)) if is_usable() => {
                tracing::warn!(%error, "the tokens are not renewed now; the old ones are still good");
                return Ok(self.wait_with(known, TRY_AGAIN));
            }
            Err(error) => return Err(error),
        };
        if current.is_good(refused, self.now()) {
            return Ok(current);
        }
        // Another process's newest token can be one that cannot be renewed.
        if current.record.refresh_token.is_none() {
            return Err(self.sign_in_needed(ENDED));
        }
        let renewed = time::timeout(REFRESH_PATIENCE, self.refresh.refresh(&current.record)).await;
        let renewed = renewed.unwrap_or_else(|_| Err(RefreshError::Unavailable("it has not answered".to_owned())));
        match renewed {
            Ok(record) => self.adopt_renewed(&current, record).await,
            Err(error @ RefreshError::Rejected(_)) => Err(self.forget(&current, error.to_string()).await),
            Err(error) if refused.is_none() && !current.has_ended(self.now()) => {
                tracing::warn!(%error, "the tokens could not be renewed; the old ones are still good");
                Ok(self.wait_with(&current, TRY_AGAIN))
            }
            // Kept, it would have the next sign-in ask as the client that is not known.
            Err(error @ RefreshError::UnknownClient(_)) => Err(self.forget(&current, error.to_string()).await),
            Err(RefreshError::Unavailable(reason)) => {
                self.wait_with(&current, TRY_AGAIN_SOON);
                Err(SessionError::Unavailable(reason))
            }
        }
    }

    /// Uses and keeps renewed tokens, unless the user has signed out or in again meanwhile.
    async fn adopt_renewed(self: &Arc<Self>, current: &Current, record: Record) -> Result<Arc<Current>, SessionError> {
        let (record, from, now) = (Arc::new(record), current.generation.clone(), self.now());
        let saved = {
            let (record, from) = (Arc::clone(&record), from.clone());
            self.with_store(move |store, slot| store.save_renewed(slot, &record, now, &from)).await
        };
        match saved.transpose() {
            // What could not be kept is used all the same, and has been logged.
            Some(saved) => self.use_saved(record, now, saved, Unsaved::Tokens),
            None => self.look(true).await?,
        }
        match self.state().signed_in.clone() {
            SignedIn::Yes(current) => Ok(current),
            _ => Err(self.signed_out(GONE)),
        }
    }

    /// The right to renew, and the newest of all that this user has.
    async fn lock_newest(self: &Arc<Self>, known: &Arc<Current>) -> Result<(Guard, Arc<Current>), SessionError> {
        let alone = self.lock(Purpose::Refresh, LOCK_PATIENCE).await?;
        // The tokens themselves, not only how they are listed: a process that was killed between writing
        // the two has used the refresh token that is known here, and kept its successor.
        let kept = self.with_store(|store, slot| store.load_with_entry(slot)).await?;
        if let Some((entry, record)) = kept
            && entry.generation == known.generation
        {
            if known.unsaved.is_some() || same_tokens(&record, &known.record) {
                return Ok((alone, Arc::clone(known)));
            }
            let newest = Arc::new(Current::new(entry, record));
            self.state().signed_in = SignedIn::Yes(Arc::clone(&newest));
            return Ok((alone, newest));
        }
        self.look(true).await?;
        let state = self.state();
        match (&state.signed_in, &state.store_failed) {
            (SignedIn::Yes(current), None) => Ok((alone, Arc::clone(current))),
            (SignedIn::Yes(_), Some((_, error))) => Err(Arc::clone(error).into()),
            (SignedIn::NoMore(reason), _) => Err(self.signed_out(reason.clone())),
            _ => Err(self.signed_out(GONE)),
        }
    }

    /// Does not try again at every call.
    fn wait_with(&self, current: &Arc<Current>, span: Duration) -> Arc<Current> {
        self.state().renew_after = self.now().checked_add(span);
        Arc::clone(current)
    }

    /// Forgets a sign-in that its authorization server has ended.
    async fn forget(self: &Arc<Self>, current: &Current, reason: String) -> SessionError {
        let generation = current.generation.clone();
        let why = reason.clone();
        let forgotten = self.with_store(move |store, slot| store.end(slot, &generation, &why)).await;
        match forgotten {
            // The user has signed in again meanwhile: the next look finds it.
            Ok(false) => return SessionError::Unavailable("it has just been replaced".to_owned()),
            Ok(true) => {}
            Err(error) => tracing::warn!(%error, "a sign-in that has ended could not be deleted"),
        }
        self.state().signed_in = SignedIn::NoMore(reason.clone());
        self.signed_out(reason)
    }

    fn sign_in_needed(&self, reason: &'static str) -> SessionError {
        SessionError::SignInNeeded { reason, command: self.command.clone() }
    }

    /// Reads the store if another process may have changed it; `at_once` even if it was just read.
    pub(super) async fn look(self: &Arc<Self>, at_once: bool) -> Result<(), SessionError> {
        let now = self.now();
        let (known, usable) = {
            let state = self.state();
            if let Some((failed_at, error)) = &state.store_failed
                && is_within(*failed_at, now, if error.has_asked() { TRY_AGAIN } else { LOOK_EVERY })
            {
                let usable = matches!(state.signed_in, SignedIn::Yes(_));
                return if usable { Ok(()) } else { Err(Arc::clone(error).into()) };
            }
            if !at_once && state.looked_at.is_some_and(|looked| is_within(looked, now, LOOK_EVERY)) {
                return Ok(());
            }
            let read = !matches!(state.signed_in, SignedIn::Unread);
            let usable = match &state.signed_in {
                SignedIn::Yes(current) => Some(Arc::clone(current)),
                _ => None,
            };
            (state.stamp.filter(|_| read), usable)
        };
        let generation = usable.as_ref().map(|current| current.generation.clone());
        let found = self
            .with_store(move |store, slot| {
                // Before reading: what changes meanwhile is seen by the next look.
                let stamp = store.stamp();
                if !at_once && known == Some(stamp) {
                    return Ok((stamp, Found::Same));
                }
                let listed = store.find(slot)?.map(|entry| entry.generation);
                if known.is_some() && listed.is_some() && listed == generation {
                    return Ok((stamp, Found::Same));
                }
                Ok((stamp, Found::read(store, slot)?))
            })
            .await;
        match found {
            Ok((stamp, found)) => self.state().see(now, stamp, found),
            Err(error) => {
                self.state().store_failed = Some((now, Arc::clone(&error)));
                if usable.is_none() {
                    return Err(error.into());
                }
                tracing::warn!(%error, "the kept sign-in cannot be read; the one in use goes on");
            }
        }
        self.keep_unsaved().await;
        Ok(())
    }

    /// Tries again to keep what could not be kept.
    async fn keep_unsaved(self: &Arc<Self>) {
        let unsaved = match &self.state().signed_in {
            SignedIn::Yes(current) if current.unsaved.is_some() => Arc::clone(current),
            _ => return,
        };
        let now = self.now();
        if is_within(unsaved.saved_at, now, TRY_AGAIN) {
            return;
        }
        let kept = Arc::clone(&unsaved);
        let saved = self
            .with_store(move |store, slot| {
                let _alone = store.lock(slot, Purpose::Refresh, Instant::now())?;
                match kept.unsaved {
                    Some(Unsaved::SignIn) => store.save_late(slot, &kept.record, kept.saved_at, &kept.family),
                    _ => store.save_renewed(slot, &kept.record, kept.saved_at, &kept.generation),
                }
            })
            .await;
        match saved {
            // Another process has got newer ones, which the next look finds.
            Ok(None) => {}
            Ok(Some(entry)) => {
                let kept = Current::new(entry, Record::clone(&unsaved.record));
                self.state().signed_in = SignedIn::Yes(Arc::new(kept));
            }
            // Somebody else is writing.
            Err(error) if matches!(*error, StoreError::Contended(_)) => {}
            Err(error) => self.state().store_failed = Some((now, error)),
        }
    }
}

fn same_tokens(one: &Record, other: &Record) -> bool {
    let same = |one: &Secret<String>, other: &Secret<String>| {
        bool::from(one.expose().as_bytes().ct_eq(other.expose().as_bytes()))
    };
    let same_refresh = match (&one.refresh_token, &other.refresh_token) {
        (Some(one), Some(other)) => same(one, other),
        (one, other) => one.is_none() && other.is_none(),
    };
    same_refresh && same(&one.access_token, &other.access_token)
}

/// What a look into the store found.
enum Found {
    Same,
    Other(Box<Current>),
    /// There was one, and its user has not ended it.
    Ended(String),
    None,
}

impl Found {
    fn read(store: &Store, slot: &Slot) -> Result<Self, StoreError> {
        if let Some(found) = store.load_with_entry(slot)? {
            return Ok(Self::other(found));
        }
        if let Some(ended) = store.ended(slot)? {
            return Ok(Self::Ended(ended.reason));
        }
        if store.find(slot)?.is_none() {
            return Ok(Self::None);
        }
        // It has come this moment, or somebody has deleted its secrets with another tool.
        Ok(store.load_with_entry(slot)?.map_or_else(|| Self::Ended(LOST.to_owned()), Self::other))
    }

    fn other((entry, record): (Entry, Record)) -> Self {
        Self::Other(Box::new(Current::new(entry, record)))
    }
}

impl State {
    fn see(&mut self, now: SystemTime, stamp: super::Stamp, found: Found) {
        self.looked_at = Some(now);
        self.stamp = Some(stamp);
        self.store_failed = None;
        match (found, &self.signed_in) {
            (Found::Same, _) => {}
            // Another process has only renewed what the user's new sign-in replaces.
            (Found::Other(other), SignedIn::Yes(current))
                if current.unsaved == Some(Unsaved::SignIn) && other.family == current.family =>
            {
                let (record, saved_at) = (Arc::clone(&current.record), current.saved_at);
                let Current { generation, family, .. } = *other;
                let unsaved = Some(Unsaved::SignIn);
                self.signed_in = SignedIn::Yes(Arc::new(Current { record, generation, family, saved_at, unsaved }));
            }
            (Found::Other(other), _) => {
                self.signed_in = SignedIn::Yes(Arc::new(*other));
                self.renew_after = None;
            }
            // It was never kept, so nobody can have deleted it.
            (Found::None | Found::Ended(_), SignedIn::Yes(current)) if current.unsaved.is_some() => {}
            (Found::Ended(_), SignedIn::NoMore(_)) => {}
            (Found::Ended(reason), _) => self.signed_in = SignedIn::NoMore(reason),
            (Found::None, SignedIn::Yes(_)) => self.signed_in = SignedIn::NoMore(GONE.to_owned()),
            (Found::None, SignedIn::Unread) => self.signed_in = SignedIn::Never,
            (Found::None, SignedIn::Never | SignedIn::NoMore(_)) => {}
        }
    }
}

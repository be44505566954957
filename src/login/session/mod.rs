//! A sign-in in use by a running program.
//!
//! Many tasks share it. The store is read once, and again when another process has changed it; the
//! tokens are renewed in time, by one task of one process, and everybody else takes what it got. A
//! renewal runs in a task of its own: whoever asked for it may leave, and the refresh token that it
//! brought, which may be the only one that is still good, is kept all the same.

mod error;
mod refresh;
mod sign_in;
#[cfg(all(test, unix))]
mod tests;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{task, time};

pub use self::error::{RefreshError, SessionError, SignInError};
use super::{
    record::{Record, Slot},
    store::{Attempt, Entry, Generation, Guard, Purpose, Stamp, Store, StoreError},
};
use crate::secret::Secret;

/// How long another process's sign-out may go unnoticed: the price of not looking at every call.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After what failed and may succeed later: an authorization server that is down, or a keyring that has
/// asked its user for the password, and would do so again.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// Longer than one renewal with all its deadlines: reading, asking, writing.
const FLIGHT_PATIENCE: Duration = Duration::from_secs(240);

/// For another process's renewal.
const REPLACE_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a lock that another process holds.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Tells the time; tests bring their own.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What [`Refresh::refresh`] returns.
pub type RefreshFuture<'a> = Pin<Box<dyn Future<Output = Result<Record, RefreshError>> + Send + 'a>>;

/// Renews tokens at an authorization server.
pub trait Refresh: Send + Sync + 'static {
    /// A record with new tokens in place of those in `record`, which has a refresh token.
    ///
    /// Its deadline is the implementation's; after a minute it is dropped.
    fn refresh<'a>(&'a self, record: &'a Record) -> RefreshFuture<'a>;
}

/// A sign-in in use; clones share it.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    store: Store,
    slot: Slot,
    refresh: Box<dyn Refresh>,
    clock: Clock,
    command: String,
    /// [`REPLACE_PATIENCE`]; tests have less.
    replace_patience: Duration,
    state: Mutex<State>,
    /// Held by who reads the store or renews.
    flight: Arc<tokio::sync::Mutex<()>>,
    /// Held by who asks the user.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    signed_in: SignedIn,
    /// Which list of sign-ins that came from.
    stamp: Option<Stamp>,
    looked_at: Option<SystemTime>,
    /// After a renewal that could not be made, with a token that is still good.
    renew_after: Option<SystemTime>,
    store_failed: Option<(SystemTime, Arc<StoreError>)>,
    /// The last attempt to sign in of this process, if it failed.
    failed: Option<Attempt>,
    /// Whether the user wants to be asked, whatever becomes of others' attempts.
    insists: bool,
}

#[derive(Clone, Default)]
enum SignedIn {
    #[default]
    Unread,
    Never,
    Yes(Arc<Current>),
    /// There was a sign-in, and it ended so.
    NoMore(String),
}

/// The sign-in that is used.
struct Current {
    record: Arc<Record>,
    generation: Generation,
    family: Generation,
    saved_at: SystemTime,
    /// Set while the store still has its predecessor, whose generation and family those above are then.
    unsaved: Option<Unsaved>,
}

/// What could not be kept, because the store could not be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unsaved {
    /// New tokens of a sign-in that is kept.
    Tokens,
    /// A sign-in in place of the one that is kept, or of none.
    SignIn,
}

impl Session {
    /// The sign-in at `slot`; nothing is read before it is needed. `command` is what a user runs to
    /// sign in, for errors.
    pub fn new(store: Store, slot: Slot, refresh: impl Refresh, command: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            store,
            slot,
            refresh: Box::new(refresh),
            clock: Arc::new(SystemTime::now),
            command: command.into(),
            replace_patience: REPLACE_PATIENCE,
            state: Mutex::default(),
            flight: Arc::default(),
            asking: tokio::sync::Mutex::default(),
        }))
    }

    /// The same with another clock.
    ///
    /// # Panics
    /// If the session is already shared.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Arc::get_mut(&mut self.0).expect("a session gets its clock before it is shared").clock = Arc::new(clock);
        self
    }

    /// Whose sign-in this is.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        &self.0.slot
    }

    /// Whether nobody has ever signed in, here or elsewhere on this machine, which is told at once and
    /// without reading anything. `false` says nothing.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        let was_never_signed_in = matches!(self.0.state().signed_in, SignedIn::Unread | SignedIn::Never);
        was_never_signed_in && self.0.store.is_new()
    }

    /// An access token, renewed if its end is near; `None` where nobody has signed in yet.
    ///
    /// Who was signed in at any time of this process's life and is not any more gets an error instead:
    /// a sign-out must not turn restricted use into unrestricted use. Whose sign-in has ended otherwise
    /// than by signing out gets it in every later process, too. Cancel-safe.
    ///
    /// # Errors
    /// See [`SessionError`]. While a token is still good, neither an unreachable authorization server
    /// nor an unreadable store is one.
    pub async fn token(&self) -> Result<Option<Secret<String>>, SessionError> {
        let current = self.current().await?;
        Ok(current.map(|current| current.record.access_token.clone()))
    }

    /// The sign-in whose token [`Session::token`] would return: its scopes, and who it is.
    ///
    /// # Errors
    /// As [`Session::token`].
    pub async fn record(&self) -> Result<Option<Arc<Record>>, SessionError> {
        Ok(self.current().await?.map(|current| Arc::clone(&current.record)))
    }

    /// What was granted; `None` where nobody has signed in yet.
    ///
    /// # Errors
    /// As [`Session::token`].
    pub async fn scopes(&self) -> Result<Option<Vec<String>>, SessionError> {
        Ok(self.current().await?.map(|current| current.record.scopes.clone()))
    }

    /// Another token in place of `used`, which the server has answered with 401.
    ///
    /// One that another task or process has got meanwhile, else a renewed one. A token that was new
    /// when it was refused is not renewed: its successor would be refused as well, without end.
    /// Cancel-safe.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn refused(&self, used: &Secret<String>) -> Result<Secret<String>, SessionError> {
        let current = self.renew(Some(used.clone())).await?.ok_or_else(|| self.0.signed_out(NEVER))?;
        Ok(current.record.access_token.clone())
    }

    /// Uses `record`, just signed in, from now on, and keeps it.
    ///
    /// # Errors
    /// When it could not be kept. It is used all the same, until the process ends.
    pub async fn replace(&self, record: Record) -> Result<(), SessionError> {
        let flight = match self.0.take_off().await {
            Ok(flight) => flight,
            Err(error) => return self.0.use_unkept(record, error),
        };
        let inner = Arc::clone(&self.0);
        task::spawn(async move {
            let _flight = flight;
            // Another process may be renewing what this replaces, and must not write it over this.
            match inner.lock(Purpose::Refresh, inner.replace_patience).await {
                Ok(_alone) => inner.adopt(record).await,
                Err(error) => inner.use_unkept(record, error),
            }
        })
        .await
        .map_err(|_| SessionError::Stopping)?
    }

    /// Keeps the sign-in that is used, if that could not be done yet.
    ///
    /// # Errors
    /// When it still cannot be kept.
    pub async fn keep(&self) -> Result<(), SessionError> {
        let unsaved = match &self.0.state().signed_in {
            SignedIn::Yes(current) if current.unsaved.is_some() => Record::clone(&current.record),
            _ => return Ok(()),
        };
        self.replace(unsaved).await
    }

    /// Waits for a renewal that is going on, so that its tokens are kept before the program ends.
    pub async fn close(&self) {
        // Whoever waits longer than any renewal takes has waited enough.
        self.0.take_off().await.ok();
    }

    async fn current(&self) -> Result<Option<Arc<Current>>, SessionError> {
        match self.0.at_hand() {
            Some(current) => Ok(Some(current)),
            None => self.renew(None).await,
        }
    }

    /// Looks into the store and renews the tokens if they are due, or if they are `refused`.
    async fn renew(&self, refused: Option<Secret<String>>) -> Result<Option<Arc<Current>>, SessionError> {
        let flight = self.0.take_off().await?;
        if refused.is_none()
            && let Some(current) = self.0.at_hand()
        {
            return Ok(Some(current));
        }
        let inner = Arc::clone(&self.0);
        // Goes on when its caller leaves; it ends by its own deadlines, and `close` waits for it.
        let renewal = task::spawn(async move {
            let _flight = flight;
            inner.renew(refused).await
        });
        renewal.await.map_err(|_| SessionError::Stopping)?
    }
}

/// Why there is no token where there never was one.
const NEVER: &str = "nobody has signed in";

impl Inner {
    fn now(&self) -> SystemTime {
        (self.clock)()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signed_out(&self, reason: impl Into<String>) -> SessionError {
        SessionError::SignedOut { reason: reason.into(), command: self.command.clone() }
    }

    async fn take_off(&self) -> Result<tokio::sync::OwnedMutexGuard<()>, Arc<StoreError>> {
        time::timeout(FLIGHT_PATIENCE, Arc::clone(&self.flight).lock_owned())
            .await
            .map_err(|_| Arc::new(StoreError::Contended("renewing this sign-in")))
    }

    /// What can be used without looking anywhere.
    fn at_hand(&self) -> Option<Arc<Current>> {
        let now = self.now();
        let state = self.state();
        let SignedIn::Yes(current) = &state.signed_in else { return None };
        let has_looked = state.looked_at.is_some_and(|looked| is_within(looked, now, LOOK_EVERY));
        let waits = state.renew_after.is_some_and(|after| now < after) && !current.has_ended(now);
        (has_looked && (waits || !current.is_due(now))).then(|| Arc::clone(current))
    }

    /// Calls the store where blocking is allowed.
    async fn with_store<R: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&Store, &Slot) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, Arc<StoreError>> {
        let inner = Arc::clone(self);
        let stopped = |_| Arc::new(StoreError::Keyring("the program is stopping".to_owned()));
        task::spawn_blocking(move || call(&inner.store, &inner.slot).map_err(Arc::new)).await.map_err(stopped)?
    }

    /// Waits for a lock without keeping a thread, so that a program can end meanwhile.
    async fn lock(self: &Arc<Self>, purpose: Purpose, patience: Duration) -> Result<Guard, Arc<StoreError>> {
        let deadline = Instant::now() + patience;
        loop {
            let taken = self.with_store(move |store, slot| store.lock(slot, purpose, Instant::now())).await;
            match taken {
                Err(error) if matches!(*error, StoreError::Contended(_)) && Instant::now() < deadline => {
                    time::sleep(LOOK_AGAIN).await;
                }
                taken => return taken,
            }
        }
    }

    /// Uses `record`, which was just signed in, from now on, and keeps it if that is possible.
    async fn adopt(self: &Arc<Self>, record: Record) -> Result<(), SessionError> {
        let (record, now) = (Arc::new(record), self.now());
        let saved = {
            let record = Arc::clone(&record);
            self.with_store(move |store, slot| store.save(slot, &record, now)).await
        };
        let result = saved.as_ref().map(drop).map_err(|error| Arc::clone(error).into());
        self.use_saved(record, now, saved, Unsaved::SignIn);
        result
    }

    /// Uses `record`, which was just signed in and may not be written now.
    fn use_unkept(&self, record: Record, error: Arc<StoreError>) -> Result<(), SessionError> {
        self.use_saved(Arc::new(record), self.now(), Err(Arc::clone(&error)), Unsaved::SignIn);
        Err(error.into())
    }

    /// Uses what was saved or, if it could not be, is such a thing as `unsaved` says.
    fn use_saved(
        &self,
        record: Arc<Record>,
        saved_at: SystemTime,
        saved: Result<Entry, Arc<StoreError>>,
        unsaved: Unsaved,
    ) {
        let mut state = self.state();
        let (generation, family, unsaved) = match saved {
            Ok(entry) => (entry.generation, entry.family, None),
            Err(error) => {
                tracing::warn!(%error, "the new tokens are not kept: this sign-in may end with this program");
                let (generation, family) = match &state.signed_in {
                    SignedIn::Yes(before) => (before.generation.clone(), before.family.clone()),
                    _ => (Generation::none(), Generation::none()),
                };
                (generation, family, Some(unsaved))
            }
        };
        state.signed_in = SignedIn::Yes(Arc::new(Current { record, generation, family, saved_at, unsaved }));
        state.looked_at = Some(saved_at);
        state.renew_after = None;
        state.failed = None;
    }
}

impl SignedIn {
    fn generation(&self) -> Option<Generation> {
        match self {
            Self::Yes(current) => Some(current.generation.clone()),
            _ => None,
        }
    }
}

/// Whether `now` is in the `span` after `start`; also where the clock was set back since.
fn is_within(start: SystemTime, now: SystemTime, span: Duration) -> bool {
    now.duration_since(start).is_ok_and(|passed| passed < span)
}

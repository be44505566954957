//! Asking the user to sign in: one at a time, and not again and again.

use std::{
    fmt, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time;

use super::{Attempt, Inner, Session, SessionError, SignInError, SignedIn, is_within};
use crate::login::{
    record::Record,
    store::{Purpose, StoreError},
};

/// Longer than an attempt takes that nobody answers.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a failed attempt of this process keeps it from asking again by itself.
const COOLING: Duration = Duration::from_secs(300);
/// The same for one of another process: shorter, because starting a program again is a way to ask, and
/// not zero, because clients start by themselves what has failed.
const COOLING_OF_OTHERS: Duration = Duration::from_secs(60);
/// Enough to say what happened, and no more of what a server may have said.
const MAX_REASON_CHARS: usize = 300;

impl Session {
    /// Has the user sign in, by `attempt`, which gets the sign-in so far; keeps and returns the new one.
    ///
    /// Of all tasks and processes one asks; the others wait, and take what it got, which may be less than
    /// `attempt` would have asked for. If it failed while they waited, they fail as well. After a failure
    /// nobody asks for a while, unless [`Session::ask_again`] says that the user wants it. An attempt that is
    /// dropped has failed.
    ///
    /// # Errors
    /// [`SignInError::Attempt`] is the attempt's own, everything else means that there was none.
    pub async fn sign_in<E: fmt::Display>(
        &self,
        attempt: impl AsyncFnOnce(Option<Record>) -> Result<Record, E>,
    ) -> Result<Arc<Record>, SignInError<E>> {
        let inner = &self.0;
        if matches!(inner.state().signed_in, SignedIn::Unread) {
            // Else what another process gets while this one waits would pass for what was there before.
            inner.look_now().await?;
        }
        let known = inner.state().signed_in.clone();
        let insists = mem::take(&mut inner.state().insists);
        let failed = inner.may_ask(insists).await?;
        let busy = |_| SessionError::from(Arc::new(StoreError::Contended("waiting for this user to sign in")));
        let _here = time::timeout(PATIENCE, inner.asking.lock()).await.map_err(busy)?;
        let _alone = inner.lock(Purpose::SignIn, PATIENCE).await.map_err(SessionError::from)?;

        inner.look_now().await?;
        let current = match inner.state().signed_in.clone() {
            SignedIn::Yes(current) => Some(current),
            _ => None,
        };
        if let Some(current) = &current
            && known.generation().as_ref() != Some(&current.generation)
        {
            return Ok(Arc::clone(&current.record));
        }
        // Also one that is still said to be under way: nobody is at it any more.
        let has_failed = |failure: &Attempt| Some(&failure.id) != failed.as_ref();
        let failed_since = inner.last_failure().await?.filter(has_failed);
        if let Some(failure) = failed_since.filter(|_| !insists) {
            return Err(inner.pending(failure.reason).into());
        }

        let mut unanswered = Unanswered(Some((inner, inner.begin().await)));
        let outcome = attempt(current.map(|current| Record::clone(&current.record))).await;
        unanswered.0 = None;
        match outcome {
            Ok(record) => {
                // What could not be kept is used all the same, and has been logged.
                self.replace(record.clone()).await.ok();
                inner.note(None).await;
                Ok(Arc::new(record))
            }
            Err(error) => {
                inner.note(Some(error.to_string())).await;
                Err(SignInError::Attempt(error))
            }
        }
    }

    /// The sign-in as it is kept now, also where another program has changed it this very moment.
    ///
    /// # Errors
    /// As [`Session::token`].
    pub async fn latest(&self) -> Result<Option<Arc<Record>>, SessionError> {
        self.0.look_now().await?;
        self.record().await
    }

    /// Counts the last sign-in as one that failed, for this `reason`: its token opens nothing.
    ///
    /// A server that refuses every token could have the user asked for ever.
    pub async fn was_in_vain(&self, reason: &str) {
        self.0.note(Some(reason.to_owned())).await;
    }

    /// Lets the next [`Session::sign_in`] ask the user, whatever has failed before: the user wants it.
    ///
    /// # Errors
    /// When what other processes left could not be removed.
    pub async fn ask_again(&self) -> Result<(), SessionError> {
        {
            let mut state = self.0.state();
            (state.failed, state.insists) = (None, true);
        }
        // One that is going on is waited for, and known by that.
        if self.0.last_failure().await?.is_none_or(|attempt| attempt.is_under_way) {
            return Ok(());
        }
        Ok(self.0.with_store(|store, slot| store.note_attempt(slot, None)).await?)
    }
}

impl Inner {
    /// The id of the last failure, if it is old enough for another attempt.
    async fn may_ask(self: &Arc<Self>, insists: bool) -> Result<Option<String>, SessionError> {
        let Some(mut failure) = self.last_failure().await? else { return Ok(None) };
        if failure.is_under_way {
            if insists || self.is_being_asked().await? {
                // Who is at it will say what came of it.
                return Ok(None);
            }
            // It may have come to its end just now.
            match self.last_failure().await? {
                Some(latest) => failure = latest,
                None => return Ok(None),
            }
        }
        let is_own = self.state().failed.as_ref().is_some_and(|own| own.id == failure.id);
        let cooling = if is_own { COOLING } else { COOLING_OF_OTHERS };
        if failure.at.is_some_and(|at| is_within(at, self.now(), cooling)) {
            return Err(self.pending(failure.reason));
        }
        Ok(Some(failure.id))
    }

    async fn last_failure(self: &Arc<Self>) -> Result<Option<Attempt>, SessionError> {
        let kept = self.with_store(|store, slot| store.failed_attempt(slot)).await?;
        let own = self.state().failed.clone();
        Ok(match (kept, own) {
            // Of its own one this process knows more than it has told.
            (Some(kept), Some(own)) if kept.id == own.id => Some(own),
            // Where it could not be kept, this process still knows its own.
            (kept, own) => kept.or(own),
        })
    }

    /// Whether some process asks the user at this moment.
    async fn is_being_asked(self: &Arc<Self>) -> Result<bool, SessionError> {
        let lock = self.with_store(|store, slot| store.lock(slot, Purpose::SignIn, Instant::now()).map(drop)).await;
        match lock {
            Ok(()) => Ok(false),
            Err(error) if matches!(*error, StoreError::Contended(_)) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells everybody that the user is asked; should this process be killed meanwhile, that is what it
    /// leaves.
    async fn begin(self: &Arc<Self>) -> Attempt {
        let attempt = Attempt::under_way(self.now());
        let noted = attempt.clone();
        if let Err(error) = self.with_store(move |store, slot| store.note_attempt(slot, Some(&noted))).await {
            tracing::warn!(%error, "other programs do not know that the user is asked to sign in");
        }
        attempt
    }

    fn pending(&self, reason: String) -> SessionError {
        SessionError::Pending { reason, command: self.command.clone() }
    }

    /// Tells everybody how the attempt ended; nobody signs in less because that could not be told.
    async fn note(self: &Arc<Self>, failed: Option<String>) {
        let failed = failed.map(|reason| self.fail(&reason));
        let noted = self.with_store(move |store, slot| store.note_attempt(slot, failed.as_ref())).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "other programs do not know how the sign-in ended");
        }
    }

    fn fail(&self, reason: &str) -> Attempt {
        let reason: String = reason.chars().filter(|char| !char.is_control()).take(MAX_REASON_CHARS).collect();
        let attempt = Attempt::failed(self.now(), format!("the last sign-in failed: {reason}"));
        self.state().failed = Some(attempt.clone());
        attempt
    }

    /// Reads what is kept. What another sign-in replaces anyway need not be readable.
    async fn look_now(self: &Arc<Self>) -> Result<(), SessionError> {
        let _flight = self.take_off().await?;
        match self.look(true).await {
            Err(SessionError::Store(error)) if error.ends_with_a_sign_in() => Ok(()),
            looked => looked,
        }
    }
}

/// An attempt that has not come to its end. Its caller may leave, and ask again at once: to open
/// another tab for each of them would be a flood.
struct Unanswered<'a>(Option<(&'a Arc<Inner>, Attempt)>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some((inner, mut attempt)) = self.0.take() {
            // Known to other processes as under way, with nobody at it.
            "the last sign-in failed: whoever asked for it did not wait for its end".clone_into(&mut attempt.reason);
            attempt.is_under_way = false;
            inner.state().failed = Some(attempt);
        }
    }
}

//! Asking the user to sign in: one at a time, and not again and again.

use std::{fmt, sync::Arc, time::Duration};

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
        let failed = inner.may_ask().await?;
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
        let failed_since = inner.last_failure().await?;
        if let Some(failure) = failed_since.filter(|failure| Some(&failure.id) != failed.as_ref()) {
            return Err(inner.pending(failure.reason).into());
        }

        let mut unanswered = Unanswered(Some(inner));
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
        self.0.state().failed = None;
        Ok(self.0.with_store(|store, slot| store.note_attempt(slot, None)).await?)
    }
}

impl Inner {
    /// The id of the last failure, if it is old enough for another attempt.
    async fn may_ask(self: &Arc<Self>) -> Result<Option<String>, SessionError> {
        let Some(failure) = self.last_failure().await? else { return Ok(None) };
        let is_own = self.state().failed.as_ref().is_some_and(|own| own.id == failure.id);
        let cooling = if is_own { COOLING } else { COOLING_OF_OTHERS };
        if failure.at.is_some_and(|at| is_within(at, self.now(), cooling)) {
            return Err(self.pending(failure.reason));
        }
        Ok(Some(failure.id))
    }

    async fn last_failure(self: &Arc<Self>) -> Result<Option<Attempt>, SessionError> {
        let kept = self.with_store(|store, slot| store.failed_attempt(slot)).await?;
        // Where it could not be kept, this process still knows its own.
        Ok(kept.or_else(|| self.state().failed.clone()))
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
struct Unanswered<'a>(Option<&'a Arc<Inner>>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(inner) = self.0 {
            inner.fail("whoever asked for it did not wait for its end");
        }
    }
}

//! What a signed-in user may calculate.

use std::{
    future::ready,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Error;
use mcp_calculator::{
    login::{
        Record, Slot,
        session::{Session, SessionError},
        store::{Store, StoreError, StoreKind},
    },
    stdio::Access,
};

use super::{Account, Opened, PREFIX, fetcher, misuse, quoted, variable};

/// How long a sign-in in the other kind of store may go unnoticed: as long as one in this kind.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Lets the user do what the sign-in was granted; everything where nobody has signed in, unless a
/// sign-in is required.
pub(crate) struct SignedIn {
    session: Session,
    opened: Opened,
    required: bool,
    /// What has to follow `login` once nothing is kept of the sign-in that was used here.
    place: Mutex<Option<String>>,
    elsewhere: Mutex<Option<(Instant, Option<StoreKind>)>>,
}

impl SignedIn {
    /// # Errors
    /// A wrong setting, or no folder for state where a sign-in is required.
    pub(crate) fn new(account: &Account, require_login: bool) -> anyhow::Result<Self> {
        let required = require_login
            || match variable("REQUIRE_LOGIN")?.as_deref() {
                Some("true" | "1") => true,
                Some("false" | "0") | None => false,
                Some(_) => return Err(misuse(format!("{PREFIX}REQUIRE_LOGIN must be true or false"))),
            };
        let opened = match account.open() {
            Err(error) if !required && matches!(error.downcast_ref(), Some(StoreError::NoFolder)) => {
                // Whoever has no home folder has never signed in, and needs no account to calculate.
                Account { token_store: Some(StoreKind::Memory), ..account.clone() }.open()?
            }
            opened => opened?,
        };
        if required && opened.store.kind() == StoreKind::Memory {
            return Err(misuse(
                "with --token-store memory nobody is ever signed in, and --require-login asks for that",
            ));
        }
        // The user allowed private addresses, or did not, when signing in: only known endpoints are used.
        let session = opened.session(fetcher(false));
        Ok(Self { session, opened, required, place: Mutex::default(), elsewhere: Mutex::default() })
    }

    async fn judge(&self, scope: &str) -> Result<(), String> {
        match self.session.record().await {
            Ok(None) => self.judge_nobody().await,
            Ok(Some(record)) => {
                *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place(&record));
                if record.scopes.iter().any(|granted| granted == scope) {
                    return Ok(());
                }
                // What was granted is asked for again: a sign-in replaces the one before it.
                let scopes = record.scopes.iter().map(String::as_str).filter(|granted| granted.starts_with("op:"));
                let wanted: Vec<String> = scopes.chain([scope]).map(|scope| format!(" --scope {scope}")).collect();
                let login = self.opened.command("login");
                Err(format!(
                    "Missing required scope \"{scope}\", so nothing was done. Ask the user to run `{login}{}` and to \
                     allow {scope}, then call again.",
                    wanted.concat()
                ))
            }
            Err(SessionError::SignedOut { reason, .. }) => {
                let login = self.login().await;
                Err(format!("Signed out: {reason}. Nothing was done. Ask the user to run `{login}`, then call again."))
            }
            Err(error @ SessionError::SignInNeeded { .. }) => {
                Err(format!("Nothing was done: {error}. Ask the user to do that, then call again."))
            }
            Err(error) => Err(format!("Nothing was done: {:#}.", Error::from(error))),
        }
    }

    /// Nobody has signed in, as far as the store knows that this program uses.
    async fn judge_nobody(&self) -> Result<(), String> {
        if let Some(other) = self.elsewhere().await {
            let (own, logout) = (self.opened.store.kind(), self.opened.command_in(other, "logout"));
            return Err(format!(
                "Nothing was done: this user is signed in with --token-store {other}, and this server uses \
                 --token-store {own}. Ask the user to start it with --token-store {other}, or to run `{logout}`."
            ));
        }
        if !self.required {
            return Ok(());
        }
        let login = self.login().await;
        Err(format!("Not signed in, so nothing was done. Ask the user to run `{login}`, then call again."))
    }

    /// What the user runs to sign in again, with the place if that is not kept.
    async fn login(&self) -> String {
        let login = self.opened.command("login");
        match self.opened.blocking(Opened::place).await {
            Ok(Some(_)) => login,
            Ok(None) | Err(_) => {
                let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
                format!("{login} {}", place.as_deref().unwrap_or("--server URL"))
            }
        }
    }

    async fn elsewhere(&self) -> Option<StoreKind> {
        let known = *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, kind)) = known
            && at.elapsed() < LOOK_EVERY
        {
            return kind;
        }
        let look = |store: &Store, slot: &Slot| Ok(store.elsewhere(slot));
        // It fails only when the program ends.
        let kind = self.opened.blocking(look).await.ok().flatten();
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), kind));
        kind
    }
}

/// Where `record` is from, as `login` takes it.
fn place(record: &Record) -> String {
    match &record.resource {
        Some(server) => format!("--server {}", quoted(server)),
        None => format!("--issuer {}", quoted(&record.issuer)),
    }
}

impl Access for SignedIn {
    fn check(&self, scope: &'static str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        // Most users never sign in; they wait for no thread and no file, and not for what a renewal needs
        // of memory.
        if !self.required && self.session.is_unused() {
            return Box::pin(ready(Ok(())));
        }
        Box::pin(self.judge(scope))
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.session.close())
    }
}

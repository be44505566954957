//! Signing in at the remote server, when it asks for it.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use http::StatusCode;
use mcp_calculator::{
    login::{
        Record, Slot,
        asking::{AskError, Asking, Renewal, Way},
        browser::BrowserMode,
        challenge::Challenge,
        discovery::Target,
        ending::{self, SignedOut},
        fetch::FetcherOptions,
        flow::DEADLINE,
        prompt::plain,
        registration::{ClientOptions, Registered},
        session::{Session, SessionError, SignInError},
        store::{Store, StoreError, StoreKind},
        token_goes_to,
    },
    secret::Secret,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use super::{
    Settings,
    authority::{Authority, Grant, Granted, Refusal, Unauthorized},
    flags::LogoutFlags,
    step_up::Asked,
};

/// The service in the keyring, and the folder for state.
const APPLICATION: &str = "mcp-bridge";
/// How long the end waits for new tokens to be kept.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Signs out where `flags` say; `state` is the folder for state, if it is not the platform's.
///
/// # Errors
/// When the sign-in could not be forgotten.
pub(super) async fn sign_out(flags: &LogoutFlags, state: Option<PathBuf>) -> Result<SignedOut, StoreError> {
    let store = Store::open(flags.token_store, APPLICATION, state)?;
    let slot = Slot { account: flags.account.clone(), server: Some(flags.url.clone()) };
    // The endpoints were judged when the user signed in.
    ending::sign_out(&store, &slot, &fetcher(true)).await
}

fn fetcher(allow_private_addresses: bool) -> FetcherOptions {
    FetcherOptions { user_agent: concat!("mcp-bridge/", env!("CARGO_PKG_VERSION")).to_owned(), allow_private_addresses }
}

/// A sign-in at one server, used and made as the server wants it.
#[derive(Clone)]
pub(super) struct SignedIn(Arc<Inner>);

struct Inner {
    url: Url,
    session: Session,
    asking: Asking,
    /// What a user runs to sign in here.
    command: String,
    stepped_up: Asked,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl SignedIn {
    /// # Errors
    /// When the platform has no folder for what is kept.
    pub(super) fn new(settings: &Settings) -> Result<Self, StoreError> {
        let flags = &settings.flags;
        let fetcher = fetcher(flags.allow_private_addresses);
        let registered = flags.client_id.clone();
        let client = ClientOptions {
            registered: registered.map(|id| Registered {
                id,
                secret: settings.client_secret.clone(),
                issuer: flags.issuer.clone(),
            }),
            metadata_document: flags.client_metadata_url.clone(),
            name: "MCP bridge".to_owned(),
            redirect_uri: None,
        };
        let way = match (flags.device, flags.no_browser) {
            (true, _) => Way::Device,
            (false, true) => Way::Browser(BrowserMode::ShowOnly),
            (false, false) => Way::Browser(BrowserMode::Open),
        };
        let asking = Asking {
            program: "mcp-bridge",
            target: Target::Server { url: flags.url.clone(), issuer: flags.issuer.clone() },
            client,
            scopes: flags.scopes.clone(),
            way,
            // Servers of 2025-03-26 have no protected resource metadata.
            legacy: true,
            fetcher: fetcher.clone(),
            deadline: DEADLINE,
        };
        let store = Store::open(flags.token_store, APPLICATION, settings.state_dir.clone())?;
        let slot = Slot { account: flags.account.clone(), server: Some(flags.url.clone()) };
        let command = command(settings);
        let session = Session::new(store, slot, Renewal(fetcher), command.clone());
        let (tasks, end, stepped_up) = (TaskTracker::new(), CancellationToken::new(), Asked::default());
        Ok(Self(Arc::new(Inner { url: settings.url.clone(), session, asking, command, stepped_up, tasks, end })))
    }

    /// Signs in because the user wants it now, whatever has failed before.
    ///
    /// # Errors
    /// Why nobody is signed in.
    pub(super) async fn sign_in(&self) -> Result<Arc<Record>, SignInError<AskError>> {
        self.0.session.ask_again().await?;
        let record = self.0.session.sign_in(async |known| self.0.asking.ask(known.as_ref(), None).await).await?;
        self.0.session.keep().await?;
        Ok(record)
    }
}

impl Inner {
    /// A token that this server may see, if `record` has it.
    fn token_of(&self, record: &Record) -> Option<Secret<String>> {
        token_goes_to(record, &self.url).then(|| record.access_token.clone())
    }

    async fn replace(&self, refusal: &Refusal, used: Option<&Secret<String>>) -> Granted {
        let challenge = Challenge::read(&refusal.challenges);
        let steps_up = refusal.status == StatusCode::FORBIDDEN;
        let other = match used {
            Some(used) if !steps_up => self.renewed(used).await,
            used => self.newer(used).await,
        };
        if let Some(token) = other.map_err(|error| Unauthorized(error.to_string()))? {
            return Ok(Grant { token, by_user: false });
        }
        if !refusal.may_ask {
            return Err(Unauthorized("the user is asked to sign in when the client next wants something".to_owned()));
        }
        let scopes = sorted(challenge.as_ref());
        if steps_up && !self.stepped_up.may_ask(&scopes, Instant::now()) {
            return Err(self.asked_already(&scopes));
        }
        let asked = self.session.sign_in(async |known| self.asking.ask(known.as_ref(), challenge.as_ref()).await).await;
        let record = asked.map_err(|error| Unauthorized(error.to_string()))?;
        if steps_up {
            self.stepped_up.note(scopes, Instant::now());
        }
        let token = self.token_of(&record);
        let token = token.ok_or_else(|| Unauthorized("the sign-in is for another server than this".to_owned()))?;
        Ok(Grant { token, by_user: true })
    }

    /// A token in place of `used`, which has ended; `None` where only the user can help.
    async fn renewed(&self, used: &Secret<String>) -> Result<Option<Secret<String>>, SessionError> {
        match self.session.refused(used).await {
            Ok(token) => Ok(Some(token)),
            Err(SessionError::SignedOut { .. } | SessionError::SignInNeeded { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The token of now, if `used`, which opens too little or is none, is not that: the user may have signed
    /// in or consented to more meanwhile.
    async fn newer(&self, used: Option<&Secret<String>>) -> Result<Option<Secret<String>>, SessionError> {
        let now = match self.session.latest().await {
            Ok(record) => record.and_then(|record| self.token_of(&record)),
            Err(SessionError::SignedOut { .. } | SessionError::SignInNeeded { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(now.filter(|now| used.is_none_or(|used| now.expose() != used.expose())))
    }

    fn asked_already(&self, scopes: &[String]) -> Unauthorized {
        let scopes = if scopes.is_empty() { "more scopes".to_owned() } else { plain(&scopes.join(" ")) };
        Unauthorized(format!(
            "the server wants {scopes} for this, which the user was asked for a moment ago; run `{}` to be asked again",
            self.command
        ))
    }
}

/// The scopes that a challenge names.
fn sorted(challenge: Option<&Challenge>) -> Vec<String> {
    let mut scopes = challenge.and_then(|challenge| challenge.scopes.clone()).unwrap_or_default();
    scopes.sort_unstable();
    scopes
}

impl Authority for SignedIn {
    fn token(&self) -> BoxFuture<'_, Result<Option<Secret<String>>, Unauthorized>> {
        Box::pin(async {
            match self.0.session.record().await {
                Ok(record) => Ok(record.and_then(|record| self.0.token_of(&record))),
                // The server says whether it needs one.
                Err(SessionError::SignedOut { .. } | SessionError::SignInNeeded { .. }) => Ok(None),
                Err(error) => Err(Unauthorized(error.to_string())),
            }
        })
    }

    fn refused<'a>(&'a self, refusal: Refusal, used: Option<&'a Secret<String>>) -> BoxFuture<'a, Granted> {
        let (inner, used) = (Arc::clone(&self.0), used.cloned());
        // A client that gives its request up after a minute has not given the sign-in up: the user is
        // still looking for the password, and the next request finds the token.
        let granting = self.0.tasks.spawn(async move {
            let stopping = || Err(Unauthorized("the program is stopping".to_owned()));
            tokio::select! {
                () = inner.end.cancelled() => stopping(),
                granted = inner.replace(&refusal, used.as_ref()) => granted,
            }
        });
        Box::pin(async { granting.await.unwrap_or_else(|error| Err(Unauthorized(error.to_string()))) })
    }

    fn in_vain(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.session.was_in_vain("the server refuses its token (401)"))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.0.end.cancel();
            self.0.tasks.close();
            let closed = async {
                self.0.tasks.wait().await;
                self.0.session.close().await;
            };
            // What takes longer is waiting for a server; its answer is lost with us.
            let _ = timeout(CLOSE_TIMEOUT, closed).await;
        })
    }
}

/// What a user runs to sign in here.
fn command(settings: &Settings) -> String {
    let flags = &settings.flags;
    let mut line = login_at(&flags.url);
    if flags.account != Slot::DEFAULT_ACCOUNT {
        line += &format!(" --account {}", quoted(&flags.account));
    }
    if flags.token_store == StoreKind::File {
        line += " --token-store file";
    }
    line
}

/// What a user runs to sign in at `url`, with default settings.
pub(crate) fn login_at(url: &str) -> String {
    // The text gets into logs and before models; who has a key in the query knows what belongs there.
    let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?..."));
    format!("mcp-bridge login {}", quoted(&format!("{url}{query}")))
}

/// `word` as a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "@%+=:,./_-".contains(char);
    match word {
        _ if word.chars().all(is_plain) => word.to_owned(),
        _ if cfg!(windows) => format!("\"{word}\""),
        _ => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use crate::connect::flags::ConnectFlags;

    #[test]
    #[cfg(unix)]
    fn a_command_to_copy_gives_neither_a_key_away_nor_a_shell_more_words() {
        for (url, account, expected) in [
            ("https://a.example/mcp", "default", "mcp-bridge login https://a.example/mcp"),
            ("https://a.example/mcp?key=canary", "default", "mcp-bridge login 'https://a.example/mcp?...'"),
            ("https://a.example/$(id);x", "default", "mcp-bridge login 'https://a.example/$(id);x'"),
            ("https://a.example/", "it's; rm", r"mcp-bridge login https://a.example/ --account 'it'\''s; rm'"),
        ] {
            let command = ConnectFlags::augment_args(clap::Command::new("connect"));
            let matches = command.get_matches_from(["connect", url, "--account", account]);
            let flags = ConnectFlags::from_arg_matches(&matches).expect("flags");
            let settings = Settings::new(flags, |_| None).expect("settings");
            assert_eq!(super::command(&settings), expected);
        }
    }
}

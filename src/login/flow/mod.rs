//! The authorization code flow in the user's browser (RFC 8252), and what it shares with `device`.

mod plan;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, convert::Infallible, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use oauth2::{AuthUrl, AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope};
use url::Url;

pub(crate) use self::plan::{Plan, plan};
use crate::{
    login::{
        browser::{self, BrowserMode},
        challenge::Challenge,
        discovery::{DiscoveryError, Metadata, Target},
        fetch::{FetchError, Fetcher, PATIENCE},
        loopback::{Callback, Listener, LoopbackError, Page, RedirectUri},
        prompt::{Prompt, plain},
        record::{Client, Record},
        registration::{self, Chosen, ClientOptions, RegistrationError, Use},
        tokens::{self, Grant, TokenError},
    },
    secret::Secret,
};

/// A sign-in that is wanted.
#[derive(Clone, Copy)]
pub struct SignIn<'a> {
    /// Made for the target's URL.
    pub fetcher: &'a Fetcher,
    /// Where.
    pub target: &'a Target,
    /// What the server answered to a request with no token, or with too little of one.
    pub challenge: Option<&'a Challenge>,
    /// The scopes that the user named. With none, those of the challenge are asked for, else those that the
    /// server lists, else none in particular.
    pub scopes: &'a [String],
    /// As whom.
    pub client: &'a ClientOptions,
    /// The sign-in before this one: its client is used again, and its scopes are asked for again unless the
    /// user named some and no challenge asks for more.
    pub known: Option<&'a Record>,
    /// Whether the server may be its own issuer; see [`crate::login::discovery::Hints::legacy`].
    pub legacy: bool,
    /// Whether a browser is opened.
    pub browser: BrowserMode,
    /// Is told what the user has to know and do.
    pub prompt: &'a (dyn Fn(Prompt<'_>) + Send + Sync),
    /// How long the user has; [`DEADLINE`] is a good choice.
    pub deadline: Duration,
}

/// Long enough to look for a password, short enough that no forgotten program listens for long.
pub const DEADLINE: Duration = Duration::from_secs(300);

/// Signs the user in with a browser on this machine.
///
/// Nothing is stored. Dropping the future ends the sign-in, and the listener with it.
///
/// # Errors
/// [`SignInError`]; every text says what to do, and none holds a code, a token or a control character.
pub async fn sign_in(order: SignIn<'_>) -> Result<Record, SignInError> {
    let plan = plan(&order).await?;
    let endpoint = plan.metadata.for_browser()?;
    match round(&order, &plan, endpoint, plan.registered()).await {
        // The server has forgotten the client that registered last time, so another one does.
        Err(SignInError::Token { error: TokenRefusal::Client(_), .. }) if plan.known.is_some() => {
            round(&order, &plan, endpoint, None).await
        }
        outcome => outcome,
    }
}

async fn round(
    order: &SignIn<'_>,
    plan: &Plan<'_>,
    endpoint: &Url,
    known: Option<&Record>,
) -> Result<Record, SignInError> {
    let metadata = &plan.metadata;
    let listener = listen(order.client.redirect_uri.as_ref(), known).await?;
    let redirect_uri = listener.uri().to_string();
    let used_for = Use::Browser(&redirect_uri);
    let Chosen { client, reused } =
        registration::client(order.fetcher, metadata, order.client, known, &used_for, &plan.registered_scopes())
            .await?;
    let attempt = Attempt::new(endpoint, &client, &redirect_uri, plan)?;
    (order.prompt)(Prompt::Browser { asked: &plan.asked(&client), url: &attempt.url });
    let late = |_| SignInError::Late { minutes: order.deadline.as_secs().div_ceil(60) };
    let answer = tokio::time::timeout(order.deadline, listener.answer(&attempt.state));
    // At the same time: a browser for the terminal ends only after it has brought the answer.
    let (callback, page) = tokio::select! {
        answer = answer => answer.map_err(late)?,
        never = open(order, &attempt.url) => match never {},
    };
    let grant = Grant {
        issuer: &metadata.issuer,
        resource: plan.resource.as_deref(),
        client: &client,
        token_endpoint: &metadata.token_endpoint,
        revocation_endpoint: metadata.revocation_endpoint.as_ref(),
        scopes: &plan.scopes,
    };
    let outcome = match code(metadata, callback, reused) {
        Ok(code) => exchange(order.fetcher, &grant, code, attempt.verifier, &redirect_uri, reused).await,
        Err(error) => Err(error),
    };
    page.show(if outcome.is_ok() { Page::SignedIn } else { Page::Failed }).await;
    outcome
}

/// Opens the browser, if one is wanted, and says if there is none.
async fn open(order: &SignIn<'_>, url: &Url) -> Infallible {
    if order.browser == BrowserMode::Open
        && let Err(reason) = browser::open(url).await
    {
        (order.prompt)(Prompt::NoBrowser { reason: &reason });
    }
    std::future::pending().await
}

/// Listens where the last answer came, if that was for a browser and the port is free, because that is
/// what is registered; else at the wanted redirect URI.
async fn listen(wanted: Option<&RedirectUri>, known: Option<&Record>) -> Result<Listener, LoopbackError> {
    let wanted = wanted.cloned().unwrap_or_default();
    let registered = known.and_then(|record| record.client.redirect_uri.as_deref()?.parse::<RedirectUri>().ok());
    if let Some(registered) = registered.filter(|uri| uri.with_any_port() == wanted)
        && let Ok(listener) = Listener::bind(&registered).await
    {
        return Ok(listener);
    }
    Listener::bind(&wanted).await
}

/// What one trip of the browser needs; used once.
struct Attempt {
    url: Url,
    state: Secret<String>,
    verifier: PkceCodeVerifier,
}

impl Attempt {
    fn new(endpoint: &Url, client: &Client, redirect_uri: &str, plan: &Plan<'_>) -> Result<Self, SignInError> {
        let state = random()?;
        let verifier = PkceCodeVerifier::new(random()?);
        let redirect_uri = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| LoopbackError::RedirectUri)?;
        let oauth = tokens::at(client, &plan.metadata.token_endpoint).set_auth_uri(AuthUrl::from_url(endpoint.clone()));
        let mut request = oauth
            .authorize_url(|| CsrfToken::new(state.clone()))
            .set_redirect_uri(Cow::Owned(redirect_uri))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .add_scopes(plan.scopes.iter().cloned().map(Scope::new));
        if let Some(resource) = &plan.resource {
            request = request.add_extra_param("resource", resource.as_str());
        }
        if plan.scopes.iter().any(|scope| scope == plan::OFFLINE_ACCESS) {
            // OpenID Connect Core §11: without it the scope is ignored.
            request = request.add_extra_param("prompt", "consent");
        }
        let (url, _) = request.url();
        Ok(Self { url, state: Secret::new(state), verifier })
    }
}

/// 256 random bits, as text.
fn random() -> Result<String, SignInError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| SignInError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The code of an answer that carried our state, if it is from the right issuer.
fn code(metadata: &Metadata, callback: Callback, reused: bool) -> Result<Secret<String>, SignInError> {
    let issuer = || plain(&metadata.issuer);
    // RFC 9207 §2.4. First of all: an answer from somewhere else has nothing to tell the user.
    let ours = match callback.iss.as_deref() {
        Some(iss) => iss == metadata.issuer,
        None => !metadata.iss_is_sent,
    };
    if !ours {
        return Err(SignInError::MixUp { issuer: issuer() });
    }
    match (callback.error.as_deref(), callback.code) {
        (Some("access_denied"), _) => Err(SignInError::Denied { issuer: issuer() }),
        (Some(error), _) => {
            let error = TokenError::refused(error, callback.error_description.as_ref());
            Err(SignInError::token(&metadata.issuer, error, reused))
        }
        (None, Some(code)) if !code.expose().is_empty() => Ok(code),
        (None, _) => Err(SignInError::NoCode { issuer: issuer() }),
    }
}

async fn exchange(
    fetcher: &Fetcher,
    grant: &Grant<'_>,
    code: Secret<String>,
    verifier: PkceCodeVerifier,
    redirect_uri: &str,
    reused: bool,
) -> Result<Record, SignInError> {
    let client = tokens::at(grant.client, grant.token_endpoint);
    let redirect_uri = RedirectUrl::new(redirect_uri.to_owned()).map_err(|_| LoopbackError::RedirectUri)?;
    let mut request = client
        .exchange_code(AuthorizationCode::new(code.expose().clone()))
        .set_pkce_verifier(verifier)
        .set_redirect_uri(Cow::Owned(redirect_uri));
    if let Some(resource) = grant.resource {
        request = request.add_extra_param("resource", resource);
    }
    let send = fetcher.sending(PATIENCE);
    let now = std::time::SystemTime::now();
    let answer = request.request_async(&send).await.map_err(TokenError::from);
    let granted = answer.and_then(|answer| answer.granted(now));
    granted.map(|granted| granted.record(grant)).map_err(|error| SignInError::token(grant.issuer, error, reused))
}

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Nobody is known to sign in at.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// There is no client to sign in as.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// The browser could not bring an answer.
    #[error(transparent)]
    Loopback(#[from] LoopbackError),
    /// The user said no, or nothing that the authorization server took for a yes.
    #[error("{issuer} was not allowed to give access (access_denied); sign in again to be asked again")]
    Denied {
        /// Who was asked.
        issuer: String,
    },
    /// The answer says neither yes nor no.
    #[error("the answer of {issuer} has no code")]
    NoCode {
        /// Who answered.
        issuer: String,
    },
    /// The answer is not from the authorization server that was asked.
    #[error(
        "the browser came back from another authorization server than {issuer}; nothing of its answer was used. \
         Somebody may try to steal a sign-in: tell the server's operator"
    )]
    MixUp {
        /// Who was asked.
        issuer: String,
    },
    /// The authorization server said no, to the user's consent or to its code.
    #[error("{issuer} gives no token: {error}")]
    Token {
        /// Who.
        issuer: String,
        /// Why.
        error: TokenRefusal,
    },
    /// Nobody consented.
    #[error(
        "nobody has signed in within {minutes} min; start again when you are ready. If the browser showed an \
         error about the client or its redirect URI, sign out first: then the program registers anew"
    )]
    Late {
        /// How long was waited.
        minutes: u64,
    },
    /// A code for another machine has ended.
    #[error("the code has expired before it was entered; start again when you are ready")]
    Expired,
    /// The operating system has no random numbers.
    #[error("the operating system gives no random numbers, without which signing in is not safe")]
    Random,
    /// A URL of the authorization server cannot be shown to the user.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// What an authorization server said instead of giving a token.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefusal {
    /// It does not know the client that was registered at an earlier sign-in.
    #[error("{0}")]
    Client(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl SignInError {
    pub(crate) fn token(issuer: &str, error: TokenError, reused: bool) -> Self {
        let error = match error {
            TokenError::Refused { code, text } if reused && FORGOTTEN.contains(&code.as_str()) => {
                TokenRefusal::Client(text)
            }
            error => TokenRefusal::Other(error.to_string()),
        };
        Self::Token { issuer: plain(issuer), error }
    }
}

/// What servers say of a client that they do not know any more, or not for this use.
const FORGOTTEN: [&str; 2] = ["invalid_client", "unauthorized_client"];

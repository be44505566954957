//! The embedded authorization server: OAuth 2.1 for people who have no identity provider.
//!
//! It issues opaque tokens for the resources of this bridge and no others, knows what it issued from
//! one file, and asks nobody. Everything that a token may do hangs on a grant, which its user made on a
//! page and can take back: from the next call on it is void.

mod account;
mod answer;
pub(crate) mod approval_code;
mod authorize;
mod browser;
mod client;
mod client_authentication;
mod consent;
mod cookie;
mod form;
mod form_tokens;
mod guesses;
mod metadata;
mod opaque;
mod pages;
pub mod passphrase;
mod redirect;
mod register;
mod registration;
mod revoke;
mod scopes;
mod sign_in;
pub(crate) mod store;
mod token;
mod verifier;

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, request::Parts};
use mcp_calculator::secret::Secret;
use tokio::task::spawn_blocking;
use tracing::error;

use self::{
    answer::Failure, approval_code::ApprovalCodes, cookie::CookieName, form_tokens::FormTokens, guesses::Guesses,
    register::Registrations, registration::fetch::Documents, store::Store,
};
pub use self::{approval_code::MistypedCode, scopes::Protected, store::StoreError, verifier::EmbeddedVerifier};
use crate::{config::Approve, resource::ResourceUri};

/// Where the authorization server answers, besides its metadata.
const PATHS: [&str; 9] =
    ["/authorize", "/token", "/register", "/revoke", "/sign-in", "/sign-out", "/consent", "/account", "/account/"];

/// Whether no MCP endpoint may be at `path`, because the authorization server is there.
pub fn is_own_path(path: &str) -> bool {
    PATHS.iter().any(|own| path == *own || own.ends_with('/') && path.starts_with(own))
}

/// What the authorization server is for, and how it works.
pub struct Settings {
    /// Where it keeps what it knows; made if it is not there.
    pub state_dir: PathBuf,
    /// The origin under which browsers and clients reach it: also its issuer identifier.
    pub issuer: String,
    /// What its tokens are for; at least one.
    pub resources: Vec<Protected>,
    /// How users sign in.
    pub approve: Approve,
    /// Whether clients may register only for a while after the owner has said so.
    pub registration_window: bool,
    /// Private URI schemes to which answers may be sent, besides the built-in ones.
    pub redirect_schemes: Vec<String>,
}

/// The authorization server (RFC 6749 §1.1), shared by all requests.
pub struct AuthServer {
    issuer: String,
    resources: Vec<Protected>,
    approve: Approve,
    registration_window: bool,
    redirect_schemes: Vec<String>,
    store: Store,
    documents: Documents,
    cookie: CookieName,
    form_tokens: FormTokens,
    approval_codes: ApprovalCodes,
    guesses: Guesses,
    registrations: Registrations,
    metadata: Bytes,
}

/// One request to it.
struct Request<'r> {
    method: &'r Method,
    path: &'r str,
    query: &'r str,
    headers: &'r HeaderMap,
    body: &'r [u8],
    now: SystemTime,
}

impl AuthServer {
    /// Opens what was kept, or begins anew.
    ///
    /// # Errors
    /// [`StoreError`] when the state cannot be used, with what to do.
    pub fn open(settings: Settings) -> Result<Self, StoreError> {
        let Settings { state_dir, issuer, resources, approve, registration_window, redirect_schemes } = settings;
        let store = Store::open(&state_dir)?;
        let metadata = metadata::document(&issuer, &resources);
        Ok(Self {
            cookie: CookieName::of(&issuer),
            issuer,
            resources,
            approve,
            registration_window,
            documents: Documents::new(redirect_schemes.clone()),
            redirect_schemes,
            store,
            form_tokens: FormTokens::new(),
            approval_codes: ApprovalCodes::new(),
            guesses: Guesses::new(),
            registrations: Registrations::new(),
            metadata,
        })
    }

    /// Makes the owner if there is none yet, and says whether it did. `passphrase` is asked for one,
    /// unless users sign in in the terminal.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn first_start(
        &self,
        passphrase: impl FnOnce() -> Option<Secret<String>>,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        if self.store.owner()?.is_some() {
            return Ok(false);
        }
        let hash = match self.approve {
            Approve::Passphrase => passphrase().map(|passphrase| passphrase::hash(&passphrase)),
            Approve::Terminal => None,
        };
        self.store.add_user(OWNER, hash.as_deref(), None, true, now)?;
        Ok(true)
    }

    /// Whether somebody can sign in at all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn can_sign_in(&self) -> Result<bool, StoreError> {
        let can =
            self.approve == Approve::Terminal || self.store.users()?.iter().any(|user| user.passphrase_hash.is_some());
        Ok(can)
    }

    /// Whether requests to `path` are for the authorization server.
    pub fn owns(&self, path: &str) -> bool {
        metadata::is_at(path) || is_own_path(path)
    }

    /// The longest body that is read of a request to `path`.
    pub fn max_body_bytes(path: &str) -> usize {
        match path {
            // The form of the sign-in page has the whole authorization request in it, and that of the
            // page that asks has every scope that was ticked.
            "/sign-in" | "/consent" => Self::LONG_BODY,
            _ => 8 * 1024,
        }
    }

    /// What is long for a body here.
    pub const LONG_BODY: usize = 64 * 1024;

    /// Answers one request, whose host is known to be ours.
    pub async fn handle(self: &Arc<Self>, head: &Parts, body: Bytes, now: SystemTime) -> Response<Bytes> {
        let request = Request {
            method: &head.method,
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers: &head.headers,
            body: &body,
            now,
        };
        if metadata::is_at(request.path) {
            return metadata::answer(&request, &self.metadata);
        }
        let answered = match request.path {
            "/authorize" => self.authorize(&request).await,
            "/sign-in" => self.sign_in(&request).await,
            "/sign-out" => self.sign_out(&request).await,
            "/consent" => self.consent(&request).await,
            "/token" => return self.token(&request).await,
            "/revoke" => return self.revoke(&request).await,
            "/register" => return self.register(&request).await,
            _ => self.account(&request).await,
        };
        answered.unwrap_or_else(Failure::into_page)
    }

    /// What verifies the tokens for `resource`, which is one of those in the settings.
    pub fn verifier(self: &Arc<Self>, resource: &ResourceUri) -> EmbeddedVerifier {
        EmbeddedVerifier::new(self.store.clone(), &self.issuer, resource)
    }

    /// Deletes what has ended. To be called now and then.
    pub async fn tidy(&self) {
        let store = self.store.clone();
        let tidied = spawn_blocking(move || store.tidy(SystemTime::now())).await;
        if let Ok(Err(error)) = tidied {
            error!(%error, "cannot tidy the authorization server's state");
        }
    }

    /// Calls the store where a disk may be waited for.
    async fn with_store<R: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, Failure> {
        let store = self.store.clone();
        match spawn_blocking(move || call(&store)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                error!(%error, "the authorization server cannot use its state");
                Err(Failure::Unavailable)
            }
            // The program ends.
            Err(_) => Err(Failure::Unavailable),
        }
    }

    fn resource(&self, uri: &str) -> Option<&Protected> {
        self.resources.iter().find(|protected| protected.uri == uri)
    }
}

/// The name of the first user.
pub const OWNER: &str = "owner";

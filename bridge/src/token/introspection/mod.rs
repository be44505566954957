//! Asking the authorization server about a token (RFC 7662).

use std::{
    future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderValue, StatusCode};
use mcp_calculator::secret::Secret;
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tracing::{debug, error, info, warn};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::{
    Audiences, BearerToken, BuildError, Inactive, Issuer, NotReady, TokenVerifier, Verdict, VerifyError,
    breaker::Breaker,
    cache::{TokenDigest, VerdictCache},
    claims::{Claims, Refusal, Rules},
    discovery::{Endpoint, Which},
    fetch::{Answer, Fetcher, TOTAL_TIMEOUT},
    flights::Flights,
    health::Health,
    observer::{CacheEvent, IntrospectionResult, Observer},
};
use crate::telemetry::alarm::OncePerMinute;

/// Questions under way at once. A flood of unknown tokens then costs the authorization server no
/// more than sixteen connections.
const MAX_QUESTIONS: usize = 16;

/// Questions under way and waiting for their turn. A flood on top of that gets its refusal at once;
/// waiting for one would only hold its connections in memory.
const MAX_WAITING: usize = 1024;

/// The authorization server has said `active`, so its own clock has passed `nbf`; this covers
/// clocks that are a little apart.
const NBF_LEEWAY: Duration = Duration::from_secs(5);

/// How to ask, and what to accept.
#[derive(Clone, Debug)]
pub struct IntrospectionSettings {
    /// Where to ask. Without it the issuer's metadata says so, when the first question comes up.
    pub endpoint: Option<Url>,
    /// Who issues the tokens.
    pub issuer: Issuer,
    /// Our own name at the authorization server.
    pub client_id: String,
    /// Our own secret there.
    pub client_secret: Secret<String>,
    /// How long a good token stays good without asking again, at most a day: the time for which a
    /// revoked token goes on working. Zero asks for every request: no answer, good or bad, serves a
    /// second request, not even one that waits for it at the same time.
    pub cache_ttl: Duration,
    /// Whether a token must say when it ends.
    pub require_exp: bool,
    /// Whom a token may be meant for.
    pub audiences: Audiences,
}

/// Verifies tokens by asking the authorization server that issued them.
///
/// - At most 16 questions at once; waiting for one, asking and reading take 5 s together.
/// - After five failures in a row nothing is asked for 2 s, then one question at a time until one
///   is answered. A 400 is an answer: it is about the token. So is a refusal of our own
///   credentials (401, 403), which is about us: it is logged, and makes [`TokenVerifier::ready`]
///   fail, but a firewall that answers 403 to odd tokens must not let a stranger stop the others.
/// - Answers are kept for `cache_ttl`, refusals for 10 s, failures never.
pub struct IntrospectionVerifier(Arc<Asker>);

struct Asker {
    fetcher: Fetcher,
    endpoint: Endpoint,
    authorization: HeaderValue,
    rules: Rules,
    /// Absent when the TTL is zero.
    memory: Option<Memory>,
    questions: Semaphore,
    waiting: Semaphore,
    breaker: Breaker,
    health: Health,
    credentials_alarm: OncePerMinute,
    observer: Arc<dyn Observer>,
}

struct Memory {
    cache: VerdictCache,
    flights: Arc<Flights>,
}

impl IntrospectionVerifier {
    /// Builds it; asks nobody yet.
    ///
    /// # Errors
    /// [`BuildError`] for a URL that secrets must not travel to, and when TLS cannot be set up.
    pub fn new(settings: IntrospectionSettings, observer: Arc<dyn Observer>) -> Result<Self, BuildError> {
        let IntrospectionSettings { endpoint, issuer, client_id, client_secret, cache_ttl, require_exp, audiences } =
            settings;
        let endpoint = Endpoint::new(endpoint, &issuer, Which::Introspection)?;
        Ok(Self(Arc::new(Asker {
            fetcher: Fetcher::new(endpoint.is_plain())?,
            endpoint,
            authorization: basic(&client_id, client_secret.expose())?,
            rules: Rules { issuer, audiences, require_iss: false, require_exp, nbf_leeway: NBF_LEEWAY },
            memory: (!cache_ttl.is_zero())
                .then(|| Memory { cache: VerdictCache::new(cache_ttl), flights: Arc::default() }),
            questions: Semaphore::new(MAX_QUESTIONS),
            waiting: Semaphore::new(MAX_WAITING),
            breaker: Breaker::new(),
            health: Health::default(),
            credentials_alarm: OncePerMinute::default(),
            observer,
        })))
    }
}

impl TokenVerifier for IntrospectionVerifier {
    fn verify<'a>(&'a self, token: &'a BearerToken, now: SystemTime) -> BoxFuture<'a, Verdict> {
        let asker = &self.0;
        let Some(memory) = &asker.memory else {
            return asker.ask(token.expose(), now).boxed();
        };
        // The look-up comes before the future is made, so that a known token costs a box of one
        // verdict and not of everything that a question needs.
        let key = TokenDigest::of(token);
        if let Some(verdict) = memory.cache.look_up(&key, now) {
            asker.observer.cache(CacheEvent::Hit);
            return future::ready(verdict).boxed();
        }
        self.join(memory, key, token, now).boxed()
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        self.0.health.check(self.0.probe()).boxed()
    }
}

impl IntrospectionVerifier {
    async fn join(&self, memory: &Memory, key: TokenDigest, token: &BearerToken, now: SystemTime) -> Verdict {
        let (flight, joined) = memory.flights.join(key, || {
            let asker = Arc::clone(&self.0);
            let token = Secret::new(token.expose().to_owned());
            async move { asker.ask_and_keep(key, token.expose(), now).await }.boxed()
        });
        self.0.observer.cache(if joined { CacheEvent::Coalesced } else { CacheEvent::Miss });
        let verdict = flight.await;
        match verdict {
            Ok(token) if token.is_expired(now) => Err(VerifyError::Inactive(Inactive::Expired)),
            verdict => verdict,
        }
    }
}

impl Asker {
    async fn ask_and_keep(&self, key: TokenDigest, token: &str, now: SystemTime) -> Verdict {
        let Some(memory) = &self.memory else {
            return self.ask(token, now).await;
        };
        // Another question may have been answered between our look-up and our turn.
        if let Some(verdict) = memory.cache.look_up(&key, now) {
            return verdict;
        }
        let verdict = self.ask(token, now).await;
        memory.cache.store(key, &verdict, now);
        verdict
    }

    /// Asks about `token`, if now is a time to ask.
    async fn ask(&self, token: &str, now: SystemTime) -> Verdict {
        let started = Instant::now();
        let not_asked = |why: &str| {
            self.observer.introspected(IntrospectionResult::NotAsked, started.elapsed());
            Err(VerifyError::Unavailable(why.into()))
        };
        const RESTING: &str = "the authorization server did not answer lately and is left alone for a moment";
        if self.breaker.is_open() {
            return not_asked(RESTING);
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return not_asked("too many tokens are waiting to be asked about");
        };
        let deadline = started + TOTAL_TIMEOUT;
        let Ok(Ok(_slot)) = timeout_at(deadline, self.questions.acquire()).await else {
            return not_asked("too many tokens are being asked about; none of the questions ended within 5 s");
        };
        let Some(_pass) = self.breaker.admit() else {
            return not_asked(RESTING);
        };
        let reply = self.exchange(token, deadline).await;
        self.take_note(&reply);
        let (verdict, result) = self.judge(reply, now);
        self.observer.introspected(result, started.elapsed());
        verdict
    }

    fn judge(&self, reply: Reply, now: SystemTime) -> (Verdict, IntrospectionResult) {
        let inactive = |why| (Err(VerifyError::Inactive(why)), IntrospectionResult::Inactive);
        let unavailable = |why: &str, result| (Err(VerifyError::Unavailable(why.into())), result);
        match reply {
            Reply::Active(claims) => match self.rules.judge(&claims, now) {
                Ok(token) => (Ok(Arc::new(token)), IntrospectionResult::Active),
                Err(Refusal::Inactive(why)) => inactive(why),
                Err(Refusal::Malformed(what)) => {
                    unavailable(&format!("malformed introspection answer: {what}"), IntrospectionResult::Unavailable)
                }
            },
            Reply::Inactive | Reply::TokenRefused => inactive(Inactive::NotActive),
            Reply::CredentialsRefused(status) => {
                unavailable(&credentials_refused(status), IntrospectionResult::CredentialsRefused)
            }
            Reply::Failed(why) => unavailable(&why, IntrospectionResult::Unavailable),
        }
    }

    /// Draws the conclusions for everybody else from one reply.
    fn take_note(&self, reply: &Reply) {
        match reply {
            Reply::Active(_) | Reply::Inactive => {
                self.health.good();
                if self.breaker.succeeded() {
                    info!("the authorization server answers again");
                }
            }
            // It is up, but this does not show that it knows us.
            Reply::TokenRefused => {
                if self.breaker.succeeded() {
                    info!("the authorization server answers again");
                }
            }
            Reply::CredentialsRefused(status) => {
                self.health.doubt();
                if self.credentials_alarm.is_due() {
                    error!("{}", credentials_refused(*status));
                }
            }
            Reply::Failed(why) => {
                self.health.doubt();
                debug!(why, "introspection failed");
                if self.breaker.failed() {
                    warn!(why, "the authorization server does not answer; asking it again every 2 s");
                    self.endpoint.forget();
                }
            }
        }
    }

    /// Asks about a token that nobody has, for [`TokenVerifier::ready`]: only an authorization
    /// server that is up and knows us says that it is not active. Asks through an open breaker too.
    async fn probe(&self) -> Result<(), NotReady> {
        let started = Instant::now();
        let deadline = started + TOTAL_TIMEOUT;
        let Ok(Ok(_slot)) = timeout_at(deadline, self.questions.acquire()).await else {
            return Err(NotReady::unreachable("too many tokens are being asked about"));
        };
        let mut random = [0; 24];
        getrandom::fill(&mut random).map_err(|error| NotReady::unreachable(format!("no random numbers: {error}")))?;
        let reply = self.exchange(&BASE64_URL_SAFE_NO_PAD.encode(random), deadline).await;
        self.take_note(&reply);
        match reply {
            Reply::Active(_) | Reply::Inactive | Reply::TokenRefused => Ok(()),
            Reply::CredentialsRefused(status) => Err(NotReady::credentials(credentials_refused(status))),
            Reply::Failed(why) => Err(NotReady::unreachable(why)),
        }
    }

    /// One question and its reply, until `deadline`.
    async fn exchange(&self, token: &str, deadline: Instant) -> Reply {
        let form = [("token", token), ("token_type_hint", "access_token")];
        let question = async {
            let url = self.endpoint.url(&self.fetcher).await?;
            self.fetcher.post_form(&url, &self.authorization, &form).await.map_err(|error| error.to_string())
        };
        match timeout_at(deadline, question).await {
            Ok(Ok(answer)) => Reply::read(&answer),
            Ok(Err(why)) => Reply::Failed(format!("cannot ask the authorization server: {why}")),
            Err(_) => Reply::Failed("cannot ask the authorization server: no answer within 5 s".to_owned()),
        }
    }
}

/// What came back.
enum Reply {
    Active(Box<Claims>),
    Inactive,
    /// 400: real servers answer `unsupported_token_type` so.
    TokenRefused,
    CredentialsRefused(StatusCode),
    Failed(String),
}

impl Reply {
    fn read(answer: &Answer) -> Self {
        match answer.status {
            StatusCode::OK => match Claims::parse(&answer.body) {
                Some(claims) => match claims.active() {
                    Some(true) => Self::Active(Box::new(claims)),
                    Some(false) => Self::Inactive,
                    None => Self::Failed("malformed introspection answer: no boolean `active`".to_owned()),
                },
                None => Self::Failed("malformed introspection answer: not a JSON object, or a member twice".to_owned()),
            },
            status @ StatusCode::BAD_REQUEST if is_about_us(&answer.body) => Self::CredentialsRefused(status),
            StatusCode::BAD_REQUEST => Self::TokenRefused,
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Self::CredentialsRefused(status),
            status => Self::Failed(format!("the authorization server answered {status} to introspection")),
        }
    }
}

/// Whether a 400 refuses the client and not the token: RFC 6749 §5.2 lets a server answer
/// `invalid_client` so, and taking that for a bad token would log everybody out.
fn is_about_us(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct ErrorAnswer {
        error: String,
    }
    serde_json::from_slice::<ErrorAnswer>(body)
        .is_ok_and(|answer| matches!(answer.error.as_str(), "invalid_client" | "unauthorized_client"))
}

fn credentials_refused(status: StatusCode) -> String {
    format!(
        "the authorization server refused our own client credentials ({status}); check the introspection client's id \
         and secret, and that it may introspect"
    )
}

/// HTTP Basic as OAuth has it: id and secret form-urlencoded first (RFC 6749 §2.3.1).
fn basic(client_id: &str, client_secret: &str) -> Result<HeaderValue, BuildError> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encode(client_id), *Zeroizing::new(encode(client_secret))));
    let value = Zeroizing::new(format!("Basic {}", *Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()))));
    let mut value = HeaderValue::from_str(&value).map_err(|_| BuildError::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;

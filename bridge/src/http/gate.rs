//! One request's way, from its head to its answer.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN},
    request::Parts,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mcp_calculator::server::{Era, LEGACY_VERSIONS, MODERN_VERSION};
use tokio::{sync::Semaphore, time::Instant};
use tracing::{debug, error};

use crate::{
    backend::Answer,
    config::{Limits, RateLimit},
    era::Mirror,
    http::{
        challenge::Challenges,
        metadata::ProtectedResourceMetadata,
        origin::{self, Origins},
        record::Record,
        respond::{self, Body, Refusal},
        sse,
    },
    message::{Id, Message, Request as RpcRequest, shown, text},
    policy::{Denial, Permit, Policy},
    relay::{
        Outcome, Relay,
        session::{SessionId, Sessions},
    },
    resource::ResourceUri,
    telemetry::{
        audit::{self, Audit},
        metrics::{MethodLabel, Metrics},
    },
    token::{BearerToken, Issuer, TokenVerifier, VerifiedToken, VerifyError},
};

const SESSION_HEADER: &str = "mcp-session-id";

/// Everything that one request's way needs, shared by all requests.
pub struct Gate {
    paths: [String; 2],
    metadata: ProtectedResourceMetadata,
    challenges: Challenges,
    origins: Origins,
    trusted_proxies: Vec<IpAddr>,
    verifier: Arc<dyn TokenVerifier>,
    policy: Policy,
    relay: Relay,
    sessions: Arc<Sessions>,
    limits: Limits,
    running: Semaphore,
    rates: Option<Rates>,
    audit: Option<Audit>,
    metrics: Arc<Metrics>,
}

/// What a [`Gate`] is made of.
pub struct Setup<'a> {
    /// What is protected.
    pub resource: &'a ResourceUri,
    /// The endpoint's path as we are reached locally.
    pub path: &'a str,
    /// Where we listen.
    pub bound: SocketAddr,
    /// Who issues the tokens; `None` without authorization.
    pub issuer: Option<&'a Issuer>,
    /// `resource_name` of the metadata.
    pub name: &'a str,
    /// `resource_documentation` of the metadata.
    pub documentation: Option<&'a str>,
    /// Names under which a proxy may pass requests on.
    pub allowed_hosts: &'a [String],
    /// Pages that may call us; empty for loopback ones.
    pub allowed_origins: &'a [String],
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Who verifies tokens.
    pub verifier: Arc<dyn TokenVerifier>,
    /// What requests need.
    pub policy: Policy,
    /// What carries them out.
    pub relay: Relay,
    /// Bounds.
    pub limits: Limits,
    /// Whether principals are counted against the rate limit.
    pub limit_rates: bool,
    /// The audit file.
    pub audit: Option<Audit>,
    /// Numbers.
    pub metrics: Arc<Metrics>,
}

impl Gate {
    /// The gate before one endpoint.
    pub fn new(setup: Setup<'_>) -> Self {
        let Setup { resource, path, limits, metrics, policy, .. } = setup;
        let sessions = Sessions::new(
            limits.session_idle,
            limits.max_sessions,
            limits.max_sessions_per_principal,
            Arc::clone(&metrics),
        );
        let public_path = if resource.path().is_empty() { "/" } else { resource.path() };
        Self {
            paths: [path.to_owned(), public_path.to_owned()],
            metadata: ProtectedResourceMetadata::new(
                resource,
                path,
                setup.issuer,
                policy.scopes(),
                setup.name,
                setup.documentation,
            ),
            challenges: Challenges::new(resource, policy.scopes()),
            origins: Origins::new(resource, setup.bound, setup.allowed_hosts, setup.allowed_origins),
            trusted_proxies: setup.trusted_proxies,
            verifier: setup.verifier,
            policy,
            relay: setup.relay,
            sessions: Arc::new(sessions),
            running: Semaphore::new(limits.max_concurrent_requests),
            rates: limits.rate_limit.filter(|_| setup.limit_rates).map(Rates::new),
            limits,
            audit: setup.audit,
            metrics,
        }
    }

    /// Answers one HTTP request from `peer`. Dropping the future cancels the request.
    pub async fn handle<B>(&self, request: Request<B>, peer: IpAddr) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        match head.uri.path() {
            "/healthz" => return respond::text(StatusCode::OK, "ok\n"),
            "/readyz" => return self.readiness().await,
            path if self.metadata.is_at(path) => return self.metadata_response(&head),
            _ => {}
        }
        let client = origin::client_address(peer, &head.headers, &self.trusted_proxies);
        let mut record = Record::begin(client, Arc::clone(&self.metrics));
        let mut response = match self.answer(&head, body, &mut record).await {
            Ok(response) => response,
            Err(refusal) => {
                self.metrics.refused(refusal.reason());
                record.cause = Some(respond::cause(&refusal));
                respond::refused(&refusal, &self.challenges)
            }
        };
        if let Some(page) = head.headers.get(ORIGIN).filter(|page| self.is_allowed_page(page)) {
            origin::allow_reading(response.headers_mut(), page);
        }
        record.status = Some(response.status());
        response
    }

    /// The order of the checks is part of the security: nothing is read from a stranger before the
    /// cheap ones, and no body before the token.
    async fn answer<B>(&self, head: &Parts, body: B, record: &mut Record) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !self.is_our_host(&head.uri, &head.headers) {
            return Err(Refusal::ForeignHost);
        }
        if !head.headers.get_all(ORIGIN).iter().all(|page| self.is_allowed_page(page)) {
            return Err(Refusal::ForeignOrigin);
        }
        if !self.paths.iter().any(|path| path == head.uri.path()) {
            return Err(Refusal::NoSuchPath);
        }
        if head.method == Method::OPTIONS {
            let mut response = respond::empty(StatusCode::NO_CONTENT);
            origin::answer_preflight(response.headers_mut(), &head.headers);
            record.allowed = true;
            return Ok(response);
        }
        if ![Method::POST, Method::GET, Method::DELETE].contains(&head.method) {
            return Err(Refusal::MethodNotAllowed { allow: "GET, POST, DELETE, OPTIONS" });
        }
        let _running = self.running.try_acquire().map_err(|_| Refusal::Overloaded)?;
        let _counted = self.metrics.request_in_flight();
        let (token, verified) = self.authenticate(&head.headers).await?;
        record.caller = Some(Arc::clone(&verified));
        if let Some(rates) = &self.rates {
            rates.check(&verified).map_err(Refusal::RateLimited)?;
        }
        match head.method {
            Method::POST => self.post(head, body, &verified, record).await,
            Method::GET => self.get(&head.headers, token, verified, record),
            _ => self.delete(&head.headers, &verified, record),
        }
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<(Option<BearerToken>, Arc<VerifiedToken>), Refusal> {
        if let Some(anybody) = self.verifier.without_token() {
            return Ok((None, anybody));
        }
        let credentials = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let token = BearerToken::from_authorization(credentials).map_err(Refusal::MalformedCredentials)?;
        let token = token.ok_or(Refusal::NoToken)?;
        match self.verifier.verify(&token, SystemTime::now()).await {
            Ok(verified) => Ok((Some(token), verified)),
            Err(VerifyError::Inactive(why)) => Err(Refusal::InvalidToken(why)),
            Err(VerifyError::Unavailable(why)) => Err(Refusal::VerifierUnavailable(why)),
        }
    }

    async fn post<B>(
        &self,
        head: &Parts,
        body: B,
        caller: &VerifiedToken,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !is_json(&head.headers) {
            return Err(Refusal::ContentType);
        }
        let accepts = Accepts::of(&head.headers);
        if !accepts.json && !accepts.events {
            return Err(Refusal::NotAcceptable { offered: "application/json or text/event-stream" });
        }
        let body = self.read(&head.headers, body).await?;
        let message = Message::parse(&body).map_err(Refusal::Unparsable)?;
        let mirror = mirror(&head.headers);
        let era = mirror.era(&message);
        let request = match message {
            Message::Request(request) => {
                record.asks(&request.method, request.params.target.as_deref());
                request
            }
            Message::Notification(notification) => {
                record.asks(&notification.method, None);
                if era == Era::Legacy {
                    self.session(&head.headers, caller, "null")?;
                }
                record.allowed = true;
                return Ok(respond::empty(StatusCode::ACCEPTED));
            }
            Message::Response(_) if era == Era::Legacy => {
                record.label = MethodLabel::Response;
                self.session(&head.headers, caller, "null")?;
                record.allowed = true;
                return Ok(respond::empty(StatusCode::ACCEPTED));
            }
            Message::Response(_) => return Err(Refusal::UnexpectedResponse),
        };
        let opens_session = era == Era::Legacy && request.method == "initialize";
        match era {
            Era::Modern => mirror.check(&request).map_err(|error| Refusal::Envelope { id: id(&request.id), error })?,
            Era::Legacy if opens_session => {}
            Era::Legacy => self.session(&head.headers, caller, request.id.as_json())?,
        }
        let permit = self.permit(request, caller, record).await?;
        let outcome = self.relay.call(&permit, caller, era).await;
        let session = match &outcome {
            Outcome::Answered(Answer { error: None, .. }) if opens_session => Some(self.open_session(&permit, caller)?),
            _ => None,
        };
        Ok(answered(&outcome, era, accepts, session))
    }

    /// Judges the request, and writes down what was judged before anything runs.
    async fn permit<'a>(
        &self,
        request: RpcRequest<'a>,
        caller: &VerifiedToken,
        record: &mut Record,
    ) -> Result<Permit<'a>, Refusal> {
        let verdict = self.policy.permit(caller, request);
        let request = match &verdict {
            Ok(permit) => permit.request(),
            Err(denied) => &denied.request,
        };
        if let Some(audit) = &self.audit {
            let operation = request.params.arguments.as_ref().and_then(|arguments| arguments.get("operation"));
            let operation = operation.and_then(text);
            let missing = match &verdict {
                Err(denied) => match &denied.reason {
                    Denial::Scope { missing, .. } => Some(missing),
                    Denial::NoRule => None,
                },
                Ok(_) => None,
            };
            let entry = audit::Record {
                time: SystemTime::now(),
                request_id: &record.request_id,
                subject: caller.subject.as_deref(),
                client_id: caller.client_id.as_deref(),
                email: caller.email.as_deref(),
                method: &request.method,
                tool: request.params.target.as_deref(),
                operation: operation.as_deref(),
                decision: if verdict.is_ok() { audit::Decision::Allowed } else { audit::Decision::Refused },
                missing,
                status: verdict.is_err().then_some(StatusCode::FORBIDDEN.as_u16()),
                arguments: request.params.members.get("arguments"),
            };
            if let Err(failure) = audit.record(&entry).await {
                debug!(error = %failure, "a request is refused because it cannot be recorded");
                return Err(Refusal::NotAudited { id: id(&request.id) });
            }
        }
        match verdict {
            Ok(permit) => {
                record.allowed = true;
                Ok(permit)
            }
            Err(denied) => {
                let (id, what) = (id(&denied.request.id), subject(&denied.request));
                Err(match denied.reason {
                    Denial::NoRule => Refusal::NoRule { id, what },
                    Denial::Scope { needed, missing } => {
                        record.missing = Some(missing.clone());
                        Refusal::InsufficientScope { id, what, needed, missing }
                    }
                })
            }
        }
    }

    fn open_session(&self, permit: &Permit<'_>, caller: &VerifiedToken) -> Result<SessionId, Refusal> {
        self.sessions.open(caller, Instant::now()).map_err(|_| Refusal::SessionsFull { id: id(&permit.request().id) })
    }

    /// Checks that a legacy request belongs to a session that lives and is the caller's.
    fn session(&self, headers: &HeaderMap, caller: &VerifiedToken, id: &str) -> Result<(), Refusal> {
        let session = session_of(headers, id)?;
        let known = session.is_some_and(|session| self.sessions.touch(&session, caller, Instant::now()));
        if known { Ok(()) } else { Err(Refusal::SessionUnknown { id: id.to_owned() }) }
    }

    fn get(
        &self,
        headers: &HeaderMap,
        token: Option<BearerToken>,
        verified: Arc<VerifiedToken>,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        record.label = MethodLabel::Get;
        check_legacy_version(headers, "POST, OPTIONS")?;
        if !Accepts::of(headers).events {
            return Err(Refusal::NotAcceptable { offered: "text/event-stream" });
        }
        let stream = session_of(headers, "null")?
            .and_then(|session| self.sessions.open_stream(&session, &verified, Instant::now()))
            .ok_or_else(|| Refusal::SessionUnknown { id: "null".to_owned() })?;
        record.allowed = true;
        let verifier = Arc::clone(&self.verifier);
        Ok(respond::events(sse::session_stream(sse::Watch {
            stream,
            verifier,
            token,
            verified,
            keep_alive: self.limits.keep_alive,
        })))
    }

    fn delete(
        &self,
        headers: &HeaderMap,
        caller: &VerifiedToken,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        record.label = MethodLabel::Delete;
        check_legacy_version(headers, "POST, OPTIONS")?;
        let ended =
            session_of(headers, "null")?.is_some_and(|session| self.sessions.end(&session, caller, Instant::now()));
        if !ended {
            return Err(Refusal::SessionUnknown { id: "null".to_owned() });
        }
        record.allowed = true;
        Ok(respond::empty(StatusCode::NO_CONTENT))
    }

    async fn read<B>(&self, headers: &HeaderMap, body: B) -> Result<Bytes, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let max_bytes = self.limits.max_body_bytes;
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > max_bytes as u64) {
            return Err(Refusal::TooLarge { max_bytes });
        }
        let collected = std::pin::pin!(Limited::new(body, max_bytes).collect());
        match tokio::time::timeout(self.limits.body_timeout, collected).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge { max_bytes }),
            Ok(Err(_)) => Err(Refusal::BrokenBody),
            Err(_) => Err(Refusal::TooSlow),
        }
    }

    fn is_our_host(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or_default());
        let host = match (uri.authority(), hosts.next()) {
            (Some(authority), None) => authority.as_str(),
            (Some(authority), Some(host)) if authority.as_str() == host => host,
            (None, Some(host)) => host,
            _ => return false,
        };
        hosts.next().is_none() && self.origins.is_our_host(host)
    }

    fn is_allowed_page(&self, page: &HeaderValue) -> bool {
        page.to_str().is_ok_and(|page| self.origins.allows(page))
    }

    fn metadata_response(&self, head: &Parts) -> Response<Body> {
        let mut response = match head.method {
            Method::GET | Method::HEAD => respond::json(StatusCode::OK, self.metadata.document()),
            Method::OPTIONS => respond::empty(StatusCode::NO_CONTENT),
            _ => respond::refused(&Refusal::MethodNotAllowed { allow: "GET, HEAD, OPTIONS" }, &self.challenges),
        };
        let found = response.status() == StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        if head.method == Method::OPTIONS {
            headers.insert("access-control-allow-methods", HeaderValue::from_static("GET, HEAD, OPTIONS"));
            headers.insert("access-control-allow-headers", HeaderValue::from_static("mcp-protocol-version"));
        } else if found {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
        }
        response
    }

    async fn readiness(&self) -> Response<Body> {
        let (status, body) = match self.verifier.ready().await {
            Ok(()) => (StatusCode::OK, serde_json::json!({ "ready": true })),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "ready": false, "reason": reason })),
        };
        respond::json(status, body.to_string().into())
    }

    /// Forgets what has been idle for too long. To be called now and then.
    pub fn tidy(&self) {
        self.sessions.end_idle(Instant::now());
        if let Some(rates) = &self.rates {
            rates.limiter.retain_recent();
        }
    }

    /// Ends the streams that would otherwise outlive every drain.
    pub fn end_streams(&self) {
        self.sessions.end_streams();
    }

    /// Opens the audit file again, after a log rotation.
    pub async fn reopen_audit(&self) {
        if let Some(audit) = &self.audit
            && let Err(failure) = audit.reopen().await
        {
            error!(error = %failure, "cannot open the audit file again; records go to the old one");
        }
    }

    /// Writes down what is still waiting for the audit file.
    pub async fn close_audit(&self) {
        if let Some(audit) = &self.audit
            && let Err(failure) = audit.shutdown().await
        {
            error!(error = %failure, "audit records may be lost");
        }
    }
}

/// How often each principal may call.
struct Rates {
    limiter: DefaultKeyedRateLimiter<u64>,
    hasher: RandomState,
}

impl Rates {
    fn new(limit: RateLimit) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        Self { limiter: RateLimiter::keyed(quota), hasher: RandomState::new() }
    }

    /// The error is how long to wait.
    fn check(&self, token: &VerifiedToken) -> Result<(), Duration> {
        // A hash keeps an entry small; two principals that share one share a limit, no more.
        let key = self.hasher.hash_one((&token.issuer, &token.subject, &token.client_id));
        self.limiter.check_key(&key).map_err(|until| until.wait_time_from(self.limiter.clock().now()))
    }
}

/// Which answers the client reads.
#[derive(Clone, Copy)]
struct Accepts {
    json: bool,
    events: bool,
}

impl Accepts {
    /// Without `Accept`, anything goes (RFC 9110 §12.5.1).
    fn of(headers: &HeaderMap) -> Self {
        let mut accepts = Self { json: false, events: false };
        let mut present = false;
        for value in headers.get_all(ACCEPT) {
            present = true;
            for range in value.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
                let refused = parts.any(|part| {
                    part.strip_prefix("q=").or(part.strip_prefix("Q=")).is_some_and(|q| q.parse::<f32>() == Ok(0.0))
                });
                if !refused {
                    accepts.json |= matches!(kind.as_str(), "application/json" | "application/*" | "*/*");
                    accepts.events |= matches!(kind.as_str(), "text/event-stream" | "text/*" | "*/*");
                }
            }
        }
        if present { accepts } else { Self { json: true, events: true } }
    }
}

fn answered(outcome: &Outcome, era: Era, accepts: Accepts, session: Option<SessionId>) -> Response<Body> {
    let (Outcome::Answered(Answer { message, .. }) | Outcome::TimedOut(Answer { message, .. })) = outcome;
    let status = respond::status_of(outcome, era);
    // One message needs no stream, and tunnels hold streams back.
    let mut response =
        if accepts.json { respond::json(status, message.clone()) } else { respond::events(sse::single(message)) };
    *response.status_mut() = status;
    if let Some(value) = session.and_then(|session| HeaderValue::from_str(&session.header_value()).ok()) {
        response.headers_mut().insert(SESSION_HEADER, value);
    }
    response
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let essence = types.next().and_then(|value| value.to_str().ok()?.split(';').next().map(str::trim));
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) && types.next().is_none()
}

fn mirror(headers: &HeaderMap) -> Mirror<'_> {
    let value = |name| Mirror::value(headers.get_all(name).iter().map(HeaderValue::as_bytes));
    Mirror { version: value("mcp-protocol-version"), method: value("mcp-method"), name: value("mcp-name") }
}

/// GET and DELETE are for legacy sessions only.
fn check_legacy_version(headers: &HeaderMap, allow: &'static str) -> Result<(), Refusal> {
    match mirror(headers).version {
        None => Ok(()),
        Some(Ok(version)) if LEGACY_VERSIONS.contains(&version) => Ok(()),
        Some(Ok(version)) if version == MODERN_VERSION => Err(Refusal::MethodNotAllowed { allow }),
        Some(_) => Err(Refusal::UnsupportedVersion),
    }
}

/// The session that a request names; `Ok(None)` for one that cannot exist.
fn session_of(headers: &HeaderMap, id: &str) -> Result<Option<SessionId>, Refusal> {
    let mut values = headers.get_all(SESSION_HEADER).iter();
    let value = values.next().ok_or_else(|| Refusal::SessionMissing { id: id.to_owned() })?;
    Ok(SessionId::parse(value.as_bytes()).filter(|_| values.next().is_none()))
}

fn id(id: &Id<'_>) -> String {
    id.as_json().to_owned()
}

/// What a request is about, for messages: the operation or the tool, else the method.
fn subject(request: &RpcRequest<'_>) -> String {
    let operation = request.params.arguments.as_ref().and_then(|arguments| arguments.get("operation"));
    let name = operation.and_then(text).or_else(|| request.params.target.clone());
    shown(&name.unwrap_or_else(|| request.method.clone())).trim_matches('`').to_owned()
}

//! One request's way, from its head to its answer.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN},
    request::Parts,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mcp_calculator::server::{Era, MODERN_VERSION};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::{
    backend::Answer,
    config::Limits,
    deadline::within,
    http::{
        challenge::Challenges,
        headers::{self, Accepts},
        judge::Judge,
        metadata::ProtectedResourceMetadata,
        origin::{self, Origins},
        places::Places,
        rates::Rates,
        record::Record,
        respond::{self, Body, Refusal},
        sse,
    },
    message::Message,
    policy::{Permit, Policy},
    relay::{
        Outcome, Relay,
        session::{SessionId, Sessions},
    },
    resource::ResourceUri,
    telemetry::{
        alarm::OncePerMinute,
        audit::Audit,
        metrics::{MethodLabel, Metrics},
    },
    token::{BearerToken, Issuer, NotReady, TokenVerifier, VerifiedToken, VerifyError},
};

/// Everything that one request's way needs, shared by all requests.
pub struct Gate {
    paths: [String; 2],
    metadata: Option<ProtectedResourceMetadata>,
    challenges: Challenges,
    origins: Origins,
    trusted_proxies: Vec<IpAddr>,
    verifier: Arc<dyn TokenVerifier>,
    unready_alarm: OncePerMinute,
    judge: Judge,
    relay: Relay,
    sessions: Arc<Sessions>,
    limits: Limits,
    places: Places,
    rates: Option<Rates>,
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
    /// Whether principals are told apart, and each is bounded for the sake of the others.
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
            metadata: setup.issuer.map(|issuer| {
                let scopes = policy.scopes();
                ProtectedResourceMetadata::new(resource, path, issuer, scopes, setup.name, setup.documentation)
            }),
            challenges: Challenges::new(resource, policy.scopes()),
            origins: Origins::new(resource, setup.bound, setup.allowed_hosts, setup.allowed_origins),
            trusted_proxies: setup.trusted_proxies.iter().map(IpAddr::to_canonical).collect(),
            verifier: setup.verifier,
            unready_alarm: OncePerMinute::default(),
            judge: Judge { policy, audit: setup.audit, request_timeout: limits.request_timeout },
            relay: setup.relay,
            sessions: Arc::new(sessions),
            places: Places::new(limits.max_concurrent_requests, setup.limit_rates),
            rates: limits.rate_limit.filter(|_| setup.limit_rates).map(Rates::new),
            limits,
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
            path => {
                if let Some(metadata) = self.metadata.as_ref().filter(|metadata| metadata.is_at(path)) {
                    return metadata.answer(&head.method);
                }
            }
        }
        let client = origin::client_address(peer, &head.headers, &self.trusted_proxies);
        let mut record = Record::begin(client, &self.metrics);
        let mut response = match self.answer(&head, body, &mut record).await {
            Ok(response) => response,
            Err(refusal) => {
                self.metrics.refused(refusal.reason());
                record.allowed = false;
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
    async fn answer<B>(&self, head: &Parts, body: B, record: &mut Record<'_>) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !self.is_our_host(&head.uri, &head.headers) {
            let (host, authority) = (head.headers.get(HOST), head.uri.authority());
            debug!(?host, ?authority, "not a host of ours; --allowed-host adds one");
            return Err(Refusal::ForeignHost);
        }
        if !head.headers.get_all(ORIGIN).iter().all(|page| self.is_allowed_page(page)) {
            debug!(origin = ?head.headers.get(ORIGIN), "not an allowed origin; --allowed-origin adds one");
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
        let _counted = self.metrics.request_in_flight();
        let (token, verified) = self.authenticate(&head.headers).await?;
        // After the token, so that strangers whose tokens are being asked about take nobody's place.
        let _place = self.places.take(&verified).ok_or(Refusal::Overloaded)?;
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
        record: &mut Record<'_>,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !headers::is_json(&head.headers) {
            return Err(Refusal::ContentType);
        }
        if headers::is_encoded(&head.headers) {
            return Err(Refusal::ContentEncoding);
        }
        let accepts = Accepts::of(&head.headers);
        if !accepts.json && !accepts.events {
            return Err(Refusal::NotAcceptable { offered: "application/json or text/event-stream" });
        }
        let body = self.read(&head.headers, body).await?;
        let message = Message::parse(&body).map_err(Refusal::Unparsable)?;
        let mirror = headers::mirror(&head.headers);
        let era = mirror.era(&message);
        let request = match message {
            Message::Request(request) => {
                record.asks(&request.method, request.params.target.as_deref());
                request
            }
            Message::Notification(notification) => {
                record.asks(&notification.method, None);
                match (era, mirror.version) {
                    (Era::Legacy, _) => self.session(&head.headers, caller, "null")?,
                    (Era::Modern, None | Some(Ok(MODERN_VERSION))) => {}
                    (Era::Modern, Some(_)) => return Err(Refusal::UnsupportedVersion),
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
            Era::Modern => {
                mirror.check(&request).map_err(|error| Refusal::Envelope { id: request.id.to_json(), error })?
            }
            Era::Legacy if opens_session => {}
            Era::Legacy => self.session(&head.headers, caller, request.id.as_json())?,
        }
        let permit = self.judge.permit(request, caller, record).await?;
        let outcome = self.relay.call(&permit, caller, era).await;
        let session = match &outcome {
            Outcome::Answered(Answer { error: None, .. }) if opens_session => Some(self.open_session(&permit, caller)?),
            _ => None,
        };
        Ok(answered(outcome, era, accepts, session))
    }

    fn open_session(&self, permit: &Permit<'_>, caller: &VerifiedToken) -> Result<SessionId, Refusal> {
        self.sessions
            .open(caller, Instant::now())
            .map_err(|_| Refusal::SessionsFull { id: permit.request().id.to_json() })
    }

    /// Checks that a legacy request belongs to a session that lives and is the caller's.
    fn session(&self, headers: &HeaderMap, caller: &VerifiedToken, id: &str) -> Result<(), Refusal> {
        let session = headers::session_of(headers, id)?;
        let known = session.is_some_and(|session| self.sessions.touch(&session, caller, Instant::now()));
        if known { Ok(()) } else { Err(Refusal::SessionUnknown { id: id.to_owned() }) }
    }

    fn get(
        &self,
        headers: &HeaderMap,
        token: Option<BearerToken>,
        verified: Arc<VerifiedToken>,
        record: &mut Record<'_>,
    ) -> Result<Response<Body>, Refusal> {
        record.label = MethodLabel::Get;
        headers::check_legacy_version(headers, "POST, OPTIONS")?;
        if !Accepts::of(headers).events {
            return Err(Refusal::NotAcceptable { offered: "text/event-stream" });
        }
        let stream = headers::session_of(headers, "null")?
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
        record: &mut Record<'_>,
    ) -> Result<Response<Body>, Refusal> {
        record.label = MethodLabel::Delete;
        headers::check_legacy_version(headers, "POST, OPTIONS")?;
        let ended = headers::session_of(headers, "null")?
            .is_some_and(|session| self.sessions.end(&session, caller, Instant::now()));
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
        match within(self.limits.body_timeout, Limited::new(body, max_bytes).collect()).await {
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

    /// Strangers are told a category; the log says more.
    async fn readiness(&self) -> Response<Body> {
        let (status, body) = match self.verifier.ready().await {
            Ok(()) => (StatusCode::OK, serde_json::json!({ "ready": true })),
            Err(NotReady { reason, detail }) => {
                if self.unready_alarm.is_due() {
                    warn!(detail, "not ready: {reason}");
                }
                (StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "ready": false, "reason": reason }))
            }
        };
        respond::json(status, body.to_string().into())
    }

    /// Forgets what has been idle for too long. To be called now and then.
    pub fn tidy(&self) {
        self.sessions.end_idle(Instant::now());
        if let Some(rates) = &self.rates {
            rates.tidy();
        }
    }

    /// Ends the streams that would otherwise outlive every drain.
    pub fn end_streams(&self) {
        self.sessions.end_streams();
    }

    /// Opens the audit file again, after a log rotation.
    pub async fn reopen_audit(&self) {
        if let Some(audit) = &self.judge.audit
            && let Err(failure) = audit.reopen().await
        {
            error!(error = %failure, "cannot open the audit file again; records go to the old one");
        }
    }

    /// Writes down what is still waiting for the audit file.
    pub async fn close_audit(&self) {
        if let Some(audit) = &self.judge.audit
            && let Err(failure) = audit.shutdown().await
        {
            error!(error = %failure, "audit records may be lost");
        }
    }
}

fn answered(outcome: Outcome, era: Era, accepts: Accepts, session: Option<SessionId>) -> Response<Body> {
    let status = respond::status_of(&outcome, era);
    let (Outcome::Answered(Answer { message, .. }) | Outcome::TimedOut(Answer { message, .. })) = outcome;
    // One message needs no stream, and tunnels hold streams back.
    let mut response =
        if accepts.json { respond::json(status, message) } else { respond::events(sse::single(&message)) };
    *response.status_mut() = status;
    if let Some(value) = session.and_then(|session| HeaderValue::from_str(&session.header_value()).ok()) {
        response.headers_mut().insert(&headers::SESSION, value);
    }
    response
}

//! One request's way, from its head to its answer.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, HOST, ORIGIN, RETRY_AFTER},
    request::Parts,
};
use mcp_calculator::server::{Era, MODERN_VERSION};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    backend::{Answered, Conversation, Opened},
    config::{Limits, server::Denial},
    http::{
        body,
        bounds::Bounds,
        challenge::Challenges,
        headers::{self, Accepts},
        judge::Judge,
        metadata::ProtectedResourceMetadata,
        origin::{self, Origins},
        paths::{Endpoint, Paths},
        places::{Place, Taken},
        record::Record,
        respond::{self, Body, Refusal},
        sse,
    },
    message::Message,
    policy::{Permit, Policy},
    relay::{
        Client, Outcome, Relay, filter,
        session::{SessionId, Sessions},
    },
    resource::ResourceUri,
    telemetry::{audit::Audit, labels::MethodLabel, metrics::Metrics},
    token::{BearerToken, Issuer, NotReady, TokenVerifier, VerifiedToken, VerifyError},
};

/// Everything that one request's way needs, shared by all requests.
pub struct Gate {
    pub(super) paths: Paths,
    metadata: Option<ProtectedResourceMetadata>,
    pub(super) challenges: Challenges,
    origins: Origins,
    trusted_proxies: Vec<IpAddr>,
    verifier: Arc<dyn TokenVerifier>,
    pub(super) judge: Judge,
    filter_lists: bool,
    pub(super) relay: Arc<Relay>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) limits: Limits,
    bounds: Bounds,
    /// Its name in log and audit file, where there are several.
    server: Option<Arc<str>>,
    metrics: Arc<Metrics>,
}

/// What a [`Gate`] is made of.
pub struct Setup<'a> {
    /// What is protected.
    pub resource: &'a ResourceUri,
    /// The endpoint's path as we are reached locally.
    pub path: &'a str,
    /// Whether the transport of 2024-11-05 is served under it.
    pub legacy_sse: bool,
    /// Where we listen.
    pub bound: SocketAddr,
    /// Who issues the tokens; `None` without authorization.
    pub issuer: Option<&'a Issuer>,
    /// What the server is called in log and audit file; `None` where there is no other.
    pub server: Option<&'a str>,
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
    /// The shares of users.
    pub bounds: Bounds,
    /// How a missing scope is told.
    pub denial: Denial,
    /// Whether callers see only the tools that their scopes allow.
    pub filter_lists: bool,
    /// The audit file.
    pub audit: Option<Arc<Audit>>,
    /// Numbers.
    pub metrics: Arc<Metrics>,
}

impl Gate {
    /// The gate before one endpoint.
    pub fn new(setup: Setup<'_>) -> Self {
        let Setup { resource, path, limits, metrics, policy, .. } = setup;
        // Without authorization all clients are one principal, and must not end each other's.
        let max_per_principal = setup.issuer.map_or(usize::MAX, |_| limits.max_sessions_per_principal);
        let sessions = Sessions::new(limits.session_idle, limits.max_sessions, max_per_principal, Arc::clone(&metrics));
        Self {
            paths: Paths::new(path, resource.path(), setup.legacy_sse),
            metadata: setup.issuer.map(|issuer| {
                let scopes = policy.scopes();
                let metadata =
                    ProtectedResourceMetadata::new(resource, path, issuer, scopes, setup.name, setup.documentation);
                // Of several, none can speak for the root.
                if setup.server.is_none() { metadata.at_the_root_too() } else { metadata }
            }),
            challenges: Challenges::new(resource, policy.scopes()),
            origins: Origins::new(resource, setup.bound, setup.allowed_hosts, setup.allowed_origins),
            trusted_proxies: setup.trusted_proxies.iter().map(IpAddr::to_canonical).collect(),
            verifier: setup.verifier,
            judge: Judge {
                policy: Arc::new(policy),
                denial: setup.denial,
                audit: setup.audit,
                request_timeout: limits.request_timeout,
            },
            filter_lists: setup.filter_lists,
            relay: Arc::new(setup.relay),
            sessions: Arc::new(sessions),
            bounds: setup.bounds,
            server: setup.server.map(Into::into),
            limits,
            metrics,
        }
    }

    /// Whether requests to `path` are for this gate: to the endpoint itself, or to its metadata.
    pub fn owns(&self, path: &str) -> bool {
        self.paths.at(path).is_some() || self.metadata.as_ref().is_some_and(|metadata| metadata.is_at(path))
    }

    /// The record of a request with `headers` from `peer`.
    pub(super) fn record(&self, headers: &HeaderMap, peer: IpAddr) -> Record<'_> {
        Record::begin(origin::client_address(peer, headers, &self.trusted_proxies), &self.metrics)
    }

    /// Refuses what is not for a host of ours.
    pub(super) fn check_host(&self, head: &Parts) -> Result<(), Refusal> {
        if self.is_our_host(&head.uri, &head.headers) {
            return Ok(());
        }
        let (host, authority) = (head.headers.get(HOST), head.uri.authority());
        debug!(?host, ?authority, "not a host of ours; --allowed-host adds one");
        Err(Refusal::ForeignHost)
    }

    /// `refusal` as a response, noted.
    pub(super) fn refused(&self, refusal: &Refusal, record: &mut Record<'_>) -> Response<Body> {
        self.note_refusal(refusal, record);
        respond::refused(refusal, &self.challenges)
    }

    /// Answers one HTTP request from `peer`. Dropping the future cancels the request.
    pub async fn handle<B>(&self, request: Request<B>, peer: IpAddr) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        if let Some(metadata) = self.metadata.as_ref().filter(|metadata| metadata.is_at(head.uri.path())) {
            return metadata.answer(&head.method);
        }
        let mut record = self.record(&head.headers, peer);
        let mut body = Some(body);
        let mut response = match self.answer(&head, &mut body, &mut record).await {
            Ok(response) => response,
            Err(refusal) => {
                self.note_refusal(&refusal, &mut record);
                let mut response = match respond::as_result(&refusal, &self.challenges) {
                    Some(result) => answer(Answered::Served(result), Era::Modern, Accepts::of(&head.headers)),
                    None => respond::refused(&refusal, &self.challenges),
                };
                body::end_unread(&head, body, Some(&refusal), &mut response).await;
                response
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
    async fn answer<B>(
        &self,
        head: &Parts,
        body: &mut Option<B>,
        record: &mut Record<'_>,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.check_host(head)?;
        if !head.headers.get_all(ORIGIN).iter().all(|page| self.is_allowed_page(page)) {
            debug!(origin = ?head.headers.get(ORIGIN), "not an allowed origin; --allowed-origin adds one");
            return Err(Refusal::ForeignOrigin);
        }
        let endpoint = self.paths.at(head.uri.path()).ok_or(Refusal::NoSuchPath)?;
        record.server.clone_from(&self.server);
        if head.method == Method::OPTIONS {
            let mut response = respond::empty(StatusCode::NO_CONTENT);
            origin::answer_preflight(response.headers_mut(), &head.headers);
            record.allowed = true;
            return Ok(response);
        }
        if !endpoint.takes(&head.method) {
            return Err(Refusal::MethodNotAllowed { allow: endpoint.allow() });
        }
        let _counted = self.metrics.request_in_flight();
        let (token, verified) = self.authenticate(&head.headers).await?;
        // After the token, so that strangers whose tokens are being asked about take nobody's place.
        let place = self.bounds.places.take(&verified).ok_or(Refusal::Overloaded)?;
        record.caller = Some(Arc::clone(&verified));
        if let Some(rates) = &self.bounds.rates {
            rates.check(&verified).map_err(Refusal::RateLimited)?;
        }
        let user = User { token, verified, place };
        match (endpoint, &head.method) {
            (Endpoint::Sse, _) => self.open_line(&head.headers, user, record),
            (Endpoint::Messages, _) => self.take_message(head, body, user, record).await,
            (Endpoint::Mcp, &Method::POST) => self.post(head, body, user, record).await,
            (Endpoint::Mcp, &Method::GET) => self.get(&head.headers, user, record),
            (Endpoint::Mcp, _) => self.delete(&head.headers, &user.verified, record),
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
        body: &mut Option<B>,
        user: User,
        record: &mut Record<'_>,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        body::check_type(&head.headers)?;
        let accepts = Accepts::of(&head.headers);
        if !accepts.json && !accepts.events {
            return Err(Refusal::NotAcceptable { offered: "application/json or text/event-stream" });
        }
        let body = body.take().ok_or(Refusal::BrokenBody)?;
        let body = body::read(&head.headers, body, &self.limits).await?;
        let message = Message::parse(&body).map_err(Refusal::Unparsable)?;
        let mirror = headers::mirror(&head.headers);
        let era = mirror.era(&message);
        let caller = &user.verified;
        let request = match message {
            Message::Request(request) => {
                record.asks(&request.method, request.params.target.as_deref());
                request
            }
            Message::Notification(notification) => {
                record.asks(&notification.method, None);
                let conversation = match (era, mirror.version) {
                    (Era::Legacy, _) => Some(self.touch(&head.headers, caller)?),
                    (Era::Modern, None | Some(Ok(MODERN_VERSION))) => None,
                    (Era::Modern, Some(_)) => return Err(Refusal::UnsupportedVersion),
                };
                let permit = self.judge.permit_notification(notification, caller, record).await?;
                if let Some(conversation) = conversation {
                    self.relay.notify(&permit, &*conversation).await;
                }
                return Ok(respond::empty(StatusCode::ACCEPTED));
            }
            Message::Response(response) if era == Era::Legacy => {
                record.label = MethodLabel::Response;
                let conversation = self.touch(&head.headers, caller)?;
                record.allowed = true;
                conversation.respond(&response).await;
                return Ok(respond::empty(StatusCode::ACCEPTED));
            }
            Message::Response(_) => return Err(Refusal::UnexpectedResponse),
        };
        let opens_session = era == Era::Legacy && request.method == "initialize";
        let session =
            match era {
                Era::Modern => {
                    let envelope = mirror.check(&request).and_then(|()| {
                        self.relay.check_arguments(&request, &|name| headers::value(&head.headers, name))
                    });
                    envelope.map_err(|error| Refusal::Envelope { id: request.id.to_json(), error })?;
                    // It would hold its place and a process, and a client that left would not be noticed.
                    if !accepts.events && self.relay.only_streams(&request) {
                        return Err(Refusal::NotAcceptable { offered: "text/event-stream" });
                    }
                    None
                }
                Era::Legacy if opens_session => None,
                Era::Legacy => Some(self.session(&head.headers, request.id.as_json(), |id| {
                    self.sessions.begin(id, caller, Instant::now())
                })?),
            };
        let (conversation, in_use) = session.unzip();
        let taken = Taken { place: user.place, in_use };
        let permit = self.judge.permit(request, caller, era, record).await?;
        let conversation = conversation.as_ref();
        let client = Client { caller, era, streams: accepts.events, conversation, held: Some(&taken) };
        if opens_session {
            return self.open(&permit, client, accepts).await;
        }
        let shown = self.shown(&permit, caller);
        match self.relay.call(&permit, client).await {
            Outcome::Answered(answered) => Ok(answer(shown(answered), era, accepts)),
            Outcome::Streaming(streaming) => {
                let last = Box::new(move |answered| shown(answered).into_answer().message);
                let reply = sse::Source::Reply { streaming, last, _held: (taken, self.metrics.stream()) };
                Ok(self.stream(reply, user.token, user.verified))
            }
            // The client is no longer interested, and an answer would break the protocol.
            Outcome::Cancelled => Ok(respond::empty(StatusCode::ACCEPTED)),
        }
    }

    async fn open(&self, permit: &Permit<'_>, client: Client<'_>, accepts: Accepts) -> Result<Response<Body>, Refusal> {
        let Opened { reply, conversation } = self.relay.open(permit, client).await;
        let mut response = answer(reply, client.era, accepts);
        if let Some(conversation) = conversation {
            let opened = self.sessions.open(client.caller, conversation, Instant::now());
            let session = opened.map_err(|_| Refusal::SessionsFull { id: permit.request().id.to_json() })?;
            if let Ok(value) = HeaderValue::from_str(&session.header_value()) {
                response.headers_mut().insert(&headers::SESSION, value);
            }
        }
        Ok(response)
    }

    /// What is done with the answer to a request before its client gets it.
    pub(super) fn shown(
        &self,
        permit: &Permit<'_>,
        caller: &Arc<VerifiedToken>,
    ) -> impl Fn(Answered) -> Answered + Send + 'static {
        let filtered = (self.filter_lists && permit.request().method == "tools/list")
            .then(|| (Arc::clone(&self.judge.policy), Arc::clone(caller)));
        move |answered| match &filtered {
            Some((policy, caller)) => {
                answered.map_served(|answer| filter::answer(answer, |tool| policy.could_call(caller, tool)))
            }
            None => answered,
        }
    }

    pub(super) fn stream(
        &self,
        source: sse::Source,
        token: Option<BearerToken>,
        verified: Arc<VerifiedToken>,
    ) -> Response<Body> {
        let verifier = Arc::clone(&self.verifier);
        let keep_alive = self.limits.keep_alive;
        respond::events(sse::stream(sse::Watch { source, verifier, token, verified, keep_alive }))
    }

    /// Counts a refusal, and says in the record why it came to it.
    pub(super) fn note_refusal(&self, refusal: &Refusal, record: &mut Record) {
        self.metrics.refused(refusal.reason());
        record.allowed = false;
        record.cause = Some(respond::cause(refusal));
    }

    /// What a legacy session speaks to, if it lives and is the caller's.
    fn touch(&self, headers: &HeaderMap, caller: &VerifiedToken) -> Result<Arc<dyn Conversation>, Refusal> {
        self.session(headers, "null", |id| self.sessions.touch(id, caller, Instant::now()))
    }

    /// What `find` gives for the session of the legacy message with this id.
    fn session<T>(
        &self,
        headers: &HeaderMap,
        id: &str,
        find: impl FnOnce(&SessionId) -> Option<T>,
    ) -> Result<T, Refusal> {
        let session = headers::session_of(headers, id)?;
        session.as_ref().and_then(find).ok_or_else(|| Refusal::SessionUnknown { id: id.to_owned() })
    }

    fn get(&self, headers: &HeaderMap, user: User, record: &mut Record<'_>) -> Result<Response<Body>, Refusal> {
        record.label = MethodLabel::Get;
        headers::check_legacy_version(headers, "POST, OPTIONS")?;
        if !Accepts::of(headers).events {
            return Err(Refusal::NotAcceptable { offered: "text/event-stream" });
        }
        let stream = headers::session_of(headers, "null")?
            .and_then(|session| self.sessions.open_stream(&session, &user.verified, Instant::now()))
            .ok_or_else(|| Refusal::SessionUnknown { id: "null".to_owned() })?;
        record.allowed = true;
        Ok(self.stream(sse::Source::Session(stream), user.token, user.verified))
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

    /// Whether tokens can be verified and requests answered.
    pub(super) async fn ready(&self) -> Result<(), NotReady> {
        self.verifier.ready().await?;
        self.relay.ready().await
    }

    /// Forgets what has been idle for too long. To be called now and then.
    pub(super) fn tidy(&self) {
        self.sessions.end_idle(Instant::now());
        self.relay.tidy();
    }

    /// Ends the streams that would otherwise outlive every drain.
    pub(super) fn end_streams(&self) {
        self.sessions.end_streams();
        self.relay.end_streams();
    }

    /// Ends what is behind the gate, when nothing is accepted any more.
    pub(super) async fn shut_down(&self) {
        self.sessions.end_all();
        self.relay.shut_down().await;
    }
}

/// Who makes a request.
pub(super) struct User {
    pub(super) token: Option<BearerToken>,
    pub(super) verified: Arc<VerifiedToken>,
    /// Their place among the requests that are answered at once.
    pub(super) place: Place,
}

fn answer(answered: Answered, era: Era, accepts: Accepts) -> Response<Body> {
    let status = respond::status_of(&answered, era);
    let retry_after = respond::retry_after(&answered);
    let message = answered.into_answer().message;
    // One message needs no stream, and tunnels hold streams back.
    let mut response =
        if accepts.json { respond::json(status, message) } else { respond::events(sse::single(&message)) };
    *response.status_mut() = status;
    if let Some(value) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

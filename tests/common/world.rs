//! A bridge, the authorization server it asks, and a user with a good token.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::{
    authorization_server::AuthorizationServer,
    bridge::{Bridge, CommandLine},
    http::{Request, Response},
    mcp, unix_now,
};

/// Every scope of the calculator, in the order of its policy.
pub(crate) const ALL_SCOPES: &str = "op:add op:sub op:mult op:div";

pub(crate) struct World {
    pub(crate) server: AuthorizationServer,
    pub(crate) bridge: Bridge,
    tokens: AtomicUsize,
    /// A token that the bridge has already accepted and still remembers; for [`World::runs`] only.
    control: String,
    controls: Mutex<usize>,
    good: String,
}

/// The user of control calls.
const CONTROL: &str = "control-user";

impl World {
    /// What the metrics say of something that can be counted now; needs `--metrics-listen`.
    pub(crate) fn gauge(&self, name: &str) -> u64 {
        let page = self.bridge.metrics();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in:\n{page}"))
    }

    /// Introspection with a cache that outlives the test.
    pub(crate) fn start() -> Self {
        Self::with(|line| line)
    }

    /// The same with more settings.
    pub(crate) fn with(more: impl FnOnce(CommandLine) -> CommandLine) -> Self {
        Self::with_scopes(ALL_SCOPES, more)
    }

    /// The same where the policy lets these scopes `add`.
    pub(crate) fn with_scopes(scopes: &str, more: impl FnOnce(CommandLine) -> CommandLine) -> Self {
        let server = AuthorizationServer::start();
        let line =
            CommandLine::serve().introspection(&server).flag("--introspection-cache", "60s").flag("--rate-limit", "0");
        Self::over(server, &more(line), scopes)
    }

    /// A bridge started just so.
    pub(crate) fn of(server: AuthorizationServer, line: &CommandLine) -> Self {
        Self::over(server, line, ALL_SCOPES)
    }

    fn over(server: AuthorizationServer, line: &CommandLine, scopes: &str) -> Self {
        let bridge = line.spawn();
        let mut world = Self {
            server,
            bridge,
            tokens: AtomicUsize::new(0),
            control: String::new(),
            controls: Mutex::new(0),
            good: String::new(),
        };
        let mut control = world.answer(scopes);
        control["sub"] = CONTROL.into();
        world.control = world.grant(&control);
        world.good = world.token(scopes);
        assert_eq!(world.runs(), 0, "nobody has called yet");
        world
    }

    /// What an introspection of a good token answers, for a user of its own.
    pub(crate) fn answer(&self, scopes: &str) -> Value {
        let number = self.tokens.fetch_add(1, Ordering::Relaxed);
        json!({
            "active": true,
            "sub": format!("user-{number}"),
            "username": format!("user-{number}@example.com"),
            "client_id": "client-1",
            "scope": scopes,
            "aud": self.bridge.resource(),
            "iat": unix_now() - 10,
            "exp": unix_now() + 3600,
        })
    }

    /// A token about which the server gives `answer`.
    pub(crate) fn grant(&self, answer: &Value) -> String {
        let number = self.tokens.fetch_add(1, Ordering::Relaxed);
        let token = format!("token-{number}-of-this-test");
        self.server.set(&token, answer);
        token
    }

    /// A good token of a new user with these scopes.
    pub(crate) fn token(&self, scopes: &str) -> String {
        self.grant(&self.answer(scopes))
    }

    pub(crate) fn send(&self, request: &Request) -> Response {
        self.bridge.send(request)
    }

    pub(crate) fn call(&self, token: &str, operation: &str) -> Response {
        self.send(&mcp::call(operation).bearer(token))
    }

    /// The token of a user who may do everything.
    pub(crate) fn good(&self) -> &str {
        &self.good
    }

    /// Runs `refused` and proves that the calculator did not run in it.
    pub(crate) fn without_run<T>(&self, case: &str, refused: impl FnOnce() -> T) -> T {
        let before = self.runs();
        let result = refused();
        assert_eq!(self.runs(), before, "the tool ran although it should not have: {case}");
        result
    }

    /// How often the calculator has run, control calls not counted.
    pub(crate) fn runs(&self) -> usize {
        let mut controls = self.controls.lock().expect("no control call panicked");
        *controls += 1;
        self.call(&self.control, "add").expect(200, "the control call");
        self.bridge.runs_before(CONTROL, *controls)
    }

    /// A new legacy session of `token`'s principal.
    pub(crate) fn session(&self, token: &str) -> String {
        let answer = self.send(&mcp::initialize(mcp::LEGACY).bearer(token)).expect(200, "initialize");
        let session = answer.header("Mcp-Session-Id").expect("a session id").to_owned();
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.send(&mcp::legacy(&session, &ready).bearer(token)).expect(202, "initialized");
        session
    }

    /// `resource_metadata` of every challenge.
    pub(crate) fn metadata_url(&self) -> String {
        let resource = self.bridge.resource();
        let (origin, path) = resource.rsplit_once("/mcp").map_or((resource, ""), |(origin, _)| (origin, "/mcp"));
        format!("{origin}/.well-known/oauth-protected-resource{path}")
    }
}

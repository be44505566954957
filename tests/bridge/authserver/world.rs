//! A bridge with its own authorization server, a browser, and a client.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::digest;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use crate::common::{
    bridge::{Bridge, CommandLine, Scratch},
    http::{Request, Response},
    mcp,
};

pub(crate) const PASSPHRASE: &str = "correct horse battery";
/// 43 characters, and its SHA-256 below.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CALLBACK: &str = "http://127.0.0.1:5555/cb";

/// The state of one authorization server.
pub(crate) struct State(Scratch);

impl State {
    /// With a passphrase for the owner.
    pub(crate) fn new() -> Self {
        let state = Self(Scratch::new());
        let set = state.run(&["owner", "set-passphrase"], PASSPHRASE);
        assert!(set.status.success(), "{set:?}");
        state
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.0.path("state")
    }

    /// Runs a command of the owner's.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-bridge"))
            .args(arguments)
            .env_clear()
            .env("MCP_BRIDGE_STATE_DIR", self.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // One that reads nothing may have ended.
        let _ = writeln!(child.stdin.take().expect("it is piped"), "{input}");
        child.wait_with_output().expect("it ends")
    }

    /// The stdout of a command that works.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, "");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub(crate) fn line(&self) -> CommandLine {
        CommandLine::serve().env("MCP_BRIDGE_STATE_DIR", self.folder().to_str().expect("UTF-8"))
    }

    pub(crate) fn serve(&self) -> Server<'_> {
        self.serve_with(|line| line)
    }

    pub(crate) fn serve_with(&self, change: impl FnOnce(CommandLine) -> CommandLine) -> Server<'_> {
        Server { bridge: change(self.line()).spawn(), state: self, road: None }
    }
}

/// A way to a bridge that leads through something else.
pub(crate) type Road = Box<dyn Fn(&Request) -> Response + Send + Sync>;

/// A bridge that serves, with that state.
pub(crate) struct Server<'s> {
    pub(crate) bridge: Bridge,
    pub(crate) state: &'s State,
    /// How requests get there; `None`: straight.
    pub(crate) road: Option<Road>,
}

impl Server<'_> {
    pub(crate) fn send(&self, request: &Request) -> Response {
        self.road.as_ref().map_or_else(|| self.bridge.send(request), |road| road(request))
    }

    /// The issuer: the origin of the resource.
    pub(crate) fn issuer(&self) -> String {
        self.resource().trim_end_matches("/mcp").to_owned()
    }

    pub(crate) fn resource(&self) -> &str {
        self.bridge.resource()
    }

    /// Registers a client with `metadata` and returns the answer.
    pub(crate) fn register(&self, metadata: &Value) -> Response {
        self.send(&Request::post("/register").header("Content-Type", "application/json").json(metadata))
    }

    /// The id of a new public client that goes back to [`CALLBACK`].
    pub(crate) fn client(&self) -> String {
        let metadata =
            json!({ "client_name": "Tester", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none" });
        let registered = self.register(&metadata).expect(201, "registration").json();
        registered["client_id"].as_str().expect("an id").to_owned()
    }

    /// The parameters of a good authorization request.
    pub(crate) fn request(&self, client: &str) -> Parameters {
        Parameters::new(&[
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", CALLBACK),
            ("state", "st/ate 1"),
            ("code_challenge", &challenge(VERIFIER)),
            ("code_challenge_method", "S256"),
            ("resource", self.resource()),
        ])
    }

    /// The parameters that exchange `code`.
    pub(crate) fn exchange(&self, client: &str, code: &str) -> Parameters {
        Parameters::new(&[
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
            ("resource", self.resource()),
        ])
    }

    pub(crate) fn token(&self, parameters: &Parameters) -> Response {
        self.send(&form("/token", parameters))
    }

    /// The error of a token request that is refused.
    pub(crate) fn token_error(&self, parameters: &Parameters) -> String {
        let answer = self.token(parameters);
        assert!(answer.status >= 400, "{answer:?}");
        answer.json()["error"].as_str().expect("an error").to_owned()
    }

    pub(crate) fn refresh(&self, client: &str, token: &str) -> Parameters {
        Parameters::new(&[("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token)])
    }

    /// Everything from a new browser to tokens for `scopes`.
    pub(crate) fn grant(&self, client: &str, scopes: &[&str]) -> Tokens {
        let mut browser = Browser::new(self);
        browser.sign_in();
        let code = browser.code(&self.request(client), scopes);
        Tokens::of(self.token(&self.exchange(client, &code)))
    }

    /// The status of a tool call.
    pub(crate) fn call(&self, operation: &str, token: &str) -> u16 {
        self.send(&mcp::call(operation).bearer(token)).status
    }
}

/// What the token endpoint has issued.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) scope: String,
}

impl Tokens {
    pub(crate) fn of(answer: Response) -> Self {
        let answer = answer.expect(200, "tokens");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        let body = answer.json();
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).to_owned();
        assert_eq!(text("token_type"), "Bearer");
        Self { access: text("access_token"), refresh: text("refresh_token"), scope: text("scope") }
    }
}

/// Parameters in order.
#[derive(Clone, Debug)]
pub(crate) struct Parameters(pub(crate) Vec<(String, String)>);

impl Parameters {
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// The same with another value for `name`.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    /// The same with one more.
    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn encoded(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }
}

pub(crate) fn form(path: &str, parameters: &Parameters) -> Request {
    let kind = "application/x-www-form-urlencoded";
    Request::post(path).header("Content-Type", kind).body(parameters.encoded())
}

pub(crate) fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// A browser: it keeps its cookie, and says where its forms come from.
pub(crate) struct Browser<'s> {
    server: &'s Server<'s>,
    pub(crate) cookie: Option<String>,
}

impl<'s> Browser<'s> {
    pub(crate) fn new(server: &'s Server<'s>) -> Self {
        Self { server, cookie: None }
    }

    pub(crate) fn send(&mut self, request: Request) -> Response {
        let request = match &self.cookie {
            Some(cookie) => request.header("Cookie", cookie),
            None => request,
        };
        let answer = self.server.send(&request);
        if let Some(set) = answer.header("Set-Cookie") {
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        answer
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.send(Request::get(target).header("Sec-Fetch-Site", "cross-site"))
    }

    /// Sends a form as a page of ours does.
    pub(crate) fn post(&mut self, path: &str, parameters: &Parameters) -> Response {
        self.send(form(path, parameters).header("Origin", "null").header("Sec-Fetch-Site", "same-origin"))
    }

    pub(crate) fn authorize(&mut self, parameters: &Parameters) -> Response {
        self.get(&format!("/authorize?{}", parameters.encoded()))
    }

    pub(crate) fn sign_in(&mut self) {
        let page = self.get("/account").expect(200, "the page to sign in");
        let answer = self.submit_passphrase(&page, PASSPHRASE).expect(303, "signing in");
        assert_eq!(answer.header("Location"), Some("/account"));
    }

    /// Sends the form of a sign-in page.
    pub(crate) fn submit_passphrase(&mut self, page: &Response, passphrase: &str) -> Response {
        self.submit_passphrase_of("owner", page, passphrase)
    }

    pub(crate) fn submit_passphrase_of(&mut self, name: &str, page: &Response, passphrase: &str) -> Response {
        let fields = Parameters::new(&[
            ("form", &hidden(page, "form")),
            ("next", &hidden(page, "next")),
            ("name", name),
            ("passphrase", passphrase),
        ]);
        self.post("/sign-in", &fields)
    }

    /// Sends the form of a consent page, with the box that says that the user has begun it, if there is one.
    pub(crate) fn decide(&mut self, page: &Response, scopes: &[&str], decision: &str) -> Response {
        let mut fields = Parameters::new(&[
            ("form", &hidden(page, "form")),
            ("request", &hidden(page, "request")),
            ("decision", decision),
        ]);
        if page.text().contains("name=\"begun\"") {
            fields = fields.and("begun", "yes");
        }
        for scope in scopes {
            fields = fields.and("scope", scope);
        }
        self.post("/consent", &fields)
    }

    /// The code that a client gets whose request is allowed.
    pub(crate) fn code(&mut self, request: &Parameters, scopes: &[&str]) -> String {
        let page = self.authorize(request).expect(200, "the page that asks");
        let answer = self.decide(&page, scopes, "allow").expect(303, "consent");
        let parameters = answer_parameters(&answer);
        let code = parameters.iter().find(|(name, _)| name == "code").expect("a code");
        code.1.clone()
    }
}

/// The parameters with which a browser is sent back to [`CALLBACK`].
pub(crate) fn answer_parameters(answer: &Response) -> Vec<(String, String)> {
    let location = answer.header("Location").unwrap_or_else(|| panic!("nowhere to go: {answer:?}"));
    let url = Url::parse(location).expect("a URL");
    assert!(location.starts_with(&format!("{CALLBACK}?")), "{location}");
    url.query_pairs().into_owned().collect()
}

/// The value of a hidden field.
pub(crate) fn hidden(page: &Response, name: &str) -> String {
    let (text, start) = (page.text(), format!("name=\"{name}\" value=\""));
    let at = text.find(&start).unwrap_or_else(|| panic!("no field {name} in {text}")) + start.len();
    let value = text[at..].split('"').next().expect("a value");
    value.replace("&#38;", "&").replace("&#34;", "\"").replace("&#39;", "'").replace("&#60;", "<").replace("&#62;", ">")
}

/// The token of the forms of an account page, but for the one that signs out.
pub(crate) fn account_form(page: &Response) -> String {
    let text = page.text().split("action=\"/account/").nth(1).expect("a form");
    let value = text.split("name=\"form\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    value.expect("a token").to_owned()
}

/// The numbers of grants, browsers, … in the buttons of an account page.
pub(crate) fn numbers(page: &Response, name: &str) -> Vec<String> {
    let start = format!("name=\"{name}\" value=\"");
    let parts = page.text().split(&start).skip(1).map(|rest| rest.split('"').next().expect("a value").to_owned());
    parts.collect()
}

/// Compares `text` with the snapshot `name`.
pub(crate) fn check_text(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots/bridge");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Every page says that it may not be framed, cached, or run anything.
pub(crate) fn check_page(page: &Response) {
    let policy = page.header("Content-Security-Policy").unwrap_or_else(|| panic!("no policy: {page:?}"));
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("form-action"), "{policy}");
    assert_eq!(page.header("X-Frame-Options"), Some("DENY"));
    assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(page.header("Access-Control-Allow-Origin"), None);
    let text = page.text();
    assert!(!text.contains("<script") && !text.contains(" style=") && !text.contains("onclick"), "{text}");
    assert!(text.len() < 30_000, "{} bytes", text.len());
    assert_eq!(text.matches("<h1").count(), 1, "{text}");
    assert!(text.starts_with("<!DOCTYPE html>") && text.contains("<html lang=\"en\">"));
}

mod clients;

use std::{
    io::{Read as _, Write as _},
    sync::Mutex,
};

use serde_json::json;

use super::*;
use crate::login::{
    prompt::Note,
    registration::Registered,
    testing::{self, Provider, field},
};

/// What the user was shown, and what the browser was shown at the end.
#[derive(Default)]
struct Seen {
    urls: Mutex<Vec<Url>>,
    notes: Mutex<Vec<Note>>,
    pages: Mutex<Vec<std::thread::JoinHandle<String>>>,
}

impl Seen {
    fn url(&self) -> Url {
        self.urls.lock().expect("not poisoned").last().expect("a browser was wanted").clone()
    }

    fn parameter(&self, name: &str) -> Option<String> {
        field(self.url().query().unwrap_or_default(), name)
    }

    fn notes(&self) -> Vec<Note> {
        self.notes.lock().expect("not poisoned").clone()
    }

    async fn page(&self) -> String {
        let page = self.pages.lock().expect("not poisoned").pop().expect("the browser went there");
        tokio::task::spawn_blocking(|| page.join().expect("a test's thread")).await.expect("a blocking task")
    }
}

/// A sign-in at `provider` by a user whose browser comes back with `answer`; `STATE` and `ISS` in it are
/// the right ones.
struct Case<'a> {
    provider: &'a Provider,
    answer: &'static str,
    challenge: Option<Challenge>,
    scopes: Vec<String>,
    client: ClientOptions,
    known: Option<Record>,
    seen: Seen,
}

impl<'a> Case<'a> {
    fn new(provider: &'a Provider) -> Self {
        Self {
            provider,
            answer: "code=canary-code&state=STATE&iss=ISS",
            challenge: None,
            scopes: Vec::new(),
            client: testing::client(),
            known: None,
            seen: Seen::default(),
        }
    }

    fn browse(&self, prompt: &Prompt<'_>) {
        let Prompt::Browser { asked, url } = prompt else { panic!("{prompt:?}") };
        self.seen.urls.lock().expect("not poisoned").push((*url).clone());
        self.seen.notes.lock().expect("not poisoned").clone_from(&asked.notes);
        let query = url.query().unwrap_or_default();
        let redirect_uri: Url = field(query, "redirect_uri").expect("a redirect URI").parse().expect("a URL");
        let issuer: String = url::form_urlencoded::byte_serialize(self.provider.origin().as_bytes()).collect();
        let answer = self.answer.replace("STATE", &field(query, "state").expect("a state")).replace("ISS", &issuer);
        let authority = redirect_uri.authority().to_owned();
        let head = format!("GET {}?{answer} HTTP/1.1\r\nHost: {authority}\r\n\r\n", redirect_uri.path());
        self.seen.pages.lock().expect("not poisoned").push(std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(authority).expect("it listens");
            stream.write_all(head.as_bytes()).expect("it reads");
            let mut page = String::new();
            stream.read_to_string(&mut page).expect("it answers");
            page
        }));
    }

    async fn sign_in(&self) -> Result<Record, SignInError> {
        self.sign_in_within(Duration::from_secs(10)).await
    }

    async fn sign_in_within(&self, deadline: Duration) -> Result<Record, SignInError> {
        let fetcher = self.provider.server.fetcher();
        let target = Target::Server { url: format!("{}/mcp", self.provider.origin()), issuer: None };
        let order = SignIn {
            fetcher: &fetcher,
            target: &target,
            challenge: self.challenge.as_ref(),
            scopes: &self.scopes,
            client: &self.client,
            known: self.known.as_ref(),
            legacy: false,
            browser: BrowserMode::ShowOnly,
            prompt: &|prompt| self.browse(&prompt),
            deadline,
        };
        sign_in(order).await
    }
}

fn scopes(names: &str) -> Vec<String> {
    names.split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn sign_in_from_url_to_record() {
    let provider = Provider::start(|_| ());
    let case = Case::new(&provider);
    let record = case.sign_in().await.expect("signed in");
    let resource = format!("{}/mcp", provider.origin());
    assert_eq!((&record.issuer, record.resource.as_ref()), (&provider.origin(), Some(&resource)));
    assert_eq!(record.scopes, ["read", "write"]);
    assert_eq!(record.access_token.expose(), "canary-access");
    assert_eq!(record.client.id, "registered");
    assert!(record.expires_at.is_some() && record.revocation_endpoint.is_some());
    assert_eq!(case.seen.notes(), []);
    assert!(case.seen.page().await.contains("You are signed in"));

    let asked = |name: &str| case.seen.parameter(name);
    assert_eq!(asked("tenant").as_deref(), Some("1"), "the endpoint's own query stays");
    assert_eq!(asked("response_type").as_deref(), Some("code"));
    assert_eq!(asked("client_id").as_deref(), Some("registered"));
    assert_eq!(asked("scope").as_deref(), Some("read write"));
    assert_eq!(asked("resource"), Some(resource.clone()));
    assert_eq!(asked("code_challenge_method").as_deref(), Some("S256"));
    assert_eq!(asked("redirect_uri"), record.client.redirect_uri);
    assert_eq!(asked("state").map(|state| state.len()), Some(43), "256 bits");

    let [token] = &provider.server.requests_to("/token")[..] else { panic!("one request") };
    assert_eq!(token.field("grant_type").as_deref(), Some("authorization_code"));
    assert_eq!(token.field("code").as_deref(), Some("canary-code"));
    assert_eq!(token.field("resource"), Some(resource));
    assert_eq!(token.field("redirect_uri"), record.client.redirect_uri);
    let verifier = PkceCodeVerifier::new(token.field("code_verifier").expect("a verifier"));
    assert_eq!(verifier.secret().len(), 43);
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
    assert_eq!(asked("code_challenge").as_deref(), Some(challenge.as_str()));
    assert!(!format!("{record:?}").contains("canary"), "{record:?}");
}

/// Runs on one thread, so that what the libraries say is heard too.
#[tokio::test]
async fn most_talkative_log_shows_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    tracing::trace!("heard");
    let provider = Provider::start(|script| script.metadata["scopes_supported"] = json!(["offline_access"]));
    let case = Case::new(&provider);
    let record = case.sign_in().await.expect("signed in");
    let fetcher = provider.server.fetcher();
    tokens::refresh(&fetcher, &record).await.expect("renewed");
    tokens::revoke(&fetcher, &record).await.expect("revoked");
    drop(guard);
    let text = String::from_utf8_lossy(&log.0.lock().expect("not poisoned")).into_owned();
    assert!(text.contains("heard"), "{text}");
    let verifier = provider.server.requests_to("/token")[0].field("code_verifier").expect("a verifier");
    let state = case.seen.parameter("state").expect("a state");
    for secret in ["canary", &verifier, &state] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[derive(Clone, Default)]
struct Log(std::sync::Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn state_and_verifier_are_new_each_time() {
    let provider = Provider::start(|_| ());
    let (one, other) = (Case::new(&provider), Case::new(&provider));
    one.sign_in().await.expect("signed in");
    other.sign_in().await.expect("signed in");
    for name in ["state", "code_challenge"] {
        assert_ne!(one.seen.parameter(name), other.seen.parameter(name), "{name}");
    }
}

#[tokio::test]
async fn registration_is_for_a_native_client_and_its_callback() {
    let provider = Provider::start(|_| ());
    let record = Case::new(&provider).sign_in().await.expect("signed in");
    let [request] = &provider.server.requests_to("/register")[..] else { panic!("one request") };
    let sent: serde_json::Value = serde_json::from_str(&request.body).expect("JSON");
    let expected = json!({
        "client_name": "Test",
        "application_type": "native",
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [record.client.redirect_uri],
        "scope": "read write",
    });
    assert_eq!(sent, expected);
}

/// RFC 9207 §2.4 as MCP has it: on errors too, and then nothing of the answer is shown.
#[tokio::test]
async fn answer_of_another_issuer_is_not_used_and_not_shown() {
    for (announced, answer, accepted) in [
        (true, "code=c&state=STATE&iss=ISS", true),
        (true, "code=c&state=STATE", false),
        (true, "code=c&state=STATE&iss=ISS%2F", false),
        (true, "code=c&state=STATE&iss=https%3A%2F%2Fevil.example", false),
        (true, "code=c&state=STATE&iss=", false),
        (true, "error=canary&error_description=canary&state=STATE", false),
        (true, "error=access_denied&error_description=canary&state=STATE&iss=https%3A%2F%2Fevil.example", false),
        (false, "code=c&state=STATE", true),
        (false, "code=c&state=STATE&iss=ISS", true),
        (false, "code=c&state=STATE&iss=ISS%2F", false),
        (false, "error=canary&state=STATE&iss=https%3A%2F%2Fevil.example", false),
    ] {
        let provider = Provider::start(|script| {
            script.metadata["authorization_response_iss_parameter_supported"] = json!(announced)
        });
        let case = Case { answer, ..Case::new(&provider) };
        match case.sign_in().await {
            Ok(_) => assert!(accepted, "{announced} {answer}"),
            Err(error) => {
                assert!(!accepted && matches!(error, SignInError::MixUp { .. }), "{announced} {answer}: {error}");
                assert!(!error.to_string().contains("canary"), "{error}");
                assert!(case.seen.page().await.contains("Sign-in failed"));
            }
        }
        assert_eq!(provider.server.requests_to("/token").len(), usize::from(accepted), "{announced} {answer}");
    }
}

#[tokio::test]
async fn refusals_are_told_without_terminal_escapes() {
    let provider = Provider::start(|_| ());
    for (answer, expected) in [
        ("error=access_denied&state=STATE&iss=ISS", "was not allowed to give access"),
        (
            "error=invalid_scope&error_description=no%1B%5D0%3Bsuch%07+scope&state=STATE&iss=ISS",
            "invalid_scope: no ]0;such  scope",
        ),
        ("error=%1B%5B2Jx&state=STATE&iss=ISS", "[2Jx"),
        ("error=server_error&code=canary&state=STATE&iss=ISS", "server_error"),
        ("state=STATE&iss=ISS", "has no code"),
        ("code=&state=STATE&iss=ISS", "has no code"),
    ] {
        let error = Case { answer, ..Case::new(&provider) }.sign_in().await.expect_err(answer);
        let text = error.to_string();
        assert!(text.contains(expected) && !text.contains('\u{1b}') && !text.contains("canary"), "{answer}: {text}");
    }
    assert_eq!(provider.server.requests_to("/token").len(), 0);
}

#[tokio::test]
async fn server_without_pkce_sees_no_browser() {
    for methods in [json!(null), json!(["plain"])] {
        let provider = Provider::start(|script| script.metadata["code_challenge_methods_supported"] = methods.clone());
        let case = Case::new(&provider);
        let error = case.sign_in().await.expect_err("refused");
        assert!(matches!(error, SignInError::Discovery(DiscoveryError::NoPkce { .. })), "{error}");
        assert!(case.seen.urls.lock().expect("not poisoned").is_empty());
        assert_eq!(provider.server.requests_to("/register").len(), 0);
    }
}

#[tokio::test]
async fn nobody_listens_for_ever() {
    let provider = Provider::start(|_| ());
    let case = Case { answer: "code=c&state=wrong&iss=ISS", ..Case::new(&provider) };
    let error = case.sign_in_within(Duration::from_millis(300)).await.expect_err("nobody came");
    assert!(matches!(error, SignInError::Late { .. }), "{error}");
}

#[tokio::test]
async fn scopes_are_the_users_else_the_challenges_else_the_listed_ones_else_none() {
    let challenge = |names: Option<&str>, error: Option<&str>| {
        let error = error.map(str::to_owned);
        Some(Challenge { scopes: names.map(scopes), error, ..Challenge::default() })
    };
    const MORE: Option<&str> = Some("insufficient_scope");
    // (challenge, the user's, granted before, listed) → asked for
    for (challenge, wanted, before, listed, expected) in [
        (None, "", None, json!(["read", "write"]), Some("read write")),
        (challenge(Some("read"), None), "", None, json!(["read", "write"]), Some("read")),
        (challenge(None, None), "", None, json!(["read", "write"]), Some("read write")),
        (None, "", None, json!(null), None),
        (None, "write", None, json!(["read", "write"]), Some("write")),
        // Who named scopes gets no token that can do more, whatever the server would like.
        (challenge(Some("read admin"), None), "write", None, json!(["read", "write"]), Some("write")),
        (challenge(Some("read admin"), None), "write", Some("admin"), json!(["read", "write"]), Some("write")),
        (challenge(Some("write"), MORE), "", Some("read"), json!(null), Some("write read")),
        (challenge(Some("write"), MORE), "admin", Some("read"), json!(null), Some("write admin read")),
        (None, "write", Some("read"), json!(null), Some("write")),
        (None, "", Some("read"), json!(null), Some("read")),
        (None, "", None, json!(["bad scope", "q\"", "\u{1b}[31m"]), Some("bad scope")),
    ] {
        let provider = Provider::start(|script| script.resource["scopes_supported"] = listed.clone());
        let known = before.map(|before| Record { scopes: scopes(before), ..provider.record() });
        let wanted: Vec<String> = wanted.split_whitespace().map(str::to_owned).collect();
        let case = Case { challenge: challenge.clone(), scopes: wanted, known, ..Case::new(&provider) };
        let record = case.sign_in().await.expect("signed in");
        assert_eq!(case.seen.parameter("scope").as_deref(), expected, "{challenge:?} {listed}");
        assert_eq!(record.scopes.join(" "), expected.unwrap_or_default(), "what is not said was granted");
    }
}

#[tokio::test]
async fn refresh_token_is_asked_for_where_that_is_a_scope() {
    let provider = Provider::start(|script| script.metadata["scopes_supported"] = json!(["openid", "offline_access"]));
    let case = Case::new(&provider);
    case.sign_in().await.expect("signed in");
    assert_eq!(case.seen.parameter("scope").as_deref(), Some("read write offline_access"));
    assert_eq!(case.seen.parameter("prompt").as_deref(), Some("consent"));
}

#[tokio::test]
async fn widening_is_shown_before_consent() {
    let provider = Provider::start(|script| {
        script.resource["resource"] = json!("ORIGIN");
        script.metadata["token_endpoint"] = json!("http://localhost:1/token");
    });
    let challenge = Challenge { scopes: Some(scopes("read admin")), ..Challenge::default() };
    let known = Record { resource: Some(provider.origin()), ..provider.record() };
    let case = Case { challenge: Some(challenge), known: Some(known), ..Case::new(&provider) };
    case.sign_in().await.expect_err("no token endpoint there");
    let server = format!("{}/mcp", provider.origin());
    assert_eq!(
        case.seen.notes(),
        [
            Note::OtherSite { endpoint: "token endpoint", host: "localhost".to_owned(), issuer: provider.origin() },
            Note::WiderResource { resource: provider.origin(), server },
            Note::NewScopes(scopes("admin")),
            Note::UnlistedScopes(scopes("admin")),
        ]
    );
}

#[tokio::test]
async fn record_of_another_issuer_lends_neither_client_nor_scopes() {
    let provider = Provider::start(|_| ());
    let other = "https://old.example".to_owned();
    let known = Record { issuer: other.clone(), scopes: scopes("admin"), ..provider.record() };
    let case = Case { known: Some(known), ..Case::new(&provider) };
    let record = case.sign_in().await.expect("signed in");
    assert_eq!(record.client.id, "registered");
    assert_eq!(case.seen.parameter("scope").as_deref(), Some("read write"));
    assert_eq!(case.seen.notes(), [Note::OtherIssuer { before: other }]);
}

#[tokio::test]
async fn code_is_not_sent_to_where_the_token_endpoint_redirects() {
    let thief = Provider::start(|_| ());
    let provider = Provider::start(|script| script.token = vec![(307, json!({}))]);
    let error = Case::new(&provider).sign_in().await.expect_err("a redirect").to_string();
    assert!(error.contains("redirect") && !error.contains("canary"), "{error}");
    assert_eq!(thief.server.requests().len(), 0);
}

//! `mcp-bridge connect` where the server wants a sign-in: a real authorization server, a real browser and
//! a real keyring, and servers that would have the user sign in for ever.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    common::{
        bridge::{Bridge, CommandLine},
        mcp,
    },
    connect::{
        desktop::{Desktop, PATIENCE},
        rig::{Connect, Remote, initialize, request},
    },
    driver::{Guard, finish, python, transcript},
    interop::{AuthorizationServer, SECRET, every_sdk},
};

const BOTH: &str = "op:add op:div";

/// Somebody at a desktop, and a bridge that asks an authorization server about every token.
struct Scene {
    desktop: Desktop,
    server: AuthorizationServer,
    bridge: Bridge,
}

impl Scene {
    fn new(desktop: Desktop, flags: &[&str]) -> Self {
        let server = AuthorizationServer::with(&[flags, &["--refresh-tokens"]].concat());
        let bridge = server.bridge("0s");
        Self { desktop, server, bridge }
    }

    fn connect(&self) -> Connect {
        self.desktop.connect(self.bridge.url())
    }

    /// `mcp-bridge COMMAND URL`, to its end.
    fn run(&self, command: &str) -> std::process::Output {
        let line = CommandLine::new(command).switch(self.bridge.url());
        finish(&mut self.desktop.at(line).command())
    }

    /// Whether the bridge takes `token`.
    fn accepts(&self, token: &str) -> bool {
        self.bridge.send(&mcp::call("add").bearer(token)).status == 200
    }

    /// The access token that was issued last.
    fn last_token(&self) -> String {
        let (tokens, _) = self.server.issued();
        let (_, token) = tokens.into_iter().rfind(|(kind, _)| kind == "AccessToken").expect("an access token");
        token
    }

    /// How often tokens were renewed, and how often that was refused because the sign-in had ended.
    fn renewals(&self) -> (usize, usize) {
        let (_, asked) = self.server.issued();
        let renewals = asked.iter().filter(|asked| asked["grant_type"] == "refresh_token");
        let (good, refused): (Vec<_>, Vec<_>) = renewals.partition(|asked| asked["error"].is_null());
        assert!(refused.iter().all(|asked| asked["error"] == "invalid_grant"), "{refused:?}");
        (good.len(), refused.len())
    }

    /// Looks for everything that only the token store may have, in `places` and in all files that are
    /// not of the store.
    fn look_for_secrets(&self, mut places: Vec<(String, Vec<u8>)>) {
        let (tokens, asked) = self.server.issued();
        let verifiers = asked.iter().filter_map(|asked| asked["code_verifier"].as_str().map(str::to_owned));
        let secrets: Vec<String> = tokens.into_iter().map(|(_, value)| value).chain(verifiers).collect();
        assert!(secrets.len() >= 8, "codes, verifiers and tokens of two sign-ins");
        let files = self.desktop.files();
        assert!(files.iter().any(|path| path.ends_with("sign-ins.json")), "{files:?}");
        // In the keyring's own file everything is encrypted.
        let others = files.iter().filter(|path| !path.to_string_lossy().contains("/file/tokens/"));
        places.extend(others.map(|path| (path.display().to_string(), std::fs::read(path).expect("our own file"))));
        for (place, bytes) in places {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!secrets.iter().any(|secret| text.contains(secret)), "a secret is in the {place}");
        }
    }
}

/// The scopes that a tab asks the user for.
fn scopes(tab: &url::Url) -> Vec<String> {
    let scope = tab.query_pairs().find(|(name, _)| name == "scope").expect("scopes").1.into_owned();
    scope.split(' ').map(str::to_owned).collect()
}

/// The answer to `message`, for which the user may have to sign in.
#[track_caller]
fn ask(connect: &mut Connect, message: &Value) -> Value {
    connect.send(message);
    let answer = connect.next_within(PATIENCE);
    assert_eq!(answer["id"], message["id"], "{answer}");
    answer
}

/// Shakes hands, for which the user may have to sign in.
#[track_caller]
fn shake_hands(connect: &mut Connect) {
    let answer = ask(connect, &initialize(1));
    assert_eq!(answer["result"]["serverInfo"]["name"], "Calculator", "{answer}");
    connect.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
}

fn call(id: u64, operation: &str) -> Value {
    request(id, "tools/call", mcp::arguments(operation))
}

fn modern_call(id: u64, operation: &str) -> Value {
    let mut call = call(id, operation);
    call["params"]["_meta"] = mcp::meta();
    call
}

fn error(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {answer}"))
}

#[test]
fn one_sign_in_grows_outlives_its_program_and_ends_with_logout() {
    let scene = Scene::new(Desktop::with_keyring(), &[]);
    let Scene { desktop, server, .. } = &scene;
    server.consent_to("op:add");
    let mut connect = scene.connect();
    shake_hands(&mut connect);
    assert_eq!(mcp::text(&ask(&mut connect, &call(2, "add"))), "9");
    assert_eq!(desktop.tabs().len(), 1);

    server.consent_to(BOTH);
    assert_eq!(mcp::text(&ask(&mut connect, &call(3, "divide"))), "2");
    let tabs = desktop.tabs();
    assert_eq!(tabs.len(), 2, "the scope that was missing is asked for");
    assert_eq!(scopes(&tabs[1]), ["op:div", "op:add"], "and what was granted before is not lost");
    assert_eq!(mcp::text(&ask(&mut connect, &call(4, "add"))), "9");
    for page in desktop.pages() {
        assert_eq!(page["transcript"][0]["heading"], "You are signed in", "{page}");
    }
    assert!(desktop.secrets() >= 1, "the tokens are in the keyring");
    assert!(!desktop.files().iter().any(|path| path.to_string_lossy().contains("/file/")), "and nowhere else");
    let mut logs = connect.end();

    let mut connect = scene.connect();
    shake_hands(&mut connect);
    assert_eq!(mcp::text(&ask(&mut connect, &call(2, "divide"))), "2");
    assert_eq!(desktop.tabs().len(), 2, "a program that starts again asks nobody");

    let old = scene.last_token();
    assert!(scene.accepts(&old));
    let signed_out = scene.run("logout");
    assert!(signed_out.status.success(), "{signed_out:?}");
    assert!(!scene.accepts(&old), "the token is revoked");
    assert_eq!(desktop.secrets(), 0, "and forgotten");

    let command_line = std::fs::read(format!("/proc/{}/cmdline", connect.id())).expect("it runs");
    assert_eq!(mcp::text(&ask(&mut connect, &call(3, "add"))), "9");
    assert_eq!(desktop.tabs().len(), 3, "whoever is signed out is asked again");
    logs += &connect.end();

    assert!(logs.contains("DEBUG"), "the log is talkative");
    scene.look_for_secrets(vec![("log".to_owned(), logs.into_bytes()), ("command line".to_owned(), command_line)]);
}

#[test]
fn tokens_that_end_are_renewed_and_one_that_was_withdrawn_is_asked_for_once() {
    const LIFE: Duration = Duration::from_secs(6);
    let scene = Scene::new(Desktop::new(), &["--token-ttl", &LIFE.as_secs().to_string()]);
    let Scene { desktop, server, .. } = &scene;
    let mut connect = scene.connect();
    shake_hands(&mut connect);
    let mut ids = 2..;
    let mut works = |connect: &mut Connect| {
        assert_eq!(mcp::text(&ask(connect, &call(ids.next().expect("numbers"), "add"))), "9");
    };
    desktop.wait_until("the tokens are renewed", || {
        works(&mut connect);
        scene.renewals() == (1, 0)
    });
    let mut logs = connect.end();

    let old = scene.last_token();
    desktop.wait_until("the token has ended", || !scene.accepts(&old));
    let mut connect = scene.connect();
    shake_hands(&mut connect);
    works(&mut connect);
    assert_eq!((scene.renewals(), desktop.tabs().len()), ((2, 0), 1), "a sign-in outlives its token");
    logs += &connect.end();

    server.withdraw();
    let withdrawn = Instant::now();
    desktop.wait_until("the token has ended", || withdrawn.elapsed() > LIFE);
    let mut connect = scene.connect();
    shake_hands(&mut connect);
    works(&mut connect);
    assert_eq!((scene.renewals(), desktop.tabs().len()), ((2, 1), 2), "the user is asked once");
    logs += &connect.end();
    scene.look_for_secrets(vec![("log".to_owned(), logs.into_bytes())]);
}

#[test]
fn two_programs_that_start_at_once_open_one_tab() {
    let scene = Scene::new(Desktop::with_keyring(), &[]);
    let mut both = [scene.connect(), scene.connect()];
    for connect in &mut both {
        connect.send(&initialize(1));
    }
    for connect in &mut both {
        let answer = connect.next_within(PATIENCE);
        assert_eq!(answer["result"]["serverInfo"]["name"], "Calculator", "{answer}");
        assert_eq!(mcp::text(&ask(connect, &call(2, "add"))), "9");
    }
    assert_eq!(scene.desktop.tabs().len(), 1);
    for connect in both {
        connect.end();
    }
}

#[test]
fn a_sign_in_outlives_the_request_that_began_it() {
    let scene = Scene::new(Desktop::new(), &[]);
    let Scene { desktop, server, .. } = &scene;
    server.consent_to("op:add");
    let mut connect = scene.connect();
    assert_eq!(mcp::text(&ask(&mut connect, &modern_call(1, "add"))), "9");

    server.consent_to(BOTH);
    desktop.go_away();
    connect.send(&modern_call(2, "divide"));
    desktop.wait_for_tabs(2);
    connect.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 2 } }));
    connect.send(&modern_call(3, "divide"));
    desktop.come_back();
    let answer = connect.next_within(PATIENCE);
    assert_eq!((&answer["id"], mcp::text(&answer)), (&json!(3), "2"));
    assert_eq!(desktop.tabs().len(), 2);
    connect.end();
}

#[test]
fn a_client_that_gives_up_before_it_is_signed_in_finds_the_sign_in_later() {
    let scene = Scene::new(Desktop::new(), &[]);
    let desktop = &scene.desktop;
    desktop.go_away();
    let mut connect = scene.connect();
    // SDKs wait for a minute and ask again; what answers the first is dropped by them.
    connect.send(&initialize(1));
    desktop.wait_for_tabs(1);
    connect.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }));
    desktop.come_back();
    let answer = connect.next_within(PATIENCE);
    assert_eq!(answer["id"], 1, "{answer}");
    assert_eq!(mcp::text(&ask(&mut connect, &call(2, "add"))), "9");
    assert_eq!(desktop.tabs().len(), 1);
    connect.end();
}

#[test]
fn who_refuses_to_sign_in_is_not_asked_again_before_asking_for_it() {
    let scene = Scene::new(Desktop::new(), &[]);
    let Scene { desktop, server, bridge } = &scene;
    server.consent_to("");
    let mut connect = scene.connect();
    let refused = ask(&mut connect, &modern_call(1, "add"));
    assert!(error(&refused).contains("access_denied"), "{refused}");
    assert_eq!(desktop.pages()[0]["transcript"][0]["status"], 200);
    let command = format!("mcp-bridge login {}", bridge.url());
    for id in 2..5 {
        let refused = ask(&mut connect, &modern_call(id, "add"));
        assert!(error(&refused).contains(&command), "{refused}");
    }
    let mut other = scene.connect();
    let refused = ask(&mut other, &initialize(1));
    assert!(error(&refused).contains(&command), "another program does not ask either: {refused}");
    other.end();
    assert_eq!(desktop.tabs().len(), 1);

    server.consent_to(BOTH);
    let login = scene.run("login");
    assert!(login.status.success(), "{login:?}");
    assert_eq!(desktop.tabs().len(), 2);
    assert_eq!(mcp::text(&ask(&mut connect, &modern_call(5, "add"))), "9", "who runs already takes what login got");
    connect.end();
}

#[test]
fn who_consents_to_less_is_not_asked_for_it_again_and_again() {
    let scene = Scene::new(Desktop::new(), &[]);
    let Scene { desktop, server, bridge } = &scene;
    server.consent_to("op:add");
    let mut connect = scene.connect();
    shake_hands(&mut connect);
    for id in 2..5 {
        let refused = ask(&mut connect, &call(id, "divide"));
        let command = format!("mcp-bridge login {}", bridge.url());
        assert!(error(&refused).contains("op:div") && error(&refused).contains(&command), "{refused}");
    }
    assert_eq!(desktop.tabs().len(), 2, "the sign-in, and one step-up");
    assert_eq!(mcp::text(&ask(&mut connect, &call(5, "add"))), "9");

    server.consent_to("op:add op:div op:sub");
    assert_eq!(mcp::text(&ask(&mut connect, &call(6, "subtract"))), "3", "other scopes are asked for");
    assert_eq!(desktop.tabs().len(), 3);
    let login = scene.run("login");
    assert!(login.status.success(), "{login:?}");
    assert_eq!(mcp::text(&ask(&mut connect, &call(7, "divide"))), "2");
    connect.end();
}

/// Desktop clients kill what does not answer in time, and start it again at once.
#[test]
fn a_client_that_kills_connect_while_its_user_is_asked_opens_no_second_tab() {
    let scene = Scene::new(Desktop::new(), &[]);
    scene.server.consent_to(BOTH);
    scene.desktop.go_away();
    let mut connect = scene.connect();
    connect.send(&initialize(1));
    scene.desktop.wait_for_tabs(1);
    // SIGKILL.
    drop(connect);
    for _ in 0..2 {
        let mut again = scene.connect();
        let answer = ask(&mut again, &initialize(1));
        let text = error(&answer);
        assert!(text.contains("was not brought to its end") && text.contains("mcp-bridge login"), "{text}");
        again.end();
    }
    assert_eq!(scene.desktop.tabs().len(), 1);
    scene.desktop.come_back();
}

#[test]
fn doctor_signs_in_looks_and_leaves_no_token() {
    let scene = Scene::new(Desktop::new(), &[]);
    let line = CommandLine::new("doctor").switch(scene.bridge.url()).switch("--login").switch("--json");
    let mut command = line.command();
    command.env("PATH", "/usr/bin:/bin").env("BROWSER", scene.desktop.path("browser")).env("LANG", "C.UTF-8");
    let output = finish(&mut command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    assert_eq!(output.status.code(), Some(0), "{report:#}\n{stderr}");
    let findings = report["findings"].as_array().expect("findings");
    for finding in findings {
        let (check, outcome) = (finding["check"].as_str().expect("a name"), finding["outcome"].as_str());
        let expected = match check {
            // It is on this machine, and the authorization server lets no page in a browser register.
            "url" | "cors-sign-in" => Some("warn"),
            "tls" | "redirect-uris" => Some("skipped"),
            _ => Some("pass"),
        };
        assert_eq!(outcome, expected, "{finding:#}");
    }
    assert!(findings.iter().any(|it| it["check"] == "sign-in") && findings.iter().any(|it| it["check"] == "tools"));
    assert_eq!(scene.desktop.pages().len(), 1);
    let token = scene.last_token();
    assert!(!scene.accepts(&token), "the token is revoked");
    assert!(!report.to_string().contains(&token) && !stderr.contains(&token));
}

#[test]
fn every_sdk_uses_a_server_of_the_python_sdk_that_wants_a_sign_in() {
    let server = AuthorizationServer::with(&["--refresh-tokens"]);
    let mut command = python("sdk-server.py");
    command.args([&server.issuer, &server.introspection_url, &server.client_id]).env("BRIDGE_SECRET", SECRET);
    // It ends with its input, so even a killed test leaves none behind.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = Guard::spawn(&mut command);
    let mut line = String::new();
    let stdout = child.0.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut line).expect("its stdout is readable");
    let announced: Value = serde_json::from_str(&line).expect("the server says where it is");
    let url = announced["url"].as_str().expect("a URL");

    let desktop = Desktop::with_keyring();
    let bridge = desktop.bridge();
    for mut client in every_sdk("signing-in") {
        transcript(client.arg(url).env("MCP_BRIDGE", &bridge));
    }
    assert_eq!(desktop.tabs().len(), 1, "one sign-in for all of them");
}

/// A server whose tokens come from `server`, and what it says to requests that bring one.
fn remote(server: &AuthorizationServer, refusal: impl Fn() -> (u16, String, String) + Send + Sync + 'static) -> Remote {
    let issuer = server.issuer.clone();
    Remote::start(move |asked, answering| {
        let origin = format!("http://{}", asked.header("host").unwrap_or_default());
        let metadata = "/.well-known/oauth-protected-resource/mcp";
        if asked.path == metadata {
            let resource = format!("{origin}/mcp");
            let document =
                json!({ "resource": resource, "authorization_servers": [issuer], "scopes_supported": ["op:add"] });
            return answering.json(200, &[], &document);
        }
        if asked.path != "/mcp" {
            return answering.status(404, &[]);
        }
        let challenge = format!("Bearer resource_metadata=\"{origin}{metadata}\"");
        if asked.header("authorization").is_none() {
            return answering.status(401, &[("WWW-Authenticate", &challenge)]);
        }
        let (status, name, value) = refusal();
        let value = value.replace("CHALLENGE", &challenge);
        answering.status(status, &[(&name, &value)]);
    })
}

/// How many requests for the endpoint brought a token.
fn with_token(remote: &Remote) -> usize {
    remote.asked().iter().filter(|asked| asked.header("authorization").is_some()).count()
}

#[test]
fn a_token_does_not_follow_a_redirect() {
    let server = AuthorizationServer::start();
    let other = Remote::start(|_, answering| answering.status(200, &[]));
    let url = other.url();
    let remote = remote(&server, move || (307, "Location".to_owned(), url.clone()));
    let desktop = Desktop::new();
    let mut connect = desktop.connect(&remote.url());
    let answer = ask(&mut connect, &initialize(1));
    assert!(error(&answer).contains(&other.url()), "{answer}");
    connect.end();
    assert_eq!((with_token(&remote), other.asked().len()), (1, 0));
    let (_, asked) = server.issued();
    assert_eq!((asked.len(), desktop.tabs().len()), (1, 1), "there was a token to lose");
}

#[test]
fn a_server_that_refuses_every_token_has_the_user_asked_once() {
    let server = AuthorizationServer::with(&["--refresh-tokens"]);
    let refused = || (401, "WWW-Authenticate".to_owned(), "CHALLENGE, error=\"invalid_token\"".to_owned());
    let remote = remote(&server, refused);
    let desktop = Desktop::new();
    let mut connect = desktop.connect(&remote.url());
    let answer = ask(&mut connect, &modern_call(1, "add"));
    assert!(error(&answer).contains("401"), "{answer}");
    for id in 2..6 {
        let answer = ask(&mut connect, &modern_call(id, "add"));
        assert!(error(&answer).contains(&format!("mcp-bridge login {}", remote.url())), "{answer}");
    }
    connect.end();
    assert_eq!((desktop.tabs().len(), server.issued().1.len()), (1, 1));
    assert_eq!(with_token(&remote), 5, "once for each request");
}

#[test]
fn a_server_that_wants_ever_more_scopes_has_the_user_asked_three_times() {
    let server = AuthorizationServer::with(&["--refresh-tokens"]);
    // The server knows all of them, and means none.
    let wanted = std::sync::Mutex::new(["op:add", "op:sub", "op:mult", "op:div"].into_iter().cycle());
    let refused = move || {
        let scope = wanted.lock().expect("no thread panicked").next().expect("one of them");
        let challenge = format!("CHALLENGE, error=\"insufficient_scope\", scope=\"{scope}\"");
        (403, "WWW-Authenticate".to_owned(), challenge)
    };
    let remote = remote(&server, refused);
    let desktop = Desktop::new();
    let mut connect = desktop.connect(&remote.url());
    let answer = ask(&mut connect, &modern_call(1, "add"));
    assert!(answer["error"].is_object(), "{answer}");
    assert_eq!(desktop.tabs().len(), 3, "the sign-in included");
    connect.end();
}

#[test]
fn a_server_that_wants_the_same_scope_for_ever_has_the_user_asked_once_for_it() {
    let server = AuthorizationServer::with(&["--refresh-tokens"]);
    let challenge = "CHALLENGE, error=\"insufficient_scope\", scope=\"op:sub\"";
    let remote = remote(&server, || (403, "WWW-Authenticate".to_owned(), challenge.to_owned()));
    let desktop = Desktop::new();
    let mut connect = desktop.connect(&remote.url());
    for id in 1..5 {
        let answer = ask(&mut connect, &modern_call(id, "add"));
        assert!(error(&answer).contains("op:sub"), "{answer}");
    }
    connect.end();
    assert_eq!(desktop.tabs().len(), 2, "the sign-in, and one step-up");
}

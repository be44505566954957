//! `mcp-bridge doctor` against healthy servers, against our own bridge, against other people's, and
//! against broken ones, each of which has to be named for its fault.

mod faults;
mod others;
mod scripted;
mod tls;

use std::{
    pin::Pin,
    process::{Command, Output},
};

use mcp_bridge::doctor::{Options, SignIn, examine};
use mcp_calculator::secret::Secret;
use serde_json::Value;

use self::scripted::{Asked, Said, Scripted, TOKEN};
use crate::{
    common::{authorization_server::AuthorizationServer, bridge::CommandLine, unix_now, world::ALL_SCOPES},
    driver::finish,
};

/// `doctor URL`, with nothing from the test's environment.
fn doctor(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-bridge"));
    command.env_clear().env("LANG", "C.UTF-8").args(["doctor", url]);
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the report is UTF-8")
}

/// The report for programs, and the exit code that goes with it.
fn report(command: &mut Command) -> (Value, Option<i32>) {
    let output = finish(command.arg("--json"));
    let text = stdout(&output);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}\n{stderr}"));
    (report, output.status.code())
}

/// The finding of one step.
fn finding<'r>(report: &'r Value, check: &str) -> &'r Value {
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().find(|it| it["check"] == check).unwrap_or_else(|| panic!("no {check} in {report:#}"))
}

/// The steps that ended so.
fn ended(report: &Value, outcome: &str) -> Vec<String> {
    let findings = report["findings"].as_array().expect("findings").iter();
    let those = findings.filter(|it| it["outcome"] == outcome);
    those.map(|it| it["check"].as_str().expect("a name").to_owned()).collect()
}

/// Compares with `tests/snapshots/bridge/NAME.snap`, where ports and times are left out.
fn snapshot(name: &str, text: &str, addresses: &[(&str, &str)]) {
    let text = addresses.iter().fold(text.to_owned(), |text, (address, name)| text.replace(address, name));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots/bridge");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn healthy_server_has_nothing_to_change_but_that_it_is_local() {
    let server = Scripted::start(|_, said, _| said);
    let (report, code) = report(doctor(&server.url()).env("MCP_BRIDGE_TOKEN", TOKEN).arg("--register"));
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["verdict"], "warn");
    assert_eq!(ended(&report, "warn"), ["url"], "{report:#}");
    assert_eq!(ended(&report, "skipped"), ["tls", "sign-in"], "{report:#}");
    assert_eq!(finding(&report, "registration")["clients"].as_array().map(Vec::len), Some(6));
}

#[test]
fn neither_a_token_nor_terminal_escapes_are_printed() {
    let server = Scripted::start(|_, said, _| said);
    for how in ["--json", "--verbose"] {
        let output = finish(doctor(&server.url()).env("MCP_BRIDGE_TOKEN", TOKEN).args([how, "--register"]));
        let all = format!("{}{}", stdout(&output), String::from_utf8_lossy(&output.stderr));
        assert!(all.contains("echo"), "{all}");
        assert!(!all.contains("canary") && !all.contains('\u{1b}'), "{how}: {all}");
    }
}

#[test]
fn token_goes_to_the_typed_origin_only() {
    let server = Scripted::start(|_, said, _| said);
    let (elsewhere, seen) = listener();
    // Everything that a server can name is elsewhere.
    let origin = elsewhere.origin().to_owned();
    let bad = Scripted::start(move |asked: &Asked, said, _| match asked.path.as_str() {
        "/mcp" if asked.header("Authorization").contains("canary") => said,
        "/mcp" => {
            let challenge = format!("Bearer resource_metadata=\"{origin}/.well-known/oauth-protected-resource/mcp\"");
            said.with("WWW-Authenticate", &challenge)
        }
        _ => said,
    });
    for url in [bad.url(), server.url()] {
        report(doctor(&url).env("MCP_BRIDGE_TOKEN", TOKEN));
    }
    let seen = seen.lock().expect("no thread panicked");
    assert!(!seen.is_empty(), "the other server was asked");
    assert!(seen.iter().all(|authorization| !authorization.contains("canary")), "{seen:?}");
}

/// A server that notes every `Authorization` that it gets.
fn listener() -> (Scripted, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noting = std::sync::Arc::clone(&seen);
    let server = Scripted::start(move |asked: &Asked, said, _| {
        noting.lock().expect("no thread panicked").push(asked.header("Authorization").to_owned());
        said
    });
    (server, seen)
}

/// A bridge whose issuer is a healthy server, and a token for it.
#[test]
fn our_own_bridge_has_nothing_to_change_but_that_it_is_local() {
    let issuer = Scripted::start(|_, said, _| said);
    let introspection = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&introspection).flag("--issuer", issuer.origin());
    // Whoever has exported a token for `doctor` can serve all the same.
    let bridge = line.flag("--keep-alive", "1s").env("MCP_BRIDGE_TOKEN", TOKEN).spawn();
    let answer = serde_json::json!({
        "active": true, "sub": "u", "aud": bridge.resource(), "scope": ALL_SCOPES, "exp": unix_now() + 600,
    });
    introspection.set(TOKEN, &answer);
    let (report, code) = report(doctor(bridge.url()).env("MCP_BRIDGE_TOKEN", TOKEN));
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(ended(&report, "warn"), ["url"], "{report:#}");
    assert_eq!(ended(&report, "skipped"), ["tls", "redirect-uris", "sign-in"], "{report:#}");
    assert_eq!(finding(&report, "streaming")["summary"], "it begins at once, over HTTP/1.1");

    let output = finish(doctor(bridge.url()).env("MCP_BRIDGE_TOKEN", TOKEN));
    let bridge_address = bridge.address().to_string();
    let port = format!("port {}", bridge.address().port());
    let issuer_address = issuer.origin().trim_start_matches("http://").to_owned();
    let names =
        [(bridge_address.as_str(), "BRIDGE"), (issuer_address.as_str(), "ISSUER"), (port.as_str(), "port PORT")];
    snapshot("doctor_green", &stdout(&output), &names);
}

#[test]
fn report_of_a_broken_server() {
    let server = Scripted::start(|asked: &Asked, said, origin| match asked.path.as_str() {
        "/.well-known/oauth-protected-resource/mcp" => said.edit(|it| it["resource"] = format!("{origin}/mcp/").into()),
        "/.well-known/oauth-authorization-server" => said.edit(|it| {
            it["issuer"] = "https://elsewhere.example".into();
            it["code_challenge_methods_supported"] = serde_json::json!(["plain"]);
        }),
        _ => said,
    });
    let output = finish(&mut doctor(&server.url()));
    assert_eq!(output.status.code(), Some(1));
    let address = server.origin().trim_start_matches("http://").to_owned();
    let port = format!("port {}", address.rsplit(':').next().unwrap_or_default());
    snapshot("doctor_red", &stdout(&output), &[(address.as_str(), "SERVER"), (port.as_str(), "port PORT")]);
}

#[test]
fn wrong_use_is_code_2_and_says_why() {
    let run = |command: &mut Command, word: &str| {
        let output = finish(command);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(word) && !stderr.contains("canary"), "{stderr}");
        assert!(output.stdout.is_empty());
    };
    run(&mut doctor("mcp.example.com"), "https://mcp.example.com/mcp");
    run(&mut doctor("https://u:canary@mcp.example.com"), "user name or password");
    run(doctor("http://127.0.0.1:9/").args(["--token-file", "/nowhere"]), "/nowhere");
    run(doctor("http://127.0.0.1:9/").env("MCP_BRIDGE_TOKEN", "Bearer canary"), "MCP_BRIDGE_TOKEN");
    run(doctor("http://127.0.0.1:9/").arg("--token=canary"), "--token");
}

#[test]
fn proxy_of_the_environment_is_named_without_its_password() {
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("an address");
    let proxy = format!("http://user:canary@{closed}");
    let (report, code) = report(doctor("http://mcp.example.com/mcp").env("HTTP_PROXY", proxy));
    assert_eq!(code, Some(1));
    let summary = finding(&report, "reach")["summary"].to_string();
    assert!(summary.contains(&format!("through the proxy http://{closed}")), "{summary}");
    assert!(!report.to_string().contains("canary"), "{report:#}");
    assert!(finding(&report, "door").to_string().contains("refused"), "{report:#}");
}

#[test]
fn proxy_of_the_environment_never_sees_the_token() {
    let (proxy, seen) = listener();
    let server = Scripted::start(|_, said, _| said);
    let run = |url: &str| {
        let mut command = doctor(url);
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(name, proxy.origin());
        }
        report(command.env("MCP_BRIDGE_TOKEN", TOKEN)).0
    };
    let local = run(&server.url());
    assert_eq!(finding(&local, "tools")["outcome"], "pass", "{local:#}");
    assert!(seen.lock().expect("no thread panicked").is_empty(), "what is for this machine went to a proxy");

    // Where it has to be asked, it gets the questions, and not the token.
    let elsewhere = run("http://mcp.invalid/mcp");
    assert_ne!(finding(&elsewhere, "tools")["outcome"], "pass", "{elsewhere:#}");
    let seen = seen.lock().expect("no thread panicked");
    assert!(!seen.is_empty(), "the proxy was asked");
    assert!(seen.iter().all(|authorization| !authorization.contains("canary")), "{seen:?}");
}

/// Somebody who signs in without a browser.
struct AtOnce(Result<&'static str, &'static str>);

impl SignIn for AtOnce {
    fn sign_in<'a>(
        &'a self,
        _server: &'a url::Url,
    ) -> Pin<Box<dyn Future<Output = Result<Secret<String>, String>> + Send + 'a>> {
        Box::pin(async move { self.0.map(|token| Secret::new(token.to_owned())).map_err(str::to_owned) })
    }
}

#[tokio::test]
async fn who_signs_in_sees_the_tools() {
    let server = Scripted::start(|_, said, _| said);
    for (outcome, tools) in [(Ok(TOKEN), "pass"), (Err("the browser was closed"), "skipped")] {
        let sign_in: Option<std::sync::Arc<dyn SignIn>> = Some(std::sync::Arc::new(AtOnce(outcome)));
        let options = Options { url: server.url(), token: None, sign_in, register: false };
        let report = examine(options).await.expect("a report").json();
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(finding(&report, "sign-in")["outcome"], if outcome.is_ok() { "pass" } else { "fail" });
        assert_eq!(finding(&report, "tools")["outcome"], tools, "{report:#}");
        let told = outcome.err().is_none_or(|why| report.to_string().contains(why));
        assert!(told && !report.to_string().contains(TOKEN), "{report:#}");
    }
}

#[test]
fn output_without_utf8_is_ascii_and_without_colours() {
    let server = Scripted::start(
        |asked: &Asked, said, _| {
            if asked.path == "/mcp" { Said::of(500, "text/plain", "broken") } else { said }
        },
    );
    let output = finish(doctor(&server.url()).env("LANG", "C"));
    let text = stdout(&output);
    assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text}");
    assert!(text.contains("FAIL"), "{text}");
}

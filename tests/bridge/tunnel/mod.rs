//! `serve --tunnel`: agents that stand in for the real ones, and what becomes of the bridge with them.

mod faults;
mod restarts;
mod stand_in;

use std::{net::SocketAddr, thread};

use serde_json::json;

use self::stand_in::{Agents, edge, processes};
use super::{
    authserver::world::{Browser, State},
    common::{
        bridge::{Bridge, CommandLine, Scratch},
        http::Connection,
        mcp, wait_until,
    },
};

const QUICK: &str = "https://first-words.trycloudflare.com";
const NGROK: &str = "https://first.ngrok-free.app";

#[test]
fn the_public_url_is_the_tunnels_and_clients_sign_in_through_it() {
    for (agent, url) in [("cloudflared", QUICK), ("ngrok", NGROK)] {
        let agents = Agents::new(&json!([{ "url": url }]));
        let state = State::new();
        let server = agents.serve(&state, agent, |line| line);
        assert_eq!(server.resource(), format!("{url}/mcp"), "{agent}");
        assert!(server.bridge.url().starts_with("http://127.0.0.1:"), "{}", server.bridge.url());
        let refused = server.send(&mcp::call("add")).expect(401, agent);
        let challenge = refused.header("WWW-Authenticate").unwrap_or_default();
        let metadata = format!("resource_metadata=\"{url}/.well-known/oauth-protected-resource/mcp\"");
        assert!(challenge.contains(&metadata), "{challenge}");
        let get = |path: &str| server.send(&super::common::http::Request::get(path)).expect(200, path).json();
        let resource = get("/.well-known/oauth-protected-resource/mcp");
        assert_eq!(
            (&resource["resource"], &resource["authorization_servers"][0]),
            (&format!("{url}/mcp").into(), &url.into())
        );
        assert_eq!(get("/.well-known/oauth-authorization-server")["issuer"], url);
        let client = server.client();
        let tokens = server.grant(&client, &["op:add"]);
        assert_eq!((server.call("add", &tokens.access), server.call("divide", &tokens.access)), (200, 403), "{agent}");
        server.bridge.wait_for_event("the URL", |event| {
            event["message"] == "the tunnel is there; give this URL to clients" && event["url"] == format!("{url}/mcp")
        });
    }
}

/// Headers that a tunnel adds or passes on say nothing about who we are.
#[test]
fn a_foreign_host_is_refused_behind_a_tunnel_too() {
    let agents = Agents::new(&json!([{ "url": NGROK }]));
    let state = State::new();
    let server = agents.serve(&state, "ngrok", |line| line);
    for host in ["evil.example", "second.ngrok-free.app"] {
        server.send(&mcp::call("add").header("Host", host)).expect(421, host);
    }
}

/// What asks while there is no URL yet is answered when there is one.
#[test]
fn nobody_is_answered_before_the_url_is_known() {
    for (agent, url) in [("cloudflared", QUICK), ("ngrok", NGROK)] {
        let scratch = Scratch::new();
        let hold = scratch.path("go");
        let agents = Agents::new(&json!([{ "url": url, "hold": hold }]));
        let state = State::new();
        let line = agents.line(&state, agent);
        let starting = thread::spawn(move || line.spawn());
        wait_until("the agent runs", || agents.runs().len() == 1);
        let target = SocketAddr::from(([127, 0, 0, 1], agents.last()["target"].as_u64().expect("a port") as u16));
        let mut early = Connection::open(target);
        early.write(&mcp::call("add").header("Host", url.trim_start_matches("https://")).bytes(target));
        std::fs::write(&hold, "").expect("our own folder");
        let answer = early.read_response(false).expect(401, agent);
        assert!(answer.header("WWW-Authenticate").is_some_and(|challenge| challenge.contains(url)), "{answer:?}");
        let bridge: Bridge = starting.join().expect("it listens");
        assert_eq!(bridge.resource(), format!("{url}/mcp"));
    }
}

/// `--public-url` says which tunnel it is, and the agents' own secrets are in no list of processes.
#[test]
fn a_tunnel_of_ones_own_has_the_url_that_was_given() {
    let ours = "https://mcp.example.com";
    for (agent, secret) in [("cloudflared", "TUNNEL_TOKEN"), ("ngrok", "NGROK_AUTHTOKEN")] {
        let agents = Agents::new(&json!([{ "url": ours }]));
        let state = State::new();
        let server =
            agents.serve(&state, agent, |line| line.flag("--public-url", ours).env(secret, "canary-of-an-agent"));
        assert_eq!(server.resource(), format!("{ours}/mcp"));
        server.send(&mcp::call("add")).expect(401, agent);
        let run = agents.last();
        let arguments = run["arguments"].to_string();
        assert_eq!(run["environment"][secret], "canary-of-an-agent");
        assert!(!arguments.contains("canary"), "{arguments}");
        match agent {
            "ngrok" => assert!(arguments.contains(&format!("\"--url\",\"{ours}\"")), "{arguments}"),
            _ => assert!(arguments.contains("\"run\""), "{arguments}"),
        }
        assert!(!server.bridge.log_text().contains("canary"));
    }
}

/// An agent gets what it needs and none of the bridge's own secrets.
#[test]
fn an_agent_sees_its_own_variables_only() {
    let agents = Agents::new(&json!([{ "url": QUICK }]));
    let state = State::new();
    let hidden = ["TUNNEL_TOKEN", "AWS_SECRET_ACCESS_KEY", "NGROK_AUTHTOKEN"];
    let server = agents.serve(&state, "cloudflared", |line| {
        let line = line.env("TUNNEL_TRANSPORT_PROTOCOL", "http2");
        hidden.iter().fold(line, |line, name| line.env(name, "canary-of-a-secret"))
    });
    let environment = &agents.last()["environment"];
    assert_eq!(environment["TUNNEL_TRANSPORT_PROTOCOL"], "http2");
    let names: Vec<&String> = environment.as_object().expect("an object").keys().collect();
    assert!(!environment.to_string().contains("canary"), "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("MCP_BRIDGE_") && *name != "MCP_BRIDGE_INSTANCE"), "{names:?}");
    let log = server.bridge.log_text();
    assert!(log.contains("TUNNEL_TOKEN is not used") && !log.contains("was empty"), "{log}");
}

/// However the bridge ends, its agent ends.
#[cfg(target_os = "linux")]
#[test]
fn no_agent_outlives_its_bridge() {
    for signal in ["TERM", "INT", "KILL"] {
        for (agent, url) in [("cloudflared", QUICK), ("ngrok", NGROK)] {
            let agents = Agents::new(&json!([{ "url": url }]));
            let state = State::new();
            let mut server = agents.serve(&state, agent, |line| line);
            assert_eq!(processes(&agents), 1, "{agent}");
            server.bridge.signal(signal);
            let status = server.bridge.wait();
            assert_eq!(status.success(), signal != "KILL", "{status}");
            wait_until("the agent is gone", || processes(&agents) == 0);
        }
    }
}

/// One that is told to end while its agent is still looking for a tunnel does so, and takes it along.
#[cfg(target_os = "linux")]
#[test]
fn a_bridge_that_waits_for_its_tunnel_ends_when_told_to() {
    let agents = Agents::new(&json!([{ "url": NGROK, "silent": true }]));
    let state = State::new();
    let mut command = agents.line(&state, "ngrok").command();
    let mut bridge = super::driver::Guard::spawn(&mut command);
    wait_until("the agent runs", || agents.runs().len() == 1);
    let killed = std::process::Command::new("/bin/kill").arg("-TERM").arg(bridge.0.id().to_string()).status();
    assert!(killed.expect("kill starts").success());
    let mut status = None;
    wait_until("the bridge ends", || {
        status = bridge.0.try_wait().expect("our own child");
        status.is_some()
    });
    assert!(status.expect("waited for").success(), "{status:?}");
    wait_until("the agent is gone", || processes(&agents) == 0);
}

/// What goes wrong only when the URL is known ends the agent, too.
#[cfg(target_os = "linux")]
#[test]
fn a_start_that_fails_behind_an_open_tunnel_leaves_no_agent() {
    for (agent, url) in [("cloudflared", QUICK), ("ngrok", NGROK)] {
        let agents = Agents::new(&json!([{ "url": url }]));
        let state = State::new();
        let file = state.folder().with_file_name("file");
        std::fs::write(&file, "").expect("our own folder");
        let line = agents.line(&state, agent).env("MCP_BRIDGE_STATE_DIR", file.to_str().expect("UTF-8"));
        let (code, text) = refused(&line);
        assert_eq!((code, agents.runs().len()), (Some(1), 1), "{text}");
        assert!(text.contains("cannot make the folder"), "{text}");
        wait_until("the agent is gone", || processes(&agents) == 0);
    }
}

/// At a terminal the URL is shown with what to do with it; the tunnel ends with the terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_start_in_a_terminal_shows_the_url_to_paste() {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    let agents = Agents::new(&json!([{ "url": QUICK }]));
    let state = State::new();
    let start = format!(
        "exec '{}' serve --listen 127.0.0.1:0 --state-dir '{}' --tunnel cloudflared --log-level error",
        env!("CARGO_BIN_EXE_mcp-bridge"),
        state.folder().display()
    );
    let mut command = Command::new("/usr/bin/script");
    command.args(["-qec", &start, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut terminal = super::driver::Guard::spawn(command.env_clear().env("PATH", agents.path()));
    let mut said = Vec::new();
    for line in BufReader::new(terminal.0.stdout.take().expect("piped")).lines().map_while(Result::ok) {
        let is_last = line.contains("mcp-bridge doctor http");
        said.push(line.trim_end().to_owned());
        if is_last {
            break;
        }
    }
    // The address is the system's choice.
    let text = said.join("\n");
    let port = text.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next()).expect("a port").to_owned();
    super::authserver::world::check_text("tunnel_start", &text.replace(&port, "8808"));
    // Who closes the terminal does not leave a machine open to the internet.
    assert_eq!(processes(&agents), 1);
    drop(terminal);
    wait_until("the agent is gone with the terminal", || processes(&agents) == 0);
}

/// A browser that is signed in at one URL of a tunnel, as far as the tests need one.
fn sign_in(server: &super::authserver::world::Server<'_>, client: &str, resource: &str) -> String {
    let mut browser = Browser::new(server);
    browser.sign_in();
    let code = browser.code(&server.request(client).with("resource", resource), &["op:add"]);
    let tokens = server.token(&server.exchange(client, &code).with("resource", resource)).expect(200, "tokens").json();
    tokens["access_token"].as_str().expect("a token").to_owned()
}

/// `serve` without an agent, for settings that are refused.
fn refused(line: &CommandLine) -> (Option<i32>, String) {
    let output = line.run();
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

/// The bridge's answer at the tunnel's edge.
fn at_edge(agents: &Agents, request: &super::common::http::Request) -> super::common::http::Response {
    request.send(edge(agents))
}

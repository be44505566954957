//! `serve --tunnel`, with stand-ins for the agents that speak what the real ones speak.

use std::{
    fs,
    net::SocketAddr,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::common::{
    authorization_server::AuthorizationServer,
    bridge::{Bridge, CommandLine, Scratch, field},
    challenge::Challenge,
    http::Request,
    mcp, unix_now, wait_until,
};

/// A machine where the stand-ins are installed.
struct Machine {
    agent: &'static str,
    server: AuthorizationServer,
    scratch: Scratch,
}

impl Machine {
    fn with(agent: &'static str, hosts: &[&str]) -> Self {
        let machine = Self { agent, server: AuthorizationServer::start(), scratch: Scratch::new() };
        let bin = machine.scratch.path("bin");
        fs::create_dir(&bin).expect("a folder");
        let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bridge/tunnel/agent.py");
        std::os::unix::fs::symlink(stand_in, bin.join(agent)).expect("a link");
        machine.scratch.file("hosts", hosts.join(" "));
        machine
    }

    fn says(self, mode: &str) -> Self {
        self.scratch.file("mode", mode);
        self
    }

    fn line(&self) -> CommandLine {
        let path = format!("{}:{}", self.scratch.path("bin").display(), std::env::var("PATH").expect("a PATH"));
        let folder = self.scratch.path("").to_str().expect("UTF-8").to_owned();
        CommandLine::serve()
            .introspection(&self.server)
            .flag("--tunnel", self.agent)
            .env("PATH", path)
            .env(if self.agent == "ngrok" { "NGROK_TEST" } else { "TUNNEL_TEST" }, folder)
    }

    /// Everything that the agent was started with, one after the other.
    fn starts(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.scratch.path("starts")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn start(&self) -> Value {
        self.starts().pop().expect("it was started")
    }

    /// Where requests for the public URL arrive.
    fn edge(&self) -> SocketAddr {
        let port = self.start()["edge"].as_u64().expect("a port");
        format!("127.0.0.1:{port}").parse().expect("an address")
    }

    fn token(&self, bridge_resource: &str) -> String {
        let token = format!("for:{bridge_resource}").replace([':', '/'], ".");
        self.server.set(
            &token,
            &json!({
                "active": true, "sub": "u", "client_id": "c", "scope": "op:add", "aud": bridge_resource,
                "exp": unix_now() + 600,
            }),
        );
        token
    }

    /// A call from the internet.
    fn call(&self, host: &str, token: Option<&str>) -> crate::common::http::Response {
        let call = mcp::call("add").with("Host", host);
        match token {
            Some(token) => call.bearer(token),
            None => call,
        }
        .send(self.edge())
    }

    /// Runs it to its end, which has to be a failure.
    fn failure(&self, line: &CommandLine) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = line.run();
        (status.code(), String::from_utf8(stderr).expect("UTF-8"))
    }
}

fn kill(signal: &str, process: u64) {
    let mut command = Command::new("/bin/kill");
    let status = command.args([signal, &process.to_string()]).env_clear().status().expect("kill starts");
    assert!(status.success(), "kill {signal} {process}");
}

fn is_gone(process: u64) -> bool {
    // One that nobody has waited for yet is gone, too.
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.is_empty() || status.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// Waits until `bridge` says that it serves `resource`.
fn serves(bridge: &Bridge, resource: &str) {
    bridge.wait_for_event(resource, |event| {
        field(event, "message") == Some(&"listening".into()) && field(event, "resource") == Some(&resource.into())
    });
}

fn check_that_the_world_gets_in(agent: &'static str, host: &str) {
    let machine = Machine::with(agent, &[host]);
    let bridge = machine.line().spawn();
    let resource = format!("https://{host}/mcp");
    assert_eq!(bridge.resource(), resource);
    let refused = machine.call(host, None).expect(401, "a stranger");
    let challenge = Challenge::of(&refused);
    let metadata = format!("https://{host}/.well-known/oauth-protected-resource/mcp");
    assert_eq!(challenge.get("resource_metadata"), Some(metadata.as_str()));
    let document = Request::get("/.well-known/oauth-protected-resource/mcp").with("Host", host).send(machine.edge());
    assert_eq!(document.expect(200, "metadata").json()["resource"], resource);
    let answer = machine.call(host, Some(&machine.token(&resource))).expect(200, "a user");
    assert_eq!(mcp::text(&answer.json()), "9");
    machine.call("other.example", Some(&machine.token(&resource))).expect(421, "a host that is not ours");
}

#[test]
fn a_quick_tunnel_of_cloudflared_is_known_before_anything_is_answered() {
    check_that_the_world_gets_in("cloudflared", "first-quick-name.trycloudflare.com");
}

#[test]
fn a_tunnel_of_ngrok_is_known_before_anything_is_answered() {
    check_that_the_world_gets_in("ngrok", "first.ngrok-free.app");
}

#[test]
fn a_lasting_url_is_asked_for_and_the_token_of_the_agent_is_in_no_argument() {
    let machine = Machine::with("ngrok", &["mine.ngrok.app"]);
    let line = machine.line().flag("--public-url", "https://mine.ngrok.app").env("NGROK_AUTHTOKEN", "canary-token");
    let bridge = line.spawn();
    assert_eq!(bridge.resource(), "https://mine.ngrok.app/mcp");
    let start = machine.start();
    assert!(start["arguments"].to_string().contains(r#""--url","https://mine.ngrok.app""#), "{start}");
    assert!(!start["arguments"].to_string().contains("canary") && start["token"] == "canary-token", "{start}");
    assert!(!bridge.log_text().contains("canary"), "not in the log");

    let machine = Machine::with("cloudflared", &[""]);
    let line = machine.line().flag("--public-url", "https://mcp.example.com");
    let (code, text) = machine.failure(&line);
    assert!(code == Some(2) && text.contains("set TUNNEL_TOKEN"), "{code:?} {text}");
    assert!(machine.starts().is_empty(), "nothing was started");
}

#[test]
fn an_agent_that_comes_back_under_the_same_name_changes_nothing() {
    let machine = Machine::with("cloudflared", &["same.trycloudflare.com"]);
    let bridge = machine.line().spawn();
    let token = machine.token(bridge.resource());
    machine.call("same.trycloudflare.com", Some(&token)).expect(200, "before");
    kill("-9", machine.start()["id"].as_u64().expect("an id"));
    bridge.wait_for_event("that it is up again", |event| event.to_string().contains("the tunnel is up again"));
    assert_eq!(machine.starts().len(), 2);
    machine.call("same.trycloudflare.com", Some(&token)).expect(200, "after");
}

#[test]
fn token_for_the_url_before_is_refused_when_the_tunnel_has_moved() {
    let machine = Machine::with("ngrok", &["one.ngrok.app", "two.ngrok.app"]);
    let bridge = machine.line().flag("--introspection-cache", "0s").spawn();
    let old = machine.token(bridge.resource());
    machine.call("one.ngrok.app", Some(&old)).expect(200, "before");
    kill("-TERM", machine.start()["id"].as_u64().expect("an id"));
    serves(&bridge, "https://two.ngrok.app/mcp");
    bridge.wait_for_event("why", |event| event.to_string().contains("tokens for the old one are refused"));
    machine.call("two.ngrok.app", Some(&old)).expect(401, "the token of another resource");
    machine.call("one.ngrok.app", Some(&old)).expect(421, "a host that is ours no more");
    let new = machine.token("https://two.ngrok.app/mcp");
    machine.call("two.ngrok.app", Some(&new)).expect(200, "after");
}

#[test]
fn the_agent_ends_with_the_bridge_however_that_ends() {
    for (signal, agent) in [("-TERM", "cloudflared"), ("-KILL", "cloudflared"), ("-INT", "ngrok"), ("-KILL", "ngrok")] {
        let machine = Machine::with(agent, &["a.example"]);
        let bridge = machine.line().spawn();
        let id = machine.start()["id"].as_u64().expect("an id");
        assert!(!is_gone(id));
        kill(signal, bridge.id().into());
        wait_until("the end of the agent", || is_gone(id));
        drop(bridge);
        assert_eq!(machine.starts().len(), 1, "and it is not started again");
    }
}

#[test]
fn a_bridge_that_is_ended_while_it_waits_for_a_url_takes_the_agent_along() {
    let machine = Machine::with("ngrok", &[]).says("silent");
    let mut child = machine.line().command().spawn().expect("it starts");
    wait_until("the agent", || !machine.starts().is_empty());
    kill("-TERM", child.id().into());
    wait_until("the end of the bridge", || child.try_wait().expect("our own child").is_some());
    assert!(child.wait().expect("it has ended").success());
    wait_until("the end of the agent", || is_gone(machine.start()["id"].as_u64().expect("an id")));
}

#[test]
fn what_is_wrong_with_the_agent_is_said() {
    let machine = Machine::with("ngrok", &[]).says("refused");
    let (code, text) = machine.failure(&machine.line());
    assert_eq!(code, Some(1), "{text}");
    for words in ["ERR_NGROK_4018", "ngrok config add-authtoken", "exited with code 1"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let machine = Machine::with("cloudflared", &[]).says("refused");
    let (code, text) = machine.failure(&machine.line());
    assert_eq!(code, Some(1), "{text}");
    for words in ["429 Too Many Requests", "exited with code 1", "config.yml"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (code, text) = machine.failure(&machine.line().env("PATH", "/nowhere"));
    assert_eq!(code, Some(1), "{text}");
    for words in ["`cloudflared` is in no folder of PATH (/nowhere); install it", "developers.cloudflare.com"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn nobody_gets_a_tunnel_without_authorization() {
    let machine = Machine::with("cloudflared", &["a.trycloudflare.com"]);
    let (code, text) = machine.failure(&CommandLine::serve().flag("--auth", "none").flag("--tunnel", "cloudflared"));
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--tunnel: auth = none would let everybody on the network in"), "{text}");
}

//! Agents that die and come back, and tunnels that move.

use std::process::Command;

use serde_json::{Value, json};

use super::{Agents, NGROK, QUICK, State, edge, mcp, processes, sign_in};
use crate::{
    authserver::world::Server,
    common::{
        bridge::accepts,
        http::{Connection, Request},
        wait_until,
    },
};

const OTHER_QUICK: &str = "https://other-words.trycloudflare.com";
const OTHER_NGROK: &str = "https://other.ngrok-free.app";

/// Kills the agent of the last run.
fn kill(agents: &Agents) {
    let killed = Command::new("/bin/kill").arg("-KILL").arg(agents.last()["pid"].to_string()).env_clear().status();
    assert!(killed.expect("kill starts").success());
}

fn says(part: &'static str) -> impl Fn(&Value) -> bool {
    move |event| event["message"].as_str().is_some_and(|message| message.contains(part))
}

#[test]
fn an_agent_that_comes_back_with_the_same_url_changes_nothing() {
    for (agent, url) in [("cloudflared", QUICK), ("ngrok", NGROK)] {
        let agents = Agents::new(&json!([{ "url": url }]));
        let state = State::new();
        let server = agents.serve(&state, agent, |line| line);
        let client = server.client();
        let tokens = server.grant(&client, &["op:add"]);
        kill(&agents);
        server.bridge.wait_for_event("the end", says("was killed by signal 9; starting it again in"));
        server.bridge.wait_for_event("the tunnel", says("the tunnel is there again"));
        assert_eq!(agents.runs().len(), 2);
        assert_eq!(server.call("add", &tokens.access), 200, "the same URL is the same audience");
        assert!(!server.bridge.log_text().contains("another URL"));
    }
}

/// Another URL is another audience: what was issued for the old one opens nothing.
#[test]
fn a_token_for_the_old_url_is_refused_at_the_new_one() {
    for (agent, old, new) in [("cloudflared", QUICK, OTHER_QUICK), ("ngrok", NGROK, OTHER_NGROK)] {
        let agents = Agents::new(&json!([{ "url": old }, { "url": new }]));
        let state = State::new();
        let server = agents.serve(&state, agent, |line| line);
        let client = server.client();
        let tokens = server.grant(&client, &["op:add"]);
        assert_eq!(server.call("add", &tokens.access), 200);
        kill(&agents);
        server.bridge.wait_for_event("why", says("the tunnel has another URL, so this is another resource"));
        let resource = format!("{new}/mcp");
        server.bridge.wait_for_event("the new resource", |event| {
            event["message"] == "listening" && event["resource"] == resource
        });

        let at_new = |request: Request| request.header("Host", new.trim_start_matches("https://"));
        let refused =
            super::at_edge(&agents, &at_new(mcp::call("add").bearer(&tokens.access))).expect(401, "old token");
        let challenge = refused.header("WWW-Authenticate").unwrap_or_default();
        assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains(new), "{challenge}");
        let old_host = mcp::call("add").bearer(&tokens.access).header("Host", old.trim_start_matches("https://"));
        super::at_edge(&agents, &old_host).expect(421, "the old host");
        let refresh = server.refresh(&client, &tokens.refresh);
        let refresh = at_new(crate::authserver::world::form("/token", &refresh));
        let refused = super::at_edge(&agents, &refresh);
        assert!(refused.status == 400, "a refresh token for the old URL: {refused:?}");

        // A client that signs in at the new URL is let in there.
        let host = new.trim_start_matches("https://").to_owned();
        let edge = edge(&agents);
        let server = crate::authserver::world::Server {
            road: Some(Box::new(move |request: &Request| request.clone().header("Host", &host).send(edge))),
            ..server
        };
        let token = sign_in(&server, &client, &resource);
        assert_eq!(server.call("add", &token), 200);
    }
}

/// A running agent may get another URL, as ngrok does when its session is new.
#[test]
fn a_tunnel_that_moves_under_a_running_agent_is_followed() {
    let scratch = super::Scratch::new();
    let go = scratch.path("go");
    let agents = Agents::new(&json!([{ "url": NGROK, "move": [go, OTHER_NGROK] }]));
    let state = State::new();
    let server = agents.serve(&state, "ngrok", |line| line);
    let client = server.client();
    let tokens = server.grant(&client, &["op:add"]);
    std::fs::write(&go, "").expect("our own folder");
    let resource = format!("{OTHER_NGROK}/mcp");
    server
        .bridge
        .wait_for_event("the new resource", |event| event["message"] == "listening" && event["resource"] == resource);
    let request = mcp::call("add").bearer(&tokens.access).header("Host", "other.ngrok-free.app");
    super::at_edge(&agents, &request).expect(401, "the old token");
    assert_eq!(agents.runs().len(), 1);
}

/// A call on this machine that the bridge has accepted, and that lacks the last byte of its body.
struct Accepted {
    connection: Connection,
    last: u8,
}

/// The call, and it begun.
fn accepted(server: &Server<'_>) -> (Request, Accepted) {
    let client = server.client();
    let tokens = server.grant(&client, &["op:add"]);
    let local = server.bridge.address();
    let request = mcp::call("add").bearer(&tokens.access);
    let bytes = request.bytes(local);
    let (last, most) = bytes.split_last().expect("a request");
    let mut connection = Connection::open(local);
    connection.write(most);
    // The bridge has accepted it, because it has answered one that came later.
    Request::get("/healthz").send(local).expect(200, "health");
    (request, Accepted { connection, last: *last })
}

impl Accepted {
    fn finish(mut self) {
        self.connection.write(&[self.last]);
        let answer = self.connection.read_response(false).expect(200, "it was accepted before");
        assert_eq!(mcp::text(&answer.json()), "9");
    }
}

/// What is on its way when the URL changes is finished, though its client is not at the tunnel.
#[test]
fn a_change_of_the_url_loses_no_local_request() {
    let agents = Agents::new(&json!([{ "url": QUICK }, { "url": OTHER_QUICK }]));
    let state = State::new();
    let server = agents.serve(&state, "cloudflared", |line| line);
    let (request, accepted) = accepted(&server);
    kill(&agents);
    let resource = format!("{OTHER_QUICK}/mcp");
    server
        .bridge
        .wait_for_event("the new resource", |event| event["message"] == "listening" && event["resource"] == resource);
    accepted.finish();
    request.send(server.bridge.address()).expect(401, "one that came after");
}

/// Nor does one under which nothing can be served, though the bridge ends then.
#[test]
fn a_url_that_cannot_be_served_loses_no_local_request() {
    let agents = Agents::new(&json!([{ "url": QUICK }, { "url": OTHER_QUICK }]));
    let state = State::new();
    let mut server = agents.serve(&state, "cloudflared", |line| line);
    let (_, accepted) = accepted(&server);
    let folder = state.folder();
    std::fs::rename(&folder, folder.with_file_name("moved")).expect("our own folder");
    std::fs::write(&folder, "").expect("our own folder");
    kill(&agents);
    server.bridge.wait_for_event("what becomes of it", says("finishing what was accepted"));
    assert!(!accepts(server.bridge.address()), "nobody is let in any more");
    accepted.finish();
    assert_eq!(server.bridge.wait().code(), Some(1));
    wait_until("the agent is gone", || processes(&agents) == 0);
}

#[test]
fn an_agent_that_cannot_come_back_is_tried_again_and_again() {
    let refuse = json!({ "url": NGROK, "refuse": "ERR_NGROK_8012" });
    let agents = Agents::new(&json!([{ "url": NGROK }, refuse, refuse, { "url": NGROK }]));
    let state = State::new();
    let server = agents.serve(&state, "ngrok", |line| line);
    kill(&agents);
    server.bridge.wait_for_event("the tunnel", says("the tunnel is there again"));
    assert_eq!((agents.runs().len(), processes(&agents)), (4, 1));
    let downs = server.bridge.events().iter().filter(|event| says("the tunnel stays down")(event)).count();
    assert_eq!(downs, 2);
    // Meanwhile it serves whoever is on this machine.
    server.send(&mcp::call("add")).expect(401, "through the tunnel");
    mcp::call("add").send(server.bridge.address()).expect(401, "on this machine");
}

/// The processes of a command end with the old URL, and others serve the new one.
#[test]
fn a_command_is_served_under_the_new_url_too() {
    let agents = Agents::new(&json!([{ "url": QUICK }, { "url": OTHER_QUICK }, { "url": OTHER_QUICK }]));
    let state = State::new();
    let everything = crate::everything::example("everything");
    let command = [everything.to_str().expect("UTF-8"), "--era", "modern"];
    let server = agents.serve(&state, "cloudflared", |line| line.command_to_serve(&command));
    let client = server.client();
    kill(&agents);
    let resource = format!("{OTHER_QUICK}/mcp");
    server
        .bridge
        .wait_for_event("the new resource", |event| event["message"] == "listening" && event["resource"] == resource);
    let edge = edge(&agents);
    let host = OTHER_QUICK.trim_start_matches("https://");
    let server = crate::authserver::world::Server {
        road: Some(Box::new(move |request: &Request| request.clone().header("Host", host).send(edge))),
        ..server
    };
    let token = crate::authserver::world::Tokens::of({
        let mut browser = crate::authserver::world::Browser::new(&server);
        browser.sign_in();
        let code = browser.code(&server.request(&client).with("resource", &resource), &["mcp"]);
        server.token(&server.exchange(&client, &code).with("resource", &resource))
    });
    let call = mcp::modern("tools/call", json!({ "name": "tell", "arguments": { "words": "here" } }));
    let answer = server.send(&call.bearer(&token.access)).expect(200, "a command");
    assert!(answer.text().contains("here"), "{}", answer.text());
    kill(&agents);
    server.bridge.wait_for_event("the tunnel", says("the tunnel is there again"));
}

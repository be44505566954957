//! HTTP+SSE, the transport of 2024-11-05: a stream that says where messages go, and what they lead to.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::{
    common::{
        authorization_server::AuthorizationServer,
        bridge::{Bridge, CommandLine, Scratch},
        challenge::Challenge,
        http::Request,
        mcp, unix_now, wait_until,
        world::{ALL_SCOPES, World},
    },
    everything::example,
};

mod client;

use client::{Client, calculate, get, initialize, post, request, tool};

fn said(answer: &Value) -> (u64, &str) {
    (answer["id"].as_u64().unwrap_or_else(|| panic!("no id in {answer}")), mcp::text(answer))
}

fn world(more: impl FnOnce(CommandLine) -> CommandLine) -> World {
    World::with(|line| more(line.switch("--legacy-sse")))
}

/// A command behind a bridge, and users who may use it.
struct Behind {
    server: AuthorizationServer,
    bridge: Bridge,
}

impl Behind {
    fn everything(era: &str, more: impl FnOnce(CommandLine) -> CommandLine) -> Self {
        let server = AuthorizationServer::start();
        let program = example("everything");
        let line = CommandLine::serve()
            .introspection(&server)
            .flag("--rate-limit", "0")
            .flag("--metrics-listen", "127.0.0.1:0")
            .switch("--legacy-sse");
        let bridge = more(line).command_to_serve(&[program.to_str().expect("UTF-8"), "--era", era]).spawn();
        Self { server, bridge }
    }

    fn token(&self, who: &str, scopes: &str) -> String {
        let token = format!("token-of-{who}");
        let audience = self.bridge.resource();
        let answer = json!({
            "active": true, "sub": who, "client_id": "c", "scope": scopes, "aud": audience, "exp": unix_now() + 600,
        });
        self.server.set(&token, &answer);
        token
    }

    fn gauge(&self, name: &str) -> u64 {
        let page = self.bridge.metrics();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in:\n{page}"))
    }
}

#[test]
fn the_calculator_answers_on_the_stream() {
    let world = world(|line| line);
    let mut client = Client::open(&world.bridge, world.good());
    assert!(client.endpoint.starts_with("/mcp/messages?sessionId="), "{}", client.endpoint);
    client.send(&request(1, "tools/list", &json!({})));
    let early = client.next();
    assert_eq!((&early["id"], &early["error"]["code"]), (&json!(1), &json!(-32600)), "before initialize");
    client.send(&request(2, "initialize", &json!({ "protocolVersion": 7 })));
    assert_eq!(client.next()["error"]["code"], -32602, "a handshake that fails may be tried again");
    client.send(&initialize(3, &json!({})));
    let answer = client.next();
    assert_eq!(answer["result"]["serverInfo"]["name"], "Calculator", "{answer}");
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    client.send(&initialize(4, &json!({})));
    assert_eq!(client.next()["error"]["code"], -32600, "there is one handshake");
    client.send(&request(5, "tools/list", &json!({})));
    assert_eq!(client.next()["result"]["tools"][0]["name"], "calculator");
    client.send(&calculate(6, "add"));
    assert_eq!(said(&client.next()), (6, "9"));
    client.send(&request(7, "no/such/method", &json!({})));
    let unknown = client.next();
    assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&json!(7), &json!(-32601)));
    client.send(&json!({ "jsonrpc": "2.0", "id": 9, "result": {} }));
    client.send(&request(8, "ping", &json!({})));
    assert_eq!(client.next(), json!({ "jsonrpc": "2.0", "id": 8, "result": {} }));
}

#[test]
fn a_legacy_server_says_everything_on_the_stream() {
    let behind = Behind::everything("legacy", |line| line);
    let mut client = Client::begin(&behind.bridge, &behind.token("alice", "mcp"), &json!({ "elicitation": {} }));
    client.send(&request(1, "tools/list", &json!({})));
    assert!(client.next()["result"]["tools"].as_array().is_some_and(|tools| tools.len() > 10));
    progress(&mut client);
    elicitation(&mut client, "test_elicitation", "action=accept");

    // What is not part of an answer.
    client.send(&tool(20, "touch", &json!({ "lists": true })));
    let heard: HashSet<String> =
        (0..4).map(|_| client.next()["method"].as_str().unwrap_or("answer").to_owned()).collect();
    let lists = ["tools", "prompts", "resources"].map(|list| format!("notifications/{list}/list_changed"));
    assert!(lists.iter().all(|list| heard.contains(list)) && heard.contains("answer"), "{heard:?}");
    order(&mut client);
}

#[test]
fn a_modern_server_says_everything_on_the_stream() {
    let behind = Behind::everything("modern", |line| line);
    let mut client = Client::begin(&behind.bridge, &behind.token("alice", "mcp"), &json!({ "elicitation": {} }));
    client.send(&request(1, "tools/list", &json!({})));
    assert!(client.next()["result"]["tools"].as_array().is_some_and(|tools| tools.len() > 10));
    progress(&mut client);
    elicitation(&mut client, "test_input_required_result_elicitation", "Hello, me!");
    order(&mut client);
}

/// Progress comes before its answer.
fn progress(client: &mut Client) {
    let params = json!({ "name": "progress_n", "arguments": { "n": 5 }, "_meta": { "progressToken": "p" } });
    client.send(&request(10, "tools/call", &params));
    for step in 1..=5 {
        let told = client.next();
        assert_eq!(told["method"], "notifications/progress", "{told}");
        assert_eq!((&told["params"]["progressToken"], &told["params"]["progress"]), (&json!("p"), &json!(step)));
    }
    assert_eq!(said(&client.next()), (10, "5"));
}

/// A question on the stream, an answer by POST.
fn elicitation(client: &mut Client, name: &str, expected: &str) {
    client.send(&tool(11, name, &json!({ "message": "Who?" })));
    let asked = client.next();
    assert_eq!(asked["method"], "elicitation/create", "{asked}");
    let content = json!({ "action": "accept", "content": { "username": "me", "name": "me" } });
    client.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": content }));
    let answer = client.next();
    assert!(said(&answer).0 == 11 && said(&answer).1.contains(expected), "{answer}");
}

/// Whoever is done first is answered first, and nobody who was cancelled.
fn order(client: &mut Client) {
    client.send(&tool(30, "sleep", &json!({ "ms": 600_000 })));
    let answer = client.call(31, "whoami", &json!({}));
    assert_eq!(answer["id"], 31);
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 30 } });
    client.send(&cancelled);
    assert_eq!(client.call(32, "whoami", &json!({}))["id"], 32);
}

#[test]
fn it_is_off_by_default() {
    let world = World::start();
    world.send(&get("/mcp/sse").bearer(world.good())).expect(404, "GET");
    let message = post("/mcp/messages?sessionId=0123456789abcdef0123456789abcdef", &calculate(1, "add"));
    world.without_run("off", || world.send(&message.bearer(world.good()))).expect(404, "POST");
}

#[test]
fn nobody_comes_in_who_would_not_at_the_endpoint() {
    let world = world(|line| line);
    let client = Client::begin(&world.bridge, world.good(), &json!({}));
    let call = post(&client.endpoint, &calculate(1, "add"));
    let expected = world.send(&mcp::call("add")).expect(401, "the endpoint");
    let expected = expected.header("WWW-Authenticate").expect("a challenge");
    for (case, request) in [("GET", get("/mcp/sse")), ("POST", call.clone())] {
        let response = world.without_run(case, || world.send(&request)).expect(401, case);
        assert_eq!(response.header("WWW-Authenticate"), Some(expected), "{case} without a token");
        let foreign = request.clone().bearer(world.good()).header("Origin", "https://evil.example");
        world.without_run(case, || world.send(&foreign)).expect(403, case);
        let elsewhere = request.clone().bearer(world.good()).with("Host", "evil.example");
        world.without_run(case, || world.send(&elsewhere)).expect(421, case);
        world.send(&request.bearer("unknown")).expect(401, case);
    }
    let call = call.bearer(world.good());
    for (case, request, status) in [
        ("text", call.clone().with("Content-Type", "text/plain"), 415),
        ("gzip", call.clone().header("Content-Encoding", "gzip"), 415),
        ("not JSON", call.clone().body("{"), 400),
        ("a batch", call.clone().body("[]"), 400),
        ("too long", call.clone().header("Content-Length", "99999999"), 413),
        ("GET messages", get(&client.endpoint).bearer(world.good()), 405),
        ("POST sse", call.clone().target("/mcp/sse"), 405),
        ("JSON", get("/mcp/sse").with("Accept", "application/json").bearer(world.good()), 406),
        ("no session", call.clone().target("/mcp/messages"), 404),
        ("twice", call.clone().target(&format!("{}&sessionId={}", client.endpoint, client.session())), 404),
    ] {
        world.without_run(case, || world.send(&request)).expect(status, case);
    }
    client.send(&calculate(1, "add"));
}

#[test]
fn another_users_session_is_unknown() {
    let world = world(|line| line);
    let answer = world.answer(ALL_SCOPES);
    let alice = world.grant(&answer);
    let mut client = Client::begin(&world.bridge, &alice, &json!({}));
    let unknown = post("/mcp/messages?sessionId=0123456789abcdef0123456789abcdef", &calculate(1, "add"));
    let unknown = world.send(&unknown.bearer(&alice)).expect(404, "never was");
    let mut other_client = answer.clone();
    other_client["client_id"] = "client-2".into();
    for (case, stranger) in [("user", world.token(ALL_SCOPES)), ("client", world.grant(&other_client))] {
        for message in
            [calculate(1, "add"), initialize(2, &json!({})), json!({ "jsonrpc": "2.0", "id": 1, "result": {} })]
        {
            let call = post(&client.endpoint, &message).bearer(&stranger);
            let response = world.without_run(case, || world.send(&call)).expect(404, case);
            assert_eq!(response.body, unknown.body, "{case}");
        }
    }
    // Nor is it one of the other transport's, or the other way round.
    world.send(&mcp::legacy_call(client.session(), "add").bearer(&alice)).expect(404, "at the endpoint");
    let end = Request::new("DELETE", "/mcp").header("Mcp-Session-Id", client.session()).bearer(&alice);
    world.send(&end).expect(404, "DELETE");
    let endpoint = format!("/mcp/messages?sessionId={}", world.session(&alice));
    world.send(&post(&endpoint, &calculate(1, "add")).bearer(&alice)).expect(404, "a session of the endpoint");
    // A new token of the same user and client is the same owner.
    client.token = world.grant(&answer);
    client.send(&calculate(3, "add"));
    assert_eq!(said(&client.next()), (3, "9"));
}

#[test]
fn a_missing_scope_is_told_by_http_and_nothing_runs() {
    let world = world(|line| line);
    let token = world.token("op:add");
    let mut client = Client::begin(&world.bridge, &token, &json!({}));
    let refused = world.without_run("divide", || client.try_send(&calculate(1, "divide"))).expect(403, "divide");
    assert_eq!((refused.code(), &refused.json()["id"]), (Some(403), &json!(1)));
    let challenge = Challenge::of(&refused);
    assert_eq!(challenge.get("error"), Some("insufficient_scope"));
    assert_eq!(challenge.get("scope"), Some("op:div"));
    client.send(&calculate(2, "add"));
    assert_eq!(said(&client.next()), (2, "9"), "and nothing on the stream");
}

#[test]
fn a_missing_scope_is_told_as_a_tool_error_where_that_is_set() {
    let world = world(|line| line.flag("--denial", "tool-error"));
    let mut client = Client::begin(&world.bridge, &world.token("op:add"), &json!({}));
    let refused = world.without_run("divide", || {
        client.send(&calculate(1, "divide"));
        client.next()
    });
    assert_eq!((&refused["id"], &refused["result"]["isError"]), (&json!(1), &json!(true)), "{refused}");
    world.bridge.wait_for_event("of the refusal", |event| {
        event["decision"] == "refused" && event["status"] == 202 && event["missing"] == "op:div"
    });
}

#[test]
fn what_no_rule_allows_is_an_error_on_the_stream() {
    let scratch = Scratch::new();
    let rule = "[[policy.rule]]\ntool = \"calculator\"\nscopes = [\"op:add\"]\n";
    let file = scratch.file("bridge.toml", rule);
    let audit = scratch.path("audit.jsonl");
    let world = world(|line| line.flag("--config", file).flag("--audit-log", audit.to_str().expect("UTF-8")));
    let mut client = Client::begin(&world.bridge, world.good(), &json!({}));
    let refused = client.call(1, "other", &json!({}));
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(1), &json!(403)), "{refused}");
    let recorded = std::fs::read_to_string(&audit).expect("the audit file");
    let is_it = |line: &str| line.contains("\"other\"") && line.contains("refused");
    assert!(recorded.lines().any(is_it), "{recorded}");
}

#[test]
fn the_endpoint_is_where_clients_see_it() {
    let world = world(|line| line.flag("--public-url", "https://mcp.example/team"));
    let mut client = Client::begin(&world.bridge, world.good(), &json!({}));
    assert!(client.endpoint.starts_with("/team/mcp/messages?sessionId="), "{}", client.endpoint);
    client.send(&calculate(1, "add"));
    assert_eq!(said(&client.next()), (1, "9"));
    client.endpoint = client.endpoint.replacen("/team", "", 1);
    client.send(&calculate(2, "add"));
    assert_eq!(said(&client.next()), (2, "9"), "behind a proxy that takes the prefix away");
    let (head, _stream) = get("/team/mcp/sse").bearer(world.good()).open(world.bridge.address());
    head.expect(200, "behind a proxy that does not");
}

#[cfg(unix)]
fn is_alive(pid: &str) -> bool {
    let mut command = std::process::Command::new("/bin/kill");
    command.args(["-0", pid]).env_clear().stderr(std::process::Stdio::null());
    command.status().expect("kill runs").success()
}

#[cfg(unix)]
#[test]
fn closing_the_stream_ends_the_session_and_its_child() {
    for era in ["legacy", "modern"] {
        let behind = Behind::everything(era, |line| line);
        let token = behind.token("alice", "mcp");
        let mut client = Client::begin(&behind.bridge, &token, &json!({}));
        let answer = client.call(1, "pid", &json!({}));
        let pid = said(&answer).1;
        client.send(&tool(2, "sleep", &json!({ "ms": 600_000 })));
        assert!(is_alive(pid) && behind.gauge("mcp_bridge_sessions") == 1, "{era}");
        let Client { stream, endpoint, address, .. } = client;
        drop(stream);
        wait_until("the session is gone", || behind.gauge("mcp_bridge_sessions") == 0);
        wait_until("the child is gone", || !is_alive(pid));
        post(&endpoint, &tool(3, "pid", &json!({}))).bearer(&token).send(address).expect(404, era);
    }
}

/// A child may take its time to start; the client has gone before that.
#[test]
fn a_stream_closed_during_the_handshake_leaves_nothing() {
    let server = AuthorizationServer::start();
    let program = example("faulty");
    let line =
        CommandLine::serve().introspection(&server).flag("--metrics-listen", "127.0.0.1:0").switch("--legacy-sse");
    let line = line.flag("--pool", "0").command_to_serve(&[program.to_str().expect("UTF-8"), "silent"]);
    let behind = Behind { server, bridge: line.spawn() };
    let mut client = Client::open(&behind.bridge, &behind.token("alice", "mcp"));
    // At once, whatever the server does.
    client.send(&initialize(1, &json!({})));
    client.send(&request(2, "tools/list", &json!({})));
    let early = client.next();
    assert_eq!((&early["id"], &early["error"]["code"]), (&json!(2), &json!(-32600)));
    drop(client);
    wait_until("the session is gone", || behind.gauge("mcp_bridge_sessions") == 0);
}

#[test]
fn a_client_that_reads_nothing_uses_up_its_own_share_only() {
    let behind = Behind::everything("legacy", |line| line.flag("--max-concurrent-requests", "4"));
    let (greedy, other) = (behind.token("greedy", "mcp"), behind.token("other", "mcp"));
    let mut client = Client::begin(&behind.bridge, &greedy, &json!({}));
    let mut taken = 0;
    loop {
        let response = client.try_send(&tool(100 + taken, "big", &json!({ "bytes": 4_000_000 })));
        if response.status == 503 {
            assert!(response.header("Retry-After").is_some(), "{response:?}");
            break;
        }
        response.expect(202, "big");
        taken += 1;
        assert!(taken < 100, "nothing holds it back");
    }
    let mut another = Client::begin(&behind.bridge, &other, &json!({}));
    assert_eq!(said(&another.call(1, "count", &json!({}))), (1, "1"), "others do not notice");
    let answered: HashSet<u64> = (0..taken).map(|_| said(&client.next()).0).collect();
    assert_eq!(answered, (100..100 + taken).collect(), "and nothing is lost");
}

#[test]
fn a_stream_ends_with_the_consent_and_takes_its_session_along() {
    let world = world(|line| {
        line.flag("--keep-alive", "1s").flag("--introspection-cache", "0s").flag("--metrics-listen", "127.0.0.1:0")
    });
    let token = world.token(ALL_SCOPES);
    let client = Client::begin(&world.bridge, &token, &json!({}));
    assert_eq!(world.gauge("mcp_bridge_sessions"), 1);
    world.server.revoke(&token);
    client.try_send(&calculate(1, "add")).expect(401, "revoked");
    client.assert_ends("the consent is withdrawn");
    wait_until("the session is gone", || world.gauge("mcp_bridge_sessions") == 0);
}

#[test]
fn too_many_streams_cost_their_owner_the_oldest() {
    let world = world(|line| line.flag("--max-sessions-per-principal", "2").flag("--session-idle", "1s"));
    let token = world.token(ALL_SCOPES);
    let first = Client::begin(&world.bridge, &token, &json!({}));
    let mut others: Vec<Client> = (0..2).map(|_| Client::begin(&world.bridge, &token, &json!({}))).collect();
    first.assert_ends("two are enough");
    let started = std::time::Instant::now();
    wait_until("more than the idle time has passed", || started.elapsed().as_secs() > 2);
    for client in &mut others {
        client.send(&calculate(1, "add"));
        assert_eq!(said(&client.next()), (1, "9"), "a session with its stream is not idle");
    }
}

#[test]
fn the_shutdown_answers_what_was_taken_and_ends_streams() {
    let mut behind = Behind::everything("legacy", |line| line);
    let mut busy = Client::begin(&behind.bridge, &behind.token("busy", "mcp"), &json!({}));
    let idle = Client::begin(&behind.bridge, &behind.token("idle", "mcp"), &json!({}));
    busy.send(&tool(1, "sleep", &json!({ "ms": 1500 })));
    behind.bridge.sigterm();
    idle.assert_ends("the shutdown");
    assert_eq!(said(&busy.next()), (1, "slept"));
    busy.assert_ends("the shutdown");
    assert!(behind.bridge.wait().success());
}

#[test]
fn no_session_is_ever_written() {
    let scratch = Scratch::new();
    let audit = scratch.path("audit.jsonl");
    let mut world = world(|line| line.flag("--log-level", "trace").flag("--audit-log", audit.to_str().expect("UTF-8")));
    let mut client = Client::begin(&world.bridge, world.good(), &json!({}));
    client.send(&calculate(1, "add"));
    client.next();
    let call = post(&client.endpoint, &calculate(1, "add"));
    world.send(&call).expect(401, "no token");
    world.send(&call.clone().bearer(&world.token(ALL_SCOPES))).expect(404, "another user");
    world.send(&call.clone().bearer(world.good()).header("Origin", "https://evil.example")).expect(403, "Origin");
    world.send(&call.clone().bearer(world.good()).with("Host", "evil.example")).expect(421, "Host");
    world.send(&get(&client.endpoint).bearer(world.good())).expect(405, "GET");
    world.send(&call.clone().bearer(world.good()).body("{")).expect(400, "not JSON");
    let session = client.session().to_owned();
    drop(client);
    world
        .send(&post("/mcp/messages?sessionId=canary-session-5aa0", &calculate(1, "add")).bearer(world.good()))
        .expect(404, "not a session");
    world.bridge.sigterm();
    world.bridge.wait();
    let (log, recorded) = (world.bridge.log_text(), std::fs::read_to_string(&audit).expect("the audit file"));
    assert!(log.contains("\"DEBUG\"") && log.contains("\"request\""), "the log is talkative");
    for (place, text) in [("log", &log), ("audit file", &recorded)] {
        for secret in [session.as_str(), &session[..16], "canary"] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} is in the {place}: {}", line.unwrap_or_default());
        }
    }
}

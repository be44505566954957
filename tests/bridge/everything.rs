//! The servers that other tests put behind the bridge, without a bridge: what they answer here is
//! what a client must see through one.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use serde_json::{Value, json};

use crate::common::{
    PATIENCE,
    mcp::{MODERN, meta},
};

const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// A program that `cargo test` builds beside the bridge from the examples of its package.
///
/// # Panics
/// If it is not there: cargo builds it only when it is not told what to test.
pub(crate) fn example(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_mcp-bridge")).with_file_name("examples");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: cargo build -p mcp-bridge --examples", path.display());
    path
}

#[test]
fn legacy_everything_answers_others_while_a_tool_waits_for_the_client() {
    let mut server = Program::everything("legacy");
    server.send(&request(1, "server/discover", &json!({ "_meta": meta() })));
    assert_eq!(server.next()["error"]["code"], -32601);
    server.send(&request(2, "tools/list", &json!({})));
    assert_eq!(server.next()["error"]["code"], -32600);
    server.initialize(&json!({ "elicitation": {} }));

    server.call(1, "test_elicitation", &json!({ "message": "Who?" }));
    let asked = server.next();
    assert_eq!((&asked["method"], &asked["params"]["message"]), (&json!("elicitation/create"), &json!("Who?")));
    server.send(&request(2, "ping", &json!({})));
    assert_eq!(server.next(), json!({ "jsonrpc": "2.0", "id": 2, "result": {} }));
    let answer = json!({ "action": "accept", "content": { "username": "me" } });
    server.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": answer }));
    let (id, text) = said(&server.next());
    assert_eq!((id, text.as_str()), (json!(1), r#"User response: action=accept, content={"username":"me"}"#));

    // Not without the capability, which is a result that a model can read.
    server.call(3, "test_sampling", &json!({ "prompt": "" }));
    assert_eq!(server.next()["result"]["isError"], true);
}

#[test]
fn legacy_everything_asks_for_three_things_at_once_and_twice_in_a_row() {
    let mut server = Program::everything("legacy");
    server.initialize(&json!({ "elicitation": {}, "sampling": {}, "roots": {} }));
    let accept = |content: Value| json!({ "action": "accept", "content": content });
    server.call(1, "test_input_required_result_multiple_inputs", &json!({}));
    let asked: Vec<Value> = (0..3).map(|_| server.next()).collect();
    let methods: Vec<&Value> = asked.iter().map(|asked| &asked["method"]).collect();
    assert_eq!(methods, ["elicitation/create", "sampling/createMessage", "roots/list"]);
    let answers =
        [accept(json!({ "name": "Ada" })), json!({ "content": { "text": "Good day" } }), json!({ "roots": [] })];
    // The last first: ids say what is answered.
    for (asked, answer) in asked.iter().zip(answers).rev() {
        server.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": answer }));
    }
    assert_eq!(said(&server.next()), (json!(1), "Good day Ada".to_owned()));

    server.call(2, "test_input_required_result_multi_round", &json!({}));
    for answer in [json!({ "name": "Ada" }), json!({ "color": "blue" })] {
        let asked = server.next();
        server.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": accept(answer) }));
    }
    assert_eq!(said(&server.next()), (json!(2), "Color: blue".to_owned()));

    // A prompt that is not to be had is an error: there is no result that could say so.
    server.send(&request(3, "prompts/get", &json!({ "name": "test_input_required_result_prompt" })));
    let asked = server.next();
    server.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "error": { "code": -1, "message": "no" } }));
    assert_eq!(server.next()["error"]["code"], -32603);
}

#[test]
fn legacy_everything_tells_subscribers() {
    let mut server = Program::everything("legacy");
    server.initialize(&json!({}));
    let watched = json!({ "uri": "test://watched-resource" });
    server.send(&request(1, "resources/subscribe", &watched));
    server.next();
    server.call(2, "touch", &json!({ "uri": "test://watched-resource", "lists": true }));
    let told: Vec<Value> = (0..4).map(|_| server.next()["method"].clone()).collect();
    let lists = ["tools", "prompts", "resources"].map(|list| json!(format!("notifications/{list}/list_changed")));
    assert_eq!(told[0], "notifications/resources/updated");
    assert_eq!(told[1..], lists);
    assert_eq!(said(&server.next()).1, "notifications: 4");
    server.send(&request(3, "resources/unsubscribe", &watched));
    server.next();
    server.call(4, "touch", &watched);
    assert_eq!(said(&server.next()).1, "notifications: 0");
}

#[test]
fn modern_everything_checks_every_request() {
    let mut server = Program::everything("modern");
    let mut without_capabilities = meta();
    without_capabilities.as_object_mut().expect("an object").remove("io.modelcontextprotocol/clientCapabilities");
    let mut other_version = meta();
    other_version["io.modelcontextprotocol/protocolVersion"] = json!("2025-11-25");
    let initialize = json!({ "protocolVersion": "2025-11-25", "capabilities": {} });
    let cases = [
        ("initialize", initialize, json!(-32601)),
        ("initialize", json!({ "_meta": meta() }), json!(-32601)),
        ("ping", json!({ "_meta": meta() }), json!(-32601)),
        ("server/discover", json!({}), json!(-32602)),
        ("tools/list", json!({ "_meta": without_capabilities }), json!(-32602)),
        ("tools/list", json!({ "_meta": other_version }), json!(-32022)),
        ("tools/call", json!({ "_meta": meta(), "name": "test_missing_capability" }), json!(-32021)),
        ("tools/call", json!({ "_meta": meta(), "name": "no_such_tool" }), json!(-32602)),
        ("server/discover", json!({ "_meta": meta() }), Value::Null),
    ];
    for (method, params, code) in cases {
        server.send(&request(1, method, &params));
        let answer = server.next();
        assert_eq!(answer["error"]["code"], code, "{method} {params}: {answer}");
        match code.as_i64() {
            Some(-32022) => {
                assert_eq!(answer["error"]["data"], json!({ "supported": [MODERN], "requested": "2025-11-25" }));
            }
            Some(-32021) => assert_eq!(answer["error"]["data"], json!({ "requiredCapabilities": { "sampling": {} } })),
            None => assert_eq!(answer["result"]["supportedVersions"], json!([MODERN])),
            Some(_) => {}
        }
    }
}

#[test]
fn modern_everything_listens_until_it_is_cancelled() {
    let mut server = Program::everything("modern");
    let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": ["a:b"] });
    let listen = json!({ "_meta": meta(), "notifications": wanted });
    for id in [json!("first"), json!(2)] {
        server.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": listen }));
        let acknowledged = server.next();
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(acknowledged["params"], json!({ "notifications": wanted, "_meta": { SUBSCRIPTION_ID: id } }));
    }
    server.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": "first" } }));
    server.call(3, "touch", &json!({ "uri": "a:b", "lists": true }));
    let updated = server.next();
    assert_eq!(updated["params"], json!({ "uri": "a:b", "_meta": { SUBSCRIPTION_ID: 2 } }));
    assert_eq!(server.next()["method"], "notifications/tools/list_changed");
    assert_eq!(said(&server.next()).1, "notifications: 2");
    server.call(4, "end_listening", &json!({}));
    let ended = server.next();
    assert_eq!((&ended["id"], &ended["result"]["_meta"][SUBSCRIPTION_ID]), (&json!(2), &json!(2)));
    assert_eq!(said(&server.next()).1, "ended: 1");
}

#[test]
fn modern_everything_takes_rounds_in_any_process_and_no_foreign_state() {
    let name = "test_input_required_result_multi_round";
    let mut asked = json!({ "inputRequests": null });
    for answer in [json!({}), json!({ "step1": { "action": "accept" } }), json!({ "step2": { "action": "accept" } })] {
        let mut meta = meta();
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({ "elicitation": {} });
        let mut params = json!({ "_meta": meta, "name": name, "inputResponses": answer });
        // A process of its own for each round, and a bad state before each good one.
        let mut server = Program::everything("modern");
        if let Some(state) = asked["requestState"].as_str() {
            params["requestState"] = json!(format!("{state}0"));
            server.send(&request(1, "tools/call", &params));
            assert_eq!(server.next()["error"]["code"], -32602);
            params["requestState"] = json!(state);
        }
        server.send(&request(2, "tools/call", &params));
        asked = server.next()["result"].clone();
    }
    assert_eq!(asked["resultType"], "complete", "{asked}");
}

#[test]
fn modern_everything_logs_when_it_is_asked_to() {
    let mut server = Program::everything("modern");
    server.call(1, "test_logging_tool", &json!({}));
    assert_eq!(server.next()["id"], 1);
    for (level, messages) in [("warning", 0), ("info", 3)] {
        let mut meta = meta();
        meta["io.modelcontextprotocol/logLevel"] = json!(level);
        server.send(&request(2, "tools/call", &json!({ "_meta": meta, "name": "test_logging_tool" })));
        for _ in 0..messages {
            assert_eq!(server.next()["method"], "notifications/message");
        }
        assert_eq!(server.next()["id"], 2);
    }
}

#[test]
fn everything_in_both_eras_keeps_the_one_that_the_first_request_opens() {
    let modern = request(1, "server/discover", &json!({ "_meta": meta() }));
    let legacy = request(1, "initialize", &json!({ "protocolVersion": "2025-06-18", "capabilities": {} }));
    let not_modern = request(1, "server/discover", &json!({}));
    for (first, second) in [(&modern, &legacy), (&legacy, &modern), (&not_modern, &modern)] {
        let mut server = Program::everything("both");
        server.send(&json!({ "jsonrpc": "2.0", "method": "notifications/whatever" }));
        server.send(first);
        assert_eq!(server.next().get("result").is_some(), first != &not_modern, "{first}");
        server.send(second);
        assert_eq!(server.next()["error"]["code"], -32601, "{second} after {first}");
    }
}

#[test]
fn everything_passes_on_what_it_cannot_know() {
    for era in ["legacy", "modern"] {
        let mut server = Program::everything(era);
        if era == "legacy" {
            server.initialize(&json!({}));
        }
        let arguments = r#"{ "n":123456789012345678901234567890, "e" : 1e400,"p":1.10,"s":"\u00e9\/" }"#;
        let meta = meta().to_string();
        server.send_line(&format!(
            r#"{{"jsonrpc":"2.0","id":1.50,"method":"tools/call","params":{{"name":"echo_raw","arguments":{arguments},"_meta":{meta}}}}}"#
        ));
        let line = server.next_line();
        assert!(line.contains(r#""id":1.50,"#), "{line}");
        assert_eq!(said(&parsed(&line)).1, format!(r#"{{"arguments":{arguments},"_meta":{meta}}}"#));
        for (name, code) in [("odd", None), ("odd_error", Some(r#""code":-31999"#))] {
            server.call(2, name, &json!({}));
            let line = server.next_line();
            let kept = ["123456789012345678901234567890", "1e400", "1.10", r#""unknown":{"kept":"#, r"\u00e9\/"];
            for text in kept.into_iter().chain(code) {
                assert!(line.contains(text), "{text} in {line}");
            }
        }
    }
}

#[test]
fn everything_shows_its_process() {
    let mut server = Program::everything("modern");
    let pid = server.child.id().to_string();
    server.call(1, "pid", &json!({}));
    assert_eq!(said(&server.next()).1, pid);
    server.call(2, "count", &json!({}));
    assert_eq!(said(&server.next()).1, "2");
    server.call(3, "environment", &json!({}));
    assert_eq!(said(&server.next()).1, r#"["MCP_BRIDGE_TEST","OTHER"]"#);
    server.call(4, "whoami", &json!({}));
    let answer = server.next();
    let keys: Vec<String> = serde_json::from_str(&said(&answer).1).expect("a list");
    assert!(keys.iter().any(|key| key == "io.modelcontextprotocol/protocolVersion"), "{keys:?}");
    assert_eq!(answer["result"]["content"][1]["text"], r#"{"MCP_BRIDGE_TEST":"here"}"#);
    server.call(5, "progress_n", &json!({ "n": 2 }));
    assert_eq!(said(&server.next()), (json!(5), "2".to_owned()), "progress without a token");
    server.call(6, "big", &json!({ "bytes": 3_000_000 }));
    assert_eq!(said(&server.next()).1.len(), 3_000_000);
    server.call(7, "sleep", &json!({ "ms": 600_000 }));
    server.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 7 } }));
    assert_eq!(server.errors.recv_timeout(PATIENCE).expect("it says so"), "cancelled");
    server.call(8, "sleep", &json!({ "ms": 1 }));
    assert_eq!(said(&server.next()), (json!(8), "slept".to_owned()), "nothing for what was cancelled");
    server.call(9, "die", &json!({ "code": 7 }));
    assert!(server.is_over());
    assert_eq!(server.child.wait().expect("our own child").code(), Some(7));
}

#[test]
fn faulty_programs_are_faulty() {
    let mut exits = Program::faulty("exit");
    assert!(exits.is_over());
    assert_eq!(exits.child.wait().expect("our own child").code(), Some(3));

    let mut banner = Program::faulty("banner");
    for _ in 0..3 {
        assert!(serde_json::from_str::<Value>(&banner.next_line()).is_err());
    }
    banner.initialize(&json!({}));
    banner.call(1, "ok", &json!({}));
    assert_eq!(said(&banner.next()), (json!(1), "ok".to_owned()));

    let garbage = Program::faulty("garbage");
    assert!((0..100_000).all(|_| serde_json::from_str::<Value>(&garbage.next_line()).is_err()));

    let mut long = Program::faulty("long-line");
    long.call(1, "ok", &json!({}));
    assert!(long.next_line().len() > 100_000_000);

    let mut half = Program::faulty("half-line");
    half.call(1, "ok", &json!({}));
    assert!(serde_json::from_str::<Value>(&half.next_line()).is_err());
    assert!(half.is_over());

    let mut mortal = Program::start("faulty", &["dies-after", "2"]);
    for id in [1, 2] {
        mortal.call(id, "ok", &json!({}));
        assert_eq!(said(&mortal.next()).0, id);
    }
    assert!(mortal.is_over());

    let mut flood = Program::faulty("flood-stderr");
    flood.call(1, "ok", &json!({}));
    assert_eq!(said(&flood.next()).1, "ok");
    assert_eq!(flood.errors.iter().take(100_000).count(), 100_000);

    let mut slow = Program::start("faulty", &["slow-start", "1"]);
    slow.call(1, "ok", &json!({}));
    assert_eq!(said(&slow.next()).1, "ok");

    let mut silent = Program::faulty("silent");
    silent.call(1, "ok", &json!({}));
    silent.stdin = None;
    assert!(silent.is_over());
}

#[cfg(unix)]
#[test]
fn faulty_programs_outlive_what_should_end_them() {
    let mut deaf = Program::faulty("ignore-term");
    // The answer says that it has got as far as not to listen.
    deaf.call(1, "ok", &json!({}));
    deaf.next();
    signal("TERM", deaf.child.id());
    deaf.call(2, "ok", &json!({}));
    assert_eq!(said(&deaf.next()).0, 2);

    let mut closed = Program::faulty("close-stdout");
    closed.call(1, "ok", &json!({}));
    closed.next_line();
    assert!(closed.is_over(), "its stdout");
    assert!(closed.child.try_wait().expect("our own child").is_none(), "it lives");

    let mut parent = Program::faulty("grandchild");
    parent.call(1, "ok", &json!({}));
    let (_, pids) = said(&parent.next());
    parent.child.kill().expect("our own child");
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().expect("a number")).collect();
    assert_eq!(pids.len(), 2);
    // They are there to be killed.
    pids.into_iter().for_each(|pid| signal("KILL", pid));
}

#[cfg(unix)]
fn signal(name: &str, pid: u32) {
    let sent = Command::new("/bin/kill").arg(format!("-{name}")).arg(pid.to_string()).env_clear().status();
    assert!(sent.expect("kill runs").success(), "{name} to {pid}");
}

/// A server under the test's own hands; it is killed with the value.
struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Program {
    fn everything(era: &str) -> Self {
        Self::start("everything", &["--era", era])
    }

    fn faulty(mode: &str) -> Self {
        Self::start("faulty", &[mode])
    }

    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(example(program));
        command.args(arguments).env_clear().env("MCP_BRIDGE_TEST", "here").env("OTHER", "there");
        if arguments == ["grandchild"] {
            command.env("PATH", "/usr/bin:/bin");
        }
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = (stdout.expect("stdout is piped"), stderr.expect("stderr is piped"));
        Self { child, stdin, lines: lines(stdout), errors: lines(stderr) }
    }

    fn initialize(&mut self, capabilities: &Value) {
        let client = json!({ "name": "black-box", "version": "1.0.0" });
        let params = json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": client });
        self.send(&request(0, "initialize", &params));
        assert_eq!(self.next()["result"]["protocolVersion"], "2025-11-25");
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    }

    /// Calls a tool as both eras understand it.
    fn call(&mut self, id: u64, name: &str, arguments: &Value) {
        self.send(&request(id, "tools/call", &json!({ "name": name, "arguments": arguments, "_meta": meta() })));
    }

    fn send(&mut self, message: &Value) {
        self.send_line(&message.to_string());
    }

    fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("it reads");
    }

    fn next(&self) -> Value {
        parsed(&self.next_line())
    }

    fn next_line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("another line")
    }

    /// Whether its stdout ends, with no line before that.
    fn is_over(&self) -> bool {
        matches!(self.lines.recv_timeout(PATIENCE), Err(std::sync::mpsc::RecvTimeoutError::Disconnected))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may be gone, as it should be in half of the tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// The id of an answer, and the first text of its result.
fn said(answer: &Value) -> (Value, String) {
    let text = answer["result"]["content"][0]["text"].as_str();
    (answer["id"].clone(), text.unwrap_or_else(|| panic!("no text: {answer}")).to_owned())
}

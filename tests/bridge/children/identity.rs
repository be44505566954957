//! What a server learns of its user, and what it does not learn.

use std::fs;

use serde_json::{Value, json};

use super::{
    client::{Client, next_message},
    rig::{Rig, eventually},
};
use crate::{
    common::bridge::{CommandLine, Scratch},
    everything::example,
};

const IDENTITY: &str = "mcp-bridge/identity";

fn alice() -> Value {
    json!({ "subject": "alice", "email": "alice@example.com", "client_id": "app", "scopes": ["mcp", "other"] })
}

/// `_meta` of a request, as the server saw it.
fn meta_seen(client: &mut Client, meta: &Value) -> Value {
    let params = json!({ "name": "echo_raw", "arguments": {}, "_meta": meta });
    let text = client.ask("tools/call", &params).text();
    serde_json::from_str::<Value>(&text).expect("JSON")["_meta"].clone()
}

/// The variables that begin with `MCP_BRIDGE`, as the server has them.
fn variables(client: &mut Client) -> Value {
    let reply = client.call("whoami", &json!({}));
    let text = reply.answer()["result"]["content"][1]["text"].as_str().expect("a second text");
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn the_server_is_told_who_was_verified_and_nothing_that_the_client_says() {
    for era in ["legacy", "modern", "both"] {
        let rig = Rig::everything(era, "session", |line| line);
        for mut client in rig.both("alice") {
            let forged = json!({ IDENTITY: { "subject": "root", "admin": true }, "com.example/kept": 1 });
            for meta in [json!({}), forged] {
                let seen = meta_seen(&mut client, &meta);
                let mut identity = seen[IDENTITY].clone();
                let issuer = identity.as_object_mut().and_then(|identity| identity.remove("issuer"));
                assert!(issuer.is_some_and(|issuer| issuer.as_str().is_some_and(|text| text.starts_with("http"))));
                assert_eq!(identity, alice(), "{era}");
                assert_eq!(seen.get("com.example/kept"), meta.get("com.example/kept"), "{era}");
            }
        }
    }
}

/// A server before which stands `tee`: the file has all that it is told.
fn overheard(
    scratch: &Scratch,
    era: &str,
    more: impl FnOnce(CommandLine) -> CommandLine,
) -> (Rig, impl Fn() -> String) {
    let file = scratch.path("said");
    let path = example("everything");
    let script = r#"tee -a "$0" | exec "$1" --era "$2""#;
    let command = ["/bin/sh", "-c", script, file.to_str().expect("UTF-8"), path.to_str().expect("UTF-8"), era];
    let rig = Rig::of(&command, more);
    rig.wait_until_ready();
    (rig, move || fs::read_to_string(&file).unwrap_or_default())
}

#[test]
fn no_message_brings_the_server_a_forged_identity_or_the_token() {
    for era in ["legacy", "modern"] {
        let scratch = Scratch::new();
        let (rig, said) = overheard(&scratch, era, |line| line.flag("--isolation", "session"));
        let forged = json!({ IDENTITY: { "subject": "forged-identity" } });
        let address = rig.bridge.address();
        let mut legacy = Client::legacy_with(address, &rig.token("alice", "app"), &json!({ "elicitation": {} }));
        let mut modern = rig.modern("alice").can(json!({ "elicitation": {} }));
        for client in [&mut legacy, &mut modern] {
            for method in ["tools/list", "tools/call", "prompts/get", "resources/read", "completion/complete"] {
                let params =
                    json!({ "name": "echo_raw", "uri": "test://static-text", "arguments": {}, "_meta": forged });
                client.ask(method, &params);
            }
        }
        legacy.ask("logging/setLevel", &json!({ "level": "debug", "_meta": forged }));
        for method in ["notifications/roots/list_changed", "notifications/vendor"] {
            legacy.notify(method, &json!({ "_meta": forged, "seen": method }));
        }
        let initialize = json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "_meta": forged,
                        "clientInfo": { "name": "x", "version": "1" } },
        });
        let post = crate::common::mcp::post().bearer(&legacy.token).json(&initialize);
        assert_eq!(legacy.exchange(&post).head.status, 200);
        legacy.text("echo_raw", &json!({ "last": true }));
        if era == "legacy" {
            eventually("a notification", || said().contains("notifications/vendor"));
        }
        let said = said();
        assert!(said.contains(IDENTITY) && said.contains("alice@example.com"), "{said}");
        for never in ["forged-identity", "canary-token", "Bearer"] {
            assert!(!said.contains(never), "{never} in:\n{said}");
        }
    }
}

/// An answer to a question of the server's has a `_meta`, too.
#[test]
fn no_answer_brings_the_server_a_forged_identity() {
    let scratch = Scratch::new();
    let (rig, said) = overheard(&scratch, "legacy", |line| line.flag("--isolation", "session"));
    let capabilities = json!({ "elicitation": {} });
    let forged = json!({
        "action": "accept", "content": { "username": "alice" },
        "_meta": { IDENTITY: { "subject": "forged-identity" }, "com.example/kept": "kept-meta" },
    });
    let mut params = json!({ "name": "test_elicitation", "arguments": { "message": "Who?" } });
    let address = rig.bridge.address();
    let mut legacy = Client::legacy_with(address, &rig.token("alice", "app"), &capabilities);
    let mut waiting = legacy.begin("test_elicitation", &params["arguments"]);
    assert_eq!(waiting.read_head().status, 200);
    let question = next_message(&mut waiting);
    assert_eq!(legacy.respond(&question["id"], &forged).head.status, 202);
    assert!(next_message(&mut waiting)["result"].is_object());
    // What overhears writes it down a moment after the server has it.
    eventually("it is heard", || said().matches("kept-meta").count() == 1);

    let mut modern = rig.modern("alice").can(capabilities);
    let asked = modern.ask("tools/call", &params).answer()["result"].clone();
    let key = asked["inputRequests"].as_object().and_then(|requests| requests.keys().next()).expect("a question");
    params["requestState"] = asked["requestState"].clone();
    params["inputResponses"] = json!({ key: forged });
    assert!(modern.ask("tools/call", &params).text().contains("alice"));
    eventually("it is heard", || said().matches("kept-meta").count() == 2);
    let said = said();
    assert!(!said.contains("forged-identity"), "{said}");
}

#[test]
fn a_process_that_is_started_for_a_user_has_them_in_its_environment() {
    let rig = Rig::everything("both", "request", |line| line.flag("--pool", "0"));
    for mut client in rig.both("alice") {
        let variables = variables(&mut client);
        let expected = [
            ("MCP_BRIDGE_SUBJECT", "alice"),
            ("MCP_BRIDGE_EMAIL", "alice@example.com"),
            ("MCP_BRIDGE_CLIENT_ID", "app"),
            ("MCP_BRIDGE_SCOPES", "mcp other"),
        ];
        for (name, value) in expected {
            assert_eq!(variables[name], value, "{name} in {variables}");
        }
        assert!(variables["MCP_BRIDGE_SUBJECT_ISSUER"].as_str().is_some_and(|issuer| issuer.starts_with("http")));
        assert_eq!(variables.as_object().map(serde_json::Map::len), Some(6), "{variables}");
    }
}

/// What is ready before anybody comes has nobody's name, and what is everybody's neither.
#[test]
fn a_process_that_was_there_before_its_user_has_nobody_in_its_environment() {
    let waiting = Rig::everything("both", "request", |line| line.flag("--pool", "2"));
    let shared = Rig::everything("both", "shared", |line| line);
    for rig in [waiting, shared] {
        rig.wait_until_ready();
        eventually("a process without a name", || {
            let mut client = rig.modern("alice");
            variables(&mut client).as_object().is_some_and(|known| known.keys().eq(["MCP_BRIDGE_INSTANCE"]))
        });
    }
}

#[test]
fn the_environment_is_what_was_asked_for_and_no_secret_of_the_bridge() {
    let folder = Scratch::new();
    let place = fs::canonicalize(folder.path("")).expect("it is there");
    let rig = Rig::everything("both", "request", |line| {
        line.env("PROPELAUTH_INTROSPECTION_CLIENT_SECRET", "canary-propelauth")
            .env("MCP_BRIDGE_SESSION_IDLE", "5m")
            .env("AWS_SECRET_ACCESS_KEY", "canary-aws")
            .env("PASSED_ON", "yes")
            .env("LANG", "C.UTF-8")
            .flag("--env", "PASSED_ON")
            .flag("--env", "NOT_THERE")
            .flag("--env", "SET=a=b,c")
            .flag("--working-dir", place.to_str().expect("UTF-8"))
    });
    for mut client in rig.both("alice") {
        let names = client.text("environment", &json!({}));
        let names: Vec<String> = serde_json::from_str(&names).expect("a list");
        let known = ["LANG", "MARK_OF_THIS_TEST", "PASSED_ON", "PATH", "SET"];
        let others = names.iter().filter(|name| !name.starts_with("MCP_BRIDGE_"));
        assert!(others.clone().all(|name| known.contains(&name.as_str())), "{names:?}");
        assert_eq!(others.count(), known.len(), "{names:?}");
        let id: u32 = client.text("pid", &json!({})).parse().expect("a number");
        if client.is_legacy() {
            // It lives as long as its session.
            let environment = fs::read(format!("/proc/{id}/environ")).expect("a living process");
            let environment = String::from_utf8_lossy(&environment).into_owned();
            assert!(environment.contains("\0SET=a=b,c\0") || environment.starts_with("SET=a=b,c\0"), "{environment}");
            assert!(environment.contains("PASSED_ON=yes\0") && !environment.contains("canary"), "{environment}");
            let folder = fs::read_link(format!("/proc/{id}/cwd")).expect("a living process");
            assert_eq!(folder, place);
        }
    }
    for secret in ["canary-propelauth", "canary-client-secret", "canary-token"] {
        assert!(!rig.bridge.log_text().contains(secret), "{secret}");
    }
}

/// The bridge subscribes for the client, whose request that is.
#[test]
fn a_subscription_says_whose_it_is_unless_all_share_the_server() {
    for (isolation, whose) in [("session", 2), ("shared", 0)] {
        let scratch = Scratch::new();
        let (rig, said) = overheard(&scratch, "legacy", |line| line.flag("--isolation", isolation));
        let mut client = rig.modern("alice");
        let wanted = json!({ "notifications": { "resourceSubscriptions": ["test://watched-resource"] } });
        let listen = client.request("subscriptions/listen", &wanted);
        let mut stream = client.send_only(&listen);
        assert_eq!(stream.read_head().status, 200);
        let acknowledged = next_message(&mut stream);
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        drop(stream);
        let told = |method: &str| {
            let said = said();
            said.lines().find(|line| line.contains(method)).map(str::to_owned)
        };
        eventually("the end of the subscription", || told("resources/unsubscribe").is_some());
        let both = ["resources/subscribe", "resources/unsubscribe"].map(|method| told(method).unwrap_or_default());
        let named = both.iter().filter(|line| line.contains(IDENTITY) && line.contains("alice@example.com")).count();
        assert_eq!(named, whose, "{isolation}: {both:?}");
    }
}

/// With the caller's identity there is one member more than the bridge reads.
#[test]
fn a_call_is_not_sent_without_its_arguments() {
    let rig = Rig::everything("both", "session", |line| line);
    let mut client = rig.modern("alice");
    let full: serde_json::Map<String, Value> = (0..1020).map(|number| (format!("x/{number}"), json!(0))).collect();
    let mut params = json!({ "name": "count", "arguments": {}, "_meta": full });
    params["_meta"]["progressToken"] = json!(1);
    let reply = client.ask("tools/call", &params);
    let message = reply.answer()["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("too many members"), "{reply:?}");
    assert_eq!(client.text("count", &json!({})), "1", "it was not called");
}

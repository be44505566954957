//! HTTP as such: content types, `Accept`, framing and connections.

use serde_json::{Value, json};

use crate::common::{
    http::{Connection, Request},
    mcp,
    world::World,
};

#[test]
fn content_types() {
    let world = World::start();
    let call = mcp::call("add").bearer(world.good());
    for good in ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=\"UTF-8\""] {
        world.send(&call.clone().with("Content-Type", good)).expect(200, good);
    }
    let bad = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "text/json",
        "",
        "application/json, text/plain",
    ];
    for bad in bad {
        let request = call.clone().with("Content-Type", bad);
        world.without_run(bad, || world.send(&request)).expect(415, bad);
    }
    let none = call.clone().without("Content-Type");
    world.without_run("none", || world.send(&none)).expect(415, "none");
}

/// A proxy that undoes the encoding reads another body than a server that ignores it.
#[test]
fn encoded_bodies_are_not_read() {
    let world = World::start();
    for encoding in ["gzip", "br", "deflate", "zstd", "aes128gcm"] {
        let request = mcp::call("add").header("Content-Encoding", encoding).bearer(world.good());
        world.without_run(encoding, || world.send(&request)).expect(415, encoding);
    }
}

#[test]
fn accept() {
    let world = World::start();
    let call = mcp::call("add").bearer(world.good());
    let json_or_any = [
        "application/json, text/event-stream",
        "text/event-stream, application/json",
        "application/json",
        "*/*",
        "application/*",
        "APPLICATION/JSON",
        "text/html, application/json;q=0.9, */*;q=0.1",
        "application/json;q=0.5, text/event-stream",
    ];
    for accept in json_or_any {
        let response = world.send(&call.clone().with("Accept", accept)).expect(200, accept);
        let content_type = response.header("Content-Type").map(str::to_owned);
        assert_eq!(content_type.as_deref(), Some("application/json"), "{accept}");
        assert_eq!(mcp::text(&response.json()), "9", "{accept}");
    }
    let response = world.send(&call.clone().without("Accept")).expect(200, "no Accept");
    assert_eq!(mcp::text(&response.json()), "9");

    for accept in ["text/html", "image/png, text/plain", "application/xml"] {
        let request = call.clone().with("Accept", accept);
        world.without_run(accept, || world.send(&request)).expect(406, accept);
    }
}

#[test]
fn who_wants_only_events_gets_one() {
    let world = World::start();
    for accept in ["text/event-stream", "text/event-stream, application/json;q=0"] {
        let request = mcp::call("add").with("Accept", accept).bearer(world.good());
        let (head, mut stream) = request.open(world.bridge.address());
        let head = head.expect(200, accept);
        assert_eq!(head.header("Content-Type"), Some("text/event-stream"), "{accept}");
        assert_eq!(head.header("X-Accel-Buffering"), Some("no"), "{accept}");
        let mut messages = Vec::new();
        while let Some(event) = stream.next_event() {
            let data = event.lines().filter_map(|line| line.strip_prefix("data:")).collect::<String>();
            if !data.trim().is_empty() {
                messages.push(serde_json::from_str::<Value>(&data).expect("a message"));
            }
        }
        assert_eq!(messages.len(), 1, "{accept}: {messages:?}");
        assert_eq!((mcp::text(&messages[0]), &messages[0]["id"]), ("9", &json!(1)), "{accept}");
    }
}

/// Requests on one connection do not get mixed up, pipelined or not.
#[test]
fn one_connection_many_requests() {
    let world = World::start();
    let address = world.bridge.address();
    let mut connection = Connection::open(address);
    let numbered = |id: u32| {
        let params = json!({
            "name": "calculator", "_meta": mcp::meta(),
            "arguments": { "operation": "multiply", "a": id, "b": 2 },
        });
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        mcp::call("multiply").json(&body).bearer(world.good()).bytes(address)
    };
    let check = |connection: &mut Connection, id: u32| {
        let body = connection.read_response(false).expect(200, "numbered").json();
        assert_eq!((body["id"].as_u64(), mcp::text(&body)), (Some(id.into()), (id * 2).to_string().as_str()));
    };
    for id in 0..20 {
        connection.write(&numbered(id));
        check(&mut connection, id);
    }
    connection.write(&(20..30).flat_map(numbered).collect::<Vec<u8>>());
    for id in 20..30 {
        check(&mut connection, id);
    }
    // Byte by byte is only slower.
    let bytes = numbered(30);
    for byte in bytes.chunks(7) {
        connection.write(byte);
    }
    check(&mut connection, 30);
    // Chunked is as good as a length.
    let request = mcp::call("add").bearer(world.good());
    let body = request.bytes(address).split_off(request.head_bytes(address).len());
    let chunked = request.header("Transfer-Encoding", "chunked");
    connection.write(&chunked.head_bytes(address));
    for chunk in body.chunks(50) {
        connection.write(format!("{:x}\r\n", chunk.len()).as_bytes());
        connection.write(chunk);
        connection.write(b"\r\n");
    }
    connection.write(b"0\r\n\r\n");
    assert_eq!(mcp::text(&connection.read_response(false).expect(200, "chunked").json()), "9");
}

/// Clients that ask before they send a long body are told to go on, or at once why not.
#[test]
fn expect_continue() {
    let world = World::start();
    let address = world.bridge.address();
    let request = mcp::call("add").header("Expect", "100-continue");
    let body = request.bytes(address).split_off(request.head_bytes(address).len());
    let mut connection = Connection::open(address);
    connection.write(&request.clone().bearer(world.good()).head_bytes(address));
    assert_eq!(connection.read_head().status, 100);
    connection.write(&body);
    connection.read_response(false).expect(200, "after the body");
    let mut connection = Connection::open(address);
    connection.write(&request.bearer("unknown").head_bytes(address));
    assert_eq!(connection.read_head().status, 401, "no body is asked for that nobody will read");
}

/// The smuggling classics: one reading for the proxy in front, another for us.
#[test]
fn ambiguous_framing_is_refused() {
    let world = World::start();
    let call = mcp::call("add").bearer(world.good());
    let cases: [(&str, Request); 3] = [
        ("two lengths", call.clone().header("Content-Length", "5").header("Content-Length", "6")),
        ("length and a list of it", call.clone().header("Content-Length", "5, 6")),
        (
            "an unknown transfer coding",
            call.clone().header("Transfer-Encoding", "xchunked").header("Content-Length", "5"),
        ),
    ];
    for (case, request) in cases {
        world.without_run(case, || {
            let mut connection = Connection::open(world.bridge.address());
            connection.write(&request.bytes(world.bridge.address()));
            if let Ok(Some(head)) = connection.try_read_head() {
                assert!((400..=501).contains(&head.status), "{case}: {head:?}");
            }
        });
    }
}

/// Python's HTTP clients send head and body apart. Without this their next request, on the connection that
/// they believe to be open, is lost.
#[test]
fn a_refusal_before_the_body_is_here_leaves_the_connection_usable_or_says_that_it_ends() {
    let world = World::start();
    let address = world.bridge.address();
    let stranger = mcp::call("add");
    let (head, whole) = (stranger.head_bytes(address), stranger.bytes(address));
    let mut connection = Connection::open(address);
    connection.write(&head);
    std::thread::sleep(std::time::Duration::from_millis(50));
    connection.write(&whole[head.len()..]);
    let refused = connection.read_response(false).expect(401, "a stranger");
    assert_eq!(refused.header("Connection"), None);
    connection.write(&mcp::call("add").bearer(world.good()).bytes(address));
    let answer = connection.read_response(false).expect(200, "the next request on that connection");
    assert_eq!(mcp::text(&answer.json()), "9");

    // What is too long to be let go by, or waits to be asked for, ends the connection, and is told so.
    for (name, value) in [("Content-Length", "1000000"), ("Expect", "100-continue")] {
        let mut connection = Connection::open(address);
        let request = stranger.clone().header(name, value);
        let mut bytes = request.head_bytes(address);
        if name == "Content-Length" {
            bytes.extend(vec![b' '; 100_000]);
        }
        connection.write(&bytes);
        let refused = connection.read_response(false).expect(401, name);
        assert_eq!(refused.header("Connection"), Some("close"), "{name}");
        assert!(connection.is_closed_by_peer(), "{name}");
    }
}

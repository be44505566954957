//! Bounds on what one client may use, and how slow it may be.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{
    PATIENCE,
    http::{Connection, Request, Response},
    mcp, wait_until,
    world::{ALL_SCOPES, World},
};

fn assert_later(case: &str, response: &Response, status: u16) {
    assert_eq!(response.status, status, "{case}: {response:?}");
    let seconds = response.header("Retry-After").and_then(|text| text.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 1), "{case}: {response:?}");
    assert!(response.header("WWW-Authenticate").is_none(), "{case}");
}

/// A call whose body has `length` bytes.
fn padded(length: usize) -> Request {
    let mut meta = mcp::meta();
    meta["com.example/padding"] = "".into();
    let mut params = mcp::arguments("add");
    params["_meta"] = meta.clone();
    let plain = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string().len();
    meta["com.example/padding"] = "x".repeat(length - plain).into();
    params["_meta"] = meta;
    mcp::modern("tools/call", params)
}

/// People complain about bridges that refuse bodies over 100 kB.
#[test]
fn bodies_of_a_megabyte_are_fine() {
    let world = World::start();
    let response = world.send(&padded(1024 * 1024).bearer(world.good())).expect(200, "1 MiB");
    assert_eq!(mcp::text(&response.json()), "9");
}

#[test]
fn bodies_have_a_bound() {
    let world = World::with(|line| line.flag("--max-body-bytes", "4096"));
    let good = world.good();
    world.send(&padded(4096).bearer(good)).expect(200, "exactly");
    world.without_run("one more", || world.send(&padded(4097).bearer(good))).expect(413, "one more");

    let announced = mcp::call("add").with("Content-Length", "999999999999").body("").bearer(good);
    let (response, _connection) = announced.open(world.bridge.address());
    assert_eq!(response.status, 413, "announced: {response:?}");

    // A chunked body does not say how long it will be.
    world.without_run("chunked", || {
        let request = mcp::call("add").header("Transfer-Encoding", "chunked").body("").bearer(good);
        let mut connection = Connection::open(world.bridge.address());
        connection.write(&request.head_bytes(world.bridge.address()));
        let chunk = [b"400\r\n".to_vec(), vec![b' '; 0x400], b"\r\n".to_vec()].concat();
        for _ in 0..5 {
            // It may have answered and closed already.
            if connection.try_write(&chunk).is_err() {
                break;
            }
        }
        let response = connection.read_head();
        assert_eq!(response.status, 413, "chunked: {response:?}");
    });
    world.call(good, "add").expect(200, "others do not notice");
}

#[test]
fn headers_have_a_bound() {
    let world = World::with(|line| line.flag("--max-header-bytes", "16KiB"));
    let request = mcp::call("add").bearer(world.good());
    world.send(&request.clone().header("X-Padding", "x".repeat(4 * 1024))).expect(200, "4 KiB");
    let refused = |case: &str, request: Request| {
        world.without_run(case, || {
            let mut connection = Connection::open(world.bridge.address());
            // It may answer before it has read everything.
            let _ = connection.try_write(&request.bytes(world.bridge.address()));
            if let Ok(Some(response)) = connection.try_read_head() {
                assert!(matches!(response.status, 400 | 431), "{case}: {response:?}");
            }
        });
    };
    refused("one long header", request.clone().header("X-Padding", "x".repeat(64 * 1024)));
    refused("a long target", request.clone().target(&format!("/mcp?{}", "x".repeat(128 * 1024))));
    let many = (0..2000).fold(request, |request, number| request.header(&format!("X-{number}"), "x"));
    refused("many headers", many);
}

#[test]
fn one_user_cannot_call_all_the_time() {
    let world = World::with(|line| line.flag("--rate-limit", "1").flag("--rate-burst", "4"));
    let (greedy, modest) = (world.token(ALL_SCOPES), world.token(ALL_SCOPES));
    let statuses: Vec<u16> = (0..12).map(|_| world.call(&greedy, "add").status).collect();
    assert_eq!(statuses[..4], [200; 4], "{statuses:?}");
    assert!(statuses.iter().filter(|&&status| status == 200).count() <= 6, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    let refused = (0..5).map(|_| world.call(&greedy, "add")).find(|response| response.status != 200);
    assert_later("over the limit", &refused.expect("a refusal"), 429);
    world.call(&modest, "add").expect(200, "another user");
    world.send(&Request::get("/healthz")).expect(200, "health is not limited");
    wait_until("the greedy user may call again", || world.call(&greedy, "add").status == 200);
}

/// The limit is on the user: a second token is no second user.
#[test]
fn the_rate_is_counted_per_user_and_not_per_token() {
    let world = World::with(|line| line.flag("--rate-limit", "1").flag("--rate-burst", "3"));
    let answer = world.answer(ALL_SCOPES);
    let tokens = [world.grant(&answer), world.grant(&answer)];
    let statuses: Vec<u16> = (0..10).map(|number| world.call(&tokens[number % 2], "add").status).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn a_refused_call_does_not_run() {
    let world = World::with(|line| line.flag("--rate-limit", "1").flag("--rate-burst", "2"));
    let token = world.token(ALL_SCOPES);
    assert_eq!(world.runs(), 0);
    let accepted = (0..10).filter(|_| world.call(&token, "add").status == 200).count();
    world.call(world.good(), "subtract").expect(200, "another user");
    world.bridge.wait_for_event("of the last call", |event| is_run_of(event, "subtract"));
    let logged = world.bridge.events();
    let adds = logged.iter().filter(|event| is_run_of(event, "add")).count();
    assert_eq!(adds, 2 + accepted, "exactly the accepted calls ran, and two control calls");
}

fn is_run_of(event: &Value, operation: &str) -> bool {
    let text = |name| crate::common::bridge::field(event, name).and_then(Value::as_str).unwrap_or_default();
    text("target").starts_with("mcp_calculator") && text("operation") == operation
}

#[test]
fn requests_at_once_have_a_bound() {
    let world = World::with(|line| line.flag("--max-concurrent-requests", "3").flag("--metrics-listen", "127.0.0.1:0"));
    let address = world.bridge.address();
    world.call(world.good(), "add").expect(200, "before");
    // One user gets no more than half of the places.
    let callers = [world.good().to_owned(), world.good().to_owned(), world.token(ALL_SCOPES)];
    let call = mcp::call("add").bearer(world.good());
    let body = call.bytes(address).split_off(call.head_bytes(address).len());
    let (first, rest) = body.split_at(10);
    let mut slow: Vec<Connection> = callers
        .iter()
        .map(|token| {
            let call = call.clone().bearer(token);
            let mut connection = Connection::open(address);
            connection.write(&call.head_bytes(address));
            connection.write(first);
            connection
        })
        .collect();
    wait_until("three slow bodies take all places", || world.gauge("mcp_bridge_requests_in_flight") == 3);
    assert_later("a fourth", &world.call(world.good(), "add"), 503);
    world.send(&Request::get("/healthz")).expect(200, "health has its own place");
    world.send(&mcp::call("add").bearer("unknown")).expect(401, "who has no token is told so first");
    for connection in &mut slow {
        connection.write(rest);
        connection.read_response(false).expect(200, "what was accepted is answered");
    }
    world.call(world.good(), "add").expect(200, "afterwards");
}

/// Tokens that nobody knows yet take no place of those who have one.
#[test]
fn unverified_requests_take_no_place() {
    let world = World::with(|line| line.flag("--max-concurrent-requests", "3"));
    world.call(world.good(), "add").expect(200, "before");
    let asked = world.server.question_count();
    world.server.hold();
    std::thread::scope(|scope| {
        let world = &world;
        let strangers: Vec<_> =
            (0..5).map(|number| scope.spawn(move || world.call(&format!("stranger-{number}"), "add").status)).collect();
        wait_until("five questions", || world.server.question_count() >= asked + 5);
        world.call(world.good(), "add").expect(200, "a known user meanwhile");
        world.server.release();
        for stranger in strangers {
            assert_eq!(stranger.join().expect("a call"), 401);
        }
    });
}

#[test]
fn connections_at_once_have_a_bound() {
    let world = World::with(|line| line.flag("--max-connections", "4"));
    let address = world.bridge.address();
    let mut held: Vec<Connection> = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(address);
        connection.write(&Request::get("/healthz").bytes(address));
        // One of the places may still belong to a connection that has just ended.
        if let Ok(Some(head)) = connection.try_read_head() {
            assert_eq!(head.status, 200);
            held.push(connection);
        }
    }
    assert!(!held.is_empty());
    let mut extra = Connection::open(address);
    let sent = extra.try_write(&Request::get("/healthz").bytes(address));
    drop(held);
    // It waits for a place, or is turned away; in any case the next one gets in.
    drop((sent, extra));
    wait_until("there is a place again", || {
        let mut connection = Connection::open(address);
        connection.try_write(&Request::get("/healthz").bytes(address)).is_ok()
            && matches!(connection.try_read_head(), Ok(Some(head)) if head.status == 200)
    });
}

/// The connection must end soon after `limit`, with 408 or nothing.
fn assert_cut_off(case: &str, connection: &mut Connection) {
    let started = Instant::now();
    match connection.try_read_head() {
        Ok(Some(response)) => assert_eq!(response.status, 408, "{case}: {response:?}"),
        Ok(None) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{case}: {error}"),
    }
    let took = started.elapsed();
    assert!(took < PATIENCE / 2, "{case}: it waited {took:?}");
}

#[test]
fn slow_headers_are_not_waited_for() {
    let world = World::with(|line| line.flag("--header-timeout", "1s"));
    let address = world.bridge.address();
    let mut silent = Connection::open(address);
    let mut partial = Connection::open(address);
    partial.write(b"POST /mcp HTTP/1.1\r\nHost: ");
    let mut endless = Connection::open(address);
    endless.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b\r\n");
    assert_cut_off("partial", &mut partial);
    assert_cut_off("endless", &mut endless);
    assert_cut_off("silent", &mut silent);
    world.call(world.good(), "add").expect(200, "others");
}

#[test]
fn slow_bodies_are_not_waited_for() {
    let world = World::with(|line| line.flag("--body-timeout", "1s"));
    let address = world.bridge.address();
    let call = mcp::call("add").bearer(world.good());
    let body = call.bytes(address).split_off(call.head_bytes(address).len());
    world.without_run("half a body", || {
        let mut connection = Connection::open(address);
        connection.write(&call.head_bytes(address));
        connection.write(&body[..body.len() / 2]);
        assert_cut_off("half a body", &mut connection);
    });
    world.without_run("a dripping body", || {
        let mut connection = Connection::open(address);
        connection.write(&call.head_bytes(address));
        let started = Instant::now();
        let mut rest = body.iter();
        wait_until("the bridge has enough of it", || {
            let Some(byte) = rest.next() else { panic!("the whole dripping body was taken") };
            connection.try_write(&[*byte]).is_err() || started.elapsed() > Duration::from_millis(2500)
        });
        assert_cut_off("a dripping body", &mut connection);
    });
}

/// A client that asks for megabytes, one answer after the other, and reads none of them.
#[test]
fn clients_that_do_not_read_are_left() {
    let world = World::with(|line| line.flag("--write-timeout", "1s"));
    let address = world.bridge.address();
    let request = mcp::modern("tools/list", json!({})).bearer(world.good());
    world.send(&request).expect(200, "who reads");
    let bytes = request.bytes(address).repeat(1000);
    let mut connection = Connection::open(address);
    let started = Instant::now();
    let error = (0..64).find_map(|_| connection.try_write(&bytes).err()).expect("its buffers are not endless");
    let left = matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe);
    assert!(left, "it waits for a client that does not read: {error} after {:?}", started.elapsed());
    world.call(world.good(), "add").expect(200, "others");
}

/// A client that sends nothing more does not keep its connection for ever.
#[test]
fn an_idle_connection_is_closed() {
    let world = World::with(|line| line.flag("--header-timeout", "1s"));
    let address = world.bridge.address();
    let mut connection = Connection::open(address);
    connection.write(&Request::get("/healthz").bytes(address));
    connection.read_response(false).expect(200, "first");
    assert!(connection.is_closed_by_peer(), "more than a close on an idle connection");
}

/// HTTP/2 clients answer pings, so an idle one would never be noticed to be gone.
#[test]
fn an_idle_http_2_connection_is_closed() {
    let world = World::with(|line| line.flag("--header-timeout", "1s"));
    let address = world.bridge.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ended = async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let io = hyper_util::rt::TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake::<_, _, http_body_util::Empty<hyper::body::Bytes>>(
            hyper_util::rt::TokioExecutor::new(),
            io,
        );
        let (_sender, connection) = handshake.await.expect("an HTTP/2 handshake");
        tokio::time::timeout(PATIENCE, connection).await
    };
    let ended = runtime.block_on(ended);
    assert!(matches!(ended, Ok(Ok(()))), "more than a close on an idle connection: {ended:?}");
    world.call(world.good(), "add").expect(200, "others");
}

/// The deadline is for answers; a stream may stay open.
#[test]
fn a_stream_outlives_the_deadline_of_requests() {
    let world = World::with(|line| line.flag("--request-timeout", "1s").flag("--keep-alive", "1s"));
    let session = world.session(world.good());
    let stream = Request::get("/mcp").header("Accept", "text/event-stream").header("Mcp-Session-Id", &session);
    let (head, mut connection) = stream.bearer(world.good()).open(world.bridge.address());
    head.expect(200, "stream");
    for _ in 0..3 {
        connection.next_event().expect("the stream outlives the deadline of requests");
    }
}

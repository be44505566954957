//! What strangers and users do to a server on purpose: hold on to what others need.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::common::{
    PATIENCE,
    http::{Connection, socket},
    mcp, unix_now, wait_until,
    world::{ALL_SCOPES, World},
};

/// HTTP/2 written by hand, for what no client library does (RFC 9113 §3.4, §6).
struct Http2(TcpStream);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Http2 {
    /// A connection that takes no byte of any answer's body.
    fn without_window(address: SocketAddr) -> Self {
        let mut connection = Self(socket(address));
        connection.0.write_all(PREFACE).expect("the peer reads");
        connection.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        connection
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len() >> 8).expect("short frames");
        let head = [0, length, (payload.len() & 0xff) as u8, kind, flags, 0, 0, 0, stream];
        self.0.write_all(&[&head, payload].concat()).expect("the peer reads");
    }

    /// A request without a body, on stream 1.
    fn get(&mut self, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            // Literal field without indexing, new name, no Huffman code (RFC 7541 §6.2.2).
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).ok().filter(|&length| length < 127).expect("short fields"));
                block.extend(text.bytes());
            }
        }
        const END_OF_HEADERS_AND_STREAM: u8 = 5;
        self.frame(HEADERS, END_OF_HEADERS_AND_STREAM, 1, &block);
    }

    /// The next frame's kind and flags; pings are answered. `None` when the peer has closed.
    fn next(&mut self) -> Option<(u8, u8)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        self.0.read_exact(&mut payload).ok()?;
        if (head[3], head[4]) == (PING, 0) {
            let ack = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], &payload[..]].concat();
            self.0.write_all(&ack).ok()?;
        }
        Some((head[3], head[4]))
    }
}

/// Three bytes that promise HTTP/2, or HTTP/2 and then silence, would otherwise keep a place for a
/// connection for ever: a thousand of them shut out everybody else.
#[test]
fn a_stranger_does_not_keep_a_connection_by_saying_nothing() {
    let world = World::with(|line| line.flag("--header-timeout", "1s"));
    let address = world.bridge.address();
    let mut preface = socket(address);
    preface.write_all(b"PRI").expect("the peer reads");
    let mut silent = Http2::without_window(address);
    let started = Instant::now();
    let mut rest = Vec::new();
    // Closed or reset, not waited for.
    let _ = preface.read_to_end(&mut rest);
    while silent.next().is_some() {}
    let took = started.elapsed();
    assert!(took < PATIENCE / 2, "they kept their connections for {took:?}");
    world.call(world.good(), "add").expect(200, "others");
}

/// An answer that its client never takes is held in memory, and its connection with it.
#[test]
fn a_stranger_does_not_keep_a_connection_by_reading_nothing() {
    let world = World::with(|line| {
        line.flag("--header-timeout", "1s").flag("--write-timeout", "1s").flag("--keep-alive", "1s")
    });
    let address = world.bridge.address();
    let mut connection = Http2::without_window(address);
    let authority = address.to_string();
    connection.get(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/.well-known/oauth-protected-resource"),
        (":authority", &authority),
    ]);
    let started = Instant::now();
    let mut answered = false;
    while let Some((kind, _)) = connection.next() {
        assert_ne!(kind, DATA, "there is no window for it");
        answered |= kind == HEADERS;
    }
    assert!(answered, "the answer began");
    let took = started.elapsed();
    assert!(took < PATIENCE / 2, "it kept its connection for {took:?}");
}

/// A client that leaves no window cannot be told that its stream has ended; it has, all the same.
#[test]
fn a_stream_that_nobody_reads_does_not_outlive_its_token() {
    let world = World::with(|line| {
        line.flag("--keep-alive", "1s").flag("--session-idle", "1s").flag("--metrics-listen", "127.0.0.1:0")
    });
    let mut answer = world.answer(ALL_SCOPES);
    answer["exp"] = (unix_now() + 4).into();
    let token = world.grant(&answer);
    let session = world.session(&token);
    let address = world.bridge.address();
    let mut connection = Http2::without_window(address);
    let (authority, bearer) = (address.to_string(), format!("Bearer {token}"));
    connection.get(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/mcp"),
        (":authority", &authority),
        ("accept", "text/event-stream"),
        ("authorization", &bearer),
        ("mcp-session-id", &session),
    ]);
    wait_until("the stream is open", || world.gauge("mcp_bridge_streams") == 1);
    wait_until("it ends with its token", || world.gauge("mcp_bridge_streams") == 0);
    drop(connection);
}

/// The answer repeats the id. One as long as a body, asked for again and again by a client that
/// reads nothing, would fill the server's memory.
#[test]
fn an_id_is_no_way_to_make_answers_large() {
    let world = World::start();
    let with_id = |id: Value| {
        let mut params = mcp::arguments("add");
        params["_meta"] = mcp::meta();
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        mcp::call("add").json(&body).bearer(world.good())
    };
    let id = "x".repeat(1000);
    let answer = world.send(&with_id(id.clone().into())).expect(200, "1000 characters").json();
    assert_eq!(answer["id"], id.as_str());
    let long = with_id("x".repeat(100_000).into());
    let answer = world.without_run("a long id", || world.send(&long)).expect(400, "a long id");
    assert_eq!((answer.code(), &answer.json()["id"]), (Some(-32600), &Value::Null));
    assert!(answer.body.len() < 1000, "{answer:?}");
}

/// Bodies that come slowly hold their places for as long as bodies may take.
#[test]
fn one_users_slow_bodies_do_not_shut_out_everybody_else() {
    let world = World::with(|line| line.flag("--max-concurrent-requests", "4"));
    let (greedy, modest) = (world.token(ALL_SCOPES), world.token(ALL_SCOPES));
    let address = world.bridge.address();
    world.call(&greedy, "add").expect(200, "before");
    let call = mcp::call("add").bearer(&greedy);
    let mut slow: Vec<Connection> = (0..4)
        .map(|_| {
            let mut connection = Connection::open(address);
            connection.write(&call.head_bytes(address));
            connection
        })
        .collect();
    wait_until("the greedy user has no place left", || world.call(&greedy, "add").status == 503);
    world.call(&modest, "add").expect(200, "another user");
    slow.clear();
    wait_until("the greedy user may call again", || world.call(&greedy, "add").status == 200);
}

/// Where clients register themselves, a user can have any number of them.
#[test]
fn another_client_of_the_same_user_does_not_double_the_rate() {
    let world = World::with(|line| line.flag("--rate-limit", "1").flag("--rate-burst", "3"));
    let mut answer = world.answer(ALL_SCOPES);
    let tokens: Vec<String> = (0..10)
        .map(|number| {
            answer["client_id"] = format!("client-{number}").into();
            world.grant(&answer)
        })
        .collect();
    let started = Instant::now();
    let statuses: Vec<u16> = tokens.iter().map(|token| world.call(token, "add").status).collect();
    let refilled = started.elapsed().div_duration_f64(Duration::from_secs(1)) as usize;
    let accepted = statuses.iter().filter(|&&status| status == 200).count();
    assert!((3..=4 + refilled).contains(&accepted), "{statuses:?}");
}

//! What strangers may have in memory.

use super::world::{Parameters, State, form};
use crate::common::http::{Connection, Request};

/// A form that says how long it is, and is sent once the server asks for it.
fn announced(path: &str, body: &str) -> Request {
    let request = Request::post(path).header("Content-Type", "application/x-www-form-urlencoded");
    request.header("Expect", "100-continue").header("Content-Length", body.len().to_string())
}

/// A body that comes slowly is kept in memory meanwhile, and HTTP/2 has a hundred thousand of them.
#[test]
fn bodies_that_strangers_send_slowly_are_bounded_and_stop_nothing_else() {
    const AT_ONCE: usize = 256;
    const BODY: &str = "passphrase=x";
    let state = State::new();
    let server = state.serve();
    let address = server.bridge.address();
    let client = server.client();
    let request = announced("/sign-in", BODY);
    let mut slow: Vec<Connection> = (0..AT_ONCE)
        .map(|_| {
            let mut connection = Connection::open(address);
            connection.write(&request.head_bytes(address));
            assert_eq!(connection.read_head().status, 100, "it is read");
            connection
        })
        .collect();
    let mut more = Connection::open(address);
    more.write(&request.head_bytes(address));
    let refused = more.read_response(false).expect(503, "one too many");
    assert!(refused.header("Retry-After").is_some(), "{refused:?}");
    server.send(&Request::get("/account")).expect(200, "who only looks");
    server.token(&server.refresh(&client, "x")).expect(400, "clients are heard");
    let first = &mut slow[0];
    first.write(BODY.as_bytes());
    first.read_response(false).expect(403, "it has no cookie");
    server.send(&form("/sign-in", &Parameters::new(&[("passphrase", "x")]))).expect(403, "there is room again");
}

#[test]
fn eight_kibibytes_are_read_where_no_more_is_needed() {
    let state = State::new();
    let server = state.serve();
    let padded = |path: &str, len: usize| server.send(&form(path, &Parameters::new(&[("x", &"x".repeat(len - 2))])));
    for path in ["/token", "/revoke", "/register", "/sign-out", "/account/revoke"] {
        assert_eq!(padded(path, 8 * 1024 + 1).status, 413, "{path}");
        assert_ne!(padded(path, 8 * 1024).status, 413, "{path}");
    }
    for path in ["/sign-in", "/consent"] {
        assert_eq!(padded(path, 64 * 1024 + 1).status, 413, "{path}");
        assert_ne!(padded(path, 64 * 1024).status, 413, "{path}");
    }
}

#[test]
fn nothing_is_read_that_is_no_form() {
    let state = State::new();
    let server = state.serve();
    let address = server.bridge.address();
    for (method, path, status) in [("GET", "/account", 200), ("DELETE", "/token", 405), ("OPTIONS", "/token", 204)] {
        let request = Request::new(method, path).header("Expect", "100-continue").header("Content-Length", "10");
        let mut connection = Connection::open(address);
        connection.write(&request.head_bytes(address));
        let answer = connection.read_head();
        assert_eq!(answer.status, status, "{method} {path}: the body was not asked for");
        assert_eq!(answer.header("Connection"), Some("close"), "{method} {path}: the rest may still come");
    }
}

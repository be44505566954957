//! Web pages and DNS rebinding: `Host`, `Origin`, and CORS.

use serde_json::{Value, json};

use crate::common::{
    authorization_server::Fault,
    bridge::field,
    http::{Connection, Request, Response},
    mcp,
    world::World,
};

const INSPECTOR: &str = "http://localhost:6274";

/// What a browser needs to let its page read an answer.
fn check_cors(case: &str, response: &Response, origin: &str) {
    assert_eq!(response.header("Access-Control-Allow-Origin"), Some(origin), "{case}: {response:?}");
    assert!(response.lists("Vary", "Origin"), "{case}: {response:?}");
    for exposed in ["WWW-Authenticate", "Mcp-Session-Id", "MCP-Protocol-Version", "Retry-After"] {
        assert!(response.lists("Access-Control-Expose-Headers", exposed), "{case}: {exposed}: {response:?}");
    }
    assert!(response.header("Access-Control-Allow-Credentials").is_none(), "{case}");
}

fn check_foreign(case: &str, response: &Response) {
    assert_eq!(response.status, 403, "{case}: {response:?}");
    assert!(response.header("WWW-Authenticate").is_none(), "{case}");
    assert!(response.header("Access-Control-Allow-Origin").is_none(), "{case}: {response:?}");
}

#[test]
fn pages_from_elsewhere_are_refused() {
    let world = World::start();
    let origins = [
        "https://evil.example",
        "http://evil.example",
        "null",
        "",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "http://localhost:6274@evil.example",
        "http://evil.example:6274",
        "http://evil.example/http://localhost",
        "http://localhost:6274/path",
        "http://localhost:6274 https://evil.example",
        "http://localhost:6274, https://evil.example",
        "http://localhost:99999",
        "ftp://localhost",
        "file://",
        "localhost:6274",
        "http://[::1",
        "http://0.0.0.0",
        "http://10.0.0.1",
        "http://localhost.",
    ];
    for origin in origins {
        let request = mcp::call("add").header("Origin", origin).bearer(world.good());
        let response = world.without_run(origin, || world.send(&request));
        check_foreign(origin, &response);
        let preflight = Request::new("OPTIONS", "/mcp").header("Access-Control-Request-Method", "POST");
        check_foreign(origin, &world.send(&preflight.header("Origin", origin)));
    }
    // Whoever runs it has to learn which page to allow.
    world.bridge.wait_for_event("the refused page", |event| {
        field(event, "origin").and_then(Value::as_str).is_some_and(|origin| origin.contains("https://evil.example"))
    });
    let twice = mcp::call("add").header("Origin", INSPECTOR).header("Origin", "https://evil.example");
    let response = world.without_run("two origins", || world.send(&twice.bearer(world.good())));
    assert!(matches!(response.status, 400 | 403), "two origins: {response:?}");
    for method in ["GET", "DELETE"] {
        let request = Request::new(method, "/mcp").header("Origin", "https://evil.example").bearer(world.good());
        check_foreign(method, &world.send(&request));
    }
    let initialize = mcp::initialize(mcp::LEGACY).header("Origin", "https://evil.example").bearer(world.good());
    let response = world.send(&initialize);
    check_foreign("initialize", &response);
    assert!(response.header("Mcp-Session-Id").is_none());
}

#[test]
fn pages_on_this_machine_are_allowed_by_default() {
    let world = World::start();
    for origin in [
        "http://localhost:6274",
        "http://localhost",
        "http://127.0.0.1:3000",
        "http://[::1]:3000",
        "https://localhost:8443",
    ] {
        let request = mcp::call("add").header("Origin", origin).bearer(world.good());
        check_cors(origin, &world.send(&request).expect(200, origin), origin);
    }
    // Programs that are no browsers send none.
    world.call(world.good(), "add").expect(200, "no origin");
}

#[test]
fn listed_origins_are_allowed() {
    let world = World::with(|line| {
        line.flag("--allowed-origin", "https://claude.ai").flag("--allowed-origin", "https://app.example:8443")
    });
    for origin in ["https://claude.ai", "https://app.example:8443"] {
        let request = mcp::call("add").header("Origin", origin).bearer(world.good());
        check_cors(origin, &world.send(&request).expect(200, origin), origin);
    }
    for origin in [
        "http://claude.ai",
        "https://claude.ai:8443",
        "https://app.example",
        "https://x.claude.ai",
        "https://claude.ai.evil.example",
    ] {
        let request = mcp::call("add").header("Origin", origin).bearer(world.good());
        let response = world.without_run(origin, || world.send(&request));
        check_foreign(origin, &response);
    }
}

/// A page that cannot read a refusal cannot start a sign-in.
#[test]
fn every_answer_has_its_cors_headers() {
    let world = World::with(|line| line.flag("--max-body-bytes", "4096"));
    let good = world.good().to_owned();
    let session = world.session(&good);
    let unconsented = world.token("");
    let call = mcp::call("add").header("Origin", INSPECTOR);
    let cases: [(&str, u16, Request); 17] = [
        ("no token", 401, call.clone()),
        ("unknown token", 401, call.clone().bearer("unknown")),
        ("malformed token", 400, call.clone().header("Authorization", "Bearer")),
        ("no scope", 403, call.clone().bearer(&unconsented)),
        ("accepted", 200, call.clone().bearer(&good)),
        ("mismatch", 400, call.clone().with("Mcp-Name", "x").bearer(&good)),
        ("unknown method", 404, mcp::modern("x/y", json!({})).header("Origin", INSPECTOR).bearer(&good)),
        ("parse error", 400, call.clone().body("{").bearer(&good)),
        ("content type", 415, call.clone().with("Content-Type", "text/plain").bearer(&good)),
        ("not acceptable", 406, call.clone().with("Accept", "text/html").bearer(&good)),
        ("too large", 413, call.clone().body(" ".repeat(5000)).bearer(&good)),
        ("method", 405, Request::new("PUT", "/mcp").header("Origin", INSPECTOR)),
        ("unknown session", 404, mcp::legacy_call("x", "add").header("Origin", INSPECTOR).bearer(&good)),
        ("no session", 400, Request::get("/mcp").header("Origin", INSPECTOR).header("Accept", "*/*").bearer(&good)),
        ("legacy call", 200, mcp::legacy_call(&session, "add").header("Origin", INSPECTOR).bearer(&good)),
        (
            "notification",
            202,
            mcp::legacy(&session, &json!({ "jsonrpc": "2.0", "method": "notifications/x" }))
                .header("Origin", INSPECTOR)
                .bearer(&good),
        ),
        ("initialize", 200, mcp::initialize(mcp::LEGACY).header("Origin", INSPECTOR).bearer(&good)),
    ];
    for (case, status, request) in cases {
        check_cors(case, &world.send(&request).expect(status, case), INSPECTOR);
    }
    let stream = Request::get("/mcp").header("Accept", "text/event-stream").header("Mcp-Session-Id", &session);
    let (head, _connection) = stream.header("Origin", INSPECTOR).bearer(&good).open(world.bridge.address());
    check_cors("stream", &head.expect(200, "stream"), INSPECTOR);
    world.server.fail(Fault::Status(500));
    check_cors("outage", &world.send(&call.bearer("new")).expect(503, "outage"), INSPECTOR);
}

#[test]
fn preflight() {
    let world = World::start();
    let asked = world.server.question_count();
    let requested = "authorization, content-type, mcp-method, mcp-name, mcp-protocol-version, mcp-param-region, x-evil";
    let request = Request::new("OPTIONS", "/mcp")
        .header("Origin", INSPECTOR)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", requested);
    let response = world.send(&request).expect(204, "preflight");
    assert_eq!(response.header("Access-Control-Allow-Origin"), Some(INSPECTOR));
    assert!(response.lists("Vary", "Origin"), "{response:?}");
    for method in ["GET", "POST", "DELETE", "OPTIONS"] {
        assert!(response.lists("Access-Control-Allow-Methods", method), "{method}: {response:?}");
    }
    let headers = [
        "authorization",
        "content-type",
        "accept",
        "mcp-protocol-version",
        "mcp-session-id",
        "mcp-method",
        "mcp-name",
        "last-event-id",
        "mcp-param-region",
    ];
    for header in headers {
        assert!(response.lists("Access-Control-Allow-Headers", header), "{header}: {response:?}");
    }
    assert!(!response.lists("Access-Control-Allow-Headers", "x-evil"), "{response:?}");
    assert!(!response.lists("Access-Control-Allow-Headers", "*"), "`*` does not cover Authorization");
    assert!(response.body.is_empty());
    assert_eq!(world.server.question_count(), asked);
    // No browser, no preflight: still no token needed.
    world.send(&Request::new("OPTIONS", "/mcp")).expect(204, "OPTIONS without Origin");
}

#[test]
fn hosts() {
    let world = World::with(|line| {
        line.flag("--public-url", "https://mcp.example.com").flag("--allowed-host", "internal.example:8080")
    });
    let port = world.bridge.address().port();
    let good = [
        "mcp.example.com".to_owned(),
        "MCP.Example.COM".to_owned(),
        "mcp.example.com:443".to_owned(),
        "internal.example:8080".to_owned(),
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
    ];
    for host in good {
        let response = world.send(&mcp::call("add").header("Host", &host).bearer(world.good())).expect(200, &host);
        assert_eq!(mcp::text(&response.json()), "9", "{host}");
    }
    let bad = [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "mcp.example.com.evil.example".to_owned(),
        "mcp.example.com:8443".to_owned(),
        "xmcp.example.com".to_owned(),
        "internal.example".to_owned(),
        "mcp.example.com@evil.example".to_owned(),
        "evil.example#mcp.example.com".to_owned(),
        String::new(),
        "127.0.0.1:1".to_owned(),
        "10.0.0.1".to_owned(),
    ];
    for host in bad {
        let request = mcp::call("add").header("Host", &host).bearer(world.good());
        let response = world.without_run(&host, || world.send(&request));
        // Not a host at all is a bad request; a host that is not ours is misdirected.
        let malformed = host.is_empty() || host.contains(['@', '#']);
        assert!(response.status == 421 || (malformed && response.status == 400), "{host}: {response:?}");
        assert!(response.header("WWW-Authenticate").is_none(), "{host}");
    }
}

#[test]
fn a_request_has_one_host() {
    let world = World::start();
    let address = world.bridge.address();
    let own = address.to_string();
    let twice = mcp::call("add").header("Host", &own).header("Host", "evil.example").bearer(world.good());
    let response = world.without_run("two hosts", || world.send(&twice));
    assert!(matches!(response.status, 400 | 421), "two hosts: {response:?}");
    let absolute = mcp::call("add").target("http://evil.example/mcp").bearer(world.good());
    let response = world.without_run("absolute target", || world.send(&absolute));
    assert!(matches!(response.status, 400 | 421), "absolute target: {response:?}");
    let missing = String::from_utf8(mcp::call("add").bearer(world.good()).bytes(address)).expect("text");
    let missing = missing.replacen(&format!("Host: {own}\r\n"), "", 1);
    assert!(!missing.contains("Host:"));
    world.without_run("no host", || {
        let mut connection = Connection::open(address);
        connection.write(missing.as_bytes());
        let response = connection.read_response(false);
        assert!(matches!(response.status, 400 | 421), "no host: {response:?}");
    });
}

//! Protected resource metadata (RFC 9728).

use serde_json::json;

use crate::common::{
    authorization_server::AuthorizationServer,
    bridge::CommandLine,
    http::{Request, Response},
    world::World,
};

const INSERTED: &str = "/.well-known/oauth-protected-resource/mcp";
const ROOT: &str = "/.well-known/oauth-protected-resource";

fn check_headers(case: &str, response: &Response) {
    assert_eq!(response.header("Content-Type"), Some("application/json"), "{case}");
    assert_eq!(response.header("Cache-Control"), Some("max-age=300"), "{case}");
    assert_eq!(response.header("Access-Control-Allow-Origin"), Some("*"), "{case}");
}

fn public(url: &str) -> (AuthorizationServer, crate::common::bridge::Bridge) {
    let server = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&server).flag("--public-url", url);
    let bridge = line.flag("--resource-name", "Calculator for \u{e4}ll").spawn();
    (server, bridge)
}

#[test]
fn the_document_at_both_well_known_places() {
    let (server, bridge) = public("https://mcp.example.com:8443");
    let expected = json!({
        "resource": "https://mcp.example.com:8443/mcp",
        "authorization_servers": [server.issuer()],
        "scopes_supported": ["op:add", "op:sub", "op:mult", "op:div"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Calculator for \u{e4}ll",
    });
    for path in [INSERTED, ROOT] {
        let response = bridge.send(&Request::get(path)).expect(200, path);
        check_headers(path, &response);
        assert_eq!(response.json(), expected, "{path}");
        assert!(response.text().contains(r#""resource":"https://mcp.example.com:8443/mcp""#), "{}", response.text());
        let length = response.header("Content-Length").map(str::to_owned);

        let head = bridge.send(&Request::new("HEAD", path)).expect(200, path);
        check_headers(path, &head);
        assert_eq!(head.header("Content-Length").map(str::to_owned), length, "{path}");
        assert!(head.body.is_empty());
    }
    assert_eq!(bridge.resource(), "https://mcp.example.com:8443/mcp");
    assert_eq!(server.question_count(), 0);
}

#[test]
fn documentation_is_named_if_there_is_one() {
    let server = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&server);
    let bridge = line.flag("--resource-documentation", "https://docs.example.com/mcp?a=b").spawn();
    let document = bridge.send(&Request::get(INSERTED)).expect(200, "metadata").json();
    assert_eq!(document["resource_documentation"], "https://docs.example.com/mcp?a=b");
    // Without a public URL it is the listening address, port included.
    assert_eq!(document["resource"], format!("http://{}/mcp", bridge.address()));
    assert_eq!(document["resource"], bridge.resource());
    for (name, value) in document.as_object().expect("an object") {
        assert!(!value.is_null() && value.as_array().is_none_or(|array| !array.is_empty()), "{name} is empty");
    }
}

#[test]
fn other_methods_and_places() {
    let (_server, bridge) = public("https://mcp.example.com");
    for path in [INSERTED, ROOT] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let response = bridge.send(&Request::new(method, path)).expect(405, method);
            for allowed in ["GET", "HEAD", "OPTIONS"] {
                assert!(response.lists("Allow", allowed), "{method}: {response:?}");
            }
        }
        let preflight = Request::new("OPTIONS", path)
            .header("Origin", "https://inspector.example")
            .header("Access-Control-Request-Method", "GET")
            .header("Access-Control-Request-Headers", "mcp-protocol-version");
        let response = bridge.send(&preflight).expect(204, "preflight");
        assert_eq!(response.header("Access-Control-Allow-Origin"), Some("*"));
        assert!(response.lists("Access-Control-Allow-Methods", "GET"), "{response:?}");
        assert!(response.lists("Access-Control-Allow-Headers", "mcp-protocol-version"), "{response:?}");
    }
    for path in [
        "/.well-known/oauth-protected-resource/",
        "/.well-known/oauth-protected-resource/mcp/",
        "/.well-known/oauth-protected-resource/other",
        "/.well-known/oauth-protected-resourcemcp",
        "/.well-known/oauth-authorization-server",
        "/mcp/.well-known/oauth-protected-resource",
        "/",
        "/mcp/",
        "/MCP",
        "/mcp/../mcp",
        "/nothing",
    ] {
        bridge.send(&Request::get(path)).expect(404, path);
    }
}

/// Browsers of any origin may read it: it is public, and Inspector needs it.
#[test]
fn every_origin_may_read_it() {
    let (_server, bridge) = public("https://mcp.example.com");
    for origin in ["https://inspector.example", "null", "http://localhost:6274"] {
        let response = bridge.send(&Request::get(INSERTED).header("Origin", origin)).expect(200, origin);
        assert_eq!(response.header("Access-Control-Allow-Origin"), Some("*"), "{origin}");
    }
}

/// Whoever could choose the resource or the authorization server could steal tokens.
#[test]
fn request_headers_have_no_influence() {
    let (server, bridge) = public("https://mcp.example.com");
    let expected = bridge.send(&Request::get(INSERTED)).expect(200, "plain").body;
    let evil = [
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Port", "666"),
        ("X-Forwarded-Prefix", "/evil"),
        ("Forwarded", "host=evil.example;proto=http"),
        ("X-Original-URL", "/evil"),
        ("X-Rewrite-URL", "/evil"),
        ("X-Forwarded-Server", "evil.example"),
    ];
    for (name, value) in evil {
        let response = bridge.send(&Request::get(INSERTED).header(name, value)).expect(200, name);
        assert_eq!(response.body, expected, "{name}");
        let response = bridge.send(&Request::post("/mcp").header(name, value)).expect(401, name);
        let challenge = response.header("WWW-Authenticate").unwrap_or_default();
        assert!(
            challenge
                .contains(r#"resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp""#)
        );
    }
    for host in ["evil.example", "mcp.example.com", "mcp.example.com:443", "localhost"] {
        for path in [INSERTED, "/mcp"] {
            let response = bridge.send(&Request::get(path).header("Host", host));
            let everything = format!("{response:?}{}", String::from_utf8_lossy(&response.body));
            assert!(!everything.contains("evil"), "{host}: {everything}");
        }
    }
    let absolute = Request::get("http://evil.example/.well-known/oauth-protected-resource/mcp");
    let response = bridge.send(&absolute.header("Host", "evil.example"));
    assert!(!String::from_utf8_lossy(&response.body).contains("evil"), "{response:?}");
    assert_eq!(server.question_count(), 0);
}

/// A proxy may pass the prefix on or take it away; the resource is the same.
#[test]
fn a_prefix_of_the_public_url_is_part_of_the_resource() {
    let (_server, bridge) = public("https://h.example/team");
    assert_eq!(bridge.resource(), "https://h.example/team/mcp");
    let path = "/.well-known/oauth-protected-resource/team/mcp";
    let document = bridge.send(&Request::get(path)).expect(200, path).json();
    assert_eq!(document["resource"], "https://h.example/team/mcp");
    for endpoint in ["/mcp", "/team/mcp"] {
        let response = bridge.send(&Request::post(endpoint)).expect(401, endpoint);
        let challenge = response.header("WWW-Authenticate").unwrap_or_default();
        assert!(challenge.contains(&format!(r#"resource_metadata="https://h.example{path}""#)), "{challenge}");
    }
}

#[test]
fn another_path_moves_endpoint_and_metadata_together() {
    let world = World::with(|line| line.flag("--public-url", "https://mcp.example.com"));
    assert_eq!(world.bridge.resource(), "https://mcp.example.com/mcp");
    drop(world);
    let server = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&server).flag("--public-url", "https://h.example");
    let bridge = line.flag("--path", "/tools/calculator").spawn();
    assert_eq!(bridge.resource(), "https://h.example/tools/calculator");
    let path = "/.well-known/oauth-protected-resource/tools/calculator";
    let document = bridge.send(&Request::get(path)).expect(200, path).json();
    assert_eq!(document["resource"], "https://h.example/tools/calculator");
    let response = bridge.send(&Request::post("/tools/calculator")).expect(401, "the endpoint");
    let challenge = response.header("WWW-Authenticate").unwrap_or_default();
    assert!(challenge.contains(&format!(r#"resource_metadata="https://h.example{path}""#)), "{challenge}");
    bridge.send(&Request::post("/mcp")).expect(404, "the default path");
    bridge.send(&Request::get(INSERTED)).expect(404, "the default metadata");
}

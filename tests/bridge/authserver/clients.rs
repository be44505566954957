//! Clients that people use, as they register and come.

use serde_json::json;

use super::world::{Browser, State, check_page};

/// Each row: the name, how it registers its redirect URIs, and where it wants its answer.
const REGISTERING: [(&str, &[&str], &str); 8] = [
    ("Claude", &["https://claude.ai/api/mcp/auth_callback"], "https://claude.ai/api/mcp/auth_callback"),
    ("Claude Code", &["http://localhost/callback"], "http://localhost:54212/callback"),
    ("Claude Code", &["http://127.0.0.1/callback"], "http://127.0.0.1:3118/callback"),
    (
        "ChatGPT",
        &["https://chatgpt.com/connector_platform_oauth_redirect"],
        "https://chatgpt.com/connector_platform_oauth_redirect",
    ),
    ("ChatGPT", &["https://chatgpt.com/connector/oauth/a1B2"], "https://chatgpt.com/connector/oauth/a1B2"),
    ("Visual Studio Code", &["http://127.0.0.1:33418/", "https://vscode.dev/redirect"], "http://127.0.0.1:41234/"),
    (
        "Cursor",
        &["cursor://anysphere.cursor-mcp/oauth/callback", "https://www.cursor.com/agents/mcp/oauth/callback"],
        "cursor://anysphere.cursor-mcp/oauth/callback",
    ),
    ("MCP Inspector", &["http://localhost:6274/oauth/callback"], "http://localhost:6274/oauth/callback"),
];

/// Each row: the client's document, and where it wants its answer.
const DESCRIBED: [(&str, &str, &str); 5] = [
    ("Claude", "https://claude.ai/oauth/mcp-oauth-client-metadata", "https://claude.ai/api/mcp/auth_callback"),
    ("Claude Code", "https://claude.ai/oauth/claude-code-client-metadata", "http://localhost:54212/callback"),
    ("Claude Code", "https://claude.ai/oauth/claude-code-client-metadata", "http://127.0.0.1:54212/callback"),
    ("ChatGPT", "https://chatgpt.com/oauth/client.json", "https://chatgpt.com/connector_platform_oauth_redirect"),
    ("Visual Studio Code", "https://vscode.dev/oauth/client-metadata.json", "http://127.0.0.1:33418/"),
];

#[test]
fn clients_that_register_get_their_tokens() {
    let state = State::new();
    let server = state.serve();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    for (name, registered, redirect_uri) in REGISTERING {
        let metadata = json!({
            "client_name": name, "redirect_uris": registered, "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        });
        let client = server.register(&metadata).expect(201, name).json();
        assert_eq!(client["redirect_uris"], json!(registered));
        complete(&mut browser, &server, client["client_id"].as_str().expect("an id"), name, redirect_uri);
    }
}

#[test]
fn clients_that_are_described_by_a_document_get_their_tokens_without_registering() {
    let state = State::new();
    let server = state.serve();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    for (name, id, redirect_uri) in DESCRIBED {
        complete(&mut browser, &server, id, name, redirect_uri);
    }
    assert_eq!(server.state.command(&["apps", "list"]).lines().count(), 5, "four documents, and a line above");
}

fn complete(browser: &mut Browser<'_>, server: &super::world::Server<'_>, id: &str, name: &str, redirect_uri: &str) {
    let request = server.request(id).with("redirect_uri", redirect_uri);
    let page = browser.authorize(&request).expect(200, name);
    check_page(&page);
    assert!(page.text().contains(name), "{}", page.text());
    let answer = browser.decide(&page, &["op:add"], "allow").expect(303, name);
    let location = answer.header("Location").expect("a place");
    assert!(location.starts_with(&format!("{redirect_uri}?code=")), "{location}");
    let code = location.split_once("code=").and_then(|(_, rest)| rest.split('&').next()).expect("a code");
    let exchange = server.exchange(id, code).with("redirect_uri", redirect_uri);
    let tokens = super::world::Tokens::of(server.token(&exchange));
    assert_eq!(tokens.scope, "op:add");
    assert_eq!((server.call("add", &tokens.access), server.call("divide", &tokens.access)), (200, 403));
    let renewed = super::world::Tokens::of(server.token(&server.refresh(id, &tokens.refresh)));
    assert_eq!(server.call("add", &renewed.access), 200);
}

/// The metadata of the resource and of the authorization server fit together, and with what they are.
#[test]
fn metadata_leads_from_the_challenge_to_the_endpoints() {
    use crate::common::http::Request;
    let state = State::new();
    let server = state.serve();
    let resource = server.send(&Request::get("/.well-known/oauth-protected-resource/mcp")).expect(200, "PRM").json();
    assert_eq!(resource["authorization_servers"], json!([server.issuer()]));
    let issuer = server.issuer();
    let mut documents = Vec::new();
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let answer = server.send(&Request::get(path).header("Origin", "https://a.example")).expect(200, path);
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"));
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        documents.push(answer.json());
        let head = server.send(&Request::new("HEAD", path)).expect(200, path);
        assert!(head.body.is_empty());
        server.send(&Request::post(path)).expect(405, path);
        server.send(&Request::new("OPTIONS", path)).expect(204, path);
    }
    assert_eq!(documents[0], documents[1]);
    let shown = serde_json::to_string_pretty(&documents[0]).expect("JSON").replace(&issuer, "https://mcp.example.com");
    super::world::check_text("authorization_server_metadata", &shown);
}

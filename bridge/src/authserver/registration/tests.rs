//! Clients of the field register, attacks do not.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
    time::SystemTime,
};

use mcp_calculator::login::address::Place;
use proptest::prelude::*;
use serde_json::json;

use super::{
    MetadataProblem as P,
    document::{self, DocumentProblem, is_document_url},
    dynamic, fetch,
    fetch::{Documents, FetchProblem},
    shown_name,
};
use crate::authserver::client::Authentication;

fn register(body: &serde_json::Value) -> Result<dynamic::Registered, P> {
    dynamic::register(body.to_string().as_bytes(), &[], SystemTime::now())
}

#[test]
fn clients_that_people_use_can_register() {
    for (name, redirect_uris) in [
        ("Claude", vec!["https://claude.ai/api/mcp/auth_callback"]),
        ("Claude", vec!["https://claude.com/api/mcp/auth_callback"]),
        ("Claude Code", vec!["http://localhost:54212/callback"]),
        ("ChatGPT", vec!["https://chatgpt.com/connector_platform_oauth_redirect"]),
        ("ChatGPT", vec!["https://chatgpt.com/connector/oauth/AbC_123"]),
        ("Visual Studio Code", vec!["http://127.0.0.1/", "http://127.0.0.1:33418/", "https://vscode.dev/redirect"]),
        ("Cursor", vec!["cursor://anysphere.cursor-mcp/oauth/callback"]),
        ("Cursor", vec!["http://localhost:8787/callback", "https://www.cursor.com/agents/mcp/oauth/callback"]),
        ("MCP Inspector", vec!["http://localhost:6274/oauth/callback"]),
    ] {
        let body = json!({
            "client_name": name, "redirect_uris": redirect_uris, "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "scope": "op:add", "client_uri": "https://c.example", "logo_uri": "https://c.example/logo.png",
            "application_type": "native",
        });
        let registered = register(&body).expect(name);
        assert_eq!(registered.client.name.as_deref(), Some(name));
        assert_eq!(
            (registered.client.redirect_uris, registered.client.refreshes),
            (redirect_uris.iter().map(|uri| (*uri).to_owned()).collect(), true)
        );
        assert_eq!(registered.answer["redirect_uris"], json!(redirect_uris));
        assert!(registered.answer.get("client_secret").is_none());
        assert!(!is_document_url(&registered.client.id), "{}", registered.client.id);
    }
}

#[test]
fn what_is_left_out_has_the_defaults_of_rfc_7591() {
    let registered = register(&json!({ "redirect_uris": ["https://c.example/cb"] })).expect("good");
    let Authentication::ClientSecretBasic(digest) = &registered.client.authentication else { panic!("the default") };
    let secret = registered.answer["client_secret"].as_str().expect("a secret");
    assert!(digest.is_of(secret));
    assert_eq!(registered.answer["client_secret_expires_at"], 0);
    assert!(registered.client.refreshes && registered.client.name.is_none());
    let body = json!({ "redirect_uris": ["https://c.example/cb"], "grant_types": ["authorization_code"] });
    let registered = register(&body).expect("good");
    assert!(!registered.client.refreshes);
    assert_eq!(registered.answer["grant_types"], json!(["authorization_code"]));
}

#[test]
fn what_cannot_be_registered() {
    let with = |key: &str, value: serde_json::Value| {
        let mut body = json!({ "redirect_uris": ["https://c.example/cb"] });
        body[key] = value;
        register(&body).err()
    };
    let nine: Vec<String> = (0..9).map(|n| format!("https://c.example/{n}")).collect();
    assert_eq!(with("redirect_uris", json!([])), Some(P::NoRedirectUri));
    assert_eq!(with("redirect_uris", json!(nine)), Some(P::NoRedirectUri));
    assert_eq!(with("redirect_uris", json!(["http://evil.example/cb"])), Some(P::RedirectUri));
    assert_eq!(with("redirect_uris", json!(["https://c.example/cb", "javascript:alert(1)"])), Some(P::RedirectUri));
    assert_eq!(with("redirect_uris", json!("https://c.example/cb")), Some(P::NotMetadata));
    assert_eq!(with("token_endpoint_auth_method", json!("private_key_jwt")), Some(P::Authentication));
    assert_eq!(with("grant_types", json!(["password"])), Some(P::Grant));
    assert_eq!(with("response_types", json!(["token"])), Some(P::Grant));
    assert_eq!(with("software_statement", json!("x.y.z")), Some(P::SoftwareStatement));
    for body in ["", "[]", "{", "null", r#"{"redirect_uris":[],"redirect_uris":["https://c.example/cb"]}"#] {
        assert_eq!(dynamic::register(body.as_bytes(), &[], SystemTime::now()).err(), Some(P::NotMetadata), "{body}");
    }
}

#[test]
fn names_cannot_play_with_the_text_around_them() {
    assert_eq!(shown_name(" Claude\u{202e}\u{200b}\n Code\u{0} "), "Claude Code");
    assert_eq!(shown_name(&"ä".repeat(200)).chars().count(), 64);
    assert_eq!(shown_name("\u{200b}\u{feff}"), "");
}

#[test]
fn a_document_url_is_one_as_it_is_written() {
    for url in [
        "https://claude.ai/oauth/mcp-oauth-client-metadata",
        "https://c.example:8443/a.json",
        "https://c.example/a/b?v=1",
    ] {
        assert!(is_document_url(url), "{url}");
    }
    for url in [
        "http://c.example/a",
        "HTTPS://c.example/a",
        "https://C.example/a",
        "https://c.example",
        "https://c.example/",
        "https://c.example:443/a",
        "https://u:p@c.example/a",
        "https://c.example/a#f",
        "https://c.example/a/../b",
        "https://c.example/a/%2e%2E/b",
        "https://c.example/./b",
        "https://c.example/\u{fc}",
        "https://c.example\\a/b",
        "https://0x7f.1/a",
        "https://127.1/a",
        "mcpb_client_x",
        &format!("https://c.example/{}", "a".repeat(500)),
    ] {
        assert!(!is_document_url(url), "{url}");
    }
}

#[test]
fn documents_are_about_their_own_url_and_about_public_clients() {
    const URL: &str = "https://c.example/client.json";
    let with = |key: &str, value: serde_json::Value| {
        let mut body = json!({ "client_id": URL, "client_name": "C", "redirect_uris": ["https://c.example/cb"] });
        body[key] = value;
        document::parse(URL, body.to_string().as_bytes(), &[])
    };
    let client = with("client_uri", json!("https://c.example")).expect("good");
    assert_eq!((client.id.as_str(), client.document_host()), (URL, Some("c.example")));
    assert_eq!(with("client_id", json!("https://c.example/client.json/")), Err(DocumentProblem::OtherClient));
    assert_eq!(with("client_id", json!(null)), Err(DocumentProblem::OtherClient));
    assert_eq!(with("client_secret", json!("x")), Err(DocumentProblem::Secret));
    assert_eq!(with("token_endpoint_auth_method", json!("private_key_jwt")), Err(DocumentProblem::Authentication));
    assert_eq!(with("token_endpoint_auth_method", json!("client_secret_basic")), Err(DocumentProblem::Authentication));
    assert!(with("token_endpoint_auth_method", json!("none")).is_ok());
    let several = json!({
        "client_id": URL, "redirect_uris": ["https://c.example/cb"], "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "none"], "jwks_uri": "https://c.example/jwks",
    });
    let client = document::parse(URL, several.to_string().as_bytes(), &[]).expect("none is among them");
    assert_eq!(client.authentication, Authentication::None);
    let evil = with("redirect_uris", json!(["http://evil.example/"]));
    assert_eq!(evil, Err(DocumentProblem::Metadata(P::RedirectUri)));
}

#[tokio::test]
async fn documents_of_known_clients_need_no_fetching() {
    let nowhere = Documents::with(Vec::new(), |_| false, |builder| builder);
    for (url, redirect_uri) in [
        ("https://claude.ai/oauth/mcp-oauth-client-metadata", "https://claude.ai/api/mcp/auth_callback"),
        ("https://claude.ai/oauth/claude-code-client-metadata", "http://localhost:53111/callback"),
        ("https://claude.ai/oauth/claude-code-client-metadata", "http://127.0.0.1:53111/callback"),
        ("https://chatgpt.com/oauth/client.json", "https://chatgpt.com/connector_platform_oauth_redirect"),
        ("https://vscode.dev/oauth/client-metadata.json", "http://127.0.0.1:33418/"),
        ("https://vscode.dev/oauth/client-metadata.json", "http://127.0.0.1:40123/"),
        ("https://vscode.dev/oauth/client-metadata.json", "https://vscode.dev/redirect"),
    ] {
        let client = nowhere.client(url, Some(redirect_uri)).await.expect(url);
        assert_eq!(client.id, url);
        // Somewhere else is somewhere else: then its owner has to say so.
        assert!(nowhere.client(url, Some("https://evil.example/cb")).await.is_err());
    }
}

#[tokio::test]
async fn documents_are_not_fetched_from_the_network_that_this_runs_in() {
    let documents = Documents::new(Vec::new());
    for url in [
        "https://127.0.0.1/a",
        "https://localhost/a",
        "https://[::1]/a",
        "https://10.0.0.1/a",
        "https://192.168.1.1/a",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/a",
        "https://[64:ff9b::a00:1]/a",
        "https://[2002:a00:1::1]/a",
        "https://[fd12::1]/a",
        "https://100.64.0.1/a",
        "https://0.0.0.0/a",
        "https://[fe80::1]/a",
    ] {
        let problem = documents.client(url, None).await.expect_err(url);
        assert!(matches!(problem, FetchProblem::Address), "{url}: {problem}");
    }
}

/// A server of one connection that answers with `answer`; the URL of a document there.
fn served(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked);
        let _ = stream.write_all(answer.as_bytes());
    });
    format!("http://{address}/client.json")
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

async fn fetched(answer: String) -> Result<crate::authserver::client::Client, FetchProblem> {
    let documents = Documents::with(Vec::new(), |place| place == Place::Loopback, |builder| builder);
    documents.client(&served(answer), None).await
}

#[tokio::test]
async fn only_a_whole_small_document_at_that_very_address_counts() {
    const JSON: &str = "200 OK\r\nContent-Type: application/json";
    let problem = |found: Result<_, FetchProblem>| found.expect_err("refused").to_string();
    let redirect = fetched(answer("302 Found\r\nLocation: https://claude.ai/oauth/client", "")).await;
    assert!(matches!(redirect, Err(FetchProblem::Status(302))), "{}", problem(redirect));
    assert!(matches!(fetched(answer("404 Not Found", "{}")).await, Err(FetchProblem::Status(404))));
    let page = fetched(answer("200 OK\r\nContent-Type: text/html", "<html>")).await;
    assert!(matches!(page, Err(FetchProblem::NotJson)));
    assert!(matches!(fetched(answer(JSON, &" ".repeat(6000))).await, Err(FetchProblem::Long)));
    let garbage = fetched(answer(JSON, "{")).await;
    assert!(matches!(garbage, Err(FetchProblem::Document(DocumentProblem::Metadata(P::NotMetadata)))));
    let other = answer(JSON, r#"{"client_id":"https://claude.ai/x","redirect_uris":["https://c.example/cb"]}"#);
    assert!(matches!(fetched(other).await, Err(FetchProblem::Document(DocumentProblem::OtherClient))));
}

#[tokio::test]
async fn a_good_document_is_remembered_and_an_error_is_not() {
    let documents = Documents::with(Vec::new(), |place| place == Place::Loopback, |builder| builder);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/client.json", listener.local_addr().expect("bound"));
    let body = json!({ "client_id": url, "redirect_uris": ["https://c.example/cb"] }).to_string();
    let asked = thread::spawn(move || {
        let answers = [
            answer("503 Unavailable", ""),
            answer("200 OK\r\nContent-Type: application/json; charset=utf-8\r\nCache-Control: no-store", &body),
        ];
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("asked");
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    assert!(matches!(documents.client(&url, None).await, Err(FetchProblem::Status(503))));
    let client = documents.client(&url, None).await.expect("good");
    asked.join().expect("asked twice");
    assert_eq!(documents.client(&url, None).await.expect("remembered"), client);
}

#[test]
fn a_document_is_believed_between_five_minutes_and_a_day() {
    for (header, seconds) in [
        ("", 300),
        ("no-store", 300),
        ("max-age=10", 300),
        ("public, max-age=3600", 3600),
        ("max-age=99999999", 86400),
        ("max-age=x", 300),
    ] {
        assert_eq!(fetch::life(header).as_secs(), seconds, "{header}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(body in proptest::collection::vec(any::<u8>(), 0..200), url in "(https://)?\\PC{0,60}") {
        let _ = dynamic::register(&body, &[], SystemTime::now());
        let _ = (is_document_url(&url), document::parse(&url, &body, &[]));
    }
}

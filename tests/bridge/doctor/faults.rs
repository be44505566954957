//! Broken servers, each with one fault, and what is said of it.

use std::{net::TcpListener, time::Duration};

use serde_json::json;

use super::{
    doctor, finding, report,
    scripted::{Asked, Said, Scripted, TOKEN, speak},
};

/// The step `check` of a server that is healthy but for `spoil` ends with `outcome`, and what it says
/// has all of `words`.
fn check(
    check: &str,
    outcome: &str,
    words: &[&str],
    spoil: impl Fn(&Asked, Said, &str) -> Said + Send + Sync + 'static,
) {
    let server = Scripted::start(spoil);
    check_at(&server.url(), check, outcome, words);
}

fn check_at(url: &str, check: &str, outcome: &str, words: &[&str]) {
    let (report, code) = report(doctor(url).env("MCP_BRIDGE_TOKEN", TOKEN).arg("--register"));
    let found = finding(&report, check);
    assert_eq!(found["outcome"], outcome, "{check}: {found:#}");
    let text = found["problems"].to_string();
    for word in words {
        assert!(text.contains(word), "{check}: `{word}` is not in {found:#}");
    }
    assert_eq!(code, Some(if report["verdict"] == "fail" { 1 } else { 0 }));
    if outcome == "fail" {
        assert_eq!(report["verdict"], "fail");
    }
}

const PATH_DOCUMENT: &str = "/.well-known/oauth-protected-resource/mcp";
const ROOT_DOCUMENT: &str = "/.well-known/oauth-protected-resource";
const SERVER_DOCUMENT: &str = "/.well-known/oauth-authorization-server";

fn is_stranger(asked: &Asked) -> bool {
    asked.path == "/mcp" && asked.method == "POST" && asked.header("Authorization").is_empty()
}

#[test]
fn refusal_without_challenge() {
    check("challenge", "fail", &["no challenge", "WWW-Authenticate"], |asked, said, _| {
        if asked.path == "/mcp" { said.with("WWW-Authenticate", "") } else { said }
    });
}

#[test]
fn challenge_for_another_scheme() {
    check("challenge", "fail", &["for Basic and not for Bearer"], |asked, said, _| {
        if is_stranger(asked) { said.with("WWW-Authenticate", "Basic realm=\"x\"") } else { said }
    });
}

#[test]
fn challenge_that_names_metadata_at_a_host_where_there_is_none() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("an address");
    let named = format!("http://{closed}{PATH_DOCUMENT}");
    let server = Scripted::start(move |asked: &Asked, said, _| {
        let challenge = format!("Bearer resource_metadata=\"{named}\"");
        if is_stranger(asked) { said.with("WWW-Authenticate", &challenge) } else { said }
    });
    check_at(&server.url(), "challenge", "warn", &[&closed.to_string(), "public URL"]);
    check_at(&server.url(), "resource-metadata", "fail", &[&closed.to_string(), "refused", "do not look elsewhere"]);
}

#[test]
fn refusal_with_403() {
    check("door", "fail", &["403", "only 401 makes a client sign in"], |asked, said, _| {
        if is_stranger(asked) { Said::json(403, &json!({})) } else { said }
    });
}

#[test]
fn redirect_to_another_place() {
    check("door", "fail", &["redirects to", "https://elsewhere.example/mcp", "drops the token"], |asked, said, _| {
        let away = Said::of(308, "text/plain", "").with("Location", "https://elsewhere.example/mcp");
        if asked.path == "/mcp" { away } else { said }
    });
}

#[test]
fn page_of_a_bot_wall_in_the_servers_place() {
    check("door", "fail", &["Cloudflare", "Bot Fight Mode"], |asked, said, _| {
        let page = "<!DOCTYPE html><title>Just a moment...</title>";
        if asked.path == "/mcp" { Said::of(403, "text/html", page) } else { said }
    });
}

#[test]
fn warning_page_of_a_tunnel() {
    check("door", "fail", &["ERR_NGROK_3200", "start ngrok"], |asked, said, _| {
        let page = Said::of(404, "text/html", "<html></html>").with("ngrok-error-code", "ERR_NGROK_3200");
        if asked.path == "/mcp" { page } else { said }
    });
}

#[test]
fn rule_against_one_clients_user_agent() {
    check("user-agents", "fail", &["Claude-User", "403"], |asked, said, _| {
        if asked.header("User-Agent") == "Claude-User" { Said::of(403, "text/plain", "no bots") } else { said }
    });
    check("user-agents", "fail", &["python-httpx"], |asked, said, _| {
        let blocked = asked.header("User-Agent").starts_with("python-httpx");
        if blocked { Said::of(403, "text/plain", "no bots") } else { said }
    });
}

#[test]
fn server_that_is_not_there_behind_its_proxy() {
    check("door", "fail", &["the proxy is up and the server behind it is not"], |asked, said, _| {
        if asked.path == "/mcp" { Said::of(502, "text/html", "<title>502 Bad Gateway</title>") } else { said }
    });
}

#[test]
fn transport_of_2024_in_place_of_streamable_http() {
    check("door", "fail", &["2024-11-05", "streamable HTTP"], |asked, said, _| match asked.method.as_str() {
        _ if asked.path != "/mcp" => said,
        "GET" => Said { goes_on: true, ..Said::of(200, "text/event-stream", "event: endpoint\ndata: /messages\n\n") },
        _ => Said::of(405, "text/plain", ""),
    });
}

#[test]
fn any_type_is_not_acceptable() {
    check("accept", "warn", &["406"], |asked, said, _| {
        if asked.header("Accept") == "*/*" { Said::of(406, "text/plain", "") } else { said }
    });
}

#[test]
fn made_up_token_is_accepted() {
    check("bad-token", "fail", &["a token that nobody has issued is accepted"], |asked, said, _| {
        if asked.header("Authorization").contains("made-this-up") { speak(asked) } else { said }
    });
}

#[test]
fn bad_token_is_a_server_error() {
    check("bad-token", "fail", &["500", "renews its token"], |asked, said, _| {
        if asked.header("Authorization").contains("made-this-up") { Said::of(500, "text/plain", "") } else { said }
    });
}

#[test]
fn resource_with_a_trailing_slash() {
    check("resource", "fail", &["a slash too much at the end", "byte for byte"], |asked, said, origin| {
        let spoiled = asked.path == PATH_DOCUMENT;
        if spoiled { said.edit(|it| it["resource"] = format!("{origin}/mcp/").into()) } else { said }
    });
}

#[test]
fn resource_without_its_path() {
    check("resource", "fail", &["the path is missing"], |asked, said, origin| {
        if asked.path == PATH_DOCUMENT { said.edit(|it| it["resource"] = origin.into()) } else { said }
    });
}

#[test]
fn resource_with_the_scheme_behind_the_proxy() {
    check("resource", "fail", &["https and not http"], |asked, said, origin| {
        let forced = origin.replace("http:", "https:");
        if asked.path == PATH_DOCUMENT { said.edit(|it| it["resource"] = format!("{forced}/mcp").into()) } else { said }
    });
}

#[test]
fn metadata_at_the_root_only() {
    check("resource-metadata", "warn", &["only the root has a document"], |asked, said, _| {
        let said = if is_stranger(asked) { said.with("WWW-Authenticate", "Bearer") } else { said };
        if asked.path == PATH_DOCUMENT { Said::of(404, "text/plain", "") } else { said }
    });
}

#[test]
fn no_resource_metadata_at_all() {
    check("resource-metadata", "fail", &["404", "where to sign in"], |asked, said, _| {
        if [PATH_DOCUMENT, ROOT_DOCUMENT].contains(&asked.path.as_str()) {
            Said::of(404, "text/plain", "")
        } else {
            said
        }
    });
}

#[test]
fn no_authorization_server_named() {
    check("resource", "fail", &["authorization_servers"], |asked, said, _| {
        if asked.path == PATH_DOCUMENT { said.edit(|it| it["authorization_servers"] = json!([])) } else { said }
    });
}

#[test]
fn authorization_server_metadata_fails() {
    check("server-metadata", "fail", &["it answers 500"], |asked, said, _| {
        if asked.path == SERVER_DOCUMENT { Said::of(500, "text/plain", "") } else { said }
    });
}

#[test]
fn issuer_with_a_trailing_slash() {
    check("issuer", "fail", &["a slash too much", "ChatGPT"], |asked, said, origin| {
        if asked.path == SERVER_DOCUMENT { said.edit(|it| it["issuer"] = format!("{origin}/").into()) } else { said }
    });
}

#[test]
fn code_without_protection() {
    check("pkce", "fail", &["code_challenge_methods_supported"], |asked, said, _| {
        let without = |it: &mut serde_json::Value| {
            it.as_object_mut().expect("an object").remove("code_challenge_methods_supported");
        };
        if asked.path == SERVER_DOCUMENT { said.edit(without) } else { said }
    });
    check("pkce", "fail", &["S256 is not offered"], |asked, said, _| {
        let plain = |it: &mut serde_json::Value| it["code_challenge_methods_supported"] = json!(["plain"]);
        if asked.path == SERVER_DOCUMENT { said.edit(plain) } else { said }
    });
}

#[test]
fn no_way_to_register() {
    check("registration", "warn", &["clients cannot register", "ChatGPT cannot connect"], |asked, said, _| {
        let closed = |it: &mut serde_json::Value| {
            it["client_id_metadata_document_supported"] = false.into();
            it.as_object_mut().expect("an object").remove("registration_endpoint");
        };
        if asked.path == SERVER_DOCUMENT { said.edit(closed) } else { said }
    });
}

#[test]
fn token_endpoint_without_tls() {
    check("endpoints", "fail", &["token_endpoint", "not https"], |asked, said, _| {
        let open = |it: &mut serde_json::Value| it["token_endpoint"] = "http://auth.example/token".into();
        if asked.path == SERVER_DOCUMENT { said.edit(open) } else { said }
    });
}

#[test]
fn redirect_uris_of_desktop_clients_are_refused() {
    check(
        "redirect-uris",
        "fail",
        &["Claude Code", "http://localhost/callback", "invalid_redirect_uri"],
        |asked, said, _| {
            let refused = asked.is("POST", "/register") && asked.body.contains("http://");
            if refused { Said::json(400, &json!({ "error": "invalid_redirect_uri" })) } else { said }
        },
    );
}

#[test]
fn pages_are_kept_out() {
    check("cors-endpoint", "warn", &["preflight gets 405", "MCP Inspector"], |asked, said, _| {
        if asked.is("OPTIONS", "/mcp") { Said::of(405, "text/plain", "") } else { said }
    });
    check("cors-endpoint", "warn", &["www-authenticate not exposed"], |asked, said, _| {
        if asked.path == "/mcp" { said.with("Access-Control-Expose-Headers", "") } else { said }
    });
    check("cors-sign-in", "warn", &["token endpoint: no Access-Control-Allow-Origin"], |asked, said, _| {
        if asked.path == "/token" { said.with("Access-Control-Allow-Origin", "") } else { said }
    });
}

#[test]
fn proxy_that_collects_streams() {
    check("streaming", "fail", &["its first message takes", "X-Accel-Buffering"], |asked, said, _| {
        let held = Duration::from_secs(6);
        if asked.body.contains("subscriptions/listen") { Said { held, ..said } } else { said }
    });
}

#[test]
fn token_without_the_scope_for_lists() {
    check("tools", "warn", &["tools/list needs `lists`"], |asked, said, _| {
        let challenge = "Bearer error=\"insufficient_scope\", scope=\"lists\"";
        let refused = asked.body.contains("tools/list");
        if refused { Said::json(403, &json!({})).with("WWW-Authenticate", challenge) } else { said }
    });
}

#[test]
fn token_is_not_accepted() {
    check("eras", "fail", &["401", "invalid_token", "has not expired"], |asked, said, origin| {
        let metadata = format!("{origin}{PATH_DOCUMENT}");
        let challenge = format!("Bearer error=\"invalid_token\", resource_metadata=\"{metadata}\", scope=\"use\"");
        let refused = asked.path == "/mcp" && !asked.header("Authorization").is_empty();
        if refused { Said::json(401, &json!({})).with("WWW-Authenticate", &challenge) } else { said }
    });
}

#[test]
fn server_that_anybody_can_use() {
    check("door", "warn", &["everybody who learns the URL can use it"], |asked, said, _| {
        if asked.path == "/mcp" && asked.method != "OPTIONS" { speak(asked) } else { said }
    });
}

#[test]
fn nothing_listens() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("an address");
    check_at(&format!("http://{closed}/mcp"), "reach", "fail", &["refused"]);
}

#[test]
fn name_that_does_not_exist() {
    check_at("https://mcp.invalid/mcp", "reach", "fail", &["does not resolve"]);
}

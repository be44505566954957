//! Other people's servers.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::Value;

use super::{doctor, ended, finding, report};
use crate::{
    driver::{Guard, node},
    interop::AuthorizationServer,
};

#[test]
fn server_of_the_official_sdk_is_open_and_picky_about_accept() {
    let mut command = node("sdk-server.mjs");
    // It ends with its input, so even a killed test leaves none behind.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = Guard::spawn(&mut command);
    let mut line = String::new();
    let stdout = child.0.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut line).expect("its stdout is readable");
    let announced: Value = serde_json::from_str(&line).expect("the server says where it is");
    let (report, code) = report(&mut doctor(announced["url"].as_str().expect("a URL")));
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(ended(&report, "warn"), ["url", "door", "accept", "cors-endpoint"], "{report:#}");
    assert!(finding(&report, "eras")["summary"].as_str().is_some_and(|text| text.starts_with("2025-11-25")));
    assert_eq!(finding(&report, "tools")["summary"], "1 tool: echo");
    assert_eq!(finding(&report, "streaming")["outcome"], "pass");
}

#[test]
fn our_bridge_with_a_real_authorization_server() {
    let server = AuthorizationServer::start();
    let bridge = server.command_line("1m").flag("--keep-alive", "1s").spawn();
    let token = server.token_for(&bridge);
    let (healthy, code) = report(doctor(bridge.url()).env("MCP_BRIDGE_TOKEN", token));
    assert_eq!(code, Some(0), "{healthy:#}");
    assert_eq!(ended(&healthy, "warn"), ["url", "cors-sign-in"], "{healthy:#}");
    for check in ["server-metadata", "issuer", "pkce", "registration", "tools", "streaming"] {
        assert_eq!(finding(&healthy, check)["outcome"], "pass", "{healthy:#}");
    }

    // It takes no private schemes from clients that do not say that they are native.
    let (registered, code) = report(doctor(bridge.url()).arg("--register"));
    assert_eq!(code, Some(1), "{registered:#}");
    assert_eq!(ended(&registered, "fail"), ["redirect-uris"], "{registered:#}");
    assert_eq!(finding(&registered, "redirect-uris")["summary"], "refused for Cursor");
}

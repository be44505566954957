//! The official conformance suite's scenarios for authorization servers.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::world::{Browser, State};
use crate::{common::bridge::Scratch, driver};

#[test]
fn the_official_suite_finds_nothing() {
    let state = State::new();
    let server = state.serve();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").port()
    };
    let callback = format!("http://127.0.0.1:{port}/callback");
    let metadata = json!({ "redirect_uris": [callback], "token_endpoint_auth_method": "none" });
    let client = server.register(&metadata).expect(201, "registered").json();
    let client = client["client_id"].as_str().expect("an id");
    let results = Scratch::new();
    let mut suite = driver::node("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    suite
        .args(["authorization", "--url", &server.issuer(), "--client-id", client, "--port", &port.to_string()])
        .arg("-o")
        .arg(results.path("results"))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut child = suite.spawn().expect("the suite starts");
    let mut said = String::new();
    let mut visited = false;
    for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
        said.push_str(&line);
        said.push('\n');
        // It wants a person with a browser to open this.
        if let Some((_, query)) = line.split_once("/authorize?").filter(|_| !visited) {
            visited = true;
            let mut browser = Browser::new(&server);
            browser.sign_in();
            let page = browser.get(&format!("/authorize?{query}")).expect(200, "the page that asks");
            let answer = browser.decide(&page, &["op:add", "op:sub", "op:mult", "op:div"], "allow");
            let location = answer.expect(303, "consent").header("Location").expect("a place").to_owned();
            let target = location.strip_prefix(&format!("http://127.0.0.1:{port}")).expect("the suite's");
            let address = format!("127.0.0.1:{port}").parse().expect("an address");
            crate::common::http::Request::get(target).send(address);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not end:\n{said}");
        thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success() && visited, "{said}");
    // All of them passed, and there were some.
    let summary = said.split("=== SUMMARY ===").nth(1).unwrap_or_else(|| panic!("no summary: {said}"));
    for scenario in ["authorization-server-metadata-endpoint", "authorization-code-grant"] {
        assert!(summary.contains(&format!("✓ {scenario}: ")), "{scenario}: {said}");
    }
    assert!(!summary.contains('✗') && summary.contains(" 0 failed"), "{said}");
}

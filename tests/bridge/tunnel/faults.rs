//! Agents that are not there, not signed in, or do not work; settings that do not fit.

use serde_json::json;

use super::{Agents, NGROK, QUICK, Scratch, State, processes, refused, wait_until};
use crate::authserver::world::check_text;

#[test]
fn an_agent_that_is_not_installed_is_named_with_where_it_comes_from() {
    let empty = Scratch::new();
    let state = State::new();
    for agent in ["cloudflared", "ngrok"] {
        let line = state.line().flag("--log-format", "text").flag("--tunnel", agent);
        let line = line.env("PATH", empty.path("").to_str().expect("UTF-8"));
        let (code, text) = refused(&line);
        assert_eq!(code, Some(2), "{text}");
        check_text(&format!("tunnel_missing_{agent}"), text.lines().last().unwrap_or_default());
        // `check-config` says the same of what `serve` would not start with.
        let check = crate::common::bridge::CommandLine::new("check-config")
            .flag("--tunnel", agent)
            .flag("--state-dir", state.folder().to_str().expect("UTF-8"))
            .env("PATH", empty.path("").to_str().expect("UTF-8"));
        let output = check.run();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().last(), text.lines().last());
    }
}

/// The agent's own words say best what is wrong; what they quote of a token is hidden.
#[test]
fn an_agent_that_is_not_signed_in_is_quoted_without_its_token() {
    let canary = "2canaryOfAnAuthtoken_7Xy";
    for code in ["ERR_NGROK_4018", "ERR_NGROK_105"] {
        let agents = Agents::new(&json!([{ "url": NGROK, "refuse": code }]));
        let state = State::new();
        let line = agents.line(&state, "ngrok").env("NGROK_AUTHTOKEN", canary);
        for line in [line.clone(), line.flag("--log-format", "text").flag("--log-level", "error")] {
            let (status, text) = refused(&line);
            assert_eq!(status, Some(1), "{text}");
            assert!(text.contains(code) && !text.contains(canary), "{text}");
            let end = text.split("mcp-bridge: the tunnel").nth(1).unwrap_or_else(|| panic!("no error in {text}"));
            check_text(
                &format!("tunnel_{}", code.to_ascii_lowercase()),
                &format!("mcp-bridge: the tunnel{}", end.trim_end()),
            );
        }
        // One from the agent's own file is not known to us, and is hidden all the same.
        let (_, text) = refused(&agents.line(&state, "ngrok"));
        assert!(text.contains(code) && !text.contains("1aKnownToNobody"), "{text}");
        wait_until("no agent is left", || processes(&agents) == 0);
    }
}

#[test]
fn a_tunnel_of_ones_own_without_its_token_says_what_to_set() {
    let agents = Agents::new(&json!([{ "url": QUICK }]));
    let state = State::new();
    let line = agents.line(&state, "cloudflared").flag("--public-url", "https://mcp.example.com");
    let (status, text) = refused(&line.flag("--log-format", "text").flag("--log-level", "error"));
    assert_eq!(status, Some(1), "{text}");
    check_text("tunnel_cloudflared_token", text.trim_end());
}

#[test]
fn an_agent_without_a_network_is_quoted() {
    let agents = Agents::new(&json!([{ "url": QUICK, "refuse": "network" }]));
    let state = State::new();
    let (status, text) = refused(&agents.line(&state, "cloudflared"));
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("exited with code 1 before it had a tunnel\nits last words:"), "{text}");
    assert!(text.contains("lookup api.trycloudflare.com: no such host"), "{text}");
}

#[test]
fn an_agent_that_never_has_a_tunnel_is_waited_for_so_long_and_no_longer() {
    for (agent, url) in [("cloudflared", QUICK), ("ngrok", NGROK)] {
        let agents = Agents::new(&json!([{ "url": url, "silent": true }]));
        let state = State::new();
        let line = agents.line(&state, agent).flag("--tunnel-timeout", "2s");
        let (status, text) = refused(&line);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains(&format!("the tunnel agent `{agent}` has no tunnel after 2s")), "{text}");
        assert!(!text.contains("\"listening\""), "{text}");
        wait_until("the agent is gone", || processes(&agents) == 0);
    }
}

/// Whoever does not own the name must not end up with another one.
#[test]
fn a_tunnel_with_another_url_than_the_given_one_is_refused() {
    let agents = Agents::new(&json!([{ "url": NGROK }]));
    let state = State::new();
    let (status, text) = refused(&agents.line(&state, "ngrok").flag("--public-url", "https://mine.ngrok.app"));
    assert_eq!(status, Some(1), "{text}");
    assert!(
        text.contains(&format!("the tunnel has the URL {NGROK}, and public_url is https://mine.ngrok.app")),
        "{text}"
    );
}

#[test]
fn what_is_no_url_for_clients_is_refused() {
    for url in ["https://127.0.0.1", "https://user@first.ngrok-free.app", "https://first.ngrok-free.app/path"] {
        let agents = Agents::new(&json!([{ "url": url }]));
        let state = State::new();
        let (status, text) = refused(&agents.line(&state, "ngrok"));
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains(&format!("says that its tunnel is `{url}`, which is no https URL of a host")), "{text}");
    }
}

/// Without authorization nothing may be on the internet.
#[test]
fn a_tunnel_without_authorization_is_refused() {
    let agents = Agents::new(&json!([{ "url": NGROK }]));
    let state = State::new();
    for command in ["serve", "check-config"] {
        let line = crate::common::bridge::CommandLine::new(command)
            .flag("--tunnel", "ngrok")
            .flag("--auth", "none")
            .flag("--state-dir", state.folder().to_str().expect("UTF-8"))
            .env("PATH", agents.path());
        let (status, text) = refused(&line);
        assert_eq!(status, Some(2), "{text}");
        check_text("tunnel_without_authorization", text.trim_end());
        assert_eq!(agents.runs().len(), 0, "nothing was started");
    }
}

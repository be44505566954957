//! `health`: what a container's health check is told.

use std::net::TcpListener;

use crate::{
    common::{
        authorization_server::{AuthorizationServer, Fault},
        bridge::{Bridge, CommandLine, Scratch},
        world::World,
    },
    tls::Identity,
};

fn health(bridge: &Bridge) -> CommandLine {
    CommandLine::new("health").flag("--listen", bridge.address().to_string())
}

/// Code 0, and the word for it on stdout.
#[track_caller]
fn check_yes(line: &CommandLine, word: &str) {
    let output = line.run();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{:?}: {stderr}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{word}\n"));
}

/// Code 1, nothing on stdout, and one line on stderr that has each of these words.
#[track_caller]
fn check_no(line: &CommandLine, words: &[&str]) {
    let output = line.run();
    let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty(), "{:?}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
    }
}

#[test]
fn it_follows_the_bridge() {
    let world = World::start();
    let (ready, live) = (health(&world.bridge), health(&world.bridge).switch("--live"));
    check_yes(&ready, "ready");
    check_yes(&live, "alive");

    let server = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&server);
    server.fail(Fault::Status(500));
    let unready = line.spawn();
    check_no(&health(&unready), &["mcp-bridge: not ready: ", "authorization server"]);
    check_yes(&health(&unready).switch("--live"), "alive");

    drop(world.bridge);
    check_no(&ready, &["no answer from http://127.0.0.1:", "/readyz: ", "refused", "is `serve` running"]);
    check_no(&live, &["no answer from http://127.0.0.1:", "/healthz: ", "refused"]);
}

#[test]
fn it_finds_the_bridge_by_the_same_settings() {
    let world = World::start();
    let address = world.bridge.address();
    check_yes(&CommandLine::new("health").env("MCP_BRIDGE_LISTEN", address.to_string()), "ready");
    // What listens everywhere listens here, too; what `serve` alone needs may be missing.
    let everywhere = format!("listen = \"0.0.0.0:{}\"\nissuer = \"https://auth.example\"\n", address.port());
    let file = Scratch::new();
    check_yes(&CommandLine::new("health").flag("--config", file.file("bridge.toml", everywhere)), "ready");
    // A proxy would be asked in vain.
    check_yes(&health(&world.bridge).env("HTTP_PROXY", "http://127.0.0.1:1"), "ready");

    check_no(&CommandLine::new("health").flag("--listen", "127.0.0.1:0"), &["--listen: port 0", "choose a port"]);
    check_no(&CommandLine::new("health").env("MCP_BRIDGE_LISTEN", "8808"), &["MCP_BRIDGE_LISTEN: `8808` is not"]);
    check_no(&CommandLine::new("health").flag("--config", "/nonexistent"), &["--config: cannot read `/nonexistent`"]);
}

#[test]
fn it_asks_over_tls_where_the_bridge_has_it() {
    let identity = Identity::new();
    let server = AuthorizationServer::start();
    let with_tls =
        |line: CommandLine| line.flag("--tls-cert", &identity.cert_file).flag("--tls-key", &identity.key_file);
    let bridge = with_tls(CommandLine::serve().introspection(&server)).spawn();
    check_yes(&with_tls(health(&bridge)), "ready");
    check_no(&health(&bridge), &["no answer from http://"]);
}

/// Somebody else's yes is no yes of ours.
#[test]
fn another_program_is_not_taken_for_the_bridge() {
    let other = AuthorizationServer::start();
    let address = other.origin().trim_start_matches("http://");
    for line in [CommandLine::new("health"), CommandLine::new("health").switch("--live")] {
        check_no(&line.flag("--listen", address), &["answers 404", "does another one listen there?"]);
    }
}

#[test]
fn a_listener_that_does_not_answer_is_not_waited_for_forever() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound").to_string();
    check_no(&CommandLine::new("health").flag("--listen", address), &["none within 6 s"]);
}

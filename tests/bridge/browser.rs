//! A real browser: what web pages can do with the bridge, and what they cannot.

use serde_json::Value;

use crate::{
    common::{bridge::field, world::World},
    driver::{named, node, transcript},
};

/// Visits the bridge with a page of `host` that has a good token; what came of each step.
fn visit(world: &World, host: &str) -> Vec<Value> {
    transcript(node("browser-cors.mjs").args([host, world.bridge.url()]).env("MCP_TOKEN", world.good()))
}

/// The one step named `name`.
fn step<'s>(steps: &'s [Value], name: &'s str) -> &'s Value {
    let mut found = named(steps, name);
    let step = found.next().unwrap_or_else(|| panic!("no {name} in {steps:?}"));
    assert!(found.next().is_none(), "{name} twice: {steps:?}");
    step
}

fn check_status(steps: &[Value], name: &str, status: u16) {
    assert_eq!(step(steps, name)["status"], status, "{name}: {steps:?}");
}

/// How many requests the bridge refused with `status`.
fn refusals(world: &World, status: u16) -> usize {
    let refused = |event: &Value| field(event, "status").is_some_and(|logged| *logged == status);
    world.bridge.events().iter().filter(|event| refused(event)).count()
}

#[test]
fn page_on_this_machine_signs_in_and_calculates() {
    let world = World::start();
    let steps = visit(&world, "localhost");

    check_status(&steps, "without token", 401);
    let challenge = step(&steps, "without token")["headers"]["www-authenticate"].as_str();
    assert!(challenge.is_some_and(|challenge| challenge.contains(&world.metadata_url())), "{challenge:?}");
    check_status(&steps, "metadata", 200);
    let metadata = step(&steps, "metadata")["body"].as_str().expect("the page reads it");
    let metadata: Value = serde_json::from_str(metadata).expect("JSON");
    assert_eq!(metadata["resource"], world.bridge.resource());

    check_status(&steps, "modern call", 200);
    check_status(&steps, "initialize", 200);
    let session = &step(&steps, "initialize")["headers"]["mcp-session-id"];
    assert!(session.is_string(), "the page cannot read its session: {steps:?}");
    check_status(&steps, "legacy call", 200);
    for call in ["modern call", "legacy call"] {
        let body = step(&steps, call)["body"].as_str().expect("the page reads it");
        assert!(body.contains(r#""text":"9""#), "{call}: {body}");
    }
    check_status(&steps, "end of session", 204);
}

#[test]
fn page_from_elsewhere_gets_nothing_even_with_a_token() {
    let world = World::start();
    let steps = world.without_run("a foreign page", || visit(&world, "evil.test"));
    let asking_first = ["without token", "modern call", "initialize", "legacy call", "end of session"];
    for name in asking_first {
        assert_eq!(step(&steps, name)["blocked"], "TypeError", "{name}: {steps:?}");
    }
    assert_eq!(named(&steps, "metadata").count(), 0, "it saw a challenge: {steps:?}");
    // The browser lets the page send this one and hides the answer.
    check_status(&steps, "simple request", 0);
    assert_eq!(step(&steps, "simple request")["body"], "");
    let refused = refusals(&world, 403);
    assert_eq!(refused, asking_first.len() + 1, "every preflight and this one:\n{}", world.bridge.log_text());
    // DNS rebinding.
    check_status(&steps, "name bound to the bridge", 421);
}

//! The client scenarios of the official conformance suite: a stdio client that does what each asks,
//! `mcp-bridge connect` behind it, and the suite as the remote server, and the authorization server,
//! that watch.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    common::bridge::Scratch,
    driver::{file, finish, node, node_itself},
};

const SUITE: &str = "node_modules/@modelcontextprotocol/conformance/dist/index.js";

/// Checks that the suite adds to each scenario: they alone do not make a scenario worth anything.
const WIRE_SCHEMA: [&str; 2] = ["wire-schema-valid", "wire-schema-harness-error"];

#[test]
fn clients_of_2025_03_26() {
    run("2025-03-26");
}

#[test]
fn clients_of_2025_06_18() {
    run("2025-06-18");
}

#[test]
fn clients_of_2025_11_25() {
    run("2025-11-25");
}

#[test]
fn clients_of_2026_07_28() {
    run("2026-07-28");
}

/// Runs every scenario of `revision` that is not excused, one after the other: one of them looks at
/// the clock.
fn run(revision: &str) {
    let excused = excused();
    let scenarios: Vec<String> = scenarios(revision).into_iter().filter(|name| !excused.contains_key(name)).collect();
    assert!(!scenarios.is_empty(), "{revision}: {scenarios:?}");
    for scenario in scenarios {
        let results = Scratch::new();
        let output = results.path("results");
        let client = format!("{} {}", node_itself().display(), file("connect-client.mjs").display());
        let mut suite = node(SUITE);
        suite.args(["client", "--scenario", &scenario, "--spec-version", revision, "--command", &client]);
        suite.arg("--output-dir").arg(&output);
        suite.env("MCP_BRIDGE", env!("CARGO_BIN_EXE_mcp-bridge")).env("PATH", "/usr/bin:/bin");
        let run = finish(&mut suite);
        let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{revision} {scenario}:\n{said}");
        let checks = checks(&output);
        let bad: Vec<&Value> =
            checks.iter().filter(|check| check["status"] == "FAILURE" || check["status"] == "WARNING").collect();
        assert!(bad.is_empty(), "{revision} {scenario}: {bad:?}");
        let decided = |check: &Value| {
            check["status"] == "SUCCESS" && !WIRE_SCHEMA.contains(&check["id"].as_str().unwrap_or_default())
        };
        assert!(checks.iter().any(decided), "{revision} {scenario} decided nothing: {checks:?}");
    }
}

/// Every scenario that belongs to `revision`.
fn scenarios(revision: &str) -> Vec<String> {
    let listed = finish(node(SUITE).args(["list", "--client"]));
    let listed = String::from_utf8(listed.stdout).expect("the list is UTF-8");
    let of_revision = |line: &str| {
        let (name, revisions) = line.trim().strip_prefix("- ")?.split_once(" [")?;
        revisions.trim_end_matches(']').split(',').any(|known| known == revision).then(|| name.to_owned())
    };
    listed.lines().filter_map(of_revision).collect()
}

/// What is excused, and why.
fn excused() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file("connect-conformance.yaml")).expect("the list is readable");
    let entry = |line: &str| {
        let (name, reason) = line.strip_prefix("  - ")?.split_once(" # ")?;
        Some((name.to_owned(), reason.to_owned()))
    };
    let all: BTreeMap<_, _> = text.lines().filter_map(entry).collect();
    assert_eq!(all.len(), text.lines().filter(|line| line.starts_with("  - ")).count(), "one has no reason");
    let known = finish(node(SUITE).args(["list", "--client"])).stdout;
    let known = String::from_utf8(known).expect("the list is UTF-8");
    for name in all.keys() {
        assert!(known.contains(&format!("- {name} [")), "{name} is excused and the suite does not have it");
    }
    all
}

/// The checks of the one scenario that was run.
fn checks(results: &std::path::Path) -> Vec<Value> {
    let mut folders = std::fs::read_dir(results).expect("the suite writes results");
    // A scenario with a slash in its name has a folder in a folder.
    let mut path = folders.next().expect("one scenario").expect("a readable folder").path();
    while !path.join("checks.json").is_file() {
        let mut inner = std::fs::read_dir(&path).expect("a folder");
        path = inner.next().expect("something in it").expect("a readable folder").path();
    }
    let text = std::fs::read_to_string(path.join("checks.json")).expect("every scenario has checks");
    serde_json::from_str(&text).expect("checks are JSON")
}

//! The official conformance suite against the bridge, in both eras.
//!
//! Every server scenario of a revision is run. Those that need tools, prompts or resources which a
//! calculator does not have are listed in `tests/interop/conformance-REVISION.yaml` with the reason;
//! the suite itself fails when one of them passes or anything else fails. What it would let through
//! is judged here: a scenario that checked nothing, one that is new, an entry that no longer matches.
//! Scenarios of optional extensions (`tasks-…`) are on no revision's timeline and are not run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::{
    common::bridge::{CommandLine, Scratch},
    driver::{file, finish, node},
};

/// Checks that the suite adds to each scenario: they alone do not make a scenario worth anything.
const WIRE_SCHEMA: [&str; 2] = ["wire-schema-valid", "wire-schema-harness-error"];

/// Scenarios that give up without a verdict, and why. Not even the suite calls them passed, so they
/// cannot be excused as failed.
const UNDECIDED: [(&str, &str); 1] =
    [("server-sse-polling", "calls the tool test_reconnection, and is content with a JSON answer")];

#[test]
fn revision_2025_11_25() {
    let passed = [
        "dns-rebinding-protection",
        "ping",
        "server-initialize",
        "server-session-lifecycle",
        "server-sse-multiple-streams",
        "tools-list",
    ];
    check("2025-11-25", &passed);
}

#[test]
fn revision_2026_07_28() {
    let passed = [
        "caching",
        "dns-rebinding-protection",
        "http-header-validation",
        "input-required-result-unsupported-methods",
        // Content with the refusal of its tool, test_input_required_result_elicitation.
        "input-required-result-validate-input",
        // Two of its four checks; the others are excused.
        "sep-2164-resource-not-found",
        "server-sse-multiple-streams",
        "server-stateless",
        "tools-list",
    ];
    check("2026-07-28", &passed);
}

/// Runs the suite at `revision`; the scenarios that are not excused must be exactly `passed`.
fn check(revision: &str, passed: &[&str]) {
    let results = Scratch::new();
    let output = results.path("results");
    let baseline = file(&format!("conformance-{revision}.yaml"));
    let bridge = CommandLine::serve().flag("--auth", "none").spawn();
    let mut suite = node("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    suite.args(["server", "--suite", "all", "--url", bridge.url(), "--spec-version", revision, "--output-dir"]);
    suite.arg(&output).arg("--expected-failures").arg(&baseline);
    let run = finish(&mut suite);
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(output.is_dir(), "the suite did not run: {said}\n{}", String::from_utf8_lossy(&run.stderr));
    let scenarios = scenarios(&output);
    let excused = Excused::read(&baseline);
    assert!(run.status.success(), "{said}\n{}", failures(&scenarios, &excused));

    let mut judged = BTreeSet::new();
    for (name, checks) in &scenarios {
        // Also where the scenario itself is excused: whatever we say must fit the schema.
        assert!(!checks.get("wire-schema-valid").is_some_and(Check::failed), "{name}: {checks:?}");
        let decided = checks.iter().any(|(id, check)| check.status == "SUCCESS" && !WIRE_SCHEMA.contains(&id.as_str()));
        let undecided = UNDECIDED.iter().any(|(scenario, _)| scenario == name);
        if !excused.scenarios.contains(name) {
            assert_ne!(decided, undecided, "{name} decided something, or is UNDECIDED: {checks:?}");
            judged.insert(name.as_str());
        }
    }
    let undecided =
        UNDECIDED.iter().map(|(scenario, _)| *scenario).filter(|scenario| scenarios.contains_key(*scenario));
    let expected: BTreeSet<&str> = passed.iter().copied().chain(undecided).collect();
    assert_eq!(judged, expected, "scenarios that are not excused");
    for scenario in &excused.scenarios {
        assert!(scenarios.contains_key(scenario), "{scenario} is excused and the suite does not have it");
    }
    for (scenario, id) in &excused.checks {
        let failed = scenarios.get(scenario).and_then(|checks| checks.get(id)).is_some_and(Check::failed);
        assert!(failed, "{scenario}:{id} is excused and does not fail");
    }
}

/// One check of one scenario; of several with one id, the worst.
#[derive(Debug)]
struct Check {
    status: String,
    message: String,
}

impl Check {
    /// Whether the suite counts it as failed.
    fn failed(&self) -> bool {
        ["FAILURE", "WARNING"].contains(&self.status.as_str())
    }
}

/// What the suite wrote: scenario, check's id, check.
fn scenarios(results: &Path) -> BTreeMap<String, BTreeMap<String, Check>> {
    let mut scenarios = BTreeMap::new();
    for entry in std::fs::read_dir(results).expect("the suite writes results") {
        let path = entry.expect("a readable directory").path();
        // server-NAME-2026-01-31T12-00-00-000Z
        let folder = path.file_name().and_then(|name| name.to_str()).expect("the suite's names are ASCII");
        let name = folder.strip_prefix("server-").expect("a server scenario");
        let name = &name[..name.len() - "-2026-01-31T12-00-00-000Z".len()];
        let text = std::fs::read_to_string(path.join("checks.json")).expect("every scenario has checks");
        let listed: Vec<Value> = serde_json::from_str(&text).expect("checks are JSON");
        let mut checks: BTreeMap<String, Check> = BTreeMap::new();
        for value in listed {
            let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
            let check = Check { status: text("status"), message: text("errorMessage") };
            let known = checks.get(&text("id"));
            if known.is_none_or(|known| !known.failed()) {
                checks.insert(text("id"), check);
            }
        }
        scenarios.insert(name.to_owned(), checks);
    }
    scenarios
}

/// Every failed check that is not excused, in one line each, for whoever reads a failed test.
fn failures(scenarios: &BTreeMap<String, BTreeMap<String, Check>>, excused: &Excused) -> String {
    let mut lines = String::new();
    for (scenario, checks) in scenarios {
        for (id, check) in checks.iter().filter(|(_, check)| check.failed()) {
            let named =
                excused.scenarios.contains(scenario) || excused.checks.contains(&(scenario.clone(), id.clone()));
            if !named {
                lines += &format!("{scenario}:{id}: {} {}\n", check.status, check.message);
            }
        }
    }
    lines
}

/// What the baseline excuses.
struct Excused {
    scenarios: BTreeSet<String>,
    checks: BTreeSet<(String, String)>,
}

impl Excused {
    /// Reads lines of the form `  - scenario # reason` and `  - scenario:check # reason`.
    fn read(baseline: &Path) -> Self {
        let text = std::fs::read_to_string(baseline).expect("the baseline is readable");
        let mut excused = Self { scenarios: BTreeSet::new(), checks: BTreeSet::new() };
        for entry in text.lines().filter_map(|line| line.strip_prefix("  - ")) {
            let (name, reason) = entry.split_once(" # ").unwrap_or((entry, ""));
            assert!(!reason.trim().is_empty(), "{name} is excused without a reason");
            match name.split_once(':') {
                Some((scenario, id)) => excused.checks.insert((scenario.to_owned(), id.to_owned())),
                None => excused.scenarios.insert(name.to_owned()),
            };
        }
        excused
    }
}

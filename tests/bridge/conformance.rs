//! The official conformance suite against the bridge, in both eras: in front of the calculator, and
//! of a stdio server of either era that has everything the suite looks for.
//!
//! Every server scenario of a revision is run. What cannot pass is listed in a file of
//! `tests/interop` with the reason: with the calculator, all that needs other tools, prompts or
//! resources; with the stdio server, what its era or its isolation cannot do. The suite itself fails
//! when one of these passes or anything else fails. What it would let through is judged here: a
//! scenario that checked nothing, one that is new, an entry that no longer matches. Scenarios of
//! optional extensions (`tasks-…`) are on no revision's timeline and are not run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use crate::{
    common::bridge::{Bridge, CommandLine, Scratch},
    driver::{file, finish, node},
    everything::example,
};

/// Checks that the suite adds to each scenario: they alone do not make a scenario worth anything.
const WIRE_SCHEMA: [&str; 2] = ["wire-schema-valid", "wire-schema-harness-error"];

/// Scenarios that give up without a verdict, and why. Not even the suite calls them passed, so they
/// cannot be excused as failed.
const UNDECIDED: [(&str, &str); 1] =
    [("server-sse-polling", "calls the tool test_reconnection, and is content with a JSON answer")];

#[test]
fn calculator_with_legacy_clients() {
    let passed = [
        "dns-rebinding-protection",
        "ping",
        "server-initialize",
        "server-session-lifecycle",
        "server-sse-multiple-streams",
        "tools-list",
    ];
    calculator("2025-11-25", &passed);
}

#[test]
fn calculator_with_modern_clients() {
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
    calculator("2026-07-28", &passed);
}

/// With the calculator, the scenarios that are not excused must be exactly `passed`.
fn calculator(revision: &str, passed: &[&str]) {
    let bridge = CommandLine::serve().flag("--auth", "none").spawn();
    let run = run(&bridge, revision, Some(&format!("conformance-{revision}.yaml")));
    let undecided = UNDECIDED.iter().map(|(scenario, _)| *scenario).filter(|name| run.scenarios.contains_key(*name));
    let expected: BTreeSet<&str> = passed.iter().copied().chain(undecided).collect();
    assert_eq!(run.judged, expected.into_iter().map(str::to_owned).collect(), "scenarios that are not excused");
}

// Isolation, passed checks, and what is excused. README.md has the same numbers.

#[test]
fn legacy_clients_and_a_legacy_server() {
    let shared = Some("conformance-2025-11-25-legacy-shared.yaml");
    everything("legacy", "2025-11-25", [("request", 80, None), ("session", 80, None), ("shared", 67, shared)]);
}

#[test]
fn modern_clients_and_a_modern_server() {
    let request = Some("conformance-2026-07-28-modern-request.yaml");
    everything("modern", "2026-07-28", [("request", 150, request), ("session", 152, None), ("shared", 152, None)]);
}

#[test]
fn legacy_clients_and_a_modern_server() {
    let shared = Some("conformance-2025-11-25-modern-shared.yaml");
    everything("modern", "2025-11-25", [("request", 80, None), ("session", 80, None), ("shared", 79, shared)]);
}

#[test]
fn modern_clients_and_a_legacy_server() {
    let request = Some("conformance-2026-07-28-legacy-request.yaml");
    let session = Some("conformance-2026-07-28-legacy.yaml");
    let shared = Some("conformance-2026-07-28-legacy-shared.yaml");
    everything("legacy", "2026-07-28", [("request", 145, request), ("session", 147, session), ("shared", 129, shared)]);
}

/// With the server that has everything, every scenario is run, and as many checks pass as said.
fn everything(era: &str, revision: &str, cases: [(&str, usize, Option<&str>); 3]) {
    let scenarios = if revision == "2025-11-25" { 33 } else { 40 };
    let files = Scratch::new();
    // The suite has no token, and nobody without one has a scope.
    let policy = files.file("bridge.toml", "[policy]\ndefault_scopes = []\n");
    let program = example("everything");
    let command = [program.to_str().expect("a path of ours"), "--era", era];
    for (isolation, passed, baseline) in cases {
        let line = CommandLine::serve().flag("--auth", "none").flag("--config", &policy);
        let bridge = line.flag("--isolation", isolation).command_to_serve(&command).spawn();
        let run = run(&bridge, revision, baseline);
        let what = format!("{revision} clients, {era} server, isolation {isolation}");
        assert_eq!((run.scenarios.len(), run.passed), (scenarios, passed), "scenarios and passed checks: {what}");
    }
}

/// One run of the suite that has gone as it should.
struct Run {
    scenarios: BTreeMap<String, BTreeMap<String, Check>>,
    /// Scenarios that are not excused.
    judged: BTreeSet<String>,
    /// How many checks passed, as the suite counts them.
    passed: usize,
}

/// Runs the suite at `revision`; `baseline` names what is excused.
fn run(bridge: &Bridge, revision: &str, baseline: Option<&str>) -> Run {
    let results = Scratch::new();
    let output = results.path("results");
    let baseline = baseline.map(file);
    let mut suite = node("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    suite.args(["server", "--suite", "all", "--url", bridge.url(), "--spec-version", revision, "--output-dir"]);
    suite.arg(&output);
    if let Some(baseline) = &baseline {
        suite.arg("--expected-failures").arg(baseline);
    }
    let run = finish(&mut suite);
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(output.is_dir(), "the suite did not run: {said}\n{}", String::from_utf8_lossy(&run.stderr));
    let (scenarios, passed) = scenarios(&output);
    let excused = baseline.map(|baseline| Excused::read(&baseline)).unwrap_or_default();
    // The rest of what it says repeats what is excused.
    let verdict = ["Stale baseline", "Unexpected failures"].iter().find_map(|part| said.find(part)).unwrap_or_default();
    let failures = failures(&scenarios, &excused);
    assert!(run.status.success() && failures.is_empty(), "{}\n{failures}", &said[verdict..]);

    let mut judged = BTreeSet::new();
    for (name, checks) in &scenarios {
        // Also where the scenario itself is excused: whatever we say must fit the schema.
        assert!(!checks.get("wire-schema-valid").is_some_and(Check::failed), "{name}: {checks:?}");
        let decided = checks.iter().any(|(id, check)| check.status == "SUCCESS" && !WIRE_SCHEMA.contains(&id.as_str()));
        let undecided = UNDECIDED.iter().any(|(scenario, _)| scenario == name);
        let gave_up = !decided && checks.keys().any(|id| excused.checks.contains(&(name.clone(), id.clone())));
        if !excused.scenarios.contains(name) && !gave_up {
            assert_ne!(decided, undecided, "{name} decided something, or is UNDECIDED: {checks:?}");
            judged.insert(name.clone());
        }
    }
    for scenario in &excused.scenarios {
        assert!(scenarios.contains_key(scenario), "{scenario} is excused and the suite does not have it");
    }
    for (scenario, id) in &excused.checks {
        let failed = scenarios.get(scenario).and_then(|checks| checks.get(id)).is_some_and(Check::failed);
        assert!(failed, "{scenario}:{id} is excused and does not fail");
    }
    Run { scenarios, judged, passed }
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

/// What the suite wrote: scenario, check's id, check; and how many checks passed.
fn scenarios(results: &Path) -> (BTreeMap<String, BTreeMap<String, Check>>, usize) {
    let mut scenarios = BTreeMap::new();
    let mut passed = 0;
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
            passed += usize::from(check.status == "SUCCESS");
            let known = checks.get(&text("id"));
            if known.is_none_or(|known| !known.failed()) {
                checks.insert(text("id"), check);
            }
        }
        scenarios.insert(name.to_owned(), checks);
    }
    (scenarios, passed)
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
#[derive(Default)]
struct Excused {
    scenarios: BTreeSet<String>,
    checks: BTreeSet<(String, String)>,
}

impl Excused {
    /// Reads lines of the form `  - scenario # reason` and `  - scenario:check # reason`.
    fn read(baseline: &Path) -> Self {
        let text = std::fs::read_to_string(baseline).expect("the baseline is readable");
        let mut excused = Self::default();
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

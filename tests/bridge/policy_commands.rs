//! `policy init` and `policy check`: what they print, and that they agree with `serve`'s settings.

use serde_json::{Value, json};

use crate::{
    common::bridge::{CommandLine, Scratch},
    everything::example,
};

fn init() -> CommandLine {
    CommandLine::new("policy").switch("init")
}

fn check() -> CommandLine {
    CommandLine::new("policy").switch("check")
}

fn program(name: &str) -> String {
    example(name).to_str().expect("the path is UTF-8").to_owned()
}

/// Runs it to its end; gives stdout and stderr.
fn run(line: &CommandLine, code: i32) -> (String, String) {
    let output = line.run();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("messages are UTF-8");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(code), "{line:?}\n{stdout}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}

/// What `policy check` says about the one server that there is.
fn checked(line: &CommandLine) -> Value {
    let (stdout, _) = run(&line.clone().switch("--json"), 0);
    let mut all: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
    let servers = all["servers"].as_array_mut().expect("servers");
    assert_eq!(servers.len(), 1);
    servers.remove(0)
}

/// Every verdict about what is offered.
fn verdicts(server: &Value) -> Vec<&Value> {
    let list = |key: &str| server[key].as_array().expect("a list").iter();
    let calls = list("tools").flat_map(|tool| tool["calls"].as_array().expect("calls").iter());
    calls.chain(list("prompts")).chain(list("resources")).chain(list("templates")).collect()
}

fn count(server: &Value, key: &str) -> usize {
    server[key].as_array().map_or(0, Vec::len)
}

#[test]
fn a_draft_can_be_served_and_has_a_scope_for_everything() {
    for era in ["legacy", "modern", "both"] {
        let scratch = Scratch::new();
        let everything = program("everything");
        let (draft, stderr) = run(&init().command_to_serve(&[&everything, "--era", era]), 0);
        assert_eq!(stderr, "mcp-bridge: asking `everything` what it offers …\n", "{era}");
        let file = scratch.file("bridge.toml", &draft);
        run(&CommandLine::new("check-config").flag("--auth", "none").flag("--config", &file), 0);

        let line = check().flag("--config", &file);
        let needs = checked(&line);
        assert_eq!(needs["warnings"], json!([]), "{era}");
        assert_eq!((count(&needs, "resources"), count(&needs, "templates")), (3, 1), "{era}");
        let prompts = 5;
        assert_eq!(count(&needs, "prompts"), prompts, "{era}");
        assert_eq!(count(&needs, "rules"), count(&needs, "tools") + prompts + 1, "{era}");
        let mut scopes = Vec::new();
        for verdict in verdicts(&needs) {
            let needed = verdict["needed"].as_array().expect("a rule for everything");
            assert_eq!((needed.len(), &verdict["allowed"]), (1, &json!(false)), "{era}: {verdict}");
            scopes.push(needed[0].as_str().expect("a scope"));
        }
        assert!(scopes.contains(&"tool:echo_raw") && scopes.contains(&"prompt:test_simple_prompt"), "{scopes:?}");

        let all = checked(&line.clone().flag("--scopes", scopes.join(" ")));
        assert!(verdicts(&all).iter().all(|verdict| verdict["allowed"] == true), "{era}: {all}");
        let one = checked(&line.clone().flag("--scopes", "tool:echo_raw"));
        let allowed: Vec<&Value> = verdicts(&one).into_iter().filter(|verdict| verdict["allowed"] == true).collect();
        assert_eq!(allowed.len(), 1, "{era}: {allowed:?}");
        let (table, _) = run(&line.flag("--scopes", "tool:echo_raw"), 0);
        assert!(table.lines().any(|line| line.starts_with("tool echo_raw ") && line.ends_with(" allowed")), "{table}");
        assert!(
            table.lines().any(|line| line.starts_with("tool die ") && line.ends_with(" needs tool:die")),
            "{table}"
        );
    }
}

#[test]
fn a_file_that_is_there_is_not_overwritten_and_nothing_is_started_for_it() {
    let scratch = Scratch::new();
    let path = scratch.path("new.toml");
    let path = path.to_str().expect("temporary paths are UTF-8");
    let everything = program("everything");
    let line = init().flag("--output", path).command_to_serve(&[&everything, "--era", "both"]);
    let (stdout, _) = run(&line, 0);
    assert_eq!(stdout, "");
    let written = std::fs::read_to_string(path).expect("it was written");
    assert!(written.contains("tool:echo_raw"), "{written}");

    let there = scratch.file("there.toml", "precious = true\n");
    let (stdout, stderr) = run(&line.flag("--output", &there), 2);
    assert_eq!(stdout, "");
    assert!(stderr.contains("there.toml` is there already"), "{stderr}");
    assert!(!stderr.contains("asking"), "{stderr}");
    assert_eq!(std::fs::read_to_string(there).expect("it is still there"), "precious = true\n");
}

#[test]
fn values_of_variables_reach_the_command_and_not_the_file() {
    let everything = program("everything");
    let line = init().flag("--env", "API_KEY=canary").flag("--env", "OTHER").env("OTHER", "canary");
    let line = line.flag("--env", "UNSET");
    let (draft, stderr) = run(&line.command_to_serve(&[&everything, "--era", "legacy"]), 0);
    assert!(stderr.contains("UNSET is not set here"), "{stderr}");
    assert!(draft.contains("env = [\"API_KEY\", \"OTHER\", \"UNSET\"]\n"), "{draft}");
    assert!(!draft.contains("canary") && !stderr.contains("canary"), "{draft}\n{stderr}");
}

#[test]
fn what_cannot_be_asked_is_said_why() {
    let faulty = program("faulty");
    for (command, words) in [
        (vec!["/no/such/program"], "there is no file `/no/such/program`"),
        (vec![&faulty, "exit"], "cannot start `faulty`: exited with code 3"),
        (vec![&faulty, "garbage"], "no JSON-RPC messages"),
        (vec![&faulty, "silent"], "--start-timeout"),
    ] {
        for line in [init(), check()] {
            let line = line.flag("--start-timeout", "1s").flag("--log-level", "error").command_to_serve(&command);
            let (stdout, stderr) = run(&line, 1);
            assert_eq!(stdout, "", "{command:?}");
            assert!(stderr.contains(words), "{command:?}: {stderr}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_command_that_does_not_want_to_end_is_ended() {
    // What another server's settings say does not matter.
    let line = init()
        .env("MCP_BRIDGE_CONFIG", "/no/such/file")
        .flag("--stop-grace", "50ms")
        .command_to_serve(&[&program("faulty"), "ignore-term"]);
    let (draft, _) = run(&line, 0);
    assert!(draft.contains("stop_grace = \"50ms\"\n") && draft.contains("scopes = [\"tool:ok\"]\n"), "{draft}");
}

/// A server that answers `discover`, `initialize`, and `page` for each page of tools, with `$n` for
/// the id.
#[cfg(unix)]
fn script(discover: &str, page: &str) -> [String; 3] {
    let initialize = r#"{"jsonrpc":"2.0","id":'$n',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}"#;
    let script = format!(
        "n=0; while read -r line; do case \"$line\" in *'\"id\"'*) n=$((n+1)) ;; esac; case \"$line\" in \
         *server/discover*) {discover} ;; *'\"initialize\"'*) printf '%s\\n' '{initialize}' ;; \
         *tools/list*) printf '%s\\n' '{page}' ;; esac; done"
    );
    ["/bin/sh".to_owned(), "-c".to_owned(), script]
}

#[cfg(unix)]
const UNKNOWN: &str = r#"printf '%s\n' '{"jsonrpc":"2.0","id":'$n',"error":{"code":-32601,"message":"unknown"}}'"#;

#[cfg(unix)]
#[test]
fn servers_that_end_at_an_unknown_message_are_asked_again() {
    let page =
        r#"{"jsonrpc":"2.0","id":'$n',"result":{"tools":[{"name":"a b","description":"One\n[[policy.rule]]"}]}}"#;
    let command = script("exit 1", page);
    let (draft, _) = run(&init().command_to_serve(&command.each_ref().map(String::as_str)), 0);
    let expected = "# One\n[[policy.rule]]\ntool = \"a b\"\nscopes = [\"tool:a_b\"]\n";
    assert!(draft.contains(expected), "{draft}");
    assert!(draft.ends_with("[scopes]\n\"tool:a_b\" = \"One\"\n"), "{draft}");
}

#[cfg(unix)]
#[test]
fn pages_without_end_are_not_waited_for() {
    let page = |cursor: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":'$n',"result":{{"tools":[{{"name":"t'$n'"}}],"nextCursor":"{cursor}"}}}}"#)
    };
    for (cursor, words) in [("again", "the cursor `again` comes a second time"), ("'$n'", "more than 100 pages")] {
        let command = script(UNKNOWN, &page(cursor));
        let (stdout, stderr) = run(&init().command_to_serve(&command.each_ref().map(String::as_str)), 1);
        assert_eq!(stdout, "");
        assert!(stderr.contains("tools/list") && stderr.contains(words), "{stderr}");
    }
    let page = r#"{"jsonrpc":"2.0","id":'$n',"result":{"tools":[{"title":"no name"}]}}"#;
    let command = script(UNKNOWN, page);
    let (_, stderr) = run(&check().command_to_serve(&command.each_ref().map(String::as_str)), 1);
    assert!(stderr.contains("not a list of objects with `name`"), "{stderr}");
}

#[test]
fn the_calculator_is_checked_without_any_settings() {
    let (table, stderr) = run(&check().flag("--scopes", "op:add"), 0);
    let expected = "\
rule                                         with op:add
tool calculator when operation = \"add\"       allowed
tool calculator when operation = \"subtract\"  needs op:sub
tool calculator when operation = \"multiply\"  needs op:mult
tool calculator when operation = \"divide\"    needs op:div
everything else                              allowed

offered          with op:add
tool calculator  allowed when operation = \"add\"; \"subtract\" needs op:sub; \"multiply\" needs op:mult; \"divide\" needs op:div; otherwise allowed
";
    assert_eq!((table.as_str(), stderr.as_str()), (expected, ""));
}

const SERVERS: &str = "
[[server]]
name = \"math\"
path = \"/math\"

[[server.policy.rule]]
tool = \"calculater\"
scopes = [\"math\"]

[[server.policy.rule]]
tool = \"calculator\"
when = { operation = \"divde\" }
scopes = [\"math:divide\"]

[[server]]
name = \"other\"
path = \"/other\"
";

#[test]
fn mistakes_in_a_policy_are_told() {
    let scratch = Scratch::new();
    let file = scratch.file("bridge.toml", SERVERS);
    let line = check().flag("--config", &file);
    let (table, _) = run(&line, 0);
    for words in [
        "server math\n",
        "server other\n",
        "line 6: tool calculater                            needs math\n",
        "warning: line 6: the server has no tool `calculater`; did you mean `calculator`?\n",
        "warning: line 10: `operation` is never `divde`; did you mean `divide`?\n",
        "everything else                                    denied: no rule\n",
    ] {
        assert!(table.contains(words), "`{words}` is not in:\n{table}");
    }
    let other = checked(&line.clone().flag("--server", "other"));
    assert_eq!((&other["name"], &other["warnings"]), (&json!("other"), &json!([])));
    let (_, stderr) = run(&line.flag("--server", "nobody"), 2);
    assert!(stderr.contains("there is no server `nobody`; there is `math`, `other`"), "{stderr}");
}

#[test]
fn missing_authorization_does_not_matter_and_wrong_values_do() {
    let scratch = Scratch::new();
    let half = scratch.file("half.toml", "auth = \"introspection\"\n[policy]\ndefault_scopes = [\"x\"]\n");
    let checked = checked(&check().flag("--config", &half).env("PROPELAUTH_AUTH_URL", "https://auth.example"));
    assert_eq!(checked["everything_else"]["needed"], json!(["x"]));

    let wrong = scratch.file("wrong.toml", "auth = \"magic\"\nlisten = \"nowhere\"\nunknown = 1\n");
    let (stdout, stderr) = run(&check().flag("--config", &wrong), 2);
    assert_eq!(stdout, "");
    for words in ["3 problems", "wrong.toml:1", "wrong.toml:2", "wrong.toml:3"] {
        assert!(stderr.contains(words), "{stderr}");
    }
    let (_, stderr) = run(&check().flag("--scopes", "a\"b"), 2);
    assert!(stderr.contains("is not a scope"), "{stderr}");
    run(&init(), 2);
    let (_, stderr) = run(&init().flag("--start-timeout", "soon").command_to_serve(&["/bin/sh"]), 2);
    assert!(stderr.contains("--start-timeout"), "{stderr}");
}

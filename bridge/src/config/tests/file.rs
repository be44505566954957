//! The TOML file and its policy.

use super::*;

/// The problems, in the order of the report.
fn problems(written: &[(&str, &str)], variables: &[(&str, &str)]) -> Vec<String> {
    load_from(written, variables).expect_err("something is wrong").0.iter().map(ToString::to_string).collect()
}

/// [`check`] for one file and no other source than `--auth none`.
#[track_caller]
fn check_file(content: &str, expected: &[&str]) {
    let files = Files::new();
    let path = files.put("bridge.toml", content);
    check(&[("auth", "none"), ("config", &path)], &[], expected);
}

#[test]
fn files_that_are_wrong() {
    check_file("isuer = \"https://a.example\"\n", &["bridge.toml:1: `isuer` is not a setting; did you mean `issuer`?"]);
    check_file(
        "\nallowed_origins = []\n",
        &["toml:2: `allowed_origins` is not a setting; did you mean `allowed_origin`?"],
    );
    check_file("public-url = \"\"\n", &["did you mean `public_url`?"]);
    check_file("config = \"x\"\n", &["`config` is not a setting"]);
    check_file("[tls]\nlisten = 1\n", &["bridge.toml:1: `tls` is not a setting; `mcp-bridge serve --help`"]);
    check_file("[server]\nlisten = 1\n", &["bridge.toml:1: write each server as [[server]]"]);
    check_file("command = \"npx -y x\"\n", &["bridge.toml:1: `command` takes a list, like [\"npx\", \"-y\", "]);
    check_file("command = []\n", &["bridge.toml:1: `command`: the program's name is empty"]);
    check_file("command = [\"\", \"x\"]\n", &["bridge.toml:1: `command`: the program's name is empty"]);
    check_file("command = [\"x\", \"a\\u0000\"]\n", &["bridge.toml:1: `command`: there is a NUL in it"]);
    check_file("working_dir = \"/dev/null\"\n", &["bridge.toml:1: `working_dir`: `/dev/null` is not a directory"]);
    check_file("path = 1.5\n", &["bridge.toml:1: `path` takes a text or a whole number"]);
    check_file("path = [\"/mcp\"]\n", &["`path` takes one value, not a list"]);
    check_file("[path]\n", &["`path` takes one value, not a table"]);
    check_file("max_sessions = 99999999999999999999\n", &["`max_sessions` is too large a number"]);
    check_file("allowed_origin = [[\"x\"]]\n", &["`allowed_origin` takes one value, not a list"]);
    check_file(
        "introspection_client_secret = \"canary-secret\"\n",
        &["bridge.toml:1: `introspection_client_secret` is a secret and does not belong into this file"],
    );
    check_file("path = \"/a\"\npath = \"/b\"\n", &["bridge.toml:2: not TOML: duplicate key"]);
    // Several problems, in the order of the file.
    check_file("zzz = 1\nlog_format = [1]\naaa = 1\n", &["toml:1: `zzz`", "toml:2: `log_format`", "toml:3: `aaa`"]);
}

#[test]
fn a_file_that_is_not_toml_says_so_and_shows_nothing_of_it() {
    let files = Files::new();
    let path = files.put("bridge.toml", "auth = \"none\"\nintrospection_client_secret = \"canary-secret\nx = [\n");
    let found = problems(&[("config", &path), ("listen", "x")], &[]);
    assert!(found.iter().any(|problem| problem.contains("bridge.toml:2: not TOML: ")), "{found:?}");
    assert!(found.iter().any(|problem| problem.contains("--listen")), "{found:?}");
    assert!(!found.iter().any(|problem| problem.contains("canary") || problem.contains("serve --auth")), "{found:?}");
}

#[test]
fn a_file_of_a_megabyte_is_no_settings_file() {
    let line = "# A comment, then nothing.\n";
    check_file(&line.repeat(1024 * 1024 / line.len()), &[]);
    check_file(&line.repeat(1024 * 1024 / line.len() + 1), &["bridge.toml`: it is larger than 1 MiB"]);
}

#[test]
fn policies() {
    let files = Files::new();
    let path = files.put(
        "bridge.toml",
        r#"
[policy]
default_scopes = "mcp  other"

[[policy.rule]]
tool = "calculator"
when = { operation = "divide", b = 0x10, exact = true, c = 1.5 }
scopes = ["op:div"]

[[policy.rule]]
prompt = "*"
scopes = []
"#,
    );
    let config = good(&[("auth", "none"), ("config", &path)], &[]).config;
    let when = [("operation", "divide".into()), ("b", 16.into()), ("exact", true.into()), ("c", 1.5.into())];
    let expected = RawPolicy {
        default_scopes: "mcp other".parse().ok(),
        rules: vec![
            policy::RawRule {
                tool: Some("calculator".into()),
                when: when.into_iter().map(|(name, value)| (name.into(), value)).collect(),
                scopes: "op:div".parse().expect("a scope"),
                line: 5,
                ..Default::default()
            },
            policy::RawRule { prompt: Some("*".into()), line: 10, ..Default::default() },
        ],
    };
    assert_eq!(only(&config).policy, Some(expected));
}

#[test]
fn policies_that_are_wrong() {
    let rule = |body: &str| format!("[[policy.rule]]\n{body}\n");
    check_file("policy = 1\n", &["bridge.toml:1: `policy` is a table"]);
    check_file("[policy]\nrules = []\n", &["bridge.toml:2: `rules` is not a setting; did you mean `rule`?"]);
    check_file("[policy.rule]\ntool = \"x\"\n", &["write each rule as [[policy.rule]]"]);
    check_file("[policy]\nrule = [1]\n", &["bridge.toml:2: a rule is a table"]);
    check_file("[policy]\ndefault_scopes = 'a\"b'\n", &["bridge.toml:2: `a\\\"b` is not a scope"]);
    check_file(&rule("scopes = []"), &["bridge.toml:1: a rule has exactly one of"]);
    check_file(&rule("tool = \"a\"\nprompt = \"b\"\nscopes = []"), &["bridge.toml:1: a rule has exactly one of"]);
    check_file(&rule("tool = \"a\""), &["bridge.toml:1: a rule needs `scopes`"]);
    check_file(&rule("tool = \"\"\nscopes = []"), &["bridge.toml:2: `tool` takes a text"]);
    check_file(
        &rule("tool = \"a\"\nscopes = [\"a b\", 1]"),
        &["toml:3: `a b` is not a scope", "toml:3: a scope is a text"],
    );
    check_file(&rule("tool = \"a\"\nscopes = 1"), &["toml:3: scopes are a list"]);
    check_file(&rule("prompt = \"a\"\nscopes = []\nwhen = { a = 1 }"), &["`when` compares a tool's arguments"]);
    check_file(&rule("tool = \"a\"\nscopes = []\nwhen = {}"), &["toml:4: `when` takes argument values"]);
    check_file(&rule("tool = \"a\"\nscopes = []\nwhen = { a = [1] }"), &["toml:4: `when` compares with"]);
    check_file(&rule("tool = \"a\"\nscopes = []\nwhen = { a = nan }"), &["toml:4: `when` compares with"]);
    check_file(&rule("tool = \"a\"\nscopes = []\nwhen = { a = 1979-05-27 }"), &["toml:4: `when` compares with"]);
    check_file(
        &rule("tol = \"a\"\nscopes = []"),
        &["toml:1: a rule has exactly one", "toml:2: `tol` is not a setting; did you mean `tool`?"],
    );
}

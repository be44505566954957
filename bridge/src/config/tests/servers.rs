//! What is served: a command and its settings, and several servers.

use std::time::Duration;

use super::{
    server::{Command, Denial, Isolation, Variable},
    *,
};

const NONE: (&str, &str) = ("auth", "none");

fn command(server: &Server) -> &Command {
    match &server.served {
        Served::Command(command) => command,
        Served::Calculator => panic!("the calculator: {server:?}"),
    }
}

/// Loads what `--config` says together with flags and variables.
fn from_file(content: &str, written: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let files = Files::new();
    let path = files.put("bridge.toml", content);
    load_from(&[&[NONE, ("config", &path)], written].concat(), variables)
}

#[track_caller]
fn good_file(content: &str) -> Loaded {
    from_file(content, &[], &[]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Expects exactly these problems, each after `bridge.toml:`.
#[track_caller]
fn check_file(content: &str, expected: &[&str]) {
    let found = match from_file(content, &[], &[]) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
    };
    let fits = |(found, part): (&String, &&str)| found.contains(&format!("bridge.toml:{part}"));
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(fits), "{expected:#?}\n{found:#?}");
}

fn variables(command: &Command) -> Vec<(&str, Option<&str>)> {
    fn parts(variable: &Variable) -> (&str, Option<&str>) {
        (&variable.name, variable.value.as_ref().map(|value| value.expose().as_str()))
    }
    command.environment.iter().map(parts).collect()
}

#[test]
fn a_command_and_its_defaults() {
    let loaded = good(&[NONE, ("command", "/usr/bin/npx"), ("command", "-y"), ("command", "a b")], &[]);
    let server = only(&loaded.config);
    let command = command(server);
    assert_eq!((server.name.as_str(), server.path.as_str()), ("npx", "/mcp"));
    assert_eq!((command.program.as_str(), &command.arguments[..]), ("/usr/bin/npx", &["-y".into(), "a b".into()][..]));
    assert!(command.environment.is_empty() && command.working_dir.is_none());
    assert_eq!((command.isolation, command.pool, command.max_children), (Isolation::Request, 2, 64));
    let times = [command.pool_idle, command.start_timeout, command.stop_grace].map(|time| time.as_secs());
    assert_eq!((times, command.max_message_bytes), ([300, 60, 3], 32 << 20));
    assert_eq!((server.filter_lists, server.denial, server.legacy_sse), (false, Denial::Http, false));
    assert_eq!(loaded.warnings, [""; 0]);
    let row = loaded.report.rows.iter().find(|row| row.key == "command").expect("a row");
    assert_eq!((row.value.as_str(), row.source.as_str()), ("/usr/bin/npx -y 'a b'", "the command after --"));
    check(&[NONE, ("command", "")], &[], &["the command after --: the program's name is empty"]);
    check(&[NONE], &[("MCP_BRIDGE_COMMAND", "npx")], &["MCP_BRIDGE_COMMAND: not a setting"]);
}

#[test]
fn every_setting_of_a_command_is_read() {
    let files = Files::new();
    let directory = files.0.path().to_str().expect("UTF-8").to_owned();
    let written = [
        NONE,
        ("command", "x"),
        ("isolation", "shared"),
        ("pool", "0"),
        ("max-children", "1"),
        ("pool-idle", "4s"),
        ("start-timeout", "5s"),
        ("stop-grace", "0s"),
        ("max-message-bytes", "6KiB"),
        ("working-dir", &directory),
        ("env", "A=1=2,3"),
        ("env", "B="),
        ("env", "_c9"),
        ("filter-lists", "true"),
        ("denial", "tool-error"),
        ("legacy-sse", "true"),
    ];
    let Loaded { config, warnings, .. } = good(&written, &[("_c9", "x")]);
    let (server, command) = (only(&config), command(only(&config)));
    assert_eq!((command.isolation, command.pool, command.max_children), (Isolation::Shared, 0, 1));
    let times = [command.pool_idle, command.start_timeout, command.stop_grace];
    assert_eq!(times, [4, 5, 0].map(Duration::from_secs));
    assert_eq!((command.max_message_bytes, command.working_dir.clone()), (6 << 10, Some(directory.clone().into())));
    assert_eq!(variables(command), [("A", Some("1=2,3")), ("B", Some("")), ("_c9", None)]);
    assert_eq!((server.filter_lists, server.denial, server.legacy_sse), (true, Denial::ToolError, true));
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn values_of_variables_are_shown_nowhere() {
    let secret = "canary-value";
    let written = [NONE, ("command", "x"), ("env", "TOKEN=canary-value"), ("env", "HOME")];
    let loaded = good(&written, &[]);
    let text = format!("{loaded} {loaded:?} {:?} {:#?}", flags(&written), loaded.config);
    assert!(!text.contains(secret) && text.contains("TOKEN=…, HOME"), "{text}");
    assert!(loaded.warnings.len() == 1 && loaded.warnings[0].contains("--env: HOME is not set here"), "{loaded}");
    for (text, what) in [
        ("canary-value", "--env: a variable is NAME=VALUE or NAME"),
        ("9=canary-value", "--env: a variable is"),
        ("=canary-value", "--env: a variable is"),
        ("", "--env: a variable is"),
        ("A B=canary-value", "--env: a variable is"),
        ("A=canary-value\0", "--env: `A=…` has a NUL"),
        ("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET=canary-value", "CLIENT_SECRET` is the bridge's own"),
        ("PROPELAUTH_INTROSPECTION_CLIENT_SECRET", "CLIENT_SECRET` is the bridge's own"),
    ] {
        let problems = load_from(&[NONE, ("command", "x"), ("env", text)], &[]).expect_err(text).to_string();
        assert!(problems.contains(what) && !problems.contains(secret), "{text}: {problems}");
    }
    check(&[NONE, ("env", "A=canary-value"), ("env", "A")], &[], &["--env: `A` is there twice"]);
    // A comma would cut a value in two, and the second part would be taken for a name.
    let variable = [("MCP_BRIDGE_ENV", "A=canary,value")];
    let problems = load_from(&[NONE, ("command", "x")], &variable).expect_err("a value").to_string();
    assert!(problems.contains("MCP_BRIDGE_ENV: only names") && !problems.contains("canary"), "{problems}");
    let Loaded { config, .. } = good(&[NONE, ("command", "x")], &[("MCP_BRIDGE_ENV", "A, B")]);
    assert_eq!(variables(command(only(&config))), [("A", None), ("B", None)]);
}

/// Arguments hold passwords of databases, and `Debug` goes to logs.
#[test]
fn debug_shows_no_argument() {
    let loaded = good(&[NONE, ("command", "x"), ("command", "postgres://u:canary@h")], &[]);
    assert!(!format!("{:?}", loaded.config).contains("canary"));
}

#[test]
fn what_only_a_command_uses_is_warned_about_without_one() {
    let Loaded { warnings, .. } = good(&[NONE, ("pool", "1"), ("denial", "http")], &[("MCP_BRIDGE_ENV", "A")]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("environment variable MCP_BRIDGE_ENV: env is not used"), "{warnings:?}");
    assert!(warnings[1].starts_with("--pool: pool is not used, because no command is served"), "{warnings:?}");
    let with_tables = "pool = 1\n[[server]]\nname = \"a\"\npath = \"/a\"\nisolation = \"shared\"\n";
    let warnings = good_file(with_tables).warnings;
    assert!(
        warnings.len() == 2 && warnings[0].contains(":5: isolation") && warnings[1].contains(":1: pool"),
        "{warnings:?}"
    );
    let one = format!("{with_tables}[[server]]\nname = \"b\"\npath = \"/b\"\ncommand = [\"x\"]\n");
    assert_eq!(good_file(&one).warnings.len(), 1);
}

const SEVERAL: &str = r#"
pool = 1
denial = "tool-error"
env = ["A=1"]
resource_name = "Of all"

[[server]]
name = "math"
path = "/math"
resource_name = "Mathematics"

[server.policy]
default_scopes = "math"

[[server.policy.rule]]
tool = "calculator"
scopes = ["op"]

[[server]]
name = "files"
path = "/files"
command = ["npx", "-y", "server-filesystem"]
env = ["B=canary-value"]
pool = 3
denial = "http"
"#;

#[test]
fn what_a_table_leaves_out_comes_from_above() {
    let loaded = from_file(SEVERAL, &[("max-children", "9"), ("denial", "tool-error")], &[("MCP_BRIDGE_POOL", "2")]);
    let Loaded { config, warnings, .. } = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    let [math, files] = &config.servers[..] else { panic!("{config:?}") };
    assert_eq!((math.name.as_str(), math.path.as_str(), math.denial), ("math", "/math", Denial::ToolError));
    assert!(matches!(math.served, Served::Calculator));
    let policy = math.policy.as_ref().expect("a policy");
    assert_eq!((policy.rules.len(), policy.default_scopes.as_ref().map(ToString::to_string)), (1, Some("math".into())));
    assert_eq!(math.resource_name.as_deref(), Some("Mathematics"));
    assert_eq!((files.name.as_str(), files.denial, files.policy.is_none()), ("files", Denial::Http, true));
    assert_eq!(files.resource_name.as_deref(), Some("Of all"));
    let files = command(files);
    assert_eq!((files.pool, files.max_children), (3, 9), "a table goes before flags, which go before the top");
    assert_eq!(variables(files), [("B", Some("canary-value"))]);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.resource(math, config.listen).expect("valid").as_str(), "http://127.0.0.1:8808/math");
}

#[test]
fn the_report_of_several_servers() {
    let files = Files::new();
    let path = files.put("bridge.toml", SEVERAL);
    let text = files.neutral(&good(&[NONE, ("config", &path)], &[]).to_string());
    let tail = text.split_once("\nserver math\n").expect("its table").1;
    let tail = tail.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    insta::assert_snapshot!("report_several", tail.join("\n"));
    let head = text.split("\nserver math\n").next().expect("a part");
    assert!(!head.lines().any(|line| line.starts_with("path ") || line.starts_with("command ")), "{head}");
}

#[test]
fn tables_that_are_wrong() {
    let table = |name: &str, rest: &str| format!("[[server]]\nname = \"{name}\"\n{rest}\n");
    check_file("server = []\n", &["1: write each server as [[server]]"]);
    check_file("server = [1]\n", &["1: a server is a table: [[server]]"]);
    check_file("[[server]]\npath = \"/a\"\n", &["1: a server needs `name`"]);
    check_file("[[server]]\nname = 1.5\npath = \"/a\"\n", &["2: `name` takes a text", "1: a server needs `name`"]);
    check_file(&table("a", ""), &["1: a server needs `path`"]);
    check_file(&table("A b", "path = \"/a\""), &["2: `name`: `A b` is not a server's name"]);
    check_file(&table("", "path = \"/a\""), &["2: `name`: `` is not a server's name"]);
    check_file(&table("a", "path = \"a\""), &["3: `path`: the path must begin"]);
    check_file(&table("a", "path = \"/.well-known/a\""), &["3: `path`: /healthz, /readyz"]);
    check_file(&table("a", "path = \"/a\"\npol = 1"), &["4: `pol` is not a setting; did you mean `pool`?"]);
    check_file(&table("a", "path = \"/a\"\nnames = 1"), &["4: `names` is not a setting; did you mean `name`?"]);
    check_file(&table("a", "path = \"/a\"\nlisten = 1"), &["4: `listen` is for all servers together"]);
    check_file(&table("a", "path = \"/a\"\ncommand = []"), &["4: `command`: the program's name is empty"]);
    check_file(&table("a", "path = \"/a\"\n[server.policy]\nrules = 1"), &["5: `rules` is not a setting"]);
    check_file(&table("a", "path = \"/a\"\npolicy = 1"), &["4: `policy` is a table: [server.policy] and [[server.po"]);
    // One wrong value for both is one problem.
    let both = table("a", "path = \"/a\"") + &table("b", "path = \"/b\"");
    check_file(&format!("pool = \"x\"\n{both}"), &["1: `pool`: `x` is not a whole number"]);
    check_file(&both, &[]);
    let twice = table("a", "path = \"/a\"") + &table("a", "path = \"/a\"");
    check_file(
        &twice,
        &["5: `name`: there is a server `a` already", "6: `path`: requests to `/a` go to the server `a`"],
    );
    let third = table("c", "path = \"c\"") + &twice;
    assert_eq!(from_file(&third, &[], &[]).expect_err("three problems").0.len(), 3);
    for path in ["/a/sse", "/a/messages"] {
        let sse = table("a", "path = \"/a\"\nlegacy_sse = true") + &table("b", &format!("path = \"{path}\""));
        check_file(&sse, &[&format!("7: `path`: requests to `{path}` go to the server `a` already")]);
    }
}

/// A proxy may take the prefix of the public URL away or pass it on, so both must tell servers apart.
#[test]
fn a_path_that_is_anothers_public_one_is_refused() {
    let table = |name: &str, path: &str| format!("[[server]]\nname = \"{name}\"\npath = \"{path}\"\n");
    let content = table("a", "/mcp") + &table("b", "/team/mcp");
    let jwt = [("auth", "jwt"), ("issuer", "https://as.example")];
    let load = |url| {
        let files = Files::new();
        let path = files.put("bridge.toml", &content);
        load_from(&[jwt[0], jwt[1], ("config", &path), ("public-url", url)], &[]).map(|_| ()).map_err(|p| p.to_string())
    };
    assert_eq!(load("https://h.example"), Ok(()));
    let problem = load("https://h.example/team").expect_err("two for one path");
    assert!(problem.contains("requests to `/team/mcp` go to the server `a` already"), "{problem}");
}

#[test]
fn what_each_server_has_for_itself_is_not_written_above_the_tables() {
    let tables = "[[server]]\nname = \"a\"\npath = \"/a\"\n";
    check_file(
        &format!("path = \"/x\"\n{tables}"),
        &["1: `path`: with [[server]] tables each server has its own; move"],
    );
    check_file(
        &format!("command = [\"x\"]\n{tables}"),
        &["1: `command`: with [[server]] tables each server has its own"],
    );
    check_file(&format!("{tables}[policy]\n"), &["4: with [[server]] tables each server has its own policy; move"]);
    for (flag, expected) in [("path", "--path: with [[server]]"), ("command", "the command after --: with [[server]]")]
    {
        let problems = from_file(tables, &[(flag, "/x")], &[]).expect_err("both").to_string();
        assert!(problems.starts_with(expected) && problems.contains("move it into the table"), "{problems}");
    }
    let problems = from_file(tables, &[], &[("MCP_BRIDGE_PATH", "/x")]).expect_err("both").to_string();
    assert!(problems.starts_with("environment variable MCP_BRIDGE_PATH: with [[server]]"), "{problems}");
}

//! `mcp-bridge install` and `uninstall`: entries for remote servers and for commands. What the files look like is
//! tested with the calculator; this is about what stands in them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Value, json};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("home").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        fs::create_dir(home.path().join("bin")).expect("a folder");
        let home = Self(home);
        fs::hard_link(assert_cmd::cargo::cargo_bin!("mcp-bridge"), home.path("bin/mcp-bridge"))
            .expect("the same file system");
        home
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.path("bin/mcp-bridge"));
        command.env_clear().env("HOME", self.0.path()).env("TMPDIR", self.path("tmp")).env("PATH", self.path("bin"));
        command.env("SET_HERE", "canary-value").current_dir(self.0.path());
        command.args(arguments).output().expect("it starts")
    }

    /// Runs it; gives all that it says, with the home folder as `~`.
    #[track_caller]
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{text}");
        text.replace(self.0.path().to_str().expect("Unicode"), "~")
    }

    fn servers(&self) -> Value {
        let text = fs::read_to_string(self.path(".cursor/mcp.json")).expect("a file");
        serde_json::from_str::<Value>(&text).expect("JSON")["mcpServers"].clone()
    }
}

const CURSOR: [&str; 2] = ["--client", "cursor"];

fn with<'a>(start: &[&'a str], end: &[&'a str]) -> Vec<&'a str> {
    [start, &CURSOR, end].concat()
}

#[test]
fn a_remote_server_becomes_a_command_that_every_client_can_start() {
    let home = Home::new();
    let url = "https://mcp.example.com/mcp";
    let said = home.ends(0, &with(&["install"], &["--connect", url]));
    assert!(said.ends_with("\n  mcp-bridge login https://mcp.example.com/mcp\n"), "{said}");
    let bridge = home.path("bin/mcp-bridge");
    assert_eq!(home.servers(), json!({ "mcp-example-com": { "command": bridge, "args": ["connect", url] } }));
    let again = home.ends(0, &with(&["install"], &["--connect", url]));
    assert!(again.contains("is already there") && !again.contains("login"), "{again}");

    // Another server under the same name is another entry.
    let other = home.ends(1, &with(&["install"], &["--connect", "https://mcp.example.com/other"]));
    assert!(other.contains("choose another --name"), "{other}");
    home.ends(0, &with(&["uninstall"], &["--connect", url]));
    assert_eq!(home.servers(), json!({}));
}

#[test]
fn a_command_is_found_now_because_the_client_has_no_path_to_look_in() {
    let home = Home::new();
    home.ends(
        0,
        &with(
            &["install", "--name", "own"],
            &["--env", "A=b c", "--env", "SET_HERE", "--serve-command", "mcp-bridge", "serve", "--auth", "none"],
        ),
    );
    let expected = json!({ "own": {
        "command": home.path("bin/mcp-bridge"),
        "args": ["serve", "--auth", "none"],
        "env": { "A": "b c", "SET_HERE": "canary-value" },
    } });
    assert_eq!(home.servers(), expected);
    // It is one of this program's, as far as anybody can tell.
    home.ends(0, &with(&["uninstall", "--name", "own"], &[]));
    assert_eq!(home.servers(), json!({}));

    fs::hard_link(home.path("bin/mcp-bridge"), home.path("bin/my-server")).expect("the same file system");
    home.ends(0, &with(&["install"], &["--serve-command", "./bin/my-server", "--stdio"]));
    assert_eq!(home.servers()["my-server"], json!({ "command": home.path("bin/my-server"), "args": ["--stdio"] }));
    let foreign = home.ends(1, &with(&["uninstall", "--name", "my-server"], &[]));
    assert!(foreign.contains("it is not ours"), "{foreign}");
    home.ends(0, &with(&["uninstall"], &["--serve-command", "./bin/my-server", "--stdio"]));
    assert_eq!(home.servers(), json!({}));
}

#[test]
fn a_dry_run_does_not_show_the_values_of_variables() {
    let home = Home::new();
    for client in ["cursor", "codex", "goose"] {
        let text = home.ends(
            0,
            &[
                "install",
                "--client",
                client,
                "--dry-run",
                "--env",
                "SET_HERE",
                "--connect",
                "https://mcp.example.com/mcp",
            ],
        );
        assert!(!text.contains("canary") && text.contains("mcp.example.com/mcp"), "{text}");
    }
    assert!(!home.path(".cursor").exists());
}

#[test]
fn command_lines_that_do_not_say_which_server_end_with_code_2() {
    let home = Home::new();
    let mut text = String::new();
    for arguments in [
        &["install"][..],
        &["install", "--connect", "http://mcp.example.com/mcp"],
        &["install", "--connect", "https://user:canary@mcp.example.com/mcp"],
        &["install", "--connect", "https://mcp.example.com/mcp"],
        &["install", "--serve-command", "no-such-program"],
        &["install", "--serve-command"],
        &["install", "--env", "NOT_SET", "--connect", "https://mcp.example.com/mcp"],
        &["install", "--connect", "https://mcp.example.com/mcp", "--serve-command", "mcp-bridge"],
        &["uninstall"],
    ] {
        let said = home.ends(2, arguments);
        assert!(!said.contains("canary"), "{said}");
        text += &format!("> {}\n{said}\n", arguments.join(" "));
    }
    fs::hard_link(home.path("bin/mcp-bridge"), home.path("bin/npx")).expect("the same file system");
    text += &format!("> npx\n{}", home.ends(2, &["install", "--serve-command", "npx", "-y", "x"]));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots/bridge");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("install_refused", text));
}

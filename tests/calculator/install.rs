//! `install` and `uninstall` on files as the clients have them, in a home folder of their own.

#[cfg(unix)]
mod unix;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::process::command;

/// Every client, its file below the home folder on Linux, and the ending of its samples in `tests/clients`.
const CLIENTS: [(&str, &str, &str); 10] = [
    ("claude-desktop", ".config/Claude/claude_desktop_config.json", "json"),
    ("claude-code", ".claude.json", "json"),
    ("vscode", ".config/Code/User/mcp.json", "json"),
    ("cursor", ".cursor/mcp.json", "json"),
    ("windsurf", ".config/devin/mcp_config.json", "json"),
    ("zed", ".config/zed/settings.json", "json"),
    ("gemini", ".gemini/settings.json", "json"),
    ("codex", ".codex/config.toml", "toml"),
    ("lm-studio", ".lmstudio/mcp.json", "json"),
    ("goose", ".config/goose/config.yaml", "yaml"),
];

/// A home folder with this program in it. It is below `target`: what is in /tmp is refused.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("zoë ").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        fs::create_dir_all(home.path().join(".local/bin")).expect("a folder");
        let home = Self(home);
        fs::hard_link(command().get_program(), home.program()).expect("the same file system");
        home
    }

    /// One in which every client has its sample file.
    fn with_clients() -> Self {
        let home = Self::new();
        for (client, file, ending) in CLIENTS {
            home.write(file, sample(client, "before", ending));
        }
        home
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn program(&self) -> PathBuf {
        self.path(".local/bin/mcp-calculator")
    }

    fn write(&self, below: &str, text: impl AsRef<[u8]>) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn read(&self, below: &str) -> String {
        String::from_utf8(fs::read(self.path(below)).expect("a file")).expect("UTF-8")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.env_clear().env("HOME", self.0.path()).env("TMPDIR", self.path("tmp")).args(arguments);
        command.current_dir(self.0.path());
        command
    }

    /// Runs it; gives its exit code and all that it says, with the home folder as `~`.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        said(self.0.path(), &self.command(arguments).output().expect("it starts"))
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let (code, text) = self.run(arguments);
        assert_eq!(code, 0, "{text}");
        text
    }

    /// What is beside `file` in its folder.
    fn beside(&self, file: &str) -> Vec<String> {
        let path = self.path(file);
        let entries = fs::read_dir(path.parent().expect("a folder")).expect("a folder");
        let name = path.file_name().expect("a name").to_str().expect("Unicode").to_owned();
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("Unicode")).collect();
        names.retain(|other| *other != name && other.contains(&name));
        names.sort();
        names
    }

    /// With the program's path in the place of `@PROGRAM@`.
    fn expected(&self, sample: &str) -> String {
        sample.replace("@PROGRAM@", self.program().to_str().expect("Unicode"))
    }
}

fn said(home: &Path, output: &Output) -> (i32, String) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().expect("an exit code"), text.replace(home.to_str().expect("Unicode"), "~"))
}

fn sample(client: &str, which: &str, ending: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/clients/{client}/{which}.{ending}"));
    String::from_utf8(fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).expect("UTF-8")
}

/// The time in the name of a backup is no part of what is compared.
fn without_times(text: &str) -> String {
    let mut lines = text.lines().map(|line| match line.split_once(".20") {
        Some((file, _)) if line.ends_with(".bak") => format!("{file}.[time].bak"),
        _ => line.to_owned(),
    });
    let first = lines.next().unwrap_or_default();
    lines.fold(first, |text, line| text + "\n" + &line)
}

fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots/calculator");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, without_times(text)));
}

#[test]
fn every_client_gets_the_entry_and_keeps_every_other_byte() {
    let home = Home::with_clients();
    check("install_all", &home.done(&["install", "--all"]));
    for (client, file, ending) in CLIENTS {
        // In quotes where the language needs them: the path has a space in it and is not ASCII.
        let program = home.program().to_str().expect("Unicode").to_owned();
        let expected = sample(client, "after", ending);
        let expected = if client == "goose" {
            expected.replace("@PROGRAM@", &format!("\"{program}\""))
        } else {
            home.expected(&expected)
        };
        assert_eq!(home.read(file), expected, "{client}");
        let backups = home.beside(file);
        assert_eq!(backups.len(), 1, "{client}: {backups:?}");
        let folder = home.path(file).parent().expect("a folder").to_owned();
        assert_eq!(
            fs::read_to_string(folder.join(&backups[0])).expect("a file"),
            sample(client, "before", ending),
            "{client}"
        );
    }

    check("install_again", &home.done(&["install", "--all"]));
    for (client, file, _) in CLIENTS {
        assert_eq!(home.beside(file).len(), 1, "nothing was written, so that nothing is kept: {client}");
    }

    check("install_list", &home.done(&["install", "--list"]));
    check("uninstall_all", &home.done(&["uninstall", "--all"]));
    for (client, file, ending) in CLIENTS {
        let mut expected = sample(client, "before", ending);
        if client == "gemini" {
            // It had no servers before.
            expected = expected.replace("    }\n  }\n}", "    }\n  },\n  \"mcpServers\": {}\n}");
        }
        assert_eq!(home.read(file), expected, "{client}");
    }
    check("uninstall_again", &home.done(&["uninstall", "--all"]));
}

#[test]
fn a_dry_run_shows_the_change_but_no_secret_and_writes_nothing() {
    let home = Home::with_clients();
    let text = home.done(&["install", "--all", "--dry-run"]);
    check("install_dry_run", &text);
    assert!(!text.contains("canary"), "{text}");
    for (client, file, ending) in CLIENTS {
        assert_eq!(home.read(file), sample(client, "before", ending), "{client}");
        assert_eq!(home.beside(file), [""; 0], "{client}");
    }
    home.done(&["install", "--all"]);
    let text = home.done(&["uninstall", "--all", "--dry-run"]);
    assert!(!text.contains("canary"), "{text}");

    // A file in one line is shown with the line as a whole.
    home.write(".cursor/mcp.json", r#"{"mcpServers":{"a":{"command":"x","args":["canary"],"env":{"K":"canary"}}}}"#);
    let text = home.done(&["install", "--client", "cursor", "--dry-run"]);
    assert!(!text.contains("canary") && text.contains("calculator"), "{text}");
}

#[test]
fn a_snippet_is_all_that_print_prints() {
    let home = Home::new();
    for (client, _, _) in CLIENTS {
        let output = home.command(&["install", "--print", "--client", client]).output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{client}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("calculator") && text.contains(home.program().to_str().expect("Unicode")), "{text}");
        if ["claude-desktop", "codex", "goose"].contains(&client) {
            check(&format!("install_print_{client}"), &said(home.0.path(), &output).1);
        }
    }
    assert!(!home.path(".cursor").exists());
}

#[test]
fn a_client_that_is_named_gets_its_file_also_when_it_is_not_here_yet() {
    let home = Home::new();
    for (client, file, ending) in CLIENTS {
        home.done(&["install", "--client", client]);
        let text = home.read(file);
        assert!(text.ends_with('\n'), "{client}: {text}");
        assert_eq!(home.beside(file), [""; 0], "{client}");
        if ending == "json" {
            serde_json::from_str::<serde_json::Value>(&text).expect("strict JSON");
        }
        // It may come to hold secrets.
        #[cfg(unix)]
        assert_eq!(mode(&home.path(file)), 0o600, "{client}");
    }
}

#[test]
fn without_a_client_it_says_what_there_is_and_changes_nothing() {
    let home = Home::new();
    let mut text = String::new();
    for arguments in [
        &["install"][..],
        &["install", "--all"],
        &["uninstall"],
        &["install", "--project", "."],
        &["install", "--project", "nowhere", "--all"],
        &["install", "--project", ".", "--client", "goose"],
        &["install", "--client", "goose", "--name", " "],
        &["install", "--client", "codex", "--name", "Zoës"],
        &["install", "--client", "emacs"],
    ] {
        let (code, said) = home.run(arguments);
        text += &format!("> {}\n{said}[{code}]\n\n", arguments.join(" "));
    }
    home.write(".cursor/mcp.json", "{}");
    home.write(".codex/config.toml", "");
    let (code, said) = home.run(&["install"]);
    text += &format!("> install\n{said}[{code}]\n");
    check("install_choice", &text);
    assert_eq!((home.read(".cursor/mcp.json"), home.read(".codex/config.toml")), ("{}".to_owned(), String::new()));
}

#[test]
fn broken_files_are_left_alone_and_the_others_are_done() {
    let home = Home::with_clients();
    let broken: [(&str, &[u8]); 7] = [
        (".config/Claude/claude_desktop_config.json", b"{\n  // no comments here\n  \"mcpServers\": {}\n}\n"),
        (".claude.json", b"{\n  \"mcpServers\": {\n    \"a\": {}\n    \"b\": {}\n  }\n}\n"),
        (".config/Code/User/mcp.json", b"[]"),
        (".cursor/mcp.json", b"{\"mcpServers\": {\"a\": {}, \"a\": {}}}"),
        (".codex/config.toml", b"model = \n"),
        (".config/goose/config.yaml", b"extensions:\n  a: b: c\n"),
        (".lmstudio/mcp.json", b"{\"a\": \"\xff\"}"),
    ];
    for (file, text) in broken {
        home.write(file, text);
    }
    let (code, text) = home.run(&["install", "--all"]);
    assert_eq!(code, 1);
    check("install_broken", &text);
    for (file, text) in broken {
        assert_eq!(fs::read(home.path(file)).expect("a file"), text, "{file}");
        assert_eq!(home.beside(file), [""; 0], "{file}");
    }
    assert!(home.read(".config/zed/settings.json").contains("calculator"));
}

#[test]
fn an_entry_of_another_program_is_not_lost_by_its_name() {
    let home = Home::new();
    let before = "{\n  \"mcpServers\": {\n    \"calculator\": {\n      \"command\": \"npx\",\n      \"args\": [\"--key=canary\"]\n    }\n  }\n}\n";
    home.write(".cursor/mcp.json", before);
    let mut text = String::new();
    for arguments in [
        &["install", "--client", "cursor"][..],
        &["uninstall", "--client", "cursor"],
        &["install", "--client", "cursor", "--force", "--dry-run"],
    ] {
        let (code, said) = home.run(arguments);
        text += &format!("> {}\n{said}[{code}]\n\n", arguments.join(" "));
        assert_eq!(home.read(".cursor/mcp.json"), before);
    }
    check("install_taken", &text);
    assert!(!text.contains("canary"), "{text}");
    home.done(&["install", "--client", "cursor", "--name", "sums"]);
    assert!(home.read(".cursor/mcp.json").contains("npx"));
    home.done(&["install", "--client", "cursor", "--force"]);
    assert!(!home.read(".cursor/mcp.json").contains("npx"));
}

#[test]
fn an_upgrade_changes_the_path_and_keeps_what_the_user_added() {
    for (client, file, before) in [
        (
            "cursor",
            ".cursor/mcp.json",
            "{\"mcpServers\": {\"calculator\": {\"disabled\": true, /* old */ \"command\": \"/old/mcp-calculator\"}}}",
        ),
        (
            "codex",
            ".codex/config.toml",
            "[mcp_servers.calculator]\nstartup_timeout_sec = 3 # slow\ncommand = '/old/mcp-calculator' # old\n",
        ),
        (
            "goose",
            ".config/goose/config.yaml",
            "extensions:\n  calculator:\n    enabled: false # off\n    cmd: '/old/mcp-calculator' # old\n    args: []\n",
        ),
    ] {
        let home = Home::new();
        home.write(file, before);
        let text = home.done(&["install", "--client", client]);
        assert!(text.contains("path of `calculator` updated"), "{text}");
        let quoted = format!("\"{}\"", home.program().display());
        let expected = before.replace("'/old/mcp-calculator'", &quoted).replace("\"/old/mcp-calculator\"", &quoted);
        assert_eq!(home.read(file), expected);
    }
}

#[test]
fn a_project_gets_its_own_file() {
    let home = Home::new();
    fs::create_dir(home.path("project")).expect("a folder");
    let mut texts = String::new();
    for (client, file) in [
        ("claude-code", ".mcp.json"),
        ("vscode", ".vscode/mcp.json"),
        ("cursor", ".cursor/mcp.json"),
        ("gemini", ".gemini/settings.json"),
        ("codex", ".codex/config.toml"),
        ("zed", ".zed/settings.json"),
        ("windsurf", ".devin/mcp_config.json"),
    ] {
        texts += &home.done(&["install", "--client", client, "--project", "project"]);
        assert!(home.read(&format!("project/{file}")).contains("calculator"), "{client}");
        home.done(&["uninstall", "--client", client, "--project", "project"]);
        assert!(!home.read(&format!("project/{file}")).contains("calculator"), "{client}");
    }
    assert!(!home.path(".claude.json").exists() && !home.path(".cursor").exists());
    check("install_project", &texts);
}

#[test]
fn an_entry_calculates_as_the_account_that_was_named() {
    let home = Home::new();
    let entry = |home: &Home| {
        serde_json::from_str::<serde_json::Value>(&home.read(".cursor/mcp.json")).expect("JSON")["mcpServers"].clone()
    };
    let cursor = ["install", "--client", "cursor"];
    let work = [&cursor[..], &["--account", "my work", "--token-store", "file"]].concat();
    home.done(&work);
    let args = ["--account", "my work", "--token-store", "file"];
    let expected = serde_json::json!({ "calculator": { "command": home.program(), "args": args } });
    assert_eq!(entry(&home), expected);
    assert!(home.done(&work).contains("is already there"));

    // Another account is another entry.
    let (code, text) = home.run(&cursor);
    assert!(code == 1 && text.contains("with 4 arguments"), "{text}");
    let (code, text) = home.run(&[&cursor[..], &["--name", "none", "--account", ""]].concat());
    assert!(code == 2 && text.contains("an account's name"), "{text}");
    assert_eq!(entry(&home), expected);
    home.done(&["uninstall", "--client", "cursor"]);
    assert_eq!(entry(&home), serde_json::json!({}));
}

#[test]
fn a_program_that_will_be_gone_is_not_written() {
    let home = Home::new();
    let mut built = command();
    built.env("HOME", home.0.path()).env("TMPDIR", home.path("tmp"));
    let output = built.args(["install", "--client", "cursor"]).output().expect("it starts");
    let (code, text) = said(home.0.path(), &output);
    assert_eq!(code, 1);
    assert!(text.contains("in the folder of a build") && text.contains("--force"), "{text}");
    assert!(!home.path(".cursor").exists());

    fs::create_dir_all(home.path("tmp")).expect("a folder");
    fs::hard_link(home.program(), home.path("tmp/mcp-calculator")).expect("the same file system");
    let mut command = Command::new(home.path("tmp/mcp-calculator"));
    command
        .env_clear()
        .env("HOME", home.0.path())
        .env("TMPDIR", home.path("tmp"))
        .args(["install", "--client", "cursor"]);
    let (code, text) = said(home.0.path(), &command.output().expect("it starts"));
    assert_eq!(code, 1);
    assert!(text.contains("in a folder for temporary files"), "{text}");
    assert!(!home.path(".cursor").exists());
    assert!(command.arg("--force").output().expect("it starts").status.success());
    assert!(home.read(".cursor/mcp.json").contains("tmp/mcp-calculator"));
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).expect("a file").permissions()) & 0o777
}

#[test]
fn help() {
    for arguments in [&["install", "--help"][..], &["uninstall", "--help"]] {
        let output = command().args(arguments).output().expect("it starts");
        check(&format!("help_{}", arguments[0]), &String::from_utf8_lossy(&output.stdout));
    }
}

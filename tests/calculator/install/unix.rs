//! Links, modes, folders that take nothing, and several installs at once, as Unix has them.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// A package manager's link stays while the version's own folder goes.
#[test]
fn the_link_that_was_called_is_written_and_not_its_target() {
    let home = Home::new();
    fs::create_dir_all(home.path("Cellar/0.1.0")).expect("a folder");
    fs::rename(home.program(), home.path("Cellar/0.1.0/mcp-calculator")).expect("a move");
    symlink(home.path("Cellar/0.1.0/mcp-calculator"), home.program()).expect("a link");
    home.done(&["install", "--client", "cursor"]);
    let mut by_name = Command::new("mcp-calculator");
    by_name.env_clear().env("HOME", home.0.path()).env("TMPDIR", home.path("tmp")).env("PATH", home.path(".local/bin"));
    assert!(by_name.args(["install", "--client", "codex"]).output().expect("it starts").status.success());
    for file in [".cursor/mcp.json", ".codex/config.toml"] {
        let text = home.read(file);
        assert!(text.contains(".local/bin/mcp-calculator") && !text.contains("Cellar"), "{text}");
    }
}

#[test]
fn links_modes_and_backups_stay_as_private_as_they_were() {
    for wanted in [0o600, 0o640] {
        let home = Home::new();
        home.write("dotfiles/mcp.json", "{}\n");
        fs::set_permissions(home.path("dotfiles/mcp.json"), fs::Permissions::from_mode(wanted)).expect("a mode");
        fs::create_dir(home.path(".cursor")).expect("a folder");
        symlink("../dotfiles/mcp.json", home.path(".cursor/mcp.json")).expect("a link");
        home.done(&["install", "--client", "cursor"]);
        assert!(home.path(".cursor/mcp.json").symlink_metadata().expect("it is there").is_symlink());
        assert!(home.read("dotfiles/mcp.json").contains("calculator"));
        let backups = home.beside("dotfiles/mcp.json");
        assert_eq!(backups.len(), 1);
        for file in ["mcp.json", &backups[0]] {
            assert_eq!(mode(&home.path("dotfiles").join(file)), wanted, "{file}");
        }
    }
}

#[test]
fn a_link_to_nothing_is_not_replaced() {
    let home = Home::new();
    fs::create_dir(home.path(".cursor")).expect("a folder");
    symlink("../unplugged/mcp.json", home.path(".cursor/mcp.json")).expect("a link");
    let (code, text) = home.run(&["install", "--client", "cursor"]);
    assert_eq!(code, 1);
    assert!(text.contains("is a link to something that does not exist"), "{text}");
    assert!(home.path(".cursor/mcp.json").symlink_metadata().expect("it is there").is_symlink());
}

#[test]
fn a_folder_that_cannot_be_made_or_written_is_told() {
    let home = Home::new();
    home.write(".cursor", "a file");
    let (code, text) = home.run(&["install", "--client", "cursor"]);
    assert_eq!(code, 1);
    assert!(text.contains("mcp-calculator: Cursor: cannot read ~/.cursor/mcp.json"), "{text}");
}

/// Root may write into any folder, but nobody makes a file there.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_file_is_told() {
    let home = Home::new();
    let mut command = home.command(&["install", "--client", "codex"]);
    let (code, text) = said(home.0.path(), &command.env("CODEX_HOME", "/proc").output().expect("it starts"));
    assert_eq!(code, 1);
    assert!(text.contains("cannot write beside /proc/config.toml") && text.contains("nothing was changed"), "{text}");
}

#[test]
fn programs_that_install_at_once_lose_no_entry() {
    let home = Home::new();
    home.write(".cursor/mcp.json", "{\n  \"mcpServers\": {}\n}\n");
    let names: Vec<_> = (0..8).map(|count| format!("calc{count}")).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            home.command(&["install", "--client", "cursor", "--name", name])
                .stdout(std::process::Stdio::null())
                .spawn()
                .expect("it starts")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("it ends").success());
    }
    let text = home.read(".cursor/mcp.json");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(all["mcpServers"].as_object().expect("servers").len(), names.len(), "{text}");
    assert_eq!(home.beside(".cursor/mcp.json").len(), names.len());
}

//! Flags, commands, settings and exit codes.

use std::process::Output;

use crate::process::command;

fn run(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("the program starts")
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn version() {
    assert_eq!(printed(&["--version"]), concat!("mcp-calculator ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn every_shell_has_completions_that_know_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("completions") && script.contains("man") && script.contains("version"), "{shell}");
    }
}

#[test]
fn the_manual_page_says_what_help_says() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH mcp-calculator 1"), "{page}");
    for text in ["mcpServers", "MCP_CALCULATOR_LOG", "completions", "Exit codes"] {
        assert!(page.contains(text) && printed(&["--help"]).contains(text), "{text}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_code_2() {
    for arguments in [&["--nonsense"][..], &["serve"], &["completions"], &["completions", "csh"], &["man", "x"]] {
        let output = run(arguments);
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "{arguments:?}");
    }
}

#[test]
fn a_wrong_log_level_ends_with_code_2_and_says_what_is_allowed() {
    for level in ["verbose", "DEBUG", "0"] {
        let output = command().env("MCP_CALCULATOR_LOG", level).output().expect("the program starts");
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{level}");
        assert!(
            log.contains(&format!("MCP_CALCULATOR_LOG must be error, warn, info or debug, not \"{level}\"")),
            "{log}"
        );
    }
    for level in ["error", "warn", "info", "debug", ""] {
        let output = command().env("MCP_CALCULATOR_LOG", level).output().expect("the program starts");
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{level}");
    }
}

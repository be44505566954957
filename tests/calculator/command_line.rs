//! Flags, commands, settings and exit codes.

use std::process::{Command, Output};

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

/// A script that defines functions and completes nothing looks like a good one.
#[cfg(unix)]
#[test]
fn bash_completes_commands() {
    let script = printed(&["completions", "bash"]);
    let ask = "COMP_WORDS=(mcp-calculator ma); COMP_CWORD=1; _mcp-calculator mcp-calculator ma mcp-calculator; \
               echo \"${COMPREPLY[*]}\"";
    let output = Command::new("bash").args(["-c", &format!("{script}\n{ask}")]).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "man\n", "{output:?}");
}

#[test]
fn the_manual_page_says_what_help_says() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH mcp-calculator 1"), "{page}");
    assert!(!page.contains("(1)"), "there are no other pages: {page}");
    assert!(page.contains(".SH INSTALL OPTIONS") && page.contains("dry\\-run"), "{page}");
    for text in ["mcpServers", "MCP_CALCULATOR_LOG", "completions", "install", "Exit codes"] {
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
    for level in ["error", "warn", "info", "debug", "", "${user_config.log}"] {
        let output = command().env("MCP_CALCULATOR_LOG", level).output().expect("the program starts");
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{level}");
    }
}

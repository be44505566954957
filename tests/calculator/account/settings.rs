//! Wrong settings, and what a server does that nobody has signed in for.

use std::{io, os::unix::net::UnixListener};

use super::calculate;
use crate::{
    desktop::{Desktop, said},
    process::Server,
};

#[test]
fn a_wrong_setting_ends_with_code_2_before_anything_is_touched() {
    let desktop = Desktop::bare();
    let server = "https://calc.example/mcp";
    /// Arguments, variables, and what is said.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 13] = [
        (&["login"], &[], "say where to sign in: --server with the URL of the MCP server, or --issuer"),
        (&["login", "--server", "calc"], &[], "cannot sign in at calc: it is no absolute URL"),
        (&["login", "--issuer", "ftp://x"], &[], "cannot sign in at ftp://x: it must begin with https://"),
        (&["login", "--server", server, "--scope", "op:add op:sub"], &[], "not one scope; repeat --scope for several"),
        (&["login", "--server", server, "--token-store", "memory"], &[], "signing in would do nothing"),
        (&["login", "--server", server], &[("CLIENT_SECRET", "s")], "say to which with --client-id"),
        (&["login", "--server", server, "--client-id", "c"], &[("CLIENT_SECRET_FILE", "/none")], "cannot read /none"),
        (&["whoami", "--account", ""], &[], "an account's name has 1 to 64 characters"),
        (&["whoami"], &[("ACCOUNT", "a\u{7}")], "an account's name has 1 to 64 characters"),
        (&["logout"], &[("TOKEN_STORE", "disk")], "MCP_CALCULATOR_TOKEN_STORE must be keyring, file or memory"),
        (&[], &[("TOKEN_STORE", "disk")], "MCP_CALCULATOR_TOKEN_STORE must be keyring, file or memory"),
        (&[], &[("REQUIRE_LOGIN", "yes")], "MCP_CALCULATOR_REQUIRE_LOGIN must be true or false"),
        (&["--require-login", "--token-store", "memory"], &[], "nobody is ever signed in"),
    ];
    for (arguments, variables, expected) in cases {
        let mut command = desktop.calculator(arguments);
        for (name, value) in variables {
            command.env(format!("MCP_CALCULATOR_{name}"), value);
        }
        let said = said(&mut command);
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{arguments:?} {variables:?}: {said:?}");
        assert!(said.stderr.starts_with("error: ") && said.stderr.contains(expected), "{said:?}");
    }
    assert!(!desktop.home.path(".local").exists());
}

#[test]
fn settings_that_claude_desktop_leaves_unfilled_are_unset() {
    let desktop = Desktop::bare();
    let mut command = desktop.calculator(&[]);
    for name in ["ACCOUNT", "REQUIRE_LOGIN", "TOKEN_STORE"] {
        command.env(format!("MCP_CALCULATOR_{name}"), format!("${{user_config.{}}}", name.to_lowercase()));
    }
    let mut server = Server::start_with(&mut command);
    assert_eq!(calculate(&mut server, "add").as_deref(), Ok("9"));
    server.finish();

    let almost = said(desktop.calculator(&[]).env("MCP_CALCULATOR_TOKEN_STORE", "${user_config.token_store"));
    assert_eq!(almost.code, Some(2), "{almost:?}");
}

#[test]
fn a_server_without_a_sign_in_touches_neither_keyring_nor_folder() {
    let desktop = Desktop::bare();
    let socket = desktop.home.path("bus");
    let bus = UnixListener::bind(&socket).expect("a socket");
    bus.set_nonblocking(true).expect("a socket");
    let address = format!("unix:path={}", socket.display());
    for arguments in [&[][..], &["--require-login"]] {
        let mut command = desktop.calculator(arguments);
        let mut server = Server::start_with(command.env("DBUS_SESSION_BUS_ADDRESS", &address));
        assert_eq!(calculate(&mut server, "add").is_ok(), arguments.is_empty());
        server.finish();
    }
    for arguments in [&["whoami"][..], &["whoami", "--all", "--json"], &["logout"], &["logout", "--all"]] {
        said(desktop.calculator(arguments).env("DBUS_SESSION_BUS_ADDRESS", &address));
    }
    let nobody = bus.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(nobody, Err(io::ErrorKind::WouldBlock), "somebody has asked the keyring");
    assert!(!desktop.home.path(".local").exists(), "looking creates nothing");
}

//! Who must not see tokens, codes and client secrets.

use super::{Remote, SHORT, asking::walk, calculate};
use crate::{
    desktop::{Desktop, Said, eventually, said},
    process::Server,
    provider::DESK_SECRET,
};

#[test]
fn no_secret_is_in_any_output_argument_or_list() {
    let remote = Remote::start(SHORT);
    let desktop = Desktop::open();
    let file = desktop.home.path("secret");
    std::fs::write(&file, format!("{DESK_SECRET}\n")).expect("written");
    let mut seen = String::new();
    let mut run = |arguments: &[&str]| {
        let mut command = desktop.calculator(arguments);
        command.env("MCP_CALCULATOR_LOG", "debug").env("MCP_CALCULATOR_CLIENT_SECRET_FILE", &file);
        let Said { code, stdout, stderr } = said(&mut command);
        assert_eq!(code, Some(0), "{stderr}");
        seen += &stdout;
        seen += &stderr;
    };
    run(&["login", "--server", &remote.server.url, "--client-id", "desk"]);
    run(&["whoami"]);
    run(&["whoami", "--all", "--json"]);

    let mut command = desktop.calculator(&[]);
    let mut server = Server::start_with(command.env("MCP_CALCULATOR_LOG", "debug"));
    eventually("a renewal with the client's secret", || {
        calculate(&mut server, "add").expect("signed in");
        (remote.provider.refreshes() > 0).then_some(())
    });
    let process = format!("/proc/{}", server.child().id());
    for what in ["cmdline", "environ"] {
        seen += &String::from_utf8_lossy(&std::fs::read(format!("{process}/{what}")).expect("our own child"));
    }
    server.close_stdin();
    assert_eq!(server.answer(), None);
    seen += &server.wait().1;

    let mut look = |path: &std::path::Path| {
        if path.is_file() {
            seen += &String::from_utf8_lossy(&std::fs::read(path).expect("readable"));
        }
    };
    walk(&desktop.home.state(), &mut look);
    // What a browser was started with: the authorization URL and nothing else of value.
    seen += &desktop.home.tabs().join("\n");
    assert!(seen.contains("code_challenge=") && seen.contains("desk"), "all was looked at: {seen}");
    let said = desktop.run(&["logout"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    seen += &said.stdout;
    seen += &said.stderr;

    let issued = remote.provider.issued();
    for kind in ["AuthorizationCode", "AccessToken", "RefreshToken"] {
        assert!(issued.iter().any(|token| token.kind == kind), "no {kind} was issued");
    }
    for token in &issued {
        assert!(!seen.contains(&token.value), "{} leaks: {seen}", token.kind);
    }
    assert!(!seen.contains(DESK_SECRET), "the client's secret leaks: {seen}");
}

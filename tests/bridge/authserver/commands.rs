//! What the owner does in a terminal while the bridge serves.

use super::world::{Browser, PASSPHRASE, State, hidden};
use crate::common::bridge::{CommandLine, Scratch};

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn the_owner_sees_and_takes_back_what_is_connected() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let (one, two) = (server.grant(&client, &["op:add"]), server.grant(&client, &["op:div"]));
    assert_eq!(server.call("add", &one.access), 200);
    let listed = state.command(&["grants", "list"]);
    let rows: Vec<&str> = listed.lines().collect();
    assert!(rows.len() == 3 && rows[0].starts_with("grant  user") && rows[1].starts_with("2      owner"), "{listed}");
    assert!(rows[1].contains("op:div") && rows[1].contains("Tester") && rows[1].contains("never"), "{listed}");
    assert!(state.command(&["grants", "list", "--user", "nobody"]).starts_with("None"));
    assert_eq!(state.command(&["grants", "revoke", "1"]), "Grant 1 is revoked.\n");
    assert_eq!((server.call("add", &one.access), server.call("divide", &two.access)), (401, 200));
    let unknown = state.run(&["grants", "revoke", "1"], "");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown).contains("there is no grant `1`; see `mcp-bridge grants list`"), "{unknown:?}");
    assert_eq!(state.command(&["grants", "revoke", "--all"]), "Revoked: 1.\n");
    assert_eq!(server.call("divide", &two.access), 401);

    let apps = state.command(&["apps", "list"]);
    assert!(apps.contains(&client) && apps.contains("Tester"), "{apps}");
    let three = server.grant(&client, &["op:add"]);
    state.command(&["apps", "remove", &client]);
    assert_eq!(server.call("add", &three.access), 401);
    assert_eq!(server.token_error(&server.refresh(&client, &three.refresh)), "invalid_client");
    assert_eq!(state.run(&["apps", "remove", &client], "").status.code(), Some(1));
}

#[test]
fn passphrases_are_set_and_made_and_weak_ones_refused() {
    let state = State::new();
    let server = state.serve();
    let sign_in = |passphrase: &str| {
        let mut browser = Browser::new(&server);
        let page = browser.get("/account").expect(200, "page");
        browser.submit_passphrase(&page, passphrase).status
    };
    assert_eq!(sign_in(PASSPHRASE), 303);
    for (passphrase, words) in
        [("kurz-9", "too short"), ("aaaaaaaaaaaaa", "too easy"), (&*"ab cd".repeat(100), "too long")]
    {
        let refused = state.run(&["owner", "set-passphrase"], passphrase);
        assert!(refused.status.code() == Some(2) && text(&refused).contains(words), "{refused:?}");
        assert!(!text(&refused).contains(passphrase));
    }
    assert_eq!(sign_in(PASSPHRASE), 303, "nothing was changed");
    let reset = state.command(&["owner", "reset"]);
    let generated = reset.split_whitespace().find(|word| word.matches('-').count() == 4).expect("a passphrase");
    assert_eq!((sign_in(PASSPHRASE), sign_in(generated)), (403, 303));
}

#[test]
fn users_are_added_listed_and_removed() {
    let state = State::new();
    for name in ["", "a b", "a\nb", &"x".repeat(65)] {
        assert_eq!(state.run(&["users", "add", name], "").status.code(), Some(2), "{name:?}");
    }
    state.command(&["users", "add", "eve", "--scopes", "op:add"]);
    assert!(text(&state.run(&["users", "add", "eve"], "")).contains("there is a user of that name already"));
    let listed = state.command(&["users", "list"]);
    let rows: Vec<Vec<&str>> = listed.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[1..], [vec!["owner", "everything", "passphrase"], vec!["eve", "op:add", "passphrase"]]);
    assert!(text(&state.run(&["users", "remove", "owner"], "")).contains("the owner cannot be removed"));
    assert_eq!(state.command(&["users", "remove", "eve"]), "eve is gone.\n");
    assert_eq!(state.run(&["users", "remove", "eve"], "").status.code(), Some(1));
}

#[test]
fn without_state_it_says_how_there_is_some() {
    let scratch = Scratch::new();
    let folder = scratch.path("nothing");
    let folder = folder.to_str().expect("UTF-8");
    for arguments in [&["users", "list"][..], &["grants", "list"], &["apps", "open"]] {
        let mut line = CommandLine::new(arguments[0]);
        for argument in &arguments[1..] {
            line = line.switch(argument);
        }
        let output = line.flag("--state-dir", folder).run();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("start `mcp-bridge serve` once"), "{output:?}");
    }
    assert!(!scratch.path("nothing").exists(), "looking makes nothing");
}

/// A passphrase is for a person's eyes: where there is no terminal, none is made, and nobody can sign in.
#[test]
fn a_first_start_without_a_terminal_puts_no_passphrase_into_a_log() {
    let scratch = Scratch::new();
    let folder = scratch.path("state");
    let folder = folder.to_str().expect("UTF-8");
    let bridge = CommandLine::serve().env("MCP_BRIDGE_STATE_DIR", folder).spawn();
    bridge.wait_for_event("a hint", |event| {
        event["message"].as_str().is_some_and(|text| text.contains("run `mcp-bridge owner reset` in a terminal"))
    });
    drop(bridge);
    let reset = CommandLine::new("owner").switch("reset").flag("--state-dir", folder).run();
    assert!(reset.status.success(), "{reset:?}");
    let text = String::from_utf8(reset.stdout).expect("UTF-8");
    let passphrase = text.split_whitespace().find(|word| word.matches('-').count() == 4).expect("a passphrase");
    let bridge = CommandLine::serve().env("MCP_BRIDGE_STATE_DIR", folder).spawn();
    let page = bridge.send(&crate::common::http::Request::get("/account")).expect(200, "page");
    let cookie = page.header("Set-Cookie").and_then(|set| set.split(';').next()).expect("a cookie").to_owned();
    let fields = super::world::Parameters::new(&[("form", &hidden(&page, "form")), ("passphrase", passphrase)]);
    let request = super::world::form("/sign-in", &fields).header("Cookie", cookie);
    bridge.send(&request.header("Sec-Fetch-Site", "same-origin")).expect(303, "signed in");
}

/// At a terminal the first start shows the passphrase and the next steps, and later ones do not.
#[cfg(target_os = "linux")]
#[test]
fn a_first_start_in_a_terminal_shows_the_passphrase_once() {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    use crate::driver::Guard;

    let scratch = Scratch::new();
    let folder = scratch.path("state");
    // `script` is the terminal; it ends with what runs there.
    let start = || {
        let bridge = env!("CARGO_BIN_EXE_mcp-bridge");
        // Its process is the shell's, so that it can be ended.
        let serve = format!("echo $$; exec '{bridge}' serve --listen 127.0.0.1:0 --state-dir '{}'", folder.display());
        let mut command = Command::new("script");
        command.args(["-qec", &serve, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Guard::spawn(command.env_clear().env("PATH", "/usr/bin:/bin"))
    };
    let mut first = start();
    let mut said = Vec::new();
    for line in BufReader::new(first.0.stdout.take().expect("piped")).lines().map_while(Result::ok) {
        let is_last = line.contains("mcp-bridge doctor http");
        said.push(line.trim_end().to_owned());
        if is_last {
            break;
        }
    }
    let first_id = said.remove(0);
    let text = said.join("\n");
    let origin =
        text.split("listening on ").nth(1).and_then(|rest| rest.split("/mcp").next()).expect("a URL").to_owned();
    let passphrase = text.split("shown only now:").nth(1).and_then(|rest| rest.split_whitespace().next());
    let passphrase = passphrase.expect("a passphrase").to_owned();
    let shown = text.replace(&origin, "http://127.0.0.1:8808").replace(&passphrase, "aaaa-bbbb-cccc-dddd-eeee");
    super::world::check_text("first_start", &shown);
    let address = origin.strip_prefix("http://").expect("http").parse().expect("an address");
    let page = crate::common::http::Request::get("/account").send(address).expect(200, "page");
    let cookie = page.header("Set-Cookie").and_then(|set| set.split(';').next()).expect("a cookie").to_owned();
    let fields = super::world::Parameters::new(&[("form", &hidden(&page, "form")), ("passphrase", &passphrase)]);
    let request = super::world::form("/sign-in", &fields).header("Cookie", cookie);
    request.header("Sec-Fetch-Site", "same-origin").send(address).expect(303, "signed in");
    let end = |id: &str, mut terminal: Guard| {
        let killed = Command::new("/bin/kill").args(["-TERM", id]).env_clear().status();
        assert!(killed.expect("kill starts").success());
        terminal.0.wait().expect("it ends");
    };
    end(&first_id, first);

    let mut second = start();
    let mut lines = BufReader::new(second.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let second_id = lines.next().expect("a line").trim_end().to_owned();
    assert!(lines.next().expect("a line").contains("listening on"));
    end(&second_id, second);
    let rest: String = lines.collect();
    assert!(!rest.contains("passphrase"), "{rest}");
}

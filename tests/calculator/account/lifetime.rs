//! From signing in to signing out, and other ends.

use serde_json::{Value, json};

use super::{LONG, Remote, SHORT, calculate, outcome, refusal};
use crate::{
    desktop::{Desktop, eventually},
    process::{call, modern},
};

#[test]
fn a_sign_in_opens_what_was_granted_until_its_user_ends_it() {
    let remote = Remote::start(SHORT * 2);
    let (provider, desktop) = (&remote.provider, Desktop::open());
    let expected = format!(
        "Signed in at {}. The tokens are in the keyring.\nThe calculator may add; not allowed: subtract, multiply, \
         divide.\n",
        provider.issuer
    );
    assert_eq!(desktop.login(&["--server", &remote.server.url, "--scope", "op:add"]), expected);

    let said = desktop.run(&["whoami"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    for line in [
        "a user whose name was not told (account default)",
        &format!("  server       {}", remote.server.url),
        &format!("  issuer       {}", provider.issuer),
        "  scopes       op:add",
        "  kept in      keyring",
    ] {
        assert!(said.stdout.lines().any(|shown| shown == line), "{line}: {}", said.stdout);
    }
    let shown: Value = serde_json::from_str(&desktop.run(&["whoami", "--json"]).stdout).expect("JSON");
    assert_eq!((&shown["server"], &shown["scopes"]), (&json!(remote.server.url), &json!(["op:add"])));
    assert_eq!((&shown["account"], &shown["token_store"]), (&json!("default"), &json!("keyring")));
    assert!(shown["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{shown}");

    let mut running = desktop.serve(&[]);
    assert_eq!(calculate(&mut running, "add").as_deref(), Ok("9"));
    let refused = calculate(&mut running, "divide").expect_err("not granted");
    assert_eq!(
        refused,
        "Missing required scope \"op:div\", so nothing was done. Ask the user to run `mcp-calculator login --scope \
         op:add --scope op:div` and to allow op:div, then call again."
    );
    let said = desktop.follow(&refused);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("not granted before: op:div"), "{said:?}");
    eventually("the wider sign-in", || calculate(&mut running, "divide").ok());
    assert_eq!(calculate(&mut running, "add").as_deref(), Ok("9"), "what was granted before stays");
    running.finish();

    let mut again = desktop.serve(&[]);
    assert_eq!(calculate(&mut again, "divide").as_deref(), Ok("2"));
    let before = provider.refreshes();
    eventually("a renewal", || {
        assert_eq!(calculate(&mut again, "divide").as_deref(), Ok("2"), "the user notices nothing");
        (provider.refreshes() > before).then_some(())
    });

    let said = desktop.run(&["logout"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Signed out (account default).\n"), "{said:?}");
    let said = desktop.run(&["whoami"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), "Not signed in (account default).\n"), "{said:?}");
    let expected = format!(
        "Signed out: another program has signed this user out. Nothing was done. Ask the user to run `mcp-calculator \
         login --server {}`, then call again.",
        remote.server.url
    );
    assert_eq!(refusal(&mut again, "divide"), expected, "it must not become unrestricted");
    assert_eq!(desktop.run(&["logout"]).stdout, "Not signed in: nothing to do.\n");

    let mut free = desktop.serve(&[]);
    assert_eq!(calculate(&mut free, "multiply").as_deref(), Ok("18"), "a local user needs no account");
    let mut strict = desktop.serve(&["--require-login"]);
    assert_eq!(
        calculate(&mut strict, "add").expect_err("a sign-in is required"),
        "Not signed in, so nothing was done. Ask the user to run `mcp-calculator login --server URL`, then call again."
    );
    for server in [again, free, strict] {
        server.finish();
    }
}

#[test]
fn tokens_are_dead_at_the_server_after_logout() {
    let remote = Remote::start(LONG);
    let desktop = Desktop::open();
    desktop.login(&["--server", &remote.server.url]);
    let living = || (remote.provider.living("AccessToken"), remote.provider.living("RefreshToken"));
    assert_eq!(living(), (1, 1));
    assert_eq!(desktop.run(&["logout"]).code, Some(0));
    assert_eq!(living(), (0, 0));
}

#[test]
fn a_sign_in_that_the_server_has_revoked_stays_ended_after_a_restart() {
    let remote = Remote::start(SHORT);
    let desktop = Desktop::open();
    desktop.login(&["--server", &remote.server.url]);
    let mut running = desktop.serve(&[]);
    assert_eq!(calculate(&mut running, "add").as_deref(), Ok("9"));
    remote.provider.revoke_grants();
    let refused = refusal(&mut running, "add");
    let (start, end) = (
        "Signed out: the authorization server has refused to renew it: invalid_grant",
        "Nothing was done. Ask the user to run `mcp-calculator login`, then call again.",
    );
    assert!(refused.starts_with(start) && refused.ends_with(end), "{refused}");
    let mut late = desktop.serve(&[]);
    assert_eq!(calculate(&mut late, "add"), Err(refused.clone()), "a restart does not lift it");
    let said = desktop.run(&["whoami"]);
    let expected = format!("Not signed in (account default).\nThe sign-in at {} has ended: ", remote.provider.issuer);
    assert!(said.code == Some(1) && said.stdout.starts_with(&expected), "{said:?}");
    assert!(said.stdout.ends_with("Run `mcp-calculator login` to sign in again.\n"), "{said:?}");

    remote.provider.set_token_ttl(LONG);
    let said = desktop.follow(&refused);
    assert_eq!(said.code, Some(0), "{said:?}");
    for server in [&mut running, &mut late] {
        eventually("the new sign-in", || calculate(server, "add").ok());
    }

    remote.provider.set_token_ttl(SHORT);
    desktop.login(&[]);
    let mut server = desktop.serve(&[]);
    remote.provider.revoke_grants();
    refusal(&mut server, "add");
    assert_eq!(desktop.run(&["logout"]).stdout, "Signed out (account default).\n");
    assert_eq!(calculate(&mut desktop.serve(&[]), "add").as_deref(), Ok("9"), "the user has ended it");
}

#[test]
fn two_servers_that_start_with_an_expired_token_renew_it_once() {
    let remote = Remote::start(SHORT);
    let desktop = Desktop::open();
    desktop.login(&["--server", &remote.server.url]);
    eventually("the token's end", || (remote.provider.living("AccessToken") == 0).then_some(()));
    remote.provider.set_token_ttl(LONG);
    let mut servers = [desktop.serve(&[]), desktop.serve(&[])];
    for server in &mut servers {
        server.send(&modern("1", "tools/call", call("add", 6.0, 3.0)));
    }
    for server in &mut servers {
        assert_eq!(outcome(&server.answer().expect("an answer")).as_deref(), Ok("9"));
    }
    assert_eq!(remote.provider.refreshes(), 1);
    // A second use of a rotated refresh token would have ended them all.
    assert_eq!(remote.provider.living("AccessToken"), 1);
    for server in servers {
        server.finish();
    }
}

#[test]
fn accounts_do_not_mix() {
    let remote = Remote::start(LONG);
    let desktop = Desktop::open();
    desktop.login(&["--server", &remote.server.url, "--account", "my work", "--scope", "op:add"]);
    let said = desktop.run(&["whoami"]);
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (Some(1), "Not signed in (account default).\nThere are sign-ins with --account: my work.\n"),
    );
    desktop.login(&["--server", &remote.server.url, "--scope", "op:div"]);
    let all: Value = serde_json::from_str(&desktop.run(&["whoami", "--all", "--json"]).stdout).expect("JSON");
    let scopes: Vec<_> =
        all.as_array().expect("an array").iter().map(|one| (&one["account"], &one["scopes"])).collect();
    assert_eq!(
        scopes,
        [(&json!("my work"), &json!(["op:add"])), (&json!("default"), &json!(["op:div"]))],
        "in the order of their first sign-in"
    );

    let mut work = desktop.serve(&["--account", "my work"]);
    assert_eq!(calculate(&mut work, "add").as_deref(), Ok("9"));
    let refused = calculate(&mut work, "divide").expect_err("that is the other account's");
    assert!(refused.contains("`mcp-calculator login --account 'my work' --scope op:add --scope op:div`"), "{refused}");
    let mut own = desktop.serve(&[]);
    assert_eq!(calculate(&mut own, "divide").as_deref(), Ok("2"));
    calculate(&mut own, "add").expect_err("that is the other account's");

    assert_eq!(desktop.run(&["logout", "--account", "my work"]).code, Some(0));
    assert_eq!(calculate(&mut own, "divide").as_deref(), Ok("2"), "nobody else is signed out");
    desktop.login(&["--server", &remote.server.url, "--account", "other"]);
    let said = desktop.run(&["logout", "--all"]);
    assert_eq!(said.stdout, "Signed out (account default).\nSigned out (account other).\n");
    assert_eq!(remote.provider.living("RefreshToken"), 0);
    assert_eq!(desktop.run(&["whoami", "--all"]).stdout, "Not signed in (account default).\n");
}

#[test]
fn a_sign_in_in_files_restricts_a_server_that_looks_into_the_keyring() {
    let remote = Remote::start(LONG);
    let desktop = Desktop::bare();
    desktop.login(&["--server", &remote.server.url, "--scope", "op:add", "--token-store", "file"]);
    let mut server = desktop.serve(&[]);
    let refused = calculate(&mut server, "add").expect_err("there is a sign-in, elsewhere");
    assert_eq!(
        refused,
        "Nothing was done: this user is signed in with --token-store file, and this server uses --token-store \
         keyring. Ask the user to start it with --token-store file, or to run `mcp-calculator logout --token-store \
         file`."
    );
    assert_eq!(calculate(&mut desktop.serve(&["--token-store", "file"]), "add").as_deref(), Ok("9"));
    let hint = "There is a sign-in with --token-store file.\n";
    assert_eq!(desktop.run(&["whoami"]).stdout, format!("Not signed in (account default).\n{hint}"));
    assert_eq!(desktop.run(&["logout"]).stdout, format!("Not signed in: nothing to do.\n{hint}"));
    let said = desktop.follow(&refused);
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "Signed out (account default).\n"), "{said:?}");
    eventually("the end of it", || calculate(&mut server, "divide").ok());
}

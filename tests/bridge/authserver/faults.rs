//! What the authorization server keeps when everything else goes wrong.

use std::{fs, sync::Mutex, thread, time::Duration};

use super::world::{Browser, Server, State, Tokens};
use crate::common::bridge::CommandLine;

/// Attack 20.
#[cfg(unix)]
#[test]
fn only_hashes_are_kept_and_only_for_their_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let state = State::new();
    let server = state.serve_with(|line| line.flag("--log-level", "trace"));
    let client = server.client();
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let code = browser.code(&server.request(&client), &["op:add"]);
    let tokens = Tokens::of(server.token(&server.exchange(&client, &code)));
    let renewed = Tokens::of(server.token(&server.refresh(&client, &tokens.refresh)));
    assert_eq!(server.call("add", &renewed.access), 200);
    let cookie = browser.cookie.clone().expect("signed in");
    let cookie = cookie.split_once('=').expect("a pair").1.to_owned();
    let secrets = [
        super::world::PASSPHRASE.to_owned(),
        super::world::VERIFIER.to_owned(),
        code,
        tokens.access,
        tokens.refresh,
        renewed.access,
        renewed.refresh,
        cookie,
    ];
    let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&state.folder()), 0o700);
    for entry in fs::read_dir(state.folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let bytes = fs::read(&path).expect("readable");
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "in {}", path.display());
        }
    }
    let log = server.bridge.log_text();
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "in the log");
    }
}

/// Attack 24: a sign-in goes on over a restart.
#[test]
fn a_restart_in_the_middle_loses_nothing() {
    let state = State::new();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").port()
    };
    let listen = format!("127.0.0.1:{port}");
    let start = || state.serve_with(|line| line.flag("--listen", &listen));
    let first = start();
    let client = first.client();
    let mut browser = Browser::new(&first);
    browser.sign_in();
    let code = browser.code(&first.request(&client), &["op:add"]);
    let kept = first.grant(&client, &["op:add"]);
    let cookie = browser.cookie.clone();
    drop(browser);
    drop(first);
    let second = start();
    let mut browser = Browser::new(&second);
    browser.cookie = cookie;
    assert!(browser.get("/account").expect(200, "page").text().contains("Your account"), "still signed in");
    let tokens = Tokens::of(second.token(&second.exchange(&client, &code)));
    for token in [&tokens.access, &kept.access] {
        assert_eq!(second.call("add", token), 200);
    }
    second.token(&second.refresh(&client, &kept.refresh)).expect(200, "refreshed");
    browser.code(&second.request(&client), &["op:add"]);
}

/// What a client or a browser was told before the kill.
enum Acknowledged {
    /// It is signed in.
    Cookie(String),
    /// This client has this refresh token.
    RefreshToken(String, String),
}

impl Acknowledged {
    /// After the kill it has to be so still.
    fn check(&self, server: &Server<'_>) {
        match self {
            Self::Cookie(cookie) => {
                let mut browser = Browser::new(server);
                browser.cookie = Some(cookie.clone());
                let page = browser.get("/account").expect(200, "account");
                assert!(page.text().contains("Your account"), "an acknowledged sign-in survives");
            }
            Self::RefreshToken(client, token) => {
                let answer = server.token(&server.refresh(client, token));
                Tokens::of(answer.expect(200, "an acknowledged refresh token survives"));
            }
        }
    }
}

/// Kills the bridge a hundred times, at moments that differ from round to round, while `work` goes on
/// that says what it was told; and looks each time whether that still holds.
fn killed_a_hundred_times(begin: Duration, work: impl Fn(&Server<'_>, &dyn Fn(Acknowledged)) + Sync) {
    const ROUNDS: u64 = 100;
    let state = State::new();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").port()
    };
    // A browser's cookie is for one port.
    let listen = format!("127.0.0.1:{port}");
    let start = || state.serve_with(|line| line.flag("--log-level", "warn").flag("--listen", &listen));
    let mut known: Option<Acknowledged> = None;
    let mut told = 0;
    for round in 0..ROUNDS {
        let server = start();
        if let Some(known) = known.take() {
            known.check(&server);
        }
        let last = Mutex::new(None);
        let pid = server.bridge.id().to_string();
        thread::scope(|scope| {
            scope.spawn(|| {
                // The kill breaks it off, at whatever it is about.
                let tell = |acknowledged| *last.lock().expect("no panic") = Some(acknowledged);
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&server, &tell)));
            });
            thread::sleep(begin + Duration::from_micros((round * 7_919) % 150_000));
            let killed = std::process::Command::new("/bin/kill").args(["-9", &pid]).env_clear().status();
            assert!(killed.expect("kill starts").success());
        });
        known = last.into_inner().expect("no panic");
        told += usize::from(known.is_some());
    }
    assert!(told > 25, "many kills came after something was told: {told}");
    let server = start();
    let never_issued = format!("mcpb_at_{}", "A".repeat(43));
    assert_eq!(server.call("add", &never_issued), 401);
}

#[test]
fn a_kill_at_any_moment_of_signing_in_loses_no_sign_in_that_was_acknowledged() {
    killed_a_hundred_times(Duration::from_millis(30), |server, tell| {
        loop {
            let mut browser = Browser::new(server);
            browser.sign_in();
            tell(Acknowledged::Cookie(browser.cookie.clone().expect("signed in")));
        }
    });
}

#[test]
fn a_kill_at_any_moment_of_an_exchange_loses_no_grant_that_was_acknowledged() {
    killed_a_hundred_times(Duration::from_millis(120), |server, tell| {
        let client = server.client();
        let mut browser = Browser::new(server);
        browser.sign_in();
        loop {
            let code = browser.code(&server.request(&client), &["op:add"]);
            let tokens = Tokens::of(server.token(&server.exchange(&client, &code)));
            tell(Acknowledged::RefreshToken(client.clone(), tokens.refresh));
        }
    });
}

#[test]
fn a_kill_at_any_moment_of_a_rotation_loses_no_grant_that_was_acknowledged() {
    killed_a_hundred_times(Duration::from_millis(120), |server, tell| {
        let client = server.client();
        let mut tokens = server.grant(&client, &["op:add"]);
        loop {
            tokens = Tokens::of(server.token(&server.refresh(&client, &tokens.refresh)));
            tell(Acknowledged::RefreshToken(client.clone(), tokens.refresh.clone()));
        }
    });
}

#[test]
fn a_locked_state_is_503_and_nothing_is_lost() {
    let state = State::new();
    let server = state.serve();
    let client = server.client();
    let tokens = server.grant(&client, &["op:add"]);
    let refresh = server.refresh(&client, &tokens.refresh);
    {
        let _lock = Lock::take(&state);
        assert_eq!(server.call("add", &tokens.access), 200, "who only looks is not in the way");
        let answer = server.token(&refresh).expect(503, "it cannot be written");
        assert_eq!(answer.json()["error"], "temporarily_unavailable");
        assert!(answer.header("Retry-After").is_some());
    }
    server.token(&refresh).expect(200, "nothing was used up");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_503_and_nothing_is_lost() {
    use std::io::Write as _;
    let state = State::new();
    let server = state.serve_with(|line| line.disk(state.folder(), "rw"));
    let client = server.client();
    let tokens = server.grant(&client, &["op:add"]);
    let mut browser = Browser::new(&server);
    browser.sign_in();
    let code = browser.code(&server.request(&client), &["op:add"]);
    let (exchange, refresh) = (server.exchange(&client, &code), server.refresh(&client, &tokens.refresh));
    let filler = server.bridge.disk(&state.folder().join("filler"));
    let mut file = fs::File::create(&filler).expect("a file");
    // To the last byte.
    while file.write(&[0; 512]).is_ok_and(|written| written > 0) {}
    drop(file);
    assert_eq!(server.call("add", &tokens.access), 200, "who only looks is not in the way");
    assert_eq!(server.call("add", "mcpb_at_unknown"), 401);
    for parameters in [&exchange, &refresh] {
        let answer = server.token(parameters).expect(503, "it cannot be written");
        assert_eq!(answer.json()["error"], "temporarily_unavailable");
        assert!(answer.header("Retry-After").is_some());
    }
    let metadata = serde_json::json!({ "redirect_uris": ["http://127.0.0.1/cb"] });
    server.register(&metadata).expect(503, "registration");
    let page = browser.authorize(&server.request(&client)).expect(503, "a page says so");
    assert!(page.text().contains("<h1"), "{}", page.text());
    server.bridge.wait_for_event("that says why", |event| event.to_string().contains("no space left"));
    fs::remove_file(&filler).expect("ours");
    for parameters in [&exchange, &refresh] {
        server.token(parameters).expect(200, "nothing was used up");
    }
    server.register(&metadata).expect(201, "registration");
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_state_ends_the_start_with_a_reason() {
    let state = State::new();
    let output = state.line().disk(state.folder(), "ro").run();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("read-only"), "{text}");
}

/// Another process that holds the state.
struct Lock(std::process::Child);

impl Lock {
    fn take(state: &State) -> Self {
        use std::io::{BufRead as _, BufReader};
        let program = "import sqlite3, sys\n\
                       db = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
                       db.execute('BEGIN IMMEDIATE')\n\
                       print('locked', flush=True)\n\
                       sys.stdin.read()\n";
        let mut child = std::process::Command::new("python3")
            .args(["-c", program])
            .arg(state.folder().join("authserver.db"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
        assert_eq!(line, "locked\n");
        Self(child)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_state_that_cannot_be_used_ends_the_start_with_a_reason() {
    use std::os::unix::fs::PermissionsExt as _;
    let state = State::new();
    let database = state.folder().join("authserver.db");
    let refused = |words: &[&str]| {
        let output = state.line().run();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{text}");
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    let set = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    set(&database, 0o644);
    refused(&["can be opened by other users", "chmod 600"]);
    set(&database, 0o600);
    set(&state.folder(), 0o755);
    refused(&["can be opened by other users", "chmod 700"]);
    set(&state.folder(), 0o700);
    let good = fs::read(&database).expect("readable");
    fs::write(&database, b"nothing that SQLite knows".repeat(200)).expect("written");
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(state.folder().join(format!("authserver.db{suffix}")));
    }
    refused(&["is damaged", "put a backup in its place"]);
    fs::write(&database, good).expect("written");
    let file = state.folder().with_file_name("file");
    fs::write(&file, "").expect("written");
    let output = CommandLine::serve().env("MCP_BRIDGE_STATE_DIR", file.to_str().expect("UTF-8")).run();
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot make the folder"), "{output:?}");
}

//! How the user is asked, and when not.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Child, ChildStderr},
    sync::mpsc::{Receiver, sync_channel},
    time::Duration,
};

use super::{LONG, Remote, calculate};
use crate::{
    desktop::{Desktop, eventually},
    driver::{Guard, node, transcript},
    process::signal,
};

/// Longer than a sign-in takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `login` that waits for its user.
struct Login {
    child: Guard,
    lines: Receiver<String>,
}

impl Login {
    fn start(desktop: &Desktop, arguments: &[&str]) -> Self {
        let mut child = Guard::spawn(&mut desktop.calculator(&[&["login"], arguments].concat()));
        let stderr: ChildStderr = child.0.stderr.take().expect("a pipe");
        let (sender, lines) = sync_channel(1024);
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                if sender.send(line.expect("UTF-8")).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line of stderr for which `wanted` holds.
    fn line(&self, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("more to read");
            if wanted(&line) {
                return line.trim().to_owned();
            }
        }
    }

    fn process(&mut self) -> &mut Child {
        &mut self.child.0
    }

    /// Waits for its end; gives its stdout.
    fn finish(mut self) -> (Option<i32>, String) {
        let mut stdout = self.process().stdout.take().expect("a pipe");
        let (sender, text) = sync_channel(1);
        std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("UTF-8");
            sender.send(text).ok();
        });
        let text = text.recv_timeout(PATIENCE).expect("it ends");
        (self.process().wait().expect("our own child").code(), text)
    }
}

#[test]
fn two_logins_at_once_open_one_tab() {
    let remote = Remote::start(LONG);
    let desktop = Desktop::open();
    desktop.home.look_away(true);
    let first = Login::start(&desktop, &["--server", &remote.server.url]);
    eventually("a tab", || (!desktop.home.tabs().is_empty()).then_some(()));
    let second = Login::start(&desktop, &["--server", &remote.server.url]);
    second.line(|line| line == "mcp-calculator: somebody is signing in already; waiting for the end of that");
    desktop.home.look_away(false);
    for login in [first, second] {
        let (code, said) = login.finish();
        assert!(code == Some(0) && said.starts_with("Signed in at "), "{said}");
    }
    assert_eq!(desktop.home.tabs().len(), 1);
}

#[test]
fn an_interrupted_login_leaves_nothing_that_hinders_the_next_one() {
    let remote = Remote::start(LONG);
    let desktop = Desktop::open();
    desktop.home.look_away(true);
    let mut login = Login::start(&desktop, &["--server", &remote.server.url]);
    eventually("a tab", || (!desktop.home.tabs().is_empty()).then_some(()));
    signal(login.process(), "INT");
    let status = eventually("its end", || login.process().try_wait().expect("our own child"));
    assert_eq!(status.signal(), Some(2), "a shell takes that for 130");
    assert_eq!(desktop.run(&["whoami"]).stdout, "Not signed in (account default).\n");
    desktop.home.look_away(false);
    desktop.login(&["--server", &remote.server.url]);
    assert_eq!(desktop.home.tabs().len(), 2, "it is asked at once");
}

#[test]
fn without_a_keyring_nobody_is_sent_to_a_browser() {
    let remote = Remote::start(LONG);
    let desktop = Desktop::bare();
    let said = desktop.run(&["login", "--server", &remote.server.url]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:?}");
    assert_eq!(
        said.stderr,
        "mcp-calculator: cannot reach the keyring: there is no D-Bus session here, as over SSH, in a container or in a \
         service; run this within a desktop session or under dbus-run-session, or use --token-store file\n"
    );
    assert!(desktop.home.tabs().is_empty() && remote.provider.issued().is_empty());
    assert_eq!(calculate(&mut desktop.serve(&[]), "add").as_deref(), Ok("9"), "it serves all the same");
}

#[test]
fn files_are_for_their_user_alone_and_only_when_asked_for() {
    let remote = Remote::start(LONG);
    let desktop = Desktop::without_keyring();
    let said = desktop.login(&["--server", &remote.server.url]);
    assert!(said.contains("The tokens are in a file that only you can read, unencrypted."), "{said}");
    let mut files = 0;
    let mut look = |path: &Path| {
        let mode = path.metadata().expect("there").permissions().mode() & 0o7777;
        files += usize::from(path.is_file());
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}: {mode:o}", path.display());
    };
    walk(&desktop.home.state(), &mut look);
    assert!(files >= 2, "a list and tokens");
    let mut server = desktop.serve(&[]);
    assert_eq!(calculate(&mut server, "add").as_deref(), Ok("9"));
    assert_eq!(desktop.run(&["logout"]).code, Some(0));
    let tokens = desktop.home.state().join("file/tokens");
    assert_eq!(std::fs::read_dir(tokens).expect("a folder").count(), 0);
}

/// Calls `look` for `path` and all that is in it.
pub(super) fn walk(path: &Path, look: &mut dyn FnMut(&Path)) {
    look(path);
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("readable") {
            walk(&entry.expect("readable").path(), look);
        }
    }
}

#[test]
fn without_a_browser_the_url_is_there_to_be_opened() {
    let remote = Remote::start(LONG);
    let desktop = Desktop::without_keyring();
    let login = Login::start(&desktop, &["--server", &remote.server.url, "--no-browser"]);
    let url = login.line(|line| line.trim().starts_with("http://") && line.contains("code_challenge="));
    transcript(node("browser-sign-in.mjs").arg(&url));
    let (code, said) = login.finish();
    assert!(code == Some(0) && said.starts_with("Signed in at "), "{said}");
    assert!(desktop.home.tabs().is_empty());
}

#[test]
fn a_code_signs_in_from_another_machine() {
    let remote = Remote::start(LONG);
    let desktop = Desktop::without_keyring();
    let login = Login::start(&desktop, &["--server", &remote.server.url, "--device"]);
    let url = login.line(|line| line.trim().starts_with("http://"));
    login.line(|line| line == "and enter the code");
    let code = login.line(|line| !line.is_empty());
    transcript(node("browser-device.mjs").args([&url, &code]));
    let (code, said) = login.finish();
    assert!(code == Some(0) && said.starts_with("Signed in at "), "{said}");
    assert!(desktop.home.tabs().is_empty());
    assert_eq!(calculate(&mut desktop.serve(&[]), "add").as_deref(), Ok("9"));
}

//! The watcher over children: the hidden subcommand that ends them when the bridge was killed.

use std::{
    fs,
    io::Read as _,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
};

use super::common::{bridge::CommandLine, wait_until};

const MARK: &str = "MCP_BRIDGE_INSTANCE";

/// A process that is killed with the value.
struct Killed(Child);

impl Killed {
    /// `sleep`, with or without a mark.
    fn sleep(mark: Option<&str>) -> Self {
        let mut command = Command::new("/bin/sleep");
        command.arg("1000").stdin(Stdio::null()).env_clear().envs(mark.map(|mark| (MARK, mark)));
        Self(command.spawn().expect("it starts"))
    }

    fn watcher(mark: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-bridge"));
        command.arg("watch-children").env_clear().env(MARK, mark).stdin(Stdio::piped());
        let watcher = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
        // SIGHUP, SIGINT, SIGQUIT and SIGTERM are bits 0, 1, 2 and 14.
        wait_until("the watcher withstands signals", || watcher.caught() & 0x4007 == 0x4007);
        watcher
    }

    /// The signals for which it has handlers, as bits.
    fn caught(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("a living process");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        u64::from_str_radix(caught.trim(), 16).expect("a mask")
    }

    /// What the bridge's end does.
    fn close_stdin(&mut self) {
        drop(self.0.stdin.take());
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("our own child")
    }

    fn wait(&mut self, what: &str) -> ExitStatus {
        let mut status = None;
        wait_until(what, || {
            status = self.ended();
            status.is_some()
        });
        status.expect("waited for")
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("/bin/kill");
        let killed = kill.arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(killed.expect("kill starts").success());
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A mark that no other test has.
fn mark(test: &str) -> String {
    format!("{test}-{}", std::process::id())
}

#[test]
fn children_of_a_bridge_that_was_killed_are_killed() {
    let (ours, theirs) = (mark("killed"), mark("killed-not"));
    let mut child = Killed::sleep(Some(&ours));
    let mut strangers = [Killed::sleep(Some(&theirs)), Killed::sleep(None), Killed::sleep(Some(&format!("{ours}x")))];
    // A tree, one of which has left the group and the session, and all of which hold its output.
    let mut tree = Command::new("/bin/sh");
    tree.args(["-c", "setsid sleep 1000 & sleep 1000 & echo ready; exec sleep 1000"]).stdin(Stdio::null());
    tree.env_clear().env("PATH", "/usr/bin:/bin").env(MARK, &ours).stdout(Stdio::piped());
    let mut tree = Killed(tree.spawn().expect("it starts"));
    let mut output = tree.0.stdout.take().expect("it is piped");
    output.read_exact(&mut [0; 6]).expect("ready");

    let mut watcher = Killed::watcher(&ours);
    assert_eq!((child.ended(), tree.ended()), (None, None), "the bridge lives");
    watcher.close_stdin();
    assert!(watcher.wait("the watcher's end").success());
    assert_eq!(child.wait("the child's end").signal(), Some(9));
    assert_eq!(tree.wait("the tree's end").signal(), Some(9));
    assert_eq!(output.read(&mut [0; 1]).expect("a pipe"), 0, "nobody of the tree is left");
    for stranger in &mut strangers {
        assert_eq!(stranger.ended(), None, "a stranger was killed");
    }
}

#[test]
fn signals_for_the_bridge_do_not_end_its_watcher() {
    let mark = mark("signals");
    let mut child = Killed::sleep(Some(&mark));
    let mut watcher = Killed::watcher(&mark);
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        watcher.signal(signal);
    }
    wait_until("the signals were delivered", || {
        let status = fs::read_to_string(format!("/proc/{}/status", watcher.0.id())).expect("a living process");
        status.lines().filter(|line| line.contains("Pnd:")).all(|line| line.ends_with(&"0".repeat(16)))
    });
    assert_eq!((watcher.ended(), child.ended()), (None, None));
    watcher.close_stdin();
    assert!(watcher.wait("the watcher's end").success());
    assert_eq!(child.wait("the child's end").signal(), Some(9));
}

#[test]
fn the_watcher_is_not_for_people() {
    let output = CommandLine::new("watch-children").run();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text, "mcp-bridge: `watch-children` is started by `serve`, not by hand\n");
    let bash = CommandLine::new("completions").switch("bash");
    for line in [CommandLine::new("--help"), CommandLine::new("man"), bash] {
        let output = line.run();
        assert!(output.status.success(), "{line:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("watch-children"), "{line:?}");
    }
}

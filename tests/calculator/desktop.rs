//! What a signed-in user has around: a home folder, a keyring and a browser.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::driver::{file, finish, node_itself};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Until it is there; D-Bus would start another one for who asks before. Looks for half a minute.
macro_rules! wait_for_daemon {
    () => {
        "for try in {1..600}; do dbus-send --session --print-reply --dest=org.freedesktop.DBus / \
         org.freedesktop.DBus.GetNameOwner string:org.freedesktop.secrets >/dev/null 2>&1 && break; sleep 0.05; done\n"
    };
}
pub(crate) use wait_for_daemon;

/// Starts the keyring's daemon and unlocks it; it ends with the script, not by itself.
pub(crate) const UNLOCKED: &str = concat!(
    "gnome-keyring-daemon --foreground --unlock --components=secrets <<<password >/dev/null 2>&1 & daemon=$!\n",
    wait_for_daemon!()
);

/// A home folder of its own.
pub(crate) struct Home {
    scratch: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self { scratch: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(home.path("run")).expect("a new folder");
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A program that sees this home and nothing else.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.scratch.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The state folder of the calculator.
    pub(crate) fn state(&self) -> PathBuf {
        self.path(".local/state/mcp-calculator")
    }

    /// The URLs that a browser was opened with, in the order of their tabs.
    pub(crate) fn tabs(&self) -> Vec<String> {
        let tabs = std::fs::read_to_string(self.path("tabs")).unwrap_or_default();
        tabs.lines().map(str::to_owned).collect()
    }

    /// Whether whoever sits at the browser does nothing for now.
    pub(crate) fn look_away(&self, away: bool) {
        let file = self.path("away");
        if away { std::fs::write(file, "") } else { std::fs::remove_file(file) }.expect("the home can be written to");
    }

    /// A browser that notes its URL and, when somebody looks, opens it.
    fn browser(&self) -> PathBuf {
        let path = self.path("browser");
        let (home, node, script) = (self.scratch.path().display(), node_itself(), file("browser-sign-in.mjs"));
        let (node, script) = (node.display(), script.display());
        let text = format!(
            "#!/bin/sh\necho \"$1\" >>'{home}/tabs'\nwhile [ -e '{home}/away' ]; do sleep 0.05; done\n\
             exec env -i PATH=/usr/bin:/bin '{node}' '{script}' \"$1\" >>'{home}/pages' 2>&1\n"
        );
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("ours");
        path
    }
}

/// A running session: D-Bus, an unlocked keyring (or neither), a browser, and what to add to a command line.
pub(crate) struct Desktop {
    pub(crate) home: Home,
    session: Option<Child>,
    bus: Option<String>,
    more: Vec<&'static str>,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Desktop {
    /// With a keyring.
    pub(crate) fn open() -> Self {
        let home = Home::new();
        let script = format!("{UNLOCKED}echo \"$DBUS_SESSION_BUS_ADDRESS\"; read; kill $daemon; wait $daemon");
        let mut command = home.command("dbus-run-session");
        command.args(["--config-file=/usr/share/dbus-1/session.conf", "--", "bash", "-c", &script]);
        // Its input is its life: it ends with this process, whatever happens to that.
        let session = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut session = session.unwrap_or_else(|error| panic!("{command:?}: {error}; see tests/run"));
        let mut bus = String::new();
        BufReader::new(session.stdout.take().expect("a pipe")).read_line(&mut bus).expect("UTF-8");
        assert!(bus.starts_with("unix:"), "no D-Bus: {bus:?}");
        Self { home, session: Some(session), bus: Some(bus.trim_end().to_owned()), more: Vec::new() }
    }

    /// Without D-Bus, with tokens in files.
    pub(crate) fn without_keyring() -> Self {
        let mut desktop = Self::bare();
        desktop.more = vec!["--token-store", "file"];
        desktop
    }

    /// Without D-Bus.
    pub(crate) fn bare() -> Self {
        Self { home: Home::new(), session: None, bus: None, more: Vec::new() }
    }

    /// The calculator as it is started here.
    pub(crate) fn calculator(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(assert_cmd::cargo::cargo_bin!("mcp-calculator"));
        command.args(&self.more).args(arguments).env("BROWSER", self.home.browser());
        if let Some(bus) = &self.bus {
            command.env("DBUS_SESSION_BUS_ADDRESS", bus);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        said(&mut self.calculator(arguments))
    }

    /// Runs what `text` tells the user to run, in backquotes, word by word.
    pub(crate) fn follow(&self, text: &str) -> Said {
        let command = text.split('`').nth(1).unwrap_or_else(|| panic!("nothing to run: {text}"));
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words[0], "mcp-calculator", "{text}");
        let mut command = self.calculator(&[]);
        // The text has to say all of it, also where tokens are.
        let mut bare = Command::new(command.get_program());
        let environment = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        bare.env_clear().envs(environment).args(&words[1..]).stdin(Stdio::null());
        command = bare;
        said(&mut command)
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        drop(session.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while session.try_wait().expect("our own child").is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        session.kill().ok();
        session.wait().ok();
    }
}

pub(crate) fn said(command: &mut Command) -> Said {
    let output = finish(command);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Waits until `look` finds something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

//! The desktop of somebody who signs in: a home folder, a keyring, and a browser that counts its tabs.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::rig::Connect;
use crate::{
    common::bridge::CommandLine,
    driver::{Guard, file, node_itself},
};

/// For everything in which a browser has a part, on a machine where all of them start at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A D-Bus session with an unlocked keyring, until its input ends. D-Bus would start another keyring for
/// who asks before this one is there.
const SESSION: &str = "
    gnome-keyring-daemon --foreground --unlock --components=secrets <<<password >/dev/null 2>&1 & daemon=$!
    for try in {1..600}; do
        dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetNameOwner \
            string:org.freedesktop.secrets >/dev/null 2>&1 && break
        sleep 0.05
    done
    echo \"$DBUS_SESSION_BUS_ADDRESS\"
    cat >/dev/null
    kill $daemon
    wait $daemon";

/// A home folder, and what runs there.
pub(crate) struct Desktop {
    home: tempfile::TempDir,
    keyring: Option<(Guard, String)>,
}

impl Desktop {
    /// One with a browser and without a keyring.
    pub(crate) fn new() -> Self {
        Self::with_browser("browser-sign-in.mjs")
    }

    /// The same, whose user is asked by the embedded authorization server and answers as
    /// [`Desktop::tell`] has said last.
    pub(crate) fn of_owner() -> Self {
        Self::with_browser("browser-consent.mjs")
    }

    /// Says what the user does in the browser.
    pub(crate) fn tell(&self, consent: &Value) {
        std::fs::write(self.path("consent"), consent.to_string()).expect("a file");
    }

    fn with_browser(program: &str) -> Self {
        let desktop = Self { home: tempfile::tempdir().expect("a folder"), keyring: None };
        for folder in ["run", "tabs", "pages"] {
            std::fs::create_dir(desktop.path(folder)).expect("a new folder");
        }
        // A tab is a file with its URL, and a page what it showed in the end. While there is a queue
        // called `attention`, the user is somewhere else.
        let script = format!(
            "#!/bin/sh\nHOME='{home}'\nprintf %s \"$1\" >\"$HOME/.$$\" && mv \"$HOME/.$$\" \"$HOME/tabs/$$\"\n\
             [ ! -p \"$HOME/attention\" ] || cat \"$HOME/attention\"\n\
             env -i '{node}' '{sign_in}' \"$1\" \"$HOME/consent\" >\"$HOME/.$$\" 2>&1\nmv \"$HOME/.$$\" \"$HOME/pages/$$\"\n",
            home = desktop.home.path().display(),
            node = node_itself().display(),
            sign_in = file(program).display(),
        );
        desktop.program("browser", &script);
        desktop
    }

    /// One with a keyring, too.
    pub(crate) fn with_keyring() -> Self {
        let mut desktop = Self::new();
        let mut command = Command::new("dbus-run-session");
        command.args(["--config-file=/usr/share/dbus-1/session.conf", "--", "bash", "-c", SESSION]);
        command.env_clear().envs(desktop.environment()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut session = Guard::spawn(&mut command);
        let mut address = String::new();
        let stdout = session.0.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut address).expect("its stdout is readable");
        assert!(!address.trim().is_empty(), "no D-Bus session; see tests/run");
        desktop.keyring = Some((session, address.trim().to_owned()));
        desktop
    }

    /// A file in the home folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.to_str().expect("temporary paths are UTF-8").to_owned();
        let mut all = vec![
            ("PATH", "/usr/bin:/bin".to_owned()),
            ("HOME", text(self.home.path().to_owned())),
            ("XDG_RUNTIME_DIR", text(self.path("run"))),
            ("BROWSER", text(self.path("browser"))),
        ];
        if let Some((_, address)) = &self.keyring {
            all.push(("DBUS_SESSION_BUS_ADDRESS", address.clone()));
        }
        all
    }

    /// Where `connect` keeps its sign-ins here, as long as it is not told another place.
    fn store(&self) -> &'static str {
        if self.keyring.is_some() { "keyring" } else { "file" }
    }

    /// `line`, run here.
    pub(crate) fn at(&self, line: CommandLine) -> CommandLine {
        let line = line.flag("--token-store", self.store());
        self.environment().iter().fold(line, |line, (name, value)| line.env(name, value))
    }

    /// `connect` to `url`.
    pub(crate) fn connect(&self, url: &str) -> Connect {
        Connect::start(&self.at(Connect::line(url)))
    }

    /// A program that runs `mcp-bridge` here, for clients that hand down no environment.
    pub(crate) fn bridge(&self) -> PathBuf {
        let variables: String = self.environment().iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
        let (bridge, store) = (env!("CARGO_BIN_EXE_mcp-bridge"), self.store());
        self.program("bridge", &format!("#!/bin/sh\nexec env -i {variables}'{bridge}' \"$@\" --token-store {store}\n"))
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, script).expect("a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
        path
    }

    /// The URLs of all tabs that were opened so far.
    pub(crate) fn tabs(&self) -> Vec<url::Url> {
        let read = |path: &Path| std::fs::read_to_string(path).expect("a tab").parse().expect("a URL");
        self.listed("tabs").iter().map(|path| read(path)).collect()
    }

    /// What all tabs have shown, when each has come to its end.
    pub(crate) fn pages(&self) -> Vec<Value> {
        self.wait_until("every tab is closed", || self.has_closed_all());
        let read = |path: &Path| std::fs::read_to_string(path).expect("a page");
        let parse = |text: String| serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        self.listed("pages").iter().map(|path| parse(read(path))).collect()
    }

    fn has_closed_all(&self) -> bool {
        self.listed("pages").len() == self.listed("tabs").len()
    }

    /// The files of a folder, in the order in which they came.
    fn listed(&self, folder: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path(folder)).expect("a folder").map(|entry| entry.expect("an entry"));
        let mut files: Vec<_> = entries
            .map(|entry| (entry.metadata().expect("a file").modified().expect("a time"), entry.path()))
            .collect();
        files.sort();
        files.into_iter().map(|(_, path)| path).collect()
    }

    /// The user is somewhere else, until [`Desktop::come_back`].
    pub(crate) fn go_away(&self) {
        let made = Command::new("mkfifo").arg(self.path("attention")).status().expect("mkfifo starts");
        assert!(made.success());
    }

    /// The user looks at the one tab that waits, and at all later ones.
    pub(crate) fn come_back(&self) {
        // Opens when the tab reads.
        drop(std::fs::OpenOptions::new().write(true).open(self.path("attention")).expect("a queue"));
        std::fs::remove_file(self.path("attention")).expect("our own file");
    }

    pub(crate) fn wait_for_tabs(&self, count: usize) {
        self.wait_until("a tab is opened", || self.listed("tabs").len() >= count);
    }

    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut event: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !event() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many secrets of `mcp-bridge` the keyring has.
    pub(crate) fn secrets(&self) -> usize {
        let mut command = Command::new("dbus-send");
        command.args(["--session", "--print-reply", "--dest=org.freedesktop.secrets", "/org/freedesktop/secrets"]);
        command.args(["org.freedesktop.Secret.Service.SearchItems", "dict:string:string:service,mcp-bridge"]);
        let output = command.env_clear().envs(self.environment()).output().expect("dbus-send starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).matches("object path").count()
    }

    /// Every file in the home folder, but for what the tests themselves have put there.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let ours = ["tabs", "pages", "browser", "bridge"].map(|name| self.path(name));
        let (mut files, mut folders) = (Vec::new(), vec![self.home.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let entry = entry.expect("an entry");
                match entry.file_type().expect("a type") {
                    _ if ours.contains(&entry.path()) => {}
                    kind if kind.is_dir() => folders.push(entry.path()),
                    kind if kind.is_file() => files.push(entry.path()),
                    _ => {}
                }
            }
        }
        files
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        // Browsers end by themselves, and would find their home gone.
        let deadline = Instant::now() + PATIENCE;
        while !self.has_closed_all() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let Some((session, _)) = &mut self.keyring else { return };
        // At the end of its input it takes the keyring and the bus with it.
        drop(session.0.stdin.take());
        while !matches!(session.0.try_wait(), Ok(Some(_)) | Err(_)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

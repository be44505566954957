//! The store of sign-ins with a real keyring, without one, and with several processes.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::mpsc::sync_channel,
    time::Duration,
};

use crate::desktop::{Home, UNLOCKED, wait_for_daemon};

/// Longer than a keyring's start and all calls of one test take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Home {
    /// What the store says to one call by one process.
    fn call(&self, kind: &str, arguments: &[&str]) -> String {
        let mut command = self.command(helper());
        command.arg(kind).arg(self.path("state")).args(arguments);
        output(command)
    }

    /// What it says to each of `calls`, all on one D-Bus with this `daemon`.
    fn on_d_bus(&self, daemon: &str, calls: &[&str]) -> Vec<String> {
        self.on_d_bus_with("--config-file=/usr/share/dbus-1/session.conf", daemon, calls)
    }

    /// The same on a D-Bus that starts no services by itself.
    fn on_bare_d_bus(&self, calls: &[&str]) -> Vec<String> {
        let file = self.path("bus.conf");
        std::fs::write(&file, BARE_D_BUS).expect("written");
        self.on_d_bus_with(&format!("--config-file={}", file.display()), "", calls)
    }

    fn on_d_bus_with(&self, configuration: &str, daemon: &str, calls: &[&str]) -> Vec<String> {
        let mut script = format!("STATE='{}' STORE='{}'\n", self.path("state").display(), helper().display());
        script += daemon;
        for call in calls {
            script += &format!("\"$STORE\" keyring \"$STATE\" {call}\n");
        }
        script += "[[ -z ${daemon-} ]] || { kill $daemon; wait $daemon; }";
        let mut command = self.command("dbus-run-session");
        command.args([configuration, "--", "bash", "-c", &script]);
        output(command).lines().map(str::to_owned).collect()
    }
}

fn helper() -> PathBuf {
    // Examples are built beside the programs.
    let programs = Path::new(assert_cmd::cargo::cargo_bin!("mcp-calculator"));
    let helper = programs.with_file_name("examples").join(format!("keyring{}", std::env::consts::EXE_SUFFIX));
    assert!(helper.exists(), "{} is missing: cargo build --examples", helper.display());
    helper
}

fn output(mut command: Command) -> String {
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; see tests/run"));
    let mut stdout = child.stdout.take().expect("a pipe");
    let (sender, said) = sync_channel(1);
    // Ends with the process.
    std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).expect("UTF-8");
        sender.send(text).ok();
    });
    let said = said.recv_timeout(PATIENCE);
    if said.is_err() {
        child.kill().ok();
    }
    child.wait().expect("a child can be waited for");
    said.unwrap_or_else(|_| panic!("{command:?} hangs")).trim_end().to_owned()
}

/// Starts it without a password, and there is no display to ask for one.
const LOCKED: &str = concat!(
    "gnome-keyring-daemon --foreground --components=secrets </dev/null >/dev/null 2>&1 & daemon=$!\n",
    wait_for_daemon!()
);

/// Without folders of services, which would start the keyring when it is asked for.
const BARE_D_BUS: &str = "<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen><auth>EXTERNAL</auth>\
    <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/>\
    <allow own=\"*\"/></policy></busconfig>";

#[test]
fn a_sign_in_in_the_keyring_outlives_its_process_and_its_keyring() {
    let home = Home::new();
    let said = home.on_d_bus(UNLOCKED, &["load a", "save a 100", "save b 65536", "load a", "load b", "list"]);
    assert_eq!(said, ["signed out", "saved", "saved", "100 bytes", "65536 bytes", "a b"]);
    // Another D-Bus, another daemon: as after a new start of the machine.
    let said = home.on_d_bus(UNLOCKED, &["load b", "save a 7", "load a", "forget b", "load b", "list", "forget b"]);
    assert_eq!(said, ["65536 bytes", "saved", "7 bytes", "forgotten", "signed out", "a", "forgotten"]);
    let kept =
        String::from_utf8_lossy(&std::fs::read(home.path("state/keyring/sign-ins.json")).expect("a list")).into_owned();
    assert!(!kept.contains("ttt"), "{kept}");
    assert!(!home.path("state/file").exists(), "nothing is kept in files");
}

#[test]
fn tokens_are_renewed_in_the_keyring() {
    let home = Home::new();
    let token = format!("token a '{}'", home.path("log").display());
    let said = home.on_d_bus(UNLOCKED, &["save a 100", &token, &token, "load a"]);
    assert!(said[1].starts_with("renewed by ") && said[1] == said[2], "{said:?}");
    assert_eq!(said[3], format!("{} bytes", said[1].len()));
    assert_eq!(std::fs::read_to_string(home.path("log")).expect("a log").lines().count(), 1);
}

#[test]
fn where_there_is_no_keyring_the_message_says_what_to_do() {
    let calls = ["save a 100", "load a", "list"];
    let no_d_bus = "error: cannot reach the keyring: there is no D-Bus session here, as over SSH, in a container or in \
                    a service; run this within a desktop session or under dbus-run-session, or use --token-store file";
    let no_service = "error: cannot reach the keyring: no Secret Service is running; start gnome-keyring, KWallet or \
                      KeePassXC, or use --token-store file";
    let no_collection = "error: cannot use the keyring: it has no default collection yet; log in to the desktop once \
                         or create one (gnome-keyring-daemon --unlock, or Passwords and Keys), or use --token-store file";

    let home = Home::new();
    assert_eq!(home.call("keyring", &["save", "a", "100"]), no_d_bus);
    assert_eq!(home.call("keyring", &["load", "a"]), "signed out", "who never signed in needs no keyring");

    let home = Home::new();
    assert_eq!(home.on_bare_d_bus(&calls), [no_service, "signed out"]);

    let home = Home::new();
    let said = home.on_d_bus(LOCKED, &calls);
    assert_eq!(said, [no_collection, "signed out"]);
}

#[test]
fn a_keyring_that_is_locked_or_gone_is_no_sign_out() {
    let home = Home::new();
    assert_eq!(home.on_d_bus(UNLOCKED, &["save a 100"]), ["saved"]);
    let said = home.on_d_bus(LOCKED, &["load a", "save a 100", "forget a", "list"]);
    let message = "error: cannot use the keyring: it is locked, and its password was not given (SS error: prompt \
                   dismissed); unlock it and try again, or use --token-store file";
    assert_eq!(said, [message, message, message, "a"]);
    assert_eq!(home.on_d_bus(UNLOCKED, &["load a"]), ["100 bytes"]);

    std::fs::remove_dir_all(home.path(".local/share/keyrings")).expect("the keyring's files");
    let said = home.on_d_bus(LOCKED, &["load a", "list"]);
    assert!(said[0].starts_with("error: cannot use the keyring: it has no default collection yet"), "{said:?}");
    assert_eq!(said[1], "a");
    // A new keyring without it: the user has signed out, whatever the list says.
    assert_eq!(home.on_d_bus(UNLOCKED, &["load a", "save a 5", "load a"]), ["signed out", "saved", "5 bytes"]);
}

#[test]
fn two_programs_that_start_at_once_renew_once() {
    let home = Home::new();
    assert_eq!(home.call("file", &["save", "a", "100"]), "saved");
    let log = home.path("log");
    let programs: Vec<Child> = (0..6)
        .map(|_| {
            let mut command = home.command(helper());
            command.arg("file").arg(home.path("state")).args(["token", "a"]).arg(&log);
            command.spawn().expect("the program starts")
        })
        .collect();
    let tokens: Vec<_> =
        programs.into_iter().map(|program| program.wait_with_output().expect("it ends").stdout).collect();
    assert!(tokens[0].starts_with(b"renewed by ") && tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
    assert_eq!(std::fs::read_to_string(log).expect("a log").lines().count(), 1);
}

#[test]
fn a_killed_program_leaves_no_lock() {
    let home = Home::new();
    assert_eq!(home.call("file", &["save", "a", "100"]), "saved");
    let mut holder =
        home.command(helper()).arg("file").arg(home.path("state")).args(["hold", "a"]).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut line).expect("UTF-8");
    assert_eq!(line, "held\n");
    let held = "error: another process has been renewing this sign-in for too long; end it, or try again";
    assert_eq!(home.call("file", &["hold", "a"]), held);
    holder.kill().expect("a child can be killed");
    holder.wait().expect("a child can be waited for");
    let token = home.call("file", &["token", "a", home.path("log").to_str().expect("UTF-8")]);
    assert!(token.starts_with("renewed by "), "{token}");
}

#[test]
fn writers_of_several_processes_lose_nothing_of_each_other() {
    let home = Home::new();
    let programs: Vec<Child> = (10..26)
        .map(|account| {
            let mut command = home.command(helper());
            command.arg("file").arg(home.path("state")).args(["save", &account.to_string(), "10"]);
            command.spawn().expect("the program starts")
        })
        .collect();
    for program in programs {
        assert_eq!(program.wait_with_output().expect("it ends").stdout, b"saved\n");
    }
    assert_eq!(home.call("file", &["list"]), "10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25");
}

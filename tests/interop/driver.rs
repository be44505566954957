//! Runs the programs of this folder: other people's clients, servers and checks, under our tests.
//!
//! `tests/run` sets the folder up. A test that finds it missing fails and says so; it never skips.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

/// The programs end by themselves after 60 s; this is for one that cannot even do that.
const PATIENCE: Duration = Duration::from_secs(90);

/// A file of this folder.
///
/// # Panics
/// If it is not there, with what to do about it.
pub(crate) fn file(name: &str) -> PathBuf {
    // The calculator's package is the repository's root, the bridge's is one below.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder =
        [package.join("tests/interop"), package.join("../tests/interop")].into_iter().find(|path| path.is_dir());
    let path = folder.expect("this file is in that folder").join(name);
    assert!(path.exists(), "{} is missing: run tests/run first, which installs it", path.display());
    path
}

/// `script` under the Node that npm installed: oidc-provider and the conformance suite need 22, and
/// the machine's own may be older.
pub(crate) fn node(script: &str) -> Command {
    let mut command = Command::new(node_itself());
    command.arg(file(script));
    bare(command)
}

/// That Node.
pub(crate) fn node_itself() -> PathBuf {
    let machine = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "x64",
    };
    file(&format!("node_modules/node-{}-{machine}/bin/node", std::env::consts::OS))
}

/// `script` under the Python of the virtual environment.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(file(".venv/bin/python"));
    command.arg(file(script));
    bare(command)
}

/// `command` without the test's environment and input. The programs find what they need by
/// themselves; a proxy or an option from outside would make them test something else.
fn bare(mut command: Command) -> Command {
    command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}

/// Runs a program that prints one JSON value, to its end.
///
/// # Panics
/// If it fails, with everything that it said.
pub(crate) fn run(command: &mut Command) -> Value {
    let output = finish(command);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {}\n{stderr}\n{stdout}", output.status);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{command:?} printed no JSON: {error}\n{stdout}"))
}

/// Runs a client that prints a transcript; gives its steps.
///
/// # Panics
/// If it fails, or if it did nothing.
pub(crate) fn transcript(command: &mut Command) -> Vec<Value> {
    let printed = run(command);
    assert_eq!(printed["ok"], true, "{printed}");
    let steps = printed["transcript"].as_array().cloned().unwrap_or_default();
    assert!(!steps.is_empty(), "{command:?} did nothing");
    steps
}

/// The steps named `step`.
pub(crate) fn named<'s>(steps: &'s [Value], step: &'s str) -> impl Iterator<Item = &'s Value> {
    steps.iter().filter(move |entry| entry["step"] == step)
}

/// Runs `command` to its end, which must come within [`PATIENCE`].
pub(crate) fn finish(command: &mut Command) -> Output {
    let mut child = Guard::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (stdout, stderr) = (read_all(child.0.stdout.take()), read_all(child.0.stderr.take()));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.0.try_wait().expect("our own child") {
            break status;
        }
        assert!(Instant::now() < deadline, "{command:?} did not end within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    };
    let join = |reader: JoinHandle<Vec<u8>>| reader.join().expect("a reading thread");
    Output { status, stdout: join(stdout), stderr: join(stderr) }
}

fn read_all(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    let mut stream = stream.expect("the stream is piped");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is what there is to show.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

/// A child that is killed with the value.
pub(crate) struct Guard(pub(crate) Child);

impl Guard {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("{command:?} does not start: {error}"),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

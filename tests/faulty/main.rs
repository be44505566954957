//! Programs that a bridge must survive: `faulty MODE`, or `faulty MODE NUMBER`.
//!
//! Each is a tiny legacy server in one way out of order; see [`main`] for the ways.

use std::{
    io::Read,
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tiny::{Tiny, note, print};

mod tiny;

/// Lines of what never ends: bounded, so that a test that fails does not fill a disk.
const MANY: u64 = 100_000;

/// Of the long line, without what is around it.
const LONG: usize = 100 << 20;

/// The longest life of a program that does not end when it should, if nobody kills it.
const LIFE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mode = arguments.first().map_or("", String::as_str);
    let number = arguments.get(1).and_then(|text| text.parse().ok());
    match (mode, number) {
        // Exits at once.
        ("exit", None) => {
            note("nothing to do here");
            return ExitCode::from(3);
        }
        // Reads, and never answers.
        ("silent", None) => drain(),
        // Says hello first, in words.
        ("banner", None) => {
            print("faulty 1.0\nloading plug-ins… done\n{ready}\n");
            Tiny::default().serve();
        }
        // Says nothing else, and never answers.
        ("garbage", None) => {
            many("this is not JSON", |lines| print(&format!("{lines}\n")));
            drain();
        }
        // Answers each call with a line of 100 MiB.
        ("long-line", None) => Tiny::before(|_| Some("x".repeat(LONG))).serve(),
        // Stays when it is told to go, and when its input ends.
        ("ignore-term", None) => return become_shell(r#"trap "" TERM; exec "$0" deaf"#),
        // What that becomes. The shell's `trap` outlives the shell.
        ("deaf", None) => {
            Tiny::default().serve();
            std::thread::sleep(LIFE);
        }
        // Fills stderr before each answer.
        ("flood-stderr", None) => Tiny::before(|_| {
            many("everything is fine", note);
            None
        })
        .serve(),
        // Lives on with stdout closed from the middle of the first call's answer on. The shell is the
        // program that is seen; only what it has started holds stdout.
        ("close-stdout", None) => {
            return become_shell(r#"exec 3<&0; "$0" half-line <&3 & exec >&-; wait; exec sleep 600"#);
        }
        // Closes stdin after the first call's answer, says so, and lives on.
        ("close-stdin", None) => Tiny::after(|_| {
            become_shell_with(r#"echo "reads no more" >&2; exec sleep 600"#, Stdio::null());
        })
        .serve(),
        // Asks the user something at each call, and neither answers nor withdraws that.
        ("asks", None) => Tiny::instead(|message| {
            let form = json!({ "message": "Who?", "requestedSchema": { "type": "object", "properties": {} } });
            let question = json!({
                "jsonrpc": "2.0", "id": format!("of {}", message["id"]), "method": "elicitation/create", "params": form,
            });
            (message["method"] == "tools/call").then(|| format!("{question}\n"))
        })
        .serve(),
        // Tells of a change as soon as somebody has subscribed, and of one that everybody hears of.
        ("updates-at-once", None) => Tiny::instead(|message| {
            let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": {} });
            let params = json!({ "uri": message["params"]["uri"] });
            let update = json!({ "jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params });
            let lists = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
            (message["method"] == "resources/subscribe").then(|| format!("{answer}\n{update}\n{lists}\n"))
        })
        .serve(),
        // Leaves two programs behind: one in its group, one in a session of its own. Both have its
        // stdout and stderr.
        ("grandchild", None) => {
            let pids = format!("{} {}", leave(&["sleep", "100000"]), leave(&["setsid", "sleep", "100000"]));
            Tiny::before(move |_| Some(pids.clone())).serve();
        }
        // Reads nothing for that many milliseconds.
        ("slow-start", Some(milliseconds)) => {
            std::thread::sleep(Duration::from_millis(milliseconds));
            Tiny::default().serve();
        }
        // Exits after that many answered calls.
        ("dies-after", Some(last)) => Tiny::after(move |calls| {
            if calls >= last {
                exit(1)
            }
        })
        .serve(),
        // Exits in the middle of the first call's answer.
        ("half-line", None) => Tiny::before(|_| {
            print(r#"{"jsonrpc":"2.0","id":"#);
            exit(1)
        })
        .serve(),
        _ => {
            note("usage: faulty MODE [NUMBER]; the modes are in its source");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

impl Tiny {
    fn before(before: impl Fn(u64) -> Option<String> + 'static) -> Self {
        Self { before: Some(Box::new(before)), ..Self::default() }
    }

    fn after(after: impl Fn(u64) + 'static) -> Self {
        Self { after: Some(Box::new(after)), ..Self::default() }
    }

    fn instead(instead: impl Fn(&Value) -> Option<String> + 'static) -> Self {
        Self { instead: Some(Box::new(instead)), ..Self::default() }
    }
}

/// Hands [`MANY`] numbered lines to `write`, a thousand at a time.
fn many(text: &str, write: impl Fn(&str)) {
    for thousand in 0..MANY / 1000 {
        let lines: Vec<String> = (0..1000).map(|line| format!("{}: {text}", 1000 * thousand + line)).collect();
        write(&lines.join("\n"));
    }
}

/// Reads stdin to its end.
fn drain() {
    let mut stdin = std::io::stdin().lock();
    let mut buffer = [0; 8192];
    while stdin.read(&mut buffer).is_ok_and(|length| length > 0) {}
}

/// Replaces this process by a shell with `script`, in which `$0` is this program.
fn become_shell(script: &str) -> ExitCode {
    become_shell_with(script, Stdio::inherit())
}

#[cfg(unix)]
fn become_shell_with(script: &str, stdin: Stdio) -> ExitCode {
    use std::os::unix::process::CommandExt;
    let error = match std::env::current_exe() {
        Ok(this) => Command::new("/bin/sh").args(["-c", script]).arg(this).stdin(stdin).exec(),
        Err(error) => error,
    };
    note(&format!("cannot become a shell: {error}"));
    ExitCode::FAILURE
}

#[cfg(not(unix))]
fn become_shell_with(_script: &str, _stdin: Stdio) -> ExitCode {
    note("there is no shell to become here");
    ExitCode::FAILURE
}

/// Starts a program that nobody waits for; gives its process id.
fn leave(command: &[&str]) -> u32 {
    let started = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).spawn();
    started.map_or_else(
        |error| {
            note(&format!("cannot start {}: {error}", command[0]));
            exit(1)
        },
        |child| child.id(),
    )
}

#[expect(clippy::exit, reason = "an end in the middle of everything is what these modes are for")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

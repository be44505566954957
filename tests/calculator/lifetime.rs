//! How the program ends, and what it leaves unsaid: nothing.

use std::{
    io::{Read as _, Seek as _, Write as _},
    process::{Child, Stdio},
};

use serde_json::json;

#[cfg(unix)]
use crate::process::signal;
use crate::process::{Server, call, command, modern, wait};

#[test]
fn the_end_of_input_ends_it_at_once_when_nothing_was_said() {
    Server::start().finish();
}

/// Desktop clients start one for every window.
///
/// What is measured is what the program itself asks for. `VmHWM` counts its file's pages, too, and of a file with
/// debugging information, as it is tested, these are ten times that and say nothing of the released one. Under
/// 2 MB are usual; twice that is more than the noise of an allocator.
#[cfg(target_os = "linux")]
#[test]
fn its_own_memory_stays_under_four_megabytes() {
    let mut server = Server::initialized();
    for n in 0..100 {
        server.ask(&modern(&n.to_string(), "tools/call", call("add", f64::from(n), 1.0)));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child().id())).expect("it runs");
    let of = |name: &str| -> u64 {
        let text = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        text.and_then(|text| text.parse().ok()).expect("a size in kB")
    };
    let own = of("RssAnon:") + of("RssShmem:");
    assert!(own < 4_000, "{own} kB");
    server.finish();
}

#[test]
fn everything_read_before_the_end_of_input_is_answered() {
    let mut server = Server::start();
    let mut input: String =
        (0..500).map(|n| modern(&n.to_string(), "tools/call", call("add", f64::from(n), 1.0)) + "\n").collect();
    input += "what is refused is answered, too\n";
    // The last line has no line feed.
    input += &modern("last", "tools/call", call("add", 1.0, 1.0));
    server.write(input.as_bytes());
    server.close_stdin();
    for n in 0..500 {
        let answer = server.answer().expect("an answer");
        assert_eq!(answer["id"], n.to_string());
        assert_eq!(answer["result"]["content"][0]["text"], (n + 1).to_string());
    }
    assert_eq!(server.answer().expect("an answer")["error"]["code"], -32700);
    assert_eq!(server.answer().expect("an answer")["id"], "last");
    server.finish();
}

#[test]
fn answers_wait_for_a_slow_reader() {
    let mut server = Server::start();
    // Far more than the pipes, the queue and the test's own thread hold together.
    let count = 20_000;
    let mut stdin = server.take_stdin();
    let line = modern("x", "tools/call", call("add", 1.0, 2.0)) + "\n";
    let writer = std::thread::spawn(move || (0..count).try_for_each(|_| stdin.write_all(line.as_bytes())));
    for _ in 0..count {
        assert_eq!(server.answer().expect("an answer")["id"], "x");
    }
    writer.join().expect("no panic").expect("the server reads everything");
    server.finish();
}

#[cfg(unix)]
#[test]
fn signals_end_it_with_code_0() {
    for name in ["TERM", "INT"] {
        let mut server = Server::initialized();
        signal(server.child(), name);
        let (status, log) = server.wait();
        assert_eq!((status.code(), &*log), (Some(0), ""), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_even_if_nobody_reads_the_answers() {
    let mut child = spawn();
    let mut stdin = child.stdin.take().expect("a pipe");
    // Less than a pipe holds, and ten times that in answers.
    let requests = (modern("x", "tools/list", json!({})) + "\n").repeat(200);
    stdin.write_all(requests.as_bytes()).expect("the server reads");
    let mut first = [0];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("an answer");
    signal(&child, "TERM");
    let (status, log) = wait(&mut child);
    assert_eq!((status.code(), &*log), (Some(0), ""));
}

#[test]
fn a_closed_output_ends_it_quietly() {
    let mut child = spawn();
    let mut stdin = child.stdin.take().expect("a pipe");
    drop(child.stdout.take());
    stdin.write_all(b"{}\n").expect("the server reads");
    // Standard input stays open meanwhile.
    let (status, log) = wait(&mut child);
    assert_eq!((status.code(), &*log), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has /dev/full");
    let mut child =
        command().stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"{}\n").expect("the server reads");
    let (status, log) = wait(&mut child);
    assert_eq!(status.code(), Some(1));
    assert!(log.starts_with("mcp-calculator: cannot write standard output: "), "{log}");
}

#[cfg(unix)]
#[test]
fn an_input_that_cannot_be_read_is_a_failure() {
    let folder = std::fs::File::open("/").expect("there is a root");
    let output = command().stdin(folder).output().expect("the program starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(log.starts_with("mcp-calculator: cannot read standard input: "), "{log}");
}

#[test]
fn a_file_can_be_the_input() {
    let mut file = tempfile::tempfile().expect("a temporary file");
    write!(file, "{}", modern("f", "tools/call", call("add", 1.0, 2.0))).expect("it can be written");
    file.rewind().expect("it can be read again");
    let output = command().stdin(file).output().expect("the program starts");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    assert!(String::from_utf8_lossy(&output.stdout).contains(r#""text":"3""#));
}

#[cfg(unix)]
#[test]
fn a_person_at_a_terminal_is_told_what_it_waits_for() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it can be used");
    let name = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("UTF-8");
    let terminal = std::fs::File::open(name).expect("it can be read");
    let mut child =
        command().stdin(terminal).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    // Typed, and then Ctrl-D.
    let mut keyboard = std::fs::File::from(master);
    keyboard.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\x04").expect("it can be typed at");
    let (status, log) = wait(&mut child);
    assert_eq!(status.code(), Some(0));
    assert!(log.starts_with("mcp-calculator: waiting for MCP messages") && log.lines().count() == 1, "{log}");
    let mut output = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut output).expect("UTF-8");
    assert_eq!(output, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n");
}

/// The program with pipes that nobody reads.
fn spawn() -> Child {
    let mut command = command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

#[test]
fn stdout_carries_protocol_only_and_the_log_no_numbers() {
    let mut server = Server::start_with(command().env("MCP_CALCULATOR_LOG", "debug"));
    let answer = server.ask(&modern("x", "tools/call", call("multiply", 1234.5, 777.0)));
    assert_eq!(answer["result"]["content"][0]["text"], "959206.5");
    server.ask(&modern("x", "tools/call", json!({ "name": "canary-tool" })));
    server.ask("canary-garbage");
    server.close_stdin();
    assert_eq!(server.answer(), None);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("operation=\"multiply\""), "{log}");
    for secret in ["1234.5", "777", "959206", "canary"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

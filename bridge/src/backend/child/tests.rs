//! Real processes: `/bin/sh` and what it starts.

use std::{
    fs, io,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::time::timeout;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// How long to wait for what must happen; only a failing test ever waits this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A grace period that no test waits for.
const LONG: Duration = Duration::from_secs(600);

/// A grace period that is waited for.
const SHORT: Duration = Duration::from_millis(100);

fn program(command: &str, arguments: &[&str]) -> Program {
    Program {
        name: "test".to_owned(),
        command: command.into(),
        arguments: arguments.iter().map(Into::into).collect(),
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        working_dir: None,
        max_line_bytes: 1 << 20,
        grace: LONG,
        hears: None,
    }
}

fn shell(script: &str, grace: Duration) -> Program {
    Program { grace, ..program("sh", &["-c", script]) }
}

/// An undertaker, and the processes that are its own.
struct World(Undertaker);

impl World {
    fn new() -> Self {
        Self(Undertaker::unwatched().expect("random numbers"))
    }

    fn spawn(&self, program: &Program) -> Process {
        program.spawn(&[], &self.0, ()).expect("it starts")
    }

    /// Ids of the processes that run and have the mark, wherever they have gone.
    fn marked(&self) -> Vec<u32> {
        let mark = format!("{INSTANCE_VARIABLE}={}", self.0.instance());
        let is_marked = |process: &u32| {
            let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        };
        processes().into_iter().filter(is_marked).collect()
    }

    /// Waits until nothing is left.
    async fn empty(&self) {
        eventually("all marked processes are gone", || self.marked().is_empty()).await;
        eventually("nothing is counted as living", || self.0.living() == 0).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for process in self.marked() {
            let _ = Command::new("/bin/kill").arg("-KILL").arg(process.to_string()).status();
        }
    }
}

fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("a Linux system").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

async fn eventually(what: &str, mut event: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !event() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

async fn line(process: &mut Process) -> String {
    let line = within("a line", process.output.next()).await.expect("a line");
    String::from_utf8(line.to_vec()).expect("text")
}

async fn send(process: &Process, line: &'static str) {
    within("room in the queue", process.input.send(Bytes::from_static(line.as_bytes()))).await.expect("it reads");
}

#[tokio::test]
async fn lines_go_there_and_back_and_the_end_of_input_is_the_end() {
    let world = World::new();
    let mut process = world.spawn(&program("cat", &[]));
    for text in ["one", "two\nlines", "{\"a\":1}"] {
        send(&process, text).await;
        assert_eq!(line(&mut process).await, text.replace('\n', " "));
    }
    assert_eq!((world.0.living(), process.handle.has_ended()), (1, false));
    let Process { input, mut output, handle } = process;
    drop(input);
    assert_eq!(within("its end", handle.ended()).await.to_string(), "exited with code 0");
    assert!(handle.has_ended());
    assert!(matches!(output.next().await, Err(OutputError::End)));
    world.empty().await;
}

#[tokio::test]
async fn dropping_the_handle_writes_what_is_queued_then_closes_the_input() {
    let world = World::new();
    let Process { input, mut output, handle } = world.spawn(&program("cat", &[]));
    for _ in 0..10 {
        input.try_send(Bytes::from_static(b"queued")).expect("there is room");
    }
    drop(handle);
    assert_eq!(input.try_send(Bytes::from_static(b"late")), Err(TrySendError::Ended(Ended)));
    assert_eq!(input.send(Bytes::from_static(b"late")).await, Err(Ended));
    for _ in 0..10 {
        assert_eq!(within("a line", output.next()).await.expect("a line"), "queued");
    }
    // No grace period is waited for: it is ten minutes here.
    assert!(matches!(within("the end of output", output.next()).await, Err(OutputError::End)));
    world.empty().await;
}

#[tokio::test]
async fn exit_codes_and_signals_are_told() {
    let world = World::new();
    for (script, expected) in [("exit 3", "exited with code 3"), ("kill -TERM $$", "was killed by signal 15")] {
        let process = world.spawn(&shell(script, LONG));
        assert_eq!(within("its end", process.handle.ended()).await.to_string(), expected, "{script}");
    }
    world.empty().await;
}

#[tokio::test]
async fn a_process_gets_its_environment_its_identity_and_its_mark_and_no_more() {
    let world = World::new();
    let mut program = program("env", &[]);
    program.environment.push(("LANG".into(), "C".into()));
    let identity = [("MCP_BRIDGE_SUBJECT", "alice".to_owned())];
    let mut process = program.spawn(&identity, &world.0, ()).expect("it starts");
    let mut lines = Vec::new();
    while let Ok(line) = within("a line", process.output.next()).await {
        lines.push(String::from_utf8_lossy(&line).into_owned());
    }
    lines.sort();
    let mark = format!("{INSTANCE_VARIABLE}={}", world.0.instance());
    assert_eq!(lines, ["LANG=C", &mark, "MCP_BRIDGE_SUBJECT=alice", "PATH=/usr/bin:/bin"]);
}

#[tokio::test]
async fn it_starts_in_its_folder() {
    let world = World::new();
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().canonicalize().expect("a folder");
    let mut process = world.spawn(&Program { working_dir: Some(real.clone()), ..program("pwd", &[]) });
    assert_eq!(Path::new(&line(&mut process).await), real);
}

#[tokio::test]
async fn no_process_holds_the_pipes_of_another() {
    let world = World::new();
    let processes = [(); 3].map(|()| world.spawn(&program("cat", &[])));
    let files = |process: &Process| {
        let entries = fs::read_dir(format!("/proc/{}/fd", process.handle.id())).expect("a living process").flatten();
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, fs::read_link(entry.path()).ok()?)))
    };
    let standard = |name: &str| ["0", "1", "2"].contains(&name);
    let pipes = processes.iter().flat_map(files).filter(|(name, _)| standard(name)).map(|(_, pipe)| pipe);
    let mut pipes: Vec<_> = pipes.collect();
    pipes.sort();
    pipes.dedup();
    assert_eq!(pipes.len(), 9);
    // There may be others, which the test itself was given to inherit.
    let mut others = processes.iter().flat_map(files).filter(|(name, _)| !standard(name));
    assert!(others.all(|(_, file)| !pipes.contains(&file)));
}

#[tokio::test]
async fn who_ignores_everything_is_killed_with_all_it_started() {
    let world = World::new();
    let script = "trap '' TERM HUP INT; sleep 1000 & (sleep 1000; :) & echo ready; while :; do sleep 1000; done";
    let mut process = world.spawn(&shell(script, SHORT));
    assert_eq!(line(&mut process).await, "ready");
    eventually("its children run", || world.marked().len() >= 4).await;
    let Process { mut output, handle, .. } = process;
    drop(handle);
    assert!(matches!(within("the end of output", output.next()).await, Err(OutputError::End)));
    world.empty().await;
}

#[tokio::test]
async fn who_ends_on_sigterm_is_not_killed() {
    let world = World::new();
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let mut process = world.spawn(&shell(script, Duration::from_secs(1)));
    assert_eq!(line(&mut process).await, "ready");
    let Process { mut output, handle, .. } = process;
    drop(handle);
    assert_eq!(within("a line", output.next()).await.expect("a line"), "bye");
    world.empty().await;
}

#[tokio::test]
async fn grandchildren_do_not_outlive_a_leader_that_ends_with_its_input() {
    let world = World::new();
    let mut process = world.spawn(&shell("trap '' TERM; sleep 1000 & echo ready; cat", LONG));
    assert_eq!(line(&mut process).await, "ready");
    drop(process);
    // Well within the grace period of ten minutes.
    world.empty().await;
}

#[tokio::test]
async fn grandchildren_do_not_outlive_a_leader_that_ends_by_itself() {
    let world = World::new();
    let mut process = world.spawn(&shell("sleep 1000 & echo last; exit 7", LONG));
    // The grandchild holds the output, and still it ends.
    assert_eq!(line(&mut process).await, "last");
    assert!(matches!(within("the end of output", process.output.next()).await, Err(OutputError::End)));
    assert_eq!(within("its end", process.handle.ended()).await.to_string(), "exited with code 7");
    world.empty().await;
}

#[tokio::test]
async fn who_has_left_the_group_with_our_pipes_keeps_no_task() {
    let world = World::new();
    let mut process = world.spawn(&shell("setsid sh -c 'echo away; exec sleep 1000' & cat", LONG));
    assert_eq!(line(&mut process).await, "away");
    let Process { mut output, handle, .. } = process;
    drop(handle);
    assert!(matches!(within("the end of output", output.next()).await, Err(OutputError::End)));
    within("the end of all tasks", world.0.close(LONG)).await;
    assert_eq!(world.marked().len(), 1, "it did leave the group; only the watcher would find it");
}

#[tokio::test]
async fn kill_does_not_wait() {
    let world = World::new();
    let mut process = world.spawn(&shell("trap '' TERM; sleep 1000 & echo ready; wait", LONG));
    assert_eq!(line(&mut process).await, "ready");
    process.handle.kill();
    assert_eq!(within("its end", process.handle.ended()).await.to_string(), "was killed by signal 9");
    assert_eq!(within("the refusal", process.input.send(Bytes::new())).await, Err(Ended));
    world.empty().await;
}

#[tokio::test]
async fn a_closed_output_with_a_living_process_is_the_end_of_output() {
    let world = World::new();
    let mut process = world.spawn(&shell("exec >&-; read line", LONG));
    assert!(matches!(within("the end of output", process.output.next()).await, Err(OutputError::End)));
    assert!(!process.handle.has_ended());
    drop(process);
    world.empty().await;
}

#[tokio::test]
async fn who_does_not_read_makes_senders_wait_and_is_ended_all_the_same() {
    let world = World::new();
    let mut process = world.spawn(&shell("echo ready; while :; do sleep 1000; done", SHORT));
    assert_eq!(line(&mut process).await, "ready");
    let long = Bytes::from(vec![b'x'; 1 << 20]);
    eventually("the queue is full", || process.input.try_send(long.clone()) == Err(TrySendError::Full)).await;
    let sender = process.input.clone();
    let waiting = tokio::spawn(async move { sender.send(Bytes::from_static(b"one more")).await });
    drop(process);
    assert_eq!(within("the sender", waiting).await.expect("a task"), Err(Ended));
    world.empty().await;
}

#[tokio::test]
async fn a_line_that_is_too_long_is_refused_and_the_next_one_read() {
    let world = World::new();
    let script = "head -c 100000000 /dev/zero; echo; echo next; cat";
    let mut process = world.spawn(&Program { max_line_bytes: 1 << 16, ..shell(script, LONG) });
    let refused = within("a line", process.output.next()).await;
    assert!(matches!(refused, Err(OutputError::TooLong { max: 65536 })), "{refused:?}");
    assert_eq!(line(&mut process).await, "next");
    drop(process);
    world.empty().await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_flood_on_stderr_does_not_block_and_does_not_fill_the_log() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    // The runtime has this one thread only.
    crate::telemetry::switch_on_all_events();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new();
    let script = "printf '\\033[31mred\\n' >&2; yes flood | head -n 200000 >&2; echo done";
    let mut process = world.spawn(&shell(script, LONG));
    assert_eq!(line(&mut process).await, "done");
    let pid = process.handle.id();
    within("its end", process.handle.ended()).await;
    within("the end of all tasks", world.0.close(LONG)).await;

    let log = String::from_utf8(log.0.lock().expect("the log").clone()).expect("text");
    let first = log.lines().next().expect("a line");
    assert!(first.contains("mcp_bridge::child: stderr child=\"test\""), "{first}");
    assert!(first.contains(&format!("pid={pid}")) && first.ends_with(r#"line="\u{1b}[31mred""#), "{first}");
    let dropped = |line: &str| line.split_once("… ")?.1.split_once(" lines dropped")?.0.parse::<usize>().ok();
    let dropped: usize = log.lines().filter_map(dropped).sum();
    let shown = log.lines().filter(|line| line.ends_with("line=\"flood\"")).count();
    assert_eq!(shown + dropped, 200_000, "every line is shown or counted");
    assert!(shown < 2000, "{shown} lines are shown");
}

fn refusal(program: &Program) -> SpawnError {
    program.spawn(&[], &World::new().0, ()).expect_err("it cannot start")
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("our own file");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("our own file");
        path.to_str().expect("text").to_owned()
    };
    let check = |program: &Program, expected: fn(&SpawnError) -> bool, text: &str| {
        let error = refusal(program);
        assert!(expected(&error), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    };
    check(&program("no-such-program", &[]), |error| matches!(error, SpawnError::NotInPath { .. }), "/usr/bin:/bin");
    check(&program("./no-such-program", &[]), |error| matches!(error, SpawnError::NotFound(_)), "there is no file");
    check(&program("/etc/passwd", &[]), |error| matches!(error, SpawnError::NotExecutable(_)), "chmod +x");
    let script = file("script", "#!/no/such/interpreter\n", 0o755);
    check(&program(&script, &[]), |error| matches!(error, SpawnError::NoInterpreter(_)), "#!");
    let mut in_path = program("script", &[]);
    in_path.environment = vec![("PATH".into(), folder.path().into())];
    check(&in_path, |error| matches!(error, SpawnError::NoInterpreter(_)), "#!");
    let text = file("text", "\u{1}\u{2}\u{3}", 0o755);
    check(&program(&text, &[]), |error| matches!(error, SpawnError::NotAProgram(_)), "#!/bin/sh");
    for working_dir in ["/no/such/folder", "/etc/passwd"] {
        let program = Program { working_dir: Some(working_dir.into()), ..program("true", &[]) };
        check(&program, |error| matches!(error, SpawnError::WorkingDir { .. }), working_dir);
    }
    let world = World::new();
    world.0.close(LONG).await;
    let error = program("true", &[]).spawn(&[], &world.0, ()).expect_err("it is closed");
    assert!(matches!(error, SpawnError::Closing));
}

#[tokio::test]
async fn what_the_system_lacks_is_named() {
    let explain = |errno: rustix::io::Errno| SpawnError::explain(&program("true", &[]), errno.into());
    assert!(matches!(explain(rustix::io::Errno::MFILE), SpawnError::TooManyFiles { .. }));
    assert!(matches!(explain(rustix::io::Errno::AGAIN), SpawnError::TooManyProcesses { .. }));
    assert!(matches!(explain(rustix::io::Errno::TOOBIG), SpawnError::Other { .. }));
}

#[tokio::test]
async fn closing_ends_all_and_kills_who_does_not() {
    let world = World::new();
    let mut obedient = world.spawn(&shell("echo ready; cat", LONG));
    let mut stubborn = world.spawn(&shell("trap '' TERM; echo ready; while :; do sleep 1000; done", LONG));
    assert_eq!((line(&mut obedient).await, line(&mut stubborn).await), ("ready".to_owned(), "ready".to_owned()));
    // The handles are still held.
    within("the end of all", world.0.close(Duration::from_secs(1))).await;
    assert_eq!(world.0.living(), 0);
    assert_eq!(obedient.handle.ended().await.to_string(), "exited with code 0");
    assert_eq!(stubborn.handle.ended().await.to_string(), "was killed by signal 9");
    world.empty().await;
}

#[test]
fn the_end_of_the_runtime_is_the_end_of_its_children() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let process = runtime.block_on(async { world.spawn(&shell("trap '' TERM; sleep 1000 & wait", LONG)) });
    drop(runtime);
    let deadline = Instant::now() + PATIENCE;
    while !world.marked().is_empty() {
        assert!(Instant::now() < deadline, "they live");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!process.handle.has_ended());
}

/// The name of the variable that tells a test to go on instead of starting itself where nobody else
/// opens files and starts processes.
const ALONE: &str = "ALONE";

/// Whether this is the test with that name alone; otherwise runs it so, and that has passed.
fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let this = std::env::current_exe().expect("this program");
    let name = format!("backend::child::tests::{test}");
    let output = Command::new(this).args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output();
    let output = output.expect("this program again");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

#[test]
fn many_processes_leave_nothing() {
    if !is_alone("many_processes_leave_nothing") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let world = World::new();
        // The runtime opens files of its own for the first process.
        drop(world.spawn(&program("true", &[])));
        world.empty().await;
        let descriptors = || fs::read_dir("/proc/self/fd").expect("our own").count();
        eventually("the first process is forgotten", || descriptors() <= 20).await;
        let before = descriptors();
        let scripts = ["cat", "exit 0", "sleep 1000 & cat", "trap '' TERM; sleep 1000", "exec >&- 2>&-; read line"];
        for round in 0..40 {
            let started = scripts.map(|script| world.spawn(&shell(script, SHORT)));
            if round % 2 == 0 {
                started.iter().for_each(|process| process.handle.kill());
            }
        }
        world.empty().await;
        eventually("all descriptors are closed", || descriptors() <= before).await;
        let own = format!("\nPPid:\t{}\n", std::process::id());
        let is_child = |process: &u32| {
            fs::read_to_string(format!("/proc/{process}/status")).is_ok_and(|status| status.contains(&own))
        };
        let children: Vec<_> = processes().into_iter().filter(is_child).collect();
        assert_eq!(children, Vec::<u32>::new(), "zombies, or worse");
    });
}

/// In a container the one of the tunnel and that of the servers are at work in one process.
#[test]
fn an_undertaker_does_not_bury_who_is_anothers() {
    if !is_alone("an_undertaker_does_not_bury_who_is_anothers") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (ours, theirs) = (World::new(), World::new());
        let short = theirs.spawn(&shell("sleep 1000 & exit 3", LONG));
        let long = ours.spawn(&program("cat", &[]));
        // Its keeper cannot see that before this task waits.
        let pid = rustix::process::Pid::from_raw(short.handle.id() as i32).expect("a process");
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).expect("our own child");
        undertaker::bury_all_but_ours();
        assert_eq!(within("its end", short.handle.ended()).await.to_string(), "exited with code 3");
        theirs.empty().await;
        assert_eq!((ours.0.living(), theirs.0.living()), (1, 0));
        drop(long);
        ours.empty().await;
    });
}

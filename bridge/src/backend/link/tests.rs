//! Real processes: `/bin/sh`, which says what a child might.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::backend::child::{Program, Undertaker};

/// How long to wait for what must happen; only a failing test ever waits this long.
const PATIENCE: Duration = Duration::from_secs(10);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Hears nothing.
struct Deaf;

impl Listener for Deaf {
    fn notified(&self, _: Notice) {}
}

/// A child that runs `script`, and who ends it.
struct World {
    link: Link,
    _undertaker: Undertaker,
}

impl World {
    fn new(script: &str) -> Self {
        let undertaker = Undertaker::unwatched().expect("random numbers");
        let program = Program {
            name: "test".to_owned(),
            command: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            working_dir: None,
            max_line_bytes: 1 << 20,
            grace: Duration::from_millis(100),
            hears: None,
        };
        let process = program.spawn(&[], &undertaker, ()).expect("it starts");
        let link = Link::new("test", process, Audience::Owner(Arc::new(Deaf)), &TaskTracker::new());
        Self { link, _undertaker: undertaker }
    }

    async fn request(&self) -> Exchange {
        self.request_that(true).await
    }

    async fn request_that(&self, takes_strays: bool) -> Exchange {
        self.try_request("tools/call", takes_strays, None).await.expect("it reads")
    }

    async fn try_request(&self, method: &str, takes_strays: bool, params: Option<String>) -> Result<Exchange, Ended> {
        let outgoing = Outgoing { method, client_id: "7", progress_token: None, takes_strays, cancellable: true };
        within("room in the queue", self.link.request(outgoing, |_| params)).await
    }

    /// Has the script's `trap` for this signal run.
    fn signal(&self) {
        let mut kill = std::process::Command::new("/bin/kill");
        let killed = kill.arg("-USR1").arg(self.link.process_id().to_string()).status();
        assert!(killed.expect("kill starts").success());
    }
}

/// Waits for a note of this exchange.
async fn note(exchange: &mut Exchange) -> Note {
    match within("a note", exchange.next()).await {
        Event::Note(note) => note,
        _ => panic!("no note"),
    }
}

/// What an exchange comes to, and how many notes were before it.
async fn outcome(exchange: &mut Exchange) -> (usize, String) {
    let text = |json: Bytes| String::from_utf8_lossy(&json).into_owned();
    let mut notes = 0;
    loop {
        match within("what comes next", exchange.next()).await {
            Event::Note(_) => notes += 1,
            Event::Answer(Ok(result)) => return (notes, text(result)),
            Event::Answer(Err(error)) => return (notes, format!("error {}", text(error))),
            Event::Closed => return (notes, "closed".to_owned()),
            Event::Lost(ended) => return (notes, ended.to_string()),
        }
    }
}

/// A loop of a shell's.
fn times(count: usize, what: &str) -> String {
    format!("i=0; while [ $i -lt {count} ]; do {what}; i=$((i+1)); done")
}

const NOTE: &str = r#"echo '{"jsonrpc":"2.0","method":"notifications/message","params":{}}'"#;
const ANSWER: &str = r#"echo '{"jsonrpc":"2.0","id":1,"result":{"a":1}}'"#;
const REJECTION: &str = r#"echo '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}'"#;

#[tokio::test]
async fn stray_lines_of_a_long_life_do_not_end_a_child() {
    let few = times(STRAYS / 2 + 1, "echo log");
    for (script, expected) in [
        (format!("read l; {few}; {NOTE}; {few}; {NOTE}; {few}; {ANSWER}; cat"), r#"{"a":1}"#),
        (format!("read l; {few}; {REJECTION}; {few}; {ANSWER}; cat"), r#"{"a":1}"#),
        (format!("read l; {}; {ANSWER}; cat", times(3 * STRAYS, REJECTION)), r#"{"a":1}"#),
        (
            format!("read l; {}; {ANSWER}; cat", times(STRAYS + 1, "echo log")),
            "it writes lines to stdout that are no JSON-RPC messages",
        ),
    ] {
        let world = World::new(&script);
        let mut exchange = world.request().await;
        assert_eq!(outcome(&mut exchange).await.1, expected, "{script}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hide_the_end_of_its_child() {
    let many = times(NOTES_AT_ONCE + 36, NOTE);
    let question = r#"echo '{"jsonrpc":"2.0","id":"q","method":"ping/long"}'"#;
    for (script, expected) in [
        (format!("read l; read l; {many}; exit 3"), "exited with code 3"),
        (format!("read l; read l; {many}; {question}; exit 3"), "exited with code 3"),
        // What was said before the end counts.
        (format!("read l; read l; {many}; {ANSWER}; exit 3"), r#"{"a":1}"#),
    ] {
        let world = World::new(&script);
        let mut slow = world.request().await;
        let mut other = world.request_that(false).await;
        assert_eq!(outcome(&mut other).await, (0, "exited with code 3".to_owned()), "{script}");
        assert_eq!(world.link.end().expect("it has ended").to_string(), "exited with code 3", "{script}");
        assert_eq!(outcome(&mut slow).await, (NOTES_AT_ONCE, expected.to_owned()), "{script}");
    }
}

const DEAF: &str = "it does not read its input any more";

/// Waits until it is told to go on, and lives on.
fn after_signal(what: &str) -> String {
    format!("trap '{}' USR1; {NOTE}; while :; do sleep 0.01; done", what.replace('\'', r"'\''"))
}

#[tokio::test]
async fn a_child_that_closes_its_input_and_lives_on_is_asked_nothing_more() {
    let world = World::new(&format!("read l; read l; exec <&-; {}", after_signal(ANSWER)));
    let mut first = world.request().await;
    let mut listening = world.try_request("subscriptions/listen", false, None).await.expect("it reads");
    // Its input is closed then.
    assert!(matches!(note(&mut first).await, Note::Notice(_)));
    assert_eq!(world.link.end(), None, "nobody can know");
    for _ in 0..2 {
        let refused = world.try_request("tools/call", true, None).await;
        assert_eq!(refused.err().map(|ended| ended.to_string()).as_deref(), Some(DEAF));
    }
    assert_eq!(world.link.end().map(|ended| ended.to_string()).as_deref(), Some(DEAF));
    assert_eq!(outcome(&mut listening).await.1, DEAF, "others hear of changes at another one");
    world.signal();
    assert_eq!(outcome(&mut first).await.1, r#"{"a":1}"#, "what it had read it may answer");
}

#[tokio::test]
async fn a_request_that_was_queued_for_a_child_that_closes_its_input_is_lost() {
    let world = World::new(&format!("read l; {}", after_signal("exec <&-")));
    let mut first = world.request().await;
    assert!(matches!(note(&mut first).await, Note::Notice(_)));
    // More than fits into a pipe.
    let params = format!(r#"{{"long":"{}"}}"#, "x".repeat(1 << 20));
    let mut queued = world.try_request("tools/call", true, Some(params)).await.expect("there is room in the queue");
    world.signal();
    assert_eq!(outcome(&mut queued).await.1, DEAF);
    assert_eq!(outcome(&mut first).await.1, DEAF, "nobody knows what it has read");
}

/// Whoever waits for its user can be asked again only when that comes back.
#[tokio::test]
async fn a_question_goes_to_a_request_whose_client_is_there() {
    let question = r#"echo '{"jsonrpc":"2.0","id":"q","method":"elicitation/create"}'"#;
    let world = World::new(&format!("read l; read l; read l; {question}; read l; {question}; cat"));
    let (mut there, mut away) = (world.request().await, world.request().await);
    away.hush(true);
    let go_on = || within("room in the queue", world.link.notify("notifications/test", None));
    go_on().await.expect("it reads");
    assert!(matches!(note(&mut there).await, Note::Asked(_)));
    there.hush(true);
    go_on().await.expect("it reads");
    assert!(matches!(note(&mut away).await, Note::Asked(_)), "kept for the newest where all are away");
}

/// How many stray lines are too many without a message in between.
const STRAYS: usize = reader::STRAY_LINES_MAX;

//! Tools that show what became of a message on its way, and whose process answered it.

use std::{collections::BTreeMap, io::Write, time::Duration};

use serde_json::{Value, json};

use crate::{
    content::text,
    modern,
    server::{Call, Change},
    tools::{Tool, contents, say, schema},
    wire::{Failure, Outcome, Reply},
};

pub(crate) const TOOLS: &[Tool] = &[
    Tool::new("echo_raw", "Its arguments and _meta, spelled as they came", echo_raw)
        .takes(|| json!({ "type": "object", "additionalProperties": true })),
    Tool::new("odd", "A result with much that is in no schema", |_| Ok(Reply::Raw(ODD.to_owned()))),
    Tool::new("odd_error", "An error with a code of its own and odd data", |_| {
        Err(Failure::Error { code: -31999, message: "odd".to_owned(), data: Some(ODD_DATA.to_owned()) })
    }),
    Tool::new("whoami", "The keys of the request's _meta, and the variables MCP_BRIDGE…", |call| {
        let variables = json!(environment("MCP_BRIDGE"));
        contents(json!([text(&json!(call.meta_keys()).to_string()), text(&variables.to_string())]))
    }),
    Tool::new("environment", "The names of all environment variables", |_| {
        say(&json!(environment("").into_keys().collect::<Vec<_>>()).to_string())
    }),
    Tool::new("pid", "The number of this process", |_| say(&std::process::id().to_string())),
    Tool::new("count", "How many calls this process has had, with this one", |call| say(&call.number.to_string())),
    Tool::new("sleep", "Answers after that many milliseconds", |call| {
        let time = Duration::from_millis(number(call, "ms")?);
        call.pause(time).inspect_err(|_| note("cancelled"))?;
        say("slept")
    })
    .takes(|| schema(json!({ "ms": { "type": "integer", "minimum": 0 } }), &["ms"])),
    Tool::new("progress_n", "Sends that many progress notifications", |call| {
        let n = number(call, "n")?;
        for step in 1..=n {
            call.pause(Duration::ZERO)?;
            call.progress(step, n);
        }
        say(&n.to_string())
    })
    .takes(|| schema(json!({ "n": { "type": "integer", "minimum": 0 } }), &["n"])),
    Tool::new("tell", "Its words as progress, as a log message, and as the answer", |call| {
        let words: String = call.argument("words").unwrap_or_default();
        call.remark(&words);
        call.log("info", &words);
        say(&words)
    })
    .takes(|| schema(json!({ "words": { "type": "string" } }), &["words"])),
    Tool::new("log_n", "Sends that many log messages, one each millisecond", |call| {
        let n = number(call, "n")?;
        for step in 1..=n {
            call.pause(Duration::from_millis(1))?;
            call.log("info", &step.to_string());
        }
        say(&n.to_string())
    })
    .takes(|| schema(json!({ "n": { "type": "integer", "minimum": 0 } }), &["n"])),
    Tool::new("big", "A text of that many bytes", |call| {
        let bytes = usize::try_from(number(call, "bytes")?.min(MAX_BIG)).unwrap_or(usize::MAX);
        say(&"x".repeat(bytes))
    })
    .takes(|| schema(json!({ "bytes": { "type": "integer", "minimum": 0 } }), &["bytes"])),
    Tool::new("touch", "Tells subscribers that a resource changed or, with `lists`, that all lists did", touch)
        .takes(|| schema(json!({ "uri": { "type": "string" }, "lists": { "type": "boolean" } }), &[])),
    Tool::new(
        "end_listening",
        "Ends all subscriptions: with their result or, without `gracefully`, cancelled",
        |call| {
            let gracefully = call.argument("gracefully").unwrap_or(true);
            say(&format!("ended: {}", modern::end_listening(&call.server, gracefully)))
        },
    )
    .takes(|| schema(json!({ "gracefully": { "type": "boolean" } }), &[])),
    Tool::new("die", "Exits with that code, and answers nothing", |call| {
        let code = call.argument("code").unwrap_or(1);
        note("dying");
        exit(code)
    })
    .takes(|| schema(json!({ "code": { "type": "integer" } }), &[])),
];

/// Enough for every limit that is tried, and not all of the machine's memory.
const MAX_BIG: u64 = 1 << 30;

/// Valid in both eras: in the legacy one, the result type is one more unknown field.
const ODD: &str = concat!(
    r#"{"resultType":"complete","content":[{"type":"text","text":"odd"},"#,
    r#"{"type":"com.example/hologram","voxels":[1,2,3],"more":{"a":null}}],"#,
    r#""unknown":{"kept":true},"big":123456789012345678901234567890,"huge":1e400,"price":1.10,"#,
    r#""zero":-0,"escaped":"\u00e9\/","_meta":{"com.example/trace":"abc","com.example/n":1.0}}"#
);

const ODD_DATA: &str =
    r#"{"unknown":{"kept":[]},"big":123456789012345678901234567890,"huge":1e400,"price":1.10,"escaped":"\u00e9\/"}"#;

/// `{"arguments":…,"_meta":…}`; what was not sent is not there.
fn echo_raw(call: &Call) -> Outcome {
    let part = |key| call.params.get(key).map(|raw| format!(r#""{key}":{}"#, raw.get()));
    let parts: Vec<String> = ["arguments", "_meta"].into_iter().filter_map(part).collect();
    say(&format!("{{{}}}", parts.join(",")))
}

fn touch(call: &Call) -> Outcome {
    let uri: Option<String> = call.argument("uri");
    let mut changes: Vec<Change<'_>> = uri.as_deref().map(Change::Updated).into_iter().collect();
    if call.argument("lists") == Some(true) {
        changes.extend([Change::Tools, Change::Prompts, Change::Resources]);
    }
    let sent: usize = changes.into_iter().map(|change| call.server.changed(change)).sum();
    say(&format!("notifications: {sent}"))
}

fn number(call: &Call, name: &str) -> Result<u64, Failure> {
    call.argument(name).ok_or_else(|| Failure::error(-32602, &format!("{name} must be a whole number")))
}

/// The variables whose names begin with `prefix`.
fn environment(prefix: &str) -> BTreeMap<String, Value> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), Value::from(value.to_string_lossy())))
        .filter(|(name, _)| name.starts_with(prefix))
        .collect()
}

/// A line for whoever collects our errors.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[expect(clippy::exit, reason = "it is what this tool is for: an end in the middle of everything")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

//! An MCP server over stdio that has everything the official conformance suite looks for, and tools
//! that show what a bridge in front of it did to a message.
//!
//! `everything --era legacy|modern|both`. It shares no code with what it tests. With `both` the
//! first request decides the era, for as long as the process lives.

use std::{
    io::{BufRead, Write},
    process::ExitCode,
};

use serde_json::{Value, json};

use server::{Era, Server};
use wire::{Message, Object, field};

mod asking;
mod content;
mod legacy;
mod modern;
mod own;
mod rounds;
mod server;
mod suite;
mod tools;
mod wire;

const INSTRUCTIONS: &str = "A server for tests. Nothing in it is useful.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut server = match arguments[..] {
        ["--era", "legacy"] => Some(Server::new(Era::Legacy)),
        ["--era", "modern"] => Some(Server::new(Era::Modern)),
        ["--era", "both"] => None,
        _ => {
            let _ = writeln!(std::io::stderr(), "usage: everything --era legacy|modern|both");
            return ExitCode::from(2);
        }
    };
    let mut stdin = std::io::stdin().lock();
    let mut line = Vec::new();
    while stdin.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        if !line.trim_ascii().is_empty() {
            let message = Message::parse(&line);
            if let Message::Request { params, .. } = &message {
                server.get_or_insert_with(|| Server::new(era(params)));
            }
            match &server {
                Some(server) if server.era == Era::Modern => modern::receive(server, message),
                Some(server) => legacy::receive(server, message),
                // Only a request decides.
                None => legacy::receive(&Server::new(Era::Legacy), message),
            }
        }
        line.clear();
    }
    if let Some(server) = server {
        modern::end_listening(&server, true);
    }
    // What still runs has nobody to answer to.
    ExitCode::SUCCESS
}

/// The era of a client whose first request has these `params`.
fn era(params: &Object) -> Era {
    let is_modern = field(params, "_meta").is_some_and(|meta: Object| meta.contains_key(modern::PROTOCOL_VERSION));
    if is_modern { Era::Modern } else { Era::Legacy }
}

fn identity() -> Value {
    json!({ "name": "everything", "version": env!("CARGO_PKG_VERSION") })
}

fn capabilities() -> Value {
    json!({
        "tools": { "listChanged": true },
        "prompts": { "listChanged": true },
        "resources": { "listChanged": true, "subscribe": true },
        "completions": {},
        "logging": {},
    })
}

//! `mcp-calculator whoami`

use std::{fmt::Write as _, process::ExitCode, time::SystemTime};

use clap::Args;
use mcp_calculator::login::{
    prompt::plain,
    store::{Entry, StoreKind},
};

use super::Account;
use crate::print;

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct Whoami {
    /// All accounts
    #[arg(long)]
    all: bool,
    /// One JSON object, or an array with --all
    #[arg(long)]
    json: bool,
}

/// Shows who is signed in. Asks neither the keyring nor the network. Code 1 when nobody is.
///
/// # Errors
/// When the list of sign-ins cannot be read.
pub(crate) fn whoami(account: &Account, whoami: &Whoami) -> anyhow::Result<ExitCode> {
    let opened = account.open()?;
    let entries = if whoami.all {
        opened.store.list()?
    } else {
        opened.store.find(&opened.slot)?.into_iter().collect::<Vec<_>>()
    };
    let now = SystemTime::now();
    let text = if whoami.json {
        let mut objects = entries.iter().map(|entry| json(entry, opened.store.kind()));
        let value = if whoami.all { objects.collect() } else { objects.next().unwrap_or_default() };
        format!("{value:#}\n")
    } else if entries.is_empty() {
        format!("Not signed in (account {}).\n{}", plain(&opened.slot.account), opened.hints()?)
    } else {
        entries.iter().map(|entry| shown(entry, opened.store.kind(), now)).collect::<Vec<_>>().join("\n")
    };
    print(text.as_bytes())?;
    Ok(if entries.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn shown(entry: &Entry, kind: StoreKind, now: SystemTime) -> String {
    let who = entry.email.as_deref().or(entry.subject.as_deref()).unwrap_or("a user whose name was not told");
    let mut text = format!("{} (account {})\n", plain(who), plain(&entry.slot.account));
    let scopes = entry.scopes.join(" ");
    let until = entry.expires_at.map(|at| {
        let stamp = timestamp(at);
        if at <= now { format!("{stamp}, is renewed when it is used") } else { stamp }
    });
    let kind = kind.to_string();
    let lines = [
        ("server", entry.resource.as_deref()),
        ("issuer", Some(entry.issuer.as_str())),
        ("client", Some(entry.client_id.as_str())),
        ("scopes", Some(if scopes.is_empty() { "none" } else { &scopes })),
        ("token until", until.as_deref().or(Some("the server did not say"))),
        ("kept in", Some(&kind)),
    ];
    for (label, value) in lines {
        if let Some(value) = value {
            let _ = writeln!(text, "  {label:<11}  {}", plain(value));
        }
    }
    text
}

fn json(entry: &Entry, kind: StoreKind) -> serde_json::Value {
    serde_json::json!({
        "account": entry.slot.account,
        "subject": entry.subject,
        "email": entry.email,
        "server": entry.resource,
        "issuer": entry.issuer,
        "client_id": entry.client_id,
        "scopes": entry.scopes,
        "expires_at": entry.expires_at.map(timestamp),
        "token_store": kind.to_string(),
    })
}

/// RFC 3339, in UTC, whole seconds.
fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

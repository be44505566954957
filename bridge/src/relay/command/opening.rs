//! From a started process to a server that answers.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::kind::{Kind, Opening};
use crate::{
    backend::link::{Ended, Event, Exchange, Link, Outgoing},
    era::UNSUPPORTED_VERSION,
    message::shown,
    relay::translate::{OURSELVES, capabilities::initialize_params},
};

/// How long a server that has started may leave `server/discover` unanswered before `initialize` is
/// tried beside it: some legacy servers ignore what they do not know. A server that is still
/// starting answers both, in this order.
const DISCOVER_PATIENCE: Duration = Duration::from_secs(5);

/// How long the answer to `server/discover` may still come after the one to `initialize`.
const DISCOVER_STRAGGLES: Duration = Duration::from_millis(500);

/// Why a server that says nothing is no use.
pub(super) const LATE: &str = "it answered nothing in time (--start-timeout)";

/// Most pages of tools that are looked at for headers; a cursor that never ends must not hold us.
const TOOL_PAGES_MAX: usize = 20;

/// Says to a fresh server what a server of that kind has to hear first.
///
/// # Errors
/// Why it is no use.
pub(super) async fn open(link: &Link, kind: &Kind, by: Instant) -> Result<Opening, String> {
    match kind {
        Kind::Blank => Ok(Opening::Blank),
        Kind::Modern => discover(link, by).await.map(Opening::Modern),
        Kind::Legacy(profile) => initialize(link, &initialize_params(profile, None), by).await.map(Opening::Legacy),
    }
}

async fn discover(link: &Link, by: Instant) -> Result<Bytes, String> {
    let exchange = ask(link, "server/discover", discover_params()).await.map_err(|ended| ended.to_string())?;
    match answer(exchange, by).await? {
        Ok(result) => Ok(result),
        Err(error) => Err(format!("it answered `server/discover` with {}", shown_error(&error))),
    }
}

async fn initialize(link: &Link, params: &str, by: Instant) -> Result<Bytes, String> {
    let exchange = ask(link, "initialize", params.to_owned()).await.map_err(|ended| ended.to_string())?;
    match answer(exchange, by).await? {
        Ok(result) => {
            link.notify("notifications/initialized", None).await.map_err(|ended| ended.to_string())?;
            Ok(result)
        }
        Err(error) => Err(format!("it answered `initialize` with {}", shown_error(&error))),
    }
}

pub(super) fn discover_params() -> String {
    let version = mcp_calculator::server::MODERN_VERSION;
    format!(
        r#"{{"_meta":{{"{}":"{version}","{}":{OURSELVES},"{}":{{}}}}}}"#,
        mcp_calculator::server::VERSION_KEY,
        crate::era::CLIENT_INFO_KEY,
        mcp_calculator::server::CAPABILITIES_KEY,
    )
}

pub(super) async fn ask(link: &Link, method: &str, params: String) -> Result<Exchange, Ended> {
    let outgoing = Outgoing { method, client_id: "0", progress_token: None, takes_strays: false, cancellable: false };
    link.request(outgoing, |_| Some(params)).await
}

pub(super) async fn answer(mut exchange: Exchange, by: Instant) -> Result<Result<Bytes, Bytes>, String> {
    loop {
        match timeout_at(by, exchange.next()).await {
            Ok(Event::Answer(outcome)) => return Ok(outcome),
            Ok(Event::Lost(ended)) => return Err(ended.to_string()),
            Ok(Event::Note(_)) => {}
            Ok(Event::Closed) => return Err("it ended the request without an answer".to_owned()),
            Err(_) => return Err(LATE.to_owned()),
        }
    }
}

/// An error object's code and message, cut short.
pub(super) fn shown_error(error: &[u8]) -> String {
    let error: serde_json::Value = serde_json::from_slice(error).unwrap_or_default();
    let message = error.get("message").and_then(serde_json::Value::as_str).unwrap_or_default();
    format!("error {} {}", error.get("code").unwrap_or(&serde_json::Value::Null), shown(message))
}

/// As what a server has answered.
pub(super) enum First {
    Modern(Bytes),
    Legacy(Bytes),
    Neither(String),
}

/// What a fresh child turns out to be (MCP 2026-07-28, stdio, "Backward Compatibility").
pub(super) async fn first_era(link: &Link, by: Instant) -> First {
    let discovering = match ask(link, "server/discover", discover_params()).await {
        Ok(exchange) => exchange,
        Err(ended) => return First::Neither(ended.to_string()),
    };
    let mut discovered = std::pin::pin!(answer(discovering, by));
    let legacy = initialize_params("{}", None);
    let early = tokio::select! {
        answered = &mut discovered => Some(answered),
        () = sleep(DISCOVER_PATIENCE) => None,
    };
    match early {
        Some(Ok(Ok(result))) => return First::Modern(result),
        Some(Ok(Err(error))) if is_unsupported_version(&error) => {
            return First::Neither(format!("it answered `server/discover` with {}", shown_error(&error)));
        }
        Some(Ok(Err(_))) => {}
        Some(Err(why)) => return First::Neither(why),
        None => {
            let mut initialized = std::pin::pin!(initialize(link, &legacy, by));
            let result = tokio::select! {
                answered = &mut discovered => match answered {
                    Ok(Ok(result)) => return First::Modern(result),
                    _ => initialized.await,
                },
                result = &mut initialized => {
                    let late = Instant::now() + DISCOVER_STRAGGLES;
                    if let Ok(Ok(Ok(result))) = timeout_at(late, &mut discovered).await {
                        return First::Modern(result);
                    }
                    result
                }
            };
            return result.map_or_else(First::Neither, First::Legacy);
        }
    }
    initialize(link, &legacy, by).await.map_or_else(First::Neither, First::Legacy)
}

/// A modern server that does not speak the version that we do.
fn is_unsupported_version(error: &[u8]) -> bool {
    let error: serde_json::Value = serde_json::from_slice(error).unwrap_or_default();
    error.get("code").and_then(serde_json::Value::as_i64) == Some(UNSUPPORTED_VERSION)
}

/// All pages of the server's tools, each a whole result, as far as it gives them in time.
pub(super) async fn tools(link: &Link, opening: &Opening, by: Instant) -> Vec<Bytes> {
    let mut pages = Vec::new();
    let mut cursor: Option<String> = None;
    while pages.len() < TOOL_PAGES_MAX {
        let mut params = match opening {
            Opening::Modern(_) => discover_params(),
            _ => "{}".to_owned(),
        };
        if let Some(cursor) = &cursor {
            params.pop();
            let comma = if params.len() > 1 { "," } else { "" };
            params.push_str(&format!(r#"{comma}"cursor":{cursor}}}"#));
        }
        let Ok(exchange) = ask(link, "tools/list", params).await else { break };
        let Ok(Ok(page)) = answer(exchange, by).await else { break };
        cursor = next_cursor(&page);
        pages.push(page);
        if cursor.is_none() {
            break;
        }
    }
    pages
}

fn next_cursor(page: &[u8]) -> Option<String> {
    let page: serde_json::Value = serde_json::from_slice(page).ok()?;
    page.get("nextCursor")?.as_str().map(crate::message::quoted)
}

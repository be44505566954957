//! The calculator as an MCP server: plain functions on rmcp's model types.
//!
//! The stdio program and the bridge both answer with these, so that they cannot differ. Nothing
//! here knows a transport; every function is cheap, synchronous and free of side effects.

mod arguments;
mod identity;
mod scopes;

use std::fmt::{self, Write as _};

use rmcp::model::{CallToolResult, ContentBlock, ErrorData};
use serde_json::Value;

use self::arguments::{Arguments, InvalidArguments};
pub use self::{
    identity::{discover, initialize, list_tools},
    scopes::{needed_scope, refusal, scope_of},
};
use crate::calculator::{Number, evaluate};

/// The name of the one tool.
pub const TOOL_NAME: &str = "calculator";

/// The protocol version of the modern era.
pub const MODERN_VERSION: &str = "2026-07-28";

/// The protocol versions of the legacy era, newest first.
pub const LEGACY_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// The key of a modern request's `_meta` that names its protocol version.
pub const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

/// The key of a modern request's `_meta` with the client's capabilities.
pub const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// Which shape a result has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Through 2025-11-25: `initialize`, then bare results.
    Legacy,
    /// From 2026-07-28: results with `resultType` and the server's name in `_meta`.
    Modern,
}

/// The verified user on whose behalf a tool is called.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Who it is, to the authorization server.
    pub subject: Option<&'a str>,
    /// The client that acts for the user.
    pub client_id: Option<&'a str>,
    /// The user's e-mail address.
    pub email: Option<&'a str>,
    /// What was granted, separated by spaces.
    pub scopes: &'a (dyn fmt::Display + Sync + 'a),
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("subject", &self.subject)
            .field("client_id", &self.client_id)
            .field("email", &self.email)
            .field("scopes", &format_args!("{}", self.scopes))
            .finish()
    }
}

/// The answer to `tools/call`.
///
/// `arguments` is the JSON text of the parameter of that name, `None` if it was not sent. `caller`
/// is the verified user, `None` where nobody is verified (stdio). Who calls which operation is
/// logged at debug; the numbers never are.
///
/// Arguments that do not fit the input schema give a result marked as an error, because the model
/// that wrote them can read it and try again (server/tools, "Error Handling").
///
/// # Errors
/// Invalid params (-32602) for another tool than [`TOOL_NAME`] and for arguments that are not an
/// object: the request itself is malformed.
pub fn call_tool(
    era: Era,
    name: &str,
    arguments: Option<&str>,
    caller: Option<&Caller<'_>>,
) -> Result<CallToolResult, ErrorData> {
    let mut result = match outcome(name, || Arguments::parse(arguments), caller)? {
        Ok(number) => CallToolResult::success(vec![ContentBlock::text(number.to_string())]),
        Err(error) => CallToolResult::error(vec![ContentBlock::text(error)]),
    };
    match era {
        Era::Legacy => result.result_type = None,
        Era::Modern => result.meta = Some(identity::RESULT_META.clone()),
    }
    Ok(result)
}

/// The parameter `arguments` of a call, for [`call_tool_json`].
pub enum Given<'a> {
    /// Its JSON text; `None` if it was not sent.
    Text(Option<&'a str>),
    /// The names and the JSON texts of its members, for whoever has read the object already.
    Members(&'a mut dyn Iterator<Item = (&'a str, &'a str)>),
}

/// The same answer as JSON text, for whoever writes it to a wire.
///
/// # Errors
/// As [`call_tool`].
pub fn call_tool_json(
    era: Era,
    name: &str,
    arguments: Given<'_>,
    caller: Option<&Caller<'_>>,
) -> Result<String, ErrorData> {
    let read = || match arguments {
        Given::Text(text) => Arguments::parse(text),
        Given::Members(members) => Arguments::from_members(members),
    };
    let outcome = outcome(name, read, caller)?;
    let meta = identity::RESULT_META_JSON.get();
    let mut json = String::with_capacity(ENVELOPE_MAX_BYTES + meta.len());
    json.push('{');
    if era == Era::Modern {
        json.push_str(r#""resultType":"complete","#);
    }
    json.push_str(r#""content":[{"type":"text","text":"#);
    match &outcome {
        // No number has a character that JSON escapes. A String takes every write.
        Ok(number) => drop(write!(json, "\"{number}\"")),
        Err(error) => json.push_str(&Value::from(error.as_str()).to_string()),
    }
    json.push_str(r#"}],"isError":"#);
    json.push_str(if outcome.is_err() { "true" } else { "false" });
    if era == Era::Modern {
        json.push_str(r#","_meta":"#);
        json.push_str(meta);
    }
    json.push('}');
    Ok(json)
}

/// A result around a number, without `_meta`.
const ENVELOPE_MAX_BYTES: usize = 128;

/// What came of a call: a number, or an error that the model can read.
fn outcome(
    name: &str,
    arguments: impl FnOnce() -> Result<Arguments, InvalidArguments>,
    caller: Option<&Caller<'_>>,
) -> Result<Result<Number, String>, ErrorData> {
    if name != TOOL_NAME {
        return Err(unknown_tool(name));
    }
    let arguments = arguments();
    tracing::debug!(
        subject = caller.and_then(|caller| caller.subject),
        client_id = caller.and_then(|caller| caller.client_id),
        email = caller.and_then(|caller| caller.email),
        scopes = caller.map(|caller| tracing::field::display(caller.scopes)),
        operation = arguments.as_ref().ok().map(|arguments| arguments.operation.as_str()),
        "calculator called"
    );
    let number = match arguments {
        Ok(Arguments { operation, a, b }) => evaluate(operation, a, b).map_err(|error| error.to_string()),
        Err(problems @ InvalidArguments::Members(_)) => Err(problems.to_string()),
        Err(malformed @ InvalidArguments::NotAnObject) => {
            return Err(ErrorData::invalid_params(format!("Invalid params: {malformed}"), None));
        }
    };
    Ok(number.map_err(|error| format!("Error: {error}")))
}

/// The protocol error for a tool that does not exist. At most 64 characters of the name are
/// repeated: it is the peer's text.
fn unknown_tool(name: &str) -> ErrorData {
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    ErrorData::invalid_params(format!("Unknown tool: {shown} (the only tool is {TOOL_NAME})"), None)
}

#[cfg(test)]
mod tests;

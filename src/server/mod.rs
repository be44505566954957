//! The calculator as an MCP server: plain functions on rmcp's model types.
//!
//! The stdio program and the bridge both answer with these, so that they cannot differ. Nothing
//! here knows a transport; every function is cheap, synchronous and free of side effects.

mod arguments;
mod identity;
mod scopes;

use std::fmt;

use rmcp::model::{CallToolResult, ContentBlock, ErrorData, ResultType};
use serde::Serialize;
use serde_json::value::RawValue;

use self::arguments::{Arguments, InvalidArguments};
pub use self::{
    identity::{discover, initialize, list_tools},
    scopes::{needed_scope, refusal, scope_of},
};
use crate::calculator::evaluate;

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
    let mut result = nameless(era, name, arguments, caller)?;
    if era == Era::Modern {
        result.meta = Some(identity::RESULT_META.clone());
    }
    Ok(result)
}

/// The same answer as JSON text, for whoever writes it to a wire: `_meta`, alike in every answer, is
/// not built anew.
///
/// # Errors
/// As [`call_tool`].
pub fn call_tool_json(
    era: Era,
    name: &str,
    arguments: Option<&str>,
    caller: Option<&Caller<'_>>,
) -> Result<String, ErrorData> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        result_type: &'a Option<ResultType>,
        content: &'a [ContentBlock],
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
        #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
        meta: Option<&'static RawValue>,
    }
    let CallToolResult { result_type, content, is_error, .. } = &nameless(era, name, arguments, caller)?;
    let meta = (era == Era::Modern).then(|| &**identity::RESULT_META_JSON);
    let wire = Wire { result_type, content, is_error: *is_error, meta };
    serde_json::to_string(&wire).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// The answer without the server's name in `_meta`.
fn nameless(
    era: Era,
    name: &str,
    arguments: Option<&str>,
    caller: Option<&Caller<'_>>,
) -> Result<CallToolResult, ErrorData> {
    if name != TOOL_NAME {
        return Err(unknown_tool(name));
    }
    let arguments = Arguments::parse(arguments);
    tracing::debug!(
        subject = caller.and_then(|caller| caller.subject),
        client_id = caller.and_then(|caller| caller.client_id),
        email = caller.and_then(|caller| caller.email),
        scopes = caller.map(|caller| tracing::field::display(caller.scopes)),
        operation = arguments.as_ref().ok().map(|arguments| arguments.operation.as_str()),
        "calculator called"
    );
    let text = match arguments {
        Ok(Arguments { operation, a, b }) => evaluate(operation, a, b).map_err(|error| error.to_string()),
        Err(problems @ InvalidArguments::Members(_)) => Err(problems.to_string()),
        Err(malformed @ InvalidArguments::NotAnObject) => {
            return Err(ErrorData::invalid_params(format!("Invalid params: {malformed}"), None));
        }
    };
    let mut result = match text {
        Ok(number) => CallToolResult::success(vec![ContentBlock::text(number.to_string())]),
        Err(error) => CallToolResult::error(vec![ContentBlock::text(format!("Error: {error}"))]),
    };
    if era == Era::Legacy {
        result.result_type = None;
    }
    Ok(result)
}

/// The protocol error for a tool that does not exist. At most 64 characters of the name are
/// repeated: it is the peer's text.
fn unknown_tool(name: &str) -> ErrorData {
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    ErrorData::invalid_params(format!("Unknown tool: {shown} (the only tool is {TOOL_NAME})"), None)
}

#[cfg(test)]
mod tests;

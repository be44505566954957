//! The calculator as an MCP server: what it is and offers in rmcp's model types, and calls, whose
//! results are written as text at once.
//!
//! The stdio program and the bridge both answer with these, so that they cannot differ. Nothing
//! here knows a transport; everything is cheap, synchronous and free of side effects but for a line in
//! the log.

mod arguments;
mod identity;

use std::fmt::{self, Write as _};

use rmcp::model::ErrorData;
use serde_json::Value;

use self::arguments::{Arguments, InvalidArguments, Problems};
pub use self::identity::{discover, initialize, list_tools};
use crate::calculator::{Operation, evaluate};

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

/// The scope of one operation.
#[must_use]
pub const fn scope_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Add => "op:add",
        Operation::Subtract => "op:sub",
        Operation::Multiply => "op:mult",
        Operation::Divide => "op:div",
    }
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

/// The parameter `arguments` of a call.
pub enum Given<'a> {
    /// Its JSON text; `None` if it was not sent.
    Text(Option<&'a str>),
    /// The names and the JSON texts of its members, for whoever has read the object already.
    Members(&'a mut dyn Iterator<Item = (&'a str, &'a str)>),
}

/// A `tools/call` that was read and has an answer.
pub struct Call(Result<Arguments, Problems>);

impl Call {
    /// Reads the parameters `name` and `arguments`.
    ///
    /// # Errors
    /// Invalid params (-32602) for another tool than [`TOOL_NAME`] and for arguments that are not an
    /// object: the request itself is malformed.
    pub fn read(name: &str, arguments: Given<'_>) -> Result<Self, ErrorData> {
        if name != TOOL_NAME {
            return Err(unknown_tool(name));
        }
        let arguments = match arguments {
            Given::Text(text) => Arguments::parse(text),
            Given::Members(members) => Arguments::from_members(members),
        };
        match arguments {
            Ok(arguments) => Ok(Self(Ok(arguments))),
            Err(InvalidArguments::Members(problems)) => Ok(Self(Err(problems))),
            Err(malformed @ InvalidArguments::NotAnObject) => {
                Err(ErrorData::invalid_params(format!("Invalid params: {malformed}"), None))
            }
        }
    }

    /// The scope that it needs, for whoever enforces scopes; `None` for a call that runs nothing,
    /// because its answer only says what is wrong with it.
    #[must_use]
    pub fn needed_scope(&self) -> Option<&'static str> {
        self.0.as_ref().ok().map(|arguments| scope_of(arguments.operation))
    }

    /// The result as JSON text.
    ///
    /// `caller` is the verified user, `None` where nobody is verified (stdio). Who calls which
    /// operation is logged at debug; the numbers never are.
    ///
    /// Arguments that do not fit the input schema give a result marked as an error, because the model
    /// that wrote them can read it and try again (server/tools, "Error Handling").
    #[must_use]
    pub fn answer(self, era: Era, caller: Option<&Caller<'_>>) -> String {
        tracing::debug!(
            subject = caller.and_then(|caller| caller.subject),
            client_id = caller.and_then(|caller| caller.client_id),
            email = caller.and_then(|caller| caller.email),
            scopes = caller.map(|caller| tracing::field::display(caller.scopes)),
            operation = self.0.as_ref().ok().map(|arguments| arguments.operation.as_str()),
            "calculator called"
        );
        self.result(era)
    }

    /// The same without a word in the log.
    pub(crate) fn result(self, era: Era) -> String {
        let number = match self.0 {
            Ok(Arguments { operation, a, b }) => evaluate(operation, a, b).map_err(|error| error.to_string()),
            Err(problems) => Err(problems.to_string()),
        };
        match number {
            // No number has a character that JSON escapes.
            Ok(number) => result(era, format_args!("\"{number}\""), false),
            Err(error) => result(era, Value::from(format!("Error: {error}")), true),
        }
    }
}

/// The result of a call that is not allowed, as JSON text: an error result, because the model that
/// called can read `text` and tell its user.
#[must_use]
pub fn refusal(era: Era, text: &str) -> String {
    result(era, Value::from(text), true)
}

/// A result around a number, without `_meta`.
const ENVELOPE_MAX_BYTES: usize = 128;

/// A result with one text, which is given as JSON.
fn result(era: Era, text: impl fmt::Display, is_error: bool) -> String {
    let meta = identity::RESULT_META_JSON.get();
    let mut json = String::with_capacity(ENVELOPE_MAX_BYTES + meta.len());
    json.push('{');
    if era == Era::Modern {
        json.push_str(r#""resultType":"complete","#);
    }
    json.push_str(r#""content":[{"type":"text","text":"#);
    // A String takes every write.
    write!(json, "{text}").ok();
    json.push_str(r#"}],"isError":"#);
    json.push_str(if is_error { "true" } else { "false" });
    if era == Era::Modern {
        json.push_str(r#","_meta":"#);
        json.push_str(meta);
    }
    json.push('}');
    json
}

/// The protocol error for a tool that does not exist. At most 64 characters of the name are
/// repeated: it is the peer's text.
fn unknown_tool(name: &str) -> ErrorData {
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    ErrorData::invalid_params(format!("Unknown tool: {shown} (the only tool is {TOOL_NAME})"), None)
}

#[cfg(test)]
mod tests;

//! One line read strictly: what it asks for, or why it cannot be answered otherwise than with an
//! error.
//!
//! Nothing is converted that is not needed: an id comes back as it was written, numbers keep their
//! spelling, and names that occur twice are seen.

use std::{borrow::Cow, fmt};

use rmcp::model::{ErrorCode, ErrorData};
use serde_json::{json, value::RawValue};

use super::lines::{Line, MAX_LINE_BYTES};
use crate::{
    json::{MembersError, Text, kind, members},
    server::{CAPABILITIES_KEY, Era, LEGACY_VERSIONS, MODERN_VERSION, VERSION_KEY},
};

/// The key of a modern request's `_meta` that names the client.
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";

/// How much of an unknown method's name the error repeats.
const MAX_ECHO_CHARS: usize = 64;

/// What a line is.
#[derive(Debug)]
pub(super) enum Message<'l> {
    /// A well-formed request. Its id, a string or an integer, is as it was written: answers repeat it
    /// exactly.
    Request(&'l str, Request<'l>),
    /// Something to be answered with an error; without an id if none could be read.
    Refused(Option<&'l str>, ErrorData),
    /// Nothing that is answered: an empty line, a notification, a response nobody waits for.
    Ignored,
}

/// The requests that this server knows, with what it reads of their parameters.
#[derive(Debug, PartialEq)]
pub(super) enum Request<'l> {
    Initialize {
        protocol_version: Cow<'l, str>,
    },
    Ping,
    Discover,
    ListTools(Era),
    /// `arguments` is JSON text.
    CallTool {
        era: Era,
        name: Cow<'l, str>,
        arguments: Option<&'l str>,
    },
}

/// Reads `line`; `initialized` tells whether `initialize` was answered before.
pub(super) fn read(line: &Line, initialized: bool) -> Message<'_> {
    let Line::Complete(bytes) = line else {
        return Message::Refused(None, invalid_request(format!("the line has more than {MAX_LINE_BYTES} bytes")));
    };
    if bytes.trim_ascii().is_empty() {
        return Message::Ignored;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Message::Refused(None, ErrorData::parse_error("Parse error: the line is not UTF-8", None));
    };
    // Syntax first, of the whole line: every later step can then rely on it.
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => envelope(text, initialized),
        Err(error) => Message::Refused(None, ErrorData::parse_error(format!("Parse error: {error}"), None)),
    }
}

fn envelope(text: &str, initialized: bool) -> Message<'_> {
    // The id is read by itself here, so that errors about other members can carry it.
    let refuse = |reason: String| {
        let id = members(text, ["id"]).ok().and_then(|[id]| id).and_then(valid_id);
        Message::Refused(id, invalid_request(reason))
    };
    let [version, id, method, params, result, error] =
        match members(text, ["jsonrpc", "id", "method", "params", "result", "error"]) {
            Ok(values) => values,
            Err(MembersError::NotAnObject("an array")) => {
                return refuse("batches are not supported; send one message per line".to_owned());
            }
            Err(MembersError::NotAnObject(kind)) => return refuse(format!("a message is an object, not {kind}")),
            Err(MembersError::Duplicate(name)) => return refuse(format!("{name} is given more than once")),
        };
    let Some(method) = method else {
        // Not even a wrong response may be answered: two peers could go on like that for ever.
        return if result.is_some() || error.is_some() {
            Message::Ignored
        } else {
            refuse("method is missing".to_owned())
        };
    };
    if version.and_then(Text::parse).is_none_or(|version| *version.0 != *b"2.0") {
        return refuse("jsonrpc must be \"2.0\"".to_owned());
    }
    let Some(method) = Text::parse(method) else {
        return refuse(format!("method is {}, not a string", kind(method)));
    };
    if result.is_some() || error.is_some() {
        return refuse("a message is a request or a response, not both".to_owned());
    }
    let Some(id) = id else { return Message::Ignored };
    let Some(id) = valid_id(id) else {
        return Message::Refused(None, invalid_request("id must be a string or an integer".to_owned()));
    };
    match request(&method, params, initialized) {
        Ok(request) => Message::Request(id, request),
        Err(error) => Message::Refused(Some(id), error),
    }
}

/// The id, if it is a string or an integer of any size.
fn valid_id(json: &str) -> Option<&str> {
    let integer = || json.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    (kind(json) == "a string" || (kind(json) == "a number" && integer())).then_some(json)
}

fn request<'l>(method: &Text<'_>, params: Option<&'l str>, initialized: bool) -> Result<Request<'l>, ErrorData> {
    // `null` is no parameters at all: several JSON-RPC libraries write it for that.
    let params = params.filter(|params| *params != "null").unwrap_or("{}");
    match &*method.0 {
        b"initialize" => initialize(params),
        b"ping" => {
            let [meta] = fields(params, "params", ["_meta"])?;
            match era(meta, true)? {
                Era::Legacy => Ok(Request::Ping),
                Era::Modern => Err(method_not_found(method)),
            }
        }
        b"server/discover" => {
            let [meta] = fields(params, "params", ["_meta"])?;
            match era(meta, true)? {
                Era::Legacy => Err(missing_version()),
                Era::Modern => Ok(Request::Discover),
            }
        }
        b"tools/list" => {
            let [meta, cursor] = fields(params, "params", ["_meta", "cursor"])?;
            let era = era(meta, initialized)?;
            match cursor {
                None | Some("null") => Ok(Request::ListTools(era)),
                Some(_) => Err(invalid_params("params.cursor is not one of ours; the list has one page")),
            }
        }
        b"tools/call" => {
            let [meta, name, arguments] = fields(params, "params", ["_meta", "name", "arguments"])?;
            let era = era(meta, initialized)?;
            Ok(Request::CallTool { era, name: string("params.name", name)?, arguments })
        }
        _ => Err(method_not_found(method)),
    }
}

fn initialize(params: &str) -> Result<Request<'_>, ErrorData> {
    let [version, capabilities, client_info] =
        fields(params, "params", ["protocolVersion", "capabilities", "clientInfo"])?;
    let protocol_version = string("params.protocolVersion", version)?;
    object("params.capabilities", capabilities)?;
    let [name, version] = fields(object("params.clientInfo", client_info)?, "params.clientInfo", ["name", "version"])?;
    string("params.clientInfo.name", name)?;
    string("params.clientInfo.version", version)?;
    Ok(Request::Initialize { protocol_version })
}

/// Which era a request belongs to: the modern one if its `_meta` names a protocol version.
///
/// # Errors
/// For a modern request that lacks what every modern request has or names a version other than
/// ours, and for a legacy one before `initialize`.
fn era(meta: Option<&str>, initialized: bool) -> Result<Era, ErrorData> {
    let [version, capabilities, info] =
        fields(meta.unwrap_or("{}"), "params._meta", [VERSION_KEY, CAPABILITIES_KEY, CLIENT_INFO])?;
    let Some(version) = version else {
        return if initialized && capabilities.is_none() { Ok(Era::Legacy) } else { Err(missing_version()) };
    };
    let version = string(format_args!("params._meta[\"{VERSION_KEY}\"]"), Some(version))?;
    if version != MODERN_VERSION {
        return Err(unsupported_version(&version));
    }
    object(format_args!("params._meta[\"{CAPABILITIES_KEY}\"]"), capabilities)?;
    if info.is_some() {
        object(format_args!("params._meta[\"{CLIENT_INFO}\"]"), info)?;
    }
    Ok(Era::Modern)
}

/// The members `names` of the object `json`, which is called `path` in errors.
fn fields<'a, const N: usize>(
    json: &'a str,
    path: &str,
    names: [&'static str; N],
) -> Result<[Option<&'a str>; N], ErrorData> {
    members(json, names).map_err(|error| match error {
        MembersError::NotAnObject(kind) => invalid_params(&format!("{path} must be an object, not {kind}")),
        MembersError::Duplicate(name) => invalid_params(&format!("{path} has {name} more than once")),
    })
}

fn string<'l>(path: impl fmt::Display, json: Option<&'l str>) -> Result<Cow<'l, str>, ErrorData> {
    let json = json.ok_or_else(|| invalid_params(&format!("{path} is missing (a string)")))?;
    let text = Text::parse(json).ok_or_else(|| invalid_params(&format!("{path} is {}, not a string", kind(json))))?;
    Ok(match text.0 {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

fn object(path: impl fmt::Display, json: Option<&str>) -> Result<&str, ErrorData> {
    let json = json.ok_or_else(|| invalid_params(&format!("{path} is missing (an object)")))?;
    match kind(json) {
        "an object" => Ok(json),
        other => Err(invalid_params(&format!("{path} is {other}, not an object"))),
    }
}

fn invalid_request(reason: String) -> ErrorData {
    ErrorData::invalid_request(format!("Invalid request: {reason}"), None)
}

fn invalid_params(reason: &str) -> ErrorData {
    ErrorData::invalid_params(format!("Invalid params: {reason}"), None)
}

fn method_not_found(method: &Text<'_>) -> ErrorData {
    let message = format!("Method not found: {}", method.excerpt(MAX_ECHO_CHARS));
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None)
}

fn missing_version() -> ErrorData {
    invalid_params(&format!(
        "params._meta[\"{VERSION_KEY}\"] is missing (\"{MODERN_VERSION}\"); \
         for {} and earlier, send initialize first",
        LEGACY_VERSIONS[0]
    ))
}

fn unsupported_version(requested: &str) -> ErrorData {
    let requested: String = requested.chars().take(MAX_ECHO_CHARS).collect();
    ErrorData::new(
        ErrorCode::UNSUPPORTED_PROTOCOL_VERSION,
        format!("Unsupported protocol version; supported in _meta: {MODERN_VERSION}"),
        Some(json!({ "supported": [MODERN_VERSION], "requested": requested })),
    )
}

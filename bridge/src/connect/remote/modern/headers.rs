//! Headers that mirror the body (MCP 2026-07-28, "Streamable HTTP": Request Metadata).

use http::{HeaderMap, HeaderName, HeaderValue};
use mcp_calculator::server::{MODERN_VERSION, VERSION_KEY};

use crate::{
    era::{encoded, is_named},
    message::{Params, Request},
    relay::param_headers::ToolHeaders,
};

const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The headers of a request. What no header can say is left out, and the server refuses it.
pub(super) fn of_request(request: &Request<'_>, tools: &ToolHeaders) -> HeaderMap {
    let mut headers = of_message(&request.method, &request.params);
    let target = request.params.target.as_deref();
    if let Some(target) = target.filter(|_| is_named(&request.method))
        && let Ok(value) = HeaderValue::from_str(&encoded(target))
    {
        headers.insert(NAME, value);
    }
    if let Some(tool) = target.filter(|_| request.method == "tools/call") {
        for (name, value) in tools.mirror(tool, request.params.arguments.as_ref()) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }
    headers
}

/// The headers that every message has.
pub(super) fn of_message(method: &str, params: &Params<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let version = params.meta_text(VERSION_KEY);
    let version = HeaderValue::from_str(version.as_deref().unwrap_or(MODERN_VERSION));
    if let Ok(version) = version {
        headers.insert(VERSION, version);
    }
    if let Ok(method) = HeaderValue::from_str(method) {
        headers.insert(METHOD, method);
    }
    headers
}

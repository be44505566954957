//! The authorization server's metadata (RFC 8414).

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use serde_json::json;

use crate::{
    authserver::{Request, answer, scopes::Protected},
    scope::ScopeSet,
};

/// Some clients know only the second.
const PLACES: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

/// Whether the document is at `path`: at the well-known places, or at what clients make of them that
/// put a resource's path behind.
pub(super) fn is_at(path: &str) -> bool {
    PLACES.contains(&path)
}

/// The document of the server with the identifier `issuer`.
pub(super) fn document(issuer: &str, resources: &[Protected]) -> Bytes {
    let mut scopes = ScopeSet::default();
    resources.iter().for_each(|resource| scopes.extend(resource.scopes.iter().cloned()));
    let scopes: Vec<&str> = scopes.iter().map(crate::scope::Scope::as_str).collect();
    let at = |path: &str| format!("{issuer}{path}");
    let methods = ["none", "client_secret_basic", "client_secret_post"];
    json!({
        "issuer": issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "registration_endpoint": at("/register"),
        "revocation_endpoint": at("/revoke"),
        "scopes_supported": scopes,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "authorization_response_iss_parameter_supported": true,
        "client_id_metadata_document_supported": true,
        "protected_resources": resources.iter().map(|resource| &resource.uri).collect::<Vec<_>>(),
    })
    .to_string()
    .into()
}

pub(super) fn answer(request: &Request<'_>, document: &Bytes) -> Response<Bytes> {
    let is_read = request.method == Method::GET || request.method == Method::HEAD;
    let mut response = Response::new(if is_read { document.clone() } else { Bytes::new() });
    let headers = response.headers_mut();
    answer::allow_reading(headers);
    if is_read {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    } else if request.method == Method::OPTIONS {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("accept, mcp-protocol-version"));
        *response.status_mut() = StatusCode::NO_CONTENT;
    } else {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    response
}

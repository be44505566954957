//! The Protected Resource Metadata document (RFC 9728 §2, §3).

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header::CACHE_CONTROL};
use serde::Serialize;

use crate::{
    http::respond::{self, Body},
    resource::{METADATA_PREFIX, ResourceUri},
    scope::ScopeSet,
    token::Issuer,
};

/// The document, written once, and the paths at which it is served.
#[derive(Debug)]
pub(super) struct ProtectedResourceMetadata {
    document: Bytes,
    paths: Vec<String>,
}

/// What the document says (RFC 9728 §2). An empty array is left out, as the section demands.
#[derive(Serialize)]
struct Document<'a> {
    resource: &'a str,
    authorization_servers: [&'a str; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
    bearer_methods_supported: [&'a str; 1],
    resource_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_documentation: Option<&'a str>,
}

impl ProtectedResourceMetadata {
    /// The metadata of `resource`, reached locally at `path`.
    pub(super) fn new(
        resource: &ResourceUri,
        path: &str,
        issuer: &Issuer,
        scopes: &ScopeSet,
        name: &str,
        documentation: Option<&str>,
    ) -> Self {
        let document = Document {
            resource: resource.as_str(),
            authorization_servers: [issuer.as_str()],
            scopes_supported: scopes.iter().map(|scope| scope.as_str()).collect(),
            bearer_methods_supported: ["header"],
            resource_name: name,
            resource_documentation: documentation,
        };
        let document = serde_json::to_vec(&document).expect("strings always serialise").into();
        let local = if path == "/" { "" } else { path };
        // A proxy may strip the public prefix.
        let paths = [resource.path(), local].map(|path| format!("{METADATA_PREFIX}{path}")).into();
        Self { document, paths }
    }

    /// The same, for clients that look at the root only.
    pub(super) fn at_the_root_too(mut self) -> Self {
        self.paths.push(METADATA_PREFIX.to_owned());
        self
    }

    /// Whether the document is served at `path`.
    pub(super) fn is_at(&self, path: &str) -> bool {
        self.paths.iter().any(|known| known == path)
    }

    /// Answers a request for the document. Any page may read it.
    pub(super) fn answer(&self, method: &Method) -> Response<Body> {
        let mut response = match *method {
            Method::GET | Method::HEAD => respond::json(StatusCode::OK, self.document.clone()),
            Method::OPTIONS => respond::empty(StatusCode::NO_CONTENT),
            _ => respond::method_not_allowed("GET, HEAD, OPTIONS"),
        };
        let found = response.status() == StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        if *method == Method::OPTIONS {
            headers.insert("access-control-allow-methods", HeaderValue::from_static("GET, HEAD, OPTIONS"));
            headers.insert("access-control-allow-headers", HeaderValue::from_static("mcp-protocol-version"));
        } else if found {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=300"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_and_places() {
        let resource = ResourceUri::new("https://h.example/base", "/mcp").expect("valid");
        let issuer = Issuer::new("https://as.example/oauth/2.1");
        let scopes = "op:add op:sub".parse().expect("valid");
        let metadata = ProtectedResourceMetadata::new(&resource, "/mcp", &issuer, &scopes, "Calculator", None);
        assert!(!metadata.is_at("/.well-known/oauth-protected-resource"));
        let metadata = metadata.at_the_root_too();
        assert_eq!(
            std::str::from_utf8(&metadata.document).expect("UTF-8"),
            r#"{"resource":"https://h.example/base/mcp","authorization_servers":["https://as.example/oauth/2.1"],"scopes_supported":["op:add","op:sub"],"bearer_methods_supported":["header"],"resource_name":"Calculator"}"#
        );
        for (path, served) in [
            ("/.well-known/oauth-protected-resource/base/mcp", true),
            ("/.well-known/oauth-protected-resource/mcp", true),
            ("/.well-known/oauth-protected-resource", true),
            ("/.well-known/oauth-protected-resource/", false),
            ("/.well-known/oauth-protected-resource/other", false),
        ] {
            assert_eq!(metadata.is_at(path), served, "{path}");
        }
    }
}

//! The `WWW-Authenticate` field (RFC 6750 §3, RFC 9728 §5.1): one field, one challenge, each
//! attribute once, every value free of characters that would need escaping.

use http::HeaderValue;

use crate::{resource::ResourceUri, scope::ScopeSet};

/// The challenges of one resource, with their constant parts written once.
#[derive(Debug)]
pub(super) struct Challenges {
    resource_metadata: String,
    no_token: HeaderValue,
    invalid_token: HeaderValue,
    invalid_request: HeaderValue,
}

impl Challenges {
    /// Challenges for `resource`, asking first-time clients for `scopes`: many clients ignore a
    /// later step-up, so the first challenge names everything useful.
    pub(super) fn new(resource: &ResourceUri, scopes: &ScopeSet) -> Self {
        let resource_metadata = resource.metadata_url();
        let scope = if scopes.is_empty() { String::new() } else { format!(", scope=\"{scopes}\"") };
        let place = format!("resource_metadata=\"{resource_metadata}\"");
        Self {
            no_token: value(&format!("Bearer {place}{scope}")),
            invalid_token: value(&format!(
                "Bearer error=\"invalid_token\", error_description=\"{INVALID_TOKEN}\", {place}{scope}"
            )),
            invalid_request: value(&format!(
                "Bearer error=\"invalid_request\", error_description=\"{INVALID_REQUEST}\", {place}"
            )),
            resource_metadata,
        }
    }

    /// No token was presented, so there is no error to report (RFC 6750 §3.1).
    pub(super) fn no_token(&self) -> HeaderValue {
        self.no_token.clone()
    }

    /// The token is not good here.
    pub(super) fn invalid_token(&self) -> HeaderValue {
        self.invalid_token.clone()
    }

    /// The credentials are not well-formed.
    pub(super) fn invalid_request(&self) -> HeaderValue {
        self.invalid_request.clone()
    }

    /// The token is good and lacks scopes; `needed` is everything the operation needs.
    pub(super) fn insufficient_scope(&self, needed: &ScopeSet, what: &str) -> HeaderValue {
        let what: String = what.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
        value(&format!(
            "Bearer error=\"insufficient_scope\", scope=\"{needed}\", resource_metadata=\"{}\", \
             error_description=\"{what} needs {needed}\"",
            self.resource_metadata
        ))
    }
}

/// What a client is told about a token that is not good; the cause is for the log.
pub(super) const INVALID_TOKEN: &str = "The access token is invalid or has expired";
/// What a client is told about malformed credentials.
pub(super) const INVALID_REQUEST: &str = "Send one Authorization header with one Bearer token";

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("scopes, URLs and our own texts are printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_challenge() {
        let resource = ResourceUri::new("https://h.example", "/mcp").expect("valid");
        let scopes: ScopeSet = "op:add op:sub".parse().expect("valid");
        let challenges = Challenges::new(&resource, &scopes);
        let place = "resource_metadata=\"https://h.example/.well-known/oauth-protected-resource/mcp\"";
        assert_eq!(challenges.no_token(), format!("Bearer {place}, scope=\"op:add op:sub\""));
        assert_eq!(
            challenges.invalid_token(),
            format!("Bearer error=\"invalid_token\", error_description=\"{INVALID_TOKEN}\", {place}, scope=\"op:add op:sub\"")
        );
        assert_eq!(
            challenges.invalid_request(),
            format!("Bearer error=\"invalid_request\", error_description=\"{INVALID_REQUEST}\", {place}")
        );
        assert_eq!(
            challenges.insufficient_scope(&"op:div".parse().expect("valid"), "di\"vi\\de\n"),
            format!("Bearer error=\"insufficient_scope\", scope=\"op:div\", {place}, error_description=\"divide needs op:div\"")
        );
        let none = Challenges::new(&resource, &ScopeSet::default());
        assert_eq!(none.no_token(), format!("Bearer {place}"));
    }
}

//! Clients as they describe themselves: by registering (RFC 7591), or by a document at their URL.

pub(super) mod document;
pub(super) mod dynamic;
pub(super) mod fetch;
#[cfg(test)]
mod tests;

use mcp_calculator::login::prompt::plain;
use serde::Deserialize;

use crate::authserver::redirect;

/// What a client may be called at most.
const NAME_MAX: usize = 64;
/// Nobody has more places to go back to.
const REDIRECT_URIS_MAX: usize = 8;

/// Client metadata (RFC 7591 §2), as far as it matters here. A repeated member is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    client_id: Option<String>,
    client_name: Option<String>,
    redirect_uris: Vec<String>,
    token_endpoint_auth_method: Option<String>,
    /// Not of RFC 7591; documents of clients that can do several things have it.
    token_endpoint_auth_methods_supported: Vec<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    software_statement: Option<serde::de::IgnoredAny>,
    client_secret: Option<serde::de::IgnoredAny>,
}

/// Why metadata is not accepted. The texts are for the client's developer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.description())]
pub(super) enum MetadataProblem {
    NotMetadata,
    NoRedirectUri,
    RedirectUri,
    Authentication,
    Grant,
    SoftwareStatement,
}

impl MetadataProblem {
    /// The error code (RFC 7591 §3.2.2).
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::NoRedirectUri | Self::RedirectUri => "invalid_redirect_uri",
            _ => "invalid_client_metadata",
        }
    }

    /// The text.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::NotMetadata => "the body is not a JSON object with the members of RFC 7591, each at most once",
            Self::NoRedirectUri => "redirect_uris must have 1 to 8 URIs",
            Self::RedirectUri => {
                "a redirect URI is not allowed: use https, or http to 127.0.0.1, [::1] or localhost, without user \
                 name, fragment or dot segments, in at most 512 bytes"
            }
            Self::Authentication => {
                "token_endpoint_auth_method must be none, client_secret_basic or client_secret_post"
            }
            Self::Grant => "grant_types must contain authorization_code, and response_types code",
            Self::SoftwareStatement => "software statements are not supported",
        }
    }
}

impl Metadata {
    fn parse(json: &[u8]) -> Result<Self, MetadataProblem> {
        // An array would be read as the members in order.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(MetadataProblem::NotMetadata);
        }
        serde_json::from_slice(json).map_err(|_| MetadataProblem::NotMetadata)
    }

    /// Checks what is the same for all clients.
    fn check(&self, schemes: &[String]) -> Result<(), MetadataProblem> {
        if self.software_statement.is_some() {
            return Err(MetadataProblem::SoftwareStatement);
        }
        if !(1..=REDIRECT_URIS_MAX).contains(&self.redirect_uris.len()) {
            return Err(MetadataProblem::NoRedirectUri);
        }
        if !self.redirect_uris.iter().all(|uri| redirect::is_registrable(uri, schemes)) {
            return Err(MetadataProblem::RedirectUri);
        }
        let lists = |list: &Option<Vec<String>>, member: &str| list.as_ref().is_none_or(|list| lists(list, member));
        if !lists(&self.grant_types, "authorization_code") || !lists(&self.response_types, "code") {
            return Err(MetadataProblem::Grant);
        }
        Ok(())
    }

    /// Whether it wants refresh tokens. Who does not say so gets them: without, its user signs in four
    /// times an hour.
    fn refreshes(&self) -> bool {
        self.grant_types.as_ref().is_none_or(|types| lists(types, "refresh_token"))
    }

    /// Its name, as far as it can be shown.
    fn name(&self) -> Option<String> {
        let name = shown_name(self.client_name.as_deref()?);
        (!name.is_empty()).then_some(name)
    }
}

fn lists(list: &[String], member: &str) -> bool {
    list.iter().any(|one| one == member)
}

/// A name without what would change how the text around it is read.
fn shown_name(name: &str) -> String {
    let visible = plain(name);
    let words: Vec<&str> = visible.split_whitespace().collect();
    words.join(" ").chars().take(NAME_MAX).collect()
}

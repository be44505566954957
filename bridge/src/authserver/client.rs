//! A client, as everything but its registration sees it.

use serde::{Deserialize, Serialize};

use crate::authserver::opaque::Digest;

/// A client (RFC 6749 §2), registered here or described by its own document.
///
/// Kept with every grant as it was when the user consented: what a document says later does not
/// change what somebody agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    /// `client_id`. One that begins with `https://` is the URL of a metadata document.
    pub(crate) id: String,
    /// `client_name`, as text that may be shown: no control or direction characters, at most 64
    /// characters. Nobody has verified it.
    pub(crate) name: Option<String>,
    /// Exactly as registered; see `redirect::matches`.
    pub(crate) redirect_uris: Vec<String>,
    /// How it authenticates at the token endpoint.
    pub(crate) authentication: Authentication,
    /// Whether it may have refresh tokens (`grant_types`).
    pub(crate) refreshes: bool,
}

impl Client {
    /// The host of its metadata document, which is all that is known of who it is.
    pub(crate) fn document_host(&self) -> Option<&str> {
        let rest = self.id.strip_prefix("https://")?;
        rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())
    }
}

/// `token_endpoint_auth_method` (RFC 7591 §2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Authentication {
    /// A public client.
    None,
    /// A secret in the header.
    ClientSecretBasic(Digest),
    /// A secret in the form.
    ClientSecretPost(Digest),
}

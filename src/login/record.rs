//! What is remembered of a sign-in.

use std::time::SystemTime;

use url::Url;

use crate::secret::Secret;

/// Whose sign-in: one program has at most one for each of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The name that the user gave it; [`Slot::DEFAULT_ACCOUNT`] without one.
    pub account: String,
    /// The URL of the server that it opens; `None` for a program that has one sign-in per account.
    pub server: Option<String>,
}

impl Slot {
    /// The account of a user who named none.
    pub const DEFAULT_ACCOUNT: &str = "default";
}

/// One sign-in, secrets included.
///
/// It belongs to (issuer, resource, client): none of its secrets is ever sent to another issuer, and
/// its access token to no other resource.
#[derive(Clone, Debug)]
pub struct Record {
    /// The authorization server, byte for byte as its metadata says (RFC 8414 §2).
    pub issuer: String,
    /// What the tokens are for, byte for byte as it was requested (RFC 8707 §2).
    pub resource: Option<String>,
    /// As whom we are known to the authorization server.
    pub client: Client,
    /// Where tokens are renewed.
    pub token_endpoint: Url,
    /// Where they are revoked, if that is possible (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// What was granted.
    pub scopes: Vec<String>,
    /// Who signed in, as far as the authorization server said.
    pub subject: Option<String>,
    /// The user's e-mail address, as far as the authorization server said.
    pub email: Option<String>,
    /// Sent to the resource alone.
    pub access_token: Secret<String>,
    /// Sent to the token endpoint alone.
    pub refresh_token: Option<Secret<String>>,
    /// When the access token ends; `None` where the authorization server did not say.
    pub expires_at: Option<SystemTime>,
}

/// As whom a program is known to one authorization server.
#[derive(Clone, Debug)]
pub struct Client {
    /// RFC 6749 §2.2
    pub id: String,
    /// RFC 6749 §2.3.1; most native programs have none.
    pub secret: Option<Secret<String>>,
    /// Whether the secret goes into the form, because the server takes no `client_secret_basic`.
    pub secret_in_form: bool,
    /// The redirect URI that was registered; its port counts for nothing on loopback (RFC 8252 §7.3).
    pub redirect_uri: Option<String>,
}

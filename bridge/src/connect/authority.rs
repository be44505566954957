//! Where the token comes from that opens the remote server.

use std::fmt;

use futures_util::future::BoxFuture;
use http::StatusCode;
use mcp_calculator::secret::Secret;

/// Gives out access tokens for one remote server, and gets new ones when they are refused.
///
/// Whoever implements it asks the user at most once at a time, however many requests are refused at
/// the same moment, and answers those who waited with the same token.
pub trait Authority: Send + Sync {
    /// The token to begin with; `None` where nobody has signed in yet. Asks nobody anything.
    ///
    /// # Errors
    /// [`Unauthorized`] when there is a token and it cannot be had, as from a locked keyring.
    fn token(&self) -> BoxFuture<'_, Result<Option<Secret<String>>, Unauthorized>>;

    /// A token that may fare better than `used`, which the server has refused.
    ///
    /// # Errors
    /// [`Unauthorized`] when there is none to be had.
    fn refused<'a>(&'a self, refusal: Refusal, used: Option<&'a Secret<String>>) -> BoxFuture<'a, Granted>;
}

/// A new token, or why there is none.
pub type Granted = Result<Secret<String>, Unauthorized>;

/// How the server has refused a request.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// 401, or 403 for a token without the scopes that the request needs.
    pub status: StatusCode,
    /// The values of `WWW-Authenticate`, as they came (RFC 9110 §11.6.1).
    pub challenges: Vec<String>,
}

/// Why there is no token: what happened and what to do, for the user.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unauthorized(pub String);

/// Nobody signs in: for servers that need no token, and where the user gives one in a header.
pub struct Nobody {
    /// Whether a header of the user's holds the credentials.
    pub has_header: bool,
}

impl Authority for Nobody {
    fn token(&self) -> BoxFuture<'_, Result<Option<Secret<String>>, Unauthorized>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn refused<'a>(&'a self, refusal: Refusal, _: Option<&'a Secret<String>>) -> BoxFuture<'a, Granted> {
        let text = match (self.has_header, refusal.status) {
            (true, StatusCode::UNAUTHORIZED) => {
                "the server refuses the credentials in the Authorization header (401); put valid ones into --header"
            }
            (true, _) => "the credentials in the Authorization header are not enough for this request (403)",
            (false, _) => "the server wants authorization; give it with --header 'Authorization: Bearer ${TOKEN}'",
        };
        Box::pin(std::future::ready(Err(Unauthorized(text.to_owned()))))
    }
}

impl fmt::Debug for dyn Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

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

    /// Is told that the server refuses the very token that the user has just signed in for.
    fn in_vain(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Ends what is going on, and keeps what there is to keep. To be called once, last.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A new token.
pub struct Grant {
    /// The token.
    pub token: Secret<String>,
    /// Whether the user was asked for it. If it is refused as well, nobody is asked again.
    pub by_user: bool,
}

/// A new token, or why there is none.
pub type Granted = Result<Grant, Unauthorized>;

/// How the server has refused a request.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// 401, or 403 for a token without the scopes that the request needs.
    pub status: StatusCode,
    /// The values of `WWW-Authenticate`, as they came (RFC 9110 §11.6.1).
    pub challenges: Vec<String>,
    /// Whether the user may be asked for it: not for a stream, which opens by itself again and again.
    pub may_ask: bool,
}

/// Why there is no token: what happened and what to do, for the user.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unauthorized(pub String);

/// Nobody signs in.
pub enum Nobody {
    /// Because the user gives credentials in a header.
    Header,
    /// Because it is not possible here, and why.
    Impossible(String),
}

impl Authority for Nobody {
    fn token(&self) -> BoxFuture<'_, Result<Option<Secret<String>>, Unauthorized>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn refused<'a>(&'a self, refusal: Refusal, _: Option<&'a Secret<String>>) -> BoxFuture<'a, Granted> {
        let text = match (self, refusal.status) {
            (Self::Impossible(why), _) => {
                return Box::pin(std::future::ready(Err(Unauthorized(format!("the server wants a sign-in: {why}")))));
            }
            (Self::Header, StatusCode::UNAUTHORIZED) => {
                "the server refuses the credentials of --header (401); put valid ones there, or leave it out to sign in"
            }
            (Self::Header, _) => "the credentials of --header are not enough for this request (403)",
        };
        Box::pin(std::future::ready(Err(Unauthorized(text.to_owned()))))
    }
}

impl fmt::Debug for dyn Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

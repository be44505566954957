//! Why a sign-in could not be used.

use std::sync::Arc;

use thiserror::Error;

use crate::login::store::StoreError;

/// Why there is no token to use.
#[derive(Clone, Debug, Error)]
pub enum SessionError {
    /// There was a sign-in, and it is over.
    #[error("signed out: {reason}; run `{command}` to sign in again")]
    SignedOut {
        /// How it ended.
        reason: String,
        /// What helps.
        command: String,
    },
    /// There is a sign-in, and its token does not open the server any more.
    #[error("the sign-in does not work any more: {reason}; run `{command}` to sign in again")]
    SignInNeeded {
        /// Why it cannot be mended without the user.
        reason: &'static str,
        /// What helps.
        command: String,
    },
    /// The token has ended, and the authorization server could not be asked for another one. The user
    /// is still signed in.
    #[error("cannot renew the sign-in: {0}; try again when the authorization server can be reached")]
    Unavailable(String),
    /// A sign-in has failed or is going on, and nobody is asked again unless the user wants it.
    #[error("not asking to sign in again: {reason}; run `{command}` to sign in")]
    Pending {
        /// How the last attempt ended.
        reason: String,
        /// What helps.
        command: String,
    },
    /// What is kept could not be read or written.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// The program is coming to its end.
    #[error("the program is stopping")]
    Stopping,
}

/// Why the tokens were not renewed.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// The authorization server does not accept the refresh token (RFC 6749 §5.2, `invalid_grant`).
    #[error("the authorization server has refused to renew it: {0}")]
    Rejected(String),
    /// It does not know the client (RFC 6749 §5.2, `invalid_client`), for now or for good.
    #[error("the authorization server does not know this client any more: {0}")]
    UnknownClient(String),
    /// It could not be asked, or could not answer; the refresh token may still be good.
    #[error("{0}")]
    Unavailable(String),
}

/// Why there is still no sign-in.
#[derive(Debug, Error)]
pub enum SignInError<E> {
    /// Nobody was asked.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The attempt has failed.
    #[error("{0}")]
    Attempt(E),
}

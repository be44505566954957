//! The token endpoint's answers, renewal and revocation.

mod answer;
mod revoke;
#[cfg(test)]
mod tests;

use oauth2::{
    AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, RequestTokenError, StandardRevocableToken, TokenUrl,
    basic::{
        BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
    },
};
use url::Url;

pub(crate) use self::answer::{Answer, Grant};
pub use self::revoke::{RevokeError, revoke};
use crate::login::{
    fetch::{FetchError, Fetcher, REFRESH_PATIENCE},
    prompt::plain,
    record::{Client, Record},
    session::RefreshError,
};

/// The `oauth2` crate's client, reading our answers.
type Plain<A, D, T> = oauth2::Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    A,
    D,
    EndpointNotSet,
    EndpointNotSet,
    T,
>;
pub(crate) type TokenClient = Plain<EndpointNotSet, EndpointNotSet, EndpointSet>;

/// `client` at a token endpoint.
pub(crate) fn at(client: &Client, token_endpoint: &Url) -> TokenClient {
    let new = Plain::<EndpointNotSet, EndpointNotSet, EndpointNotSet>::new(ClientId::new(client.id.clone()));
    let new = match &client.secret {
        Some(secret) => new.set_client_secret(ClientSecret::new(secret.expose().clone())),
        None => new,
    };
    let auth_type = if client.secret_in_form { AuthType::RequestBody } else { AuthType::BasicAuth };
    new.set_auth_type(auth_type).set_token_uri(TokenUrl::from_url(token_endpoint.clone()))
}

/// Renews the access token of `record` with its refresh token (RFC 6749 §6).
///
/// What the answer leaves out stays as it was: scopes, and the refresh token, which some servers replace
/// with every use. So the result has to be stored before anything else happens, and nobody else may use
/// the same record meanwhile. Waits at most 30 s.
///
/// # Errors
/// [`RefreshError::Rejected`] when the user has to sign in again, [`RefreshError::UnknownClient`] when that
/// is so unless the server comes to its senses, [`RefreshError::Unavailable`] when the same record may do
/// later.
pub async fn refresh(fetcher: &Fetcher, record: &Record) -> Result<Record, RefreshError> {
    let Some(refresh_token) = &record.refresh_token else {
        return Err(RefreshError::Rejected(format!("{} gave no refresh token", plain(&record.issuer))));
    };
    let client = at(&record.client, &record.token_endpoint);
    let refresh_token = oauth2::RefreshToken::new(refresh_token.expose().clone());
    let mut request = client.exchange_refresh_token(&refresh_token);
    if let Some(resource) = &record.resource {
        request = request.add_extra_param("resource", resource.as_str());
    }
    let send = fetcher.sending(REFRESH_PATIENCE);
    let now = std::time::SystemTime::now();
    let answer = request.request_async(&send).await.map_err(TokenError::from);
    match answer.and_then(|answer| answer.granted(now)) {
        Ok(granted) => Ok(granted.renew(record)),
        Err(TokenError::Refused { code, text }) if code == "invalid_grant" => Err(RefreshError::Rejected(text)),
        Err(TokenError::Refused { code, text }) if code == "invalid_client" => Err(RefreshError::UnknownClient(text)),
        Err(error) => Err(RefreshError::Unavailable(error.to_string())),
    }
}

/// Why a token endpoint gave no token. No text holds anything of a token or code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// It said why not (RFC 6749 §5.2).
    #[error("{text}")]
    Refused {
        /// Such as `invalid_grant`.
        code: String,
        /// The code, and what the server says about it.
        text: String,
    },
    #[error("the authorization server's answer cannot be used: {0}")]
    Unusable(String),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl TokenError {
    pub(crate) fn refused(code: &str, description: Option<&String>) -> Self {
        let text = match description {
            Some(description) => format!("{}: {}", plain(code), plain(description)),
            None => plain(code),
        };
        Self::Refused { code: code.to_owned(), text }
    }
}

impl From<RequestTokenError<FetchError, BasicErrorResponse>> for TokenError {
    fn from(error: RequestTokenError<FetchError, BasicErrorResponse>) -> Self {
        let refused = |error: &BasicErrorResponse| {
            let code: &BasicErrorResponseType = error.error();
            Self::refused(code.as_ref(), error.error_description())
        };
        match error {
            RequestTokenError::ServerResponse(response) => refused(&response),
            RequestTokenError::Request(error) => Self::Fetch(error),
            // Some servers refuse with status 200.
            RequestTokenError::Parse(error, body) => {
                let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(&body).ok();
                match object.and_then(|object| serde_json::from_value(object.into()).ok()) {
                    Some(response) => refused(&response),
                    // The parser's own text would quote what it has read.
                    None => {
                        Self::Unusable(format!("its field {} is not as it should be", plain(&error.path().to_string())))
                    }
                }
            }
            RequestTokenError::Other(text) => Self::Unusable(plain(&text)),
        }
    }
}

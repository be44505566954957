//! Revocation (RFC 7009).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oauth2::http::{Request, StatusCode, header};
use url::{Url, form_urlencoded};

use crate::{
    login::{
        fetch::{FetchError, Fetcher, PATIENCE},
        prompt::plain,
        record::{Client, Record},
    },
    secret::Secret,
};

/// Revokes the refresh token of `record`, then its access token.
///
/// The access token is tried even if the refresh token could not be revoked.
///
/// # Errors
/// [`RevokeError`]: a token may work until it ends by itself. The record should be forgotten anyway.
pub async fn revoke(fetcher: &Fetcher, record: &Record) -> Result<(), RevokeError> {
    let Some(endpoint) = &record.revocation_endpoint else {
        return Err(RevokeError::Unsupported { issuer: plain(&record.issuer) });
    };
    let refresh_token = record.refresh_token.as_ref().map(|token| ("refresh_token", token));
    let mut result = Ok(());
    for (hint, token) in refresh_token.into_iter().chain([("access_token", &record.access_token)]) {
        // Servers may revoke the whole grant with the refresh token, and need not know access tokens.
        let outcome = send(fetcher, endpoint, &record.client, hint, token).await;
        result = result.and(match outcome {
            Err(RevokeError::Refused { error, .. }) if hint == "access_token" && error == "unsupported_token_type" => {
                Ok(())
            }
            outcome => outcome,
        });
    }
    result
}

/// The `oauth2` crate would refuse an endpoint on loopback, so the request is made here.
async fn send(
    fetcher: &Fetcher,
    endpoint: &Url,
    client: &Client,
    hint: &str,
    token: &Secret<String>,
) -> Result<(), RevokeError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("token", token.expose()).append_pair("token_type_hint", hint);
    let mut request = Request::post(endpoint.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    match &client.secret {
        Some(secret) if !client.secret_in_form => {
            let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = STANDARD.encode(format!("{}:{}", encode(&client.id), encode(secret.expose())));
            request = request.header(header::AUTHORIZATION, format!("Basic {pair}"));
        }
        secret => {
            form.append_pair("client_id", &client.id);
            if let Some(secret) = secret {
                form.append_pair("client_secret", secret.expose());
            }
        }
    }
    let refused = |error: String| RevokeError::Refused { endpoint: plain(endpoint.as_str()), error };
    let request = request.body(form.finish().into_bytes()).map_err(|_| refused("it cannot be requested".to_owned()))?;
    let answer = fetcher.call(request, PATIENCE).await?;
    if answer.status() == StatusCode::OK {
        return Ok(());
    }
    let error = serde_json::from_slice(answer.body())
        .ok()
        .and_then(|body: serde_json::Value| body["error"].as_str().map(plain));
    Err(refused(error.unwrap_or_else(|| format!("HTTP {}", answer.status().as_u16()))))
}

/// Why a token was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is nobody to ask.
    #[error("{issuer} cannot revoke tokens; they work until they expire")]
    Unsupported {
        /// Whose tokens.
        issuer: String,
    },
    /// The server said no.
    #[error("{endpoint} did not revoke the token ({error}); it works until it expires")]
    Refused {
        /// Who was asked.
        endpoint: String,
        /// What it said.
        error: String,
    },
    /// No answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

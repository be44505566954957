//! The token endpoint (RFC 6749 §3.2).

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Response, StatusCode, header::CONTENT_TYPE};
use mcp_calculator::secret::Secret;
use ring::digest;
use serde_json::json;

use crate::{
    authserver::{
        AuthServer, Request,
        answer::{self, OauthError, unless_post},
        form::Form,
        opaque::{self, Digest, Purpose, RefreshDigest},
        store::{CodeExchange, Issued, NotIssued, RefreshExchange},
    },
    scope::ScopeSet,
};

const MISSING: OauthError = OauthError::new("invalid_request", "a parameter is missing");
const INVALID_GRANT: OauthError =
    OauthError::new("invalid_grant", "the code or token is unknown, used up, expired, or for another client");

impl AuthServer {
    pub(super) async fn token(self: &Arc<Self>, request: &Request<'_>) -> Response<Bytes> {
        if let Some(response) = unless_post(request.method) {
            return response;
        }
        self.issue(request).await.unwrap_or_else(OauthError::into_response)
    }

    async fn issue(&self, request: &Request<'_>) -> Result<Response<Bytes>, OauthError> {
        let form = form(request)?;
        let client_id = self.authenticate(request, &form).await?;
        let access = opaque::new(Purpose::Access);
        let hash = Digest::of(access.expose());
        let (issued, refresh) = match form.value("grant_type") {
            Some("authorization_code") => self.exchange(request, &form, client_id, hash).await?,
            Some("refresh_token") => self.refresh(request, &form, client_id, hash).await?,
            Some(_) => {
                let text = "grant_type must be authorization_code or refresh_token";
                return Err(OauthError::new("unsupported_grant_type", text));
            }
            None => return Err(MISSING),
        };
        let mut body = json!({
            "access_token": access.expose(),
            "token_type": "Bearer",
            "expires_in": issued.expires_in.as_secs(),
            "scope": issued.scopes.to_string(),
        });
        if issued.refreshes {
            body["refresh_token"] = refresh.expose().as_str().into();
        }
        Ok(answer::json(StatusCode::OK, &body))
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        form: &Form<'_>,
        client_id: String,
        access: Digest,
    ) -> Result<(Issued, Secret<String>), OauthError> {
        let code = form.value("code").ok_or(MISSING)?;
        let verifier = form.value("code_verifier").ok_or(MISSING)?;
        if !is_verifier(verifier) {
            return Err(OauthError::new("invalid_request", "code_verifier must have 43 to 128 unreserved characters"));
        }
        if !Purpose::Code.fits(code) {
            return Err(INVALID_GRANT);
        }
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
        let (code, now) = (Digest::of(code), request.now);
        let redirect_uri = form.value("redirect_uri").map(str::to_owned);
        let resource = form.value("resource").map(str::to_owned);
        let served = self.served();
        let new = opaque::new(Purpose::Refresh);
        let refresh = RefreshDigest::of(new.expose()).expect("it is one");
        let exchanged = self.with_store(move |store| {
            let exchange = CodeExchange {
                code,
                client_id: &client_id,
                redirect_uri: redirect_uri.as_deref(),
                challenge: &challenge,
                resource: resource.as_deref(),
                served: &served,
                access,
                refresh,
            };
            store.exchange_code(exchange, now)
        });
        Ok((exchanged.await?.map_err(refusal)?, new))
    }

    async fn refresh(
        &self,
        request: &Request<'_>,
        form: &Form<'_>,
        client_id: String,
        access: Digest,
    ) -> Result<(Issued, Secret<String>), OauthError> {
        let token = form.value("refresh_token").ok_or(MISSING)?;
        let used = RefreshDigest::of(token).ok_or(INVALID_GRANT)?;
        let new = opaque::successor(token);
        let refresh = Digest::of(new.expose());
        let scopes = form.value("scope").map(|text| ScopeSet::from_peer(text.split_ascii_whitespace()));
        let now = request.now;
        let resource = form.value("resource").map(str::to_owned);
        let served = self.served();
        let refreshed = self.with_store(move |store| {
            let exchange = RefreshExchange {
                token: used,
                client_id: &client_id,
                scopes: scopes.as_ref(),
                resource: resource.as_deref(),
                served: &served,
                access,
                refresh,
            };
            store.refresh(exchange, now)
        });
        Ok((refreshed.await?.map_err(refusal)?, new))
    }

    /// What tokens are issued for.
    fn served(&self) -> Vec<String> {
        self.resources.iter().map(|resource| resource.uri.clone()).collect()
    }
}

/// The form of a client (RFC 6749 §4.1.3).
pub(super) fn form<'r>(request: &Request<'r>) -> Result<Form<'r>, OauthError> {
    let kind = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(OauthError::new("invalid_request", "the body must be application/x-www-form-urlencoded"));
    }
    Form::parse(request.body, None)
        .map_err(|_| OauthError::new("invalid_request", "a parameter is there more than once, or is not readable text"))
}

fn refusal(why: NotIssued) -> OauthError {
    match why {
        NotIssued::Invalid => INVALID_GRANT,
        NotIssued::Replayed => {
            tracing::warn!("a code or refresh token was used again: its grant is revoked");
            INVALID_GRANT
        }
        NotIssued::Target => OauthError::new("invalid_target", "the grant is for another resource"),
        NotIssued::Scope => OauthError::new("invalid_scope", "that is more than was granted"),
    }
}

/// RFC 7636 §4.1.
fn is_verifier(text: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (43..=128).contains(&text.len()) && text.bytes().all(is_unreserved)
}

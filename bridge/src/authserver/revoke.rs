//! The revocation endpoint (RFC 7009).

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use crate::authserver::{
    AuthServer, Request,
    answer::{self, OauthError, unless_post},
    opaque::{Digest, Purpose, RefreshDigest},
    token,
};

impl AuthServer {
    pub(super) async fn revoke(self: &Arc<Self>, request: &Request<'_>) -> Response<Bytes> {
        if let Some(response) = unless_post(request.method) {
            return response;
        }
        self.revoke_token(request).await.unwrap_or_else(OauthError::into_response)
    }

    /// What is unknown, or of another client, is as good as revoked (RFC 7009 §2.2).
    async fn revoke_token(&self, request: &Request<'_>) -> Result<Response<Bytes>, OauthError> {
        let form = token::form(request)?;
        let client_id = self.authenticate(request, &form).await?;
        let token = form.value("token").ok_or(OauthError::new("invalid_request", "token is missing"))?;
        if let Some(RefreshDigest { family, .. }) = RefreshDigest::of(token) {
            self.with_store(move |store| store.revoke_family(family, &client_id)).await?;
        } else if Purpose::Access.fits(token) {
            let token = Digest::of(token);
            self.with_store(move |store| store.revoke_access_token(token, &client_id)).await?;
        }
        Ok(answer::json(StatusCode::OK, &json!({})))
    }
}

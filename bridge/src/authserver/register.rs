//! The registration endpoint (RFC 7591).

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, clock::Clock as _};
use http::{Response, StatusCode, header::CONTENT_TYPE};

use crate::authserver::{
    AuthServer, Request,
    answer::{self, OauthError, unless_post},
    registration::dynamic,
};

/// How often anybody may register: behind a tunnel all strangers have one address.
pub(super) struct Registrations(DefaultDirectRateLimiter);

impl Registrations {
    pub(super) fn new() -> Self {
        const BURST: NonZeroU32 = NonZeroU32::new(20).expect("more than none");
        const PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("more than none");
        Self(DefaultDirectRateLimiter::direct(Quota::per_minute(PER_MINUTE).allow_burst(BURST)))
    }

    fn check(&self) -> Result<(), OauthError> {
        self.0.check().map_err(|until| OauthError {
            status: StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(until.wait_time_from(self.0.clock().now())),
            ..OauthError::new("temporarily_unavailable", "too many clients register at the moment; try again")
        })
    }
}

impl AuthServer {
    pub(super) async fn register(self: &Arc<Self>, request: &Request<'_>) -> Response<Bytes> {
        if let Some(response) = unless_post(request.method) {
            return response;
        }
        self.register_client(request).await.unwrap_or_else(OauthError::into_response)
    }

    async fn register_client(&self, request: &Request<'_>) -> Result<Response<Bytes>, OauthError> {
        let kind = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            return Err(OauthError::new("invalid_client_metadata", "the body must be application/json"));
        }
        self.registrations.check()?;
        let now = request.now;
        if self.registration_window {
            let until = self.with_store(|store| store.registration_open_until()).await?;
            if until.is_none_or(|until| until <= now) {
                return Err(OauthError {
                    status: StatusCode::FORBIDDEN,
                    ..OauthError::new("access_denied", "registration is closed; its owner opens it for a while")
                });
            }
        }
        let registered = dynamic::register(request.body, &self.redirect_schemes, now)
            .map_err(|error| OauthError::new(error.code(), error.description()))?;
        let client = registered.client;
        self.with_store(move |store| store.add_client(&client, now)).await?;
        Ok(answer::json(StatusCode::CREATED, &registered.answer))
    }
}

//! Signing in with a code that the user enters on another machine (RFC 8628).

#[cfg(test)]
mod tests;

use std::time::Duration;

use oauth2::{
    DeviceAuthorizationUrl, DeviceCodeErrorResponse, DeviceCodeErrorResponseType, RequestTokenError, Scope,
    StandardDeviceAuthorizationResponse,
};
use url::Url;

use crate::login::{
    discovery::DiscoveryError,
    fetch::{FetchError, PATIENCE},
    flow::{Plan, SignIn, SignInError, TokenRefusal, plan},
    prompt::{Prompt, plain},
    record::{Client, Record},
    registration::{self, Chosen, Use},
    tokens::{self, Answer, Grant, TokenError},
};

/// Signs the user in with a browser on any machine.
///
/// The sign-in ends with the code's own lifetime or with the order's deadline, whichever is first.
/// [`SignIn::browser`] counts for nothing.
///
/// # Errors
/// As [`crate::login::flow::sign_in`]; [`DiscoveryError::NoEndpoint`] where the server has no such codes.
pub async fn sign_in(order: SignIn<'_>) -> Result<Record, SignInError> {
    sign_in_with(order, tokio::time::sleep).await
}

/// The same with a clock of one's own.
async fn sign_in_with<S: Future<Output = ()>>(
    order: SignIn<'_>,
    sleep: impl Fn(Duration) -> S,
) -> Result<Record, SignInError> {
    let plan = plan(&order).await?;
    let endpoint = plan.metadata.for_device()?;
    match round(&order, &plan, endpoint, plan.registered(), &sleep).await {
        // The server has forgotten the client that registered last time, so another one does.
        Err(SignInError::Token { error: TokenRefusal::Client(_), .. }) if plan.known.is_some() => {
            round(&order, &plan, endpoint, None, &sleep).await
        }
        outcome => outcome,
    }
}

async fn round<S: Future<Output = ()>>(
    order: &SignIn<'_>,
    plan: &Plan<'_>,
    endpoint: &Url,
    known: Option<&Record>,
    sleep: &impl Fn(Duration) -> S,
) -> Result<Record, SignInError> {
    let (fetcher, metadata) = (order.fetcher, &plan.metadata);
    let chosen =
        registration::client(fetcher, metadata, order.client, known, &Use::Device, &plan.registered_scopes()).await?;
    let Chosen { client, reused } = chosen;
    let refused = |error: TokenError| SignInError::token(&metadata.issuer, error, reused);
    let oauth = tokens::at(&client, &metadata.token_endpoint)
        .set_device_authorization_url(DeviceAuthorizationUrl::from_url(endpoint.clone()));
    let send = fetcher.sending(PATIENCE);

    let mut request = oauth.exchange_device_code().add_scopes(plan.scopes.iter().cloned().map(Scope::new));
    if let Some(resource) = &plan.resource {
        request = request.add_extra_param("resource", resource.as_str());
    }
    let started = request.request_async(&send).await;
    let started: StandardDeviceAuthorizationResponse = started.map_err(|error| refused(error.into()))?;
    if started.interval() > INTERVAL_LIMIT {
        return Err(refused(TokenError::Unusable("its interval is longer than an hour".to_owned())));
    }
    show(order, plan, &client, &started)?;

    let mut request = oauth.exchange_device_access_token(&started);
    if let Some(resource) = &plan.resource {
        request = request.add_extra_param("resource", resource.as_str());
    }
    let pause = |wanted: Duration| sleep(wanted.clamp(INTERVAL_MIN, INTERVAL_MAX));
    pause(started.interval()).await;
    let patience = order.deadline.min(started.expires_in());
    let now = std::time::SystemTime::now;
    // The loop looks at the clock between questions, so it could overrun by one pause.
    let polled = tokio::time::timeout(patience, request.request_async(&send, pause, Some(patience))).await;
    let answer: Answer = match polled {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(ending(error, &metadata.issuer, reused)),
        Err(_) => return Err(SignInError::Expired),
    };
    let granted = answer.granted(now()).map_err(refused)?;
    Ok(granted.record(&Grant {
        issuer: &metadata.issuer,
        resource: plan.resource.as_deref(),
        client: &client,
        token_endpoint: &metadata.token_endpoint,
        revocation_endpoint: metadata.revocation_endpoint.as_ref(),
        scopes: &plan.scopes,
    }))
}

/// Above this it is no interval. The polling loop adds to it, which must not leave the type's range.
const INTERVAL_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A server that asks for none would be asked without pause.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Nobody wants to wait longer for what has happened already.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

fn show(
    order: &SignIn<'_>,
    plan: &Plan<'_>,
    client: &Client,
    started: &StandardDeviceAuthorizationResponse,
) -> Result<(), SignInError> {
    let url = started.verification_uri().url();
    order.fetcher.check(url)?;
    let unusable = |_| DiscoveryError::Endpoint {
        issuer: plain(&plan.metadata.issuer),
        endpoint: "page for the code",
        why: "it is no absolute URL".to_owned(),
    };
    let complete = started.verification_uri_complete().map(|complete| Url::parse(complete.secret()));
    let complete = complete.transpose().map_err(unusable)?;
    if let Some(complete) = &complete {
        order.fetcher.check(complete)?;
    }
    (order.prompt)(Prompt::Device {
        asked: &plan.asked(client),
        url,
        url_with_code: complete.as_ref(),
        code: &plain(started.user_code().secret()),
    });
    Ok(())
}

fn ending(error: RequestTokenError<FetchError, DeviceCodeErrorResponse>, issuer: &str, reused: bool) -> SignInError {
    let unusable = |text: String| SignInError::token(issuer, TokenError::Unusable(text), reused);
    match error {
        RequestTokenError::ServerResponse(response) => match response.error() {
            DeviceCodeErrorResponseType::AccessDenied => SignInError::Denied { issuer: plain(issuer) },
            DeviceCodeErrorResponseType::ExpiredToken => SignInError::Expired,
            other => {
                let error = TokenError::refused(other.as_ref(), response.error_description());
                SignInError::token(issuer, error, reused)
            }
        },
        RequestTokenError::Request(error) => error.into(),
        RequestTokenError::Parse(error, _) => {
            unusable(format!("its field {} is not as it should be", plain(&error.path().to_string())))
        }
        RequestTokenError::Other(text) => unusable(plain(&text)),
    }
}

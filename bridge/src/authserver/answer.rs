//! What browsers and clients are answered.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, PRAGMA, RETRY_AFTER, SET_COOKIE,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use serde_json::Value;
use url::form_urlencoded;

use crate::authserver::pages;

/// Why a browser gets an error page. None of these ever sends anybody anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The request is wrong; the text says how.
    Bad(&'static str),
    /// The same, with what the client has done wrong.
    Client(String),
    /// A form that is not ours, was sent already, or is too old.
    StaleForm,
    /// A page of another site has sent it.
    ForeignPage,
    NotFound,
    MethodNotAllowed(&'static str),
    /// The store cannot be used now.
    Unavailable,
}

impl Failure {
    pub(super) fn into_page(self) -> Response<Bytes> {
        let (status, title, text, hint) = match &self {
            Self::Bad(text) => (StatusCode::BAD_REQUEST, "That did not work", *text, None),
            Self::Client(text) => (
                StatusCode::BAD_REQUEST,
                "This application cannot be connected",
                text.as_str(),
                Some("Nothing was allowed. Go back to the application and try to connect it again."),
            ),
            Self::StaleForm => (
                StatusCode::BAD_REQUEST,
                "This page is too old",
                "The form was sent already, or was open for too long. Nothing was done.",
                Some("Go back to where you came from and begin again."),
            ),
            Self::ForeignPage => (
                StatusCode::FORBIDDEN,
                "This did not come from here",
                "A page of another site has sent this form, so nothing was done.",
                None,
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "Nothing here", "There is no page at this address.", None),
            Self::MethodNotAllowed(_) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "That did not work",
                "This address does not take that kind of request.",
                None,
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not available at the moment",
                "The server cannot use its state, so nothing was done. Its log says why.",
                Some("Try again in a moment."),
            ),
        };
        let page = pages::Message { title, text, hint, back: None };
        let mut response = self::page(status, page.render());
        match self {
            Self::MethodNotAllowed(allow) => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Unavailable => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}

/// An HTML page.
pub(super) fn page(status: StatusCode, html: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(html));
    *response.status_mut() = status;
    response.headers_mut().extend(pages::headers());
    response
}

/// Sends a browser on with GET, whatever it came with (RFC 9700 §4.12).
pub(super) fn see_other(location: &str) -> Option<Response<Bytes>> {
    let location = HeaderValue::try_from(location).ok()?;
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.extend(pages::headers());
    headers.remove(CONTENT_TYPE);
    headers.insert(LOCATION, location);
    Some(response)
}

/// `base`, a redirect URI without a fragment, with more parameters (RFC 6749 §4.1.2).
pub(super) fn with_parameters<'p>(base: &str, parameters: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let mut added = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        added.append_pair(name, value);
    }
    let separator = match base.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{base}{separator}{}", added.finish())
}

/// Sets the browser's cookie too.
pub(super) fn with_cookie(mut response: Response<Bytes>, cookie: Option<HeaderValue>) -> Response<Bytes> {
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// JSON that any page may read and nobody may store (RFC 6749 §5.1).
pub(super) fn json(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    allow_reading(headers);
    response
}

/// Lets pages of any origin read an answer. Cookies go to pages only, and none of these is one.
pub(super) fn allow_reading(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// An error of an endpoint for clients (RFC 6749 §5.2, RFC 7591 §3.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OauthError {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) description: &'static str,
    /// The client tried to authenticate in the header.
    pub(super) in_header: bool,
    pub(super) retry_after: Option<Duration>,
}

impl OauthError {
    pub(super) const fn new(error: &'static str, description: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, description, in_header: false, retry_after: None }
    }

    pub(super) fn unavailable() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after: Some(Duration::from_secs(2)),
            ..Self::new("temporarily_unavailable", "the authorization server cannot use its state; try again")
        }
    }

    pub(super) fn into_response(self) -> Response<Bytes> {
        let body = serde_json::json!({ "error": self.error, "error_description": self.description });
        let mut response = json(self.status, &body);
        if self.in_header {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\""));
        }
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}

impl From<Failure> for OauthError {
    fn from(_: Failure) -> Self {
        // Only the store fails at these endpoints.
        Self::unavailable()
    }
}

/// What an endpoint for clients answers to anything but POST; `None` for POST.
pub(super) fn unless_post(method: &Method) -> Option<Response<Bytes>> {
    const METHODS: HeaderValue = HeaderValue::from_static("POST, OPTIONS");
    if method == Method::POST {
        return None;
    }
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    allow_reading(headers);
    if method == Method::OPTIONS {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        let names = HeaderValue::from_static("authorization, content-type, accept, mcp-protocol-version");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        *response.status_mut() = StatusCode::NO_CONTENT;
    } else {
        headers.insert(ALLOW, METHODS);
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_added_to_what_a_redirect_uri_has() {
        let add = |base: &str| with_parameters(base, [("code", "a b"), ("iss", "https://h")]);
        assert_eq!(add("http://127.0.0.1:1/cb"), "http://127.0.0.1:1/cb?code=a+b&iss=https%3A%2F%2Fh");
        assert_eq!(add("https://c.example/?x=1"), "https://c.example/?x=1&code=a+b&iss=https%3A%2F%2Fh");
        assert_eq!(add("https://c.example/?"), "https://c.example/?code=a+b&iss=https%3A%2F%2Fh");
    }
}

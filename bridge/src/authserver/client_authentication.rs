//! Which client is at the token endpoint, and whether it can prove that (RFC 6749 §2.3).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use mcp_calculator::secret::Secret;
use url::form_urlencoded;

use crate::authserver::{
    AuthServer, Request, answer::OauthError, client::Authentication, form::Form,
    registration::document::is_document_url,
};

/// What a client says about itself.
struct Presented {
    id: String,
    secret: Option<Secret<String>>,
    in_header: bool,
}

impl AuthServer {
    /// The `client_id`, once its client has authenticated as it was registered to.
    pub(super) async fn authenticate(&self, request: &Request<'_>, form: &Form<'_>) -> Result<String, OauthError> {
        let presented = presented(request.headers, form)?;
        let failed = |in_header| OauthError {
            status: StatusCode::UNAUTHORIZED,
            in_header,
            ..OauthError::new("invalid_client", "the client is not known here, or did not authenticate as registered")
        };
        let in_header = presented.in_header;
        // Who is described by a document has no secret, and is bound to its grants by its id.
        let authentication = if is_document_url(&presented.id) {
            Authentication::None
        } else {
            let (id, now) = (presented.id.clone(), request.now);
            let client = self.with_store(move |store| store.client(&id, now)).await?;
            client.ok_or_else(|| failed(in_header))?.authentication
        };
        let is_good = match (&authentication, &presented.secret) {
            (Authentication::None, None) => true,
            (Authentication::ClientSecretBasic(expected), Some(secret)) => in_header && expected.is_of(secret.expose()),
            (Authentication::ClientSecretPost(expected), Some(secret)) => !in_header && expected.is_of(secret.expose()),
            (Authentication::None, Some(_)) | (_, None) => false,
        };
        if is_good { Ok(presented.id) } else { Err(failed(in_header)) }
    }
}

fn presented(headers: &HeaderMap, form: &Form<'_>) -> Result<Presented, OauthError> {
    const BAD: OauthError = OauthError::new("invalid_request", "the client's credentials are malformed");
    let in_form = (form.value("client_id"), form.value("client_secret"));
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        let id = in_form.0.ok_or(OauthError::new("invalid_request", "client_id is missing"))?;
        let secret = in_form.1.map(|secret| Secret::new(secret.to_owned()));
        return Ok(Presented { id: id.to_owned(), secret, in_header: false });
    };
    if fields.next().is_some() || in_form.1.is_some() {
        return Err(OauthError::new("invalid_request", "the client authenticates in more than one way"));
    }
    let (scheme, value) = field.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(BAD)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(BAD);
    }
    let decoded = BASE64_STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = Secret::new(decoded.ok_or(BAD)?);
    let (id, secret) = decoded.expose().split_once(':').ok_or(BAD)?;
    let (id, secret) = (unescaped(id).ok_or(BAD)?, unescaped(secret).ok_or(BAD)?);
    if id.is_empty() || in_form.0.is_some_and(|written| written != id) {
        return Err(BAD);
    }
    // A public client that sends the header with nothing in it has no secret.
    let secret = Some(secret).filter(|secret| !secret.is_empty()).map(Secret::new);
    Ok(Presented { id, secret, in_header: true })
}

/// One part of HTTP Basic as OAuth writes it: form-urlencoded (RFC 6749 §2.3.1).
fn unescaped(text: &str) -> Option<String> {
    if text.contains(['&', '=']) && !text.contains('%') {
        // Not encoded at all, as some clients do it; our own ids and secrets have neither.
        return Some(text.to_owned());
    }
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    let (value, rest) = match pairs.next() {
        Some(pair) => pair,
        None => return Some(String::new()),
    };
    let is_whole = rest.is_empty() && pairs.next().is_none();
    (is_whole && !value.contains(char::REPLACEMENT_CHARACTER)).then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(header: Option<&str>, body: &str) -> Result<(String, Option<String>, bool), &'static str> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().expect("valid"));
        }
        let form = Form::parse(body.as_bytes(), None).expect("a form");
        let found = presented(&headers, &form).map_err(|error| error.error)?;
        Ok((found.id, found.secret.map(|secret| secret.expose().clone()), found.in_header))
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(text))
    }

    #[test]
    fn credentials_are_read_strictly() {
        let good = |id: &str, secret: Option<&str>, header| Ok((id.to_owned(), secret.map(str::to_owned), header));
        assert_eq!(read(None, "client_id=a"), good("a", None, false));
        assert_eq!(read(None, "client_id=a&client_secret=b"), good("a", Some("b"), false));
        assert_eq!(read(Some(&basic("a:b")), ""), good("a", Some("b"), true));
        assert_eq!(read(Some(&basic("a%3A1:b+c")), "client_id=a%3A1"), good("a:1", Some("b c"), true));
        assert_eq!(read(Some(&basic("a:")), ""), good("a", None, true));
        for (header, body) in [
            (None, ""),
            (None, "client_secret=b"),
            (Some("Bearer x"), "client_id=a"),
            (Some("Basic"), "client_id=a"),
            (Some("Basic ***"), ""),
            (Some(&*basic("a")), ""),
            (Some(&*basic(":b")), ""),
            (Some(&*basic("a%ff:b")), ""),
            (Some(&*basic("a:b")), "client_secret=b"),
            (Some(&*basic("a:b")), "client_id=other"),
        ] {
            assert_eq!(read(header, body), Err("invalid_request"), "{header:?} {body}");
        }
    }
}

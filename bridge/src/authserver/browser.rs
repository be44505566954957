//! Who is at a browser, and whether a form comes from one of our own pages.

use http::{HeaderValue, Method, header::ORIGIN};
use mcp_calculator::secret::Secret;

use crate::authserver::{
    AuthServer, Request,
    answer::Failure,
    form::{Form, FormError},
    opaque::Digest,
    store::Session,
};

/// A browser in which somebody is signed in.
pub(super) struct SignedIn {
    /// What its forms are bound to.
    pub(super) cookie: Secret<String>,
    pub(super) session: Session,
}

impl AuthServer {
    /// Who is signed in at the browser that sent `request`.
    pub(super) async fn signed_in(&self, request: &Request<'_>) -> Result<Option<SignedIn>, Failure> {
        let Some(cookie) = self.cookie.read(request.headers) else { return Ok(None) };
        let (digest, now) = (Digest::of(cookie.expose()), request.now);
        let session = self.with_store(move |store| store.session(digest, now)).await?;
        Ok(session.map(|session| SignedIn { cookie, session }))
    }

    /// The browser's cookie, or a new one with the header that sets it.
    pub(super) fn cookie_of(&self, request: &Request<'_>) -> (Secret<String>, Option<HeaderValue>) {
        match self.cookie.read(request.headers) {
            Some(cookie) => (cookie, None),
            None => {
                let (cookie, header) = self.cookie.fresh();
                (cookie, Some(header))
            }
        }
    }

    /// Refuses what a page of another site sends. Browsers say where a form comes from in one of two
    /// ways; with our referrer policy the older one says `null`.
    pub(super) fn check_page(&self, request: &Request<'_>) -> Result<(), Failure> {
        let is_ours = match request.headers.get("sec-fetch-site") {
            Some(site) => site == "same-origin",
            None => request.headers.get(ORIGIN).is_some_and(|origin| *origin == *self.issuer),
        };
        let contradicts = |origin: &HeaderValue| *origin != *self.issuer && origin != "null";
        if !is_ours || request.headers.get_all(ORIGIN).iter().any(contradicts) {
            return Err(Failure::ForeignPage);
        }
        Ok(())
    }
}

/// The fields of a form that one of our pages has sent.
pub(super) fn fields<'r>(request: &Request<'r>, repeated: Option<&str>) -> Result<Form<'r>, Failure> {
    if request.method != Method::POST {
        return Err(Failure::MethodNotAllowed("POST"));
    }
    Ok(Form::parse(request.body, repeated)?)
}

impl From<FormError> for Failure {
    fn from(error: FormError) -> Self {
        match error {
            FormError::Repeated => Self::Bad("A parameter of this request is there more than once."),
            FormError::TooMany => Self::Bad("This request has too many parameters."),
            FormError::Characters => Self::Bad("A parameter of this request is not readable text."),
        }
    }
}

//! The authorization endpoint (RFC 6749 §3.1): from a client's request to the page that asks the user.

use bytes::Bytes;
use http::{Method, Response, StatusCode};

use crate::{
    authserver::{
        AuthServer, Request,
        answer::{Failure, page, with_parameters},
        browser::SignedIn,
        client::Client,
        form::Form,
        opaque::{self, Digest, Purpose},
        pages, redirect,
        registration::document::is_document_url,
        store::AuthorizationRequest,
    },
    scope::ScopeSet,
};

/// Longer ones are no client's state.
const STATE_MAX: usize = 4096;
/// A SHA-256 in base64url (RFC 7636 §4.2).
const CHALLENGE_LEN: usize = 43;

/// An error that the client may be told (RFC 6749 §4.1.2.1), once the user wants that.
struct ForClient {
    error: &'static str,
    description: &'static str,
}

impl AuthServer {
    /// Nothing is fetched and nobody is sent anywhere before somebody has signed in.
    pub(super) async fn authorize(&self, request: &Request<'_>) -> Result<Response<Bytes>, Failure> {
        if request.method != Method::GET {
            return Err(Failure::MethodNotAllowed("GET"));
        }
        // Of several resources one has to be named; RFC 8707 allows more, and we do not.
        let form = Form::parse(request.query.as_bytes(), None)?;
        let id = form.value("client_id").ok_or(Failure::Client("It did not say who it is.".into()))?;
        let registered = if is_document_url(id) { None } else { Some(self.registered(id, request).await?) };
        let Some(browser) = self.signed_in(request).await? else {
            let next = format!("/authorize?{}", request.query);
            return self.sign_in_page(request, &next).await;
        };
        let client = match registered {
            Some(client) => client,
            None => self
                .documents
                .client(id, form.value("redirect_uri"))
                .await
                .map_err(|problem| Failure::Client(format!("It says that {id} describes it, but {problem}.")))?,
        };
        let (redirect_uri, was_sent) = redirect_uri(&client, form.value("redirect_uri"))?;
        match self.check(&client, redirect_uri, was_sent, &form) {
            Ok(asked) => self.ask(request, &browser, asked).await,
            Err(error) => Ok(self.refuse(redirect_uri, form.value("state"), &error)),
        }
    }

    async fn registered(&self, id: &str, request: &Request<'_>) -> Result<Client, Failure> {
        let (id, now) = (id.to_owned(), request.now);
        let found = self.with_store(move |store| store.client(&id, now)).await?;
        found.ok_or_else(|| {
            let text = "It is not known here, or was removed because it was not used. Remove the connection in the \
                        application and add it again: then it will register anew.";
            Failure::Client(text.into())
        })
    }

    fn check(
        &self,
        client: &Client,
        redirect_uri: &str,
        redirect_uri_was_sent: bool,
        form: &Form<'_>,
    ) -> Result<AuthorizationRequest, ForClient> {
        let refused = |error, description| Err(ForClient { error, description });
        if form.value("request").is_some() || form.value("request_uri").is_some() {
            return refused("request_not_supported", "request objects are not supported");
        }
        if form.value("response_type") != Some("code") {
            return refused("unsupported_response_type", "response_type must be code");
        }
        if form.value("response_mode").is_some_and(|mode| mode != "query") {
            return refused("invalid_request", "response_mode must be query");
        }
        if form.value("code_challenge_method") != Some("S256") {
            return refused("invalid_request", "code_challenge_method must be S256");
        }
        let challenge = form.value("code_challenge").unwrap_or_default();
        let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if challenge.len() != CHALLENGE_LEN || !challenge.bytes().all(is_base64url) {
            return refused("invalid_request", "code_challenge must be a SHA-256 in base64url");
        }
        let state = form.value("state");
        if state.is_some_and(|state| state.len() > STATE_MAX) {
            return refused("invalid_request", "state is too long");
        }
        let protected = match (form.value("resource"), &*self.resources) {
            (Some(uri), _) => self.resource(uri),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let Some(protected) = protected else {
            return refused("invalid_target", "resource must be the URL of an MCP endpoint of this server");
        };
        let Some(scopes) = protected.asked(form.value("scope")) else {
            return refused("invalid_scope", "none of the scopes exists here");
        };
        Ok(AuthorizationRequest {
            client: client.clone(),
            redirect_uri: redirect_uri.to_owned(),
            redirect_uri_was_sent,
            state: state.map(str::to_owned),
            challenge: challenge.to_owned(),
            resource: protected.uri.clone(),
            scopes,
        })
    }

    /// Keeps the request, and asks the user.
    async fn ask(
        &self,
        request: &Request<'_>,
        browser: &SignedIn,
        asked: AuthorizationRequest,
    ) -> Result<Response<Bytes>, Failure> {
        let id = opaque::new(Purpose::Request);
        let (digest, session, now) = (Digest::of(id.expose()), browser.session.id, request.now);
        let (user, client) = (browser.session.user.name.clone(), asked.client.id.clone());
        let asked = self
            .with_store(move |store| {
                store.add_request(digest, session, &asked, now)?;
                let is_known = store.is_connected(&user, &client, now)?;
                Ok((asked, is_known))
            })
            .await;
        let (asked, is_known) = asked?;
        let chosen = self.allowed_to(browser, &asked);
        let asking = Asking { is_known, is_begun: false, problem: None };
        Ok(self.consent_page(request, browser, id.expose(), &asked, &chosen, asking))
    }

    /// What of `asked` the user may allow at all.
    pub(super) fn allowed_to(&self, browser: &SignedIn, asked: &AuthorizationRequest) -> ScopeSet {
        match &browser.session.user.scopes {
            Some(own) => asked.scopes.iter().filter(|scope| own.contains(scope)).cloned().collect(),
            None => asked.scopes.clone(),
        }
    }

    /// The page that asks; `ticked` are the boxes that are on.
    pub(super) fn consent_page(
        &self,
        request: &Request<'_>,
        browser: &SignedIn,
        id: &str,
        asked: &AuthorizationRequest,
        ticked: &ScopeSet,
        asking: Asking,
    ) -> Response<Bytes> {
        let Some(protected) = self.resource(&asked.resource) else {
            // The settings have changed since.
            return Failure::StaleForm.into_page();
        };
        let allowed = self.allowed_to(browser, asked);
        let choice = |scope: &crate::scope::Scope| pages::ScopeChoice {
            scope: scope.as_str().to_owned(),
            description: protected.describe(scope),
            checked: ticked.contains(scope),
        };
        let scopes: Vec<pages::ScopeChoice> = allowed.iter().map(choice).collect();
        let html = pages::Consent {
            action: "/consent",
            form: &self.form_tokens.issue(browser.cookie.expose(), "consent", request.now),
            sign_out_form: &self.form_tokens.issue(browser.cookie.expose(), "sign-out", request.now),
            request: id,
            user: &browser.session.user.name,
            server: &protected.name,
            resource: &asked.resource,
            client_name: asked.client.name.as_deref(),
            client_host: asked.client.document_host(),
            redirect_to: &redirect::shown(&asked.redirect_uri),
            is_loopback: redirect::is_loopback(&asked.redirect_uri),
            is_first_time: !asking.is_known,
            is_begun: asking.is_begun,
            scopes: &scopes,
            expires: "90 days, or until you take it back",
            problem: asking.problem,
        }
        .render();
        page(if asking.problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK }, html)
    }

    /// Shows an error; the user may take it to the client.
    fn refuse(&self, redirect_uri: &str, state: Option<&str>, error: &ForClient) -> Response<Bytes> {
        let state = state.filter(|state| state.len() <= STATE_MAX);
        let back =
            self.answer_uri(redirect_uri, state, [("error", error.error), ("error_description", error.description)]);
        let label = format!("Go back to {}", redirect::shown(redirect_uri));
        let text = format!("Its request is wrong: {}. Nothing was allowed.", error.description);
        let html = pages::Message {
            title: "This application cannot be connected",
            text: &text,
            hint: Some("The application has to be mended, or needs other settings."),
            back: Some((&back, &label)),
        };
        page(StatusCode::BAD_REQUEST, html.render())
    }

    /// Where an answer goes (RFC 6749 §4.1.2, RFC 9207).
    pub(super) fn answer_uri<'p>(
        &'p self,
        redirect_uri: &str,
        state: Option<&'p str>,
        parameters: impl IntoIterator<Item = (&'p str, &'p str)>,
    ) -> String {
        let state = state.map(|state| ("state", state));
        let own = [("iss", self.issuer.as_str())];
        let all: Vec<(&str, &str)> = parameters.into_iter().chain(state).chain(own).collect();
        with_parameters(redirect_uri, all)
    }
}

/// What else the page that asks has to say.
#[derive(Clone, Copy)]
pub(super) struct Asking {
    /// Whether this user has let this client in before. If not, one click does not do it: a page that
    /// closes over this one between the two of a double click has the second one.
    pub(super) is_known: bool,
    /// Whether the user has said that they have begun this.
    pub(super) is_begun: bool,
    pub(super) problem: Option<&'static str>,
}

/// Where the answer goes, and whether the client said so.
fn redirect_uri<'u>(client: &'u Client, asked: Option<&'u str>) -> Result<(&'u str, bool), Failure> {
    match (asked, &*client.redirect_uris) {
        (Some(asked), registered) if registered.iter().any(|one| redirect::matches(one, asked)) => Ok((asked, true)),
        (Some(_), _) => {
            let text = "It wants the answer sent to an address that it has not registered, so nothing was sent there.";
            Err(Failure::Client(text.into()))
        }
        (None, [only]) => Ok((only, false)),
        (None, _) => Err(Failure::Client("It did not say where the answer goes.".into())),
    }
}

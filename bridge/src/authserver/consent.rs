//! The user's answer to the page that asks.

use bytes::Bytes;
use http::Response;

use crate::{
    authserver::{
        AuthServer, Request,
        answer::{Failure, see_other},
        authorize::Asking,
        browser::fields,
        opaque::{self, Digest, Purpose},
        store::NewGrant,
    },
    scope::ScopeSet,
};

impl AuthServer {
    pub(super) async fn consent(&self, request: &Request<'_>) -> Result<Response<Bytes>, Failure> {
        let form = fields(request, Some("scope"))?;
        self.check_page(request)?;
        let browser = self.signed_in(request).await?.ok_or(Failure::StaleForm)?;
        let token = form.value("form").unwrap_or_default();
        if !self.form_tokens.redeem(token, browser.cookie.expose(), "consent", request.now) {
            return Err(Failure::StaleForm);
        }
        let written = form.value("request").filter(|id| Purpose::Request.fits(id)).ok_or(Failure::StaleForm)?;
        let (id, session, now) = (Digest::of(written), browser.session.id, request.now);
        if form.value("decision") != Some("allow") {
            let asked = self.with_store(move |store| store.take_request(id, session, now)).await?;
            let asked = asked.ok_or(Failure::StaleForm)?;
            let parameters = [("error", "access_denied"), ("error_description", "the user did not allow it")];
            let back = self.answer_uri(&asked.redirect_uri, asked.state.as_deref(), parameters);
            return see_other(&back).ok_or(Failure::StaleForm);
        }
        let user = browser.session.user.name.clone();
        let asked = self.with_store(move |store| {
            let Some(asked) = store.request(id, session, now)? else { return Ok(None) };
            let is_known = store.is_connected(&user, &asked.client.id, now)?;
            Ok(Some((asked, is_known)))
        });
        let (asked, is_known) = asked.await?.ok_or(Failure::StaleForm)?;
        let allowed = self.allowed_to(&browser, &asked);
        let ticked: Vec<&str> = form.values("scope").collect();
        let chosen: ScopeSet = allowed.iter().filter(|scope| ticked.contains(&scope.as_str())).cloned().collect();
        let is_begun = form.value("begun").is_some();
        let problem = if chosen.is_empty() && !asked.scopes.is_empty() {
            Some(if allowed.is_empty() {
                "Your account may do none of what it asks for, so you can only deny."
            } else {
                "Choose at least one thing to allow, or deny all."
            })
        } else if !is_known && !is_begun {
            Some("If you have just begun to connect it, say so below. Else deny.")
        } else {
            None
        };
        if problem.is_some() {
            let asking = Asking { is_known, is_begun, problem };
            return Ok(self.consent_page(request, &browser, written, &asked, &chosen, asking));
        }
        let code = opaque::new(Purpose::Code);
        let (digest, user) = (Digest::of(code.expose()), browser.session.user.name);
        let (asked, grant) = self
            .with_store(move |store| {
                let new = NewGrant { user: &user, request: &asked, scopes: &chosen };
                let grant = store.grant(id, session, new, digest, now)?;
                Ok((asked, grant))
            })
            .await?;
        let grant = grant.ok_or(Failure::StaleForm)?;
        tracing::info!(grant, client = asked.client.id, "a client was allowed in");
        let back = self.answer_uri(&asked.redirect_uri, asked.state.as_deref(), [("code", code.expose().as_str())]);
        see_other(&back).ok_or(Failure::StaleForm)
    }
}

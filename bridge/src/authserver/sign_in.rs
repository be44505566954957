//! Signing in and out at a browser.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header::RETRY_AFTER};
use mcp_calculator::secret::Secret;
use tokio::task::spawn_blocking;

use crate::{
    authserver::{
        AuthServer, OWNER, Request,
        answer::{Failure, page, see_other, with_cookie},
        browser::fields,
        form::Form,
        opaque::Digest,
        pages, passphrase,
    },
    config::Approve,
};

/// Between two looks of a page that waits for the terminal.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

impl AuthServer {
    pub(super) async fn sign_in(&self, request: &Request<'_>) -> Result<Response<Bytes>, Failure> {
        if request.method == Method::GET {
            let form = Form::parse(request.query.as_bytes(), None)?;
            let next = next(form.value("next"));
            if self.signed_in(request).await?.is_some() {
                return see_other(&next).ok_or(Failure::NotFound);
            }
            return self.sign_in_page(request, &next).await;
        }
        let form = fields(request, None)?;
        self.check_page(request)?;
        let next = next(form.value("next"));
        if self.approve == Approve::Terminal {
            return Err(Failure::NotFound);
        }
        let cookie = self.cookie.read(request.headers).ok_or(Failure::StaleForm)?;
        let token = form.value("form").unwrap_or_default();
        if !self.form_tokens.redeem(token, cookie.expose(), "sign-in", request.now) {
            let problem = "This page was open for too long. Please sign in again.";
            return self.passphrase_page(request, &next, Some(problem), None).await;
        }
        let name = form.value("name").unwrap_or(OWNER).to_owned();
        let passphrase = Secret::new(form.value("passphrase").unwrap_or_default().to_owned());
        // Before the wait, so that it is known whom the guess is for; nobody is told.
        let user = self.with_store(move |store| store.user(&name)).await?;
        let attempt = match self.guesses.try_begin(user.as_ref().map(|user| &*user.name)).await {
            Ok(attempt) => attempt,
            Err(wait) => {
                let problem = "Too many wrong passphrases were tried.";
                return self.passphrase_page(request, &next, Some(problem), Some(wait)).await;
            }
        };
        let hash = user.as_ref().and_then(|user| user.passphrase_hash.clone());
        let proving =
            spawn_blocking(move || if passphrase::verify(&passphrase, hash.as_deref()) { hash } else { None });
        let session = match (user, proving.await.unwrap_or_default()) {
            (Some(user), Some(proved)) => self.begin_session(request, &user.name, Some(proved), &next).await?,
            _ => None,
        };
        let Some(response) = session else {
            attempt.failed();
            tracing::warn!("a sign-in at a browser failed");
            return self.passphrase_page(request, &next, Some("That is not right. Please try again."), None).await;
        };
        attempt.succeeded();
        Ok(response)
    }

    /// Signs `user` in at the browser, under a new cookie, and sends it on; `None` where they are gone, or
    /// `proved` is not the hash of their passphrase any more.
    async fn begin_session(
        &self,
        request: &Request<'_>,
        user: &str,
        proved: Option<String>,
        next: &str,
    ) -> Result<Option<Response<Bytes>>, Failure> {
        let (cookie, header) = self.cookie.fresh();
        let (digest, user, now) = (Digest::of(cookie.expose()), user.to_owned(), request.now);
        if !self.with_store(move |store| store.add_session(digest, &user, proved.as_deref(), now)).await? {
            return Ok(None);
        }
        let response = see_other(next).ok_or(Failure::NotFound)?;
        Ok(Some(with_cookie(response, Some(header))))
    }

    /// The page where whoever wants to go to `next` signs in first.
    pub(super) async fn sign_in_page(&self, request: &Request<'_>, next: &str) -> Result<Response<Bytes>, Failure> {
        match self.approve {
            Approve::Passphrase => self.passphrase_page(request, next, None, None).await,
            Approve::Terminal => self.terminal_page(request, next).await,
        }
    }

    async fn passphrase_page(
        &self,
        request: &Request<'_>,
        next: &str,
        problem: Option<&'static str>,
        wait: Option<Duration>,
    ) -> Result<Response<Bytes>, Failure> {
        let users = self.with_store(|store| store.users()).await?;
        let (cookie, header) = self.cookie_of(request);
        let html = pages::SignIn {
            action: "/sign-in",
            form: &self.form_tokens.issue(cookie.expose(), "sign-in", request.now),
            next,
            server: self.name(),
            host: self.host(),
            asks_name: users.len() > 1,
            name: OWNER,
            problem,
            wait_text: wait.map(pages::wait_text),
        }
        .render();
        let status = match (problem, wait) {
            (_, Some(_)) => StatusCode::TOO_MANY_REQUESTS,
            (Some(_), None) => StatusCode::FORBIDDEN,
            (None, None) => StatusCode::OK,
        };
        let mut response = with_cookie(page(status, html), header);
        if let Some(wait) = wait {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        Ok(response)
    }

    /// Waits for somebody at this machine, who sees the same code. Nothing is kept of it, so that no
    /// stranger's browser makes another one wait in vain.
    async fn terminal_page(&self, request: &Request<'_>, next: &str) -> Result<Response<Bytes>, Failure> {
        let (cookie, header) = self.cookie_of(request);
        let (codes, now) = (self.approval_codes.of(Digest::of(cookie.expose()), request.now), request.now);
        let code = codes[0].clone();
        let user = self.with_store(move |store| store.take_approval(&codes, now)).await?;
        if let Some(user) = user
            && let Some(response) = self.begin_session(request, &user, None, next).await?
        {
            return Ok(response);
        }
        let is_untold = self.approval_codes.is_untold(&code);
        let code = code.as_str();
        if is_untold {
            tracing::info!("a browser wants to sign in; if it shows {code}, run: mcp-bridge approve {code}");
        }
        let command = format!("mcp-bridge approve {code}");
        let html = pages::Waiting { code, command: &command, seconds: LOOK_AGAIN.as_secs(), server: self.name() };
        Ok(with_cookie(page(StatusCode::OK, html.render()), header))
    }

    pub(super) async fn sign_out(&self, request: &Request<'_>) -> Result<Response<Bytes>, Failure> {
        let form = fields(request, None)?;
        self.check_page(request)?;
        if let Some(browser) = self.signed_in(request).await? {
            let token = form.value("form").unwrap_or_default();
            if !self.form_tokens.redeem(token, browser.cookie.expose(), "sign-out", request.now) {
                return Err(Failure::StaleForm);
            }
            let (user, id) = (browser.session.user.name, browser.session.id);
            self.with_store(move |store| store.end_session(&user, id)).await?;
        }
        let html = pages::SignedOut { sign_in_url: "/account" }.render();
        Ok(with_cookie(page(StatusCode::OK, html), Some(self.cookie.removal())))
    }

    /// What is protected, in a word or a few.
    pub(super) fn name(&self) -> &str {
        match &*self.resources {
            [only] => &only.name,
            _ => "MCP bridge",
        }
    }

    /// Our host, and port if it is not the scheme's own.
    pub(super) fn host(&self) -> &str {
        self.issuer.split_once("://").map_or(&self.issuer, |(_, host)| host)
    }
}

/// Where to go after signing in: to one of two pages of ours, whatever is asked for.
fn next(asked: Option<&str>) -> String {
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    match asked {
        Some(next) if next.starts_with("/authorize?") && is_plain(next) => next.to_owned(),
        _ => "/account".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site_after_signing_in() {
        assert_eq!(next(Some("/authorize?client_id=a")), "/authorize?client_id=a");
        for other in ["https://evil.example", "//evil.example", "/authorize", "/authorize?a\r\nb", "/authorize?ä", ""]
        {
            assert_eq!(next(Some(other)), "/account", "{other}");
        }
        assert_eq!(next(None), "/account");
    }
}

//! The account page: what is connected, where somebody is signed in, and how to end either.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use mcp_calculator::secret::Secret;
use tokio::task::spawn_blocking;

use crate::{
    authserver::{
        AuthServer, Request,
        answer::{Failure, page, see_other},
        browser::{SignedIn, fields},
        form::Form,
        pages, passphrase, redirect,
        store::{Grant, Session},
    },
    config::Approve,
};

const WRONG: &str = "The current passphrase is not right.";

/// What came of a form, for the page that follows.
#[derive(Clone, Copy, Default)]
struct Outcome {
    notice: Option<&'static str>,
    problem: Option<&'static str>,
}

impl AuthServer {
    pub(super) async fn account(&self, request: &Request<'_>) -> Result<Response<Bytes>, Failure> {
        if request.path == "/account" {
            if request.method != Method::GET {
                return Err(Failure::MethodNotAllowed("GET"));
            }
            return match self.signed_in(request).await? {
                Some(browser) => self.account_page(request, &browser, Outcome::default()).await,
                None => self.sign_in_page(request, "/account").await,
            };
        }
        let action = request.path.strip_prefix("/account/").unwrap_or_default();
        if !["revoke", "end-session", "end-others", "passphrase"].contains(&action) {
            return Err(Failure::NotFound);
        }
        let form = fields(request, None)?;
        self.check_page(request)?;
        let Some(browser) = self.signed_in(request).await? else {
            return see_other("/account").ok_or(Failure::NotFound);
        };
        let token = form.value("form").unwrap_or_default();
        if !self.form_tokens.redeem(token, browser.cookie.expose(), "account", request.now) {
            return Err(Failure::StaleForm);
        }
        let outcome = match action {
            "revoke" => self.take_back(&browser, &form).await?,
            "end-session" => self.end_session(&browser, &form).await?,
            "end-others" => {
                let (user, keep) = (browser.session.user.name.clone(), browser.session.id);
                self.with_store(move |store| store.end_sessions(&user, Some(keep))).await?;
                Outcome { notice: Some("You are signed in in this browser only now."), problem: None }
            }
            _ => self.change_passphrase(&browser, &form).await?,
        };
        self.account_page(request, &browser, outcome).await
    }

    async fn take_back(&self, browser: &SignedIn, form: &Form<'_>) -> Result<Outcome, Failure> {
        let grant: i64 = form.value("grant").and_then(|id| id.parse().ok()).ok_or(Failure::StaleForm)?;
        let user = browser.session.user.name.clone();
        let was_there = self.with_store(move |store| store.revoke_grant(grant, Some(&user))).await?;
        if was_there {
            tracing::info!(grant, "a grant was revoked by its user");
        }
        Ok(Outcome { notice: Some("It is not connected any more. Its next call is refused."), problem: None })
    }

    async fn end_session(&self, browser: &SignedIn, form: &Form<'_>) -> Result<Outcome, Failure> {
        let session: i64 = form.value("session").and_then(|id| id.parse().ok()).ok_or(Failure::StaleForm)?;
        let user = browser.session.user.name.clone();
        self.with_store(move |store| store.end_session(&user, session)).await?;
        Ok(Outcome { notice: Some("That browser is signed out."), problem: None })
    }

    async fn change_passphrase(&self, browser: &SignedIn, form: &Form<'_>) -> Result<Outcome, Failure> {
        if self.approve == Approve::Terminal {
            return Err(Failure::NotFound);
        }
        let problem = |text| Ok(Outcome { notice: None, problem: Some(text) });
        let field = |name: &str| form.value(name).unwrap_or_default();
        if field("new") != field("again") {
            return problem("The two new passphrases are not the same.");
        }
        if passphrase::check_new(field("new")).is_err() {
            return problem("The new passphrase is too easy to guess: use at least 12 characters.");
        }
        let Ok(attempt) = self.guesses.try_begin(Some(&browser.session.user.name)).await else {
            return problem("Too many wrong passphrases were tried. Try again in a minute.");
        };
        let current = Secret::new(field("current").to_owned());
        let new = Secret::new(field("new").to_owned());
        let (user, keep) = (browser.session.user.name.clone(), browser.session.id);
        let known = browser.session.user.passphrase_hash.clone();
        let proving = spawn_blocking(move || {
            let is_known = passphrase::verify(&current, known.as_deref());
            known.filter(|_| is_known).map(|known| (known, passphrase::hash(&new)))
        });
        let Ok(Some((known, hash))) = proving.await else {
            attempt.failed();
            return problem(WRONG);
        };
        // Somebody may have reset it meanwhile, because it is known to who should not know it.
        if !self.with_store(move |store| store.change_passphrase(&user, &known, &hash, keep)).await? {
            attempt.failed();
            return problem(WRONG);
        }
        attempt.succeeded();
        let notice = "Your passphrase is changed. Other browsers are signed out.";
        Ok(Outcome { notice: Some(notice), problem: None })
    }

    async fn account_page(
        &self,
        request: &Request<'_>,
        browser: &SignedIn,
        outcome: Outcome,
    ) -> Result<Response<Bytes>, Failure> {
        let (user, now) = (browser.session.user.name.clone(), request.now);
        let (grants, sessions) =
            self.with_store(move |store| Ok((store.grants(Some(&user), now)?, store.sessions(&user, now)?))).await?;
        let apps: Vec<pages::App> = grants.iter().map(|grant| self.shown_app(grant, now)).collect();
        let shown = |session: &Session| pages::BrowserShown {
            id: session.id,
            is_this: session.id == browser.session.id,
            signed_in: ago(session.created_at, now),
            last_seen: ago(session.last_seen_at, now),
        };
        let sessions: Vec<pages::BrowserShown> = sessions.iter().map(shown).collect();
        let cookie = browser.cookie.expose();
        let form = |purpose| self.form_tokens.issue(cookie, purpose, now);
        let endpoints: Vec<String> = self.resources.iter().map(|resource| resource.uri.clone()).collect();
        let html = pages::Account {
            form: &form("account"),
            sign_out_form: &form("sign-out"),
            user: &browser.session.user.name,
            host: self.host(),
            endpoints: &endpoints,
            apps: &apps,
            sessions: &sessions,
            can_change_passphrase: self.approve == Approve::Passphrase,
            notice: outcome.notice,
            problem: outcome.problem,
        }
        .render();
        let status = if outcome.problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        Ok(page(status, html))
    }

    fn shown_app(&self, grant: &Grant, now: SystemTime) -> pages::App {
        let describe = |scope: &crate::scope::Scope| {
            self.resource(&grant.resource).map_or_else(|| scope.to_string(), |protected| protected.describe(scope))
        };
        pages::App {
            grant: grant.id,
            name: grant.client.name.clone(),
            host: grant.client.document_host().map(str::to_owned),
            redirect_to: redirect::shown(&grant.redirect_uri),
            resource: grant.resource.clone(),
            scopes: grant.scopes.iter().map(describe).collect(),
            connected: ago(grant.created_at, now),
            last_used: grant.last_used_at.map_or_else(|| "never".to_owned(), |used| ago(used, now)),
        }
    }
}

/// How long ago something was, as people say it. A page has no script that would know the time zone.
fn ago(then: SystemTime, now: SystemTime) -> String {
    let minutes = now.duration_since(then).map_or(0, |passed| passed.as_secs() / 60);
    let (count, unit) = match minutes {
        0..=1 => return "just now".to_owned(),
        2..=119 => (minutes, "minutes"),
        120..=2879 => (minutes / 60, "hours"),
        _ => (minutes / (24 * 60), "days"),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_told_as_people_do() {
        let now = SystemTime::now();
        for (minutes, expected) in [
            (0, "just now"),
            (1, "just now"),
            (2, "2 minutes ago"),
            (119, "119 minutes ago"),
            (120, "2 hours ago"),
            (2879, "47 hours ago"),
            (2880, "2 days ago"),
        ] {
            assert_eq!(ago(now - Duration::from_secs(minutes * 60), now), expected);
        }
        assert_eq!(ago(now + Duration::from_secs(600), now), "just now", "a clock was set back");
    }
}

//! The pages for people. They need no script, and nothing but themselves.

use std::{sync::LazyLock, time::Duration};

use askama::Template;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use ring::digest;

/// The style of all pages: within each of them, so that one answer is all that a slow network has to bring.
pub(super) const STYLE: &str = include_str!("../../templates/authserver/style.css");

/// The headers of every page, and of every answer that sends a browser on.
pub(super) fn headers() -> [(HeaderName, HeaderValue); 7] {
    // No `form-action`: browsers apply it to where a form's answer sends them, and that is the client.
    static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
        let hash = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
        let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'");
        HeaderValue::try_from(policy).expect("plain ASCII")
    });
    let fixed = HeaderValue::from_static;
    [
        (CONTENT_TYPE, fixed("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, POLICY.clone()),
        (X_FRAME_OPTIONS, fixed("DENY")),
        (REFERRER_POLICY, fixed("no-referrer")),
        (CACHE_CONTROL, fixed("no-store")),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (HeaderName::from_static("permissions-policy"), fixed("camera=(), geolocation=(), microphone=(), payment=()")),
    ]
}

/// # Panics
/// Never: writing to a text does not fail.
fn rendered(page: &impl Template) -> String {
    page.render().expect("a text takes everything")
}

macro_rules! render {
    ($($page:ident)*) => {
        $(impl $page<'_> {
            /// The page as HTML.
            pub(super) fn render(&self) -> String {
                rendered(self)
            }
        })*
    };
}

render!(SignIn Waiting Consent Account Message SignedOut);

/// Where a user enters the passphrase.
#[derive(Template)]
#[template(path = "authserver/sign_in.html")]
pub(super) struct SignIn<'p> {
    pub(super) action: &'p str,
    pub(super) form: &'p str,
    pub(super) next: &'p str,
    pub(super) server: &'p str,
    pub(super) host: &'p str,
    pub(super) asks_name: bool,
    pub(super) name: &'p str,
    pub(super) problem: Option<&'p str>,
    pub(super) wait_text: Option<String>,
}

/// When to try again, as people say it.
pub(super) fn wait_text(wait: Duration) -> String {
    match wait.as_secs() + u64::from(wait.subsec_nanos() > 0) {
        0 | 1 => "Try again in a second.".to_owned(),
        seconds => format!("Try again in {seconds} seconds."),
    }
}

/// Where a browser waits for somebody at the terminal.
#[derive(Template)]
#[template(path = "authserver/waiting.html")]
pub(super) struct Waiting<'p> {
    pub(super) code: &'p str,
    pub(super) command: &'p str,
    pub(super) seconds: u64,
    pub(super) server: &'p str,
}

/// Where a user is asked.
#[derive(Template)]
#[template(path = "authserver/consent.html")]
pub(super) struct Consent<'p> {
    pub(super) action: &'p str,
    pub(super) form: &'p str,
    pub(super) sign_out_form: &'p str,
    pub(super) request: &'p str,
    pub(super) user: &'p str,
    pub(super) server: &'p str,
    pub(super) resource: &'p str,
    pub(super) client_name: Option<&'p str>,
    pub(super) client_host: Option<&'p str>,
    pub(super) redirect_to: &'p str,
    pub(super) is_loopback: bool,
    pub(super) is_first_time: bool,
    pub(super) is_begun: bool,
    pub(super) scopes: &'p [ScopeChoice],
    pub(super) expires: &'p str,
    pub(super) problem: Option<&'p str>,
}

/// One box to tick.
pub(super) struct ScopeChoice {
    pub(super) scope: String,
    pub(super) description: String,
    pub(super) checked: bool,
}

/// What is connected, and where its user is signed in.
#[derive(Template)]
#[template(path = "authserver/account.html")]
pub(super) struct Account<'p> {
    pub(super) form: &'p str,
    pub(super) sign_out_form: &'p str,
    pub(super) user: &'p str,
    pub(super) host: &'p str,
    pub(super) endpoints: &'p [String],
    pub(super) apps: &'p [App],
    pub(super) sessions: &'p [BrowserShown],
    pub(super) can_change_passphrase: bool,
    pub(super) notice: Option<&'p str>,
    pub(super) problem: Option<&'p str>,
}

/// One connected application.
pub(super) struct App {
    pub(super) grant: i64,
    pub(super) name: Option<String>,
    pub(super) host: Option<String>,
    pub(super) redirect_to: String,
    pub(super) resource: String,
    pub(super) scopes: Vec<String>,
    pub(super) connected: String,
    pub(super) last_used: String,
}

impl App {
    /// What a screen reader says of it where the eye sees the place.
    fn label(&self) -> &str {
        self.name.as_deref().or(self.host.as_deref()).unwrap_or(&self.redirect_to)
    }
}

/// One browser in which the user is signed in.
pub(super) struct BrowserShown {
    pub(super) id: i64,
    pub(super) is_this: bool,
    pub(super) signed_in: String,
    pub(super) last_seen: String,
}

/// Something to be told, and perhaps a way on.
#[derive(Template)]
#[template(path = "authserver/message.html")]
pub(super) struct Message<'p> {
    pub(super) title: &'p str,
    pub(super) text: &'p str,
    pub(super) hint: Option<&'p str>,
    pub(super) back: Option<(&'p str, &'p str)>,
}

/// After signing out.
#[derive(Template)]
#[template(path = "authserver/signed_out.html")]
pub(super) struct SignedOut<'p> {
    pub(super) sign_in_url: &'p str,
}

//! How a program asks its user to sign in, and renews what came of it: the parts of this module put
//! together.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use crate::login::{
    browser::BrowserMode,
    challenge::Challenge,
    device,
    discovery::{DiscoveryError, Target},
    fetch::{FetchError, Fetcher, FetcherOptions},
    flow::{self, SignIn},
    prompt::{Asked, Prompt},
    record::Record,
    registration::ClientOptions,
    session::{Refresh, RefreshError, RefreshFuture},
    tokens,
};

/// Where and how the user is asked.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The program, as its messages begin.
    pub program: &'static str,
    /// Where.
    pub target: Target,
    /// As whom.
    pub client: ClientOptions,
    /// The scopes that the user named; see [`SignIn::scopes`].
    pub scopes: Vec<String>,
    /// With what.
    pub way: Way,
    /// See [`SignIn::legacy`].
    pub legacy: bool,
    /// How the authorization server is reached.
    pub fetcher: FetcherOptions,
    /// How long the user has; [`flow::DEADLINE`] is a good choice.
    pub deadline: Duration,
}

/// Where the user consents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In a browser on this machine.
    Browser(BrowserMode),
    /// In any browser, where a code is entered (RFC 8628).
    Device,
}

/// Why nobody signed in.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// What was given is no place to sign in.
    #[error(transparent)]
    Target(#[from] DiscoveryError),
    /// Nobody can be reached from this machine.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The sign-in itself.
    #[error(transparent)]
    SignIn(#[from] flow::SignInError),
}

impl Asking {
    /// Has the user sign in; what they have to know and do is written to stderr.
    ///
    /// `known` is the sign-in before this one and `challenge` what the server answered to it, if there
    /// were such.
    ///
    /// # Errors
    /// [`AskError`]; every text says what to do.
    pub async fn ask(&self, known: Option<&Record>, challenge: Option<&Challenge>) -> Result<Record, AskError> {
        let fetcher = Fetcher::new(&self.target.url()?, &self.fetcher)?;
        let show = |prompt: Prompt<'_>| {
            // Whoever closed stderr does not want to know.
            std::io::stderr().write_all(text(self.program, &prompt).as_bytes()).ok();
        };
        let order = SignIn {
            fetcher: &fetcher,
            target: &self.target,
            challenge,
            scopes: &self.scopes,
            client: &self.client,
            known,
            legacy: self.legacy,
            browser: match self.way {
                Way::Browser(mode) => mode,
                Way::Device => BrowserMode::ShowOnly,
            },
            prompt: &show,
            deadline: self.deadline,
        };
        Ok(match self.way {
            Way::Browser(_) => flow::sign_in(order).await?,
            Way::Device => device::sign_in(order).await?,
        })
    }
}

/// Renews tokens at the authorization server that issued them.
#[derive(Clone, Debug)]
pub struct Renewal(pub FetcherOptions);

impl Refresh for Renewal {
    fn refresh<'a>(&'a self, record: &'a Record) -> RefreshFuture<'a> {
        Box::pin(async move {
            let fetcher = Fetcher::for_record(record, &self.0);
            let fetcher = fetcher.map_err(|error| RefreshError::Unavailable(error.to_string()))?;
            tokens::refresh(&fetcher, record).await
        })
    }
}

/// What a terminal shows.
fn text(program: &str, prompt: &Prompt<'_>) -> String {
    match prompt {
        Prompt::Browser { asked, url } => {
            format!("{}Open this URL in a browser on this machine:\n\n  {url}\n\n", introduction(program, asked))
        }
        Prompt::NoBrowser { reason } => {
            format!("{program}: no browser was opened ({reason}); waiting for you to open the URL\n")
        }
        Prompt::Device { asked, url, url_with_code, code } => {
            let mut text = introduction(program, asked);
            let _ = write!(text, "On any device open\n\n  {url}\n\nand enter the code\n\n  {code}\n\n");
            if let Some(url) = url_with_code {
                let _ = write!(text, "or open this URL, and compare the code:\n\n  {url}\n\n");
            }
            text
        }
    }
}

fn introduction(program: &str, asked: &Asked) -> String {
    let mut text = format!("{program}: please sign in\n");
    let scopes = asked.scopes.join(" ");
    let lines = [
        ("server", asked.server.as_deref()),
        ("at", Some(asked.issuer.as_str())),
        ("as", Some(asked.client_id.as_str())),
        ("scopes", Some(scopes.as_str()).filter(|scopes| !scopes.is_empty())),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name:<7} {value}");
        }
    }
    for note in &asked.notes {
        let _ = writeln!(text, "  note    {note}");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::login::prompt::Note;

    #[test]
    fn who_is_asked_sees_by_whom_for_what_and_what_is_unusual() {
        let asked = Asked {
            server: Some("https://calc.example/mcp".to_owned()),
            resource: Some("https://calc.example/".to_owned()),
            issuer: "https://as.example".to_owned(),
            client_id: "c1".to_owned(),
            scopes: vec!["op:add".to_owned(), "op:div".to_owned()],
            notes: vec![Note::NewScopes(vec!["op:div".to_owned()])],
        };
        let url = Url::parse("https://as.example/authorize?state=s").expect("a URL");
        let device = Url::parse("https://as.example/device").expect("a URL");
        let prompts = [
            Prompt::Browser { asked: &asked, url: &url },
            Prompt::NoBrowser { reason: "there is no display" },
            Prompt::Device { asked: &asked, url: &device, url_with_code: None, code: "ABCD-EFGH" },
        ];
        let shown: Vec<String> = prompts.iter().map(|prompt| text("mcp-calculator", prompt)).collect();
        insta::assert_snapshot!(shown.join("----\n"));
    }
}

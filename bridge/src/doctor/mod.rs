//! `doctor`: why a client does not connect to a server, found out from outside.
//!
//! It walks the way of a real client, step by step, against anybody's server, and says of each step
//! what was asked, what came back, which clients that hurts, and what to change. What is asked is in
//! `walk`, what an answer means in `judge`, which is pure.
//!
//! Everything that a server says is hostile: it is bounded, shortened, and shown with escapes for what
//! cannot be seen. A token goes to the origin that the user typed and nowhere else.

mod address;
mod challenge;
mod checks;
mod fetch;
mod guard;
mod in_browser;
mod judge;
pub mod report;
mod request;
mod text;
mod tls;
mod walk;
mod walls;
mod words;

use std::{
    ffi::OsString,
    fs::File,
    future::Future,
    io::{self, Read as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use mcp_calculator::secret::Secret;
use url::Url;

use self::{fetch::Http, report::Report, walk::Walk};
pub use self::{in_browser::InBrowser, text::Style};

/// What a whole run may take, sign-in apart. The slowest honest server is done in half of that.
const RUN_MAX: Duration = Duration::from_secs(60);

const TOKEN_VARIABLE: &str = "MCP_BRIDGE_TOKEN";
const TOKEN_FILE_VARIABLE: &str = "MCP_BRIDGE_TOKEN_FILE";

/// Servers refuse longer headers.
const TOKEN_FILE_MAX: u64 = 64 * 1024;

/// What is to be examined, and how far.
pub struct Options {
    /// The URL, byte for byte as the user types it into a client.
    pub url: String,
    /// A token for what only users get to see.
    pub token: Option<Secret<String>>,
    /// Signs in where there is no token.
    pub sign_in: Option<Arc<dyn SignIn>>,
    /// Registers clients, to see whether their redirect URIs are accepted.
    pub register: bool,
}

/// Gets a token as a client does: with a person at a browser.
///
/// It stands apart from the rest because it waits for a person and keeps secrets.
pub trait SignIn: Send + Sync {
    /// Signs in at `server`, and gives the access token.
    ///
    /// # Errors
    /// A text for people: which step failed, why, and what to do.
    fn sign_in<'a>(
        &'a self,
        server: &'a Url,
    ) -> Pin<Box<dyn Future<Output = Result<Secret<String>, String>> + Send + 'a>>;
}

/// Why nothing could be examined.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// What was typed is no URL of a server.
    #[error("`{url}` is not the URL of an MCP server: {why}; give one like https://mcp.example.com/mcp")]
    Url {
        /// What was typed, fit to be shown.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The token cannot be had.
    #[error("cannot read a token from {from}: {why}")]
    Token {
        /// Where it should be.
        from: String,
        /// Why not. Never a part of the token.
        why: String,
    },
    /// The secret of a registered client.
    #[error("{0}")]
    Secret(String),
    /// The asynchronous runtime.
    #[error("cannot start the asynchronous runtime")]
    Runtime(#[source] io::Error),
    /// The machine cannot make HTTPS connections at all.
    #[error("cannot set up TLS on this machine; install its CA certificates (Debian: ca-certificates)")]
    Tls(#[source] reqwest::Error),
}

impl DoctorError {
    /// Whether other flags would help, and trying again would not.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Url { .. } | Self::Token { .. } | Self::Secret(_))
    }
}

/// A user's token: from `file`, else from MCP_BRIDGE_TOKEN or the file that MCP_BRIDGE_TOKEN_FILE names.
///
/// # Errors
/// [`DoctorError::Token`] if it cannot be read, is empty, or has what no token has.
pub fn token(
    file: Option<&Path>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Secret<String>>, DoctorError> {
    let (from, text) = match (file.map(Path::to_owned), variable(TOKEN_VARIABLE)) {
        (None, Some(value)) => {
            (TOKEN_VARIABLE.to_owned(), value.into_string().map_err(|_| "it is not UTF-8".to_owned()))
        }
        (file, _) => {
            let named = variable(TOKEN_FILE_VARIABLE).map(PathBuf::from);
            let Some(path) = file.or(named) else { return Ok(None) };
            (words::quoted(&path.to_string_lossy()), read(&path).map_err(|error| error.to_string()))
        }
    };
    let refuse = |why: &str| DoctorError::Token { from: from.clone(), why: why.to_owned() };
    let text = Secret::new(text.map_err(|why| refuse(&why))?);
    let token = text.expose().trim();
    // RFC 6750 §2.1, b64token; anything else would be another header, or another scheme.
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(belongs) {
        return Err(refuse("it is empty, or holds more than a token (leave out \"Bearer\")"));
    }
    Ok(Some(Secret::new(token.to_owned())))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(TOKEN_FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Whether the locale says that signs beyond ASCII can be shown.
pub fn is_utf8(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    // The console of Windows takes Unicode, whatever its code page.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable);
    cfg!(windows)
        || locale.is_some_and(|locale| {
            let locale = locale.to_string_lossy().to_ascii_uppercase();
            locale.contains("UTF-8") || locale.contains("UTF8")
        })
}

/// Examines a server.
///
/// Takes at most a minute, and as long as the person takes who signs in. Cancel-safe.
///
/// # Errors
/// [`DoctorError`]. What is wrong with the server is in the report.
pub async fn examine(options: Options) -> Result<Report, DoctorError> {
    let url = parse(&options.url)?;
    let http = Http::new(&url, options.token.as_ref()).await.map_err(DoctorError::Tls)?;
    Ok(Walk::new(options, url, http).run(RUN_MAX).await)
}

/// The typed text as a URL that HTTP can be spoken to.
fn parse(typed: &str) -> Result<Url, DoctorError> {
    let refuse = |why: &str| DoctorError::Url { url: words::shown(typed), why: why.to_owned() };
    let url = Url::parse(typed).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("its scheme is not https"));
    }
    // It would end up in what is printed.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(DoctorError::Url {
            url: format!("{}://…", url.scheme()),
            why: "it holds a user name or password".to_owned(),
        });
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for (typed, expected) in [
            ("mcp.example.com", "relative URL"),
            ("ftp://mcp.example.com/", "scheme is not https"),
            ("https://", "empty host"),
            ("https://user:canary@mcp.example.com/mcp", "user name or password"),
        ] {
            let error = parse(typed).expect_err(typed).to_string();
            assert!(error.contains(expected) && !error.contains("canary"), "{error}");
        }
        assert!(parse("https://mcp.example.com/mcp").is_ok());
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        let with = |value: &'static str| token(None, move |name| (name == TOKEN_VARIABLE).then(|| value.into()));
        for bad in ["", " \n", "Bearer canary", "canary\r\nHost: evil", "canary\u{e9}"] {
            let error = with(bad).expect_err(bad).to_string();
            assert!(error.contains(TOKEN_VARIABLE) && !error.contains("canary"), "{error}");
        }
        assert_eq!(with("a.b-c_d~e+f/g=\n").expect("a token").expect("one").expose(), "a.b-c_d~e+f/g=");
        assert!(token(None, |_| None).expect("no token is fine").is_none());
        assert!(token(Some(Path::new("/nowhere/token")), |_| None).is_err());
    }
}

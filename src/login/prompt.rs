//! What the user is told while signing in. Who shows it is up to the program.

use std::fmt;

use url::Url;

/// Something to show; the texts in it that come from elsewhere are safe for a terminal.
#[derive(Clone, Debug)]
pub enum Prompt<'a> {
    /// The user is asked to consent at `url`; a browser is opened there next, unless that was not wanted.
    Browser {
        /// What is asked for.
        asked: &'a Asked,
        /// Where; it holds no secret that would be worth anything to others.
        url: &'a Url,
    },
    /// No browser could be opened. The sign-in still waits for the user to open the URL.
    NoBrowser {
        /// Why.
        reason: &'a str,
    },
    /// The user is asked to enter `code` at `url`, on any machine.
    Device {
        /// What is asked for.
        asked: &'a Asked,
        /// Where.
        url: &'a Url,
        /// The same with the code in it, where the server has that.
        url_with_code: Option<&'a Url>,
        /// What to enter.
        code: &'a str,
    },
}

/// What the user's consent is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The server that is to be used, as the user wrote it.
    pub server: Option<String>,
    /// What the token will open.
    pub resource: Option<String>,
    /// Who asks.
    pub issuer: String,
    /// As whom we ask.
    pub client_id: String,
    /// Which scopes.
    pub scopes: Vec<String>,
    /// What is out of the ordinary.
    pub notes: Vec<Note>,
}

/// What a careful user would want to know before consenting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// An endpoint is not where its issuer is.
    OtherSite {
        /// What it is for.
        endpoint: &'static str,
        /// Where it is.
        host: String,
        /// Where the issuer is.
        issuer: String,
    },
    /// The token will open more than the server that the user named.
    WiderResource {
        /// What it opens.
        resource: String,
        /// What was named.
        server: String,
    },
    /// Scopes that were not granted at the sign-in before this one.
    NewScopes(Vec<String>),
    /// Scopes that the server asks for without listing them in its metadata.
    UnlistedScopes(Vec<String>),
    /// The authorization server is not the one of the sign-in before this one.
    OtherIssuer {
        /// The one before.
        before: String,
    },
    /// The server has no protected resource metadata; its own origin is taken for the issuer.
    NoResourceMetadata,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherSite { endpoint, host, issuer } => {
                write!(f, "the {endpoint} is at {}, which is not a site of {}", plain(host), plain(issuer))
            }
            Self::WiderResource { resource, server } => {
                write!(f, "the token will open all of {}, not only {}", plain(resource), plain(server))
            }
            Self::NewScopes(scopes) => write!(f, "not granted before: {}", plain(&scopes.join(" "))),
            Self::UnlistedScopes(scopes) => {
                write!(f, "asked for without being listed by the server: {}", plain(&scopes.join(" ")))
            }
            Self::OtherIssuer { before } => write!(f, "the last sign-in here was at {}", plain(before)),
            Self::NoResourceMetadata => {
                f.write_str("the server does not say who issues its tokens; it is taken to do so itself")
            }
        }
    }
}

/// `text` as it may stand in a terminal or a log: one line, without control characters and without
/// those that change the direction or width of what is around them, and not long.
pub fn plain(text: &str) -> String {
    let mut shown: String = text.chars().map(|c| if is_harmless(c) { c } else { ' ' }).take(PLAIN_MAX).collect();
    if text.chars().nth(PLAIN_MAX).is_some() {
        shown.push('…');
    }
    shown.trim().to_owned()
}

/// A description is a sentence or two; a URL may be long.
const PLAIN_MAX: usize = 500;

fn is_harmless(c: char) -> bool {
    let invisible = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_text_cannot_drive_the_terminal() {
        for (text, expected) in [
            ("access denied", "access denied"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}gone", "[2J ]0;title gone"),
            ("a\r\nb\tc", "a  b c"),
            ("\u{9b}31mred", "31mred"),
            ("\u{202e}drowssap", "drowssap"),
            ("zero\u{200b}width\u{feff}", "zero width"),
            ("ünïcode 計算", "ünïcode 計算"),
        ] {
            assert_eq!(plain(text), expected);
        }
        assert_eq!(plain(&"x".repeat(10_000)).chars().count(), PLAIN_MAX + 1);
    }
}

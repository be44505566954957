//! The one cookie: who is at the browser.

use http::{HeaderMap, HeaderValue, header::COOKIE};
use mcp_calculator::secret::Secret;

use crate::authserver::opaque::{self, Purpose};

/// How the cookie is called and set here.
pub(super) struct CookieName {
    name: String,
    attributes: &'static str,
}

impl CookieName {
    /// The cookie of the server at `origin`. On loopback, where cookies know no ports, the name has
    /// the port: two bridges on one machine must not sign each other's users out.
    pub(super) fn of(origin: &str) -> Self {
        match origin.strip_prefix("https://") {
            Some(_) => {
                Self { name: "__Host-mcp-bridge".into(), attributes: "; Path=/; Secure; HttpOnly; SameSite=Lax" }
            }
            None => {
                let port = origin.rsplit(':').next().filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
                let name = format!("mcp-bridge-{}", port.unwrap_or("80"));
                Self { name, attributes: "; Path=/; HttpOnly; SameSite=Lax" }
            }
        }
    }

    /// The browser's cookie; `None` where there is none of ours, or more than one.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<Secret<String>> {
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut own = pairs.filter(|(name, _)| *name == self.name).map(|(_, value)| value);
        let value = own.next()?;
        (own.next().is_none() && Purpose::Session.fits(value)).then(|| Secret::new(value.to_owned()))
    }

    /// A new cookie, and the header that sets it.
    pub(super) fn fresh(&self) -> (Secret<String>, HeaderValue) {
        let secret = opaque::new(Purpose::Session);
        let header = self.header(secret.expose(), "");
        (secret, header)
    }

    /// The header that takes the cookie away.
    pub(super) fn removal(&self) -> HeaderValue {
        self.header("", "; Max-Age=0")
    }

    fn header(&self, value: &str, more: &str) -> HeaderValue {
        let text = format!("{}={value}{}{more}", self.name, self.attributes);
        let mut header = HeaderValue::try_from(text).expect("name and value are plain ASCII");
        header.set_sensitive(true);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_read_as_it_was_set_and_only_if_there_is_one() {
        let https = CookieName::of("https://mcp.example.com");
        let http = CookieName::of("http://127.0.0.1:8808");
        let (secret, header) = https.fresh();
        let set = header.to_str().expect("text");
        assert!(header.is_sensitive() && set.starts_with("__Host-mcp-bridge=mcpb_session_"));
        assert!(set.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{set}");
        let (_, plain) = http.fresh();
        assert!(plain.to_str().expect("text").starts_with("mcp-bridge-8808="));
        assert!(http.removal().to_str().expect("text").contains("mcp-bridge-8808=;"));

        let pair = set.split(';').next().expect("a pair");
        let read = |name: &CookieName, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, line.parse().expect("valid"));
            }
            name.read(&headers).map(|secret| secret.expose().clone())
        };
        assert_eq!(read(&https, &[&format!("a=b; {pair}")]).as_ref(), Some(secret.expose()));
        assert_eq!(read(&https, &["a=b", pair]).as_ref(), Some(secret.expose()));
        assert_eq!(read(&http, &[pair]), None);
        assert_eq!(read(&https, &[pair, pair]), None, "somebody has put one beside it");
        assert_eq!(read(&https, &["__Host-mcp-bridge=x"]), None);
    }
}

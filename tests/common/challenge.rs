//! `WWW-Authenticate`, read as strictly as the strictest client reads it.

use super::http::Response;

/// A Bearer challenge (RFC 6750 §3) with its attributes in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge(Vec<(String, String)>);

impl Challenge {
    /// The challenge of `response`.
    ///
    /// # Panics
    /// Unless there is one field with one Bearer challenge, each attribute once, each value a
    /// quoted string that needs no escapes.
    pub(crate) fn of(response: &Response) -> Self {
        let value = response.header("WWW-Authenticate").unwrap_or_else(|| panic!("no challenge: {response:?}"));
        let mut rest = value.strip_prefix("Bearer ").unwrap_or_else(|| panic!("not a Bearer challenge: {value}"));
        let mut attributes: Vec<(String, String)> = Vec::new();
        loop {
            let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("not name=\"…\": {value}"));
            assert!(
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "attribute name {name:?}: {value}"
            );
            let (text, after) = after.split_once('"').unwrap_or_else(|| panic!("unterminated: {value}"));
            let plain = |byte: u8| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
            assert!(text.bytes().all(plain), "{name} would need escapes: {value}");
            assert!(attributes.iter().all(|(known, _)| known != name), "{name} twice: {value}");
            attributes.push((name.to_owned(), text.to_owned()));
            if after.is_empty() {
                return Self(attributes);
            }
            rest = after.strip_prefix(", ").unwrap_or_else(|| panic!("`, ` expected: {value}"));
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// The attributes' names, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

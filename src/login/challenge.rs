//! What a server says when it refuses a request: `WWW-Authenticate` (RFC 9110 §11.6.1, RFC 6750 §3,
//! RFC 9728 §5.1).

use http_auth::{ChallengeParser, ChallengeRef};

/// A server's `Bearer` challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// Why the token did not do, such as `invalid_token` or `insufficient_scope`.
    pub error: Option<String>,
    /// The scopes that the request needs.
    pub scopes: Option<Vec<String>>,
    /// Where the protected resource metadata is, as it was written.
    pub resource_metadata: Option<String>,
    /// RFC 9110 §11.5; nothing is decided by it.
    pub realm: Option<String>,
}

impl Challenge {
    /// Reads the values of all `WWW-Authenticate` fields of one answer.
    ///
    /// Each may hold several challenges. Among those of the scheme `Bearer` the first that names its
    /// metadata counts, else the first. What follows a syntax error is ignored.
    pub fn read<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Option<Self> {
        let mut first = None;
        for value in values {
            let ascii = readable(value.as_ref());
            for challenge in ChallengeParser::new(&ascii).map_while(Result::ok) {
                if !challenge.scheme.eq_ignore_ascii_case("Bearer") {
                    continue;
                }
                let bearer = Self::from_parsed(&challenge);
                if bearer.resource_metadata.is_some() {
                    return Some(bearer);
                }
                first.get_or_insert(bearer);
            }
        }
        first
    }

    /// Whether the token is good, but opens too little.
    pub fn asks_for_more(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }

    fn from_parsed(challenge: &ChallengeRef<'_>) -> Self {
        let value = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        Self {
            error: value("error"),
            scopes: value("scope").map(|scopes| scope_tokens(&scopes)).filter(|scopes| !scopes.is_empty()),
            resource_metadata: value("resource_metadata"),
            realm: value("realm"),
        }
    }
}

/// The scope tokens in `text` (RFC 6749 §3.3), each once; what cannot be one is left out.
pub(crate) fn scope_tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for token in text.split(' ').filter(|token| is_scope_token(token)) {
        if tokens.len() < SCOPES_MAX && !tokens.iter().any(|known| known == token) {
            tokens.push(token.to_owned());
        }
    }
    tokens
}

/// Whether `text` can be one scope (RFC 6749 §3.3).
#[must_use]
pub fn is_scope_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// More than any consent page could show.
const SCOPES_MAX: usize = 100;

/// Descriptions may hold any bytes; one that is not ASCII must not hide the parameters around it.
///
/// The tab in its place is allowed in a quoted string, and neither in a scope nor in a URL.
fn readable(value: &[u8]) -> String {
    value.iter().map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '\t' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], expected: Option<(Option<&str>, Option<&str>, Option<&str>)>) {
        let read = Challenge::read(values);
        let seen = read.as_ref().map(|challenge| {
            let scopes = challenge.scopes.as_ref().map(|scopes| scopes.join(" "));
            (challenge.error.clone(), scopes, challenge.resource_metadata.clone())
        });
        let expected = expected.map(|(error, scopes, metadata)| {
            (error.map(str::to_owned), scopes.map(str::to_owned), metadata.map(str::to_owned))
        });
        assert_eq!(seen, expected, "{values:?}");
    }

    #[test]
    fn challenges_are_found_among_others() {
        const PRM: &str = "https://a.example/.well-known/oauth-protected-resource";
        let bearer = format!("Bearer realm=\"a, Basic b\", resource_metadata=\"{PRM}\",  scope=\"x y\"");
        check(&[&bearer], Some((None, Some("x y"), Some(PRM))));
        check(&["Basic realm=\"x\"", &bearer], Some((None, Some("x y"), Some(PRM))));
        check(&[&format!("Basic realm=\"x\", {bearer}, DPoP algs=\"ES256\"")], Some((None, Some("x y"), Some(PRM))));
        check(&["Bearer error=\"invalid_token\"", &bearer], Some((None, Some("x y"), Some(PRM))));
        check(
            &["bearer error=insufficient_scope, scope=\"a:b\""],
            Some((Some("insufficient_scope"), Some("a:b"), None)),
        );
        check(&["Bearer"], Some((None, None, None)));
        check(&["Bearer scope=\"\""], Some((None, None, None)));
        check(&["Bearer scope=\"a  a b \""], Some((None, Some("a b"), None)));
        check(&[], None);
        check(&["Basic realm=\"Bearer scope=x\""], None);
        check(&["DPoP resource_metadata=\"https://evil.example/\""], None);
    }

    #[test]
    fn what_is_broken_hides_nothing_before_it() {
        check(&["Bearer error=\"invalid_token\", Basic realm=\"unclosed"], Some((Some("invalid_token"), None, None)));
        check(&["Bearer error_description=\"é\u{1b}[31m\", scope=\"a\""], Some((None, Some("a"), None)));
        check(&["Bearer scope=\"a \u{7f}b c\\\"d\""], Some((None, Some("a"), None)));
        check(&["\"", "Bearer scope=a"], Some((None, Some("a"), None)));
    }

    #[test]
    fn a_challenge_cannot_ask_for_endless_scopes() {
        let many: Vec<String> = (0..1000).map(|number| format!("s{number}")).collect();
        assert_eq!(scope_tokens(&many.join(" ")).len(), SCOPES_MAX);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(values in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..200), 0..4)) {
            let _ = Challenge::read(&values);
        }
    }
}

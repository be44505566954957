//! `WWW-Authenticate` as clients read it.

use http::{HeaderMap, header::WWW_AUTHENTICATE};

/// The Bearer challenge of an answer (RFC 6750 §3, RFC 9728 §5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) resource_metadata: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) error: Option<String>,
    pub(super) error_description: Option<String>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoChallenge {
    /// There is no such field.
    Missing,
    /// There are challenges, for these schemes only.
    Schemes(Vec<String>),
    /// The field is not a list of challenges.
    Malformed(String),
}

impl Challenge {
    /// The first Bearer challenge in `headers`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, NoChallenge> {
        let fields = headers.get_all(WWW_AUTHENTICATE);
        let mut schemes = Vec::new();
        for field in fields {
            let text = String::from_utf8_lossy(field.as_bytes());
            // The parser knows no challenge without parameters at the end of a field.
            if text.trim().eq_ignore_ascii_case("bearer") {
                return Ok(Self::default());
            }
            let challenges =
                http_auth::parse_challenges(&text).map_err(|_| NoChallenge::Malformed(text.clone().into_owned()))?;
            for challenge in challenges {
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    return Ok(Self::from_params(&challenge.params));
                }
                schemes.push(challenge.scheme.to_owned());
            }
        }
        Err(if schemes.is_empty() { NoChallenge::Missing } else { NoChallenge::Schemes(schemes) })
    }

    fn from_params(params: &[(&str, http_auth::ParamValue<'_>)]) -> Self {
        let get = |wanted: &str| {
            let found = params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_unescaped())
        };
        Self {
            resource_metadata: get("resource_metadata"),
            scope: get("scope"),
            error: get("error"),
            error_description: get("error_description"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let text = |text: &str| Some(text.to_owned());
        for (fields, expected) in [
            (&[][..], Err(NoChallenge::Missing)),
            (&["Bearer"], Ok(Challenge::default())),
            (&["Basic realm=\"x\""], Err(NoChallenge::Schemes(vec!["Basic".to_owned()]))),
            (
                &["Basic realm=\"x\"", "bearer Scope=\"a b\", resource_metadata=\"https://h/x\""],
                Ok(Challenge { scope: text("a b"), resource_metadata: text("https://h/x"), ..Challenge::default() }),
            ),
            (
                &["Bearer error=invalid_token, error_description=\"a \\\"b\\\"\""],
                Ok(Challenge {
                    error: text("invalid_token"),
                    error_description: text("a \"b\""),
                    ..Challenge::default()
                }),
            ),
            (
                &["Bearer resource_metadata=\"open"],
                Err(NoChallenge::Malformed("Bearer resource_metadata=\"open".into())),
            ),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(WWW_AUTHENTICATE, field.parse().expect("a field"));
            }
            assert_eq!(Challenge::of(&headers), expected, "{fields:?}");
        }
    }
}

//! What a token endpoint answers (RFC 6749 §5.1), and what of it is remembered.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use oauth2::{
    AccessToken, RefreshToken, Scope, TokenResponse,
    basic::BasicTokenType,
    helpers::{
        deserialize_space_delimited_vec, deserialize_untagged_enum_case_insensitive, serialize_space_delimited_vec,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TokenError;
use crate::{
    login::{
        challenge::is_scope_token,
        prompt::plain,
        record::{Client, Record},
    },
    secret::Secret,
};

/// The answer as it was written. `Debug` shows no token.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Answer {
    access_token: AccessToken,
    #[serde(deserialize_with = "deserialize_untagged_enum_case_insensitive")]
    token_type: BasicTokenType,
    /// A number of seconds, which some servers write as a string, and others get wrong.
    #[serde(default)]
    expires_in: Option<Value>,
    #[serde(default)]
    refresh_token: Option<RefreshToken>,
    #[serde(
        rename = "scope",
        default,
        deserialize_with = "deserialize_space_delimited_vec",
        serialize_with = "serialize_space_delimited_vec"
    )]
    scopes: Option<Vec<Scope>>,
    #[serde(default)]
    id_token: Option<IdToken>,
}

#[derive(Deserialize, Serialize)]
struct IdToken(Value);

impl fmt::Debug for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl TokenResponse for Answer {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in.as_ref().and_then(lifetime)
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        self.scopes.as_ref()
    }
}

/// No access token is worth more trust than this; it is renewed or refused before.
const LIFETIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A lifetime that can be reckoned with. What is negative has ended; what is no number says nothing.
fn lifetime(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    // NaN, which no JSON number is but a string may be, has no lifetime either.
    let bounded = seconds.clamp(0.0, LIFETIME_MAX.as_secs_f64());
    Duration::try_from_secs_f64(bounded).ok()
}

/// A token that can be used, and what was said about it.
pub(crate) struct Granted {
    access_token: Secret<String>,
    refresh_token: Option<Secret<String>>,
    scopes: Option<Vec<String>>,
    expires_at: Option<SystemTime>,
    id_token: Option<String>,
}

/// What was asked for, and of whom.
pub(crate) struct Grant<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) resource: Option<&'a str>,
    pub(crate) client: &'a Client,
    pub(crate) token_endpoint: &'a url::Url,
    pub(crate) revocation_endpoint: Option<&'a url::Url>,
    pub(crate) scopes: &'a [String],
}

impl Answer {
    /// Checks the answer to a request that was sent at `now`.
    pub(crate) fn granted(self, now: SystemTime) -> Result<Granted, TokenError> {
        let unusable = |why: &str| TokenError::Unusable(why.to_owned());
        if self.token_type != BasicTokenType::Bearer {
            let kind = plain(self.token_type.as_ref());
            return Err(TokenError::Unusable(format!("its tokens are of type {kind}, and only Bearer is supported")));
        }
        let access_token = self.access_token.secret();
        // It goes into a header as it is.
        if access_token.is_empty() || !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("its access token is not one for a header"));
        }
        let expires_at = self.expires_in().and_then(|lifetime| now.checked_add(lifetime));
        let scopes = self.scopes.as_ref().map(|scopes| {
            let scopes = scopes.iter().map(|scope| scope.as_str());
            scopes.filter(|scope| is_scope_token(scope)).map(str::to_owned).collect()
        });
        let refresh_token = self.refresh_token.filter(|token| !token.secret().is_empty());
        Ok(Granted {
            access_token: Secret::new(self.access_token.into_secret()),
            refresh_token: refresh_token.map(|token| Secret::new(token.into_secret())),
            scopes,
            expires_at,
            id_token: self.id_token.and_then(|IdToken(value)| value.as_str().map(str::to_owned)),
        })
    }
}

impl Granted {
    /// The record of a first grant.
    pub(crate) fn record(self, grant: &Grant<'_>) -> Record {
        let person = self.id_token.as_deref().and_then(|token| Person::claimed(token, grant)).unwrap_or_default();
        Record {
            issuer: grant.issuer.to_owned(),
            resource: grant.resource.map(str::to_owned),
            client: grant.client.clone(),
            token_endpoint: grant.token_endpoint.clone(),
            revocation_endpoint: grant.revocation_endpoint.cloned(),
            // RFC 6749 §5.1: left out when it is what was asked for.
            scopes: self.scopes.unwrap_or_else(|| grant.scopes.to_vec()),
            subject: person.subject,
            email: person.email,
            access_token: self.access_token,
            refresh_token: self.refresh_token,
            expires_at: self.expires_at,
        }
    }

    /// `record` after a renewal.
    pub(crate) fn renew(self, record: &Record) -> Record {
        Record {
            scopes: self.scopes.unwrap_or_else(|| record.scopes.clone()),
            access_token: self.access_token,
            refresh_token: self.refresh_token.or_else(|| record.refresh_token.clone()),
            expires_at: self.expires_at,
            ..record.clone()
        }
    }
}

/// Whom the ID token names, to be shown to that person and for nothing else: its signature is not
/// checked. It came from the token endpoint itself (OpenID Connect Core §3.1.3.7).
#[derive(Debug, Default, PartialEq, Eq)]
struct Person {
    subject: Option<String>,
    email: Option<String>,
}

impl Person {
    fn claimed(id_token: &str, grant: &Grant<'_>) -> Option<Self> {
        let payload = id_token.split('.').nth(1)?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let client = Value::from(grant.client.id.as_str());
        let for_us = claims["aud"] == client || claims["aud"].as_array().is_some_and(|list| list.contains(&client));
        if claims["iss"] != grant.issuer || !for_us {
            return None;
        }
        let text = |name: &str| claims[name].as_str().map(plain).filter(|text| !text.is_empty());
        Some(Self { subject: text("sub"), email: text("email") })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn granted(change: Value) -> Result<Granted, String> {
        let mut answer = json!({ "access_token": "at", "token_type": "Bearer" });
        answer.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let answer: Answer = serde_json::from_value(answer).map_err(|error| error.to_string())?;
        answer.granted(NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn any_lifetime_is_bounded() {
        const YEAR: u64 = 365 * 24 * 60 * 60;
        for (expires_in, expected) in [
            (json!(3600), Some(3600)),
            (json!("3600"), Some(3600)),
            (json!(3600.9), Some(3600)),
            (json!(0), Some(0)),
            (json!(-1), Some(0)),
            (json!(i64::MIN), Some(0)),
            (json!(u64::MAX), Some(YEAR)),
            (json!(1e300), Some(YEAR)),
            (json!("inf"), Some(YEAR)),
            (json!("nan"), None),
            (json!("soon"), None),
            (json!(null), None),
            (json!({ "seconds": 3600 }), None),
            (json!(true), None),
        ] {
            let granted = granted(json!({ "expires_in": expires_in })).expect("a token");
            let seconds = granted.expires_at.map(|at| at.duration_since(NOW).expect("later").as_secs());
            assert_eq!(seconds, expected, "{expires_in}");
        }
        assert_eq!(granted(json!({})).expect("a token").expires_at, None);
    }

    #[test]
    fn token_that_is_not_a_bearer_token_is_refused() {
        for token_type in ["Bearer", "bearer", "BEARER"] {
            granted(json!({ "token_type": token_type })).expect(token_type);
        }
        for token_type in [json!("DPoP"), json!("mac"), json!("N_A"), json!(""), json!(null), json!(1)] {
            assert!(granted(json!({ "token_type": token_type })).is_err(), "{token_type}");
        }
        let escape = granted(json!({ "token_type": "\u{1b}[31m" })).err().expect("refused");
        assert!(!escape.contains('\u{1b}'), "{escape}");
    }

    #[test]
    fn token_that_would_forge_a_header_is_refused() {
        for token in ["", "a b", "a\r\nX-Evil: 1", "a\u{e9}"] {
            assert!(granted(json!({ "access_token": token })).is_err(), "{token:?}");
        }
    }

    #[test]
    fn debug_of_an_answer_shows_no_token() {
        let answer = json!({ "access_token": "canary-a", "token_type": "Bearer", "refresh_token": "canary-b", "id_token": "canary-c" });
        let answer: Answer = serde_json::from_value(answer).expect("an answer");
        assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
    }

    #[test]
    fn id_token_of_somebody_else_names_nobody() {
        let client = Client { id: "client".to_owned(), secret: None, secret_in_form: false, redirect_uri: None };
        let endpoint = "https://a.example/token".parse().expect("a URL");
        let issuer = "https://a.example";
        let grant = Grant {
            issuer,
            resource: None,
            client: &client,
            token_endpoint: &endpoint,
            revocation_endpoint: None,
            scopes: &[],
        };
        let token = |claims: Value| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let person = |claims: Value| Person::claimed(&token(claims), &grant);
        let alice = Person { subject: Some("alice".to_owned()), email: Some("a@b.example [31m".to_owned()) };
        let claims = json!({ "iss": issuer, "aud": ["x", "client"], "sub": "alice", "email": "a@b.example\u{1b}[31m" });
        assert_eq!(person(claims), Some(alice));
        assert_eq!(person(json!({ "iss": "https://a.example/", "aud": "client", "sub": "alice" })), None);
        assert_eq!(person(json!({ "iss": issuer, "aud": "other", "sub": "alice" })), None);
        for text in ["", "a.b", "a.e30", "..", "a.e30.b"] {
            assert_eq!(Person::claimed(text, &grant), None, "{text}");
        }
    }
}

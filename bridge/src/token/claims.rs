//! What the authorization server says of a token, and whether that makes it good here.
//!
//! Introspection answers (RFC 7662 §2.2) and JWT access tokens (RFC 9068 §2.2) name the same
//! things, so one reader and one judge serve both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;

use super::{Audiences, Inactive, Issuer, VerifiedToken};
use crate::scope::ScopeSet;

/// The members that decide something, as they were written. JSON `null` counts as absent.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Claims {
    active: Option<Value>,
    iss: Option<Value>,
    aud: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    sub: Option<Value>,
    client_id: Option<Value>,
    scope: Option<Value>,
    token_type: Option<Value>,
    cnf: Option<Value>,
    email: Option<Value>,
    email_verified: Option<Value>,
    username: Option<Value>,
}

impl Claims {
    /// Reads a JSON object. A member of ours that occurs twice is an error: two readers could
    /// take different ones.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        // serde would also read an array, taking its elements for members by their order.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        serde_json::from_slice(json).ok()
    }

    /// `active`, if it is there and a boolean.
    pub(super) fn active(&self) -> Option<bool> {
        self.active.as_ref().and_then(Value::as_bool)
    }
}

/// What a token must be for us to accept it.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) issuer: Issuer,
    pub(super) audiences: Audiences,
    pub(super) require_iss: bool,
    pub(super) require_exp: bool,
    /// How far our clock may be behind the issuer's before a fresh token seems not valid yet.
    /// There is none for `exp`: a token that ends a moment early is refreshed, nothing is lost.
    pub(super) nbf_leeway: Duration,
}

/// Why claims were not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Inactive(Inactive),
    /// A member has a type that the specification does not allow, and guessing its meaning could
    /// let somebody in or make two people one.
    Malformed(&'static str),
}

impl From<Inactive> for Refusal {
    fn from(inactive: Inactive) -> Self {
        Self::Inactive(inactive)
    }
}

impl Rules {
    /// Judges `claims` as of `now`. `active` is the caller's to check.
    pub(super) fn judge(&self, claims: &Claims, now: SystemTime) -> Result<VerifiedToken, Refusal> {
        if claims.cnf.is_some() {
            return Err(Inactive::NotBearer.into());
        }
        match &claims.token_type {
            None => {}
            Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => {}
            Some(_) => return Err(Inactive::NotBearer.into()),
        }
        match &claims.iss {
            None if self.require_iss => return Err(Inactive::Issuer.into()),
            None => {}
            Some(Value::String(issuer)) if issuer == self.issuer.as_str() => {}
            Some(_) => return Err(Inactive::Issuer.into()),
        }
        if !self.is_for_us(claims.aud.as_ref()) {
            return Err(Inactive::Audience.into());
        }
        let expires_at = numeric_date(claims.exp.as_ref(), "exp is not a number")?;
        match expires_at {
            None if self.require_exp => return Err(Inactive::NoExpiry.into()),
            Some(end) if end <= now => return Err(Inactive::Expired.into()),
            _ => {}
        }
        if let Some(start) = numeric_date(claims.nbf.as_ref(), "nbf is not a number")?
            && start > now + self.nbf_leeway
        {
            return Err(Inactive::NotYetValid.into());
        }
        let subject = identifier(claims.sub.as_ref(), "sub is not a string")?;
        let client_id = identifier(claims.client_id.as_ref(), "client_id is not a string")?;
        if subject.is_none() && client_id.is_none() {
            return Err(Inactive::NoPrincipal.into());
        }
        Ok(VerifiedToken {
            issuer: self.issuer.clone(),
            subject,
            client_id,
            email: email(claims),
            scopes: scopes(claims.scope.as_ref()),
            expires_at,
        })
    }

    /// An array must hold nothing but strings: what else it means, nobody has written down.
    fn is_for_us(&self, aud: Option<&Value>) -> bool {
        match aud {
            Some(Value::String(audience)) => self.audiences.contains(audience),
            Some(Value::Array(all)) => {
                all.iter().all(Value::is_string)
                    && all.iter().filter_map(Value::as_str).any(|audience| self.audiences.contains(audience))
            }
            _ => false,
        }
    }
}

/// The end of the year 9999. What lies beyond is as good as never, and not every platform's clock
/// can express it.
const LATEST_SECONDS: f64 = 253_402_300_799.0;

/// Reads a `NumericDate` (RFC 7519 §2): seconds since 1970, whole or not. Before 1970 is 1970.
fn numeric_date(value: Option<&Value>, wrong: &'static str) -> Result<Option<SystemTime>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let seconds = value.as_f64().ok_or(Refusal::Malformed(wrong))?;
    Ok(Some(UNIX_EPOCH + Duration::from_secs_f64(seconds.clamp(0.0, LATEST_SECONDS))))
}

/// Reads a name that separates one principal from another. Ignoring one of another type would make
/// everybody who uses the same client the same principal.
fn identifier(value: Option<&Value>, wrong: &'static str) -> Result<Option<String>, Refusal> {
    match value {
        None => Ok(None),
        // Everybody with an empty name would be the same principal, too.
        Some(Value::String(name)) if name.is_empty() => Err(Inactive::NoPrincipal.into()),
        Some(Value::String(name)) => Ok(Some(name.clone())),
        Some(_) => Err(Refusal::Malformed(wrong)),
    }
}

/// `email` unless it is said to be unverified, else a `username` that is an e-mail address.
fn email(claims: &Claims) -> Option<String> {
    if claims.email_verified.as_ref().is_some_and(|verified| *verified != Value::Bool(true)) {
        return None;
    }
    let is_address = |text: &&str| {
        let mut parts = text.split('@');
        let both =
            parts.next().is_some_and(|part| !part.is_empty()) && parts.next().is_some_and(|part| !part.is_empty());
        both && parts.next().is_none() && !text.contains(char::is_whitespace)
    };
    [&claims.email, &claims.username]
        .into_iter()
        .filter_map(|value| value.as_ref().and_then(Value::as_str))
        .find(is_address)
        .map(str::to_owned)
}

/// `scope` is one string; some servers send an array. Anything else grants nothing.
fn scopes(value: Option<&Value>) -> ScopeSet {
    match value {
        Some(Value::String(text)) => ScopeSet::from_peer([text.as_str()]),
        Some(Value::Array(all)) => ScopeSet::from_peer(all.iter().filter_map(Value::as_str)),
        _ => ScopeSet::default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::token::stub::{NOW_SECONDS, RESOURCE, audiences, now};

    const ISSUER: &str = "https://as.example";

    fn rules() -> Rules {
        Rules {
            issuer: Issuer::new(ISSUER),
            audiences: audiences(),
            require_iss: false,
            require_exp: false,
            nbf_leeway: Duration::from_secs(5),
        }
    }

    /// A good answer with some members replaced, or taken away by `null`.
    fn good_but(changes: Value) -> Claims {
        let mut answer = json!({
            "active": true, "aud": RESOURCE, "sub": "user", "client_id": "client",
            "scope": "op:add op:sub", "exp": NOW_SECONDS + 60,
        });
        for (name, value) in changes.as_object().expect("an object") {
            answer[name] = value.clone();
        }
        Claims::parse(answer.to_string().as_bytes()).expect("an object")
    }

    #[test]
    fn verdicts() {
        use Inactive::{Audience, Expired, Issuer, NoPrincipal, NotBearer, NotYetValid};
        let inactive = |why| Some(Refusal::Inactive(why));
        let malformed = |what| Some(Refusal::Malformed(what));
        let second = "urn:second";
        let cases = [
            (json!({}), None),
            (json!({"aud": second}), None),
            (json!({"aud": ["urn:other", RESOURCE]}), None),
            (json!({"aud": null}), inactive(Audience)),
            (json!({"aud": ""}), inactive(Audience)),
            (json!({"aud": []}), inactive(Audience)),
            (json!({"aud": "urn:other"}), inactive(Audience)),
            (json!({"aud": format!("{RESOURCE}/")}), inactive(Audience)),
            (json!({"aud": RESOURCE.to_uppercase()}), inactive(Audience)),
            (json!({"aud": [RESOURCE, 1]}), inactive(Audience)),
            (json!({"aud": [[RESOURCE]]}), inactive(Audience)),
            (json!({"aud": {"0": RESOURCE}}), inactive(Audience)),
            (json!({"aud": true}), inactive(Audience)),
            (json!({"iss": ISSUER}), None),
            (json!({"iss": format!("{ISSUER}/")}), inactive(Issuer)),
            (json!({"iss": ""}), inactive(Issuer)),
            (json!({"iss": [ISSUER]}), inactive(Issuer)),
            (json!({"token_type": "bEaReR"}), None),
            (json!({"token_type": "DPoP"}), inactive(NotBearer)),
            (json!({"token_type": "access_token"}), inactive(NotBearer)),
            (json!({"token_type": 1}), inactive(NotBearer)),
            (json!({"cnf": {"jkt": "x"}}), inactive(NotBearer)),
            (json!({"cnf": {}}), inactive(NotBearer)),
            (json!({"cnf": false}), inactive(NotBearer)),
            (json!({"exp": null}), None),
            (json!({"exp": NOW_SECONDS}), inactive(Expired)),
            (json!({"exp": NOW_SECONDS + 1}), None),
            (json!({"exp": NOW_SECONDS as f64 + 0.5}), None),
            (json!({"exp": NOW_SECONDS as f64 - 0.5}), inactive(Expired)),
            (json!({"exp": 0}), inactive(Expired)),
            (json!({"exp": -1}), inactive(Expired)),
            (json!({"exp": -1e300}), inactive(Expired)),
            (json!({"exp": 1e300}), None),
            (json!({"exp": u64::MAX}), None),
            (json!({"exp": (NOW_SECONDS + 60).to_string()}), malformed("exp is not a number")),
            (json!({"exp": true}), malformed("exp is not a number")),
            (json!({"nbf": NOW_SECONDS}), None),
            (json!({"nbf": NOW_SECONDS + 5}), None),
            (json!({"nbf": NOW_SECONDS + 6}), inactive(NotYetValid)),
            (json!({"nbf": 1e300}), inactive(NotYetValid)),
            (json!({"nbf": "0"}), malformed("nbf is not a number")),
            (json!({"sub": null}), None),
            (json!({"client_id": null}), None),
            (json!({"sub": null, "client_id": null}), inactive(NoPrincipal)),
            (json!({"sub": "", "client_id": ""}), inactive(NoPrincipal)),
            (json!({"sub": 7}), malformed("sub is not a string")),
            (json!({"client_id": ["client"]}), malformed("client_id is not a string")),
        ];
        for (changes, expected) in cases {
            assert_eq!(rules().judge(&good_but(changes.clone()), now()).err(), expected, "{changes}");
        }
    }

    #[test]
    fn what_settings_require() {
        let strict = Rules { require_exp: true, require_iss: true, ..rules() };
        let check = |changes, expected| assert_eq!(strict.judge(&good_but(changes), now()).err(), expected);
        check(json!({"iss": ISSUER}), None);
        check(json!({"iss": ISSUER, "exp": null}), Some(Refusal::Inactive(Inactive::NoExpiry)));
        check(json!({}), Some(Refusal::Inactive(Inactive::Issuer)));
    }

    #[test]
    fn what_a_token_says() {
        let token = |changes| rules().judge(&good_but(changes), now()).expect("good");
        assert_eq!(token(json!({})).expires_at, Some(now() + Duration::from_secs(60)));
        assert_eq!(token(json!({"exp": null})).expires_at, None);
        assert_eq!(token(json!({})).principal(), "user");
        assert_eq!(token(json!({"sub": null})).principal(), "client");

        let scopes = |scope| token(json!({ "scope": scope })).scopes.to_string();
        assert_eq!(scopes(json!("\top:add  op:div\n")), "op:add op:div");
        assert_eq!(scopes(json!(["op:add", "op:div op:sub", 3])), "op:add op:div op:sub");
        for nothing in [json!(null), json!(""), json!(" "), json!(1), json!({"op:add": true}), json!([])] {
            assert_eq!(scopes(nothing), "");
        }

        let email = |claims| token(claims).email;
        let address = Some("a@b.example".to_owned());
        assert_eq!(email(json!({"email": "a@b.example"})), address);
        assert_eq!(email(json!({"email": "a@b.example", "email_verified": true})), address);
        assert_eq!(email(json!({"email": "a@b.example", "email_verified": false})), None);
        assert_eq!(email(json!({"email": 1, "username": "a@b.example"})), address);
        for nothing in ["", "a", "a@", "@b", "a@b@c", "a @b"] {
            assert_eq!(email(json!({ "username": nothing })), None, "{nothing:?}");
        }
    }

    #[test]
    fn propelauth_answer() {
        let answer = format!(
            r#"{{"active":true,"username":"ada@example.com","scope":"op:add op:sub","sub":"7","aud":"{RESOURCE}",
            "client_id":"c","exp":{},"iat":{NOW_SECONDS}}}"#,
            NOW_SECONDS + 60
        );
        let claims = Claims::parse(answer.as_bytes()).expect("an object");
        let token = rules().judge(&claims, now()).expect("good");
        assert_eq!((token.principal(), token.email.as_deref()), ("7", Some("ada@example.com")));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_malformed() {
        for text in [
            r#"{"active":false,"active":true}"#,
            r#"{"active":true,"aud":"a","aud":"b"}"#,
            r#"{"active":true,"aud":"a","\u0061ud":"b"}"#,
            r#"{"active":true} {}"#,
            r#"{"active":true,"exp":1e400}"#,
            r#"[true]"#,
            r#""active""#,
            "",
        ] {
            assert!(Claims::parse(text.as_bytes()).is_none(), "{text}");
        }
        for text in [r#"{}"#, r#"{"active":null}"#, r#"{"active":"true"}"#, r#"{"active":1}"#, r#"{"Active":true}"#] {
            assert_eq!(Claims::parse(text.as_bytes()).expect(text).active(), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Claims::parse(&bytes);
        }

        #[test]
        fn no_date_panics(exp in any::<f64>(), nbf in any::<i64>()) {
            let _ = rules().judge(&good_but(json!({"exp": exp, "nbf": nbf})), now());
        }
    }
}

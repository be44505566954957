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
        Some(Value::String(name)) if name.is_empty() => Ok(None),
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
        Some(Value::String(text)) => ScopeSet::from_peer(text),
        Some(Value::Array(all)) => {
            let mut set = ScopeSet::default();
            for text in all.iter().filter_map(Value::as_str) {
                set.extend(ScopeSet::from_peer(text).iter().cloned());
            }
            set
        }
        _ => ScopeSet::default(),
    }
}

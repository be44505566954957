//! Tokens that a form carries, so that only our own pages can send it: once, from the browser that
//! was shown it, for what it was shown for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use moka::sync::Cache;
use ring::hmac;

use crate::authserver::opaque;

/// Who leaves a page open for longer gets it anew.
const LIFE: Duration = Duration::from_secs(60 * 60);
/// Forms that were sent within [`LIFE`]; each of them was ours.
const USED_MAX: u64 = 100_000;

const NONCE: usize = 16;
const EXPIRY: usize = 8;
const TAG: usize = 32;

/// Makes and redeems the tokens of one run of the program.
pub(super) struct FormTokens {
    key: hmac::Key,
    used: Cache<[u8; NONCE], ()>,
}

impl FormTokens {
    /// # Panics
    /// When the operating system has no random numbers.
    pub(super) fn new() -> Self {
        Self { key: opaque::hmac_key(), used: Cache::builder().max_capacity(USED_MAX).time_to_live(LIFE * 2).build() }
    }

    /// A token for the form `purpose` on a page for the browser with `cookie`.
    pub(super) fn issue(&self, cookie: &str, purpose: &str, now: SystemTime) -> String {
        let mut token = [0; NONCE + EXPIRY + TAG];
        token[..NONCE].copy_from_slice(&opaque::random::<NONCE>());
        token[NONCE..NONCE + EXPIRY].copy_from_slice(&(seconds(now) + LIFE.as_secs()).to_be_bytes());
        let tag = hmac::sign(&self.key, &covered(&token[..NONCE + EXPIRY], cookie, purpose));
        token[NONCE + EXPIRY..].copy_from_slice(tag.as_ref());
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether `token` is good for that form of that browser, and was not used yet. Now it is.
    pub(super) fn redeem(&self, token: &str, cookie: &str, purpose: &str, now: SystemTime) -> bool {
        let mut bytes = [0; NONCE + EXPIRY + TAG];
        let decoded = BASE64_URL_SAFE_NO_PAD.decode_slice(token, &mut bytes);
        if decoded != Ok(bytes.len()) {
            return false;
        }
        let (head, tag) = bytes.split_at(NONCE + EXPIRY);
        if hmac::verify(&self.key, &covered(head, cookie, purpose), tag).is_err() {
            return false;
        }
        let (nonce, expiry) = head.split_at(NONCE);
        let expiry = expiry.try_into().map_or(0, u64::from_be_bytes);
        let nonce: [u8; NONCE] = nonce.try_into().expect("it was split there");
        seconds(now) < expiry && self.used.entry(nonce).or_insert(()).is_fresh()
    }
}

/// What the tag is about; the lengths keep the parts apart.
fn covered(head: &[u8], cookie: &str, purpose: &str) -> Vec<u8> {
    let mut all = Vec::with_capacity(head.len() + 8 + purpose.len() + cookie.len());
    all.extend_from_slice(head);
    all.extend_from_slice(&(purpose.len() as u64).to_be_bytes());
    all.extend_from_slice(purpose.as_bytes());
    all.extend_from_slice(cookie.as_bytes());
    all
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_accepted_once_from_its_browser_for_its_purpose_and_for_an_hour() {
        let (tokens, now) = (FormTokens::new(), SystemTime::now());
        let token = tokens.issue("cookie", "consent", now);
        let later = now + Duration::from_secs(3599);
        assert!(!tokens.redeem(&token, "other", "consent", now), "another browser");
        assert!(!tokens.redeem(&token, "cookie", "sign-in", now), "another form");
        assert!(!tokens.redeem(&token, "ecookie", "consent"[..6].as_ref(), now), "parts moved");
        assert!(!tokens.redeem(&token, "cookie", "consent", now + LIFE), "too late");
        assert!(!FormTokens::new().redeem(&token, "cookie", "consent", now), "another run");
        assert!(tokens.redeem(&token, "cookie", "consent", later));
        assert!(!tokens.redeem(&token, "cookie", "consent", later), "used");
        for bad in ["", "A", &token[1..], &format!("{token}A"), &token.replace(&token[..4], "AAAA")] {
            assert!(!tokens.redeem(bad, "cookie", "consent", now), "{bad}");
        }
    }
}

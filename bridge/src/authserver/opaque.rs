//! Opaque secrets: made of 32 random bytes, kept as their SHA-256 only.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_calculator::secret::Secret;
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// What a secret is for; it shows in its first characters, so that scanners and people recognise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An authorization code (RFC 6749 §4.1.2).
    Code,
    /// An access token.
    Access,
    /// A refresh token.
    Refresh,
    /// The secret of a registered client.
    ClientSecret,
    /// The cookie of a browser.
    Session,
    /// One authorization request that waits for consent.
    Request,
}

impl Purpose {
    fn prefix(self) -> &'static str {
        match self {
            Self::Code => "mcpb_code_",
            Self::Access => "mcpb_at_",
            Self::Refresh => "mcpb_rt_",
            Self::ClientSecret => "mcpb_cs_",
            Self::Session => "mcpb_session_",
            Self::Request => "mcpb_request_",
        }
    }

    /// Of how many random parts one is made.
    fn parts(self) -> usize {
        match self {
            // Its family, and itself.
            Self::Refresh => 2,
            _ => 1,
        }
    }

    /// Whether `text` can be a secret of this purpose: nobody needs to look for what cannot.
    pub(crate) fn fits(self, text: &str) -> bool {
        text.strip_prefix(self.prefix()).is_some_and(|rest| {
            rest.len() == self.parts() * ENCODED_LEN
                && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
    }
}

/// 32 bytes in base64url without padding.
const ENCODED_LEN: usize = 43;

/// A new secret of 256 random bits; a refresh token is the first of a new family, of 256 more.
///
/// # Panics
/// When the operating system has no random numbers: nothing would be safe then.
pub(crate) fn new(purpose: Purpose) -> Secret<String> {
    completed(purpose, purpose.prefix())
}

/// Another refresh token of the family of `token`, which is one.
///
/// # Panics
/// As [`new`].
pub(crate) fn successor(token: &str) -> Secret<String> {
    completed(Purpose::Refresh, family(token))
}

/// A secret that begins with `start`, and has as many random parts more as it needs.
fn completed(purpose: Purpose, start: &str) -> Secret<String> {
    let len = purpose.prefix().len() + purpose.parts() * ENCODED_LEN;
    let mut text = String::with_capacity(len);
    text.push_str(start);
    while text.len() < len {
        BASE64_URL_SAFE_NO_PAD.encode_string(random::<32>(), &mut text);
    }
    Secret::new(text)
}

/// Random bytes of the operating system's.
///
/// # Panics
/// As [`new`].
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

/// A key for HMAC-SHA256 that is good for one run of the program.
///
/// # Panics
/// As [`new`].
pub(super) fn hmac_key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &random::<32>())
}

/// What all refresh tokens of one grant begin with.
fn family(token: &str) -> &str {
    &token[..Purpose::Refresh.prefix().len() + ENCODED_LEN]
}

/// The SHA-256 of a secret: all that is kept of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(secret: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, secret.as_bytes());
        Self(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `secret` is the one that this is the hash of, in constant time.
    pub(crate) fn is_of(&self, secret: &str) -> bool {
        Self::of(secret).0.ct_eq(&self.0).into()
    }
}

/// What is kept of a refresh token.
///
/// Who has one of a family without it being the one that is good has had another: so a used one is
/// recognised without being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefreshDigest {
    /// Of what all refresh tokens of its grant have in common.
    pub(crate) family: Digest,
    pub(crate) token: Digest,
}

impl RefreshDigest {
    /// `None` where `token` cannot be a refresh token.
    pub(crate) fn of(token: &str) -> Option<Self> {
        let digests = || Self { family: Digest::of(family(token)), token: Digest::of(token) };
        Purpose::Refresh.fits(token).then(digests)
    }
}

/// Not even a hash is shown.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_fit_their_purpose_only_and_are_recognised_by_their_hash() {
        let all = [
            Purpose::Code,
            Purpose::Access,
            Purpose::Refresh,
            Purpose::ClientSecret,
            Purpose::Session,
            Purpose::Request,
        ];
        for purpose in all {
            let (one, two) = (new(purpose), new(purpose));
            assert_ne!(one.expose(), two.expose());
            for other in all {
                assert_eq!(other.fits(one.expose()), other == purpose, "{purpose:?} {other:?}");
            }
            let digest = Digest::of(one.expose());
            assert!(digest.is_of(one.expose()) && !digest.is_of(two.expose()));
            assert_eq!(format!("{digest:?}"), "Digest(…)");
        }
        let first = new(Purpose::Refresh);
        let (next, other) = (successor(first.expose()), new(Purpose::Refresh));
        let [first, next, other] =
            [&first, &next, &other].map(|token| RefreshDigest::of(token.expose()).expect("a refresh token"));
        assert!(first.family == next.family && first.token != next.token && first.family != other.family);
        assert_eq!(RefreshDigest::of(new(Purpose::Access).expose()), None);
        assert_eq!(RefreshDigest::of(&format!("mcpb_rt_{}", "A".repeat(ENCODED_LEN))), None);
        for text in ["", "mcpb_at_", "mcpb_at_AAAA", &format!("mcpb_at_{}", "ä".repeat(43))] {
            assert!(!Purpose::Access.fits(text), "{text}");
        }
    }
}

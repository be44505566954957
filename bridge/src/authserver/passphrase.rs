//! Passphrases: made, judged, hashed and compared.

use std::sync::LazyLock;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _},
};
use mcp_calculator::secret::Secret;

use crate::authserver::opaque;

/// Without what is easily mistaken for another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Of five bits each: 100 bits.
const GENERATED_LEN: usize = 20;
const GROUP: usize = 4;

/// Fewer characters are too easy to guess, however slowly one has to.
const CHARACTERS_MIN: usize = 12;
const BYTES_MAX: usize = 256;

/// A passphrase of 100 random bits, in groups that can be read out.
///
/// # Panics
/// When the operating system has no random numbers.
pub fn generate() -> Secret<String> {
    let random = opaque::random::<GENERATED_LEN>();
    let mut text = String::with_capacity(GENERATED_LEN + GENERATED_LEN / GROUP);
    for (index, byte) in random.iter().enumerate() {
        if index > 0 && index % GROUP == 0 {
            text.push('-');
        }
        // 256 is a multiple of 32, so all are equally likely.
        text.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    Secret::new(text)
}

/// A passphrase that would not keep anybody out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassphrase {
    /// Too few characters.
    #[error("the passphrase is too short; use at least 12 characters")]
    Short,
    /// More than anybody types.
    #[error("the passphrase is too long; use at most 256 bytes")]
    Long,
    /// The same few over and over.
    #[error("the passphrase is too easy to guess; use more than three different characters")]
    Uniform,
}

/// Judges a passphrase that somebody has chosen.
///
/// # Errors
/// What is wrong with it.
pub fn check_new(passphrase: &str) -> Result<(), WeakPassphrase> {
    let mut characters: Vec<char> = passphrase.chars().collect();
    if characters.len() < CHARACTERS_MIN {
        return Err(WeakPassphrase::Short);
    }
    if passphrase.len() > BYTES_MAX {
        return Err(WeakPassphrase::Long);
    }
    characters.sort_unstable();
    characters.dedup();
    if characters.len() < 4 { Err(WeakPassphrase::Uniform) } else { Ok(()) }
}

/// Argon2id with what OWASP recommends: 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("these are allowed");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// What is kept of a passphrase, in PHC form. Takes some ten milliseconds.
///
/// # Panics
/// When the operating system has no random numbers, or no memory.
pub fn hash(passphrase: &Secret<String>) -> String {
    let hash = argon2().hash_password(passphrase.expose().as_bytes()).expect("any passphrase can be hashed");
    hash.to_string()
}

/// Whether `passphrase` is the one that `hash` was made of. Where there is no hash, the answer takes as
/// long.
pub(super) fn verify(passphrase: &Secret<String>, hash: Option<&str>) -> bool {
    static NOBODY: LazyLock<String> = LazyLock::new(|| self::hash(&generate()));
    // Nothing longer was ever accepted, and hashing it would be work for nothing.
    let is_possible = passphrase.expose().len() <= BYTES_MAX;
    let entered: &[u8] = if is_possible { passphrase.expose().as_bytes() } else { b"" };
    let is_it = argon2().verify_password(entered, hash.unwrap_or(&NOBODY)).is_ok();
    is_it && hash.is_some() && is_possible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passphrases_are_long_and_good() {
        let (one, two) = (generate(), generate());
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.expose().len(), 24);
        assert!(one.expose().split('-').count() == 5 && check_new(one.expose()).is_ok());
    }

    #[test]
    fn weak_ones_are_refused() {
        assert_eq!(check_new("short"), Err(WeakPassphrase::Short));
        assert_eq!(check_new(&"a".repeat(40)), Err(WeakPassphrase::Uniform));
        assert_eq!(check_new(&"abcdef".repeat(50)), Err(WeakPassphrase::Long));
        assert_eq!(check_new("correct horse battery"), Ok(()));
        assert_eq!(check_new("ünïcödé wörks"), Ok(()));
    }

    #[test]
    fn a_passphrase_is_recognised_by_its_hash_alone() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let hashed = hash(&secret("correct horse battery"));
        assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && !hashed.contains("horse"));
        assert_ne!(hashed, hash(&secret("correct horse battery")), "salted");
        assert!(verify(&secret("correct horse battery"), Some(&hashed)));
        for wrong in ["correct horse batterx", "", &"x".repeat(1000)] {
            assert!(!verify(&secret(wrong), Some(&hashed)), "{wrong}");
        }
        assert!(!verify(&secret("correct horse battery"), None));
        assert!(!verify(&secret("x"), Some("garbage")));
    }
}

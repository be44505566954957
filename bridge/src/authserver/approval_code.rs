//! Codes for a page and a terminal to be compared.
//!
//! A browser's code follows from its cookie and the time, so nothing is kept of browsers that wait,
//! however many strangers let some wait. What somebody at the terminal approves is a code.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moka::sync::Cache;
use ring::hmac;

use crate::authserver::opaque::{self, Digest};

/// How long a page shows the same code; it is good for as long again.
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Without what is easily mistaken for another.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Of five bits each, 55 bits: of all who look at a page within ten minutes, which may be a million
/// browsers of a stranger's, none shows the code that somebody approves.
const RANDOM_LEN: usize = 11;
const GROUP: usize = 4;

/// Codes that were told in the log; one that is forgotten is told again.
const TOLD_MAX: u64 = 1000;

/// A code like `ABCD-EFGH-JKLM`. Its last character checks the others, because nothing else tells
/// whether a browser shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApprovalCode(String);

/// Not a code that a page can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a code is three groups of four letters and digits, like `ABCD-EFGH-JKLM`, and this one is mistyped: compare it with the page"
)]
pub struct MistypedCode;

impl ApprovalCode {
    fn of(random: &[u8]) -> Self {
        // 256 is a multiple of 32, so all are equally likely.
        let mut values: Vec<u8> = random[..RANDOM_LEN].iter().map(|byte| byte % 32).collect();
        values.push(check(&values));
        let groups: Vec<String> = values
            .chunks(GROUP)
            .map(|group| group.iter().map(|value| char::from(ALPHABET[usize::from(*value)])).collect())
            .collect();
        Self(groups.join("-"))
    }

    /// A code as somebody has typed it, in any case and with or without what stands between its groups.
    ///
    /// # Errors
    /// [`MistypedCode`].
    pub(crate) fn typed(text: &str) -> Result<Self, MistypedCode> {
        let typed = text.bytes().filter(|byte| *byte != b'-' && !byte.is_ascii_whitespace());
        let value = |byte: u8| ALPHABET.iter().position(|known| *known == byte.to_ascii_uppercase());
        let values: Option<Vec<u8>> = typed.map(|byte| u8::try_from(value(byte)?).ok()).collect();
        match values.as_deref().and_then(<[u8]>::split_last) {
            Some((last, random)) if random.len() == RANDOM_LEN && *last == check(random) => Ok(Self::of(random)),
            _ => Err(MistypedCode),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The weights are odd: with another value in any one place the sum is another one.
fn check(values: &[u8]) -> u8 {
    let weighted = values.iter().zip((1_u8..).step_by(2)).map(|(value, weight)| value.wrapping_mul(weight));
    weighted.fold(0_u8, u8::wrapping_add) % 32
}

/// The codes of one run of the program.
pub(super) struct ApprovalCodes {
    /// Without it, somebody could look for a cookie whose code is that of another browser.
    key: hmac::Key,
    told: Cache<String, ()>,
}

impl ApprovalCodes {
    /// # Panics
    /// When the operating system has no random numbers.
    pub(super) fn new() -> Self {
        Self { key: opaque::hmac_key(), told: Cache::builder().max_capacity(TOLD_MAX).time_to_live(WINDOW * 2).build() }
    }

    /// The code that `browser` shows now, and the one that it has shown before.
    pub(super) fn of(&self, browser: Digest, now: SystemTime) -> [ApprovalCode; 2] {
        let window = now.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs() / WINDOW.as_secs());
        [window, window.wrapping_sub(1)].map(|window| {
            let mut covered = browser.as_bytes().to_vec();
            covered.extend_from_slice(&window.to_be_bytes());
            ApprovalCode::of(hmac::sign(&self.key, &covered).as_ref())
        })
    }

    /// Whether `code` was not told in the log yet. Now it is.
    pub(super) fn is_untold(&self, code: &ApprovalCode) -> bool {
        self.told.entry(code.0.clone()).or_insert(()).is_fresh()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn browser() -> Digest {
        Digest::of("cookie")
    }

    #[test]
    fn a_code_is_a_browsers_own_and_stays_for_five_minutes_and_five_more() {
        let (codes, begin) = (ApprovalCodes::new(), UNIX_EPOCH + WINDOW * 6_000_000);
        let [shown, before] = codes.of(browser(), begin);
        assert_ne!(shown, before);
        assert_eq!(codes.of(browser(), begin + WINDOW - Duration::from_secs(1))[0], shown);
        let [next, last] = codes.of(browser(), begin + WINDOW);
        assert!(last == shown && next != shown);
        assert!(!codes.of(browser(), begin + WINDOW * 2).contains(&shown));
        assert_ne!(codes.of(Digest::of("another cookie"), begin)[0], shown);
        assert_ne!(ApprovalCodes::new().of(browser(), begin)[0], shown, "another run");
        assert!(codes.is_untold(&shown) && !codes.is_untold(&shown) && codes.is_untold(&next));
    }

    #[test]
    fn a_code_is_read_as_people_type_it_and_every_slip_is_noticed() {
        let codes = ApprovalCodes::new();
        for minutes in 0..200 {
            let [code, _] = codes.of(browser(), UNIX_EPOCH + WINDOW * minutes);
            let text = code.as_str();
            assert!(text.len() == 14 && text.split('-').all(|group| group.len() == 4), "{text}");
            let plain = text.replace('-', "");
            for typed in [text.to_owned(), text.to_lowercase(), format!(" {plain} "), text.replace('-', " ")] {
                assert_eq!(ApprovalCode::typed(&typed), Ok(code.clone()), "{typed}");
            }
            for place in 0..plain.len() {
                for other in ALPHABET.iter().filter(|other| **other != plain.as_bytes()[place]) {
                    let mut slip = plain.clone().into_bytes();
                    slip[place] = *other;
                    let slip = String::from_utf8(slip).expect("ASCII");
                    assert_eq!(ApprovalCode::typed(&slip), Err(MistypedCode), "{slip} for {plain}");
                }
            }
            for bad in [&text[1..], &format!("{text}A"), &text.replace(&text[..1], "ä"), "", "WXYZ-2345", "0"] {
                assert_eq!(ApprovalCode::typed(bad), Err(MistypedCode), "{bad}");
            }
        }
    }
}

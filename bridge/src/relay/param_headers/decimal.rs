//! Decimal numbers of any size, compared by value and without rounding.

/// A number as JSON writes it: 0.d₁d₂d₃… × 10^`point`, so that equal numbers have equal fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    /// Without zeros at either end; empty for zero.
    digits: String,
    point: i64,
}

impl Decimal {
    /// Reads a number (RFC 8259 §6). `None` for anything else, and for exponents that no computer
    /// could write out.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent_of(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || (whole.len() > 1 && whole.starts_with('0'))
            || !all_digits(whole)
            || !all_digits(fraction)
        {
            return None;
        }
        let written = [whole, fraction].concat();
        let significant = written.trim_start_matches('0');
        let digits = significant.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, point: 0 });
        }
        let zeros = i64::try_from(written.len() - significant.len()).ok()?;
        let point = i64::try_from(whole.len()).ok()?.checked_sub(zeros)?.checked_add(exponent)?;
        Some(Self { negative, digits, point })
    }

    /// Whether it is an integer beyond ±(2^53 − 1).
    pub(super) fn is_unsafe_integer(&self) -> bool {
        const SAFE: u64 = (1 << 53) - 1;
        let Ok(point) = usize::try_from(self.point) else {
            return false;
        };
        if point < self.digits.len() {
            return false;
        }
        // 2^53 has 16 digits.
        point > 16 || format!("{:0<point$}", self.digits).parse::<u64>().is_ok_and(|integer| integer > SAFE)
    }

    /// The number in digits alone, if it is an integer that is not unsafe.
    pub(super) fn to_integer(&self) -> Option<String> {
        let point = usize::try_from(self.point).ok().filter(|point| (self.digits.len()..=16).contains(point))?;
        let sign = if self.negative { "-" } else { "" };
        Some(if self.digits.is_empty() { "0".to_owned() } else { format!("{sign}{:0<point$}", self.digits) })
    }
}

fn exponent_of(text: &str) -> Option<i64> {
    // `parse` takes one sign and digits, as JSON does.
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_numbers_are_equal_however_they_are_spelled() {
        for group in [
            &["42", "42.0", "4.2e1", "420E-1", "0.42e+2", "42.000e0"][..],
            &["0", "-0", "0.0", "-0.0e5", "0e-9"],
            &["-7", "-7.0", "-70e-1"],
            &["9007199254740993", "9007199254740993.0"],
            &["1e400", "10e399"],
        ] {
            for (a, b) in group.iter().zip(group.iter().skip(1)) {
                assert_eq!(Decimal::parse(a), Decimal::parse(b), "{a} {b}");
                assert!(Decimal::parse(a).is_some(), "{a}");
            }
        }
        for (a, b) in [("7", "-7"), ("9007199254740993", "9007199254740992"), ("1", "10"), ("0.1", "0.01")] {
            assert_ne!(Decimal::parse(a), Decimal::parse(b), "{a} {b}");
        }
        for other in [
            "",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1e1.5",
            " 1",
            "1 ",
            "0x1",
            "1_0",
            "NaN",
            "--1",
            "1e99999999999999999999",
        ] {
            assert_eq!(Decimal::parse(other), None, "{other}");
        }
    }

    #[test]
    fn safe_integers() {
        for (text, expected) in [
            ("9007199254740991", false),
            ("-9007199254740991", false),
            ("9007199254740992", true),
            ("-9007199254740992", true),
            ("9.007199254740992e15", true),
            ("1e16", true),
            ("1e400", true),
            ("9007199254740991.5", false),
            ("1e-400", false),
            ("0", false),
        ] {
            assert_eq!(Decimal::parse(text).map(|number| number.is_unsafe_integer()), Some(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_agree_with_the_machine(a in any::<i64>(), b in any::<i64>()) {
            let decimal = |number: i64| Decimal::parse(&number.to_string());
            prop_assert_eq!(decimal(a) == decimal(b), a == b);
            let unsafe_integer = a.unsigned_abs() > (1 << 53) - 1;
            prop_assert_eq!(decimal(a).map(|number| number.is_unsafe_integer()), Some(unsafe_integer));
        }

        #[test]
        fn what_json_takes_for_a_number_is_one(text in "-?[0-9]{0,4}(\\.[0-9]{0,4})?([eE][+-]?[0-9]{0,2})?") {
            prop_assert_eq!(Decimal::parse(&text).is_some(), serde_json::from_str::<serde_json::Number>(&text).is_ok());
        }
    }
}

//! Arithmetic on double-precision numbers, printed as JavaScript prints them.

use std::{fmt, str::FromStr};

/// What can be done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `a + b`
    Add,
    /// `a - b`
    Subtract,
    /// `a * b`
    Multiply,
    /// `a / b`
    Divide,
}

impl Operation {
    /// Every operation, in the order in which people name them.
    pub const ALL: [Self; 4] = [Self::Add, Self::Subtract, Self::Multiply, Self::Divide];

    /// The operation's name, as it is written in arguments and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Divide => "divide",
        }
    }
}

impl FromStr for Operation {
    type Err = UnknownOperation;

    fn from_str(text: &str) -> Result<Self, UnknownOperation> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == text).ok_or(UnknownOperation)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an operation; the operations are add, subtract, multiply and divide")]
pub struct UnknownOperation;

/// The result of a calculation.
///
/// `Display` writes what JavaScript's `String(number)` writes: the shortest digits that read back
/// as the same double, `1e+21` from 21 digits on, `0` for negative zero, `Infinity` on overflow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(f64);

impl Number {
    /// The number as a double.
    pub const fn as_f64(self) -> f64 {
        self.0
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ryu_js::Buffer::new().format(self.0))
    }
}

/// A division by 0 or -0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Division by zero")]
pub struct DivisionByZero;

/// Calculates in IEEE 754 double precision.
///
/// # Errors
/// [`DivisionByZero`] when `operation` is [`Operation::Divide`] and `b` is 0 or -0, whatever `a` is.
pub fn evaluate(operation: Operation, a: f64, b: f64) -> Result<Number, DivisionByZero> {
    Ok(Number(match operation {
        Operation::Add => a + b,
        Operation::Subtract => a - b,
        Operation::Multiply => a * b,
        Operation::Divide if b == 0.0 => return Err(DivisionByZero),
        Operation::Divide => a / b,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(operation: Operation, a: f64, b: f64, expected: &str) {
        let text = match evaluate(operation, a, b) {
            Ok(number) => number.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected, "{a} {operation} {b}");
    }

    #[test]
    fn results_are_written_as_javascript_writes_them() {
        use Operation::{Add, Divide, Multiply, Subtract};
        check(Add, 5.0, 8.0, "13");
        check(Add, 0.1, 0.2, "0.30000000000000004");
        check(Subtract, 5.0, 8.0, "-3");
        check(Subtract, 0.3, 0.1, "0.19999999999999998");
        check(Multiply, 6.0, 7.0, "42");
        check(Multiply, 0.0, -1.0, "0");
        check(Multiply, 1e10, 1e11, "1e+21");
        check(Multiply, 1e10, 1e10, "100000000000000000000");
        check(Multiply, 1e308, 10.0, "Infinity");
        check(Multiply, -1e308, 10.0, "-Infinity");
        check(Multiply, 5e-324, 0.5, "0");
        check(Divide, 1.0, 3.0, "0.3333333333333333");
        check(Divide, 10.0, 4.0, "2.5");
        check(Divide, 1.0, 1e6, "0.000001");
        check(Divide, 1.0, 1e7, "1e-7");
        check(Divide, 0.0, -5.0, "0");
        check(Add, 9007199254740992.0, 1.0, "9007199254740992");
        check(Add, 0.0, 5e-324, "5e-324");
        check(Add, 0.0, f64::MAX, "1.7976931348623157e+308");
        check(Subtract, f64::INFINITY, f64::INFINITY, "NaN");
    }

    #[test]
    fn nothing_is_divided_by_zero_of_either_sign() {
        for a in [1.0, 0.0, -0.0, -7.5, f64::INFINITY, f64::NAN] {
            check(Operation::Divide, a, 0.0, "Division by zero");
            check(Operation::Divide, a, -0.0, "Division by zero");
        }
    }

    #[test]
    fn names_are_exact() {
        for operation in Operation::ALL {
            assert_eq!(operation.as_str().parse(), Ok(operation));
        }
        for other in ["", "Add", " add", "add ", "plus", "+", "modulo"] {
            assert_eq!(other.parse::<Operation>(), Err(UnknownOperation), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_number_reads_back_as_the_same_number(a: f64, b: f64, index in 0..4_usize) {
            if let Ok(number) = evaluate(Operation::ALL[index], a, b) {
                let back: f64 = number.to_string().parse().expect("Rust reads what JavaScript writes");
                let same = back == number.as_f64() || (back.is_nan() && number.as_f64().is_nan());
                prop_assert!(same, "{} printed as {number}", number.as_f64());
            }
        }

        #[test]
        fn integers_that_a_double_holds_are_written_as_integers(n in -(1_i64 << 53)..=(1_i64 << 53)) {
            prop_assert_eq!(Number::from(n as f64).to_string(), n.to_string());
        }
    }
}

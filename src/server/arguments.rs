//! The tool's arguments: read once, strictly, and every problem reported at once.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    calculator::Operation,
    json::{Text, kind},
};

/// How much of what a client wrote an error text repeats.
const MAX_ECHO_CHARS: usize = 40;

/// How many problems an error text names, so that a huge object does not give a huge answer.
const MAX_PROBLEMS: usize = 5;

/// What `operation` may be, in words.
const ALLOWED: &str = "one of add, subtract, multiply, divide";

/// Arguments that fit the tool's input schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arguments {
    pub(super) operation: Operation,
    pub(super) a: f64,
    pub(super) b: f64,
}

/// Why arguments were not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InvalidArguments {
    /// They are no JSON object: the request itself is malformed.
    NotAnObject,
    /// They are an object whose members do not fit: something a model can put right.
    Members(Problems),
}

impl Arguments {
    /// Reads the JSON text of `arguments`; absent arguments are an empty object.
    pub(super) fn parse(json: Option<&str>) -> Result<Self, InvalidArguments> {
        let mut deserializer = serde_json::Deserializer::from_str(json.unwrap_or("{}"));
        let members = deserializer.deserialize_map(Members::default()).map_err(|_| InvalidArguments::NotAnObject)?;
        deserializer.end().map_err(|_| InvalidArguments::NotAnObject)?;
        members.check()
    }

    /// Takes names and JSON texts of the members of an object.
    pub(super) fn from_members<'a>(
        written: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, InvalidArguments> {
        let mut members = Members::default();
        for (name, value) in written {
            members.add(&Text(Cow::Borrowed(name.as_bytes())), value);
        }
        members.check()
    }
}

/// What is wrong with the members, in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Problems {
    named: Vec<String>,
    unnamed: usize,
}

impl Problems {
    fn add(&mut self, problem: impl FnOnce() -> String) {
        if self.named.len() < MAX_PROBLEMS {
            self.named.push(problem());
        } else {
            self.unnamed += 1;
        }
    }
}

/// The members as they were written. A name can occur more than once; what that would mean is
/// undefined, so it is refused and not resolved.
#[derive(Default)]
struct Members<'a> {
    operation: Option<&'a str>,
    a: Option<&'a str>,
    b: Option<&'a str>,
    problems: Problems,
}

impl<'a> Visitor<'a> for Members<'a> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<Self, M::Error> {
        while let Some(name) = map.next_key::<Text<'a>>()? {
            self.add(&name, map.next_value::<&'a RawValue>()?.get());
        }
        Ok(self)
    }
}

impl<'a> Members<'a> {
    fn add(&mut self, name: &Text<'_>, value: &'a str) {
        let member = match &*name.0 {
            b"operation" => &mut self.operation,
            b"a" => &mut self.a,
            b"b" => &mut self.b,
            _ => {
                let echo = || name.excerpt(MAX_ECHO_CHARS);
                self.problems.add(|| format!("\"{}\" is not an argument (operation, a and b are)", echo()));
                return;
            }
        };
        if member.replace(value).is_some() {
            self.problems.add(|| format!("{} is given more than once", name.excerpt(MAX_ECHO_CHARS)));
        }
    }

    fn check(mut self) -> Result<Arguments, InvalidArguments> {
        let operation = operation(self.operation, &mut self.problems);
        let a = number("a", self.a, &mut self.problems);
        let b = number("b", self.b, &mut self.problems);
        match (operation, a, b) {
            (Some(operation), Some(a), Some(b)) if self.problems.named.is_empty() => Ok(Arguments { operation, a, b }),
            _ => Err(InvalidArguments::Members(self.problems)),
        }
    }
}

fn operation(written: Option<&str>, problems: &mut Problems) -> Option<Operation> {
    let Some(written) = written else {
        problems.add(|| format!("operation is missing ({ALLOWED})"));
        return None;
    };
    let Some(name) = Text::parse(written) else {
        problems.add(|| format!("operation is {}, not a string ({ALLOWED})", kind(written)));
        return None;
    };
    let operation = std::str::from_utf8(&name.0).ok().and_then(|name| name.parse().ok());
    if operation.is_none() {
        problems.add(|| format!("operation \"{}\" is unknown ({ALLOWED})", name.excerpt(MAX_ECHO_CHARS)));
    }
    operation
}

fn number(name: &str, written: Option<&str>, problems: &mut Problems) -> Option<f64> {
    let Some(written) = written else {
        problems.add(|| format!("{name} is missing (a number)"));
        return None;
    };
    if kind(written) != "a number" {
        problems.add(|| format!("{name} is {}, not a number", kind(written)));
        return None;
    }
    // Every JSON number is a Rust float literal too, and the standard library rounds correctly.
    let value = written.parse().ok().filter(|value: &f64| value.is_finite());
    if value.is_none() {
        problems.add(|| format!("{name} is beyond the range of a double (at most about 1.8e308)"));
    }
    value
}

impl fmt::Display for InvalidArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("arguments must be an object with operation, a and b"),
            Self::Members(problems) => problems.fmt(f),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { named, unnamed: 0 } => f.write_str(&named.join("; ")),
            Self { named, unnamed } => write!(f, "{}; and {unnamed} more", named.join("; ")),
        }
    }
}

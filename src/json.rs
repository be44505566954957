//! Reading JSON from a peer without converting what is only passed on or looked at.
//!
//! Numbers keep their spelling, names that occur twice are seen, and a lone surrogate in a string
//! (`"\ud800"`, valid JSON and no Unicode) is no reason to fail.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A JSON string without its quotes and escapes; UTF-8 but for lone surrogates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, [u8]>);

impl<'a> Text<'a> {
    /// The string that `json` is, `None` if it is another kind of value.
    pub(crate) fn parse(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// At most `max_chars` characters of it, control characters escaped: for showing to people.
    pub(crate) fn excerpt(&self, max_chars: usize) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let mut shown: String = text.chars().take(max_chars).flat_map(char::escape_debug).collect();
        if text.chars().nth(max_chars).is_some() {
            shown.push('…');
        }
        shown
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(bytes)))
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(bytes.to_vec())))
            }
        }
        deserializer.deserialize_bytes(TextVisitor)
    }
}

/// Why the members of an object could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MembersError {
    /// The value is this kind of value instead.
    NotAnObject(&'static str),
    /// A name that somebody wants to read is there twice; which one counts is undefined.
    Duplicate(&'static str),
}

/// The values of the members `names` of the object `json`; other members are passed over.
///
/// `json` must be valid JSON.
pub(crate) fn members<'a, const N: usize>(
    json: &'a str,
    names: [&'static str; N],
) -> Result<[Option<&'a str>; N], MembersError> {
    struct Members<'a, const N: usize> {
        names: [&'static str; N],
        values: [Option<&'a str>; N],
        duplicate: Option<&'static str>,
    }

    impl<'a, const N: usize> Visitor<'a> for Members<'a, N> {
        type Value = Self;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<Self, M::Error> {
            while let Some(name) = map.next_key::<Text<'a>>()? {
                let value = map.next_value::<&'a RawValue>()?.get();
                if let Some(index) = self.names.iter().position(|wanted| wanted.as_bytes() == &*name.0)
                    && self.values[index].replace(value).is_some()
                {
                    self.duplicate = self.duplicate.or(Some(self.names[index]));
                }
            }
            Ok(self)
        }
    }

    let visitor = Members { names, values: [None; N], duplicate: None };
    let read = serde_json::Deserializer::from_str(json).deserialize_map(visitor);
    match read.map_err(|_| MembersError::NotAnObject(kind(json)))? {
        Members { duplicate: Some(name), .. } => Err(MembersError::Duplicate(name)),
        Members { values, .. } => Ok(values),
    }
}

/// What kind of value the JSON text is, with its article.
pub(crate) fn kind(json: &str) -> &'static str {
    match json.trim_ascii_start().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_spelling() {
        let json = r#" {"a":1e400,"x":{"a":2,"a":3},"\u0062": [ 1 ],"\ud800":null,"x":0} "#;
        assert_eq!(members(json, ["a", "b", "c"]), Ok([Some("1e400"), Some("[ 1 ]"), None]));
    }

    #[test]
    fn a_wanted_name_must_not_be_there_twice() {
        assert_eq!(members(r#"{"a":1,"b":2,"\u0061":3,"b":4}"#, ["b", "a"]), Err(MembersError::Duplicate("a")));
    }

    #[test]
    fn other_kinds_of_values_are_named() {
        for (json, kind) in
            [("[1]", "an array"), ("\"x\"", "a string"), (" true", "a boolean"), ("null", "null"), ("-1", "a number")]
        {
            assert_eq!(members(json, ["a"]), Err(MembersError::NotAnObject(kind)), "{json}");
        }
    }

    #[test]
    fn excerpts_are_short_and_printable() {
        let excerpt = |json, max| Text::parse(json).map(|text| text.excerpt(max));
        assert_eq!(excerpt(r#""ab\ncd""#, 9).as_deref(), Some(r"ab\ncd"));
        assert_eq!(excerpt(r#""abcd""#, 3).as_deref(), Some("abc…"));
        assert_eq!(excerpt(r#""\ud800x""#, 1).as_deref(), Some("\u{fffd}…"));
        assert_eq!(excerpt("3", 1), None);
    }
}

//! A JSON object read once: its keys, each of which is there once, and the text of its values.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Serialize, Serializer,
    de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::shown;

/// The look-up for repeated keys is quadratic in the members of one object; a message of this many
/// members costs what a large message costs anyway, and no tool has near as many parameters.
pub(super) const MAX_MEMBERS: usize = 1024;

/// A JSON object without repeated keys, its values left as text.
#[derive(Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// Members in the order of the message.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The object written anew: what was checked, never the bytes it came from.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("keys are text and values are JSON")
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'a> IntoIterator for Object<'a> {
    type Item = (Cow<'a, str>, &'a RawValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    /// Members in the order of the message.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Debug for Object<'_> {
    /// Shows keys only: values are the client's own business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(Members::<IgnoredAny> { apart: None, value: PhantomData })
            .map(|(members, _)| members)
    }
}

/// The members of an object, and the value of the one called `apart`, if it is there, as a `T`.
pub(super) fn members_of<'de: 'a, 'a, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    apart: &'static str,
) -> Result<(Object<'a>, Option<T>), D::Error> {
    deserializer.deserialize_map(Members { apart: Some(apart), value: PhantomData })
}

struct Members<T> {
    apart: Option<&'static str>,
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = (Object<'de>, Option<T>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(4);
        let mut apart = None;
        while let Some(Key(key)) = map.next_key()? {
            if members.len() == MAX_MEMBERS {
                return Err(de::Error::custom(format_args!("more than {MAX_MEMBERS} members in one object")));
            }
            let is_apart = self.apart.is_some_and(|name| name == key);
            if members.iter().any(|(name, _)| *name == key) || (is_apart && apart.is_some()) {
                return Err(de::Error::custom(format_args!("the key {} is there twice", shown(&key))));
            }
            if is_apart {
                apart = Some(map.next_value()?);
            } else {
                members.push((key, map.next_value()?));
            }
        }
        Ok((Object(members), apart))
    }
}

/// An object key, borrowed unless it has escapes in it.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Text<'a> {
            type Value = Key<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'a>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Key<'a>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text(PhantomData))
    }
}

/// The text of a JSON string; `None` for anything else.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inside = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        // Raw values are valid JSON: without escapes, what is between the quotes is the text.
        return Some(Cow::Borrowed(inside));
    }
    serde_json::from_str::<Key<'_>>(raw.get()).ok().map(|key| key.0)
}

//! Parameters of a query or a form, read strictly (RFC 6749 §3.1 and §3.2).

use std::borrow::Cow;

use url::form_urlencoded;

/// More than any client sends.
const PARAMETERS_MAX: usize = 64;

/// The parameters of one request. A parameter without a value counts as absent.
#[derive(Debug)]
pub(super) struct Form<'b>(Vec<(Cow<'b, str>, Cow<'b, str>)>);

/// Parameters that cannot be told apart, or are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormError {
    #[error("a parameter is there more than once")]
    Repeated,
    #[error("there are too many parameters")]
    TooMany,
    #[error("a parameter is not valid UTF-8, or has control characters")]
    Characters,
}

impl<'b> Form<'b> {
    /// Reads `text`; only the parameter `repeated` may be there more than once.
    pub(super) fn parse(text: &'b [u8], repeated: Option<&str>) -> Result<Self, FormError> {
        let mut all: Vec<(Cow<'b, str>, Cow<'b, str>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text) {
            // Decoding puts this in place of what is not UTF-8.
            let is_bad = |text: &str| text.chars().any(|char| char == char::REPLACEMENT_CHARACTER || char.is_control());
            if is_bad(&name) || is_bad(&value) {
                return Err(FormError::Characters);
            }
            if all.len() == PARAMETERS_MAX {
                return Err(FormError::TooMany);
            }
            if repeated != Some(&*name) && all.iter().any(|(known, _)| *known == name) {
                return Err(FormError::Repeated);
            }
            all.push((name, value));
        }
        Ok(Self(all))
    }

    /// The value of `name`, if it has one.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of `name`.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, value)| known == name && !value.is_empty()).map(|(_, value)| &**value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_read_strictly() {
        let form = Form::parse(b"a=1&b=x%20y+z&c=&d", None).expect("good");
        assert_eq!((form.value("a"), form.value("b")), (Some("1"), Some("x y z")));
        assert_eq!((form.value("c"), form.value("d"), form.value("e")), (None, None, None));
        for (text, error) in [
            ("a=1&a=1", FormError::Repeated),
            ("a=1&%61=2", FormError::Repeated),
            ("a=%ff", FormError::Characters),
            ("a=%00", FormError::Characters),
            ("a%0a=1", FormError::Characters),
        ] {
            assert_eq!(Form::parse(text.as_bytes(), None).expect_err(text), error);
        }
        let many: String = (0..65).map(|n| format!("{n}=1&")).collect();
        assert_eq!(Form::parse(many.as_bytes(), None).expect_err("many"), FormError::TooMany);
        let form = Form::parse(b"scope=a&scope=b", Some("scope")).expect("good");
        assert_eq!(form.values("scope").collect::<Vec<_>>(), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&text, None);
        }
    }
}

//! Values that must not be shown.

use std::fmt;

use zeroize::Zeroize;

/// A secret that is wiped when dropped and that no log can show.
///
/// `Debug` prints `[redacted]`; there is no `Display` and no serialisation. Read it with
/// [`Secret::expose`], as late and in as few places as possible.
#[derive(Clone, Default)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl Secret<String> {
    /// The secret in the environment variable `name`, or in the file that the variable `name` with `_FILE` at its
    /// end names; `None` where neither is set. `variable` reads one; an empty one counts as not set.
    ///
    /// # Errors
    /// What is wrong with it, for people; never a part of it.
    pub fn from_environment(name: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let name_of_file = format!("{name}_FILE");
        let read = |name: &str| variable(name).filter(|text| !text.is_empty());
        match (read(name), read(&name_of_file)) {
            (Some(_), Some(_)) => Err(format!("{name} and {name_of_file} are both set; leave one out")),
            (Some(secret), None) => Ok(Some(Self::new(secret))),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(&file)
                    .map_err(|error| format!("{name_of_file}: cannot read {}: {error}", file.escape_debug()))?;
                let text = Self::new(text);
                let secret = text.expose().trim_end_matches(['\r', '\n']);
                if secret.is_empty() {
                    return Err(format!("{name_of_file}: {} is empty", file.escape_debug()));
                }
                Ok(Some(Self::new(secret.to_owned())))
            }
            (None, None) => Ok(None),
        }
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_value() {
        let secret = Secret::new(String::from("hunter2"));
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "[redacted] Some(\n    [redacted],\n)");
        assert_eq!(secret.expose(), "hunter2");
    }
}

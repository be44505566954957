//! Scopes that are called like what they are for.

use std::collections::{HashMap, HashSet};

use super::words::remark;
use crate::offer::About;

/// Longest name within a scope, in characters; all scopes of a user stand in one header.
const NAME_MAX: usize = 64;

/// Scopes that have been given, none of them twice.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// The number that was tried last, by scope.
    last: HashMap<String, usize>,
    /// What scopes let somebody do, in the order in which they were described.
    pub(super) words: Vec<(String, String)>,
}

impl Names {
    /// A scope for each of `names`, of the form `kind:NAME`, in the same order.
    ///
    /// A name that can stand in a scope is not changed, whatever the others are; the rest is made fit,
    /// and counted where that makes two alike.
    pub(super) fn give<'n>(&mut self, kind: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
        let names: Vec<(&str, String)> = names.into_iter().map(|name| (name, fit(name))).collect();
        let mut given: Vec<Option<String>> = vec![None; names.len()];
        for (given, (_, fit)) in given.iter_mut().zip(&names).filter(|(_, (name, fit))| name == fit) {
            let scope = format!("{kind}:{fit}");
            *given = self.taken.insert(scope.clone()).then_some(scope);
        }
        let numbered = |(given, (_, fit)): (Option<String>, &(&str, String))| {
            given.unwrap_or_else(|| self.free(format!("{kind}:{fit}")))
        };
        given.into_iter().zip(&names).map(numbered).collect()
    }

    /// Says what `scope` lets somebody do: by the title, the description, or else `otherwise`.
    pub(super) fn describe(&mut self, scope: &str, about: &About, otherwise: &str) {
        let said = [about.title.as_deref(), about.description.as_deref(), Some(otherwise)];
        let said = said.into_iter().flatten().map(remark).find(|text| !text.is_empty());
        self.words.extend(said.map(|words| (scope.to_owned(), words)));
    }

    fn free(&mut self, scope: String) -> String {
        if self.taken.insert(scope.clone()) {
            return scope;
        }
        let last = self.last.entry(scope.clone()).or_insert(1);
        loop {
            *last += 1;
            let numbered = format!("{scope}-{last}");
            if self.taken.insert(numbered.clone()) {
                return numbered;
            }
        }
    }
}

/// `name` as it can stand in a scope: fewer characters than RFC 6749 §3.3 lets in, because some
/// authorization servers let in fewer, too.
fn fit(name: &str) -> String {
    let char = |char: char| if char.is_ascii_alphanumeric() || "-._~/:@+".contains(char) { char } else { '_' };
    let fit: String = name.chars().take(NAME_MAX).map(char).collect();
    if fit.is_empty() { "_".to_owned() } else { fit }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scope::Scope;

    #[test]
    fn names_that_fit_stay_and_others_make_way() {
        let given = Names::default().give("tool", ["a b", "a_b", "a\"b", "", "_", "a_b-2", "ä", "x:y/z.1"]);
        let expected =
            ["tool:a_b-3", "tool:a_b", "tool:a_b-4", "tool:_-2", "tool:_", "tool:a_b-2", "tool:_-3", "tool:x:y/z.1"];
        assert_eq!(given, expected);
        let long = "x".repeat(200);
        assert_eq!(Names::default().give("t", [long.as_str()]), [format!("t:{}", "x".repeat(64))]);
    }

    proptest! {
        #[test]
        fn every_name_has_a_scope_of_its_own(names in proptest::collection::hash_set("[ab_ é-]{0,3}|[2-9]|\\PC{0,9}", 0..40)) {
            let mut all = Names::default();
            let mut given = all.give("tool", names.iter().map(String::as_str));
            given.extend(all.give("tool", ["a", "a_"]));
            for scope in &given {
                prop_assert!(scope.parse::<Scope>().is_ok(), "{}", scope);
            }
            let distinct: HashSet<&String> = given.iter().collect();
            prop_assert_eq!(distinct.len(), names.len() + 2);
        }
    }
}

//! What a server offers: its lists, read. Pure.

use serde_json::{Value, value::RawValue};

use crate::message::{Object, text};

/// Everything that a server lists, in its order. All texts are the server's own words.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Its tools.
    pub tools: Vec<Tool>,
    /// Its prompts.
    pub prompts: Vec<Entry>,
    /// Its resources.
    pub resources: Vec<Entry>,
    /// Its resource templates.
    pub templates: Vec<Entry>,
}

/// One tool.
#[derive(Clone, Debug, Default)]
pub struct Tool {
    /// What it is called by.
    pub name: String,
    /// What it is called for people, and what it does.
    pub about: About,
    /// `readOnlyHint`.
    pub read_only: bool,
    /// `destructiveHint`, where it is written.
    pub destructive: bool,
    /// Its arguments; `None` where its schema does not say.
    pub arguments: Option<Vec<Argument>>,
}

/// One argument of a tool.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// The texts that it may be; empty where it may be anything.
    pub choices: Vec<String>,
}

/// A prompt, a resource or a template.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// What it is asked for by: a prompt's name, a URI, a URI template.
    pub id: String,
    /// `name`; of a prompt its id.
    pub name: String,
    /// What it is called for people, and what it is.
    pub about: About,
}

/// What a server says about a thing.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// `title`.
    pub title: Option<String>,
    /// `description`.
    pub description: Option<String>,
}

/// A list that a server may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
}

impl List {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// The method that asks for it.
    pub fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// The capability of a server that has it.
    pub fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Templates => "resourceTemplates",
            _ => self.capability(),
        }
    }

    fn id_key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }
}

/// More entries of one list nobody gives a scope each.
pub const ENTRIES_MAX: usize = 10_000;

/// Why a page is of no use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It is not a list of named things, or has a key twice, so that two readers could differ.
    #[error("the answer is not a list of objects with `{0}`")]
    Form(&'static str),
    /// There are too many.
    #[error("there are more than {ENTRIES_MAX} of them")]
    TooMany,
}

impl Offer {
    /// Adds one page of `list`, a result as JSON text; gives the cursor of the next, if there is one.
    ///
    /// # Errors
    /// [`PageError`]
    pub fn add_page(&mut self, list: List, result: &[u8]) -> Result<Option<String>, PageError> {
        let form = || PageError::Form(list.id_key());
        let result = std::str::from_utf8(result).map_err(|_| form())?;
        let members: Object<'_> = serde_json::from_str(result).map_err(|_| form())?;
        let entries = members.get(list.key()).ok_or_else(form)?;
        let entries: Vec<&RawValue> = serde_json::from_str(entries.get()).map_err(|_| form())?;
        for raw in entries {
            let entry: Object<'_> = serde_json::from_str(raw.get()).map_err(|_| form())?;
            let id = entry.get(list.id_key()).and_then(text).ok_or_else(form)?.into_owned();
            match list {
                List::Tools => self.tools.push(tool(id, &entry)),
                List::Prompts => self.prompts.push(other(id, &entry)),
                List::Resources => self.resources.push(other(id, &entry)),
                List::Templates => self.templates.push(other(id, &entry)),
            }
            if self.count(list) > ENTRIES_MAX {
                return Err(PageError::TooMany);
            }
        }
        Ok(members.get("nextCursor").and_then(text).map(|cursor| cursor.into_owned()))
    }

    fn count(&self, list: List) -> usize {
        match list {
            List::Tools => self.tools.len(),
            List::Prompts => self.prompts.len(),
            List::Resources => self.resources.len(),
            List::Templates => self.templates.len(),
        }
    }
}

fn tool(name: String, entry: &Object<'_>) -> Tool {
    let hints: Object<'_> = object(entry, "annotations").unwrap_or_default();
    let hint = |key| hints.get(key).is_some_and(|value| value.get() == "true");
    let mut about = about(entry);
    about.title = about.title.or_else(|| word(&hints, "title"));
    Tool {
        name,
        about,
        read_only: hint("readOnlyHint"),
        destructive: hint("destructiveHint"),
        arguments: object(entry, "inputSchema").and_then(|schema| arguments(&schema)),
    }
}

fn arguments(schema: &Object<'_>) -> Option<Vec<Argument>> {
    // A schema that is put together from others may have arguments that are not seen here.
    if ["$ref", "allOf", "anyOf", "oneOf"].iter().any(|key| schema.get(key).is_some()) {
        return None;
    }
    let properties = object(schema, "properties")?;
    let argument = |(name, raw): (&str, &RawValue)| {
        let schema: Value = serde_json::from_str(raw.get()).unwrap_or_default();
        Argument { name: name.to_owned(), choices: choices(&schema) }
    };
    Some(properties.iter().map(argument).collect())
}

/// The texts that a value of this schema may be, if it can be nothing else.
fn choices(schema: &Value) -> Vec<String> {
    let words = |values: Vec<&Value>| values.into_iter().map(|value| value.as_str().map(str::to_owned)).collect();
    let listed = schema.get("enum").and_then(Value::as_array).map(|values| values.iter().collect());
    let single = || schema.get("const").map(|value| vec![value]);
    let titled = || {
        let parts = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
        parts.iter().map(|part| part.get("const")).collect()
    };
    let choices: Option<Vec<String>> = listed.or_else(single).or_else(titled).and_then(words);
    choices.unwrap_or_default()
}

fn other(id: String, entry: &Object<'_>) -> Entry {
    Entry { name: word(entry, "name").unwrap_or_else(|| id.clone()), about: about(entry), id }
}

fn about(entry: &Object<'_>) -> About {
    About { title: word(entry, "title"), description: word(entry, "description") }
}

fn word(object: &Object<'_>, key: &str) -> Option<String> {
    object.get(key).and_then(text).map(|text| text.into_owned())
}

fn object<'a>(object: &Object<'a>, key: &str) -> Option<Object<'a>> {
    serde_json::from_str(object.get(key)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_add_up_and_say_what_a_policy_needs() {
        let mut offer = Offer::default();
        let page = r#"{"tools":[{"name":"a","title":"A","description":"does","annotations":{"readOnlyHint":true,"title":"x"},
            "inputSchema":{"type":"object","properties":{"z":{"enum":["p","q"]},"b":{"type":"string"},"n":{"enum":[1,"p"]},
            "t":{"oneOf":[{"const":"r","title":"R"}]}}}}],"nextCursor":"c"}"#;
        assert_eq!(offer.add_page(List::Tools, page.as_bytes()), Ok(Some("c".to_owned())));
        let page = r#"{"tools":[{"name":"b","annotations":{"destructiveHint":true,"title":"B"}}]}"#;
        assert_eq!(offer.add_page(List::Tools, page.as_bytes()), Ok(None));
        let [a, b] = offer.tools.as_slice() else { panic!("two tools: {offer:?}") };
        assert_eq!(
            (a.name.as_str(), a.about.title.as_deref(), a.read_only, a.destructive),
            ("a", Some("A"), true, false)
        );
        let arguments = a.arguments.as_deref().unwrap_or_default();
        let shown: Vec<_> = arguments.iter().map(|found| (found.name.as_str(), found.choices.join("|"))).collect();
        assert_eq!(shown, [("z", "p|q".into()), ("b", String::new()), ("n", String::new()), ("t", "r".into())]);
        assert_eq!((b.about.title.as_deref(), b.destructive, b.arguments.is_none()), (Some("B"), true, true));

        let page = r#"{"resourceTemplates":[{"uriTemplate":"x://{id}","name":"one"}],"nextCursor":null}"#;
        assert_eq!(offer.add_page(List::Templates, page.as_bytes()), Ok(None));
        assert_eq!((offer.templates[0].id.as_str(), offer.templates[0].name.as_str()), ("x://{id}", "one"));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for page in [
            "",
            "[]",
            "{}",
            r#"{"tools":null}"#,
            r#"{"tools":[{}]}"#,
            r#"{"tools":[{"name":1}]}"#,
            r#"{"tools":[{"name":"a","name":"b"}]}"#,
            r#"{"tools":[],"tools":[{"name":"b"}]}"#,
            r#"{"tools":[{"name":"\ud800"}]}"#,
        ] {
            let outcome = Offer::default().add_page(List::Tools, page.as_bytes());
            assert_eq!(outcome, Err(PageError::Form("name")), "{page}");
        }
        let many = vec![r#"{"uri":"a:b"}"#; ENTRIES_MAX + 1].join(",");
        let page = format!(r#"{{"resources":[{many}]}}"#);
        assert_eq!(Offer::default().add_page(List::Resources, page.as_bytes()), Err(PageError::TooMany));
    }
}

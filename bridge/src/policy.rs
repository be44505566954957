//! Which scopes a request needs: rules in, a [`Permit`] or a [`Denied`] out. Pure.

mod uris;

use std::borrow::Cow;

use serde_json::{Value, value::RawValue};

use self::uris::{ResourceRule, Unreadable};
use crate::{
    message::{Message, Notification, Object, Reference, Request, looks_like},
    scope::ScopeSet,
    token::VerifiedToken,
};

/// What calls of the server behind the bridge need.
///
/// Every rule that matches a request applies: the request needs all their scopes together, so the
/// order of rules does not matter and a general rule never weakens a special one. What no rule
/// matches is denied, unless there are default scopes; those apply only then.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    /// The arguments that rules about tools look at.
    conditions: Vec<Condition>,
    resources: Vec<ResourceRule>,
    default_scopes: Option<ScopeSet>,
    all_scopes: ScopeSet,
}

/// An argument that rules about a pattern of tools look at, each pair once, and all values that they ask for.
#[derive(Clone, Debug)]
struct Condition {
    pattern: String,
    key: String,
    wanted: Vec<Value>,
}

/// One rule: what it is about, and which scopes that needs.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What is called, got or read.
    pub target: Target,
    /// Arguments of the call that must all equal these scalars; empty for every call.
    pub when: Vec<(String, Value)>,
    /// What a matching request needs.
    pub scopes: ScopeSet,
}

/// What a rule is about; `*` in a pattern stands for any text.
#[derive(Clone, Debug)]
pub enum Target {
    /// `tools/call` by tool name.
    Tool(String),
    /// `prompts/get` by prompt name.
    Prompt(String),
    /// `resources/read`, `subscribe` and `unsubscribe` by URI.
    Resource(String),
}

/// Proof that the policy allows a request, and the only way to have it carried out.
///
/// It owns the request, so what was judged is what is called.
#[derive(Debug)]
pub struct Permit<'a>(Request<'a>);

impl<'a> Permit<'a> {
    /// The request that may be carried out.
    pub fn request(&self) -> &Request<'a> {
        &self.0
    }
}

impl Permit<'_> {
    /// The same permit apart from the body that its request was read from, for what takes longer than
    /// that body is kept: the request is written anew.
    pub fn keep(&self) -> KeptPermit {
        KeptPermit(self.0.to_json())
    }
}

/// A [`Permit`] that owns the text of its request.
pub struct KeptPermit(String);

impl KeptPermit {
    /// The permit. `None` would mean that we cannot read what we wrote.
    pub fn permit(&self) -> Option<Permit<'_>> {
        match Message::parse(self.0.as_bytes()) {
            Ok(Message::Request(request)) => Some(Permit(request)),
            _ => None,
        }
    }
}

/// Proof that the policy allows a client's notification; as [`Permit`], it owns what was judged.
#[derive(Debug)]
pub struct NotificationPermit<'a>(Notification<'a>);

impl<'a> NotificationPermit<'a> {
    /// The notification that may be passed on.
    pub fn notification(&self) -> &Notification<'a> {
        &self.0
    }
}

/// A request that the policy does not allow.
#[derive(Debug)]
pub struct Denied<'a> {
    /// The request.
    pub request: Request<'a>,
    /// Why.
    pub reason: Denial,
}

/// A notification that the policy does not allow.
#[derive(Debug)]
pub struct DeniedNotification<'a> {
    /// The notification.
    pub notification: Notification<'a>,
    /// Why.
    pub reason: Denial,
}

/// Why a request is not allowed.
#[derive(Debug, PartialEq, Eq)]
pub enum Denial {
    /// The token lacks scopes. A token with all of `needed` may.
    Scope {
        /// Every scope that the request needs.
        needed: ScopeSet,
        /// Those of them that the token lacks.
        missing: ScopeSet,
    },
    /// No rule is about it, so no scope would help.
    NoRule,
}

impl Policy {
    /// A policy of `rules`; `default_scopes` is what a request needs that no rule matches, `None`
    /// to deny it.
    pub fn new(rules: Vec<Rule>, default_scopes: Option<ScopeSet>) -> Self {
        let mut all_scopes = ScopeSet::default();
        for scopes in rules.iter().map(|rule| &rule.scopes).chain(&default_scopes) {
            all_scopes.extend(scopes.iter().cloned());
        }
        let mut conditions: Vec<Condition> = Vec::new();
        let mut resources = Vec::new();
        for rule in &rules {
            let pattern = match &rule.target {
                Target::Tool(pattern) => pattern,
                Target::Prompt(_) => continue,
                Target::Resource(pattern) => {
                    resources.push(ResourceRule::new(pattern, &rule.scopes));
                    continue;
                }
            };
            for (key, value) in &rule.when {
                let is_it = |condition: &&mut Condition| condition.pattern == *pattern && condition.key == *key;
                match conditions.iter_mut().find(is_it) {
                    Some(condition) => condition.wanted.push(value.clone()),
                    None => conditions.push(Condition {
                        pattern: pattern.clone(),
                        key: key.clone(),
                        wanted: vec![value.clone()],
                    }),
                }
            }
        }
        Self { rules, conditions, resources, default_scopes, all_scopes }
    }

    /// The rules, in the order in which they were given.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What a request needs that no rule matches; `None` if that is denied.
    pub fn default_scopes(&self) -> Option<&ScopeSet> {
        self.default_scopes.as_ref()
    }

    /// Every scope that any request may need, for metadata and challenges.
    pub fn scopes(&self) -> &ScopeSet {
        &self.all_scopes
    }

    /// Judges `request` by what `token` was granted.
    ///
    /// # Errors
    /// [`Denied`] gives the request back, with everything a challenge has to name.
    pub fn permit<'a>(&self, token: &VerifiedToken, request: Request<'a>) -> Result<Permit<'a>, Box<Denied<'a>>> {
        match covered(token, self.needs(&request)) {
            Ok(()) => Ok(Permit(request)),
            Err(reason) => Err(Box::new(Denied { request, reason })),
        }
    }

    /// The scopes that `request` needs, all together; `None` if none would help.
    pub fn needs(&self, request: &Request<'_>) -> Option<Cow<'_, ScopeSet>> {
        match self.subject(request) {
            Subject::Everybody => Some(Cow::Owned(ScopeSet::default())),
            Subject::Unruled => self.default_scopes.as_ref().map(Cow::Borrowed),
            Subject::Unreadable => self.everything(),
            Subject::UnreadableCall(name) if self.has_rule_for_every_call(name) => {
                Some(Cow::Borrowed(&self.all_scopes))
            }
            Subject::UnreadableCall(_) => self.everything(),
            Subject::Resource(uri) => self.needed_for([uri]),
            Subject::Resources(uris) => self.needed_for(uris.iter().map(Cow::as_ref)),
            subject => self.needed(&subject),
        }
    }

    /// What a request needs that a server could take for any other. No scope is enough if there are some
    /// that no rule is about.
    fn everything(&self) -> Option<Cow<'_, ScopeSet>> {
        self.default_scopes.as_ref().map(|_| Cow::Borrowed(&self.all_scopes))
    }

    /// Whether a rule is about each call of the tool `name`, whatever its arguments.
    fn has_rule_for_every_call(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.when.is_empty() && rule.is_about_tool(name))
    }

    /// What resources need, all together.
    fn needed_for<'r>(&self, uris: impl IntoIterator<Item = &'r str>) -> Option<Cow<'_, ScopeSet>> {
        let default_scopes = self.default_scopes.as_ref();
        if self.resources.is_empty() {
            return default_scopes.map(Cow::Borrowed);
        }
        let mut all = ScopeSet::default();
        for uri in uris {
            match uris::needed(&self.resources, default_scopes, uri) {
                Ok(needed) => all.extend(needed?.iter().cloned()),
                Err(Unreadable) => return self.everything(),
            }
        }
        Some(Cow::Owned(all))
    }

    /// Judges a client's notification. Those of the handshake and of running requests are for
    /// everybody with a token; any other `notifications/…` needs the default scopes, and
    /// what is called otherwise is none.
    ///
    /// # Errors
    /// [`DeniedNotification`] gives the notification back, and says why.
    pub fn permit_notification<'a>(
        &self,
        token: &VerifiedToken,
        notification: Notification<'a>,
    ) -> Result<NotificationPermit<'a>, Box<DeniedNotification<'a>>> {
        if is_everybodys_notification(&notification.method) {
            return Ok(NotificationPermit(notification));
        }
        // A call without an id is no notification to a lenient server: no rule would have judged it.
        let default_scopes = self.default_scopes.as_ref().filter(|_| notification.method.starts_with("notifications/"));
        match covered(token, default_scopes.map(Cow::Borrowed)) {
            Ok(()) => Ok(NotificationPermit(notification)),
            Err(reason) => Err(Box::new(DeniedNotification { notification, reason })),
        }
    }

    /// Whether there is a call of the tool `name` that the bearer of `token` may make.
    ///
    /// A rule with `when` can be avoided by a call without those arguments, unless no other rule is
    /// about the tool and there are no default scopes for such a call.
    pub fn could_call(&self, token: &VerifiedToken, name: &str) -> bool {
        let (always, sometimes): (Vec<&Rule>, Vec<&Rule>) =
            self.rules.iter().filter(|rule| rule.is_about_tool(name)).partition(|rule| rule.when.is_empty());
        if !always.is_empty() {
            return always.iter().all(|rule| token.scopes.covers(&rule.scopes));
        }
        if self.default_scopes.as_ref().is_some_and(|scopes| token.scopes.covers(scopes)) {
            return true;
        }
        // The call that has the arguments of one rule and no others is the least that matches it.
        sometimes.iter().any(|least| {
            let matches = |rule: &&&Rule| {
                rule.when.iter().all(|(key, wanted)| {
                    let argument = least.when.iter().find(|(name, _)| name == key);
                    argument.is_some_and(|(_, value)| same(value, wanted))
                })
            };
            matches(&least) && sometimes.iter().filter(matches).all(|rule| token.scopes.covers(&rule.scopes))
        })
    }

    /// What `request` is about. Arguments that a server could understand in another way than the rules
    /// do are unreadable, as far as there are rules about them.
    fn subject<'r>(&self, request: &'r Request<'_>) -> Subject<'r> {
        let subject = Subject::of(request);
        let Subject::Tool(name, arguments) = subject else { return subject };
        let is_ambiguous = |condition: &Condition| {
            pattern_matches(&condition.pattern, name) && condition.is_ambiguous(request, arguments)
        };
        if self.conditions.iter().any(is_ambiguous) { Subject::UnreadableCall(name) } else { subject }
    }

    fn needed(&self, subject: &Subject<'_>) -> Option<Cow<'_, ScopeSet>> {
        let mut matching = self.rules.iter().filter(|rule| rule.matches(subject));
        let Some(first) = matching.next() else {
            return self.default_scopes.as_ref().map(Cow::Borrowed);
        };
        let mut needed = Cow::Borrowed(&first.scopes);
        for rule in matching {
            needed.to_mut().extend(rule.scopes.iter().cloned());
        }
        Some(needed)
    }
}

/// Whether `method` is a notification of the handshake or about running requests, which any valid
/// token may send.
pub fn is_everybodys_notification(method: &str) -> bool {
    matches!(
        method,
        "notifications/initialized"
            | "notifications/cancelled"
            | "notifications/progress"
            | "notifications/roots/list_changed"
    )
}

/// Whether `token` has the `needed` scopes, of which there are none where nothing may.
fn covered(token: &VerifiedToken, needed: Option<Cow<'_, ScopeSet>>) -> Result<(), Denial> {
    let needed = needed.ok_or(Denial::NoRule)?;
    let missing = token.scopes.missing(&needed);
    if missing.is_empty() { Ok(()) } else { Err(Denial::Scope { needed: needed.into_owned(), missing }) }
}

/// What a request is about, as rules see it.
enum Subject<'r> {
    /// Lists, the handshake and the like: any valid token.
    Everybody,
    Tool(&'r str, Option<&'r Object<'r>>),
    Prompt(&'r str),
    Resource(&'r str),
    /// All of these, at least one.
    Resources(&'r [Cow<'r, str>]),
    /// A method that rules cannot name, or a request that names nothing.
    Unruled,
    /// A call whose arguments a server could understand in another way than the rules do.
    UnreadableCall(&'r str),
    /// What it names is no text. A server may find a name in it all the same, as JavaScript does in
    /// `["delete"]`, so it needs whatever anything needs.
    Unreadable,
}

impl<'r> Subject<'r> {
    fn of(request: &'r Request<'_>) -> Self {
        match (request.method.as_ref(), request.params.target.as_deref()) {
            (
                "initialize"
                | "ping"
                | "server/discover"
                | "tools/list"
                | "prompts/list"
                | "resources/list"
                | "resources/templates/list"
                | "logging/setLevel",
                _,
            ) => Self::Everybody,
            ("tools/call", Some(name)) => Self::Tool(name, request.params.arguments.as_ref()),
            ("prompts/get", Some(name)) => Self::Prompt(name),
            ("resources/read" | "resources/subscribe" | "resources/unsubscribe", Some(uri)) => Self::Resource(uri),
            ("completion/complete", _) => match &request.params.reference {
                Some(Reference::Prompt(name)) => Self::Prompt(name),
                Some(Reference::Resource(uri)) => Self::Resource(uri),
                None => Self::unnamed(request, "ref"),
            },
            ("tools/call" | "prompts/get", None) => Self::unnamed(request, "name"),
            ("resources/read" | "resources/subscribe" | "resources/unsubscribe", None) => Self::unnamed(request, "uri"),
            ("subscriptions/listen", _) => {
                match (&request.params.subscriptions[..], request.params.has_unknown_subscriptions) {
                    ([], false) => Self::Everybody,
                    ([], true) => Self::Unruled,
                    (uris, false) => Self::Resources(uris),
                    (_, true) => Self::Unreadable,
                }
            }
            _ => Self::Unruled,
        }
    }

    /// A request whose parameter `key` should name something and does not.
    fn unnamed(request: &Request<'_>, key: &str) -> Self {
        if request.params.members.get(key).is_some() { Self::Unreadable } else { Self::Unruled }
    }
}

impl Rule {
    /// Whether some call of the tool `name` could match.
    pub fn is_about_tool(&self, name: &str) -> bool {
        matches!(&self.target, Target::Tool(pattern) if pattern_matches(pattern, name))
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        match (&self.target, subject) {
            (Target::Tool(_), Subject::Tool(name, arguments)) => {
                self.is_about_tool(name)
                    && self.when.iter().all(|(key, value)| {
                        arguments.and_then(|arguments| arguments.get(key)).is_some_and(|raw| equals(raw, value))
                    })
            }
            (Target::Prompt(pattern), Subject::Prompt(name)) => pattern_matches(pattern, name),
            // Those about resources know several readings.
            _ => false,
        }
    }
}

impl Condition {
    /// Whether a server that is lenient with types or case could find a value that rules ask for where
    /// [`Rule::matches`] does not.
    fn is_ambiguous(&self, request: &Request<'_>, arguments: Option<&Object<'_>>) -> bool {
        let Some(arguments) = arguments else {
            // Text that holds the arguments as JSON, for one.
            return request.params.members.get("arguments").is_some_and(|raw| raw.get() != "null");
        };
        arguments.iter().any(|(name, raw)| looks_like(name, &self.key) || *name == self.key && self.is_convertible(raw))
    }

    /// Whether `argument` is no value that is asked for, but becomes one where a server converts it:
    /// `"true"`, `"yes"` and `1` are `true` to some.
    fn is_convertible(&self, argument: &RawValue) -> bool {
        let text = argument.get();
        // What is there but `null` is as good as not there.
        text.starts_with(['[', '{'])
            || text != "null"
                && self.wanted.iter().any(|wanted| is_of_another_type(text, wanted))
                && !self.wanted.iter().any(|wanted| equals(argument, wanted))
    }
}

/// Whether the scalar with this JSON text is of another type than `wanted`, and could be meant as it.
fn is_of_another_type(text: &str, wanted: &Value) -> bool {
    let is_text = text.starts_with('"');
    let is_boolean = matches!(text, "true" | "false");
    match wanted {
        // Of all texts, these alone are what something else is written as.
        Value::String(wanted) => {
            !is_text
                && (wanted.parse::<f64>().is_ok()
                    || ["true", "false"].iter().any(|word| wanted.eq_ignore_ascii_case(word)))
        }
        Value::Bool(_) => !is_boolean,
        _ => is_text || is_boolean,
    }
}

/// Whether an argument is this scalar. Numbers are compared by value, not by spelling, so that
/// `2.0` does not slip past a rule about `2`.
fn equals(argument: &RawValue, wanted: &Value) -> bool {
    // A string without escapes is its own text: nothing to parse.
    let plain = argument.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    if let (Some(plain), Value::String(wanted)) = (plain.filter(|text| !text.contains('\\')), wanted) {
        return plain == wanted;
    }
    // Not only for speed: serde_json reads an object with its own private key as the value inside.
    if argument.get().starts_with(['{', '[']) {
        return false;
    }
    serde_json::from_str(argument.get()).is_ok_and(|found| same(&found, wanted))
}

/// Whether two scalars are one value.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(found), Value::Number(wanted)) => found == wanted || found.as_f64() == wanted.as_f64(),
        _ => found == wanted,
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any text, the empty one too.
pub fn pattern_matches(pattern: &str, text: &str) -> bool {
    // Most patterns are plain names, and a star stands for itself too.
    if pattern == text {
        return true;
    }
    let Some((head, tail)) = pattern.split_once('*') else {
        return false;
    };
    let Some(mut rest) = text.strip_prefix(head) else {
        return false;
    };
    let mut parts = tail.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(found) => rest = &rest[found + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests;

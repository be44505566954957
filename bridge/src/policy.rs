//! Which scopes a request needs: rules in, a [`Permit`] or a [`Denied`] out. Pure.

use serde_json::{Value, value::RawValue};

use crate::{
    message::{Object, Request},
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
    default_scopes: Option<ScopeSet>,
    all_scopes: ScopeSet,
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

/// A request that the policy does not allow.
#[derive(Debug)]
pub struct Denied<'a> {
    /// The request.
    pub request: Request<'a>,
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
        Self { rules, default_scopes, all_scopes }
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
        let needed = match Subject::of(&request) {
            Subject::Everybody => return Ok(Permit(request)),
            Subject::Unruled => self.default_scopes.clone(),
            subject => self.needed(&subject),
        };
        let Some(needed) = needed else {
            return Err(Box::new(Denied { request, reason: Denial::NoRule }));
        };
        let missing = token.scopes.missing(&needed);
        if missing.is_empty() {
            Ok(Permit(request))
        } else {
            Err(Box::new(Denied { request, reason: Denial::Scope { needed, missing } }))
        }
    }

    fn needed(&self, subject: &Subject<'_>) -> Option<ScopeSet> {
        let mut matching = self.rules.iter().filter(|rule| rule.matches(subject)).peekable();
        if matching.peek().is_none() {
            return self.default_scopes.clone();
        }
        let mut needed = ScopeSet::default();
        for rule in matching {
            needed.extend(rule.scopes.iter().cloned());
        }
        Some(needed)
    }
}

/// What a request is about, as rules see it.
enum Subject<'r> {
    /// Lists, the handshake and the like: any valid token.
    Everybody,
    Tool(&'r str, Option<&'r Object<'r>>),
    Prompt(&'r str),
    Resource(&'r str),
    /// A method that rules cannot name.
    Unruled,
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
            _ => Self::Unruled,
        }
    }
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        match (&self.target, subject) {
            (Target::Tool(pattern), Subject::Tool(name, arguments)) => {
                pattern_matches(pattern, name)
                    && self.when.iter().all(|(key, value)| {
                        arguments.and_then(|arguments| arguments.get(key)).is_some_and(|raw| equals(raw, value))
                    })
            }
            (Target::Prompt(pattern), Subject::Prompt(name)) => pattern_matches(pattern, name),
            (Target::Resource(pattern), Subject::Resource(uri)) => pattern_matches(pattern, uri),
            _ => false,
        }
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
    match (serde_json::from_str::<Value>(argument.get()), wanted) {
        (Ok(Value::Number(found)), Value::Number(wanted)) => found == *wanted || found.as_f64() == wanted.as_f64(),
        (Ok(found), wanted) => found == *wanted,
        (Err(_), _) => false,
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for any text, the empty one too.
fn pattern_matches(pattern: &str, text: &str) -> bool {
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
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{backend::in_process, message::Message, token::Issuer};

    fn token(scopes: &str) -> VerifiedToken {
        VerifiedToken {
            issuer: Issuer::new("https://as.example"),
            subject: Some("alice".into()),
            client_id: None,
            email: None,
            scopes: scopes.parse().expect("test scopes"),
            expires_at: None,
        }
    }

    /// `allowed`, `no rule`, or `needed / missing`.
    fn verdict(policy: &Policy, scopes: &str, method: &str, params: &Value) -> String {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let Ok(Message::Request(request)) = Message::parse(body.as_bytes()) else { panic!("{body}") };
        match policy.permit(&token(scopes), request).map_err(|denied| denied.reason) {
            Ok(_) => "allowed".into(),
            Err(Denial::NoRule) => "no rule".into(),
            Err(Denial::Scope { needed, missing }) => format!("{needed} / {missing}"),
        }
    }

    #[test]
    fn each_operation_of_the_calculator_needs_its_scope() {
        let policy = in_process::policy();
        assert_eq!(policy.scopes().to_string(), "op:add op:sub op:mult op:div");
        let call =
            |operation: Value| json!({"name": "calculator", "arguments": {"operation": operation, "a": 1, "b": 2}});
        for (operation, scope) in
            [("add", "op:add"), ("subtract", "op:sub"), ("multiply", "op:mult"), ("divide", "op:div")]
        {
            assert_eq!(verdict(&policy, "", "tools/call", &call(json!(operation))), format!("{scope} / {scope}"));
            assert_eq!(verdict(&policy, scope, "tools/call", &call(json!(operation))), "allowed");
            let others = policy.scopes().iter().filter(|held| held.as_str() != scope).cloned().collect::<ScopeSet>();
            assert_eq!(
                verdict(&policy, &others.to_string(), "tools/call", &call(json!(operation))),
                format!("{scope} / {scope}")
            );
        }
        // What the calculator does not have, it may say itself: nothing runs.
        assert_eq!(verdict(&policy, "", "tools/call", &call(json!("modulo"))), "allowed");
        assert_eq!(verdict(&policy, "", "tools/call", &json!({"name": "other"})), "allowed");
    }

    #[test]
    fn an_escaped_spelling_is_the_same_argument() {
        let policy = in_process::policy();
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calculator","arguments":{"operation":"d\u0069vide"}}}"#;
        let Ok(Message::Request(request)) = Message::parse(body.as_bytes()) else { panic!("{body}") };
        assert!(policy.permit(&token("op:add"), request).is_err());
    }

    #[test]
    fn lists_and_handshakes_need_no_scope() {
        let closed = Policy::new(Vec::new(), None);
        for method in ["initialize", "ping", "server/discover", "tools/list", "prompts/list", "resources/list"] {
            assert_eq!(verdict(&closed, "", method, &json!({})), "allowed", "{method}");
        }
        assert_eq!(verdict(&closed, "", "vendor/method", &json!({})), "no rule");
        assert_eq!(verdict(&closed, "a", "tools/call", &json!({"name": "t"})), "no rule");
        // Without a name no rule can match, so a rule for every name must not let it in.
        let rule = Rule { target: Target::Tool("*".into()), when: vec![], scopes: ScopeSet::default() };
        let open = Policy::new(vec![rule], None);
        assert_eq!(verdict(&open, "", "tools/call", &json!({"name": "t"})), "allowed");
        assert_eq!(verdict(&open, "", "tools/call", &json!({"name": 1})), "no rule");
        assert_eq!(verdict(&open, "", "tools/call", &json!({})), "no rule");
    }

    #[test]
    fn all_matching_rules_apply_and_their_order_does_not_matter() {
        let rule = |pattern: &str, when: &[(&str, Value)], scopes: &str| Rule {
            target: Target::Tool(pattern.into()),
            when: when.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            scopes: scopes.parse().expect("test scopes"),
        };
        let mut rules = vec![
            rule("*", &[], "mcp"),
            rule("files_*", &[("mode", json!("write"))], "files:write"),
            rule("n", &[("n", json!(2))], "two"),
        ];
        for _ in 0..2 {
            let policy = Policy::new(rules.clone(), None);
            let check = |name: &str, arguments: Value, expected: &str| {
                assert_eq!(
                    verdict(&policy, "mcp", "tools/call", &json!({"name": name, "arguments": arguments})),
                    expected
                );
            };
            check("x", json!({}), "allowed");
            check("files_a", json!({"mode": "read"}), "allowed");
            check("n", json!({"n": 3}), "allowed");
            check("n", json!({"n": "2"}), "allowed");
            check("files_a", json!({"mode": "\"write\""}), "allowed");
            let needs = |name: &str, arguments: Value, extra: &str| {
                let text = verdict(&policy, "mcp", "tools/call", &json!({"name": name, "arguments": arguments}));
                let (needed, missing) = text.split_once(" / ").expect("denied");
                assert_eq!(
                    (needed.parse::<ScopeSet>().expect("scopes"), missing),
                    (format!("mcp {extra}").parse().expect("scopes"), extra)
                );
            };
            needs("files_a", json!({"mode": "write"}), "files:write");
            needs("n", json!({"n": 2}), "two");
            needs("n", json!({"n": 2.0}), "two");
            rules.reverse();
        }
    }

    /// Its tool would see an object, so a rule about a text must not let it in.
    #[test]
    fn an_object_does_not_pass_for_the_text_inside_it() {
        let rule = Rule {
            target: Target::Tool("t".into()),
            when: vec![("operation".into(), json!("read"))],
            scopes: ScopeSet::default(),
        };
        let policy = Policy::new(vec![rule], None);
        let call = |operation: Value| json!({"name": "t", "arguments": {"operation": operation}});
        assert_eq!(verdict(&policy, "", "tools/call", &call(json!("read"))), "allowed");
        let disguised = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":
            {"operation":{"$serde_json::private::RawValue":"\"read\""}}}}"#;
        let Ok(Message::Request(request)) = Message::parse(disguised.as_bytes()) else { panic!("{disguised}") };
        let denied = policy.permit(&token(""), request).expect_err("denied");
        assert_eq!(denied.reason, Denial::NoRule);
    }

    #[test]
    fn prompts_resources_and_defaults() {
        let scopes = |text: &str| text.parse::<ScopeSet>().expect("test scopes");
        let rules = vec![
            Rule { target: Target::Prompt("p".into()), when: vec![], scopes: scopes("prompt") },
            Rule { target: Target::Resource("file:///*/x".into()), when: vec![], scopes: scopes("read") },
        ];
        let policy = Policy::new(rules, Some(scopes("base")));
        assert_eq!(verdict(&policy, "base", "prompts/get", &json!({"name": "p"})), "prompt / prompt");
        assert_eq!(verdict(&policy, "prompt", "prompts/get", &json!({"name": "q"})), "base / base");
        assert_eq!(verdict(&policy, "read", "resources/read", &json!({"uri": "file:///a/b/x"})), "allowed");
        assert_eq!(verdict(&policy, "base", "resources/subscribe", &json!({"uri": "file:///a/x"})), "read / read");
        assert_eq!(verdict(&policy, "base", "vendor/method", &json!({})), "allowed");
        assert_eq!(policy.scopes().to_string(), "prompt read base");
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "A", false),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "x/y", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a**b", "ab", true),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(pattern_matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_stars_matches_itself_only(pattern in "[a-c]{0,4}", text in "[a-c]{0,4}") {
            prop_assert_eq!(pattern_matches(&pattern, &text), pattern == text);
        }

        #[test]
        fn a_star_takes_any_middle(head in "[a-c]{0,3}", middle in "\\PC{0,8}", tail in "[a-c]{0,3}") {
            let (pattern, text) = (format!("{head}*{tail}"), format!("{head}{middle}{tail}"));
            prop_assert!(pattern_matches(&pattern, &text));
        }
    }
}

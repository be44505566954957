//! The calculator, answering in this process: a fresh value per request, no service task.

use std::sync::{Arc, LazyLock};

use futures_util::{FutureExt as _, future::BoxFuture};
use mcp_calculator::{
    calculator::Operation,
    server::{self, Caller, Era, Given, TOOL_NAME},
};
use serde::Serialize;

use crate::{
    backend::{Answer, Answered, Backend, Call, Conversation, Opened, Reply},
    era::requested_version,
    message::{INVALID_PARAMS, METHOD_NOT_FOUND, shown},
    policy::{Policy, Rule, Target},
};

/// The calculator as a backend. It has no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct InProcess;

impl Backend for InProcess {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Reply> {
        std::future::ready(Reply::Whole(Answered::Served(answer(call)))).boxed()
    }

    fn open<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Opened> {
        let answer = answer(call);
        let conversation = answer.error.is_none().then(|| Arc::new(*self) as Arc<dyn Conversation>);
        std::future::ready(Opened { reply: Answered::Served(answer), conversation }).boxed()
    }
}

impl Conversation for InProcess {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Reply> {
        Backend::call(self, call)
    }
}

/// The calculator's own policy: one scope per operation, and none for what it does not have, because
/// there it only says what it has.
pub fn policy() -> Policy {
    let rule = |operation: &Operation| Rule {
        target: Target::Tool(TOOL_NAME.to_owned()),
        when: vec![("operation".to_owned(), operation.as_str().into())],
        scopes: server::scope_of(*operation).parse().expect("the scopes above are scope tokens"),
    };
    Policy::new(Operation::ALL.iter().map(rule).collect(), Some(Default::default()))
}

/// What each scope lets a client do, for the user who is asked.
pub const SCOPE_WORDS: [(&str, &str); 4] = {
    use server::scope_of;
    [
        (scope_of(Operation::Add), "Add two numbers"),
        (scope_of(Operation::Subtract), "Subtract one number from another"),
        (scope_of(Operation::Multiply), "Multiply two numbers"),
        (scope_of(Operation::Divide), "Divide one number by another"),
    ]
};

fn answer(call: Call<'_>) -> Answer {
    static DISCOVER: LazyLock<String> = LazyLock::new(|| json(server::discover()));
    static LEGACY_TOOLS: LazyLock<String> = LazyLock::new(|| json(server::list_tools(Era::Legacy)));
    static MODERN_TOOLS: LazyLock<String> = LazyLock::new(|| json(server::list_tools(Era::Modern)));

    let id = call.request.id.as_json();
    let params = &call.request.params;
    match (call.request.method.as_ref(), call.era) {
        ("tools/call", era) => call_tool(id, era, call),
        ("tools/list", _) if params.members.get("cursor").is_some_and(|cursor| cursor.get() != "null") => {
            invalid_params(id, "there is one page of tools and no cursor to it")
        }
        ("tools/list", Era::Legacy) => Answer::result(id, &LEGACY_TOOLS),
        ("tools/list", Era::Modern) => Answer::result(id, &MODERN_TOOLS),
        ("server/discover", Era::Modern) => Answer::result(id, &DISCOVER),
        ("initialize", Era::Legacy) => match requested_version(params) {
            Some(version) => Answer::result(id, &json(&server::initialize(&version))),
            None => invalid_params(id, "`protocolVersion` must be a string"),
        },
        ("ping", Era::Legacy) => Answer::result(id, "{}"),
        (method, _) => Answer::error(id, METHOD_NOT_FOUND, &format!("Method not found: {}", shown(method)), None),
    }
}

fn call_tool(id: &str, era: Era, call: Call<'_>) -> Answer {
    let params = &call.request.params;
    let Some(name) = params.target.as_deref() else {
        return invalid_params(id, "`name` must be a string");
    };
    let token = call.caller;
    let caller = Caller {
        subject: token.subject.as_deref(),
        client_id: token.client_id.as_deref(),
        email: token.email.as_deref(),
        scopes: &token.scopes,
    };
    // The object that the policy judged; anything else is the tool's to refuse.
    let mut members = params.arguments.as_ref().map(|arguments| arguments.iter().map(|(key, raw)| (key, raw.get())));
    let arguments = match &mut members {
        Some(members) => Given::Members(members),
        None => Given::Text(params.members.get("arguments").map(|raw| raw.get())),
    };
    match server::Call::read(name, arguments) {
        Ok(call) => Answer::result(id, &call.answer(era, Some(&caller))),
        Err(error) => Answer::error(id, i64::from(error.code.0), &error.message, error.data.as_ref()),
    }
}

fn invalid_params(id: &str, what: &str) -> Answer {
    Answer::error(id, INVALID_PARAMS, &format!("Invalid params: {what}"), None)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("results have string keys and finite numbers only")
}

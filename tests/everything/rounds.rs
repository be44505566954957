//! Tools, and a prompt, that need input from the client: a modern one gives it in another round, a
//! legacy one answers requests of ours meanwhile.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    content,
    server::{Call, Era, PATIENCE},
    tools::{Tool, fail, say, schema},
    wire::{Failure, Object, Outcome, Reply, field},
};

pub(crate) const PROMPT: &str = "test_input_required_result_prompt";

/// The same in every process: the next round may come to another one.
const STATE_KEY: &str = "a secret that everybody can read, as befits a test";

pub(crate) const TOOLS: &[Tool] = &[
    Tool::new("test_input_required_result_elicitation", "Asks for a name", |call| {
        let ask = [("user_name", name("What is your name?"))];
        round(call, &ask, None, |inputs| format!("Hello, {}!", words(&inputs[0]["content"]["name"])))
    }),
    Tool::new("test_input_required_result_sampling", "Asks the client's model", |call| {
        let ask = [("capital_question", sample("What is the capital of France?", 100))];
        round(call, &ask, None, |inputs| words(&inputs[0]["content"]["text"]))
    }),
    Tool::new("test_input_required_result_list_roots", "Asks for the client's roots", |call| {
        round(call, &[("client_roots", roots())], None, |inputs| format!("Roots: {}", inputs[0]["roots"]))
    }),
    Tool::new("test_input_required_result_request_state", "Wants its state back", confirm),
    Tool::new("test_input_required_result_tampered_state", "Wants its state back untouched", confirm),
    Tool::new("test_input_required_result_multiple_inputs", "Asks for three things at once", |call| {
        let ask = [
            ("user_name", name("What is your name?")),
            ("greeting", sample("Generate a greeting", 50)),
            ("client_roots", roots()),
        ];
        round(call, &ask, Some(1), |inputs| {
            format!("{} {}", words(&inputs[1]["content"]["text"]), words(&inputs[0]["content"]["name"]))
        })
    }),
    Tool::new("test_input_required_result_multi_round", "Asks twice", multi_round),
    Tool::new("test_input_required_result_capabilities", "Asks for what the client declared only", |call| {
        let all = [("greeting", sample("Generate a greeting", 50)), ("user_name", name("What is your name?"))];
        let can: Vec<_> = all.into_iter().filter(|(_, request)| call.client_can(capability(request))).collect();
        round(call, &can, None, |inputs| format!("inputs: {}", inputs.len()))
    }),
    Tool::new("test_streaming_elicitation", "Reports progress, asks for a name, and reports again", |call| {
        call.progress(1, 2);
        round(call, &[("user_name", name("What is your name?"))], None, |_| {
            call.progress(2, 2);
            "Done.".to_owned()
        })
    }),
    Tool::new("withdraw", "Asks for as many names and does not wait for them, which only legacy servers can", |call| {
        let question = name("What is your name?");
        let times = call.argument("times").filter(|_| call.server.era == Era::Legacy).unwrap_or(0);
        for _ in 0..times {
            call.ask(&[&question], Duration::ZERO, || {})?;
        }
        say(&format!("withdrawn: {times}"))
    })
    .takes(|| schema(json!({ "times": { "type": "integer" } }), &[])),
    Tool::new("report_meanwhile", "Asks for a name and goes on reporting, which only legacy servers can", |call| {
        if call.server.era == Era::Legacy {
            call.ask(&[&name("What is your name?")], PATIENCE, || {
                // Whoever asks the user has asked by then.
                std::thread::sleep(Duration::from_millis(50));
                (1..=500).for_each(|step| call.progress(step, 500));
            })?;
        }
        say("Done.")
    }),
    Tool::new("test_missing_capability", "Needs a client with sampling", |call| {
        read_by_model(call, declared(call, "sampling").and_then(|()| say("The client has sampling.")))
    }),
];

/// The result of `prompts/get`.
pub(crate) fn prompt(call: &Call) -> Outcome {
    if call.name != PROMPT {
        return content::prompt(&call.server, &call.params).map(Reply::Value);
    }
    let questions = [("user_context", elicit("What context should the prompt use?", "context", "string"))];
    Ok(Reply::Value(match ask(call, &questions, None)? {
        Answers::Needed(result) => result,
        Answers::All(inputs) => {
            let text = format!("Use this context: {}", words(&inputs[0]["content"]["context"]));
            json!({ "messages": [{ "role": "user", "content": content::text(&text) }] })
        }
    }))
}

/// Some questions and, once they are answered, the end. `number` goes into the state; `None` is no
/// state.
pub(crate) fn round(
    call: &Call,
    questions: &[(&str, Value)],
    number: Option<u64>,
    finish: impl Fn(&[Value]) -> String,
) -> Outcome {
    let asked = ask(call, questions, number).and_then(|answers| match answers {
        Answers::All(inputs) => say(&finish(&inputs)),
        Answers::Needed(result) => Ok(Reply::Value(result)),
    });
    read_by_model(call, asked)
}

/// Legacy tools say what is missing as a result that a model can read.
fn read_by_model(call: &Call, outcome: Outcome) -> Outcome {
    match outcome {
        Err(Failure::Error { message, .. }) if call.server.era == Era::Legacy => fail(&message),
        outcome => outcome,
    }
}

/// What came of asking.
enum Answers {
    /// One for each question, in their order.
    All(Vec<Value>),
    /// The `input_required` result that brings the answers, in the modern era.
    Needed(Value),
}

fn ask(call: &Call, questions: &[(&str, Value)], number: Option<u64>) -> Result<Answers, Failure> {
    for (_, question) in questions {
        declared(call, capability(question))?;
    }
    if call.server.era == Era::Legacy {
        let requests: Vec<&Value> = questions.iter().map(|(_, question)| question).collect();
        let refused = |error| Failure::error(-32603, &format!("the client refused: {error}"));
        let answers: Result<Vec<Value>, Value> = call.ask(&requests, PATIENCE, || {})?.into_iter().collect();
        return answers.map(Answers::All).map_err(refused);
    }
    let came_back = state(&call.params, &call.name)?;
    Ok(match inputs(&call.params, questions)?.filter(|_| came_back == number) {
        Some(inputs) => Answers::All(inputs),
        None => Answers::Needed(input_required(questions, number.map(|number| seal(&call.name, number)))),
    })
}

/// Refuses a client that did not declare `capability`.
fn declared(call: &Call, capability: &str) -> Result<(), Failure> {
    if call.client_can(capability) {
        return Ok(());
    }
    let text = format!("the client did not declare the capability {capability}");
    Err(Failure::with(-32021, &text, &json!({ "requiredCapabilities": { capability: {} } })))
}

fn confirm(call: &Call) -> Outcome {
    round(call, &[("confirm", elicit("Please confirm", "ok", "boolean"))], Some(1), |_| "state-ok".to_owned())
}

fn multi_round(call: &Call) -> Outcome {
    let first = [("step1", name("Step 1: What is your name?"))];
    let second = [("step2", elicit("Step 2: What is your favorite color?", "color", "string"))];
    let is_past_first = match (call.server.era, state(&call.params, &call.name)?) {
        (Era::Legacy, _) => matches!(ask(call, &first, None), Ok(Answers::All(_))),
        (Era::Modern, Some(1)) => inputs(&call.params, &first)?.is_some(),
        (Era::Modern, state) => state == Some(2),
    };
    let (questions, number) = if is_past_first { (second, 2) } else { (first, 1) };
    round(call, &questions, Some(number), |inputs| format!("Color: {}", words(&inputs[0]["content"]["color"])))
}

fn input_required(questions: &[(&str, Value)], state: Option<String>) -> Value {
    let requests: serde_json::Map<String, Value> =
        questions.iter().map(|(key, request)| ((*key).to_owned(), request.clone())).collect();
    let mut result = json!({ "resultType": "input_required", "inputRequests": requests });
    if let Some(state) = state {
        result["requestState"] = Value::from(state);
    }
    result
}

/// The answers in the order of the questions, or `None` if not all are there. Others are ignored.
fn inputs(params: &Object, questions: &[(&str, Value)]) -> Result<Option<Vec<Value>>, Failure> {
    if questions.is_empty() {
        return Ok(Some(Vec::new()));
    }
    if !params.contains_key("inputResponses") {
        return Ok(None);
    }
    let invalid = |what: &str| Failure::error(-32602, &format!("{what} must be an object"));
    let responses: Object = field(params, "inputResponses").ok_or_else(|| invalid("inputResponses"))?;
    let mut inputs = Vec::new();
    for (key, _) in questions {
        let Some(response) = responses.get(*key) else { return Ok(None) };
        let response: Option<Value> = serde_json::from_str(response.get()).ok();
        inputs.push(response.filter(Value::is_object).ok_or_else(|| invalid(key))?);
    }
    Ok(Some(inputs))
}

/// The number of the round that comes back; one that we did not make for `name` is refused.
fn state(params: &Object, name: &str) -> Result<Option<u64>, Failure> {
    if !params.contains_key("requestState") {
        return Ok(None);
    }
    let given: Option<String> = field(params, "requestState");
    let known = (1..=2).find(|number| given.as_ref() == Some(&seal(name, *number)));
    known.map(Some).ok_or_else(|| Failure::error(-32602, "requestState is not what this server made"))
}

fn seal(name: &str, number: u64) -> String {
    let mut hasher = DefaultHasher::new();
    (STATE_KEY, name, number).hash(&mut hasher);
    format!("{number}.{:016x}", hasher.finish())
}

fn capability(request: &Value) -> &'static str {
    match request["method"].as_str() {
        Some("elicitation/create") => "elicitation",
        Some("sampling/createMessage") => "sampling",
        _ => "roots",
    }
}

fn name(message: &str) -> Value {
    elicit(message, "name", "string")
}

fn elicit(message: &str, property: &str, kind: &str) -> Value {
    let asked = schema(json!({ property: { "type": kind } }), &[property]);
    json!({ "method": "elicitation/create", "params": { "mode": "form", "message": message, "requestedSchema": asked } })
}

pub(crate) fn sample(text: &str, max_tokens: u64) -> Value {
    let messages = json!([{ "role": "user", "content": { "type": "text", "text": text } }]);
    json!({ "method": "sampling/createMessage", "params": { "messages": messages, "maxTokens": max_tokens } })
}

pub(crate) fn roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

pub(crate) fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

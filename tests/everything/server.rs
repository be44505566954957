//! The state of one process, and one call of a tool in it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    modern::{CLIENT_CAPABILITIES, LOG_LEVEL, Listener, SERVER_INFO},
    rounds, tools,
    wire::{self, Failure, Object, Reply, field},
};

/// How long a tool waits for the client's answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// The severity of a log level, if there is such a level.
pub(crate) fn severity(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

/// Something that subscribers hear of.
#[derive(Clone, Copy)]
pub(crate) enum Change<'a> {
    Tools,
    Prompts,
    Resources,
    Updated(&'a str),
}

impl Change<'_> {
    /// The notification and its params.
    pub(crate) fn notification(self) -> (&'static str, Value) {
        match self {
            Self::Tools => ("notifications/tools/list_changed", json!({})),
            Self::Prompts => ("notifications/prompts/list_changed", json!({})),
            Self::Resources => ("notifications/resources/list_changed", json!({})),
            Self::Updated(uri) => ("notifications/resources/updated", json!({ "uri": uri })),
        }
    }
}

/// What a running call can be told.
enum Event {
    Cancelled,
    /// To the request of ours with this id.
    Answer(String, Result<Value, Value>),
}

pub(crate) struct Server {
    pub(crate) era: Era,
    /// Accepted calls of tools so far.
    pub(crate) calls: AtomicU64,
    /// Whether the lists have their additional entry now.
    pub(crate) more_tools: AtomicBool,
    pub(crate) more_prompts: AtomicBool,
    running: Mutex<HashMap<String, Sender<Event>>>,
    asked: Mutex<HashMap<String, Sender<Event>>>,
    last_asked: AtomicU64,
    /// Legacy: what the client said when it initialized.
    pub(crate) client: Mutex<Option<Value>>,
    /// Legacy: the severity from which on the client wants log messages.
    pub(crate) level: Mutex<usize>,
    /// Legacy: subscribed resources.
    pub(crate) subscribed: Mutex<BTreeSet<String>>,
    /// Modern: open `subscriptions/listen` requests.
    pub(crate) listeners: Mutex<Vec<Listener>>,
}

impl Server {
    pub(crate) fn new(era: Era) -> Arc<Self> {
        Arc::new(Self {
            era,
            calls: AtomicU64::new(0),
            more_tools: AtomicBool::new(false),
            more_prompts: AtomicBool::new(false),
            running: Mutex::default(),
            asked: Mutex::default(),
            last_asked: AtomicU64::new(0),
            client: Mutex::default(),
            level: Mutex::default(),
            subscribed: Mutex::default(),
            listeners: Mutex::default(),
        })
    }

    /// Answers, with what the modern era adds to every result.
    pub(crate) fn respond(&self, id: &str, outcome: wire::Outcome) {
        let outcome = outcome.map(|reply| match reply {
            Reply::Value(mut value) if self.era == Era::Modern => {
                if value.get("resultType").is_none() {
                    value["resultType"] = json!("complete");
                }
                value["_meta"][SERVER_INFO] = crate::identity();
                Reply::Value(value)
            }
            reply => reply,
        });
        wire::respond(id, outcome);
    }

    /// Runs `tools/call` or `prompts/get` in a thread of its own: it may wait for the client, and
    /// others must not.
    pub(crate) fn call(self: &Arc<Self>, id: &str, method: &str, params: Object) -> Result<(), Failure> {
        let name: String =
            field(&params, "name").ok_or_else(|| Failure::error(-32602, "params.name must be a string"))?;
        let is_tool = method == "tools/call";
        let run = match is_tool {
            true => tools::find(self, &name).map(|tool| tool.run),
            false => Some(rounds::prompt as fn(&Call) -> wire::Outcome),
        };
        let run = run.ok_or_else(|| Failure::error(-32602, &format!("unknown tool: {name}")))?;
        let arguments = params.get("arguments").map(|raw| serde_json::from_str::<Object>(raw.get()));
        let arguments = arguments
            .transpose()
            .map_err(|_| Failure::error(-32602, "params.arguments must be an object"))?
            .unwrap_or_default();
        let meta = field(&params, "_meta").unwrap_or_default();
        let (sender, events) = channel();
        // Before the thread runs, so that a cancellation that follows at once finds it.
        held(&self.running).insert(id.to_owned(), sender.clone());
        let number = self.calls.fetch_add(u64::from(is_tool), SeqCst) + 1;
        let call =
            Call { server: Arc::clone(self), id: id.to_owned(), name, number, params, arguments, meta, sender, events };
        std::thread::spawn(move || {
            let outcome = run(&call);
            // Whoever cancels takes it out: then nothing may be said any more.
            if held(&call.server.running).remove(&call.id).is_some() {
                call.server.respond(&call.id, outcome);
            }
        });
        Ok(())
    }

    /// `notifications/cancelled`.
    pub(crate) fn cancel(&self, params: &Object) {
        let Some(id) = params.get("requestId") else { return };
        if let Some(call) = held(&self.running).remove(id.get()) {
            let _ = call.send(Event::Cancelled);
        }
        held(&self.listeners).retain(|listener| listener.id != id.get());
    }

    /// The client's answer to a request of ours.
    pub(crate) fn answered(&self, id: &str, answer: Result<Value, Value>) {
        if let Some(call) = held(&self.asked).remove(id) {
            let _ = call.send(Event::Answer(id.to_owned(), answer));
        }
    }

    /// Tells everybody who wants to know; gives how many notifications that took.
    pub(crate) fn changed(&self, change: Change<'_>) -> usize {
        if self.era == Era::Modern {
            return held(&self.listeners).iter().filter(|listener| listener.notify(change)).count();
        }
        if matches!(change, Change::Updated(uri) if !held(&self.subscribed).contains(uri)) {
            return 0;
        }
        let (method, params) = change.notification();
        wire::notify(method, &params);
        1
    }
}

/// A `tools/call` or `prompts/get` that runs.
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    id: String,
    pub(crate) name: String,
    /// How many calls of tools there have been in this process, with this one.
    pub(crate) number: u64,
    pub(crate) params: Object,
    arguments: Object,
    meta: Object,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

impl Call {
    pub(crate) fn argument<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        field(&self.arguments, name)
    }

    pub(crate) fn meta<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        field(&self.meta, key)
    }

    pub(crate) fn meta_keys(&self) -> Vec<&String> {
        self.meta.keys().collect()
    }

    /// Whether the client declared `capability`: with this request, or when it initialized.
    pub(crate) fn client_can(&self, capability: &str) -> bool {
        let declared = match self.server.era {
            Era::Modern => self.meta(CLIENT_CAPABILITIES),
            Era::Legacy => held(&self.server.client).as_ref().map(|client| client["capabilities"].clone()),
        };
        declared.is_some_and(|capabilities: Value| capabilities.get(capability).is_some_and(Value::is_object))
    }

    /// Waits, unless the call is cancelled before.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Event::Cancelled) => return Err(Failure::Cancelled),
                // Too late: whoever asked has given up.
                Ok(Event::Answer(..)) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Sends requests to the client (legacy era only), all at once, and waits for all its answers;
    /// what is not answered within `patience` is withdrawn. `meanwhile` runs once all are sent.
    pub(crate) fn ask(
        &self,
        requests: &[&Value],
        patience: Duration,
        meanwhile: impl FnOnce(),
    ) -> Result<Vec<Result<Value, Value>>, Failure> {
        // Numbers that the client's own ids have too: the two directions do not share them.
        let number = || self.server.last_asked.fetch_add(1, SeqCst) + 1;
        let numbers: Vec<u64> = requests.iter().map(|_| number()).collect();
        for (number, request) in numbers.iter().zip(requests) {
            held(&self.server.asked).insert(number.to_string(), self.sender.clone());
            let (method, params) = (&request["method"], &request["params"]);
            wire::send(&json!({ "jsonrpc": "2.0", "id": number, "method": method, "params": params }).to_string());
        }
        meanwhile();
        let mut answers = HashMap::new();
        let mut is_cancelled = false;
        while answers.len() < numbers.len() {
            match self.events.recv_timeout(patience) {
                Ok(Event::Answer(number, answer)) => _ = answers.insert(number, answer),
                other => {
                    is_cancelled = other.is_ok();
                    break;
                }
            }
        }
        let mut taken = Vec::new();
        for number in numbers {
            taken.push(answers.remove(&number.to_string()).unwrap_or_else(|| {
                held(&self.server.asked).remove(&number.to_string());
                wire::notify("notifications/cancelled", &json!({ "requestId": number }));
                Err(json!({ "message": "the client did not answer" }))
            }));
        }
        if is_cancelled { Err(Failure::Cancelled) } else { Ok(taken) }
    }

    /// Reports progress, if the request has a token for it.
    pub(crate) fn progress(&self, progress: u64, total: u64) {
        if let Some(token) = self.meta.get("progressToken") {
            let token = token.get();
            wire::send(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{progress},"total":{total}}}}}"#
            ));
        }
    }

    /// Reports progress in words, if the request has a token for it.
    pub(crate) fn remark(&self, words: &str) {
        if let Some(token) = self.meta.get("progressToken") {
            let params = json!({ "progressToken": token, "progress": 1, "message": words });
            wire::notify("notifications/progress", &params);
        }
    }

    /// Sends a log message, if the client wants messages of that level.
    pub(crate) fn log(&self, level: &str, data: &str) {
        let threshold = match self.server.era {
            Era::Legacy => Some(*held(&self.server.level)),
            Era::Modern => self.meta::<String>(LOG_LEVEL).and_then(|level| severity(&level)),
        };
        if threshold.is_some_and(|threshold| severity(level) >= Some(threshold)) {
            let params = json!({ "level": level, "logger": "everything", "data": data });
            wire::notify("notifications/message", &params);
        }
    }
}

/// Locks; nothing panics while it holds one of our locks.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

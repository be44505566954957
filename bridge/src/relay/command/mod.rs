//! A command as a backend: its processes, who gets which, and the eras on both sides of them.

mod adapted;
mod ask;
mod children;
mod ear;
mod kept;
mod kind;
mod listen;
mod modern;
mod native;
pub mod offer;
mod opening;
mod out;
mod outbox;
mod parked;
mod pool;
mod probe;
mod request;
mod session;
mod shares;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use mcp_calculator::server::Era;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    children::{Child, Children, StartError},
    kept::Kept,
    kind::{Kind, Opening},
    out::Out,
    parked::Parking,
    pool::Pool,
    probe::Eras,
    request::Modern,
};
use crate::{
    backend::{
        Answer, Answered, Backend, Call, Opened, Reply,
        child::{Start, Undertaker},
    },
    config::server::Isolation,
    edit::Edit,
    era::{EnvelopeError, Value},
    message::{INTERNAL_ERROR, Request, shown},
    relay::{
        owner::Owner,
        param_headers::{InvalidTool, ToolHeaders},
        translate::{capabilities::discover_result, errors::Translated},
    },
    telemetry::metrics::Metrics,
    token::{NotReady, VerifiedToken},
};

/// What a command is served with.
pub struct Settings {
    /// What to start.
    pub program: Arc<dyn Start>,
    /// Who gets which process.
    pub isolation: Isolation,
    /// Processes that are ready before somebody needs them.
    pub pool: usize,
    /// After this long without a request, the pool shrinks to one.
    pub pool_idle: Duration,
    /// Processes at once.
    pub max_children: usize,
    /// Whether principals are told apart, and each is bounded for the sake of the others.
    pub tell_apart: bool,
    /// How long a process may take until it answers.
    pub start_timeout: Duration,
    /// How long a process that belongs to one user is kept without use.
    pub idle: Duration,
    /// Where processes are counted.
    pub metrics: Arc<Metrics>,
}

/// A command, served.
pub struct Command(Arc<Served>);

/// What all its requests share.
struct Served {
    isolation: Isolation,
    children: Arc<Children>,
    pool: Arc<Pool>,
    kept: Kept,
    parking: Parking,
    tasks: TaskTracker,
    undertaker: Undertaker,
    stop_within: Duration,
    eras: watch::Sender<Option<Result<Arc<Eras>, StartError>>>,
    probing: tokio::sync::Mutex<()>,
    tools: RwLock<ToolHeaders>,
    /// Subscriptions end.
    draining: CancellationToken,
}

impl Command {
    /// Serves a command; its first process is started at once. Must be called in a tokio runtime.
    ///
    /// Its end is that of all the undertaker's processes; who owns the undertaker closes it after that.
    pub fn new(settings: Settings, undertaker: Undertaker) -> Self {
        let shared = settings.isolation == Isolation::Shared;
        let tasks = TaskTracker::new();
        let stop_within = settings.program.grace() * 2;
        let children = Arc::new(Children::new(
            settings.program,
            settings.start_timeout,
            settings.max_children,
            settings.tell_apart,
            shared,
            undertaker.clone(),
            tasks.clone(),
            settings.metrics,
        ));
        let size = if shared { 0 } else { settings.pool };
        let served = Served {
            isolation: settings.isolation,
            pool: Arc::new(Pool::new(Arc::clone(&children), size, settings.pool_idle, tasks.clone())),
            children,
            kept: Kept::new(settings.idle),
            parking: Parking::new(settings.tell_apart),
            tasks,
            undertaker,
            stop_within,
            eras: watch::Sender::new(None),
            probing: tokio::sync::Mutex::new(()),
            tools: RwLock::default(),
            draining: CancellationToken::new(),
        };
        let command = Self(Arc::new(served));
        let served = Arc::clone(&command.0);
        command.0.tasks.spawn(async move {
            // What goes wrong is logged, makes the bridge unready, and is tried again.
            let _ = served.eras().await;
        });
        command
    }
}

impl Served {
    fn is_shared(&self) -> bool {
        self.isolation == Isolation::Shared
    }

    /// Which eras the command speaks: found out once, by whoever asks first.
    async fn eras(&self) -> Result<Arc<Eras>, StartError> {
        let known = || self.eras.borrow().as_ref().and_then(|known| known.clone().ok());
        if let Some(eras) = known() {
            return Ok(eras);
        }
        let _probing = self.probing.lock().await;
        if let Some(eras) = known() {
            return Ok(eras);
        }
        let probed = probe::probe(&self.children).await;
        let outcome = match probed {
            Ok((eras, there)) => {
                self.children.recovered();
                self.begin(&eras, there).await;
                Ok(Arc::new(eras))
            }
            Err(error) => Err(error),
        };
        self.eras.send_replace(Some(outcome.clone()));
        outcome
    }

    /// As what modern clients' requests reach the server; `None` while that is not known, and never
    /// anything else afterwards.
    fn speaks(&self) -> Option<Era> {
        let eras = self.eras.borrow();
        let eras = eras.as_ref()?.as_ref().ok()?;
        Some(if eras.modern.is_some() { Era::Modern } else { Era::Legacy })
    }

    /// Learns the tools, and hands the children that have been started over to the pool.
    async fn begin(&self, eras: &Eras, there: Vec<Child>) {
        let kind = eras.usual();
        let by = Instant::now() + self.children.start_timeout().min(TOOLS_WITHIN);
        if let Some(child) = there.iter().find(|child| *child.kind() == kind) {
            for page in opening::tools(child.link(), child.opening(), by).await {
                self.seen_result("tools/list", &page);
            }
        }
        self.pool.begin(&kind, there);
    }

    /// Finds out whether the command works: after something went wrong, so that readiness comes back by
    /// itself, because whoever looks at it may be what sends the requests; and when it has failed for
    /// one client, whose fault it may be.
    async fn look_again(&self) {
        let Ok(_probing) = self.probing.try_lock() else { return };
        let kind = self.eras.borrow().as_ref().and_then(|eras| eras.as_ref().ok()).map(|eras| eras.usual());
        if let Some(kind) = kind
            && self.children.start_as(&kind, &[], false).await.is_ok()
        {
            self.pool.tidy();
        }
    }

    /// [Looks again](Self::look_again) without keeping whoever has a reason for it.
    fn look_again_soon(self: &Arc<Self>) {
        let served = Arc::clone(self);
        self.tasks.spawn(async move { served.look_again().await });
    }

    /// A child for one request: the owner's, everybody's, or one that is used for nothing else.
    async fn child_for(&self, owner: &Owner, caller: &VerifiedToken, kind: &Kind) -> Result<Arc<Child>, StartError> {
        match self.isolation {
            Isolation::Session if kind.can_be_kept() => {
                let key = (Some(owner.clone()), kind.clone());
                self.kept.get(key, || self.take_child(owner, caller, kind, None)).await
            }
            Isolation::Request | Isolation::Session => {
                // A modern server needs no handshake, and what it says of itself is known: the request is
                // the first thing that a new one hears.
                let known = self.eras.borrow().as_ref().and_then(|eras| eras.as_ref().ok()?.modern.clone());
                let known = known.filter(|_| *kind == Kind::Modern).map(Opening::Modern);
                self.take_child(owner, caller, kind, known.as_ref()).await.map(Arc::new)
            }
            Isolation::Shared => {
                let key = (None, kind.clone());
                self.kept.get(key, || self.children.start_as(kind, &[], true)).await
            }
        }
    }

    /// A child that is the owner's alone.
    async fn take_child(
        &self,
        owner: &Owner,
        caller: &VerifiedToken,
        kind: &Kind,
        known: Option<&Opening>,
    ) -> Result<Child, StartError> {
        let principal = owner.principal();
        let make_room = |of| self.parking.give_up_server(of) || self.kept.give_up_idle(of);
        let take = || self.pool.take(kind, &principal, || ask::environment(caller), known, || _ = make_room(None));
        let mut taken = take().await;
        if matches!(taken, Err(StartError::Share { .. })) && make_room(Some(&principal)) {
            taken = take().await;
        }
        if matches!(taken, Err(StartError::Failed { .. })) && self.children.trouble().is_none() {
            self.look_again().await;
        }
        taken
    }

    /// What a legacy server is opened as, for a modern client that can do this. One for all can ask
    /// nobody.
    fn legacy_kind(&self, capabilities: &str) -> Kind {
        Kind::legacy(if self.is_shared() { "{}" } else { capabilities })
    }

    fn translated_discover(&self, eras: &Eras) -> Option<Bytes> {
        let initialized = std::str::from_utf8(eras.legacy.as_ref()?).ok()?;
        discover_result(initialized).map(Into::into)
    }

    fn learn_tools(&self, result: &str) {
        let invalid = self.tools.write().unwrap_or_else(PoisonError::into_inner).add_page(result);
        for InvalidTool { name, reason } in invalid {
            let (server, tool) = (self.children.name(), shown(&name));
            tracing::debug!(server, %tool, reason, "the headers of a tool are not looked at");
        }
    }

    fn not_started(&self, id: &str, error: &StartError) -> Answered {
        // What is wrong with the command is the operator's to know.
        let text = match error {
            StartError::Failed { .. } => "Internal error: the server behind this bridge cannot be started now",
            StartError::Full { .. } => "Internal error: the server behind this bridge is used by too many clients now",
            StartError::Share { .. } => "Internal error: you use too many servers behind this bridge at once",
        };
        Answered::Unavailable(Answer::error(id, INTERNAL_ERROR, text, None), error.retry_in())
    }

    async fn unavailable(&self, out: &Out, error: &StartError) {
        tracing::warn!(%error, "a request cannot be served");
        out.last(self.not_started(out.id(), error)).await;
    }
}

/// How long after the last process is killed the work for it may take to end.
const STRAGGLERS_WITHIN: Duration = Duration::from_secs(5);

/// How long the first look at the tools may take; it is only needed for headers.
const TOOLS_WITHIN: Duration = Duration::from_secs(5);

/// An error object, as JSON text, with what its translation changes.
fn translated_error(error: &str, translated: Translated) -> String {
    let mut edit = Edit::parse(error).unwrap_or_default();
    edit.set("code", translated.code.to_string());
    if let Some(data) = translated.data {
        edit.set("data", data);
    }
    edit.to_json()
}

/// What a legacy server says of itself, to clients that share it: without tasks, which it would show to
/// all of them.
fn without_tasks(initialized: &Bytes) -> Bytes {
    let stripped = || {
        let mut result = Edit::parse(std::str::from_utf8(initialized).ok()?)?;
        let capabilities = Edit::parse(result.get("capabilities")?)?.remove("tasks").to_json();
        Some(result.set("capabilities", capabilities).to_json().into())
    };
    stripped().unwrap_or_else(|| initialized.clone())
}

impl Backend for Command {
    fn call<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Reply> {
        let request = Modern::of(&call, self.0.speaks());
        let served = Arc::clone(&self.0);
        // A subscription lasts until somebody ends it.
        let timeout = (request.ask.method != "subscriptions/listen").then_some(call.timeout);
        let id = request.ask.id.clone();
        let patience = call.streams.then_some(call.patience);
        out::begin(&self.0.tasks, id, timeout, patience, move |out| served.modern(request, out)).boxed()
    }

    fn open<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Opened> {
        async move {
            let id = call.request.id.as_json();
            let eras = match tokio::time::timeout(call.timeout, self.0.eras()).await {
                Ok(Ok(eras)) => eras,
                Ok(Err(error)) => return Opened { reply: self.0.not_started(id, &error), conversation: None },
                Err(_) => {
                    return Opened { reply: Answered::TimedOut(out::late(id, call.timeout)), conversation: None };
                }
            };
            if eras.legacy.is_some() { native::open(&self.0, call).await } else { adapted::open(&self.0, call).await }
        }
        .boxed()
    }

    fn check_arguments<'h>(
        &self,
        request: &Request<'_>,
        header: &dyn Fn(&str) -> Value<'h>,
    ) -> Result<(), EnvelopeError> {
        let (Some(tool), "tools/call") = (&request.params.target, request.method.as_ref()) else { return Ok(()) };
        let tools = self.0.tools.read().unwrap_or_else(PoisonError::into_inner);
        tools.check(tool, request.params.arguments.as_ref(), header)
    }

    fn only_streams(&self, request: &Request<'_>) -> bool {
        request.method == "subscriptions/listen"
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), NotReady>> {
        async move {
            let detail = match &*self.0.eras.borrow() {
                None => "the server has not answered yet".to_owned(),
                Some(Err(error)) => error.to_string(),
                Some(Ok(_)) => match self.0.children.trouble() {
                    None => return Ok(()),
                    Some(why) => why,
                },
            };
            Err(NotReady { reason: "the server behind this bridge cannot be started", detail })
        }
        .boxed()
    }

    fn tidy(&self) {
        self.0.parking.tidy();
        self.0.kept.tidy();
        if self.0.eras.borrow().as_ref().is_some_and(Result::is_ok) {
            match self.0.children.trouble() {
                // Those that nobody has used say nothing about why they are gone.
                None if self.0.pool.tidy() => self.0.look_again_soon(),
                None => {}
                Some(_) if self.0.children.may_start() => self.0.look_again_soon(),
                Some(_) => {}
            }
        } else if self.0.children.may_start() {
            let served = Arc::clone(&self.0);
            self.0.tasks.spawn(async move {
                let _ = served.eras().await;
            });
        }
    }

    fn end_streams(&self) {
        self.0.draining.cancel();
    }

    fn shut_down(&self) -> BoxFuture<'_, ()> {
        async move {
            self.0.pool.close();
            self.0.parking.clear();
            self.0.kept.clear();
            // What still holds a process must not keep it.
            self.0.undertaker.end();
            self.0.tasks.close();
            let (server, by) = (self.0.children.name(), self.0.stop_within + STRAGGLERS_WITHIN);
            if tokio::time::timeout(by, self.0.tasks.wait()).await.is_err() {
                tracing::warn!(server, tasks = self.0.tasks.len(), "some work for a server does not end; it is left");
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_server_does_not_show_its_tasks() {
        for (said, told) in [
            (r#"{"capabilities":{"tools":{},"tasks":{"list":{}}},"x":1}"#, r#"{"capabilities":{"tools":{}},"x":1}"#),
            (r#"{"capabilities":{"tools":{}}}"#, r#"{"capabilities":{"tools":{}}}"#),
            ("{}", "{}"),
        ] {
            assert_eq!(without_tasks(&Bytes::from_static(said.as_bytes())), told);
        }
    }
}

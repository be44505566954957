//! From a program to a process, and from a process to its end.

use std::{
    collections::BTreeSet,
    fmt,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

#[cfg(target_os = "linux")]
use crate::backend::child::{orphans, watcher::Watcher};
use crate::{
    backend::child::{
        ExitDescription, Handle, INSTANCE_VARIABLE, Orders, Output, Pipe, Process, Program, SpawnError, errors,
        group::Group, input,
    },
    sync::Locked as _,
};

/// How long the dead may take to be buried once they were killed.
const KILLED_MAX: Duration = Duration::from_secs(1);

/// Owns every task that feeds, hears and ends a process, and joins them at shutdown.
///
/// Clones are one undertaker. It lives as long as any of its processes.
#[derive(Clone)]
pub struct Undertaker(Arc<Shared>);

struct Shared {
    tasks: TaskTracker,
    /// Children of these tokens are every process's own.
    end: CancellationToken,
    kill: CancellationToken,
    /// How many processes are not over.
    living: AtomicUsize,
    /// The value of [`INSTANCE_VARIABLE`].
    instance: String,
    #[cfg(target_os = "linux")]
    watcher: Option<Watcher>,
}

/// The processes of all undertakers that are not over, which only their keepers may wait for.
static LIVING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Held for reading while a process is started and not yet among the living.
static BIRTHS: RwLock<()> = RwLock::new(());

impl Undertaker {
    /// An undertaker whose processes end with this program, however it ends.
    ///
    /// On Linux that takes a second process, the [watcher](crate::backend::child::watcher), which is
    /// started with the first child from this very program: it must be `mcp-bridge`.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn new() -> Result<Self, getrandom::Error> {
        Self::with(true)
    }

    /// An undertaker without a watcher, for programs that are not `mcp-bridge`: tests and benches.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn unwatched() -> Result<Self, getrandom::Error> {
        Self::with(false)
    }

    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only Linux has a watcher"))]
    fn with(watched: bool) -> Result<Self, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let instance = format!("{:032x}", u128::from_be_bytes(random));
        Ok(Self(Arc::new(Shared {
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
            kill: CancellationToken::new(),
            living: AtomicUsize::new(0),
            #[cfg(target_os = "linux")]
            watcher: watched.then(|| Watcher::new(&instance)),
            instance,
        })))
    }

    /// How many processes are not over.
    pub fn living(&self) -> usize {
        self.0.living.load(Ordering::Relaxed)
    }

    /// What marks this undertaker's processes: the value of [`INSTANCE_VARIABLE`] in their
    /// environment.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// Ends all processes as if their handles had been dropped, each within its own grace, and starts no
    /// others. Does not wait for them: that is for [`close`](Self::close).
    pub fn end(&self) {
        self.0.tasks.close();
        self.0.end.cancel();
    }

    /// [Ends](Self::end) all processes and waits for their ends. After `at_most`, which is for all of them,
    /// the rest is killed; then it takes a second at most. To be called once, last.
    pub async fn close(&self, at_most: Duration) {
        let shared = &*self.0;
        self.end();
        if timeout(at_most, shared.tasks.wait()).await.is_err() {
            shared.kill.cancel();
            if timeout(KILLED_MAX, shared.tasks.wait()).await.is_err() {
                warn!(living = self.living(), "children were killed and do not end; the system holds them");
            }
        }
        #[cfg(target_os = "linux")]
        if let Some(watcher) = &shared.watcher {
            watcher.dismiss();
        }
    }

    /// Where tasks are that [`close`](Self::close) waits for.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// The orders of one more process.
    ///
    /// # Errors
    /// [`SpawnError::Closing`]
    pub(super) fn orders(&self) -> Result<Orders, SpawnError> {
        let shared = &*self.0;
        if shared.tasks.is_closed() {
            return Err(SpawnError::Closing);
        }
        Ok(Orders { end: shared.end.child_token(), kill: shared.kill.child_token(), over: CancellationToken::new() })
    }

    fn spawn(
        &self,
        program: &Program,
        identity: &[(&'static str, String)],
        until_over: Box<dyn Send + Sync>,
    ) -> Result<Process, SpawnError> {
        let shared = &*self.0;
        let orders = self.orders()?;
        #[cfg(target_os = "linux")]
        if let Some(watcher) = &shared.watcher {
            watcher.ensure();
        }
        let command = self.command(program, identity);
        let birth = BIRTHS.read().unwrap_or_else(PoisonError::into_inner);
        let started = Group::spawn(command);
        let (group, (stdin, stdout, stderr)) = started.map_err(|error| SpawnError::explain(program, error))?;
        let id = group.id();
        let alive = Alive::new(self.clone(), id, until_over);
        drop(birth);

        let (tell, ended) = watch::channel(None);
        let (input, writing) = input::open(stdin, orders.clone());
        let output = Output::new(Pipe::Process(stdout), program.max_line_bytes, orders.over.clone());
        let keeper =
            Keeper { group, name: program.name.clone(), grace: program.grace, orders: orders.clone(), tell, alive };
        let logging = errors::log(stderr, program.name.clone(), id, orders.over.clone(), program.hears.clone());
        // One task: each would be woken on its own, when the process starts and when it ends.
        shared.tasks.spawn(async move { tokio::join!(writing, logging, keeper.keep()) });
        Ok(Process { input, output, handle: Handle { id, orders, ended } })
    }

    fn command(&self, program: &Program, identity: &[(&'static str, String)]) -> Command {
        let located = program.locate();
        let mut command = Command::new(located.as_deref().map_or(&*program.command, |path| path.as_os_str()));
        #[cfg(unix)]
        std::os::unix::process::CommandExt::arg0(&mut command, &program.command);
        command.args(&program.arguments);
        command.env_clear().envs(program.environment.iter().map(|(name, value)| (name, value)));
        command.envs(identity.iter().map(|(name, value)| (name, value))).env(INSTANCE_VARIABLE, &self.0.instance);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(folder) = &program.working_dir {
            command.current_dir(folder);
        }
        command
    }
}

impl fmt::Debug for Undertaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undertaker").field("living", &self.living()).finish_non_exhaustive()
    }
}

impl Program {
    /// Starts it, in a process group (on Windows a Job Object) of its own, with `identity` on top of
    /// its environment. Must be called in a tokio runtime; takes the time of a fork, about a
    /// millisecond.
    ///
    /// Who drops the process's handle ends it; `undertaker` sees to that. `until_over` is dropped
    /// when the process is over, its group killed.
    ///
    /// # Errors
    /// [`SpawnError`] says what is wrong and what to do.
    pub fn spawn(
        &self,
        identity: &[(&'static str, String)],
        undertaker: &Undertaker,
        until_over: impl Send + Sync + 'static,
    ) -> Result<Process, SpawnError> {
        undertaker.spawn(self, identity, Box::new(until_over))
    }
}

/// Waits for those who have lost their parents, if that falls to us: see [`orphans`].
#[cfg(target_os = "linux")]
fn bury_orphans() {
    if orphans::are_ours() {
        bury_all_but_ours();
    }
}

/// Waits for every child of this process that has ended and is no undertaker's.
#[cfg(target_os = "linux")]
pub(super) fn bury_all_but_ours() {
    let _no_birth = BIRTHS.write().unwrap_or_else(PoisonError::into_inner);
    let living = LIVING.locked();
    orphans::bury(|id| !living.contains(&id));
}

/// Counts a process as living.
struct Alive {
    undertaker: Undertaker,
    id: u32,
    _until_over: Box<dyn Send + Sync>,
}

impl Alive {
    fn new(undertaker: Undertaker, id: u32, until_over: Box<dyn Send + Sync>) -> Self {
        undertaker.0.living.fetch_add(1, Ordering::Relaxed);
        LIVING.locked().insert(id);
        Self { undertaker, id, _until_over: until_over }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        LIVING.locked().remove(&self.id);
        self.undertaker.0.living.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sees one process through to its end.
struct Keeper {
    group: Group,
    name: String,
    grace: Duration,
    orders: Orders,
    tell: watch::Sender<Option<ExitDescription>>,
    alive: Alive,
}

impl Keeper {
    async fn keep(mut self) {
        let id = self.group.id();
        let kill = self.orders.kill.clone();
        tokio::select! {
            biased;
            () = kill.cancelled() => {}
            () = self.until_due() => {}
        }
        // What the leader has left behind, or all of it. The leader has not been waited for, so the
        // group is still ours.
        self.group.kill();
        self.group.exited().await;
        let how = ExitDescription(self.group.reap());
        debug!(child = self.name, pid = id, "the child {how}");
        self.orders.over.cancel();
        #[cfg(target_os = "linux")]
        bury_orphans();
        drop(self.alive);
        self.tell.send_replace(Some(how));
    }

    /// Waits until the leader has exited by itself or because it was asked to, or has been asked often
    /// enough.
    async fn until_due(&mut self) {
        tokio::select! {
            () = self.group.exited() => return,
            // The task that writes its input closes that by itself.
            () = self.orders.end.cancelled() => {}
        }
        if timeout(self.grace, self.group.exited()).await.is_ok() {
            return;
        }
        self.group.terminate();
        if timeout(self.grace, self.group.exited()).await.is_err() {
            let (child, pid) = (&*self.name, self.group.id());
            warn!(child, pid, "the child ends neither with its input nor on SIGTERM, and is killed");
        }
    }
}

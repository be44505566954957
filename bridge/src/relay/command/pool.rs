//! Children that are ready before somebody needs them.
//!
//! Whoever sends a request says what it needs, and may say something else each time: what is ready for
//! others must not have to go for that.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{
    children::{Child, Children, StartError},
    kind::{Kind, Opening},
};
use crate::{relay::owner::Principal, telemetry::labels::ChildSource};

/// Children that are started at once to fill the pool: more would take the machine from the requests.
const STARTS_AT_ONCE: usize = 2;

/// A client's own kind is wanted when it comes again among so many.
const RECENT_MAX: usize = 32;

/// Keeps some children ready: of the kinds that were asked for last.
pub(super) struct Pool {
    children: Arc<Children>,
    size: usize,
    idle: Duration,
    tasks: TaskTracker,
    state: Mutex<State>,
}

struct State {
    ready: Vec<Child>,
    /// Being started.
    coming: Vec<Kind>,
    wanted: Wanted,
    /// Requests that wait for a place.
    needed: usize,
    last_use: Instant,
    closed: bool,
}

impl Pool {
    /// A pool of `size` children that shrinks to one after `idle` without use.
    pub(super) fn new(children: Arc<Children>, size: usize, idle: Duration, tasks: TaskTracker) -> Self {
        let state = State {
            ready: Vec::new(),
            coming: Vec::new(),
            wanted: Wanted::default(),
            needed: 0,
            last_use: Instant::now(),
            closed: false,
        };
        Self { children, size, idle, tasks, state: Mutex::new(state) }
    }

    /// Says what will probably be asked for first, and gives what is there already.
    pub(super) fn begin(self: &Arc<Self>, kind: &Kind, there: Vec<Child>) {
        let mut state = self.lock();
        state.wanted.kinds = std::iter::repeat_n(kind.clone(), self.size).collect();
        state.ready = there;
        state.ready.truncate(self.size);
        drop(state);
        self.refill();
    }

    /// A child of this kind for `principal`: a ready one, else a new one, to which `identity` is
    /// said. Waits for a place while there is none; `make_room` is called if none that is ready could
    /// make room. With `known`, what a new one would say at its opening, it is not asked. Cancel-safe.
    ///
    /// # Errors
    /// [`StartError`]
    pub(super) async fn take(
        self: &Arc<Self>,
        kind: &Kind,
        principal: &Principal,
        identity: impl Fn() -> Vec<(&'static str, String)>,
        known: Option<&Opening>,
        make_room: impl FnOnce(),
    ) -> Result<Child, StartError> {
        let share = self.children.share_of(principal).await?;
        let ready = {
            let mut state = self.lock();
            state.last_use = Instant::now();
            let others_are_wanted = state.wanted.note(kind, self.size);
            state.ready.retain(|child| child.link().end().is_none());
            let at = state.ready.iter().position(|child| child.kind() == kind);
            let ready = at.map(|at| state.ready.remove(at));
            let unwanted = if others_are_wanted { state.unwanted() } else { Vec::new() };
            drop(state);
            drop(unwanted);
            ready
        };
        self.children.used(if ready.is_some() { ChildSource::Pool } else { ChildSource::Start });
        let child = match ready {
            Some(child) => child,
            None => match self.start(kind, &identity(), known, false).await {
                Err(StartError::Full { .. }) => {
                    // Children that wait for others make room for one that is needed, also those that
                    // come meanwhile.
                    let _needed = Needed::new(self);
                    let least = self.lock().ready.pop();
                    if least.is_none() {
                        make_room();
                    }
                    drop(least);
                    self.start(kind, &identity(), known, true).await?
                }
                started => started?,
            },
        };
        self.refill();
        Ok(child.shared_by(share))
    }

    async fn start(
        &self,
        kind: &Kind,
        identity: &[(&'static str, String)],
        known: Option<&Opening>,
        wait: bool,
    ) -> Result<Child, StartError> {
        match known {
            Some(opening) => {
                let child = self.children.start_blank(identity, wait).await?;
                Ok(child.opened(kind.clone(), opening.clone()))
            }
            None => self.children.start_as(kind, identity, wait).await,
        }
    }

    /// Ends what has died or is not wanted any more, and starts what is missing. Gives whether one has died
    /// that had never answered anything, so that its successors may do the same.
    pub(super) fn tidy(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        if state.last_use.elapsed() >= self.idle {
            state.wanted.kinds.truncate(1);
        }
        let dead: Vec<Child> = state.ready.extract_if(.., |child| child.link().end().is_some()).collect();
        let unwanted = state.unwanted();
        drop(state);
        let one_said_nothing = dead.iter().any(|child| !child.is_proven());
        drop((dead, unwanted));
        self.refill();
        one_said_nothing
    }

    /// Ends all that wait, and starts none any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ready.clear();
    }

    fn refill(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            if state.closed || state.needed > 0 || state.coming.len() >= STARTS_AT_ONCE || !self.children.may_start() {
                return;
            }
            let Some(kind) = state.missing() else { return };
            state.coming.push(kind.clone());
            drop(state);
            let pool = Arc::clone(self);
            self.tasks.spawn(async move {
                // Whoever has just taken one goes first.
                pool.children.after_the_request().await;
                let started = pool.children.start_as(&kind, &[], false).await;
                let mut state = pool.lock();
                if let Some(at) = state.coming.iter().position(|coming| *coming == kind) {
                    state.coming.remove(at);
                }
                match started {
                    Ok(child) if !state.closed && state.needed == 0 => state.ready.push(child),
                    Ok(_) => return,
                    Err(error) => {
                        debug!(%error, "the pool is not full");
                        return;
                    }
                }
                drop(state);
                pool.refill();
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for a place. As long as there is one, no child is kept ready.
struct Needed<'p>(&'p Pool);

impl<'p> Needed<'p> {
    fn new(pool: &'p Pool) -> Self {
        pool.lock().needed += 1;
        Self(pool)
    }
}

impl Drop for Needed<'_> {
    fn drop(&mut self) {
        self.0.lock().needed -= 1;
    }
}

impl State {
    /// Takes away the children that are not wanted any more.
    fn unwanted(&mut self) -> Vec<Child> {
        let mut left = self.wanted.kinds.clone();
        self.ready.extract_if(.., |child| !take(&mut left, child.kind())).collect()
    }

    /// A kind that is wanted and neither there nor coming.
    fn missing(&self) -> Option<Kind> {
        let mut left = self.wanted.kinds.clone();
        for kind in self.ready.iter().map(Child::kind).chain(&self.coming) {
            take(&mut left, kind);
        }
        left.pop_front()
    }
}

/// What was asked for last.
#[derive(Debug, Default)]
struct Wanted {
    /// Newest first: one entry for each child to keep ready.
    kinds: VecDeque<Kind>,
    /// Clients' own kinds, newest first, wanted or not.
    recent: VecDeque<Kind>,
}

impl Wanted {
    /// Notes a use, and gives whether others are wanted now than before. A kind that is one client's own
    /// may never come again, and is wanted when it has.
    fn note(&mut self, kind: &Kind, size: usize) -> bool {
        if kind.is_a_clients_own() {
            if !kind.can_be_kept() {
                return false;
            }
            let is_known = self.recent.contains(kind);
            self.recent.push_front(kind.clone());
            self.recent.truncate(RECENT_MAX);
            if !is_known {
                return false;
            }
        }
        if self.kinds.len() == size && self.kinds.iter().all(|wanted| wanted == kind) {
            return false;
        }
        self.kinds.push_front(kind.clone());
        self.kinds.truncate(size);
        true
    }
}

/// Takes one of this kind away, if there is one.
fn take(kinds: &mut VecDeque<Kind>, kind: &Kind) -> bool {
    let at = kinds.iter().position(|wanted| wanted == kind);
    at.and_then(|at| kinds.remove(at)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_last_is_wanted() {
        let mut wanted = Wanted::default();
        let (modern, blank) = (Kind::Modern, Kind::Blank);
        for kind in [&blank, &modern, &modern] {
            wanted.note(kind, 2);
        }
        assert_eq!(wanted.kinds, [Kind::Modern, Kind::Modern]);
        assert!(!wanted.note(&modern, 2), "nothing else is wanted now");
        assert!(wanted.note(&blank, 2));
        assert_eq!(wanted.kinds, [Kind::Blank, Kind::Modern]);
        assert!(take(&mut wanted.kinds, &modern) && !take(&mut wanted.kinds, &modern));
        wanted.note(&modern, 0);
        assert_eq!(wanted.kinds, []);
    }

    #[test]
    fn clients_that_are_always_new_do_not_decide_what_is_ready() {
        let mut wanted = Wanted::default();
        let kind = |name: &str| Kind::legacy(&format!(r#"{{"experimental":{{"{name}":{{}}}}}}"#));
        wanted.note(&Kind::Modern, 1);
        for number in 0..1000 {
            wanted.note(&kind(&number.to_string()), 1);
        }
        let long = kind(&"x".repeat(5000));
        for _ in 0..2 {
            assert!(!wanted.note(&long, 1));
        }
        assert_eq!((&wanted.kinds, wanted.recent.len()), (&[Kind::Modern].into(), RECENT_MAX));
        wanted.note(&kind("999"), 1);
        assert_eq!(wanted.kinds, [kind("999")], "it has come again");
    }
}

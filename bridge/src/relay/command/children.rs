//! Processes of one program: started within bounds, opened, counted, and not started in a hurry
//! after they have failed.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{
    ear::Ear,
    kind::{Kind, Opening},
    opening,
    shares::{Holding, Shares, Using},
};
use crate::{
    backend::{
        child::{Start, Undertaker},
        link::{Audience, Exchange, Link, Listener},
    },
    relay::owner::Principal,
    telemetry::{
        labels::{ChildSource, ChildStart},
        metrics::Metrics,
    },
};

/// The first pause after a failed start; it doubles with each further one.
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// How long a request waits for a place: by then it is kinder to tell the client.
const PLACE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a process's start and end, which cost as much as many requests, wait for the request that
/// causes them: longer than a quick one takes, until its client has the answer.
const AFTER_THE_REQUEST: Duration = Duration::from_millis(1);

/// A child that is ready for use. Dropping it ends it.
pub(super) struct Child {
    link: Link,
    kind: Kind,
    opening: Opening,
    /// Whether it has answered something.
    is_proven: bool,
    ear: Arc<Ear>,
    /// Its process's place, as long as that lives.
    place: Weak<Place>,
    /// Whom it is counted for.
    _using: Option<Using>,
    /// How many have subscribed to which resource through it; each under a lock of its own.
    watchers: Mutex<HashMap<String, Arc<AsyncMutex<usize>>>>,
}

/// A process's place among those that may run at once, until it is over.
struct Place {
    _slot: OwnedSemaphorePermit,
    /// Whose share of the places it is in.
    holding: Mutex<Option<Holding>>,
}

impl Child {
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(super) fn opening(&self) -> &Opening {
        &self.opening
    }

    pub(super) fn ear(&self) -> &Arc<Ear> {
        &self.ear
    }

    /// The subscribers of a resource. Whoever tells the server to begin or to stop holds the lock until
    /// that is answered: an end that overtakes a beginning would be the end of both.
    pub(super) fn watchers<'c>(&'c self, uri: &'c str) -> Watchers<'c> {
        let count = Arc::clone(lock(&self.watchers).entry(uri.to_owned()).or_default());
        Watchers { child: self, uri, count }
    }

    /// The same child, opened.
    pub(super) fn opened(self, kind: Kind, opening: Opening) -> Self {
        Self { kind, opening, ..self }
    }

    /// Whether it had answered something when it was handed out.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// The same child, counted for somebody.
    pub(super) fn shared_by(self, (using, holding): (Using, Holding)) -> Self {
        if let Some(place) = self.place.upgrade() {
            *lock(&place.holding) = Some(holding);
        }
        Self { _using: Some(using), ..self }
    }

    /// The same child, used by nobody any more.
    pub(super) fn let_go(self) -> Self {
        Self { _using: None, ..self }
    }
}

/// The subscribers of one resource. Dropping it forgets a resource that has none.
pub(super) struct Watchers<'c> {
    child: &'c Child,
    uri: &'c str,
    /// How many there are.
    pub(super) count: Arc<AsyncMutex<usize>>,
}

impl Drop for Watchers<'_> {
    fn drop(&mut self) {
        let mut all = lock(&self.child.watchers);
        // Nobody else can get hold of it while the table is locked.
        if Arc::strong_count(&self.count) == 2 && self.count.try_lock().is_ok_and(|count| *count == 0) {
            all.remove(self.uri);
        }
    }
}

/// Why there is no child.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StartError {
    /// It could not be started, or was no use.
    #[error("cannot start `{name}`: {why}")]
    Failed {
        /// What the program is called.
        name: String,
        /// What went wrong.
        why: String,
        /// When it will be tried again.
        retry_in: Duration,
    },
    /// All places are taken.
    #[error("too many processes of `{name}` at once (--max-children)")]
    Full {
        /// What the program is called.
        name: String,
    },
    /// One user has taken their share of the places.
    #[error("this user has too many processes of `{name}` at once")]
    Share {
        /// What the program is called.
        name: String,
    },
}

impl StartError {
    /// When it may be worth trying again.
    pub(super) fn retry_in(&self) -> Duration {
        match self {
            Self::Failed { retry_in, .. } => *retry_in,
            Self::Full { .. } | Self::Share { .. } => Duration::from_secs(2),
        }
    }
}

/// All processes of one program.
pub(super) struct Children {
    program: Arc<dyn Start>,
    start_timeout: Duration,
    undertaker: Undertaker,
    tasks: TaskTracker,
    /// Whether several owners share a child.
    shared: bool,
    slots: Arc<Semaphore>,
    /// How many processes one user may have at once.
    share: usize,
    shares: Arc<Shares>,
    trouble: Mutex<Option<Trouble>>,
    metrics: Arc<Metrics>,
}

/// What went wrong last.
struct Trouble {
    why: String,
    in_a_row: u32,
    again: Instant,
}

impl Children {
    #[expect(clippy::too_many_arguments, reason = "each says something else, and there is one caller")]
    pub(super) fn new(
        program: Arc<dyn Start>,
        start_timeout: Duration,
        max: usize,
        tell_apart: bool,
        shared: bool,
        undertaker: Undertaker,
        tasks: TaskTracker,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            program,
            start_timeout,
            undertaker,
            tasks,
            shared,
            slots: Arc::new(Semaphore::new(max)),
            // Who is everybody has the places of all.
            share: if tell_apart { max.div_ceil(2) } else { usize::MAX },
            shares: Arc::default(),
            trouble: Mutex::new(None),
            metrics,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.program.name()
    }

    pub(super) fn start_timeout(&self) -> Duration {
        self.start_timeout
    }

    /// Why the last start failed, if it did.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).as_ref().map(|trouble| trouble.why.clone())
    }

    /// Whether nothing speaks against a start now.
    pub(super) fn may_start(&self) -> bool {
        lock(&self.trouble).as_ref().is_none_or(|trouble| trouble.again <= Instant::now())
    }

    /// One more process on account of `principal`, until both are dropped: one when it is not used any
    /// more, the other when it is over. Waits for one of theirs that is ending already. Cancel-safe.
    ///
    /// # Errors
    /// [`StartError::Share`] when they use too many: one user must not take the places of all.
    pub(super) async fn share_of(&self, principal: &Principal) -> Result<(Using, Holding), StartError> {
        let by = Instant::now() + PLACE_PATIENCE;
        let too_many = || StartError::Share { name: self.name().to_owned() };
        let look = || self.shares.take(principal, self.share).map_err(|_| too_many());
        if let Some(share) = look()? {
            return Ok(share);
        }
        loop {
            let mut fewer = pin!(self.shares.fewer());
            // Listens before it looks again.
            fewer.as_mut().enable();
            if let Some(share) = look()? {
                return Ok(share);
            }
            timeout_at(by, fewer).await.map_err(|_| too_many())?;
        }
    }

    /// Starts a process that has heard nothing yet; with `wait` also when it first has to wait for a
    /// place.
    ///
    /// # Errors
    /// [`StartError`]; after failures, at once for a while.
    pub(super) async fn start_blank(
        &self,
        identity: &[(&'static str, String)],
        wait: bool,
    ) -> Result<Child, StartError> {
        if let Some(trouble) = lock(&self.trouble).as_ref() {
            let retry_in = trouble.again.saturating_duration_since(Instant::now());
            if !retry_in.is_zero() {
                return Err(StartError::Failed { name: self.name().to_owned(), why: trouble.why.clone(), retry_in });
            }
        }
        let slots = Arc::clone(&self.slots);
        let slot = if wait {
            timeout(PLACE_PATIENCE, slots.acquire_owned()).await.ok().and_then(Result::ok)
        } else {
            slots.try_acquire_owned().ok()
        };
        let slot = slot.ok_or_else(|| StartError::Full { name: self.name().to_owned() })?;
        let place = Arc::new(Place { _slot: slot, holding: Mutex::default() });
        let held = Arc::downgrade(&place);
        let spawned = self.program.start(identity, &self.undertaker, Box::new((place, self.metrics.child())));
        let process = spawned.map_err(|error| self.failed(&error.to_string()))?;
        let ear = Arc::new(Ear::default());
        let listener: Arc<dyn Listener> = Arc::clone(&ear) as _;
        let audience = if self.shared { Audience::Shared(listener) } else { Audience::Owner(listener) };
        let link = Link::new(self.name(), process, audience, &self.tasks);
        Ok(Child {
            link,
            kind: Kind::Blank,
            opening: Opening::Blank,
            is_proven: false,
            ear,
            place: held,
            _using: None,
            watchers: Mutex::default(),
        })
    }

    /// Starts a process and opens it as `kind`.
    ///
    /// # Errors
    /// [`StartError`]
    pub(super) async fn start_as(
        &self,
        kind: &Kind,
        identity: &[(&'static str, String)],
        wait: bool,
    ) -> Result<Child, StartError> {
        let child = self.start_blank(identity, wait).await?;
        match opening::open(&child.link, kind, Instant::now() + self.start_timeout).await {
            // It was not asked anything, and may be about to die.
            Ok(Opening::Blank) => Ok(child),
            Ok(opening) => {
                self.answered();
                Ok(Child { is_proven: true, ..child.opened(kind.clone(), opening) })
            }
            Err(why) if kind.is_a_clients_own() => Err(self.failed_for_one(&why)),
            Err(why) => Err(self.failed(&why)),
        }
    }

    /// Waits until the request that makes a start necessary has probably been answered.
    pub(super) async fn after_the_request(&self) {
        sleep(AFTER_THE_REQUEST).await;
    }

    /// Ends `child`, which nobody uses any more, when its answer has probably reached the client; at once
    /// where its place is wanted. What it waited for in `exchange` is over.
    pub(super) async fn retire(&self, child: Child, exchange: Exchange) {
        if self.slots.available_permits() > 0 {
            sleep(AFTER_THE_REQUEST).await;
        }
        drop((exchange, child));
    }

    /// Notes that a child which was new has answered.
    pub(super) fn answered(&self) {
        self.recovered();
        self.metrics.child_start(ChildStart::Opened);
    }

    /// Notes that it failed after what one client has said: for others, it may work.
    pub(super) fn failed_for_one(&self, why: &str) -> StartError {
        warn!(server = self.name(), "cannot be started for a client: {why}");
        StartError::Failed { name: self.name().to_owned(), why: why.to_owned(), retry_in: BACK_OFF_MIN }
    }

    /// Notes a failure, after which there is a pause. Those that come during the pause began before it: they
    /// are of the same trouble, and do not lengthen it.
    pub(super) fn failed(&self, why: &str) -> StartError {
        self.metrics.child_start(ChildStart::Failed);
        let retry_in = {
            let mut trouble = lock(&self.trouble);
            let now = Instant::now();
            let earlier = trouble.as_ref().map_or((0, now), |trouble| (trouble.in_a_row, trouble.again));
            match earlier {
                (_, again) if again > now => again - now,
                (in_a_row, _) => {
                    let pause = BACK_OFF_MIN.saturating_mul(1 << in_a_row.min(16)).min(BACK_OFF_MAX);
                    *trouble = Some(Trouble { why: why.to_owned(), in_a_row: in_a_row + 1, again: now + pause });
                    pause
                }
            }
        };
        warn!(server = self.name(), retry_in_ms = retry_in.as_millis() as u64, "cannot be started: {why}");
        StartError::Failed { name: self.name().to_owned(), why: why.to_owned(), retry_in }
    }

    /// Counts a child that is given to a request or session.
    pub(super) fn used(&self, source: ChildSource) {
        self.metrics.child_use(source);
    }

    /// Nothing speaks against a start any more.
    pub(super) fn recovered(&self) {
        *lock(&self.trouble) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::child::{Process, SpawnError};

    /// A program that nobody starts.
    struct Nothing;

    impl Start for Nothing {
        fn name(&self) -> &str {
            "nothing"
        }

        fn grace(&self) -> Duration {
            Duration::ZERO
        }

        fn start(
            &self,
            _: &[(&'static str, String)],
            _: &Undertaker,
            _: Box<dyn Send + Sync>,
        ) -> Result<Process, SpawnError> {
            Err(SpawnError::Closing)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_at_once_is_one_failure_and_what_fails_again_lengthens_the_pause() {
        let undertaker = Undertaker::unwatched().expect("random numbers");
        let (patience, tasks) = (Duration::from_secs(5), TaskTracker::new());
        let metrics = Arc::new(Metrics::new());
        let children = Children::new(Arc::new(Nothing), patience, 10, true, false, undertaker, tasks, metrics);
        let half = BACK_OFF_MIN / 2;
        for pause in [BACK_OFF_MIN, BACK_OFF_MIN * 2, BACK_OFF_MIN * 4] {
            for _ in 0..10 {
                assert_eq!(children.failed("it is broken").retry_in(), pause);
            }
            tokio::time::advance(half).await;
            assert_eq!(children.failed("it was slow to say so").retry_in(), pause - half);
            assert!(!children.may_start());
            tokio::time::advance(pause - half).await;
            assert!(children.may_start());
        }
        children.recovered();
        assert_eq!(children.failed("it is broken").retry_in(), BACK_OFF_MIN, "it begins anew");
    }
}

//! Calls that may never come back, with a deadline.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use super::error::StoreError;

/// More than the tasks of one program ask for at once.
const QUEUE: usize = 64;

/// One thread that makes the calls, one after another.
///
/// A keyring can ask its user for the password, and then its call takes until somebody answers. One
/// that hangs keeps one thread, not one for each call. The thread cannot be joined, for the same
/// reason; it ends when this is dropped and its last call comes back.
pub(super) struct Worker<T> {
    start: Arc<dyn Fn() -> T + Send + Sync>,
    patience: Duration,
    jobs: Mutex<Option<SyncSender<Job<T>>>>,
}

type Job<T> = Box<dyn FnOnce(&T) + Send>;

impl<T: 'static> Worker<T> {
    /// A thread that makes itself a `T` when it is first needed.
    pub(super) fn new(patience: Duration, start: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self { start: Arc::new(start), patience, jobs: Mutex::new(None) }
    }

    /// What `call` returns, if it does so in time. What was not begun in time is not done at all; what
    /// was begun may still be done.
    pub(super) fn call<R: Send + 'static>(&self, call: impl FnOnce(&T) -> R + Send + 'static) -> Result<R, StoreError> {
        let (sender, answer) = sync_channel(1);
        let taken = Arc::new(AtomicBool::new(false));
        let job = {
            let taken = Arc::clone(&taken);
            Box::new(move |state: &T| {
                if !taken.swap(true, Ordering::AcqRel) {
                    // Fails where nobody waits any more.
                    sender.send(call(state)).ok();
                }
            })
        };
        self.submit(job)?;
        match answer.recv_timeout(self.patience) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout) => {
                taken.store(true, Ordering::Release);
                Err(StoreError::Unanswered(self.patience))
            }
            Err(RecvTimeoutError::Disconnected) => {
                // The next call starts another thread.
                *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(StoreError::Keyring("its library has panicked".to_owned()))
            }
        }
    }

    fn submit(&self, job: Job<T>) -> Result<(), StoreError> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match jobs.as_ref() {
            None => job,
            Some(queue) => match queue.try_send(job) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => return Err(StoreError::Unanswered(self.patience)),
                // The thread has panicked: another one takes over.
                Err(TrySendError::Disconnected(job)) => job,
            },
        };
        self.start_with(&mut jobs, job)
    }

    fn start_with(&self, jobs: &mut Option<SyncSender<Job<T>>>, job: Job<T>) -> Result<(), StoreError> {
        let (sender, receiver): (_, Receiver<Job<T>>) = sync_channel(QUEUE);
        let start = Arc::clone(&self.start);
        let work = move || {
            let state = start();
            receiver.into_iter().for_each(|job| job(&state));
        };
        thread::Builder::new()
            .name("keyring".to_owned())
            .spawn(work)
            .map_err(|error| StoreError::Keyring(format!("no thread to call it from: {error}")))?;
        sender.try_send(job).map_err(|_| StoreError::Keyring("its thread has ended".to_owned()))?;
        *jobs = Some(sender);
        Ok(())
    }
}

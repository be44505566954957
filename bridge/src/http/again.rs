//! A connection that wakes itself.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// So often a future that wakes itself is polled in a row; then others get their turn.
const IN_A_ROW: usize = 4;

/// Runs `future`, and polls it again at once when it was woken while it was polled.
///
/// hyper hands a body to its reader through a channel, and in HTTP/1.1 both are one task, which so
/// wakes itself with every request. The runtime takes that for new work and wakes another thread for
/// it, which finds nothing to do: the wake-up costs as much as the request.
pub(super) async fn at_once<F: Future>(future: F) -> F::Output {
    let task = Arc::new(Task { outer: AtomicWaker::new(), state: AtomicU8::new(WAITS) });
    let waker = Waker::from(Arc::clone(&task));
    let mut future = pin!(future);
    poll_fn(|context| {
        task.outer.register(context.waker());
        for _ in 0..IN_A_ROW {
            task.state.store(POLLED, Ordering::SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
            if task.state.compare_exchange(POLLED, WAITS, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Poll::Pending;
            }
        }
        task.state.store(WAITS, Ordering::SeqCst);
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// The future waits to be woken.
const WAITS: u8 = 0;
/// It is polled right now.
const POLLED: u8 = 1;
/// It has been woken since that began.
const WOKEN: u8 = 2;

struct Task {
    outer: AtomicWaker,
    state: AtomicU8,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.state.compare_exchange(POLLED, WOKEN, Ordering::SeqCst, Ordering::SeqCst) {
            // Who polls it sees that.
            Ok(_) | Err(WOKEN) => {}
            Err(_) => self.outer.wake(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How often a future that wakes itself at its first so many polls is polled in one poll, and how
    /// often its task is woken by that.
    fn run(wakes: usize) -> (usize, usize) {
        let mut polls = 0;
        let outer = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&outer));
        let mut running = Box::pin(at_once(poll_fn(|context| {
            polls += 1;
            if polls <= wakes {
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        })));
        assert!(running.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(running);
        (polls, outer.0.load(Ordering::SeqCst))
    }

    #[test]
    fn who_wakes_itself_is_polled_again_but_not_for_ever() {
        assert_eq!(run(0), (1, 0));
        assert_eq!(run(1), (2, 0));
        assert_eq!(run(IN_A_ROW - 1), (IN_A_ROW, 0));
        assert_eq!(run(usize::MAX), (IN_A_ROW, 1));
    }

    #[tokio::test]
    async fn who_is_woken_by_others_goes_on() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let running = tokio::spawn(at_once(async move {
            let mut sum = 0;
            while let Some(number) = receiver.recv().await {
                sum += number;
            }
            sum
        }));
        for number in 1..=1000 {
            sender.send(number).await.expect("it reads");
        }
        drop(sender);
        assert_eq!(running.await.expect("it ends"), 500_500);
    }
}

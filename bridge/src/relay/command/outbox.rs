//! What a legacy session's stream has to say, kept while nobody reads it.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing::debug;

/// What one session may leave unread. Past it the oldest are lost: a client that never opens its
/// stream must not fill our memory.
const MESSAGES_MAX: usize = 256;
const BYTES_MAX: usize = 1024 * 1024;

/// Messages to one session's stream, in order.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Adds a message.
    pub(super) fn put(&self, message: Bytes) {
        let mut waiting = self.lock();
        waiting.bytes += message.len();
        waiting.messages.push_back(message);
        while waiting.messages.len() > MESSAGES_MAX || waiting.bytes > BYTES_MAX {
            let Some(oldest) = waiting.messages.pop_front() else { break };
            waiting.bytes -= oldest.len();
            debug!("a session does not read its stream; its oldest message is lost");
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Takes the oldest message; waits for one. Cancel-safe.
    pub(super) async fn take(&self) -> Bytes {
        loop {
            let more = self.more.notified();
            {
                let mut waiting = self.lock();
                if let Some(message) = waiting.messages.pop_front() {
                    waiting.bytes -= message.len();
                    return message;
                }
            }
            more.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_in_order_and_the_oldest_are_lost() {
        let outbox = Outbox::default();
        for number in 0..MESSAGES_MAX + 2 {
            outbox.put(number.to_string().into());
        }
        assert_eq!(outbox.take().await, "2");
        assert_eq!(outbox.take().await, "3");
        outbox.put(vec![b' '; BYTES_MAX].into());
        assert_eq!(outbox.take().await.len(), BYTES_MAX);
        outbox.put("last".into());
        assert_eq!(outbox.take().await, "last");
    }
}

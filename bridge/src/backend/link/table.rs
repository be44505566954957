//! Which of our requests a child has not answered yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Ended, Note};

/// What a request's end can be, apart from its child's.
pub(super) enum Settled {
    /// A result or an error object.
    Answered(Result<Bytes, Bytes>),
    /// The child has ended it without an answer.
    Closed,
}

/// One request that waits.
pub(super) struct Open {
    /// Boxed, because the queue sets room aside before there is anything, and mostly nothing comes.
    pub(super) notes: mpsc::Sender<Box<Note>>,
    pub(super) answer: oneshot::Sender<Settled>,
    pub(super) client_id: String,
    pub(super) progress_token: Option<String>,
    pub(super) takes_strays: bool,
    /// Whether the child may end it without an answer.
    pub(super) is_subscription: bool,
    /// Whether its client is not there to hear notifications.
    pub(super) is_hushed: bool,
}

impl Open {
    /// Where notifications go, unless nobody hears them.
    pub(super) fn hears(&self) -> Option<mpsc::Sender<Box<Note>>> {
        (!self.is_hushed).then(|| self.notes.clone())
    }
}

#[derive(Default)]
pub(super) struct Table {
    last_id: u64,
    /// By our id, so that the newest is the last.
    open: BTreeMap<u64, Open>,
    end: Option<Ended>,
}

impl Table {
    /// Enters a request and gives it an id: from 1, because some programs take 0 for none.
    pub(super) fn open(&mut self, open: Open) -> Result<u64, Ended> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        self.last_id += 1;
        self.open.insert(self.last_id, open);
        Ok(self.last_id)
    }

    /// Forgets a request; whether it was open.
    pub(super) fn close(&mut self, id: u64) -> bool {
        self.open.remove(&id).is_some()
    }

    /// Settles a request; whether it was open.
    pub(super) fn settle(&mut self, id: u64, settled: Settled) -> bool {
        let open = self.open.remove(&id);
        // Whoever waited may have left this moment.
        open.map(|open| open.answer.send(settled)).is_some()
    }

    /// Whether the client of a request is not there to hear notifications.
    pub(super) fn hush(&mut self, id: u64, is_hushed: bool) {
        if let Some(open) = self.open.get_mut(&id) {
            open.is_hushed = is_hushed;
        }
    }

    /// Ends a subscription without an answer; whether it was one, and open.
    pub(super) fn end_subscription(&mut self, id: u64) -> bool {
        self.get(id).is_some_and(|open| open.is_subscription) && self.settle(id, Settled::Closed)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Open> {
        self.open.get(&id)
    }

    /// The request that was made last, of those that take what belongs to nobody.
    pub(super) fn newest(&self) -> Option<&Open> {
        self.open.values().rev().find(|open| open.takes_strays)
    }

    /// The same, for a question: a request whose client is not there keeps it until that comes back, and
    /// so comes after all others.
    pub(super) fn newest_to_ask(&self) -> Option<&Open> {
        let is_there = |open: &&Open| open.takes_strays && !open.is_hushed;
        self.open.values().rev().find(is_there).or_else(|| self.newest())
    }

    /// Nothing more can be asked, and what is open may still be answered; not subscriptions, which would
    /// hear of nothing that others do elsewhere.
    pub(super) fn close_with(&mut self, end: Ended) {
        self.end.get_or_insert(end);
        self.open.retain(|_, open| !open.is_subscription);
    }

    /// Nothing will be answered any more; whoever waits learns why.
    pub(super) fn end_with(&mut self, end: Ended) {
        self.end.get_or_insert(end);
        self.open.clear();
    }

    pub(super) fn end(&self) -> Option<Ended> {
        self.end.clone()
    }
}

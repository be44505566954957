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
    pub(super) notes: mpsc::Sender<Note>,
    pub(super) answer: oneshot::Sender<Settled>,
    pub(super) client_id: String,
    pub(super) progress_token: Option<String>,
    pub(super) takes_strays: bool,
    /// Nobody reads its notes for now.
    pub(super) aside: bool,
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

    pub(super) fn get(&self, id: u64) -> Option<&Open> {
        self.open.get(&id)
    }

    /// The request that was made last, of those that take what belongs to nobody.
    pub(super) fn newest(&self) -> Option<&Open> {
        self.open.values().rev().find(|open| open.takes_strays && !open.aside)
    }

    /// Notes whether somebody reads the notes of a request.
    pub(super) fn set_aside(&mut self, id: u64, aside: bool) {
        if let Some(open) = self.open.get_mut(&id) {
            open.aside = aside;
        }
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

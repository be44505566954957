//! What the server's tools want to see in headers, learnt from the lists that pass through.

use std::sync::PoisonError;
use std::sync::{Mutex, RwLock, RwLockReadGuard};

use bytes::Bytes;
use tracing::warn;

use crate::{
    backend::Answer,
    connect::remote::incoming::Incoming,
    relay::{
        filter,
        param_headers::{InvalidTool, ToolHeaders},
    },
};

/// The tools' headers, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Tools {
    headers: RwLock<ToolHeaders>,
    /// Tools that were told of as invalid already.
    warned: Mutex<Vec<String>>,
}

/// So many invalid tools are told of; more say nothing new.
const WARNED_MAX: usize = 64;

impl Tools {
    /// What is known now. Not to be held across an `.await`.
    pub(super) fn headers(&self) -> RwLockReadGuard<'_, ToolHeaders> {
        self.headers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from an answer to `tools/list`, and leaves out the tools whose headers break the rules,
    /// as every HTTP client must.
    pub(super) fn learn(&self, answer: Bytes) -> Bytes {
        let text = std::str::from_utf8(&answer).unwrap_or_default();
        let Ok(Incoming::Answer { id, outcome: Ok(result) }) = Incoming::parse(text) else { return answer };
        let invalid = self.headers.write().unwrap_or_else(PoisonError::into_inner).add_page(result.get());
        if invalid.is_empty() {
            return answer;
        }
        self.warn(&invalid);
        let keep = |name: &str| !invalid.iter().any(|tool| tool.name == name);
        match filter::tools(result.get(), keep) {
            Some(result) => Answer::result(id, &result).message,
            None => answer,
        }
    }

    fn warn(&self, invalid: &[InvalidTool]) {
        use crate::sync::Locked as _;
        let mut warned = self.warned.locked();
        for InvalidTool { name, reason } in invalid {
            if warned.len() < WARNED_MAX && !warned.contains(name) {
                warned.push(name.clone());
                warn!(tool = crate::message::shown(name), reason, "left out a tool whose headers break the rules");
            }
        }
    }
}

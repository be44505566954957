//! From a permitted message to its answer.

pub mod session;

use std::{sync::Arc, time::Duration};

use mcp_calculator::server::Era;

use crate::{
    backend::{Answer, Backend, Call},
    message::INTERNAL_ERROR,
    policy::Permit,
    token::VerifiedToken,
};

/// Carries permitted messages to the backend.
pub struct Relay {
    backend: Arc<dyn Backend>,
    request_timeout: Duration,
}

/// What came of a permitted message.
#[derive(Debug)]
pub enum Outcome {
    /// The backend answered.
    Answered(Answer),
    /// The backend took longer than the request time-out; the answer says so.
    TimedOut(Answer),
}

impl Relay {
    /// A relay to `backend` that waits at most `request_timeout` for an answer.
    pub fn new(backend: Arc<dyn Backend>, request_timeout: Duration) -> Self {
        Self { backend, request_timeout }
    }

    /// Has a permitted request carried out. Dropping the future cancels it.
    pub async fn call(&self, permit: &Permit<'_>, caller: &VerifiedToken, era: Era) -> Outcome {
        let request = permit.request();
        let call = Call { request, caller, era };
        match tokio::time::timeout(self.request_timeout, self.backend.call(call)).await {
            Ok(answer) => Outcome::Answered(answer),
            Err(_) => {
                let text = format!("Internal error: no answer within {}", humantime::format_duration(self.request_timeout));
                Outcome::TimedOut(Answer::error(request.id.as_json(), INTERNAL_ERROR, &text, None))
            }
        }
    }
}

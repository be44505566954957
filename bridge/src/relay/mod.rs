//! From a permitted message to its answer.

pub mod session;

use std::{sync::Arc, time::Duration};

use mcp_calculator::server::Era;

use crate::{
    backend::{Answer, Backend, Call},
    deadline::within,
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
        match within(self.request_timeout, self.backend.call(call)).await {
            Ok(answer) => Outcome::Answered(answer),
            Err(_) => {
                let text =
                    format!("Internal error: no answer within {}", humantime::format_duration(self.request_timeout));
                Outcome::TimedOut(Answer::error(request.id.as_json(), INTERNAL_ERROR, &text, None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, future::BoxFuture};

    use super::*;
    use crate::{message::Message, policy::Policy, token::TokenVerifier as _, token::nobody::Nobody};

    struct Silent;

    impl Backend for Silent {
        fn call<'a>(&'a self, _call: Call<'a>) -> BoxFuture<'a, Answer> {
            std::future::pending().boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_that_never_answers_is_not_waited_for() {
        let body = br#"{"jsonrpc":"2.0","id":"x","method":"tools/list"}"#;
        let Ok(Message::Request(request)) = Message::parse(body) else { panic!("a request") };
        let caller = Nobody::new(Default::default()).without_token().expect("nobody needs a token");
        let permit = Policy::new(Vec::new(), None).permit(&caller, request).expect("lists are for everybody");
        let relay = Relay::new(Arc::new(Silent), Duration::from_secs(60));
        let outcome = relay.call(&permit, &caller, Era::Modern).await;
        let Outcome::TimedOut(answer) = outcome else { panic!("{outcome:?}") };
        assert_eq!(
            answer.message,
            r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32603,"message":"Internal error: no answer within 1m"}}"#
        );
    }
}

//! What a modern client asks for.

use serde_json::value::RawValue;

use super::ask::{self, Ask};
use crate::{
    backend::{Call, link::Notice},
    message::Params,
    relay::translate::{
        input::{may_ask, request_state},
        messages::{LogLevel, Place, place, restore_progress},
        requests::fingerprint,
        subscriptions::{Listen, listen_filter},
    },
};
use mcp_calculator::server::CAPABILITIES_KEY;

/// A modern client's request, with all that any way of answering it needs.
pub(super) struct Modern {
    pub(super) ask: Ask,
    /// What a modern server gets.
    pub(super) params: String,
    /// What a legacy server gets.
    pub(super) legacy_params: String,
    /// What the client can be asked.
    pub(super) capabilities: String,
    /// The state that the client gives back.
    pub(super) state: Option<String>,
    /// Its answers, by key, as JSON text; only the parked call knows which it wants.
    pub(super) answers: Option<String>,
    pub(super) fingerprint: String,
    pub(super) log_level: Option<Option<LogLevel>>,
    pub(super) listen: Option<Result<Listen, String>>,
}

impl Modern {
    pub(super) fn of(call: &Call<'_>) -> Self {
        let request = call.request;
        let identity = ask::identity(call.caller);
        let mut edit = ask::params(request, &identity);
        let params = edit.to_json();
        let capabilities = request.params.meta.get(CAPABILITIES_KEY).map_or("{}", RawValue::get).to_owned();
        Self {
            ask: Ask::of(call),
            params,
            legacy_params: edit.for_legacy().to_json(),
            capabilities,
            state: request_state(&request.params).map(std::borrow::Cow::into_owned),
            answers: request.params.members.get("inputResponses").map(|answers| answers.get().to_owned()),
            fingerprint: if may_ask(&request.method) { fingerprint(request) } else { String::new() },
            log_level: LogLevel::wanted(&request.params),
            listen: (request.method == "subscriptions/listen").then(|| listen_filter(&request.params)),
        }
    }

    /// Whether a legacy server's notification during this request is for its client.
    pub(super) fn hears(&self, notice: &Notice) -> bool {
        match notice.method.as_str() {
            "notifications/message" => {
                let Some(Some(wanted)) = self.log_level else { return false };
                let raw = notice.params.as_ref().and_then(|params| serde_json::from_slice::<&RawValue>(params).ok());
                let said = Params::parse(&notice.method, raw).ok().and_then(|params| LogLevel::said(&params));
                said.is_none_or(|said| said >= wanted)
            }
            method => place(method) == Place::Request,
        }
    }

    /// A notification as this request's client knows it: progress during a retry comes under the
    /// token of the first attempt, and is nobody's if the retry has none.
    pub(super) fn own(&self, notice: Notice) -> Option<Notice> {
        if self.state.is_none() || notice.method != "notifications/progress" {
            return Some(notice);
        }
        let params = notice.params.as_deref().and_then(|params| std::str::from_utf8(params).ok())?;
        let params = Some(restore_progress(params, self.ask.progress_token.as_deref()?).into());
        Some(Notice { params, ..notice })
    }
}

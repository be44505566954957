//! What a modern client asks for.

use mcp_calculator::server::{CAPABILITIES_KEY, Era};
use serde_json::value::RawValue;

use super::ask::{self, Ask};
use crate::{
    backend::{Call, link::Notice},
    edit::Edit,
    message::{Params, Request},
    relay::translate::{
        input::{may_ask, request_state},
        messages::{LogLevel, Place, place, restore_progress},
        requests::{Fingerprint, fingerprint},
        subscriptions::{Listen, listen_filter},
    },
};

/// A modern client's request, with all that any way of answering it needs.
pub(super) struct Modern {
    pub(super) ask: Ask,
    /// What a modern server gets; empty where the server is known to be none.
    pub(super) params: String,
    /// The state that the client gives back.
    pub(super) state: Option<String>,
    /// Empty where the server is known to be modern.
    pub(super) legacy: Legacy,
}

/// What takes a modern client's request to a legacy server.
#[derive(Default)]
pub(super) struct Legacy {
    /// What the server gets.
    pub(super) params: String,
    /// What the client can be asked.
    pub(super) capabilities: String,
    /// The client's answers, by key, as JSON text; only the parked call knows which it wants.
    pub(super) answers: Option<String>,
    pub(super) fingerprint: Fingerprint,
    pub(super) log_level: Option<Option<LogLevel>>,
    pub(super) listen: Option<Result<Listen, String>>,
}

impl Legacy {
    fn of(request: &Request<'_>, mut edit: Edit<'_>) -> Self {
        let capabilities = request.params.meta.get(CAPABILITIES_KEY).map_or("{}", RawValue::get).to_owned();
        Self {
            params: edit.for_legacy().to_json(),
            capabilities,
            answers: request.params.members.get("inputResponses").map(|answers| answers.get().to_owned()),
            fingerprint: if may_ask(&request.method) { fingerprint(request) } else { Fingerprint::default() },
            log_level: LogLevel::wanted(&request.params),
            listen: (request.method == "subscriptions/listen").then(|| listen_filter(&request.params)),
        }
    }
}

impl Modern {
    /// A request for a server of era `server`; `None` while that is not known.
    pub(super) fn of(call: &Call<'_>, server: Option<Era>) -> Self {
        let request = call.request;
        let identity = ask::identity(call.caller);
        let edit = ask::params(request, &identity);
        Self {
            ask: Ask::of(call),
            params: if server == Some(Era::Legacy) { String::new() } else { edit.to_json() },
            state: request_state(&request.params).map(std::borrow::Cow::into_owned),
            legacy: if server == Some(Era::Modern) { Legacy::default() } else { Legacy::of(request, edit) },
        }
    }

    /// Whether a legacy server's notification during this request is for its client.
    pub(super) fn hears(&self, notice: &Notice) -> bool {
        match notice.method.as_str() {
            "notifications/message" => {
                let Some(Some(wanted)) = self.legacy.log_level else { return false };
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

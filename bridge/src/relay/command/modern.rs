//! Requests of modern clients.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{
    Served, ask,
    children::Child,
    kind::{Kind, Opening},
    listen,
    out::Out,
    parked::{NotTaken, Parked, new_state},
    probe::Eras,
    request::Modern,
};
use crate::{
    backend::link::{Asked, Event, Exchange, Note, Outgoing},
    config::server::Isolation,
    message::{INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, Params, shown},
    relay::translate::{
        errors::{modern_error, url_questions},
        input::{InputRequest, can_be_asked, input_required, input_response, may_ask, modern_question},
        messages::LogLevel,
        requests::{Route, route},
        results::{complete_result, server_info},
        subscriptions::listen_result,
    },
};
use mcp_calculator::server::Era;

/// How long a legacy server may take to ask its next question after the first, so that a client gets
/// both at once.
const NEXT_QUESTION: Duration = Duration::from_millis(5);

impl Served {
    /// Answers a modern request.
    pub(super) async fn modern(self: Arc<Self>, request: Modern, out: Out) {
        let eras = match self.eras().await {
            Ok(eras) => eras,
            Err(error) => return self.unavailable(&out, &error).await,
        };
        match (&eras.modern, request.ask.method.as_str()) {
            (_, "subscriptions/listen") => self.listen(&eras, &request, &out).await,
            (Some(result), "server/discover") => out.served(&Ok(result.clone())).await,
            (Some(_), method) if is_foreign(method) => out.error(METHOD_NOT_FOUND, &not_found(method)).await,
            (Some(_), _) => self.pass(&request, &out).await,
            (None, "server/discover") => match self.translated_discover(&eras) {
                Some(result) => out.served(&Ok(result)).await,
                None => out.error(INTERNAL_ERROR, "Internal error: the server says nothing of use about itself").await,
            },
            (None, method) => match route(Era::Modern, method) {
                Route::Forward => self.translated(request, &out).await,
                Route::Bridge | Route::Unknown => out.error(METHOD_NOT_FOUND, &not_found(method)).await,
            },
        }
    }

    /// Lets the client listen until it has enough, or everything ends.
    async fn listen(&self, eras: &Eras, request: &Modern, out: &Out) {
        let listening = async {
            match eras.modern {
                Some(_) => listen::pass(self, &request.ask, &request.params, out).await,
                None => listen::translated(self, request, out).await,
            }
        };
        tokio::select! {
            () = listening => {}
            () = self.draining.cancelled() => out.served(&Ok(listen_result(&request.ask.id).into())).await,
        }
    }

    /// Modern client, modern server: passes straight through.
    async fn pass(self: &Arc<Self>, request: &Modern, out: &Out) {
        let ask = &request.ask;
        let is_server = |parked: &Parked| matches!(parked, Parked::Server(_));
        let parked = request.state.as_ref().map(|state| self.parking.take_if(state, &ask.owner, is_server));
        let child = match parked {
            Some(Ok(Parked::Server(child))) if child.link().end().is_none() => child,
            _ => match self.child_for(&ask.owner, &ask.caller, &Kind::Modern).await {
                Ok(child) => child,
                Err(error) => return self.unavailable(out, &error).await,
            },
        };
        let mut exchange = match ask.send(child.link(), Some(&request.params)).await {
            Ok(exchange) => exchange,
            Err(ended) => {
                self.doubt(&child);
                return out.lost(&ended).await;
            }
        };
        loop {
            match exchange.next().await {
                // Of no subscription, so of nothing that the client knows.
                Event::Note(Note::Notice(notice)) if notice.method == "notifications/cancelled" => {}
                Event::Note(Note::Notice(notice)) => {
                    out.message(notice.message()).await;
                }
                Event::Note(Note::Asked(asked)) => {
                    let _ = child.link().refuse(&asked, "a modern server does not send requests").await;
                }
                Event::Answer(outcome) => {
                    if !child.is_proven() {
                        self.children.answered();
                    }
                    if let Ok(result) = &outcome {
                        self.seen_result(&ask.method, result);
                        self.keep_for_retry(request, &child, result);
                    }
                    self.retire(child, exchange);
                    return out.served(&outcome).await;
                }
                Event::Closed => return out.lost(&crate::backend::link::Ended("it gave the request up".into())).await,
                Event::Lost(ended) => {
                    self.doubt(&child);
                    return out.lost(&ended).await;
                }
            }
        }
    }

    /// Looks whether the command works after `child` has ended at its first request: that may have ended it,
    /// or it would have ended at any.
    fn doubt(self: &Arc<Self>, child: &Child) {
        if !child.is_proven() {
            self.look_again_soon();
        }
    }

    /// Ends a server that has answered, unless others use it.
    fn retire(&self, child: Arc<Child>, exchange: Exchange) {
        if let Some(child) = Arc::into_inner(child) {
            // The client need not wait for that; but its next request must not be refused for it.
            let (child, children) = (child.let_go(), Arc::clone(&self.children));
            self.tasks.spawn(async move { children.retire(child, exchange).await });
        }
    }

    /// A server that has given out state may need itself to understand it.
    fn keep_for_retry(&self, request: &Modern, child: &Arc<Child>, result: &Bytes) {
        if self.isolation != Isolation::Request || !may_ask(&request.ask.method) {
            return;
        }
        let Ok(text) = std::str::from_utf8(result) else { return };
        if let Ok(Some(asked)) = crate::relay::translate::input::asked(text)
            && let Some(state) = asked.state.and_then(crate::message::text)
        {
            // Without room, another server gets the retry, as the protocol has it.
            self.parking.park(state.into_owned(), request.ask.owner.clone(), Parked::Server(Arc::clone(child)));
        }
    }

    /// Modern client, legacy server.
    async fn translated(&self, request: Modern, out: &Out) {
        let ask = &request.ask;
        let (child, exchange) = match &request.state {
            Some(state) => match self.resume(state, &request, out).await {
                Some(resumed) => resumed,
                None => return,
            },
            None => {
                let kind = self.legacy_kind(&request.legacy.capabilities);
                let child = match self.child_for(&ask.owner, &ask.caller, &kind).await {
                    Ok(child) => child,
                    Err(error) => return self.unavailable(out, &error).await,
                };
                match request.legacy.log_level {
                    Some(Some(level)) if !self.is_shared() => set_level(&child, level).await,
                    Some(None) => return out.error(INVALID_PARAMS, "Invalid params: no such log level").await,
                    _ => {}
                }
                match ask.send(child.link(), Some(&request.legacy.params)).await {
                    Ok(exchange) => (child, exchange),
                    Err(ended) => return out.lost(&ended).await,
                }
            }
        };
        self.follow(&request, child, exchange, out).await;
    }

    /// Waits for a legacy server's answer, and brings its questions to the client.
    async fn follow(&self, request: &Modern, child: Arc<Child>, mut exchange: Exchange, out: &Out) {
        let method = request.ask.method.as_str();
        let mut questions: Vec<(String, Asked)> = Vec::new();
        let mut number = 0;
        loop {
            let event = if questions.is_empty() {
                exchange.next().await
            } else {
                match timeout(NEXT_QUESTION, exchange.next()).await {
                    Ok(event) => event,
                    Err(_) => return self.ask_client(request, child, exchange, questions, out).await,
                }
            };
            match event {
                Event::Note(Note::Notice(notice)) => {
                    if let Some(withdrawn) = notice.withdrawn() {
                        questions.retain(|(_, asked)| asked.id != withdrawn);
                    } else if request.hears(&notice)
                        && let Some(notice) = request.own(notice)
                    {
                        out.message(notice.message()).await;
                    }
                }
                Event::Note(Note::Asked(asked)) => {
                    let params = asked.params.as_deref().and_then(|params| std::str::from_utf8(params).ok());
                    if may_ask(method) && can_be_asked(&asked.method, params, &request.legacy.capabilities) {
                        number += 1;
                        questions.push((format!("{}-{number}", asked.method), asked));
                    } else {
                        let _ = child.link().refuse(&asked, "the client has not declared that it can do this").await;
                    }
                }
                Event::Answer(Ok(result)) => {
                    refuse_all(&child, &questions).await;
                    self.seen_result(method, &result);
                    let completed = self.complete(method, &child, &result);
                    self.retire(child, exchange);
                    return match completed {
                        Some(result) => out.served(&Ok(result.into())).await,
                        None => out.error(INTERNAL_ERROR, "Internal error: the server's result is not an object").await,
                    };
                }
                Event::Answer(Err(error)) => {
                    refuse_all(&child, &questions).await;
                    self.retire(child, exchange);
                    return self.modern_failure(request, &error, out).await;
                }
                Event::Closed => {
                    refuse_all(&child, &questions).await;
                    return out.error(INTERNAL_ERROR, "Internal error: the server gave the request up").await;
                }
                Event::Lost(ended) => return out.lost(&ended).await,
            }
        }
    }

    fn complete(&self, method: &str, child: &Child, result: &Bytes) -> Option<String> {
        let result = std::str::from_utf8(result).ok()?;
        let info = match child.opening() {
            Opening::Legacy(opening) => std::str::from_utf8(opening).ok().and_then(server_info),
            _ => None,
        };
        complete_result(method, result, info.as_deref())
    }

    /// Asks the client what the server asks, and keeps the call until the retry brings the answers.
    async fn ask_client(
        &self,
        request: &Modern,
        child: Arc<Child>,
        exchange: Exchange,
        questions: Vec<(String, Asked)>,
        out: &Out,
    ) {
        let Some(state) = new_state() else {
            return out.error(INTERNAL_ERROR, "Internal error: the system has no random numbers").await;
        };
        let params: Vec<Option<String>> = questions
            .iter()
            .map(|(_, asked)| {
                modern_question(asked.params.as_deref().and_then(|params| std::str::from_utf8(params).ok()))
            })
            .collect();
        let asked: Vec<InputRequest<'_>> = questions
            .iter()
            .zip(&params)
            .map(|((key, asked), params)| InputRequest { key, method: &asked.method, params: params.as_deref() })
            .collect();
        let result = input_required(&asked, Some(&state));
        let fingerprint = request.legacy.fingerprint;
        exchange.hush(true);
        let parked = Parked::Call { exchange, child, questions, fingerprint };
        if self.parking.park(state, request.ask.owner.clone(), parked) {
            out.served(&Ok(result.into())).await;
        } else {
            out.error(INTERNAL_ERROR, "Internal error: too many requests wait for their clients' answers").await;
        }
    }

    /// Takes up the call that has waited for this retry. `None` when the client has been answered.
    async fn resume(&self, state: &str, request: &Modern, out: &Out) -> Option<(Arc<Child>, Exchange)> {
        // Whoever holds the state may still send the right retry after a wrong one.
        let ours = request.legacy.fingerprint;
        let is_it = |parked: &Parked| matches!(parked, Parked::Call { fingerprint, .. } if *fingerprint == ours);
        let (exchange, child, mut questions) = match self.parking.take_if(state, &request.ask.owner, is_it) {
            Ok(Parked::Call { exchange, child, questions, .. }) => (exchange, child, questions),
            Err(NotTaken::Another) => {
                out.error(INVALID_PARAMS, "Invalid params: `requestState` belongs to another request").await;
                return None;
            }
            Ok(Parked::Server(_)) | Err(NotTaken::Unknown) => {
                out.error(INVALID_PARAMS, "Invalid params: `requestState` is unknown or has expired; begin anew").await;
                return None;
            }
        };
        let answers = format!(r#"{{"inputResponses":{}}}"#, request.legacy.answers.as_deref().unwrap_or("{}"));
        let answers = serde_json::from_str::<&RawValue>(&answers).ok();
        let params = Params::parse(&request.ask.method, answers).unwrap_or_default();
        let mut answered = Vec::new();
        questions.retain(|(key, asked)| {
            let answer = input_response(&params, key).filter(|answer| answer.get().starts_with('{'));
            answered.extend(answer.map(|answer| (asked.id.clone(), ask::without_identity(answer.get()))));
            answer.is_none()
        });
        if questions.is_empty() {
            // Before the answers: the server may report something as soon as it has the last one.
            exchange.hush(false);
        }
        for (id, answer) in answered {
            if let Err(ended) = child.link().respond(&id, Ok(answer.as_bytes())).await {
                out.lost(&ended).await;
                return None;
            }
        }
        if questions.is_empty() {
            return Some((child, exchange));
        }
        self.ask_client(request, child, exchange, questions, out).await;
        None
    }

    async fn modern_failure(&self, request: &Modern, error: &Bytes, out: &Out) {
        let method = request.ask.method.as_str();
        let text = std::str::from_utf8(error).unwrap_or("{}");
        let code = crate::backend::code_of(error);
        let data = crate::edit::Edit::parse(text);
        let data = data.as_ref().and_then(|error| error.get("data"));
        if let Some(questions) = url_questions(method, code, data, &request.legacy.capabilities) {
            let asked: Vec<InputRequest<'_>> = questions
                .iter()
                .map(|(key, params)| InputRequest { key, method: "elicitation/create", params: Some(params) })
                .collect();
            return out.served(&Ok(input_required(&asked, None).into())).await;
        }
        let translated = modern_error(method, code, &request.legacy.capabilities);
        out.served(&Err(super::translated_error(text, translated).into())).await;
    }

    /// What the server's tools say about headers is remembered whenever a client hears it.
    pub(super) fn seen_result(&self, method: &str, result: &Bytes) {
        if method == "tools/list"
            && let Ok(text) = std::str::from_utf8(result)
        {
            self.learn_tools(text);
        }
    }
}

/// Answers what a server has asked and does not wait for any more: it may be kept, and would count the
/// questions as open for ever.
async fn refuse_all(child: &Child, questions: &[(String, Asked)]) {
    for (_, asked) in questions {
        let _ = child.link().refuse(asked, "the request is over").await;
    }
}

/// Whether a method belongs to the legacy era alone. A server of both eras must not hear it from a modern
/// client: by `initialize` it may change its era, for everybody who shares it.
fn is_foreign(method: &str) -> bool {
    // Those are an extension of the modern era, too.
    !method.starts_with("tasks/") && route(Era::Modern, method) == Route::Unknown
}

pub(super) fn not_found(method: &str) -> String {
    format!("Method not found: {}", shown(method))
}

/// Has a legacy server log from this level on. One that cannot says so to nobody: the client has
/// asked for messages, not for an answer.
async fn set_level(child: &Child, level: LogLevel) {
    let outgoing = Outgoing {
        method: "logging/setLevel",
        client_id: "0",
        progress_token: None,
        takes_strays: false,
        cancellable: true,
    };
    let params = level.set_level_params();
    if let Ok(mut exchange) = child.link().request(outgoing, |_| Some(params)).await {
        while let Event::Note(_) = exchange.next().await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_modern_client_changes_the_era_of_a_server() {
        for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"] {
            assert!(is_foreign(method), "{method}");
        }
        for method in ["tools/call", "tasks/get", "tasks/update", "vendor/method", "server/discover"] {
            assert!(!is_foreign(method), "{method}");
        }
    }
}

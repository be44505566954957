//! The policy's verdict on one request, written down before anything runs.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use mcp_calculator::server::Era;
use tokio::time::timeout;

use crate::{
    config::server,
    http::{record::Record, respond::Refusal},
    message::{Notification, Params, Request, shown, text},
    policy::{Denial, Denied, DeniedNotification, NotificationPermit, Permit, Policy, is_everybodys_notification},
    telemetry::audit::{self, Audit},
    token::VerifiedToken,
};

/// The policy, and the file that its verdicts are written to.
pub(super) struct Judge {
    pub(super) policy: Arc<Policy>,
    /// How a missing scope is told.
    pub(super) denial: server::Denial,
    pub(super) audit: Option<Arc<Audit>>,
    /// How long a record may wait for the disk.
    pub(super) request_timeout: Duration,
}

impl Judge {
    /// Judges the request, and writes down what was judged before anything runs.
    pub(super) async fn permit<'a>(
        &self,
        request: Request<'a>,
        caller: &VerifiedToken,
        era: Era,
        record: &mut Record<'_>,
    ) -> Result<Permit<'a>, Refusal> {
        let verdict = self.policy.permit(caller, request);
        let request = match &verdict {
            Ok(permit) => permit.request(),
            Err(denied) => &denied.request,
        };
        let as_tool = self.denial == server::Denial::ToolError && request.method == "tools/call";
        let as_result = as_tool.then_some(era);
        let reason = verdict.as_ref().err().map(|denied| &denied.reason);
        self.write_down(&request.method, &request.params, caller, reason, as_result, record)
            .await
            .map_err(|NotWritten| Refusal::NotAudited { id: request.id.to_json() })?;
        match verdict {
            Ok(permit) => {
                record.allowed = true;
                Ok(permit)
            }
            Err(denied) => {
                let Denied { request, reason } = *denied;
                let what = subject(&request.method, &request.params);
                Err(refusal(request.id.to_json(), what, reason, as_result, record))
            }
        }
    }

    /// Judges a notification. What everybody may send is not written down: it decides nothing, and
    /// progress is told often.
    pub(super) async fn permit_notification<'a>(
        &self,
        notification: Notification<'a>,
        caller: &VerifiedToken,
        record: &mut Record<'_>,
    ) -> Result<NotificationPermit<'a>, Refusal> {
        let id = || "null".to_owned();
        let verdict = self.policy.permit_notification(caller, notification);
        let (notification, reason) = match &verdict {
            Ok(permit) => (permit.notification(), None),
            Err(denied) => (&denied.notification, Some(&denied.reason)),
        };
        if !is_everybodys_notification(&notification.method) {
            self.write_down(&notification.method, &notification.params, caller, reason, None, record)
                .await
                .map_err(|NotWritten| Refusal::NotAudited { id: id() })?;
        }
        match verdict {
            Ok(permit) => {
                record.allowed = true;
                Ok(permit)
            }
            Err(denied) => {
                let DeniedNotification { notification, reason } = *denied;
                Err(refusal(id(), subject(&notification.method, &notification.params), reason, None, record))
            }
        }
    }

    /// Appends the decision to the audit file, if there is one; `reason` is why it was refused.
    async fn write_down(
        &self,
        method: &str,
        params: &Params<'_>,
        caller: &VerifiedToken,
        reason: Option<&Denial>,
        as_result: Option<Era>,
        record: &Record<'_>,
    ) -> Result<(), NotWritten> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let operation = params.arguments.as_ref().and_then(|arguments| arguments.get("operation"));
        let operation = operation.and_then(text);
        let missing = match reason {
            Some(Denial::Scope { missing, .. }) => Some(missing),
            Some(Denial::NoRule) | None => None,
        };
        let refused = match (missing, as_result) {
            (Some(_), Some(_)) => StatusCode::OK,
            _ => StatusCode::FORBIDDEN,
        };
        let entry = audit::Record {
            time: SystemTime::now(),
            request_id: &record.request_id,
            server: record.server.as_deref(),
            subject: caller.subject.as_deref(),
            client_id: caller.client_id.as_deref(),
            email: caller.email.as_deref(),
            method,
            tool: params.target.as_deref(),
            operation: operation.as_deref(),
            decision: if reason.is_none() { audit::Decision::Allowed } else { audit::Decision::Refused },
            missing,
            status: reason.map(|_| refused.as_u16()),
            arguments: params.members.get("arguments"),
        };
        // A disk that hangs must not hold every place for good.
        match timeout(self.request_timeout, audit.record(&entry)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(NotWritten),
        }
    }
}

/// The audit file did not take a record.
struct NotWritten;

fn refusal(id: String, what: String, reason: Denial, as_result: Option<Era>, record: &mut Record) -> Refusal {
    match reason {
        Denial::NoRule => Refusal::NoRule { id, what },
        Denial::Scope { needed, missing } => {
            record.missing = Some(missing.clone());
            Refusal::InsufficientScope { id, what, needed, missing, as_result }
        }
    }
}

/// What a message is about, for people: the operation or the tool, else the method.
fn subject(method: &str, params: &Params<'_>) -> String {
    let operation = params.arguments.as_ref().and_then(|arguments| arguments.get("operation"));
    let name = operation.and_then(text).or_else(|| params.target.clone());
    shown(&name.unwrap_or(Cow::Borrowed(method))).trim_matches('`').to_owned()
}

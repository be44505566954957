//! The policy's verdict on one request, written down before anything runs.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::time::timeout;

use crate::{
    http::{record::Record, respond::Refusal},
    message::{Request, shown, text},
    policy::{Denial, Permit, Policy},
    telemetry::audit::{self, Audit},
    token::VerifiedToken,
};

/// The policy, and the file that its verdicts are written to.
pub(super) struct Judge {
    pub(super) policy: Policy,
    pub(super) audit: Option<Audit>,
    /// How long a record may wait for the disk.
    pub(super) request_timeout: Duration,
}

impl Judge {
    /// Judges the request, and writes down what was judged before anything runs.
    pub(super) async fn permit<'a>(
        &self,
        request: Request<'a>,
        caller: &VerifiedToken,
        record: &mut Record<'_>,
    ) -> Result<Permit<'a>, Refusal> {
        let verdict = self.policy.permit(caller, request);
        let request = match &verdict {
            Ok(permit) => permit.request(),
            Err(denied) => &denied.request,
        };
        if let Some(audit) = &self.audit {
            let operation = request.params.arguments.as_ref().and_then(|arguments| arguments.get("operation"));
            let operation = operation.and_then(text);
            let missing = match &verdict {
                Err(denied) => match &denied.reason {
                    Denial::Scope { missing, .. } => Some(missing),
                    Denial::NoRule => None,
                },
                Ok(_) => None,
            };
            let entry = audit::Record {
                time: SystemTime::now(),
                request_id: &record.request_id,
                subject: caller.subject.as_deref(),
                client_id: caller.client_id.as_deref(),
                email: caller.email.as_deref(),
                method: &request.method,
                tool: request.params.target.as_deref(),
                operation: operation.as_deref(),
                decision: if verdict.is_ok() { audit::Decision::Allowed } else { audit::Decision::Refused },
                missing,
                status: verdict.is_err().then_some(StatusCode::FORBIDDEN.as_u16()),
                arguments: request.params.members.get("arguments"),
            };
            // A disk that hangs must not hold every place for good.
            let recorded = timeout(self.request_timeout, audit.record(&entry)).await;
            if !matches!(recorded, Ok(Ok(()))) {
                return Err(Refusal::NotAudited { id: request.id.to_json() });
            }
        }
        match verdict {
            Ok(permit) => {
                record.allowed = true;
                Ok(permit)
            }
            Err(denied) => {
                let (id, what) = (denied.request.id.to_json(), subject(&denied.request));
                Err(match denied.reason {
                    Denial::NoRule => Refusal::NoRule { id, what },
                    Denial::Scope { needed, missing } => {
                        record.missing = Some(missing.clone());
                        Refusal::InsufficientScope { id, what, needed, missing }
                    }
                })
            }
        }
    }
}

/// What a request is about, for messages: the operation or the tool, else the method.
fn subject(request: &Request<'_>) -> String {
    let operation = request.params.arguments.as_ref().and_then(|arguments| arguments.get("operation"));
    let name = operation.and_then(text).or_else(|| request.params.target.clone());
    shown(&name.unwrap_or_else(|| request.method.clone())).trim_matches('`').to_owned()
}

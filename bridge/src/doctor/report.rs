//! What was found.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use serde::Serialize;

/// How a step ended, from the least telling to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not done; the summary says why.
    Skipped,
    /// As it should be.
    Pass,
    /// Some clients or users will have trouble.
    Warn,
    /// Clients cannot connect, or not safely.
    Fail,
}

/// One question to a server and its answer, fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// What was asked.
    pub asked: String,
    /// What came back.
    pub got: String,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// [`Outcome::Warn`] or [`Outcome::Fail`].
    pub severity: Outcome,
    /// What is wrong.
    pub what: String,
    /// Which client it hurts, and how.
    pub why: String,
    /// What to change.
    pub fix: String,
}

/// How a client becomes known to the authorization server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientVerdict {
    /// The client.
    pub client: &'static str,
    /// How it registers, or that it cannot.
    pub registers: Registration,
}

/// The ways to register, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registration {
    /// By a client ID metadata document: nobody has to do anything.
    MetadataDocument,
    /// By dynamic client registration (RFC 7591).
    Dynamic,
    /// Only with credentials that somebody types into the client.
    TypedCredentials,
    /// Not at all.
    Impossible,
}

/// What an answer means; the walk adds what was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// One line.
    pub(super) summary: String,
    pub(super) problems: Vec<Problem>,
    pub(super) clients: Vec<ClientVerdict>,
}

impl Judged {
    /// Nothing is wrong so far.
    pub(super) fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), ..Self::default() }
    }

    /// One more thing to warn of.
    pub(super) fn warn(self, what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        self.add(Outcome::Warn, what, why, fix)
    }

    /// One more failure.
    pub(super) fn fail(self, what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        self.add(Outcome::Fail, what, why, fix)
    }

    fn add(
        mut self,
        severity: Outcome,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        self.problems.push(Problem { severity, what: what.into(), why: why.into(), fix: fix.into() });
        self
    }

    /// The worst of it.
    pub(super) fn outcome(&self) -> Outcome {
        self.problems.iter().map(|problem| problem.severity).max().unwrap_or(Outcome::Pass)
    }
}

/// How one step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The step's name, the same in every run.
    pub check: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// In one line.
    pub summary: String,
    /// What was asked, in order.
    pub exchanges: Vec<Exchange>,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// What it means for each client, where the step is about that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientVerdict>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was typed.
    pub url: String,
    /// When the run began, in RFC 3339.
    #[serde(serialize_with = "as_rfc3339")]
    pub time: SystemTime,
    /// How long it took.
    #[serde(rename = "elapsed_ms", serialize_with = "as_millis")]
    pub elapsed: Duration,
    /// The worst outcome.
    pub verdict: Outcome,
    /// The steps, in order.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether clients cannot connect, or not safely.
    pub fn has_failed(&self) -> bool {
        self.verdict == Outcome::Fail
    }

    /// The same for programs.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The last line: how it went, and what to do first.
    pub(super) fn conclusion(&self) -> String {
        let count =
            |severity| self.findings.iter().flat_map(|it| &it.problems).filter(|it| it.severity == severity).count();
        let counted = |count: usize, what: &str| match count {
            0 => format!("no {what}"),
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let mut text = match self.verdict {
            Outcome::Fail => {
                format!("{}, {}.", counted(count(Outcome::Fail), "failure"), counted(count(Outcome::Warn), "warning"))
            }
            Outcome::Warn => format!("Clients can connect; {}.", counted(count(Outcome::Warn), "warning")),
            Outcome::Pass | Outcome::Skipped => "Clients can connect; nothing to change.".to_owned(),
        };
        // That a server is on this machine is seldom what is to be changed first.
        let worst = || self.findings.iter().filter(|finding| finding.outcome == self.verdict);
        let first = worst().find(|finding| finding.check != "url").or_else(|| worst().next());
        if let Some((finding, problem)) = first.and_then(|finding| Some((finding, finding.problems.first()?))) {
            // Writing to a string does not fail.
            let _ = write!(text, " First: {}: {}", finding.title, problem.fix);
        }
        text
    }
}

fn as_rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}

fn as_millis<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

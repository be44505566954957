//! The report for people.

use std::fmt::Write as _;

use super::report::{Finding, Outcome, Registration, Report};

/// How it is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Letters instead of signs.
    pub ascii: bool,
    /// Colours.
    pub colours: bool,
    /// Everything that was asked, also where nothing is wrong.
    pub verbose: bool,
}

/// The longest title, so that summaries begin in one column.
const TITLE_WIDTH: usize = 22;

/// The widest client name of the table.
const CLIENT_WIDTH: usize = 30;

impl Report {
    /// The report as text, with a line end at its end.
    pub fn text(&self, style: Style) -> String {
        let mut out = format!("{}\n\n", self.url);
        let skipped = |finding: &Finding| finding.outcome == Outcome::Skipped;
        // One reason stands for all steps that it keeps from being taken.
        for group in self.findings.chunk_by(|a, b| skipped(a) && skipped(b) && a.summary == b.summary) {
            match group {
                [first, _, ..] => {
                    let titles: Vec<&str> = group.iter().map(|finding| finding.title).collect();
                    write_skipped(&mut out, &titles.join(", "), &first.summary, style);
                }
                [finding] if skipped(finding) => write_skipped(&mut out, finding.title, &finding.summary, style),
                _ => group.iter().for_each(|finding| write_finding(&mut out, finding, style)),
            }
        }
        let conclusion = self.conclusion();
        let line = if style.colours { paint(self.verdict, &conclusion) } else { conclusion };
        // Writing to a string does not fail, here and below.
        let _ = writeln!(out, "\n{line}");
        out
    }
}

fn write_skipped(out: &mut String, titles: &str, because: &str, style: Style) {
    let sign = sign(Outcome::Skipped, style);
    let _ = if titles.len() < TITLE_WIDTH {
        writeln!(out, "{sign} {titles:TITLE_WIDTH$}not done: {because}")
    } else {
        writeln!(out, "{sign} {titles}: not done: {because}")
    };
}

fn write_finding(out: &mut String, finding: &Finding, style: Style) {
    let sign = sign(finding.outcome, style);
    let _ = writeln!(out, "{sign} {:TITLE_WIDTH$}{}", finding.title, finding.summary);
    let wrong = matches!(finding.outcome, Outcome::Warn | Outcome::Fail);
    if wrong || style.verbose {
        for exchange in &finding.exchanges {
            detail(out, "asked", &exchange.asked);
            detail(out, "got", &exchange.got);
        }
    }
    for problem in &finding.problems {
        detail(out, if problem.severity == Outcome::Fail { "FAIL" } else { "warn" }, &problem.what);
        detail(out, "why", &problem.why);
        detail(out, "fix", &problem.fix);
    }
    for it in &finding.clients {
        let way = match it.registers {
            Registration::MetadataDocument => "by its metadata document",
            Registration::Dynamic => "dynamically",
            Registration::TypedCredentials => "with credentials that people type",
            Registration::Impossible => "not at all",
        };
        let _ = writeln!(out, "    {:CLIENT_WIDTH$}{way}", it.client);
    }
}

fn detail(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "    {name:6}{text}");
}

fn sign(outcome: Outcome, style: Style) -> String {
    let sign = match (outcome, style.ascii) {
        (Outcome::Pass, false) => "✓",
        (Outcome::Warn, false) => "!",
        (Outcome::Fail, false) => "✗",
        (Outcome::Skipped, false) => "–",
        (Outcome::Pass, true) => "ok  ",
        (Outcome::Warn, true) => "warn",
        (Outcome::Fail, true) => "FAIL",
        (Outcome::Skipped, true) => "-   ",
    };
    if style.colours { paint(outcome, sign) } else { sign.to_owned() }
}

fn paint(outcome: Outcome, text: &str) -> String {
    let code = match outcome {
        Outcome::Pass => 32,
        Outcome::Warn => 33,
        Outcome::Fail => 31,
        Outcome::Skipped => 2,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

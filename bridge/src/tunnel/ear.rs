//! What an agent says on its standard error: where its tunnel is, its last words, and no secret.

use std::{collections::VecDeque, env, sync::Mutex};

use mcp_calculator::secret::Secret;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{agent::Plan, cloudflared, ngrok};
use crate::{
    backend::child::{Hears, Program},
    config::Agent,
    sync::Locked as _,
};

/// So many lines are kept of what it said last. A refusal has eight.
const LAST_LINES: usize = 10;

/// A shorter value is no secret, and would tear holes into every line.
const SECRET_MIN_BYTES: usize = 8;

/// What stands in place of a secret.
const HIDDEN: &str = "[hidden]";

/// What one line says.
#[derive(Debug)]
pub(super) struct Heard {
    /// Where the tunnel is, or where that can be asked.
    pub(super) place: Option<String>,
    /// What the log shows of it.
    pub(super) shown: Option<String>,
}

/// Hears one agent.
#[derive(Debug)]
pub(super) struct Ear {
    agent: Agent,
    /// The port to which its tunnel must lead.
    port: u16,
    /// What it knows and must not say.
    secrets: Vec<Secret<String>>,
    place: watch::Sender<Option<String>>,
    last: Mutex<VecDeque<String>>,
    ended: CancellationToken,
}

impl Ear {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            agent: plan.agent(),
            port: plan.bound().port(),
            secrets: secrets(plan),
            place: watch::Sender::new(None),
            last: Mutex::default(),
            ended: CancellationToken::new(),
        }
    }

    /// Where it says that its tunnel is, whenever it says so anew.
    pub(super) fn places(&self) -> watch::Receiver<Option<String>> {
        self.place.subscribe()
    }

    /// What was said last, without secrets.
    pub(super) fn last_words(&self) -> Vec<String> {
        self.last.locked().iter().cloned().collect()
    }

    /// Waits until nothing more will be said.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Hears for Ear {
    fn hear(&self, line: &str) -> Option<String> {
        let Heard { place, shown } = match self.agent {
            Agent::Cloudflared => cloudflared::read(line),
            Agent::Ngrok => ngrok::read(line, self.port),
        };
        if place.is_some() {
            self.place.send_if_modified(|known| {
                let is_new = *known != place;
                known.clone_from(&place);
                is_new
            });
        }
        let shown = without_secrets(shown?, &self.secrets);
        // ngrok begins each line of a refusal like this, the empty ones too.
        let words = shown.strip_prefix("ERROR:").unwrap_or(&shown).trim();
        if !words.is_empty() {
            let mut last = self.last.locked();
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(words.to_owned());
        }
        Some(shown)
    }

    fn end(&self) {
        self.ended.cancel();
    }
}

/// The values of the agent's own variables that may be secret.
fn secrets(plan: &Plan) -> Vec<Secret<String>> {
    let passed = Program::environment(env::vars_os(), &plan.variables(), &[]);
    let is_secret = |name: &str| {
        // On Windows they mean the same in every case.
        let name = name.to_ascii_uppercase();
        let own = name.starts_with("NGROK_") || name.starts_with("TUNNEL_");
        own && ["TOKEN", "KEY", "SECRET", "CRED"].iter().any(|word| name.contains(word))
    };
    let secret = passed.into_iter().filter_map(|(name, value)| {
        let value = Secret::new(value.into_string().ok()?);
        (is_secret(name.to_str()?) && value.expose().len() >= SECRET_MIN_BYTES).then_some(value)
    });
    secret.collect()
}

/// `text` without any of `secrets`, and without what ngrok quotes of a token that it does not accept.
fn without_secrets(mut text: String, secrets: &[Secret<String>]) -> String {
    for secret in secrets.iter().map(Secret::expose) {
        if text.contains(secret) {
            text = text.replace(secret, HIDDEN);
        }
        // A line is cut where it is long, and that may be inside of a secret.
        if let Some(cut) = text.strip_suffix('…') {
            let begun = (SECRET_MIN_BYTES / 2..secret.len()).rev().filter_map(|length| secret.get(..length));
            let begun = begun.map(|part| (part.len(), cut.ends_with(part))).find(|(_, ends)| *ends);
            if let Some((length, _)) = begun {
                text = format!("{}{HIDDEN}", &cut[..cut.len() - length]);
            }
        }
    }
    const QUOTED: &str = "authtoken: ";
    let mut rest = 0;
    while let Some(at) = text[rest..].find(QUOTED) {
        let start = rest + at + QUOTED.len();
        let length = text[start..].find(char::is_whitespace).unwrap_or(text.len() - start);
        // The page where it can be found is none.
        if !text[start..].starts_with("https://") {
            text.replace_range(start..start + length, HIDDEN);
        }
        rest = start;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let secrets = ["canary-secret", "other-canary"].map(|secret| Secret::new(secret.to_owned()));
        assert_eq!(without_secrets(text.to_owned(), &secrets), expected);
    }

    #[test]
    fn no_secret_is_shown() {
        check("nothing", "nothing");
        check("a canary-secret, canary-secret; other-canary", "a [hidden], [hidden]; [hidden]");
        check("cut canary-sec…", "cut [hidden]");
        check("cut cana…", "cut [hidden]");
        check("not cut canary-sec", "not cut canary-sec");
        check("Your authtoken: 1abc_2DEF Instructions", "Your authtoken: [hidden] Instructions");
        check("Your authtoken: 1abc…", "Your authtoken: [hidden]");
        check(
            "Install your authtoken: https://dashboard.ngrok.com/a",
            "Install your authtoken: https://dashboard.ngrok.com/a",
        );
        check("authtoken: ", "authtoken: [hidden]");
    }
}

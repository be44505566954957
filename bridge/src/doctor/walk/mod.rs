//! What is asked, and in which order.

mod door;
mod inside;
mod network;
mod sign_in;

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::door::Door;
use super::{
    Options,
    challenge::Challenge,
    checks::{Check, STEPS, Step},
    fetch::{Ask, Http, Reply, reply_shown},
    judge::{door::Access, speech::Spoken},
    report::{Exchange, Finding, Judged, Outcome, Report},
};

/// What ends a session is said after the walk, and waits for nobody longer than this.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// One walk, and what was learned on it.
pub(super) struct Walk {
    options: Options,
    url: Url,
    http: Http,
    /// What the present step has asked so far.
    exchanges: Vec<Exchange>,
    findings: Vec<Finding>,

    /// Whether HTTP can be tried.
    connected: bool,
    door: Option<Door>,
    challenge: Option<Challenge>,
    resource: Option<Found>,
    /// The issuers that the resource names.
    issuers: Vec<String>,
    server: Option<Found>,
    spoken: Spoken,
}

/// A metadata document and where it was.
struct Found {
    url: Url,
    document: Map<String, Value>,
}

/// How a step ended.
enum Taken {
    Judged(Judged),
    /// Not done, because …
    Skipped(String),
}

impl From<Judged> for Taken {
    fn from(judged: Judged) -> Self {
        Self::Judged(judged)
    }
}

fn skipped(because: impl Into<String>) -> Taken {
    Taken::Skipped(because.into())
}

impl Walk {
    pub(super) fn new(options: Options, url: Url, http: Http) -> Self {
        Self {
            options,
            url,
            http,
            exchanges: Vec::new(),
            findings: Vec::new(),
            connected: false,
            door: None,
            challenge: None,
            resource: None,
            issuers: Vec::new(),
            server: None,
            spoken: Spoken::default(),
        }
    }

    /// Takes every step that can be taken within `limit`, and as long as a person takes to sign in.
    pub(super) async fn run(mut self, limit: Duration) -> Report {
        let (time, began) = (SystemTime::now(), Instant::now());
        let mut deadline = began + limit;
        for step in STEPS {
            let started = Instant::now();
            let taken = match step.needs.iter().find(|need| !self.is_met(**need)) {
                Some(need) => skipped(self.why_not(*need)),
                None if step.check == Check::SignIn => self.take(step.check).await,
                None => match timeout_at(deadline, self.take(step.check)).await {
                    Ok(taken) => taken,
                    Err(_) => late(limit).into(),
                },
            };
            if step.check == Check::SignIn {
                deadline += started.elapsed();
            }
            self.record(step, taken);
        }
        // Whether the server hears it does not matter to anybody here.
        let _ = tokio::time::timeout(GOODBYE_MAX, self.end_session()).await;
        let verdict = self.findings.iter().map(|finding| finding.outcome).max().unwrap_or(Outcome::Pass);
        let url = super::words::shown(&self.options.url);
        Report { url, time, elapsed: began.elapsed(), verdict, findings: self.findings }
    }

    /// Whether what `check` finds out is known, so that others can go on from it.
    fn is_met(&self, check: Check) -> bool {
        match check {
            Check::Tls => self.connected,
            Check::Door => self.door.as_ref().is_some_and(|door| door.access != Access::Broken),
            Check::ResourceMetadata => self.resource.is_some(),
            Check::ServerMetadata => self.server.is_some(),
            Check::Eras => self.spoken.legacy.is_some() || self.spoken.modern,
            _ => self
                .findings
                .iter()
                .any(|it| it.title == title(check) && it.outcome >= Outcome::Pass && it.outcome < Outcome::Fail),
        }
    }

    /// Why nothing can go on from `check`: its own reason where it was skipped itself.
    fn why_not(&self, check: Check) -> String {
        match self.findings.iter().find(|finding| finding.title == title(check)) {
            Some(finding) if finding.outcome == Outcome::Skipped => finding.summary.clone(),
            _ => format!("there is no way on after \"{}\"", title(check)),
        }
    }

    async fn take(&mut self, check: Check) -> Taken {
        match check {
            Check::Url => self.typed(),
            Check::Reach => self.reach().await,
            Check::Tls => self.tls().await,
            Check::Door => self.door().await,
            Check::Agents => self.agents().await,
            Check::Challenge => self.challenge(),
            Check::Accept => self.accept().await,
            Check::BadToken => self.bad_token().await,
            Check::ResourceMetadata => self.resource_metadata().await,
            Check::Resource => self.resource(),
            Check::Scopes => self.scopes(),
            Check::ServerMetadata => self.server_metadata().await,
            Check::Issuer | Check::Endpoints | Check::Pkce | Check::IssParameter | Check::Registration => {
                self.of_server(check)
            }
            Check::RedirectUris => self.redirect_uris().await,
            Check::CorsEndpoint => self.cors_endpoint().await,
            Check::CorsSignIn => self.cors_sign_in().await,
            Check::SignIn => self.sign_in().await,
            Check::Eras => self.eras().await,
            Check::Tools => self.tools().await,
            Check::Streaming => self.streaming().await,
        }
    }

    fn record(&mut self, step: &Step, taken: Taken) {
        let exchanges = std::mem::take(&mut self.exchanges);
        let (outcome, judged) = match taken {
            Taken::Judged(judged) => (judged.outcome(), judged),
            Taken::Skipped(because) => (Outcome::Skipped, Judged::new(because)),
        };
        let Judged { summary, mut problems, clients } = judged;
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        self.findings.push(Finding {
            check: step.id,
            title: step.title,
            outcome,
            summary,
            exchanges,
            problems,
            clients,
        });
    }

    /// Asks, and keeps question and answer for the report.
    async fn ask(&mut self, ask: &Ask) -> Reply {
        let reply = self.http.send(ask).await;
        self.note(ask, reply_shown(&reply));
        reply
    }

    fn note(&mut self, ask: &Ask, got: impl Into<String>) {
        self.exchanges.push(Exchange { asked: ask.shown(), got: got.into() });
    }
}

/// What is said of steps that were cut off: that they went well nobody knows.
fn late(limit: Duration) -> Judged {
    Judged::new("not finished in time").fail(
        format!("the whole run has taken {} s", limit.as_secs()),
        "clients wait 10 s for discovery, registration and tokens each",
        "see why the server and its authorization server are slow",
    )
}

fn title(check: Check) -> &'static str {
    STEPS.iter().find(|step| step.check == check).map(|step| step.title).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn server_that_never_answers_does_not_hold_the_walk() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let typed = format!("http://{address}/mcp");
        let url = Url::parse(&typed).expect("a URL");
        let http = Http::new(&url, None).await.expect("a client");
        let options = Options { url: typed, token: None, sign_in: None, register: false };
        let report = Walk::new(options, url, http).run(Duration::from_millis(200)).await;
        assert!(report.elapsed < Duration::from_secs(5), "{:?}", report.elapsed);
        assert_eq!(report.findings.len(), STEPS.len());
        let of = |check: &str| report.findings.iter().find(|it| it.check == check).expect("every step is told");
        assert_eq!((of("door").outcome, of("door").summary.as_str()), (Outcome::Fail, "not finished in time"));
        assert_eq!(of("tools").outcome, Outcome::Skipped);
    }
}

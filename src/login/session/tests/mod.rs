//! A session, or several as if in several processes, with a clock and an authorization server of the test's.

mod asking;
mod keeping;
mod renewal;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::UNIX_EPOCH,
};

use tokio::sync::{Notify, Semaphore};

use super::*;
use crate::login::store::{
    StoreKind,
    tests::{record, slot},
};

const START: u64 = 1_800_000_000;

/// Everything that one session, or several as if in several processes, share with the test.
struct World {
    scratch: tempfile::TempDir,
    now: Arc<AtomicU64>,
    server: Arc<Server>,
}

/// An authorization server.
struct Server {
    asked: AtomicUsize,
    /// How it answers; tokens are numbered.
    answer: Mutex<Answer>,
    /// One is taken by each request.
    open: Semaphore,
    arrived: Notify,
    life: Mutex<Option<u64>>,
    now: Arc<AtomicU64>,
}

#[derive(Clone, Copy)]
enum Answer {
    Tokens,
    Rejected,
    UnknownClient,
    Down,
}

struct Client(Arc<Server>);

impl Refresh for Client {
    fn refresh<'a>(&'a self, record: &'a Record) -> RefreshFuture<'a> {
        Box::pin(async move {
            self.0.arrived.notify_one();
            self.0.open.acquire().await.expect("open").forget();
            let count = self.0.asked.fetch_add(1, Ordering::SeqCst) + 1;
            match *self.0.answer.lock().expect("no panic") {
                Answer::Tokens => {
                    let life = *self.0.life.lock().expect("no panic");
                    let mut renewed = record.clone();
                    renewed.access_token = Secret::new(format!("renewed {count}"));
                    renewed.expires_at = life.map(|life| at(self.0.now.load(Ordering::SeqCst) + life));
                    Ok(renewed)
                }
                Answer::Rejected => Err(RefreshError::Rejected("invalid_grant".to_owned())),
                Answer::UnknownClient => Err(RefreshError::UnknownClient("invalid_client".to_owned())),
                Answer::Down => Err(RefreshError::Unavailable("connection refused".to_owned())),
            }
        })
    }
}

impl World {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(START));
        let server = Server {
            asked: AtomicUsize::new(0),
            answer: Mutex::new(Answer::Tokens),
            open: Semaphore::new(1000),
            arrived: Notify::new(),
            life: Mutex::new(Some(3600)),
            now: Arc::clone(&now),
        };
        Self { scratch: tempfile::tempdir().expect("a folder"), now, server: Arc::new(server) }
    }

    fn store(&self) -> Store {
        Store::open(StoreKind::File, "test", Some(self.scratch.path().to_owned())).expect("a store")
    }

    /// A program of its own: it shares the folder and nothing else.
    fn session(&self) -> Session {
        let now = Arc::clone(&self.now);
        let client = Client(Arc::clone(&self.server));
        Session::new(self.store(), slot("a"), client, "program login")
            .with_clock(move || at(now.load(Ordering::SeqCst)))
    }

    /// Another program signs in, with a token that lives `life` seconds.
    fn sign_in(&self, token: &str, life: Option<i64>) {
        self.save(&with_life(token, life, self.now()));
    }

    fn save(&self, record: &Record) {
        self.store().save(&slot("a"), record, at(self.now())).expect("saved");
    }

    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.server.asked.load(Ordering::SeqCst)
    }

    fn answer(&self, answer: Answer) {
        *self.server.answer.lock().expect("no panic") = answer;
    }

    /// Makes reading and writing of secrets fail, or work again.
    fn break_store(&self, broken: bool) {
        let mode = std::fs::Permissions::from_mode(if broken { 0o755 } else { 0o700 });
        std::fs::set_permissions(self.scratch.path().join("file/tokens"), mode).expect("ours");
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn with_life(token: &str, life: Option<i64>, now: u64) -> Record {
    Record {
        refresh_token: Some(Secret::new("refresh".to_owned())),
        expires_at: life.map(|life| at(now.checked_add_signed(life).expect("a time"))),
        ..record(token)
    }
}

async fn token(session: &Session) -> String {
    let token = session.token().await.unwrap_or_else(|error| panic!("{error}"));
    token.map_or_else(|| "nobody".to_owned(), |token| token.expose().clone())
}

async fn refused(session: &Session, used: &str) -> Result<String, String> {
    let token = session.refused(&Secret::new(used.to_owned())).await;
    token.map(|token| token.expose().clone()).map_err(|error| error.to_string())
}

async fn failure(session: &Session) -> String {
    session.token().await.expect_err("no token").to_string()
}

/// Signs in with a token, or fails; counts how often the user is asked.
async fn ask(session: &Session, tabs: &AtomicUsize, outcome: Result<&str, &str>) -> Result<String, String> {
    let asked = session.sign_in(async |_| {
        tabs.fetch_add(1, Ordering::SeqCst);
        // Lets everybody else come as far as they can.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        outcome.map(record).map_err(str::to_owned)
    });
    asked.await.map(|record| record.access_token.expose().clone()).map_err(|error| error.to_string())
}

async fn ask_at_once(
    world: &World,
    looked: bool,
    outcome: Result<&'static str, &'static str>,
) -> (usize, Vec<Result<String, String>>) {
    let tabs = Arc::new(AtomicUsize::new(0));
    let sessions: Vec<_> = (0..3).map(|_| world.session()).collect();
    for session in sessions.iter().filter(|_| looked) {
        session.token().await.ok();
    }
    let tasks = sessions.iter().flat_map(|session| vec![session.clone(); 3]).map(|session| {
        let tabs = Arc::clone(&tabs);
        tokio::spawn(async move { ask(&session, &tabs, outcome).await })
    });
    let mut results = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        results.push(task.await.expect("no panic"));
    }
    (tabs.load(Ordering::SeqCst), results)
}

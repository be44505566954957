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

#[tokio::test]
async fn without_a_sign_in_there_is_none_until_somebody_signs_in() {
    let world = World::new();
    let session = world.session();
    assert_eq!(token(&session).await, "nobody");
    assert!(!Path::exists(&world.scratch.path().join("file")), "looking creates nothing");
    world.sign_in("first", None);
    world.pass(1);
    assert_eq!(token(&session).await, "first");
}

#[tokio::test]
async fn tokens_are_renewed_in_time_and_not_before() {
    // Life in seconds, and when it is renewed; none: never.
    for (life, due) in [
        (Some(3600), Some(3540)),
        (Some(100), Some(50)),
        (Some(2), Some(1)),
        (Some(1), Some(1)),
        (None, None),
        (Some(0), None),
        (Some(-50), None),
        (Some(1 << 60), None),
    ] {
        let world = World::new();
        world.sign_in("first", life);
        let session = world.session();
        assert_eq!(token(&session).await, "first", "{life:?}");
        let Some(due) = due else {
            world.pass(1 << 30);
            assert_eq!(token(&session).await, "first", "{life:?}");
            continue;
        };
        world.pass(due - 1);
        assert_eq!(token(&session).await, "first", "{life:?}");
        world.pass(1);
        assert_eq!(token(&session).await, "renewed 1", "{life:?}");
        assert_eq!(token(&world.session()).await, "renewed 1", "it is kept");
        assert_eq!(world.asked(), 1);
    }
}

#[tokio::test]
async fn a_refresh_race_sends_one_request() {
    let world = World::new();
    world.sign_in("first", Some(100));
    world.pass(99);
    let sessions: Vec<_> = (0..6).map(|_| world.session()).collect();
    let tasks: Vec<_> = sessions.iter().flat_map(|session| vec![session.clone(); 10]).collect();
    let tasks = tasks.into_iter().map(|session| tokio::spawn(async move { token(&session).await }));
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.expect("no panic"), "renewed 1");
    }
    let tasks = sessions.into_iter().map(|session| tokio::spawn(async move { refused(&session, "first").await }));
    for task in tasks.collect::<Vec<_>>() {
        assert_eq!(task.await.expect("no panic").as_deref(), Ok("renewed 1"));
    }
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn an_outage_logs_nobody_out() {
    let world = World::new();
    world.sign_in("first", Some(100));
    let session = world.session();
    world.answer(Answer::Down);
    world.pass(60);
    for _ in 0..5 {
        assert_eq!(token(&session).await, "first");
    }
    assert_eq!(world.asked(), 1, "it is not asked at every call");
    world.pass(30);
    assert_eq!((token(&session).await.as_str(), world.asked()), ("first", 2));
    world.pass(30);
    for _ in 0..5 {
        let error = failure(&session).await;
        assert!(error.starts_with("cannot renew the sign-in: "), "{error}");
    }
    assert_eq!(world.asked(), 3);
    world.answer(Answer::Tokens);
    world.pass(5);
    assert_eq!(token(&session).await, "renewed 4");
}

#[tokio::test]
async fn an_ended_sign_in_says_what_to_run_and_is_forgotten() {
    let world = World::new();
    world.sign_in("first", Some(100));
    let session = world.session();
    world.answer(Answer::Rejected);
    world.pass(60);
    let expected = "signed out: the authorization server has refused to renew it: invalid_grant; run `program \
                    login` to sign in again";
    for _ in 0..5 {
        assert_eq!(failure(&session).await, expected);
        assert_eq!(refused(&session, "first").await, Err(expected.to_owned()));
    }
    assert_eq!(world.asked(), 1);
    assert!(world.store().list().expect("readable").is_empty());
    // A restart does not turn restricted use into unrestricted use.
    let late = world.session();
    assert_eq!(failure(&late).await, expected);
    world.sign_in("second", None);
    world.pass(1);
    assert_eq!((token(&session).await.as_str(), token(&late).await.as_str()), ("second", "second"));
}

#[tokio::test]
async fn a_client_that_is_not_known_any_more_is_used_to_the_tokens_end_and_no_longer() {
    let world = World::new();
    world.sign_in("first", Some(100));
    let session = world.session();
    world.answer(Answer::UnknownClient);
    world.pass(60);
    assert_eq!((token(&session).await.as_str(), world.asked()), ("first", 1));
    world.pass(60);
    let expected = "signed out: the authorization server does not know this client any more: invalid_client; run \
                    `program login` to sign in again";
    assert_eq!(failure(&session).await, expected);
    assert_eq!(world.asked(), 2);
    assert!(world.store().list().expect("readable").is_empty(), "the next sign-in does not use the client again");
}

#[tokio::test]
async fn only_the_user_ends_a_sign_in_for_good() {
    let world = World::new();
    world.sign_in("first", Some(100));
    world.answer(Answer::Rejected);
    world.pass(60);
    let session = world.session();
    failure(&session).await;
    world.store().forget(&slot("a")).expect("signed out");
    assert_eq!(token(&world.session()).await, "nobody");
    world.pass(1);
    assert!(failure(&session).await.contains("invalid_grant"), "this process was restricted, and stays so");
}

#[tokio::test]
async fn tokens_that_somebody_deleted_are_a_sign_in_that_has_ended() {
    let world = World::new();
    world.sign_in("first", None);
    let tokens = world.scratch.path().join("file/tokens");
    for file in std::fs::read_dir(&tokens).expect("a folder") {
        std::fs::remove_file(file.expect("a file").path()).expect("removed");
    }
    let expected = "signed out: its tokens are not any more where they were kept; run `program login` to sign in again";
    assert_eq!(failure(&world.session()).await, expected);
    world.sign_in("second", None);
    assert_eq!(token(&world.session()).await, "second");
}

#[tokio::test]
async fn a_damaged_sign_in_is_replaced_by_a_new_one() {
    let world = World::new();
    world.sign_in("first", None);
    let tokens = world.scratch.path().join("file/tokens");
    for file in std::fs::read_dir(&tokens).expect("a folder") {
        let path = file.expect("a file").path();
        std::fs::write(path, "{\"version\":1}").expect("written");
    }
    let session = world.session();
    let error = failure(&session).await;
    assert!(error.ends_with("it is incomplete; sign in again"), "{error}");
    assert_eq!(ask(&session, &AtomicUsize::new(0), Ok("second")).await.as_deref(), Ok("second"));
    assert_eq!(token(&world.session()).await, "second");
}

#[tokio::test]
async fn a_sign_out_elsewhere_does_not_make_a_program_unrestricted() {
    let world = World::new();
    world.sign_in("first", None);
    let session = world.session();
    assert_eq!(token(&session).await, "first");
    world.store().forget(&slot("a")).expect("forgotten");
    world.pass(1);
    let expected = "signed out: another program has signed this user out; run `program login` to sign in again";
    assert_eq!(failure(&session).await, expected);
    assert_eq!(failure(&session).await, expected);
}

#[tokio::test]
async fn a_server_that_refuses_everything_causes_no_loop() {
    let world = World::new();
    world.sign_in("first", None);
    let session = world.session();
    world.pass(600);
    assert_eq!(refused(&session, "first").await.as_deref(), Ok("renewed 1"));
    for _ in 0..20 {
        let error = refused(&session, "renewed 1").await.expect_err("no third one");
        assert_eq!(
            error,
            "the sign-in does not work any more: the server refuses a token that was issued just now; run \
             `program login` to sign in again"
        );
    }
    assert_eq!(world.asked(), 1);
    world.pass(60);
    assert_eq!(refused(&session, "renewed 1").await.as_deref(), Ok("renewed 2"));
}

#[tokio::test]
async fn a_token_that_another_process_has_got_is_taken() {
    let world = World::new();
    world.sign_in("first", None);
    let session = world.session();
    assert_eq!(token(&session).await, "first");
    world.sign_in("second", None);
    assert_eq!(refused(&session, "first").await.as_deref(), Ok("second"));
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn without_a_refresh_token_the_user_is_asked_to_sign_in() {
    let world = World::new();
    world.save(&Record { refresh_token: None, ..with_life("first", Some(100), START) });
    let session = world.session();
    world.pass(99);
    assert_eq!(token(&session).await, "first");
    let error = refused(&session, "first").await.expect_err("refused");
    assert!(error.contains("the server refuses its token, and there is no refresh token"), "{error}");
    world.pass(1);
    let error = failure(&session).await;
    assert!(error.contains("its token has ended, and there is no refresh token"), "{error}");
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_lose_the_rotated_token() {
    let world = World::new();
    world.sign_in("first", Some(100));
    world.pass(60);
    let session = world.session();
    world.server.open.forget_permits(1000);
    let caller = tokio::spawn({
        let session = session.clone();
        async move { session.token().await.map(drop) }
    });
    world.server.arrived.notified().await;
    caller.abort();
    assert!(caller.await.expect_err("aborted").is_cancelled());
    world.server.open.add_permits(1);
    session.close().await;
    assert_eq!(token(&world.session()).await, "renewed 1");
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_renewal_undoes_no_sign_out_and_no_sign_in() {
    for signs_in in [false, true] {
        let world = World::new();
        world.sign_in("first", Some(100));
        world.pass(60);
        let session = world.session();
        world.server.open.forget_permits(1000);
        let caller = tokio::spawn({
            let session = session.clone();
            async move { session.token().await.map_err(|error| error.to_string()) }
        });
        world.server.arrived.notified().await;
        if signs_in {
            world.sign_in("second", None);
        } else {
            world.store().forget(&slot("a")).expect("forgotten");
        }
        world.server.open.add_permits(1);
        let got = caller.await.expect("no panic").map(|token| token.map(|token| token.expose().clone()));
        match got {
            Ok(token) => assert!(signs_in && token.as_deref() == Some("second"), "{token:?}"),
            Err(error) => assert!(!signs_in && error.starts_with("signed out: "), "{error}"),
        }
        let kept = world.store().load(&slot("a")).expect("readable");
        assert_eq!(kept.map(|record| record.access_token.expose().clone()), signs_in.then(|| "second".to_owned()));
    }
}

#[tokio::test]
async fn a_keyring_that_cannot_be_read_does_not_end_what_runs() {
    let world = World::new();
    world.sign_in("first", Some(3600));
    let (session, late) = (world.session(), world.session());
    assert_eq!(token(&session).await, "first");
    world.break_store(true);
    world.pass(3000);
    assert_eq!(token(&session).await, "first");
    let error = failure(&late).await;
    assert!(error.starts_with("refusing to use "), "{error}");
    world.break_store(false);
    world.pass(30);
    assert_eq!(token(&late).await, "first");
}

#[tokio::test]
async fn tokens_that_could_not_be_kept_are_used_and_kept_later() {
    let world = World::new();
    world.sign_in("first", Some(100));
    let session = world.session();
    assert_eq!(token(&session).await, "first");
    world.pass(60);
    world.server.open.forget_permits(1000);
    let caller = tokio::spawn({
        let session = session.clone();
        async move { token(&session).await }
    });
    world.server.arrived.notified().await;
    world.break_store(true);
    world.server.open.add_permits(1000);
    assert_eq!(caller.await.expect("no panic"), "renewed 1");
    world.break_store(false);
    world.pass(29);
    assert_eq!(token(&session).await, "renewed 1");
    let kept = || world.store().load(&slot("a")).expect("readable").expect("there").access_token.expose().clone();
    assert_eq!(kept(), "first");
    world.pass(1);
    assert_eq!(token(&session).await, "renewed 1");
    assert_eq!((kept().as_str(), world.asked()), ("renewed 1", 1));
}

#[tokio::test]
async fn a_crash_between_two_writes_sends_no_spent_refresh_token() {
    for refused_first in [false, true] {
        let world = World::new();
        world.sign_in("first", Some(100));
        let session = world.session();
        assert_eq!(token(&session).await, "first");
        // Another program renews, writes the tokens, and is killed before it writes the list.
        let list = world.scratch.path().join("file/sign-ins.json");
        let before = std::fs::read(&list).expect("a list");
        world.pass(60);
        world.sign_in("second", Some(3600));
        std::fs::write(&list, before).expect("written");
        let got =
            if refused_first { refused(&session, "first").await.expect("a token") } else { token(&session).await };
        assert_eq!((got.as_str(), world.asked()), ("second", 0));
        assert_eq!(token(&session).await, "second");
    }
}

#[tokio::test]
async fn a_sign_in_that_meets_a_long_renewal_is_used_and_kept_later() {
    let world = World::new();
    world.sign_in("first", Some(3600));
    let mut session = world.session();
    Arc::get_mut(&mut session.0).expect("not shared yet").replace_patience = Duration::ZERO;
    let tabs = AtomicUsize::new(0);
    let renewing = world.store().lock(&slot("a"), Purpose::Refresh, Instant::now()).expect("free");
    assert_eq!(ask(&session, &tabs, Ok("new")).await.as_deref(), Ok("new"));
    assert_eq!(token(&session).await, "new", "nobody is asked a second time");
    let kept = || world.store().load(&slot("a")).expect("readable").expect("there").access_token.expose().clone();
    session.keep().await.expect_err("it cannot be kept yet, and that is said");
    assert_eq!(kept(), "first");
    drop(renewing);
    session.keep().await.expect("kept");
    assert_eq!(kept(), "new");
}

#[tokio::test]
async fn a_renewal_elsewhere_does_not_replace_a_sign_in_that_waits_to_be_kept() {
    let world = World::new();
    world.sign_in("first", Some(100));
    let (mut session, other) = (world.session(), world.session());
    assert_eq!(token(&session).await, "first");
    Arc::get_mut(&mut session.0).expect("not shared yet").replace_patience = Duration::ZERO;
    let tabs = AtomicUsize::new(0);
    let renewing = world.store().lock(&slot("a"), Purpose::Refresh, Instant::now()).expect("free");
    assert_eq!(ask(&session, &tabs, Ok("new")).await.as_deref(), Ok("new"));
    drop(renewing);
    world.pass(60);
    assert_eq!(token(&other).await, "renewed 1", "of the sign-in before");
    world.pass(1);
    assert_eq!(token(&session).await, "new", "what the user has just said counts");
    world.pass(1);
    assert_eq!((token(&session).await.as_str(), token(&other).await.as_str()), ("new", "new"), "and is kept");
}

#[tokio::test]
async fn a_sign_in_that_waits_to_be_kept_gives_way_to_a_later_one() {
    let world = World::new();
    world.sign_in("first", Some(3600));
    let mut session = world.session();
    assert_eq!(token(&session).await, "first");
    Arc::get_mut(&mut session.0).expect("not shared yet").replace_patience = Duration::ZERO;
    let tabs = AtomicUsize::new(0);
    let renewing = world.store().lock(&slot("a"), Purpose::Refresh, Instant::now()).expect("free");
    assert_eq!(ask(&session, &tabs, Ok("new")).await.as_deref(), Ok("new"));
    drop(renewing);
    world.sign_in("later", Some(3600));
    world.pass(60);
    assert_eq!(token(&session).await, "later");
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

#[tokio::test]
async fn two_programs_at_once_open_one_tab() {
    for looked in [false, true] {
        let world = World::new();
        let (tabs, results) = ask_at_once(&world, looked, Ok("signed in")).await;
        assert_eq!(tabs, 1);
        assert!(results.iter().all(|result| result.as_deref() == Ok("signed in")), "{results:?}");
    }
}

#[tokio::test]
async fn a_failed_sign_in_opens_no_second_tab_until_the_user_asks() {
    let world = World::new();
    let (tabs, results) = ask_at_once(&world, true, Err("access_denied")).await;
    assert_eq!(tabs, 1);
    let pending = "not asking to sign in again: the last sign-in failed: access_denied; run `program login` to sign in";
    let failures = results.iter().filter(|result| **result == Err("access_denied".to_owned())).count();
    let others = results.iter().filter(|result| **result == Err(pending.to_owned())).count();
    assert_eq!((failures, others), (1, 8), "{results:?}");

    let tabs = AtomicUsize::new(0);
    let (session, other) = (world.session(), world.session());
    assert_eq!(ask(&session, &tabs, Ok("x")).await, Err(pending.to_owned()));
    world.pass(60);
    // Another process's failure counts for a minute, its own for five.
    assert_eq!(ask(&session, &tabs, Err("no")).await, Err("no".to_owned()));
    world.pass(60);
    ask(&session, &tabs, Ok("x")).await.expect_err("it waits");
    session.ask_again().await.expect("removed");
    assert_eq!(ask(&other, &tabs, Ok("x")).await.as_deref(), Ok("x"));
    assert_eq!(tabs.load(Ordering::SeqCst), 2);
    world.pass(1);
    assert_eq!(token(&session).await, "x");
}

#[tokio::test]
async fn a_client_that_gives_up_and_retries_opens_no_second_tab() {
    let world = World::new();
    let session = world.session();
    let started = Arc::new(Notify::new());
    let caller = tokio::spawn({
        let (session, started) = (session.clone(), Arc::clone(&started));
        async move {
            let asked = session.sign_in(async |_| {
                started.notify_one();
                std::future::pending::<Result<Record, String>>().await
            });
            asked.await.map(drop).map_err(|error| error.to_string())
        }
    });
    started.notified().await;
    caller.abort();
    assert!(caller.await.expect_err("aborted").is_cancelled());
    let tabs = AtomicUsize::new(0);
    let error = ask(&session, &tabs, Ok("x")).await.expect_err("it waits");
    assert!(error.contains("did not wait for its end"), "{error}");
    assert_eq!(tabs.load(Ordering::SeqCst), 0);
}

/// Another program that asks the user, as far as everybody else can see.
struct Asking {
    store: Store,
    lock: Guard,
}

impl Asking {
    fn begin(world: &World) -> Self {
        let store = world.store();
        let lock = store.lock(&slot("a"), Purpose::SignIn, Instant::now()).expect("free");
        store.note_attempt(&slot("a"), Some(&Attempt::under_way(at(world.now())))).expect("noted");
        Self { store, lock }
    }

    fn end(self, failed: Option<&Attempt>) {
        self.store.note_attempt(&slot("a"), failed).expect("noted");
        drop(self.lock);
    }

    fn die(self) {
        drop(self.lock);
    }
}

#[tokio::test]
async fn a_program_that_is_killed_while_the_user_is_asked_and_started_again_opens_no_second_tab() {
    let world = World::new();
    Asking::begin(&world).die();
    let tabs = AtomicUsize::new(0);
    let error = ask(&world.session(), &tabs, Ok("x")).await.expect_err("it waits");
    assert!(error.contains("was not brought to its end") && error.contains("program login"), "{error}");
    assert_eq!(tabs.load(Ordering::SeqCst), 0);
    // Unless its user says so, or after a while.
    let session = world.session();
    session.ask_again().await.expect("noted");
    assert_eq!(ask(&session, &tabs, Ok("x")).await.as_deref(), Ok("x"));
    Asking::begin(&world).die();
    world.pass(60);
    assert_eq!(ask(&world.session(), &tabs, Ok("y")).await.as_deref(), Ok("y"));
    assert_eq!(tabs.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn who_waits_for_another_programs_sign_in_takes_what_comes_of_it_or_asks_if_the_user_said_so() {
    let ask_meanwhile = async |insists: bool, end: fn(&World, Asking)| {
        let world = World::new();
        let asking = Asking::begin(&world);
        let (session, tabs) = (world.session(), Arc::new(AtomicUsize::new(0)));
        if insists {
            session.ask_again().await.expect("noted");
        }
        let waiting = {
            let tabs = Arc::clone(&tabs);
            tokio::spawn(async move { ask(&session, &tabs, Ok("own")).await })
        };
        // Long enough to find the lock held; if it is not, the outcome is the same.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        end(&world, asking);
        (waiting.await.expect("no panic"), tabs.load(Ordering::SeqCst))
    };
    let succeed = |world: &World, asking: Asking| {
        world.sign_in("theirs", Some(3600));
        asking.end(None);
    };
    let fail = |world: &World, asking: Asking| {
        asking.end(Some(&Attempt::failed(at(world.now()), "the last sign-in failed: denied".to_owned())));
    };
    for insists in [false, true] {
        assert_eq!(ask_meanwhile(insists, succeed).await, (Ok("theirs".to_owned()), 0));
    }
    let (denied, tabs) = ask_meanwhile(false, fail).await;
    assert!(denied.expect_err("they were denied").contains("denied") && tabs == 0);
    assert_eq!(ask_meanwhile(true, fail).await, (Ok("own".to_owned()), 1));
    let (killed, tabs) = ask_meanwhile(false, |_, asking| asking.die()).await;
    assert!(killed.expect_err("they were killed").contains("not brought to its end") && tabs == 0);
}

#[tokio::test]
async fn a_step_up_starts_from_the_sign_in_so_far_and_replaces_it() {
    let world = World::new();
    world.sign_in("first", Some(3600));
    let session = world.session();
    assert_eq!(token(&session).await, "first");
    let signed_in = session
        .sign_in(async |so_far: Option<Record>| {
            let mut record = so_far.ok_or("nobody")?;
            record.scopes.push("more".to_owned());
            Ok::<_, &str>(record)
        })
        .await
        .expect("signed in");
    assert_eq!(signed_in.scopes, ["more"]);
    assert_eq!(session.scopes().await.expect("signed in").expect("signed in"), ["more"]);
    assert_eq!(world.store().find(&slot("a")).expect("readable").expect("there").scopes, ["more"]);
}

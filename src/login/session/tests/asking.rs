//! The user is asked by one at a time, and not again and again.

use super::*;

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

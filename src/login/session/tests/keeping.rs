//! What could not be kept, or not be read.

use super::*;

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

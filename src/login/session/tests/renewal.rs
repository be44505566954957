//! When tokens are renewed, and what that does to the sign-in.

use super::*;

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

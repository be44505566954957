//! Questions at the same time: shared, bounded, and given up.

use super::*;

/// A stub that holds its answers back until the gate has permits, and the most it held at once.
async fn gated(gate: &Arc<Gate>) -> (Stub, Arc<AtomicUsize>) {
    let (gate, most) = (Arc::clone(gate), Arc::new(AtomicUsize::new(0)));
    let held = Arc::new(AtomicUsize::new(0));
    let peak = Arc::clone(&most);
    let stub = Stub::start(move |_| {
        let (gate, held, peak) = (Arc::clone(&gate), Arc::clone(&held), Arc::clone(&peak));
        async move {
            peak.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.acquire().await.expect("open").forget();
            held.fetch_sub(1, Ordering::SeqCst);
            Reply::json(good())
        }
    })
    .await;
    (stub, most)
}

/// Lets everything else run until `done`.
async fn until(done: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if done() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it did not happen");
}

#[tokio::test]
async fn concurrent_questions_about_one_token_are_one_call() {
    let gate = Arc::new(Gate::new(0));
    let (stub, _) = gated(&gate).await;
    let recorder = Arc::new(Recorder::default());
    let verifier = IntrospectionVerifier::new(settings(&stub), Arc::clone(&recorder) as Arc<dyn Observer>);
    let verifier = Arc::new(verifier.expect("valid"));
    let ask = || {
        let verifier = Arc::clone(&verifier);
        tokio::spawn(async move { verifier.verify(&bearer("t"), now()).await })
    };
    let leader = ask();
    until(|| stub.count() == 1).await;
    let followers: Vec<_> = (0..20).map(|_| ask()).collect();
    until(|| lock(&recorder.cache).len() == 21).await;

    // The one who asked first goes away; the question goes on.
    leader.abort();
    assert!(leader.await.expect_err("aborted").is_cancelled());
    gate.add_permits(1);
    for follower in followers {
        assert!(follower.await.expect("no panic").is_ok());
    }
    assert!(verifier.verify(&bearer("t"), now()).await.is_ok());
    assert_eq!(stub.count(), 1);
    assert_eq!(verifier.0.memory.as_ref().expect("a cache").flights.len(), 0);
    let cache = lock(&recorder.cache).clone();
    let of = |event| cache.iter().filter(|seen| **seen == event).count();
    assert_eq!((of(CacheEvent::Miss), of(CacheEvent::Coalesced), of(CacheEvent::Hit)), (1, 20, 1));
    assert_eq!(*lock(&recorder.introspected), [IntrospectionResult::Active]);
}

#[tokio::test]
async fn question_that_nobody_waits_for_ends_and_leaves_nothing() {
    let gate = Arc::new(Gate::new(0));
    let (stub, _) = gated(&gate).await;
    let verifier = Arc::new(verifier(&stub));
    let asked = Arc::clone(&verifier);
    let only = tokio::spawn(async move { asked.verify(&bearer("t"), now()).await });
    until(|| stub.count() == 1).await;
    only.abort();
    assert!(only.await.expect_err("aborted").is_cancelled());
    assert_eq!(verifier.0.memory.as_ref().expect("a cache").flights.len(), 0);
    assert_eq!(verifier.0.questions.available_permits(), MAX_QUESTIONS);

    gate.add_permits(2);
    assert!(verifier.verify(&bearer("t"), now()).await.is_ok());
    assert_eq!(stub.count(), 2);
}

#[tokio::test]
async fn without_a_ttl_every_request_asks() {
    let gate = Arc::new(Gate::new(0));
    let (stub, _) = gated(&gate).await;
    let verifier = Arc::new(without_cache(&stub));
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let verifier = Arc::clone(&verifier);
            tokio::spawn(async move { verifier.verify(&bearer("t"), now()).await })
        })
        .collect();
    until(|| stub.count() == 3).await;
    gate.add_permits(3);
    for verdict in asked {
        assert!(verdict.await.expect("no panic").is_ok());
    }

    let stub = Stub::always(|| Reply::json(json!({"active": false}))).await;
    let verifier = without_cache(&stub);
    for count in 1..=3 {
        assert_eq!(verifier.verify(&bearer("t"), now()).await, not_active());
        assert_eq!(stub.count(), count);
    }
}

#[tokio::test]
async fn at_most_sixteen_questions_at_once() {
    let gate = Arc::new(Gate::new(0));
    let (stub, most) = gated(&gate).await;
    let verifier = Arc::new(verifier(&stub));
    let asked: Vec<_> = (0..50)
        .map(|number| {
            let verifier = Arc::clone(&verifier);
            tokio::spawn(async move { verifier.verify(&bearer(&format!("t{number}")), now()).await })
        })
        .collect();
    until(|| stub.count() == MAX_QUESTIONS).await;
    gate.add_permits(50);
    for verdict in asked {
        assert!(verdict.await.expect("no panic").is_ok());
    }
    assert_eq!((stub.count(), most.load(Ordering::SeqCst)), (50, MAX_QUESTIONS));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_ends_after_five_seconds() {
    let stub = Stub::always(|| Reply::json(good())).await;
    let verifier = verifier(&stub);
    let all = verifier.0.questions.acquire_many(MAX_QUESTIONS as u32).await.expect("open");
    let started = Instant::now();
    assert!(is_unavailable(&verifier.verify(&bearer("t"), now()).await));
    assert_eq!(started.elapsed().as_secs(), TOTAL_TIMEOUT.as_secs());
    assert_eq!(stub.count(), 0);
    drop(all);
    assert!(verifier.verify(&bearer("t"), now()).await.is_ok(), "our own limit is not an outage of theirs");
}

//! Where keys come from, how long they are used, and who fetches new ones.

use super::*;

/// Publishes `old` until it is told to publish `new` too, or to fail.
struct Rotation {
    stub: Stub,
    /// How many of the two keys there are; 0 answers 500.
    published: Arc<AtomicUsize>,
    old: Signer,
    new: Signer,
}

impl Rotation {
    async fn start(published: usize) -> Self {
        let (old, new) = (Signer::ed25519(), Signer::ed25519());
        let keys = [old.jwk(json!({"kid": "old"})), new.jwk(json!({"kid": "new"}))];
        let published = Arc::new(AtomicUsize::new(published));
        let count = Arc::clone(&published);
        let stub = Stub::always(move || match count.load(Ordering::SeqCst) {
            0 => Reply::status(500, ""),
            count => Reply::json(json!({"keys": keys[..count]})),
        })
        .await;
        Self { stub, published, old, new }
    }

    fn old_token(&self) -> BearerToken {
        bearer(&self.old.token(&header("EdDSA", "old"), &claims()))
    }

    fn new_token(&self) -> BearerToken {
        bearer(&self.new.token(&header("EdDSA", "new"), &claims()))
    }

    fn publish(&self, count: usize) {
        self.published.store(count, Ordering::SeqCst);
    }
}

async fn seconds(count: u64) {
    tokio::time::advance(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn unknown_key_ids_do_not_make_us_hammer() {
    let rotation = Rotation::start(1).await;
    let verifier = verifier(&rotation.stub);
    assert!(verifier.verify(&rotation.old_token(), now()).await.is_ok());
    for number in 0..100 {
        let token = rotation.old.token(&header("EdDSA", &number.to_string()), &claims());
        assert_eq!(verifier.verify(&bearer(&token), now()).await, refused(NO_KEY));
    }
    assert_eq!(rotation.stub.count(), 1);

    rotation.publish(2);
    assert_eq!(verifier.verify(&rotation.new_token(), now()).await, refused(NO_KEY), "fetched a moment ago");
    seconds(30).await;
    assert!(verifier.verify(&rotation.new_token(), now()).await.is_ok());
    assert_eq!(rotation.stub.count(), 2);

    // A failed fetch says nothing about the key: the client must keep its token.
    rotation.publish(0);
    seconds(30).await;
    for _ in 0..10 {
        let token = rotation.old.token(&header("EdDSA", "third"), &claims());
        let verdict = verifier.verify(&bearer(&token), now()).await;
        assert!(matches!(verdict, Err(VerifyError::Unavailable(_))), "{verdict:?}");
    }
    assert_eq!(rotation.stub.count(), 3);
    assert!(verifier.verify(&rotation.old_token(), now()).await.is_ok(), "known keys go on");
}

#[tokio::test(start_paused = true)]
async fn keys_have_an_end() {
    let rotation = Rotation::start(2).await;
    let verifier = verifier(&rotation.stub);
    assert!(verifier.verify(&rotation.new_token(), now()).await.is_ok());
    // Withdrawn, and noticed when the keys are fetched again.
    rotation.publish(1);
    seconds(599).await;
    assert!(verifier.verify(&rotation.new_token(), now()).await.is_ok());
    seconds(1).await;
    assert_eq!(verifier.verify(&rotation.new_token(), now()).await, refused(NO_KEY));
    assert_eq!(rotation.stub.count(), 2);

    // An outage is survived for an hour, at one attempt per 30 s, and no longer.
    rotation.publish(0);
    seconds(600).await;
    for _ in 0..5 {
        assert!(verifier.verify(&rotation.old_token(), now()).await.is_ok());
    }
    assert_eq!(rotation.stub.count(), 3);
    assert_eq!(verifier.ready().await, Ok(()));
    seconds(3000).await;
    let verdict = verifier.verify(&rotation.old_token(), now()).await;
    assert!(matches!(verdict, Err(VerifyError::Unavailable(_))), "{verdict:?}");
    assert!(verifier.ready().await.expect_err("red").detail.contains("500"));
    rotation.publish(1);
    seconds(2).await;
    assert_eq!(verifier.ready().await, Ok(()));
    assert!(verifier.verify(&rotation.old_token(), now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn hanging_server_does_not_hold_up_tokens_with_known_keys() {
    let key = Signer::ed25519();
    let jwks = json!({"keys": [key.jwk(json!({"kid": "1"}))]});
    let asked = AtomicUsize::new(0);
    let stub = Stub::always(move || match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::json(&jwks),
        1 => Reply::Silence,
        _ => Reply::Drip,
    })
    .await;
    let verifier = verifier(&stub);
    let token = bearer(&key.token(&header("EdDSA", "1"), &claims()));
    assert!(verifier.verify(&token, now()).await.is_ok());
    for fetches in [2, 3] {
        seconds(if fetches == 2 { 600 } else { 30 }).await;
        let started = Instant::now();
        assert!(verifier.verify(&token, now()).await.is_ok());
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        // The fetch ends by itself, and is not repeated at once.
        seconds(5).await;
        let started = Instant::now();
        assert!(verifier.verify(&token, now()).await.is_ok());
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert_eq!(stub.count(), fetches);
    }
}

#[tokio::test(start_paused = true)]
async fn starts_before_the_authorization_server() {
    let rotation = Rotation::start(0).await;
    let recorder = Arc::new(Recorder::default());
    let settings =
        JwtSettings { jwks_url: Some(rotation.stub.at("/jwks")), issuer: Issuer::new(ISSUER), audiences: audiences() };
    let verifier = JwtVerifier::new(settings, Arc::clone(&recorder) as Arc<dyn Observer>).expect("valid");
    assert!(verifier.ready().await.is_err());
    for _ in 0..10 {
        let verdict = verifier.verify(&rotation.old_token(), now()).await;
        assert!(matches!(verdict, Err(VerifyError::Unavailable(_))), "{verdict:?}");
    }
    assert_eq!(rotation.stub.count(), 1, "at most one attempt in two seconds");
    rotation.publish(1);
    seconds(2).await;
    assert!(verifier.verify(&rotation.old_token(), now()).await.is_ok());
    assert_eq!(*lock(&recorder.fetched), [false, true]);
}

#[tokio::test]
async fn callers_that_hang_up_cannot_keep_new_keys_out() {
    let key = Signer::ed25519();
    let jwks = json!({"keys": [key.jwk(json!({"kid": "1"}))]});
    let gate = Arc::new(Gate::new(0));
    let held = Arc::clone(&gate);
    let stub = Stub::start(move |_| {
        let (gate, jwks) = (Arc::clone(&held), jwks.clone());
        async move {
            gate.acquire().await.expect("open").forget();
            Reply::json(jwks)
        }
    })
    .await;
    let verifier = Arc::new(verifier(&stub));
    let token = key.token(&header("EdDSA", "1"), &claims());
    let ask = || {
        let (verifier, token) = (Arc::clone(&verifier), bearer(&token));
        tokio::spawn(async move { verifier.verify(&token, now()).await })
    };
    let leader = ask();
    while stub.count() == 0 {
        tokio::task::yield_now().await;
    }
    leader.abort();
    assert!(leader.await.expect_err("aborted").is_cancelled());
    let followers: Vec<_> = (0..10).map(|_| ask()).collect();
    gate.add_permits(1);
    for follower in followers {
        assert!(follower.await.expect("no panic").is_ok());
    }
    assert_eq!(stub.count(), 1);
}

#[tokio::test]
async fn key_sets_that_are_none() {
    let cases: [fn() -> Reply; 7] = [
        || Reply::json("{}"),
        || Reply::json(r#"{"keys":[]}"#),
        || Reply::json(r#"{"keys":{}}"#),
        || Reply::json(r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#),
        || Reply::json(format!("{}{{}}", " ".repeat(64 * 1024))),
        || Reply::Http(302, "location: /elsewhere\r\n", Vec::new()),
        || Reply::json("<html>"),
    ];
    let key = Signer::ed25519();
    for (number, reply) in cases.into_iter().enumerate() {
        let stub = Stub::always(reply).await;
        let token = bearer(&key.token(&header("EdDSA", "1"), &claims()));
        let verdict = verifier(&stub).verify(&token, now()).await;
        assert!(matches!(verdict, Err(VerifyError::Unavailable(_))), "{number}: {verdict:?}");
        assert_eq!(stub.count(), 1, "{number}");
    }
}

#[tokio::test]
async fn keys_from_metadata() {
    let key = Signer::p256();
    let jwk = key.jwk(json!({"kid": "1"}));
    let stub = Stub::start(move |request| {
        let at = format!("http://{}", request.headers["host"]);
        let reply = match request.path.as_str() {
            "/.well-known/openid-configuration" => Reply::json(json!({"issuer": at, "jwks_uri": format!("{at}/keys")})),
            "/keys" => Reply::json(json!({"keys": [jwk]})),
            _ => Reply::status(404, ""),
        };
        std::future::ready(reply)
    })
    .await;
    let issuer = stub.url.as_str().trim_end_matches('/').to_owned();
    let settings = JwtSettings { jwks_url: None, issuer: Issuer::new(&issuer), audiences: audiences() };
    let verifier = JwtVerifier::new(settings, Arc::new(Unobserved)).expect("valid");
    let token = key.token(&header("ES256", "1"), &but(claims(), json!({ "iss": issuer })));
    let verdict = verifier.verify(&bearer(&token), now()).await;
    assert!(verdict.is_ok(), "{verdict:?}");
    let paths: Vec<_> = stub.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(
        paths,
        ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration", "/keys"],
        "without a path there are two documents to try"
    );
}

use std::{
    io,
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
};

use serde_json::{Value, json};
use tokio::sync::Semaphore as Gate;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::token::{
    lock,
    observer::Unobserved,
    stub::{NOW_SECONDS, RESOURCE, Recorder, Reply, Request, Stub, audiences, bearer, now},
};

const TTL: Duration = Duration::from_secs(15);

fn settings(stub: &Stub) -> IntrospectionSettings {
    IntrospectionSettings {
        endpoint: Some(stub.at("/introspect")),
        issuer: Issuer::new("https://as.example"),
        client_id: "bridge".to_owned(),
        client_secret: Secret::new("hunter2".to_owned()),
        cache_ttl: TTL,
        require_exp: false,
        audiences: audiences(),
    }
}

fn verifier(stub: &Stub) -> IntrospectionVerifier {
    IntrospectionVerifier::new(settings(stub), Arc::new(Unobserved)).expect("valid settings")
}

fn without_cache(stub: &Stub) -> IntrospectionVerifier {
    let settings = IntrospectionSettings { cache_ttl: Duration::ZERO, ..settings(stub) };
    IntrospectionVerifier::new(settings, Arc::new(Unobserved)).expect("valid settings")
}

fn good() -> Value {
    json!({"active": true, "sub": "user", "aud": RESOURCE, "scope": "op:add", "exp": NOW_SECONDS + 3600})
}

fn not_active() -> Verdict {
    Err(VerifyError::Inactive(Inactive::NotActive))
}

fn is_unavailable(verdict: &Verdict) -> bool {
    matches!(verdict, Err(VerifyError::Unavailable(_)))
}

/// The token that a question was about.
fn token_of(request: &Request) -> String {
    let mut fields = form_urlencoded::parse(request.body.as_bytes());
    fields.find(|(name, _)| name == "token").expect("a token").1.into_owned()
}

#[tokio::test]
async fn the_question() {
    let stub = Stub::always(|| Reply::json(good())).await;
    let settings = IntrospectionSettings {
        client_id: "the bridge:1".to_owned(),
        client_secret: Secret::new("a+b%c é".to_owned()),
        ..settings(&stub)
    };
    let verifier = IntrospectionVerifier::new(settings, Arc::new(Unobserved)).expect("valid");
    let verified = verifier.verify(&bearer("a+b/c="), now()).await.expect("good");
    assert_eq!((verified.principal(), verified.scopes.to_string().as_str()), ("user", "op:add"));

    let request = stub.requests().pop().expect("one");
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/introspect"));
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.body, "token=a%2Bb%2Fc%3D&token_type_hint=access_token");
    let basic = request.headers["authorization"].strip_prefix("Basic ").expect("Basic").to_owned();
    let pair = BASE64_STANDARD.decode(basic).expect("base64");
    assert_eq!(String::from_utf8(pair).expect("ASCII"), "the+bridge%3A1:a%2Bb%25c+%C3%A9");
}

#[tokio::test]
async fn outcomes() {
    type Case = (&'static str, fn() -> Reply, bool);
    let long = || Reply::json(format!("{}{}", " ".repeat(64 * 1024), good()));
    let just_short_enough = || {
        let good = good().to_string();
        Reply::json(format!("{}{good}", " ".repeat(64 * 1024 - good.len())))
    };
    let cases: [Case; 22] = [
        ("inactive", || Reply::json(r#"{"active":false}"#), false),
        ("400", || Reply::status(400, r#"{"error":"unsupported_token_type"}"#), false),
        ("400 without a body", || Reply::status(400, ""), false),
        ("400 about us", || Reply::status(400, r#"{"error":"invalid_client"}"#), true),
        ("401", || Reply::status(401, r#"{"active":true}"#), true),
        ("403", || Reply::status(403, ""), true),
        ("404", || Reply::status(404, ""), true),
        ("429", || Reply::status(429, ""), true),
        ("500", || Reply::status(500, good()), true),
        ("503", || Reply::status(503, ""), true),
        ("201", || Reply::status(201, good()), true),
        ("204", || Reply::Http(204, "", Vec::new()), true),
        ("no active", || Reply::json(json!({"sub": "user", "aud": RESOURCE})), true),
        ("active as text", || Reply::json(json!({"active": "true", "sub": "user", "aud": RESOURCE})), true),
        ("active as number", || Reply::json(json!({"active": 1, "sub": "user", "aud": RESOURCE})), true),
        ("active null", || Reply::json(json!({"active": null, "sub": "user", "aud": RESOURCE})), true),
        ("twice", || Reply::json(r#"{"active":false,"active":true}"#), true),
        ("not JSON", || Reply::json("<html>"), true),
        ("cut short", || Reply::json(r#"{"active":tr"#), true),
        ("too long", long, true),
        ("closed", || Reply::Hangup, true),
        ("exp as text", || Reply::json(json!({"active": true, "sub": "u", "aud": RESOURCE, "exp": "9"})), true),
    ];
    for (name, reply, unavailable) in cases {
        let stub = Stub::always(reply).await;
        let verdict = verifier(&stub).verify(&bearer("t"), now()).await;
        assert!(stub.count() > 0, "{name}");
        if unavailable {
            assert!(is_unavailable(&verdict), "{name}: {verdict:?}");
        } else {
            assert_eq!(verdict, not_active(), "{name}");
        }
    }
    let stub = Stub::always(just_short_enough).await;
    assert!(verifier(&stub).verify(&bearer("t"), now()).await.is_ok(), "an answer of exactly 64 KiB");
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    let stub = Stub::always(|| Reply::json(good())).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let settings = IntrospectionSettings {
        endpoint: Some(Url::parse(&format!("http://{closed}/introspect")).expect("a URL")),
        ..settings(&stub)
    };
    let verifier = IntrospectionVerifier::new(settings, Arc::new(Unobserved)).expect("valid");
    let verdict = verifier.verify(&bearer("t"), now()).await;
    assert!(is_unavailable(&verdict), "{verdict:?}");
    assert!(verifier.ready().await.expect_err("red").detail.contains("cannot connect"));
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let stub = Stub::start(|request| async move {
        match request.path.as_str() {
            "/introspect" => Reply::Http(307, "location: /elsewhere\r\n", Vec::new()),
            _ => Reply::json(good()),
        }
    })
    .await;
    assert!(is_unavailable(&verifier(&stub).verify(&bearer("t"), now()).await));
    assert_eq!(stub.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn silence_and_dripping_end_after_five_seconds() {
    for reply in [|| Reply::Silence, || Reply::Drip] {
        let stub = Stub::always(reply).await;
        let started = Instant::now();
        assert!(is_unavailable(&verifier(&stub).verify(&bearer("t"), now()).await));
        let took = started.elapsed();
        assert!(took >= TOTAL_TIMEOUT && took < TOTAL_TIMEOUT + Duration::from_millis(100), "{took:?}");
        assert_eq!(stub.count(), 1);
    }
}

#[tokio::test]
async fn connection_that_broke_is_tried_once_more() {
    let asked = AtomicUsize::new(0);
    let stub = Stub::always(move || match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::Hangup,
        _ => Reply::json(good()),
    })
    .await;
    assert!(verifier(&stub).verify(&bearer("t"), now()).await.is_ok());
    assert_eq!(stub.count(), 2);
}

#[tokio::test]
async fn verdicts_are_kept_as_long_as_they_may_be() {
    let stub = Stub::start(|request| async move {
        match token_of(&request).as_str() {
            "short" => Reply::json(json!({"active": true, "sub": "u", "aud": RESOURCE, "exp": NOW_SECONDS + 3})),
            "endless" => Reply::json(json!({"active": true, "sub": "u", "aud": RESOURCE})),
            "early" => Reply::json(json!({"active": true, "sub": "u", "aud": RESOURCE, "nbf": NOW_SECONDS + 600})),
            "unknown" => Reply::json(json!({"active": false})),
            "broken" => Reply::status(500, ""),
            _ => Reply::json(good()),
        }
    })
    .await;
    let settings = IntrospectionSettings { cache_ttl: Duration::from_secs(60), ..settings(&stub) };
    let verifier = IntrospectionVerifier::new(settings, Arc::new(Unobserved)).expect("valid");
    // The token, and the last whole second in which its verdict serves; then it is asked about again.
    for (token, serves) in [
        ("long", Some(59)),
        ("endless", Some(29)),
        ("short", Some(2)),
        ("unknown", Some(9)),
        ("early", None),
        ("broken", None),
    ] {
        let before = stub.count();
        let asked = async |seconds| {
            let _ = verifier.verify(&bearer(token), now() + Duration::from_secs(seconds)).await;
            stub.count() - before
        };
        assert_eq!(asked(0).await, 1, "{token}");
        if let Some(serves) = serves {
            assert_eq!(asked(serves).await, 1, "{token} is known");
            assert_eq!(asked(serves + 1).await, 2, "{token} is asked about again");
        } else {
            assert_eq!(asked(0).await, 2, "{token} is not kept");
        }
    }
}

#[tokio::test]
async fn revoked_token_is_refused_after_the_ttl_and_no_stale_verdict_bridges_an_outage() {
    let state = Arc::new(Mutex::new(200));
    let shown = Arc::clone(&state);
    let stub = Stub::always(move || match *lock(&shown) {
        200 => Reply::json(good()),
        404 => Reply::json(json!({"active": false})),
        other => Reply::status(other, ""),
    })
    .await;
    let verifier = verifier(&stub);
    let verify = async |seconds| verifier.verify(&bearer("t"), now() + Duration::from_secs(seconds)).await;
    assert!(verify(0).await.is_ok());
    *lock(&state) = 500;
    assert!(verify(14).await.is_ok());
    assert!(is_unavailable(&verify(15).await));
    *lock(&state) = 404;
    assert_eq!(verify(16).await, not_active());
    // Not even with a clock that goes back does the earlier verdict return.
    assert_eq!(verify(1).await, not_active());
}

#[tokio::test]
async fn flood_of_unknown_tokens_does_not_push_out_a_good_one() {
    let cache = VerdictCache::new(TTL);
    let good = TokenDigest::of(&bearer("good"));
    let claims = Claims::parse(good_answer().as_bytes()).expect("an object");
    let rules = Rules {
        issuer: Issuer::new("https://as.example"),
        audiences: audiences(),
        require_iss: false,
        require_exp: false,
        nbf_leeway: NBF_LEEWAY,
    };
    let token = Arc::new(rules.judge(&claims, now()).expect("good"));
    cache.store(good, &Ok(Arc::clone(&token)), now());
    for number in 0..30_000 {
        cache.store(TokenDigest::of(&bearer(&number.to_string())), &not_active(), now());
    }
    assert_eq!(cache.look_up(&good, now()), Some(Ok(token)));
}

fn good_answer() -> String {
    good().to_string()
}

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

#[tokio::test(start_paused = true)]
async fn breaker() {
    let status = Arc::new(Mutex::new(500));
    let shown = Arc::clone(&status);
    let stub = Stub::always(move || match *lock(&shown) {
        200 => Reply::json(good()),
        other => Reply::status(other, ""),
    })
    .await;
    let verifier = without_cache(&stub);
    let verify = async || verifier.verify(&bearer("t"), now()).await;
    for count in 1..=5 {
        assert!(is_unavailable(&verify().await));
        assert_eq!(stub.count(), count);
    }
    *lock(&status) = 200;
    assert!(is_unavailable(&verify().await));
    assert_eq!(stub.count(), 5, "an open breaker asks nobody");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(verify().await.is_ok());
    assert!(verify().await.is_ok());
    assert_eq!(stub.count(), 7);
}

#[tokio::test(start_paused = true)]
async fn strangers_cannot_open_the_breaker() {
    // What a token can bring about by itself: 400 from the server, 403 from a firewall before it.
    for status in [400, 401, 403] {
        let stub = Stub::start(move |request| async move {
            match token_of(&request).as_str() {
                "odd" => Reply::status(status, ""),
                _ => Reply::json(good()),
            }
        })
        .await;
        let verifier = without_cache(&stub);
        for _ in 0..20 {
            assert!(verifier.verify(&bearer("odd"), now()).await.is_err());
        }
        assert!(verifier.verify(&bearer("t"), now()).await.is_ok());
        // Nor make us unready.
        assert!(verifier.verify(&bearer("odd"), now()).await.is_err());
        assert_eq!(verifier.ready().await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn readiness() {
    let status = Arc::new(Mutex::new(503));
    let shown = Arc::clone(&status);
    let stub = Stub::always(move || match *lock(&shown) {
        200 => Reply::json(json!({"active": false})),
        other => Reply::status(other, ""),
    })
    .await;
    let verifier = without_cache(&stub);
    let red = async || verifier.ready().await.expect_err("red");
    assert!(red().await.detail.contains("503"));
    assert!(red().await.detail.contains("503"));
    assert_eq!(stub.count(), 1, "not asked again at once");

    *lock(&status) = 401;
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(red().await.detail.contains("refused our own client credentials"));

    *lock(&status) = 200;
    tokio::time::advance(Duration::from_secs(2)).await;
    for _ in 0..5 {
        assert_eq!(verifier.ready().await, Ok(()));
    }
    assert_eq!(stub.count(), 3, "green is known for a while");
    tokio::time::advance(Duration::from_secs(11)).await;
    let both = tokio::join!(verifier.ready(), verifier.ready());
    assert_eq!(both, (Ok(()), Ok(())));
    assert_eq!(stub.count(), 4, "one question for two who want to know");

    // Traffic that was answered is as good as a question of our own.
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(verifier.verify(&bearer("t"), now()).await, not_active());
    assert_eq!(verifier.ready().await, Ok(()));
    assert_eq!(stub.count(), 5);

    // An outage that traffic met is seen at once, and asked about even through an open breaker.
    *lock(&status) = 500;
    for _ in 0..6 {
        assert!(is_unavailable(&verifier.verify(&bearer("t"), now()).await));
    }
    assert!(red().await.detail.contains("500"));
    *lock(&status) = 200;
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(verifier.ready().await, Ok(()));

    let tokens: Vec<_> = stub.requests().iter().map(token_of).filter(|token| token != "t").collect();
    assert!(tokens.len() > 3 && tokens.iter().all(|token| token.len() == 32), "{tokens:?}");
    assert!(tokens.windows(2).all(|pair| pair[0] != pair[1]), "each a new one: {tokens:?}");
}

#[tokio::test]
async fn endpoint_from_metadata() {
    let well_known = "/.well-known/oauth-authorization-server/oauth/2.1";
    let oidc_inserted = "/.well-known/openid-configuration/oauth/2.1";
    let oidc_appended = "/oauth/2.1/.well-known/openid-configuration";
    // Which document there is, what it holds, and what was asked for in the end.
    let all = vec![well_known, oidc_inserted, oidc_appended];
    let document = |issuer: &str, endpoint: &str| json!({"issuer": issuer, "introspection_endpoint": endpoint});
    type Document = Box<dyn Fn(&str) -> Value + Send + Sync>;
    let right: fn() -> Document = || {
        Box::new(
            |at| json!({"issuer": format!("{at}/oauth/2.1"), "introspection_endpoint": format!("{at}/introspect")}),
        )
    };
    let cases: Vec<(&str, Document, Vec<&str>, bool)> = vec![
        (well_known, right(), vec![well_known], true),
        (oidc_inserted, right(), vec![well_known, oidc_inserted], true),
        (oidc_appended, right(), all.clone(), true),
        ("/none", right(), all.clone(), false),
        (
            well_known,
            Box::new(move |at| document(&format!("{at}/oauth/2.1/"), &format!("{at}/introspect"))),
            all.clone(),
            false,
        ),
        (well_known, Box::new(move |at| document(at, &format!("{at}/introspect"))), all.clone(), false),
        (
            well_known,
            Box::new(move |at| document(&format!("{at}/oauth/2.1"), "http://as.example/introspect")),
            all.clone(),
            false,
        ),
        (well_known, Box::new(move |at| document(&format!("{at}/oauth/2.1"), "introspect")), all.clone(), false),
        (well_known, Box::new(|at| json!({"issuer": format!("{at}/oauth/2.1")})), all.clone(), false),
    ];
    for (number, (place, body, asked, found)) in cases.into_iter().enumerate() {
        let stub = Stub::start(move |request| {
            let at = format!("http://{}", request.headers["host"]);
            let reply = match request.path.as_str() {
                "/introspect" => Reply::json(good()),
                path if path == place => Reply::json(body(&at)),
                _ => Reply::status(404, ""),
            };
            std::future::ready(reply)
        })
        .await;
        let issuer = Issuer::new(stub.at("/oauth/2.1").as_str());
        let settings = IntrospectionSettings { endpoint: None, issuer, ..settings(&stub) };
        let verifier = IntrospectionVerifier::new(settings, Arc::new(Unobserved)).expect("valid");
        assert_eq!(stub.count(), 0, "building asks nobody");
        let verdict = verifier.verify(&bearer("t"), now()).await;
        assert_eq!(verdict.is_ok(), found, "{number}: {verdict:?}");
        assert_eq!(is_unavailable(&verdict), !found, "{number}: {verdict:?}");
        let mut paths: Vec<_> = stub.requests().into_iter().map(|request| request.path).collect();
        if found {
            assert_eq!(paths.pop().as_deref(), Some("/introspect"));
        }
        assert_eq!(paths, asked, "{number}");
        let before = stub.count();
        let _ = verifier.verify(&bearer("another"), now()).await;
        let again = stub.count() - before;
        assert_eq!(again, if found { 1 } else { 3 }, "{number}: found once, looked for until found");
    }
}

#[tokio::test]
async fn urls_that_secrets_must_not_travel_to() {
    let stub = Stub::always(|| Reply::json(good())).await;
    let build = |endpoint: Option<&str>, issuer: &str| {
        let endpoint = endpoint.map(|url| Url::parse(url).expect("a URL"));
        let settings = IntrospectionSettings { endpoint, issuer: Issuer::new(issuer), ..settings(&stub) };
        IntrospectionVerifier::new(settings, Arc::new(Unobserved)).map(|_| ()).map_err(|error| error.to_string())
    };
    let issuer = "https://as.example";
    for good in ["https://as.example/i", "http://127.0.0.1:1/i", "http://[::1]:1/i", "http://localhost/i"] {
        assert_eq!(build(Some(good), issuer), Ok(()), "{good}");
    }
    for bad in ["http://as.example/i", "ftp://as.example/i", "https://u:hunter2@as.example/i", "https://as.example/i#f"]
    {
        let error = build(Some(bad), issuer).expect_err(bad);
        assert!(error.contains("introspection_url") && !error.contains("hunter2"), "{error}");
    }
    for bad in ["as.example", "http://as.example", "https://as.example/?tenant=1"] {
        assert!(build(None, bad).expect_err(bad).contains("the issuer"));
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn neither_token_nor_secret_is_shown() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    crate::telemetry::switch_on_all_events();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut shown = String::new();
    // A server that sends everything back, wherever an error could quote it.
    for status in [200, 201, 302, 400, 401, 403, 404, 500] {
        let stub = Stub::start(move |request| async move {
            Reply::status(status, format!("{} {}", request.headers["authorization"], request.body))
        })
        .await;
        let settings = IntrospectionSettings {
            client_secret: Secret::new("canary-secret".to_owned()),
            cache_ttl: if status == 400 { TTL } else { Duration::ZERO },
            ..settings(&stub)
        };
        shown += &format!("{settings:?}");
        let verifier = IntrospectionVerifier::new(settings, Arc::new(Unobserved)).expect("valid");
        for _ in 0..6 {
            let error = verifier.verify(&bearer("canary-token"), now()).await.expect_err("never good");
            shown += &format!("{error} {error:?}");
        }
        shown += &format!("{:?} {:?}", verifier.ready().await, verifier.0.authorization);
        assert!(stub.requests()[0].body.contains("canary-token"));
    }
    let logged = String::from_utf8(lock(&log.0).clone()).expect("UTF-8");
    for expected in ["ERROR", "refused our own client credentials", "WARN", "introspection failed"] {
        assert!(logged.contains(expected), "{expected} is not in the log:\n{logged}");
    }
    assert_eq!(logged.matches("ERROR").count(), 2, "one per verifier and minute:\n{logged}");
    shown += &logged;
    let basic = BASE64_STANDARD.encode("bridge:canary-secret");
    for secret in ["canary", basic.as_str()] {
        assert!(!shown.contains(secret), "{secret} is shown:\n{shown}");
    }
}

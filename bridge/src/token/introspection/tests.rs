mod endpoint;
mod turns;

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

fn good_answer() -> String {
    good().to_string()
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

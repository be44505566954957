use super::*;
use crate::{backend::in_process::InProcess, token::Issuer};

const IDLE: Duration = Duration::from_secs(60);

fn sessions(max: usize, max_per_principal: usize) -> Arc<Sessions> {
    Arc::new(Sessions::new(IDLE, max, max_per_principal, Arc::new(Metrics::new())))
}

/// A conversation of no importance.
fn nothing() -> Arc<dyn Conversation> {
    Arc::new(InProcess)
}

#[test]
fn another_principals_session_looks_unknown() {
    let (sessions, now) = (sessions(9, 9), Instant::now());
    let alice = VerifiedToken::of("alice", "app");
    let id = sessions.open(&alice, nothing(), now).expect("room");
    let foreign = VerifiedToken { issuer: Issuer::new("https://other.example"), ..alice.clone() };
    let nameless = VerifiedToken { subject: None, ..alice.clone() };
    for other in [VerifiedToken::of("bob", "app"), VerifiedToken::of("alice", "other-app"), foreign, nameless] {
        assert!(sessions.touch(&id, &other, now).is_none());
        assert!(sessions.open_stream(&id, &other, now).is_none());
        assert!(!sessions.end(&id, &other, now));
    }
    let refreshed = VerifiedToken { scopes: "op:add".parse().expect("valid"), ..alice };
    assert!(sessions.touch(&id, &refreshed, now).is_some());
    assert!(sessions.end(&id, &refreshed, now));
    assert!(sessions.touch(&id, &refreshed, now).is_none());
}

#[test]
fn idle_sessions_end_and_used_or_streaming_ones_live() {
    let (sessions, start) = (sessions(9, 9), Instant::now());
    let alice = VerifiedToken::of("alice", "app");
    let [idle, used, streaming] = std::array::from_fn(|_| sessions.open(&alice, nothing(), start).expect("room"));
    let stream = sessions.open_stream(&streaming, &alice, start).expect("owned");
    assert!(sessions.touch(&used, &alice, start + IDLE / 2).is_some());
    sessions.end_idle(start + IDLE);
    assert!(sessions.touch(&idle, &alice, start + IDLE).is_none());
    assert!(sessions.touch(&used, &alice, start + IDLE).is_some());
    assert!(sessions.touch(&streaming, &alice, start + IDLE * 9).is_some());
    drop(stream);
    assert!(sessions.touch(&streaming, &alice, start + IDLE * 99).is_none());
}

/// A call that lives by its progress may take longer than sessions may be idle.
#[tokio::test(start_paused = true)]
async fn a_session_does_not_end_in_the_middle_of_a_request() {
    let sessions = sessions(9, 9);
    let alice = VerifiedToken::of("alice", "app");
    let id = sessions.open(&alice, nothing(), Instant::now()).expect("room");
    let lives = || sessions.lock().sessions.contains_key(&id);
    let (_, request) = sessions.begin(&id, &alice, Instant::now()).expect("owned");
    // Of its HTTP request, and of the task that goes on without it.
    let task = request.clone();
    tokio::time::advance(IDLE * 2).await;
    drop(request);
    sessions.end_idle(Instant::now() + IDLE);
    assert!(lives(), "its task goes on");
    drop(task);
    sessions.end_idle(Instant::now() + IDLE / 2);
    assert!(lives(), "it was in use just now");
    sessions.end_idle(Instant::now() + IDLE);
    assert!(!lives());
}

#[test]
fn too_many_sessions_cost_their_owner_the_oldest_and_others_nothing() {
    let (sessions, start) = (sessions(3, 2), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let (alice, bob) = (VerifiedToken::of("alice", "app"), VerifiedToken::of("bob", "app"));
    let first = sessions.open(&alice, nothing(), at(0)).expect("room");
    let second = sessions.open(&alice, nothing(), at(1)).expect("room");
    let third = sessions.open(&alice, nothing(), at(2)).expect("room");
    assert!(
        sessions.touch(&first, &alice, at(3)).is_none()
            && sessions.touch(&second, &alice, at(3)).is_some()
            && sessions.touch(&third, &alice, at(3)).is_some()
    );
    let bobs = sessions.open(&bob, nothing(), at(4)).expect("room");
    assert_eq!(sessions.open(&VerifiedToken::of("carol", "app"), nothing(), at(5)), Err(Full));
    assert!(sessions.touch(&bobs, &bob, at(6)).is_some());
    assert!(sessions.open(&VerifiedToken::of("carol", "app"), nothing(), at(4) + IDLE).is_ok());
}

#[test]
fn the_session_that_is_ended_for_a_new_one_is_the_one_used_least() {
    let (sessions, start) = (sessions(99, 3), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let alice = VerifiedToken::of("alice", "app");
    let [busy, listening, idle] = [0, 1, 2].map(|second| sessions.open(&alice, nothing(), at(second)).expect("room"));
    let lives = |id: &SessionId| sessions.lock().sessions.contains_key(id);
    let (_, request) = sessions.begin(&busy, &alice, at(3)).expect("owned");
    let stream = sessions.open_stream(&listening, &alice, at(4)).expect("owned");
    assert!(sessions.touch(&idle, &alice, at(5)).is_some());
    let mut second = 6;
    let mut open_busy = || {
        second += 1;
        let id = sessions.open(&alice, nothing(), at(second)).expect("room");
        let (_, request) = sessions.begin(&id, &alice, at(second)).expect("owned");
        (id, request)
    };
    let _newer = open_busy();
    assert_eq!([lives(&busy), lives(&listening), lives(&idle)], [true, true, false], "idle ones first");
    let _newest = open_busy();
    assert_eq!([lives(&busy), lives(&listening)], [true, false], "then those that only listen");
    // All have requests.
    open_busy();
    assert!(!lives(&busy));
    drop((request, stream));
}

#[test]
fn a_user_with_many_clients_has_no_more_sessions_than_others() {
    let (sessions, start) = (sessions(99, 2), Instant::now());
    let open = |subject: Option<&str>, client: &str, seconds| {
        let token = VerifiedToken { subject: subject.map(str::to_owned), ..VerifiedToken::of("", client) };
        let now = start + Duration::from_secs(seconds);
        (sessions.open(&token, nothing(), now).expect("room"), token)
    };
    let opened: Vec<_> = (0..4).map(|number| open(Some("alice"), &format!("app-{number}"), number)).collect();
    let nameless: Vec<_> = (0..4).map(|number| open(None, &format!("app-{number}"), number)).collect();
    let now = start + Duration::from_secs(5);
    let live = |opened: &[(SessionId, VerifiedToken)]| -> Vec<bool> {
        opened.iter().map(|(id, token)| sessions.touch(id, token, now).is_some()).collect()
    };
    assert_eq!(live(&opened), [false, false, true, true]);
    assert_eq!(live(&nameless), [true; 4], "clients without a user are principals of their own");
    for (id, token) in opened.iter().chain(&nameless) {
        sessions.end(id, token, now);
    }
    assert!(sessions.lock().principals.is_empty(), "who has no session takes no memory");
}

#[tokio::test]
async fn a_newer_stream_ends_the_older_one_and_delete_ends_the_newer() {
    let (sessions, now) = (sessions(9, 9), Instant::now());
    let alice = VerifiedToken::of("alice", "app");
    let id = sessions.open(&alice, nothing(), now).expect("room");
    let older = sessions.open_stream(&id, &alice, now).expect("owned");
    let newer = sessions.open_stream(&id, &alice, now).expect("owned");
    older.ended().await;
    drop(older);
    assert!(!newer.ended.is_cancelled());
    assert!(sessions.end(&id, &alice, now));
    newer.ended().await;
}

/// A connection that has not noticed the shutdown yet may still ask for one.
#[tokio::test]
async fn a_stream_opened_during_the_shutdown_does_not_hold_it_up() {
    let (sessions, now) = (sessions(9, 9), Instant::now());
    let alice = VerifiedToken::of("alice", "app");
    let id = sessions.open(&alice, nothing(), now).expect("room");
    let earlier = sessions.open_stream(&id, &alice, now).expect("owned");
    sessions.end_streams();
    earlier.ended().await;
    let later = sessions.open_stream(&id, &alice, now).expect("owned");
    assert!(later.ended.is_cancelled());
}

#[test]
fn ids_read_back_and_are_not_shown() {
    let id = SessionId::random().expect("random numbers");
    let text = id.header_value();
    assert_eq!(SessionId::parse(text.as_bytes()), Some(id));
    assert!(!format!("{id:?}").contains(&text));
    for wrong in
        ["", "x", &text[1..], &format!("{text}0"), &text.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")]
    {
        assert_eq!(SessionId::parse(wrong.as_bytes()), None, "{wrong}");
    }
}

//! The rules of the store, and what becomes of it when things go wrong.

mod files;
mod refresh;

use std::{fs, sync::LazyLock, thread};

use super::*;
use crate::authserver::{
    approval_code::{ApprovalCode, ApprovalCodes},
    client::Authentication,
    opaque::{self, Purpose},
};

const RESOURCE: &str = "https://h.example/mcp";

static SERVED: LazyLock<Vec<String>> = LazyLock::new(|| vec![RESOURCE.to_owned()]);
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

struct World {
    folder: tempfile::TempDir,
    store: Store,
    session: i64,
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn digest(purpose: Purpose) -> Digest {
    Digest::of(opaque::new(purpose).expose())
}

fn first_refresh_token() -> RefreshDigest {
    RefreshDigest::of(opaque::new(Purpose::Refresh).expose()).expect("it is one")
}

fn scopes(text: &str) -> ScopeSet {
    text.parse().expect("scopes")
}

fn client(id: &str) -> Client {
    Client {
        id: id.to_owned(),
        name: Some("App".to_owned()),
        redirect_uris: vec!["https://c.example/cb".to_owned()],
        authentication: Authentication::None,
        refreshes: true,
    }
}

fn asked(client_id: &str) -> AuthorizationRequest {
    AuthorizationRequest {
        client: client(client_id),
        redirect_uri: "https://c.example/cb".to_owned(),
        redirect_uri_was_sent: true,
        state: Some("state".to_owned()),
        challenge: CHALLENGE.to_owned(),
        resource: RESOURCE.to_owned(),
        scopes: scopes("op:add op:div"),
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("state")).expect("a store");
        store.add_user("owner", Some("hash"), None, true, at(0)).expect("added");
        let cookie = digest(Purpose::Session);
        store.add_session(cookie, "owner", None, at(0)).expect("added");
        let session = store.session(cookie, at(0)).expect("readable").expect("signed in").id;
        Self { folder, store, session }
    }

    fn again(&self) -> Store {
        Store::open(&self.folder.path().join("state")).expect("the same state")
    }

    /// A code for the client `a`.
    fn code(&self, now: SystemTime) -> Digest {
        let (id, code, request) = (digest(Purpose::Request), digest(Purpose::Code), asked("a"));
        self.store.add_request(id, self.session, &request, now).expect("kept");
        let new = NewGrant { user: "owner", request: &request, scopes: &scopes("op:add op:div") };
        self.store.grant(id, self.session, new, code, now).expect("written").expect("it waited");
        code
    }

    fn exchange(&self, code: Digest, now: SystemTime) -> Result<(Digest, RefreshDigest), NotIssued> {
        self.exchange_as(code, now, |_| {})
    }

    fn exchange_as(
        &self,
        code: Digest,
        now: SystemTime,
        change: impl FnOnce(&mut CodeExchange<'_>),
    ) -> Result<(Digest, RefreshDigest), NotIssued> {
        let (access, refresh) = (digest(Purpose::Access), first_refresh_token());
        let mut exchange = CodeExchange {
            code,
            client_id: "a",
            redirect_uri: Some("https://c.example/cb"),
            challenge: CHALLENGE,
            resource: Some(RESOURCE),
            served: &SERVED,
            access,
            refresh,
        };
        change(&mut exchange);
        self.store.exchange_code(exchange, now).expect("written").map(|_| (access, refresh))
    }

    fn refresh(&self, token: RefreshDigest, now: SystemTime) -> Result<(Digest, RefreshDigest), NotIssued> {
        self.refresh_as(token, now, |_| {}).map(|(access, refresh, _)| (access, refresh))
    }

    fn refresh_as<'a>(
        &self,
        token: RefreshDigest,
        now: SystemTime,
        change: impl FnOnce(&mut RefreshExchange<'a>),
    ) -> Result<(Digest, RefreshDigest, Issued), NotIssued> {
        let (access, refresh) = (digest(Purpose::Access), digest(Purpose::Refresh));
        let mut exchange =
            RefreshExchange { token, client_id: "a", scopes: None, resource: None, served: &SERVED, access, refresh };
        change(&mut exchange);
        let next = RefreshDigest { token: refresh, ..token };
        self.store.refresh(exchange, now).expect("written").map(|issued| (access, next, issued))
    }

    fn count(&self, table: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {table}");
        self.store.read(|state| state.query_row(&query, [], |row| row.get(0))).expect("readable")
    }

    fn is_good(&self, access: Digest, now: SystemTime) -> bool {
        self.store.access(access, RESOURCE, now).expect("readable").is_some()
    }
}

#[test]
fn a_code_becomes_tokens_once_for_the_client_and_the_place_it_was_made_for() {
    let world = World::new();
    let code = world.code(at(0));
    type Change = fn(&mut CodeExchange<'_>);
    let wrong: [(Change, NotIssued); 7] = [
        (|exchange| exchange.client_id = "b", NotIssued::Invalid),
        (|exchange| exchange.redirect_uri = Some("https://c.example/cb2"), NotIssued::Invalid),
        (|exchange| exchange.redirect_uri = None, NotIssued::Invalid),
        (|exchange| exchange.challenge = "F9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", NotIssued::Invalid),
        (|exchange| exchange.resource = Some("https://h.example/other"), NotIssued::Target),
        (|exchange| exchange.served = &[], NotIssued::Invalid),
        (|exchange| exchange.code = digest(Purpose::Code), NotIssued::Invalid),
    ];
    for (change, expected) in wrong {
        assert_eq!(world.exchange_as(code, at(1), change), Err(expected));
    }
    let (access, _) = world.exchange(code, at(59)).expect("nothing wrong has used it up");
    let found = world.store.access(access, RESOURCE, at(60)).expect("readable").expect("good");
    assert_eq!((found.user.as_str(), found.client_id.as_str()), ("owner", "a"));
    assert_eq!((found.scopes, found.expires_at), (scopes("op:add op:div"), at(59 + 900)));
    assert!(world.store.access(access, "https://h.example/other", at(60)).expect("readable").is_none());
    assert!(world.is_good(access, at(958)) && !world.is_good(access, at(959)));
}

#[test]
fn a_code_is_good_for_a_minute_and_not_before_it_was_made() {
    let world = World::new();
    for (now, expected) in [(at(160), false), (at(99), false), (at(100), true)] {
        let code = world.code(at(100));
        assert_eq!(world.exchange(code, now).is_ok(), expected, "{now:?}");
    }
}

#[test]
fn a_code_that_is_used_again_ends_its_grant_and_a_wrong_replay_does_not() {
    let world = World::new();
    let code = world.code(at(0));
    let (access, refresh) = world.exchange(code, at(0)).expect("good");
    assert_eq!(world.exchange_as(code, at(1), |exchange| exchange.challenge = "x"), Err(NotIssued::Invalid));
    assert_eq!(world.exchange_as(code, at(1), |exchange| exchange.client_id = "b"), Err(NotIssued::Invalid));
    assert!(world.is_good(access, at(1)), "who cannot use it can end nothing with it");
    assert_eq!(world.exchange(code, at(1)), Err(NotIssued::Replayed));
    assert!(!world.is_good(access, at(1)));
    assert_eq!(world.refresh(refresh, at(1)), Err(NotIssued::Invalid));
}

#[test]
fn of_many_exchanges_of_one_code_one_gets_tokens() {
    for _ in 0..20 {
        let world = World::new();
        let code = world.code(at(0));
        let other = World { folder: tempfile::tempdir().expect("a folder"), store: world.again(), session: 0 };
        let won: usize = thread::scope(|scope| {
            let attempts = [&world, &other, &world, &other].map(|world| scope.spawn(|| world.exchange(code, at(1))));
            attempts.map(|attempt| usize::from(attempt.join().expect("no panic").is_ok())).iter().sum()
        });
        assert_eq!(won, 1);
    }
}

#[test]
fn a_request_is_answered_once_by_the_browser_that_was_asked() {
    let world = World::new();
    let (id, request) = (digest(Purpose::Request), asked("a"));
    let new = NewGrant { user: "owner", request: &request, scopes: &request.scopes };
    world.store.add_request(id, world.session, &request, at(0)).expect("kept");
    let grant =
        |session, now| world.store.grant(id, session, new.clone(), digest(Purpose::Code), now).expect("written");
    assert_eq!(grant(world.session + 1, at(1)), None);
    assert_eq!(grant(world.session, at(600)), None, "too late");
    assert_eq!(world.store.request(id, world.session, at(1)).expect("readable"), Some(request.clone()));
    assert!(grant(world.session, at(1)).is_some());
    assert_eq!(grant(world.session, at(1)), None);
    assert_eq!(world.store.take_request(id, world.session, at(1)).expect("readable"), None);
}

#[test]
fn a_revocation_by_another_process_holds_from_the_next_look() {
    let world = World::new();
    let (access, refresh) = world.exchange(world.code(at(0)), at(0)).expect("good");
    let other = world.again();
    assert!(world.is_good(access, at(1)));
    let grant = other.grants(None, at(1)).expect("readable")[0].id;
    assert!(!other.revoke_grant(grant, Some("somebody")).expect("written"));
    assert!(other.revoke_grant(grant, None).expect("written"));
    assert!(!world.is_good(access, at(1)));
    assert_eq!(world.refresh(refresh, at(1)), Err(NotIssued::Invalid));
}

#[test]
fn clients_revoke_their_own_tokens_only() {
    let world = World::new();
    let (access, refresh) = world.exchange(world.code(at(0)), at(0)).expect("good");
    world.store.revoke_access_token(access, "b").expect("written");
    assert!(!world.store.revoke_family(refresh.family, "b").expect("written"));
    assert!(!world.store.revoke_family(first_refresh_token().family, "a").expect("written"));
    assert!(world.is_good(access, at(1)));
    world.store.revoke_access_token(access, "a").expect("written");
    assert!(!world.is_good(access, at(1)));
    let (access, next) = world.refresh(refresh, at(1)).expect("the grant is there");
    assert!(world.store.revoke_family(next.family, "a").expect("written"));
    assert!(!world.is_good(access, at(1)) && world.store.grants(None, at(1)).expect("readable").is_empty());
}

#[test]
fn who_is_removed_takes_everything_along() {
    let world = World::new();
    world.store.add_user("eve", Some("hash"), Some(&scopes("op:add")), false, at(0)).expect("added");
    assert!(matches!(world.store.add_user("eve", None, None, false, at(0)), Err(StoreError::Exists)));
    let cookie = digest(Purpose::Session);
    world.store.add_session(cookie, "eve", None, at(0)).expect("added");
    let found = world.store.session(cookie, at(0)).expect("readable").expect("signed in");
    assert_eq!(found.user.scopes, Some(scopes("op:add")));
    assert!(world.store.remove_user("eve").expect("written"));
    assert!(!world.store.remove_user("eve").expect("written"));
    assert_eq!(world.store.session(cookie, at(0)).expect("readable"), None);
    assert!(matches!(world.store.remove_user("owner"), Err(StoreError::Owner)));
    world.exchange(world.code(at(0)), at(0)).expect("good");
    assert!(world.store.remove_client("a").expect("written"));
    assert!(world.store.grants(None, at(0)).expect("readable").is_empty());
}

#[test]
fn browsers_stay_signed_in_for_so_long() {
    const HOUR: u64 = 60 * 60;
    let world = World::new();
    let cookie = digest(Purpose::Session);
    world.store.add_session(cookie, "owner", None, at(0)).expect("added");
    let is_in = |now| world.store.session(cookie, now).expect("readable").is_some();
    for hours in 1..16 {
        assert!(is_in(at(hours * 11 * HOUR)));
    }
    assert!(!is_in(at(168 * HOUR)), "a week in all");
    world.store.add_session(digest(Purpose::Session), "owner", None, at(0)).expect("added");
    assert!(!is_in(at((15 * 11 + 12) * HOUR)), "twelve hours unused");
}

#[test]
fn a_new_passphrase_signs_other_browsers_out_and_leaves_grants() {
    let world = World::new();
    let (access, _) = world.exchange(world.code(at(0)), at(0)).expect("good");
    let other = digest(Purpose::Session);
    world.store.add_session(other, "owner", None, at(0)).expect("added");
    assert!(world.store.change_passphrase("owner", "hash", "new", world.session).expect("written"));
    assert!(!world.store.set_passphrase("nobody", "new").expect("written"));
    assert_eq!(world.store.session(other, at(0)).expect("readable"), None);
    assert_eq!(world.store.sessions("owner", at(0)).expect("readable").len(), 1);
    assert!(world.is_good(access, at(1)));
}

/// Whoever resets a passphrase wants those out who know the old one, also when they are just coming in.
#[test]
fn nobody_comes_in_by_a_passphrase_that_was_replaced_meanwhile() {
    let world = World::new();
    let user = world.store.user("owner").expect("readable").expect("there");
    let proved = user.passphrase_hash.as_deref();
    // While the old one is compared.
    assert!(world.store.set_passphrase("owner", "new").expect("written"));
    let cookie = digest(Purpose::Session);
    assert!(!world.store.add_session(cookie, "owner", proved, at(0)).expect("written"));
    assert_eq!(world.store.session(cookie, at(0)).expect("readable"), None);
    assert!(!world.store.change_passphrase("owner", "hash", "thiefs", world.session).expect("written"));
    let user = world.store.user("owner").expect("readable").expect("there");
    assert_eq!(user.passphrase_hash.as_deref(), Some("new"));
    assert!(world.store.add_session(cookie, "owner", Some("new"), at(0)).expect("written"));
    assert!(!world.store.add_session(digest(Purpose::Session), "nobody", None, at(0)).expect("written"));
}

#[test]
fn a_browser_is_approved_once_by_the_code_that_it_shows() {
    let world = World::new();
    let codes = ApprovalCodes::new();
    let (browser, other) = (digest(Purpose::Session), digest(Purpose::Session));
    let take = |browser, now| world.store.take_approval(&codes.of(browser, now), now).expect("readable");
    let approve = |code: &ApprovalCode, now| world.store.approve(code, "owner", now).expect("written");
    let [shown, _] = codes.of(browser, at(0));
    assert_eq!(take(browser, at(0)), None);
    approve(&shown, at(1));
    assert_eq!(take(other, at(2)), None);
    assert_eq!(take(browser, at(0)), None, "a clock was set back");
    assert_eq!(take(browser, at(2)).as_deref(), Some("owner"));
    assert_eq!(take(browser, at(2)), None, "once");
    // The page shows another one before this one is typed.
    let [next, before] = codes.of(browser, at(300));
    assert!(before == shown && next != shown);
    approve(&shown, at(590));
    assert_eq!(take(browser, at(599)).as_deref(), Some("owner"));
    approve(&shown, at(599));
    assert_eq!(take(browser, at(600)), None, "too late");
    let [shown, _] = codes.of(browser, at(600));
    approve(&shown, at(600));
    assert_eq!(take(browser, at(900)), None, "nobody came");
    assert_eq!(world.store.take_approval(&[shown.clone(), shown], at(900)).expect("readable"), None);
}

#[test]
fn strangers_fill_only_so_much() {
    let world = World::new();
    for number in 0..150 {
        world.store.add_client(&client(&format!("c{number}")), at(number)).expect("kept");
        world.store.add_request(digest(Purpose::Request), world.session, &asked("a"), at(number)).expect("kept");
    }
    assert_eq!(world.count("requests"), 20);
    for number in 0..150 {
        world.store.add_session(digest(Purpose::Session), "owner", None, at(number)).expect("kept");
    }
    let clients = world.store.clients().expect("readable");
    assert_eq!((clients.len(), clients[0].client.id.as_str()), (100, "c149"));
    assert_eq!(world.store.client("c49", at(150)).expect("readable"), None);
    assert_eq!(world.store.sessions("owner", at(150)).expect("readable").len(), 50);
    let [code, _] = ApprovalCodes::new().of(digest(Purpose::Session), at(150));
    world.store.approve(&code, "owner", at(150)).expect("kept");
    world.store.tidy(at(150 + 24 * 60 * 60)).expect("tidied");
    let left = ["clients", "requests", "sessions", "approvals"].map(|table| world.count(table));
    assert_eq!(left, [0; 4]);
}

#[test]
fn a_client_that_was_allowed_in_stays_while_it_is_used() {
    const DAY: u64 = 24 * 60 * 60;
    let world = World::new();
    world.store.add_client(&client("a"), at(0)).expect("kept");
    world.exchange(world.code(at(0)), at(0)).expect("good");
    world.store.tidy(at(40 * DAY)).expect("tidied");
    assert!(world.store.client("a", at(40 * DAY)).expect("readable").is_some());
    world.store.tidy(at(129 * DAY)).expect("tidied");
    assert!(world.store.client("a", at(129 * DAY)).expect("readable").is_some(), "it was used on day 40");
    world.store.tidy(at(219 * DAY)).expect("tidied");
    assert!(world.store.client("a", at(219 * DAY)).expect("readable").is_none());
}

#[test]
fn tidying_keeps_what_still_works() {
    let world = World::new();
    let unused = world.code(at(0));
    let (_, refresh) = world.exchange(world.code(at(0)), at(0)).expect("good");
    world.store.tidy(at(59)).expect("tidied");
    world.exchange(unused, at(59)).expect("it was still good");
    world.code(at(0));
    world.store.tidy(at(2000)).expect("tidied");
    assert_eq!(world.store.grants(None, at(2000)).expect("readable").len(), 2, "the one without tokens is gone");
    world.refresh(refresh, at(2000)).expect("still good");
}

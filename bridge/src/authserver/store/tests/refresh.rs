//! Refresh tokens: rotation, grace and ends.

use super::*;

#[test]
fn a_refresh_token_rotates_and_its_predecessor_dies_with_the_use_of_its_successor() {
    let world = World::new();
    let (_, first) = world.exchange(world.code(at(0)), at(0)).expect("good");
    // The answer was lost: asked again within a minute.
    world.refresh(first, at(100)).expect("good");
    let (_, second) = world.refresh(first, at(159)).expect("its successor was not used");
    let (access, third) = world.refresh(second, at(160)).expect("the client goes on with what it got");
    let (access_later, _) = world.refresh(third, at(2000)).expect("and on");
    assert!(world.is_good(access, at(161)) && world.is_good(access_later, at(2000)));
    assert_eq!(world.refresh(first, at(2000)), Err(NotIssued::Replayed), "its successor was used");
    assert!(!world.is_good(access_later, at(2000)), "everything of that grant is void");
    assert_eq!(world.refresh(third, at(2000)), Err(NotIssued::Invalid));
}

/// A thief who is quick has a chain of their own within the minute of grace. Whichever of the two is used
/// first, and however often before the other one: with the other one both end.
#[test]
fn a_refresh_token_that_a_thief_has_used_within_its_grace_ends_the_grant_when_both_go_on() {
    for (thief_is_first, rotations) in [(true, 1), (false, 1), (true, 300)] {
        let world = World::new();
        let (_, first) = world.exchange(world.code(at(0)), at(0)).expect("good");
        let (_, clients) = world.refresh(first, at(100)).expect("good");
        let (_, thiefs) = world.refresh(first, at(101)).expect("within the grace");
        let (mut one, other) = if thief_is_first { (thiefs, clients) } else { (clients, thiefs) };
        let mut last = None;
        for _ in 0..rotations {
            let (access, next) = world.refresh(one, at(102)).expect("the first of the two");
            (one, last) = (next, Some(access));
        }
        let last = last.expect("at least once");
        assert!(world.is_good(last, at(103)));
        assert_eq!(
            world.refresh_as(other, at(103), |exchange| exchange.client_id = "b").map(drop),
            Err(NotIssued::Invalid)
        );
        assert!(world.is_good(last, at(103)), "another client's word ends nothing");
        assert_eq!(world.refresh(other, at(103)), Err(NotIssued::Replayed), "{thief_is_first} {rotations}");
        assert!(!world.is_good(last, at(103)));
        assert_eq!(world.refresh(one, at(103)), Err(NotIssued::Invalid));
    }
}

#[test]
fn a_client_that_refreshes_all_the_time_fills_no_disk() {
    let world = World::new();
    let (_, first) = world.exchange(world.code(at(0)), at(0)).expect("good");
    let (mut token, mut last) = (first, None);
    for _ in 0..150 {
        // Each answer is lost as often as that may be.
        for _ in 0..4 {
            world.refresh(token, at(1)).expect("good");
        }
        let (access, next) = world.refresh(token, at(1)).expect("good");
        (token, last) = (next, Some(access));
        assert!(world.count("refresh_tokens") <= 10 && world.count("access_tokens") <= 100);
    }
    assert!(world.is_good(last.expect("issued"), at(2)), "the newest is not the one that makes room");
    assert_eq!(world.refresh(first, at(2)), Err(NotIssued::Replayed), "and an old one is recognised");
}

#[test]
fn a_used_refresh_token_is_no_good_after_a_minute() {
    let world = World::new();
    let (_, first) = world.exchange(world.code(at(0)), at(0)).expect("good");
    let (access, _) = world.refresh(first, at(0)).expect("good");
    assert_eq!(world.refresh_as(first, at(60), |exchange| exchange.client_id = "b").map(drop), Err(NotIssued::Invalid));
    assert!(world.is_good(access, at(60)), "another client's word ends nothing");
    assert_eq!(world.refresh(first, at(60)), Err(NotIssued::Replayed));
    assert!(!world.is_good(access, at(60)));
}

#[test]
fn one_refresh_token_has_five_successors_at_most() {
    let world = World::new();
    let (_, first) = world.exchange(world.code(at(0)), at(0)).expect("good");
    for _ in 0..5 {
        world.refresh(first, at(1)).expect("within its minute");
    }
    assert_eq!(world.refresh(first, at(1)), Err(NotIssued::Replayed));
}

#[test]
fn a_refresh_narrows_and_never_widens() {
    let world = World::new();
    let (_, token) = world.exchange(world.code(at(0)), at(0)).expect("good");
    let (narrow, all) = (scopes("op:add"), scopes("op:add op:div op:mult"));
    let wider = world.refresh_as(token, at(1), |exchange| exchange.scopes = Some(&all));
    assert_eq!(wider.map(drop), Err(NotIssued::Scope));
    let other = world.refresh_as(token, at(1), |exchange| exchange.resource = Some("https://h.example/other"));
    assert_eq!(other.map(drop), Err(NotIssued::Target));
    let (access, next, issued) =
        world.refresh_as(token, at(1), |exchange| exchange.scopes = Some(&narrow)).expect("nothing was used up");
    assert_eq!(issued.scopes, narrow);
    assert_eq!(world.store.access(access, RESOURCE, at(1)).expect("readable").expect("good").scopes, narrow);
    let (_, _, issued) = world.refresh_as(next, at(2), |_| {}).expect("good");
    assert_eq!(issued.scopes, scopes("op:add op:div"), "the grant is as it was");
}

#[test]
fn refreshing_ends_after_thirty_idle_days_and_ninety_in_all() {
    const DAY: u64 = 24 * 60 * 60;
    let world = World::new();
    let (_, token) = world.exchange(world.code(at(0)), at(0)).expect("good");
    assert_eq!(world.refresh(token, at(30 * DAY)), Err(NotIssued::Invalid));
    let (_, token) = world.exchange(world.code(at(0)), at(0)).expect("good");
    let (_, token) = world.refresh(token, at(29 * DAY)).expect("in time");
    let (_, token) = world.refresh(token, at(58 * DAY)).expect("in time");
    let (access, token, issued) = world.refresh_as(token, at(87 * DAY), |_| {}).expect("in time");
    assert_eq!(issued.expires_in, ACCESS_LIFE);
    assert!(world.is_good(access, at(87 * DAY)));
    let (_, token, issued) = world.refresh_as(token, at(90 * DAY - 60), |_| {}).expect("in time");
    assert_eq!(issued.expires_in, Duration::from_secs(60), "no token outlives its grant");
    assert_eq!(world.refresh(token, at(90 * DAY)), Err(NotIssued::Invalid));
}

/// The public URL may change, and change back.
#[test]
fn a_refresh_token_for_what_is_served_no_more_is_refused_and_not_used_up() {
    let world = World::new();
    let (_, token) = world.exchange(world.code(at(0)), at(0)).expect("good");
    let moved = world.refresh_as(token, at(1), |exchange| exchange.served = &[]);
    assert_eq!(moved.map(|_| ()), Err(NotIssued::Invalid));
    assert!(world.refresh(token, at(2)).is_ok());
}

#[test]
fn a_client_without_refresh_tokens_gets_none() {
    let world = World::new();
    let (id, code, mut request) = (digest(Purpose::Request), digest(Purpose::Code), asked("a"));
    request.client.refreshes = false;
    request.redirect_uri_was_sent = false;
    world.store.add_request(id, world.session, &request, at(0)).expect("kept");
    let new = NewGrant { user: "owner", request: &request, scopes: &request.scopes };
    world.store.grant(id, world.session, new, code, at(0)).expect("written").expect("it waited");
    let (_, refresh) = world.exchange_as(code, at(0), |exchange| exchange.redirect_uri = None).expect("good");
    assert_eq!(world.refresh(refresh, at(1)), Err(NotIssued::Invalid));
}

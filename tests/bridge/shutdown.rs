//! The end by a signal: what was accepted is finished, and nobody holds it up.

use crate::common::{
    authorization_server::Fault,
    bridge::accepts,
    http::{Connection, Request},
    mcp, wait_until,
    world::{ALL_SCOPES, World},
};

/// What was accepted before SIGTERM is answered after it.
#[test]
fn shutdown_loses_nothing() {
    let mut world = World::with(|line| line.flag("--drain-timeout", "8s"));
    let address = world.bridge.address();
    world.server.fail(Fault::Late(std::time::Duration::from_millis(1500)));
    let asked = world.server.question_count();
    let mut connections: Vec<Connection> = (0..10)
        .map(|_| {
            let token = world.token(ALL_SCOPES);
            let mut connection = Connection::open(address);
            connection.write(&mcp::call("add").bearer(&token).bytes(address));
            connection
        })
        .collect();
    wait_until("all of them are being checked", || world.server.question_count() == asked + 10);
    world.bridge.sigterm();
    wait_until("nothing new is accepted", || !accepts(address));
    for connection in &mut connections {
        let response = connection.read_response(false).expect(200, "accepted before the end");
        assert_eq!(mcp::text(&response.json()), "9");
    }
    assert_eq!(world.bridge.wait().code(), Some(0), "{}", world.bridge.log_text());
}

/// Clients that keep their connections busy are told to leave before they are left.
#[test]
fn shutdown_under_load_loses_nothing() {
    let mut world = World::start();
    let address = world.bridge.address();
    let request = mcp::call("add").bearer(world.good()).bytes(address);
    let answered = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::open(address);
                    loop {
                        connection.write(&request);
                        let response = connection.read_response(false).expect(200, "under load");
                        assert_eq!(mcp::text(&response.json()), "9");
                        answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if response.lists("Connection", "close") {
                            return;
                        }
                    }
                })
            })
            .collect();
        wait_until("all are at work", || answered.load(std::sync::atomic::Ordering::Relaxed) > 100);
        world.bridge.sigterm();
        for client in clients {
            client.join().expect("every request was answered until the server said goodbye");
        }
    });
    assert_eq!(world.bridge.wait().code(), Some(0), "{}", world.bridge.log_text());
}

#[test]
fn shutdown_ends_streams_and_idle_connections() {
    let mut world = World::start();
    let address = world.bridge.address();
    let session = world.session(world.good());
    let mut idle = Connection::open(address);
    idle.write(&Request::get("/healthz").bytes(address));
    idle.read_response(false).expect(200, "idle");
    let stream = Request::get("/mcp").header("Accept", "text/event-stream").header("Mcp-Session-Id", &session);
    let (head, mut stream) = stream.bearer(world.good()).open(address);
    head.expect(200, "stream");
    let started = std::time::Instant::now();
    world.bridge.sigterm();
    while stream.next_event().is_some() {}
    assert!(idle.is_closed_by_peer());
    assert_eq!(world.bridge.wait().code(), Some(0));
    assert!(started.elapsed().as_secs() < 5, "open streams delayed the end by {:?}", started.elapsed());
}

/// Who has said nothing yet is not waited for, as long as heads may take; who has begun is answered.
#[test]
fn shutdown_waits_for_who_has_begun_to_speak_and_for_no_other() {
    let mut world = World::start();
    let address = world.bridge.address();
    let request = mcp::call("add").bearer(world.good()).bytes(address);
    let mut silent = Connection::open(address);
    // One byte, P, does not yet say which HTTP it is.
    let mut begun = [1, 5].map(|length| {
        let mut connection = Connection::open(address);
        connection.write(&request[..length]);
        (connection, length)
    });
    world.send(&Request::get("/healthz")).expect(200, "the others were accepted before this one");
    world.bridge.sigterm();
    assert!(silent.is_closed_by_peer());
    for (connection, length) in &mut begun {
        connection.write(&request[*length..]);
        connection.read_response(false).expect(200, "it has begun before");
    }
    assert_eq!(world.bridge.wait().code(), Some(0), "{}", world.bridge.log_text());
}

/// A request that never ends does not keep the process for ever.
#[test]
fn shutdown_has_a_deadline() {
    let mut world = World::with(|line| line.flag("--drain-timeout", "1s").flag("--body-timeout", "60s"));
    let address = world.bridge.address();
    let stuck = mcp::call("add").with("Content-Length", "1000").body("{").bearer(world.good());
    let mut connection = Connection::open(address);
    connection.write(&stuck.bytes(address));
    world.call(world.good(), "add").expect(200, "the stuck request has arrived before this one");
    world.bridge.sigterm();
    assert_eq!(world.bridge.wait().code(), Some(0), "{}", world.bridge.log_text());
    assert!(!accepts(address));
}

#[test]
fn sigint_is_as_good_as_sigterm() {
    let mut world = World::start();
    world.bridge.signal("INT");
    assert_eq!(world.bridge.wait().code(), Some(0));
}

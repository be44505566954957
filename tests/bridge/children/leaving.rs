//! Clients that go away without a word.

use serde_json::{Value, json};

use super::{
    client::{Client, next_message},
    rig::{Rig, eventually},
};

/// How often a call was told that nobody waits for it.
fn cancelled(rig: &Rig) -> usize {
    rig.errors().iter().filter(|line| *line == "cancelled").count()
}

/// A call that runs when this returns.
fn running(client: &mut Client, milliseconds: u64) -> crate::common::http::Connection {
    let mut expected = client.text("count", &json!({})).parse::<u64>().expect("a number") + 1;
    let waiting = client.begin("sleep", &json!({ "ms": milliseconds }));
    eventually("it runs", || {
        let counted = client.text("count", &json!({})).parse::<u64>().expect("a number");
        let runs = counted > expected;
        expected += 1;
        runs
    });
    waiting
}

/// A long call with progress, of which something has come already.
fn streaming(client: &mut Client, tool: &str, arguments: &Value) -> crate::common::http::Connection {
    let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": 1 } });
    let request = client.request("tools/call", &params);
    let mut stream = client.send_only(&request);
    assert_eq!(stream.read_head().status, 200);
    next_message(&mut stream);
    stream
}

#[test]
fn a_modern_client_that_leaves_has_cancelled() {
    for (era, isolation) in [("modern", "session"), ("legacy", "session"), ("both", "shared")] {
        let rig = Rig::everything(era, isolation, |line| line);
        let mut client = rig.modern("alice");
        drop(running(&mut client, 600_000));
        eventually("the server was told", || cancelled(&rig) == 1);
        // What a client has seen the beginning of, it can leave, too.
        drop(streaming(&mut client, "progress_n", &json!({ "n": 1_000_000_000_u64 })));
        assert_eq!(client.call("count", &json!({})).head.status, 200, "{era} {isolation}");
    }
}

#[test]
fn a_modern_client_that_leaves_takes_its_process_along() {
    for era in ["modern", "legacy"] {
        let rig = Rig::everything(era, "request", |line| line.flag("--pool", "0"));
        rig.wait_until_ready();
        for _ in 0..3 {
            let mut client = rig.modern("alice");
            let waiting = client.begin("sleep", &json!({ "ms": 600_000 }));
            rig.wait_for_processes(1);
            drop(waiting);
            rig.wait_for_processes(0);
            drop(streaming(&mut client, "progress_n", &json!({ "n": 1_000_000_000_u64 })));
            rig.wait_for_processes(0);
        }
    }
}

/// MCP 2025-11-25, "Sending Messages to the Server": a disconnection is no cancellation. But it is no
/// way either to have the server work for ever.
#[test]
fn a_legacy_clients_request_goes_on_without_it_and_not_for_ever() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "session", |line| line.flag("--request-timeout", "4s"));
        let mut client = rig.legacy("alice");
        let process = client.text("pid", &json!({}));
        drop(running(&mut client, 300));
        drop(running(&mut client, 600_000));
        eventually("the long one was ended", || cancelled(&rig) == 1);
        assert_eq!(client.text("pid", &json!({})), process, "{era}");
        assert_eq!(cancelled(&rig), 1, "{era}: the short one was not");
    }
}

/// A client that leaves its stream in the middle must not stop its own server for others.
#[test]
fn a_legacy_client_that_leaves_in_mid_stream_does_not_block_its_session() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "session", |line| line);
        let mut client = rig.legacy("alice");
        for _ in 0..3 {
            drop(streaming(&mut client, "progress_n", &json!({ "n": 20_000 })));
            assert_eq!(client.call("echo_raw", &json!({})).head.status, 200, "{era}");
        }
    }
}

#[test]
fn two_thousand_disconnects_leave_nothing_behind() {
    // A process for each request costs too much for as many; the others see the rest.
    for (isolation, rounds) in [("session", 800), ("shared", 800), ("request", 400)] {
        let rig = Rig::everything("both", isolation, |line| line.flag("--request-timeout", "5s"));
        let mut clients: Vec<Client> =
            ["alice", "bob", "carol", "dave"].into_iter().flat_map(|user| rig.both(user)).collect();
        let leave = |clients: &mut Vec<Client>, rounds: usize| {
            for round in 0..rounds {
                let client = &mut clients[round % 8];
                let connection = match round / 8 % 4 {
                    0 => client.begin("sleep", &json!({ "ms": 600_000 })),
                    1 => client.begin("echo_raw", &json!({ "x": "y".repeat(5000) })),
                    2 => streaming(client, "progress_n", &json!({ "n": 1000 })),
                    _ => {
                        let request = client.request("tools/call", &json!({ "name": "count" }));
                        let mut half = client.send_only(&crate::common::http::Request::get("/nothing"));
                        let bytes = request.bytes(rig.bridge.address());
                        half.write(&bytes[..bytes.len() - 20]);
                        half
                    }
                };
                drop(connection);
            }
        };
        let settle = |clients: &mut Vec<Client>| {
            let call = |client: &mut Client| client.call("count", &json!({})).head.status == 200;
            eventually("all are served", || clients.iter_mut().all(call));
        };
        // What is allocated once is there after this.
        leave(&mut clients, 100);
        settle(&mut clients);
        let most = match isolation {
            "request" => 4 + 2,
            "session" => 8 + 2,
            _ => 2,
        };
        eventually("only those that are kept", || rig.processes().len() <= most);
        let (descriptors, memory) = (rig.descriptors(), rig.kilobytes("VmRSS"));
        leave(&mut clients, rounds);
        settle(&mut clients);
        eventually("only those that are kept", || rig.processes().len() <= most);
        eventually("no zombies", || rig.zombies() == 0);
        eventually("no descriptor more", || rig.descriptors() <= descriptors + 2);
        let grown = rig.kilobytes("VmRSS").saturating_sub(memory);
        assert!(grown < 20 << 10, "{isolation}: {grown} kB more after {rounds} disconnects");
    }
}

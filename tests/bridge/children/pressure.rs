//! Much at once: it goes through, in order, and is not kept in memory.

use serde_json::json;

use super::{client::next_message, rig::Rig};

/// More than fits into the buffers between the server and a client that does not read.
const MANY: u64 = 100_000;

#[test]
fn a_client_that_reads_slowly_loses_nothing_and_costs_no_memory() {
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "session", |line| line);
        rig.wait_until_ready();
        let mut other = rig.modern("bob");
        for mut client in rig.both("alice") {
            let params = json!({ "name": "progress_n", "arguments": { "n": MANY }, "_meta": { "progressToken": "p" } });
            let request = client.request("tools/call", &params);
            other.text("echo_raw", &json!({}));
            let before = rig.kilobytes("VmRSS");
            let mut stream = client.send_only(&request);
            assert_eq!(stream.read_head().status, 200);
            // The server has time to say more than anybody reads.
            for call in 0..300 {
                assert!(other.text("echo_raw", &json!({ "call": call })).contains(&call.to_string()));
            }
            let grown = rig.kilobytes("VmRSS").saturating_sub(before);
            assert!(grown < 10 << 10, "{era}: {grown} kB wait for one client");
            for step in 1..=MANY {
                let progress = next_message(&mut stream);
                let params = &progress["params"];
                assert_eq!((&params["progress"], &params["progressToken"]), (&json!(step), &json!("p")), "{progress}");
            }
            assert_eq!(crate::common::mcp::text(&next_message(&mut stream)), MANY.to_string(), "{era}");
        }
    }
}

/// Nor does it stop those with whom it shares a server; what it does not read, it may lose.
#[test]
fn a_client_that_reads_slowly_does_not_stop_others_in_a_shared_process() {
    let rig = Rig::everything("both", "shared", |line| line);
    rig.wait_until_ready();
    for (mut slow, mut other) in [(rig.modern("alice"), rig.legacy("bob")), (rig.legacy("alice"), rig.modern("bob"))] {
        let params = json!({ "name": "progress_n", "arguments": { "n": MANY }, "_meta": { "progressToken": 7 } });
        let request = slow.request("tools/call", &params);
        let mut stream = slow.send_only(&request);
        assert_eq!(stream.read_head().status, 200);
        for call in 0..300 {
            assert!(other.text("echo_raw", &json!({ "call": call })).contains(&call.to_string()));
        }
        let mut last = 0;
        loop {
            let message = next_message(&mut stream);
            if message.get("id").is_some() {
                assert_eq!(crate::common::mcp::text(&message), MANY.to_string());
                break;
            }
            let step = message["params"]["progress"].as_u64().expect("a number");
            assert!(step > last, "{step} after {last}");
            last = step;
        }
    }
}

#[test]
fn a_great_answer_comes_whole() {
    for era in ["legacy", "modern"] {
        for isolation in ["request", "shared"] {
            let rig = Rig::everything(era, isolation, |line| line);
            for mut client in rig.both("alice") {
                assert_eq!(client.text("big", &json!({ "bytes": 20_000_000 })).len(), 20_000_000, "{era} {isolation}");
            }
        }
    }
}

#[test]
fn a_great_request_arrives_whole() {
    let great = "é\"\\".repeat(500_000);
    for era in ["legacy", "modern"] {
        let rig = Rig::everything(era, "request", |line| line);
        for mut client in rig.both("alice") {
            let text = client.text("echo_raw", &json!({ "great": great }));
            let echoed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert!(echoed["arguments"]["great"] == great, "{era}");
        }
    }
}

//! Servers that say too much, too little, or nothing that is one.

use serde_json::json;

use super::rig::{Rig, eventually};

#[test]
fn a_line_without_end_costs_its_request_and_no_memory() {
    for isolation in ["request", "session"] {
        let rig = Rig::faulty(&["long-line"], |line| {
            line.flag("--isolation", isolation).flag("--max-message-bytes", "32MiB")
        });
        for mut client in rig.both("alice") {
            for _ in 0..2 {
                let reply = client.call("ok", &json!({}));
                assert!(reply.error(502, -32603).contains("--max-message-bytes"), "{reply:?}");
            }
            assert_eq!(client.ask("tools/list", &json!({})).head.status, 200, "the next process serves");
        }
        let most = rig.kilobytes("VmHWM");
        assert!(most < 120 << 10, "{isolation}: {most} kB for lines of 32 MiB");
        eventually("their end", || rig.processes().len() <= 4);
    }
}

#[test]
fn a_flood_on_standard_error_neither_stops_the_server_nor_fills_the_log() {
    let rig = Rig::faulty(&["flood-stderr"], |line| line);
    for mut client in rig.both("alice") {
        assert_eq!(client.text("ok", &json!({})), "ok");
    }
    eventually("what was dropped", || rig.logged("lines dropped") >= 1);
    assert!(rig.bridge.log_text().lines().count() < 2000, "of 200,000 lines");
}

#[test]
fn a_server_that_closes_its_output_or_stops_in_mid_line_has_ended() {
    for mode in ["close-stdout", "half-line"] {
        for isolation in ["request", "session"] {
            let rig = Rig::faulty(&[mode], |line| line.flag("--isolation", isolation));
            for mut client in rig.both("alice") {
                for _ in 0..2 {
                    let reply = client.call("ok", &json!({}));
                    assert!(reply.error(502, -32603).contains("try again"), "{mode}: {reply:?}");
                    assert_eq!(client.ask("tools/list", &json!({})).head.status, 200, "{mode}: the next one serves");
                }
            }
        }
    }
}

/// It would be asked again and again, and each request would wait until its deadline.
#[test]
fn a_server_that_closes_its_input_and_lives_on_is_replaced() {
    for isolation in ["session", "shared"] {
        for legacy in [false, true] {
            let rig = Rig::faulty(&["close-stdin"], |line| {
                line.flag("--isolation", isolation).flag("--request-timeout", "20s").flag("--pool", "0")
            });
            let mut client = if legacy { rig.legacy("alice") } else { rig.modern("alice") };
            for call in 1..=2 {
                assert_eq!(client.text("ok", &json!({})), "ok", "{isolation} {legacy}");
                let closed = || rig.errors().iter().filter(|line| *line == "reads no more").count();
                eventually("the end of its input", || closed() == call);
                let reply = client.call("ok", &json!({}));
                let text = reply.error(502, -32603);
                assert!(text.contains("it does not read its input any more"), "{isolation} {legacy}: {text}");
            }
            assert_eq!(client.text("ok", &json!({})), "ok", "{isolation} {legacy}");
        }
    }
}

#[test]
fn a_server_that_dies_after_its_answer_has_answered() {
    for isolation in ["request", "session", "shared"] {
        let rig = Rig::faulty(&["dies-after", "2"], |line| line.flag("--isolation", isolation));
        for mut client in rig.both("alice") {
            let mut answered = 0;
            // The bridge may learn of the end just while it passes a request on: that one fails.
            for _ in 0..20 {
                let reply = client.call("ok", &json!({}));
                match reply.head.status {
                    200 => answered += 1,
                    _ => _ = reply.error(502, -32603),
                }
            }
            assert!(answered >= 10, "{isolation}: {answered} of 20");
        }
    }
}

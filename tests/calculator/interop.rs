//! The official SDKs as clients of `mcp-calculator` over stdio.

use crate::driver::{named, node, python, transcript};

const CALCULATOR: &str = env!("CARGO_BIN_EXE_mcp-calculator");

#[test]
fn typescript_sdk_v1() {
    let steps = transcript(node("client-v1.mjs").args(["stdio", CALCULATOR]));
    assert_eq!(named(&steps, "closed").count(), 1);
}

#[test]
fn typescript_sdk_v2_in_both_eras() {
    let steps = transcript(node("client-v2.mjs").args(["stdio", CALCULATOR]));
    assert_eq!(named(&steps, "closed").count(), 3, "legacy, pinned to the modern era, and negotiated");
}

#[test]
fn python_sdk_in_both_eras() {
    let steps = transcript(python("client.py").args(["stdio", CALCULATOR]));
    assert_eq!(named(&steps, "closed").count(), 3, "legacy, pinned to the modern era, and negotiated");
}

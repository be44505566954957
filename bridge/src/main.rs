//! `mcp-bridge`.

fn main() {}

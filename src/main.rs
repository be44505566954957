//! `mcp-calculator`.

fn main() {}

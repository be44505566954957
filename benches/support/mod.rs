//! What the load run and the instruction count share.
//!
//! Every server is a process of its own. The bridge is the built binary; the others are the bench
//! program itself, started again with a hidden first argument (see [`servers`]).

pub(crate) mod child;
pub(crate) mod http;
pub(crate) mod mcp;
pub(crate) mod servers;

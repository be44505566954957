//! Signing in: the OAuth 2.1 client of local programs, as MCP asks for it.
//!
//! Discovery, registration, the authorization code flow in a browser, and what is remembered of it.
//! Its rules are those of RFC 8252 (native apps), RFC 9700 and the MCP authorization specification;
//! where a server leaves one out, it is refused and the error says which.

pub mod address;
pub mod asking;
pub mod browser;
pub mod challenge;
pub mod device;
pub mod discovery;
pub mod ending;
pub mod fetch;
pub mod flow;
pub mod loopback;
pub mod prompt;
pub mod record;
pub mod registration;
mod resource;
pub mod session;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tokens;

pub use self::record::{Client, Record, Slot};
pub use self::resource::token_goes_to;

//! The embedded authorization server: OAuth 2.1 for people who have no identity provider.

#![expect(dead_code, reason = "its endpoints come with the next commits")]

mod client;
mod opaque;
mod store;

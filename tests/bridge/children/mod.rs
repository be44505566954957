//! Processes behind the bridge: whose they are, what they are told, what they cannot do, and that
//! none of them stays behind.

mod client;
mod rig;

mod collisions;
mod deaths;
mod ends;
mod identity;
mod leaving;
mod outputs;
mod ownership;
mod places;
mod pressure;
mod questions;
mod starts;
mod subscriptions;

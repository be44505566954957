//! `mcp-bridge` from outside: the built program on a loopback port, judged by the MCP
//! specification and the OAuth RFCs alone.

#[path = "../common/mod.rs"]
mod common;
#[path = "../interop/driver.rs"]
mod driver;

mod abuse;
mod authserver;
mod browser;
#[cfg(target_os = "linux")]
mod children;
mod conformance;
mod connect;
mod connect_conformance;
mod connect_interop;
#[cfg(target_os = "linux")]
mod connect_sign_in;
mod credentials;
mod doctor;
mod everything;
mod health;
mod install;
mod interop;
mod introspection;
mod introspection_faults;
mod jwt;
mod legacy;
mod legacy_sse;
mod limits;
mod metadata;
mod modern;
mod operations;
mod origin;
mod policy;
mod policy_commands;
mod proxy;
mod secrecy;
mod servers;
mod shutdown;
mod startup;
mod tls;
mod translated;
#[cfg(unix)]
mod tunnel;
#[cfg(target_os = "linux")]
mod watcher;
mod wire;

//! What `connect` is told on the command line.

use std::time::Duration;

use clap::Args;
use mcp_calculator::{login::store::StoreKind, secret::Secret};
use tracing::level_filters::LevelFilter;

/// What no log shows, though it was written where everybody can read it.
fn secret(text: &str) -> Result<Secret<String>, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// The flags of `connect`.
#[derive(Clone, Debug, Args)]
pub struct ConnectFlags {
    /// The URL of the server's MCP endpoint, which often ends with /mcp
    #[arg(value_name = "URL")]
    pub url: String,
    /// A header for every request, as 'NAME: VALUE'; may be given several times
    ///
    /// ${VARIABLE} in the value is that variable of the environment, so that a secret stands in no argument:
    /// --header 'Authorization: Bearer ${API_TOKEN}'.
    #[arg(long = "header", value_name = "HEADER", value_parser = secret, help_heading = "Requests")]
    pub headers: Vec<Secret<String>>,
    /// How long the answer to a request may take
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration, help_heading = "Requests")]
    pub request_timeout: Duration,
    /// Let plain http go over the network, where everybody on the way can read and change it
    #[arg(long, help_heading = "Requests")]
    pub insecure_http: bool,
    /// The client id, if one was registered for you
    ///
    /// Its secret, if it has one, comes from MCP_BRIDGE_CLIENT_SECRET or from the file that MCP_BRIDGE_CLIENT_SECRET_FILE
    /// names, never from a flag.
    #[arg(long, value_name = "ID", help_heading = "Signing in", conflicts_with = "client_metadata_url")]
    pub client_id: Option<String>,
    /// The client's authorization server; its secret goes nowhere else
    ///
    /// A client id with a secret needs this. Without one it chooses of several that the server names.
    #[arg(long, value_name = "URL", help_heading = "Signing in")]
    pub issuer: Option<String>,
    /// A metadata document that describes this client, for servers that take its URL as the client id
    #[arg(long, value_name = "URL", help_heading = "Signing in")]
    pub client_metadata_url: Option<String>,
    /// Where tokens are kept
    #[arg(long, value_name = "PLACE", default_value = "keyring", help_heading = "Signing in")]
    pub token_store: StoreKind,
    /// The name of the sign-in, where you have several with one server
    #[arg(long, value_name = "NAME", default_value = mcp_calculator::login::Slot::DEFAULT_ACCOUNT, help_heading = "Signing in")]
    pub account: String,
    /// Print the address to sign in at, and open no browser
    #[arg(long, help_heading = "Signing in")]
    pub no_browser: bool,
    /// Sign in with a code on another device
    #[arg(long, help_heading = "Signing in")]
    pub device: bool,
    /// A scope to ask for, in place of what the server suggests; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", help_heading = "Signing in")]
    pub scopes: Vec<String>,
    /// Let the server name authorization servers in private networks
    #[arg(long, help_heading = "Signing in")]
    pub allow_private_addresses: bool,
    /// What to log on stderr
    #[arg(long, value_name = "error|warn|info|debug|trace", default_value = "info", help_heading = "Operations")]
    pub log_level: LevelFilter,
}

/// The flags of `logout`.
#[derive(Clone, Debug, Args)]
pub struct LogoutFlags {
    /// The server's MCP endpoint, as it was given to connect or login
    #[arg(value_name = "URL")]
    pub url: String,
    /// Where the tokens are kept
    #[arg(long, value_name = "PLACE", default_value = "keyring")]
    pub token_store: StoreKind,
    /// The name of the sign-in, where you have several with one server
    #[arg(long, value_name = "NAME", default_value = mcp_calculator::login::Slot::DEFAULT_ACCOUNT)]
    pub account: String,
}

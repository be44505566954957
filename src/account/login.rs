//! `mcp-calculator login`

use std::io::Write as _;

use anyhow::bail;
use clap::Args;
use mcp_calculator::{
    calculator::Operation,
    login::{
        Record,
        asking::{Asking, Way},
        browser::BrowserMode,
        discovery::Target,
        flow,
        prompt::plain,
        registration::{ClientOptions, Registered},
        session::SignInError,
        store::StoreKind,
    },
    server::scope_of,
};

use super::{Account, Opened, PREFIX, PROGRAM, fetcher, secret};

/// Where and how to sign in.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The MCP server whose users sign in, such as https://example.com/mcp
    ///
    /// It says who its authorization server is. Without this and --issuer, the place of the last sign-in.
    #[arg(long, value_name = "URL", conflicts_with = "issuer")]
    server: Option<String>,
    /// The authorization server itself, where there is no MCP server
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// A scope to ask for; repeat it for several [default: what the server asks for]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// The client, if it was registered by hand; its secret is in MCP_CALCULATOR_CLIENT_SECRET or the file that
    /// MCP_CALCULATOR_CLIENT_SECRET_FILE names
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The client's metadata document, for servers that take its URL as client identifier
    #[arg(long, value_name = "URL", conflicts_with = "client_id")]
    client_metadata_url: Option<String>,
    /// Sign in on another device, with a code, where the server has that
    #[arg(long, conflicts_with = "no_browser")]
    device: bool,
    /// Open no browser, print the URL only
    #[arg(long)]
    no_browser: bool,
    /// Let a public server name an authorization server in a private network
    #[arg(long)]
    allow_private_addresses: bool,
}

/// Signs in and keeps what came of it.
///
/// # Errors
/// Why nobody is signed in; what was kept before is kept then.
pub(crate) async fn login(account: &Account, login: &Login) -> anyhow::Result<()> {
    let opened = account.open()?;
    if opened.store.kind() == StoreKind::Memory {
        bail!("--token-store memory ends with this program, so signing in would do nothing");
    }
    let asking = asking(&opened, login).await?;
    let session = opened.session(asking.fetcher.clone());
    // A user who runs this wants to be asked, whatever went wrong before.
    session.ask_again().await?;
    let outcome = session.sign_in(async |known| asking.ask(known.as_ref(), None).await).await;
    let record = match outcome {
        Ok(record) => record,
        Err(SignInError::Session(error)) => return Err(error.into()),
        Err(SignInError::Attempt(error)) => return Err(error.into()),
    };
    // It is used although it could not be kept; for a program that ends here that is nothing.
    session.keep().await?;
    std::io::stdout().write_all(success(&opened, &record).as_bytes()).ok();
    Ok(())
}

async fn asking(opened: &Opened, login: &Login) -> anyhow::Result<Asking> {
    let target = match (&login.server, &login.issuer) {
        (Some(server), _) => Target::Server { url: server.clone(), issuer: None },
        (None, Some(issuer)) => Target::Issuer(issuer.clone()),
        (None, None) => match opened.store.find(&opened.slot)? {
            Some(entry) => match entry.resource {
                Some(resource) => Target::Server { url: resource, issuer: Some(entry.issuer) },
                None => Target::Issuer(entry.issuer),
            },
            None => bail!("say where to sign in: --server with the URL of the MCP server, or --issuer"),
        },
    };
    let mut scopes = login.scopes.clone();
    if scopes.is_empty() && matches!(target, Target::Issuer(_)) {
        // There is no server that would say what its tools need.
        scopes = Operation::ALL.map(|operation| scope_of(operation).to_owned()).to_vec();
    }
    let secret = secret("CLIENT_SECRET")?;
    if secret.is_some() && login.client_id.is_none() {
        bail!("{PREFIX}CLIENT_SECRET belongs to a client; say to which with --client-id");
    }
    Ok(Asking {
        program: PROGRAM,
        target,
        client: ClientOptions {
            registered: login.client_id.clone().map(|id| Registered { id, secret, issuer: None }),
            metadata_document: login.client_metadata_url.clone(),
            name: "MCP Calculator".to_owned(),
            redirect_uri: None,
        },
        scopes,
        way: match (login.device, login.no_browser) {
            (true, _) => Way::Device,
            (false, true) => Way::Browser(BrowserMode::ShowOnly),
            (false, false) => Way::Browser(BrowserMode::Open),
        },
        legacy: false,
        fetcher: fetcher(login.allow_private_addresses),
        deadline: flow::DEADLINE,
    })
}

/// What the user reads in the end.
fn success(opened: &Opened, record: &Record) -> String {
    let who = record.email.as_deref().or(record.subject.as_deref());
    let who = who.map(|who| format!(" as {}", plain(who))).unwrap_or_default();
    let place = match opened.store.kind() {
        StoreKind::File => "in a file that only you can read, unencrypted",
        _ => "in the keyring",
    };
    let mut text = format!("Signed in at {}{who}. The tokens are {place}.\n", plain(&record.issuer));
    let (may, may_not): (Vec<Operation>, Vec<Operation>) = Operation::ALL
        .into_iter()
        .partition(|operation| record.scopes.iter().any(|scope| scope == scope_of(*operation)));
    let names =
        |operations: &[Operation]| operations.iter().map(|operation| operation.as_str()).collect::<Vec<_>>().join(", ");
    text.push_str(&match (may.as_slice(), may_not.as_slice()) {
        (may, []) => format!("The calculator may {}.\n", names(may)),
        ([], _) => "The calculator may calculate nothing: no operation was allowed.\n".to_owned(),
        (may, may_not) => format!("The calculator may {}; not allowed: {}.\n", names(may), names(may_not)),
    });
    text
}

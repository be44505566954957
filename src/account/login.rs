//! `mcp-calculator login`

use std::{cell::Cell, io::Write as _, time::Instant};

use anyhow::Error;
use clap::Args;
use mcp_calculator::{
    calculator::Operation,
    login::{
        Record,
        asking::{Asking, Way},
        browser::BrowserMode,
        challenge::is_scope_token,
        discovery::Target,
        fetch::Fetcher,
        flow,
        prompt::plain,
        registration::{ClientOptions, Registered},
        session::SignInError,
        store::{Purpose, StoreError, StoreKind},
        token_goes_to, tokens,
    },
    server::scope_of,
};

use super::{Account, Opened, PREFIX, PROGRAM, fetcher, misuse, secret};
use crate::print;

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
    #[arg(long = "scope", value_name = "SCOPE", value_parser = scope)]
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
        return Err(misuse("--token-store memory ends with this program, so signing in would do nothing"));
    }
    let known = opened.blocking(Opened::place).await?;
    let asking = asking(known, login)?;
    // Nobody should consent in a browser and then hear that nothing can be kept.
    opened.blocking(|store, slot| store.check(slot)).await?;
    let session = opened.session(asking.fetcher.clone());
    // A user who runs this wants to be asked, whatever went wrong before.
    session.ask_again().await?;
    let free = opened.blocking(|store, slot| match store.lock(slot, Purpose::SignIn, Instant::now()) {
        Err(StoreError::Contended(_)) => Ok(false),
        locked => locked.map(|_| true),
    });
    if !free.await? {
        writeln!(std::io::stderr(), "{PROGRAM}: somebody is signing in already; waiting for the end of that").ok();
    }
    let record = loop {
        let asked = Cell::new(false);
        let outcome = session.sign_in(async |known| {
            asked.set(true);
            asking.ask(known.as_ref(), None).await
        });
        let record = match outcome.await {
            Ok(record) => record,
            Err(SignInError::Session(error)) => return Err(error.into()),
            Err(SignInError::Attempt(error)) => return Err(error.into()),
        };
        // What another `login` got meanwhile may be for something else; in the next round it is what was
        // there before.
        if asked.get() || is_wanted(&record, &asking.target, &login.scopes) {
            break record;
        }
    };
    if let Err(error) = session.keep().await {
        // Nobody can use these tokens, so nobody should be able to.
        if let Ok(fetcher) = Fetcher::for_record(&record, &asking.fetcher) {
            tokens::revoke(&fetcher, &record).await.ok();
        }
        return Err(Error::from(error).context("signed in, but nothing could be kept of it"));
    }
    print(success(&opened, &record).as_bytes())
}

/// Whether a sign-in that somebody else has made is what was asked for here.
fn is_wanted(record: &Record, target: &Target, scopes: &[String]) -> bool {
    let is_there = match target {
        Target::Server { .. } => target.url().is_ok_and(|url| token_goes_to(record, &url)),
        Target::Issuer(issuer) => record.issuer == *issuer,
    };
    is_there && scopes.iter().all(|scope| record.scopes.contains(scope))
}

/// One scope; one that is none would be left out of the request, and then others be asked for.
fn scope(text: &str) -> Result<String, String> {
    if is_scope_token(text) { Ok(text.to_owned()) } else { Err("not one scope; repeat --scope for several".to_owned()) }
}

fn asking(known: Option<Target>, login: &Login) -> anyhow::Result<Asking> {
    let target = match (&login.server, &login.issuer, known) {
        (Some(server), ..) => Target::Server { url: server.clone(), issuer: None },
        (None, Some(issuer), _) => Target::Issuer(issuer.clone()),
        (None, None, Some(known)) => known,
        (None, None, None) => {
            return Err(misuse("say where to sign in: --server with the URL of the MCP server, or --issuer"));
        }
    };
    if login.server.is_some() || login.issuer.is_some() {
        target.url().map_err(misuse)?;
    }
    let mut scopes = login.scopes.clone();
    if scopes.is_empty() && matches!(target, Target::Issuer(_)) {
        // There is no server that would say what its tools need.
        scopes = Operation::ALL.map(|operation| scope_of(operation).to_owned()).to_vec();
    }
    let secret = secret("CLIENT_SECRET")?;
    if secret.is_some() && login.client_id.is_none() {
        return Err(misuse(format!("{PREFIX}CLIENT_SECRET belongs to a client; say to which with --client-id")));
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

//! The store of sign-ins and a session on it, each call in a process of its own.
//!
//!     keyring KIND STATE save ACCOUNT TOKEN-BYTES
//!     keyring KIND STATE load|find|forget ACCOUNT
//!     keyring KIND STATE list
//!     keyring KIND STATE token ACCOUNT LOG
//!     keyring KIND STATE hold ACCOUNT
//!
//! `token` asks a session for a token, whose renewals go into LOG, a line each; `hold` takes the lock
//! for renewing, says so, and keeps it until it is killed.

use std::{
    fs::OpenOptions,
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use clap::ValueEnum as _;
use mcp_calculator::{
    login::{
        Client, Record, Slot,
        session::{Refresh, RefreshFuture, Session},
        store::{Purpose, Store, StoreKind},
    },
    secret::Secret,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut said = std::io::stdout();
    match run(&arguments).and_then(|answer| Ok(writeln!(said, "{answer}")?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(said, "error: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<String, Failure> {
    let [kind, state, arguments @ ..] = arguments else { return Err("see the source".into()) };
    let store = Store::open(StoreKind::from_str(kind, false)?, "mcp-calculator-test", Some((*state).into()))?;
    match arguments {
        ["save", account, bytes] => {
            let record = record("t".repeat(bytes.parse()?), Duration::from_secs(100));
            // So long ago that it is due, and not yet over.
            let issued = SystemTime::now() - Duration::from_secs(60);
            store.save(&slot(account), &record, issued)?;
            Ok("saved".to_owned())
        }
        ["load", account] => Ok(match store.load(&slot(account))? {
            Some(record) => format!("{} bytes", record.access_token.expose().len()),
            None => "signed out".to_owned(),
        }),
        ["find", account] => Ok(store.find(&slot(account))?.map_or("nobody", |_| "listed").to_owned()),
        ["forget", account] => store.forget(&slot(account)).map(|()| "forgotten".to_owned()).map_err(Into::into),
        ["list"] => {
            let mut accounts: Vec<_> = store.list()?.into_iter().map(|entry| entry.slot.account).collect();
            accounts.sort();
            Ok(accounts.join(" "))
        }
        ["token", account, log] => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let session = Session::new(store, slot(account), Server { log: (*log).to_owned() }, "login");
            let token = runtime.block_on(session.token())?;
            Ok(token.map_or("signed out".to_owned(), |token| token.expose().clone()))
        }
        ["hold", account] => {
            let _held = store.lock(&slot(account), Purpose::Refresh, Instant::now())?;
            writeln!(std::io::stdout(), "held")?;
            loop {
                std::thread::park();
            }
        }
        _ => Err("see the source".into()),
    }
}

/// Renews, and writes down that it did.
struct Server {
    log: String,
}

impl Refresh for Server {
    fn refresh<'a>(&'a self, known: &'a Record) -> RefreshFuture<'a> {
        Box::pin(async move {
            let mut log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
            writeln!(log, "{}", known.issuer).expect("writable");
            Ok(record(format!("renewed by {}", std::process::id()), Duration::from_secs(3600)))
        })
    }
}

fn slot(account: &str) -> Slot {
    Slot { account: account.to_owned(), server: None }
}

fn record(token: String, life: Duration) -> Record {
    Record {
        issuer: "https://as.example".to_owned(),
        resource: None,
        client: Client { id: "client".to_owned(), secret: None, secret_in_form: false, redirect_uri: None },
        token_endpoint: "https://as.example/token".parse().expect("a URL"),
        revocation_endpoint: None,
        scopes: Vec::new(),
        subject: None,
        email: None,
        access_token: Secret::new(token),
        refresh_token: Some(Secret::new("refresh".to_owned())),
        // As of its issue; see `save`.
        expires_at: Some(SystemTime::now() + life - Duration::from_secs(60)),
    }
}

//! `login`, `whoami` and `logout`, and what a signed-in user may calculate.

mod access;
mod login;
mod logout;
mod whoami;

use std::{
    env,
    fmt::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum as _};
use mcp_calculator::{
    login::{
        Slot,
        asking::Renewal,
        discovery::Target,
        fetch::FetcherOptions,
        prompt::plain,
        session::Session,
        store::{Store, StoreError, StoreKind},
    },
    secret::Secret,
};

use crate::environment;

pub(crate) use self::{
    access::SignedIn,
    login::{Login, login},
    logout::{Logout, logout},
    whoami::{Whoami, whoami},
};

const PROGRAM: &str = "mcp-calculator";

/// Stands in front of the names of all environment variables.
const PREFIX: &str = "MCP_CALCULATOR_";

/// Whose sign-in, and where it is kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct Account {
    /// The sign-in to use, of several [default: default]
    #[arg(long, value_name = "NAME", global = true)]
    account: Option<String>,
    /// Where tokens are kept [default: keyring]
    #[arg(long, value_name = "WHERE", global = true)]
    token_store: Option<StoreKind>,
}

/// [`Account`] with what the environment says, opened.
#[derive(Clone)]
pub(crate) struct Opened {
    store: Store,
    slot: Slot,
}

impl Account {
    /// # Errors
    /// A wrong environment variable, or no folder for state.
    pub(crate) fn open(&self) -> anyhow::Result<Opened> {
        let account = self.account.clone().map_or_else(|| variable("ACCOUNT"), |account| Ok(Some(account)))?;
        let account = account.unwrap_or_else(|| Slot::DEFAULT_ACCOUNT.to_owned());
        check(&account)?;
        let kind = match (self.token_store, variable("TOKEN_STORE")?) {
            (Some(kind), _) => kind,
            (None, None) => StoreKind::default(),
            (None, Some(written)) => StoreKind::from_str(&written, false)
                .map_err(|_| misuse(format!("{PREFIX}TOKEN_STORE must be keyring, file or memory")))?,
        };
        let state = variable("STATE_DIR")?.map(PathBuf::from);
        let store = Store::open(kind, PROGRAM, state)?;
        Ok(Opened { store, slot: Slot { account, server: None } })
    }

    /// What was given on the command line, for another one.
    ///
    /// # Errors
    /// A wrong name.
    #[cfg(feature = "clients")]
    pub(crate) fn arguments(&self) -> anyhow::Result<Vec<String>> {
        let mut arguments = Vec::new();
        if let Some(account) = &self.account {
            check(account)?;
            arguments.extend(["--account".to_owned(), account.clone()]);
        }
        if let Some(kind) = self.token_store.and_then(|kind| kind.to_possible_value()) {
            arguments.extend(["--token-store".to_owned(), kind.get_name().to_owned()]);
        }
        Ok(arguments)
    }
}

fn check(account: &str) -> anyhow::Result<()> {
    if account.is_empty() || account.chars().count() > 64 || account.chars().any(char::is_control) {
        return Err(misuse("an account's name has 1 to 64 characters and no control characters"));
    }
    Ok(())
}

impl Opened {
    /// What a user runs about the sign-in here; `command` is the subcommand.
    fn command(&self, command: &str) -> String {
        self.command_in(self.store.kind(), command)
    }

    /// The same about the sign-in that another kind of store has.
    fn command_in(&self, kind: StoreKind, command: &str) -> String {
        let mut line = format!("{PROGRAM} {command}");
        if self.slot.account != Slot::DEFAULT_ACCOUNT {
            line.push_str(" --account ");
            line.push_str(&quoted(&self.slot.account));
        }
        if kind == StoreKind::File {
            line.push_str(" --token-store file");
        }
        line
    }

    fn session(&self, fetcher: FetcherOptions) -> Session {
        Session::new(self.store.clone(), self.slot.clone(), Renewal(fetcher), self.command("login"))
    }

    /// Where the user signs in again without saying where; `None` where nobody knows.
    fn place(store: &Store, slot: &Slot) -> Result<Option<Target>, StoreError> {
        let place = match store.find(slot)? {
            Some(entry) => Some((entry.issuer, entry.resource)),
            None => store.ended(slot)?.map(|ended| (ended.issuer, ended.resource)),
        };
        Ok(place.map(|(issuer, resource)| match resource {
            Some(url) => Target::Server { url, issuer: Some(issuer) },
            None => Target::Issuer(issuer),
        }))
    }

    /// What somebody who is not signed in here may want to know, in whole lines.
    fn hints(&self) -> Result<String, StoreError> {
        let mut text = String::new();
        if let Some(ended) = self.store.ended(&self.slot)? {
            let (issuer, reason, login) = (plain(&ended.issuer), plain(&ended.reason), self.command("login"));
            let _ = writeln!(text, "The sign-in at {issuer} has ended: {reason}. Run `{login}` to sign in again.");
        }
        if let Some(kind) = self.store.elsewhere(&self.slot) {
            let _ = writeln!(text, "There is a sign-in with --token-store {kind}.");
        }
        let others = self.store.list()?.into_iter().map(|entry| entry.slot.account);
        let others: Vec<String> = others.filter(|account| *account != self.slot.account).collect();
        if !others.is_empty() {
            let _ = writeln!(text, "There are sign-ins with --account: {}.", plain(&others.join(", ")));
        }
        Ok(text)
    }

    /// Calls the store where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store, &Slot) -> Result<T, StoreError> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (store, slot) = (self.store.clone(), self.slot.clone());
        let called = tokio::task::spawn_blocking(move || call(&store, &slot)).await;
        Ok(called.context("the program is stopping")??)
    }
}

/// A wrong command line or setting, which ends the program with code 2.
fn misuse(text: impl fmt::Display) -> anyhow::Error {
    clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{text}\n")).into()
}

/// `word` as a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "@%+=:,./_-".contains(char);
    match word {
        _ if word.chars().all(is_plain) && !word.is_empty() => word.to_owned(),
        _ if cfg!(windows) => format!("\"{word}\""),
        _ => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// How authorization servers are reached.
fn fetcher(allow_private_addresses: bool) -> FetcherOptions {
    FetcherOptions {
        user_agent: concat!("mcp-calculator/", env!("CARGO_PKG_VERSION")).to_owned(),
        allow_private_addresses,
    }
}

/// The environment variable of that name, if it is set to something.
fn variable(name: &str) -> anyhow::Result<Option<String>> {
    let name = format!("{PREFIX}{name}");
    let Some(value) = environment(&name) else { return Ok(None) };
    value.into_string().map(Some).map_err(|_| misuse(format!("{name} is not Unicode")))
}

/// A secret from `NAME`, or from the file that `NAME_FILE` names.
fn secret(name: &str) -> anyhow::Result<Option<Secret<String>>> {
    // What is not Unicode is told.
    for name in [name.to_owned(), format!("{name}_FILE")] {
        variable(&name)?;
    }
    let read = |name: &str| environment(name)?.into_string().ok();
    Secret::from_environment(&format!("{PREFIX}{name}"), read).map_err(misuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_shell_takes_an_account_for_one_word() {
        for (word, expected) in [
            ("work", "work"),
            ("me@example.org", "me@example.org"),
            ("my work", "'my work'"),
            ("it's; rm", r"'it'\''s; rm'"),
            ("$(id)", "'$(id)'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}

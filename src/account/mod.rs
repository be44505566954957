//! `login`, `whoami` and `logout`, and what a signed-in user may calculate.

mod access;
mod login;
mod logout;
mod whoami;

use std::{env, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum as _};
use mcp_calculator::{
    login::{
        Slot,
        asking::Renewal,
        fetch::FetcherOptions,
        session::Session,
        store::{Store, StoreKind},
    },
    secret::Secret,
};

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
#[derive(Debug, Args)]
pub(crate) struct Account {
    /// The sign-in to use, of several [default: default]
    #[arg(long, value_name = "NAME", global = true)]
    account: Option<String>,
    /// Where tokens are kept [default: keyring]
    #[arg(long, value_name = "WHERE", global = true)]
    token_store: Option<StoreKind>,
}

/// [`Account`] with what the environment says, opened.
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
        if account.is_empty() || account.len() > 64 || account.chars().any(char::is_control) {
            bail!("an account's name has 1 to 64 characters and no control characters");
        }
        let kind = match (self.token_store, variable("TOKEN_STORE")?) {
            (Some(kind), _) => kind,
            (None, None) => StoreKind::default(),
            (None, Some(written)) => StoreKind::from_str(&written, false)
                .map_err(|_| anyhow::anyhow!("{PREFIX}TOKEN_STORE must be keyring, file or memory"))?,
        };
        let state = variable("STATE_DIR")?.map(PathBuf::from);
        let store = Store::open(kind, PROGRAM, state)?;
        Ok(Opened { store, slot: Slot { account, server: None } })
    }
}

impl Opened {
    /// What a user runs to sign in here; `command` is the subcommand.
    fn command(&self, command: &str) -> String {
        let mut line = format!("{PROGRAM} {command}");
        if self.slot.account != Slot::DEFAULT_ACCOUNT {
            line.push_str(" --account ");
            line.push_str(&self.slot.account);
        }
        if self.store.kind() == StoreKind::File {
            line.push_str(" --token-store file");
        }
        line
    }

    fn session(&self, fetcher: FetcherOptions) -> Session {
        Session::new(self.store.clone(), self.slot.clone(), Renewal(fetcher), self.command("login"))
    }

    /// How many other accounts are signed in, for a user who has forgotten to name one.
    fn others(&self) -> anyhow::Result<Vec<String>> {
        let all = self.store.list()?;
        Ok(all.into_iter().map(|entry| entry.slot.account).filter(|account| *account != self.slot.account).collect())
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
    let Some(value) = env::var_os(&name).filter(|value| !value.is_empty()) else { return Ok(None) };
    value.into_string().map(Some).map_err(|_| anyhow::anyhow!("{name} is not Unicode"))
}

/// A secret from `NAME`, or from the file that `NAME_FILE` names.
fn secret(name: &str) -> anyhow::Result<Option<Secret<String>>> {
    let (value, file) = (variable(name)?, variable(&format!("{name}_FILE"))?);
    let text = match (value, file) {
        (Some(_), Some(_)) => bail!("set {PREFIX}{name} or {PREFIX}{name}_FILE, not both"),
        (Some(value), None) => value,
        (None, Some(file)) => {
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {PREFIX}{name}_FILE ({file})"))?
        }
        (None, None) => return Ok(None),
    };
    let text = Secret::new(text);
    Ok(Some(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned())))
}

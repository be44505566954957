//! What the owner of the embedded authorization server does in a terminal: passphrases, users, what is
//! connected. All of it works while the bridge serves, and holds from its next request on.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand, ValueHint};
use mcp_calculator::{login::prompt::plain, secret::Secret};

use crate::{
    authserver::{
        MistypedCode, OWNER, StoreError,
        approval_code::ApprovalCode,
        passphrase::{self, WeakPassphrase},
        store::Store,
    },
    config::default_state_dir,
    scope::ScopeSet,
};

/// How long clients may register after `apps open`.
const WINDOW: Duration = Duration::from_secs(10 * 60);

/// Where the state is.
#[derive(Debug, Args)]
pub struct State {
    /// The folder for state, as `serve` has it [env: MCP_BRIDGE_STATE_DIR] [default: the platform's]
    #[arg(long, value_name = "DIR", global = true, value_hint = ValueHint::DirPath)]
    state_dir: Option<PathBuf>,
}

/// What to do about the owner.
#[derive(Debug, Subcommand)]
pub enum OwnerCommand {
    /// Choose the owner's passphrase
    ///
    /// Asks for it in the terminal, or reads one line of standard input. Signs all browsers of the owner out;
    /// connected applications stay connected.
    SetPassphrase,
    /// Make a new passphrase for the owner, and show it
    ///
    /// Signs all browsers of the owner out; connected applications stay connected.
    Reset,
}

/// What to do about users.
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Add a user, and show their passphrase
    Add {
        /// What they are called; also the subject that the served command sees
        name: String,
        /// What they may allow at most, with spaces between; unset: everything
        #[arg(long, value_name = "SCOPES")]
        scopes: Option<ScopeSet>,
    },
    /// Remove a user, and everything that they have allowed
    Remove {
        /// Who
        name: String,
    },
    /// Show who may sign in
    List,
}

/// What to do about what users have allowed.
#[derive(Debug, Subcommand)]
pub enum GrantsCommand {
    /// Show what is allowed, to which application, by whom
    List {
        /// Only what this user has allowed
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Take something back: the application's next call is refused
    Revoke {
        /// Its number in the list
        #[arg(required_unless_present = "all")]
        grant: Option<i64>,
        /// Everything, of all users
        #[arg(long, conflicts_with = "grant")]
        all: bool,
    },
}

/// What to do about applications.
#[derive(Debug, Subcommand)]
pub enum AppsCommand {
    /// Show which applications have registered
    List,
    /// Remove an application, and everything that it was allowed
    Remove {
        /// Its client id in the list; for one that is described by a document, the URL of that
        client_id: String,
    },
    /// Let applications register for ten minutes, where `serve` runs with --registration window
    Open,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The state.
    #[error(transparent)]
    State(#[from] StoreError),
    /// No place for state.
    #[error("there is no home folder to find the state in; set --state-dir")]
    NoFolder,
    /// Nobody has ever served here.
    #[error("there is no state in `{}` yet; start `mcp-bridge serve` once, or name its folder with --state-dir", .0.display())]
    Nothing(PathBuf),
    /// A passphrase that keeps nobody out.
    #[error(transparent)]
    Weak(#[from] WeakPassphrase),
    /// Typed twice, differently.
    #[error("the two passphrases are not the same; nothing was changed")]
    Different,
    /// No terminal, or none that answers.
    #[error("cannot read the passphrase: {0}")]
    Input(#[source] io::Error),
    /// A user's name.
    #[error("a user's name has 1 to 64 characters, no spaces and no control characters")]
    Name,
    /// A code that no page shows.
    #[error(transparent)]
    Code(#[from] MistypedCode),
    /// What was named is not there.
    #[error("there is no {what} `{name}`; see `mcp-bridge {list}`")]
    Unknown {
        /// User, grant, …
        what: &'static str,
        /// Which.
        name: String,
        /// Where they are listed.
        list: &'static str,
    },
}

impl OwnerError {
    /// Whether the command line is wrong.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoFolder | Self::Weak(_) | Self::Name | Self::Code(_))
    }
}

/// Carries out `owner`; what is returned is for stdout.
///
/// # Errors
/// [`OwnerError`]; then nothing was changed.
pub fn owner(state: &State, command: &OwnerCommand) -> Result<String, OwnerError> {
    let folder = folder(state)?;
    match command {
        OwnerCommand::SetPassphrase => {
            let chosen = ask()?;
            passphrase::check_new(chosen.expose())?;
            set(&folder, &chosen)?;
            Ok("The owner has a new passphrase, and is signed out of all browsers.\n".to_owned())
        }
        OwnerCommand::Reset => {
            let generated = passphrase::generate();
            set(&folder, &generated)?;
            Ok(format!(
                "The owner's new passphrase, shown only now:  {}\nThe owner is signed out of all browsers.\n",
                generated.expose()
            ))
        }
    }
}

fn set(folder: &Path, passphrase: &Secret<String>) -> Result<(), OwnerError> {
    let store = Store::open(folder)?;
    let hash = passphrase::hash(passphrase);
    if !store.set_passphrase(OWNER, &hash)? {
        // The first start comes later.
        store.add_user(OWNER, Some(&hash), None, true, SystemTime::now())?;
    }
    Ok(())
}

/// The passphrase that somebody types twice, or the one line of a file or pipe.
fn ask() -> Result<Secret<String>, OwnerError> {
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(OwnerError::Input)?;
        let line = Secret::new(line);
        return Ok(Secret::new(line.expose().trim_end_matches(['\r', '\n']).to_owned()));
    }
    let read = |prompt| rpassword::prompt_password(prompt).map(Secret::new).map_err(OwnerError::Input);
    let (one, two) = (read("New passphrase: ")?, read("Again: ")?);
    if one.expose() != two.expose() {
        return Err(OwnerError::Different);
    }
    Ok(one)
}

/// Carries out `users`.
///
/// # Errors
/// As [`owner`].
pub fn users(state: &State, command: &UsersCommand) -> Result<String, OwnerError> {
    match command {
        UsersCommand::Add { name, scopes } => {
            let is_plain = |char: char| !char.is_control() && !char.is_whitespace();
            if !(1..=64).contains(&name.chars().count()) || !name.chars().all(is_plain) || plain(name) != *name {
                return Err(OwnerError::Name);
            }
            let store = Store::open(&folder(state)?)?;
            let generated = passphrase::generate();
            store.add_user(name, Some(&passphrase::hash(&generated)), scopes.as_ref(), false, SystemTime::now())?;
            Ok(format!(
                "{name} can sign in now. The passphrase, shown only now:  {}\nIt can be changed on the account page.\n",
                generated.expose()
            ))
        }
        UsersCommand::Remove { name } => {
            let unknown = OwnerError::Unknown { what: "user", name: name.clone(), list: "users list" };
            if opened(state)?.remove_user(name)? { Ok(format!("{name} is gone.\n")) } else { Err(unknown) }
        }
        UsersCommand::List => {
            let rows = opened(state)?.users()?.into_iter().map(|user| {
                let scopes = user.scopes.map_or_else(|| "everything".to_owned(), |scopes| scopes.to_string());
                let signs_in = if user.passphrase_hash.is_some() { "passphrase" } else { "terminal only" };
                vec![user.name, scopes, signs_in.to_owned()]
            });
            Ok(table(["user", "may allow", "signs in by"], rows))
        }
    }
}

/// Carries out `grants`.
///
/// # Errors
/// As [`owner`].
pub fn grants(state: &State, command: &GrantsCommand) -> Result<String, OwnerError> {
    let store = opened(state)?;
    let now = SystemTime::now();
    match command {
        GrantsCommand::List { user } => {
            let rows = store.grants(user.as_deref(), now)?.into_iter().map(|grant| {
                let used = grant.last_used_at.map_or_else(|| "never".to_owned(), date);
                let client = grant.client.name.unwrap_or(grant.client.id);
                vec![
                    grant.id.to_string(),
                    grant.user,
                    plain(&client),
                    grant.scopes.to_string(),
                    grant.resource,
                    used,
                    date(grant.expires_at),
                ]
            });
            Ok(table(["grant", "user", "application", "scopes", "resource", "last used", "ends"], rows))
        }
        GrantsCommand::Revoke { all: true, .. } => {
            let mut revoked = 0;
            for grant in store.grants(None, now)? {
                revoked += u32::from(store.revoke_grant(grant.id, None)?);
            }
            Ok(format!("Revoked: {revoked}.\n"))
        }
        GrantsCommand::Revoke { grant, .. } => {
            let id = grant.unwrap_or_default();
            if store.revoke_grant(id, None)? {
                return Ok(format!("Grant {id} is revoked.\n"));
            }
            Err(OwnerError::Unknown { what: "grant", name: id.to_string(), list: "grants list" })
        }
    }
}

/// Carries out `apps`.
///
/// # Errors
/// As [`owner`].
pub fn apps(state: &State, command: &AppsCommand) -> Result<String, OwnerError> {
    let store = opened(state)?;
    match command {
        AppsCommand::List => {
            let now = SystemTime::now();
            let registered = store.clients()?;
            let mut rows: Vec<Vec<String>> = Vec::new();
            for known in &registered {
                let name = known.client.name.as_deref().map_or_else(|| "(no name)".to_owned(), plain);
                let used = known.last_used_at.map_or_else(|| "never".to_owned(), date);
                let allowed = if known.is_approved { "yes" } else { "never" };
                rows.push(vec![known.client.id.clone(), name, date(known.created_at), used, allowed.to_owned()]);
            }
            for grant in store.grants(None, now)? {
                let id = &grant.client.id;
                if rows.iter().all(|row| row[0] != *id) {
                    let name = grant.client.name.as_deref().map_or_else(|| "(no name)".to_owned(), plain);
                    let used = grant.last_used_at.map_or_else(|| "never".to_owned(), date);
                    rows.push(vec![id.clone(), name, "by its document".to_owned(), used, "yes".to_owned()]);
                }
            }
            Ok(table(["client id", "application", "registered", "last used", "was allowed in"], rows))
        }
        AppsCommand::Remove { client_id } => {
            if store.remove_client(client_id)? {
                return Ok(format!("{} is removed, with everything that it was allowed.\n", plain(client_id)));
            }
            Err(OwnerError::Unknown { what: "application", name: plain(client_id), list: "apps list" })
        }
        AppsCommand::Open => {
            store.open_registration(SystemTime::now() + WINDOW)?;
            Ok("Applications may register for the next ten minutes.\n".to_owned())
        }
    }
}

/// Lets the browser that shows `code` sign in, as `user` or the owner. Which browsers wait nobody knows:
/// a code is wrong where it cannot be one.
///
/// # Errors
/// As [`owner`].
pub fn approve(state: &State, code: &str, user: Option<&str>) -> Result<String, OwnerError> {
    let code = ApprovalCode::typed(code)?;
    let store = opened(state)?;
    let user = user.unwrap_or(OWNER);
    if store.user(user)?.is_none() {
        return Err(OwnerError::Unknown { what: "user", name: plain(user), list: "users list" });
    }
    store.approve(&code, user, SystemTime::now())?;
    Ok(format!(
        "The browser that shows {} is signed in as {user}. If it still waits in a few seconds, compare the code again.\n",
        code.as_str()
    ))
}

fn folder(state: &State) -> Result<PathBuf, OwnerError> {
    let variable = || std::env::var_os("MCP_BRIDGE_STATE_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    state.state_dir.clone().or_else(variable).or_else(default_state_dir).ok_or(OwnerError::NoFolder)
}

/// The state, which somebody has to have made.
fn opened(state: &State) -> Result<Store, OwnerError> {
    let folder = folder(state)?;
    Store::open_existing(&folder)?.ok_or(OwnerError::Nothing(folder))
}

/// A day, in UTC.
fn date(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text[..10].to_owned()
}

/// Columns as wide as what is in them.
fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    if rows.is_empty() {
        return "None.\n".to_owned();
    }
    let all = || std::iter::once(head.map(str::to_owned).to_vec()).chain(rows.iter().cloned());
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // A String takes every write.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

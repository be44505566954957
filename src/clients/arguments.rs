//! The flags of `install` and `uninstall`, the same for both programs.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::clients::client::Client;

/// Which files, and how.
#[derive(Debug, Clone, Args)]
pub struct Selection {
    /// The client; repeat it for several
    #[arg(long = "client", value_name = "NAME")]
    pub clients: Vec<Client>,
    /// All clients that are found on this machine
    #[arg(long, conflicts_with = "clients")]
    pub all: bool,
    /// The client's file in the folder of a project, not the user's own
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub project: Option<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also touch an entry of another program that has the name; when installing, take any path of this program
    #[arg(long)]
    pub force: bool,
}

/// What `install` has besides.
#[derive(Debug, Clone, Args)]
pub struct Shown {
    /// Print the entry for adding it by hand, and change nothing
    #[arg(long, conflicts_with_all = ["dry_run", "list"])]
    pub print: bool,
    /// Show all clients: which are found, their files, and whether the entry is there
    #[arg(long, conflicts_with = "dry_run")]
    pub list: bool,
}

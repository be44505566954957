//! `mcp-calculator logout`

use std::{io::Write as _, process::ExitCode};

use clap::Args;
use mcp_calculator::login::{
    ending::{SignedOut, sign_out},
    prompt::plain,
};

use super::{Account, PROGRAM, fetcher};
use crate::print;

/// Who signs out.
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// All accounts
    #[arg(long)]
    all: bool,
}

/// Revokes the tokens, then forgets them: also when they could not be revoked, which the code tells.
///
/// # Errors
/// When they could not be forgotten.
pub(crate) async fn logout(account: &Account, logout: &Logout) -> anyhow::Result<ExitCode> {
    let mut opened = account.open()?;
    let mut slots = opened.blocking(|store, _| store.slots()).await?;
    slots.retain(|slot| logout.all || *slot == opened.slot);
    if slots.is_empty() {
        let here = opened.clone();
        let hints = opened.blocking(move |_, _| here.hints()).await?;
        print(format!("Not signed in: nothing to do.\n{hints}").as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    for slot in slots {
        opened.slot = slot;
        let outcome = sign_out(&opened.store, &opened.slot, &fetcher(false)).await?;
        print(format!("Signed out (account {}).\n", plain(&opened.slot.account)).as_bytes())?;
        if let SignedOut::Forgotten(problem) = outcome {
            writeln!(std::io::stderr(), "{PROGRAM}: forgotten here, but not revoked: {problem}").ok();
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

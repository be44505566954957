//! `mcp-calculator logout`

use std::{
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use mcp_calculator::login::{
    fetch::Fetcher,
    prompt::plain,
    store::Purpose,
    tokens::{RevokeError, revoke},
};

use super::{Account, Opened, PROGRAM, fetcher};
use crate::print;

/// Longer than another process takes for one renewal.
const PATIENCE: Duration = Duration::from_secs(120);

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
        print(
            format!("Not signed in: nothing to do.\n{}", opened.blocking(move |_, _| here.hints()).await?).as_bytes(),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    for slot in slots {
        opened.slot = slot;
        let problem = sign_out(&opened).await?;
        print(format!("Signed out (account {}).\n", plain(&opened.slot.account)).as_bytes())?;
        if let Some(problem) = problem {
            writeln!(std::io::stderr(), "{PROGRAM}: forgotten here, but not revoked: {problem}").ok();
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Tells why the tokens may still work somewhere, if they may.
async fn sign_out(opened: &Opened) -> anyhow::Result<Option<String>> {
    // A renewal elsewhere would bring tokens that nobody revokes.
    let lock = opened.blocking(|store, slot| {
        let alone = store.lock(slot, Purpose::Refresh, Instant::now() + PATIENCE)?;
        Ok((alone, store.load(slot)))
    });
    let (_alone, loaded) = lock.await?;
    let problem = match loaded {
        Ok(Some(record)) => {
            let revoked = match Fetcher::for_record(&record, &fetcher(false)) {
                Ok(fetcher) => revoke(&fetcher, &record).await,
                Err(error) => Err(error.into()),
            };
            revoked.err().map(|error: RevokeError| error.to_string())
        }
        Ok(None) => None,
        Err(error) => Some(format!("the tokens cannot be read: {error}")),
    };
    opened.blocking(|store, slot| store.forget(slot)).await?;
    Ok(problem)
}

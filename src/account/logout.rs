//! `mcp-calculator logout`

use std::{
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use mcp_calculator::login::{
    Slot,
    fetch::Fetcher,
    prompt::plain,
    store::{Purpose, Store},
    tokens::{RevokeError, revoke},
};

use super::{Account, PROGRAM, fetcher};

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
    let opened = account.open()?;
    let slots: Vec<Slot> = if logout.all {
        opened.store.list()?.into_iter().map(|entry| entry.slot).collect()
    } else {
        opened.store.find(&opened.slot)?.into_iter().map(|entry| entry.slot).collect()
    };
    if slots.is_empty() {
        say("Not signed in: nothing to do.\n");
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    for slot in slots {
        let problem = sign_out(&opened.store, &slot).await?;
        say(&format!("Signed out (account {}).\n", plain(&slot.account)));
        if let Some(problem) = problem {
            let text = format!("{PROGRAM}: forgotten here, but not revoked: {problem}\n");
            std::io::stderr().write_all(text.as_bytes()).ok();
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Tells why the tokens may still work somewhere, if they may.
async fn sign_out(store: &Store, slot: &Slot) -> anyhow::Result<Option<String>> {
    let (_alone, loaded) = {
        let (store, slot) = (store.clone(), slot.clone());
        // A renewal elsewhere would bring tokens that nobody revokes.
        let lock =
            move || anyhow::Ok((store.lock(&slot, Purpose::Refresh, Instant::now() + PATIENCE)?, store.load(&slot)));
        tokio::task::spawn_blocking(lock).await??
    };
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
    let (store, slot) = (store.clone(), slot.clone());
    tokio::task::spawn_blocking(move || store.forget(&slot)).await??;
    Ok(problem)
}

fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).ok();
}

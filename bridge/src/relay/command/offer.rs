//! Asks a server what it offers, and ends it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    ear::Ear,
    kind::{Kind, Opening},
    opening::{self, First},
};
use crate::{
    backend::{
        child::{Program, SpawnError, Undertaker},
        code_of,
        link::{Audience, Link},
    },
    message::{METHOD_NOT_FOUND, quoted, shown},
    offer::{List, Offer},
};

/// Most pages of one list; no server needs as many, and one whose cursors never end must not hold us.
const PAGES_MAX: usize = 100;

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It was started, and speaks neither era.
    #[error("cannot start `{name}`: {why}")]
    Start {
        /// What the program is called.
        name: String,
        /// What went wrong.
        why: String,
    },
    /// It does not give a list.
    #[error("`{name}` does not say what it offers: {method}: {why}")]
    List {
        /// What the program is called.
        name: String,
        /// What it was asked.
        method: &'static str,
        /// What went wrong.
        why: String,
    },
}

/// Everything that the server offers, in the modern era if it speaks that.
///
/// Starts it, for a client without capabilities, and tells it to end. It may take `start_timeout` to
/// be ready, and as long again for all lists; who calls this closes the `undertaker`.
///
/// # Errors
/// [`AskError`]
pub async fn ask(program: &Program, start_timeout: Duration, undertaker: &Undertaker) -> Result<Offer, AskError> {
    let tasks = TaskTracker::new();
    let asked = ask_with(program, start_timeout, undertaker, &tasks).await;
    // The links are gone, and with them what reads from them ends.
    tasks.close();
    tasks.wait().await;
    asked
}

async fn ask_with(
    program: &Program,
    start_timeout: Duration,
    undertaker: &Undertaker,
    tasks: &TaskTracker,
) -> Result<Offer, AskError> {
    let failed = |why| AskError::Start { name: program.name.clone(), why };
    let start = || {
        let process = program.spawn(&[], undertaker, ())?;
        // Nobody hears what it says beside its answers, and what it asks is refused.
        Ok::<_, SpawnError>(Link::new(&program.name, process, Audience::Owner(Arc::new(Ear::default())), tasks))
    };
    let mut link = start()?;
    let opening = match opening::first_era(&link, Instant::now() + start_timeout).await {
        First::Modern(result) => Opening::Modern(result),
        First::Legacy(result) => Opening::Legacy(result),
        // Some legacy servers end when the first message is not `initialize`.
        First::Neither(why_not_modern) => {
            link = start()?;
            let by = Instant::now() + start_timeout;
            opening::open(&link, &Kind::legacy("{}"), by).await.map_err(|_| failed(why_not_modern))?
        }
    };
    let capabilities = capabilities(&opening);
    let by = Instant::now() + start_timeout;
    let mut offer = Offer::default();
    for list in List::ALL {
        if capabilities.get(list.capability()).is_some_and(Value::is_object) {
            let method = list.method();
            pages(&link, &opening, list, by, &mut offer).await.map_err(|why| AskError::List {
                name: program.name.clone(),
                method,
                why,
            })?;
        }
    }
    Ok(offer)
}

fn capabilities(opening: &Opening) -> Value {
    let result = match opening {
        Opening::Modern(result) | Opening::Legacy(result) => result.clone(),
        Opening::Blank => Bytes::new(),
    };
    let mut result: Value = serde_json::from_slice(&result).unwrap_or_default();
    result.get_mut("capabilities").map(Value::take).unwrap_or_default()
}

/// All pages of one list.
async fn pages(link: &Link, opening: &Opening, list: List, by: Instant, offer: &mut Offer) -> Result<(), String> {
    let mut seen = HashSet::new();
    let mut params = first_page(opening);
    for _ in 0..PAGES_MAX {
        let exchange = opening::ask(link, list.method(), params).await.map_err(|ended| ended.to_string())?;
        let page = match opening::answer(exchange, by).await? {
            Ok(page) => page,
            // Resources without templates are usual, and a list that is not there is an empty one.
            Err(error) if code_of(&error) == METHOD_NOT_FOUND => return Ok(()),
            Err(error) => return Err(format!("it answered with {}", opening::shown_error(&error))),
        };
        let Some(cursor) = offer.add_page(list, &page).map_err(|error| error.to_string())? else { return Ok(()) };
        params = page_at(&first_page(opening), &cursor);
        let again = shown(&cursor);
        if !seen.insert(cursor) {
            return Err(format!("its pages have no end: the cursor {again} comes a second time"));
        }
    }
    Err(format!("it has more than {PAGES_MAX} pages"))
}

fn first_page(opening: &Opening) -> String {
    match opening {
        Opening::Modern(_) => opening::discover_params(),
        Opening::Legacy(_) | Opening::Blank => "{}".to_owned(),
    }
}

fn page_at(params: &str, cursor: &str) -> String {
    let members = params.strip_suffix('}').unwrap_or_default();
    let comma = if members == "{" { "" } else { "," };
    format!(r#"{members}{comma}"cursor":{}}}"#, quoted(cursor))
}

//! Which eras a program speaks.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    children::{Child, Children, StartError},
    kind::{Kind, Opening},
    opening::{First, first_era, open},
};

/// Which eras a program speaks, and how it introduces itself in each.
#[derive(Clone, Debug)]
pub(super) struct Eras {
    /// Its `server/discover` result.
    pub(super) modern: Option<Bytes>,
    /// Its `initialize` result, for a client without capabilities.
    pub(super) legacy: Option<Bytes>,
}

impl Eras {
    /// As what a server is opened when nobody has said yet as what it will be needed.
    pub(super) fn usual(&self) -> Kind {
        if self.modern.is_some() { Kind::Modern } else { Kind::legacy("{}") }
    }
}

/// Finds out which eras the program speaks, with two children of it, and hands over those that can
/// be used.
///
/// # Errors
/// Why it speaks neither.
pub(super) async fn probe(children: &Arc<Children>) -> Result<(Eras, Vec<Child>), StartError> {
    let started = Instant::now();
    let mut usable = Vec::new();
    let mut eras = Eras { modern: None, legacy: None };
    // No client's capabilities: what it then says of itself holds for every client.
    let nobody = Kind::legacy("{}");

    let first = children.start_blank(&[], true).await?;
    let by = Instant::now() + children.start_timeout();
    let why_not_modern = match first_era(first.link(), by).await {
        First::Modern(result) => {
            eras.modern = Some(result.clone());
            usable.push(first.opened(Kind::Modern, Opening::Modern(result)));
            None
        }
        First::Legacy(result) => {
            eras.legacy = Some(result.clone());
            usable.push(first.opened(nobody.clone(), Opening::Legacy(result)));
            None
        }
        First::Neither(why) => {
            drop(first);
            Some(why)
        }
    };
    if eras.legacy.is_none() {
        let second = match children.start_blank(&[], false).await {
            Err(StartError::Full { .. }) => {
                // There may be one place only, and it is the first one's.
                usable.clear();
                children.start_blank(&[], true).await?
            }
            started => started?,
        };
        match open(second.link(), &nobody, Instant::now() + children.start_timeout()).await {
            Ok(Opening::Legacy(result)) => {
                eras.legacy = Some(result.clone());
                usable.push(second.opened(nobody, Opening::Legacy(result)));
            }
            Ok(_) => {}
            Err(why) if eras.modern.is_none() => return Err(children.failed(&why_not_modern.unwrap_or(why))),
            Err(why) => debug!(server = children.name(), why, "it does not speak the legacy era"),
        }
    }
    info!(
        server = children.name(),
        modern = eras.modern.is_some(),
        legacy = eras.legacy.is_some(),
        elapsed_ms = started.elapsed().as_millis() as u64,
        "the server answers"
    );
    Ok((eras, usable))
}

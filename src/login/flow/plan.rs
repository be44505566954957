//! What a sign-in asks for, decided before anybody is asked.

use crate::login::{
    challenge::is_scope_token,
    discovery::{Discovered, DiscoveryError, Hints, Metadata, discover},
    flow::SignIn,
    prompt::{Asked, Note, plain},
    record::{Client, Record},
};

pub(crate) struct Plan<'a> {
    pub(crate) metadata: Metadata,
    pub(crate) resource: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// The sign-in before, if it was at this issuer.
    pub(crate) known: Option<&'a Record>,
    scopes_supported: Vec<String>,
    server: Option<String>,
    notes: Vec<Note>,
}

/// OpenID Connect Core §11: asks for a refresh token, where the server wants to be asked for it.
pub(super) const OFFLINE_ACCESS: &str = "offline_access";

/// Discovers the authorization server and chooses the scopes.
pub(crate) async fn plan<'a>(order: &SignIn<'a>) -> Result<Plan<'a>, DiscoveryError> {
    let hints = Hints { challenge: order.challenge, legacy: order.legacy };
    let found = discover(order.fetcher, order.target, hints).await?;
    let same_issuer = order.known.filter(|record| record.issuer == found.metadata.issuer);
    let before = same_issuer.filter(|record| record.resource == found.resource);
    let scopes = choose(order, &found, before);
    let mut notes = found.notes;
    if let Some(other) = order.known.filter(|_| same_issuer.is_none()) {
        notes.push(Note::OtherIssuer { before: other.issuer.clone() });
    }
    let without = |listed: &[String]| -> Vec<String> {
        let news = scopes.iter().filter(|scope| *scope != OFFLINE_ACCESS && !listed.contains(scope));
        news.cloned().collect()
    };
    if let Some(before) = before {
        notes.extend(Some(without(&before.scopes)).filter(|news| !news.is_empty()).map(Note::NewScopes));
    }
    if let (Some(listed), Some(challenged)) =
        (&found.scopes_supported, order.challenge.and_then(|it| it.scopes.as_ref()))
    {
        let unlisted = challenged.iter().filter(|scope| scopes.contains(scope) && !listed.contains(scope));
        notes.extend(Some(unlisted.cloned().collect::<Vec<_>>()).filter(|it| !it.is_empty()).map(Note::UnlistedScopes));
    }
    let server = match order.target {
        super::Target::Server { url, .. } => Some(url.clone()),
        super::Target::Issuer(_) => None,
    };
    let scopes_supported = found.scopes_supported.unwrap_or_default();
    Ok(Plan {
        metadata: found.metadata,
        resource: found.resource,
        scopes,
        known: same_issuer,
        scopes_supported,
        server,
        notes,
    })
}

/// The user's scopes, with those that the challenge wants more; without the user's the challenge's, else all
/// that the server lists, else none; and those granted before.
fn choose(order: &SignIn<'_>, found: &Discovered, before: Option<&Record>) -> Vec<String> {
    let challenged = order.challenge.and_then(|challenge| challenge.scopes.as_deref()).unwrap_or_default();
    let steps_up = order.challenge.is_some_and(|challenge| challenge.asks_for_more());
    let mut scopes = Vec::new();
    if steps_up || order.scopes.is_empty() {
        add(&mut scopes, challenged);
    }
    add(&mut scopes, order.scopes);
    if scopes.is_empty() {
        add(&mut scopes, found.scopes_supported.as_deref().unwrap_or_default());
    }
    if let Some(before) = before.filter(|_| steps_up || order.scopes.is_empty()) {
        add(&mut scopes, &before.scopes);
    }
    let offline = found.metadata.scopes_supported.iter().any(|scope| scope == OFFLINE_ACCESS);
    // Alone it would ask for less than nothing in particular.
    if !scopes.is_empty() && offline && found.metadata.grants("refresh_token") {
        add(&mut scopes, &[OFFLINE_ACCESS.to_owned()]);
    }
    scopes
}

fn add(scopes: &mut Vec<String>, more: &[String]) {
    for scope in more.iter().filter(|scope| is_scope_token(scope)) {
        if !scopes.contains(scope) {
            scopes.push(scope.clone());
        }
    }
}

impl<'a> Plan<'a> {
    /// The sign-in before, if the client that it registered may ask for all of the scopes.
    ///
    /// Servers list the scopes that a user needs to begin with and ask for others when they are needed
    /// (MCP, "Scope Selection Strategy"); a client whose registration knew nothing of those is refused
    /// with `invalid_scope` by a strict authorization server, and so another one registers.
    pub(crate) fn registered(&self) -> Option<&'a Record> {
        let can_register = self.metadata.registration_endpoint.is_some();
        let was_known = |record: &Record, scope: &String| {
            scope == OFFLINE_ACCESS || record.scopes.contains(scope) || self.scopes_supported.contains(scope)
        };
        self.known.filter(|record| !can_register || self.scopes.iter().all(|scope| was_known(record, scope)))
    }

    /// The scopes of a registration: also those that later challenges may ask for.
    pub(crate) fn registered_scopes(&self) -> Vec<String> {
        let mut scopes = self.scopes.clone();
        add(&mut scopes, &self.scopes_supported);
        scopes
    }

    pub(crate) fn asked(&self, client: &Client) -> Asked {
        Asked {
            server: self.server.as_deref().map(plain),
            resource: self.resource.as_deref().map(plain),
            issuer: plain(&self.metadata.issuer),
            client_id: plain(&client.id),
            scopes: self.scopes.clone(),
            notes: self.notes.clone(),
        }
    }
}

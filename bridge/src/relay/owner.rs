//! Whose something is.

use crate::token::{Issuer, VerifiedToken};

/// Whose a session or a process is: the same person through the same client, whatever token they
/// show. Binding to the token's bytes would break at every refresh, binding to the name alone lets
/// one client into another's session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    issuer: Issuer,
    subject: Option<String>,
    client_id: Option<String>,
}

impl Owner {
    pub(crate) fn of(token: &VerifiedToken) -> Self {
        let VerifiedToken { issuer, subject, client_id, .. } = token;
        Self { issuer: issuer.clone(), subject: subject.clone(), client_id: client_id.clone() }
    }

    /// Who is counted against a limit: a user whatever the client, because anybody can register
    /// clients; a client only where no user is named.
    pub(crate) fn principal(&self) -> Principal {
        let client_id = self.client_id.as_ref().filter(|_| self.subject.is_none());
        Principal(Self { client_id: client_id.cloned(), ..self.clone() })
    }

    pub(crate) fn is(&self, token: &VerifiedToken) -> bool {
        self.issuer == token.issuer && self.subject == token.subject && self.client_id == token.client_id
    }
}

/// An owner without the client that acts for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Principal(Owner);

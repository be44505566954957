//! Dynamic registration (RFC 7591).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use mcp_calculator::secret::Secret;
use serde_json::{Value, json};

use super::{Metadata, MetadataProblem};
use crate::authserver::{
    client::{Authentication, Client},
    opaque::{self, Digest, Purpose},
};

/// A client that has registered, and what it is answered (RFC 7591 §3.2.1). The answer has its secret.
pub(in crate::authserver) struct Registered {
    pub(in crate::authserver) client: Client,
    pub(in crate::authserver) answer: Value,
}

/// Registers the client that `body` describes; `schemes` are private URI schemes besides the built-in.
pub(in crate::authserver) fn register(
    body: &[u8],
    schemes: &[String],
    now: SystemTime,
) -> Result<Registered, MetadataProblem> {
    let metadata = Metadata::parse(body)?;
    metadata.check(schemes)?;
    let (authentication, secret) = authentication(metadata.token_endpoint_auth_method.as_deref())?;
    let client = Client {
        id: new_id(),
        name: metadata.name(),
        refreshes: metadata.refreshes(),
        redirect_uris: metadata.redirect_uris,
        authentication,
    };
    let method = match client.authentication {
        Authentication::None => "none",
        Authentication::ClientSecretBasic(_) => "client_secret_basic",
        Authentication::ClientSecretPost(_) => "client_secret_post",
    };
    let grant_types: &[&str] =
        if client.refreshes { &["authorization_code", "refresh_token"] } else { &["authorization_code"] };
    let mut answer = json!({
        "client_id": client.id,
        "client_id_issued_at": now.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs()),
        "redirect_uris": client.redirect_uris,
        "token_endpoint_auth_method": method,
        "grant_types": grant_types,
        "response_types": ["code"],
    });
    if let Some(name) = &client.name {
        answer["client_name"] = name.as_str().into();
    }
    if let Some(secret) = secret {
        answer["client_secret"] = secret.expose().as_str().into();
        answer["client_secret_expires_at"] = 0.into();
    }
    Ok(Registered { client, answer })
}

fn authentication(method: Option<&str>) -> Result<(Authentication, Option<Secret<String>>), MetadataProblem> {
    let with_secret = |kind: fn(Digest) -> Authentication| {
        let secret = opaque::new(Purpose::ClientSecret);
        Ok((kind(Digest::of(secret.expose())), Some(secret)))
    };
    match method {
        Some("none") => Ok((Authentication::None, None)),
        // RFC 7591 §2 makes it the default.
        Some("client_secret_basic") | None => with_secret(Authentication::ClientSecretBasic),
        Some("client_secret_post") => with_secret(Authentication::ClientSecretPost),
        Some(_) => Err(MetadataProblem::Authentication),
    }
}

/// An id that never looks like the URL of a metadata document.
fn new_id() -> String {
    format!("mcpb_client_{}", BASE64_URL_SAFE_NO_PAD.encode(opaque::random::<16>()))
}

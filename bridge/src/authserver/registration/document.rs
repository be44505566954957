//! Client ID metadata documents: the client's id is the URL of what describes it
//! (draft-ietf-oauth-client-id-metadata-document).

use url::Url;

use super::{Metadata, MetadataProblem, lists};
use crate::authserver::{
    client::{Authentication, Client},
    redirect::is_dot_segment,
};

/// Longer ones are nobody's.
const URL_MAX: usize = 512;

/// Whether `client_id` is the URL of a document, judged as it is written: no registered client has
/// such an id.
pub(in crate::authserver) fn is_document_url(client_id: &str) -> bool {
    let Some(rest) = client_id.strip_prefix("https://") else { return false };
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>^`{|}#@".contains(&byte);
    if client_id.len() > URL_MAX || !rest.bytes().all(is_plain) {
        return false;
    }
    let Some((authority, path)) = rest.split_once('/') else { return false };
    let path = path.split('?').next().unwrap_or_default();
    if authority.is_empty() || authority.contains(['?', '%']) || path.is_empty() || path.split('/').any(is_dot_segment)
    {
        return false;
    }
    // What is normalised would be another URL than the client's id.
    Url::parse(client_id).is_ok_and(|url| url.as_str() == client_id)
}

/// Why a document is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::authserver) enum DocumentProblem {
    #[error("the document there is about another client_id")]
    OtherClient,
    #[error("the document there has a client_secret, which would be public")]
    Secret,
    #[error("that client authenticates only with keys, which is not supported: it has to offer `none` too")]
    Authentication,
    #[error("in the document there, {0}")]
    Metadata(#[from] MetadataProblem),
}

/// The client that `json`, found at `url`, describes; `schemes` are private URI schemes besides the
/// built-in.
pub(in crate::authserver) fn parse(url: &str, json: &[u8], schemes: &[String]) -> Result<Client, DocumentProblem> {
    let metadata = Metadata::parse(json)?;
    if metadata.client_id.as_deref() != Some(url) {
        return Err(DocumentProblem::OtherClient);
    }
    if metadata.client_secret.is_some() {
        return Err(DocumentProblem::Secret);
    }
    metadata.check(schemes)?;
    let method = metadata.token_endpoint_auth_method.as_deref();
    // Secrets are out of the question, so who says nothing has none.
    let is_public =
        matches!(method, None | Some("none")) || lists(&metadata.token_endpoint_auth_methods_supported, "none");
    if !is_public {
        return Err(DocumentProblem::Authentication);
    }
    Ok(Client {
        id: url.to_owned(),
        name: metadata.name(),
        refreshes: metadata.refreshes(),
        redirect_uris: metadata.redirect_uris,
        authentication: Authentication::None,
    })
}

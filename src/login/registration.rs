//! As whom a sign-in is made: a client that is known already, a metadata document, or one that registers
//! itself now.

use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use url::Url;

use crate::{
    login::{
        discovery::Metadata,
        fetch::{FetchError, Fetcher},
        loopback::RedirectUri,
        prompt::plain,
        record::{Client, Record},
    },
    secret::Secret,
};

/// How the program may be known to the authorization server; what comes first here is used first.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// A client that somebody registered for the user.
    pub registered: Option<Registered>,
    /// The `https` URL of the program's metadata document, for servers that take one as client identifier.
    pub metadata_document: Option<String>,
    /// What a registration calls the program.
    pub name: String,
    /// The redirect URI that was registered; by default `http://127.0.0.1/callback` with any port.
    pub redirect_uri: Option<RedirectUri>,
}

/// A client that was registered by hand.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its identifier.
    pub id: String,
    /// Its secret, if it has one.
    pub secret: Option<Secret<String>>,
    /// Whose it is; without it, it is offered to whichever authorization server is discovered, unless it
    /// has a secret that this one does not know yet.
    pub issuer: Option<String>,
}

/// A client, and where it came from.
pub(crate) struct Chosen {
    pub(crate) client: Client,
    /// Whether it was registered at an earlier sign-in: the server may have forgotten it since.
    pub(crate) reused: bool,
}

/// What the client will do, which its registration has to allow.
pub(crate) enum Use<'a> {
    /// Receive codes at this URI.
    Browser(&'a str),
    /// Wait for the user to enter a code elsewhere.
    Device,
}

/// Finds or makes a client for the authorization server.
///
/// `known` is an earlier sign-in; what it registered is used again if that was for this issuer and for
/// this use. `scopes` are those that the registration has to allow.
pub(crate) async fn client(
    fetcher: &Fetcher,
    metadata: &Metadata,
    options: &ClientOptions,
    known: Option<&Record>,
    used_for: &Use<'_>,
    scopes: &[String],
) -> Result<Chosen, RegistrationError> {
    let redirect_uri = match used_for {
        Use::Browser(uri) => Some((*uri).to_owned()),
        Use::Device => None,
    };
    let public = |id: String| Client { id, secret: None, secret_in_form: false, redirect_uri: redirect_uri.clone() };
    if let Some(registered) = &options.registered {
        if registered.issuer.as_ref().is_some_and(|issuer| *issuer != metadata.issuer) {
            return Err(RegistrationError::OtherIssuer {
                client: plain(&registered.id),
                issuer: plain(&metadata.issuer),
            });
        }
        if let Some(secret) = registered.secret.as_ref().filter(|_| registered.issuer.is_none())
            && !known.is_some_and(|record| has_told(record, metadata, &registered.id, secret))
        {
            // The server names its authorization server, and would get the secret by naming its own.
            return Err(RegistrationError::Whose { client: plain(&registered.id), issuer: plain(&metadata.issuer) });
        }
        let secret_in_form = registered.secret.is_some() && secret_in_form(metadata)?;
        let client = Client { secret: registered.secret.clone(), secret_in_form, ..public(registered.id.clone()) };
        return Ok(Chosen { client, reused: false });
    }
    if let Some(document) = &options.metadata_document {
        check_document_url(document)?;
        if metadata.client_metadata_documents {
            return Ok(Chosen { client: public(document.clone()), reused: false });
        }
    }
    if let Some(client) = known.and_then(|record| reusable(record, metadata, redirect_uri.as_deref())) {
        let client = Client { redirect_uri, ..client.clone() };
        return Ok(Chosen { client, reused: true });
    }
    let Some(endpoint) = &metadata.registration_endpoint else {
        return Err(RegistrationError::NoWay { issuer: plain(&metadata.issuer) });
    };
    let client = register(fetcher, endpoint, metadata, &options.name, redirect_uri.as_deref(), scopes).await?;
    Ok(Chosen { client, reused: false })
}

/// Whether the authorization server got this secret of this client for `record` already.
fn has_told(record: &Record, metadata: &Metadata, id: &str, secret: &Secret<String>) -> bool {
    let told = record.client.secret.as_ref();
    let same = told.is_some_and(|told| told.expose().as_bytes().ct_eq(secret.expose().as_bytes()).into());
    same && record.client.id == id && record.issuer == metadata.issuer
}

/// The client of `record`, if it is for this issuer and callback.
///
/// Where another one can be registered, the callback has to be the same with its port, because many
/// servers compare the whole string. Otherwise any port has to do (RFC 8252 §7.3).
fn reusable<'r>(record: &'r Record, metadata: &Metadata, redirect_uri: Option<&str>) -> Option<&'r Client> {
    let client = &record.client;
    let document = Url::parse(&client.id).is_ok_and(|url| url.scheme() == "https");
    let registered = client.redirect_uri.as_deref();
    let fits = match (registered, redirect_uri) {
        _ if registered == redirect_uri => true,
        _ if metadata.registration_endpoint.is_some() && !document => false,
        (Some(registered), Some(wanted)) => same_but_for_port(registered, wanted),
        (Some(_), None) => true,
        (None, _) => false,
    };
    let usable = !document || metadata.client_metadata_documents;
    (record.issuer == metadata.issuer && fits && usable).then_some(client)
}

fn same_but_for_port(one: &str, other: &str) -> bool {
    match (one.parse::<RedirectUri>(), other.parse::<RedirectUri>()) {
        (Ok(one), Ok(other)) => one.with_any_port() == other.with_any_port(),
        _ => false,
    }
}

/// Client identifier metadata documents §3: `https`, a path, and nothing that hides either.
fn check_document_url(document: &str) -> Result<(), RegistrationError> {
    let fits = |url: Url| {
        let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        // What the parser would change, the server would not find again.
        url.scheme() == "https" && url.path() != "/" && bare && url.as_str() == document
    };
    let ok = Url::parse(document).is_ok_and(fits);
    ok.then_some(()).ok_or_else(|| RegistrationError::Document { url: plain(document) })
}

/// Whether the secret goes into the form; RFC 8414 §2 has `client_secret_basic` as the default.
fn secret_in_form(metadata: &Metadata) -> Result<bool, RegistrationError> {
    match (metadata.authenticates(BASIC), metadata.authenticates(POST)) {
        (None | Some(true), _) => Ok(false),
        (_, Some(true)) => Ok(true),
        _ => Err(RegistrationError::Authentication { issuer: plain(&metadata.issuer) }),
    }
}

const BASIC: &str = "client_secret_basic";
const POST: &str = "client_secret_post";

/// Registers a native client (RFC 7591, OpenID Connect Dynamic Client Registration).
///
/// The redirect URI is registered with its port. RFC 8252 §7.3 has servers ignore it, but many compare
/// the whole string; so the same port is used again while it is free, and else a new client registers.
async fn register(
    fetcher: &Fetcher,
    endpoint: &Url,
    metadata: &Metadata,
    name: &str,
    redirect_uri: Option<&str>,
    scopes: &[String],
) -> Result<Client, RegistrationError> {
    let method = ["none", BASIC, POST].into_iter().find(|method| metadata.authenticates(method) != Some(false));
    let method = method.ok_or_else(|| RegistrationError::Authentication { issuer: plain(&metadata.issuer) })?;
    let grant = if redirect_uri.is_some() { "authorization_code" } else { DEVICE_GRANT };
    let grants: Vec<&str> =
        [grant, "refresh_token"].into_iter().filter(|name| *name == grant || metadata.grants(name)).collect();
    let mut request = json!({
        "client_name": name,
        "application_type": "native",
        "token_endpoint_auth_method": method,
        "grant_types": grants,
        "response_types": redirect_uri.map_or(&[][..], |_| &["code"]),
        "redirect_uris": Vec::from_iter(redirect_uri),
    });
    let without_scope = request.clone();
    if !scopes.is_empty() {
        request["scope"] = json!(scopes.join(" "));
    }
    let mut answer = post(fetcher, endpoint, &request).await?;
    if matches!(&answer, Err(refusal) if refusal.error == "invalid_client_metadata") && !scopes.is_empty() {
        // Some servers refuse scopes that are their resources' and not their own.
        answer = post(fetcher, endpoint, &without_scope).await?;
    }
    let registered = answer
        .map_err(|refusal| RegistrationError::Refused { issuer: plain(&metadata.issuer), error: refusal.shown() })?;
    registered
        .into_client(method, redirect_uri)
        .ok_or_else(|| RegistrationError::Unreadable { issuer: plain(&metadata.issuer) })
}

pub(crate) const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn post(
    fetcher: &Fetcher,
    endpoint: &Url,
    request: &Value,
) -> Result<Result<Answer, Refusal>, RegistrationError> {
    let answer = fetcher.post_json(endpoint, request).await?;
    if answer.status.is_success() {
        let unreadable = |_| RegistrationError::Unreadable { issuer: plain(endpoint.as_str()) };
        return serde_json::from_slice(&answer.body).map(Ok).map_err(unreadable);
    }
    let nameless = |_| Refusal { error: format!("HTTP {}", answer.status.as_u16()), error_description: None };
    Ok(Err(serde_json::from_slice(&answer.body).unwrap_or_else(nameless)))
}

/// RFC 7591 §3.2.1
#[derive(Deserialize)]
struct Answer {
    client_id: String,
    client_secret: Option<String>,
    token_endpoint_auth_method: Option<String>,
    redirect_uris: Option<Vec<String>>,
}

impl Answer {
    /// `None` if the server has registered something else than it was asked for.
    fn into_client(self, asked_method: &str, redirect_uri: Option<&str>) -> Option<Client> {
        let method = self.token_endpoint_auth_method.as_deref().unwrap_or(asked_method).to_owned();
        let known_method = ["none", BASIC, POST].contains(&method.as_str());
        let listed = |uri: &str| self.redirect_uris.as_ref().is_none_or(|uris| uris.iter().any(|listed| listed == uri));
        let secret = self.client_secret.filter(|secret| !secret.is_empty() && method != "none").map(Secret::new);
        // RFC 6749 appendix A: identifiers and secrets are visible ASCII.
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let complete = method == "none" || secret.is_some();
        (known_method && complete && visible(&self.client_id) && redirect_uri.is_none_or(listed)).then(|| Client {
            id: self.client_id,
            secret,
            secret_in_form: method == POST,
            redirect_uri: redirect_uri.map(str::to_owned),
        })
    }
}

/// RFC 7591 §3.2.2
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

impl Refusal {
    fn shown(&self) -> String {
        match &self.error_description {
            Some(description) => format!("{}: {}", plain(&self.error), plain(description)),
            None => plain(&self.error),
        }
    }
}

/// Why there is no client to sign in as.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The server wants clients to be registered by hand.
    #[error(
        "{issuer} does not let programs register themselves; register one with it \
         (redirect URI http://127.0.0.1/callback) and give its identifier with --client-id"
    )]
    NoWay {
        /// Who.
        issuer: String,
    },
    /// A client's identifier and secret are its own issuer's business.
    #[error(
        "the client {client} is not registered with {issuer}, which now issues the server's tokens; register one there"
    )]
    OtherIssuer {
        /// Which client.
        client: String,
        /// Who issues the tokens.
        issuer: String,
    },
    /// Nobody has said whose the client is, and its secret is for nobody else.
    #[error(
        "the secret of the client {client} is not sent to {issuer} only because the server names it; name the \
         client's authorization server with --issuer"
    )]
    Whose {
        /// Which client.
        client: String,
        /// Who would have got it.
        issuer: String,
    },
    /// The URL cannot be a client identifier.
    #[error("{url} cannot be a client metadata document: it must begin with https:// and have a path")]
    Document {
        /// As it was given.
        url: String,
    },
    /// Keys and certificates are not supported.
    #[error("{issuer} takes neither public clients nor client secrets, and nothing else is supported here")]
    Authentication {
        /// Who.
        issuer: String,
    },
    /// The server said no.
    #[error(
        "{issuer} does not register this program ({error}); register one with it and give its identifier with --client-id"
    )]
    Refused {
        /// Who.
        issuer: String,
        /// What it said.
        error: String,
    },
    /// The server said something else.
    #[error(
        "{issuer} registered a client that cannot be used; register one with it and give its identifier with --client-id"
    )]
    Unreadable {
        /// Who.
        issuer: String,
    },
    /// No answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::login::{
        discovery::{Hints, Target, discover},
        testing::{self, Provider},
    };

    const DOCUMENT: &str = "https://app.example.com/client.json";
    const OLD: &str = "http://127.0.0.1:4000/callback";
    const OTHER_PORT: &str = "http://127.0.0.1:5000/callback";

    /// Which client is chosen after a sign-in as `id` with the callback `registered`.
    async fn chosen(
        provider: &Provider,
        id: &str,
        registered: Option<&str>,
        used_for: Use<'_>,
    ) -> Result<String, RegistrationError> {
        let fetcher = provider.server.fetcher();
        let target = Target::Issuer(provider.origin());
        let metadata = discover(&fetcher, &target, Hints::default()).await.expect("discovered").metadata;
        let mut record = provider.record();
        record.client.id = id.to_owned();
        record.client.redirect_uri = registered.map(str::to_owned);
        let chosen = client(&fetcher, &metadata, &testing::client(), Some(&record), &used_for, &[]).await?;
        if let Use::Browser(uri) = used_for {
            assert_eq!(chosen.client.redirect_uri.as_deref(), Some(uri), "what is sent is what is listened at");
        }
        Ok(chosen.client.id)
    }

    #[tokio::test]
    async fn registration_for_another_callback_is_not_used() {
        let provider = Provider::start(|script| script.metadata["client_id_metadata_document_supported"] = json!(true));
        for (id, registered, used_for, expected) in [
            ("old", Some(OLD), Use::Browser(OLD), "old"),
            ("old", Some(OLD), Use::Browser(OTHER_PORT), "registered"),
            ("old", Some("http://127.0.0.1:4000/other"), Use::Browser(OLD), "registered"),
            ("old", Some("http://localhost:4000/callback"), Use::Browser(OLD), "registered"),
            ("old", None, Use::Browser(OLD), "registered"),
            ("old", Some(OLD), Use::Device, "registered"),
            ("old", None, Use::Device, "old"),
            (DOCUMENT, Some(OLD), Use::Browser(OTHER_PORT), DOCUMENT),
            (DOCUMENT, Some("http://127.0.0.1:4000/other"), Use::Browser(OLD), "registered"),
        ] {
            assert_eq!(
                chosen(&provider, id, registered, used_for).await.expect("a client"),
                expected,
                "{id} {registered:?}"
            );
        }
    }

    #[tokio::test]
    async fn client_secret_does_not_go_to_whomever_the_server_names() {
        let provider = Provider::start(|_| ());
        let fetcher = provider.server.fetcher();
        let target = Target::Server { url: format!("{}/mcp", provider.origin()), issuer: None };
        let metadata = discover(&fetcher, &target, Hints::default()).await.expect("discovered").metadata;
        let secret = |text: &str| Some(Secret::new(text.to_owned()));
        let earlier = |id: &str, told: Option<Secret<String>>, issuer: &str| {
            let mut record = Record { issuer: issuer.to_owned(), ..provider.record() };
            record.client = Client { id: id.to_owned(), secret: told, ..record.client };
            record
        };
        let (ours, other) = (provider.origin(), "https://as.example");
        for (issuer, told, known, goes) in [
            (None, secret("s"), None, false),
            (Some(ours.as_str()), secret("s"), None, true),
            (Some(other), secret("s"), None, false),
            (None, None, None, true),
            (None, secret("s"), Some(earlier("mine", secret("s"), &ours)), true),
            (None, secret("s"), Some(earlier("mine", secret("s"), other)), false),
            (None, secret("s"), Some(earlier("other", secret("s"), &ours)), false),
            // What the server has registered itself has told it nothing.
            (None, secret("s"), Some(earlier("mine", secret("other"), &ours)), false),
            (None, secret("s"), Some(earlier("mine", None, &ours)), false),
        ] {
            let registered = Registered { id: "mine".to_owned(), secret: told, issuer: issuer.map(str::to_owned) };
            let case = format!("{registered:?} {:?}", known.as_ref().map(|known| &known.client));
            let options = ClientOptions { registered: Some(registered), ..testing::client() };
            let chosen = client(&fetcher, &metadata, &options, known.as_ref(), &Use::Browser(OLD), &[]).await;
            assert_eq!(chosen.is_ok(), goes, "{case}");
            if let Err(error @ RegistrationError::Whose { .. }) = chosen {
                let what_helps = "name the client's authorization server with --issuer";
                assert!(error.to_string().ends_with(what_helps), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn where_no_program_can_register_the_port_counts_for_nothing() {
        let provider = Provider::start(|script| script.metadata["registration_endpoint"] = json!(null));
        assert_eq!(chosen(&provider, "old", Some(OLD), Use::Browser(OTHER_PORT)).await.expect("a client"), "old");
        assert_eq!(chosen(&provider, "old", Some(OLD), Use::Device).await.expect("a client"), "old");
        for (id, registered) in [("old", "http://localhost/callback"), (DOCUMENT, OLD)] {
            let error = chosen(&provider, id, Some(registered), Use::Browser(OTHER_PORT)).await.expect_err(id);
            assert!(matches!(error, RegistrationError::NoWay { .. }), "{id}: {error}");
        }
    }
}

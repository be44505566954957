//! A sign-in as a client makes it, for `--login`.

use std::{pin::Pin, sync::Mutex};

use mcp_calculator::{
    login::{
        Record,
        asking::{Asking, Way},
        browser::BrowserMode,
        discovery::Target,
        fetch::{Fetcher, FetcherOptions},
        flow,
        registration::{ClientOptions, Registered},
        token_goes_to,
        tokens::revoke,
    },
    secret::Secret,
};
use url::Url;

use super::SignIn;
use crate::sync::Locked as _;

/// Signs in with a browser, and keeps nothing longer than the examination takes.
pub struct InBrowser {
    asking: Asking,
    signed_in: Mutex<Option<Record>>,
}

impl InBrowser {
    /// For the server at `url`, as a client that is registered already or registers itself.
    pub fn new(url: &str, client: Option<Registered>, issuer: Option<String>, print_only: bool) -> Self {
        let asking = Asking {
            program: "mcp-bridge",
            target: Target::Server { url: url.to_owned(), issuer },
            client: ClientOptions {
                registered: client,
                metadata_document: None,
                name: "MCP Bridge doctor".to_owned(),
                redirect_uri: None,
            },
            scopes: Vec::new(),
            way: Way::Browser(if print_only { BrowserMode::ShowOnly } else { BrowserMode::Open }),
            legacy: true,
            fetcher: options(),
            deadline: flow::DEADLINE,
        };
        Self { asking, signed_in: Mutex::new(None) }
    }

    /// Revokes the token, where the authorization server can do that.
    pub async fn end(&self) {
        let Some(record) = self.signed_in.locked().take() else { return };
        if let Ok(fetcher) = Fetcher::for_record(&record, &options()) {
            // It ends by itself soon; the report is about something else.
            revoke(&fetcher, &record).await.ok();
        }
    }
}

impl SignIn for InBrowser {
    fn sign_in<'a>(
        &'a self,
        server: &'a Url,
    ) -> Pin<Box<dyn Future<Output = Result<Secret<String>, String>> + Send + 'a>> {
        Box::pin(async move {
            let record = self.asking.ask(None, None).await.map_err(|error| error.to_string())?;
            let token = record.access_token.clone();
            let fits = token_goes_to(&record, server);
            *self.signed_in.locked() = Some(record);
            if fits { Ok(token) } else { Err("the token is for another server, so it was not sent".to_owned()) }
        })
    }
}

fn options() -> FetcherOptions {
    FetcherOptions {
        user_agent: concat!("mcp-bridge/", env!("CARGO_PKG_VERSION")).to_owned(),
        allow_private_addresses: false,
    }
}

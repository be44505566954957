//! From the challenge to the authorization server.

use http::{Method, StatusCode, header};
use serde_json::json;
use url::Url;

use super::{Found, Taken, Walk, skipped};
use crate::doctor::{
    checks::Check,
    fetch::Ask,
    judge::{
        cors::{self, Asked, PAGE},
        door::Access,
        issuer, registration,
        registration::{CLIENTS, Registered},
        resource,
    },
    report::Judged,
    request::VERSION,
    words::quoted,
};

/// The specification leaves the choice to the client, and nobody tries more.
const SERVERS_MAX: usize = 3;

impl Walk {
    pub(super) async fn resource_metadata(&mut self) -> Taken {
        let mut places: Vec<resource::Place> = Vec::new();
        for (from, url) in resource::places(&self.url, self.challenge.as_ref()) {
            // The challenge usually names one of the others.
            let reply = match places.iter().find(|place| place.url == url) {
                Some(known) => known.reply.clone(),
                None => self.ask(&document_at(&url)).await,
            };
            places.push(resource::Place { from, url, reply });
        }
        let (judged, document) = resource::metadata(&places);
        let is_open = self.door.as_ref().is_some_and(|door| door.access == Access::Open);
        if document.is_none() && is_open {
            return skipped("the server asks nobody to sign in, and has none");
        }
        let read = |place: &&resource::Place| place.reply.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK);
        let used = places.iter().find(|place| read(place) && document.is_some());
        self.resource =
            used.map(|place| place.url.clone()).zip(document).map(|(url, document)| Found { url, document });
        judged.into()
    }

    pub(super) fn resource(&mut self) -> Taken {
        let Some(found) = &self.resource else { return skipped("there is no metadata") };
        let (judged, issuers) = resource::resource(&self.options.url, &found.document);
        self.issuers = issuers;
        judged.into()
    }

    pub(super) fn scopes(&mut self) -> Taken {
        let Some(found) = &self.resource else { return skipped("there is no metadata") };
        resource::scopes(self.challenge.as_ref(), &found.document).into()
    }

    pub(super) async fn server_metadata(&mut self) -> Taken {
        let issuers = self.issuers.clone();
        let Some(first) = issuers.first() else { return skipped("the resource names no authorization server") };
        let (mut judged, found) = self.metadata_of(first).await;
        self.server = found;
        for other in issuers.iter().take(SERVERS_MAX).skip(1) {
            let (theirs, found) = self.metadata_of(other).await;
            let wrong = found.map(|found| issuer::issuer(other, &found.document)).filter(|it| !it.problems.is_empty());
            for problem in theirs.problems.into_iter().chain(wrong.into_iter().flat_map(|it| it.problems)) {
                judged = judged.warn(
                    format!("{}, not the first: {}", quoted(other), problem.what),
                    "clients that choose it cannot sign in",
                    problem.fix,
                );
            }
        }
        judged.into()
    }

    async fn metadata_of(&mut self, named: &str) -> (Judged, Option<Found>) {
        let mut places: Vec<issuer::Place> = Vec::new();
        for url in issuer::places(named) {
            let reply = self.ask(&document_at(&url)).await;
            places.push(issuer::Place { url, reply });
        }
        let (judged, document) = issuer::metadata(named, &places);
        let read = |place: &&issuer::Place| place.reply.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK);
        let used = places.iter().find(read).map(|place| place.url.clone());
        (judged, used.zip(document).map(|(url, document)| Found { url, document }))
    }

    /// What the document alone says.
    pub(super) fn of_server(&mut self, check: Check) -> Taken {
        let Some(Found { document, .. }) = &self.server else { return skipped("there is no metadata") };
        let named = self.issuers.first().map(String::as_str).unwrap_or_default();
        match check {
            Check::Issuer => issuer::issuer(named, document),
            Check::Endpoints => issuer::endpoints(document),
            Check::Pkce => issuer::pkce(document),
            Check::IssParameter => issuer::iss_parameter(document),
            _ => registration::registration(document),
        }
        .into()
    }

    pub(super) async fn redirect_uris(&mut self) -> Taken {
        let Some(endpoint) = self.endpoint("registration_endpoint") else {
            return skipped("clients cannot register dynamically");
        };
        if !self.options.register {
            return skipped("--register tries what each client registers; it may leave registrations behind");
        }
        // What the server lacks has been told; here the redirect URIs are to decide.
        let grants = self.server.as_ref().map(|found| issuer::grants(&found.document)).unwrap_or_default();
        let grants: Vec<&str> = ["authorization_code", "refresh_token"]
            .into_iter()
            .filter(|it| grants.iter().any(|known| known == it))
            .collect();
        let mut tried = Vec::new();
        for client in CLIENTS {
            let request = json!({
                "client_name": format!("mcp-bridge doctor, as {}", client.name),
                "redirect_uris": client.redirect_uris,
                "grant_types": grants,
                "response_types": ["code"],
                "token_endpoint_auth_method": "none",
            });
            let ask = Ask::new(Method::POST, &endpoint).header(header::ACCEPT, "application/json").body(
                &format!("as {}", client.name),
                "application/json",
                request.to_string().into_bytes(),
            );
            let reply = self.http.send(&ask).await;
            // The answer holds secrets where it is a success.
            let got = match &reply {
                Ok(answer) if answer.status.is_success() => answer.status.to_string(),
                other => crate::doctor::fetch::reply_shown(other),
            };
            self.note(&ask, got);
            if let Ok(answer) = &reply {
                self.unregister(&endpoint, answer.json().unwrap_or_default()).await;
            }
            tried.push(Registered { client, reply });
        }
        registration::redirect_uris(&tried).into()
    }

    /// Deletes a registration where the server lets clients do that (RFC 7592).
    async fn unregister(&mut self, endpoint: &Url, registered: serde_json::Value) {
        let text = |key: &str| registered.get(key).and_then(serde_json::Value::as_str);
        let (Some(url), Some(token)) = (text("registration_client_uri"), text("registration_access_token")) else {
            return;
        };
        if let Ok(url) = Url::parse(url)
            && url.origin() == endpoint.origin()
        {
            let ask = Ask::new(Method::DELETE, &url).header(header::AUTHORIZATION, &format!("Bearer {token}"));
            // What stays is dropped by the server in its own time.
            let _ = self.http.send(&ask).await;
        }
    }

    pub(super) async fn cors_sign_in(&mut self) -> Taken {
        let (Some(resource), Some(server)) = (&self.resource, &self.server) else {
            return skipped("there is no metadata");
        };
        let (resource, server) = (resource.url.clone(), server.url.clone());
        let resource = self.ask(&document_at(&resource).header(header::ORIGIN, PAGE)).await;
        let server = self.ask(&document_at(&server).header(header::ORIGIN, PAGE)).await;
        let mut token = None;
        if let Some(url) = self.endpoint("token_endpoint") {
            // Without a code: it is refused, and the refusal shows what a page could read.
            let ask = Ask::new(Method::POST, &url).header(header::ORIGIN, PAGE);
            let form = "application/x-www-form-urlencoded";
            token = Some(self.ask(&ask.body("without a code", form, b"grant_type=authorization_code".to_vec())).await);
        }
        let mut register = None;
        if let Some(url) = self.endpoint("registration_endpoint") {
            let ask = Ask::new(Method::OPTIONS, &url)
                .header(header::ORIGIN, PAGE)
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
                .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type");
            register = Some(self.ask(&ask).await);
        }
        let mut asked = vec![
            Asked { what: "resource metadata", reply: &resource, sends: &[], reads: &[] },
            Asked { what: "authorization server metadata", reply: &server, sends: &[], reads: &[] },
        ];
        asked.extend(token.as_ref().map(|reply| Asked { what: "token endpoint", reply, sends: &[], reads: &[] }));
        let sends: &[&str] = &["content-type"];
        asked.extend(register.as_ref().map(|reply| Asked { what: "registration", reply, sends, reads: &[] }));
        cors::cors(&asked).into()
    }

    /// An endpoint of the authorization server that may be asked.
    fn endpoint(&self, name: &str) -> Option<Url> {
        let url = Url::parse(self.server.as_ref()?.document.get(name)?.as_str()?).ok()?;
        (matches!(url.scheme(), "http" | "https") && self.http.may_ask(&url)).then_some(url)
    }
}

/// A metadata document as the SDKs ask for it.
fn document_at(url: &Url) -> Ask {
    Ask::get(url).header(header::ACCEPT, "application/json").header(VERSION, crate::doctor::request::LEGACY)
}

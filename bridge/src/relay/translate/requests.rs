//! Requests: which methods have another era to go to, and what makes one a retry of another.

use mcp_calculator::server::Era;
use ring::digest::{Context, SHA256};

use super::capabilities::canonical;
use crate::message::Request;

/// What becomes of a request when client and server are of different eras.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It goes to the server, with translated parameters.
    Forward,
    /// The bridge answers it, having done by other means what it asks for.
    Bridge,
    /// No method of the client's era: it does not exist.
    Unknown,
}

/// What becomes of a request for `method` from a client of era `client`, with a server of the other.
///
/// Tasks do not cross: a capability of the legacy era and an extension of the modern one share the
/// names of some methods and nothing else. Methods that neither era knows are forwarded.
pub fn route(client: Era, method: &str) -> Route {
    match (method, client) {
        (method, _) if method.starts_with("tasks/") => Route::Unknown,
        ("server/discover" | "subscriptions/listen", Era::Modern) => Route::Bridge,
        ("server/discover" | "subscriptions/listen", Era::Legacy) => Route::Unknown,
        ("initialize" | "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe", Era::Legacy) => {
            Route::Bridge
        }
        ("initialize" | "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe", Era::Modern) => {
            Route::Unknown
        }
        _ => Route::Forward,
    }
}

/// The SHA-256 of what has to be equal between a request and its retry: the method and the parameters,
/// except `_meta`, the answers and the state. Members may come in another order; numbers have to be spelled
/// alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The [`Fingerprint`] of a request.
pub fn fingerprint(request: &Request<'_>) -> Fingerprint {
    let mut salient: Vec<_> = request
        .params
        .members
        .iter()
        .filter(|(key, _)| !matches!(*key, "_meta" | "inputResponses" | "requestState"))
        .collect();
    salient.sort_by_key(|(key, _)| *key);
    let mut hash = Context::new(&SHA256);
    // Lengths keep one text from running into the next.
    let mut add = |text: &str| {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    add(&request.method);
    for (key, value) in salient {
        add(key);
        add(&canonical(value.get()));
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Fingerprint(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn request(method: &str, params: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
    }

    fn with<T>(method: &str, params: &str, then: impl FnOnce(&Request<'_>) -> T) -> T {
        match Message::parse(request(method, params).as_bytes()) {
            Ok(Message::Request(request)) => then(&request),
            other => panic!("{params}: {other:?}"),
        }
    }

    #[test]
    fn a_retry_has_the_fingerprint_of_its_request() {
        let of = |method: &str, params: &str| with(method, params, fingerprint);
        let first = of("tools/call", r#"{"name":"t","arguments":{"a":1,"b":[1,2]},"_meta":{"progressToken":1}}"#);
        for same in [
            r#"{"name":"t","arguments":{"a":1,"b":[1,2]}}"#,
            r#"{"requestState":"s","arguments":{ "b" : [1, 2], "a":1},"inputResponses":{"k":{}},"name":"t"}"#,
        ] {
            assert_eq!(of("tools/call", same), first, "{same}");
        }
        for other in [
            r#"{"name":"u","arguments":{"a":1,"b":[1,2]}}"#,
            r#"{"name":"t","arguments":{"a":1,"b":[2,1]}}"#,
            r#"{"name":"t","arguments":{"a":1.0,"b":[1,2]}}"#,
            r#"{"name":"t","arguments":{"a":1,"b":[1,2]},"x":1}"#,
            r#"{"name":"t"}"#,
        ] {
            assert_ne!(of("tools/call", other), first, "{other}");
        }
        assert_ne!(of("prompts/get", r#"{"name":"t","arguments":{"a":1,"b":[1,2]}}"#), first);
    }

    #[test]
    fn routes() {
        use {Era::*, Route::*};
        for (method, legacy, modern) in [
            ("tools/call", Forward, Forward),
            ("completion/complete", Forward, Forward),
            ("vendor/own", Forward, Forward),
            ("initialize", Bridge, Unknown),
            ("ping", Bridge, Unknown),
            ("logging/setLevel", Bridge, Unknown),
            ("resources/subscribe", Bridge, Unknown),
            ("resources/unsubscribe", Bridge, Unknown),
            ("server/discover", Unknown, Bridge),
            ("subscriptions/listen", Unknown, Bridge),
            ("tasks/get", Unknown, Unknown),
            ("tasks/update", Unknown, Unknown),
        ] {
            assert_eq!((route(Legacy, method), route(Era::Modern, method)), (legacy, modern), "{method}");
        }
    }
}

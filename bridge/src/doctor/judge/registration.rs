//! How each client becomes known to the authorization server.

use serde_json::{Map, Value};

use super::{
    super::{
        fetch::Reply,
        report::{ClientVerdict, Judged, Registration},
        words::{listed, quoted, shown},
    },
    strings,
};

/// A client that people use, and what it can do.
pub(in super::super) struct Client {
    pub(in super::super) name: &'static str,
    /// The methods in its metadata document, if it has one.
    document: &'static [&'static str],
    /// Whether somebody can type a client id into it.
    typed: bool,
    /// What it registers, where it registers dynamically.
    pub(in super::super) redirect_uris: &'static [&'static str],
}

/// From the vendors' documents: Claude's and ChatGPT's connector help, VS Code's and Cursor's MCP pages,
/// and the metadata documents themselves.
pub(in super::super) const CLIENTS: &[Client] = &[
    Client {
        name: "claude.ai and Claude Desktop",
        document: &["none"],
        typed: true,
        redirect_uris: &["https://claude.ai/api/mcp/auth_callback", "https://claude.com/api/mcp/auth_callback"],
    },
    Client {
        name: "Claude Code",
        document: &["none"],
        typed: true,
        redirect_uris: &["http://localhost/callback", "http://127.0.0.1/callback"],
    },
    Client {
        name: "ChatGPT",
        document: &["none", "private_key_jwt"],
        typed: false,
        redirect_uris: &["https://chatgpt.com/connector_platform_oauth_redirect"],
    },
    Client {
        name: "VS Code",
        document: &["none"],
        typed: true,
        redirect_uris: &["http://127.0.0.1:33418/", "https://vscode.dev/redirect"],
    },
    Client {
        name: "Cursor",
        document: &[],
        typed: true,
        redirect_uris: &[
            "http://localhost:8787/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
            "cursor://anysphere.cursor-mcp/oauth/callback",
        ],
    },
    Client {
        name: "MCP Inspector",
        document: &[],
        typed: true,
        redirect_uris: &["http://localhost:6274/oauth/callback"],
    },
];

/// How each client can register with the server of this metadata.
pub(in super::super) fn registration(document: &Map<String, Value>) -> Judged {
    let documents = document.get("client_id_metadata_document_supported") == Some(&Value::Bool(true));
    let dynamic = document.get("registration_endpoint").is_some_and(Value::is_string);
    // RFC 8414 §2: without the field, client_secret_basic.
    let methods = strings(document.get("token_endpoint_auth_methods_supported"))
        .unwrap_or_else(|| vec!["client_secret_basic".to_owned()]);
    let has = |method: &str| methods.iter().any(|known| known == method);
    let way = |client: &Client| {
        if documents && client.document.iter().any(|method| has(method)) {
            Registration::MetadataDocument
        } else if dynamic {
            Registration::Dynamic
        } else if client.typed {
            Registration::TypedCredentials
        } else {
            Registration::Impossible
        }
    };
    let mut judged = Judged::new(match (documents, dynamic) {
        (true, true) => "by metadata document, or dynamically",
        (true, false) => "by metadata document",
        (false, true) => "dynamically",
        (false, false) => "with typed credentials only",
    });
    judged.clients =
        CLIENTS.iter().map(|client| ClientVerdict { client: client.name, registers: way(client) }).collect();
    let those = |way: Registration| {
        let clients = judged.clients.iter().filter(|it| it.registers == way).map(|it| it.client);
        clients.collect::<Vec<_>>()
    };
    let (lost, typed) = (those(Registration::Impossible), those(Registration::TypedCredentials));
    let offer = "support client ID metadata documents (client_id_metadata_document_supported, auth method none), or \
                 dynamic registration (registration_endpoint) for Cursor and MCP Inspector";
    if !documents && !dynamic {
        // Many who run one connector for themselves do just that.
        return judged.warn(
            "clients cannot register: neither metadata documents nor a registration endpoint",
            format!("{} cannot connect; the others need a client id that you make and people type", listed(&lost)),
            offer,
        );
    }
    if !lost.is_empty() {
        judged = judged.fail(format!("{} cannot register", listed(&lost)), "it cannot connect", offer);
    }
    if !typed.is_empty() {
        judged = judged.warn(
            format!("{} can register with typed credentials only", listed(&typed)),
            "people need a client id from you, and have to find the place for it",
            offer,
        );
    }
    if documents && !has("none") {
        judged = judged.warn(
            format!("metadata documents are supported, the auth method `none` is not ({})", shown(&listed(&methods))),
            "Claude, Claude Code and VS Code are public clients: they do not use their documents then",
            "add `none` to `token_endpoint_auth_methods_supported`",
        );
    }
    judged
}

/// What a client's registration got.
pub(in super::super) struct Registered {
    pub(in super::super) client: &'static Client,
    pub(in super::super) reply: Reply,
}

/// Whether every client's redirect URIs were accepted.
pub(in super::super) fn redirect_uris(tried: &[Registered]) -> Judged {
    let mut judged = Judged::new(format!("accepted for {} clients", tried.len()));
    let mut refused = Vec::new();
    for Registered { client, reply } in tried {
        let why = match reply {
            Err(trouble) => trouble.to_string(),
            Ok(answer) if answer.status.is_success() => {
                let kept = answer.json().and_then(|json| strings(json.get("redirect_uris")));
                let missing = |uri: &&&str| kept.as_ref().is_some_and(|kept| !kept.iter().any(|known| known == **uri));
                let missing: Vec<&str> = client.redirect_uris.iter().filter(missing).copied().collect();
                if missing.is_empty() {
                    continue;
                }
                format!("accepted without {}", listed(&missing))
            }
            Ok(answer) => {
                let json = answer.json().unwrap_or_default();
                let text = |key: &str| json.get(key).and_then(Value::as_str).map(shown).unwrap_or_default();
                format!("{} {} {}", answer.status, text("error"), text("error_description")).trim_end().to_owned()
            }
        };
        refused.push(client.name);
        judged = judged.fail(
            format!("{}: {} refused: {why}", client.name, quoted(&listed(client.redirect_uris))),
            format!("{} cannot register", client.name),
            "accept these redirect URIs: https ones of the vendors, http on loopback with any port, and Cursor's own scheme",
        );
    }
    if !refused.is_empty() {
        judged.summary = format!("refused for {}", listed(&refused));
    }
    judged
}

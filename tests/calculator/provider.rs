//! A real authorization server (`oidc-provider`), and a server that names it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use crate::driver::{Guard, node};

/// Longer than any of its answers takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The secret of its client `desk`.
#[cfg(target_os = "linux")]
pub(crate) const DESK_SECRET: &str = "canary-of-the-client-desk";

/// `oidc-provider` on a loopback port; it is killed with the value.
pub(crate) struct AuthorizationServer {
    pub(crate) issuer: String,
    _child: Guard,
}

/// A code or token that it has issued.
#[cfg(target_os = "linux")]
pub(crate) struct Issued {
    pub(crate) kind: String,
    pub(crate) value: String,
    pub(crate) alive: bool,
}

impl AuthorizationServer {
    /// With `flags` besides refresh tokens.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let mut command = node("authorization-server.mjs");
        command.arg("--refresh-tokens").args(flags).env("BRIDGE_SECRET", "not-used-here");
        #[cfg(target_os = "linux")]
        command.env("DESK_SECRET", DESK_SECRET);
        // It ends with its input, so even a killed test leaves none behind.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = Guard::spawn(&mut command);
        let stdout = child.0.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("its stdout is readable");
        let announced: Value = serde_json::from_str(&line).expect("the authorization server says where it is");
        Self { issuer: announced["issuer"].as_str().expect("an issuer").to_owned(), _child: child }
    }
}

#[cfg(target_os = "linux")]
impl AuthorizationServer {
    /// Everything that it has issued so far.
    pub(crate) fn issued(&self) -> Vec<Issued> {
        let answer = self.call("GET", "/test/tokens", "");
        let text = |token: &Value, name: &str| token[name].as_str().expect("a text").to_owned();
        let tokens = answer["tokens"].as_array().expect("tokens").iter().map(|token| Issued {
            kind: text(token, "kind"),
            value: text(token, "value"),
            alive: token["alive"] == true,
        });
        tokens.collect()
    }

    /// How many access tokens are good.
    pub(crate) fn living(&self, kind: &str) -> usize {
        self.issued().iter().filter(|token| token.kind == kind && token.alive).count()
    }

    /// How often tokens were renewed.
    pub(crate) fn refreshes(&self) -> u64 {
        self.call("GET", "/test/tokens", "")["refreshes"].as_u64().expect("a number")
    }

    /// The user withdraws all consent, at the server.
    pub(crate) fn revoke_grants(&self) {
        self.call("POST", "/test/revoke-grants", "");
    }

    /// How long access tokens live from now on.
    pub(crate) fn set_token_ttl(&self, ttl: Duration) {
        self.call("POST", "/test/token-ttl", &serde_json::json!({ "seconds": ttl.as_secs() }).to_string());
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Value {
        let authority = self.issuer.strip_prefix("http://").expect("it is on loopback");
        let mut stream = TcpStream::connect(authority).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let length = body.len();
        // HTTP/1.0: the answer has no chunks, and ends with the connection.
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {authority}\r\nContent-Length: {length}\r\n\r\n{body}")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

/// A server of which there is nothing but its metadata.
pub(crate) struct Server {
    pub(crate) url: String,
}

impl Server {
    /// One whose tokens `issuer` issues, for `scopes`.
    pub(crate) fn start(issuer: &str, scopes: &[&str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
        let document =
            serde_json::json!({ "resource": url, "authorization_servers": [issuer], "scopes_supported": scopes });
        let body = document.to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                    line.clear();
                }
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
                // The client may have left.
                let _ = write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}");
            }
        });
        Self { url }
    }
}

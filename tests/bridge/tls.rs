//! TLS from files.

use std::{net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName},
};

use crate::common::{
    authorization_server::AuthorizationServer,
    bridge::{Bridge, CommandLine, Scratch},
    http::{Connection, Request, socket},
    mcp,
    world::ALL_SCOPES,
};

/// A certificate for `localhost` that only this test trusts.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    pub(crate) cert_file: String,
    pub(crate) key_file: String,
    _scratch: Scratch,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        let scratch = Scratch::new();
        Self {
            certificate: made.cert.der().clone(),
            cert_file: scratch.file("cert.pem", made.cert.pem()),
            key_file: scratch.file("key.pem", made.signing_key.serialize_pem()),
            _scratch: scratch,
        }
    }

    /// TLS to `address`, which must have this certificate.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
        protocols: &[&[u8]],
    ) -> StreamOwned<ClientConnection, std::net::TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("our own certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        StreamOwned::new(session, socket(address))
    }
}

fn start(server: &AuthorizationServer, identity: &Identity) -> Bridge {
    let line = CommandLine::serve().introspection(server);
    line.flag("--tls-cert", &identity.cert_file).flag("--tls-key", &identity.key_file).spawn()
}

#[test]
fn a_call_over_tls() {
    let identity = Identity::new();
    let server = AuthorizationServer::start();
    let bridge = start(&server, &identity);
    assert!(bridge.url().starts_with("https://"), "{}", bridge.url());
    assert_eq!(bridge.resource(), bridge.url());
    let answer = serde_json::json!({ "active": true, "sub": "u", "aud": bridge.resource(), "scope": ALL_SCOPES });
    server.set("token", &answer);
    let mut connection = Connection::over(Box::new(identity.connect(bridge.address(), &[b"http/1.1"])));
    let host = format!("localhost:{}", bridge.address().port());
    for _ in 0..3 {
        let request = mcp::call("add").header("Host", &host).bearer("token");
        connection.write(&request.bytes(bridge.address()));
        assert_eq!(mcp::text(&connection.read_response(false).expect(200, "over TLS").json()), "9");
    }
    let refused = mcp::call("add").header("Host", &host);
    connection.write(&refused.bytes(bridge.address()));
    let response = connection.read_response(false).expect(401, "over TLS");
    let challenge = response.header("WWW-Authenticate").unwrap_or_default().to_owned();
    assert!(challenge.contains("resource_metadata=\"https://"), "{challenge}");
}

#[test]
fn both_http_versions_are_offered() {
    let identity = Identity::new();
    let server = AuthorizationServer::start();
    let bridge = start(&server, &identity);
    for (offered, chosen) in
        [(&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])), (&[b"http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let mut stream = identity.connect(bridge.address(), offered);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        assert_eq!(stream.conn.alpn_protocol(), chosen, "{offered:?}");
    }
}

#[test]
fn shutdown_waits_for_no_handshake_that_has_not_begun() {
    let identity = Identity::new();
    let server = AuthorizationServer::start();
    let mut bridge = start(&server, &identity);
    let mut silent = Connection::open(bridge.address());
    let mut later = Connection::over(Box::new(identity.connect(bridge.address(), &[])));
    later.write(&Request::get("/healthz").header("Host", "localhost").bytes(bridge.address()));
    later.read_response(false).expect(200, "the other was accepted before this one");
    bridge.sigterm();
    assert!(silent.is_closed_by_peer());
    assert_eq!(bridge.wait().code(), Some(0), "{}", bridge.log_text());
}

/// Speaking plainly to the TLS port, or never finishing the handshake, disturbs nobody.
#[test]
fn strangers_on_the_tls_port() {
    let identity = Identity::new();
    let server = AuthorizationServer::start();
    let line = CommandLine::serve().introspection(&server).flag("--header-timeout", "1s");
    let line = line.flag("--tls-cert", &identity.cert_file).flag("--tls-key", &identity.key_file);
    let bridge = line.spawn();
    let mut plain = Connection::open(bridge.address());
    plain.write(&Request::get("/healthz").bytes(bridge.address()));
    assert!(!matches!(plain.try_read_head(), Ok(Some(head)) if head.status < 400), "an answer in cleartext");
    let mut silent = Connection::open(bridge.address());
    assert!(silent.is_closed_by_peer(), "a handshake that never comes is waited for");
    let mut connection = Connection::over(Box::new(identity.connect(bridge.address(), &[])));
    let health = Request::get("/healthz").header("Host", "localhost");
    connection.write(&health.bytes(bridge.address()));
    connection.read_response(false).expect(200, "others");
}

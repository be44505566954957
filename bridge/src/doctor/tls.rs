//! The TLS handshake by itself, and what is wrong with a certificate in words.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{
    fetch::REQUEST_MAX,
    words::{listed, quoted, shown},
};

/// What is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Explained {
    pub(super) what: String,
    pub(super) fix: String,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) version: String,
    pub(super) http2: bool,
}

/// Makes ring the process's provider, which reqwest needs.
pub(super) fn install_crypto_provider() {
    // An error says that one is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Shakes hands with `host` over `stream`, trusting what this machine trusts.
pub(super) async fn handshake(stream: TcpStream, host: &str) -> Result<Agreed, Explained> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |error: &dyn std::fmt::Display| Explained {
        what: format!("this machine has no trust roots: {error}"),
        fix: "install its CA certificates (Debian: ca-certificates)".to_owned(),
    };
    let verifier = Verifier::new(Arc::clone(&provider)).map_err(|error| unusable(&error))?;
    let recording = Arc::new(Recording { inner: Arc::new(verifier), chain: Mutex::default() });
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&recording) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| Explained {
        what: format!("{} cannot stand in a certificate", quoted(host)),
        fix: "use a proper host name".to_owned(),
    })?;
    let connected = timeout(REQUEST_MAX, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    let connected = connected.map_err(|_| Explained {
        what: format!("the TLS handshake did not end within {} s", REQUEST_MAX.as_secs()),
        fix: "see whether what listens on that port speaks TLS".to_owned(),
    })?;
    match connected {
        Ok(stream) => {
            let session = stream.get_ref().1;
            let version = session.protocol_version().map(|version| version.as_str().unwrap_or_default());
            let version = version.unwrap_or_default().replace('_', ".").replacen("TLSv", "TLS ", 1);
            Ok(Agreed { version, http2: session.alpn_protocol() == Some(b"h2") })
        }
        Err(error) => {
            let chain = recording.chain.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                Some(error) => explain(error, &chain, host),
                None if error.kind() == io::ErrorKind::UnexpectedEof => Explained {
                    what: "what listens on that port hangs up when TLS begins: it probably does not speak TLS"
                        .to_owned(),
                    fix: "put TLS in front of it (a proxy or a tunnel), or turn it on in the server".to_owned(),
                },
                None => Explained {
                    what: format!("the connection broke in the TLS handshake: {}", shown(&error.to_string())),
                    fix: "see whether what listens on that port speaks TLS".to_owned(),
                },
            })
        }
    }
}

/// `error` in words. `chain` is what the server showed, if that is known.
pub(super) fn explain(error: &Error, chain: &[CertificateDer<'_>], host: &str) -> Explained {
    let renew = "renew the certificate, and see that whatever renews it also reloads the server";
    let (what, fix) = match error {
        Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            (format!("the certificate expired on {}", date(*not_after)), renew)
        }
        Error::InvalidCertificate(CertificateError::Expired) => ("the certificate has expired".to_owned(), renew),
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            ("the certificate is not valid yet".to_owned(), "set the clocks of both machines")
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => (
            format!("the certificate is for {} and not for {}", shown(&listed(presented)), shown(host)),
            "get a certificate for the name that clients use, or type the name that the certificate has",
        ),
        Error::InvalidCertificate(CertificateError::NotValidForName) => {
            (format!("the certificate is not for {}", shown(host)), "get a certificate for the name that clients use")
        }
        Error::InvalidCertificate(CertificateError::Revoked) => ("the certificate is revoked".to_owned(), renew),
        Error::InvalidCertificate(_) if is_self_signed(chain) => (
            "the certificate is self-signed".to_owned(),
            "get a certificate from a public authority (ACME, Let's Encrypt), or use a tunnel that has one",
        ),
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)
            if chain.len() == 1 =>
        {
            (
                "the server shows its own certificate alone, and nobody here knows who issued it".to_owned(),
                "serve the full chain (certbot: fullchain.pem), or get a certificate from a public authority",
            )
        }
        // An authority of ours may have the name of the issuer, and another key.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => (
            "the certificate comes from an authority that is not trusted".to_owned(),
            "get a certificate from a public authority, or serve the missing part of the chain",
        ),
        Error::AlertReceived(AlertDescription::UnrecognisedName | AlertDescription::HandshakeFailure) => (
            format!("the server refuses TLS for {}", shown(host)),
            "give it a certificate for that name, and TLS 1.2 or 1.3 with ordinary ciphers",
        ),
        Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_) => {
            ("the server speaks neither TLS 1.2 nor 1.3".to_owned(), "turn on TLS 1.2 or 1.3")
        }
        Error::InvalidMessage(_) => (
            "what listens on that port does not speak TLS".to_owned(),
            "put TLS in front of it (a proxy or a tunnel), or turn it on in the server",
        ),
        other => (format!("TLS fails: {}", shown(&other.to_string())), "see the server's own log"),
    };
    Explained { what, fix: fix.to_owned() }
}

fn date(time: UnixTime) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(time).to_string().split('T').next().unwrap_or_default().to_owned()
}

/// Whether the server's certificate names itself as its issuer.
fn is_self_signed(chain: &[CertificateDer<'_>]) -> bool {
    let Some(Ok(own)) = chain.first().map(webpki::EndEntityCert::try_from) else { return false };
    own.issuer() == own.subject()
}

/// Decides as the platform does, and remembers what the server showed.
#[derive(Debug)]
struct Recording {
    inner: Arc<dyn ServerCertVerifier>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Recording {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = std::iter::once(end_entity).chain(intermediates).map(|it| it.clone().into_owned());
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = shown.collect();
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

//! Certificates, good and bad.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::{doctor, finding, report, scripted::Scripted};
use crate::common::bridge::Scratch;

/// A private authority, and the file that makes a program trust it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(rcgen::DnType::CommonName, "the server");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        config(certificate.der().clone(), &key)
    }
}

fn config(certificate: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_no_client_auth();
    builder.with_single_cert(vec![certificate], key).expect("a pair")
}

/// The `tls` step with a server of this configuration, where `trusted` is all that is trusted.
fn check(config: ServerConfig, host: &str, trusted: &Authority, outcome: &str, words: &[&str]) {
    let server = Scripted::tls(config, host);
    let scratch = Scratch::new();
    let roots = scratch.file("roots.pem", &trusted.pem);
    let (report, code) = report(doctor(&server.url()).env("SSL_CERT_FILE", roots));
    let found = finding(&report, "tls");
    assert_eq!(found["outcome"], outcome, "{found:#}");
    for word in words {
        assert!(found.to_string().contains(word), "`{word}` is not in {found:#}");
    }
    if outcome == "fail" {
        assert_eq!(code, Some(1));
        assert_eq!(finding(&report, "door")["outcome"], "skipped");
    } else {
        assert_eq!(finding(&report, "door")["outcome"], "pass", "{report:#}");
    }
}

#[test]
fn trusted_certificate() {
    let authority = Authority::new();
    check(authority.sign(&["localhost"], |_| {}), "localhost", &authority, "pass", &["TLS 1.3"]);
}

#[test]
fn self_signed_certificate() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let config = config(made.cert.der().clone(), &made.signing_key);
    check(config, "localhost", &Authority::new(), "fail", &["self-signed", "public authority"]);
}

#[test]
fn expired_certificate() {
    let authority = Authority::new();
    let config = authority.sign(&["localhost"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 3);
    });
    check(config, "localhost", &authority, "fail", &["expired on 2020-02-03", "renew"]);
}

#[test]
fn certificate_for_another_name() {
    let authority = Authority::new();
    let config = authority.sign(&["other.example"], |_| {});
    check(config, "localhost", &authority, "fail", &["other.example", "and not for localhost"]);
}

#[test]
fn certificate_without_its_chain() {
    let config = Authority::new().sign(&["localhost"], |_| {});
    check(config, "localhost", &Authority::new(), "fail", &["its own certificate alone", "full chain"]);
}

#[test]
fn no_tls_where_the_url_says_https() {
    let server = Scripted::start(|_, said, _| said);
    let (report, _) = report(&mut doctor(&server.url().replace("http:", "https:")));
    let found = finding(&report, "tls");
    assert_eq!(found["outcome"], "fail", "{found:#}");
    assert!(found.to_string().contains("does not speak TLS"), "{found:#}");
}

mod keys;

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest, hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};
use tokio::{sync::Semaphore as Gate, time::Instant};

use super::*;
use crate::token::{
    lock,
    observer::Unobserved,
    stub::{NOW_SECONDS, RESOURCE, Recorder, Reply, Stub, audiences, bearer, now},
};

const ISSUER: &str = "https://as.example";

/// ring makes no RSA keys; this one has never been used for anything but these tests.
const RSA_KEY: &[u8] = include_bytes!("rsa-2048-for-tests.pk8");

enum Signer {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn p256() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self::P256(key.expect("its own output"))
    }

    fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("its own output"))
    }

    fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::from_pkcs8(RSA_KEY).expect("a valid key"))
    }

    /// The public key, with `more` members.
    fn jwk(&self, more: Value) -> Value {
        let mut jwk = match self {
            Self::P256(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": base64(&point[1..33]), "y": base64(&point[33..])})
            }
            Self::Ed25519(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key())}),
            Self::Rsa(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "n": base64(public.n), "e": base64(public.e)})
            }
        };
        for (name, value) in more.as_object().expect("an object") {
            jwk[name] = value.clone();
        }
        jwk
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(key) => key.sign(&random, message).expect("signed").as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let padding: &dyn ring::signature::RsaEncoding =
                    if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(padding, &random, message, &mut signature).expect("signed");
                signature
            }
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let algorithm = header["alg"].as_str().unwrap_or_default();
        format!("{signed}.{}", base64(self.sign(algorithm, signed.as_bytes())))
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": RESOURCE, "sub": "user", "client_id": "client", "scope": "op:add",
        "iat": NOW_SECONDS, "exp": NOW_SECONDS + 60, "jti": "1",
    })
}

fn header(algorithm: &str, kid: &str) -> Value {
    json!({"typ": "at+jwt", "alg": algorithm, "kid": kid})
}

/// `value` with some members replaced, or taken away by `null`.
fn but(mut value: Value, changes: Value) -> Value {
    for (name, change) in changes.as_object().expect("an object") {
        if change.is_null() {
            value.as_object_mut().expect("an object").remove(name);
        } else {
            value[name] = change.clone();
        }
    }
    value
}

fn verifier(stub: &Stub) -> JwtVerifier {
    let settings =
        JwtSettings { jwks_url: Some(stub.at("/jwks")), issuer: Issuer::new(ISSUER), audiences: audiences() };
    JwtVerifier::new(settings, Arc::new(Unobserved)).expect("valid settings")
}

async fn publishing(keys: Vec<Value>) -> Stub {
    Stub::always(move || Reply::json(json!({ "keys": keys }))).await
}

fn refused(why: &'static str) -> Verdict {
    Err(VerifyError::Inactive(Inactive::Jwt(why)))
}

const NO_KEY: &str = "the issuer has no such key";
const WRONG_SIGNATURE: &str = "the signature is wrong";

#[tokio::test]
async fn each_algorithm() {
    let (p256, ed25519, rsa) = (Signer::p256(), Signer::ed25519(), Signer::rsa());
    let stub = publishing(vec![
        json!({"kty": "oct", "k": "AAAA", "kid": "1"}),
        json!({"kty": "EC", "crv": "P-521", "kid": "1"}),
        json!("not a key"),
        p256.jwk(json!({"kid": "1", "use": "sig", "alg": "ES256"})),
        ed25519.jwk(json!({"kid": "2", "key_ops": ["verify"]})),
        rsa.jwk(json!({"kid": "3"})),
    ])
    .await;
    let verifier = verifier(&stub);
    for (signer, algorithm, kid) in
        [(&p256, "ES256", "1"), (&ed25519, "EdDSA", "2"), (&rsa, "RS256", "3"), (&rsa, "PS256", "3")]
    {
        let token = signer.token(&header(algorithm, kid), &claims());
        let verified = verifier.verify(&bearer(&token), now()).await.expect(algorithm);
        assert_eq!((verified.principal(), verified.scopes.to_string().as_str()), ("user", "op:add"));
        assert_eq!(verified.expires_at, Some(now() + Duration::from_secs(60)));

        // Every part of the token is under the signature.
        for part in 0..3 {
            let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&parts[part]).expect("base64url");
            let place = bytes.len() - 3;
            bytes[place] ^= 1;
            parts[part] = base64(bytes);
            let verdict = verifier.verify(&bearer(&parts.join(".")), now()).await;
            assert!(matches!(verdict, Err(VerifyError::Inactive(Inactive::Jwt(_)))), "{algorithm} {part}: {verdict:?}");
        }
        // A key ID is not needed where only one key suits.
        let token = signer.token(&but(header(algorithm, ""), json!({"kid": null})), &claims());
        assert!(verifier.verify(&bearer(&token), now()).await.is_ok());
    }
    assert_eq!(stub.count(), 1, "keys are fetched once");
}

#[tokio::test]
async fn headers() {
    let key = Signer::p256();
    let stub = publishing(vec![key.jwk(json!({"kid": "1"}))]).await;
    let verifier = verifier(&stub);
    let not_at_jwt = Some("its type is not at+jwt");
    let not_accepted = Some("its algorithm is not accepted");
    let critical = Some("it has critical extensions");
    let cases = [
        (json!({}), None),
        (json!({"typ": "AT+JWT"}), None),
        (json!({"typ": "application/at+jwt"}), None),
        (json!({"typ": "JWT"}), not_at_jwt),
        (json!({"typ": "id_token+jwt"}), not_at_jwt),
        (json!({"typ": ""}), not_at_jwt),
        (json!({"typ": null}), not_at_jwt),
        (json!({"typ": 1}), Some("the header is malformed")),
        (json!({"alg": "none"}), not_accepted),
        (json!({"alg": "None"}), not_accepted),
        (json!({"alg": "HS256"}), not_accepted),
        (json!({"alg": "ES384"}), not_accepted),
        (json!({"alg": "es256"}), not_accepted),
        (json!({"alg": null}), Some("the header is malformed")),
        (json!({"crit": ["exp"]}), critical),
        (json!({"crit": []}), critical),
        (json!({"kid": "2"}), Some(NO_KEY)),
        (json!({"kid": 1}), Some("the header is malformed")),
        // What a token brings to verify itself with is not looked at.
        (json!({"jwk": key.jwk(json!({})), "jku": "http://127.0.0.1:1/", "kid": "3"}), Some(NO_KEY)),
        (json!({"alg": "RS256"}), Some(NO_KEY)),
        (json!({"alg": "EdDSA"}), Some(NO_KEY)),
    ];
    for (changes, expected) in cases {
        let token = key.token(&but(header("ES256", "1"), changes.clone()), &claims());
        let verdict = verifier.verify(&bearer(&token), now()).await;
        match expected {
            None => assert!(verdict.is_ok(), "{changes}: {verdict:?}"),
            Some(why) => assert_eq!(verdict, refused(why), "{changes}"),
        }
    }
    let null_crit = r#"{"typ":"at+jwt","alg":"ES256","kid":"1","crit":null}"#;
    let twice = r#"{"typ":"at+jwt","alg":"none","alg":"ES256","kid":"1"}"#;
    for (header, why) in [
        (null_crit, "it has critical extensions"),
        (twice, "the header is malformed"),
        (r#"["ES256","at+jwt","1"]"#, "the header is not a JSON object"),
    ] {
        let signed = format!("{}.{}", base64(header), base64(claims().to_string()));
        let token = format!("{signed}.{}", base64(key.sign("ES256", signed.as_bytes())));
        assert_eq!(verifier.verify(&bearer(&token), now()).await, refused(why), "{header}");
    }
}

#[tokio::test]
async fn claims_are_judged() {
    use Inactive::{Audience, Expired, Issuer, NoExpiry, NoPrincipal, NotBearer, NotYetValid};
    let key = Signer::ed25519();
    let stub = publishing(vec![key.jwk(json!({"kid": "1"}))]).await;
    let verifier = verifier(&stub);
    let cases = [
        (json!({}), None),
        (json!({"aud": ["urn:other", RESOURCE]}), None),
        (json!({"aud": "urn:other"}), Some(Audience)),
        (json!({"aud": null}), Some(Audience)),
        (json!({"iss": null}), Some(Issuer)),
        (json!({"iss": format!("{ISSUER}/")}), Some(Issuer)),
        (json!({"exp": null}), Some(NoExpiry)),
        (json!({"exp": NOW_SECONDS}), Some(Expired)),
        (json!({"exp": "never"}), Some(Inactive::Jwt("exp is not a number"))),
        (json!({"nbf": NOW_SECONDS + 30}), None),
        (json!({"nbf": NOW_SECONDS + 31}), Some(NotYetValid)),
        (json!({"cnf": {"jkt": "x"}}), Some(NotBearer)),
        (json!({"sub": null, "client_id": null}), Some(NoPrincipal)),
    ];
    for (changes, expected) in cases {
        let token = key.token(&header("EdDSA", "1"), &but(claims(), changes.clone()));
        let verdict = verifier.verify(&bearer(&token), now()).await;
        assert_eq!(verdict.err(), expected.map(VerifyError::Inactive), "{changes}");
    }
    let not_an_object = key.token(&header("EdDSA", "1"), &json!("claims"));
    assert_eq!(verifier.verify(&bearer(&not_an_object), now()).await, refused("its claims are not a JSON object"));
}

#[tokio::test]
async fn what_is_not_a_signed_jwt() {
    let key = Signer::p256();
    let stub = publishing(vec![key.jwk(json!({"kid": "1"}))]).await;
    let verifier = verifier(&stub);
    let token = key.token(&header("ES256", "1"), &claims());
    let unsigned = token.rsplit_once('.').expect("three parts").0;
    for (text, why) in [
        ("opaque".to_owned(), "not three parts"),
        ("a.b".to_owned(), "not three parts"),
        (unsigned.to_owned(), "not three parts"),
        (format!("{token}.a.b"), "not three parts"),
        (format!("{unsigned}."), WRONG_SIGNATURE),
        (format!("{unsigned}.{}", base64([0; 64])), WRONG_SIGNATURE),
        (format!("{token}="), "a part is not base64url"),
        (token.replacen('.', "+.", 1), "a part is not base64url"),
    ] {
        assert_eq!(verifier.verify(&bearer(&text), now()).await, refused(why), "{text}");
    }
}

#[tokio::test]
async fn public_key_is_no_shared_secret_and_no_key_serves_two_purposes() {
    let (p256, rsa) = (Signer::p256(), Signer::rsa());
    let rsa_jwk = rsa.jwk(json!({"kid": "rsa", "alg": "RS256"}));
    let stub = publishing(vec![
        rsa_jwk.clone(),
        p256.jwk(json!({"kid": "enc", "use": "enc"})),
        p256.jwk(json!({"kid": "sign", "key_ops": ["sign"]})),
        p256.jwk(json!({"kid": "alg", "alg": "ES384"})),
        p256.jwk(json!({"kid": "mixed", "alg": "RS256"})),
        p256.jwk(json!({"kid": "crv", "crv": "secp256k1"})),
        p256.jwk(json!({"kid": "kty", "kty": "OKP"})),
        p256.jwk(json!({"kid": "short", "x": base64([1; 31])})),
        p256.jwk(json!({"kid": "point", "x": base64([1; 32])})),
    ])
    .await;
    let verifier = verifier(&stub);
    for kid in ["enc", "sign", "alg", "mixed", "crv", "kty", "short"] {
        let token = p256.token(&header("ES256", kid), &claims());
        assert_eq!(verifier.verify(&bearer(&token), now()).await, refused(NO_KEY), "{kid}");
    }
    let token = p256.token(&header("ES256", "point"), &claims());
    assert_eq!(verifier.verify(&bearer(&token), now()).await, refused(WRONG_SIGNATURE));

    // A key that says RS256 is not for PS256.
    assert!(verifier.verify(&bearer(&rsa.token(&header("RS256", "rsa"), &claims())), now()).await.is_ok());
    let token = rsa.token(&header("PS256", "rsa"), &claims());
    assert_eq!(verifier.verify(&bearer(&token), now()).await, refused(NO_KEY));

    // The classic: HMAC with the public key's bytes.
    let signed = format!("{}.{}", base64(header("HS256", "rsa").to_string()), base64(claims().to_string()));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, rsa_jwk["n"].as_str().expect("text").as_bytes());
    let token = format!("{signed}.{}", base64(hmac::sign(&secret, signed.as_bytes())));
    assert_eq!(verifier.verify(&bearer(&token), now()).await, refused("its algorithm is not accepted"));
    // And a bare hash, as `none` has been mistaken for.
    let token = format!("{signed}.{}", base64(digest::digest(&digest::SHA256, signed.as_bytes())));
    assert_eq!(verifier.verify(&bearer(&token), now()).await, refused("its algorithm is not accepted"));
}

#[tokio::test]
async fn rsa_keys_of_other_sizes_are_refused() {
    let rsa = Signer::rsa();
    for (bytes, why) in [(128, NO_KEY), (255, NO_KEY), (256, WRONG_SIGNATURE), (1024, WRONG_SIGNATURE), (1025, NO_KEY)]
    {
        let odd = rsa.jwk(json!({"kid": "odd", "n": base64(vec![0xff; bytes])}));
        let stub = publishing(vec![odd, rsa.jwk(json!({"kid": "1"}))]).await;
        let token = rsa.token(&header("RS256", "odd"), &claims());
        assert_eq!(verifier(&stub).verify(&bearer(&token), now()).await, refused(why), "{bytes}");
    }
}

#[tokio::test]
async fn token_is_not_shown() {
    let key = Signer::ed25519();
    let stub = publishing(vec![key.jwk(json!({"kid": "1"}))]).await;
    let verifier = verifier(&stub);
    let shown = Mutex::new(String::new());
    for (head, body) in [
        (json!({"typ": "canary", "alg": "EdDSA"}), claims()),
        (json!({"typ": "at+jwt", "alg": "canary"}), claims()),
        (header("EdDSA", "canary"), claims()),
        (header("EdDSA", "1"), but(claims(), json!({"sub": ["canary"]}))),
        (header("EdDSA", "1"), but(claims(), json!({"aud": "canary", "iss": "canary"}))),
    ] {
        let token = key.token(&head, &body);
        let error = verifier.verify(&bearer(&token), now()).await.expect_err("refused");
        let text = format!("{error} {error:?}");
        assert!(token.split('.').all(|part| !text.contains(part)), "{text}");
        lock(&shown).push_str(&text);
    }
    assert!(!lock(&shown).contains("canary"));
}

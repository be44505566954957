//! Keys and access tokens of the fake authorization server's JWT profile (RFC 9068).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::{self, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RsaEncoding,
    },
};
use serde_json::{Value, json};

/// A key that signs access tokens.
pub(crate) struct SigningKey {
    pub(crate) kid: String,
    pair: Pair,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rsa(rsa::KeyPair, &'static str),
}

/// ring makes no RSA keys, so the verifier's own tests bring one.
const RSA_KEY: &[u8] = include_bytes!("../../bridge/src/token/jwt/rsa-2048-for-tests.pk8");

impl SigningKey {
    pub(crate) fn es256(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a new key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self { kid: kid.to_owned(), pair: Pair::Es256(pair.expect("the key just made")) }
    }

    pub(crate) fn eddsa(kid: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a new key");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref());
        Self { kid: kid.to_owned(), pair: Pair::EdDsa(pair.expect("the key just made")) }
    }

    /// An RSA key for RS256, PS256, or the RS512 that nobody should accept.
    pub(crate) fn rsa(kid: &str, algorithm: &'static str) -> Self {
        let pair = rsa::KeyPair::from_pkcs8(RSA_KEY).expect("a good key");
        Self { kid: kid.to_owned(), pair: Pair::Rsa(pair, algorithm) }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::EdDsa(_) => "EdDSA",
            Pair::Rsa(_, algorithm) => algorithm,
        }
    }

    /// The public half, as a JWK set has it (RFC 7517).
    pub(crate) fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Es256(pair) => {
                // An uncompressed point: 0x04, x, y.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({
                    "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
                    "x": encode(x), "y": encode(y),
                })
            }
            Pair::EdDsa(pair) => json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.kid,
                "x": encode(pair.public_key()),
            }),
            Pair::Rsa(pair, _) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "use": "sig", "kid": self.kid, "n": encode(public.n), "e": encode(public.e) })
            }
        }
    }

    /// The header that a token signed with this key has.
    pub(crate) fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": self.algorithm(), "kid": self.kid })
    }

    /// Signs `claims` under `header`, whatever that says.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let input = signing_input(header, claims);
        let signature = match &self.pair {
            Pair::Es256(pair) => {
                pair.sign(&SystemRandom::new(), input.as_bytes()).expect("a signature").as_ref().to_vec()
            }
            Pair::EdDsa(pair) => pair.sign(input.as_bytes()).as_ref().to_vec(),
            Pair::Rsa(pair, algorithm) => {
                let encoding: &dyn RsaEncoding = match *algorithm {
                    "PS256" => &RSA_PSS_SHA256,
                    "RS512" => &RSA_PKCS1_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), input.as_bytes(), &mut signature).expect("a signature");
                signature
            }
        };
        format!("{input}.{}", encode(signature))
    }

    /// A token that an attacker makes who takes our public key for a shared secret.
    pub(crate) fn sign_with_public_key_as_secret(&self, claims: &Value) -> String {
        let header = json!({ "typ": "at+jwt", "alg": "HS256", "kid": self.kid });
        let input = signing_input(&header, claims);
        let secret = match &self.pair {
            Pair::Es256(pair) => pair.public_key().as_ref().to_vec(),
            Pair::EdDsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair, _) => pair.public().as_ref().to_vec(),
        };
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        format!("{input}.{}", encode(ring::hmac::sign(&key, input.as_bytes())))
    }
}

/// A token that nobody signed.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.", signing_input(header, claims))
}

fn signing_input(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header.to_string()), encode(claims.to_string()))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

//! Signed JWTs (RFC 7515 compact serialisation) and the keys that verify them (RFC 7517).
//!
//! Signatures are verified by `ring`, which TLS brings anyway. Which algorithm may be used with
//! which key follows from the key's type, so a token cannot choose how it is verified: there is no
//! symmetric algorithm and no `none` to choose.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// Shorter RSA keys can be broken (RFC 7518 §3.3), longer ones are a way to make us calculate.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 2048 / 8..=8192 / 8;

/// The algorithms that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Es256,
    Rs256,
    Ps256,
    EdDsa,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// A JWT access token taken apart; nothing of it is to be believed before [`Key::verifies`].
#[derive(Debug)]
pub(super) struct Jws<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) payload: Vec<u8>,
    signed: &'t str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// True for a member that is there, whatever its value.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'t> Jws<'t> {
    /// Takes `token` apart. The error says what is wrong, in words that hold nothing of the token.
    pub(super) fn parse(token: &'t str) -> Result<Self, &'static str> {
        let (signed, signature) = token.rsplit_once('.').ok_or("not three parts")?;
        let (header, payload) = signed.split_once('.').ok_or("not three parts")?;
        if payload.contains('.') {
            return Err("not three parts");
        }
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part is not base64url");
        let header = decode(header)?;
        if header.first() != Some(&b'{') {
            return Err("the header is not a JSON object");
        }
        let header: Header = serde_json::from_slice(&header).map_err(|_| "the header is malformed")?;
        if header.crit {
            return Err("it has critical extensions");
        }
        if !header.typ.as_deref().is_some_and(is_access_token_type) {
            return Err("its type is not at+jwt");
        }
        let algorithm = Algorithm::named(&header.alg).ok_or("its algorithm is not accepted")?;
        Ok(Self { algorithm, kid: header.kid, payload: decode(payload)?, signed, signature: decode(signature)? })
    }
}

/// RFC 9068 §4; media types compare in any case, and `application/` may be left out.
fn is_access_token_type(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}

/// A public key for verifying signatures.
#[derive(Debug)]
pub(super) struct Key {
    kid: Option<String>,
    /// The one algorithm that the key's owner allows; without it, what the type allows.
    only: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    /// Reads one JWK; `None` for one that is not for verifying signatures by an accepted algorithm.
    pub(super) fn from_jwk(json: &str) -> Option<Self> {
        if !json.starts_with('{') {
            return None;
        }
        let jwk: Jwk = serde_json::from_str(json).ok()?;
        if jwk.usage.is_some_and(|usage| usage != "sig") {
            return None;
        }
        if jwk.key_ops.is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return None;
        }
        let bytes = |text: Option<String>| BASE64_URL_SAFE_NO_PAD.decode(text?).ok();
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", None) => {
                let (n, e) = (positive(bytes(jwk.n)?)?, positive(bytes(jwk.e)?)?);
                if !RSA_BYTES.contains(&n.len()) {
                    return None;
                }
                Material::Rsa { n, e }
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(jwk.x)?, bytes(jwk.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Material::P256([&[4], &x[..], &y[..]].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(jwk.x).filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let only = match jwk.alg {
            Some(name) => Some(Algorithm::named(&name).filter(|algorithm| material.suits(*algorithm))?),
            None => None,
        };
        Some(Self { kid: jwk.kid, only, material })
    }

    /// Whether this is a key to try: the token's key ID, and an algorithm that the key is for.
    pub(super) fn suits(&self, jws: &Jws<'_>) -> bool {
        let kid = jws.kid.is_none() || self.kid == jws.kid;
        kid && self.material.suits(jws.algorithm) && self.only.is_none_or(|only| only == jws.algorithm)
    }

    /// Whether the signature is this key's.
    pub(super) fn verifies(&self, jws: &Jws<'_>) -> bool {
        let (message, signature) = (jws.signed.as_bytes(), jws.signature.as_slice());
        let verified = match (&self.material, jws.algorithm) {
            (Material::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Material::Ed25519(key), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
            }
            (Material::Rsa { n, e }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Material::Rsa { n, e }, Algorithm::Ps256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature)
            }
            _ => return false,
        };
        self.suits(jws) && verified.is_ok()
    }
}

impl Material {
    fn suits(&self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::P256(_), Algorithm::Es256)
                | (Self::Ed25519(_), Algorithm::EdDsa)
                | (Self::Rsa { .. }, Algorithm::Rs256 | Algorithm::Ps256)
        )
    }
}

/// `bytes` as ring wants an integer: without the leading zeros that some servers send.
fn positive(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let first = bytes.iter().position(|&byte| byte != 0)?;
    Some(bytes[first..].to_vec())
}

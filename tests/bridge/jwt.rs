//! Access tokens that are signed JWTs (RFC 9068), verified with the issuer's keys.

use serde_json::{Value, json};

use crate::{
    common::{
        authorization_server::{AuthorizationServer, Fault},
        bridge::{Bridge, CommandLine},
        http::{Request, Response},
        jwt::{self, SigningKey},
        mcp, unix_now, wait_until,
        world::ALL_SCOPES,
    },
    introspection::assert_unavailable,
};

/// A bridge that verifies JWTs, and the keys it should trust.
struct Signed {
    server: AuthorizationServer,
    bridge: Bridge,
    es256: SigningKey,
    eddsa: SigningKey,
}

impl Signed {
    fn start() -> Self {
        Self::with(|line| line)
    }

    fn with(more: impl FnOnce(CommandLine) -> CommandLine) -> Self {
        let server = AuthorizationServer::start();
        let (es256, eddsa) = (SigningKey::es256("ec-1"), SigningKey::eddsa("ed-1"));
        server.set_keys(vec![es256.jwk(), eddsa.jwk()]);
        let line = CommandLine::serve().flag("--auth", "jwt").flag("--issuer", server.issuer());
        let bridge = more(line.flag("--rate-limit", "0")).spawn();
        Self { server, bridge, es256, eddsa }
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.server.issuer(),
            "aud": self.bridge.resource(),
            "sub": "user-1",
            "client_id": "client-1",
            "scope": ALL_SCOPES,
            "jti": "1",
            "iat": unix_now() - 10,
            "exp": unix_now() + 600,
        })
    }

    fn changed(&self, name: &str, value: Option<Value>) -> Value {
        let mut claims = self.claims();
        let members = claims.as_object_mut().expect("claims are an object");
        match value {
            Some(value) => members.insert(name.to_owned(), value),
            None => members.remove(name),
        };
        claims
    }

    fn call(&self, token: &str) -> Response {
        self.bridge.send(&mcp::call("add").bearer(token))
    }

    /// A good call, and the proof that only good calls ran.
    fn control(&self, runs: &mut usize) {
        *runs += 1;
        let mut claims = self.claims();
        claims["sub"] = "control".into();
        self.call(&self.es256.sign(&self.es256.header(), &claims)).expect(200, "control");
    }

    fn check_refused(&self, case: &str, token: &str, controls: &mut usize) {
        let response = self.call(token).expect(401, case);
        let challenge = crate::common::challenge::Challenge::of(&response);
        assert_eq!(challenge.get("error"), Some("invalid_token"), "{case}");
        self.control(controls);
        assert_eq!(self.bridge.runs_before("control", *controls), 0, "the tool ran: {case}");
    }
}

#[test]
fn good_tokens_are_accepted() {
    let signed = Signed::start();
    let resource = signed.bridge.resource().to_owned();
    let claims = [
        ("plain", signed.claims()),
        ("several audiences", signed.changed("aud", Some(json!(["https://other.example", resource])))),
        ("nbf in the past", signed.changed("nbf", Some(json!(unix_now() - 5)))),
        ("subject is the client", signed.changed("sub", Some(json!("client-1")))),
        ("more claims", signed.changed("groups", Some(json!(["a", { "b": 1 }])))),
    ];
    for (case, claims) in claims {
        for key in [&signed.es256, &signed.eddsa] {
            let response = signed.call(&key.sign(&key.header(), &claims)).expect(200, case);
            assert_eq!(mcp::text(&response.json()), "9", "{case}");
        }
    }
    let long_type = json!({ "typ": "application/at+jwt", "alg": "ES256", "kid": "ec-1" });
    signed.call(&signed.es256.sign(&long_type, &signed.claims())).expect(200, "application/at+jwt");
    assert_eq!(signed.server.question_count(), 0, "nobody is asked about a JWT");
    assert_eq!(signed.server.key_requests(), 1, "the keys are kept");
}

/// ES256, RS256, PS256, EdDSA, and nothing else, however good the signature.
#[test]
fn algorithms() {
    let signed = Signed::start();
    let keys = [("RS256", 200), ("PS256", 200), ("RS512", 401)]
        .map(|(algorithm, status)| (SigningKey::rsa(&format!("key-{algorithm}"), algorithm), status));
    let own = SigningKey::es256("ec-1");
    signed.server.set_keys(keys.iter().map(|(key, _)| key.jwk()).chain([own.jwk()]).collect());
    for (key, status) in &keys {
        signed.call(&key.sign(&key.header(), &signed.claims())).expect(*status, key.algorithm());
    }
    let (rs256, _) = &keys[0];
    let claims = signed.claims();
    let confused = rs256.sign_with_public_key_as_secret(&claims);
    signed.call(&confused).expect(401, "public RSA key as shared secret");
    // A key says what it is for: PS256 with a key published for RS256 is another signature.
    let mut jwk = rs256.jwk();
    jwk["alg"] = "RS256".into();
    let bound = Signed::start();
    bound.server.set_keys(vec![jwk]);
    let crossed = SigningKey::rsa("key-RS256", "PS256");
    let mut claims = bound.claims();
    claims["aud"] = bound.bridge.resource().into();
    bound.call(&crossed.sign(&crossed.header(), &claims)).expect(401, "PS256 by a key for RS256");
}

#[test]
fn one_claim_decides() {
    let signed = Signed::start();
    let resource = signed.bridge.resource().to_owned();
    let now = unix_now();
    let mut controls = 0;
    let cases = [
        ("iss", None),
        ("iss", Some(json!("https://other.example"))),
        ("iss", Some(json!(format!("{}/", signed.server.issuer())))),
        ("aud", None),
        ("aud", Some(json!(""))),
        ("aud", Some(json!([]))),
        ("aud", Some(json!("https://other.example/mcp"))),
        ("aud", Some(json!(format!("{resource}/")))),
        ("exp", None),
        ("exp", Some(json!(now - 120))),
        ("exp", Some(json!("later"))),
        ("nbf", Some(json!(now + 120))),
        ("cnf", Some(json!({ "jkt": "x" }))),
    ];
    for (name, value) in cases {
        let case = format!("{name} = {value:?}");
        let token = signed.es256.sign(&signed.es256.header(), &signed.changed(name, value));
        signed.check_refused(&case, &token, &mut controls);
    }
}

#[test]
fn headers_and_signatures_that_prove_nothing() {
    let signed = Signed::start();
    let claims = signed.claims();
    let key = &signed.es256;
    let good = key.sign(&key.header(), &claims);
    let impostor = SigningKey::es256("ec-1");
    let (head, rest) = good.split_once('.').expect("a JWT");
    let (_, signature) = rest.split_once('.').expect("a JWT");
    let other_payload = key.sign(&key.header(), &signed.changed("sub", Some(json!("admin"))));
    let tampered = format!("{head}.{}.{signature}", other_payload.split('.').nth(1).expect("a JWT"));
    let header = |members: Value| key.sign(&members, &claims);
    let mut controls = 0;
    let cases = [
        ("unsigned", jwt::unsigned(&json!({ "typ": "at+jwt", "alg": "none" }), &claims)),
        ("unsigned, known key", jwt::unsigned(&json!({ "typ": "at+jwt", "alg": "none", "kid": "ec-1" }), &claims)),
        ("signature cut off", good.rsplit_once('.').map(|(input, _)| format!("{input}.")).expect("a JWT")),
        ("another payload", tampered),
        ("another key of the same name", impostor.sign(&impostor.header(), &claims)),
        ("public key as shared secret", key.sign_with_public_key_as_secret(&claims)),
        ("an ID token", header(json!({ "typ": "JWT", "alg": "ES256", "kid": "ec-1" }))),
        ("no type", header(json!({ "alg": "ES256", "kid": "ec-1" }))),
        ("another algorithm's name", header(json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "ec-1" }))),
        ("another key's name", header(json!({ "typ": "at+jwt", "alg": "ES256", "kid": "ed-1" }))),
        ("an unknown key", header(json!({ "typ": "at+jwt", "alg": "ES256", "kid": "nobody" }))),
        (
            "a key of its own",
            impostor.sign(&json!({ "typ": "at+jwt", "alg": "ES256", "kid": "x", "jwk": impostor.jwk() }), &claims),
        ),
        (
            "critical extension",
            header(json!({ "typ": "at+jwt", "alg": "ES256", "kid": "ec-1", "crit": ["x"], "x": 1 })),
        ),
        ("not a JWT", "opaque-token".to_owned()),
        ("two parts", good.rsplit_once('.').map(|(input, _)| input.to_owned()).expect("a JWT")),
        ("five parts", format!("{good}.a.b")),
        ("no base64", "a.b.c".to_owned()),
    ];
    for (case, token) in cases {
        signed.check_refused(case, &token, &mut controls);
    }
}

#[test]
fn keys_that_are_not_for_signatures_are_not_used() {
    let signed = Signed::start();
    let encryption = SigningKey::es256("enc");
    let mut jwk = encryption.jwk();
    jwk["use"] = "enc".into();
    signed.server.set_keys(vec![jwk, signed.es256.jwk()]);
    let token = encryption.sign(&encryption.header(), &signed.claims());
    signed.check_refused("use = enc", &token, &mut 0);
}

/// Fetching for every unknown key would let a stranger flood the authorization server.
#[test]
fn unknown_keys_cause_few_fetches() {
    let signed = Signed::start();
    signed.call(&signed.es256.sign(&signed.es256.header(), &signed.claims())).expect(200, "a known key");
    for number in 0..30 {
        let stranger = SigningKey::es256(&format!("stranger-{number}"));
        let status = signed.call(&stranger.sign(&stranger.header(), &signed.claims())).status;
        assert!(matches!(status, 401 | 503), "{status}");
    }
    let fetched = signed.server.key_requests();
    assert!(fetched <= 3, "{fetched} fetches for 30 unknown keys");
    signed.call(&signed.es256.sign(&signed.es256.header(), &signed.claims())).expect(200, "still a known key");
}

#[test]
fn scopes_count_as_with_introspection() {
    let signed = Signed::start();
    for (scope, status) in [(json!("op:add"), 200), (json!("op:div"), 403), (json!(""), 403)] {
        let token = signed.es256.sign(&signed.es256.header(), &signed.changed("scope", Some(scope.clone())));
        signed.call(&token).expect(status, &scope.to_string());
    }
    let token = signed.es256.sign(&signed.es256.header(), &signed.changed("scope", None));
    signed.call(&token).expect(403, "no scope");
}

#[test]
fn an_accepted_audience_is_accepted_here_too() {
    let signed = Signed::with(|line| line.flag("--accepted-audience", "urn:calculator"));
    let token = signed.es256.sign(&signed.es256.header(), &signed.changed("aud", Some(json!("urn:calculator"))));
    signed.call(&token).expect(200, "an accepted audience");
}

#[test]
fn without_keys_nobody_is_judged() {
    let signed = Signed::start();
    signed.server.fail(Fault::Status(500));
    let token = signed.es256.sign(&signed.es256.header(), &signed.claims());
    let response = signed.call(&token);
    // The keys may have been fetched at start.
    if response.status != 200 {
        assert_unavailable("no keys", &response);
    }
    signed.server.fail(None);
    wait_until("the keys come", || signed.call(&token).status == 200);
}

#[test]
fn readiness_follows_the_keys() {
    let signed = Signed::start();
    let ready = |signed: &Signed| signed.bridge.send(&Request::get("/readyz")).status;
    assert_eq!(ready(&signed), 200);
    let server = AuthorizationServer::start();
    server.hide_metadata(true);
    let bridge = CommandLine::serve().flag("--auth", "jwt").flag("--issuer", server.issuer()).spawn();
    let body = bridge.send(&Request::get("/readyz")).expect(503, "no keys").json();
    assert!(body["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{body}");
    let key = SigningKey::es256("ec-1");
    server.set_keys(vec![key.jwk()]);
    server.hide_metadata(false);
    wait_until("the keys are found", || bridge.send(&Request::get("/readyz")).status == 200);
}

#[test]
fn keys_can_be_named_without_metadata() {
    let server = AuthorizationServer::start();
    server.hide_metadata(true);
    let key = SigningKey::es256("ec-1");
    server.set_keys(vec![key.jwk()]);
    let line = CommandLine::serve().flag("--auth", "jwt").flag("--issuer", server.issuer());
    let bridge = line.flag("--jwks-url", format!("{}/jwks", server.issuer())).spawn();
    let claims = json!({
        "iss": server.issuer(), "aud": bridge.resource(), "sub": "u", "client_id": "c",
        "scope": "op:add", "iat": unix_now(), "exp": unix_now() + 60,
    });
    bridge.send(&mcp::call("add").bearer(&key.sign(&key.header(), &claims))).expect(200, "named keys");
}

/// RFC 8414 §3.3, with keys: whoever may name the keys may sign tokens.
#[test]
fn keys_of_another_issuers_metadata_are_not_used() {
    let server = AuthorizationServer::start();
    let key = SigningKey::es256("ec-1");
    server.set_keys(vec![key.jwk()]);
    server.claim_issuer("https://other.example");
    let bridge = CommandLine::serve().flag("--auth", "jwt").flag("--issuer", server.issuer()).spawn();
    let claims = json!({
        "iss": server.issuer(), "aud": bridge.resource(), "sub": "u", "client_id": "c",
        "scope": "op:add", "iat": unix_now(), "exp": unix_now() + 60,
    });
    let response = bridge.send(&mcp::call("add").bearer(&key.sign(&key.header(), &claims)));
    assert_unavailable("another issuer", &response);
}

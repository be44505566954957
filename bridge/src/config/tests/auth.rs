//! Who decides about tokens, and where our own secret comes from.

use super::*;

#[test]
fn nothing_about_authorization_means_our_own_authorization_server() {
    let Loaded { config, warnings, report, .. } = good(&[("state-dir", "/s")], &[]);
    let Auth::Embedded(embedded) = config.auth else { panic!("nothing else is set up") };
    assert_eq!((embedded.state_dir.to_str(), embedded.approve), (Some("/s"), Approve::Passphrase));
    assert!(!embedded.registration_window && embedded.redirect_schemes.is_empty() && embedded.scopes.is_empty());
    assert_eq!(warnings, [""; 0]);
    let row = report.rows.iter().find(|row| row.key == "auth").expect("every setting has a row");
    assert_eq!((row.value.as_str(), row.source.as_str()), ("embedded", "because nothing else is set up"));
}

#[test]
fn how_the_embedded_authorization_server_works() {
    let files = Files::new();
    let path = files.put(
        "bridge.toml",
        "approve = \"terminal\"\nregistration = \"window\"\nredirect_scheme = [\"com.example.app\"]\n[scopes]\n\
         \"op:add\" = \"Add things\"\n",
    );
    let config = good(&[("config", &path), ("state-dir", "/s"), ("public-url", "https://h.example")], &[]).config;
    let Auth::Embedded(embedded) = config.auth else { panic!("nothing else is set up") };
    assert_eq!((embedded.approve, embedded.registration_window), (Approve::Terminal, true));
    assert_eq!(embedded.redirect_schemes, ["com.example.app"]);
    assert_eq!(embedded.scopes["op:add"], "Add things");
    // It is explicit, so what is for other modes is only warned about.
    let warnings = good(&[("auth", "embedded"), ("state-dir", "/s"), ("require-exp", "true")], &PROPELAUTH).warnings;
    assert!(warnings.len() == 2 && warnings.iter().all(|text| text.contains("auth is embedded")), "{warnings:?}");
    let warnings = good(&[("config", &path), ("auth", "none")], &[]).warnings;
    assert_eq!(warnings.len(), 3, "descriptions harm nobody: {warnings:?}");
}

#[test]
fn what_the_embedded_authorization_server_cannot_work_with() {
    let state = ("state-dir", "/s");
    check(&[("state-dir", "")], &[], &["--state-dir: is empty"]);
    check(&[state, ("public-url", "https://h.example/base")], &[], &["--public-url: the embedded"]);
    check(&[state, ("path", "/account")], &[], &["--path: `/account` is a path of the embedded"]);
    check(&[state, ("path", "/account/x")], &[], &["--path: `/account/x` is a path of the embedded"]);
    check(&[state, ("approve", "x")], &[], &["--approve: `x` is not a way to sign in"]);
    check(&[state, ("registration", "x")], &[], &["--registration: `x` is not a way"]);
    check(&[state, ("redirect-scheme", "https")], &[], &["--redirect-scheme: `https` is no private"]);
    check(&[state, ("redirect-scheme", "My App")], &[], &["--redirect-scheme: `My App` is not a URI scheme"]);
    check(&[state, ("listen", "0.0.0.0:8808")], &[], &["--listen: not a loopback address"]);
    let files = Files::new();
    let broken = |text: &str, expected: &str| {
        let path = files.put("bridge.toml", text);
        check(&[("config", &path), state], &[], &[expected]);
    };
    broken("scopes = 1", "`scopes` is a table");
    broken("[scopes]\n\"a b\" = \"x\"", "is not a scope");
    broken("[scopes]\na = \"\"", "a scope's description is one line");
    broken("[scopes]\na = 1", "a scope's description is one line");
}

#[test]
fn the_three_propelauth_variables_are_enough() {
    for url in ["https://auth.example.com", "https://auth.example.com/", "https://auth.example.com//"] {
        let Loaded { config, warnings, .. } = good(&[], &[("PROPELAUTH_AUTH_URL", url), PROPELAUTH[1], PROPELAUTH[2]]);
        let introspection = introspection(&config);
        assert_eq!(introspection.issuer.as_str(), "https://auth.example.com/oauth/2.1");
        let endpoint = introspection.endpoint.as_ref().map(Url::as_str);
        assert_eq!(endpoint, Some("https://auth.example.com/oauth/2.1/introspect"));
        assert_eq!(introspection.client_id, "bridge");
        assert_eq!(introspection.client_secret.expose(), "canary-secret");
        assert_eq!(introspection.cache.as_secs(), 15);
        assert!(!introspection.require_exp && introspection.accepted_audiences.is_empty());
        assert_eq!(warnings, [""; 0]);
    }
}

#[test]
fn our_own_settings_win_over_propelauth_each_by_itself() {
    let issuer = ("MCP_BRIDGE_ISSUER", "https://own.example.com");
    let Loaded { config, warnings, .. } = good(&[], &[&PROPELAUTH[..], &[issuer]].concat());
    assert!(
        warnings.len() == 1 && warnings[0].contains("https://auth.example.com/oauth/2.1/introspect"),
        "{warnings:?}"
    );
    let with = |own: &[(&'static str, &'static str)]| {
        let Loaded { config, warnings, .. } = good(&[], &[&PROPELAUTH[..], own].concat());
        assert_eq!(warnings, [""; 0]);
        config
    };
    assert_eq!(introspection(&config).issuer.as_str(), "https://own.example.com");
    assert_eq!(introspection(&config).client_id, "bridge");
    let config = with(&[("MCP_BRIDGE_INTROSPECTION_URL", "http://127.0.0.1:1/i")]);
    assert_eq!(introspection(&config).endpoint.as_ref().map(Url::as_str), Some("http://127.0.0.1:1/i"));
    let both = [("issuer", issuer.1), ("introspection-url", "https://own.example.com/i")];
    let config = good(&both, &[("PROPELAUTH_AUTH_URL", "leftover"), PROPELAUTH[1], PROPELAUTH[2]]).config;
    assert_eq!(introspection(&config).endpoint.as_ref().map(Url::as_str), Some("https://own.example.com/i"));
    let config = with(&[("MCP_BRIDGE_INTROSPECTION_CLIENT_ID", "own")]);
    assert_eq!(introspection(&config).client_id, "own");
    let config = with(&[("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", "own")]);
    assert_eq!(introspection(&config).client_secret.expose(), "own");
    let file = Files::new();
    let path = file.put("secret", "own\n");
    let config = good(&[("introspection-client-secret-file", &path)], &PROPELAUTH).config;
    assert_eq!(introspection(&config).client_secret.expose(), "own");
}

#[test]
fn what_is_missing_is_named() {
    let [url, id, secret] = PROPELAUTH;
    let url_missing = "PROPELAUTH_AUTH_URL is missing";
    let id_missing = "PROPELAUTH_INTROSPECTION_CLIENT_ID is missing";
    let secret_missing = "PROPELAUTH_INTROSPECTION_CLIENT_SECRET is missing";
    check(&[], &[url, id], &[secret_missing]);
    check(&[], &[url, secret], &[id_missing]);
    check(&[], &[id, secret], &[url_missing]);
    check(&[], &[secret], &[url_missing, id_missing]);
    check(&[], &[url], &[id_missing, secret_missing]);
    check(&[("introspection-client-id", "x")], &[url, secret], &[]);
    let no_issuer = "issuer is missing; set --issuer or MCP_BRIDGE_ISSUER";
    let no_id = "introspection_client_id is missing; set --introspection-client-id";
    let no_secret = "introspection_client_secret is missing; set MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET, or \
                     MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET_FILE";
    check(&[("auth", "introspection")], &[], &[no_issuer, no_id, no_secret]);
    check(&[("issuer", "https://a.example")], &[], &[no_id, no_secret]);
    check(&[], &[("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", "x")], &[no_issuer, no_id]);
    check(&[("auth", "jwt")], &[], &[no_issuer]);
    check(&[("jwks-url", "https://a.example/jwks")], &[], &["--jwks-url: it is for signed tokens"]);
    let jwt = [("auth", "jwt"), ("issuer", "https://a.example"), ("jwks-url", "ftp://a.example")];
    check(&jwt, &[], &["--jwks-url: the scheme `ftp`"]);
    // A wrong value is one problem, not a missing one as well.
    check(&[("issuer", "a"), ("introspection-client-id", "x")], &[secret], &["--issuer: not a URL"]);
    check(&[], &[("PROPELAUTH_AUTH_URL", ""), id, secret], &["PROPELAUTH_AUTH_URL: not a URL"]);
    check(&[], &[url, ("PROPELAUTH_INTROSPECTION_CLIENT_ID", ""), secret], &["CLIENT_ID: is empty"]);
    check(&[], &[url, id, ("PROPELAUTH_INTROSPECTION_CLIENT_SECRET", "")], &["CLIENT_SECRET: is empty"]);
}

#[test]
fn jwt_mode() {
    let written =
        [("auth", "jwt"), ("issuer", "https://a.example/"), ("accepted-audience", "a"), ("accepted-audience", "b")];
    let Auth::Jwt(jwt) = good(&written, &[]).config.auth else { panic!("jwt was asked for") };
    assert_eq!((jwt.issuer.as_str(), jwt.jwks_url), ("https://a.example/", None));
    assert_eq!(jwt.accepted_audiences, ["a", "b"]);
}

/// People paste the URL of the endpoint where its origin is asked for.
#[test]
fn a_public_url_with_the_path_in_it_is_warned_about() {
    let jwt = [("auth", "jwt"), ("issuer", "https://as.example")];
    let warnings = |url| good(&[jwt[0], jwt[1], ("public-url", url)], &[]).warnings;
    assert_eq!(warnings("https://h.example/base"), [""; 0]);
    let found = warnings("https://h.example/mcp");
    assert!(found.len() == 1 && found[0].contains("https://h.example/mcp/mcp"), "{found:?}");
}

#[test]
fn what_a_mode_does_not_use_is_warned_about() {
    let jwks = ("jwks-url", "https://a.example/jwks");
    let check = |written: &[(&str, &str)], expected: &[&str]| {
        let warnings = good(written, &PROPELAUTH).warnings;
        let all = warnings.len() == expected.len() && warnings.iter().zip(expected).all(|(w, part)| w.contains(part));
        assert!(all, "{warnings:?}");
    };
    check(&[("auth", "introspection"), jwks], &["--jwks-url: jwks_url is not used, because auth is introspection"]);
    let issuer = ("issuer", "https://a.example");
    let propelauth = "the PROPELAUTH_ variables are not used";
    check(&[("auth", "jwt"), issuer, jwks], &[propelauth]);
    check(&[("auth", "jwt"), issuer, ("require-exp", "true")], &[propelauth, "require_exp is not used"]);
    check(&[("auth", "none"), issuer, jwks], &[propelauth, "jwks_url is not used", "issuer is not used"]);
}

#[test]
fn without_authorization_nothing_but_loopback() {
    let none = ("auth", "none");
    check(&[none, ("public-url", "https://h.example")], &[], &["--public-url: auth = none"]);
    check(&[none, ("public-url", "http://127.0.0.1:8808")], &[], &["--public-url: auth = none"]);
    check(&[none, ("listen", "0.0.0.0:8808")], &[], &["--listen: auth = none"]);
    check(&[none, ("listen", "[::]:8808")], &[], &["--listen: auth = none"]);
    check(&[none, ("listen", "192.168.1.2:0")], &[], &["--listen: auth = none"]);
    check(&[none, ("listen", "[::1]:0")], &[], &[]);
    check(&[none, ("listen", "127.0.0.2:0")], &[], &[]);
    let warnings = good(&[none, ("allowed-host", "h.example"), ("issuer", "https://a.example")], &PROPELAUTH).warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

#[test]
fn secrets_from_files() {
    let files = Files::new();
    let own = |content: &str| {
        let path = files.put("secret", content);
        let written = [("issuer", "https://a.example"), ("introspection-client-id", "x")];
        load_from(&written, &[("MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET_FILE", &path)])
    };
    for (content, expected) in [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), (" s \n\n", " s \n")] {
        let loaded = own(content).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(introspection(&loaded.config).client_secret.expose(), expected);
        assert_eq!(loaded.warnings, [""; 0]);
    }
    for (content, expected) in [("", "is empty"), ("\n", "is empty"), (&"s".repeat(5000), "larger than 4 KiB")] {
        let problems = own(content).expect_err("no secret");
        assert!(problems.0.len() == 1 && problems.to_string().contains(expected), "{problems}");
    }
}

#[test]
fn a_secret_given_twice_or_empty_is_a_problem() {
    let files = Files::new();
    let path = files.put("secret", "s");
    let rest = [("issuer", "https://a.example"), ("introspection-client-id", "x")];
    let both = [rest[0], rest[1], ("introspection-client-secret-file", &path)];
    let variable = "MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET";
    check(
        &both,
        &[(variable, "s")],
        &["--introspection-client-secret-file: MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET is set too"],
    );
    check(&rest, &[(variable, "")], &["environment variable MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET: is empty"]);
    check(&rest, &[(variable, "s")], &[]);
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new();
    let path = files.put("secret", "canary-secret");
    for (mode, expected) in [(0o644, 1), (0o640, 0), (0o600, 0)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
        let loaded = good(&[("introspection-client-secret-file", &path)], &PROPELAUTH);
        assert_eq!(loaded.warnings.len(), expected, "{mode:o} {:?}", loaded.warnings);
        let tls = [("auth", "none"), ("tls-cert", path.as_str()), ("tls-key", &path)];
        assert_eq!(good(&tls, &[]).warnings.len(), expected, "{mode:o}");
    }
}

#[test]
fn no_message_and_no_debug_shows_a_secret() {
    let loaded = good(&[], &PROPELAUTH);
    let text = format!("{loaded} {loaded:?}");
    assert!(text.contains("[set]") && !text.contains("canary"), "{text}");
}

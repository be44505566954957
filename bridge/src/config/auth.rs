//! Who decides about tokens.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use directories::ProjectDirs;
use mcp_calculator::secret::Secret;
use url::Url;

use crate::{
    config::{
        Approve, Auth, Embedded, Introspection, Jwt, parse,
        problem::{Problem, shown},
        resolver::{Resolver, warn_if_readable_by_all},
        settings::{self as s, Setting},
        source::Source,
    },
    token::Issuer,
};

/// Longer than this, consent that was withdrawn would stay in force for no good reason.
const CACHE_MAX: Duration = Duration::from_secs(10 * 60);

/// No client secret is longer; a larger file is another file.
const SECRET_BYTES_MAX: u64 = 4 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Embedded,
    Introspection,
    Jwt,
    None,
}

fn mode(text: &str) -> parse::Parsed<Mode> {
    match text {
        "introspection" => Ok(Mode::Introspection),
        "jwt" => Ok(Mode::Jwt),
        "none" => Ok(Mode::None),
        "embedded" => Ok(Mode::Embedded),
        _ => Err(format!("`{}` is not a way to authorize; use embedded, introspection, jwt or none", shown(text))),
    }
}

/// What the settings say, whichever mode it is for.
struct Parts {
    issuer: Option<String>,
    endpoint: Option<Url>,
    client_id: Option<String>,
    client_secret: Option<Secret<String>>,
    cache: Duration,
    require_exp: bool,
    jwks_url: Option<Url>,
    accepted_audiences: Vec<String>,
}

/// Reads everything about authorization. `None` only when there is a problem.
pub(super) fn auth(r: &mut Resolver<'_>) -> Option<Auth> {
    let written = r.value(&s::AUTH, mode);
    let mut parts = Parts {
        issuer: r.value(&s::ISSUER, parse::issuer),
        endpoint: r.value(&s::INTROSPECTION_URL, parse::safe_url),
        client_id: r.value(&s::INTROSPECTION_CLIENT_ID, parse::line),
        client_secret: own_secret(r),
        cache: r.value(&s::INTROSPECTION_CACHE, parse::duration_within(Duration::ZERO, CACHE_MAX)).unwrap_or_default(),
        require_exp: r.value(&s::REQUIRE_EXP, parse::switch).unwrap_or_default(),
        jwks_url: r.value(&s::JWKS_URL, parse::safe_url),
        accepted_audiences: r.values(&s::ACCEPTED_AUDIENCE, parse::line),
    };
    let embedded = EmbeddedParts {
        state_dir: r.value(&s::STATE_DIR, parse::directory),
        approve: r.value(&s::APPROVE, parse::approve).unwrap_or_default(),
        registration_window: r.value(&s::REGISTRATION, parse::registration).unwrap_or_default(),
        redirect_schemes: r.values(&s::REDIRECT_SCHEME, parse::scheme),
    };
    let mode = match written {
        Some(mode) => mode,
        None if r.is_written(&s::AUTH) => return None,
        None => derived_mode(r)?,
    };
    warn_about_unused(r, mode);
    match mode {
        Mode::None => Some(Auth::None),
        Mode::Embedded => embedded.finish(r).map(Auth::Embedded),
        Mode::Jwt => {
            require(r, &s::ISSUER, &[]);
            let Parts { issuer, jwks_url, accepted_audiences, .. } = parts;
            Some(Auth::Jwt(Jwt { issuer: Issuer::new(&issuer?), jwks_url, accepted_audiences }))
        }
        Mode::Introspection => {
            propelauth(r, &mut parts);
            require(r, &s::ISSUER, &[s::PROPELAUTH_AUTH_URL]);
            require(r, &s::INTROSPECTION_CLIENT_ID, &[s::PROPELAUTH_INTROSPECTION_CLIENT_ID]);
            require(r, &s::INTROSPECTION_CLIENT_SECRET, &[s::PROPELAUTH_INTROSPECTION_CLIENT_SECRET]);
            let Parts { issuer, endpoint, client_id, client_secret, cache, require_exp, accepted_audiences, .. } =
                parts;
            Some(Auth::Introspection(Introspection {
                issuer: Issuer::new(&issuer?),
                endpoint,
                client_id: client_id?,
                client_secret: client_secret?,
                cache,
                require_exp,
                accepted_audiences,
            }))
        }
    }
}

/// What the settings of the embedded authorization server say.
struct EmbeddedParts {
    state_dir: Option<PathBuf>,
    approve: Approve,
    registration_window: bool,
    redirect_schemes: Vec<String>,
}

impl EmbeddedParts {
    /// `None` adds a problem.
    fn finish(self, r: &mut Resolver<'_>) -> Option<Embedded> {
        let Some(state_dir) = self.state_dir.or_else(default_state_dir) else {
            if !r.is_written(&s::STATE_DIR) {
                let what = "there is no home folder to keep users and consents in; set --state-dir";
                r.problems.push(Problem::nowhere(what));
            }
            return None;
        };
        #[cfg(windows)]
        crate::config::resolver::warn_if_outside_profile(r, &s::STATE_DIR, &state_dir);
        Some(Embedded {
            state_dir,
            approve: self.approve,
            registration_window: self.registration_window,
            redirect_schemes: self.redirect_schemes,
            scopes: r.raw.scopes.clone(),
        })
    }
}

/// The platform's folder for this program's state.
pub(crate) fn default_state_dir() -> Option<PathBuf> {
    let folders = ProjectDirs::from("", "", "mcp-bridge")?;
    // Only Linux has a folder for state; elsewhere it is data that stays on this machine.
    Some(folders.state_dir().unwrap_or_else(|| folders.data_local_dir()).to_owned())
}

/// The mode when nobody named one; `None` adds a problem.
fn derived_mode(r: &mut Resolver<'_>) -> Option<Mode> {
    if r.is_written(&s::JWKS_URL) {
        r.problem(&s::JWKS_URL, "it is for signed tokens, which nobody asked for; set auth = jwt, or remove it");
        return None;
    }
    let own = OF_INTROSPECTION.iter().any(|setting| r.is_written(setting)) || r.is_written(&s::ISSUER);
    if own || has_own_secret(r) || has_propelauth(r) {
        r.implied.push((&s::AUTH, "introspection".into(), Source::Derived("because introspection is set up")));
        return Some(Mode::Introspection);
    }
    r.implied.push((&s::AUTH, "embedded".into(), Source::Derived("because nothing else is set up")));
    Some(Mode::Embedded)
}

/// Settings that only introspection has a use for, besides the secret and those with defaults.
static OF_INTROSPECTION: [&Setting; 3] =
    [&s::INTROSPECTION_URL, &s::INTROSPECTION_CLIENT_ID, &s::INTROSPECTION_CLIENT_SECRET_FILE];

fn has_own_secret(r: &Resolver<'_>) -> bool {
    r.raw.secrets.contains_key(&s::INTROSPECTION_CLIENT_SECRET.variable())
}

fn has_propelauth(r: &Resolver<'_>) -> bool {
    !r.raw.propelauth.is_empty() || r.raw.secrets.contains_key(s::PROPELAUTH_INTROSPECTION_CLIENT_SECRET)
}

fn warn_about_unused(r: &mut Resolver<'_>, mode: Mode) {
    let why = match mode {
        Mode::Embedded => "auth is embedded",
        Mode::Introspection => "auth is introspection",
        Mode::Jwt => "auth is jwt",
        Mode::None => "auth is none",
    };
    let mut unused = Vec::new();
    if mode != Mode::Introspection {
        unused.extend(OF_INTROSPECTION.into_iter().chain([&s::INTROSPECTION_CACHE, &s::REQUIRE_EXP]));
        if has_own_secret(r) {
            r.warnings.push(format!("{} is not used, because {why}", s::INTROSPECTION_CLIENT_SECRET.variable()));
        }
        if has_propelauth(r) {
            r.warnings.push(format!("the PROPELAUTH_ variables are not used, because {why}"));
        }
    }
    if mode != Mode::Jwt {
        unused.push(&s::JWKS_URL);
    }
    if matches!(mode, Mode::None | Mode::Embedded) {
        unused.extend([&s::ISSUER, &s::ACCEPTED_AUDIENCE]);
    }
    if mode != Mode::Embedded {
        // The folder for state is also what `connect` uses, so it may be in the environment for that.
        unused.extend([&s::APPROVE, &s::REGISTRATION, &s::REDIRECT_SCHEME]);
    }
    for setting in unused {
        if let Some(written) = r.raw.written(setting) {
            r.warnings.push(format!("{}: {} is not used, because {why}", written.source, setting.key));
        }
    }
}

/// Fills what our own settings leave open from the identity provider's three variables.
fn propelauth(r: &mut Resolver<'_>, parts: &mut Parts) {
    let raw = r.raw;
    if let Some(written) = raw.propelauth.get(s::PROPELAUTH_AUTH_URL)
        && !(r.is_written(&s::ISSUER) && r.is_written(&s::INTROSPECTION_URL))
    {
        match parse::issuer(&written.texts.concat()) {
            Err(error) => r.problems.push(Problem::at(written.source.clone(), error)),
            Ok(base) => propelauth_urls(r, parts, base.trim_end_matches('/'), &written.source),
        }
    }
    if let Some(written) = raw.propelauth.get(s::PROPELAUTH_INTROSPECTION_CLIENT_ID)
        && !r.is_written(&s::INTROSPECTION_CLIENT_ID)
    {
        let id = written.texts.concat();
        if id.is_empty() {
            r.problems.push(Problem::at(written.source.clone(), "is empty".into()));
        }
        r.implied.push((&s::INTROSPECTION_CLIENT_ID, id.clone(), written.source.clone()));
        parts.client_id = Some(id);
    }
    let own = has_own_secret(r) || r.is_written(&s::INTROSPECTION_CLIENT_SECRET_FILE);
    if !own && let Some(secret) = raw.secrets.get(s::PROPELAUTH_INTROSPECTION_CLIENT_SECRET) {
        parts.client_secret = secret_from_variable(r, s::PROPELAUTH_INTROSPECTION_CLIENT_SECRET, secret);
    }
}

fn propelauth_urls(r: &mut Resolver<'_>, parts: &mut Parts, base: &str, source: &Source) {
    let issuer = format!("{base}/oauth/2.1");
    let endpoint = format!("{issuer}/introspect");
    if !r.is_written(&s::ISSUER) {
        r.implied.push((&s::ISSUER, issuer.clone(), source.clone()));
        parts.issuer = Some(issuer);
    } else if parts.issuer.as_ref().is_some_and(|own| *own != issuer) {
        r.warnings
            .push(format!("tokens of the configured issuer are introspected at {endpoint}; set introspection_url"));
    }
    if !r.is_written(&s::INTROSPECTION_URL) {
        parts.endpoint = Url::parse(&endpoint).ok();
        r.implied.push((&s::INTROSPECTION_URL, endpoint, source.clone()));
    }
}

/// Adds a problem when nothing gives `setting`, a value of introspection.
fn require(r: &mut Resolver<'_>, setting: &'static Setting, alternatives: &[&str]) {
    let secret = setting.key == s::INTROSPECTION_CLIENT_SECRET.key;
    let given = r.is_written(setting)
        || secret && (has_own_secret(r) || r.is_written(&s::INTROSPECTION_CLIENT_SECRET_FILE))
        || alternatives.iter().any(|name| r.raw.propelauth.contains_key(name) || r.raw.secrets.contains_key(*name));
    if given {
        return;
    }
    let own = setting.variable();
    let what = match alternatives {
        [variable] if has_propelauth(r) => {
            format!("{variable} is missing; the PROPELAUTH_ variables work together, so set it (or {own})")
        }
        _ if secret => format!("{} is missing; set {own}, or {own}_FILE to a file that holds it", setting.key),
        _ => format!("{} is missing; set --{} or {own}", setting.key, setting.flag_name()),
    };
    r.problems.push(Problem::nowhere(what));
}

/// Our own client secret, from its variable or from a file.
fn own_secret(r: &mut Resolver<'_>) -> Option<Secret<String>> {
    let variable = s::INTROSPECTION_CLIENT_SECRET.variable();
    let file = &s::INTROSPECTION_CLIENT_SECRET_FILE;
    let path = r.value(file, parse::path);
    let raw = r.raw;
    match (raw.secrets.get(&variable), path) {
        (Some(_), Some(_)) => {
            r.problem(file, format!("{variable} is set too; remove one of the two"));
            None
        }
        (Some(secret), None) => secret_from_variable(r, &variable, secret),
        (None, Some(path)) => match read_secret(&path) {
            Ok(secret) => {
                let source = raw.written(file).map_or(Source::Default, |written| written.source.clone());
                r.implied.push((&s::INTROSPECTION_CLIENT_SECRET, SET.into(), source));
                warn_if_readable_by_all(r, file, &path);
                Some(secret)
            }
            Err(what) => {
                r.problem(file, what);
                None
            }
        },
        (None, None) => None,
    }
}

/// What the report shows instead of a secret.
const SET: &str = "[set]";

fn secret_from_variable(r: &mut Resolver<'_>, variable: &str, secret: &Secret<String>) -> Option<Secret<String>> {
    let source = Source::Environment(variable.to_owned());
    if secret.expose().is_empty() {
        r.problems.push(Problem::at(source, "is empty; give it a value, or remove it".into()));
        return None;
    }
    r.implied.push((&s::INTROSPECTION_CLIENT_SECRET, SET.into(), source));
    Some(secret.clone())
}

/// The secret in a file, without the newline that editors add.
///
/// Neither path nor content is in the error: a secret may have been given where its path belongs.
fn read_secret(path: &Path) -> Result<Secret<String>, String> {
    // Room for everything, so that no part of the secret stays behind when the text grows.
    let mut text = String::with_capacity(SECRET_BYTES_MAX as usize + 1);
    let read = File::open(path).and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text));
    let whole = Secret::new(text);
    read.map_err(|error| format!("the file cannot be read: {error}"))?;
    if whole.expose().len() as u64 > SECRET_BYTES_MAX {
        return Err("the file is larger than 4 KiB; that is no client secret".into());
    }
    let secret = whole
        .expose()
        .strip_suffix('\n')
        .map_or(whole.expose().as_str(), |rest| rest.strip_suffix('\r').unwrap_or(rest));
    if secret.is_empty() {
        return Err("the file is empty; put the client secret into it".into());
    }
    Ok(Secret::new(secret.to_owned()))
}

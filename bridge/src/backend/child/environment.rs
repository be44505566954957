//! What children see of the bridge's environment: what is listed, and nothing else.
//!
//! The bridge's own environment has secrets of the network side. A server behind it is somebody
//! else's program and needs a place to live, a language and the way to the network.

use std::ffi::{OsStr, OsString};

use crate::backend::child::Program;

/// Variables that are passed on, where a name ending in `*` stands for all that begin like it.
const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LC_*",
    "TZ",
    "TMPDIR",
    "TEMP",
    "TMP",
    "XDG_*",
    // How to reach and trust the network.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// What Windows programs need on top.
const ALLOWED_ON_WINDOWS: &[&str] = &[
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "WINDIR",
    "PATHEXT",
    "APPDATA",
    "LOCALAPPDATA",
    "PROGRAMFILES*",
    "PROGRAMDATA",
    "USERPROFILE",
    "USERNAME",
    "HOMEDRIVE",
    "HOMEPATH",
    "COMSPEC",
    "NUMBER_OF_PROCESSORS",
    "PROCESSOR_ARCHITECTURE",
];

/// The bridge's own settings and secrets: never passed on, whoever asks.
const OURS: &[&str] = &["MCP_BRIDGE_*", "PROPELAUTH_*"];

impl Program {
    /// The environment for a child: of `inherited` what every program needs (`PATH`, `HOME`, language,
    /// folders, proxies) and what `pass` names, then the variables in `set`, which win.
    ///
    /// A name in `pass` may end in `*`. The bridge's own variables (`MCP_BRIDGE_…`, `PROPELAUTH_…`)
    /// are not passed on even then; `set` may have such names, because its values are written out.
    pub fn environment(
        inherited: impl IntoIterator<Item = (OsString, OsString)>,
        pass: &[String],
        set: &[(String, String)],
    ) -> Vec<(OsString, OsString)> {
        let system = if cfg!(windows) { ALLOWED_ON_WINDOWS } else { &[] };
        let passes = |name: &OsStr| {
            let name = &*name.to_string_lossy();
            let asked = pass.iter().map(String::as_str);
            !OURS.iter().any(|pattern| matches(pattern, name))
                && ALLOWED.iter().chain(system).copied().chain(asked).any(|pattern| matches(pattern, name))
        };
        let is_set = |name: &OsStr| set.iter().any(|(known, _)| name.to_str().is_some_and(|name| same(known, name)));
        let mut environment: Vec<_> = inherited.into_iter().filter(|(name, _)| passes(name) && !is_set(name)).collect();
        environment.extend(set.iter().map(|(name, value)| (name.into(), value.into())));
        environment
    }
}

/// Whether `name` is `pattern`, or begins like it where the pattern ends in `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.get(..beginning.len()).is_some_and(|begins| same(beginning, begins)),
        None => same(pattern, name),
    }
}

/// Whether two names mean one variable on this system.
fn same(one: &str, other: &str) -> bool {
    if cfg!(windows) { one.eq_ignore_ascii_case(other) } else { one == other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, pass: &[&str], expected: bool) {
        let pass: Vec<String> = pass.iter().map(|name| (*name).to_owned()).collect();
        let environment = Program::environment([(name.into(), "value".into())], &pass, &[]);
        assert_eq!(!environment.is_empty(), expected, "{name} {pass:?}");
    }

    #[test]
    fn what_every_program_needs_is_passed_on_and_nothing_else() {
        for name in ["PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "XDG_RUNTIME_DIR", "https_proxy", "NO_PROXY"] {
            check(name, &[], true);
        }
        for name in ["AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "RUST_LOG", "PATHS", "LCX", "SSH_AUTH_SOCK", ""] {
            check(name, &[], false);
        }
        check("SYSTEMROOT", &[], cfg!(windows));
    }

    #[test]
    fn names_and_beginnings_can_be_asked_for() {
        check("API_KEY", &["OTHER", "API_KEY"], true);
        check("AWS_REGION", &["AWS_*"], true);
        check("AWS", &["AWS_*"], false);
        check("A", &["Ä*", "*"], true);
    }

    #[test]
    fn the_bridges_own_secrets_are_never_passed_on() {
        for name in ["MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET", "PROPELAUTH_INTROSPECTION_CLIENT_SECRET"] {
            for pass in ["*", "MCP_BRIDGE_*", "PROPELAUTH_*", "M*", name] {
                check(name, &[pass], false);
            }
        }
    }

    #[test]
    fn what_is_written_out_wins_over_what_is_inherited() {
        let inherited = [("PATH", "/inherited"), ("HOME", "/home")].map(|(name, value)| (name.into(), value.into()));
        let set = [("PATH".to_owned(), "/set".to_owned()), ("PROPELAUTH_X".to_owned(), "1".to_owned())];
        let environment = Program::environment(inherited, &[], &set);
        let expected = [("HOME", "/home"), ("PATH", "/set"), ("PROPELAUTH_X", "1")];
        assert_eq!(environment, expected.map(|(name, value)| (name.into(), value.into())));
    }
}

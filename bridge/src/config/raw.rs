//! What was written, and where: flags, environment and file, before anything is made of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fmt,
};

use mcp_calculator::secret::Secret;

use crate::{
    backend::child::CHILD_VARIABLES,
    config::{
        file,
        policy::RawPolicy,
        problem::{Problem, did_you_mean, escaped},
        settings::{
            ALL, CONFIG, Kind, PROPELAUTH_INTROSPECTION_CLIENT_SECRET, PROPELAUTH_VARIABLES, Setting, VARIABLE_PREFIX,
        },
        source::{Layer, Source, Written},
        table::Table,
    },
    connect,
};

/// The flags of `serve` and `check-config`, as they were written, and what follows `--`.
#[derive(Clone, Default)]
pub struct Flags(pub(crate) Layer<Vec<String>>);

impl fmt::Debug for Flags {
    /// Shows names only: a value may be a variable of the served command.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The flags that say what a command is and how it is started, and how to log.
#[derive(Clone, Debug, Default)]
pub struct CommandFlags(pub Flags);

/// Everything that was written.
#[derive(Default)]
pub(super) struct Raw {
    flags: Layer<Written>,
    environment: Layer<Written>,
    file: Layer<Written>,
    /// Variables of the identity provider, by name; secrets are in `secrets`.
    pub(super) propelauth: BTreeMap<&'static str, Written>,
    /// Secrets from the environment, by the variable's name.
    pub(super) secrets: BTreeMap<String, Secret<String>>,
    /// Names of all variables of the environment.
    pub(super) variables: BTreeSet<OsString>,
    pub(super) policy: Option<RawPolicy>,
    /// Where the policy is.
    pub(super) policy_place: Option<Source>,
    /// `[[server]]` tables; `None` when there is none.
    pub(super) tables: Option<Vec<Table>>,
    /// What `[scopes]` of the file says of each scope.
    pub(super) scopes: BTreeMap<String, String>,
    /// Whether the file, if there is one, could be understood as a whole.
    pub(super) file_is_read: bool,
}

impl Raw {
    /// Gathers what the three sources say; what cannot be understood is added to `problems`.
    ///
    /// Reads the file that `--config` or `MCP_BRIDGE_CONFIG` names, and nothing else.
    pub(super) fn gather(
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut raw = Self { file_is_read: true, ..Self::default() };
        for setting in ALL {
            if let Some(texts) = flags.0.get(setting.key) {
                let source = match setting.kind {
                    Kind::Command => Source::Rest,
                    _ => Source::Flag(setting.flag_name()),
                };
                raw.flags.insert(setting.key, Written { texts: texts.clone(), source });
            }
        }
        for (name, value) in environment {
            raw.take_variable(&name, value, problems);
            raw.variables.insert(name);
        }
        if let Some(written) = raw.written(&CONFIG).cloned()
            && let [path] = written.texts.as_slice()
        {
            let read = file::read(path).map_err(|error| {
                problems.push(Problem::at(written.source, format!("cannot read `{}`: {error}", escaped(path))));
            });
            match read.ok().and_then(|text| file::parse(&text, path, problems)) {
                Some(said) => {
                    raw.file = said.layer;
                    raw.policy = said.policy;
                    raw.policy_place = said.policy_place;
                    raw.tables = said.tables;
                    raw.scopes = said.scopes;
                }
                None => raw.file_is_read = false,
            }
        }
        raw
    }

    /// What the strongest source says about `setting`.
    pub(super) fn written(&self, setting: &Setting) -> Option<&Written> {
        [&self.flags, &self.environment, &self.file].into_iter().find_map(|layer| layer.get(setting.key))
    }

    fn take_variable(&mut self, name: &OsStr, value: OsString, problems: &mut Vec<Problem>) {
        let Some(name) = name.to_str() else { return };
        let propelauth = PROPELAUTH_VARIABLES.into_iter().find(|known| *known == name);
        let setting = ALL.iter().find(|setting| setting.has_variable() && setting.variable() == name);
        let source = Source::Environment(name.to_owned());
        if propelauth.is_none() && setting.is_none() {
            let value = value.to_string_lossy();
            // A bridge may itself be a child of a bridge.
            let foreign = CHILD_VARIABLES.contains(&name) || OTHERS.contains(&name) || is_service_link(name, &value);
            if name.starts_with(VARIABLE_PREFIX) && !foreign {
                let names = ALL.iter().filter(|setting| setting.has_variable()).map(|setting| setting.variable());
                problems.push(Problem::at(source, format!("not a setting; {}", did_you_mean(name, names))));
            }
            return;
        }
        let Ok(text) = value.into_string() else {
            problems.push(Problem::at(source, "is not valid UTF-8".into()));
            return;
        };
        match (propelauth, setting) {
            (Some(PROPELAUTH_INTROSPECTION_CLIENT_SECRET), _) | (_, Some(Setting { kind: Kind::Secret, .. })) => {
                self.secrets.insert(name.to_owned(), Secret::new(text));
            }
            (Some(name), _) => {
                self.propelauth.insert(name, Written { texts: vec![text], source });
            }
            (None, Some(setting)) => {
                let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned);
                let many = matches!(setting.kind, Kind::Many | Kind::Variables);
                let texts = if many { parts().collect() } else { vec![text] };
                self.environment.insert(setting.key, Written { texts, source });
            }
            (None, None) => {}
        }
    }
}

/// Read by other commands; whoever has exported them can serve all the same.
const OTHERS: [&str; 4] = {
    // The folder for state is a setting here too.
    let [secret, secret_file, _] = connect::VARIABLES;
    ["MCP_BRIDGE_TOKEN", "MCP_BRIDGE_TOKEN_FILE", secret, secret_file]
};

/// Whether Kubernetes may have set this variable, because a service's name begins with
/// `mcp-bridge` (`MCP_BRIDGE_SERVICE_HOST`, `MCP_BRIDGE_PORT_8808_TCP_ADDR`, …).
fn is_service_link(name: &str, value: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains("_PORT_") && name.contains(protocol))
        || name.ends_with("_PORT") && value.contains("://")
}

//! What is to be done with one file.

use std::{path::PathBuf, time::SystemTime};

use crate::clients::{
    client::Client,
    diff::diff,
    entry::{Found, Server, compare, starts},
    file::{self, FileError, Privacy, Replaced, Snapshot},
    format::{FormatError, Slot},
    tree::Tree,
};

/// An entry of one file, to be put in or taken out.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) client: Client,
    pub(crate) file: PathBuf,
    pub(crate) name: &'a str,
    pub(crate) action: Action<'a>,
    /// Also where another program's entry has the name.
    pub(crate) force: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action<'a> {
    Install(&'a Server),
    Uninstall(Owner<'a>),
}

/// Whose entry may be taken out.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// One that starts this server.
    Server(&'a Server),
    /// One that starts this program, with whatever arguments.
    Program(&'a str),
}

/// What was done, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Added,
    /// Our entry had the path of another copy of the program.
    Updated,
    /// Another program's entry had the name.
    Replaced,
    AlreadyThere,
    Removed,
    NotThere,
}

/// Why nothing was done; the file is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error("{0}; nothing was changed")]
    File(#[from] FileError),
    #[error(
        "cannot change {file}: {error}; the file was left as it is: mend it and try again, or add the entry by hand \
         (install --print shows it)"
    )]
    Format { file: String, error: FormatError },
    #[error("`{name}` in {file} {what}; the file was left as it is: {mend}")]
    Taken { name: String, file: String, what: String, mend: &'static str },
    #[error("{client} takes only {allowed} in the name of a server, not {name:?}; choose another --name")]
    Name { client: &'static str, allowed: &'static str, name: String },
}

impl Job<'_> {
    /// Does it.
    pub(crate) fn run(&self, now: SystemTime) -> Result<(Effect, Option<PathBuf>), JobError> {
        let mut effect = Effect::AlreadyThere;
        // What stands in a server's variables is often a key.
        let privacy = match self.action {
            Action::Install(server) if !server.env.is_empty() => Privacy::Owner,
            // The backup of an uninstall is as private as the install has made the file.
            _ => Privacy::AsBefore,
        };
        let replaced = file::replace::<JobError>(&self.file, now, privacy, &mut |text| {
            let (what, edited) = self.edit(text)?;
            effect = what;
            Ok(edited)
        })?;
        Ok(match replaced {
            Replaced::Unchanged => (effect, None),
            Replaced::Written { backup } => (effect, backup),
        })
    }

    /// Says what would be done, as a diff.
    pub(crate) fn preview(&self) -> Result<(Effect, String), JobError> {
        let snapshot = Snapshot::read(&self.file)?;
        let before = snapshot.text()?;
        let (effect, after) = self.edit(before)?;
        let after = after.as_deref().unwrap_or(before);
        // Values of variables are not shown, not even those that are to be written.
        let ours = match self.action {
            Action::Install(server) => {
                let env = server.env.iter().map(|(key, _)| (key.clone(), String::new())).collect();
                self.snippet(&Server { env, ..server.clone() })?
            }
            Action::Uninstall(Owner::Server(server)) => self.snippet(&Server { env: Vec::new(), ..server.clone() })?,
            Action::Uninstall(Owner::Program(_)) => String::new(),
        };
        Ok((effect, diff(self.client.format(), &self.file.display().to_string(), before, after, &ours)))
    }

    /// What the file says of our entry.
    pub(crate) fn look(&self, server: &Server) -> Result<Found, JobError> {
        let snapshot = Snapshot::read(&self.file)?;
        let key = self.key()?;
        Ok(compare(self.client, self.entry(snapshot.text()?, &key)?.as_ref(), server))
    }

    /// A file with nothing but the entry.
    pub(crate) fn snippet(&self, server: &Server) -> Result<String, JobError> {
        let key = self.key()?;
        let entry = self.client.entry(self.name, server);
        self.client.format().insert("", self.slot(&key), &entry).map_err(|error| self.format_error(error))
    }

    fn edit(&self, text: &str) -> Result<(Effect, Option<String>), JobError> {
        match self.action {
            Action::Install(server) => self.put_in(text, server),
            Action::Uninstall(owner) => self.take_out(text, owner),
        }
    }

    fn put_in(&self, text: &str, server: &Server) -> Result<(Effect, Option<String>), JobError> {
        let format = self.client.format();
        let key = self.key()?;
        let slot = self.slot(&key);
        let entry = self.client.entry(self.name, server);
        let (effect, edited) = match compare(self.client, self.entry(text, &key)?.as_ref(), server) {
            Found::Same => return Ok((Effect::AlreadyThere, None)),
            Found::Nothing => (Effect::Added, format.insert(text, slot, &entry)),
            Found::Moved => (Effect::Updated, format.set(text, slot, self.client.command_key(), &server.command)),
            Found::Other(what) if !self.force => {
                return Err(self.taken(what, "choose another --name, or use --force to replace it"));
            }
            Found::Other(_) => {
                (Effect::Replaced, format.remove(text, slot).and_then(|text| format.insert(&text, slot, &entry)))
            }
        };
        Ok((effect, Some(edited.map_err(|error| self.format_error(error))?)))
    }

    fn take_out(&self, text: &str, owner: Owner<'_>) -> Result<(Effect, Option<String>), JobError> {
        let key = self.key()?;
        let Some(entry) = self.entry(text, &key)? else { return Ok((Effect::NotThere, None)) };
        let found = match owner {
            Owner::Server(server) => compare(self.client, Some(&entry), server),
            Owner::Program(program) if starts(self.client, &entry, program) => Found::Same,
            Owner::Program(_) => {
                compare(self.client, Some(&entry), &Server { command: String::new(), args: vec![], env: vec![] })
            }
        };
        if let (Found::Other(what), false) = (found, self.force) {
            return Err(self.taken(what, "it is not ours; use --force to remove it"));
        }
        let edited = self.client.format().remove(text, self.slot(&key)).map_err(|error| self.format_error(error))?;
        Ok((Effect::Removed, Some(edited)))
    }

    fn entry(&self, text: &str, key: &str) -> Result<Option<Tree>, JobError> {
        self.client.format().entry(text, self.slot(key)).map_err(|error| self.format_error(error))
    }

    fn key(&self) -> Result<String, JobError> {
        self.client.key_of(self.name).map_err(|allowed| JobError::Name {
            client: self.client.title(),
            allowed,
            name: self.name.to_owned(),
        })
    }

    fn slot<'k>(&self, key: &'k str) -> Slot<'k> {
        Slot { servers: self.client.servers_key(), name: key }
    }

    fn format_error(&self, error: FormatError) -> JobError {
        JobError::Format { file: self.file.display().to_string(), error }
    }

    fn taken(&self, what: String, mend: &'static str) -> JobError {
        JobError::Taken { name: self.name.to_owned(), file: self.file.display().to_string(), what, mend }
    }
}

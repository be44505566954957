//! `install` and `uninstall`: clients and files are chosen, worked through one by one, and told about.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::clients::{
    arguments::{Selection, Shown},
    client::Client,
    entry::{Found, Server},
    environment::Environment,
    job::{Action, Effect, Job},
};

pub use crate::clients::job::Owner;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing was to do.
    Done,
    /// At least one file could not be changed; the others were.
    Failed,
    /// The command line does not say what to do.
    Usage,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }
}

/// Which program this is, where it runs, and where it talks.
pub struct Context<'a> {
    /// The name of the program, for messages and as the owner of entries.
    pub program: &'a str,
    /// Where files are.
    pub environment: &'a Environment,
    /// What is left to do for an entry that was made; empty for nothing.
    pub advice: &'a str,
    /// What was asked for.
    pub output: &'a mut dyn Write,
    /// What went wrong.
    pub errors: &'a mut dyn Write,
}

/// Adds `server` as `name`.
///
/// # Errors
/// When the output cannot be written; all else is told there and in the exit.
pub fn install(
    context: &mut Context<'_>,
    selection: &Selection,
    shown: &Shown,
    name: &str,
    server: &Server,
) -> io::Result<Exit> {
    if shown.list {
        return list(context, selection, name, server);
    }
    let files = match choose(context, selection, name, shown.print)? {
        Ok(files) => files,
        Err(exit) => return Ok(exit),
    };
    let jobs = files.into_iter().map(|(client, file)| Job {
        client,
        file,
        name,
        action: Action::Install(server),
        force: selection.force,
    });
    if shown.print {
        return print(context, jobs, server);
    }
    work(context, selection, jobs)
}

/// Removes the entry `name` of `owner`.
///
/// # Errors
/// When the output cannot be written; all else is told there and in the exit.
pub fn uninstall(context: &mut Context<'_>, selection: &Selection, name: &str, owner: Owner<'_>) -> io::Result<Exit> {
    let files = match choose(context, selection, name, false)? {
        Ok(files) => files,
        Err(exit) => return Ok(exit),
    };
    let jobs = files.into_iter().map(|(client, file)| Job {
        client,
        file,
        name,
        action: Action::Uninstall(owner),
        force: selection.force,
    });
    work(context, selection, jobs)
}

/// The files that the command line means, or how it ends without any.
fn choose(
    context: &mut Context<'_>,
    selection: &Selection,
    name: &str,
    even_if_absent: bool,
) -> io::Result<Result<Vec<(Client, PathBuf)>, Exit>> {
    if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) || name.trim() != name {
        complain(context, "--name must have 1 to 64 bytes, without control characters, or spaces around it")?;
        return Ok(Err(Exit::Usage));
    }
    if let Some(project) = &selection.project {
        return choose_project(context, selection, project);
    }
    let mut files = Vec::new();
    for client in Client::all() {
        let places = client.places(context.environment);
        let is_wanted = selection.clients.contains(client);
        let found: Vec<_> = places.iter().filter(|place| place.is_found()).map(|place| place.file.clone()).collect();
        match (selection.all || is_wanted, found.is_empty()) {
            (true, false) => files.extend(found.into_iter().map(|file| (*client, file))),
            // Whoever names it may be about to install it.
            (true, true) if is_wanted => files.extend(places.into_iter().take(1).map(|place| (*client, place.file))),
            _ => {}
        }
    }
    if !selection.clients.is_empty() || (selection.all && !files.is_empty()) {
        if even_if_absent {
            files.dedup_by_key(|(client, _)| *client);
        }
        return Ok(Ok(files));
    }
    suggest(context)?;
    Ok(Err(if selection.all { Exit::Done } else { Exit::Usage }))
}

fn choose_project(
    context: &mut Context<'_>,
    selection: &Selection,
    project: &Path,
) -> io::Result<Result<Vec<(Client, PathBuf)>, Exit>> {
    let project = match project.canonicalize().and_then(|_| std::path::absolute(project)) {
        Ok(project) if project.is_dir() => project,
        _ => {
            complain(context, &format!("--project {} is no folder", project.display()))?;
            return Ok(Err(Exit::Usage));
        }
    };
    let with_project: Vec<_> = Client::all().iter().filter(|client| client.project_file().is_some()).collect();
    let wanted: Vec<Client> = if selection.all {
        let is_found = |client: &Client| client.places(context.environment).iter().any(|place| place.is_found());
        with_project.iter().copied().copied().filter(is_found).collect()
    } else {
        selection.clients.clone()
    };
    let ids = with_project.iter().map(|client| client.id()).collect::<Vec<_>>().join(", ");
    if wanted.is_empty() && !selection.all {
        complain(context, &format!("--project needs --client: {ids}"))?;
        return Ok(Err(Exit::Usage));
    }
    let mut files = Vec::new();
    for client in wanted {
        let Some(file) = client.project_file() else {
            complain(context, &format!("{} has no file for a project; these have one: {ids}", client.title()))?;
            return Ok(Err(Exit::Usage));
        };
        files.push((client, project.join(file)));
    }
    Ok(Ok(files))
}

/// What one could say, to somebody who did not say which client.
fn suggest(context: &mut Context<'_>) -> io::Result<()> {
    let found = |client: &&Client| client.places(context.environment).iter().any(|place| place.is_found());
    let found: Vec<_> = Client::all().iter().filter(found).map(|client| client.id()).collect();
    if found.is_empty() {
        let all = Client::all().iter().map(|client| client.id()).collect::<Vec<_>>().join(", ");
        writeln!(context.output, "No client was found on this machine. Name one with --client:\n  {all}")
    } else {
        writeln!(
            context.output,
            "Found on this machine: {}\nSay which with --client NAME, or all of them with --all.",
            found.join(", ")
        )
    }
}

fn work<'j>(context: &mut Context<'_>, selection: &Selection, jobs: impl Iterator<Item = Job<'j>>) -> io::Result<Exit> {
    let mut exit = Exit::Done;
    let mut has_new = false;
    for job in jobs {
        let done = if selection.dry_run {
            job.preview().map(|(effect, diff)| (effect, None, Some(diff)))
        } else {
            job.run(SystemTime::now()).map(|(effect, backup)| (effect, backup, None))
        };
        match done {
            Ok((effect, backup, diff)) => {
                tell(context, &job, effect, backup.as_deref(), diff.as_deref())?;
                if matches!(effect, Effect::Added | Effect::Updated | Effect::Replaced) && !selection.dry_run {
                    has_new = true;
                    if let Some(question) = job.client.asks(selection.project.is_some()) {
                        writeln!(context.output, "  {question}")?;
                    }
                }
            }
            Err(error) => {
                complain(context, &format!("{}: {error}", job.client.title()))?;
                exit = Exit::Failed;
            }
        }
    }
    if has_new && !context.advice.is_empty() {
        writeln!(context.output, "{}", context.advice)?;
    }
    Ok(exit)
}

fn tell(
    context: &mut Context<'_>,
    job: &Job<'_>,
    effect: Effect,
    backup: Option<&Path>,
    diff: Option<&str>,
) -> io::Result<()> {
    let (name, client, file) = (job.name, job.client.title(), job.file.display());
    let would = if diff.is_some() { "would be " } else { "" };
    let text = match effect {
        Effect::AlreadyThere => format!("{client}: `{name}` is already there, in {file}"),
        Effect::NotThere => format!("{client}: there is no `{name}` in {file}"),
        Effect::Added => format!("{client}: `{name}` {would}added to {file}"),
        Effect::Updated => format!("{client}: the path of `{name}` {would}updated in {file}"),
        Effect::Replaced => format!("{client}: `{name}` {would}replaced in {file}"),
        Effect::Removed => format!("{client}: `{name}` {would}removed from {file}"),
    };
    writeln!(context.output, "{text}")?;
    if matches!(effect, Effect::AlreadyThere | Effect::NotThere) {
        return Ok(());
    }
    match (diff, backup) {
        (Some(diff), _) => write!(context.output, "{diff}"),
        (None, Some(backup)) => {
            writeln!(context.output, "  What it was before is in {}\n  {}", backup.display(), job.client.restart())
        }
        (None, None) => writeln!(context.output, "  {}", job.client.restart()),
    }
}

fn print<'j>(context: &mut Context<'_>, jobs: impl Iterator<Item = Job<'j>>, server: &Server) -> io::Result<Exit> {
    let mut exit = Exit::Done;
    for job in jobs {
        match job.snippet(server) {
            Ok(snippet) => {
                // Only the snippet goes to stdout, as somebody may pipe it on.
                writeln!(context.errors, "{}, in {}:", job.client.title(), job.file.display())?;
                write!(context.output, "{snippet}")?;
                context.output.flush()?;
            }
            Err(error) => {
                complain(context, &error.to_string())?;
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

fn list(context: &mut Context<'_>, selection: &Selection, name: &str, server: &Server) -> io::Result<Exit> {
    writeln!(context.output, "{:<15} {:<6} {:<15} FILE", "CLIENT", "FOUND", "ENTRY")?;
    for client in Client::all() {
        if !selection.clients.is_empty() && !selection.clients.contains(client) {
            continue;
        }
        let places = client.places(context.environment);
        let found: Vec<_> = places.iter().filter(|place| place.is_found()).collect();
        let shown = if found.is_empty() { places.iter().take(1).collect() } else { found };
        for place in shown {
            let job =
                Job { client: *client, file: place.file.clone(), name, action: Action::Install(server), force: false };
            let entry = match job.look(server) {
                Ok(Found::Nothing) => "no",
                Ok(Found::Same) => "yes",
                Ok(Found::Moved) => "another path",
                Ok(Found::Other(_)) => "another server",
                Err(_) => "unreadable",
            };
            let is_found = if place.is_found() { "yes" } else { "no" };
            writeln!(context.output, "{:<15} {is_found:<6} {entry:<15} {}", client.id(), place.file.display())?;
        }
    }
    Ok(Exit::Done)
}

fn complain(context: &mut Context<'_>, text: &str) -> io::Result<()> {
    writeln!(context.errors, "{}: {text}", context.program)
}

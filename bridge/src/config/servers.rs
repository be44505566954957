//! What is served: one server, or one per `[[server]]`.

use std::{
    collections::HashSet,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    config::{
        parse,
        problem::{Problem, escaped},
        report::Row,
        resolver::Resolver,
        server::{Command, Served, Server, Variable},
        settings::{self as s, Setting},
        source::Source,
        table::Table,
    },
    resource::{InvalidResource, ResourceUri},
};

/// Paths of our own; what lies under them is ours too.
const RESERVED: [&str; 4] = ["/healthz", "/readyz", "/.well-known", "/oauth"];

/// Makes the servers. `None` only when there is a problem; there may be problems anyway.
pub(super) fn servers(r: &mut Resolver<'_>, public_url: Option<&str>) -> Option<Vec<Server>> {
    let raw = r.raw;
    let Some(tables) = &raw.tables else {
        let mut server = server(r, public_url)?;
        server.policy.clone_from(&raw.policy);
        if let Served::Calculator = server.served {
            warn_about_unused(r, |setting| raw.written(setting).map(|written| written.source.clone()));
        }
        return Some(vec![server]);
    };
    misplaced(r);
    // What every table has for itself must be right above them too.
    processes(r);
    let servers: Vec<Option<Server>> = tables.iter().map(|table| of_table(r, table, public_url)).collect();
    if !tables.iter().any(|table| table.layer.contains_key(s::COMMAND.key)) {
        warn_about_unused(r, |setting| raw.written(setting).map(|written| written.source.clone()));
    }
    let good: Vec<(&Table, &Server)> =
        tables.iter().zip(&servers).filter_map(|(table, server)| Some((table, server.as_ref()?))).collect();
    conflicts(r, &good, public_url);
    servers.into_iter().collect()
}

/// The settings of each `[[server]]`, by its name.
pub(super) fn rows(r: &mut Resolver<'_>) -> Vec<(String, Vec<Row>)> {
    let raw = r.raw;
    let of_table = |table| {
        r.table = Some(table);
        (table.name.as_ref().map(|name| name.texts.concat()).unwrap_or_default(), r.table_rows())
    };
    let rows = raw.tables.iter().flatten().map(of_table).collect();
    r.table = None;
    rows
}

/// Says where those settings belong that each `[[server]]` has for itself.
fn misplaced(r: &mut Resolver<'_>) {
    for (setting, example) in [(&s::COMMAND, "command = [\"npx\", …]"), (&s::PATH, "path = \"/…\"")] {
        if r.is_written(setting) {
            let what =
                format!("with [[server]] tables each server has its own; move it into the table it is for: {example}");
            r.problem(setting, what);
        }
    }
    if let Some(place) = r.raw.policy_place.clone() {
        let what = "with [[server]] tables each server has its own policy; move it behind the table it is for, as \
                    [server.policy] and [[server.policy.rule]]";
        r.problems.push(Problem::at(place, what.into()));
    }
}

fn of_table<'r>(r: &mut Resolver<'r>, table: &'r Table, public_url: Option<&str>) -> Option<Server> {
    r.table = Some(table);
    let server = server(r, public_url);
    r.table = None;
    let name = match &table.name {
        Some(written) => parse::name(&written.texts.concat())
            .map_err(|error| r.problems.push(Problem::at(written.source.clone(), format!("`name`: {error}"))))
            .ok(),
        None => {
            r.problems.push(Problem::at(table.place.clone(), "a server needs `name`, like name = \"files\"".into()));
            None
        }
    };
    let mut server = server?;
    server.name = name?;
    server.policy.clone_from(&table.policy);
    if let Served::Calculator = server.served {
        warn_about_unused(r, |setting| table.layer.get(setting.key).map(|written| written.source.clone()));
    }
    Some(server)
}

/// Warns about what only commands have a use for, where `place` says that it is.
fn warn_about_unused(r: &mut Resolver<'_>, place: impl Fn(&Setting) -> Option<Source>) {
    for setting in s::OF_COMMANDS {
        if let Some(place) = place(setting) {
            let what = "is not used, because no command is served; give one after --, or as command = […] in the file";
            r.warnings.push(format!("{place}: {} {what}", setting.key));
        }
    }
}

/// The server that the current settings make, without its policy.
fn server(r: &mut Resolver<'_>, public_url: Option<&str>) -> Option<Server> {
    let path = match r.table {
        Some(table) if !r.is_written(&s::PATH) => {
            r.problems.push(Problem::at(table.place.clone(), "a server needs `path`, like path = \"/files\"".into()));
            None
        }
        _ => r.value(&s::PATH, parse::line),
    };
    if let Some(path) = &path {
        resource(r, public_url, path);
    }
    let served = served(r);
    let filter_lists = r.value(&s::FILTER_LISTS, parse::switch);
    let denial = r.value(&s::DENIAL, parse::denial);
    let legacy_sse = r.value(&s::LEGACY_SSE, parse::switch);
    let resource_name = r.value(&s::RESOURCE_NAME, parse::line);
    let resource_documentation = r.value(&s::RESOURCE_DOCUMENTATION, parse::page);
    let served = served?;
    Some(Server {
        name: match &served {
            Served::Calculator => "calculator".into(),
            Served::Command(command) => file_name(&command.program),
        },
        path: path?,
        served,
        policy: None,
        resource_name,
        resource_documentation,
        filter_lists: filter_lists?,
        denial: denial?,
        legacy_sse: legacy_sse?,
    })
}

fn file_name(program: &str) -> String {
    Path::new(program).file_name().map_or_else(|| program.to_owned(), |name| name.to_string_lossy().into_owned())
}

fn served(r: &mut Resolver<'_>) -> Option<Served> {
    let processes = processes(r);
    let Some(written) = r.written(&s::COMMAND) else { return Some(Served::Calculator) };
    let Some((program, arguments)) = written.texts.split_first().filter(|(program, _)| !program.is_empty()) else {
        r.problem(&s::COMMAND, "the program's name is empty; write the program, then its arguments");
        return None;
    };
    if written.texts.iter().any(|text| text.contains('\0')) {
        r.problem(&s::COMMAND, "there is a NUL in it; no program can get that");
        return None;
    }
    for variable in processes.environment.iter().filter(|variable| variable.value.is_none()) {
        if !r.raw.variables.contains(variable.name.as_ref() as &std::ffi::OsStr) {
            let place = r.written(&s::ENV).map(|written| format!("{}: ", written.source)).unwrap_or_default();
            let name = &variable.name;
            let warning = format!("{place}{name} is not set here, so the command will not have it either");
            if !r.warnings.contains(&warning) {
                r.warnings.push(warning);
            }
        }
    }
    Some(Served::Command(Command { program: program.clone(), arguments: arguments.to_vec(), ..processes }))
}

/// How a command's processes are kept, without the command. A value that is wrong is a problem, and
/// no configuration with a problem is handed out.
fn processes(r: &mut Resolver<'_>) -> Command {
    // More processes than this are a mistake on any machine.
    const CHILDREN: RangeInclusive<usize> = 1..=10_000;
    const MESSAGE_BYTES: RangeInclusive<usize> = 1024..=1024 * 1024 * 1024;
    const SECOND: Duration = Duration::from_secs(1);

    let pool = r.value(&s::POOL, parse::count(0..=*CHILDREN.end()));
    let max_children = r.value(&s::MAX_CHILDREN, parse::count(CHILDREN));
    if let (Some(pool), Some(max_children)) = (pool, max_children)
        && pool > max_children
    {
        let what = format!("{pool} children cannot be kept ready: pool is {pool} and max_children is {max_children}");
        r.problem(if r.is_written(&s::POOL) { &s::POOL } else { &s::MAX_CHILDREN }, what);
    }
    Command {
        program: String::new(),
        arguments: Vec::new(),
        environment: environment(r),
        working_dir: working_dir(r),
        isolation: r.value(&s::ISOLATION, parse::isolation).unwrap_or_default(),
        pool: pool.unwrap_or_default(),
        max_children: max_children.unwrap_or_default(),
        pool_idle: r.value(&s::POOL_IDLE, parse::duration(SECOND)).unwrap_or_default(),
        start_timeout: r.value(&s::START_TIMEOUT, parse::duration(SECOND)).unwrap_or_default(),
        stop_grace: r.value(&s::STOP_GRACE, parse::duration(Duration::ZERO)).unwrap_or_default(),
        max_message_bytes: r.value(&s::MAX_MESSAGE_BYTES, parse::size(MESSAGE_BYTES)).unwrap_or_default(),
    }
}

fn environment(r: &mut Resolver<'_>) -> Vec<Variable> {
    let in_a_variable = r.written(&s::ENV).is_some_and(|written| matches!(written.source, Source::Environment(_)));
    let environment = r.values(&s::ENV, |text| match parse::variable(text)? {
        // A value may hold commas, and what follows one would be taken for a name, and shown.
        Variable { value: Some(_), .. } if in_a_variable => {
            Err("only names, separated by commas: set the variables themselves next to this one".into())
        }
        variable => Ok(variable),
    });
    let mut seen = HashSet::new();
    for variable in environment.iter().filter(|variable| !seen.insert(&variable.name)) {
        r.problem(&s::ENV, format!("`{}` is there twice; remove one of the two", variable.name));
    }
    environment
}

fn working_dir(r: &mut Resolver<'_>) -> Option<PathBuf> {
    let directory = r.value(&s::WORKING_DIR, parse::path)?;
    let shown = escaped(&directory.to_string_lossy());
    match directory.metadata() {
        Ok(found) if found.is_dir() => return Some(directory),
        Ok(_) => r.problem(&s::WORKING_DIR, format!("`{shown}` is not a directory")),
        Err(error) => r.problem(&s::WORKING_DIR, format!("cannot use `{shown}`: {error}")),
    }
    None
}

/// Checks the identifier that the settings make, and that it can stand in a challenge.
fn resource(r: &mut Resolver<'_>, public_url: Option<&str>, path: &str) {
    if RESERVED.iter().any(|own| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))) {
        r.problem(
            &s::PATH,
            format!("{} are the bridge's own, and what is under them; choose another", RESERVED.join(", ")),
        );
    }
    let challenge_safe = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    match ResourceUri::new(public_url.unwrap_or(ANY_URL), path) {
        Err(error @ InvalidResource::Path) => r.problem(&s::PATH, error.to_string()),
        Err(error) => r.problem(&s::PUBLIC_URL, error.to_string()),
        Ok(resource) if !resource.metadata_url().bytes().all(challenge_safe) => {
            r.problem(&s::PUBLIC_URL, "holds characters that a WWW-Authenticate header cannot; percent-encode them");
        }
        Ok(resource) if public_url.is_some() && resource.path().ends_with(&path.repeat(2)) => {
            r.warnings.push(format!("public_url ends with path already: clients will have to use {resource}"));
        }
        Ok(_) => {}
    }
}

/// Without a public URL the listening address takes its place, and that is always well-formed.
const ANY_URL: &str = "http://127.0.0.1";

/// Checks that names and paths tell the servers apart, whether or not a proxy takes the public URL's
/// own path away: otherwise the token of one would open another.
fn conflicts<'r>(r: &mut Resolver<'r>, servers: &[(&'r Table, &Server)], public_url: Option<&str>) {
    let paths = |server: &Server| {
        let public = ResourceUri::new(public_url.unwrap_or(ANY_URL), &server.path);
        let public = public.map(|resource| resource.path().to_owned()).unwrap_or_default();
        let mut paths = vec![server.path.trim_end_matches('/').to_owned(), public];
        if server.legacy_sse {
            let under = |path: &String| [format!("{path}/sse"), format!("{path}/messages")];
            paths.extend(paths.iter().flat_map(under).collect::<Vec<_>>());
        }
        paths
    };
    for (index, (table, server)) in servers.iter().enumerate() {
        for (_, earlier) in &servers[..index] {
            if earlier.name == server.name {
                let place = table.name.as_ref().map(|name| name.source.clone());
                r.problems
                    .push(Problem { place, what: format!("`name`: there is a server `{}` already", server.name) });
            }
            let taken = paths(earlier);
            if let Some(path) = paths(server).into_iter().find(|path| taken.contains(path)) {
                let path = if path.is_empty() { "/" } else { &path };
                r.table = Some(table);
                r.problem(&s::PATH, format!("requests to `{path}` go to the server `{}` already", earlier.name));
                r.table = None;
            }
        }
    }
}

//! One entry: the server that a client is to start, and what is there already.

use crate::clients::{client::Client, tree::Tree};

/// How a client starts a server over stdio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The program, an absolute path: programs with windows have no shell's `PATH`.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment.
    pub env: Vec<(String, String)>,
}

/// What a file says under the name of our entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// This very server.
    Same,
    /// This server, but its program stood elsewhere.
    Moved,
    /// Another one; what it starts, for people.
    Other(String),
}

/// Looks at `entry`, which stands in the file under our name.
///
/// The same program with the same arguments is ours, wherever it stood. What else a user or a client has put into the
/// entry (`disabled`, permissions, more variables) is theirs and makes no difference.
pub(crate) fn compare(client: Client, entry: Option<&Tree>, server: &Server) -> Found {
    let Some(entry) = entry else { return Found::Nothing };
    let command = entry.get(client.command_key()).and_then(Tree::as_text);
    let has_args = match entry.get("args") {
        None | Some(Tree::Null) => server.args.is_empty(),
        Some(Tree::List(args)) => args.iter().map(Tree::as_text).eq(server.args.iter().map(|arg| Some(arg.as_str()))),
        Some(_) => false,
    };
    let env = entry.get(client.env_key());
    let has_env = server.env.iter().all(|(key, value)| {
        env.and_then(|env| env.get(key)).and_then(Tree::as_text).is_some_and(|found| found == value)
    });
    match command {
        Some(command) if command == server.command && has_args && has_env => Found::Same,
        Some(command) if program_name(command) == program_name(&server.command) && has_args && has_env => Found::Moved,
        _ => Found::Other(describe(client, entry)),
    }
}

/// Whether `entry` starts `program`, with whatever arguments.
pub(crate) fn starts(client: Client, entry: &Tree, program: &str) -> bool {
    entry.get(client.command_key()).and_then(Tree::as_text).is_some_and(|command| program_name(command) == program)
}

/// The file name of a program without `.exe`, with the separators of any platform.
pub(crate) fn program_name(command: &str) -> &str {
    let name = command.rsplit(['/', '\\']).next().unwrap_or(command);
    match name.len().checked_sub(4).and_then(|at| name.split_at_checked(at)) {
        Some((stem, extension)) if extension.eq_ignore_ascii_case(".exe") => stem,
        _ => name,
    }
}

/// What an entry starts. Arguments and URLs are not shown: people write keys into them.
fn describe(client: Client, entry: &Tree) -> String {
    let args = match entry.get("args") {
        Some(Tree::List(args)) if args.len() == 1 => " with 1 argument".to_owned(),
        Some(Tree::List(args)) if !args.is_empty() => format!(" with {} arguments", args.len()),
        _ => String::new(),
    };
    match entry.get(client.command_key()) {
        Some(Tree::Text(command)) => {
            let shown: String = command.chars().take(200).flat_map(char::escape_debug).collect();
            format!("starts `{shown}`{args}")
        }
        _ if ["url", "serverUrl", "httpUrl", "uri"].iter().any(|key| entry.get(key).is_some()) => {
            "is a remote server".to_owned()
        }
        _ => "is something else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(command: &str, args: &[&str], more: &[(&str, Tree)]) -> Tree {
        let mut members = vec![
            ("command".to_owned(), Tree::text(command)),
            ("args".to_owned(), Tree::List(args.iter().map(|arg| Tree::text(*arg)).collect())),
        ];
        members.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        Tree::Map(members)
    }

    #[test]
    fn what_is_ours_and_what_is_not() {
        let server = Server { command: "/opt/bin/mcp-calculator".into(), args: vec!["x".into()], env: vec![] };
        let check = |entry: &Tree, expected: &Found| {
            assert_eq!(&compare(Client::Cursor, Some(entry), &server), expected, "{entry:?}");
        };
        check(&entry("/opt/bin/mcp-calculator", &["x"], &[]), &Found::Same);
        check(&entry("/opt/bin/mcp-calculator", &["x"], &[("disabled", Tree::Bool(true))]), &Found::Same);
        check(
            &entry(r"C:\old\MCP-calculator.EXE", &["x"], &[]),
            &Found::Other(r"starts `C:\\old\\MCP-calculator.EXE` with 1 argument".into()),
        );
        check(&entry(r"C:\old\mcp-calculator.EXE", &["x"], &[]), &Found::Moved);
        check(
            &entry("/usr/bin/mcp-calculator", &["y"], &[]),
            &Found::Other("starts `/usr/bin/mcp-calculator` with 1 argument".into()),
        );
        check(&entry("npx", &["-y", "--key=canary"], &[]), &Found::Other("starts `npx` with 2 arguments".into()));
        check(
            &Tree::Map(vec![("url".into(), Tree::text("https://x/?key=canary"))]),
            &Found::Other("is a remote server".into()),
        );
        check(&Tree::Null, &Found::Other("is something else".into()));
        assert_eq!(compare(Client::Cursor, None, &server), Found::Nothing);

        let with_env = Server { env: vec![("A".into(), "1".into())], ..server };
        let env =
            |value: &str| ("env", Tree::Map(vec![("B".into(), Tree::text("2")), ("A".into(), Tree::text(value))]));
        let there = entry("/opt/bin/mcp-calculator", &["x"], &[env("1")]);
        assert_eq!(compare(Client::Cursor, Some(&there), &with_env), Found::Same);
        let other = entry("/opt/bin/mcp-calculator", &["x"], &[env("3")]);
        assert!(matches!(compare(Client::Cursor, Some(&other), &with_env), Found::Other(_)));
    }
}

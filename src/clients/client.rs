//! The clients: where each has its file, what that is written in, and what an entry looks like.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::clients::{
    entry::Server,
    environment::{Environment, Platform},
    format::{Format, json::Dialect},
    tree::Tree,
};

/// A program that starts MCP servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Client {
    ClaudeDesktop,
    ClaudeCode,
    #[value(name = "vscode")]
    VsCode,
    Cursor,
    Windsurf,
    Zed,
    Gemini,
    Codex,
    LmStudio,
    Goose,
}

/// One file that a client may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    /// One of these exists where the client has been used.
    pub(crate) signs: Vec<PathBuf>,
}

impl Place {
    fn new(file: PathBuf, signs: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { file, signs: signs.into_iter().collect() }
    }

    pub(crate) fn is_found(&self) -> bool {
        self.signs.iter().chain([&self.file]).any(|sign| sign.exists())
    }
}

impl Client {
    /// All of them.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Its name on the command line.
    pub fn id(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "claude-desktop",
            Self::ClaudeCode => "claude-code",
            Self::VsCode => "vscode",
            Self::Cursor => "cursor",
            Self::Windsurf => "windsurf",
            Self::Zed => "zed",
            Self::Gemini => "gemini",
            Self::Codex => "codex",
            Self::LmStudio => "lm-studio",
            Self::Goose => "goose",
        }
    }

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "Claude Desktop",
            Self::ClaudeCode => "Claude Code",
            Self::VsCode => "VS Code",
            Self::Cursor => "Cursor",
            Self::Windsurf => "Windsurf",
            Self::Zed => "Zed",
            Self::Gemini => "Gemini CLI",
            Self::Codex => "Codex",
            Self::LmStudio => "LM Studio",
            Self::Goose => "Goose",
        }
    }

    /// What its file is written in, as the client itself reads it: a comment in a file that the client reads strictly
    /// is a mistake that people want to hear of. Where nobody says how strict a client is, we are not.
    pub(crate) fn format(self) -> Format {
        match self {
            Self::ClaudeDesktop | Self::ClaudeCode => Format::Json(Dialect::Strict),
            // It takes the comments out and gives the rest to a strict parser.
            Self::Gemini => Format::Json(Dialect::Comments),
            Self::VsCode | Self::Cursor | Self::Windsurf | Self::Zed | Self::LmStudio => Format::Json(Dialect::Lenient),
            Self::Codex => Format::Toml,
            Self::Goose => Format::Yaml,
        }
    }

    /// The member of the file that holds the servers, by name.
    pub(crate) fn servers_key(self) -> &'static str {
        match self {
            Self::VsCode => "servers",
            Self::Zed => "context_servers",
            Self::Codex => "mcp_servers",
            Self::Goose => "extensions",
            _ => "mcpServers",
        }
    }

    pub(crate) fn command_key(self) -> &'static str {
        if self == Self::Goose { "cmd" } else { "command" }
    }

    pub(crate) fn env_key(self) -> &'static str {
        if self == Self::Goose { "envs" } else { "env" }
    }

    /// The files it may read, the one for new users first. Several exist where a client has moved: then those that
    /// are there all count.
    pub(crate) fn places(self, environment: &Environment) -> Vec<Place> {
        let config = |path: &str| environment.config(path);
        let home = |path: &str| environment.below(None, "", path);
        // The folder of the file is the sign of its client.
        let in_folder = |folder: PathBuf, name: &str| Place::new(environment.join(&folder, name), [folder]);
        match self {
            Self::ClaudeDesktop => {
                let mut places = vec![in_folder(config("Claude"), "claude_desktop_config.json")];
                if environment.platform() == Platform::Windows {
                    // The Microsoft Store's sandbox shows the program a Roaming folder of its own.
                    let package =
                        environment.below(Some("LOCALAPPDATA"), "AppData/Local", "Packages/Claude_pzs8sxrjxfjjc");
                    let file = environment.join(&package, "LocalCache/Roaming/Claude/claude_desktop_config.json");
                    places.push(Place::new(file, [package]));
                }
                places
            }
            Self::ClaudeCode => {
                // Beside its folder, but inside of one that was chosen.
                let file = environment.below(Some("CLAUDE_CONFIG_DIR"), "", ".claude.json");
                let folder = environment.below(Some("CLAUDE_CONFIG_DIR"), ".claude", "x").parent().map(PathBuf::from);
                vec![Place::new(file, folder)]
            }
            Self::VsCode => vec![Place::new(config("Code/User/mcp.json"), [config("Code")])],
            Self::Cursor => vec![in_folder(home(".cursor"), "mcp.json")],
            Self::Windsurf => {
                vec![
                    in_folder(environment.xdg_config("devin"), "mcp_config.json"),
                    in_folder(home(".codeium/windsurf"), "mcp_config.json"),
                ]
            }
            Self::Zed => {
                let folder = match environment.platform() {
                    Platform::Windows => config("Zed"),
                    // Zed looks at no variable there.
                    Platform::MacOs => home(".config/zed"),
                    Platform::Linux => config("zed"),
                };
                vec![in_folder(folder, "settings.json")]
            }
            Self::Gemini => vec![in_folder(environment.below(Some("GEMINI_CLI_HOME"), "", ".gemini"), "settings.json")],
            Self::Codex => {
                let file = environment.below(Some("CODEX_HOME"), ".codex", "config.toml");
                let folder = file.parent().map(PathBuf::from);
                vec![Place::new(file, folder)]
            }
            Self::LmStudio => {
                // Where it was before 0.3; whoever has updated since still has it there.
                vec![in_folder(home(".lmstudio"), "mcp.json"), in_folder(home(".cache/lm-studio"), "mcp.json")]
            }
            Self::Goose => {
                let otherwise = match environment.platform() {
                    Platform::Windows => config("Block/goose/config"),
                    Platform::MacOs | Platform::Linux => environment.xdg_config("goose"),
                };
                let folder = match environment.variable("GOOSE_PATH_ROOT") {
                    Some(root) if environment.is_absolute(root) => environment.join(root.as_ref(), "config"),
                    _ => otherwise,
                };
                vec![in_folder(folder, "config.yaml")]
            }
        }
    }

    /// The file of one project, below its folder; `None` for clients that have no such file.
    pub(crate) fn project_file(self) -> Option<&'static str> {
        match self {
            Self::ClaudeCode => Some(".mcp.json"),
            Self::VsCode => Some(".vscode/mcp.json"),
            Self::Cursor => Some(".cursor/mcp.json"),
            Self::Windsurf => Some(".devin/mcp_config.json"),
            Self::Zed => Some(".zed/settings.json"),
            Self::Gemini => Some(".gemini/settings.json"),
            Self::Codex => Some(".codex/config.toml"),
            Self::ClaudeDesktop | Self::LmStudio | Self::Goose => None,
        }
    }

    /// The name under which an entry called `name` stands in the file.
    ///
    /// # Errors
    /// When the client takes no such name; the text says what it takes.
    pub(crate) fn key_of(self, name: &str) -> Result<String, &'static str> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        match self {
            Self::ClaudeCode | Self::Codex if !name.chars().all(is_plain) => Err("letters, digits, - and _"),
            // Its own programs look an extension up by this.
            Self::Goose => Ok(name.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase()),
            _ => Ok(name.to_owned()),
        }
    }

    /// The entry of `server`, which people know as `name`.
    pub(crate) fn entry(self, name: &str, server: &Server) -> Tree {
        let args = Tree::List(server.args.iter().map(Tree::text).collect());
        let env = Tree::Map(server.env.iter().map(|(key, value)| (key.clone(), Tree::text(value))).collect());
        let mut members = match self {
            Self::ClaudeCode | Self::VsCode => vec![("type", Tree::text("stdio"))],
            Self::Goose => {
                vec![("enabled", Tree::Bool(true)), ("type", Tree::text("stdio")), ("name", Tree::text(name))]
            }
            _ => Vec::new(),
        };
        // Also without any: some clients insist on the list.
        members.extend([(self.command_key(), Tree::text(&server.command)), ("args", args)]);
        if !server.env.is_empty() || self == Self::Goose {
            members.push((self.env_key(), env));
        }
        if self == Self::Goose {
            members.push(("timeout", Tree::Number("300".to_owned())));
        }
        Tree::Map(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// What the client asks before it starts a server of the user's file, or of a project's.
    pub(crate) fn asks(self, of_project: bool) -> Option<&'static str> {
        match (self, of_project) {
            (Self::ClaudeCode, true) => Some("There it asks first whether it may start the servers of this project."),
            (Self::Codex, true) => Some("It reads this file in projects that you trust only, and asks you there."),
            (Self::Gemini, _) => Some("It starts servers in folders that you trust only, and asks you there."),
            _ => None,
        }
    }

    /// What makes the client read its file again.
    pub(crate) fn restart(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "Quit Claude Desktop (closing its window is not enough) and start it again.",
            Self::ClaudeCode => "Start a new session of Claude Code; /mcp shows its servers.",
            Self::VsCode => "`MCP: List Servers` in VS Code starts and stops servers; or reload the window.",
            Self::Cursor => "Cursor's settings under MCP switch servers on and off; or start Cursor again.",
            Self::Windsurf => "Refresh the MCP servers in Windsurf, or start it again.",
            Self::Zed => "Zed reads its settings again by itself.",
            Self::Gemini => "Start Gemini CLI again; /mcp shows its servers.",
            Self::Codex => "Start Codex again; /mcp shows its servers.",
            Self::LmStudio => "Start LM Studio again.",
            Self::Goose => "Start a new session of Goose, or Goose Desktop again.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_where_each_platform_has_them() {
        let mut text = String::new();
        for (platform, home) in
            [(Platform::Linux, "/home/zoë"), (Platform::MacOs, "/Users/zoë"), (Platform::Windows, r"C:\Users\Zoë Ω")]
        {
            let environment = Environment::new(platform, home, &[]);
            text += &format!("{platform:?}\n");
            for client in Client::all() {
                for place in client.places(&environment) {
                    text += &format!("  {:<15} {}\n", client.id(), place.file.display());
                }
            }
        }
        insta::assert_snapshot!("places", text);
    }

    #[test]
    fn variables_move_files_and_relative_ones_do_not() {
        let first = |client: Client, platform, variable, value| {
            let environment = Environment::new(platform, "/home/u", &[(variable, value)]);
            client.places(&environment)[0].file.to_str().expect("Unicode").to_owned()
        };
        let cases = [
            (Client::Codex, Platform::Linux, "CODEX_HOME", "/x", "/x/config.toml"),
            (Client::Codex, Platform::Linux, "CODEX_HOME", "x", "/home/u/.codex/config.toml"),
            (Client::Codex, Platform::Linux, "CODEX_HOME", "", "/home/u/.codex/config.toml"),
            (Client::ClaudeCode, Platform::MacOs, "CLAUDE_CONFIG_DIR", "/x", "/x/.claude.json"),
            (Client::ClaudeDesktop, Platform::Linux, "XDG_CONFIG_HOME", "/x", "/x/Claude/claude_desktop_config.json"),
            (Client::ClaudeDesktop, Platform::Windows, "APPDATA", r"D:\R", r"D:\R\Claude\claude_desktop_config.json"),
            (
                Client::VsCode,
                Platform::MacOs,
                "XDG_CONFIG_HOME",
                "/x",
                "/home/u/Library/Application Support/Code/User/mcp.json",
            ),
            (Client::Goose, Platform::MacOs, "XDG_CONFIG_HOME", "/x", "/x/goose/config.yaml"),
            (Client::Goose, Platform::Linux, "GOOSE_PATH_ROOT", "/x", "/x/config/config.yaml"),
            (Client::Zed, Platform::MacOs, "XDG_CONFIG_HOME", "/x", "/home/u/.config/zed/settings.json"),
            (Client::Zed, Platform::Linux, "XDG_CONFIG_HOME", "/x", "/x/zed/settings.json"),
            (Client::Gemini, Platform::Linux, "GEMINI_CLI_HOME", "/x", "/x/.gemini/settings.json"),
        ];
        for (client, platform, variable, value, expected) in cases {
            assert_eq!(first(client, platform, variable, value), expected, "{client:?} {variable}={value}");
        }
    }

    #[test]
    fn names_are_what_the_client_takes() {
        for client in Client::all() {
            assert_eq!(client.key_of("my-calc_2").as_deref(), Ok("my-calc_2"), "{client:?}");
            assert_eq!(client.id(), client.to_possible_value().expect("not hidden").get_name());
        }
        assert_eq!(Client::Goose.key_of("My Calculator").as_deref(), Ok("mycalculator"));
        assert_eq!(Client::Cursor.key_of("Zoës Rechner").as_deref(), Ok("Zoës Rechner"));
        assert!(Client::Codex.key_of("Zoës Rechner").is_err());
        assert!(Client::ClaudeCode.key_of("a.b").is_err());
    }
}

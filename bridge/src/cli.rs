//! The command line.

mod epilogues;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{
    Arg, ArgAction, ArgMatches, Command as ClapCommand, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint,
    builder::{PossibleValue, StringValueParser, TypedValueParser},
};
use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, roman};

use self::epilogues::{
    CONNECT_ENVIRONMENT, CONNECT_EPILOGUE, DOCTOR_EPILOGUE, EXAMPLES, EXIT_CODES, HEALTH_EPILOGUE, INSTALL_EPILOGUE,
    NOTES, POLICY_INIT_EPILOGUE, epilogue, settings_epilogue,
};
use crate::{
    config::{
        raw::{CommandFlags, Flags},
        settings::{ALL, Kind, Setting, is_for_asking},
    },
    connect::flags::{ConnectFlags, LogoutFlags},
    install::{Install, Uninstall},
    owner::{AppsCommand, GrantsCommand, OwnerCommand, State, UsersCommand},
    scope::ScopeSet,
};

/// `mcp-bridge` and its arguments.
#[derive(Debug, Parser)]
#[command(name = "mcp-bridge", version, max_term_width = 100, propagate_version = true, arg_required_else_help = true)]
#[command(about = "Put an MCP server on the network, for authorized clients only")]
#[command(long_about = "Put an MCP server on the network as an OAuth 2.1-protected streamable HTTP endpoint.\n\n\
                  That is the command after --, or else the calculator.")]
#[command(after_help = epilogue())]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a command, or the calculator, over streamable HTTP
    #[command(next_line_help = true, after_help = settings_epilogue())]
    Serve(Flags),
    /// Say what is wrong with the settings, or what they are and where each comes from
    ///
    /// Takes what `serve` takes, starts no command, opens no socket, and ends with 0 when `serve` would start and with 2
    /// when it would not.
    #[command(next_line_help = true, after_help = settings_epilogue())]
    CheckConfig(Flags),
    /// Ask the bridge that serves with these settings whether it is ready
    ///
    /// For health checks of containers, which have no other program to ask with. Takes what `serve` takes, asks where
    /// that listens, waits six seconds at most, and says why if the answer is no.
    #[command(next_line_help = true, after_help = HEALTH_EPILOGUE)]
    Health {
        /// Ask only whether it lives, and not whether it can answer requests now
        #[arg(long)]
        live: bool,
        /// What `serve` takes.
        #[command(flatten)]
        flags: Flags,
    },
    /// Make a policy for a command, or see what a policy allows
    Policy {
        /// Which of the two.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Bring a remote MCP server to a client that speaks stdio only
    ///
    /// Speaks MCP on standard input and output, and relays it to the streamable HTTP server at URL. Proxies are those of
    /// the environment (HTTPS_PROXY, NO_PROXY); redirects are not followed.
    #[command(next_line_help = true, after_help = CONNECT_EPILOGUE)]
    Connect(ConnectFlags),
    /// Sign in at a remote MCP server, for later runs of connect
    ///
    /// connect does that by itself when the server asks for it; this is for doing it ahead, or again after it failed.
    /// Takes what connect takes.
    #[command(next_line_help = true)]
    Login(ConnectFlags),
    /// Revoke the tokens of a sign-in at a remote MCP server, and forget them
    Logout(LogoutFlags),
    /// Add a remote server, or any command, to desktop clients
    ///
    /// With --connect, the entry runs this program, which brings the remote server to clients that only start commands.
    /// With --serve-command, the entry runs that command itself. Other entries, comments and the look of the file stay
    /// as they are, and the file as it was is kept beside it.
    #[command(after_help = INSTALL_EPILOGUE)]
    Install(Install),
    /// Remove such an entry from desktop clients
    ///
    /// An entry of another program is only removed with --force. The file as it was is kept beside it.
    Uninstall(Uninstall),
    /// Find out why a client does not connect to a server, this bridge or any other
    ///
    /// Walks the way of a real client from outside: name, TLS, the 401 and its challenge, metadata and identifiers byte
    /// for byte, registration as Claude, ChatGPT, VS Code and Cursor do it, CORS, both eras, tools and streams. Says of
    /// each step what was asked, what came back, whom it hurts and what to change. Takes a minute at most.
    #[command(next_line_help = true, after_help = DOCTOR_EPILOGUE)]
    Doctor(DoctorFlags),
    /// Set the passphrase of the embedded authorization server's owner
    Owner {
        /// Where the state is.
        #[command(flatten)]
        state: State,
        /// What to do.
        #[command(subcommand)]
        command: OwnerCommand,
    },
    /// Add, remove and list those who may sign in at the embedded authorization server
    Users {
        /// Where the state is.
        #[command(flatten)]
        state: State,
        /// What to do.
        #[command(subcommand)]
        command: UsersCommand,
    },
    /// List and take back what users have allowed applications
    Grants {
        /// Where the state is.
        #[command(flatten)]
        state: State,
        /// What to do.
        #[command(subcommand)]
        command: GrantsCommand,
    },
    /// List and remove applications that have registered, or let them register
    Apps {
        /// Where the state is.
        #[command(flatten)]
        state: State,
        /// What to do.
        #[command(subcommand)]
        command: AppsCommand,
    },
    /// Sign in the browser that shows a code, where `serve` runs with --approve terminal
    Approve {
        /// Where the state is.
        #[command(flatten)]
        state: State,
        /// The code, like ABCD-EFGH-JKLM
        code: String,
        /// As whom [default: owner]
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, in roff
    Man,
}

/// What to examine, and how far.
#[derive(Debug, clap::Args)]
pub struct DoctorFlags {
    /// The server's URL, exactly as people type it into a client
    #[arg(value_hint = ValueHint::Url)]
    pub url: String,
    /// A file with an access token, to see what only users see; or put the token into MCP_BRIDGE_TOKEN
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// Sign in with a browser, look at what users see, and revoke the token again
    #[arg(long, conflicts_with = "token_file")]
    pub login: bool,
    /// With --login: print the address to sign in at, and open no browser
    #[arg(long, requires = "login")]
    pub no_browser: bool,
    /// With --login: the client id, if one was registered for you; a secret comes as for connect
    #[arg(long, value_name = "ID", requires = "login")]
    pub client_id: Option<String>,
    /// With --login: the client's authorization server; its secret goes nowhere else
    #[arg(long, value_name = "URL", requires = "login")]
    pub issuer: Option<String>,
    /// Also register each client dynamically, to try its redirect URIs; may leave registrations behind
    #[arg(long)]
    pub register: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Show questions and answers also where nothing is wrong
    #[arg(long, conflicts_with = "json")]
    pub verbose: bool,
    /// Print words in place of signs; the default where the locale is not UTF-8
    #[arg(long, conflicts_with = "json")]
    pub ascii: bool,
}

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Ask a command what it offers, and print a settings file with a scope for each tool
    ///
    /// Starts the command, lists its tools, prompts and resources, and ends it. What is printed is a file for --config:
    /// the command, and a rule for everything that it offers. It is a draft for you to read: descriptions in it are the
    /// server's own words.
    #[command(next_line_help = true, after_help = POLICY_INIT_EPILOGUE)]
    Init {
        /// Write the file here, not to stdout; a file that is there is never overwritten
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
        /// The command and how it is started.
        #[command(flatten)]
        flags: CommandFlags,
    },
    /// Show which scopes each rule, tool, prompt and resource needs, or what a user with some may do
    ///
    /// Takes what `serve` takes, and needs no settings about authorization. A command that would be served is started and
    /// asked what it offers. Rules that are about nothing, and tools that no rule is about, are told as warnings.
    #[command(next_line_help = true, after_help = settings_epilogue())]
    Check {
        /// What a user has consented to, with spaces between; unset: shows what each thing needs
        #[arg(long, value_name = "SCOPES")]
        scopes: Option<ScopeSet>,
        /// Only this one of several servers
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
        /// What `serve` takes.
        #[command(flatten)]
        flags: Flags,
    },
}

/// Whether these arguments ask for the watcher over children, which the bridge starts for itself.
///
/// It is no [`Command`], so that no help, completion or page can show it, and because the watcher
/// has no use for the memory and the millisecond that the command line takes.
#[cfg(target_os = "linux")]
pub fn is_watcher(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> bool {
    arguments.into_iter().skip(1).eq([crate::backend::child::watcher::SUBCOMMAND])
}

/// Prints the completion script for `shell`.
///
/// # Errors
/// When `out` cannot be written.
pub fn completions(shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // The generator panics on a closed pipe, but never on a growing buffer.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mcp-bridge", &mut script);
    out.write_all(&script)
}

/// Prints the manual page: the commands, then the settings of `serve` and `check-config`.
///
/// # Errors
/// When `out` cannot be written.
pub fn man(out: &mut impl Write) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let serve = command.find_subcommand("serve").cloned().unwrap_or_default();
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    for subcommand in command.get_subcommands() {
        let about = |command: &ClapCommand| {
            command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default()
        };
        let inner = || subcommand.get_subcommands().filter(|inner| inner.get_name() != "help");
        let mut described = Vec::new();
        if inner().next().is_none() {
            described.push((subcommand.get_name().to_owned(), subcommand));
        }
        for inner in inner().filter(|_| subcommand.get_name() != "help") {
            described.push((format!("{} {}", subcommand.get_name(), inner.get_name()), inner));
        }
        for (name, command) in described {
            commands.control("TP", []).text([bold(name)]).text([roman(about(command))]);
            own_options(&mut commands, command);
        }
    }
    let mut notes = Roff::new();
    notes.control("SH", ["SETTINGS"]);
    for paragraph in NOTES.split("\n\n").chain([CONNECT_ENVIRONMENT]) {
        notes.control("PP", []).text([roman(paragraph)]);
    }
    // The page indents by itself.
    let examples = EXAMPLES.trim_start().replace("\n  ", "\n");
    notes.control("SH", ["EXAMPLES"]).control("nf", []).text([roman(examples)]).control("fi", []);
    notes.control("SH", ["EXIT STATUS"]).text([roman(EXIT_CODES)]);

    let page = clap_mangen::Man::new(command);
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    commands.to_writer(out)?;
    clap_mangen::Man::new(serve).render_options_section(out)?;
    notes.to_writer(out)
}

/// The flags of a command that are no settings.
fn own_options(commands: &mut Roff, command: &ClapCommand) {
    // What is a setting has a place of its own; a local command has flags only.
    let is_local = |command: &ClapCommand| ["connect", "login", "logout"].contains(&command.get_name());
    let is_setting = |arg: &Arg| ALL.iter().any(|setting| setting.key == arg.get_id().as_str());
    for arg in command.get_arguments().filter(|arg| is_local(command) || !is_setting(arg)) {
        let (Some(flag), Some(help)) = (arg.get_long(), arg.get_help()) else { continue };
        if flag != "help" && flag != "version" {
            commands.control("IP", []).text([bold(format!("--{flag}")), roman(format!(": {help}"))]);
        }
    }
}

impl clap::Args for Flags {
    fn augment_args(command: ClapCommand) -> ClapCommand {
        ALL.iter().filter(|setting| setting.has_flag()).fold(command, |command, setting| command.arg(arg(setting)))
    }

    fn augment_args_for_update(command: ClapCommand) -> ClapCommand {
        Self::augment_args(command)
    }
}

impl clap::Args for CommandFlags {
    fn augment_args(command: ClapCommand) -> ClapCommand {
        let wanted = ALL.iter().filter(|setting| is_for_asking(setting));
        wanted.fold(command, |command, setting| command.arg(arg(setting).required(setting.kind == Kind::Command)))
    }

    fn augment_args_for_update(command: ClapCommand) -> ClapCommand {
        Self::augment_args(command)
    }
}

impl FromArgMatches for CommandFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        take(&mut self.0, ALL.iter().filter(|setting| is_for_asking(setting)), matches);
        Ok(())
    }
}

/// Takes the values of `settings`, each of which has a flag.
fn take<'s>(flags: &mut Flags, settings: impl Iterator<Item = &'s &'static Setting>, matches: &ArgMatches) {
    for setting in settings {
        if let Some(texts) = matches.get_many::<String>(setting.key) {
            flags.0.insert(setting.key, texts.cloned().collect());
        }
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        take(self, ALL.iter().filter(|setting| setting.has_flag()), matches);
        Ok(())
    }
}

/// The flag of a setting, or what follows `--`. Values stay text: what is wrong with them is reported
/// with everything else, and not alone.
fn arg(setting: &Setting) -> Arg {
    if setting.kind == Kind::Command {
        return Arg::new(setting.key)
            .last(true)
            .num_args(1..)
            .help_heading(setting.heading)
            .value_names([setting.value_name, "ARG"])
            .value_hint(ValueHint::CommandWithArguments)
            .help(setting.help);
    }
    let default = setting.default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
    let short = format!("{}{default}", setting.help);
    let long = format!("{}\n{}", setting.help, format!("{default} [env: {}]", setting.variable()).trim_start());
    let arg = Arg::new(setting.key)
        .long(setting.flag_name())
        .help_heading(setting.heading)
        .value_name(setting.value_name)
        .help(short)
        .long_help(long)
        .hide_possible_values(true);
    match setting.kind {
        Kind::One | Kind::Secret | Kind::Command => arg,
        Kind::Many | Kind::Variables => arg.action(ArgAction::Append),
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(Words(&["true", "false"])),
        Kind::Choice(words) => arg.value_parser(Words(words)),
        Kind::File | Kind::ConfigFile => arg.value_hint(ValueHint::FilePath),
        Kind::Directory => arg.value_hint(ValueHint::DirPath),
    }
}

/// Any text, with words that completions offer.
#[derive(Clone)]
struct Words(&'static [&'static str]);

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(
        &self,
        command: &ClapCommand,
        arg: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(|word| PossibleValue::new(*word))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(path: &[&str]) -> String {
        let mut command = Cli::command().term_width(100);
        command.build();
        path.iter()
            .try_fold(command, |command, name| command.find_subcommand(name).cloned())
            .expect("a known command")
            .term_width(100)
            .render_long_help()
            .to_string()
    }

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_texts() {
        insta::assert_snapshot!("help", help(&[]));
        insta::assert_snapshot!("help_serve", help(&["serve"]));
        insta::assert_snapshot!(
            "help_check_config",
            help(&["check-config"]).split("Listening:").next().expect("a part")
        );
        insta::assert_snapshot!("help_health", help(&["health"]).split("Listening:").next().expect("a part"));
        insta::assert_snapshot!("help_connect", help(&["connect"]));
        insta::assert_snapshot!("help_doctor", help(&["doctor"]));
        insta::assert_snapshot!("help_install", help(&["install"]));
        insta::assert_snapshot!("help_uninstall", help(&["uninstall"]));
        insta::assert_snapshot!("help_policy", help(&["policy"]));
        insta::assert_snapshot!("help_policy_init", help(&["policy", "init"]));
        insta::assert_snapshot!(
            "help_policy_check",
            help(&["policy", "check"]).split("Listening:").next().expect("a part")
        );
    }

    #[test]
    fn a_secret_as_a_flag_is_refused_and_not_repeated() {
        for secret in ["--introspection-client-secret=canary", "--introspection-client-secret canary"] {
            let args = ["mcp-bridge", "serve"].into_iter().chain(secret.split(' '));
            let error = Cli::try_parse_from(args).expect_err("no such flag").to_string();
            assert!(error.contains("--introspection-client-secret-file"), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn generated_texts_have_the_flags() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut script = Vec::new();
            completions(shell, &mut script).expect("a buffer takes everything");
            let script = String::from_utf8_lossy(&script);
            assert!(script.contains("introspection-cache") && script.contains("scopes"), "{shell}");
        }
        let mut page = Vec::new();
        man(&mut page).expect("a buffer takes everything");
        let page = String::from_utf8_lossy(&page);
        assert!(page.starts_with(".ie"), "{page}");
        assert!(page.contains("MCP_BRIDGE_INTROSPECTION_CACHE"), "{page}");
        assert!(page.contains("policy init") && page.contains("policy check") && page.contains("scopes"), "{page}");
        assert!(page.contains("insecure\\-http") && page.contains("MCP_BRIDGE_CLIENT_SECRET"), "{page}");
        assert!(page.contains(".SH LIMITS") && page.contains(".SH EXAMPLES"), "{page}");
    }
}

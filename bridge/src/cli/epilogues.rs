//! What `--help` and the manual page say after the flags.

pub(super) const NOTES: &str = "\
Every setting is a flag (--public-url), an environment variable (MCP_BRIDGE_PUBLIC_URL) or a key of
the --config file (public_url = \"...\"); the first of these that is given counts. Several values are
separated by commas in the environment, and are an array in the file. Durations are written like
500ms, 15s or 30m, sizes like 4MiB.

What follows -- is the command to serve, with its arguments; in the file it is an array (command =
[\"npx\", \"-y\", \"...\"]). Several servers are [[server]] tables of the file, each with a name and a
path; what a table leaves out comes from the settings outside of the tables.

The client secret comes from MCP_BRIDGE_INTROSPECTION_CLIENT_SECRET or from a file, never from a
flag. PROPELAUTH_AUTH_URL, PROPELAUTH_INTROSPECTION_CLIENT_ID and
PROPELAUTH_INTROSPECTION_CLIENT_SECRET together are enough to start.";

/// What `connect` and `login` take from the environment.
pub(super) const CONNECT_ENVIRONMENT: &str = "\
connect and login take the secret of --client-id from MCP_BRIDGE_CLIENT_SECRET, or from the file that
MCP_BRIDGE_CLIENT_SECRET_FILE names, and proxies from HTTPS_PROXY, HTTP_PROXY and NO_PROXY. What they
remember is in MCP_BRIDGE_STATE_DIR, or else in the platform's folder for state.";

pub(super) const EXAMPLES: &str =
    "  Serve the calculator, or a command, to its owner; the bridge signs its users in by itself:
    mcp-bridge serve
    mcp-bridge serve -- npx -y @modelcontextprotocol/server-everything

  The same from everywhere, at the URL that is shown:
    mcp-bridge serve --tunnel cloudflared -- npx -y @modelcontextprotocol/server-everything

  Try it on this machine, without authorization:
    mcp-bridge serve --auth none
    mcp-bridge serve --auth none -- npx -y @modelcontextprotocol/server-everything

  Let the users of a PropelAuth project in, from claude.ai and others, through ngrok:
    export PROPELAUTH_AUTH_URL=https://auth.example.com
    export PROPELAUTH_INTROSPECTION_CLIENT_ID=... PROPELAUTH_INTROSPECTION_CLIENT_SECRET=...
    mcp-bridge serve --tunnel ngrok --public-url https://NAME.ngrok.app

  See what would be served, and where each setting comes from:
    mcp-bridge check-config --config bridge.toml

  Make a policy for a server of your own, and see what a user may do with some scopes:
    mcp-bridge policy init --output bridge.toml -- npx -y @modelcontextprotocol/server-everything
    mcp-bridge policy check --config bridge.toml --scopes \"tool:echo\"";

pub(super) const EXIT_CODES: &str = "0 done, 1 failed while running, 2 wrong flags or settings.";

pub(super) const HEALTH_EPILOGUE: &str = "\
Examples:
  mcp-bridge health
  mcp-bridge health --live --config bridge.toml

Exit codes: 0 yes; 1 no, nobody answers, or wrong settings; 2 wrong flags.";

pub(super) const CONNECT_EPILOGUE: &str = "\
Examples:
  mcp-bridge connect https://example.com/mcp
  mcp-bridge connect https://example.com/mcp --header 'Authorization: Bearer ${API_TOKEN}'
  mcp-bridge connect https://example.com/mcp --no-browser --token-store file

Exit codes: 0 done, 1 it could not start, 2 wrong flags.";

pub(super) const INSTALL_EPILOGUE: &str = "\
Examples:
  mcp-bridge install --client claude-desktop --connect https://mcp.example.com/mcp
  mcp-bridge install --all --name everything --serve-command npx -y @modelcontextprotocol/server-everything
  mcp-bridge install --client codex --connect https://mcp.example.com/mcp --print

Exit codes: 0 done or nothing to do, 1 a file could not be changed, 2 wrong command line.";

pub(super) const DOCTOR_EPILOGUE: &str = "\
Examples:
  mcp-bridge doctor https://mcp.example.com/mcp
  MCP_BRIDGE_TOKEN=... mcp-bridge doctor --verbose https://mcp.example.com/mcp

The token is sent to the origin of the URL and nowhere else. It comes from MCP_BRIDGE_TOKEN, from
the file that MCP_BRIDGE_TOKEN_FILE names, or from --token-file, never from a flag. Proxies come
from HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

Exit codes: 0 clients can connect, perhaps with warnings; 1 something fails; 2 wrong flags or URL.";

pub(super) const POLICY_INIT_EPILOGUE: &str = "\
Examples:
  mcp-bridge policy init --output bridge.toml -- npx -y @modelcontextprotocol/server-everything
  mcp-bridge policy init --env API_KEY -- ./my-server --stdio

Exit codes: 0 done, 1 the server could not be asked, 2 wrong flags or settings, or the file is there.";

pub(super) fn epilogue() -> String {
    format!("Examples:\n{EXAMPLES}\n\nExit codes: {EXIT_CODES}")
}

pub(super) fn settings_epilogue() -> String {
    format!("{NOTES}\n\n{}", epilogue())
}

//! The paths of one gate, and what is there.

use http::Method;

/// The paths of one gate.
pub(super) struct Paths {
    /// The endpoint's: as we are reached locally, and under the public URL.
    endpoint: [String; 2],
    /// Whether the two of HTTP+SSE are ours too.
    legacy_sse: bool,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// The MCP endpoint.
    Mcp,
    /// The stream of a client of 2024-11-05.
    Sse,
    /// Where such a client sends its messages.
    Messages,
}

impl Paths {
    /// The paths of an endpoint at `local`, which is `public` under the public URL.
    pub(super) fn new(local: &str, public: &str, legacy_sse: bool) -> Self {
        let public = if public.is_empty() { "/" } else { public };
        Self { endpoint: [local.to_owned(), public.to_owned()], legacy_sse }
    }

    /// What is at `path`, if it is ours.
    pub(super) fn at(&self, path: &str) -> Option<Endpoint> {
        self.endpoint.iter().find_map(|endpoint| {
            if path == endpoint {
                return Some(Endpoint::Mcp);
            }
            let under = path.strip_prefix(endpoint.trim_end_matches('/')).filter(|_| self.legacy_sse)?;
            match under {
                SSE => Some(Endpoint::Sse),
                MESSAGES => Some(Endpoint::Messages),
                _ => None,
            }
        })
    }

    /// Where clients of HTTP+SSE send their messages, as they see it: a proxy may take away the
    /// public URL's own path, and we answer to both.
    pub(super) fn messages(&self) -> String {
        format!("{}{MESSAGES}", self.endpoint[1].trim_end_matches('/'))
    }
}

/// Under the endpoint's path; `config` knows them too.
const SSE: &str = "/sse";
const MESSAGES: &str = "/messages";

impl Endpoint {
    /// Whether it takes `method`, apart from `OPTIONS`.
    pub(super) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Mcp => [Method::POST, Method::GET, Method::DELETE].contains(method),
            Self::Sse => method == Method::GET,
            Self::Messages => method == Method::POST,
        }
    }

    /// All that it takes, for `Allow`.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::Mcp => "GET, POST, DELETE, OPTIONS",
            Self::Sse => "GET, OPTIONS",
            Self::Messages => "POST, OPTIONS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_where() {
        for (local, public, path, expected) in [
            ("/mcp", "/mcp", "/mcp", Some(Endpoint::Mcp)),
            ("/mcp", "/mcp", "/mcp/", None),
            ("/mcp", "/mcp", "/mcp/sse", Some(Endpoint::Sse)),
            ("/mcp", "/mcp", "/mcp/messages", Some(Endpoint::Messages)),
            ("/mcp", "/mcp", "/mcp/sse/", None),
            ("/mcp", "/mcp", "/mcpsse", None),
            ("/mcp", "/mcp", "/sse", None),
            ("/mcp", "/team/mcp", "/team/mcp/sse", Some(Endpoint::Sse)),
            ("/mcp", "/team/mcp", "/mcp/messages", Some(Endpoint::Messages)),
            ("/", "", "/", Some(Endpoint::Mcp)),
            ("/", "", "/sse", Some(Endpoint::Sse)),
            ("/", "", "/messages", Some(Endpoint::Messages)),
            ("/", "", "//sse", None),
        ] {
            assert_eq!(Paths::new(local, public, true).at(path), expected, "{path} at {local} and {public}");
            let off = expected.filter(|found| *found == Endpoint::Mcp);
            assert_eq!(Paths::new(local, public, false).at(path), off, "{path}, switched off");
        }
        assert_eq!(Paths::new("/mcp", "/team/mcp", true).messages(), "/team/mcp/messages");
        assert_eq!(Paths::new("/", "", true).messages(), "/messages");
    }
}

//! The URL that people paste into their client, and what follows from it (RFC 8707 §2, RFC 9728).

use std::{fmt, sync::Arc};

use url::Url;

/// Where RFC 9728 §3 puts a resource's metadata, before the resource's own path.
pub const METADATA_PREFIX: &str = "/.well-known/oauth-protected-resource";

/// The identifier of what we protect: the only audience accepted, and byte for byte the URL that
/// people paste into their client.
///
/// It comes from settings only, never from a request's headers. It is `https`, or `http` on a
/// loopback host; it has no user name, query or fragment, and is written in its normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceUri {
    uri: Arc<str>,
    /// Length of scheme, `://` and authority.
    origin_len: usize,
}

impl ResourceUri {
    /// The resource at `path` under `public_url`, an origin with or without a path prefix.
    ///
    /// # Errors
    /// [`InvalidResource`] says what is wrong and how to write it.
    pub fn new(public_url: &str, path: &str) -> Result<Self, InvalidResource> {
        let url = Url::parse(public_url).map_err(|error| InvalidResource::NotAUrl(error.to_string()))?;
        let loopback = is_loopback(&url);
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            "http" => return Err(InvalidResource::PlainHttp),
            other => return Err(InvalidResource::Scheme(other.to_owned())),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidResource::Userinfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidResource::QueryOrFragment);
        }
        let normal = url.as_str().trim_end_matches('/');
        let written = public_url.trim_end_matches('/');
        if normal != written {
            return Err(InvalidResource::NotNormal(normal.to_owned()));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        let dots = path.split('/').any(|part| part == "." || part == "..");
        if !path.starts_with('/') || path.contains("//") || dots || !path.bytes().all(plain) {
            return Err(InvalidResource::Path);
        }
        let path = if path == "/" { "" } else { path };
        Ok(Self { origin_len: url.origin().ascii_serialization().len(), uri: format!("{written}{path}").into() })
    }

    /// The identifier itself.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// Scheme and authority, without a path.
    pub fn origin(&self) -> &str {
        &self.uri[..self.origin_len]
    }

    /// Host, and port if it is not the scheme's own.
    pub fn authority(&self) -> &str {
        self.origin().split_once("://").map_or("", |(_, authority)| authority)
    }

    /// The path, prefix included; empty for a resource at the root.
    pub fn path(&self) -> &str {
        &self.uri[self.origin_len..]
    }

    /// Where the resource's metadata is found (RFC 9728 §3.1: the well-known part goes between
    /// authority and path).
    pub fn metadata_url(&self) -> String {
        format!("{}{METADATA_PREFIX}{}", self.origin(), self.path())
    }
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

/// Whether `url`'s host is a loopback address or `localhost`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Why a public URL cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResource {
    /// It does not parse.
    #[error("not a URL ({0}); write it like https://mcp.example.com")]
    NotAUrl(String),
    /// Plain http to another machine.
    #[error("plain http would send tokens unencrypted; use https (http is for loopback only)")]
    PlainHttp,
    /// Neither http nor https.
    #[error("the scheme `{0}` is not http or https")]
    Scheme(String),
    /// A user name or password in it.
    #[error("a URL with a user name or password in it cannot be a resource; leave them out")]
    Userinfo,
    /// A query or fragment in it.
    #[error("a query or fragment cannot be part of a resource; leave it out")]
    QueryOrFragment,
    /// Clients would normalise it and then not find it equal to ours.
    #[error("clients compare this URL byte for byte; write it as {0}")]
    NotNormal(String),
    /// The endpoint's path.
    #[error("the path must begin with `/` and hold only letters, digits and -._~, like /mcp")]
    Path,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_and_metadata_url() {
        let cases = [
            (
                "https://h.example",
                "/mcp",
                "https://h.example/mcp",
                "https://h.example/.well-known/oauth-protected-resource/mcp",
            ),
            (
                "https://h.example/",
                "/mcp",
                "https://h.example/mcp",
                "https://h.example/.well-known/oauth-protected-resource/mcp",
            ),
            (
                "https://h.example:8443/a/b",
                "/mcp",
                "https://h.example:8443/a/b/mcp",
                "https://h.example:8443/.well-known/oauth-protected-resource/a/b/mcp",
            ),
            ("https://h.example", "/", "https://h.example", "https://h.example/.well-known/oauth-protected-resource"),
            (
                "http://127.0.0.1:8808",
                "/mcp",
                "http://127.0.0.1:8808/mcp",
                "http://127.0.0.1:8808/.well-known/oauth-protected-resource/mcp",
            ),
            ("http://[::1]:1", "/mcp", "http://[::1]:1/mcp", "http://[::1]:1/.well-known/oauth-protected-resource/mcp"),
            (
                "http://localhost:1",
                "/mcp",
                "http://localhost:1/mcp",
                "http://localhost:1/.well-known/oauth-protected-resource/mcp",
            ),
        ];
        for (public, path, uri, metadata) in cases {
            let resource = ResourceUri::new(public, path).expect(public);
            assert_eq!(resource.as_str(), uri);
            assert_eq!(resource.metadata_url(), metadata);
        }
        let resource = ResourceUri::new("https://h.example:8443/a", "/mcp").expect("valid");
        assert_eq!(
            (resource.origin(), resource.authority(), resource.path()),
            ("https://h.example:8443", "h.example:8443", "/a/mcp")
        );
    }

    #[test]
    fn what_clients_could_not_compare_is_refused() {
        use InvalidResource as E;
        let check = |url: &str, expected: fn(&E) -> bool| {
            let error = ResourceUri::new(url, "/mcp").expect_err(url);
            assert!(expected(&error), "{url}: {error}");
        };
        check("h.example", |e| matches!(e, E::NotAUrl(_)));
        check("http://h.example", |e| matches!(e, E::PlainHttp));
        check("http://localhost.evil.example", |e| matches!(e, E::PlainHttp));
        check("ftp://h.example", |e| matches!(e, E::Scheme(_)));
        check("https://u:p@h.example", |e| matches!(e, E::Userinfo));
        check("https://h.example/?a", |e| matches!(e, E::QueryOrFragment));
        check("https://h.example/#a", |e| matches!(e, E::QueryOrFragment));
        check("https://H.example", |e| *e == E::NotNormal("https://h.example".into()));
        check("https://h.example:443", |e| *e == E::NotNormal("https://h.example".into()));
        check("https://h.example/a/../b", |e| matches!(e, E::NotNormal(_)));
        for path in ["mcp", "/a b", "/a//b", "/a/../b", "/ä", "/a?b"] {
            assert_eq!(ResourceUri::new("https://h.example", path), Err(E::Path), "{path}");
        }
    }
}

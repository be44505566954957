//! What a token opens: a resource identifier (RFC 8707 §2), kept as the exact string that it is.

use url::Url;

use crate::login::record::Record;

/// Whether the access token of `record` may be sent to `url`.
///
/// Only to what it was issued for: the same scheme, host and port, at or below the same path. A record
/// without a resource opens nothing that is reached by URL. Whoever follows a redirect must ask anew.
pub fn token_goes_to(record: &Record, url: &Url) -> bool {
    record.resource.as_deref().is_some_and(|resource| covers(resource, url))
}

/// Whether `resource` is `url` itself or a path above it on the same origin.
///
/// Trailing slashes count for nothing, because servers disagree with themselves about them. A resource
/// with a query is only that very URL.
pub(crate) fn covers(resource: &str, url: &Url) -> bool {
    // The parser would drop what surrounds a URL, or is no part of one, and the string is sent as it is.
    if !resource.bytes().all(|byte| byte.is_ascii_graphic()) {
        return false;
    }
    let Ok(resource) = Url::parse(resource) else { return false };
    let web = matches!(resource.scheme(), "https" | "http");
    let bare = |url: &Url| url.username().is_empty() && url.password().is_none();
    if !web || !bare(&resource) || !bare(url) || resource.fragment().is_some() || resource.origin() != url.origin() {
        return false;
    }
    let (above, below) = (resource.path().trim_end_matches('/'), url.path().trim_end_matches('/'));
    match resource.query() {
        Some(query) => above == below && url.query() == Some(query),
        None => below.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_for_another_origin_or_path_stays_here() {
        for (resource, url, expected) in [
            ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp", true),
            ("https://mcp.example.com", "https://mcp.example.com/mcp", true),
            ("https://mcp.example.com/", "https://mcp.example.com", true),
            ("https://mcp.example.com/mcp/", "https://mcp.example.com/mcp", true),
            ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp/sub?x=1", true),
            ("HTTPS://MCP.example.com:443/mcp", "https://mcp.example.com/mcp", true),
            ("https://mcp.example.com/mcp?t=1", "https://mcp.example.com/mcp?t=1", true),
            ("https://mcp.example.com/mcp?t=1", "https://mcp.example.com/mcp?t=2", false),
            ("https://mcp.example.com/mcp", "https://mcp.example.com/mcpx", false),
            ("https://mcp.example.com/mcp", "https://mcp.example.com/", false),
            ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp/../admin", false),
            ("https://mcp.example.com/mcp", "https://mcp.example.com/mcp/%2e%2e/admin", false),
            ("https://mcp.example.com/mcp", "http://mcp.example.com/mcp", false),
            ("https://mcp.example.com/mcp", "https://mcp.example.com:8443/mcp", false),
            ("https://mcp.example.com/mcp", "https://evil.example.com/mcp", false),
            ("https://mcp.example.com", "https://mcp.example.com.evil.example/", false),
            ("https://mcp.example.com@evil.example", "https://evil.example/", false),
            ("https://mcp.example.com/mcp#x", "https://mcp.example.com/mcp", false),
            ("\u{1b}https://mcp.example.com/mcp", "https://mcp.example.com/mcp", false),
            ("https://mcp.example.com/mcp\n", "https://mcp.example.com/mcp", false),
            ("https://mcp.exa\tmple.com/mcp", "https://mcp.example.com/mcp", false),
            ("urn:example:mcp", "https://mcp.example.com/mcp", false),
            ("not a url", "https://mcp.example.com/mcp", false),
        ] {
            assert_eq!(covers(resource, &Url::parse(url).expect(url)), expected, "{resource} for {url}");
        }
    }
}

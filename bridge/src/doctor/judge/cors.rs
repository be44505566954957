//! Whether pages in a browser can be clients.

use http::header;

use super::super::{
    fetch::{Answer, Reply},
    report::Judged,
    words::listed,
};

/// The page of MCP Inspector, the best known of them.
pub(in super::super) const PAGE: &str = "http://localhost:6274";

/// What a page needs of one URL.
pub(in super::super) struct Asked<'r> {
    /// What it is, in a word.
    pub(in super::super) what: &'static str,
    pub(in super::super) reply: &'r Reply,
    /// Fields that the page sends; then `reply` is to a preflight.
    pub(in super::super) sends: &'static [&'static str],
    /// Fields that the page has to read.
    pub(in super::super) reads: &'static [&'static str],
}

/// What pages cannot do, and where.
pub(in super::super) fn cors(asked: &[Asked<'_>]) -> Judged {
    let mut faults = Vec::new();
    for one in asked {
        faults.extend(fault(one).map(|fault| format!("{}: {fault}", one.what)));
    }
    if faults.is_empty() {
        return Judged::new("pages may use it");
    }
    Judged::new("pages cannot use it").warn(
        faults.join("; "),
        "MCP Inspector and clients that run in a browser cannot connect; others are not concerned",
        "answer preflights without a token, allow the page's origin, and expose WWW-Authenticate and Mcp-Session-Id",
    )
}

fn fault(asked: &Asked<'_>) -> Option<String> {
    let answer = match asked.reply {
        Ok(answer) => answer,
        Err(trouble) => return Some(trouble.to_string()),
    };
    if !asked.sends.is_empty() && !answer.status.is_success() {
        return Some(format!("the preflight gets {}", answer.status));
    }
    match answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        Some("*" | PAGE) => {}
        Some(_) => return Some("another origin is allowed".to_owned()),
        None => return Some("no Access-Control-Allow-Origin".to_owned()),
    }
    // `*` covers everything but Authorization (Fetch, CORS non-wildcard request-header names).
    let lists = |name: &header::HeaderName, wanted: &str| {
        let members = members(answer, name);
        let star = members.iter().any(|member| member == "*") && !wanted.eq_ignore_ascii_case("authorization");
        star || members.iter().any(|member| member.eq_ignore_ascii_case(wanted))
    };
    let missing = |wanted: &[&'static str], name: &header::HeaderName| {
        wanted.iter().filter(|wanted| !lists(name, wanted)).copied().collect::<Vec<_>>()
    };
    let unsent = missing(asked.sends, &header::ACCESS_CONTROL_ALLOW_HEADERS);
    if !unsent.is_empty() {
        return Some(format!("not allowed to send {}", listed(&unsent)));
    }
    let unread = missing(asked.reads, &header::ACCESS_CONTROL_EXPOSE_HEADERS);
    (!unread.is_empty()).then(|| format!("{} not exposed", listed(&unread)))
}

fn members(answer: &Answer, name: &header::HeaderName) -> Vec<String> {
    let fields = answer.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|value| value.split(',')).map(|member| member.trim().to_owned()).collect()
}

//! What stands in front of servers and answers in their place, known by what it sends.

use http::HeaderMap;

use super::fetch::Answer;

/// Something between a client and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wall {
    /// What it is.
    pub(super) what: &'static str,
    /// What to do about it.
    pub(super) fix: &'static str,
}

/// How a wall is known: by a field (with a part of its value), or by its page.
enum Mark {
    Field(&'static str, &'static str),
    Page(&'static str),
    /// A status together with the name that a CDN gives itself in `Server`.
    Status(&'static [u16], &'static str),
}

/// In this order: the first that fits is told. From the vendors' documents, and from pages seen.
const WALLS: &[(&[Mark], Wall)] = &[
    (
        &[Mark::Field("ngrok-error-code", "ERR_NGROK_3200"), Mark::Page("ERR_NGROK_3200")],
        Wall {
            what: "ngrok says that no tunnel has this name (ERR_NGROK_3200)",
            fix: "start ngrok with this URL: ngrok http --url URL PORT",
        },
    ),
    (
        &[Mark::Field("ngrok-error-code", "ERR_NGROK_8012"), Mark::Page("ERR_NGROK_8012")],
        Wall {
            what: "ngrok is up and the server behind it is not (ERR_NGROK_8012)",
            fix: "start the server on the port that ngrok was given",
        },
    ),
    (
        &[Mark::Field("ngrok-error-code", "ERR_NGROK_6024"), Mark::Page("ERR_NGROK_6024")],
        Wall {
            what: "ngrok shows its warning page instead of the server (ERR_NGROK_6024)",
            fix: "use a domain of your own or a paid plan: clients cannot press the button on that page",
        },
    ),
    (
        &[Mark::Field("ngrok-error-code", "")],
        Wall { what: "ngrok answers in the server's place", fix: "look up the error code at ngrok.com/docs/errors" },
    ),
    (
        &[Mark::Field("cf-mitigated", "challenge"), Mark::Page("<title>Just a moment...</title>")],
        Wall {
            what: "Cloudflare asks for proof of a human (challenge page)",
            fix: "let the MCP path and /.well-known/ past the bot rules: Security, WAF, skip rule; turn Bot Fight Mode and \
                  \"Block AI bots\" off for them",
        },
    ),
    (
        &[Mark::Page("Attention Required! | Cloudflare"), Mark::Page("Sorry, you have been blocked")],
        Wall {
            what: "a Cloudflare firewall rule blocks the request",
            fix: "let the MCP path and /.well-known/ past it: Security, Events shows which rule it was",
        },
    ),
    (
        &[Mark::Page("error code: 1033"), Mark::Page("Cloudflare Tunnel error"), Mark::Status(&[530], "cloudflare")],
        Wall { what: "Cloudflare has no running tunnel for this name (1033)", fix: "start cloudflared" },
    ),
    (
        &[Mark::Status(&[502, 520, 521, 522, 523, 524, 525, 526], "cloudflare")],
        Wall {
            what: "Cloudflare is up and gets no proper answer from the server behind it",
            fix: "start the server on the address that cloudflared or the DNS record names",
        },
    ),
    (
        &[Mark::Field("x-vercel-mitigated", ""), Mark::Page("Vercel Security Checkpoint")],
        Wall {
            what: "Vercel asks for proof of a human (Security Checkpoint)",
            fix: "add a bypass rule for the MCP path and /.well-known/ in the Vercel Firewall",
        },
    ),
    (
        &[Mark::Page("_vercel_sso_nonce"), Mark::Field("set-cookie", "_vercel_sso_nonce")],
        Wall { what: "Vercel's deployment protection stands in front", fix: "turn it off for this deployment" },
    ),
    (
        &[Mark::Field("x-amzn-waf-action", "")],
        Wall { what: "an AWS WAF rule challenges the client", fix: "exempt the MCP path and /.well-known/ from it" },
    ),
    (
        &[Mark::Page("errors.edgesuite.net")],
        Wall { what: "Akamai blocks the request", fix: "exempt the MCP path and /.well-known/ from bot management" },
    ),
    (
        &[Mark::Page("_Incapsula_Resource")],
        Wall { what: "Imperva blocks the request", fix: "exempt the MCP path and /.well-known/ from bot protection" },
    ),
];

/// What answered in the server's place, if that can be told.
pub(super) fn recognise(answer: &Answer) -> Option<Wall> {
    // A server's own 401 and JSON are never a wall, whatever stands in front.
    if answer.media_type() == "application/json" && answer.header("ngrok-error-code").is_none() {
        return None;
    }
    let page = answer.text();
    let fits = |mark: &Mark| match mark {
        Mark::Field(name, part) => has(&answer.headers, name, part),
        Mark::Page(part) => page.contains(part),
        Mark::Status(statuses, server) => {
            statuses.contains(&answer.status.as_u16()) && has(&answer.headers, "server", server)
        }
    };
    WALLS.iter().find(|(marks, _)| marks.iter().any(fits)).map(|(_, wall)| *wall)
}

/// The title of an HTML page, where one stands instead of JSON.
pub(super) fn page_title(answer: &Answer) -> Option<String> {
    if answer.media_type() != "text/html" {
        return None;
    }
    let text = answer.text();
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    Some(title.map(|(title, _)| title.trim().to_owned()).unwrap_or_default())
}

fn has(headers: &HeaderMap, name: &str, part: &str) -> bool {
    headers.get_all(name).iter().any(|value| String::from_utf8_lossy(value.as_bytes()).contains(part))
}

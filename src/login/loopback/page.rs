//! What the browser shows when it has brought its answer. Nothing of the request is in it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// One of a few fixed pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// The program has its token.
    SignedIn,
    /// The answer came, and there is no token.
    Failed,
    /// Not the answer that is waited for.
    BadRequest,
    NotFound,
    WrongMethod,
}

impl Page {
    fn status(self) -> &'static str {
        match self {
            Self::SignedIn | Self::Failed => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::WrongMethod => "405 Method Not Allowed",
        }
    }

    /// Title, sentence, and the colour of what is above them.
    fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::SignedIn => ("You are signed in", "You can close this window and go back to the program.", "#1a7f4b"),
            Self::Failed => ("Sign-in failed", "Go back to the program: it says what went wrong.", "#b3402a"),
            Self::BadRequest | Self::NotFound | Self::WrongMethod => {
                ("Nothing to see here", "This address only takes the answer of a sign-in that is under way.", "#6b7280")
            }
        }
    }

    fn html(self, nonce: &str) -> String {
        let (title, sentence, colour) = self.texts();
        let mark = match self {
            Self::SignedIn => "✓",
            Self::Failed => "✕",
            _ => "–",
        };
        format!(
            r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style nonce="{nonce}">
:root {{ color-scheme: light dark; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center;
  font: 1.0625rem/1.6 system-ui, sans-serif; background: #f6f7f9; color: #1c2530; }}
main {{ max-width: 26rem; margin: 1.5rem; padding: 2.5rem 2rem; text-align: center; border-radius: 1rem;
  background: #fff; box-shadow: 0 1px 2px #0001, 0 8px 32px #0001; }}
.mark {{ width: 3.5rem; height: 3.5rem; margin: 0 auto 1.25rem; border-radius: 50%; line-height: 3.5rem;
  font-size: 1.75rem; color: #fff; background: {colour}; }}
h1 {{ margin: 0 0 .5rem; font-size: 1.375rem; line-height: 1.3; }}
p {{ margin: 0; text-wrap: balance; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #12161b; color: #e6eaf0; }}
  main {{ background: #1b2129; box-shadow: none; }}
}}
</style>
<main>
<div class="mark" aria-hidden="true">{mark}</div>
<h1>{title}</h1>
<p>{sentence}</p>
</main>
</html>
"#
        )
    }
}

/// Writes `page` as a whole answer and ends the connection.
///
/// The page may do nothing and load nothing, and the address it was asked for, which holds the code,
/// is told to nobody.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), page: Page) -> std::io::Result<()> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
    let nonce = URL_SAFE_NO_PAD.encode(nonce);
    let html = page.html(&nonce);
    let allow = if page == Page::WrongMethod { "Allow: GET\r\n" } else { "" };
    let answer = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/html; charset=utf-8\r\n\
         Content-Length: {length}\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\n\
         Cache-Control: no-store\r\n\
         {allow}Connection: close\r\n\r\n{html}",
        status = page.status(),
        length = html.len(),
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

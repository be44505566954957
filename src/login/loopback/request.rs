//! The one request that is waited for, in as much HTTP as that takes (RFC 9112).

use std::{borrow::Cow, io};

use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::page::Page;
use crate::secret::Secret;

/// What the request has to be.
pub(super) struct Expected {
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) state: Secret<String>,
}

/// An authorization response with the right `state` (RFC 6749 §4.1.2, RFC 9207 §2). Nothing else of it
/// has been checked.
#[derive(Debug, Default)]
pub(crate) struct Callback {
    pub(crate) code: Option<Secret<String>>,
    pub(crate) iss: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) error_description: Option<String>,
}

#[derive(Debug)]
pub(super) enum Verdict {
    Answer(Callback),
    Other(Page),
}

/// Codes and descriptions are short; browsers add a few KiB of headers of their own.
const HEAD_MAX: usize = 32 * 1024;

/// Reads a request's head and judges it.
///
/// # Errors
/// If the connection ends before the head does.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), expected: &Expected) -> io::Result<Verdict> {
    let mut head = Vec::with_capacity(4096);
    let mut searched = 0;
    let end = loop {
        if let Some(at) = head[searched..].windows(4).position(|window| window == b"\r\n\r\n") {
            break searched + at;
        }
        searched = head.len().saturating_sub(3);
        if head.len() > HEAD_MAX {
            return Ok(Verdict::Other(Page::BadRequest));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    // What follows a GET's head is not looked at.
    Ok(judge(&head[..end], expected).unwrap_or_else(Verdict::Other))
}

fn judge(head: &[u8], expected: &Expected) -> Result<Verdict, Page> {
    let head = std::str::from_utf8(head).map_err(|_| Page::BadRequest)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Page::BadRequest);
    };
    let mut host = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Page::BadRequest)?;
        let token = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !token || (name.eq_ignore_ascii_case("host") && host.replace(value.trim()).is_some()) {
            return Err(Page::BadRequest);
        }
    }
    // A page elsewhere whose name was made to resolve to this machine has another one.
    if !host.is_some_and(|host| host.eq_ignore_ascii_case(&expected.authority)) {
        return Err(Page::BadRequest);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != expected.path {
        return Err(Page::NotFound);
    }
    if method != "GET" {
        return Err(Page::WrongMethod);
    }
    callback(query, &expected.state).map(Verdict::Answer).ok_or(Page::BadRequest)
}

/// Reads the answer; `None` without the right state, and if a parameter is repeated.
fn callback(query: &str, state: &Secret<String>) -> Option<Callback> {
    let mut seen = None;
    let mut callback = Callback::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let repeated = match &*name {
            "state" => seen.replace(Secret::new(value.into_owned())).is_some(),
            "code" => callback.code.replace(Secret::new(value.into_owned())).is_some(),
            "iss" => replace(&mut callback.iss, value),
            "error" => replace(&mut callback.error, value),
            "error_description" => replace(&mut callback.error_description, value),
            _ => false,
        };
        if repeated {
            return None;
        }
    }
    let matches = bool::from(seen?.expose().as_bytes().ct_eq(state.expose().as_bytes()));
    matches.then_some(callback)
}

fn replace(slot: &mut Option<String>, value: Cow<'_, str>) -> bool {
    slot.replace(value.into_owned()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(head: &str) -> Result<Callback, Page> {
        let state = Secret::new("right".to_owned());
        let expected = Expected { authority: "127.0.0.1:4000".to_owned(), path: "/callback".to_owned(), state };
        match judge(head.as_bytes(), &expected)? {
            Verdict::Answer(callback) => Ok(callback),
            Verdict::Other(page) => Err(page),
        }
    }

    #[test]
    fn only_the_awaited_request_is_an_answer() {
        const HOST: &str = "\r\nHost: 127.0.0.1:4000";
        let get = |target: &str| format!("GET {target} HTTP/1.1{HOST}\r\nAccept: */*");
        for (head, expected) in [
            (get("/callback?state=wrong&code=x"), Page::BadRequest),
            (get("/callback?state=&code=x"), Page::BadRequest),
            (get("/callback?state=righ&code=x"), Page::BadRequest),
            (get("/callback?state=rightt&code=x"), Page::BadRequest),
            (get("/callback?code=x"), Page::BadRequest),
            (get("/callback"), Page::BadRequest),
            (get("/callback?state=right&state=right&code=x"), Page::BadRequest),
            (get("/callback?state=wrong&state=right&code=x"), Page::BadRequest),
            (get("/callback?state=right&code=x&code=y"), Page::BadRequest),
            (get("/callback?state=right&code=x&iss=a&iss=b"), Page::BadRequest),
            (get("/callback/?state=right&code=x"), Page::NotFound),
            (get("/Callback?state=right&code=x"), Page::NotFound),
            (get("//callback?state=right&code=x"), Page::NotFound),
            (get("/x/../callback?state=right&code=x"), Page::NotFound),
            (get("/%63allback?state=right&code=x"), Page::NotFound),
            (get("/favicon.ico"), Page::NotFound),
            (get("http://127.0.0.1:4000/callback?state=right&code=x"), Page::NotFound),
            (get("/callback?state=right&code=x").replace("GET", "POST"), Page::WrongMethod),
            (get("/callback?state=right&code=x").replace("GET", "HEAD"), Page::WrongMethod),
            (get("/callback?state=right&code=x").replace("GET", "OPTIONS"), Page::WrongMethod),
            (get("/callback?state=right&code=x").replace("127.0.0.1:4000", "evil.example:4000"), Page::BadRequest),
            (get("/callback?state=right&code=x").replace("127.0.0.1:4000", "127.0.0.1"), Page::BadRequest),
            (get("/callback?state=right&code=x").replace("127.0.0.1:4000", "localhost:4000"), Page::BadRequest),
            (get("/callback?state=right&code=x") + HOST, Page::BadRequest),
            ("GET /callback?state=right&code=x HTTP/1.1".to_owned(), Page::BadRequest),
            ("GET /callback?state=right&code=x HTTP/2.0".to_owned() + HOST, Page::BadRequest),
            ("GET  /callback?state=right&code=x HTTP/1.1".to_owned() + HOST, Page::BadRequest),
            ("GET /callback?state=right&code=x".to_owned() + HOST, Page::BadRequest),
            (get("/callback?state=right&code=x") + "\r\nno colon", Page::BadRequest),
            (String::new(), Page::BadRequest),
        ] {
            assert_eq!(verdict(&head).map(|_| ()), Err(expected), "{head}");
        }
    }

    #[test]
    fn answer_is_decoded_as_a_form() {
        let callback = verdict(
            "GET /callback?code=a%2Bb+c&state=right&iss=https%3A%2F%2Fa.example%2F&x=y HTTP/1.1\r\nhOST:127.0.0.1:4000",
        );
        let callback = callback.expect("an answer");
        assert_eq!(callback.code.as_ref().map(|code| code.expose().as_str()), Some("a+b c"));
        assert_eq!(callback.iss.as_deref(), Some("https://a.example/"));
        assert!(!format!("{callback:?}").contains("a+b"), "the code is not shown");
    }

    proptest::proptest! {
        #[test]
        fn any_head_is_judged_without_panic(head in proptest::collection::vec(0_u8.., 0..300)) {
            let state = Secret::new("s".to_owned());
            let expected = Expected { authority: String::new(), path: String::new(), state };
            let _ = judge(&head, &expected);
        }
    }
}

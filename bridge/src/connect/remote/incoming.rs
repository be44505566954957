//! What a server says, read as far as it must be.
//!
//! The server is one that the user has chosen, and its words go to the user's own program: nothing is
//! judged by them, so unlike a client's they may have what they like in them, as long as they are
//! JSON-RPC.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::message::{quoted, text};

/// One message of the server's.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// Answers a request.
    Answer {
        /// The id, as the server spelled it; `null` where it could not read ours.
        id: &'a str,
        /// The result, or the error object.
        outcome: Result<&'a RawValue, &'a RawValue>,
    },
    /// Asks something.
    Request,
    /// Tells something.
    Notification {
        /// The method.
        method: Cow<'a, str>,
        /// Its parameters.
        params: Option<&'a RawValue>,
    },
}

impl<'a> Incoming<'a> {
    /// Reads `message`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(message: &'a str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
            #[serde(borrow)]
            method: Option<&'a RawValue>,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
            #[serde(borrow)]
            result: Option<&'a RawValue>,
            #[serde(borrow)]
            error: Option<&'a RawValue>,
        }
        // Nothing of it is repeated, not even by serde: it may be a part of somebody's data.
        let no_message = |why: &str| Err(format!("what it sent is no JSON-RPC message ({why})"));
        let envelope: Envelope<'a> = match serde_json::from_str(message) {
            Ok(envelope) => envelope,
            Err(error) if error.is_data() => return no_message("it is no object"),
            Err(error) => return no_message(&format!("broken JSON at column {}", error.column())),
        };
        let Envelope { id, method, params, result, error } = envelope;
        match (method.and_then(text), id) {
            (Some(_), Some(_)) => Ok(Self::Request),
            (Some(method), None) => Ok(Self::Notification { method, params }),
            (None, id) => {
                let outcome = match (result, error) {
                    (_, Some(error)) => Err(error),
                    (Some(result), None) => Ok(result),
                    (None, None) => return no_message("it has neither method nor result nor error"),
                };
                Ok(Self::Answer { id: id.map_or("null", RawValue::get), outcome })
            }
        }
    }
}

/// `message` as one line of text: what breaks lines in JSON text is white space.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn one_line(message: Bytes) -> Result<Bytes, String> {
    let trimmed = message.trim_ascii();
    if std::str::from_utf8(trimmed).is_err() {
        return Err("its message is not UTF-8".to_owned());
    }
    let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if trimmed.iter().any(breaks) {
        return Ok(trimmed.iter().map(|byte| if breaks(byte) { b' ' } else { *byte }).collect());
    }
    Ok(message.slice_ref(trimmed))
}

/// An id without the freedom of its spelling: servers write it anew, with other escapes, or as `1.0`.
pub(crate) fn key(id: &str) -> String {
    if id.starts_with('"') {
        let spelled: Result<Cow<'_, str>, _> = serde_json::from_str(id);
        return spelled.map_or_else(|_| id.to_owned(), |text| quoted(&text));
    }
    if id.contains(['.', 'e', 'E'])
        && let Ok(number) = id.parse::<f64>()
        && number.fract() == 0.0
    {
        return format!("{number:.0}");
    }
    id.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_the_same_however_they_are_spelled() {
        for (one, other) in [
            (r#""ä""#, r#""\u00e4""#),
            ("1", "1.0"),
            ("100", "1e2"),
            ("-7", "-7.0"),
            (r#""a/b""#, r#""a\/b""#),
            ("9007199254740993", "9007199254740993"),
        ] {
            assert_eq!(key(one), key(other));
        }
        for (one, other) in [("1", "\"1\""), ("9007199254740993", "9007199254740992"), ("\"1\"", "\"1.0\"")] {
            assert_ne!(key(one), key(other));
        }
    }

    #[test]
    fn messages_are_told_apart() {
        let kind = |message: &str| match Incoming::parse(message) {
            Ok(Incoming::Answer { id, outcome }) => format!("answer {id} {}", outcome.is_ok()),
            Ok(Incoming::Request) => "request".to_owned(),
            Ok(Incoming::Notification { method, .. }) => format!("notification {method}"),
            Err(_) => "none".to_owned(),
        };
        for (message, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "answer 1 true"),
            (r#"{"jsonrpc":"2.0","id":"a","error":{"code":1}}"#, "answer \"a\" false"),
            (r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1}}"#, "answer 1 false"),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, "answer 1 true"),
            (r#"{"jsonrpc":"2.0","error":{"code":1}}"#, "answer null false"),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":1}}"#, "answer null false"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "request"),
            (r#"{"method":"n","extra":1e400}"#, "notification n"),
            (r#"{"id":1}"#, "none"),
            (r#"{"id":1,"result":{}"#, "none"),
            ("<html>", "none"),
            ("[]", "none"),
            ("", "none"),
        ] {
            assert_eq!(kind(message), expected, "{message}");
        }
    }

    #[test]
    fn what_is_no_message_is_not_repeated() {
        for message in
            ["canary", "\"canary\"", "[\"canary\"]", "{\"canary\":1}", "{\"id\":1,\"id\":\"canary\"}", "{canary"]
        {
            let problem = Incoming::parse(message).expect_err("no message");
            assert!(problem.contains("no JSON-RPC message") && !problem.contains("canary"), "{problem}");
        }
    }

    #[test]
    fn a_line_break_of_the_server_makes_no_second_line() {
        let line = |text: &'static str| one_line(Bytes::from_static(text.as_bytes()));
        assert_eq!(line(" {\n\"a\":\r\n1}\n"), Ok(Bytes::from("{ \"a\":  1}")));
        assert_eq!(line("{}"), Ok(Bytes::from("{}")));
        assert!(one_line(Bytes::from_static(b"\"\xff\"")).is_err());
    }
}

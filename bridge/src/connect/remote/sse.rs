//! Event streams, read (the WHATWG HTML standard, "Server-sent events").

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::failure::Failure;

/// Where a stream is, and when to come back to it: what outlives a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// The id of the last event, for `Last-Event-ID`.
    pub(crate) last_id: Option<HeaderValue>,
    /// How long to wait before coming back, where the server has said so.
    pub(crate) retry: Option<Duration>,
}

/// The events of one HTTP response.
#[derive(Debug)]
pub(crate) struct Events {
    response: reqwest::Response,
    parser: Parser,
}

impl Events {
    /// Reads `response`; an event of more than `max` bytes is refused.
    pub(crate) fn new(response: reqwest::Response, max: usize) -> Self {
        Self { response, parser: Parser::new(max) }
    }

    /// The next event's data, empty where it only tells the place; `None` at the end of the stream.
    /// Events of other names than `message` are passed over. Cancel-safe.
    ///
    /// # Errors
    /// [`Failure::Broken`], [`Failure::TooLong`]
    pub(crate) async fn next(&mut self, place: &mut Place) -> Result<Option<Bytes>, Failure> {
        loop {
            while let Some(Event { name, data }) = self.parser.next(place)? {
                if data.is_empty() || name.is_empty() || name == b"message" {
                    return Ok(Some(data));
                }
            }
            match self.response.chunk().await? {
                Some(chunk) => self.parser.push(&chunk),
                None => return Ok(None),
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: Vec<u8>,
    data: Bytes,
}

#[derive(Debug)]
struct Parser {
    max: usize,
    /// What was read and is no whole line yet.
    buffer: Vec<u8>,
    /// How much of `buffer` is used up.
    start: usize,
    /// How much of `buffer` has no line end.
    searched: usize,
    /// The last line ended with a carriage return, so that a line feed belongs to it.
    after_return: bool,
    at_beginning: bool,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    id: Option<HeaderValue>,
}

impl Parser {
    fn new(max: usize) -> Self {
        Self {
            max,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            after_return: false,
            at_beginning: true,
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            id: None,
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.is_empty() {
            // A long event's memory goes with it.
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(chunk);
    }

    /// The next event that is there; also one without data, if it has an id.
    fn next(&mut self, place: &mut Place) -> Result<Option<Event>, Failure> {
        while let Some((from, to)) = self.line() {
            if from == to {
                if let Some(event) = self.dispatch(place) {
                    return Ok(Some(event));
                }
                continue;
            }
            self.field(from, to, place);
            if self.data.len() > self.max {
                return Err(Failure::TooLong(self.max));
            }
        }
        if self.buffer.len() - self.start > self.max {
            return Err(Failure::TooLong(self.max));
        }
        Ok(None)
    }

    /// Where the next whole line is in `buffer`.
    fn line(&mut self) -> Option<(usize, usize)> {
        if self.after_return && self.start < self.buffer.len() {
            self.after_return = false;
            if self.buffer[self.start] == b'\n' {
                self.start += 1;
            }
            self.searched = self.searched.max(self.start);
        }
        let unsearched = &self.buffer[self.searched..];
        let Some(at) = unsearched.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.searched = self.buffer.len();
            return None;
        };
        let (from, to) = (self.start, self.searched + at);
        self.after_return = self.buffer[to] == b'\r';
        self.start = to + 1;
        self.searched = self.start;
        let marked = std::mem::take(&mut self.at_beginning) && self.buffer[from..to].starts_with(b"\xef\xbb\xbf");
        Some((if marked { from + 3 } else { from }, to))
    }

    fn field(&mut self, from: usize, to: usize, place: &mut Place) {
        let line = &self.buffer[from..to];
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            b"event" => self.name = value.to_vec(),
            // One that no header can carry cannot be given back: then there is no place to resume at.
            b"id" => self.id = HeaderValue::from_bytes(value).ok(),
            b"retry" => {
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let text = std::str::from_utf8(value).ok().filter(|_| digits);
                if let Some(text) = text {
                    // Beyond four thousand million milliseconds nobody waits.
                    place.retry = Some(Duration::from_millis(text.parse::<u32>().unwrap_or(u32::MAX).into()));
                }
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, place: &mut Place) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        let has_data = std::mem::take(&mut self.has_data);
        let id = self.id.take();
        let has_id = id.is_some();
        if let Some(id) = id {
            // An empty id takes the place away.
            place.last_id = Some(id).filter(|id| !id.is_empty());
        }
        (has_data || has_id).then(|| Event { name, data: data.into() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of all events in `text`, which arrives in pieces of `piece` bytes, and the place.
    fn read(text: &[u8], piece: usize, max: usize) -> Result<(Vec<String>, Place), String> {
        let (mut parser, mut place, mut found) = (Parser::new(max), Place::default(), Vec::new());
        for chunk in text.chunks(piece) {
            parser.push(chunk);
            while let Some(event) = parser.next(&mut place).map_err(|error| error.to_string())? {
                let name = String::from_utf8_lossy(&event.name).into_owned();
                found.push(format!("{name}:{}", String::from_utf8_lossy(&event.data)));
            }
        }
        Ok((found, place))
    }

    #[test]
    fn events_are_read_whatever_the_pieces_and_line_ends() {
        for piece in [1, 2, 3, 5, 1000] {
            for (text, events, id, retry) in [
                ("data: a\n\n", &[":a"][..], None, None),
                ("\u{feff}data:a\r\n\r\ndata: b\r\rdata: c\n\r\n", &[":a", ":b", ":c"], None, None),
                (": hello\n\ndata: a\ndata:  b\ndata\n\n", &[":a\n b\n"], None, None),
                ("event: message\nid: 7\ndata: {}\n\n", &["message:{}"], Some("7"), None),
                ("id: 1\nretry: 500\ndata: \n\n", &[":"], Some("1"), Some(500)),
                ("id: 1\n\n", &[":"], Some("1"), None),
                ("id: 1\ndata: a\n\nid\ndata: b\n\n", &[":a", ":b"], None, None),
                // Not dispatched, so the place is the one before.
                ("id: 1\ndata: a\n\nid: 2\ndata: b", &[":a"], Some("1"), None),
                ("retry: -5\nretry: 1e3\nretry: 20\nretry:\n", &[], None, Some(20)),
                ("retry: 99999999999999999999\n", &[], None, Some(u64::from(u32::MAX))),
                ("unknown: x\ndata\n\n", &[":"], None, None),
            ] {
                let (found, place) = read(text.as_bytes(), piece, 100).expect("a stream within its bounds");
                assert_eq!(found, events, "{text:?}");
                assert_eq!(place.last_id.as_ref().map(|id| id.as_bytes()), id.map(str::as_bytes), "{text:?}");
                assert_eq!(place.retry, retry.map(Duration::from_millis), "{text:?}");
            }
        }
    }

    #[test]
    fn an_endless_line_or_event_is_refused() {
        for text in ["data: 0123456789abcdef", "data: 01234\ndata: 01234\ndata: 01234\n", ": 0123456789abcdef"] {
            for piece in [1, 7, 100] {
                assert!(read(text.as_bytes(), piece, 15).is_err(), "{text}");
            }
        }
        assert!(read(b"data: 012345678\n\n: x\n\ndata: 012345678\n\n", 3, 15).is_ok());
    }

    proptest! {
        #[test]
        fn no_stream_panics_and_pieces_do_not_matter(text in prop::collection::vec(prop_oneof![
            Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'd'), any::<u8>(),
        ], 0..200), piece in 1_usize..50) {
            let whole = read(&text, 1000, 1000).map(|(found, _)| found);
            prop_assert_eq!(read(&text, piece, 1000).map(|(found, _)| found), whole);
        }
    }
}

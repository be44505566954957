//! Lines of bounded length from a byte stream.

use std::io;

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A longer line is refused. No request to this server comes near it; a client that sends more is
/// broken, and the bound keeps its mistake out of our memory.
pub const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// How much is asked for at once: several messages of usual size, and little memory.
const READ_BYTES: usize = 16 * 1024;

/// One line, without its line feed.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The line's bytes.
    Complete(Vec<u8>),
    /// A line of more bytes than it may have; its rest is skipped.
    TooLong,
}

/// Splits `input` into lines. What follows the last line feed is a line too.
#[derive(Debug)]
pub struct Lines<R> {
    input: R,
    max: usize,
    buffer: Vec<u8>,
    /// Where in `buffer` the current line begins.
    start: usize,
    /// Where in `buffer` to go on looking for its end.
    search: usize,
    /// Whether the current line was too long, so that its rest is skipped.
    skipping: bool,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `max` bytes.
    pub fn new(input: R, max: usize) -> Self {
        Self { input, max, buffer: Vec::new(), start: 0, search: 0, skipping: false, ended: false }
    }

    /// The next line, or `None` at the end of the input.
    ///
    /// Cancel-safe: what was read stays here.
    ///
    /// # Errors
    /// When `input` cannot be read.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.at_hand() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            self.make_room();
            // Without the bound a buffer that once grew would ask for as much as it can hold.
            let read = (&mut self.input).take(READ_BYTES as u64).read_buf(&mut self.buffer).await?;
            self.ended = read == 0;
        }
    }

    /// A line that was read already.
    pub fn at_hand(&mut self) -> Option<Line> {
        loop {
            let found = memchr(b'\n', &self.buffer[self.search..]);
            let end = found.map_or(self.buffer.len(), |offset| self.search + offset);
            let line = &self.buffer[self.start..end];
            let complete = found.is_some() || (self.ended && !line.is_empty());
            let taken = match (self.skipping, line.len() > self.max, complete) {
                // The rest of a line that was reported before.
                (true, ..) => None,
                (false, true, _) => Some(Line::TooLong),
                (false, false, true) => Some(Line::Complete(line.to_vec())),
                (false, false, false) => {
                    self.search = end;
                    return None;
                }
            };
            self.skipping = found.is_none();
            self.start = end + usize::from(found.is_some());
            self.search = self.start;
            if taken.is_some() || found.is_none() {
                return taken;
            }
        }
    }

    /// Moves the current line to the buffer's beginning and makes room behind it.
    fn make_room(&mut self) {
        self.buffer.drain(..self.start);
        self.search -= self.start;
        self.start = 0;
        if self.buffer.is_empty() {
            // Gives the memory back that a long line took.
            self.buffer.shrink_to(READ_BYTES);
        }
        self.buffer.reserve(READ_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<Line> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (reader, mut writer) = tokio::io::duplex(64 * 1024);
            let write = async {
                for chunk in chunks {
                    tokio::io::AsyncWriteExt::write_all(&mut writer, chunk).await.expect("the reader is there");
                }
                drop(writer);
            };
            let read = async {
                let mut lines = Lines::new(reader, MAX_LINE_BYTES);
                let mut all = Vec::new();
                while let Some(line) = lines.next().await.expect("a duplex stream does not fail") {
                    all.push(line);
                }
                all
            };
            tokio::join!(write, read).1
        })
    }

    fn complete(text: impl AsRef<[u8]>) -> Line {
        Line::Complete(text.as_ref().to_vec())
    }

    #[test]
    fn the_end_of_input_ends_a_line() {
        assert_eq!(lines(&[b"a\nb"]), [complete("a"), complete("b")]);
        assert_eq!(lines(&[b"a\n"]), [complete("a")]);
        assert_eq!(lines(&[b"\n\r\n"]), [complete(""), complete("\r")]);
        assert_eq!(lines(&[]), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_to_its_end() {
        let longest = vec![b'x'; MAX_LINE_BYTES];
        assert_eq!(lines(&[&longest, b"\nnext"]), [complete(&longest), complete("next")]);
        assert_eq!(lines(&[&longest, b"y\nnext\n"]), [Line::TooLong, complete("next")]);
        assert_eq!(
            lines(&[&longest, &longest, &longest, b"\n\nnext"]),
            [Line::TooLong, complete(""), complete("next")]
        );
        assert_eq!(lines(&[b"a\n", &longest, &longest]), [complete("a"), Line::TooLong]);
        assert_eq!(lines(&[&longest, b"y"]), [Line::TooLong]);
    }

    #[test]
    fn a_long_line_leaves_no_large_buffer() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let input = [vec![b'x'; MAX_LINE_BYTES * 2], b"\na".to_vec()].concat();
        let mut lines = Lines::new(&input[..], MAX_LINE_BYTES);
        while runtime.block_on(lines.next()).expect("memory does not fail").is_some() {}
        assert!(lines.buffer.capacity() <= 4 * READ_BYTES, "{}", lines.buffer.capacity());
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_input_is_cut(
            chunks in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), 0..12),
        ) {
            let parts: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let whole = chunks.concat();
            let mut expected: Vec<Line> = whole.split(|byte| *byte == b'\n').map(complete).collect();
            // What follows the last line feed counts only if there is something.
            expected.pop_if(|last| *last == complete(""));
            prop_assert_eq!(lines(&parts), expected);
        }
    }
}

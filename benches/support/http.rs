//! A lean HTTP/1.1 client: prebuilt request bytes out, one answer with `Content-Length` back.
//!
//! It understands no more than the servers measured here send, so that the time measured is theirs.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// No answer here is longer.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// The bytes of a POST with a JSON body.
pub(crate) fn post(path: &str, address: SocketAddr, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut request = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    request.into_bytes()
}

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, as far as anybody here looks at it.
#[derive(Debug)]
pub(crate) struct Answer<'c> {
    pub(crate) status: u16,
    head: &'c [u8],
    pub(crate) body: &'c [u8],
}

impl Connection {
    /// Connects, without Nagle's delay.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4 * 1024) })
    }

    /// Sends `request` and reads the whole answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await.context("cannot send a request")?;
        self.buffer.clear();
        let (status, body_start, body_len) = loop {
            self.read_more().await?;
            if let Some(parsed) = parse_head(&self.buffer)? {
                break parsed;
            }
        };
        while self.buffer.len() < body_start + body_len {
            self.read_more().await?;
        }
        ensure!(self.buffer.len() == body_start + body_len, "more bytes than the answer should have");
        let (head, body) = self.buffer.split_at(body_start);
        Ok(Answer { status, head, body })
    }

    async fn read_more(&mut self) -> Result<()> {
        ensure!(self.buffer.len() < ANSWER_MAX_BYTES, "the answer is longer than {ANSWER_MAX_BYTES} bytes");
        let count = self.stream.read_buf(&mut self.buffer).await.context("cannot read an answer")?;
        ensure!(count > 0, "the server closed the connection");
        Ok(())
    }
}

impl Answer<'_> {
    /// The value of the header `name`.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

/// Status, start of the body and length of the body, once the whole head is there.
fn parse_head(bytes: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &bytes[..end + 2];
    let status = bytes
        .get(..12)
        .and_then(|line| line.strip_prefix(b"HTTP/1.1 "))
        .and_then(|status| std::str::from_utf8(status).ok()?.parse().ok())
        .context("the answer has no HTTP/1.1 status")?;
    let Some(length) = header(head, "content-length") else {
        bail!("an answer with status {status} and no Content-Length: {}", head.escape_ascii());
    };
    Ok(Some((status, end + 4, length.parse().context("Content-Length")?)))
}

fn header<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let (field, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        if !field.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        Some(std::str::from_utf8(value).ok()?.trim())
    })
}

//! HTTP/1.1 on a plain socket: every byte that is sent is written in the test, every header that
//! comes back is kept, in order and with repetitions.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use super::PATIENCE;

/// A request to be written as it stands; `Host` and `Content-Length` are added unless set.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    pub(crate) fn target(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// Adds a field; one of the same name stays.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Removes every field of this name.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self
    }

    /// Puts one field in the place of all of this name.
    pub(crate) fn with(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).header(name, value)
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.with("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(field, _)| field.eq_ignore_ascii_case(name))
    }

    /// The head alone, up to and with the empty line.
    pub(crate) fn head_bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if !self.has("Host") {
            bytes.extend(format!("Host: {address}\r\n").as_bytes());
        }
        if !self.has("Content-Length") && !self.has("Transfer-Encoding") && !self.body.is_empty() {
            bytes.extend(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend(name.as_bytes());
            bytes.extend(b": ");
            bytes.extend(value);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"\r\n");
        bytes
    }

    pub(crate) fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        [self.head_bytes(address), self.body.clone()].concat()
    }

    /// Sends it on a connection of its own and reads the whole answer.
    pub(crate) fn send(&self, address: SocketAddr) -> Response {
        let mut connection = Connection::open(address);
        connection.write(&self.bytes(address));
        connection.read_response(self.method == "HEAD")
    }

    /// Sends it and reads only the head; the stream that follows is read through the connection.
    pub(crate) fn open(&self, address: SocketAddr) -> (Response, Connection) {
        let mut connection = Connection::open(address);
        connection.write(&self.bytes(address));
        let head = connection.read_head();
        (head, connection)
    }
}

/// An answer; for a stream, its head with an empty body.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

impl Response {
    /// The values of all fields of this name, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.headers.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of the one field of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is repeated: {self:?}");
        all.first().copied()
    }

    /// Whether the comma-separated list in the fields of this name has `member`, in any case.
    pub(crate) fn lists(&self, name: &str, member: &str) -> bool {
        self.all(name).iter().flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(member))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The JSON-RPC error code, if the body is a JSON-RPC error.
    pub(crate) fn code(&self) -> Option<i64> {
        serde_json::from_slice::<Value>(&self.body).ok()?.pointer("/error/code")?.as_i64()
    }

    /// Asserts the status, showing the whole answer when it is another one.
    pub(crate) fn expect(self, status: u16, case: &str) -> Self {
        assert_eq!(self.status, status, "{case}: {self:?}");
        self
    }
}

/// What a connection runs on: a socket, or TLS over one.
pub(crate) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// How the rest of a message is delimited (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// One connection, read and written step by step.
pub(crate) struct Connection {
    reader: BufReader<Box<dyn Stream>>,
    framing: Framing,
    /// Decoded bytes of a stream that no event was made of yet.
    pending: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::over(Box::new(socket(address)))
    }

    pub(crate) fn over(stream: Box<dyn Stream>) -> Self {
        Self { reader: BufReader::new(stream), framing: Framing::UntilClose, pending: Vec::new() }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).expect("the peer reads");
    }

    /// Writes, where the peer may already have closed.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)?;
        self.reader.get_mut().flush()
    }

    pub(crate) fn read_response(&mut self, head_only: bool) -> Response {
        let mut response = self.read_head();
        if !head_only && !matches!(response.status, 204 | 304) {
            response.body = self.read_body().expect("the body is complete");
        }
        response
    }

    pub(crate) fn read_head(&mut self) -> Response {
        self.try_read_head().expect("an answer").expect("an answer before the end of the connection")
    }

    /// The head of the next answer; `None` if the peer closed instead.
    pub(crate) fn try_read_head(&mut self) -> io::Result<Option<Response>> {
        let Some((start, headers)) = read_head(&mut self.reader)? else { return Ok(None) };
        let status = start.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {start:?}")))?;
        self.framing = framing(&headers).unwrap_or(Framing::UntilClose);
        Ok(Some(Response { status, headers, body: Vec::new() }))
    }

    pub(crate) fn read_body(&mut self) -> io::Result<Vec<u8>> {
        read_body(&mut self.reader, self.framing)
    }

    /// The next chunk of a stream's event text: everything up to an empty line. `None` at its end.
    pub(crate) fn next_event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.pending.drain(..end + 2).collect();
                return Some(String::from_utf8(event).expect("events are UTF-8").trim_end().to_owned());
            }
            let more = match self.framing {
                Framing::Chunked => read_chunk(&mut self.reader).ok()?,
                Framing::UntilClose => {
                    let available = self.reader.fill_buf().expect("a stream that goes on, or ends").to_vec();
                    self.reader.consume(available.len());
                    available
                }
                Framing::Length(_) => {
                    let body = self.read_body().ok()?;
                    self.framing = Framing::Length(0);
                    body
                }
            };
            if more.is_empty() {
                return None;
            }
            self.pending.extend(more.into_iter().filter(|&byte| byte != b'\r'));
        }
    }

    /// Whether the peer closes (or resets) within [`PATIENCE`] without sending more.
    pub(crate) fn is_closed_by_peer(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(rest) => rest.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// A socket that never waits longer than a test may.
pub(crate) fn socket(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).expect("the peer listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// Start line and fields.
pub(crate) type Head = (String, Vec<(String, String)>);

/// The next message's head; `None` if the peer closed before its first byte.
pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let start = read_line(reader)?;
    if start.is_empty() {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(Some((start, headers)));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("not a header: {line:?}")))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// A request's whole body (for servers): nothing where nothing announces one.
pub(crate) fn read_request_body(reader: &mut impl BufRead, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
    framing(headers).map_or(Ok(Vec::new()), |framing| read_body(reader, framing))
}

fn framing(headers: &[(String, String)]) -> Option<Framing> {
    let field = |wanted: &str| headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    if field("transfer-encoding").is_some_and(|(_, value)| value.eq_ignore_ascii_case("chunked")) {
        return Some(Framing::Chunked);
    }
    let (_, length) = field("content-length")?;
    length.parse().ok().map(Framing::Length)
}

fn read_body(reader: &mut impl BufRead, framing: Framing) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    match framing {
        Framing::Length(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        Framing::Chunked => loop {
            let chunk = read_chunk(reader)?;
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        },
        Framing::UntilClose => {
            reader.read_to_end(&mut body)?;
        }
    }
    Ok(body)
}

/// The next chunk; an empty one is the last.
fn read_chunk(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let line = read_line(reader)?;
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(size, 16).map_err(|_| io::Error::other(format!("not a chunk size: {line:?}")))?;
    let mut chunk = vec![0; size];
    reader.read_exact(&mut chunk)?;
    read_line(reader)?;
    Ok(chunk)
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    let text = String::from_utf8(line).map_err(io::Error::other)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

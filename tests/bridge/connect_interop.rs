//! The official SDKs' clients, `mcp-bridge connect`, and servers on the network: our own, an official
//! one, and such as speak one era only.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Stdio,
};

use serde_json::{Value, json};

use crate::{
    common::{
        bridge::{CommandLine, Scratch},
        http::{Request, read_head, read_request_body},
        mcp::{LEGACY, MODERN, arguments},
        world::{ALL_SCOPES, World},
    },
    connect::rig::{Connect, initialize, request},
    driver::{Guard, file, named, node, node_itself, python, transcript},
    everything::example,
    interop::{every_sdk, serving},
    tls::Identity,
};

const BRIDGE: &str = env!("CARGO_BIN_EXE_mcp-bridge");

#[test]
fn every_sdk_uses_the_calculator_of_our_own_bridge() {
    let bridge = CommandLine::serve().flag("--auth", "none").spawn();
    for mut client in [node("client-v1.mjs"), node("client-v2.mjs"), python("client.py")] {
        let steps = transcript(client.args(["stdio", BRIDGE, "connect", bridge.url()]));
        assert!(named(&steps, "closed").count() >= 1, "{client:?}");
    }
}

#[test]
fn a_token_in_a_header_opens_a_protected_bridge() {
    let world = World::start();
    let token = world.token(ALL_SCOPES);
    let header = format!("Authorization: Bearer {token}");
    let steps =
        transcript(node("client-v1.mjs").args(["stdio", BRIDGE, "connect", world.bridge.url(), "--header", &header]));
    assert_eq!(named(&steps, "closed").count(), 1);
}

#[test]
fn https_is_for_servers_with_a_trusted_certificate() {
    let identity = Identity::new();
    let line = CommandLine::serve().flag("--auth", "none").flag("--log-level", "trace");
    let bridge = line.flag("--tls-cert", &identity.cert_file).flag("--tls-key", &identity.key_file).spawn();
    let mut trusting = Connect::start(&Connect::line(bridge.url()).env("SSL_CERT_FILE", &identity.cert_file));
    trusting.shake_hands();
    for id in 2..10 {
        trusting.send(&request(id, "tools/call", arguments("add")));
        assert_eq!(trusting.next()["result"]["content"][0]["text"], "9");
    }
    trusting.end();

    let other = Identity::new();
    let mut refusing = Connect::start(&Connect::line(bridge.url()).env("SSL_CERT_FILE", &other.cert_file));
    refusing.send(&initialize(1));
    let answer = refusing.next();
    let text = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(text.contains("cannot connect") && text.contains("certificate"), "{answer}");
    refusing.end();
}

#[test]
fn every_sdk_with_everything_of_a_server_of_its_own_era() {
    for (server, mine) in [("legacy", ["v1", "v2", "legacy"]), ("modern", ["v2-modern", "2026-07-28", ""])] {
        everything(server, |kind| mine.contains(&kind));
    }
}

#[test]
fn every_sdk_with_everything_of_a_server_of_the_other_era() {
    for (server, theirs) in [("modern", ["v1", "v2", "legacy"]), ("legacy", ["v2-modern", "2026-07-28", ""])] {
        everything(server, |kind| theirs.contains(&kind));
    }
}

#[test]
fn every_sdk_with_the_official_server() {
    let (_server, url) = official_server();
    for mut client in every_sdk("official-server") {
        let steps = transcript(client.arg(&url).env("MCP_BRIDGE", BRIDGE));
        assert_eq!(named(&steps, "progress").count(), 1, "{client:?}");
    }
}

/// Clients of the kinds that are `wanted` with a server that speaks nothing but `era`.
fn everything(era: &str, wanted: impl Fn(&str) -> bool) {
    let program = example("everything");
    let files = Scratch::new();
    let bridge = serving(&files).command_to_serve(&[program.to_str().expect("a path of ours"), "--era", era]).spawn();
    let only = OneEra::start(bridge.address(), era == "modern");
    let clients: Vec<_> = every_sdk("everything")
        .into_iter()
        .filter(|client| client.get_args().nth(1).and_then(|kind| kind.to_str()).is_some_and(&wanted))
        .collect();
    assert!(clients.len() >= 2);
    for mut client in clients {
        let steps = transcript(client.arg(&only.url).env("MCP_BRIDGE", BRIDGE));
        for step in ["progress", "asked", "logged", "changes", "cancelled"] {
            assert_eq!(named(&steps, step).count(), 1, "{step} of {client:?}");
        }
    }
}

/// What a bridge serves, for one era only: requests of the other one are refused as a server refuses
/// them that knows nothing of it.
struct OneEra {
    url: String,
}

impl OneEra {
    fn start(behind: SocketAddr, is_modern: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("its address"));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || pass(&stream, behind, is_modern));
            }
        });
        Self { url }
    }
}

/// Passes one request on, and its answer back.
fn pass(mut client: &TcpStream, behind: SocketAddr, is_modern: bool) -> Option<()> {
    let mut reader = BufReader::new(client);
    let (start, fields) = read_head(&mut reader).ok()??;
    let body = read_request_body(&mut reader, &fields).ok()?;
    let method = start.split(' ').next()?;
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let says_modern =
        fields.iter().any(|(name, value)| name.eq_ignore_ascii_case("mcp-protocol-version") && value == MODERN);
    let refusal = match (is_modern, says_modern) {
        (true, false) if method == "POST" => {
            let data = json!({ "supported": [MODERN], "requested": LEGACY });
            let error =
                json!({ "code": -32020, "message": "the header MCP-Protocol-Version is missing", "data": data });
            Some(("400 Bad Request", json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }).to_string()))
        }
        (true, false) => Some(("405 Method Not Allowed", String::new())),
        (false, true) => Some(("400 Bad Request", "Bad Request: Unsupported protocol version".to_owned())),
        _ => None,
    };
    if let Some((status, text)) = refusal {
        let kind = if text.starts_with('{') { "application/json" } else { "text/plain" };
        let length = text.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        return client.write_all((head + &text).as_bytes()).ok();
    }
    let mut request = Request::new(method, "/mcp").header("Connection", "close").body(body);
    for (name, value) in &fields {
        if !["host", "content-length", "connection"].contains(&name.to_ascii_lowercase().as_str()) {
            request = request.header(name, value);
        }
    }
    let mut server = TcpStream::connect(behind).ok()?;
    server.write_all(&request.bytes(behind)).ok()?;
    // The end of one side is that of the other: in one era, that says something.
    let (closing, watched) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = (&watched).read(&mut [0]);
        let _ = closing.shutdown(std::net::Shutdown::Both);
    });
    let mut chunk = [0; 8192];
    loop {
        match server.read(&mut chunk) {
            Ok(count) if count > 0 => client.write_all(&chunk[..count]).ok()?,
            _ => break,
        }
    }
    client.shutdown(std::net::Shutdown::Both).ok()
}

/// The official server, over streamable HTTP on a port of its own.
fn official_server() -> (Guard, String) {
    // It takes no port 0, and does not say which it got.
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address").port();
    let mut server = std::process::Command::new(node_itself());
    server.arg(file("node_modules/@modelcontextprotocol/server-everything/dist/index.js")).arg("streamableHttp");
    server.env_clear().env("PORT", port.to_string());
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = Guard::spawn(&mut server);
    let mut lines = BufReader::new(server.0.stderr.take().expect("stderr is piped")).lines();
    let said = lines.by_ref().map_while(Result::ok).find(|line| line.contains("listening on port"));
    assert!(said.is_some(), "the official server does not listen");
    // What it says later must not stop it.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    (server, format!("http://127.0.0.1:{port}/mcp"))
}

//! A real reverse proxy with TLS in front, with all the headers that tunnels add.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    authserver::world::{Server, State},
    common::{
        authorization_server::AuthorizationServer,
        bridge::{Bridge, CommandLine, Scratch, accepts},
        http::{Connection, Request, Response},
        mcp, wait_until,
        world::ALL_SCOPES,
    },
    driver::Guard,
    everything::example,
    tls::Identity,
};

/// Debian's, unpacked by `tests/run`.
const NGINX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/nginx/usr/sbin/nginx");

/// nginx, with its defaults: it buffers answers, and speaks HTTP/1.1 to us.
struct Nginx {
    /// Where it listens, under the name `localhost`.
    address: SocketAddr,
    identity: Arc<Identity>,
    scratch: Scratch,
    running: Option<Guard>,
}

impl Nginx {
    /// One that is not started yet, on a port that was free a moment ago.
    fn new() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        Self {
            address: free.expect("a free port"),
            identity: Arc::new(Identity::new()),
            scratch: Scratch::new(),
            running: None,
        }
    }

    fn host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// Starts it in front of `bridges`, with the token's own for each request, as our Ingress has it.
    fn start(&mut self, bridges: &[SocketAddr]) {
        let folder = self.scratch.path("");
        let folder = folder.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path {folder}/{name};\n")).collect();
        let bridges: String = bridges.iter().map(|bridge| format!("server {bridge};\n")).collect();
        let config = format!(
            r#"
            daemon off; master_process off; pid {folder}/pid; error_log stderr warn;
            events {{ worker_connections 256; }}
            http {{
                access_log off;
                {temporary}
                upstream bridges {{
                    hash $http_authorization consistent;
                    {bridges}
                }}
                server {{
                    listen {address} ssl;
                    server_name localhost;
                    ssl_certificate {cert};
                    ssl_certificate_key {key};
                    location / {{
                        proxy_pass http://bridges;
                        proxy_http_version 1.1;
                        proxy_set_header Host $http_host;
                        proxy_set_header Connection "";
                        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                        proxy_set_header X-Forwarded-Proto $scheme;
                        proxy_set_header X-Forwarded-Host evil.example;
                        proxy_set_header CF-Connecting-IP 203.0.113.7;
                        proxy_set_header CF-Visitor '{{"scheme":"https"}}';
                    }}
                }}
            }}
            "#,
            address = self.address,
            cert = self.identity.cert_file,
            key = self.identity.key_file,
        );
        let config = self.scratch.file("nginx.conf", config);
        let errors = fs::File::create(self.scratch.path("errors")).expect("our own folder");
        let mut command = Command::new(NGINX);
        command.args(["-e", "stderr", "-p"]).arg(self.scratch.path("")).args(["-c", &config]);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        assert!(fs::exists(NGINX).expect("a path"), "nginx is missing: run tests/run, which unpacks it");
        self.running = Some(Guard::spawn(&mut command));
        wait_until("nginx listens", || {
            let ended = self.running.as_mut().is_some_and(|nginx| !matches!(nginx.0.try_wait(), Ok(None)));
            let errors = || fs::read_to_string(self.scratch.path("errors")).unwrap_or_default();
            assert!(!ended, "nginx does not start: {}", errors());
            accepts(self.address)
        });
    }

    /// A bridge behind it.
    fn serve<'s>(&mut self, state: &'s State, more: impl FnOnce(CommandLine) -> CommandLine) -> Server<'s> {
        let public_url = format!("https://{}", self.host());
        let server = state.serve_with(|line| more(line.flag("--public-url", public_url)));
        self.start(&[server.bridge.address()]);
        let (address, identity, host) = (self.address, Arc::clone(&self.identity), self.host());
        let road = move |request: &Request| exchange(address, &identity, &host, request);
        Server { road: Some(Box::new(road)), ..server }
    }

    /// Sends a request and reads only the head of the answer.
    fn open(&self, request: &Request) -> (Response, Connection) {
        let mut connection = Connection::over(Box::new(self.identity.connect(self.address, &[b"http/1.1"])));
        connection.write(&request.clone().with("Host", self.host()).bytes(self.address));
        let head = connection.read_head();
        (head, connection)
    }
}

fn exchange(address: SocketAddr, identity: &Identity, host: &str, request: &Request) -> Response {
    let mut connection = Connection::over(Box::new(identity.connect(address, &[b"http/1.1"])));
    connection.write(&request.clone().with("Host", host).bytes(address));
    connection.read_response(false)
}

/// The next message of a stream; comments and empty events are none.
fn next_message(stream: &mut Connection) -> Value {
    loop {
        let event = stream.next_event().expect("the stream goes on");
        let data = event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect::<String>();
        if !data.is_empty() {
            return serde_json::from_str(&data).expect("JSON");
        }
    }
}

/// The server `everything`, one process for all, behind the bridge.
fn everything(line: CommandLine) -> CommandLine {
    let path = example("everything");
    line.flag("--isolation", "shared").command_to_serve(&[path.to_str().expect("UTF-8"), "--era", "both"])
}

#[test]
fn clients_of_both_eras_sign_in_and_call_through_a_proxy() {
    let mut nginx = Nginx::new();
    let state = State::new();
    let server = nginx.serve(&state, |line| line);
    let origin = format!("https://{}", nginx.host());
    assert_eq!(server.resource(), format!("{origin}/mcp"));
    let refused = server.send(&mcp::call("add")).expect(401, "without a token");
    let challenge = refused.header("WWW-Authenticate").unwrap_or_default();
    assert!(challenge.contains(&format!("resource_metadata=\"{origin}/.well-known/")), "{challenge}");
    let document =
        server.send(&Request::get("/.well-known/oauth-protected-resource/mcp")).expect(200, "metadata").json();
    assert_eq!(
        (&document["resource"], &document["authorization_servers"]),
        (&json!(format!("{origin}/mcp")), &json!([origin]))
    );
    let document = server.send(&Request::get("/.well-known/oauth-authorization-server")).expect(200, "metadata").json();
    for endpoint in ["authorization_endpoint", "token_endpoint", "registration_endpoint", "revocation_endpoint"] {
        let url = document[endpoint].as_str().unwrap_or_default();
        assert!(url.starts_with(&format!("{origin}/")), "{endpoint}: {document}");
    }

    let client = server.client();
    let tokens = server.grant(&client, &["op:add"]);
    assert_eq!((server.call("add", &tokens.access), server.call("divide", &tokens.access)), (200, 403));
    let initialized = server.send(&mcp::initialize(mcp::LEGACY).bearer(&tokens.access)).expect(200, "a session");
    let session = initialized.header("Mcp-Session-Id").expect("a session").to_owned();
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    server.send(&mcp::legacy(&session, &ready).bearer(&tokens.access)).expect(202, "ready");
    let answer = server.send(&mcp::legacy_call(&session, "add").bearer(&tokens.access)).expect(200, "a legacy call");
    assert!(answer.text().contains("\"9\""), "{answer:?}");
    let refreshed = server.token(&server.refresh(&client, &tokens.refresh)).expect(200, "a refresh").json();
    let fresh = refreshed["access_token"].as_str().expect("a token");
    assert_eq!(server.call("add", fresh), 200);
    let revoked = super::authserver::world::Parameters::new(&[("token", fresh), ("client_id", &client)]);
    server.send(&super::authserver::world::form("/revoke", &revoked)).expect(200, "revoked");
    assert_eq!(server.call("add", fresh), 401);
}

/// The cookie of a browser that comes by HTTPS is for HTTPS only, although we speak HTTP here.
#[test]
fn a_browsers_cookie_does_not_leave_https() {
    let mut nginx = Nginx::new();
    let state = State::new();
    let server = nginx.serve(&state, |line| line);
    let page = server.send(&Request::get("/account")).expect(200, "page");
    let cookie = page.header("Set-Cookie").expect("a cookie");
    assert!(cookie.starts_with("__Host-") && cookie.contains("Secure") && cookie.contains("HttpOnly"), "{cookie}");
}

/// A proxy buffers by default: what says nothing of it is held back until the call has ended.
#[test]
fn a_legacy_clients_messages_arrive_before_the_call_has_ended() {
    let mut nginx = Nginx::new();
    let state = State::new();
    let server = nginx.serve(&state, |line| everything(line).flag("--isolation", "session"));
    let token = server.grant(&server.client(), &["mcp"]).access;
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": mcp::LEGACY,
            "capabilities": { "elicitation": {} },
            "clientInfo": { "name": "black-box", "version": "1.0.0" },
        },
    });
    let initialized = server.send(&mcp::post().json(&initialize).bearer(&token)).expect(200, "a session");
    let session = initialized.header("Mcp-Session-Id").expect("a session").to_owned();
    let post = |message: &Value| mcp::legacy(&session, message).bearer(&token);
    server.send(&post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))).expect(202, "ready");
    let call = |id: u32, tool: &str, arguments: Value| {
        post(&json!({
            "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments },
        }))
    };

    // The call ends only with our answer to a question that comes on its stream.
    let (head, mut asking) = nginx.open(&call(2, "test_elicitation", json!({ "message": "who?" })));
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/event-stream")), "{head:?}");
    let question = next_message(&mut asking);
    assert_eq!(question["method"], "elicitation/create", "{question}");
    let answer = json!({ "action": "accept", "content": { "username": "Ada", "email": "a@b.example", "name": "Ada" } });
    server.send(&post(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": answer }))).expect(202, "an answer");
    assert!(mcp::text(&next_message(&mut asking)).contains("Ada"));

    // The session's own stream never ends by itself.
    let listen = Request::get("/mcp").header("Accept", "text/event-stream").header("Mcp-Session-Id", &session);
    let (head, mut stream) = nginx.open(&listen.header("MCP-Protocol-Version", mcp::LEGACY).bearer(&token));
    assert_eq!(head.status, 200, "{head:?}");
    server.send(&call(3, "touch", json!({ "lists": true }))).expect(200, "a change");
    assert_eq!(next_message(&mut stream)["method"], "notifications/tools/list_changed");
}

#[test]
fn a_modern_clients_messages_arrive_before_the_call_has_ended() {
    let mut nginx = Nginx::new();
    let state = State::new();
    let server = nginx.serve(&state, everything);
    let token = server.grant(&server.client(), &["mcp"]).access;
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let (head, mut stream) = nginx.open(&mcp::modern("subscriptions/listen", wanted).bearer(&token));
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/event-stream")), "{head:?}");
    assert_eq!(next_message(&mut stream)["method"], "notifications/subscriptions/acknowledged");
    let touch = mcp::modern("tools/call", json!({ "name": "touch", "arguments": { "lists": true } }));
    server.send(&touch.bearer(&token)).expect(200, "a change");
    assert_eq!(next_message(&mut stream)["method"], "notifications/tools/list_changed");
}

/// A legacy session is in the memory of one bridge. With two of them, a user's token has to lead to it.
#[test]
fn a_legacy_session_is_found_behind_a_proxy_with_two_bridges() {
    let mut nginx = Nginx::new();
    let issuer = AuthorizationServer::start();
    let origin = format!("https://{}", nginx.host());
    let line = CommandLine::serve().introspection(&issuer).flag("--public-url", &origin);
    let bridges = [line.spawn(), line.spawn()];
    nginx.start(&bridges.each_ref().map(Bridge::address));
    let send = |request: &Request| exchange(nginx.address, &nginx.identity, &nginx.host(), request);
    // So many that chance leaves neither bridge without any.
    let mut sessions_of = [0, 0];
    for number in 0..32 {
        let token = format!("token-{number}");
        let user = format!("user-{number}");
        let answer = json!({ "active": true, "sub": user, "aud": format!("{origin}/mcp"), "scope": ALL_SCOPES });
        issuer.set(&token, &answer);
        let answer = send(&mcp::initialize(mcp::LEGACY).bearer(&token)).expect(200, "a session");
        let session = answer.header("Mcp-Session-Id").expect("a session").to_owned();
        for _ in 0..3 {
            let answer = send(&mcp::legacy_call(&session, "add").bearer(&token)).expect(200, "its own bridge");
            assert!(answer.text().contains("\"9\""), "{answer:?}");
        }
        // Only one of the two knows it, and any of them answers without one.
        let host = nginx.host();
        let asked = |bridge: &Bridge, request: Request| bridge.send(&request.with("Host", &host).bearer(&token)).status;
        let found = bridges.each_ref().map(|bridge| asked(bridge, mcp::legacy_call(&session, "add")));
        assert!([[200, 404], [404, 200]].contains(&found), "{found:?}");
        sessions_of[usize::from(found == [404, 200])] += 1;
        assert_eq!(bridges.each_ref().map(|bridge| asked(bridge, mcp::call("add"))), [200, 200]);
    }
    assert!(!sessions_of.contains(&0), "all users at one bridge: {sessions_of:?}");
}

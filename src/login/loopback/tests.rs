use std::{io::Read, io::Write, net::SocketAddr};

use super::*;

async fn listener() -> (Listener, SocketAddr) {
    let listener = Listener::bind(&RedirectUri::default()).await.expect("a free port");
    let address = listener.socket.local_addr().expect("a bound socket has an address");
    (listener, address)
}

fn state() -> Secret<String> {
    Secret::new("right".to_owned())
}

/// Sends `head` from another thread, as another program would; gives everything that comes back.
fn send(address: SocketAddr, head: String) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers and closes");
        answer
    })
}

fn get(address: SocketAddr, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: keep-alive\r\n\r\n")
}

async fn joined(thread: std::thread::JoinHandle<String>) -> String {
    tokio::task::spawn_blocking(|| thread.join().expect("a test's thread")).await.expect("a blocking task")
}

#[tokio::test]
async fn wrong_answers_neither_end_the_wait_nor_are_reflected() {
    let (listener, address) = listener().await;
    let waiting = tokio::spawn(async move { listener.answer(&state()).await });
    const REFLECTED: &str = "canary<script>";
    for target in ["/callback?state=wrong&error=canary<script>", "/canary<script>", "/callback?code=canary<script>"] {
        let answer = joined(send(address, get(address, target))).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert!(!answer.contains(REFLECTED) && !answer.contains("canary"), "{answer}");
    }
    assert!(!waiting.is_finished());
    let browser = send(address, get(address, "/callback?state=right&code=c"));
    let (callback, page) = waiting.await.expect("the listener");
    assert_eq!(callback.code.expect("a code").expose(), "c");
    page.show(Page::SignedIn).await;
    let answer = joined(browser).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("You are signed in"), "{answer}");
}

#[tokio::test]
async fn page_can_do_nothing_and_tells_the_code_to_nobody() {
    let (listener, address) = listener().await;
    let browser = send(address, get(address, "/callback?state=right&code=canary"));
    let (_, page) = listener.answer(&state()).await;
    page.show(Page::Failed).await;
    let answer = joined(browser).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    let policy = header("Content-Security-Policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'nonce-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("form-action 'none'"), "{policy}");
    assert_eq!(header("Referrer-Policy").as_deref(), Some("no-referrer"));
    assert_eq!(header("Cache-Control").as_deref(), Some("no-store"));
    assert_eq!(header("X-Content-Type-Options").as_deref(), Some("nosniff"));
    assert_eq!(header("Connection").as_deref(), Some("close"));
    assert_eq!(header("Content-Length"), Some(body.len().to_string()));
    assert!(!body.contains("<script") && !body.contains("canary") && !body.contains("href"), "{body}");
    let nonce = policy.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("a nonce");
    assert!(body.contains(&format!("<style nonce=\"{nonce}\">")), "{body}");
}

#[tokio::test]
async fn second_answer_finds_nobody() {
    let (listener, address) = listener().await;
    let first = send(address, get(address, "/callback?state=right&code=first"));
    let (callback, page) = listener.answer(&state()).await;
    assert_eq!(callback.code.expect("a code").expose(), "first");
    page.show(Page::SignedIn).await;
    joined(first).await;
    std::net::TcpStream::connect(address).expect_err("nobody listens any more");
}

#[tokio::test]
async fn port_that_another_program_holds_is_not_shared() {
    let squatter = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = squatter.local_addr().expect("an address").port();
    for host in ["127.0.0.1", "localhost"] {
        let uri: RedirectUri = format!("http://{host}:{port}/callback").parse().expect("a redirect URI");
        let bound = Listener::bind(&uri).await;
        assert!(matches!(bound, Err(LoopbackError::Bind { .. })), "{host}");
    }
}

#[tokio::test]
async fn listener_is_on_loopback_only() {
    for uri in ["http://127.0.0.1/callback", "http://localhost/callback", "http://[::1]/callback"] {
        let Ok(listener) = Listener::bind(&uri.parse().expect(uri)).await else {
            assert!(uri.contains("::1"), "{uri}: only IPv6 may be missing");
            continue;
        };
        for socket in [&listener.socket].into_iter().chain(&listener.second) {
            let address = socket.local_addr().expect("an address");
            assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
        }
        let port = listener.socket.local_addr().expect("an address").port();
        assert_eq!(listener.uri().to_string(), uri.replace("/callback", &format!(":{port}/callback")));
    }
}

#[tokio::test]
async fn endless_request_is_cut_off() {
    let (listener, address) = listener().await;
    let _waiting = tokio::spawn(async move { listener.answer(&state()).await });
    let endless = format!("GET /callback HTTP/1.1\r\nX: {}", "x".repeat(40 * 1024));
    let answer = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        // It may stop reading before the end, and then the system may drop the answer too.
        let _ = stream.write_all(endless.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    let answer = joined(answer).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_keep_the_browser_out() {
    let (listener, address) = listener().await;
    let silent: Vec<_> =
        (0..CONNECTIONS_MAX - 1).map(|_| std::net::TcpStream::connect(address).expect("it listens")).collect();
    let browser = send(address, get(address, "/callback?state=right&code=c"));
    let (_, page) = listener.answer(&state()).await;
    page.show(Page::SignedIn).await;
    assert!(joined(browser).await.contains("You are signed in"));
    drop(silent);
}

#[test]
fn redirect_uri_is_on_this_machine_and_spelled_as_it_is_sent() {
    for uri in [
        "http://127.0.0.1/callback",
        "http://127.0.0.1:8080/callback",
        "http://[::1]:9/x/y",
        "http://localhost:3000/oauth/callback",
        "http://localhost/",
    ] {
        assert_eq!(uri.parse::<RedirectUri>().expect(uri).to_string(), uri);
    }
    for uri in [
        "https://127.0.0.1/callback",
        "http://127.0.0.1/callback?x=y",
        "http://127.0.0.1/callback#x",
        "http://user@127.0.0.1/callback",
        "http://127.0.0.2/callback",
        "http://0.0.0.0/callback",
        "http://example.com/callback",
        "http://localhost.example.com/callback",
        "http://127.1/callback",
        "http://127.0.0.1/a/../callback",
        "app://callback",
        "callback",
    ] {
        assert!(uri.parse::<RedirectUri>().is_err(), "{uri}");
    }
}

use std::{io::Write as _, net::TcpListener};

use serde_json::json;

use super::*;
use crate::login::testing::{self, Reply, Server};

fn url(text: &str) -> Url {
    Url::parse(text).expect(text)
}

#[tokio::test]
async fn redirect_of_a_metadata_document_is_not_followed() {
    let inside = Server::start(|_, _| Reply::json(200, &json!({ "secret": true })));
    let target = inside.origin();
    let server = Server::start(move |_, _| Reply::new(302, &format!("Location: {target}/\r\n"), ""));
    let answer = server.fetcher().get(&url(&format!("{}/prm", server.origin()))).await;
    assert!(matches!(answer, Err(FetchError::Redirect { .. })), "{:?}", answer.err());
    assert_eq!(inside.requests().len(), 0);
}

#[tokio::test]
async fn endless_answer_is_cut_off() {
    let server = Server::start(|_, _| Reply::new(200, "", &"x".repeat(BODY_MAX + 1)));
    let answer = server.fetcher().get(&url(&server.origin())).await;
    assert!(matches!(answer, Err(FetchError::TooLong { .. })), "{:?}", answer.err());
    let server = Server::start(|_, _| Reply::new(200, "", &"x".repeat(BODY_MAX)));
    assert_eq!(server.fetcher().get(&url(&server.origin())).await.expect("64 KiB").body.len(), BODY_MAX);
}

#[tokio::test]
async fn answer_that_never_comes_is_not_waited_for() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let silent = format!("http://{}", listener.local_addr().expect("an address"));
    let request = http::Request::get(&silent).body(Vec::new()).expect("a request");
    let answer = testing::fetcher(&silent).call(request, Duration::from_millis(50)).await;
    assert!(matches!(answer, Err(FetchError::Late { .. })), "{:?}", answer.err());
}

#[tokio::test]
async fn name_of_this_machine_is_never_connected_to_for_a_server_outside() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    let port = listener.local_addr().expect("an address").port();
    let fetcher = testing::fetcher("https://mcp.example.com/mcp");
    // The direct client, so that no proxy of the test's environment takes the question over.
    for host in ["localhost", "a.localhost", "127.0.0.1"] {
        let answer = fetcher.get(&url(&format!("https://{host}:{port}/?token=secret"))).await;
        let error = answer.err().expect("refused");
        assert!(matches!(&error, FetchError::Refused { why: Refused::Address(_), .. }), "{host}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    assert!(listener.accept().is_err(), "nobody may have connected");
}

#[tokio::test]
async fn error_texts_hold_nothing_of_what_was_sent_or_received() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Whether or not the client still listens.
            let _ = stream.write_all(b"canary-answer\r\n\r\n");
        }
    });
    let request = http::Request::post(format!("{origin}/token?key=canary-query"));
    let request = request.body(b"code=canary-code".to_vec()).expect("a request");
    let error = testing::fetcher(&origin).call(request, PATIENCE).await.expect_err("that is no HTTP");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("canary"), "{text}");
    assert!(text.contains("/token"), "{text}");
}

#[tokio::test]
async fn requests_name_the_program_and_nothing_else() {
    let server = Server::start(|_, _| Reply::json(200, &json!({})));
    server.fetcher().get(&url(&format!("{}/a?b=c", server.origin()))).await.expect("an answer");
    let [request] = &server.requests()[..] else { panic!("one request") };
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/a?b=c"));
    assert_eq!(request.header("User-Agent"), Some("test/1"));
    assert_eq!(request.header("Accept"), Some("application/json"));
    assert_eq!((request.header("Referer"), request.header("Cookie")), (None, None));
}

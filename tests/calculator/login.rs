//! Signing in at a real authorization server (`oidc-provider`) with a real browser (Chromium).

use std::{
    process::{Command, Stdio},
    sync::Mutex,
    thread::JoinHandle,
    time::Duration,
};

use mcp_calculator::login::{
    Record,
    browser::BrowserMode,
    device,
    discovery::Target,
    fetch::{Fetcher, FetcherOptions},
    flow::{self, SignIn, SignInError},
    prompt::Prompt,
    registration::ClientOptions,
    session::RefreshError,
    token_goes_to, tokens,
};
use serde_json::Value;

use crate::{
    driver::{named, node, transcript},
    provider::{AuthorizationServer, Server},
};

#[tokio::test]
async fn browser_signs_in_and_the_tokens_live_and_die_as_the_server_says() {
    let provider = AuthorizationServer::start(&[]);
    let server = Server::start(&provider.issuer, &["op:add", "op:sub"]);
    let (first, page) = server.sign_in(None).await;
    let first = first.expect("signed in");
    assert_eq!(page["heading"], "You are signed in", "{page}");
    assert_eq!(page["centred"], "center", "the page's own style is allowed: {page}");
    assert_eq!(page["complaints"], serde_json::json!([]), "{page}");
    assert_eq!((&first.issuer, first.resource.as_ref()), (&provider.issuer, Some(&server.url)));
    assert_eq!(first.scopes, ["op:add", "op:sub"]);
    assert!(token_goes_to(&first, &server.url.parse().expect("a URL")));
    assert!(!token_goes_to(&first, &provider.issuer.parse().expect("a URL")));

    let options = options();
    let fetcher = Fetcher::for_record(&first, &options).expect("a fetcher");
    let second = tokens::refresh(&fetcher, &first).await.expect("renewed");
    assert_ne!(second.access_token.expose(), first.access_token.expose());
    let replaced = second.refresh_token.as_ref().map(|token| token.expose().clone());
    assert_ne!(replaced, first.refresh_token.as_ref().map(|token| token.expose().clone()), "it was rotated");
    // The spent one is a theft to the server, which ends the whole family.
    for record in [&first, &second] {
        let error = tokens::refresh(&fetcher, record).await.expect_err("spent");
        assert!(matches!(error, RefreshError::Rejected(_)), "{error}");
    }

    let (third, _) = server.sign_in(Some(&second)).await;
    let third = third.expect("signed in again");
    assert_eq!(third.client.id, first.client.id, "no second registration");
    tokens::revoke(&fetcher, &third).await.expect("revoked");
    let error = tokens::refresh(&fetcher, &third).await.expect_err("revoked");
    assert!(matches!(error, RefreshError::Rejected(_)), "{error}");
}

#[tokio::test]
async fn code_entered_on_another_machine_signs_in() {
    let provider = AuthorizationServer::start(&[]);
    let server = Server::start(&provider.issuer, &["op:add", "op:sub"]);
    let (record, page) = server.sign_in_with_code().await;
    let record = record.expect("signed in");
    assert_eq!(page["title"], "Sign-in Success", "{page}");
    assert_eq!((record.resource.as_ref(), record.scopes.join(" ").as_str()), (Some(&server.url), "op:add op:sub"));
    let fetcher = Fetcher::for_record(&record, &options()).expect("a fetcher");
    tokens::refresh(&fetcher, &record).await.expect("renewed");
}

fn options() -> FetcherOptions {
    FetcherOptions { user_agent: "mcp-calculator-tests".to_owned(), allow_private_addresses: false }
}

impl Server {
    /// Signs in here; gives what the browser showed in the end, too.
    async fn sign_in(&self, known: Option<&Record>) -> (Result<Record, SignInError>, Value) {
        let user = User::default();
        let browse = |prompt: Prompt<'_>| {
            let Prompt::Browser { url, asked } = prompt else { panic!("{prompt:?}") };
            assert_eq!(asked.notes, [], "nothing is out of the ordinary");
            user.run(node("browser-sign-in.mjs").arg(url.as_str()));
        };
        let record = self.order(known, &browse, async |order| flow::sign_in(order).await).await;
        (record, user.page().await)
    }

    /// Signs in with a code that the user enters elsewhere.
    async fn sign_in_with_code(&self) -> (Result<Record, SignInError>, Value) {
        let user = User::default();
        let enter = |prompt: Prompt<'_>| {
            let Prompt::Device { url, code, .. } = prompt else { panic!("{prompt:?}") };
            user.run(node("browser-device.mjs").args([url.as_str(), code]));
        };
        let record = self.order(None, &enter, async |order| device::sign_in(order).await).await;
        (record, user.page().await)
    }

    async fn order(
        &self,
        known: Option<&Record>,
        prompt: &(dyn Fn(Prompt<'_>) + Send + Sync),
        sign_in: impl AsyncFnOnce(SignIn<'_>) -> Result<Record, SignInError>,
    ) -> Result<Record, SignInError> {
        let target = Target::Server { url: self.url.clone(), issuer: None };
        let client = ClientOptions {
            registered: None,
            metadata_document: None,
            name: "MCP Calculator tests".to_owned(),
            redirect_uri: None,
        };
        let order = SignIn {
            fetcher: &Fetcher::new(&target.url().expect("a URL"), &options()).expect("a fetcher"),
            target: &target,
            challenge: None,
            scopes: &[],
            client: &client,
            known,
            legacy: false,
            browser: BrowserMode::ShowOnly,
            prompt,
            deadline: Duration::from_secs(60),
        };
        sign_in(order).await
    }
}

/// Whoever sits at the browser.
#[derive(Default)]
struct User(Mutex<Option<JoinHandle<Vec<Value>>>>);

impl User {
    fn run(&self, browser: &mut Command) {
        let mut command = Command::new(browser.get_program());
        command.args(browser.get_args()).env_clear().stdin(Stdio::null());
        let running = std::thread::spawn(move || transcript(&mut command));
        assert!(self.0.lock().expect("not poisoned").replace(running).is_none(), "one window is enough");
    }

    /// What the browser showed in the end.
    async fn page(self) -> Value {
        let running = self.0.into_inner().expect("not poisoned").expect("a browser was opened");
        let steps = tokio::task::spawn_blocking(|| running.join().expect("the browser's thread")).await;
        named(&steps.expect("a blocking task"), "page").next().expect("the browser shows a page").clone()
    }
}

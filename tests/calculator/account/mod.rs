//! `login`, `whoami`, `logout` and what they let the server do: the built program with a real keyring,
//! a real authorization server and a real browser.

mod asking;
mod lifetime;
mod secrecy;
mod settings;

use std::time::Duration;

use serde_json::Value;

use crate::{
    desktop::{Desktop, eventually},
    process::{Server, call, modern},
    provider::{self, AuthorizationServer},
};

/// What a user needs to know of the scopes of `scope_of`.
const ALL: [&str; 4] = ["op:add", "op:sub", "op:mult", "op:div"];

/// An authorization server whose tokens live `ttl`, and a server that names it.
struct Remote {
    provider: AuthorizationServer,
    server: provider::Server,
}

impl Remote {
    fn start(ttl: Duration) -> Self {
        let provider = AuthorizationServer::start(&["--token-ttl", &ttl.as_secs().to_string()]);
        let server = provider::Server::start(&provider.issuer, &ALL);
        Self { provider, server }
    }
}

/// Long enough that nothing is renewed during a test.
const LONG: Duration = Duration::from_secs(600);

/// So short that it is renewed after a second: a half of it.
const SHORT: Duration = Duration::from_secs(2);

impl Desktop {
    /// Signs in and says what the user reads then.
    fn login(&self, arguments: &[&str]) -> String {
        let said = self.run(&[&["login"], arguments].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        said.stdout
    }

    /// A server that a client has started.
    fn serve(&self, arguments: &[&str]) -> Server {
        Server::start_with(&mut self.calculator(arguments))
    }
}

/// Calculates 6 and 3; an error is the text that the model reads.
fn calculate(server: &mut Server, operation: &str) -> Result<String, String> {
    let answer = server.ask(&modern("1", "tools/call", call(operation, 6.0, 3.0)));
    outcome(&answer)
}

fn outcome(answer: &Value) -> Result<String, String> {
    let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    if answer["result"]["isError"] == true { Err(text) } else { Ok(text) }
}

/// Asks until the answer is a refusal.
fn refusal(server: &mut Server, operation: &str) -> String {
    eventually("a refusal", || calculate(server, operation).err())
}

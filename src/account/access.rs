//! What a signed-in user may calculate.

use std::pin::Pin;

use mcp_calculator::{
    login::session::{Session, SessionError},
    stdio::Access,
};

use super::{Account, Opened, fetcher, variable};

/// Lets the user do what the sign-in was granted; everything where nobody has signed in, unless a
/// sign-in is required.
pub(crate) struct SignedIn {
    session: Session,
    opened: Opened,
    required: bool,
}

impl SignedIn {
    /// # Errors
    /// A wrong environment variable, or no folder for state.
    pub(crate) fn new(account: &Account, require_login: bool) -> anyhow::Result<Self> {
        let required = require_login
            || match variable("REQUIRE_LOGIN")?.as_deref() {
                Some("true" | "1") => true,
                Some("false" | "0") | None => false,
                Some(_) => anyhow::bail!("MCP_CALCULATOR_REQUIRE_LOGIN must be true or false"),
            };
        let opened = account.open()?;
        // The user allowed private addresses, or did not, when signing in: only known endpoints are used.
        Ok(Self { session: opened.session(fetcher(false)), opened, required })
    }

    async fn judge(&self, scope: &str) -> Result<(), String> {
        let login = self.opened.command("login");
        match self.session.record().await {
            Ok(None) if !self.required => Ok(()),
            Ok(None) => Err(format!(
                "Not signed in, so nothing was done. Ask the user to run `{login} --server URL`, then call again."
            )),
            Ok(Some(record)) if record.scopes.iter().any(|granted| granted == scope) => Ok(()),
            Ok(Some(record)) => {
                // What was granted is asked for again: a sign-in replaces the one before it.
                let scopes = record.scopes.iter().map(String::as_str).filter(|granted| granted.starts_with("op:"));
                let wanted: Vec<String> = scopes.chain([scope]).map(|scope| format!(" --scope {scope}")).collect();
                Err(format!(
                    "Missing required scope \"{scope}\", so nothing was done. Ask the user to run `{login}{}` and to \
                     allow {scope}, then call again.",
                    wanted.concat()
                ))
            }
            Err(error @ (SessionError::SignedOut { .. } | SessionError::SignInNeeded { .. })) => {
                Err(format!("Nothing was done: {error}. Ask the user to do that, then call again."))
            }
            Err(error) => Err(format!("Nothing was done: {error}.")),
        }
    }
}

impl Access for SignedIn {
    fn check(&self, scope: &'static str) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(self.judge(scope))
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.session.close())
    }
}

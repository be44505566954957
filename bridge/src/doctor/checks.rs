//! The steps of the walk, as data.

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Url,
    Reach,
    Tls,
    Door,
    Agents,
    Challenge,
    Accept,
    BadToken,
    ResourceMetadata,
    Resource,
    Scopes,
    ServerMetadata,
    Issuer,
    Endpoints,
    Pkce,
    IssParameter,
    Registration,
    RedirectUris,
    CorsEndpoint,
    CorsSignIn,
    SignIn,
    Eras,
    Tools,
    Streaming,
}

/// What is known of a step before it is taken.
pub(super) struct Step {
    pub(super) check: Check,
    /// For programs: it never changes.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// Steps that come before it, and without whose success it has nothing to ask.
    pub(super) needs: &'static [Check],
}

const fn step(check: Check, id: &'static str, title: &'static str, needs: &'static [Check]) -> Step {
    Step { check, id, title, needs }
}

/// All steps, in the order of a client's way.
pub(super) const STEPS: &[Step] = &[
    step(Check::Url, "url", "URL", &[]),
    step(Check::Reach, "reach", "Name and port", &[]),
    step(Check::Tls, "tls", "TLS", &[Check::Reach]),
    step(Check::Door, "door", "Without a token", &[Check::Tls]),
    step(Check::Agents, "user-agents", "User agents", &[Check::Tls]),
    step(Check::Challenge, "challenge", "Challenge", &[Check::Door]),
    step(Check::Accept, "accept", "Accept: */*", &[Check::Door]),
    step(Check::BadToken, "bad-token", "A made-up token", &[Check::Door]),
    step(Check::ResourceMetadata, "resource-metadata", "Resource metadata", &[Check::Tls]),
    step(Check::Resource, "resource", "Resource identifier", &[Check::ResourceMetadata]),
    step(Check::Scopes, "scopes", "Scopes", &[Check::ResourceMetadata]),
    step(Check::ServerMetadata, "server-metadata", "Authorization server", &[Check::ResourceMetadata]),
    step(Check::Issuer, "issuer", "Issuer", &[Check::ServerMetadata]),
    step(Check::Endpoints, "endpoints", "Endpoints and grants", &[Check::ServerMetadata]),
    step(Check::Pkce, "pkce", "PKCE", &[Check::ServerMetadata]),
    step(Check::IssParameter, "iss-parameter", "Issuer in the answer", &[Check::ServerMetadata]),
    step(Check::Registration, "registration", "Client registration", &[Check::ServerMetadata]),
    step(Check::RedirectUris, "redirect-uris", "Redirect URIs", &[Check::ServerMetadata]),
    step(Check::CorsEndpoint, "cors-endpoint", "CORS of the endpoint", &[Check::Door]),
    step(Check::CorsSignIn, "cors-sign-in", "CORS of the sign-in", &[Check::ServerMetadata]),
    step(Check::SignIn, "sign-in", "Sign-in", &[Check::Issuer, Check::Pkce]),
    step(Check::Eras, "eras", "Protocol revisions", &[Check::Door]),
    step(Check::Tools, "tools", "Tools", &[Check::Eras]),
    step(Check::Streaming, "streaming", "Streaming", &[Check::Eras]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_comes_after_what_it_needs() {
        for (at, step) in STEPS.iter().enumerate() {
            for need in step.needs {
                assert!(STEPS[..at].iter().any(|earlier| earlier.check == *need), "{} needs {need:?}", step.id);
            }
            assert_eq!(STEPS.iter().filter(|other| other.id == step.id || other.check == step.check).count(), 1);
        }
    }
}

//! Why the server could not start.

use std::{io, net::SocketAddr};

use crate::{
    authserver::StoreError,
    http::server::TlsError,
    resource::InvalidResource,
    telemetry::{LogError, audit::AuditError},
    token::BuildError,
    tunnel::TunnelError,
};

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {}", listen_advice(error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The listening address makes no resource.
    #[error("cannot serve at this address")]
    Resource(#[from] InvalidResource),
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Who decides about tokens.
    #[error(transparent)]
    Verifier(#[from] BuildError),
    /// The audit file.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The state of the embedded authorization server.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system's random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// The system's signals.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

impl ServeError {
    /// Whether other settings would help, and trying again would not.
    pub fn is_setting(&self) -> bool {
        match self {
            Self::Tunnel(error) => error.is_setting(),
            Self::Resource(_)
            | Self::Tls(_)
            | Self::Verifier(BuildError::Url { .. } | BuildError::Credentials)
            | Self::Audit(AuditError::Open { .. } | AuditError::NotAFile(_)) => true,
            _ => false,
        }
    }
}

fn listen_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses that port; end it, or choose another with --listen".to_owned()
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose another with --listen".to_owned(),
        _ => error.to_string(),
    }
}

//! The values of metrics' labels.
//!
//! No label's value ever comes from a peer's text, so that nobody can fill memory, or an operator's
//! database, with series.

macro_rules! label {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of their discriminants.
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label's value.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// What a request asked for: a known JSON-RPC method, or what else can arrive.
    MethodLabel {
        /// `initialize`.
        Initialize = "initialize",
        /// `notifications/initialized`.
        Initialized = "notifications/initialized",
        /// `notifications/cancelled`.
        Cancelled = "notifications/cancelled",
        /// `notifications/progress`.
        Progress = "notifications/progress",
        /// `notifications/roots/list_changed`.
        RootsListChanged = "notifications/roots/list_changed",
        /// `server/discover`.
        Discover = "server/discover",
        /// `ping`.
        Ping = "ping",
        /// `tools/list`.
        ToolsList = "tools/list",
        /// `tools/call`.
        ToolsCall = "tools/call",
        /// `prompts/list`.
        PromptsList = "prompts/list",
        /// `prompts/get`.
        PromptsGet = "prompts/get",
        /// `resources/list`.
        ResourcesList = "resources/list",
        /// `resources/templates/list`.
        ResourceTemplatesList = "resources/templates/list",
        /// `resources/read`.
        ResourcesRead = "resources/read",
        /// `resources/subscribe`.
        ResourcesSubscribe = "resources/subscribe",
        /// `resources/unsubscribe`.
        ResourcesUnsubscribe = "resources/unsubscribe",
        /// `subscriptions/listen`.
        SubscriptionsListen = "subscriptions/listen",
        /// `completion/complete`.
        Complete = "completion/complete",
        /// `logging/setLevel`.
        SetLevel = "logging/setLevel",
        /// Another method.
        Other = "other",
        /// A client's answer to a server's request.
        Response = "response",
        /// HTTP GET: a legacy session's stream.
        Get = "GET",
        /// HTTP DELETE: a legacy session's end.
        Delete = "DELETE",
        /// A request to the embedded authorization server.
        OAuth = "oauth",
        /// Refused before its message was read.
        Unread = "unread",
    }
}

impl MethodLabel {
    /// The label of a message with the JSON-RPC method `method`.
    pub fn of(method: &str) -> Self {
        let is_method = |label: &&Self| label.as_str() == method && (**label as usize) < Self::Other as usize;
        Self::ALL.iter().find(is_method).copied().unwrap_or(Self::Other)
    }
}

label! {
    /// Why a request was refused.
    RefusalReason {
        /// No credentials.
        NoToken = "no_token",
        /// Credentials that cannot be a bearer token.
        MalformedCredentials = "malformed_credentials",
        /// A token that is not good here.
        InvalidToken = "invalid_token",
        /// A good token without a needed scope.
        InsufficientScope = "insufficient_scope",
        /// No policy rule names what was asked for.
        NoRule = "no_rule",
        /// A foreign `Origin`.
        Origin = "origin",
        /// A foreign `Host`.
        Host = "host",
        /// A path, or an HTTP method, that is not served.
        NotServed = "not_served",
        /// A media type in `Content-Type` or `Accept` that is not served.
        MediaType = "media_type",
        /// Too many requests of one principal.
        RateLimited = "rate_limited",
        /// Too many requests or sessions at once.
        Overloaded = "overloaded",
        /// A body over the limit.
        TooLarge = "too_large",
        /// A body that came too slowly.
        TooSlow = "too_slow",
        /// A body that is not a message, or headers that contradict it.
        Malformed = "malformed",
        /// A protocol version that is not served.
        Version = "version",
        /// No such session, or another owner's.
        UnknownSession = "unknown_session",
        /// The token could not be verified, because nobody could be asked.
        Unavailable = "unavailable",
        /// The audit record could not be written.
        Audit = "audit",
    }
}

label! {
    /// How one question to the introspection endpoint ended.
    IntrospectionOutcome {
        /// The token is active.
        Active = "active",
        /// The token is not active, or its question was refused as a bad one.
        Inactive = "inactive",
        /// Our own credentials were refused.
        Unauthorized = "unauthorized",
        /// No answer in time, no connection, or a status that says so.
        Unavailable = "unavailable",
        /// Not asked: the circuit breaker is open, or too many questions are on their way.
        NotAsked = "not_asked",
    }
}

label! {
    /// What the token cache did for one request.
    CacheEvent {
        /// It knew the token, as good or as bad.
        Hit = "hit",
        /// It joined a question about the same token that was on its way.
        Coalesced = "coalesced",
        /// It did not know the token.
        Miss = "miss",
    }
}

label! {
    /// How one fetch of the issuer's signing keys ended.
    KeyFetchOutcome {
        /// There are keys.
        Fetched = "fetched",
        /// There are none, or the old ones for a while.
        Failed = "failed",
    }
}

label! {
    /// What became of one audit record.
    AuditOutcome {
        /// It is in the file.
        Written = "written",
        /// It is not, and its request was refused.
        Failed = "failed",
    }
}

label! {
    /// How the start of one child ended.
    ChildStart {
        /// It can answer.
        Opened = "opened",
        /// It could not be started, or did not answer.
        Failed = "failed",
    }
}

label! {
    /// Where a request's child came from.
    ChildSource {
        /// It was ready.
        Pool = "pool",
        /// It had to be started first.
        Start = "start",
    }
}

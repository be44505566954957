-- Everything that a token may do hangs on a grant: deleting the grant deletes them all.
-- Times are seconds since 1970. Of secrets there are only hashes.

CREATE TABLE users (
    name TEXT PRIMARY KEY,
    passphrase_hash TEXT,
    scopes TEXT,
    is_owner INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cookie BLOB NOT NULL UNIQUE,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user);

CREATE TABLE approvals (
    browser BLOB PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    approved_for TEXT REFERENCES users (name) ON DELETE CASCADE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE clients (
    id TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    approved_at INTEGER,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
    id BLOB PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    request TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_session ON requests (session);

CREATE TABLE grants (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    client TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    resource TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_by_user ON grants (user);
CREATE INDEX grants_by_client ON grants (client_id);

CREATE TABLE codes (
    hash BLOB PRIMARY KEY,
    grant_id INTEGER NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    challenge TEXT NOT NULL,
    must_send_redirect_uri INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX codes_by_grant ON codes (grant_id);

CREATE TABLE access_tokens (
    hash BLOB PRIMARY KEY,
    grant_id INTEGER NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX access_tokens_by_grant ON access_tokens (grant_id);

CREATE TABLE refresh_tokens (
    hash BLOB PRIMARY KEY,
    grant_id INTEGER NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    -- Whose successor it is.
    predecessor BLOB,
    created_at INTEGER NOT NULL,
    -- Of its first use.
    used_at INTEGER,
    -- Whether one of its successors was used: from then on it is dead.
    is_dead INTEGER NOT NULL DEFAULT 0,
    successors INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_grant ON refresh_tokens (grant_id);

-- One row: until when clients may register, where that is only for a while.
CREATE TABLE registration (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    open_until INTEGER NOT NULL
) STRICT;

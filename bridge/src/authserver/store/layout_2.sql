-- A refresh token is known by its family when it is not kept any more. Those of before have none, and
-- their users sign in again.
ALTER TABLE grants ADD COLUMN family BLOB;
CREATE UNIQUE INDEX grants_by_family ON grants (family);

DROP TABLE refresh_tokens;
CREATE TABLE refresh_tokens (
    hash BLOB PRIMARY KEY,
    grant_id INTEGER NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    -- Whose successor it is. That one and its other successors are deleted when this one is used.
    predecessor BLOB,
    created_at INTEGER NOT NULL,
    -- Of its first use.
    used_at INTEGER,
    successors INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_grant ON refresh_tokens (grant_id);

-- Codes that somebody has approved in a terminal. Browsers that wait are not kept.
DROP TABLE approvals;
CREATE TABLE approvals (
    code TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

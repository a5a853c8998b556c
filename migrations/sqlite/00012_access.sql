-- +goose Up

-- Who may do what: credentials of clients and workers. A token is 256 random bits, so that its plain SHA-256 tells nobody
-- anything; it is kept nowhere. What was revoked or has expired stays, for people.
CREATE TABLE tokens (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL, -- whose it is; tokens of one name are of one and the same
    hash       BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32), -- SHA-256 of the token
    role       TEXT    NOT NULL CHECK (role IN ('viewer', 'submitter', 'worker', 'admin')), -- what its holder may do
    projects   TEXT    NOT NULL CHECK (json_valid(projects)), -- that its holder is confined to: an array, empty for all
    created_at INTEGER NOT NULL,
    expires_at INTEGER, -- from when on it is good for nothing; null for never
    revoked_at INTEGER  -- null while it is not
) STRICT;

-- A session is of use to who registered it only.
ALTER TABLE sessions ADD COLUMN owner TEXT NOT NULL DEFAULT ''; -- token/NAME, certificate/NAME or coordinator; '' where nobody is asked

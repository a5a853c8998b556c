-- +goose Up

-- Who may do what. A token is 256 random bits, so that its plain SHA-256 tells nobody anything; it is kept nowhere.
CREATE TABLE tokens (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL,
    hash       bytea       NOT NULL,
    role       text        NOT NULL,
    projects   text[]      NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,

    CONSTRAINT tokens_hash_unique UNIQUE (hash),
    CONSTRAINT tokens_hash_length CHECK (octet_length(hash) = 32),
    CONSTRAINT tokens_role CHECK (role IN ('viewer', 'submitter', 'worker', 'admin'))
);
COMMENT ON TABLE tokens IS 'Credentials of clients and workers. What was revoked or has expired stays, for people.';
COMMENT ON COLUMN tokens.id IS 'The token''s number.';
COMMENT ON COLUMN tokens.name IS 'Whose it is; tokens of one name are of one and the same.';
COMMENT ON COLUMN tokens.hash IS 'SHA-256 of the token.';
COMMENT ON COLUMN tokens.role IS 'What its holder may do: viewer, submitter, worker, admin.';
COMMENT ON COLUMN tokens.projects IS 'Projects that its holder is confined to; empty for all.';
COMMENT ON COLUMN tokens.created_at IS 'When it was made.';
COMMENT ON COLUMN tokens.expires_at IS 'From when on it is good for nothing; null for never.';
COMMENT ON COLUMN tokens.revoked_at IS 'When it was revoked; null while it is not.';

-- A session is of use to who registered it only.
ALTER TABLE sessions ADD COLUMN owner text NOT NULL DEFAULT '';
COMMENT ON COLUMN sessions.owner IS 'Who registered it: token/NAME, certificate/NAME or coordinator; empty where nobody is asked.';

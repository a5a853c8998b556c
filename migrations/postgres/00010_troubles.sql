-- +goose Up

-- What keeps a worker from working is seen by everybody who asks how it is.
ALTER TABLE sessions ADD COLUMN trouble text NOT NULL DEFAULT '';
COMMENT ON COLUMN sessions.trouble IS 'What its handlers need and do not have, as it says itself; empty while nothing is missing.';

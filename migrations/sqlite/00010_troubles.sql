-- +goose Up

-- What keeps a worker from working is seen by everybody who asks how it is.
ALTER TABLE sessions ADD COLUMN trouble TEXT NOT NULL DEFAULT ''; -- what its handlers need and do not have, as it says itself; '' while nothing is missing

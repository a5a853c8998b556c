-- +goose Up

-- How long a batch has been waiting is known from when it was cut. Of those from before nobody knows.
ALTER TABLE batch_payloads ADD COLUMN created_at INTEGER;

-- What somebody outside is told, until that has arrived. Those that did are remembered for a while by their ids.
CREATE TABLE deliveries (
    id         TEXT    NOT NULL PRIMARY KEY, -- the message's id, the same however often it is sent
    event      TEXT    NOT NULL, -- what it is about: job.ended, crash_rate.exceeded
    body       BLOB    NOT NULL, -- JSON, as it is sent
    tries      INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0), -- how often somebody took it to send it
    created_at INTEGER NOT NULL,
    due_at     INTEGER NOT NULL, -- when somebody may take it, again
    ended_at   INTEGER -- when it had arrived, or was given up; null before
) STRICT;
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE ended_at IS NULL;
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE ended_at IS NOT NULL;

-- +goose Up

-- How long a batch has been waiting is known from when it was cut. Of those from before nobody knows.
ALTER TABLE batch_payloads ADD COLUMN created_at timestamptz;
ALTER TABLE batch_payloads ALTER COLUMN created_at SET DEFAULT now();
COMMENT ON COLUMN batch_payloads.created_at IS 'When its batch was cut; null of those that are older than this column.';

-- What somebody outside is told, until that has arrived. Those that did are remembered for a while by their ids.
CREATE TABLE deliveries (
    id         text        PRIMARY KEY,
    event      text        NOT NULL,
    body       bytea       NOT NULL,
    tries      integer     NOT NULL DEFAULT 0 CHECK (tries >= 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz
);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE ended_at IS NULL;
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE ended_at IS NOT NULL;
COMMENT ON TABLE deliveries IS 'Messages of webhooks: sent at least once, by one coordinator at a time.';
COMMENT ON COLUMN deliveries.id IS 'The message''s id, the same however often it is sent.';
COMMENT ON COLUMN deliveries.event IS 'What it is about: job.ended, crash_rate.exceeded.';
COMMENT ON COLUMN deliveries.body IS 'JSON, as it is sent.';
COMMENT ON COLUMN deliveries.tries IS 'How often somebody took it to send it.';
COMMENT ON COLUMN deliveries.created_at IS 'When it was added.';
COMMENT ON COLUMN deliveries.due_at IS 'When somebody may take it, again.';
COMMENT ON COLUMN deliveries.ended_at IS 'When it had arrived, or was given up; null before.';

-- +goose Up

-- Jobs can be paused, and retried by hand.
ALTER TABLE jobs
    ADD COLUMN run integer NOT NULL DEFAULT 1 CHECK (run > 0),
    ADD COLUMN retried_at timestamptz,
    ADD COLUMN retry_request_id text NOT NULL DEFAULT '',
    ADD COLUMN retrying integer NOT NULL DEFAULT 0,
    ADD COLUMN retry_from integer NOT NULL DEFAULT 0,
    ADD COLUMN forgiven_bad bigint NOT NULL DEFAULT 0 CHECK (forgiven_bad >= 0),
    DROP CONSTRAINT jobs_state_check,
    DROP CONSTRAINT jobs_ended_whole,
    DROP CONSTRAINT jobs_ended_at,
    ADD CONSTRAINT jobs_state_check CHECK (state IN
        ('running', 'paused', 'cancelling', 'succeeded', 'completed_with_errors', 'failed', 'cancelled')),
    ADD CONSTRAINT jobs_ended_whole CHECK (state IN ('running', 'paused', 'cancelling') OR (
        batches_pending = 0 AND batches_running = 0 AND items_in_flight = 0
        AND items_stored + items_stored_with_warnings + items_rejected + items_skipped + items_document_missing
            + items_failed + items_crashed + items_cancelled = items_total)),
    ADD CONSTRAINT jobs_ended_at CHECK ((ended_at IS NOT NULL) = (state NOT IN ('running', 'paused', 'cancelling'))),
    ADD CONSTRAINT jobs_retrying CHECK (retrying = 0 OR ended_at IS NULL);
COMMENT ON COLUMN jobs.state IS 'running, paused, cancelling, or an end: succeeded, completed_with_errors, failed, cancelled.';
COMMENT ON COLUMN jobs.run IS 'Its first passage, and one more for each retry by hand.';
COMMENT ON COLUMN jobs.retried_at IS 'When the last retry by hand began; null before.';
COMMENT ON COLUMN jobs.retry_request_id IS 'Of the last retry by hand, so that a repeated request changes nothing.';
COMMENT ON COLUMN jobs.retry_from IS 'Ordinal from which the retry still looks for them.';
COMMENT ON COLUMN jobs.forgiven_bad IS 'Failed and crashed items that the last retry left as they are: limits do not count them.';
COMMENT ON COLUMN jobs.retrying IS 'Bit 1 << state for each state of batches that the retry still moves to pending.';
DROP INDEX jobs_open;
CREATE INDEX jobs_open ON jobs (state, id) WHERE state IN ('running', 'paused', 'cancelling');
-- Jobs that ended are looked through by when they did, for those to be removed.
CREATE INDEX jobs_ended ON jobs (state, ended_at, id) WHERE ended_at IS NOT NULL AND deleted_at IS NULL;

ALTER TABLE sessions ADD COLUMN drained_at timestamptz;
COMMENT ON COLUMN sessions.drained_at IS 'When it was asked to take no more and to end; null unless it was.';
-- Ended sessions go after a while.
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

-- Batches that came back are found job by job, as fresh ones are: those of a job whose turn it is not, or that is paused,
-- are in nobody's way.
DROP INDEX batches_returned;
CREATE INDEX batches_returned ON batches (job_id, available_at, id) WHERE state = 0 AND available_at IS NOT NULL;

-- One worker is looked at: its newest session, and the attempts of that.
CREATE INDEX sessions_worker ON sessions (worker_id, id);
CREATE INDEX attempts_session ON attempts (session_id, ended_at);

ALTER TABLE batches ADD COLUMN lone_losses integer NOT NULL DEFAULT 0 CHECK (lone_losses >= 0);
COMMENT ON COLUMN batches.lone_losses IS 'Of its last attempts that were lost in a row, those while most other sessions kept beating.';

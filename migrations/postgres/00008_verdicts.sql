-- +goose Up

-- A worker on which everything dies is told from batches that kill workers.
ALTER TABLE sessions ADD COLUMN drain_reason text NOT NULL DEFAULT '';
COMMENT ON COLUMN sessions.drain_reason IS 'Why the coordinators drained it by themselves; empty when they did not.';
ALTER TABLE attempts ADD COLUMN completed_before bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN attempts.completed_before IS 'Batches that its session had completed by then, give or take a moment''s.';
CREATE INDEX attempts_died ON attempts (ended_at) WHERE ended_as = 'died';
ALTER TABLE job_minutes ADD COLUMN acquitted bigint NOT NULL DEFAULT 0 CHECK (acquitted >= 0);
COMMENT ON COLUMN job_minutes.acquitted IS 'Of the batches in with_crash, of this minute and earlier ones, those whose deaths turned out to be their worker''s.';

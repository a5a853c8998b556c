-- +goose Up

-- A worker on which everything dies is told from batches that kill workers.
ALTER TABLE sessions ADD COLUMN drain_reason TEXT NOT NULL DEFAULT ''; -- why the coordinators drained it by themselves; '' when they did not
ALTER TABLE attempts ADD COLUMN completed_before INTEGER NOT NULL DEFAULT 0; -- batches that its session had completed by then, give or take a moment's
CREATE INDEX attempts_died ON attempts (ended_at) WHERE ended_as = 'died';
-- Of the batches in with_crash, of this minute and earlier ones, those whose deaths turned out to be their worker's.
ALTER TABLE job_minutes ADD COLUMN acquitted INTEGER NOT NULL DEFAULT 0 CHECK (acquitted >= 0);

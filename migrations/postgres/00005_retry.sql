-- +goose Up

-- A retry by hand takes back at its beginning what only the ends of batches gave to their items, though it moves the
-- batches step by step.
ALTER TABLE jobs
    ADD COLUMN taken_back_failed bigint NOT NULL DEFAULT 0,
    ADD COLUMN taken_back_crashed bigint NOT NULL DEFAULT 0,
    ADD COLUMN taken_back_cancelled bigint NOT NULL DEFAULT 0,
    ADD COLUMN retry_after bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT jobs_taken_back CHECK (least(taken_back_failed, taken_back_crashed, taken_back_cancelled) >= 0
        AND (ended_at IS NULL OR taken_back_failed + taken_back_crashed + taken_back_cancelled = 0));
COMMENT ON COLUMN jobs.taken_back_failed IS 'Items of failed batches that the retry still moves to pending: open, and not among items_failed. When the retry is stopped they are counted there again a moment later.';
COMMENT ON COLUMN jobs.taken_back_crashed IS 'The same of crashed batches.';
COMMENT ON COLUMN jobs.taken_back_cancelled IS 'The same of cancelled batches.';
COMMENT ON COLUMN jobs.retry_after IS 'Of batches with the ordinal retry_from, the id after which the retry still looks for them.';
-- A retry that is under way took nothing back at its beginning. Its old outcomes do not count for limits, as before.
UPDATE jobs SET forgiven_bad = items_failed + items_crashed WHERE retrying <> 0;

ALTER TABLE batches ADD COLUMN ended_run integer;
UPDATE batches SET ended_run = 0 WHERE state IN (3, 4);
ALTER TABLE batches ADD CONSTRAINT batches_ended_run CHECK ((ended_run IS NOT NULL) = (state IN (3, 4)));
COMMENT ON COLUMN batches.ended_run IS 'Run of its job in which it failed or crashed, 0 when that was before this was kept; null otherwise.';

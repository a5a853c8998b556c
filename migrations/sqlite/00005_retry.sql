-- +goose Up

-- A retry by hand takes back at its beginning what only the ends of batches gave to their items, though it moves the
-- batches step by step. Items of failed, crashed and cancelled batches that it still moves to pending: they are open, and
-- not among items_failed, items_crashed, items_cancelled. When the retry is stopped they are counted there again a moment
-- later.
ALTER TABLE jobs ADD COLUMN taken_back_failed INTEGER NOT NULL DEFAULT 0
    CHECK (taken_back_failed >= 0 AND (taken_back_failed = 0 OR ended_at IS NULL));
ALTER TABLE jobs ADD COLUMN taken_back_crashed INTEGER NOT NULL DEFAULT 0
    CHECK (taken_back_crashed >= 0 AND (taken_back_crashed = 0 OR ended_at IS NULL));
ALTER TABLE jobs ADD COLUMN taken_back_cancelled INTEGER NOT NULL DEFAULT 0
    CHECK (taken_back_cancelled >= 0 AND (taken_back_cancelled = 0 OR ended_at IS NULL));
-- Of batches with the ordinal retry_from, the id after which the retry still looks for them.
ALTER TABLE jobs ADD COLUMN retry_after INTEGER NOT NULL DEFAULT 0;
-- A retry that is under way took nothing back at its beginning. Its old outcomes do not count for limits, as before.
UPDATE jobs SET forgiven_bad = items_failed + items_crashed WHERE retrying <> 0;

-- Run of its job in which it failed or crashed, 0 when that was before this was kept; null otherwise.
ALTER TABLE batches ADD COLUMN ended_run INTEGER CHECK (ended_run IS NULL OR state IN (3, 4));
UPDATE batches SET ended_run = 0 WHERE state IN (3, 4) AND state > 2;

-- +goose Up

-- Jobs can be paused, and retried by hand. SQLite changes constraints by making the table anew, and with it the one that
-- refers to it.
CREATE TABLE jobs_2 (
    id                         INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of submission
    upload_id                  TEXT    NOT NULL, -- that the submitter chose; unique among jobs that are not deleted
    project                    TEXT    NOT NULL, -- the namespace that owns the annotations; '' for kinds that need none
    kind                       TEXT    NOT NULL, -- which handler the batches need
    mode                       TEXT    NOT NULL, -- how items are stored, for the handler: replace, add, merge, skip
    parameters                 TEXT    NOT NULL CHECK (json_valid(parameters)), -- for the handler: an object of strings
    labels                     TEXT    NOT NULL CHECK (json_valid(labels)), -- for people: an object of strings
    policy                     TEXT    NOT NULL CHECK (json_valid(policy)), -- how it is cut and retried, as submitted
    priority                   INTEGER NOT NULL, -- higher is claimed first
    file_name                  TEXT    NOT NULL, -- of the uploaded file
    size                       INTEGER NOT NULL, -- bytes that the submitter announced, 0 when unknown
    state                      TEXT    NOT NULL DEFAULT 'running' CHECK (state IN
        ('running', 'paused', 'cancelling', 'succeeded', 'completed_with_errors', 'failed', 'cancelled')), -- the last four are ends
    stop_as                    TEXT    NOT NULL DEFAULT '' CHECK (stop_as IN ('', 'failed', 'cancelled')), -- how it ends when stopped
    reason                     TEXT    NOT NULL DEFAULT '', -- why it was stopped, for people
    ingest_done                INTEGER NOT NULL DEFAULT 0 CHECK (ingest_done IN (0, 1)), -- items_total does not grow any more
    revision                   INTEGER NOT NULL DEFAULT 1, -- grows with every change that a snapshot shows
    items_total                INTEGER NOT NULL DEFAULT 0, -- items read so far, rejected ones included
    items_in_flight            INTEGER NOT NULL DEFAULT 0, -- items without an outcome in running batches
    items_stored               INTEGER NOT NULL DEFAULT 0,
    items_stored_with_warnings INTEGER NOT NULL DEFAULT 0,
    items_rejected             INTEGER NOT NULL DEFAULT 0, -- invalid, or their text does not align
    items_skipped              INTEGER NOT NULL DEFAULT 0, -- not stored since mode skip found annotations
    items_document_missing     INTEGER NOT NULL DEFAULT 0, -- whose document the source does not have
    items_failed               INTEGER NOT NULL DEFAULT 0, -- whose batch's last attempt failed
    items_crashed              INTEGER NOT NULL DEFAULT 0, -- that killed their worker, or were left when crashes used up the attempts
    items_cancelled            INTEGER NOT NULL DEFAULT 0, -- not attempted, or interrupted, since the job was stopped
    batches_pending            INTEGER NOT NULL DEFAULT 0, -- that wait for a worker
    batches_running            INTEGER NOT NULL DEFAULT 0, -- held by a worker
    batches_completed          INTEGER NOT NULL DEFAULT 0, -- all of whose items were handled
    batches_failed             INTEGER NOT NULL DEFAULT 0, -- whose last attempt failed
    batches_crashed            INTEGER NOT NULL DEFAULT 0, -- whose attempts were used up by crashes
    batches_cancelled          INTEGER NOT NULL DEFAULT 0, -- ended because the job was stopped
    annotations                INTEGER NOT NULL DEFAULT 0, -- weight of all batches
    bytes_read                 INTEGER NOT NULL DEFAULT 0, -- of the upload, as received, that are committed
    errors                     INTEGER NOT NULL DEFAULT 0, -- findings of severity error
    warnings                   INTEGER NOT NULL DEFAULT 0, -- findings of severity warning
    batches_crashed_ever       INTEGER NOT NULL DEFAULT 0, -- with at least one crashed attempt, whatever became of them
    submitted_at               INTEGER NOT NULL, -- when the upload was opened first
    started_at                 INTEGER, -- when the first claim was counted
    ended_at                   INTEGER, -- null while it is open
    updated_at                 INTEGER NOT NULL, -- when this row was last changed
    deleted_at                 INTEGER, -- when it was deleted: hidden since, and removed in steps
    run                        INTEGER NOT NULL DEFAULT 1 CHECK (run > 0), -- its first passage, and one more for each retry by hand
    retried_at                 INTEGER, -- when the last retry by hand began; null before
    retry_request_id           TEXT    NOT NULL DEFAULT '', -- of the last retry, so that a repeated request changes nothing
    retrying                   INTEGER NOT NULL DEFAULT 0, -- bit 1 << state for each state of batches that the retry still moves to pending
    retry_from                 INTEGER NOT NULL DEFAULT 0, -- ordinal from which the retry still looks for them
    forgiven_bad               INTEGER NOT NULL DEFAULT 0 CHECK (forgiven_bad >= 0), -- failed and crashed items that the last retry left as they are: limits do not count them

    CONSTRAINT jobs_counters_not_negative CHECK (min(
        items_total, items_in_flight, items_stored, items_stored_with_warnings, items_rejected, items_skipped,
        items_document_missing, items_failed, items_crashed, items_cancelled, batches_pending, batches_running,
        batches_completed, batches_failed, batches_crashed, batches_cancelled, annotations, bytes_read, errors,
        warnings, batches_crashed_ever) >= 0),
    CONSTRAINT jobs_items_within_total CHECK (items_in_flight + items_stored + items_stored_with_warnings
        + items_rejected + items_skipped + items_document_missing + items_failed + items_crashed + items_cancelled
        <= items_total),
    CONSTRAINT jobs_retrying CHECK (retrying = 0 OR ended_at IS NULL),
    CONSTRAINT jobs_ended_whole CHECK (state IN ('running', 'paused', 'cancelling') OR (
        batches_pending = 0 AND batches_running = 0 AND items_in_flight = 0
        AND items_stored + items_stored_with_warnings + items_rejected + items_skipped + items_document_missing
            + items_failed + items_crashed + items_cancelled = items_total)),
    CONSTRAINT jobs_ended_at CHECK ((ended_at IS NOT NULL) = (state NOT IN ('running', 'paused', 'cancelling'))),
    CONSTRAINT jobs_stop_as CHECK (state <> 'cancelling' OR stop_as <> ''),
    CONSTRAINT jobs_deleted_ended CHECK (deleted_at IS NULL OR ended_at IS NOT NULL)
) STRICT;
INSERT INTO jobs_2 (
    id, upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size, state, stop_as,
    reason, ingest_done, revision, items_total, items_in_flight, items_stored, items_stored_with_warnings,
    items_rejected, items_skipped, items_document_missing, items_failed, items_crashed, items_cancelled,
    batches_pending, batches_running, batches_completed, batches_failed, batches_crashed, batches_cancelled,
    annotations, bytes_read, errors, warnings, batches_crashed_ever, submitted_at, started_at, ended_at,
    updated_at, deleted_at)
SELECT
    id, upload_id, project, kind, mode, parameters, labels, policy, priority, file_name, size, state, stop_as,
    reason, ingest_done, revision, items_total, items_in_flight, items_stored, items_stored_with_warnings,
    items_rejected, items_skipped, items_document_missing, items_failed, items_crashed, items_cancelled,
    batches_pending, batches_running, batches_completed, batches_failed, batches_crashed, batches_cancelled,
    annotations, bytes_read, errors, warnings, batches_crashed_ever, submitted_at, started_at, ended_at,
    updated_at, deleted_at
FROM jobs;

CREATE TABLE uploads_2 (
    job_id      INTEGER PRIMARY KEY REFERENCES jobs_2 (id), -- the job that it feeds
    upload_id   TEXT    NOT NULL UNIQUE, -- that the submitter chose
    epoch       INTEGER NOT NULL DEFAULT 1, -- number of the stream that may add to it; grows whenever it is opened
    byte_offset INTEGER NOT NULL DEFAULT 0, -- bytes of the decompressed input that are committed
    received    INTEGER NOT NULL DEFAULT 0, -- the same in bytes as received
    line        INTEGER NOT NULL DEFAULT 0, -- lines before byte_offset
    items       INTEGER NOT NULL DEFAULT 0, -- items before byte_offset, rejected ones included
    batches     INTEGER NOT NULL DEFAULT 0, -- batches cut from them
    document    TEXT    NOT NULL DEFAULT '', -- document key of the last item before byte_offset
    hash_state  BLOB    NOT NULL DEFAULT x'', -- state of the hash over the input before byte_offset
    encoding    TEXT    NOT NULL DEFAULT '', -- compression of the input as sent; '' when it is plain
    active_at   INTEGER NOT NULL, -- when it was opened, or something was committed, last
    finished_at INTEGER, -- when its last group was committed; null before

    CONSTRAINT uploads_not_negative CHECK (min(epoch, byte_offset, received, line, items, batches) >= 0)
) STRICT;
INSERT INTO uploads_2 (
    job_id, upload_id, epoch, byte_offset, received, line, items, batches, document, hash_state, encoding,
    active_at, finished_at)
SELECT
    job_id, upload_id, epoch, byte_offset, received, line, items, batches, document, hash_state, encoding,
    active_at, finished_at
FROM uploads;

-- Numbers are not given again, not even those of deleted jobs.
DELETE FROM sqlite_sequence WHERE name = 'jobs_2';
UPDATE sqlite_sequence SET name = 'jobs_2' WHERE name = 'jobs';
DROP TABLE uploads;
DROP TABLE jobs;
ALTER TABLE jobs_2 RENAME TO jobs;
ALTER TABLE uploads_2 RENAME TO uploads;
CREATE UNIQUE INDEX jobs_upload_id ON jobs (upload_id) WHERE deleted_at IS NULL;
CREATE INDEX jobs_open ON jobs (state, id) WHERE ended_at IS NULL;
CREATE INDEX jobs_project ON jobs (project, id);
CREATE INDEX jobs_deleted ON jobs (id) WHERE deleted_at IS NOT NULL;
CREATE INDEX uploads_unfinished ON uploads (active_at) WHERE finished_at IS NULL;

-- When the session was asked to take no more and to end; null unless it was.
ALTER TABLE sessions ADD COLUMN drained_at INTEGER;
-- Ended sessions go after a while.
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
-- Jobs that ended are looked through by when they did, for those to be removed.
CREATE INDEX jobs_ended ON jobs (state, ended_at, id) WHERE ended_at IS NOT NULL AND deleted_at IS NULL;

-- Batches that came back are found job by job, as fresh ones are: those of a job whose turn it is not, or that is paused,
-- are in nobody's way.
DROP INDEX batches_returned;
CREATE INDEX batches_returned ON batches (job_id, available_at, id) WHERE state = 0 AND available_at IS NOT NULL;

-- One worker is looked at: its newest session, and the attempts of that.
CREATE INDEX sessions_worker ON sessions (worker_id, id);
CREATE INDEX attempts_session ON attempts (session_id, ended_at);

-- Of its last attempts that were lost in a row, those while most other sessions kept beating.
ALTER TABLE batches ADD COLUMN lone_losses INTEGER NOT NULL DEFAULT 0 CHECK (lone_losses >= 0);

-- +goose Up

-- The coordinator's whole memory. Times are the database's clock. Foreign keys to jobs and batches are missing on
-- purpose where rows come in bulk: the check of each would lock a row that many transactions share, and every writer is
-- this program, in one transaction per group.

CREATE TABLE cluster (
    singleton  boolean     NOT NULL DEFAULT true PRIMARY KEY CHECK (singleton),
    id         uuid        NOT NULL,
    created_at timestamptz NOT NULL
);
COMMENT ON TABLE cluster IS 'One row: the identity of this database, for ever.';
COMMENT ON COLUMN cluster.singleton IS 'Always true: keeps the table at one row.';
COMMENT ON COLUMN cluster.id IS 'Random; annotation stores bind themselves to it.';
COMMENT ON COLUMN cluster.created_at IS 'When the schema was created.';
INSERT INTO cluster (id, created_at) VALUES (gen_random_uuid(), clock_timestamp());

CREATE TABLE jobs (
    id                         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    upload_id                  text        NOT NULL,
    project                    text        NOT NULL,
    kind                       text        NOT NULL,
    mode                       text        NOT NULL,
    parameters                 jsonb       NOT NULL,
    labels                     jsonb       NOT NULL,
    policy                     jsonb       NOT NULL,
    priority                   integer     NOT NULL,
    file_name                  text        NOT NULL,
    size                       bigint      NOT NULL,
    state                      text        NOT NULL DEFAULT 'running' CHECK (state IN
        ('running', 'cancelling', 'succeeded', 'completed_with_errors', 'failed', 'cancelled')),
    stop_as                    text        NOT NULL DEFAULT '' CHECK (stop_as IN ('', 'failed', 'cancelled')),
    reason                     text        NOT NULL DEFAULT '',
    ingest_done                boolean     NOT NULL DEFAULT false,
    revision                   bigint      NOT NULL DEFAULT 1,
    items_total                bigint      NOT NULL DEFAULT 0,
    items_in_flight            bigint      NOT NULL DEFAULT 0,
    items_stored               bigint      NOT NULL DEFAULT 0,
    items_stored_with_warnings bigint      NOT NULL DEFAULT 0,
    items_rejected             bigint      NOT NULL DEFAULT 0,
    items_skipped              bigint      NOT NULL DEFAULT 0,
    items_document_missing     bigint      NOT NULL DEFAULT 0,
    items_failed               bigint      NOT NULL DEFAULT 0,
    items_crashed              bigint      NOT NULL DEFAULT 0,
    items_cancelled            bigint      NOT NULL DEFAULT 0,
    batches_pending            bigint      NOT NULL DEFAULT 0,
    batches_running            bigint      NOT NULL DEFAULT 0,
    batches_completed          bigint      NOT NULL DEFAULT 0,
    batches_failed             bigint      NOT NULL DEFAULT 0,
    batches_crashed            bigint      NOT NULL DEFAULT 0,
    batches_cancelled          bigint      NOT NULL DEFAULT 0,
    annotations                bigint      NOT NULL DEFAULT 0,
    bytes_read                 bigint      NOT NULL DEFAULT 0,
    errors                     bigint      NOT NULL DEFAULT 0,
    warnings                   bigint      NOT NULL DEFAULT 0,
    batches_crashed_ever       bigint      NOT NULL DEFAULT 0,
    submitted_at               timestamptz NOT NULL,
    started_at                 timestamptz,
    ended_at                   timestamptz,
    updated_at                 timestamptz NOT NULL,
    deleted_at                 timestamptz,

    CONSTRAINT jobs_counters_not_negative CHECK (least(
        items_total, items_in_flight, items_stored, items_stored_with_warnings, items_rejected, items_skipped,
        items_document_missing, items_failed, items_crashed, items_cancelled, batches_pending, batches_running,
        batches_completed, batches_failed, batches_crashed, batches_cancelled, annotations, bytes_read, errors,
        warnings, batches_crashed_ever) >= 0),
    CONSTRAINT jobs_items_within_total CHECK (items_in_flight + items_stored + items_stored_with_warnings
        + items_rejected + items_skipped + items_document_missing + items_failed + items_crashed + items_cancelled
        <= items_total),
    CONSTRAINT jobs_ended_whole CHECK (state IN ('running', 'cancelling') OR (
        batches_pending = 0 AND batches_running = 0 AND items_in_flight = 0
        AND items_stored + items_stored_with_warnings + items_rejected + items_skipped + items_document_missing
            + items_failed + items_crashed + items_cancelled = items_total)),
    CONSTRAINT jobs_ended_at CHECK ((ended_at IS NOT NULL) = (state NOT IN ('running', 'cancelling'))),
    CONSTRAINT jobs_stop_as CHECK (state <> 'cancelling' OR stop_as <> ''),
    CONSTRAINT jobs_deleted_ended CHECK (deleted_at IS NULL OR ended_at IS NOT NULL)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX jobs_upload_id ON jobs (upload_id) WHERE deleted_at IS NULL;
CREATE INDEX jobs_open ON jobs (state, id) WHERE state IN ('running', 'cancelling');
CREATE INDEX jobs_project ON jobs (project, id);
CREATE INDEX jobs_deleted ON jobs (id) WHERE deleted_at IS NOT NULL;
COMMENT ON TABLE jobs IS 'One upload and everything that happens to it. The counters are what job_deltas held when they were last folded in, a fraction of a second ago.';
COMMENT ON COLUMN jobs.id IS 'The job''s number, in the order of submission.';
COMMENT ON COLUMN jobs.upload_id IS 'The id that the submitter chose; unique among jobs that are not deleted.';
COMMENT ON COLUMN jobs.project IS 'The namespace that owns the annotations; empty for kinds that need none.';
COMMENT ON COLUMN jobs.kind IS 'Which handler the batches need.';
COMMENT ON COLUMN jobs.mode IS 'How items are stored, for the handler: replace, add, merge, skip.';
COMMENT ON COLUMN jobs.parameters IS 'For the handler: an object of strings.';
COMMENT ON COLUMN jobs.labels IS 'For people: an object of strings.';
COMMENT ON COLUMN jobs.policy IS 'How the job is cut and retried, as submitted; what is absent has its default.';
COMMENT ON COLUMN jobs.priority IS 'Higher is claimed first.';
COMMENT ON COLUMN jobs.file_name IS 'Name of the uploaded file.';
COMMENT ON COLUMN jobs.size IS 'Bytes that the submitter announced, 0 when unknown.';
COMMENT ON COLUMN jobs.state IS 'running, cancelling, or an end: succeeded, completed_with_errors, failed, cancelled.';
COMMENT ON COLUMN jobs.stop_as IS 'How a cancelling job ends: failed or cancelled; empty when nobody stopped it.';
COMMENT ON COLUMN jobs.reason IS 'Why it was stopped, for people.';
COMMENT ON COLUMN jobs.ingest_done IS 'The upload is complete: items_total does not grow any more.';
COMMENT ON COLUMN jobs.revision IS 'Grows with every change that a snapshot shows.';
COMMENT ON COLUMN jobs.items_total IS 'Items read so far, rejected ones included.';
COMMENT ON COLUMN jobs.items_in_flight IS 'Items without an outcome in running batches.';
COMMENT ON COLUMN jobs.items_stored IS 'Items stored.';
COMMENT ON COLUMN jobs.items_stored_with_warnings IS 'Items stored with at least one warning.';
COMMENT ON COLUMN jobs.items_rejected IS 'Items that were invalid or whose text does not align.';
COMMENT ON COLUMN jobs.items_skipped IS 'Items not stored since mode skip found annotations.';
COMMENT ON COLUMN jobs.items_document_missing IS 'Items whose document the source does not have.';
COMMENT ON COLUMN jobs.items_failed IS 'Items whose batch''s last attempt failed.';
COMMENT ON COLUMN jobs.items_crashed IS 'Items that killed their worker, or were left when attempts were used up by crashes.';
COMMENT ON COLUMN jobs.items_cancelled IS 'Items not attempted, or interrupted, since the job was stopped.';
COMMENT ON COLUMN jobs.batches_pending IS 'Batches that wait for a worker.';
COMMENT ON COLUMN jobs.batches_running IS 'Batches held by a worker.';
COMMENT ON COLUMN jobs.batches_completed IS 'Batches all of whose items were handled.';
COMMENT ON COLUMN jobs.batches_failed IS 'Batches whose last attempt failed.';
COMMENT ON COLUMN jobs.batches_crashed IS 'Batches whose attempts were used up by crashes.';
COMMENT ON COLUMN jobs.batches_cancelled IS 'Batches ended because the job was stopped.';
COMMENT ON COLUMN jobs.annotations IS 'Weight of all batches, in annotations.';
COMMENT ON COLUMN jobs.bytes_read IS 'Bytes of the upload, as received, that are committed.';
COMMENT ON COLUMN jobs.errors IS 'Findings of severity error.';
COMMENT ON COLUMN jobs.warnings IS 'Findings of severity warning.';
COMMENT ON COLUMN jobs.batches_crashed_ever IS 'Batches with at least one crashed attempt, whatever became of them.';
COMMENT ON COLUMN jobs.submitted_at IS 'When the upload was opened first.';
COMMENT ON COLUMN jobs.started_at IS 'When the first claim was counted.';
COMMENT ON COLUMN jobs.ended_at IS 'When it ended; null while it is open.';
COMMENT ON COLUMN jobs.updated_at IS 'When this row was last changed.';
COMMENT ON COLUMN jobs.deleted_at IS 'When it was deleted: hidden since, and removed in steps.';

CREATE TABLE uploads (
    job_id      bigint      PRIMARY KEY REFERENCES jobs (id),
    upload_id   text        NOT NULL UNIQUE,
    epoch       bigint      NOT NULL DEFAULT 1,
    byte_offset bigint      NOT NULL DEFAULT 0,
    received    bigint      NOT NULL DEFAULT 0,
    line        bigint      NOT NULL DEFAULT 0,
    items       bigint      NOT NULL DEFAULT 0,
    batches     integer     NOT NULL DEFAULT 0,
    document    text        NOT NULL DEFAULT '',
    hash_state  bytea       NOT NULL DEFAULT '',
    encoding    text        NOT NULL DEFAULT '',
    active_at   timestamptz NOT NULL,
    finished_at timestamptz,

    CONSTRAINT uploads_not_negative CHECK (least(epoch, byte_offset, received, line, items, batches) >= 0)
);
CREATE INDEX uploads_unfinished ON uploads (active_at) WHERE finished_at IS NULL;
COMMENT ON TABLE uploads IS 'Up to where each upload is committed. Apart from jobs, so that ingest and the counting of settled batches do not wait for each other.';
COMMENT ON COLUMN uploads.job_id IS 'The job that it feeds.';
COMMENT ON COLUMN uploads.upload_id IS 'The id that the submitter chose.';
COMMENT ON COLUMN uploads.epoch IS 'Number of the stream that may add to it; grows whenever it is opened.';
COMMENT ON COLUMN uploads.byte_offset IS 'Bytes of the decompressed input that are committed.';
COMMENT ON COLUMN uploads.received IS 'The same in bytes as received.';
COMMENT ON COLUMN uploads.line IS 'Lines before byte_offset.';
COMMENT ON COLUMN uploads.items IS 'Items before byte_offset, rejected ones included.';
COMMENT ON COLUMN uploads.batches IS 'Batches cut from them.';
COMMENT ON COLUMN uploads.document IS 'Document key of the last item before byte_offset.';
COMMENT ON COLUMN uploads.hash_state IS 'State of the hash over the input before byte_offset.';
COMMENT ON COLUMN uploads.encoding IS 'Compression of the input as sent; empty when it is plain.';
COMMENT ON COLUMN uploads.active_at IS 'When it was opened, or something was committed, last.';
COMMENT ON COLUMN uploads.finished_at IS 'When its last group was committed; null before.';

CREATE TABLE batches (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id           bigint      NOT NULL,
    root_id          bigint,
    parent_id        bigint,
    first_item       bigint      NOT NULL,
    ordinal          integer     NOT NULL,
    item_count       integer     NOT NULL,
    weight           integer     NOT NULL,
    state            smallint    NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 5),
    attempt          integer     NOT NULL DEFAULT 0,
    failures         integer     NOT NULL DEFAULT 0,
    crashes          integer     NOT NULL DEFAULT 0,
    losses           integer     NOT NULL DEFAULT 0,
    done_items       integer     NOT NULL DEFAULT 0,
    outcomes         bytea       NOT NULL DEFAULT '',
    session_id       bigint,
    claim_request_id text,
    lease_expires_at timestamptz,
    ended_session    bigint,
    ended_as         text CHECK (ended_as IN ('completed', 'failed', 'released', 'cancelled', 'died', 'lost')),
    claimed_at       timestamptz,
    settled_at       timestamptz,
    available_at     timestamptz,

    CONSTRAINT batches_not_negative CHECK (least(ordinal, attempt, failures, crashes, losses) >= 0),
    CONSTRAINT batches_items CHECK (item_count > 0 AND done_items BETWEEN 0 AND item_count),
    CONSTRAINT batches_lease CHECK ((state = 1) = (session_id IS NOT NULL)
        AND (state = 1) = (claim_request_id IS NOT NULL) AND (state = 1) = (lease_expires_at IS NOT NULL)),
    CONSTRAINT batches_ended_whole CHECK (state < 2 OR done_items = item_count),
    CONSTRAINT batches_settled_at CHECK ((state >= 2) = (settled_at IS NOT NULL)),
    CONSTRAINT batches_available_at CHECK (available_at IS NULL OR state = 0),
    CONSTRAINT batches_family CHECK ((root_id IS NULL) = (parent_id IS NULL))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
-- Indexes cover only what is open or ended badly, so that a completed batch is in none of them. The end of a lease is in
-- no index and no predicate, so that a renewal rewrites nothing but the row.
CREATE INDEX batches_fresh ON batches (job_id, ordinal) WHERE state = 0 AND available_at IS NULL;
CREATE INDEX batches_returned ON batches (available_at, id) WHERE state = 0 AND available_at IS NOT NULL;
CREATE INDEX batches_running ON batches (session_id, claim_request_id) WHERE session_id IS NOT NULL;
CREATE INDEX batches_ended_badly ON batches (job_id, ordinal) WHERE state IN (3, 4, 5);
COMMENT ON TABLE batches IS 'The batches of all jobs: what changes of them. No foreign key to jobs: the check of each insert would lock the job''s row.';
COMMENT ON COLUMN batches.id IS 'The batch''s number.';
COMMENT ON COLUMN batches.job_id IS 'Its job.';
COMMENT ON COLUMN batches.root_id IS 'Of a part of a split batch: the batch that ingest cut, which holds the payload.';
COMMENT ON COLUMN batches.parent_id IS 'Of a part of a split batch: the batch that was split.';
COMMENT ON COLUMN batches.first_item IS 'Number of its first item in the upload, from 1.';
COMMENT ON COLUMN batches.ordinal IS 'Place in the job, from 0; parts of a split batch keep their ancestor''s.';
COMMENT ON COLUMN batches.item_count IS 'Items in it.';
COMMENT ON COLUMN batches.weight IS 'Annotations in it; an item without any counts as one.';
COMMENT ON COLUMN batches.state IS '0 pending, 1 running, 2 completed, 3 failed, 4 crashed, 5 cancelled.';
COMMENT ON COLUMN batches.attempt IS 'Claims so far: the number of the current or last attempt. Only grows; it fences late writers.';
COMMENT ON COLUMN batches.failures IS 'Attempts that failed.';
COMMENT ON COLUMN batches.crashes IS 'Attempts whose worker is known to have died.';
COMMENT ON COLUMN batches.losses IS 'Attempts whose worker fell silent.';
COMMENT ON COLUMN batches.done_items IS 'Items at its front whose outcome is final; all of them once it ended.';
COMMENT ON COLUMN batches.outcomes IS 'Outcomes of the done items, run-length coded: for each run a varint count and a byte (1 stored, 2 stored with warnings, 3 rejected, 4 skipped, 5 document missing, 6 failed, 7 crashed, 8 cancelled).';
COMMENT ON COLUMN batches.session_id IS 'The session that holds it; null unless running.';
COMMENT ON COLUMN batches.claim_request_id IS 'The claim under which it was granted, so that a repeated claim gets the same leases; null unless running.';
COMMENT ON COLUMN batches.lease_expires_at IS 'When the lease ends unless it is renewed; null unless running.';
COMMENT ON COLUMN batches.ended_session IS 'The session that held the last ended attempt.';
COMMENT ON COLUMN batches.ended_as IS 'How the last ended attempt ended: completed, failed, released, cancelled, died, lost.';
COMMENT ON COLUMN batches.claimed_at IS 'When its last attempt began; null before the first.';
COMMENT ON COLUMN batches.settled_at IS 'When it ended; null while it is open.';
COMMENT ON COLUMN batches.available_at IS 'Of a pending batch that came back from an attempt: not claimed before. Null for one that was never claimed.';

CREATE TABLE batch_payloads (
    batch_id  bigint  PRIMARY KEY,
    job_id    bigint  NOT NULL,
    ordinal   integer NOT NULL,
    frame     bytea   NOT NULL,
    documents text[]  NOT NULL,

    CONSTRAINT batch_payloads_place UNIQUE (job_id, ordinal)
);
ALTER TABLE batch_payloads ALTER COLUMN frame SET STORAGE EXTERNAL; -- compressed already
COMMENT ON TABLE batch_payloads IS 'What never changes of the batches that ingest cut: their items. Lists of a job''s batches page through it.';
COMMENT ON COLUMN batch_payloads.batch_id IS 'The batch.';
COMMENT ON COLUMN batch_payloads.job_id IS 'Its job.';
COMMENT ON COLUMN batch_payloads.ordinal IS 'Its place in the job.';
COMMENT ON COLUMN batch_payloads.frame IS 'The items, as one zstd frame: number, file, line, offset and original bytes of each.';
COMMENT ON COLUMN batch_payloads.documents IS 'The distinct document keys in order of appearance.';

CREATE TABLE batch_documents (
    document text   COLLATE "C" NOT NULL,
    batch_id bigint NOT NULL,

    PRIMARY KEY (document, batch_id)
);
COMMENT ON TABLE batch_documents IS 'Which batches held a document.';
COMMENT ON COLUMN batch_documents.document IS 'The document''s key.';
COMMENT ON COLUMN batch_documents.batch_id IS 'A batch that held it.';

CREATE TABLE attempts (
    batch_id    bigint      NOT NULL,
    attempt     integer     NOT NULL,
    job_id      bigint      NOT NULL,
    session_id  bigint      NOT NULL,
    worker_id   text        NOT NULL,
    ended_as    text        NOT NULL CHECK (ended_as IN ('failed', 'released', 'cancelled', 'died', 'lost')),
    message     text        NOT NULL,
    state_after smallint    NOT NULL,
    claimed_at  timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,

    PRIMARY KEY (batch_id, attempt)
);
CREATE INDEX attempts_job ON attempts (job_id, ended_at);
CREATE INDEX attempts_ended_at ON attempts (ended_at);
COMMENT ON TABLE attempts IS 'Attempts that did not complete; those that did leave their mark in batches only.';
COMMENT ON COLUMN attempts.batch_id IS 'The batch.';
COMMENT ON COLUMN attempts.attempt IS 'Number of the attempt at that batch, from 1.';
COMMENT ON COLUMN attempts.job_id IS 'The batch''s job.';
COMMENT ON COLUMN attempts.session_id IS 'The session that held the lease.';
COMMENT ON COLUMN attempts.worker_id IS 'That session''s worker.';
COMMENT ON COLUMN attempts.ended_as IS 'How it ended: failed, released, cancelled, died, lost.';
COMMENT ON COLUMN attempts.message IS 'Of a failure, or what is known of a crash.';
COMMENT ON COLUMN attempts.state_after IS 'State that the batch got, as in batches.state.';
COMMENT ON COLUMN attempts.claimed_at IS 'When it began.';
COMMENT ON COLUMN attempts.ended_at IS 'When it ended.';

CREATE TABLE findings (
    id          bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id      bigint   NOT NULL,
    batch_id    bigint,
    item        bigint   NOT NULL,
    severity    smallint NOT NULL CHECK (severity IN (1, 2)),
    code        text     NOT NULL,
    file        text     NOT NULL,
    line        bigint   NOT NULL,
    byte_offset bigint   NOT NULL,
    document    text     NOT NULL,
    path        text     NOT NULL,
    message     text     NOT NULL
);
CREATE INDEX findings_job ON findings (job_id, item, id);
COMMENT ON TABLE findings IS 'Warnings and errors about single items, or about an upload. Rows are only added.';
COMMENT ON COLUMN findings.id IS 'In the order of recording.';
COMMENT ON COLUMN findings.job_id IS 'The job.';
COMMENT ON COLUMN findings.batch_id IS 'The batch whose worker found it; null when ingest did.';
COMMENT ON COLUMN findings.item IS 'Number of the item in the upload, from 1; 0 when it is about the upload.';
COMMENT ON COLUMN findings.severity IS '1 warning, 2 error.';
COMMENT ON COLUMN findings.code IS 'Stable code of the kind of problem.';
COMMENT ON COLUMN findings.file IS 'File in the upload.';
COMMENT ON COLUMN findings.line IS 'Line in the file, from 1.';
COMMENT ON COLUMN findings.byte_offset IS 'Byte in the file, from 0.';
COMMENT ON COLUMN findings.document IS 'The item''s document key, as far as known.';
COMMENT ON COLUMN findings.path IS 'Path of the entry inside the item.';
COMMENT ON COLUMN findings.message IS 'A sentence for people.';

CREATE TABLE rejected_items (
    job_id     bigint  NOT NULL,
    first_item bigint  NOT NULL,
    items      integer NOT NULL CHECK (items > 0),
    frame      bytea   NOT NULL,

    PRIMARY KEY (job_id, first_item)
);
ALTER TABLE rejected_items ALTER COLUMN frame SET STORAGE EXTERNAL; -- compressed already
COMMENT ON TABLE rejected_items IS 'Items that ingest rejected, kept like those of batches.';
COMMENT ON COLUMN rejected_items.job_id IS 'The job.';
COMMENT ON COLUMN rejected_items.first_item IS 'Number of the first of them in the upload, from 1.';
COMMENT ON COLUMN rejected_items.items IS 'How many there are.';
COMMENT ON COLUMN rejected_items.frame IS 'The items, as one zstd frame, like those of batch_payloads.';

CREATE TABLE job_deltas (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id   bigint NOT NULL,
    delta    bytea  NOT NULL,
    sessions bytea  NOT NULL DEFAULT ''
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX job_deltas_job ON job_deltas (job_id);
COMMENT ON TABLE job_deltas IS 'What transactions changed of the counters of jobs, until it is folded into jobs a moment later: one row per job and group of claims, settlements or ingested batches.';
COMMENT ON COLUMN job_deltas.id IS 'The row''s number.';
COMMENT ON COLUMN job_deltas.job_id IS 'The job.';
COMMENT ON COLUMN job_deltas.delta IS 'Counters to add, in this program''s own coding.';
COMMENT ON COLUMN job_deltas.sessions IS 'Counters of sessions to add: varint triples of session, batches completed, attempts crashed.';

CREATE TABLE job_minutes (
    job_id     bigint      NOT NULL,
    minute     timestamptz NOT NULL,
    completed  bigint      NOT NULL,
    failed     bigint      NOT NULL,
    crashed    bigint      NOT NULL,
    cancelled  bigint      NOT NULL,
    with_crash bigint      NOT NULL,
    durations  bytea       NOT NULL,

    PRIMARY KEY (job_id, minute),
    CONSTRAINT job_minutes_not_negative CHECK (least(completed, failed, crashed, cancelled, with_crash) >= 0)
);
CREATE INDEX job_minutes_minute ON job_minutes (minute);
COMMENT ON TABLE job_minutes IS 'Batches that ended, by job and minute, for statistics over a window.';
COMMENT ON COLUMN job_minutes.job_id IS 'The job.';
COMMENT ON COLUMN job_minutes.minute IS 'Start of the minute.';
COMMENT ON COLUMN job_minutes.completed IS 'Batches that completed in it.';
COMMENT ON COLUMN job_minutes.failed IS 'Batches that failed in it.';
COMMENT ON COLUMN job_minutes.crashed IS 'Batches that ended crashed in it.';
COMMENT ON COLUMN job_minutes.cancelled IS 'Batches that were cancelled in it.';
COMMENT ON COLUMN job_minutes.with_crash IS 'Of all these, batches with at least one attempt whose worker died.';
COMMENT ON COLUMN job_minutes.durations IS 'Histogram of the durations of their last attempts, in the coding of job_deltas.delta.';

CREATE TABLE slowest_batches (
    job_id      bigint      NOT NULL,
    batch_id    bigint      NOT NULL,
    duration_us bigint      NOT NULL CHECK (duration_us >= 0),
    ended_at    timestamptz NOT NULL,

    PRIMARY KEY (job_id, batch_id)
);
CREATE INDEX slowest_batches_ended_at ON slowest_batches (ended_at);
COMMENT ON TABLE slowest_batches IS 'The 20 slowest batches of each job.';
COMMENT ON COLUMN slowest_batches.job_id IS 'The job.';
COMMENT ON COLUMN slowest_batches.batch_id IS 'The batch.';
COMMENT ON COLUMN slowest_batches.duration_us IS 'Duration of its last attempt, in microseconds.';
COMMENT ON COLUMN slowest_batches.ended_at IS 'When it was counted, a moment after it ended.';

CREATE TABLE sessions (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker_id     text        NOT NULL,
    host          text        NOT NULL,
    pid           integer     NOT NULL,
    version       text        NOT NULL,
    kinds         text[]      NOT NULL,
    slots         integer     NOT NULL,
    stream_epoch  bigint      NOT NULL DEFAULT 0,
    broken_at     timestamptz,
    registered_at timestamptz NOT NULL,
    beat_at       timestamptz NOT NULL,
    ended_at      timestamptz,
    end_reason    text        NOT NULL DEFAULT '',
    completed     bigint      NOT NULL DEFAULT 0,
    crashed       bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX sessions_live_worker ON sessions (worker_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_live ON sessions (id) WHERE ended_at IS NULL;
COMMENT ON TABLE sessions IS 'Lives of worker processes.';
COMMENT ON COLUMN sessions.id IS 'The session''s number.';
COMMENT ON COLUMN sessions.worker_id IS 'Names the installation; it has at most one live session.';
COMMENT ON COLUMN sessions.host IS 'Host of the process, as it says.';
COMMENT ON COLUMN sessions.pid IS 'Process id there.';
COMMENT ON COLUMN sessions.version IS 'Version of the program.';
COMMENT ON COLUMN sessions.kinds IS 'Kinds of job that it serves.';
COMMENT ON COLUMN sessions.slots IS 'Batches that it handles at a time.';
COMMENT ON COLUMN sessions.stream_epoch IS 'Number of its newest heartbeat stream.';
COMMENT ON COLUMN sessions.broken_at IS 'When its newest stream was closed by its side; null while one is open.';
COMMENT ON COLUMN sessions.registered_at IS 'When it began.';
COMMENT ON COLUMN sessions.beat_at IS 'Last sign of life, give or take some beats.';
COMMENT ON COLUMN sessions.ended_at IS 'When it ended; null while it lives.';
COMMENT ON COLUMN sessions.end_reason IS 'Why it ended.';
COMMENT ON COLUMN sessions.completed IS 'Batches that it completed.';
COMMENT ON COLUMN sessions.crashed IS 'Attempts of it that died or were lost.';

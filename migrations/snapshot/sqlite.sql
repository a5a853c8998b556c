-- What migrations make of an empty database: written by go test ./migrations -run TestSnapshot -args -snapshot.

CREATE TABLE tallyman_goose_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);

CREATE TABLE cluster (
    only       INTEGER NOT NULL DEFAULT 1 PRIMARY KEY CHECK (only = 1), -- keeps the table at one row
    id         TEXT    NOT NULL, -- random; annotation stores bind themselves to it
    created_at INTEGER NOT NULL  -- when the schema was created
) STRICT;

CREATE TABLE batch_payloads (
    batch_id  INTEGER PRIMARY KEY,
    job_id    INTEGER NOT NULL,
    ordinal   INTEGER NOT NULL,
    documents TEXT    NOT NULL CHECK (json_valid(documents)), -- the distinct document keys in order of appearance
    frame     BLOB    NOT NULL, -- the items, as one zstd frame: number, file, line, offset and original bytes of each

    CONSTRAINT batch_payloads_place UNIQUE (job_id, ordinal)
) STRICT;

CREATE TABLE batch_documents (
    document TEXT    NOT NULL, -- the document's key
    batch_id INTEGER NOT NULL, -- a batch that held it

    PRIMARY KEY (document, batch_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
    batch_id    INTEGER NOT NULL,
    attempt     INTEGER NOT NULL, -- at that batch, from 1
    job_id      INTEGER NOT NULL,
    session_id  INTEGER NOT NULL, -- that held the lease
    worker_id   TEXT    NOT NULL, -- of that session
    ended_as    TEXT    NOT NULL CHECK (ended_as IN ('failed', 'released', 'cancelled', 'died', 'lost')),
    message     TEXT    NOT NULL, -- of a failure, or what is known of a crash
    state_after INTEGER NOT NULL, -- that the batch got, as in batches.state
    claimed_at  INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL, decision TEXT NOT NULL DEFAULT '', beats INTEGER NOT NULL DEFAULT 0, suspect INTEGER NOT NULL DEFAULT 0, signal TEXT, exit_code INTEGER, peak_memory INTEGER, stderr TEXT, fingerprint TEXT, completed_before INTEGER NOT NULL DEFAULT 0,

    PRIMARY KEY (batch_id, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE findings (
    id          INTEGER PRIMARY KEY, -- in the order of recording
    job_id      INTEGER NOT NULL,
    batch_id    INTEGER,          -- the batch whose worker found it; null when ingest did
    item        INTEGER NOT NULL, -- number of the item in the upload, from 1; 0 when it is about the upload
    severity    INTEGER NOT NULL CHECK (severity IN (1, 2)), -- 1 warning, 2 error
    code        TEXT    NOT NULL, -- stable code of the kind of problem
    file        TEXT    NOT NULL, -- in the upload
    line        INTEGER NOT NULL, -- in the file, from 1
    byte_offset INTEGER NOT NULL, -- in the file, from 0
    document    TEXT    NOT NULL, -- the item's document key, as far as known
    path        TEXT    NOT NULL, -- of the entry inside the item
    message     TEXT    NOT NULL  -- a sentence for people
) STRICT;

CREATE TABLE rejected_items (
    job_id     INTEGER NOT NULL,
    first_item INTEGER NOT NULL, -- number of the first of them in the upload, from 1
    items      INTEGER NOT NULL CHECK (items > 0), -- how many there are
    frame      BLOB    NOT NULL, -- the items, as one zstd frame, like those of batch_payloads

    PRIMARY KEY (job_id, first_item)
) STRICT;

CREATE TABLE job_deltas (
    id     INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL,
    delta  BLOB    NOT NULL -- counters to add, in this program's own coding
) STRICT;

CREATE TABLE job_minutes (
    job_id     INTEGER NOT NULL,
    minute     INTEGER NOT NULL, -- its start
    completed  INTEGER NOT NULL, -- batches that completed in it
    failed     INTEGER NOT NULL,
    crashed    INTEGER NOT NULL,
    cancelled  INTEGER NOT NULL,
    with_crash INTEGER NOT NULL, -- of all these, batches with at least one attempt whose worker died
    durations  BLOB    NOT NULL, acquitted INTEGER NOT NULL DEFAULT 0 CHECK (acquitted >= 0), -- histogram of the durations of their last attempts, in the coding of job_deltas.delta

    PRIMARY KEY (job_id, minute),
    CONSTRAINT job_minutes_not_negative CHECK (min(completed, failed, crashed, cancelled, with_crash) >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE slowest_batches (
    job_id      INTEGER NOT NULL,
    batch_id    INTEGER NOT NULL,
    duration_us INTEGER NOT NULL CHECK (duration_us >= 0), -- of its last attempt, in microseconds
    ended_at    INTEGER NOT NULL, -- when it was counted, a moment after it ended

    PRIMARY KEY (job_id, batch_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    worker_id     TEXT    NOT NULL, -- names the installation; it has at most one live session
    host          TEXT    NOT NULL, -- of the process, as it says
    pid           INTEGER NOT NULL, -- process id there
    version       TEXT    NOT NULL, -- of the program
    kinds         TEXT    NOT NULL CHECK (json_valid(kinds)), -- kinds of job that it serves
    slots         INTEGER NOT NULL, -- batches that it handles at a time
    stream_epoch  INTEGER NOT NULL DEFAULT 0, -- number of its newest heartbeat stream
    broken_at     INTEGER, -- when its newest stream was closed by its side; null while one is open
    registered_at INTEGER NOT NULL, -- when it began
    beat_at       INTEGER NOT NULL, -- last sign of life, give or take some beats
    ended_at      INTEGER, -- null while it lives
    end_reason    TEXT    NOT NULL DEFAULT '',
    completed     INTEGER NOT NULL DEFAULT 0, -- batches that it completed
    crashed       INTEGER NOT NULL DEFAULT 0  -- attempts of it that died or were lost
, drained_at INTEGER, drain_reason TEXT NOT NULL DEFAULT '', trouble TEXT NOT NULL DEFAULT '') STRICT;

CREATE TABLE "jobs" (
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
    forgiven_bad               INTEGER NOT NULL DEFAULT 0 CHECK (forgiven_bad >= 0), batches_split INTEGER NOT NULL DEFAULT 0 CHECK (batches_split >= 0), taken_back_failed INTEGER NOT NULL DEFAULT 0
    CHECK (taken_back_failed >= 0 AND (taken_back_failed = 0 OR ended_at IS NULL)), taken_back_crashed INTEGER NOT NULL DEFAULT 0
    CHECK (taken_back_crashed >= 0 AND (taken_back_crashed = 0 OR ended_at IS NULL)), taken_back_cancelled INTEGER NOT NULL DEFAULT 0
    CHECK (taken_back_cancelled >= 0 AND (taken_back_cancelled = 0 OR ended_at IS NULL)), retry_after INTEGER NOT NULL DEFAULT 0, -- failed and crashed items that the last retry left as they are: limits do not count them

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

CREATE TABLE "uploads" (
    job_id      INTEGER PRIMARY KEY REFERENCES "jobs" (id), -- the job that it feeds
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

CREATE TABLE "batches" (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id           INTEGER NOT NULL, -- no foreign key: checking a million inserts against one row is not free
    root_id          INTEGER, -- of a part of a split batch: the batch that ingest cut, which holds the payload
    parent_id        INTEGER, -- of a part of a split batch: the batch that was split
    ordinal          INTEGER NOT NULL, -- place in the job, from 0; parts of a split batch keep their ancestor's
    first_item       INTEGER NOT NULL, -- number of its first item in the upload, from 1
    item_count       INTEGER NOT NULL,
    weight           INTEGER NOT NULL, -- annotations in it; an item without any counts as one
    state            INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 6), -- 0 pending, 1 running, 2 completed, 3 failed, 4 crashed, 5 cancelled, 6 split: its parts have its items
    attempt          INTEGER NOT NULL DEFAULT 0, -- claims so far. Only grows; it fences late writers
    failures         INTEGER NOT NULL DEFAULT 0, -- attempts that failed
    crashes          INTEGER NOT NULL DEFAULT 0, -- attempts whose worker is known to have died
    losses           INTEGER NOT NULL DEFAULT 0, -- attempts whose worker fell silent
    done_items       INTEGER NOT NULL DEFAULT 0, -- items at its front whose outcome is final; all of them once it ended, unless it was split
    outcomes         BLOB    NOT NULL DEFAULT x'', -- of the done items, run-length coded: for each run a varint count and a byte
                     -- (1 stored, 2 stored with warnings, 3 rejected, 4 skipped, 5 document missing, 6 failed, 7 crashed, 8 cancelled)
    session_id       INTEGER, -- the session that holds it; null unless running
    claim_request_id TEXT,    -- the claim under which it was granted; null unless running
    lease_expires_at INTEGER, -- when the lease ends unless it is renewed; null unless running
    ended_session    INTEGER, -- the session that held the last ended attempt
    ended_as         TEXT, -- how that attempt ended: completed, failed, released, cancelled, died, lost
    claimed_at       INTEGER, -- when its last attempt began; null before the first
    settled_at       INTEGER, -- when it ended; null while it is open
    available_at     INTEGER, -- of a pending batch that came back from an attempt: not claimed before
    lone_losses      INTEGER NOT NULL DEFAULT 0, -- of its last attempts that were lost in a row, those while most other sessions kept beating
    documents        TEXT CHECK (documents IS NULL OR json_valid(documents)), -- of a part of a split batch: the distinct document keys in order of appearance
    lone_deaths      INTEGER NOT NULL DEFAULT 0, -- of it, and of those it was halved from, after which any of its open items may be guilty
    suspect          INTEGER NOT NULL DEFAULT 0, -- place in it, from 1, of the one item that its last death accuses; 0 when that is none
    died_on          TEXT    NOT NULL DEFAULT '', -- the worker on which it and its ancestors died; a line break for several, '' before
    solo             INTEGER NOT NULL DEFAULT 0, -- it killed a worker's whole process: granted only to a session that holds nothing else
    avoid_until      INTEGER, -- of a pending batch that died: not granted to the worker it died on before
    waiting          INTEGER NOT NULL DEFAULT 0, -- its worker said last that the handler has not begun
    beats            INTEGER NOT NULL DEFAULT 0, ended_run INTEGER CHECK (ended_run IS NULL OR state IN (3, 4)), -- that renewed the lease of its last attempt

    CONSTRAINT batches_not_negative CHECK (min(ordinal, attempt, failures, crashes, losses, lone_losses,
        lone_deaths, suspect, beats) >= 0),
    CONSTRAINT batches_items CHECK (item_count > 0 AND done_items BETWEEN 0 AND item_count),
    CONSTRAINT batches_lease CHECK ((state = 1) = (session_id IS NOT NULL)
        AND (state = 1) = (claim_request_id IS NOT NULL) AND (state = 1) = (lease_expires_at IS NOT NULL)),
    CONSTRAINT batches_ended_whole CHECK (state < 2 OR state = 6 OR done_items = item_count),
    CONSTRAINT batches_settled_at CHECK ((state >= 2) = (settled_at IS NOT NULL)),
    CONSTRAINT batches_available_at CHECK (available_at IS NULL OR state = 0),
    -- Not an IN: for that SQLite fills a table of its own with the list, each time a batch is written.
    CONSTRAINT batches_ended_as CHECK (ended_as = 'completed' OR ended_as = 'failed' OR ended_as = 'released'
        OR ended_as = 'cancelled' OR ended_as = 'died' OR ended_as = 'lost'),
    CONSTRAINT batches_avoid_until CHECK (avoid_until IS NULL OR state = 0),
    CONSTRAINT batches_family CHECK ((root_id IS NULL) = (parent_id IS NULL))
) STRICT;

CREATE TABLE item_results (
    job_id        INTEGER NOT NULL,
    place         INTEGER NOT NULL, -- its batch's first item plus from_position: the order of the items, though their numbers may have gaps
    batch_id      INTEGER NOT NULL, -- that the items were in
    from_position INTEGER NOT NULL CHECK (from_position >= 0), -- in the batch, from 0: outcomes of earlier items were final before
    frame         BLOB    NOT NULL, -- the results, as one zstd frame: position in the batch, number of items and JSON of each

    PRIMARY KEY (job_id, place)
) STRICT;

CREATE INDEX attempts_job ON attempts (job_id, ended_at);

CREATE INDEX attempts_ended_at ON attempts (ended_at);

CREATE INDEX findings_job ON findings (job_id, item, id);

CREATE INDEX job_deltas_job ON job_deltas (job_id);

CREATE INDEX job_minutes_minute ON job_minutes (minute);

CREATE INDEX slowest_batches_ended_at ON slowest_batches (ended_at);

CREATE UNIQUE INDEX sessions_live_worker ON sessions (worker_id) WHERE ended_at IS NULL;

CREATE INDEX sessions_live ON sessions (id) WHERE ended_at IS NULL;

CREATE UNIQUE INDEX jobs_upload_id ON jobs (upload_id) WHERE deleted_at IS NULL;

CREATE INDEX jobs_open ON jobs (state, id) WHERE ended_at IS NULL;

CREATE INDEX jobs_project ON jobs (project, id);

CREATE INDEX jobs_deleted ON jobs (id) WHERE deleted_at IS NOT NULL;

CREATE INDEX uploads_unfinished ON uploads (active_at) WHERE finished_at IS NULL;

CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

CREATE INDEX jobs_ended ON jobs (state, ended_at, id) WHERE ended_at IS NOT NULL AND deleted_at IS NULL;

CREATE INDEX sessions_worker ON sessions (worker_id, id);

CREATE INDEX attempts_session ON attempts (session_id, ended_at);

CREATE INDEX batches_fresh ON batches (job_id, ordinal) WHERE state = 0 AND available_at IS NULL;

CREATE INDEX batches_returned ON batches (job_id, available_at, id)
    WHERE state = 0 AND available_at IS NOT NULL AND solo = 0 AND avoid_until IS NULL;

CREATE INDEX batches_choosy ON batches (job_id, available_at, id)
    WHERE state = 0 AND available_at IS NOT NULL AND (solo <> 0 OR avoid_until IS NOT NULL);

CREATE INDEX batches_running ON batches (session_id, claim_request_id) WHERE session_id IS NOT NULL;

CREATE INDEX batches_solo ON batches (session_id) WHERE session_id IS NOT NULL AND solo <> 0;

CREATE INDEX batches_ended_badly ON batches (job_id, ordinal) WHERE state > 2;

CREATE INDEX batches_parts ON batches (job_id, ordinal) WHERE root_id IS NOT NULL;

CREATE INDEX batches_children ON batches (parent_id) WHERE parent_id IS NOT NULL;

CREATE INDEX attempts_died ON attempts (ended_at) WHERE ended_as = 'died';

CREATE VIEW batch_job_trackings AS
SELECT
    b.id                   AS id, -- the batch's number
    b.job_id               AS parent_job_id, -- its job
    b.id                   AS child_job_id, -- the batch's number again: batches are not jobs of a queue
    b.status               AS status, -- pending, running, completed, failed (or cancelled), crashed (or split)
    -- The distinct documents in order of appearance.
    (SELECT (
        SELECT json_group_array(json_object(
            'sourcedb', CASE WHEN j.kind = 'annotations' AND instr(k.value, ':') > 0 THEN substr(k.value, 1, instr(k.value, ':') - 1) END,
            'sourceid', CASE WHEN j.kind = 'annotations' THEN substr(k.value, instr(k.value, ':') + 1) ELSE k.value END))
        FROM json_each(coalesce(b.documents, p.documents)) k)
     FROM batch_payloads p WHERE p.batch_id = coalesce(b.root_id, b.id))
                           AS doc_identifiers,
    b.item_count           AS item_count, -- 0 for a split batch, whose items are counted in its parts
    -- What its last attempt that failed or crashed ended with, or that it was cancelled and why; null once it completed.
    CASE
        WHEN b.state = 5 THEN 'cancelled' || coalesce(': ' || nullif(j.reason, ''), '')
        -- A culprit that was named as its batch was split had no attempt of its own.
        WHEN b.state <> 2 AND (b.attempt > 0 OR b.state = 4) THEN (
            SELECT nullif(a.message, '') FROM attempts a
            WHERE a.batch_id = (SELECT CASE WHEN x.attempt = 0 THEN x.parent_id ELSE x.id END FROM batches x WHERE x.id = b.id)
              AND a.ended_as IN ('failed', 'died', 'lost') ORDER BY a.attempt DESC LIMIT 1)
    END                    AS error_message,
    CASE WHEN b.state <> 0 THEN b.claimed_at / 1e6 END
                           AS started_at, -- of its last attempt; null while it waits for one
    b.settled_at / 1e6     AS completed_at, -- when it ended, well or badly; null while it is open
    j.submitted_at / 1e6   AS created_at, -- when its job was submitted
    CASE
        WHEN b.state = 0 AND b.attempt > 0 THEN
            coalesce((SELECT max(a.ended_at) FROM attempts a WHERE a.batch_id = b.id), j.submitted_at)
        ELSE coalesce(b.settled_at, b.claimed_at, j.submitted_at)
    END / 1e6              AS updated_at -- when it last became what status says
FROM (
    SELECT id, job_id, root_id, documents, item_count, state, attempt, claimed_at, settled_at, 'pending' AS status
    FROM batches WHERE state = 0 AND available_at IS NULL
    UNION ALL
    SELECT id, job_id, root_id, documents, item_count, state, attempt, claimed_at, settled_at, 'pending'
    FROM batches WHERE state = 0 AND available_at IS NOT NULL AND solo = 0 AND avoid_until IS NULL
    UNION ALL
    SELECT id, job_id, root_id, documents, item_count, state, attempt, claimed_at, settled_at, 'pending'
    FROM batches WHERE state = 0 AND available_at IS NOT NULL AND (solo <> 0 OR avoid_until IS NOT NULL)
    UNION ALL
    SELECT id, job_id, root_id, documents, item_count, state, attempt, claimed_at, settled_at, 'running'
    FROM batches WHERE state = 1 AND session_id IS NOT NULL
    UNION ALL
    SELECT w.id, p.job_id, w.root_id, w.documents, w.item_count, w.state, w.attempt, w.claimed_at, w.settled_at, 'completed'
    FROM batch_payloads p JOIN batches w ON w.id = p.batch_id WHERE w.state = 2
    UNION ALL
    SELECT id, job_id, root_id, documents, item_count, state, attempt, claimed_at, settled_at, 'completed'
    FROM batches WHERE state = 2 AND root_id IS NOT NULL
    UNION ALL
    SELECT id, job_id, root_id, documents, item_count, state, attempt, claimed_at, settled_at, 'failed'
    FROM batches WHERE state > 2 AND state IN (3, 5)
    UNION ALL
    SELECT id, job_id, root_id, documents, item_count, state, attempt, claimed_at, settled_at, 'crashed'
    FROM batches WHERE state > 2 AND state = 4
    UNION ALL
    -- A batch that is split did crash; its items are counted in its parts.
    SELECT id, job_id, root_id, documents, 0, state, attempt, claimed_at, settled_at, 'crashed'
    FROM batches WHERE state > 2 AND state = 6
) b
JOIN jobs j ON j.id = b.job_id AND j.deleted_at IS NULL;

INSERT INTO cluster (id, created_at) VALUES (
    lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-'
        || substr('89AB', 1 + abs(random() % 4), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))),
    CAST(unixepoch('subsec') * 1000000 AS INTEGER)
);
INSERT INTO tallyman_goose_version (version_id, is_applied) VALUES (0, 1);
INSERT INTO tallyman_goose_version (version_id, is_applied) VALUES (1, 1);
INSERT INTO tallyman_goose_version (version_id, is_applied) VALUES (2, 1);
INSERT INTO tallyman_goose_version (version_id, is_applied) VALUES (3, 1);
INSERT INTO tallyman_goose_version (version_id, is_applied) VALUES (4, 1);
INSERT INTO tallyman_goose_version (version_id, is_applied) VALUES (5, 1);
INSERT INTO tallyman_goose_version (version_id, is_applied) VALUES (7, 1);
INSERT INTO tallyman_goose_version (version_id, is_applied) VALUES (8, 1);
INSERT INTO tallyman_goose_version (version_id, is_applied) VALUES (10, 1);

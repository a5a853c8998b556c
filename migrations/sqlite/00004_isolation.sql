-- +goose Up

-- Crashed batches are split, down to the item that kills workers. SQLite changes constraints by making the table anew, and
-- with it the view that reads it.
ALTER TABLE jobs ADD COLUMN batches_split INTEGER NOT NULL DEFAULT 0 CHECK (batches_split >= 0); -- which their parts replace

DROP VIEW batch_job_trackings;
CREATE TABLE batches_2 (
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
    beats            INTEGER NOT NULL DEFAULT 0, -- that renewed the lease of its last attempt

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
INSERT INTO batches_2 (
    id, job_id, root_id, parent_id, ordinal, first_item, item_count, weight, state, attempt, failures, crashes,
    losses, done_items, outcomes, session_id, claim_request_id, lease_expires_at, ended_session, ended_as,
    claimed_at, settled_at, available_at, lone_losses)
SELECT
    id, job_id, root_id, parent_id, ordinal, first_item, item_count, weight, state, attempt, failures, crashes,
    losses, done_items, outcomes, session_id, claim_request_id, lease_expires_at, ended_session, ended_as,
    claimed_at, settled_at, available_at, lone_losses
FROM batches;
-- Numbers are not given again, not even those of deleted batches.
DELETE FROM sqlite_sequence WHERE name = 'batches_2';
UPDATE sqlite_sequence SET name = 'batches_2' WHERE name = 'batches';
DROP TABLE batches;
ALTER TABLE batches_2 RENAME TO batches;
CREATE INDEX batches_fresh ON batches (job_id, ordinal) WHERE state = 0 AND available_at IS NULL;
-- Returned ones that not every session may have are looked for apart from the others, which are many.
CREATE INDEX batches_returned ON batches (job_id, available_at, id)
    WHERE state = 0 AND available_at IS NOT NULL AND solo = 0 AND avoid_until IS NULL;
CREATE INDEX batches_choosy ON batches (job_id, available_at, id)
    WHERE state = 0 AND available_at IS NOT NULL AND (solo <> 0 OR avoid_until IS NOT NULL);
CREATE INDEX batches_running ON batches (session_id, claim_request_id) WHERE session_id IS NOT NULL;
CREATE INDEX batches_solo ON batches (session_id) WHERE session_id IS NOT NULL AND solo <> 0;
CREATE INDEX batches_ended_badly ON batches (job_id, ordinal) WHERE state > 2;
CREATE INDEX batches_parts ON batches (job_id, ordinal) WHERE root_id IS NOT NULL;
CREATE INDEX batches_children ON batches (parent_id) WHERE parent_id IS NOT NULL;

ALTER TABLE attempts ADD COLUMN decision TEXT NOT NULL DEFAULT ''; -- about the batch and why, for people; '' when there was nothing to decide
ALTER TABLE attempts ADD COLUMN beats INTEGER NOT NULL DEFAULT 0; -- that renewed its lease
ALTER TABLE attempts ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0; -- place in the batch, from 1, of the item that the process had at hand; 0 when unknown
ALTER TABLE attempts ADD COLUMN signal TEXT; -- that ended the process in which the batch was handled; '' when it exited. Null when no worker reported it
ALTER TABLE attempts ADD COLUMN exit_code INTEGER; -- with which that process exited
ALTER TABLE attempts ADD COLUMN peak_memory INTEGER; -- of that process, in bytes; 0 when unknown
ALTER TABLE attempts ADD COLUMN stderr TEXT; -- the end of what that process wrote there
ALTER TABLE attempts ADD COLUMN fingerprint TEXT; -- of like crashes, across jobs; '' when nothing is known

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

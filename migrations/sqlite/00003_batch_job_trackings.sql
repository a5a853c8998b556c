-- +goose Up

-- The batches under the names of the table that a job-per-batch system kept, so that the queries of its users go on, with
-- times in Unix seconds. Every status is a branch of its own whose condition names a partial index word for word: a query
-- for one status, or for one status of one job, reads that index and nothing else. Completed batches are in no index but
-- their primary key, so those of a job are found by the place of their payloads. Older programs than this one read it,
-- too: it uses nothing that SQLite 3.38 does not have.

-- The parts of split batches have no payload of their own. No batch that ingest cut is in this index.
CREATE INDEX batches_parts ON batches (job_id, ordinal) WHERE root_id IS NOT NULL;

-- A batch in state 6 was split. Nothing makes one yet; the view knows it, so that it has not to be made anew for it.

CREATE VIEW batch_job_trackings AS
SELECT
    b.id                   AS id, -- the batch's number
    b.job_id               AS parent_job_id, -- its job
    b.id                   AS child_job_id, -- the batch's number again: batches are not jobs of a queue
    b.status               AS status, -- pending, running, completed, failed (or cancelled), crashed (or split)
    -- The distinct documents in order of appearance; of a part of a split batch, those of the batch that ingest cut.
    (SELECT (
        SELECT json_group_array(json_object(
            'sourcedb', CASE WHEN j.kind = 'annotations' AND instr(k.value, ':') > 0 THEN substr(k.value, 1, instr(k.value, ':') - 1) END,
            'sourceid', CASE WHEN j.kind = 'annotations' THEN substr(k.value, instr(k.value, ':') + 1) ELSE k.value END))
        FROM json_each(p.documents) k)
     FROM batch_payloads p WHERE p.batch_id = coalesce(b.root_id, b.id))
                           AS doc_identifiers,
    b.item_count           AS item_count, -- 0 for a split batch, whose items are counted in its parts
    -- What its last attempt that failed or crashed ended with, or that it was cancelled and why; null once it completed.
    CASE
        WHEN b.state = 5 THEN 'cancelled' || coalesce(': ' || nullif(j.reason, ''), '')
        WHEN b.state <> 2 AND b.attempt > 0 THEN (
            SELECT nullif(a.message, '') FROM attempts a
            WHERE a.batch_id = b.id AND a.ended_as IN ('failed', 'died', 'lost') ORDER BY a.attempt DESC LIMIT 1)
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
    SELECT id, job_id, root_id, item_count, state, attempt, claimed_at, settled_at, 'pending' AS status
    FROM batches WHERE state = 0 AND available_at IS NULL
    UNION ALL
    SELECT id, job_id, root_id, item_count, state, attempt, claimed_at, settled_at, 'pending'
    FROM batches WHERE state = 0 AND available_at IS NOT NULL
    UNION ALL
    SELECT id, job_id, root_id, item_count, state, attempt, claimed_at, settled_at, 'running'
    FROM batches WHERE state = 1 AND session_id IS NOT NULL
    UNION ALL
    SELECT w.id, p.job_id, w.root_id, w.item_count, w.state, w.attempt, w.claimed_at, w.settled_at, 'completed'
    FROM batch_payloads p JOIN batches w ON w.id = p.batch_id WHERE w.state = 2
    UNION ALL
    SELECT id, job_id, root_id, item_count, state, attempt, claimed_at, settled_at, 'completed'
    FROM batches WHERE state = 2 AND root_id IS NOT NULL
    UNION ALL
    SELECT id, job_id, root_id, item_count, state, attempt, claimed_at, settled_at, 'failed'
    FROM batches WHERE state > 2 AND state IN (3, 5)
    UNION ALL
    SELECT id, job_id, root_id, item_count, state, attempt, claimed_at, settled_at, 'crashed'
    FROM batches WHERE state > 2 AND state = 4
    UNION ALL
    -- A batch that is split did crash; its items are counted in its parts.
    SELECT id, job_id, root_id, 0, state, attempt, claimed_at, settled_at, 'crashed'
    FROM batches WHERE state > 2 AND state = 6
) b
JOIN jobs j ON j.id = b.job_id AND j.deleted_at IS NULL;

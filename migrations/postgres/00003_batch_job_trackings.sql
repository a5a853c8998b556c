-- +goose Up

-- The batches under the names of the table that a job-per-batch system kept, so that the queries of its users go on.
-- Every status is a branch of its own whose condition names a partial index word for word: a query for one status, or for
-- one status of one job, reads that index and nothing else. Completed batches are in no index but their primary key, so
-- those of a job are found by the place of their payloads.

-- The parts of split batches have no payload of their own. No batch that ingest cut is in this index.
CREATE INDEX batches_parts ON batches (job_id, ordinal) WHERE root_id IS NOT NULL;

-- A batch in state 6 was split. Nothing makes one yet; the view and the index that it reads know it, so that neither has
-- to be made anew for it.
DROP INDEX batches_ended_badly;
CREATE INDEX batches_ended_badly ON batches (job_id, ordinal) WHERE state IN (3, 4, 5, 6);

CREATE VIEW batch_job_trackings AS
SELECT
    b.id                                AS id,
    b.job_id                            AS parent_job_id,
    b.id                                AS child_job_id,
    b.status                            AS status,
    -- Made of arrays and rows, it is written without spaces, as programs write it.
    (SELECT array_to_json(ARRAY(
        SELECT row_to_json(d) FROM (
            SELECT CASE WHEN j.kind = 'annotations' AND strpos(k.key, ':') > 0 THEN split_part(k.key, ':', 1) END AS sourcedb,
                   CASE WHEN j.kind = 'annotations' THEN substr(k.key, strpos(k.key, ':') + 1) ELSE k.key END AS sourceid
            FROM unnest(p.documents) WITH ORDINALITY AS k (key, place) ORDER BY k.place
        ) d))
     FROM batch_payloads p WHERE p.batch_id = coalesce(b.root_id, b.id))
                                        AS doc_identifiers,
    b.item_count                        AS item_count,
    CASE
        WHEN b.state = 5 THEN 'cancelled' || coalesce(': ' || nullif(j.reason, ''), '')
        WHEN b.state <> 2 AND b.attempt > 0 THEN (
            SELECT nullif(a.message, '') FROM attempts a
            WHERE a.batch_id = b.id AND a.ended_as IN ('failed', 'died', 'lost') ORDER BY a.attempt DESC LIMIT 1)
    END                                 AS error_message,
    CASE WHEN b.state <> 0 THEN b.claimed_at AT TIME ZONE 'UTC' END
                                        AS started_at,
    b.settled_at AT TIME ZONE 'UTC'     AS completed_at,
    j.submitted_at AT TIME ZONE 'UTC'   AS created_at,
    CASE
        WHEN b.state = 0 AND b.attempt > 0 THEN
            coalesce((SELECT max(a.ended_at) FROM attempts a WHERE a.batch_id = b.id), j.submitted_at)
        ELSE coalesce(b.settled_at, b.claimed_at, j.submitted_at)
    END AT TIME ZONE 'UTC'              AS updated_at
FROM (
    SELECT id, job_id, root_id, item_count, state, attempt, claimed_at, settled_at, 'pending'::text AS status
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
    FROM batches WHERE state IN (3, 5)
    UNION ALL
    SELECT id, job_id, root_id, item_count, state, attempt, claimed_at, settled_at, 'crashed'
    FROM batches WHERE state = 4
    UNION ALL
    -- A batch that is split did crash; its items are counted in its parts.
    SELECT id, job_id, root_id, 0, state, attempt, claimed_at, settled_at, 'crashed'
    FROM batches WHERE state = 6
) b
JOIN jobs j ON j.id = b.job_id AND j.deleted_at IS NULL;
COMMENT ON VIEW batch_job_trackings IS 'The batches as the table of this name showed them in a job-per-batch system. For queries by people; docs/migrating.md says which are fast. Times are in UTC.';
COMMENT ON COLUMN batch_job_trackings.id IS 'The batch''s number.';
COMMENT ON COLUMN batch_job_trackings.parent_job_id IS 'Its job.';
COMMENT ON COLUMN batch_job_trackings.child_job_id IS 'The batch''s number again: batches are not jobs of a queue.';
COMMENT ON COLUMN batch_job_trackings.status IS 'pending, running, completed, failed, crashed. A cancelled batch reads as failed, a split one as crashed.';
COMMENT ON COLUMN batch_job_trackings.doc_identifiers IS 'The distinct documents in order of appearance, as objects with sourcedb and sourceid; of a part of a split batch, those of the batch that ingest cut.';
COMMENT ON COLUMN batch_job_trackings.item_count IS 'Items in it; 0 for a split batch, whose items are counted in its parts.';
COMMENT ON COLUMN batch_job_trackings.error_message IS 'What its last attempt that failed or crashed ended with, or that it was cancelled and why; null once it completed.';
COMMENT ON COLUMN batch_job_trackings.started_at IS 'When its last attempt began; null while it waits for one.';
COMMENT ON COLUMN batch_job_trackings.completed_at IS 'When it ended, well or badly; null while it is open.';
COMMENT ON COLUMN batch_job_trackings.created_at IS 'When its job was submitted.';
COMMENT ON COLUMN batch_job_trackings.updated_at IS 'When it last became what status says.';

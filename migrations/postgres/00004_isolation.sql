-- +goose Up

-- Crashed batches are split, down to the item that kills workers.
ALTER TABLE jobs ADD COLUMN batches_split bigint NOT NULL DEFAULT 0 CHECK (batches_split >= 0);
COMMENT ON COLUMN jobs.batches_split IS 'Batches that were split into others, which count in their place.';

ALTER TABLE batches
    ADD COLUMN documents   text[],
    ADD COLUMN lone_deaths integer     NOT NULL DEFAULT 0 CHECK (lone_deaths >= 0),
    ADD COLUMN suspect     integer     NOT NULL DEFAULT 0 CHECK (suspect >= 0),
    ADD COLUMN died_on     text        NOT NULL DEFAULT '',
    ADD COLUMN solo        boolean     NOT NULL DEFAULT false,
    ADD COLUMN avoid_until timestamptz CHECK (avoid_until IS NULL OR state = 0),
    ADD COLUMN waiting     boolean     NOT NULL DEFAULT false,
    ADD COLUMN beats       integer     NOT NULL DEFAULT 0,
    DROP CONSTRAINT batches_state_check,
    DROP CONSTRAINT batches_ended_whole,
    ADD CONSTRAINT batches_state_check CHECK (state BETWEEN 0 AND 6),
    ADD CONSTRAINT batches_ended_whole CHECK (state IN (0, 1, 6) OR done_items = item_count);
COMMENT ON COLUMN batches.state IS '0 pending, 1 running, 2 completed, 3 failed, 4 crashed, 5 cancelled, 6 split: its parts have its items.';
COMMENT ON COLUMN batches.done_items IS 'Items at its front whose outcome is final; all of them once it ended, unless it was split.';
COMMENT ON COLUMN batches.documents IS 'Of a part of a split batch: the distinct document keys in order of appearance.';
COMMENT ON COLUMN batches.lone_deaths IS 'Deaths of it, and of those it was halved from, after which any of its open items may be guilty.';
COMMENT ON COLUMN batches.suspect IS 'Place in it, from 1, of the one item that its last death accuses; 0 when that is none.';
COMMENT ON COLUMN batches.died_on IS 'The worker on which it and its ancestors died; a line break for several, empty before.';
COMMENT ON COLUMN batches.solo IS 'It killed a worker''s whole process: granted only to a session that holds nothing else.';
COMMENT ON COLUMN batches.avoid_until IS 'Of a pending batch that died: not granted to the worker it died on before.';
COMMENT ON COLUMN batches.waiting IS 'Its worker said last that the handler has not begun.';
COMMENT ON COLUMN batches.beats IS 'Beats that renewed the lease of its last attempt.';

-- Those that not every session may have are looked for apart from the others, which are many.
DROP INDEX batches_returned;
CREATE INDEX batches_returned ON batches (job_id, available_at, id)
    WHERE state = 0 AND available_at IS NOT NULL AND NOT solo AND avoid_until IS NULL;
CREATE INDEX batches_choosy ON batches (job_id, available_at, id)
    WHERE state = 0 AND available_at IS NOT NULL AND (solo OR avoid_until IS NOT NULL);
CREATE INDEX batches_solo ON batches (session_id) WHERE session_id IS NOT NULL AND solo;
CREATE INDEX batches_children ON batches (parent_id) WHERE parent_id IS NOT NULL;

ALTER TABLE attempts
    ADD COLUMN decision    text    NOT NULL DEFAULT '',
    ADD COLUMN beats       integer NOT NULL DEFAULT 0,
    ADD COLUMN suspect     integer NOT NULL DEFAULT 0,
    ADD COLUMN signal      text,
    ADD COLUMN exit_code   integer,
    ADD COLUMN peak_memory bigint,
    ADD COLUMN stderr      text,
    ADD COLUMN fingerprint text;
COMMENT ON COLUMN attempts.decision IS 'What was decided about the batch and why, for people; empty when there was nothing to decide.';
COMMENT ON COLUMN attempts.beats IS 'Beats that renewed its lease.';
COMMENT ON COLUMN attempts.suspect IS 'Place in the batch, from 1, of the item that the process had at hand; 0 when unknown.';
COMMENT ON COLUMN attempts.signal IS 'That ended the process in which the batch was handled; empty when it exited. Null when no worker reported it.';
COMMENT ON COLUMN attempts.exit_code IS 'With which that process exited.';
COMMENT ON COLUMN attempts.peak_memory IS 'Of that process, in bytes; 0 when unknown.';
COMMENT ON COLUMN attempts.stderr IS 'The end of what that process wrote there.';
COMMENT ON COLUMN attempts.fingerprint IS 'Of like crashes, across jobs; empty when nothing is known.';

CREATE OR REPLACE VIEW batch_job_trackings AS
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
     FROM (SELECT coalesce(b.documents, (SELECT o.documents FROM batch_payloads o WHERE o.batch_id = b.id)) AS documents) p)
                                        AS doc_identifiers,
    b.item_count                        AS item_count,
    CASE
        WHEN b.state = 5 THEN 'cancelled' || coalesce(': ' || nullif(j.reason, ''), '')
        -- A culprit that was named as its batch was split had no attempt of its own.
        WHEN b.state <> 2 AND (b.attempt > 0 OR b.state = 4) THEN (
            SELECT nullif(a.message, '') FROM attempts a
            WHERE a.batch_id = (SELECT CASE WHEN x.attempt = 0 THEN x.parent_id ELSE x.id END FROM batches x WHERE x.id = b.id)
              AND a.ended_as IN ('failed', 'died', 'lost') ORDER BY a.attempt DESC LIMIT 1)
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
    SELECT id, job_id, documents, item_count, state, attempt, claimed_at, settled_at, 'pending'::text AS status
    FROM batches WHERE state = 0 AND available_at IS NULL
    UNION ALL
    SELECT id, job_id, documents, item_count, state, attempt, claimed_at, settled_at, 'pending'
    FROM batches WHERE state = 0 AND available_at IS NOT NULL AND NOT solo AND avoid_until IS NULL
    UNION ALL
    SELECT id, job_id, documents, item_count, state, attempt, claimed_at, settled_at, 'pending'
    FROM batches WHERE state = 0 AND available_at IS NOT NULL AND (solo OR avoid_until IS NOT NULL)
    UNION ALL
    SELECT id, job_id, documents, item_count, state, attempt, claimed_at, settled_at, 'running'
    FROM batches WHERE state = 1 AND session_id IS NOT NULL
    UNION ALL
    SELECT w.id, p.job_id, w.documents, w.item_count, w.state, w.attempt, w.claimed_at, w.settled_at, 'completed'
    FROM batch_payloads p JOIN batches w ON w.id = p.batch_id WHERE w.state = 2
    UNION ALL
    SELECT id, job_id, documents, item_count, state, attempt, claimed_at, settled_at, 'completed'
    FROM batches WHERE state = 2 AND root_id IS NOT NULL
    UNION ALL
    SELECT id, job_id, documents, item_count, state, attempt, claimed_at, settled_at, 'failed'
    FROM batches WHERE state IN (3, 5)
    UNION ALL
    SELECT id, job_id, documents, item_count, state, attempt, claimed_at, settled_at, 'crashed'
    FROM batches WHERE state = 4
    UNION ALL
    -- A batch that is split did crash; its items are counted in its parts.
    SELECT id, job_id, documents, 0, state, attempt, claimed_at, settled_at, 'crashed'
    FROM batches WHERE state = 6
) b
JOIN jobs j ON j.id = b.job_id AND j.deleted_at IS NULL;
COMMENT ON COLUMN batch_job_trackings.doc_identifiers IS 'The distinct documents in order of appearance, as objects with sourcedb and sourceid.';

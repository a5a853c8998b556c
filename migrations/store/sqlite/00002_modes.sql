-- +goose Up

ALTER TABLE fences ADD COLUMN job_id INTEGER; -- of the batch: rows go when it is forgotten
CREATE INDEX fences_by_job ON fences (job_id);

-- composed_by is the lowest number of a job whose items make up the text, composed_until the highest; 0: the text is
-- given and does not change.
ALTER TABLE documents ADD COLUMN composed_until INTEGER NOT NULL DEFAULT 0;
UPDATE documents SET composed_until = composed_by;

-- replaced_by is 0 where no job has replaced anything.
ALTER TABLE project_documents ADD COLUMN last_job INTEGER NOT NULL DEFAULT 0;  -- the highest number of a job that has stored an item
ALTER TABLE project_documents ADD COLUMN merged_by INTEGER NOT NULL DEFAULT 0; -- the highest number of a job in mode merge whose annotations are there; 0: none
UPDATE project_documents SET last_job = replaced_by;
CREATE INDEX project_documents_merged ON project_documents (document_id) WHERE merged_by > 0;

-- What a job in mode skip decided about a document when it first touched it.
CREATE TABLE store_skips (
    job_id              INTEGER NOT NULL,
    project_document_id INTEGER NOT NULL,
    skipped             INTEGER NOT NULL CHECK (skipped IN (0, 1)),
    PRIMARY KEY (job_id, project_document_id)
) STRICT, WITHOUT ROWID;

-- traits is the sum of: 1 the item gives no id; 2 its job is in mode merge; 4 it is merged into an equal one that comes
-- before it, and not shown. given_subj and given_obj are the ids in the item, in mode merge; else null.
ALTER TABLE annotation_spans ADD COLUMN traits INTEGER NOT NULL DEFAULT 0 CHECK (traits BETWEEN 0 AND 7);
ALTER TABLE annotation_relations ADD COLUMN traits INTEGER NOT NULL DEFAULT 0 CHECK (traits BETWEEN 0 AND 7);
ALTER TABLE annotation_relations ADD COLUMN given_subj TEXT;
ALTER TABLE annotation_relations ADD COLUMN given_obj TEXT;
ALTER TABLE annotation_attributes ADD COLUMN traits INTEGER NOT NULL DEFAULT 0 CHECK (traits BETWEEN 0 AND 7);
ALTER TABLE annotation_attributes ADD COLUMN given_subj TEXT;

DROP VIEW denotations;
DROP VIEW blocks;
DROP VIEW relations;
DROP VIEW attributes;

-- A job that was forgotten has no rows in store_items; the places of its annotations then count from the beginning of the
-- document's text.

-- Denotations with their place in the document's text, in code points, "end" exclusive.
CREATE VIEW denotations AS
SELECT p.project, p.sourcedb, p.sourceid, s.id, coalesce(i.text_begin, 0) + s.begins AS "begin", coalesce(i.text_begin, 0) + s.ends AS "end", s.obj, s.job_id, s.item
FROM annotation_spans s
JOIN project_documents p ON p.id = s.project_document_id
LEFT JOIN store_items i ON i.job_id = s.job_id AND i.item = s.item
WHERE NOT s.block AND s.traits < 4;

-- Blocks with their place in the document's text, in code points, "end" exclusive.
CREATE VIEW blocks AS
SELECT p.project, p.sourcedb, p.sourceid, s.id, coalesce(i.text_begin, 0) + s.begins AS "begin", coalesce(i.text_begin, 0) + s.ends AS "end", s.obj, s.job_id, s.item
FROM annotation_spans s
JOIN project_documents p ON p.id = s.project_document_id
LEFT JOIN store_items i ON i.job_id = s.job_id AND i.item = s.item
WHERE s.block AND s.traits < 4;

-- Relations; subj and obj are ids of denotations or of blocks of the same document.
CREATE VIEW relations AS
SELECT p.project, p.sourcedb, p.sourceid, r.id, r.subj, r.pred, r.obj, r.job_id, r.item
FROM annotation_relations r
JOIN project_documents p ON p.id = r.project_document_id
WHERE r.traits < 4;

-- Attributes; obj is JSON, so that "1", 1 and true stay apart.
CREATE VIEW attributes AS
SELECT p.project, p.sourcedb, p.sourceid, a.id, a.subj, a.pred, a.obj, a.of_relation, a.job_id, a.item
FROM annotation_attributes a
JOIN project_documents p ON p.id = a.project_document_id
WHERE a.traits < 4;

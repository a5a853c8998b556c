-- +goose Up

ALTER TABLE fences ADD COLUMN job_id bigint;
CREATE INDEX fences_by_job ON fences (job_id);
COMMENT ON COLUMN fences.job_id IS 'The job of the batch: rows go when it is forgotten.';

ALTER TABLE documents ADD COLUMN composed_until bigint NOT NULL DEFAULT 0;
UPDATE documents SET composed_until = composed_by;
COMMENT ON COLUMN documents.composed_by IS 'The lowest number of a job whose items make up the text; 0: the text is given and does not change.';
COMMENT ON COLUMN documents.composed_until IS 'The highest number of such a job.';

ALTER TABLE project_documents ADD COLUMN last_job bigint NOT NULL DEFAULT 0;
ALTER TABLE project_documents ADD COLUMN merged_by bigint NOT NULL DEFAULT 0;
UPDATE project_documents SET last_job = replaced_by;
CREATE INDEX project_documents_merged ON project_documents (document_id) WHERE merged_by > 0;
COMMENT ON COLUMN project_documents.replaced_by IS 'The job that last replaced the annotations: items of older jobs are not stored; 0: none has.';
COMMENT ON COLUMN project_documents.last_job IS 'The highest number of a job that has stored an item.';
COMMENT ON COLUMN project_documents.merged_by IS 'The highest number of a job in mode merge whose annotations are there; 0: none.';

CREATE TABLE store_skips (
    job_id              bigint  NOT NULL,
    project_document_id bigint  NOT NULL,
    skipped             boolean NOT NULL,
    PRIMARY KEY (job_id, project_document_id)
);
COMMENT ON TABLE store_skips IS 'What a job in mode skip decided about a document when it first touched it.';

ALTER TABLE annotation_spans ADD COLUMN traits smallint NOT NULL DEFAULT 0 CHECK (traits BETWEEN 0 AND 7);
ALTER TABLE annotation_relations ADD COLUMN traits smallint NOT NULL DEFAULT 0 CHECK (traits BETWEEN 0 AND 7);
ALTER TABLE annotation_relations ADD COLUMN given_subj text COLLATE "C";
ALTER TABLE annotation_relations ADD COLUMN given_obj text COLLATE "C";
ALTER TABLE annotation_attributes ADD COLUMN traits smallint NOT NULL DEFAULT 0 CHECK (traits BETWEEN 0 AND 7);
ALTER TABLE annotation_attributes ADD COLUMN given_subj text COLLATE "C";
COMMENT ON COLUMN annotation_spans.traits IS 'Sum of: 1 the item gives no id; 2 its job is in mode merge; 4 it is merged into an equal one that comes before it, and not shown.';
COMMENT ON COLUMN annotation_relations.traits IS 'As in annotation_spans.';
COMMENT ON COLUMN annotation_relations.given_subj IS 'The id in the item, in mode merge; else null. Likewise given_obj.';
COMMENT ON COLUMN annotation_attributes.traits IS 'As in annotation_spans.';
COMMENT ON COLUMN annotation_attributes.given_subj IS 'The id in the item, in mode merge; else null.';

-- A job that was forgotten has no rows in store_items; the places of its annotations then count from the beginning of the
-- document's text.

CREATE OR REPLACE VIEW denotations AS
SELECT p.project, p.sourcedb, p.sourceid, s.id, coalesce(i.text_begin, 0) + s.begins AS begin, coalesce(i.text_begin, 0) + s.ends AS "end", s.obj, s.job_id, s.item
FROM annotation_spans s
JOIN project_documents p ON p.id = s.project_document_id
LEFT JOIN store_items i ON i.job_id = s.job_id AND i.item = s.item
WHERE NOT s.block AND s.traits < 4;

CREATE OR REPLACE VIEW blocks AS
SELECT p.project, p.sourcedb, p.sourceid, s.id, coalesce(i.text_begin, 0) + s.begins AS begin, coalesce(i.text_begin, 0) + s.ends AS "end", s.obj, s.job_id, s.item
FROM annotation_spans s
JOIN project_documents p ON p.id = s.project_document_id
LEFT JOIN store_items i ON i.job_id = s.job_id AND i.item = s.item
WHERE s.block AND s.traits < 4;

CREATE OR REPLACE VIEW relations AS
SELECT p.project, p.sourcedb, p.sourceid, r.id, r.subj, r.pred, r.obj, r.job_id, r.item
FROM annotation_relations r
JOIN project_documents p ON p.id = r.project_document_id
WHERE r.traits < 4;

CREATE OR REPLACE VIEW attributes AS
SELECT p.project, p.sourcedb, p.sourceid, a.id, a.subj, a.pred, a.obj, a.of_relation, a.job_id, a.item
FROM annotation_attributes a
JOIN project_documents p ON p.id = a.project_document_id
WHERE a.traits < 4;

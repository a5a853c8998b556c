-- +goose Up

-- The one coordinator database whose jobs write here: job numbers order what replaces what, so those of two
-- coordinators must not mix.
CREATE TABLE store_owner (
    singleton  INTEGER PRIMARY KEY CHECK (singleton = 1),
    cluster_id TEXT    NOT NULL,
    since      INTEGER NOT NULL DEFAULT (unixepoch())
) STRICT;

-- The attempt of a batch that may write. Every writing transaction checks the row of its batch.
CREATE TABLE fences (
    batch_id INTEGER PRIMARY KEY,
    attempt  INTEGER NOT NULL CHECK (attempt >= 0),            -- the highest that has started; only grows
    closed   INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)) -- the batch was split: no attempt may write any more
) STRICT;

-- The text of every document, once, whatever projects annotate it.
CREATE TABLE documents (
    id          INTEGER PRIMARY KEY,
    sourcedb    TEXT    NOT NULL CHECK (octet_length(sourcedb) BETWEEN 1 AND 255),
    sourceid    TEXT    NOT NULL CHECK (octet_length(sourceid) BETWEEN 1 AND 255),
    text        TEXT    NOT NULL,
    length      INTEGER NOT NULL CHECK (length > 0 AND length = length(text)), -- code points of text
    text_sha256 BLOB    NOT NULL CHECK (length(text_sha256) = 32),
    composed_by INTEGER NOT NULL,                              -- the job whose items make up the text
    UNIQUE (sourcedb, sourceid)
) STRICT;

-- A document in a project. The key is repeated from documents, so that a project is read in key order from one index.
CREATE TABLE project_documents (
    id          INTEGER PRIMARY KEY,
    project     TEXT    NOT NULL,
    sourcedb    TEXT    NOT NULL,
    sourceid    TEXT    NOT NULL,
    document_id INTEGER NOT NULL REFERENCES documents (id),
    replaced_by INTEGER NOT NULL,                              -- the job that last replaced; older ones' items are not stored
    UNIQUE (project, sourcedb, sourceid)
) STRICT;

-- What became of each item: the first answer, which a repetition gets again, and where its text lies in the text of its
-- document.
CREATE TABLE store_items (
    job_id              INTEGER NOT NULL,
    item                INTEGER NOT NULL,
    document_id         INTEGER REFERENCES documents (id),
    project_document_id INTEGER,                               -- where its annotations went; null if none were stored
    outcome             INTEGER NOT NULL CHECK (outcome BETWEEN 1 AND 5), -- 1 stored, 2 stored with warnings, 3 rejected, 4 skipped, 5 document missing
    text_begin          INTEGER CHECK (text_begin >= 0),       -- code points of the document's text before the item's; moves when a passage with a lower item number arrives
    text_length         INTEGER CHECK (text_length > 0),
    findings            TEXT,                                  -- JSON array of {code, severity, path, message}; null if there are none
    PRIMARY KEY (job_id, item),
    CHECK ((document_id IS NULL) = (text_begin IS NULL) AND (document_id IS NULL) = (text_length IS NULL)),
    CHECK (project_document_id IS NULL OR document_id IS NOT NULL),
    CHECK (outcome IN (1, 2) OR document_id IS NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX store_items_by_document ON store_items (document_id, job_id, item) WHERE document_id IS NOT NULL;

-- The three tables of annotations have no foreign keys: one would cost a lookup for each row, and rows are only written
-- together with the store_items row that they belong to.

-- Denotations and blocks. Read them through the views of these names.
CREATE TABLE annotation_spans (
    project_document_id INTEGER NOT NULL,
    id                  TEXT    NOT NULL,
    job_id              INTEGER NOT NULL,
    item                INTEGER NOT NULL,
    ordinal             INTEGER NOT NULL,                      -- place among the item's denotations, or among its blocks, from 0
    block               INTEGER NOT NULL CHECK (block IN (0, 1)),
    begins              INTEGER NOT NULL CHECK (begins >= 0),  -- code points from the beginning of the item's text, not of the document's
    ends                INTEGER NOT NULL,
    given_id            TEXT    CHECK (given_id <> id),        -- the id in the item, where it was taken in the document; null: id itself
    obj                 TEXT    NOT NULL,
    PRIMARY KEY (project_document_id, id),
    CHECK (begins < ends)
) STRICT, WITHOUT ROWID;

-- Relations between two denotations or two blocks of one item.
CREATE TABLE annotation_relations (
    project_document_id INTEGER NOT NULL,
    id                  TEXT    NOT NULL,
    job_id              INTEGER NOT NULL,
    item                INTEGER NOT NULL,
    ordinal             INTEGER NOT NULL,
    given_id            TEXT    CHECK (given_id <> id),
    subj                TEXT    NOT NULL,
    pred                TEXT    NOT NULL,
    obj                 TEXT    NOT NULL,
    PRIMARY KEY (project_document_id, id)
) STRICT, WITHOUT ROWID;

-- Attributes of denotations, blocks and relations.
CREATE TABLE annotation_attributes (
    project_document_id INTEGER NOT NULL,
    id                  TEXT    NOT NULL,
    job_id              INTEGER NOT NULL,
    item                INTEGER NOT NULL,
    ordinal             INTEGER NOT NULL,
    given_id            TEXT    CHECK (given_id <> id),
    of_relation         INTEGER NOT NULL CHECK (of_relation IN (0, 1)), -- whether subj is the id of a relation; otherwise of a denotation or block
    subj                TEXT    NOT NULL,
    pred                TEXT    NOT NULL,
    obj                 TEXT    NOT NULL CHECK (json_type(obj) IN ('text', 'integer', 'real', 'true', 'false')),
    PRIMARY KEY (project_document_id, id)
) STRICT, WITHOUT ROWID;

-- Denotations with their place in the document's text, in code points, "end" exclusive.
CREATE VIEW denotations AS
SELECT p.project, p.sourcedb, p.sourceid, s.id, i.text_begin + s.begins AS "begin", i.text_begin + s.ends AS "end", s.obj, s.job_id, s.item
FROM annotation_spans s
JOIN project_documents p ON p.id = s.project_document_id
JOIN store_items i ON i.job_id = s.job_id AND i.item = s.item
WHERE NOT s.block;

-- Blocks with their place in the document's text, in code points, "end" exclusive.
CREATE VIEW blocks AS
SELECT p.project, p.sourcedb, p.sourceid, s.id, i.text_begin + s.begins AS "begin", i.text_begin + s.ends AS "end", s.obj, s.job_id, s.item
FROM annotation_spans s
JOIN project_documents p ON p.id = s.project_document_id
JOIN store_items i ON i.job_id = s.job_id AND i.item = s.item
WHERE s.block;

-- Relations; subj and obj are ids of denotations or of blocks of the same document.
CREATE VIEW relations AS
SELECT p.project, p.sourcedb, p.sourceid, r.id, r.subj, r.pred, r.obj, r.job_id, r.item
FROM annotation_relations r
JOIN project_documents p ON p.id = r.project_document_id;

-- Attributes; obj is JSON, so that "1", 1 and true stay apart.
CREATE VIEW attributes AS
SELECT p.project, p.sourcedb, p.sourceid, a.id, a.subj, a.pred, a.obj, a.of_relation, a.job_id, a.item
FROM annotation_attributes a
JOIN project_documents p ON p.id = a.project_document_id;

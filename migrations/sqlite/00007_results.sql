-- +goose Up

-- What handlers made of items, to be read in the order of the upload. A report of a worker is a row, in the transaction that
-- makes the outcomes of its items final; rows are only added.
CREATE TABLE item_results (
    job_id        INTEGER NOT NULL,
    place         INTEGER NOT NULL, -- its batch's first item plus from_position: the order of the items, though their numbers may have gaps
    batch_id      INTEGER NOT NULL, -- that the items were in
    from_position INTEGER NOT NULL CHECK (from_position >= 0), -- in the batch, from 0: outcomes of earlier items were final before
    frame         BLOB    NOT NULL, -- the results, as one zstd frame: position in the batch, number of items and JSON of each

    PRIMARY KEY (job_id, place)
) STRICT;

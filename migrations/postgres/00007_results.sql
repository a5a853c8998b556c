-- +goose Up

-- What handlers made of items, to be read in the order of the upload. A report of a worker is a row, in the transaction that
-- makes the outcomes of its items final; rows are only added.
CREATE TABLE item_results (
    job_id        bigint  NOT NULL,
    place         bigint  NOT NULL,
    batch_id      bigint  NOT NULL,
    from_position integer NOT NULL CHECK (from_position >= 0),
    frame         bytea   NOT NULL,

    PRIMARY KEY (job_id, place)
);
ALTER TABLE item_results ALTER COLUMN frame SET STORAGE EXTERNAL; -- compressed already
COMMENT ON TABLE item_results IS 'Results of items, as handlers reported them.';
COMMENT ON COLUMN item_results.job_id IS 'The job.';
COMMENT ON COLUMN item_results.place IS 'Its batch''s first item plus from_position: the order of the items, though numbers of items may have gaps.';
COMMENT ON COLUMN item_results.batch_id IS 'The batch that the items were in.';
COMMENT ON COLUMN item_results.from_position IS 'Position in the batch, from 0, from which the frame counts: the outcomes of earlier items were final before.';
COMMENT ON COLUMN item_results.frame IS 'The results, as one zstd frame: position in the batch, number of items and JSON of each.';

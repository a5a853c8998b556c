-- +goose Up

ALTER TABLE store_items ADD COLUMN text_level smallint NOT NULL DEFAULT 1 CHECK (text_level BETWEEN 1 AND 3);
COMMENT ON COLUMN store_items.text_level IS
    'How the item''s text lies in its document''s: 1 the document''s text holds it; 2 it does after mapping characters; 3 parts of it were found there. text_length is the length of what it lies on.';

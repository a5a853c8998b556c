-- +goose Up

-- How an item's text lies in its document's: 1 the document's text holds it; 2 it does after mapping characters; 3 parts
-- of it were found there. text_length is the length of what it lies on.
ALTER TABLE store_items ADD COLUMN text_level INTEGER NOT NULL DEFAULT 1 CHECK (text_level BETWEEN 1 AND 3);

-- +goose Up

-- How long a batch has been waiting is known from when it was cut. Of those from before nobody knows.
ALTER TABLE batch_payloads ADD COLUMN created_at INTEGER;

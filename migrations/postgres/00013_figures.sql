-- +goose Up

-- How long a batch has been waiting is known from when it was cut. Of those from before nobody knows.
ALTER TABLE batch_payloads ADD COLUMN created_at timestamptz;
ALTER TABLE batch_payloads ALTER COLUMN created_at SET DEFAULT now();
COMMENT ON COLUMN batch_payloads.created_at IS 'When its batch was cut; null of those that are older than this column.';

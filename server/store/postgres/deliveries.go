package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	insertDelivery = `INSERT INTO deliveries (id, event, body) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING`

	// takeDeliveries passes over those that somebody else is about to take.
	takeDeliveries = `
WITH due AS MATERIALIZED (
    SELECT d.id FROM deliveries d WHERE d.ended_at IS NULL AND d.due_at <= clock_timestamp()
    ORDER BY d.due_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE deliveries d SET due_at = clock_timestamp() + $1::interval, tries = d.tries + 1
FROM due WHERE d.id = due.id
RETURNING d.id, d.event, d.body, d.tries, d.created_at`

	postponeDelivery = `UPDATE deliveries SET due_at = clock_timestamp() + $3::interval WHERE id = $1 AND tries = $2 AND ended_at IS NULL`
	endDelivery      = `UPDATE deliveries SET ended_at = clock_timestamp() WHERE id = $1 AND ended_at IS NULL`
	forgetDeliveries = `
DELETE FROM deliveries WHERE id = ANY (ARRAY(
    SELECT d.id FROM deliveries d WHERE d.ended_at IS NOT NULL AND d.ended_at <= clock_timestamp() - $1::interval
    ORDER BY d.ended_at LIMIT $2 FOR UPDATE SKIP LOCKED))`
)

// DeliverEnds implements store.Deliveries.
func (s *Store) DeliverEnds() { s.deliverEnds.Store(true) }

// AddDelivery implements store.Deliveries.
func (s *Store) AddDelivery(ctx context.Context, d store.Delivery) (bool, error) {
	n, err := s.exec(ctx, "add delivery", insertDelivery, d.ID, d.Event, d.Body)
	return n > 0, err
}

// TakeDeliveries implements store.Deliveries.
func (s *Store) TakeDeliveries(ctx context.Context, hold time.Duration, limit int) ([]store.Delivery, error) {
	var taken []store.Delivery
	err := s.call(ctx, "take deliveries", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, takeDeliveries, hold, limit)
		if err != nil {
			return err
		}
		taken, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d store.Delivery, err error) {
			err = row.Scan(&d.ID, &d.Event, &d.Body, &d.Tries, &d.CreatedAt)
			return d, err
		})
		return err
	})
	return taken, err
}

// PostponeDelivery implements store.Deliveries.
func (s *Store) PostponeDelivery(ctx context.Context, id string, tries int32, wait time.Duration) error {
	_, err := s.exec(ctx, "postpone delivery", postponeDelivery, id, tries, wait)
	return err
}

// EndDelivery implements store.Deliveries.
func (s *Store) EndDelivery(ctx context.Context, id string) error {
	_, err := s.exec(ctx, "end delivery", endDelivery, id)
	return err
}

// ForgetDeliveries implements store.Deliveries.
func (s *Store) ForgetDeliveries(ctx context.Context, age time.Duration, limit int) (int, error) {
	n, err := s.exec(ctx, "forget deliveries", forgetDeliveries, age, limit)
	return int(n), err
}

// exec runs a statement and returns how many rows it changed.
func (s *Store) exec(ctx context.Context, what, statement string, args ...any) (n int64, err error) {
	err = s.call(ctx, what, func(ctx context.Context) error {
		tag, err := s.pool.Exec(ctx, statement, args...)
		n = tag.RowsAffected()
		return err
	})
	return n, err
}

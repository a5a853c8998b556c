package sqlite

import (
	"context"
	"time"

	"github.com/tallyman-dev/tallyman/server/store"
)

const (
	dueDeliveries = `SELECT id, event, body, tries + 1, created_at FROM deliveries
		WHERE ended_at IS NULL AND due_at <= ? ORDER BY due_at LIMIT ?`
	endedDeliveries = "SELECT id FROM deliveries WHERE ended_at IS NOT NULL AND ended_at <= ? ORDER BY ended_at LIMIT ?"
)

// DeliverEnds implements store.Deliveries.
func (s *Store) DeliverEnds() { s.deliverEnds.Store(true) }

// AddDelivery implements store.Deliveries.
func (s *Store) AddDelivery(ctx context.Context, d store.Delivery) (added bool, err error) {
	err = s.write(ctx, keeping, func(t *tx) (err error) {
		added, err = t.addDelivery(&d)
		return err
	})
	return added, wrap("add delivery", err)
}

func (t *tx) addDelivery(d *store.Delivery) (bool, error) {
	now := micros(t.now)
	n, err := t.change(`INSERT INTO deliveries (id, event, body, created_at, due_at) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO NOTHING`, d.ID, d.Event, d.Body, now, now)
	return n > 0, err
}

// TakeDeliveries implements store.Deliveries.
func (s *Store) TakeDeliveries(ctx context.Context, hold time.Duration, limit int) (taken []store.Delivery, err error) {
	err = s.write(ctx, keeping, func(t *tx) (err error) {
		taken, err = collect(t, func(row scanner) (d store.Delivery, err error) {
			var created int64
			err = row.Scan(&d.ID, &d.Event, &d.Body, &d.Tries, &created)
			d.CreatedAt = time.UnixMicro(created).UTC()
			return d, err
		}, dueDeliveries, micros(t.now), limit)
		for i := 0; err == nil && i < len(taken); i++ {
			err = t.only("UPDATE deliveries SET due_at = ?, tries = ? WHERE id = ?", micros(t.now.Add(hold)), taken[i].Tries, taken[i].ID)
		}
		return err
	})
	return taken, wrap("take deliveries", err)
}

// PostponeDelivery implements store.Deliveries.
func (s *Store) PostponeDelivery(ctx context.Context, id string, tries int32, wait time.Duration) error {
	err := s.write(ctx, keeping, func(t *tx) error {
		return t.exec("UPDATE deliveries SET due_at = ? WHERE id = ? AND tries = ? AND ended_at IS NULL", micros(t.now.Add(wait)), id, tries)
	})
	return wrap("postpone delivery", err)
}

// EndDelivery implements store.Deliveries.
func (s *Store) EndDelivery(ctx context.Context, id string) error {
	err := s.write(ctx, keeping, func(t *tx) error {
		return t.exec("UPDATE deliveries SET ended_at = ? WHERE id = ? AND ended_at IS NULL", micros(t.now), id)
	})
	return wrap("end delivery", err)
}

// ForgetDeliveries implements store.Deliveries.
func (s *Store) ForgetDeliveries(ctx context.Context, age time.Duration, limit int) (n int, err error) {
	err = s.write(ctx, keeping, func(t *tx) error {
		ids, err := collect(t, func(row scanner) (id string, err error) {
			err = row.Scan(&id)
			return id, err
		}, endedDeliveries, micros(t.now.Add(-age)), limit)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := t.exec("DELETE FROM deliveries WHERE id = ?", id); err != nil {
				return err
			}
		}
		n = len(ids)
		return nil
	})
	return n, wrap("forget deliveries", err)
}

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
)

// Delivery is a message to somebody outside, which is to arrive at least once.
type Delivery struct {
	ID        string // the same however often it is sent
	Event     string
	Body      []byte // JSON
	Tries     int32  // to send it, that of this taking included
	CreatedAt time.Time
}

// The events.
const (
	EventJobEnded  = "job.ended"
	EventCrashRate = "crash_rate.exceeded"
)

// Deliveries keeps messages until they have arrived. Who takes one alone tries to send it, for as long as was said; then, or
// when it was postponed, anybody may.
type Deliveries interface {
	// DeliverEnds has every later fold that ends a job add a delivery that says so, in its transaction.
	DeliverEnds()
	// AddDelivery adds one, due at once, unless there is, or lately was, one of its id.
	AddDelivery(ctx context.Context, d Delivery) (added bool, err error)
	// TakeDeliveries returns at most limit of those that are due, which are due again in hold.
	TakeDeliveries(ctx context.Context, hold time.Duration, limit int) ([]Delivery, error)
	// PostponeDelivery makes one due in wait. One that was taken again since, or has arrived, stays as it is.
	PostponeDelivery(ctx context.Context, id string, tries int32, wait time.Duration) error
	// EndDelivery notes that nothing more is to be done about one: it arrived, or was given up. Its id is remembered until
	// ForgetDeliveries. That one was taken again since changes nothing.
	EndDelivery(ctx context.Context, id string) error
	// ForgetDeliveries removes at most limit of those that were ended at least age ago, and returns how many.
	ForgetDeliveries(ctx context.Context, age time.Duration, limit int) (int, error)
}

// jobEnded is what somebody outside is told of a job: numbers and names, no text of anybody's.
type jobEnded struct {
	ID    string    `json:"id"`
	Event string    `json:"event"`
	At    time.Time `json:"at"`
	Job   struct {
		ID          string           `json:"job_id"`
		Project     string           `json:"project"`
		Kind        string           `json:"kind"`
		State       job.State        `json:"state"`
		Run         int32            `json:"run"`
		SubmittedAt time.Time        `json:"submitted_at"`
		EndedAt     time.Time        `json:"ended_at"`
		Items       int64            `json:"items"`
		Outcomes    map[string]int64 `json:"items_by_outcome"`
		Batches     map[string]int64 `json:"batches_by_state"`
		Errors      int64            `json:"errors"`
		Warnings    int64            `json:"warnings"`
	} `json:"job"`
}

// JobEnded returns the delivery that says that a job has ended.
func JobEnded(j *job.Job) (Delivery, error) {
	var m jobEnded
	m.ID, m.Event, m.At = fmt.Sprintf("job-%d-run-%d", j.ID, j.Run), EventJobEnded, j.EndedAt.UTC()
	x := &m.Job
	x.ID, x.Project, x.Kind, x.State, x.Run = strconv.FormatInt(j.ID, 10), j.Project, j.Kind, j.State, j.Run
	x.SubmittedAt, x.EndedAt, x.Items, x.Errors, x.Warnings = j.SubmittedAt.UTC(), j.EndedAt.UTC(), j.ItemsTotal, j.Errors, j.Warnings
	x.Outcomes, x.Batches = map[string]int64{}, map[string]int64{}
	for _, o := range job.Outcomes() {
		if n := j.ItemOutcomes[o]; n != 0 {
			x.Outcomes[o.String()] = n
		}
	}
	for s := job.BatchCompleted; s <= job.BatchCancelled; s++ {
		if n := j.Batches[s]; n != 0 {
			x.Batches[s.String()] = n
		}
	}
	return delivery(m.ID, m.Event, m)
}

// CrashRateExceeded returns the delivery that says that the crash rate is above a limit: the same for all who say so in the
// same hour.
func CrashRateExceeded(now time.Time, f *Figures, limit float64) (Delivery, error) {
	id := "crash-rate-" + now.UTC().Format("2006-01-02T15")
	return delivery(id, EventCrashRate, struct {
		ID      string    `json:"id"`
		Event   string    `json:"event"`
		At      time.Time `json:"at"`
		Rate    float64   `json:"crash_rate"`
		Limit   float64   `json:"limit"`
		Batches int64     `json:"batches"`
		Crashed int64     `json:"batches_crashed"`
	}{id, EventCrashRate, now.UTC(), f.CrashRate(), limit, f.Settled(), f.Crashed})
}

func delivery(id, event string, message any) (Delivery, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return Delivery{}, fmt.Errorf("encode %s: %w", event, err)
	}
	return Delivery{ID: id, Event: event, Body: body}, nil
}

package watch

import (
	"sync"
	"time"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// Snapshot is a job as people see it at one revision.
type Snapshot struct {
	Job     job.Job
	Rate    float64         // items ended a second, lately
	ETA     time.Duration   // 0 while it cannot be known, as in the first seconds
	Crashes []store.Attempt // the last ones, newest first

	shared *shared
}

// shared is what all who are given a snapshot share.
type shared struct {
	once  sync.Once
	value any
	err   error
}

// Shared returns what first made of the snapshot whoever called it first.
func (s *Snapshot) Shared(first func(*Snapshot) (any, error)) (any, error) {
	s.shared.once.Do(func() { s.shared.value, s.shared.err = first(s) })
	return s.shared.value, s.shared.err
}

// meterWindow is how far back "lately" reaches.
const meterWindow = 10 * time.Second

// meter measures the pace of a job from the snapshots that pass by.
type meter struct {
	run     int32
	samples []sample
}

type sample struct {
	at    time.Time
	ended int64
}

// settled is for how long a pace must have been measured before it says anything about the time left.
const settled = 3 * time.Second

// observe notes a snapshot and returns the pace, in items a second, and over how long it was measured.
func (m *meter) observe(j *job.Job, now time.Time) (float64, time.Duration) {
	if m.run != j.Run {
		m.run, m.samples = j.Run, nil // a retry takes outcomes back
	}
	m.samples = append(m.samples, sample{now, j.ItemsEnded()})
	first := 0
	for first < len(m.samples)-2 && now.Sub(m.samples[first].at) > meterWindow {
		first++
	}
	m.samples = m.samples[first:]
	oldest := m.samples[0]
	took, ended := now.Sub(oldest.at), j.ItemsEnded()-oldest.ended
	if len(m.samples) < 2 || took < 200*time.Millisecond || ended <= 0 {
		return average(j, now)
	}
	return float64(ended) / took.Seconds(), took
}

// average is the pace of a job since it was started, by the times in it; 0 when it was retried, since how much had ended
// by then is not known.
func average(j *job.Job, now time.Time) (float64, time.Duration) {
	if j.StartedAt.IsZero() || j.Run > 1 {
		return 0, 0
	}
	if !j.EndedAt.IsZero() {
		now = j.EndedAt
	}
	if took := now.Sub(j.StartedAt); took > 0 {
		return float64(j.ItemsEnded()) / took.Seconds(), took
	}
	return 0, 0
}

// eta estimates the time left. While the upload is being read its items are not known: their number is estimated from
// the bytes.
func eta(j *job.Job, rate float64, measured time.Duration) time.Duration {
	if j.State.Ended() || rate <= 0 || measured < settled {
		return 0
	}
	open := float64(j.ItemsOpen())
	if !j.IngestDone {
		if j.Size <= 0 || j.BytesRead <= 0 {
			return 0
		}
		open += float64(j.ItemsTotal) * float64(max(j.Size-j.BytesRead, 0)) / float64(j.BytesRead)
	}
	const most = 365 * 24 * time.Hour
	if s := open / rate; s < most.Seconds() {
		return time.Duration(s * float64(time.Second))
	}
	return most
}

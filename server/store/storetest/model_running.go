package storetest

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/tallyman-dev/tallyman/server/job"
	"github.com/tallyman-dev/tallyman/server/store"
)

// sharedLimit is how many batches of all jobs of the model's shared project may run at the same time.
const sharedLimit = 3

// shared names the project that some jobs share.
func (m *model) shared() string { return fmt.Sprint("shared-", m.run) }

// limit draws how many batches of a new job may run at the same time, and whether it shares its project's limit.
func (m *model) limit(t *rapid.T, h *store.NewJob) {
	h.Policy.MaxRunning = int32(max(dice(t, 4, "most running")-1, 0))
	if dice(t, 3, "shares") == 0 {
		h.Project = m.shared()
	}
}

// turn is one of a job with the limits that all its turns have.
func (m *model) turn(j *knownJob, floor int32, most int) store.Turn {
	t := store.Turn{JobID: j.id, Floor: floor, Most: most, JobLimit: int(j.header.Policy.MaxRunning)}
	if j.header.Project == m.shared() {
		t.Project, t.ProjectLimit = m.shared(), sharedLimit
	}
	return t
}

// alone leaves one turn that takes anything to those that share a limit: how they share it is the store's to choose.
func alone(turns []store.Turn) {
	taken := false
	for i := range turns {
		if turns[i].ProjectLimit == 0 || turns[i].Most == 0 {
			continue
		}
		if taken {
			turns[i].Most = 0
		}
		taken = true
	}
}

// runs returns how many batches of a job and of its project run, by what the model knows.
func (m *model) runs(j *knownJob) (ofJob, ofProject int) {
	for _, b := range m.batches {
		if b.state != job.BatchRunning {
			continue
		}
		if b.job == j {
			ofJob++
		}
		if b.job.header.Project == j.header.Project {
			ofProject++
		}
	}
	return ofJob, ofProject
}

// room returns how many of a turn's batches its limits allow, and whether they leave no room when it has taken some.
func (m *model) room(t store.Turn) (allowed int, full func(took int) bool) {
	ofJob, ofProject := m.runs(m.known(t.JobID))
	allowed = t.Most
	if t.JobLimit > 0 {
		allowed = min(allowed, t.JobLimit-ofJob)
	}
	if t.ProjectLimit > 0 {
		allowed = min(allowed, t.ProjectLimit-ofProject)
	}
	return max(allowed, 0), func(took int) bool {
		return t.JobLimit > 0 && ofJob+took >= t.JobLimit || t.ProjectLimit > 0 && ofProject+took >= t.ProjectLimit
	}
}

// checkRunning makes sure that no more batches of a job and of the shared project run than may, as the rows say that were
// just compared.
func (m *model) checkRunning() {
	m.Helper()
	for _, j := range m.jobs {
		ofJob, ofProject := m.runs(j)
		if most := int(j.header.Policy.MaxRunning); most > 0 && ofJob > most {
			m.Errorf("%d batches of job %d run, at most %d may", ofJob, j.id, most)
		}
		if j.header.Project == m.shared() && ofProject > sharedLimit && !m.finishing {
			m.Errorf("%d batches of the shared project run, at most %d may", ofProject, sharedLimit)
		}
	}
}

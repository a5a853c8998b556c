package store

import (
	"maps"
	"math"
	"slices"
)

// Rooms is how many batches the limits of a claim group's turns still let run, while their claim is under way.
type Rooms struct {
	jobs     map[int64]int
	projects map[string]int
}

// NewRooms returns the rooms of turns as if nothing ran yet. Turns without limits have none.
func NewRooms(turns []Turn) *Rooms {
	r := &Rooms{jobs: map[int64]int{}, projects: map[string]int{}}
	for _, t := range turns {
		if t.Most <= 0 {
			continue
		}
		if t.JobLimit > 0 {
			r.jobs[t.JobID] = t.JobLimit
		}
		if t.ProjectLimit > 0 {
			r.projects[t.Project] = t.ProjectLimit
		}
	}
	return r
}

// Jobs returns the limited jobs, in order.
func (r *Rooms) Jobs() []int64 { return slices.Sorted(maps.Keys(r.jobs)) }

// Projects returns the limited projects, in order.
func (r *Rooms) Projects() []string { return slices.Sorted(maps.Keys(r.projects)) }

// Running counts n batches of a job as running.
func (r *Rooms) Running(jobID int64, project string, n int) {
	if _, limited := r.jobs[jobID]; limited {
		r.jobs[jobID] -= n
	}
	if _, limited := r.projects[project]; limited {
		r.projects[project] -= n
	}
}

// unknown counts for more than runs of anything.
const unknown = math.MaxInt32

// Close leaves no room to a job, nor to its project: what runs of it is not known.
func (r *Rooms) Close(jobID int64, project string) { r.Running(jobID, project, unknown) }

// CloseJob leaves no room to a limited job.
func (r *Rooms) CloseJob(jobID int64) { r.jobs[jobID] -= unknown }

// CloseProject leaves no room to the jobs of a limited project.
func (r *Rooms) CloseProject(project string) { r.projects[project] -= unknown }

// Allowed returns how many batches a turn may take.
func (r *Rooms) Allowed(t Turn) int {
	most := t.Most
	if t.JobLimit > 0 {
		most = min(most, r.jobs[t.JobID])
	}
	if t.ProjectLimit > 0 {
		most = min(most, r.projects[t.Project])
	}
	return max(most, 0)
}

// Take counts n batches that a turn takes as running; with a negative n, that it does not take them after all.
func (r *Rooms) Take(t Turn, n int) { r.Running(t.JobID, t.Project, n) }

// Full says whether a turn's limits leave it no room.
func (r *Rooms) Full(t Turn) bool {
	return t.JobLimit > 0 && r.jobs[t.JobID] <= 0 || t.ProjectLimit > 0 && r.projects[t.Project] <= 0
}
